//! IncrementalAlterConfigs, API key 44.

use smol_str::SmolStr;

api! {
    IncrementalAlterConfigs: versions 0..=1, flexible 1;

    request IncrementalAlterConfigsRequest {
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
        config_operation: i8,
        value: Option<SmolStr> = Some("".into()),
    }

    response IncrementalAlterConfigsResponse {
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
