//! DescribeAcls, API key 29.

use smol_str::SmolStr;

api! {
    DescribeAcls: versions 1..=3, flexible 2;

    request DescribeAclsRequest {
        resource_type_filter: i8,
        resource_name_filter: Option<SmolStr> = Some("".into()),
        pattern_type_filter: i8 = 3,
        principal_filter: Option<SmolStr> = Some("".into()),
        host_filter: Option<SmolStr> = Some("".into()),
        operation: i8,
        permission_type: i8,
    }

    response DescribeAclsResponse {
        throttle_time_ms: i32,
        error_code: i16,
        error_message: Option<SmolStr> = Some("".into()),
        resources: Vec<DescribeAclsResource>,
    }
    struct DescribeAclsResource {
        resource_type: i8,
        resource_name: SmolStr,
        pattern_type: i8 = 3,
        acls: Vec<AclDescription>,
    }
    struct AclDescription {
        principal: SmolStr,
        host: SmolStr,
        operation: i8,
        permission_type: i8,
    }
}
