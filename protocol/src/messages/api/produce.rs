//! Produce, API key 0.

use smol_str::SmolStr;
use uuid::Uuid;

use crate::codec::Records;

api! {
    Produce: versions 3..=13, flexible 9;

    request ProduceRequest {
        transactional_id: Option<SmolStr>,
        acks: i16,
        timeout_ms: i32,
        topic_data: Vec<TopicProduceData>,
    }
    struct TopicProduceData {
        name: SmolStr [to(12).ignorable()],
        topic_id: Uuid [from(13).ignorable()],
        partition_data: Vec<PartitionProduceData>,
    }
    struct PartitionProduceData {
        index: i32,
        records: Option<Records>,
    }

    response ProduceResponse {
        responses: Vec<TopicProduceResponse>,
        throttle_time_ms: i32,
    } tagged {
        0 => node_endpoints: Vec<NodeEndpoint> [from(10)],
    }
    struct TopicProduceResponse {
        name: SmolStr [to(12).ignorable()],
        topic_id: Uuid [from(13).ignorable()],
        partition_responses: Vec<PartitionProduceResponse>,
    }
    struct PartitionProduceResponse {
        index: i32,
        error_code: i16,
        base_offset: i64,
        log_append_time_ms: i64 = -1,
        log_start_offset: i64 [from(5).ignorable()] = -1,
        record_errors: Vec<BatchIndexAndErrorMessage> [from(8).ignorable()],
        error_message: Option<SmolStr> [from(8).ignorable()],
    } tagged {
        0 => current_leader: LeaderIdAndEpoch [from(10)],
    }
    struct BatchIndexAndErrorMessage {
        batch_index: i32,
        batch_index_error_message: Option<SmolStr>,
    }
    struct LeaderIdAndEpoch {
        leader_id: i32 = -1,
        leader_epoch: i32 = -1,
    }
    struct NodeEndpoint {
        node_id: i32,
        host: SmolStr,
        port: i32,
        rack: Option<SmolStr>,
    }
}
