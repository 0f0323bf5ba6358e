//! The event log of the cluster: what happened lately, who decided it, when, and why.
//!
//! It is made while the log is replayed ([`crate::delta`]): the [`Provenance`] before the records of a decision becomes, with what
//! those records changed, a handful of [`Event`]s. So every node has the same log, it survives restarts as the image does, and no store is
//! needed for it. How records become events is part of replaying them: another way needs another `metadata.version`.
//!
//! **Information only.** Nobody who decides anything may read it: it forgets (the oldest of [`EventsImage::KEPT`] goes first), and its
//! times are wall clocks of different nodes.
//!
//! Events hold typed data; words are made by whoever shows them. Every list is bounded ([`Bounded`]), every text cut ([`TEXT_BYTES_MAX`]), and
//! secrets are never taken in ([`ConfigTransition`]).

mod codec;

use crate::ids::{
    BrokerEpoch, ClusterId, DirectoryId, IncarnationId, LeaderEpoch, MetadataOffset, NodeId, TopicId, TopicName,
};
use crate::record::{
    ConfigResource, DirectoryState, Finding, Observation, PartitionRegistration, Provenance, ReplicaList,
};
use rpds::RedBlackTreeMapSync;
use std::ops::{Bound, RangeBounds};
use std::sync::Arc;

/// So many things of one kind are listed in one event; the rest is counted.
pub const LISTED_MAX: usize = 16;
/// No text in an event is longer.
pub const TEXT_BYTES_MAX: usize = 256;

/// The last events, oldest first, numbered without gaps.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EventsImage {
    events: RedBlackTreeMapSync<u64, Arc<Event>>,
}

impl EventsImage {
    /// So many events are kept.
    pub const KEPT: usize = 4096;

    /// The number the next event gets; the first ever has 0.
    pub fn next_number(&self) -> u64 {
        self.events.last().map_or(0, |(number, _)| number + 1)
    }
    /// Events with their numbers, oldest first; from either end.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = (u64, &Arc<Event>)> {
        self.events.iter().map(|(number, event)| (*number, event))
    }
    /// Events of these numbers.
    pub fn range(&self, numbers: impl RangeBounds<u64>) -> impl DoubleEndedIterator<Item = (u64, &Arc<Event>)> {
        let owned = |bound: Bound<&u64>| bound.cloned();
        let numbers = (owned(numbers.start_bound()), owned(numbers.end_bound()));
        self.events.range(numbers).map(|(number, event)| (*number, event))
    }
    /// How many there are.
    pub fn len(&self) -> usize {
        self.events.size()
    }
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.events.is_empty()
    }

    pub(crate) fn push(&mut self, event: Event) {
        self.events.insert_mut(self.next_number(), Arc::new(event));
        while self.len() > Self::KEPT {
            let Some(oldest) = self.events.first().map(|(number, _)| *number) else { break };
            self.events.remove_mut(&oldest);
        }
    }

    /// From a snapshot: `false` if it does not follow the one before.
    pub(crate) fn restore(&mut self, number: u64, event: Event) -> bool {
        let follows = self.is_empty() || number == self.next_number();
        if follows && number < u64::MAX {
            self.events.insert_mut(number, Arc::new(event));
        }
        follows && number < u64::MAX
    }
}

/// One thing that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// The entry of the metadata log that says so.
    pub offset: MetadataOffset,
    /// Who decided, when, and why.
    pub provenance: Provenance,
    /// What happened.
    pub what: Happening,
}

/// The first few of a list, and how many more there were.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bounded<T> {
    /// At most [`LISTED_MAX`].
    pub listed: Vec<T>,
    /// How many were left out.
    pub more: u32,
}

impl<T> Default for Bounded<T> {
    fn default() -> Self {
        Self { listed: Vec::new(), more: 0 }
    }
}

impl<T> Bounded<T> {
    /// How many there are in all.
    pub fn total(&self) -> usize {
        self.listed.len() + self.more as usize
    }
    pub(crate) fn is_empty(&self) -> bool {
        self.listed.is_empty()
    }
    /// Made only if it is listed.
    pub(crate) fn push_with(&mut self, make: impl FnOnce() -> T) {
        if self.listed.len() < LISTED_MAX {
            self.listed.push(make());
        } else {
            self.more = self.more.saturating_add(1);
        }
    }
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Happening {
    /// The cluster was formed.
    ClusterFormed {
        /// Its id.
        cluster_id: ClusterId,
        /// Its first voters.
        voters: Bounded<NodeId>,
    },
    /// A process registered as the broker; it is fenced until it has caught up.
    BrokerRegistered {
        /// Which broker.
        id: NodeId,
        /// Its new epoch.
        epoch: BrokerEpoch,
        /// Which start of its process.
        incarnation: IncarnationId,
        /// How its data directories differ from those it had, and those that are not in order.
        directories: Bounded<DirectoryTransition>,
    },
    /// The broker was fenced.
    BrokerFenced {
        /// Which broker.
        id: NodeId,
        /// Its epoch.
        epoch: BrokerEpoch,
    },
    /// The broker serves.
    BrokerUnfenced {
        /// Which broker.
        id: NodeId,
        /// Its epoch.
        epoch: BrokerEpoch,
    },
    /// The broker leaves in order.
    BrokerShuttingDown {
        /// Which broker.
        id: NodeId,
        /// Its epoch.
        epoch: BrokerEpoch,
    },
    /// The broker is forgotten.
    BrokerUnregistered {
        /// Which broker.
        id: NodeId,
        /// Its epoch.
        epoch: BrokerEpoch,
    },
    /// Data directories of the broker changed.
    DirectoriesChanged {
        /// Which broker.
        id: NodeId,
        /// Its epoch.
        epoch: BrokerEpoch,
        /// Which, and how.
        directories: Bounded<DirectoryTransition>,
    },
    /// Partitions changed, all in one way.
    PartitionsChanged {
        /// In which.
        change: PartitionChangeKind,
        /// Which, from what and to what.
        partitions: Bounded<PartitionTransition>,
    },
    /// Topics were created.
    TopicsCreated(Bounded<TopicSize>),
    /// Topics got more partitions.
    PartitionsAdded(Bounded<TopicSize>),
    /// Topics were deleted.
    TopicsDeleted(Bounded<TopicName>),
    /// Dynamic configs changed.
    ConfigsChanged(Bounded<ConfigTransition>),
    /// A feature level changed.
    FeatureChanged {
        /// Which.
        name: String,
        /// To what; 0: no longer in force.
        level: i16,
    },
    /// Access rules, quotas or credentials changed. Whose and what is not told here.
    SecurityChanged {
        /// So many access rules.
        rules: u32,
        /// So many quotas.
        quotas: u32,
        /// So many credentials.
        credentials: u32,
    },
    /// Soft evidence: nothing was decided by it alone.
    Observed(Observation),
}

/// A data directory, before and after.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DirectoryTransition {
    /// Which.
    pub id: DirectoryId,
    /// `None`: the broker did not have it.
    pub before: Option<DirectoryState>,
    /// `None`: it is gone, a wiped disk for instance.
    pub after: Option<DirectoryState>,
}

/// In which way a partition changed; the gravest that applies, so that each change is told once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum PartitionChangeKind {
    /// A replica leads that was neither in ISR nor in ELR: committed records may be lost.
    UncleanLeader = 1,
    /// Nobody leads any more.
    LeaderLost = 2,
    /// Another leads, or somebody again.
    LeaderElected = 3,
    /// The same broker leads in a new epoch: in another life, or on a store opened again.
    LeaderRenewed = 4,
    /// Replicas left the ISR.
    IsrShrunk = 5,
    /// Replicas joined the ISR.
    IsrGrown = 6,
    /// The leader has recovered from an unclean election.
    LeaderRecovered = 7,
    /// Who is eligible outside the ISR changed, and nothing else.
    EligibleChanged = 8,
    /// Where its replicas are changed.
    AssignmentChanged = 9,
}

impl PartitionChangeKind {
    /// All of them, the gravest first.
    pub const ALL: [Self; 9] = [
        Self::UncleanLeader,
        Self::LeaderLost,
        Self::LeaderElected,
        Self::LeaderRenewed,
        Self::IsrShrunk,
        Self::IsrGrown,
        Self::LeaderRecovered,
        Self::EligibleChanged,
        Self::AssignmentChanged,
    ];

    fn from_id(id: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| *kind as u8 == id)
    }

    fn name(self) -> &'static str {
        match self {
            Self::UncleanLeader => "unclean_leader_elected",
            Self::LeaderLost => "leader_lost",
            Self::LeaderElected => "leader_elected",
            Self::LeaderRenewed => "leader_renewed",
            Self::IsrShrunk => "isr_shrunk",
            Self::IsrGrown => "isr_grown",
            Self::LeaderRecovered => "leader_recovered",
            Self::EligibleChanged => "eligible_changed",
            Self::AssignmentChanged => "assignment_changed",
        }
    }

    pub(crate) fn of(before: &PartitionRegistration, after: &PartitionRegistration) -> Self {
        use crate::record::LeaderRecoveryState::{Recovered, Recovering};
        let recovery = (before.recovery_state, after.recovery_state);
        let other_leader = after.leader != before.leader;
        let new_epoch = after.leader_epoch != before.leader_epoch;
        if after.has_leader() && new_epoch {
            let was_clean = before.isr.contains(&after.leader) || before.elr.contains(&after.leader);
            // A second unclean election leaves the state as it was.
            if after.recovery_state == Recovering && (before.recovery_state == Recovered || !was_clean) {
                return Self::UncleanLeader;
            }
        }
        let left = before.isr.iter().any(|replica| !after.isr.contains(replica));
        match () {
            () if other_leader && !after.has_leader() => Self::LeaderLost,
            () if other_leader => Self::LeaderElected,
            () if new_epoch && after.has_leader() => Self::LeaderRenewed,
            () if left => Self::IsrShrunk,
            () if after.isr.len() > before.isr.len() => Self::IsrGrown,
            () if recovery == (Recovering, Recovered) => Self::LeaderRecovered,
            () if after.elr != before.elr || after.last_known_elr != before.last_known_elr => Self::EligibleChanged,
            () => Self::AssignmentChanged,
        }
    }
}

/// A partition, before and after.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionTransition {
    /// Its topic.
    pub topic: TopicName,
    /// Its number.
    pub partition: i32,
    /// The leader before, or [`NodeId::NONE`].
    pub leader_before: NodeId,
    /// The leader after, or [`NodeId::NONE`].
    pub leader: NodeId,
    /// The leader epoch after.
    pub leader_epoch: LeaderEpoch,
    /// The ISR before.
    pub isr_before: ReplicaList,
    /// The ISR after.
    pub isr: ReplicaList,
    /// The ELR after.
    pub elr: ReplicaList,
}

/// A topic and a number of partitions: those it was created with, or got in addition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicSize {
    /// Its name.
    pub topic: TopicName,
    /// Its id.
    pub id: TopicId,
    /// How many partitions.
    pub partitions: u32,
}

/// A config that was set or deleted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigTransition {
    /// Of what.
    pub resource: ConfigResource,
    /// Kafka's name.
    pub name: String,
    /// The value before.
    pub before: ConfigValue,
    /// The value after.
    pub after: ConfigValue,
}

/// What is told of a config's value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConfigValue {
    /// Not set: the default counts.
    Default,
    /// Set; cut to [`TEXT_BYTES_MAX`].
    Set(String),
    /// Set to something that is nobody's business: its name says so (password, secret, …).
    Hidden,
}

impl ConfigValue {
    pub(crate) fn of(name: &str, value: Option<&str>) -> Self {
        // A rule about names, not a look into this build's table of configs: all builds must replay to the same.
        const SECRETS: [&str; 6] = ["password", "secret", "jaas", "credential", "token", "keystore.key"];
        match value {
            None => Self::Default,
            Some(_) if SECRETS.iter().any(|word| name.contains(word)) => Self::Hidden,
            Some(value) => Self::Set(cut(value)),
        }
    }
}

/// As much of a text as an event holds.
pub(crate) fn cut(text: &str) -> String {
    text[..text.floor_char_boundary(TEXT_BYTES_MAX)].to_owned()
}

/// Every kind there can be ([`Happening::kind`]).
pub fn kinds() -> impl Iterator<Item = &'static str> {
    let plain = [
        "cluster_formed",
        "broker_registered",
        "broker_fenced",
        "broker_unfenced",
        "broker_shutting_down",
        "broker_unregistered",
        "directories_changed",
        "topics_created",
        "partitions_added",
        "topics_deleted",
        "configs_changed",
        "feature_changed",
        "security_changed",
    ];
    let of_partitions = PartitionChangeKind::ALL.into_iter().map(PartitionChangeKind::name);
    plain.into_iter().chain(of_partitions).chain(Finding::ALL.into_iter().map(Finding::name))
}

impl Happening {
    /// What it is, for filters and programs: one of [`kinds`].
    pub fn kind(&self) -> &'static str {
        match self {
            Self::ClusterFormed { .. } => "cluster_formed",
            Self::BrokerRegistered { .. } => "broker_registered",
            Self::BrokerFenced { .. } => "broker_fenced",
            Self::BrokerUnfenced { .. } => "broker_unfenced",
            Self::BrokerShuttingDown { .. } => "broker_shutting_down",
            Self::BrokerUnregistered { .. } => "broker_unregistered",
            Self::DirectoriesChanged { .. } => "directories_changed",
            Self::PartitionsChanged { change, .. } => change.name(),
            Self::TopicsCreated(_) => "topics_created",
            Self::PartitionsAdded(_) => "partitions_added",
            Self::TopicsDeleted(_) => "topics_deleted",
            Self::ConfigsChanged(_) => "configs_changed",
            Self::FeatureChanged { .. } => "feature_changed",
            Self::SecurityChanged { .. } => "security_changed",
            Self::Observed(observation) => observation.finding.name(),
        }
    }

    /// The broker it is about, if it is about one.
    pub fn broker(&self) -> Option<NodeId> {
        match self {
            Self::BrokerRegistered { id, .. }
            | Self::BrokerFenced { id, .. }
            | Self::BrokerUnfenced { id, .. }
            | Self::BrokerShuttingDown { id, .. }
            | Self::BrokerUnregistered { id, .. }
            | Self::DirectoriesChanged { id, .. } => Some(*id),
            Self::Observed(observation) => Some(observation.broker),
            _ => None,
        }
    }

    /// What it did to a partition, if it is among those listed.
    pub fn partition(&self, topic: &str, partition: i32) -> Option<(PartitionChangeKind, &PartitionTransition)> {
        let Self::PartitionsChanged { change, partitions } = self else { return None };
        let found = partitions.listed.iter().find(|p| p.partition == partition && *p.topic == *topic);
        found.map(|transition| (*change, transition))
    }

    /// Whether it is, as far as its lists go, about that topic.
    pub fn concerns_topic(&self, topic: &str) -> bool {
        match self {
            Self::PartitionsChanged { partitions, .. } => partitions.listed.iter().any(|p| *p.topic == *topic),
            Self::TopicsCreated(topics) | Self::PartitionsAdded(topics) => {
                topics.listed.iter().any(|t| *t.topic == *topic)
            }
            Self::TopicsDeleted(topics) => topics.listed.iter().any(|t| **t == *topic),
            Self::ConfigsChanged(configs) => configs.listed.iter().any(|c| c.resource == ConfigResource::topic(topic)),
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests;
