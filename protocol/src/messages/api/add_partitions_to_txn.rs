//! AddPartitionsToTxn, API key 24.

use smol_str::SmolStr;

api! {
    AddPartitionsToTxn: versions 0..=5, flexible 3;

    request AddPartitionsToTxnRequest {
        transactions: Vec<AddPartitionsToTxnTransaction> [from(4)],
        v3_and_below_transactional_id: SmolStr [to(3)],
        v3_and_below_producer_id: i64 [to(3)],
        v3_and_below_producer_epoch: i16 [to(3)],
        v3_and_below_topics: Vec<AddPartitionsToTxnTopic> [to(3)],
    }
    struct AddPartitionsToTxnTransaction {
        transactional_id: SmolStr,
        producer_id: i64,
        producer_epoch: i16,
        verify_only: bool,
        topics: Vec<AddPartitionsToTxnTopic>,
    }
    struct AddPartitionsToTxnTopic {
        name: SmolStr,
        partitions: Vec<i32>,
    }

    response AddPartitionsToTxnResponse {
        throttle_time_ms: i32,
        error_code: i16 [from(4).ignorable()],
        results_by_transaction: Vec<AddPartitionsToTxnResult> [from(4)],
        results_by_topic_v3_and_below: Vec<AddPartitionsToTxnTopicResult> [to(3)],
    }
    struct AddPartitionsToTxnResult {
        transactional_id: SmolStr,
        topic_results: Vec<AddPartitionsToTxnTopicResult>,
    }
    struct AddPartitionsToTxnTopicResult {
        name: SmolStr,
        results_by_partition: Vec<AddPartitionsToTxnPartitionResult>,
    }
    struct AddPartitionsToTxnPartitionResult {
        partition_index: i32,
        partition_error_code: i16,
    }
}
