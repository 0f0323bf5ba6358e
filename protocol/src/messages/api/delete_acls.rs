//! DeleteAcls, API key 31.

use smol_str::SmolStr;

api! {
    DeleteAcls: versions 1..=3, flexible 2;

    request DeleteAclsRequest {
        filters: Vec<DeleteAclsFilter>,
    }
    struct DeleteAclsFilter {
        resource_type_filter: i8,
        resource_name_filter: Option<SmolStr> = Some("".into()),
        pattern_type_filter: i8 = 3,
        principal_filter: Option<SmolStr> = Some("".into()),
        host_filter: Option<SmolStr> = Some("".into()),
        operation: i8,
        permission_type: i8,
    }

    response DeleteAclsResponse {
        throttle_time_ms: i32,
        filter_results: Vec<DeleteAclsFilterResult>,
    }
    struct DeleteAclsFilterResult {
        error_code: i16,
        error_message: Option<SmolStr> = Some("".into()),
        matching_acls: Vec<DeleteAclsMatchingAcl>,
    }
    struct DeleteAclsMatchingAcl {
        error_code: i16,
        error_message: Option<SmolStr> = Some("".into()),
        resource_type: i8,
        resource_name: SmolStr,
        pattern_type: i8 = 3,
        principal: SmolStr,
        host: SmolStr,
        operation: i8,
        permission_type: i8,
    }
}
