//! AddOffsetsToTxn, API key 25.

use smol_str::SmolStr;

api! {
    AddOffsetsToTxn: versions 0..=4, flexible 3;

    request AddOffsetsToTxnRequest {
        transactional_id: SmolStr,
        producer_id: i64,
        producer_epoch: i16,
        group_id: SmolStr,
    }

    response AddOffsetsToTxnResponse {
        throttle_time_ms: i32,
        error_code: i16,
    }
}
