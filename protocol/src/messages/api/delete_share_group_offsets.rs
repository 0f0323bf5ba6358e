//! DeleteShareGroupOffsets, API key 92.

use smol_str::SmolStr;
use uuid::Uuid;

api! {
    DeleteShareGroupOffsets: versions 0..=0, flexible 0;

    request DeleteShareGroupOffsetsRequest {
        group_id: SmolStr,
        topics: Vec<DeleteShareGroupOffsetsRequestTopic>,
    }
    struct DeleteShareGroupOffsetsRequestTopic {
        topic_name: SmolStr,
    }

    response DeleteShareGroupOffsetsResponse {
        throttle_time_ms: i32,
        error_code: i16,
        error_message: Option<SmolStr>,
        responses: Vec<DeleteShareGroupOffsetsResponseTopic>,
    }
    struct DeleteShareGroupOffsetsResponseTopic {
        topic_name: SmolStr,
        topic_id: Uuid,
        error_code: i16,
        error_message: Option<SmolStr>,
    }
}
