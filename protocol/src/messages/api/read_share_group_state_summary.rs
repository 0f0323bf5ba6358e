//! ReadShareGroupStateSummary, API key 87.

use smol_str::SmolStr;
use uuid::Uuid;

api! {
    ReadShareGroupStateSummary: versions 0..=1, flexible 0;

    request ReadShareGroupStateSummaryRequest {
        group_id: SmolStr,
        topics: Vec<ReadStateSummaryData>,
    }
    struct ReadStateSummaryData {
        topic_id: Uuid,
        partitions: Vec<PartitionData>,
    }
    struct PartitionData {
        partition: i32,
        leader_epoch: i32,
    }

    response ReadShareGroupStateSummaryResponse {
        results: Vec<ReadStateSummaryResult>,
    }
    struct ReadStateSummaryResult {
        topic_id: Uuid,
        partitions: Vec<PartitionResult>,
    }
    struct PartitionResult {
        partition: i32,
        error_code: i16,
        error_message: Option<SmolStr>,
        state_epoch: i32,
        leader_epoch: i32,
        start_offset: i64,
        delivery_complete_count: i32 [from(1).ignorable()] = -1,
    }
}
