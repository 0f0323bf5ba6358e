//! WriteShareGroupState, API key 85.

use smol_str::SmolStr;
use uuid::Uuid;

api! {
    WriteShareGroupState: versions 0..=1, flexible 0;

    request WriteShareGroupStateRequest {
        group_id: SmolStr,
        topics: Vec<WriteStateData>,
    }
    struct WriteStateData {
        topic_id: Uuid,
        partitions: Vec<PartitionData>,
    }
    struct PartitionData {
        partition: i32,
        state_epoch: i32,
        leader_epoch: i32,
        start_offset: i64,
        delivery_complete_count: i32 [from(1).ignorable()] = -1,
        state_batches: Vec<StateBatch>,
    }
    struct StateBatch {
        first_offset: i64,
        last_offset: i64,
        delivery_state: i8,
        delivery_count: i16,
    }

    response WriteShareGroupStateResponse {
        results: Vec<WriteStateResult>,
    }
    struct WriteStateResult {
        topic_id: Uuid,
        partitions: Vec<PartitionResult>,
    }
    struct PartitionResult {
        partition: i32,
        error_code: i16,
        error_message: Option<SmolStr>,
    }
}
