//! OffsetDelete, API key 47.

use smol_str::SmolStr;

api! {
    OffsetDelete: versions 0..=0, flexible never;

    request OffsetDeleteRequest {
        group_id: SmolStr,
        topics: Vec<OffsetDeleteRequestTopic>,
    }
    struct OffsetDeleteRequestTopic {
        name: SmolStr,
        partitions: Vec<OffsetDeleteRequestPartition>,
    }
    struct OffsetDeleteRequestPartition {
        partition_index: i32,
    }

    response OffsetDeleteResponse {
        error_code: i16,
        throttle_time_ms: i32,
        topics: Vec<OffsetDeleteResponseTopic>,
    }
    struct OffsetDeleteResponseTopic {
        name: SmolStr,
        partitions: Vec<OffsetDeleteResponsePartition>,
    }
    struct OffsetDeleteResponsePartition {
        partition_index: i32,
        error_code: i16,
    }
}
