//! ListConfigResources, API key 74.

use smol_str::SmolStr;

api! {
    ListConfigResources: versions 0..=1, flexible 0;

    request ListConfigResourcesRequest {
        resource_types: Vec<i8> [from(1)],
    }

    response ListConfigResourcesResponse {
        throttle_time_ms: i32,
        error_code: i16,
        config_resources: Vec<ConfigResource>,
    }
    struct ConfigResource {
        resource_name: SmolStr,
        resource_type: i8 [from(1).ignorable()] = 16,
    }
}
