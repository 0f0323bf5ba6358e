//! Topics and partitions, by id and by name.

use crate::ids::{TopicId, TopicIdPartition, TopicName};
use crate::record::PartitionRegistration;
use rpds::RedBlackTreeMapSync;
use std::sync::Arc;

/// A topic with its partitions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicImage {
    /// Its name.
    pub name: TopicName,
    /// Its id.
    pub id: TopicId,
    /// Its partitions; the position is the number, without gaps.
    pub partitions: Vec<Arc<PartitionRegistration>>,
}

impl TopicImage {
    /// A partition's registration.
    pub fn partition(&self, partition: i32) -> Option<&Arc<PartitionRegistration>> {
        self.partitions.get(usize::try_from(partition).ok()?)
    }
    /// All partitions with their numbers, in order.
    pub fn iter(&self) -> impl Iterator<Item = (i32, &Arc<PartitionRegistration>)> {
        (0i32..).zip(&self.partitions)
    }
}

/// All topics.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TopicsImage {
    pub(crate) by_id: RedBlackTreeMapSync<TopicId, Arc<TopicImage>>,
    pub(crate) by_name: RedBlackTreeMapSync<TopicName, TopicId>,
}

impl TopicsImage {
    /// A topic by its id.
    pub fn by_id(&self, id: TopicId) -> Option<&Arc<TopicImage>> {
        self.by_id.get(&id)
    }
    /// A topic by its name.
    pub fn by_name(&self, name: &str) -> Option<&Arc<TopicImage>> {
        self.by_name.get(name).and_then(|id| self.by_id.get(id))
    }
    /// The id of the topic with this name.
    pub fn id_of(&self, name: &str) -> Option<TopicId> {
        self.by_name.get(name).copied()
    }
    /// A partition's registration.
    pub fn partition(&self, id: TopicIdPartition) -> Option<&Arc<PartitionRegistration>> {
        self.by_id(id.topic_id)?.partition(id.partition)
    }
    /// All topics in the order of their ids.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<TopicImage>> {
        self.by_id.values()
    }
    /// All topics in the order of their names.
    pub fn iter_by_name(&self) -> impl Iterator<Item = &Arc<TopicImage>> {
        self.by_name.values().filter_map(|id| self.by_id.get(id))
    }
    /// Every partition of every topic, in the order of ids and numbers.
    pub fn partitions(&self) -> impl Iterator<Item = (TopicIdPartition, &Arc<PartitionRegistration>)> {
        self.iter().flat_map(|topic| {
            topic
                .iter()
                .map(|(partition, registration)| (TopicIdPartition { topic_id: topic.id, partition }, registration))
        })
    }
    /// How many topics there are.
    pub fn len(&self) -> usize {
        self.by_id.size()
    }
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.by_id.is_empty()
    }

    pub(crate) fn insert(&mut self, topic: Arc<TopicImage>) {
        self.by_name.insert_mut(topic.name.clone(), topic.id);
        self.by_id.insert_mut(topic.id, topic);
    }
    pub(crate) fn remove(&mut self, id: TopicId) {
        if let Some(topic) = self.by_id.get(&id).cloned() {
            self.by_id.remove_mut(&id);
            // A topic deleted and made again inside one batch: the name belongs to the newer one already.
            if self.by_name.get(&topic.name) == Some(&id) {
                self.by_name.remove_mut(&topic.name);
            }
        }
    }
}
