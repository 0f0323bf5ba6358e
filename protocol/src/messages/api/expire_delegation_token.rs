//! ExpireDelegationToken, API key 40.

use bytes::Bytes;

api! {
    ExpireDelegationToken: versions 1..=2, flexible 2;

    request ExpireDelegationTokenRequest {
        hmac: Bytes,
        expiry_time_period_ms: i64,
    }

    response ExpireDelegationTokenResponse {
        error_code: i16,
        expiry_timestamp_ms: i64,
        throttle_time_ms: i32,
    }
}
