//! ListOffsets, API key 2.

use smol_str::SmolStr;

api! {
    ListOffsets: versions 1..=11, flexible 6;

    request ListOffsetsRequest {
        replica_id: i32,
        isolation_level: i8 [from(2)],
        topics: Vec<ListOffsetsTopic>,
        timeout_ms: i32 [from(10).ignorable()],
    }
    struct ListOffsetsTopic {
        name: SmolStr,
        partitions: Vec<ListOffsetsPartition>,
    }
    struct ListOffsetsPartition {
        partition_index: i32,
        current_leader_epoch: i32 [from(4).ignorable()] = -1,
        timestamp: i64,
    }

    response ListOffsetsResponse {
        throttle_time_ms: i32 [from(2).ignorable()],
        topics: Vec<ListOffsetsTopicResponse>,
    }
    struct ListOffsetsTopicResponse {
        name: SmolStr,
        partitions: Vec<ListOffsetsPartitionResponse>,
    }
    struct ListOffsetsPartitionResponse {
        partition_index: i32,
        error_code: i16,
        timestamp: i64 = -1,
        offset: i64 = -1,
        leader_epoch: i32 [from(4)] = -1,
    }
}
