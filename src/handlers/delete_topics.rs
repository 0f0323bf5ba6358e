//! DeleteTopics (key 20): by name, or by id from version 6 on.

use super::Handlers;
use super::create_topics::bounded_timeout;
use super::errors::{channel_code, controller_code};
use rookery_protocol::codec::SmolStr;
use rookery_protocol::error::ErrorCode;
use rookery_protocol::messages::delete_topics::{DeletableTopicResult, DeleteTopicState};
use rookery_protocol::messages::{DeleteTopicsRequest, DeleteTopicsResponse};
use rookery_raft::controller::{ControllerRequest, ControllerResponse, TopicRef};
use rookery_raft::ids::TopicId;

pub async fn handle(handlers: &Handlers, version: i16, request: DeleteTopicsRequest) -> DeleteTopicsResponse {
    let asked: Vec<DeleteTopicState> = if version >= 6 {
        request.topics
    } else {
        let by_name = |name| DeleteTopicState { name: Some(name), ..Default::default() };
        request.topic_names.into_iter().map(by_name).collect()
    };
    let topics = asked
        .iter()
        .map(|topic| match &topic.name {
            Some(name) => TopicRef::Name(name.to_string()),
            None => TopicRef::Id(TopicId(topic.topic_id)),
        })
        .collect();
    let answer =
        handlers.broker.ask_controller(ControllerRequest::DeleteTopics { topics }, bounded_timeout(request.timeout_ms)).await;
    let responses = match answer {
        Ok(ControllerResponse::DeleteTopics(outcomes)) if outcomes.len() == asked.len() => asked
            .iter()
            .zip(outcomes)
            .map(|(topic, outcome)| match outcome {
                Ok(deleted) => DeletableTopicResult {
                    name: Some(SmolStr::new(&deleted.name)),
                    topic_id: deleted.id.0,
                    ..Default::default()
                },
                Err(error) => refused(version, topic, controller_code(&error), &error.to_string()),
            })
            .collect(),
        Ok(_) => asked.iter().map(|t| refused(version, t, ErrorCode::UnknownServerError, "unexpected answer")).collect(),
        Err(error) => {
            let (code, message) = (channel_code(&error), error.to_string());
            asked.iter().map(|t| refused(version, t, code, &message)).collect()
        }
    };
    DeleteTopicsResponse { responses, ..Default::default() }
}

fn refused(version: i16, topic: &DeleteTopicState, error: ErrorCode, message: &str) -> DeletableTopicResult {
    // Versions below 6 cannot say "no name"; they have always asked by name.
    let name = if version >= 6 { topic.name.clone() } else { Some(topic.name.clone().unwrap_or_default()) };
    DeletableTopicResult {
        name,
        topic_id: topic.topic_id,
        error_code: error.code(),
        error_message: Some(SmolStr::new(message)),
    }
}
