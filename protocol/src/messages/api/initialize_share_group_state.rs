//! InitializeShareGroupState, API key 83.

use smol_str::SmolStr;
use uuid::Uuid;

api! {
    InitializeShareGroupState: versions 0..=0, flexible 0;

    request InitializeShareGroupStateRequest {
        group_id: SmolStr,
        topics: Vec<InitializeStateData>,
    }
    struct InitializeStateData {
        topic_id: Uuid,
        partitions: Vec<PartitionData>,
    }
    struct PartitionData {
        partition: i32,
        state_epoch: i32,
        start_offset: i64,
    }

    response InitializeShareGroupStateResponse {
        results: Vec<InitializeStateResult>,
    }
    struct InitializeStateResult {
        topic_id: Uuid,
        partitions: Vec<PartitionResult>,
    }
    struct PartitionResult {
        partition: i32,
        error_code: i16,
        error_message: Option<SmolStr>,
    }
}
