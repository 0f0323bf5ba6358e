//! Dynamic configs, as set; what a missing one means is [`super::config_def`]'s.

use crate::record::{ConfigResource, ConfigResourceType};
use rpds::RedBlackTreeMapSync;
use std::collections::BTreeMap;
use std::sync::Arc;

/// The configs of one resource, by Kafka's names.
pub(crate) type ResourceConfigs = Arc<BTreeMap<String, String>>;

/// All dynamic configs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConfigsImage {
    pub(crate) topics: RedBlackTreeMapSync<String, ResourceConfigs>,
    pub(crate) others: RedBlackTreeMapSync<ConfigResource, ResourceConfigs>,
}

impl ConfigsImage {
    /// What was set on a resource itself, without anything inherited.
    pub fn of(&self, resource: &ConfigResource) -> Option<&BTreeMap<String, String>> {
        match resource.kind {
            ConfigResourceType::Topic => self.topics.get(resource.name.as_str()).map(Arc::as_ref),
            _ => self.others.get(resource).map(Arc::as_ref),
        }
    }
    /// One config of a topic, if it was set on the topic.
    pub fn topic(&self, topic: &str, name: &str) -> Option<&str> {
        self.topics.get(topic)?.get(name).map(String::as_str)
    }
    /// One cluster-wide broker config, if it was set.
    pub fn cluster(&self, name: &str) -> Option<&str> {
        self.others.get(&ConfigResource::cluster())?.get(name).map(String::as_str)
    }
    /// Every resource with configs: topics by name, then the others.
    pub fn iter(&self) -> impl Iterator<Item = (ConfigResource, &BTreeMap<String, String>)> {
        let topics = self.topics.iter().map(|(name, configs)| (ConfigResource::topic(name), configs.as_ref()));
        topics.chain(self.others.iter().map(|(resource, configs)| (resource.clone(), configs.as_ref())))
    }

    pub(crate) fn replace(&mut self, resource: &ConfigResource, configs: BTreeMap<String, String>) {
        let empty = configs.is_empty();
        match resource.kind {
            ConfigResourceType::Topic if empty => {
                self.topics.remove_mut(resource.name.as_str());
            }
            ConfigResourceType::Topic => self.topics.insert_mut(resource.name.clone(), Arc::new(configs)),
            _ if empty => {
                self.others.remove_mut(resource);
            }
            _ => self.others.insert_mut(resource.clone(), Arc::new(configs)),
        }
    }
}
