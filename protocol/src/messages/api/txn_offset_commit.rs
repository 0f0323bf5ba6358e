//! TxnOffsetCommit, API key 28.

use smol_str::SmolStr;
use uuid::Uuid;

api! {
    TxnOffsetCommit: versions 0..=6, flexible 3;

    request TxnOffsetCommitRequest {
        transactional_id: SmolStr,
        group_id: SmolStr,
        producer_id: i64,
        producer_epoch: i16,
        generation_id_or_member_epoch: i32 [from(3)] = -1,
        member_id: SmolStr [from(3)],
        group_instance_id: Option<SmolStr> [from(3)],
        topics: Vec<TxnOffsetCommitRequestTopic>,
    }
    struct TxnOffsetCommitRequestTopic {
        name: SmolStr [to(5).ignorable()],
        topic_id: Uuid [from(6).ignorable()],
        partitions: Vec<TxnOffsetCommitRequestPartition>,
    }
    struct TxnOffsetCommitRequestPartition {
        partition_index: i32,
        committed_offset: i64,
        committed_leader_epoch: i32 [from(2).ignorable()] = -1,
        committed_metadata: Option<SmolStr> = Some("".into()),
    }

    response TxnOffsetCommitResponse {
        throttle_time_ms: i32,
        topics: Vec<TxnOffsetCommitResponseTopic>,
    }
    struct TxnOffsetCommitResponseTopic {
        name: SmolStr [to(5).ignorable()],
        topic_id: Uuid [from(6).ignorable()],
        partitions: Vec<TxnOffsetCommitResponsePartition>,
    }
    struct TxnOffsetCommitResponsePartition {
        partition_index: i32,
        error_code: i16,
    }
}
