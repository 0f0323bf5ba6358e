//! UpdateFeatures, API key 57.

use smol_str::SmolStr;

api! {
    UpdateFeatures: versions 0..=2, flexible 0;

    request UpdateFeaturesRequest {
        timeout_ms: i32 = 60000,
        feature_updates: Vec<FeatureUpdateKey>,
        validate_only: bool [from(1)],
    }
    struct FeatureUpdateKey {
        feature: SmolStr,
        max_version_level: i16,
        allow_downgrade: bool [to(0)],
        upgrade_type: i8 [from(1)] = 1,
    }

    response UpdateFeaturesResponse {
        throttle_time_ms: i32,
        error_code: i16,
        error_message: Option<SmolStr> = Some("".into()),
        results: Vec<UpdatableFeatureResult> [to(1).ignorable()],
    }
    struct UpdatableFeatureResult {
        feature: SmolStr,
        error_code: i16,
        error_message: Option<SmolStr> = Some("".into()),
    }
}
