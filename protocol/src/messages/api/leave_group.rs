//! LeaveGroup, API key 13.

use smol_str::SmolStr;

api! {
    LeaveGroup: versions 0..=5, flexible 4;

    request LeaveGroupRequest {
        group_id: SmolStr,
        member_id: SmolStr [to(2)],
        members: Vec<MemberIdentity> [from(3)],
    }
    struct MemberIdentity {
        member_id: SmolStr,
        group_instance_id: Option<SmolStr>,
        reason: Option<SmolStr> [from(5).ignorable()],
    }

    response LeaveGroupResponse {
        throttle_time_ms: i32 [from(1).ignorable()],
        error_code: i16,
        members: Vec<MemberResponse> [from(3)],
    }
    struct MemberResponse {
        member_id: SmolStr,
        group_instance_id: Option<SmolStr> = Some("".into()),
        error_code: i16,
    }
}
