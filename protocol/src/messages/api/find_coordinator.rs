//! FindCoordinator, API key 10.

use smol_str::SmolStr;

api! {
    FindCoordinator: versions 0..=6, flexible 3;

    request FindCoordinatorRequest {
        key: SmolStr [to(3)],
        key_type: i8 [from(1)],
        coordinator_keys: Vec<SmolStr> [from(4)],
    }

    response FindCoordinatorResponse {
        throttle_time_ms: i32 [from(1).ignorable()],
        error_code: i16 [to(3)],
        error_message: Option<SmolStr> [between(1, 3).ignorable()] = Some("".into()),
        node_id: i32 [to(3)],
        host: SmolStr [to(3)],
        port: i32 [to(3)],
        coordinators: Vec<Coordinator> [from(4)],
    }
    struct Coordinator {
        key: SmolStr,
        node_id: i32,
        host: SmolStr,
        port: i32,
        error_code: i16,
        error_message: Option<SmolStr> = Some("".into()),
    }
}
