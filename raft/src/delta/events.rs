//! What the records of a decision changed, as events for people.
//!
//! One decision makes few events, however many records it has: what happened to many partitions in one way is one event that
//! lists the first of them. Nothing here can fail, and nothing is formatted.

use crate::ids::{BrokerEpoch, MetadataOffset, NodeId, TopicId, TopicName};
use crate::image::events::{
    Bounded, ConfigTransition, ConfigValue, DirectoryTransition, Event, Happening, PartitionChangeKind,
    PartitionTransition, TopicSize, cut,
};
use crate::image::{BrokerRegistration, ConfigsImage, EventsImage};
use crate::record::{
    ConfigResource, Directory, DirectoryState, Formation, MetadataRecord, PartitionRegistration, Provenance,
    RegisterBroker,
};
use std::collections::BTreeMap;

/// The event log, and the decision that is being replayed.
#[derive(Clone, Debug)]
pub(super) struct EventsDelta {
    image: EventsImage,
    decision: Option<DecisionEvents>,
}

/// What a decision made happen so far.
#[derive(Clone, Debug)]
struct DecisionEvents {
    offset: MetadataOffset,
    provenance: Provenance,
    single: Vec<Happening>,
    created: Bounded<TopicSize>,
    /// The topic whose partitions come now, if it is new.
    new_topic: Option<TopicId>,
    grown: Bounded<TopicSize>,
    grown_last: Option<TopicId>,
    deleted: Bounded<TopicName>,
    configs: Bounded<ConfigTransition>,
    partitions: BTreeMap<PartitionChangeKind, Bounded<PartitionTransition>>,
    rules: u32,
    quotas: u32,
    credentials: u32,
}

/// Where what happens is noted; nowhere outside a decision.
pub(super) struct Open<'a>(Option<&'a mut DecisionEvents>);

impl EventsDelta {
    pub(super) fn new(image: EventsImage) -> Self {
        Self { image, decision: None }
    }

    /// The events after everything replayed so far.
    pub(super) fn image(&self) -> EventsImage {
        let mut image = self.image.clone();
        if let Some(decision) = self.decision.clone() {
            decision.finish(&mut image);
        }
        image
    }

    pub(super) fn begin(&mut self, offset: MetadataOffset, provenance: Provenance) {
        self.end_entry();
        self.decision = Some(DecisionEvents::new(offset, provenance));
    }

    pub(super) fn end_entry(&mut self) {
        if let Some(decision) = self.decision.take() {
            decision.finish(&mut self.image);
        }
    }

    pub(super) fn open(&mut self) -> Open<'_> {
        Open(self.decision.as_mut())
    }
}

impl DecisionEvents {
    fn new(offset: MetadataOffset, provenance: Provenance) -> Self {
        Self {
            offset,
            provenance,
            single: Vec::new(),
            created: Bounded::default(),
            new_topic: None,
            grown: Bounded::default(),
            grown_last: None,
            deleted: Bounded::default(),
            configs: Bounded::default(),
            partitions: BTreeMap::new(),
            rules: 0,
            quotas: 0,
            credentials: 0,
        }
    }

    fn finish(self, image: &mut EventsImage) {
        let mut happenings = self.single;
        let lists = [
            (!self.deleted.is_empty()).then_some(Happening::TopicsDeleted(self.deleted)),
            (!self.created.is_empty()).then_some(Happening::TopicsCreated(self.created)),
            (!self.grown.is_empty()).then_some(Happening::PartitionsAdded(self.grown)),
            (!self.configs.is_empty()).then_some(Happening::ConfigsChanged(self.configs)),
        ];
        happenings.extend(lists.into_iter().flatten());
        let (rules, quotas, credentials) = (self.rules, self.quotas, self.credentials);
        if [rules, quotas, credentials] != [0; 3] {
            happenings.push(Happening::SecurityChanged { rules, quotas, credentials });
        }
        let of_kind = |(change, partitions)| Happening::PartitionsChanged { change, partitions };
        happenings.extend(self.partitions.into_iter().map(of_kind));
        for what in happenings {
            image.push(Event { offset: self.offset, provenance: self.provenance, what });
        }
    }
}

impl Open<'_> {
    pub(super) fn happened(&mut self, what: impl FnOnce() -> Happening) {
        if let Some(decision) = &mut self.0 {
            decision.single.push(what());
        }
    }

    pub(super) fn formed(&mut self, formation: &Formation) {
        self.happened(|| {
            let mut voters = Bounded::default();
            formation.voters.iter().for_each(|voter| voters.push_with(|| voter.node_id));
            Happening::ClusterFormed { cluster_id: formation.cluster_id, voters }
        });
    }

    pub(super) fn registered(&mut self, before: Option<&BrokerRegistration>, now: &RegisterBroker) {
        self.happened(|| {
            let mut directories = Bounded::default();
            let old = before.map_or(&[][..], |b| &b.record.directories);
            compare_directories(old, &now.directories, &mut directories);
            // What is not in order is told with every registration, also when it was so before.
            let broken = |d: &&Directory| d.state != DirectoryState::Online && old.contains(d);
            for directory in now.directories.iter().filter(broken) {
                let state = Some(directory.state);
                directories.push_with(|| DirectoryTransition { id: directory.id, before: state, after: state });
            }
            let (id, epoch, incarnation) = (now.id, now.epoch, now.incarnation);
            Happening::BrokerRegistered { id, epoch, incarnation, directories }
        });
    }

    pub(super) fn directories(
        &mut self,
        before: Option<&BrokerRegistration>,
        id: NodeId,
        epoch: BrokerEpoch,
        now: &[Directory],
    ) {
        self.happened(|| {
            let mut directories = Bounded::default();
            compare_directories(before.map_or(&[][..], |b| &b.record.directories), now, &mut directories);
            Happening::DirectoriesChanged { id, epoch, directories }
        });
    }

    pub(super) fn topic_created(&mut self, name: &TopicName, id: TopicId) {
        if let Some(decision) = &mut self.0 {
            decision.new_topic = Some(id);
            decision.created.push_with(|| TopicSize { topic: name.clone(), id, partitions: 0 });
        }
    }

    pub(super) fn partition_added(&mut self, name: &TopicName, id: TopicId) {
        let Some(decision) = &mut self.0 else { return };
        let is_new = decision.new_topic == Some(id);
        let topics = if is_new { &mut decision.created } else { &mut decision.grown };
        if !is_new && decision.grown_last != Some(id) {
            decision.grown_last = Some(id);
            topics.push_with(|| TopicSize { topic: name.clone(), id, partitions: 0 });
        }
        // The last one, unless it is among those that are only counted.
        if let Some(topic) = topics.listed.last_mut().filter(|topic| topic.id == id) {
            topic.partitions += 1;
        }
    }

    pub(super) fn topic_deleted(&mut self, name: &TopicName) {
        if let Some(decision) = &mut self.0 {
            decision.deleted.push_with(|| name.clone());
        }
    }

    pub(super) fn config_changed(
        &mut self,
        before: &ConfigsImage,
        resource: &ConfigResource,
        name: &str,
        value: Option<&str>,
    ) {
        let Some(decision) = &mut self.0 else { return };
        // The configs a topic is born with belong to its creation.
        if decision.new_topic.is_some() {
            return;
        }
        decision.configs.push_with(|| {
            let old = before.of(resource).and_then(|configs| configs.get(name));
            ConfigTransition {
                resource: ConfigResource { kind: resource.kind, name: cut(&resource.name) },
                name: cut(name),
                before: ConfigValue::of(name, old.map(String::as_str)),
                after: ConfigValue::of(name, value),
            }
        });
    }

    pub(super) fn security_changed(&mut self, record: &MetadataRecord) {
        let Some(decision) = &mut self.0 else { return };
        let count = match record {
            MetadataRecord::ClientQuota { .. } => &mut decision.quotas,
            MetadataRecord::AccessControlEntry(_) | MetadataRecord::RemoveAccessControlEntry { .. } => {
                &mut decision.rules
            }
            _ => &mut decision.credentials,
        };
        *count = count.saturating_add(1);
    }

    pub(super) fn partition_changed(
        &mut self,
        topic: &TopicName,
        partition: i32,
        before: &PartitionRegistration,
        after: &PartitionRegistration,
    ) {
        let Some(decision) = &mut self.0 else { return };
        let kind = PartitionChangeKind::of(before, after);
        decision.partitions.entry(kind).or_default().push_with(|| PartitionTransition {
            topic: topic.clone(),
            partition,
            leader_before: before.leader,
            leader: after.leader,
            leader_epoch: after.leader_epoch,
            isr_before: before.isr.clone(),
            isr: after.isr.clone(),
            elr: after.elr.clone(),
        });
    }
}

/// Notes the directories that came, went or changed.
fn compare_directories(old: &[Directory], new: &[Directory], changes: &mut Bounded<DirectoryTransition>) {
    let state = |list: &[Directory], id| list.iter().find(|d| d.id == id).map(|d| d.state);
    let added = new.iter().filter(|d| state(old, d.id).is_none());
    for directory in old.iter().chain(added) {
        let id = directory.id;
        let (before, after) = (state(old, id), state(new, id));
        if before != after {
            changes.push_with(|| DirectoryTransition { id, before, after });
        }
    }
}
