//! Topics and partitions that changed.

use super::Impossible;
use crate::ids::{TopicId, TopicIdPartition, TopicName};
use crate::image::{TopicImage, TopicsImage};
use crate::record::{PartitionChange, PartitionRegistration};
use std::collections::BTreeMap;
use std::sync::Arc;

/// One topic that was created or of which partitions changed.
#[derive(Clone, Debug)]
pub struct TopicDelta {
    base: Option<Arc<TopicImage>>,
    name: TopicName,
    id: TopicId,
    changes: BTreeMap<i32, Arc<PartitionRegistration>>,
}

impl TopicDelta {
    /// The topic's name.
    pub fn name(&self) -> &TopicName {
        &self.name
    }
    /// The topic's id.
    pub fn id(&self) -> TopicId {
        self.id
    }
    /// Whether the topic did not exist before.
    pub fn is_new(&self) -> bool {
        self.base.is_none()
    }
    /// Every partition that is new or changed: its number, its registration before, and after.
    pub fn partitions(
        &self,
    ) -> impl Iterator<Item = (i32, Option<&Arc<PartitionRegistration>>, &Arc<PartitionRegistration>)> {
        self.changes.iter().map(|(partition, new)| (*partition, self.before(*partition), new))
    }

    fn before(&self, partition: i32) -> Option<&Arc<PartitionRegistration>> {
        self.base.as_ref()?.partition(partition)
    }

    fn now(&self, partition: i32) -> Option<&Arc<PartitionRegistration>> {
        self.changes.get(&partition).or_else(|| self.before(partition))
    }

    fn next_partition(&self) -> i32 {
        let before = self.base.as_ref().map_or(0, |topic| topic.partitions.len() as i32);
        self.changes.last_key_value().map_or(before, |(last, _)| before.max(last + 1))
    }

    fn apply(&self) -> TopicImage {
        let mut partitions = self.base.as_ref().map(|topic| topic.partitions.clone()).unwrap_or_default();
        for (partition, registration) in &self.changes {
            match partitions.get_mut(*partition as usize) {
                Some(old) => *old = registration.clone(),
                None => partitions.push(registration.clone()),
            }
        }
        TopicImage { name: self.name.clone(), id: self.id, partitions }
    }
}

/// Topics that were created, changed or deleted.
#[derive(Clone, Debug)]
pub struct TopicsDelta {
    base: TopicsImage,
    changed: BTreeMap<TopicId, TopicDelta>,
    deleted: BTreeMap<TopicId, Arc<TopicImage>>,
    /// Names taken by topics of this delta.
    created_names: BTreeMap<TopicName, TopicId>,
}

impl TopicsDelta {
    pub(super) fn new(base: TopicsImage) -> Self {
        Self { base, changed: BTreeMap::new(), deleted: BTreeMap::new(), created_names: BTreeMap::new() }
    }

    pub(super) fn become_image(&mut self, new: &TopicsImage) {
        for old in self.base.iter().filter(|old| new.by_id(old.id).is_none()) {
            self.deleted.insert(old.id, old.clone());
        }
        for topic in new.iter() {
            let base = self.base.by_id(topic.id).cloned();
            let before = |partition| base.as_ref().and_then(|b| b.partition(partition));
            let changes: BTreeMap<_, _> = topic
                .iter()
                .filter(|(partition, registration)| before(*partition) != Some(registration))
                .map(|(partition, registration)| (partition, registration.clone()))
                .collect();
            if base.is_none() {
                self.created_names.insert(topic.name.clone(), topic.id);
            }
            if base.is_none() || !changes.is_empty() {
                self.changed.insert(topic.id, TopicDelta { base, name: topic.name.clone(), id: topic.id, changes });
            }
        }
    }

    /// Topics that are new or have new or changed partitions, in the order of their ids.
    pub fn changed(&self) -> impl Iterator<Item = &TopicDelta> {
        self.changed.values()
    }
    /// Topics that did not exist before.
    pub fn created(&self) -> impl Iterator<Item = &TopicDelta> {
        self.changed.values().filter(|topic| topic.is_new())
    }
    /// Topics that are gone, as they were.
    pub fn deleted(&self) -> impl Iterator<Item = &Arc<TopicImage>> {
        self.deleted.values()
    }
    /// Whether no topic changed.
    pub fn is_empty(&self) -> bool {
        self.changed.is_empty() && self.deleted.is_empty()
    }
    /// A partition as it is after this delta.
    pub fn partition(&self, id: TopicIdPartition) -> Option<&Arc<PartitionRegistration>> {
        match self.changed.get(&id.topic_id) {
            Some(topic) => topic.now(id.partition),
            None if self.deleted.contains_key(&id.topic_id) => None,
            None => self.base.partition(id),
        }
    }

    pub(super) fn create(&mut self, name: &TopicName, id: TopicId) -> Result<(), Impossible> {
        let taken = match self.created_names.get(name) {
            Some(_) => true,
            None => self.base.id_of(name).is_some_and(|old| !self.deleted.contains_key(&old)),
        };
        if taken || self.base.by_id(id).is_some() || self.changed.contains_key(&id) {
            return Err(Impossible::DuplicateTopic(name.to_string()));
        }
        self.created_names.insert(name.clone(), id);
        self.changed.insert(id, TopicDelta { base: None, name: name.clone(), id, changes: BTreeMap::new() });
        Ok(())
    }

    pub(super) fn add_partition(
        &mut self,
        id: TopicId,
        partition: i32,
        registration: &PartitionRegistration,
    ) -> Result<&TopicName, Impossible> {
        let topic = self.topic(id)?;
        if partition != topic.next_partition() {
            return Err(Impossible::PartitionGap(id, partition));
        }
        if let Some(broken) = registration.broken_invariant() {
            return Err(Impossible::BrokenPartition(id, partition, broken));
        }
        topic.changes.insert(partition, Arc::new(registration.clone()));
        Ok(&topic.name)
    }

    /// The topic's name, and the partition before and after.
    pub(super) fn change_partition(
        &mut self,
        change: &PartitionChange,
    ) -> Result<(&TopicName, Arc<PartitionRegistration>, Arc<PartitionRegistration>), Impossible> {
        let (id, partition) = (change.topic_id, change.partition);
        let topic = self.topic(id)?;
        let old = topic.now(partition).ok_or(Impossible::UnknownPartition(id, partition))?.clone();
        let new = change.applied_to(&old);
        // A leader epoch belongs to one life of one leader.
        let new_leader = new.leader != old.leader;
        let epochs_follow = Some(new.partition_epoch.0) == old.partition_epoch.0.checked_add(1)
            && new.leader_epoch >= old.leader_epoch
            && (!new_leader || new.leader_epoch > old.leader_epoch);
        if !epochs_follow {
            return Err(Impossible::EpochGap(id, partition));
        }
        if let Some(broken) = new.broken_invariant() {
            return Err(Impossible::BrokenPartition(id, partition, broken));
        }
        let new = Arc::new(new);
        topic.changes.insert(partition, new.clone());
        Ok((&topic.name, old, new))
    }

    /// Returns the name of the topic that is gone.
    pub(super) fn remove(&mut self, id: TopicId) -> Result<TopicName, Impossible> {
        let topic = self.topic(id)?;
        let (name, base) = (topic.name.clone(), topic.base.clone());
        self.changed.remove(&id);
        if self.created_names.get(&name) == Some(&id) {
            self.created_names.remove(&name);
        }
        if let Some(base) = base {
            self.deleted.insert(id, base);
        }
        Ok(name)
    }

    fn topic(&mut self, id: TopicId) -> Result<&mut TopicDelta, Impossible> {
        if !self.changed.contains_key(&id) {
            let alive = self.base.by_id(id).filter(|_| !self.deleted.contains_key(&id));
            let base = alive.cloned().ok_or(Impossible::UnknownTopic(id))?;
            let delta = TopicDelta { name: base.name.clone(), id, changes: BTreeMap::new(), base: Some(base) };
            self.changed.insert(id, delta);
        }
        Ok(self.changed.get_mut(&id).expect("it was there, or was inserted above"))
    }

    pub(super) fn apply(&self) -> TopicsImage {
        let mut image = self.base.clone();
        for id in self.deleted.keys() {
            image.remove(*id);
        }
        for topic in self.changed.values() {
            image.insert(Arc::new(topic.apply()));
        }
        image
    }
}
