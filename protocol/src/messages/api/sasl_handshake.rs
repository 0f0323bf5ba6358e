//! SaslHandshake, API key 17.

use smol_str::SmolStr;

api! {
    SaslHandshake: versions 0..=1, flexible never;

    request SaslHandshakeRequest {
        mechanism: SmolStr,
    }

    response SaslHandshakeResponse {
        error_code: i16,
        mechanisms: Vec<SmolStr>,
    }
}
