//! ApiVersions (key 18): what this broker speaks. The first request of every client.

use super::Handlers;
use rookery_protocol::codec::SmolStr;
use rookery_protocol::error::ErrorCode;
use rookery_protocol::messages::api_versions::{ApiVersion, FinalizedFeatureKey};
use rookery_protocol::messages::{ApiVersionsRequest, ApiVersionsResponse};
use rookery_protocol::versions::APIS;

pub fn handle(handlers: &Handlers, version: i16, request: &ApiVersionsRequest) -> ApiVersionsResponse {
    // Kafka's rule for the two fields that version 3 added (KIP-511).
    let named = |text: &str| {
        let inner = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-');
        text.starts_with(|c: char| c.is_ascii_alphanumeric())
            && text.ends_with(|c: char| c.is_ascii_alphanumeric())
            && text.chars().all(inner)
    };
    if version >= 3 && !(named(&request.client_software_name) && named(&request.client_software_version)) {
        return ApiVersionsResponse { error_code: ErrorCode::InvalidRequest.code(), ..Default::default() };
    }
    let image = handlers.broker.image();
    let finalized = image.features.iter().map(|(name, level)| FinalizedFeatureKey {
        name: SmolStr::new(name),
        max_version_level: level,
        min_version_level: level,
    });
    ApiVersionsResponse {
        finalized_features: finalized.collect(),
        finalized_features_epoch: image.offset.0,
        ..table(ErrorCode::None)
    }
}

/// The answer to a version that this broker does not speak: body version 0, the error, and the list (KIP-511).
pub fn unsupported() -> ApiVersionsResponse {
    table(ErrorCode::UnsupportedVersion)
}

fn table(error: ErrorCode) -> ApiVersionsResponse {
    let rows = APIS.iter().map(|row| ApiVersion {
        api_key: row.key as i16,
        min_version: *row.offered.start(),
        max_version: *row.offered.end(),
    });
    ApiVersionsResponse { error_code: error.code(), api_keys: rows.collect(), ..Default::default() }
}
