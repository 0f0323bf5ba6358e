//! ElectLeaders, API key 43.

use smol_str::SmolStr;

api! {
    ElectLeaders: versions 0..=2, flexible 2;

    request ElectLeadersRequest {
        election_type: i8 [from(1)],
        topic_partitions: Option<Vec<TopicPartitions>> = Some(vec![]),
        timeout_ms: i32 = 60000,
    }
    struct TopicPartitions {
        topic: SmolStr,
        partitions: Vec<i32>,
    }

    response ElectLeadersResponse {
        throttle_time_ms: i32,
        error_code: i16 [from(1)],
        replica_election_results: Vec<ReplicaElectionResult>,
    }
    struct ReplicaElectionResult {
        topic: SmolStr,
        partition_result: Vec<PartitionResult>,
    }
    struct PartitionResult {
        partition_id: i32,
        error_code: i16,
        error_message: Option<SmolStr> = Some("".into()),
    }
}
