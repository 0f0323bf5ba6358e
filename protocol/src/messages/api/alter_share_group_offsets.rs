//! AlterShareGroupOffsets, API key 91.

use smol_str::SmolStr;
use uuid::Uuid;

api! {
    AlterShareGroupOffsets: versions 0..=0, flexible 0;

    request AlterShareGroupOffsetsRequest {
        group_id: SmolStr,
        topics: Vec<AlterShareGroupOffsetsRequestTopic>,
    }
    struct AlterShareGroupOffsetsRequestTopic {
        topic_name: SmolStr,
        partitions: Vec<AlterShareGroupOffsetsRequestPartition>,
    }
    struct AlterShareGroupOffsetsRequestPartition {
        partition_index: i32,
        start_offset: i64,
    }

    response AlterShareGroupOffsetsResponse {
        throttle_time_ms: i32,
        error_code: i16,
        error_message: Option<SmolStr>,
        responses: Vec<AlterShareGroupOffsetsResponseTopic>,
    }
    struct AlterShareGroupOffsetsResponseTopic {
        topic_name: SmolStr,
        topic_id: Uuid,
        partitions: Vec<AlterShareGroupOffsetsResponsePartition>,
    }
    struct AlterShareGroupOffsetsResponsePartition {
        partition_index: i32,
        error_code: i16,
        error_message: Option<SmolStr>,
    }
}
