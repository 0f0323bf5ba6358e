//! DescribeConfigs, API key 32.

use smol_str::SmolStr;

api! {
    DescribeConfigs: versions 1..=4, flexible 4;

    request DescribeConfigsRequest {
        resources: Vec<DescribeConfigsResource>,
        include_synonyms: bool,
        include_documentation: bool [from(3)],
    }
    struct DescribeConfigsResource {
        resource_type: i8,
        resource_name: SmolStr,
        configuration_keys: Option<Vec<SmolStr>> = Some(vec![]),
    }

    response DescribeConfigsResponse {
        throttle_time_ms: i32,
        results: Vec<DescribeConfigsResult>,
    }
    struct DescribeConfigsResult {
        error_code: i16,
        error_message: Option<SmolStr> = Some("".into()),
        resource_type: i8,
        resource_name: SmolStr,
        configs: Vec<DescribeConfigsResourceResult>,
    }
    struct DescribeConfigsResourceResult {
        name: SmolStr,
        value: Option<SmolStr> = Some("".into()),
        read_only: bool,
        config_source: i8 = -1,
        is_sensitive: bool,
        synonyms: Vec<DescribeConfigsSynonym>,
        config_type: i8 [from(3).ignorable()],
        documentation: Option<SmolStr> [from(3).ignorable()] = Some("".into()),
    }
    struct DescribeConfigsSynonym {
        name: SmolStr,
        value: Option<SmolStr> = Some("".into()),
        source: i8,
    }
}
