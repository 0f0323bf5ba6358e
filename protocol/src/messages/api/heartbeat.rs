//! Heartbeat, API key 12.

use smol_str::SmolStr;

api! {
    Heartbeat: versions 0..=4, flexible 4;

    request HeartbeatRequest {
        group_id: SmolStr,
        generation_id: i32,
        member_id: SmolStr,
        group_instance_id: Option<SmolStr> [from(3)],
    }

    response HeartbeatResponse {
        throttle_time_ms: i32 [from(1).ignorable()],
        error_code: i16,
    }
}
