//! ListGroups, API key 16.

use smol_str::SmolStr;

api! {
    ListGroups: versions 0..=5, flexible 3;

    request ListGroupsRequest {
        states_filter: Vec<SmolStr> [from(4)],
        types_filter: Vec<SmolStr> [from(5)],
    }

    response ListGroupsResponse {
        throttle_time_ms: i32 [from(1).ignorable()],
        error_code: i16,
        groups: Vec<ListedGroup>,
    }
    struct ListedGroup {
        group_id: SmolStr,
        protocol_type: SmolStr,
        group_state: SmolStr [from(4).ignorable()],
        group_type: SmolStr [from(5).ignorable()],
    }
}
