//! CreateTopics (key 19).

use super::Handlers;
use super::describe_configs::source_number;
use super::errors::{channel_code, controller_code};
use rookery_protocol::codec::SmolStr;
use rookery_protocol::error::ErrorCode;
use rookery_protocol::messages::create_topics::{CreatableTopic, CreatableTopicConfigs, CreatableTopicResult};
use rookery_protocol::messages::{CreateTopicsRequest, CreateTopicsResponse};
use rookery_protocol::topics::is_internal;
use rookery_raft::controller::{
    ControllerRequest, ControllerResponse, CreateTopicsRequest as Create, NewTopic, TopicCreated,
};
use rookery_raft::ids::NodeId;
use rookery_raft::image::config_def::TOPIC_CONFIGS;
use rookery_raft::image::topic_configs::{ConfigSource, SourcedValue};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// Partitions may take a moment; clients send 30 s or more. A time-out of 0 is answered as fast as the controller can.
const TIMEOUT_MIN: Duration = Duration::from_secs(1);
const TIMEOUT_MAX: Duration = Duration::from_secs(120);

/// How long a client's `timeout_ms` lets a change take.
pub fn bounded_timeout(timeout_ms: i32) -> Duration {
    Duration::from_millis(u64::try_from(timeout_ms).unwrap_or(0)).clamp(TIMEOUT_MIN, TIMEOUT_MAX)
}

pub async fn handle(handlers: &Handlers, request: CreateTopicsRequest) -> CreateTopicsResponse {
    // Kafka refuses a name that is there twice; the others of the request are created.
    let mut seen = BTreeSet::new();
    let twice: BTreeSet<SmolStr> =
        request.topics.iter().filter(|t| !seen.insert(&t.name)).map(|t| t.name.clone()).collect();
    let mut results = Vec::with_capacity(request.topics.len());
    let mut asked = Vec::with_capacity(request.topics.len());
    for topic in &request.topics {
        match wanted(topic) {
            _ if is_internal(&topic.name) => {
                let message = "this topic is the cluster's own: it makes it when it is needed";
                results.push(refused(topic, ErrorCode::InvalidRequest, message));
            }
            _ if twice.contains(&topic.name) => {
                results.push(refused(topic, ErrorCode::InvalidRequest, "the topic is named twice in the request"));
            }
            Err((error, message)) => results.push(refused(topic, error, message)),
            Ok(new) => asked.push((topic, new)),
        }
    }
    if !asked.is_empty() {
        let create =
            Create { topics: asked.iter().map(|(_, new)| new.clone()).collect(), validate_only: request.validate_only };
        let timeout = bounded_timeout(request.timeout_ms);
        let answer = handlers.broker.ask_controller(ControllerRequest::CreateTopics(create), timeout).await;
        match answer {
            Ok(ControllerResponse::CreateTopics(outcomes)) if outcomes.len() == asked.len() => {
                for ((topic, new), outcome) in asked.iter().zip(outcomes) {
                    results.push(match outcome {
                        Ok(made) => created(handlers, topic, new, &made),
                        Err(error) => refused(topic, controller_code(&error), &error.to_string()),
                    });
                }
            }
            Ok(_) => results
                .extend(asked.iter().map(|(t, _)| refused(t, ErrorCode::UnknownServerError, "unexpected answer"))),
            Err(error) => {
                let (code, message) = (channel_code(&error), error.to_string());
                results.extend(asked.iter().map(|(t, _)| refused(t, code, &message)));
            }
        }
    }
    CreateTopicsResponse { topics: results, ..Default::default() }
}

fn wanted(topic: &CreatableTopic) -> Result<NewTopic, (ErrorCode, &'static str)> {
    let mut assignments = BTreeMap::new();
    for assignment in &topic.assignments {
        let brokers = assignment.broker_ids.iter().map(|id| NodeId(*id)).collect();
        if assignments.insert(assignment.partition_index, brokers).is_some() {
            return Err((ErrorCode::InvalidReplicaAssignment, "a partition is assigned twice"));
        }
    }
    if !assignments.is_empty() && (topic.num_partitions != -1 || topic.replication_factor != -1) {
        let message = "with an assignment, the numbers of partitions and replicas follow from it and must be -1";
        return Err((ErrorCode::InvalidRequest, message));
    }
    Ok(NewTopic {
        name: topic.name.to_string(),
        partitions: topic.num_partitions,
        replication_factor: topic.replication_factor,
        assignments,
        configs: topic
            .configs
            .iter()
            .map(|c| (c.name.to_string(), c.value.as_ref().map(ToString::to_string)))
            .collect(),
    })
}

fn refused(topic: &CreatableTopic, error: ErrorCode, message: &str) -> CreatableTopicResult {
    CreatableTopicResult {
        name: topic.name.clone(),
        error_code: error.code(),
        error_message: Some(SmolStr::new(message)),
        configs: None,
        ..Default::default()
    }
}

fn created(handlers: &Handlers, topic: &CreatableTopic, new: &NewTopic, made: &TopicCreated) -> CreatableTopicResult {
    let image = handlers.broker.image();
    let effective = &handlers.broker.config.topic_configs;
    let configs = TOPIC_CONFIGS.iter().map(|def| {
        // The image here may not have the topic yet, so what it was created with is taken from the request.
        let own = new.configs.get(def.name).and_then(Option::as_deref);
        let own = own.map(|value| SourcedValue { source: ConfigSource::Topic, name: def.name, value });
        let found = own.or_else(|| effective.values(&image, &topic.name, def).next());
        CreatableTopicConfigs {
            name: def.name.into(),
            value: found.map(|found| SmolStr::new(found.value)),
            config_source: found.map_or(-1, |found| source_number(found.source)),
            ..Default::default()
        }
    });
    CreatableTopicResult {
        name: topic.name.clone(),
        topic_id: made.id.0,
        error_message: None,
        num_partitions: made.partitions,
        replication_factor: made.replication_factor,
        configs: Some(configs.collect()),
        ..Default::default()
    }
}
