//! DescribeDelegationToken, API key 41.

use bytes::Bytes;
use smol_str::SmolStr;

api! {
    DescribeDelegationToken: versions 1..=3, flexible 2;

    request DescribeDelegationTokenRequest {
        owners: Option<Vec<DescribeDelegationTokenOwner>> = Some(vec![]),
    }
    struct DescribeDelegationTokenOwner {
        principal_type: SmolStr,
        principal_name: SmolStr,
    }

    response DescribeDelegationTokenResponse {
        error_code: i16,
        tokens: Vec<DescribedDelegationToken>,
        throttle_time_ms: i32,
    }
    struct DescribedDelegationToken {
        principal_type: SmolStr,
        principal_name: SmolStr,
        token_requester_principal_type: SmolStr [from(3)],
        token_requester_principal_name: SmolStr [from(3)],
        issue_timestamp: i64,
        expiry_timestamp: i64,
        max_timestamp: i64,
        token_id: SmolStr,
        hmac: Bytes,
        renewers: Vec<DescribedDelegationTokenRenewer>,
    }
    struct DescribedDelegationTokenRenewer {
        principal_type: SmolStr,
        principal_name: SmolStr,
    }
}
