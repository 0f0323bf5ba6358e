//! EndTxn, API key 26.

use smol_str::SmolStr;

api! {
    EndTxn: versions 0..=5, flexible 3;

    request EndTxnRequest {
        transactional_id: SmolStr,
        producer_id: i64,
        producer_epoch: i16,
        committed: bool,
    }

    response EndTxnResponse {
        throttle_time_ms: i32,
        error_code: i16,
        producer_id: i64 [from(5).ignorable()] = -1,
        producer_epoch: i16 [from(5).ignorable()] = -1,
    }
}
