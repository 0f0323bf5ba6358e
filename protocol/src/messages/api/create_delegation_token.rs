//! CreateDelegationToken, API key 38.

use bytes::Bytes;
use smol_str::SmolStr;

api! {
    CreateDelegationToken: versions 1..=3, flexible 2;

    request CreateDelegationTokenRequest {
        owner_principal_type: Option<SmolStr> [from(3)] = Some("".into()),
        owner_principal_name: Option<SmolStr> [from(3)] = Some("".into()),
        renewers: Vec<CreatableRenewers>,
        max_lifetime_ms: i64,
    }
    struct CreatableRenewers {
        principal_type: SmolStr,
        principal_name: SmolStr,
    }

    response CreateDelegationTokenResponse {
        error_code: i16,
        principal_type: SmolStr,
        principal_name: SmolStr,
        token_requester_principal_type: SmolStr [from(3)],
        token_requester_principal_name: SmolStr [from(3)],
        issue_timestamp_ms: i64,
        expiry_timestamp_ms: i64,
        max_timestamp_ms: i64,
        token_id: SmolStr,
        hmac: Bytes,
        throttle_time_ms: i32,
    }
}
