//! RenewDelegationToken, API key 39.

use bytes::Bytes;

api! {
    RenewDelegationToken: versions 1..=2, flexible 2;

    request RenewDelegationTokenRequest {
        hmac: Bytes,
        renew_period_ms: i64,
    }

    response RenewDelegationTokenResponse {
        error_code: i16,
        expiry_timestamp_ms: i64,
        throttle_time_ms: i32,
    }
}
