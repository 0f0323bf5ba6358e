//! What a topic's configs are on one broker: the metadata's word, then the broker's own settings, then Kafka's defaults.
//!
//! As in Kafka, most defaults of topic configs belong to a broker: its settings count while nobody set them in the
//! metadata, and each leader goes by its own. What replicas must agree on is never a broker's alone: [the configs that
//! are cluster-wide](config_def::is_cluster_wide) are read from the [`MetadataImage`] only, and the settings of the
//! node that forms the cluster become its first values ([`crate::controller::ControllerConfig`]).

use super::MetadataImage;
use super::config_def::{self, ConfigDef};
use crate::ids::NodeId;
use crate::record::ConfigResource;
use std::collections::BTreeMap;

/// Where a value comes from, in falling order of precedence (Kafka's `ConfigSource`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ConfigSource {
    /// Set on the topic.
    Topic,
    /// Set on this broker while the cluster runs.
    DynamicBroker,
    /// Set for all brokers while the cluster runs.
    DynamicCluster,
    /// The broker's own settings.
    StaticBroker,
    /// Kafka's default.
    Default,
}

impl ConfigSource {
    const ALL: [Self; 5] = [Self::Topic, Self::DynamicBroker, Self::DynamicCluster, Self::StaticBroker, Self::Default];
}

/// One value, where it comes from, and the name it was set by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SourcedValue<'a> {
    /// Where from.
    pub source: ConfigSource,
    /// By which name: the topic config's, or the broker config's that is its default.
    pub name: &'a str,
    /// As text.
    pub value: &'a str,
}

/// One broker's view of all topics' configs.
#[derive(Clone, Debug)]
pub struct TopicConfigs {
    broker: ConfigResource,
    // By the broker config's name.
    settings: BTreeMap<&'static str, String>,
}

impl TopicConfigs {
    /// Of a broker with these settings, by the names of broker configs. Those that are no default of a topic config, or
    /// that the cluster decides, are left out.
    pub fn new<'s>(node: NodeId, settings: impl IntoIterator<Item = (&'s str, String)>) -> Self {
        let kept = settings.into_iter().filter_map(|(name, value)| {
            let def = config_def::topic_config_of_broker_config(name)?;
            (!config_def::is_cluster_wide(def.broker_name)).then_some((def.broker_name, value))
        });
        Self { broker: ConfigResource::broker(node), settings: kept.collect() }
    }

    /// Every value that one config of a topic has somewhere, the one that counts first.
    pub fn values<'a>(
        &'a self,
        image: &'a MetadataImage,
        topic: &str,
        def: &'static ConfigDef,
    ) -> impl Iterator<Item = SourcedValue<'a>> + use<'a> {
        let own = image.configs.topic(topic, def.name);
        ConfigSource::ALL.into_iter().filter_map(move |source| {
            let value = match source {
                ConfigSource::Topic => own,
                ConfigSource::DynamicBroker if config_def::is_cluster_wide(def.broker_name) => None,
                ConfigSource::DynamicBroker => image.configs.of(&self.broker)?.get(def.broker_name).map(String::as_str),
                ConfigSource::DynamicCluster => image.configs.cluster(def.broker_name),
                ConfigSource::StaticBroker => self.settings.get(def.broker_name).map(String::as_str),
                ConfigSource::Default => Some(def.default),
            };
            let of_topic = source == ConfigSource::Topic || def.broker_name.is_empty();
            let name = if of_topic { def.name } else { def.broker_name };
            value.map(|value| SourcedValue { source, name, value })
        })
    }

    /// The value of one config of a topic.
    ///
    /// # Panics
    /// If the table of topic configs has no such name.
    pub fn text<'a>(&'a self, image: &'a MetadataImage, topic: &str, name: &str) -> &'a str {
        let def = config_def::topic_config(name).expect("callers name constants of the table");
        self.values(image, topic, def).next().map_or(def.default, |first| first.value)
    }

    /// The same of a config that is a whole number. Values are validated before they count; one that is no number all
    /// the same counts as not set.
    ///
    /// # Panics
    /// If the table of topic configs has no whole number of that name.
    pub fn number(&self, image: &MetadataImage, topic: &str, name: &str) -> i64 {
        let def = config_def::topic_config(name).expect("callers name constants of the table");
        let parsed = self.values(image, topic, def).find_map(|found| found.value.trim().parse().ok());
        parsed.expect("the default of a whole number is one")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::delta::MetadataDelta;
    use crate::ids::MetadataOffset;
    use crate::record::MetadataRecord;

    const ME: NodeId = NodeId(1);

    fn image(set: &[(ConfigResource, &str, &str)]) -> MetadataImage {
        let mut delta = MetadataDelta::new(MetadataImage::empty());
        for (resource, name, value) in set {
            let config = MetadataRecord::Config {
                resource: resource.clone(),
                name: (*name).to_owned(),
                value: Some((*value).to_owned()),
            };
            delta.replay(MetadataOffset(1), &config).expect("a config");
        }
        delta.apply()
    }

    #[test]
    fn the_nearest_value_counts() {
        let mine = TopicConfigs::new(ME, [("log.retention.ms", "4".to_owned())]);
        let kafkas = TopicConfigs::new(ME, []);
        let mut set = Vec::new();
        let ask = |configs: &TopicConfigs, set: &[_]| configs.number(&image(set), "t", "retention.ms");
        assert_eq!(ask(&kafkas, &set), 604_800_000);
        assert_eq!(ask(&mine, &set), 4);
        set.push((ConfigResource::cluster(), "log.retention.ms", "3"));
        assert_eq!(ask(&mine, &set), 3);
        set.push((ConfigResource::broker(NodeId(2)), "log.retention.ms", "9"));
        assert_eq!(ask(&mine, &set), 3, "another broker's");
        set.push((ConfigResource::broker(ME), "log.retention.ms", "2"));
        assert_eq!(ask(&mine, &set), 2);
        set.push((ConfigResource::topic("t"), "retention.ms", "1"));
        assert_eq!(ask(&mine, &set), 1);
        assert_eq!(mine.number(&image(&set), "u", "retention.ms"), 2, "another topic");
        let def = config_def::topic_config("retention.ms").unwrap();
        let image = image(&set);
        let values: Vec<_> = mine.values(&image, "t", def).map(|v| (v.source, v.value)).collect();
        let sources = [
            ConfigSource::Topic,
            ConfigSource::DynamicBroker,
            ConfigSource::DynamicCluster,
            ConfigSource::StaticBroker,
            ConfigSource::Default,
        ];
        assert_eq!(values, sources.into_iter().zip(["1", "2", "3", "4", "604800000"]).collect::<Vec<_>>());
    }

    #[test]
    fn what_replicas_agree_on_is_no_brokers_own() {
        let mine = TopicConfigs::new(ME, config_def::CLUSTER_WIDE.iter().map(|name| (*name, "1".to_owned())));
        let image = image(&[(ConfigResource::broker(ME), config_def::MIN_INSYNC_REPLICAS, "1")]);
        for name in [config_def::MIN_INSYNC_REPLICAS, config_def::UNCLEAN_LEADER_ELECTION_ENABLE, "cleanup.policy"] {
            let def = config_def::topic_config(name).unwrap();
            assert_eq!(mine.text(&image, "t", name), def.default, "{name}");
            assert_eq!(mine.text(&image, "t", name), image.topic_config("t", name).unwrap(), "{name}");
        }
    }
}
