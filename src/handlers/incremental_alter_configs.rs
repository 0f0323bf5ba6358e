//! IncrementalAlterConfigs (key 44, KIP-339): changes of configs while the cluster runs.
//!
//! Each resource succeeds or fails on its own. Brokers' settings that a restart changes are no configs here, and refused.

use super::Handlers;
use super::create_topics::bounded_timeout;
use super::errors::{channel_code, controller_code};
use rookery_protocol::codec::SmolStr;
use rookery_protocol::error::ErrorCode;
use rookery_protocol::messages::incremental_alter_configs::{AlterConfigsResource, AlterConfigsResourceResponse};
use rookery_protocol::messages::{IncrementalAlterConfigsRequest, IncrementalAlterConfigsResponse};
use rookery_protocol::topics::is_internal;
use rookery_raft::controller::{
    ConfigChange, ConfigOp, ControllerRequest, ControllerResponse, IncrementalAlterConfigsRequest as Alter,
};
use rookery_raft::record::{ConfigResource, ConfigResourceType};
use std::collections::BTreeSet;

// The request has no time-out of its own; clients wait 30 s or more.
const TIMEOUT_MS: i32 = 15_000;

type Refusal = (ErrorCode, String);

pub async fn handle(handlers: &Handlers, request: IncrementalAlterConfigsRequest) -> IncrementalAlterConfigsResponse {
    let mut seen = BTreeSet::new();
    let mut responses = Vec::with_capacity(request.resources.len());
    let mut asked = Vec::with_capacity(request.resources.len());
    for resource in &request.resources {
        match wanted(resource) {
            _ if !seen.insert((resource.resource_type, &resource.resource_name)) => {
                let why = "Each resource must appear at most once.".to_owned();
                responses.push(response(resource, Err((ErrorCode::InvalidRequest, why))));
            }
            Ok(change) => asked.push((resource, change)),
            Err(refusal) => responses.push(response(resource, Err(refusal))),
        }
    }
    if !asked.is_empty() {
        let resources = asked.iter().map(|(_, change)| change.clone()).collect();
        let alter =
            ControllerRequest::IncrementalAlterConfigs(Alter { resources, validate_only: request.validate_only });
        match handlers.broker.ask_controller(alter, bounded_timeout(TIMEOUT_MS)).await {
            Ok(ControllerResponse::AlterConfigs(outcomes)) if outcomes.len() == asked.len() => {
                responses.extend(asked.iter().zip(outcomes).map(|((resource, _), outcome)| {
                    response(resource, outcome.map_err(|error| (controller_code(&error), error.to_string())))
                }));
            }
            other => {
                let (code, why) = match other {
                    Ok(_) => (ErrorCode::UnknownServerError, "unexpected answer".to_owned()),
                    Err(error) => (channel_code(&error), error.to_string()),
                };
                responses.extend(asked.iter().map(|(resource, _)| response(resource, Err((code, why.clone())))));
            }
        }
    }
    IncrementalAlterConfigsResponse { responses, ..Default::default() }
}

fn wanted(resource: &AlterConfigsResource) -> Result<(ConfigResource, Vec<ConfigChange>), Refusal> {
    let name = resource.resource_name.as_str();
    let kind = match resource.resource_type {
        super::describe_configs::TOPIC => ConfigResourceType::Topic,
        super::describe_configs::BROKER => ConfigResourceType::Broker,
        _ => return Err((ErrorCode::InvalidRequest, "only topics and brokers have configs here".to_owned())),
    };
    if kind == ConfigResourceType::Topic && is_internal(name) {
        let why = "this topic is the cluster's own: its configs are part of how it works".to_owned();
        return Err((ErrorCode::InvalidRequest, why));
    }
    let changes = resource.configs.iter().map(|config| {
        // Kafka's `AlterConfigOp.OpType`.
        let value = || config.value.as_ref().map(ToString::to_string).ok_or_else(|| no_value(&config.name));
        let op = match config.config_operation {
            0 => ConfigOp::Set(value()?),
            1 => ConfigOp::Delete,
            2 => ConfigOp::Append(value()?),
            3 => ConfigOp::Subtract(value()?),
            other => return Err((ErrorCode::InvalidRequest, format!("Unknown operation type {other}"))),
        };
        Ok(ConfigChange { name: config.name.to_string(), op })
    });
    Ok((ConfigResource { kind, name: name.to_owned() }, changes.collect::<Result<_, _>>()?))
}

fn no_value(name: &str) -> Refusal {
    (ErrorCode::InvalidRequest, format!("Null value not supported for : {name}"))
}

fn response(resource: &AlterConfigsResource, outcome: Result<(), Refusal>) -> AlterConfigsResourceResponse {
    let (code, message) = match outcome {
        Ok(()) => (ErrorCode::None, None),
        Err((code, message)) => (code, Some(SmolStr::new(message))),
    };
    AlterConfigsResourceResponse {
        error_code: code.code(),
        error_message: message,
        resource_type: resource.resource_type,
        resource_name: resource.resource_name.clone(),
    }
}
