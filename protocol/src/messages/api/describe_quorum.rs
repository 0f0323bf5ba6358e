//! DescribeQuorum, API key 55.

use smol_str::SmolStr;
use uuid::Uuid;

api! {
    DescribeQuorum: versions 0..=2, flexible 0;

    request DescribeQuorumRequest {
        topics: Vec<RequestTopicData>,
    }
    struct RequestTopicData {
        topic_name: SmolStr,
        partitions: Vec<RequestPartitionData>,
    }
    struct RequestPartitionData {
        partition_index: i32,
    }

    response DescribeQuorumResponse {
        error_code: i16,
        error_message: Option<SmolStr> [from(2).ignorable()] = Some("".into()),
        topics: Vec<ResponseTopicData>,
        nodes: Vec<Node> [from(2)],
    }
    struct ResponseTopicData {
        topic_name: SmolStr,
        partitions: Vec<ResponsePartitionData>,
    }
    struct ResponsePartitionData {
        partition_index: i32,
        error_code: i16,
        error_message: Option<SmolStr> [from(2).ignorable()] = Some("".into()),
        leader_id: i32,
        leader_epoch: i32,
        high_watermark: i64,
        current_voters: Vec<ReplicaState>,
        observers: Vec<ReplicaState>,
    }
    struct ReplicaState {
        replica_id: i32,
        replica_directory_id: Uuid [from(2)],
        log_end_offset: i64,
        last_fetch_timestamp: i64 [from(1).ignorable()] = -1,
        last_caught_up_timestamp: i64 [from(1).ignorable()] = -1,
    }
    struct Node {
        node_id: i32,
        listeners: Vec<Listener>,
    }
    struct Listener {
        name: SmolStr,
        host: SmolStr,
        port: u16,
    }
}
