//! PushTelemetry, API key 72.

use bytes::Bytes;
use uuid::Uuid;

api! {
    PushTelemetry: versions 0..=0, flexible 0;

    request PushTelemetryRequest {
        client_instance_id: Uuid,
        subscription_id: i32,
        terminating: bool,
        compression_type: i8,
        metrics: Bytes,
    }

    response PushTelemetryResponse {
        throttle_time_ms: i32,
        error_code: i16,
    }
}
