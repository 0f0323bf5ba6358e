//! DeleteTopics, API key 20.

use smol_str::SmolStr;
use uuid::Uuid;

api! {
    DeleteTopics: versions 1..=6, flexible 4;

    request DeleteTopicsRequest {
        topics: Vec<DeleteTopicState> [from(6)],
        topic_names: Vec<SmolStr> [to(5).ignorable()],
        timeout_ms: i32,
    }
    struct DeleteTopicState {
        name: Option<SmolStr>,
        topic_id: Uuid,
    }

    response DeleteTopicsResponse {
        throttle_time_ms: i32,
        responses: Vec<DeletableTopicResult>,
    }
    struct DeletableTopicResult {
        name: Option<SmolStr> [always().nullable(6)] = Some("".into()),
        topic_id: Uuid [from(6).ignorable()],
        error_code: i16,
        error_message: Option<SmolStr> [from(5).ignorable()],
    }
}
