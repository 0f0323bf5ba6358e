//! DescribeTopicPartitions, API key 75.

use smol_str::SmolStr;
use uuid::Uuid;

api! {
    DescribeTopicPartitions: versions 0..=0, flexible 0;

    request DescribeTopicPartitionsRequest {
        topics: Vec<TopicRequest>,
        response_partition_limit: i32 = 2000,
        cursor: Option<Cursor>,
    }
    struct TopicRequest {
        name: SmolStr,
    }
    struct Cursor {
        topic_name: SmolStr,
        partition_index: i32,
    }

    response DescribeTopicPartitionsResponse {
        throttle_time_ms: i32,
        topics: Vec<DescribeTopicPartitionsResponseTopic>,
        next_cursor: Option<Cursor>,
    }
    struct DescribeTopicPartitionsResponseTopic {
        error_code: i16,
        name: Option<SmolStr> = Some("".into()),
        topic_id: Uuid,
        is_internal: bool,
        partitions: Vec<DescribeTopicPartitionsResponsePartition>,
        topic_authorized_operations: i32 = -2147483648,
    }
    struct DescribeTopicPartitionsResponsePartition {
        error_code: i16,
        partition_index: i32,
        leader_id: i32,
        leader_epoch: i32 = -1,
        replica_nodes: Vec<i32>,
        isr_nodes: Vec<i32>,
        eligible_leader_replicas: Option<Vec<i32>>,
        last_known_elr: Option<Vec<i32>>,
        offline_replicas: Vec<i32>,
    }
}
