//! DescribeTransactions, API key 65.

use smol_str::SmolStr;

api! {
    DescribeTransactions: versions 0..=0, flexible 0;

    request DescribeTransactionsRequest {
        transactional_ids: Vec<SmolStr>,
    }

    response DescribeTransactionsResponse {
        throttle_time_ms: i32,
        transaction_states: Vec<TransactionState>,
    }
    struct TransactionState {
        error_code: i16,
        transactional_id: SmolStr,
        transaction_state: SmolStr,
        transaction_timeout_ms: i32,
        transaction_start_time_ms: i64,
        producer_id: i64,
        producer_epoch: i16,
        topics: Vec<TopicData>,
    }
    struct TopicData {
        topic: SmolStr,
        partitions: Vec<i32>,
    }
}
