//! ShareAcknowledge, API key 79.

use smol_str::SmolStr;
use uuid::Uuid;

api! {
    ShareAcknowledge: versions 1..=2, flexible 0;

    request ShareAcknowledgeRequest {
        group_id: Option<SmolStr>,
        member_id: Option<SmolStr> = Some("".into()),
        share_session_epoch: i32,
        is_renew_ack: bool [from(2)],
        topics: Vec<AcknowledgeTopic>,
    }
    struct AcknowledgeTopic {
        topic_id: Uuid,
        partitions: Vec<AcknowledgePartition>,
    }
    struct AcknowledgePartition {
        partition_index: i32,
        acknowledgement_batches: Vec<AcknowledgementBatch>,
    }
    struct AcknowledgementBatch {
        first_offset: i64,
        last_offset: i64,
        acknowledge_types: Vec<i8>,
    }

    response ShareAcknowledgeResponse {
        throttle_time_ms: i32,
        error_code: i16,
        error_message: Option<SmolStr>,
        acquisition_lock_timeout_ms: i32 [from(2).ignorable()],
        responses: Vec<ShareAcknowledgeTopicResponse>,
        node_endpoints: Vec<NodeEndpoint>,
    }
    struct ShareAcknowledgeTopicResponse {
        topic_id: Uuid,
        partitions: Vec<PartitionData>,
    }
    struct PartitionData {
        partition_index: i32,
        error_code: i16,
        error_message: Option<SmolStr>,
        current_leader: LeaderIdAndEpoch,
    }
    struct LeaderIdAndEpoch {
        leader_id: i32,
        leader_epoch: i32,
    }
    struct NodeEndpoint {
        node_id: i32,
        host: SmolStr,
        port: i32,
        rack: Option<SmolStr>,
    }
}
