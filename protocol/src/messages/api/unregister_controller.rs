//! UnregisterController, API key 94.

use smol_str::SmolStr;

api! {
    UnregisterController: versions 0..=0, flexible 0;

    request UnregisterControllerRequest {
        controller_id: i32,
    }

    response UnregisterControllerResponse {
        throttle_time_ms: i32,
        error_code: i16,
        error_message: Option<SmolStr> = Some("".into()),
    }
}
