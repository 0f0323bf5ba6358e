//! DeleteShareGroupState, API key 86.

use smol_str::SmolStr;
use uuid::Uuid;

api! {
    DeleteShareGroupState: versions 0..=0, flexible 0;

    request DeleteShareGroupStateRequest {
        group_id: SmolStr,
        topics: Vec<DeleteStateData>,
    }
    struct DeleteStateData {
        topic_id: Uuid,
        partitions: Vec<PartitionData>,
    }
    struct PartitionData {
        partition: i32,
    }

    response DeleteShareGroupStateResponse {
        results: Vec<DeleteStateResult>,
    }
    struct DeleteStateResult {
        topic_id: Uuid,
        partitions: Vec<PartitionResult>,
    }
    struct PartitionResult {
        partition: i32,
        error_code: i16,
        error_message: Option<SmolStr>,
    }
}
