//! SyncGroup, API key 14.

use bytes::Bytes;
use smol_str::SmolStr;

api! {
    SyncGroup: versions 0..=5, flexible 4;

    request SyncGroupRequest {
        group_id: SmolStr,
        generation_id: i32,
        member_id: SmolStr,
        group_instance_id: Option<SmolStr> [from(3)],
        protocol_type: Option<SmolStr> [from(5).ignorable()],
        protocol_name: Option<SmolStr> [from(5).ignorable()],
        assignments: Vec<SyncGroupRequestAssignment>,
    }
    struct SyncGroupRequestAssignment {
        member_id: SmolStr,
        assignment: Bytes,
    }

    response SyncGroupResponse {
        throttle_time_ms: i32 [from(1).ignorable()],
        error_code: i16,
        protocol_type: Option<SmolStr> [from(5).ignorable()],
        protocol_name: Option<SmolStr> [from(5).ignorable()],
        assignment: Bytes,
    }
}
