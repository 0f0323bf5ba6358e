//! DescribeConfigs (key 32): what is set on topics and brokers, and where from.

use super::Handlers;
use rookery_protocol::codec::SmolStr;
use rookery_protocol::error::ErrorCode;
use rookery_protocol::messages::describe_configs::{
    DescribeConfigsResource, DescribeConfigsResourceResult, DescribeConfigsResult, DescribeConfigsSynonym,
};
use rookery_protocol::messages::{DescribeConfigsRequest, DescribeConfigsResponse};
use rookery_raft::image::config_def::{ConfigType, TOPIC_CONFIGS};
use rookery_raft::image::MetadataImage;
use rookery_raft::record::ConfigResource;

// Kafka's `ConfigEntry.ConfigSource`.
pub const SOURCE_TOPIC: i8 = 1;
const SOURCE_DYNAMIC_BROKER: i8 = 2;
pub const SOURCE_DYNAMIC_DEFAULT_BROKER: i8 = 3;
const SOURCE_STATIC_BROKER: i8 = 4;
pub const SOURCE_DEFAULT: i8 = 5;

const TOPIC: i8 = 2;
const BROKER: i8 = 4;

pub fn handle(handlers: &Handlers, request: &DescribeConfigsRequest) -> DescribeConfigsResponse {
    let image = handlers.broker.image();
    let results = request.resources.iter().map(|resource| {
        let described = match resource.resource_type {
            TOPIC => topic(&image, resource),
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
                result.configs = configs.into_iter().map(|mut config| {
                    if !request.include_synonyms {
                        config.synonyms.clear();
                    }
                    config
                }).collect();
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

fn topic(image: &MetadataImage, resource: &DescribeConfigsResource) -> Described {
    let name = resource.resource_name.as_str();
    if image.topics.by_name(name).is_none() {
        let error = ErrorCode::UnknownTopicOrPartition;
        return Err((error, error.message().to_owned()));
    }
    let configs = TOPIC_CONFIGS.iter().filter(|def| is_asked(resource, def.name)).map(|def| {
        // From what counts to what would count without it.
        let mut values = Vec::with_capacity(3);
        values.extend(image.configs.topic(name, def.name).map(|v| (def.name, v, SOURCE_TOPIC)));
        values.extend(image.configs.cluster(def.broker_name).map(|v| (def.broker_name, v, SOURCE_DYNAMIC_DEFAULT_BROKER)));
        let default_name = if def.broker_name.is_empty() { def.name } else { def.broker_name };
        values.push((default_name, def.default, SOURCE_DEFAULT));
        entry(def.name, def.kind, &values)
    });
    Ok(configs.collect())
}

fn broker(handlers: &Handlers, image: &MetadataImage, resource: &DescribeConfigsResource) -> Described {
    let name = resource.resource_name.as_str();
    if name.is_empty() {
        // The cluster-wide defaults: only what was set.
        let set = image.configs.of(&ConfigResource::cluster());
        let asked = set.into_iter().flatten().filter(|(name, _)| is_asked(resource, name));
        return Ok(asked.map(|(n, v)| entry(n, ConfigType::Text, &[(n, v, SOURCE_DYNAMIC_DEFAULT_BROKER)])).collect());
    }
    let me = handlers.broker.config.node_id;
    if name.parse() != Ok(me.0) {
        let message = format!("this is broker {me}: ask broker {name} itself");
        return Err((ErrorCode::InvalidRequest, message));
    }
    let mut configs: Vec<DescribeConfigsResourceResult> = Vec::new();
    let own = image.configs.of(&ConfigResource::broker(me)).into_iter().flatten().map(|(n, v)| (n, v, SOURCE_DYNAMIC_BROKER));
    let shared =
        image.configs.of(&ConfigResource::cluster()).into_iter().flatten().map(|(n, v)| (n, v, SOURCE_DYNAMIC_DEFAULT_BROKER));
    for (n, v, source) in own.chain(shared).filter(|(n, ..)| is_asked(resource, n)) {
        if !configs.iter().any(|c| c.name == *n) {
            configs.push(entry(n, ConfigType::Text, &[(n, v, source)]));
        }
    }
    for (n, value, source) in handlers.broker.config.settings.iter().filter(|(n, ..)| is_asked(resource, n)) {
        if configs.iter().any(|c| c.name == n) {
            continue;
        }
        let from = if *source == crate::config::Source::Default { SOURCE_DEFAULT } else { SOURCE_STATIC_BROKER };
        let mut config = entry(n, ConfigType::Text, &[(n, value, from)]);
        config.read_only = true; // changed by a restart only
        configs.push(config);
    }
    Ok(configs)
}

fn entry(name: &str, kind: ConfigType, values: &[(&str, &str, i8)]) -> DescribeConfigsResourceResult {
    let (_, value, source) = values[0];
    let synonym = |(name, value, source): &(&str, &str, i8)| DescribeConfigsSynonym {
        name: SmolStr::new(name),
        value: Some(SmolStr::new(value)),
        source: *source,
    };
    DescribeConfigsResourceResult {
        name: SmolStr::new(name),
        value: Some(SmolStr::new(value)),
        config_source: source,
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
