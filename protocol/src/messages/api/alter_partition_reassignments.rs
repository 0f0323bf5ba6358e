//! AlterPartitionReassignments, API key 45.

use smol_str::SmolStr;

api! {
    AlterPartitionReassignments: versions 0..=1, flexible 0;

    request AlterPartitionReassignmentsRequest {
        timeout_ms: i32 = 60000,
        allow_replication_factor_change: bool [from(1)] = true,
        topics: Vec<ReassignableTopic>,
    }
    struct ReassignableTopic {
        name: SmolStr,
        partitions: Vec<ReassignablePartition>,
    }
    struct ReassignablePartition {
        partition_index: i32,
        replicas: Option<Vec<i32>>,
    }

    response AlterPartitionReassignmentsResponse {
        throttle_time_ms: i32,
        allow_replication_factor_change: bool [from(1).ignorable()] = true,
        error_code: i16,
        error_message: Option<SmolStr> = Some("".into()),
        responses: Vec<ReassignableTopicResponse>,
    }
    struct ReassignableTopicResponse {
        name: SmolStr,
        partitions: Vec<ReassignablePartitionResponse>,
    }
    struct ReassignablePartitionResponse {
        partition_index: i32,
        error_code: i16,
        error_message: Option<SmolStr> = Some("".into()),
    }
}
