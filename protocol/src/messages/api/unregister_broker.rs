//! UnregisterBroker, API key 64.

use smol_str::SmolStr;

api! {
    UnregisterBroker: versions 0..=0, flexible 0;

    request UnregisterBrokerRequest {
        broker_id: i32,
    }

    response UnregisterBrokerResponse {
        throttle_time_ms: i32,
        error_code: i16,
        error_message: Option<SmolStr> = Some("".into()),
    }
}
