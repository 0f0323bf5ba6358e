//! ListTransactions, API key 66.

use smol_str::SmolStr;

api! {
    ListTransactions: versions 0..=2, flexible 0;

    request ListTransactionsRequest {
        state_filters: Vec<SmolStr>,
        producer_id_filters: Vec<i64>,
        duration_filter: i64 [from(1)] = -1,
        transactional_id_pattern: Option<SmolStr> [from(2)],
    }

    response ListTransactionsResponse {
        throttle_time_ms: i32,
        error_code: i16,
        unknown_state_filters: Vec<SmolStr>,
        transaction_states: Vec<TransactionState>,
    }
    struct TransactionState {
        transactional_id: SmolStr,
        producer_id: i64,
        transaction_state: SmolStr,
    }
}
