//! InitProducerId, API key 22.

use smol_str::SmolStr;

api! {
    InitProducerId: versions 0..=6, flexible 2;

    request InitProducerIdRequest {
        transactional_id: Option<SmolStr> = Some("".into()),
        transaction_timeout_ms: i32,
        producer_id: i64 [from(3)] = -1,
        producer_epoch: i16 [from(3)] = -1,
        enable2_pc: bool [from(6)],
        keep_prepared_txn: bool [from(6)],
    }

    response InitProducerIdResponse {
        throttle_time_ms: i32,
        error_code: i16,
        producer_id: i64 = -1,
        producer_epoch: i16,
        ongoing_txn_producer_id: i64 [from(6)] = -1,
        ongoing_txn_producer_epoch: i16 [from(6)] = -1,
    }
}
