//! ReadShareGroupState, API key 84.

use smol_str::SmolStr;
use uuid::Uuid;

api! {
    ReadShareGroupState: versions 0..=0, flexible 0;

    request ReadShareGroupStateRequest {
        group_id: SmolStr,
        topics: Vec<ReadStateData>,
    }
    struct ReadStateData {
        topic_id: Uuid,
        partitions: Vec<PartitionData>,
    }
    struct PartitionData {
        partition: i32,
        leader_epoch: i32,
    }

    response ReadShareGroupStateResponse {
        results: Vec<ReadStateResult>,
    }
    struct ReadStateResult {
        topic_id: Uuid,
        partitions: Vec<PartitionResult>,
    }
    struct PartitionResult {
        partition: i32,
        error_code: i16,
        error_message: Option<SmolStr>,
        state_epoch: i32,
        start_offset: i64,
        state_batches: Vec<StateBatch>,
    }
    struct StateBatch {
        first_offset: i64,
        last_offset: i64,
        delivery_state: i8,
        delivery_count: i16,
    }
}
