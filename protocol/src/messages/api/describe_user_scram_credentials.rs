//! DescribeUserScramCredentials, API key 50.

use smol_str::SmolStr;

api! {
    DescribeUserScramCredentials: versions 0..=0, flexible 0;

    request DescribeUserScramCredentialsRequest {
        users: Option<Vec<UserName>> = Some(vec![]),
    }
    struct UserName {
        name: SmolStr,
    }

    response DescribeUserScramCredentialsResponse {
        throttle_time_ms: i32,
        error_code: i16,
        error_message: Option<SmolStr> = Some("".into()),
        results: Vec<DescribeUserScramCredentialsResult>,
    }
    struct DescribeUserScramCredentialsResult {
        user: SmolStr,
        error_code: i16,
        error_message: Option<SmolStr> = Some("".into()),
        credential_infos: Vec<CredentialInfo>,
    }
    struct CredentialInfo {
        mechanism: i8,
        iterations: i32,
    }
}
