//! What a batch of committed records changed, and who is told.
//!
//! In: an image and the records of committed entries. Out: the next image, and what of it is new — for everybody
//! ([`MetadataDelta`]) and for one broker ([`LocalReplicaChanges`]). Never: a decision. Replaying a committed record
//! cannot fail and depends on nothing but the image and the record; what is impossible is a [`ReplayError`], and the
//! node stops on it, because going on would mean that two nodes believe different things.
//!
//! A delta lives in one task. It holds a working copy of every small part of the image (persistent maps: a copy is a
//! reference), and for topics only the partitions that changed, so that it costs what changed.
//!
//! What a decision changed also becomes events for people ([`crate::image::EventsImage`]): the records after a
//! [`crate::record::Provenance`], up to the next one or the end of their entry. Records without one make none.

mod cluster;
mod configs;
mod events;
mod loader;
mod local;
mod topics;

pub use cluster::ClusterDelta;
pub use configs::ConfigsDelta;
pub use loader::{MetadataLoader, MetadataPublisher};
pub use local::{LocalReplicaChanges, ReplicaChange, ReplicaRemoved};
pub use topics::{TopicDelta, TopicsDelta};

use events::EventsDelta;

use crate::ids::{BrokerEpoch, MetadataOffset, NodeId, TopicId};
use crate::image::events::{Happening, cut};
use crate::image::{AclsImage, ClientQuotasImage, FeaturesImage, MetadataImage, ScramImage};
use crate::record::{METADATA_VERSION_FEATURE, MetadataRecord, MetadataVersion};
use std::collections::BTreeSet;
use std::sync::Arc;

/// A record that cannot follow what the log said before: the log, or this build, is broken. Fatal.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("metadata log entry {index} cannot be applied: {why}")]
pub struct ReplayError {
    /// The entry.
    pub index: MetadataOffset,
    /// What is wrong with it.
    pub why: Impossible,
}

/// What a committed record can never say.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Impossible {
    /// An entry at or below one that was applied already.
    #[error("entry {0} was applied before")]
    OutOfOrder(MetadataOffset),
    /// The cluster was formed before.
    #[error("the cluster is formed twice")]
    SecondFormation,
    /// The broker is not registered.
    #[error("broker {0} is not registered")]
    UnknownBroker(NodeId),
    /// The broker has another epoch.
    #[error("broker {id} has epoch {current}, not {given}")]
    WrongBrokerEpoch {
        /// The broker.
        id: NodeId,
        /// Its epoch.
        current: BrokerEpoch,
        /// The record's.
        given: BrokerEpoch,
    },
    /// A registration that does not come after the one before.
    #[error("the registration of broker {id} has epoch {given}, after {current}")]
    EpochNotAbove {
        /// The broker.
        id: NodeId,
        /// Its epoch so far.
        current: BrokerEpoch,
        /// The record's.
        given: BrokerEpoch,
    },
    /// The topic does not exist.
    #[error("topic {0} does not exist")]
    UnknownTopic(TopicId),
    /// The name or the id is taken.
    #[error("topic {0} exists already")]
    DuplicateTopic(String),
    /// The partition does not exist.
    #[error("partition {1} of topic {0} does not exist")]
    UnknownPartition(TopicId, i32),
    /// Partitions come in order.
    #[error("partition {1} of topic {0} is not the next one")]
    PartitionGap(TopicId, i32),
    /// Every change counts one up, leaders never count down, and a new leader has a new epoch.
    #[error("the epochs of partition {1} of topic {0} do not follow the ones before")]
    EpochGap(TopicId, i32),
    /// A partition in a state that must not be.
    #[error("partition {1} of topic {0}: {2}")]
    BrokenPartition(TopicId, i32, &'static str),
    /// Producer ids only grow.
    #[error("producer ids go back to {0}")]
    ProducerIdsGoBack(i64),
    /// A `metadata.version` this build cannot replay.
    #[error("metadata.version {0} is not known to this build")]
    UnknownMetadataVersion(i16),
    /// A rule that does not exist is removed.
    #[error("an access rule or credential that does not exist is removed")]
    UnknownRule,
}

/// What records since an image changed.
#[derive(Clone, Debug)]
pub struct MetadataDelta {
    base: Arc<MetadataImage>,
    offset: MetadataOffset,
    /// Topics and partitions that changed.
    pub topics: TopicsDelta,
    /// Brokers that changed.
    pub cluster: ClusterDelta,
    /// Configs that changed.
    pub configs: ConfigsDelta,
    features: FeaturesImage,
    features_changed: BTreeSet<String>,
    next_producer_id: i64,
    quotas: ClientQuotasImage,
    acls: AclsImage,
    acls_changed: bool,
    scram: ScramImage,
    events: EventsDelta,
}

impl MetadataDelta {
    /// Nothing changed yet.
    pub fn new(base: Arc<MetadataImage>) -> Self {
        Self {
            offset: base.offset,
            topics: TopicsDelta::new(base.topics.clone()),
            cluster: ClusterDelta::new(base.cluster.clone()),
            configs: ConfigsDelta::new(base.configs.clone()),
            features: base.features.clone(),
            features_changed: BTreeSet::new(),
            next_producer_id: base.next_producer_id,
            quotas: base.quotas.clone(),
            acls: base.acls.clone(),
            acls_changed: false,
            scram: base.scram.clone(),
            events: EventsDelta::new(base.events.clone()),
            base,
        }
    }

    /// What differs between two images, for a node that got the newer one as a snapshot.
    pub fn between(base: Arc<MetadataImage>, new: &MetadataImage) -> Self {
        let mut delta = Self::new(base);
        delta.offset = new.offset;
        delta.topics.become_image(&new.topics);
        delta.cluster.become_image(&new.cluster);
        delta.configs.become_image(&new.configs);
        let changed = |name: &&str| delta.base.features.level(name) != new.features.level(name);
        let names = delta.base.features.iter().chain(new.features.iter()).map(|(name, _)| name);
        delta.features_changed = names.filter(changed).map(str::to_owned).collect();
        delta.features = new.features.clone();
        delta.next_producer_id = new.next_producer_id;
        delta.quotas = new.quotas.clone();
        delta.acls_changed = delta.acls != new.acls;
        delta.acls = new.acls.clone();
        delta.scram = new.scram.clone();
        delta.events = EventsDelta::new(new.events.clone());
        delta
    }

    /// The image before.
    pub fn base(&self) -> &Arc<MetadataImage> {
        &self.base
    }
    /// The log index of the last entry in this delta.
    pub fn offset(&self) -> MetadataOffset {
        self.offset
    }
    /// Finalised features that changed, with their level now (0: no longer in force).
    pub fn changed_features(&self) -> impl Iterator<Item = (&str, i16)> {
        self.features_changed.iter().map(|name| (name.as_str(), self.features.level(name)))
    }
    /// Whether any access rule came or went.
    pub fn acls_changed(&self) -> bool {
        self.acls_changed
    }
    /// Whether any quota changed.
    pub fn quotas_changed(&self) -> bool {
        self.quotas != self.base.quotas
    }
    /// Whether any SCRAM credential changed.
    pub fn scram_changed(&self) -> bool {
        self.scram != self.base.scram
    }
    /// What of the topics concerns one broker.
    pub fn local_changes(&self, broker: NodeId) -> LocalReplicaChanges {
        LocalReplicaChanges::of(&self.topics, broker)
    }

    /// Notes that all entries up to `index` are in, whether or not they had records (blank and membership entries).
    pub fn advance(&mut self, index: MetadataOffset) -> Result<(), ReplayError> {
        if index < self.offset {
            return Err(ReplayError { index, why: Impossible::OutOfOrder(index) });
        }
        if index > self.offset {
            self.events.end_entry();
        }
        self.offset = index;
        Ok(())
    }

    /// Takes in one committed record of the entry at `index`. After an error the delta is useless.
    pub fn replay(&mut self, index: MetadataOffset, record: &MetadataRecord) -> Result<(), ReplayError> {
        if index <= self.base.offset {
            return Err(ReplayError { index, why: Impossible::OutOfOrder(index) });
        }
        self.advance(index)?;
        self.take(index, record).map_err(|why| ReplayError { index, why })
    }

    fn take(&mut self, index: MetadataOffset, record: &MetadataRecord) -> Result<(), Impossible> {
        let mut open = self.events.open();
        match record {
            MetadataRecord::Formation(formation) => {
                self.cluster.form(formation)?;
                open.formed(formation);
            }
            MetadataRecord::RegisterBroker(registration) => {
                let before = self.cluster.image().broker(registration.id).cloned();
                self.cluster.register(index, registration)?;
                open.registered(before.as_deref(), registration);
            }
            MetadataRecord::FenceBroker { id, epoch } => {
                self.cluster.change(*id, *epoch, |b| b.fenced = true)?;
                open.happened(|| Happening::BrokerFenced { id: *id, epoch: *epoch });
            }
            MetadataRecord::UnfenceBroker { id, epoch } => {
                self.cluster.change(*id, *epoch, |b| {
                    b.fenced = false;
                    b.shutting_down = false;
                })?;
                open.happened(|| Happening::BrokerUnfenced { id: *id, epoch: *epoch });
            }
            MetadataRecord::BrokerShuttingDown { id, epoch } => {
                self.cluster.change(*id, *epoch, |b| b.shutting_down = true)?;
                open.happened(|| Happening::BrokerShuttingDown { id: *id, epoch: *epoch });
            }
            MetadataRecord::BrokerDirectories { id, epoch, directories } => {
                let before = self.cluster.image().broker(*id).cloned();
                self.cluster.change(*id, *epoch, |b| b.record.directories.clone_from(directories))?;
                open.directories(before.as_deref(), *id, *epoch, directories);
            }
            MetadataRecord::UnregisterBroker { id, epoch } => {
                self.cluster.unregister(*id, *epoch)?;
                open.happened(|| Happening::BrokerUnregistered { id: *id, epoch: *epoch });
            }
            MetadataRecord::Topic { name, id } => {
                self.topics.create(name, *id)?;
                open.topic_created(name, *id);
            }
            MetadataRecord::Partition { topic_id, partition, registration } => {
                let topic = self.topics.add_partition(*topic_id, *partition, registration)?;
                open.partition_added(topic, *topic_id);
            }
            MetadataRecord::PartitionChange(change) => {
                let (topic, before, after) = self.topics.change_partition(change)?;
                open.partition_changed(topic, change.partition, &before, &after);
            }
            MetadataRecord::RemoveTopic { topic_id } => {
                let name = self.topics.remove(*topic_id)?;
                self.configs.clear_topic(&name);
                open.topic_deleted(&name);
            }
            MetadataRecord::Config { resource, name, value } => {
                open.config_changed(self.configs.image(), resource, name, value.as_deref());
                self.configs.set(resource, name, value.as_deref());
            }
            MetadataRecord::ProducerIds { next } => {
                if *next < self.next_producer_id {
                    return Err(Impossible::ProducerIdsGoBack(*next));
                }
                self.next_producer_id = *next;
            }
            MetadataRecord::FeatureLevel { name, level } => {
                self.set_feature(name, *level)?;
                self.events.open().happened(|| Happening::FeatureChanged { name: cut(name), level: *level });
            }
            MetadataRecord::ClientQuota { .. }
            | MetadataRecord::AccessControlEntry(_)
            | MetadataRecord::RemoveAccessControlEntry { .. }
            | MetadataRecord::UserScramCredential(_)
            | MetadataRecord::RemoveUserScramCredential { .. } => {
                self.take_security(record)?;
                self.events.open().security_changed(record);
            }
            MetadataRecord::Provenance(provenance) => self.events.begin(index, *provenance),
            MetadataRecord::Observation(observation) => open.happened(|| Happening::Observed(*observation)),
        }
        Ok(())
    }

    fn set_feature(&mut self, name: &str, level: i16) -> Result<(), Impossible> {
        if name == METADATA_VERSION_FEATURE && MetadataVersion::from_level(level).is_none() {
            return Err(Impossible::UnknownMetadataVersion(level));
        }
        if level == 0 {
            self.features.levels.remove_mut(name);
        } else {
            self.features.levels.insert_mut(name.to_owned(), level);
        }
        self.features_changed.insert(name.to_owned());
        Ok(())
    }

    fn take_security(&mut self, record: &MetadataRecord) -> Result<(), Impossible> {
        match record {
            MetadataRecord::ClientQuota { entity, key, value } => {
                let mut quotas = self.quotas.of(entity).cloned().unwrap_or_default();
                match value {
                    Some(value) => quotas.insert(key.clone(), *value),
                    None => quotas.remove(key),
                };
                if quotas.is_empty() {
                    self.quotas.entities.remove_mut(entity);
                } else {
                    self.quotas.entities.insert_mut(entity.clone(), Arc::new(quotas));
                }
            }
            MetadataRecord::AccessControlEntry(entry) => {
                self.acls.entries.insert_mut(entry.id, Arc::new(entry.clone()));
                self.acls_changed = true;
            }
            MetadataRecord::RemoveAccessControlEntry { id } => {
                if !self.acls.entries.remove_mut(id) {
                    return Err(Impossible::UnknownRule);
                }
                self.acls_changed = true;
            }
            MetadataRecord::UserScramCredential(credential) => {
                let key = (credential.user.clone(), credential.mechanism);
                self.scram.credentials.insert_mut(key, Arc::new(credential.clone()));
            }
            MetadataRecord::RemoveUserScramCredential { user, mechanism } => {
                if !self.scram.credentials.remove_mut(&(user.clone(), *mechanism)) {
                    return Err(Impossible::UnknownRule);
                }
            }
            _ => unreachable!("take() sends only quotas, rules and credentials here"),
        }
        Ok(())
    }

    /// The image after.
    pub fn apply(&self) -> MetadataImage {
        MetadataImage {
            offset: self.offset,
            cluster: self.cluster.image().clone(),
            topics: self.topics.apply(),
            configs: self.configs.image().clone(),
            features: self.features.clone(),
            next_producer_id: self.next_producer_id,
            quotas: self.quotas.clone(),
            acls: self.acls.clone(),
            scram: self.scram.clone(),
            events: self.events.image(),
        }
    }
}

#[cfg(test)]
mod tests;
