//! AlterConfigs, API key 33.

use smol_str::SmolStr;

api! {
    AlterConfigs: versions 0..=2, flexible 2;

    request AlterConfigsRequest {
        resources: Vec<AlterConfigsResource>,
        validate_only: bool,
    }
    struct AlterConfigsResource {
        resource_type: i8,
        resource_name: SmolStr,
        configs: Vec<AlterableConfig>,
    }
    struct AlterableConfig {
        name: SmolStr,
        value: Option<SmolStr> = Some("".into()),
    }

    response AlterConfigsResponse {
        throttle_time_ms: i32,
        responses: Vec<AlterConfigsResourceResponse>,
    }
    struct AlterConfigsResourceResponse {
        error_code: i16,
        error_message: Option<SmolStr> = Some("".into()),
        resource_type: i8,
        resource_name: SmolStr,
    }
}
