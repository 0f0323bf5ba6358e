//! DescribeGroups, API key 15.

use bytes::Bytes;
use smol_str::SmolStr;

api! {
    DescribeGroups: versions 0..=6, flexible 5;

    request DescribeGroupsRequest {
        groups: Vec<SmolStr>,
        include_authorized_operations: bool [from(3)],
    }

    response DescribeGroupsResponse {
        throttle_time_ms: i32 [from(1).ignorable()],
        groups: Vec<DescribedGroup>,
    }
    struct DescribedGroup {
        error_code: i16,
        error_message: Option<SmolStr> [from(6)],
        group_id: SmolStr,
        group_state: SmolStr,
        protocol_type: SmolStr,
        protocol_data: SmolStr,
        members: Vec<DescribedGroupMember>,
        authorized_operations: i32 [from(3)] = -2147483648,
    }
    struct DescribedGroupMember {
        member_id: SmolStr,
        group_instance_id: Option<SmolStr> [from(4).ignorable()],
        client_id: SmolStr,
        client_host: SmolStr,
        member_metadata: Bytes,
        member_assignment: Bytes,
    }
}
