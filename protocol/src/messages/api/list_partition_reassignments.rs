//! ListPartitionReassignments, API key 46.

use smol_str::SmolStr;

api! {
    ListPartitionReassignments: versions 0..=0, flexible 0;

    request ListPartitionReassignmentsRequest {
        timeout_ms: i32 = 60000,
        topics: Option<Vec<ListPartitionReassignmentsTopics>>,
    }
    struct ListPartitionReassignmentsTopics {
        name: SmolStr,
        partition_indexes: Vec<i32>,
    }

    response ListPartitionReassignmentsResponse {
        throttle_time_ms: i32,
        error_code: i16,
        error_message: Option<SmolStr> = Some("".into()),
        topics: Vec<OngoingTopicReassignment>,
    }
    struct OngoingTopicReassignment {
        name: SmolStr,
        partitions: Vec<OngoingPartitionReassignment>,
    }
    struct OngoingPartitionReassignment {
        partition_index: i32,
        replicas: Vec<i32>,
        adding_replicas: Vec<i32>,
        removing_replicas: Vec<i32>,
    }
}
