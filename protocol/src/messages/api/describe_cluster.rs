//! DescribeCluster, API key 60.

use smol_str::SmolStr;

api! {
    DescribeCluster: versions 0..=2, flexible 0;

    request DescribeClusterRequest {
        include_cluster_authorized_operations: bool,
        endpoint_type: i8 [from(1)] = 1,
        include_fenced_brokers: bool [from(2)],
    }

    response DescribeClusterResponse {
        throttle_time_ms: i32,
        error_code: i16,
        error_message: Option<SmolStr>,
        endpoint_type: i8 [from(1)] = 1,
        cluster_id: SmolStr,
        controller_id: i32 = -1,
        brokers: Vec<DescribeClusterBroker>,
        cluster_authorized_operations: i32 = -2147483648,
    }
    struct DescribeClusterBroker {
        broker_id: i32,
        host: SmolStr,
        port: i32,
        rack: Option<SmolStr>,
        is_fenced: bool [from(2)],
    }
}
