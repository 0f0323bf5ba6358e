//! DescribeConfigs (key 32): what is set on topics and brokers, and where from.

use super::Handlers;
use crate::config::Source;
use rookery_protocol::codec::SmolStr;
use rookery_protocol::error::ErrorCode;
use rookery_protocol::messages::describe_configs::{
    DescribeConfigsResource, DescribeConfigsResourceResult, DescribeConfigsResult, DescribeConfigsSynonym,
};
use rookery_protocol::messages::{DescribeConfigsRequest, DescribeConfigsResponse};
use rookery_raft::image::MetadataImage;
use rookery_raft::image::config_def::{ConfigType, TOPIC_CONFIGS, definition, is_cluster_wide};
use rookery_raft::image::topic_configs::{ConfigSource, SourcedValue, TopicConfigs};
use rookery_raft::record::{ConfigResource, ConfigResourceType};
use std::collections::BTreeMap;

// Kafka's `ConfigResource.Type`.
pub const TOPIC: i8 = 2;
pub const BROKER: i8 = 4;

/// Kafka's number of a `ConfigEntry.ConfigSource`.
pub fn source_number(source: ConfigSource) -> i8 {
    match source {
        ConfigSource::Topic => 1,
        ConfigSource::DynamicBroker => 2,
        ConfigSource::DynamicCluster => 3,
        ConfigSource::StaticBroker => 4,
        ConfigSource::Default => 5,
    }
}

pub fn handle(handlers: &Handlers, request: &DescribeConfigsRequest) -> DescribeConfigsResponse {
    let image = handlers.broker.image();
    let results = request.resources.iter().map(|resource| {
        let described = match resource.resource_type {
            TOPIC => topic(&handlers.broker.config.topic_configs, &image, resource),
            BROKER => broker(handlers, &image, resource),
            _ => Err((ErrorCode::InvalidRequest, "only topics and brokers have configs here".to_owned())),
        };
        let mut result = DescribeConfigsResult {
            error_message: None,
            resource_type: resource.resource_type,
            resource_name: resource.resource_name.clone(),
            ..Default::default()
        };
        match described {
            Ok(configs) => {
                result.configs = configs
                    .into_iter()
                    .map(|mut config| {
                        if !request.include_synonyms {
                            config.synonyms.clear();
                        }
                        config
                    })
                    .collect();
            }
            Err((error, message)) => {
                result.error_code = error.code();
                result.error_message = Some(SmolStr::new(message));
            }
        }
        result
    });
    DescribeConfigsResponse { results: results.collect(), ..Default::default() }
}

type Described = Result<Vec<DescribeConfigsResourceResult>, (ErrorCode, String)>;

fn is_asked(resource: &DescribeConfigsResource, name: &str) -> bool {
    resource.configuration_keys.as_ref().is_none_or(|keys| keys.iter().any(|k| k == name))
}

fn topic(configs: &TopicConfigs, image: &MetadataImage, resource: &DescribeConfigsResource) -> Described {
    let name = resource.resource_name.as_str();
    if image.topics.by_name(name).is_none() {
        let error = ErrorCode::UnknownTopicOrPartition;
        return Err((error, error.message().to_owned()));
    }
    let asked = TOPIC_CONFIGS.iter().filter(|def| is_asked(resource, def.name));
    Ok(asked.map(|def| entry(def.name, def.kind, &configs.values(image, name, def).collect::<Vec<_>>())).collect())
}

fn broker(handlers: &Handlers, image: &MetadataImage, resource: &DescribeConfigsResource) -> Described {
    let name = resource.resource_name.as_str();
    if name.is_empty() {
        // The cluster-wide defaults: only what was set.
        let set = image.configs.of(&ConfigResource::cluster());
        let asked = set.into_iter().flatten().filter(|(name, _)| is_asked(resource, name));
        let cluster = |name, value| SourcedValue { source: ConfigSource::DynamicCluster, name, value };
        return Ok(asked.map(|(n, v)| entry(n, kind_of(n), &[cluster(n, v)])).collect());
    }
    let me = handlers.broker.config.node_id;
    if name.parse() != Ok(me.0) {
        let message = format!("this is broker {me}: ask broker {name} itself");
        return Err((ErrorCode::InvalidRequest, message));
    }
    // By name, each with its values from what counts to what would count without it.
    let mut values: BTreeMap<&str, Vec<SourcedValue<'_>>> = BTreeMap::new();
    let mut put = |name, value, source| values.entry(name).or_default().push(SourcedValue { source, name, value });
    for (resource, source) in [
        (ConfigResource::broker(me), ConfigSource::DynamicBroker),
        (ConfigResource::cluster(), ConfigSource::DynamicCluster),
    ] {
        image.configs.of(&resource).into_iter().flatten().for_each(|(name, value)| put(name, value, source));
    }
    for (name, value, source) in handlers.broker.config.settings.iter() {
        match definition(ConfigResourceType::Broker, name) {
            // What the cluster decides is never a node's own, whatever its settings say.
            Some(def) if is_cluster_wide(name) => put(name, def.default, ConfigSource::Default),
            _ if *source == Source::Default => put(name, value, ConfigSource::Default),
            _ => put(name, value, ConfigSource::StaticBroker),
        }
    }
    let configs = values.into_iter().filter(|(name, _)| is_asked(resource, name)).map(|(name, values)| {
        let mut config = entry(name, kind_of(name), &values);
        config.read_only = definition(ConfigResourceType::Broker, name).is_none(); // changed by a restart only
        config
    });
    Ok(configs.collect())
}

fn kind_of(broker_config: &str) -> ConfigType {
    definition(ConfigResourceType::Broker, broker_config).map_or(ConfigType::Text, |def| def.kind)
}

fn entry(name: &str, kind: ConfigType, values: &[SourcedValue<'_>]) -> DescribeConfigsResourceResult {
    let first = values.first();
    let synonym = |found: &SourcedValue<'_>| DescribeConfigsSynonym {
        name: SmolStr::new(found.name),
        value: Some(SmolStr::new(found.value)),
        source: source_number(found.source),
    };
    DescribeConfigsResourceResult {
        name: SmolStr::new(name),
        value: first.map(|first| SmolStr::new(first.value)),
        config_source: first.map_or(source_number(ConfigSource::Default), |first| source_number(first.source)),
        synonyms: values.iter().map(synonym).collect(),
        config_type: type_number(kind),
        documentation: None,
        ..Default::default()
    }
}

/// Kafka's `ConfigEntry.ConfigType`.
fn type_number(kind: ConfigType) -> i8 {
    match kind {
        ConfigType::Boolean | ConfigType::Disabled => 1,
        ConfigType::OneOf(_) | ConfigType::Text => 2,
        ConfigType::Int(..) => 3,
        ConfigType::Long(..) => 5,
        ConfigType::Double(..) => 6,
        ConfigType::ListOf(_) | ConfigType::ThrottledReplicas => 7,
    }
}
