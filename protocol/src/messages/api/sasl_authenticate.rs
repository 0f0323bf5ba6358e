//! SaslAuthenticate, API key 36.

use bytes::Bytes;
use smol_str::SmolStr;

api! {
    SaslAuthenticate: versions 0..=2, flexible 2;

    request SaslAuthenticateRequest {
        auth_bytes: Bytes,
    }

    response SaslAuthenticateResponse {
        error_code: i16,
        error_message: Option<SmolStr> = Some("".into()),
        auth_bytes: Bytes,
        session_lifetime_ms: i64 [from(1).ignorable()],
    }
}
