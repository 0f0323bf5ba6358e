//! ApiVersions, API key 18.

use smol_str::SmolStr;

api! {
    ApiVersions: versions 0..=5, flexible 3;

    request ApiVersionsRequest {
        client_software_name: SmolStr [from(3).ignorable()],
        client_software_version: SmolStr [from(3).ignorable()],
        cluster_id: Option<SmolStr> [from(5).ignorable()],
        node_id: i32 [from(5).ignorable()] = -1,
    }

    response ApiVersionsResponse {
        error_code: i16,
        api_keys: Vec<ApiVersion>,
        throttle_time_ms: i32 [from(1).ignorable()],
    } tagged {
        0 => supported_features: Vec<SupportedFeatureKey> [from(3).ignorable()],
        1 => finalized_features_epoch: i64 [from(3).ignorable()] = -1,
        2 => finalized_features: Vec<FinalizedFeatureKey> [from(3).ignorable()],
        3 => zk_migration_ready: bool [from(3).ignorable()],
    }
    struct ApiVersion {
        api_key: i16,
        min_version: i16,
        max_version: i16,
    }
    struct SupportedFeatureKey {
        name: SmolStr,
        min_version: i16,
        max_version: i16,
    }
    struct FinalizedFeatureKey {
        name: SmolStr,
        max_version_level: i16,
        min_version_level: i16,
    }
}
