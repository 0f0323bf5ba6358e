//! JoinGroup, API key 11.

use bytes::Bytes;
use smol_str::SmolStr;

api! {
    JoinGroup: versions 0..=9, flexible 6;

    request JoinGroupRequest {
        group_id: SmolStr,
        session_timeout_ms: i32,
        rebalance_timeout_ms: i32 [from(1).ignorable()] = -1,
        member_id: SmolStr,
        group_instance_id: Option<SmolStr> [from(5)],
        protocol_type: SmolStr,
        protocols: Vec<JoinGroupRequestProtocol>,
        reason: Option<SmolStr> [from(8).ignorable()],
    }
    struct JoinGroupRequestProtocol {
        name: SmolStr,
        metadata: Bytes,
    }

    response JoinGroupResponse {
        throttle_time_ms: i32 [from(2).ignorable()],
        error_code: i16,
        generation_id: i32 = -1,
        protocol_type: Option<SmolStr> [from(7).ignorable()],
        protocol_name: Option<SmolStr> [always().nullable(7)] = Some("".into()),
        leader: SmolStr,
        skip_assignment: bool [from(9)],
        member_id: SmolStr,
        members: Vec<JoinGroupResponseMember>,
    }
    struct JoinGroupResponseMember {
        member_id: SmolStr,
        group_instance_id: Option<SmolStr> [from(5).ignorable()],
        metadata: Bytes,
    }
}
