//! OffsetCommit, API key 8.

use smol_str::SmolStr;
use uuid::Uuid;

api! {
    OffsetCommit: versions 2..=10, flexible 8;

    request OffsetCommitRequest {
        group_id: SmolStr,
        generation_id_or_member_epoch: i32 = -1,
        member_id: SmolStr,
        group_instance_id: Option<SmolStr> [from(7)],
        retention_time_ms: i64 [to(4).ignorable()] = -1,
        topics: Vec<OffsetCommitRequestTopic>,
    }
    struct OffsetCommitRequestTopic {
        name: SmolStr [to(9).ignorable()],
        topic_id: Uuid [from(10).ignorable()],
        partitions: Vec<OffsetCommitRequestPartition>,
    }
    struct OffsetCommitRequestPartition {
        partition_index: i32,
        committed_offset: i64,
        committed_leader_epoch: i32 [from(6).ignorable()] = -1,
        committed_metadata: Option<SmolStr> = Some("".into()),
    }

    response OffsetCommitResponse {
        throttle_time_ms: i32 [from(3).ignorable()],
        topics: Vec<OffsetCommitResponseTopic>,
    }
    struct OffsetCommitResponseTopic {
        name: SmolStr [to(9).ignorable()],
        topic_id: Uuid [from(10).ignorable()],
        partitions: Vec<OffsetCommitResponsePartition>,
    }
    struct OffsetCommitResponsePartition {
        partition_index: i32,
        error_code: i16,
    }
}
