//! OffsetForLeaderEpoch, API key 23.

use smol_str::SmolStr;

api! {
    OffsetForLeaderEpoch: versions 2..=4, flexible 4;

    request OffsetForLeaderEpochRequest {
        replica_id: i32 [from(3).ignorable()] = -2,
        topics: Vec<OffsetForLeaderTopic>,
    }
    struct OffsetForLeaderTopic {
        topic: SmolStr,
        partitions: Vec<OffsetForLeaderPartition>,
    }
    struct OffsetForLeaderPartition {
        partition: i32,
        current_leader_epoch: i32 = -1,
        leader_epoch: i32,
    }

    response OffsetForLeaderEpochResponse {
        throttle_time_ms: i32,
        topics: Vec<OffsetForLeaderTopicResult>,
    }
    struct OffsetForLeaderTopicResult {
        topic: SmolStr,
        partitions: Vec<EpochEndOffset>,
    }
    struct EpochEndOffset {
        error_code: i16,
        partition: i32,
        leader_epoch: i32 = -1,
        end_offset: i64 = -1,
    }
}
