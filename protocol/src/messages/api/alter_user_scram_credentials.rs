//! AlterUserScramCredentials, API key 51.

use bytes::Bytes;
use smol_str::SmolStr;

api! {
    AlterUserScramCredentials: versions 0..=0, flexible 0;

    request AlterUserScramCredentialsRequest {
        deletions: Vec<ScramCredentialDeletion>,
        upsertions: Vec<ScramCredentialUpsertion>,
    }
    struct ScramCredentialDeletion {
        name: SmolStr,
        mechanism: i8,
    }
    struct ScramCredentialUpsertion {
        name: SmolStr,
        mechanism: i8,
        iterations: i32,
        salt: Bytes,
        salted_password: Bytes,
    }

    response AlterUserScramCredentialsResponse {
        throttle_time_ms: i32,
        results: Vec<AlterUserScramCredentialsResult>,
    }
    struct AlterUserScramCredentialsResult {
        user: SmolStr,
        error_code: i16,
        error_message: Option<SmolStr> = Some("".into()),
    }
}
