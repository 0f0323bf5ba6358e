//! DeleteRecords, API key 21.

use smol_str::SmolStr;

api! {
    DeleteRecords: versions 0..=2, flexible 2;

    request DeleteRecordsRequest {
        topics: Vec<DeleteRecordsTopic>,
        timeout_ms: i32,
    }
    struct DeleteRecordsTopic {
        name: SmolStr,
        partitions: Vec<DeleteRecordsPartition>,
    }
    struct DeleteRecordsPartition {
        partition_index: i32,
        offset: i64,
    }

    response DeleteRecordsResponse {
        throttle_time_ms: i32,
        topics: Vec<DeleteRecordsTopicResult>,
    }
    struct DeleteRecordsTopicResult {
        name: SmolStr,
        partitions: Vec<DeleteRecordsPartitionResult>,
    }
    struct DeleteRecordsPartitionResult {
        partition_index: i32,
        low_watermark: i64,
        error_code: i16,
    }
}
