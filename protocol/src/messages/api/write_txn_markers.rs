//! WriteTxnMarkers, API key 27.

use smol_str::SmolStr;

api! {
    WriteTxnMarkers: versions 1..=2, flexible 1;

    request WriteTxnMarkersRequest {
        markers: Vec<WritableTxnMarker>,
    }
    struct WritableTxnMarker {
        producer_id: i64,
        producer_epoch: i16,
        transaction_result: bool,
        topics: Vec<WritableTxnMarkerTopic>,
        coordinator_epoch: i32,
        transaction_version: i8 [from(2).ignorable()],
    }
    struct WritableTxnMarkerTopic {
        name: SmolStr,
        partition_indexes: Vec<i32>,
    }

    response WriteTxnMarkersResponse {
        markers: Vec<WritableTxnMarkerResult>,
    }
    struct WritableTxnMarkerResult {
        producer_id: i64,
        topics: Vec<WritableTxnMarkerTopicResult>,
    }
    struct WritableTxnMarkerTopicResult {
        name: SmolStr,
        partitions: Vec<WritableTxnMarkerPartitionResult>,
    }
    struct WritableTxnMarkerPartitionResult {
        partition_index: i32,
        error_code: i16,
    }
}
