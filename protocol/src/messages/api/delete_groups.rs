//! DeleteGroups, API key 42.

use smol_str::SmolStr;

api! {
    DeleteGroups: versions 0..=3, flexible 2;

    request DeleteGroupsRequest {
        groups_names: Vec<SmolStr>,
    }

    response DeleteGroupsResponse {
        throttle_time_ms: i32,
        results: Vec<DeletableGroupResult>,
    }
    struct DeletableGroupResult {
        group_id: SmolStr,
        error_code: i16,
        error_message: Option<SmolStr> [from(3).ignorable()],
    }
}
