//! A partition's state as the log carries it.

use super::codec::{Decoder, Encoder, RecordError};
use crate::ids::{DirectoryId, LeaderEpoch, NodeId, PartitionEpoch, TopicId};
use serde::{Deserialize, Serialize};
use smallvec::SmallVec;

/// Node ids of replicas, in a meaningful order; up to four without allocation.
pub type ReplicaList = SmallVec<[NodeId; 4]>;
/// Directory ids, one for each replica, in the order of the replicas.
pub type DirectoryList = SmallVec<[DirectoryId; 3]>;

/// Everything the cluster agreed on about one partition (KIP-631, KIP-858, KIP-966).
///
/// Holds between any two entries: `isr ⊆ replicas`, `elr ⊆ replicas`, `isr ∩ elr = ∅`, the leader is in `isr` or is
/// [`NodeId::NONE`], `directories` is as long as `replicas`, and both epochs only grow.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartitionRegistration {
    /// The assigned brokers; the first is the preferred leader.
    pub replicas: ReplicaList,
    /// The data directory of each replica.
    pub directories: DirectoryList,
    /// In-sync replicas: each holds everything committed, and the high watermark waits for each.
    pub isr: ReplicaList,
    /// Eligible leader replicas: out of the ISR, yet holding everything committed (KIP-966).
    pub elr: ReplicaList,
    /// Members that left ISR and ELR because they lost data: the best guess of an unclean election.
    pub last_known_elr: ReplicaList,
    /// Whether the leader was elected uncleanly and has not recovered yet (KIP-704).
    pub recovery_state: LeaderRecoveryState,
    /// The leader, or [`NodeId::NONE`].
    pub leader: NodeId,
    /// Counts leaders; grows whenever who leads, or which life of it, changes.
    pub leader_epoch: LeaderEpoch,
    /// Counts changes of this registration.
    pub partition_epoch: PartitionEpoch,
    /// Replicas a running reassignment adds.
    pub adding: ReplicaList,
    /// Replicas a running reassignment removes.
    pub removing: ReplicaList,
}

/// Kafka's `LeaderRecoveryState` (KIP-704).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[repr(u8)]
pub enum LeaderRecoveryState {
    /// The normal state.
    #[default]
    Recovered = 0,
    /// Elected uncleanly; the leader has to repair what the election broke before the ISR may grow.
    Recovering = 1,
}

impl LeaderRecoveryState {
    /// The state with this wire id.
    pub fn from_id(id: u8) -> Option<Self> {
        match id {
            0 => Some(Self::Recovered),
            1 => Some(Self::Recovering),
            _ => None,
        }
    }
}

impl PartitionRegistration {
    /// Whether the partition has a leader.
    pub fn has_leader(&self) -> bool {
        self.leader != NodeId::NONE
    }
    /// The directory recorded for a replica, if the broker is one.
    pub fn directory_of(&self, replica: NodeId) -> Option<DirectoryId> {
        let at = self.replicas.iter().position(|r| *r == replica)?;
        self.directories.get(at).copied()
    }
    /// Whether the preferred leader leads.
    pub fn has_preferred_leader(&self) -> bool {
        self.replicas.first() == Some(&self.leader)
    }
    /// What holds between any two entries; the first thing that does not, in words.
    pub fn broken_invariant(&self) -> Option<&'static str> {
        let subset = |part: &ReplicaList| part.iter().all(|r| self.replicas.contains(r));
        let distinct = |list: &ReplicaList| list.iter().enumerate().all(|(i, r)| !list[..i].contains(r));
        if self.replicas.is_empty() {
            return Some("a partition has no replicas");
        }
        if self.directories.len() != self.replicas.len() {
            return Some("directories and replicas differ in length");
        }
        if !distinct(&self.replicas) || !distinct(&self.isr) || !distinct(&self.elr) {
            return Some("a replica is listed twice");
        }
        if !subset(&self.isr) || !subset(&self.elr) {
            return Some("ISR or ELR holds a broker that is no replica");
        }
        if self.isr.iter().any(|r| self.elr.contains(r)) {
            return Some("a replica is in ISR and ELR");
        }
        if self.has_leader() && !self.isr.contains(&self.leader) {
            return Some("the leader is outside the ISR");
        }
        if self.leader_epoch.0 < 0 || self.partition_epoch.0 < 0 {
            return Some("an epoch is negative");
        }
        None
    }

    pub(crate) fn encode(&self, out: &mut Encoder) {
        encode_nodes(out, &self.replicas);
        encode_directories(out, &self.directories);
        encode_nodes(out, &self.isr);
        encode_nodes(out, &self.elr);
        encode_nodes(out, &self.last_known_elr);
        out.u8(self.recovery_state as u8);
        out.i32(self.leader.0);
        out.i32(self.leader_epoch.0);
        out.i32(self.partition_epoch.0);
        encode_nodes(out, &self.adding);
        encode_nodes(out, &self.removing);
    }

    pub(crate) fn decode(input: &mut Decoder<'_>) -> Result<Self, RecordError> {
        Ok(Self {
            replicas: decode_nodes(input)?,
            directories: decode_directories(input)?,
            isr: decode_nodes(input)?,
            elr: decode_nodes(input)?,
            last_known_elr: decode_nodes(input)?,
            recovery_state: input.known("recovery state", LeaderRecoveryState::from_id)?,
            leader: NodeId(input.i32()?),
            leader_epoch: LeaderEpoch(input.i32()?),
            partition_epoch: PartitionEpoch(input.i32()?),
            adding: decode_nodes(input)?,
            removing: decode_nodes(input)?,
        })
    }
}

/// What of a partition changed; `None` means "as before".
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartitionChange {
    /// Its topic.
    pub topic_id: TopicId,
    /// Its number.
    pub partition: i32,
    /// The partition epoch after this change: exactly one above the one before.
    pub partition_epoch: PartitionEpoch,
    /// New leader, or [`NodeId::NONE`] for none. Always together with a new `leader_epoch`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub leader: Option<NodeId>,
    /// New leader epoch; may stand alone (the same leader in a new life).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub leader_epoch: Option<LeaderEpoch>,
    /// New ISR.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub isr: Option<ReplicaList>,
    /// New ELR.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub elr: Option<ReplicaList>,
    /// New last known ELR.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_known_elr: Option<ReplicaList>,
    /// New recovery state.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recovery_state: Option<LeaderRecoveryState>,
    /// New assignment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replicas: Option<ReplicaList>,
    /// New directories, one for each replica.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub directories: Option<DirectoryList>,
    /// New adding replicas.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub adding: Option<ReplicaList>,
    /// New removing replicas.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub removing: Option<ReplicaList>,
}

/// Every flag bit version 0 of `PartitionChange` knows.
const KNOWN_FLAGS: u64 = (1 << 10) - 1;

impl PartitionChange {
    /// A change that changes nothing yet but the partition epoch.
    pub fn new(topic_id: TopicId, partition: i32, partition_epoch: PartitionEpoch) -> Self {
        Self {
            topic_id,
            partition,
            partition_epoch,
            leader: None,
            leader_epoch: None,
            isr: None,
            elr: None,
            last_known_elr: None,
            recovery_state: None,
            replicas: None,
            directories: None,
            adding: None,
            removing: None,
        }
    }

    /// The registration after this change.
    pub fn applied_to(&self, old: &PartitionRegistration) -> PartitionRegistration {
        let mut new = old.clone();
        new.partition_epoch = self.partition_epoch;
        macro_rules! take {
            ($($field:ident),*) => { $( if let Some(value) = &self.$field { new.$field = value.clone(); } )* };
        }
        take!(leader, leader_epoch, isr, elr, last_known_elr, recovery_state, replicas, directories, adding, removing);
        new
    }

    pub(crate) fn encode(&self, out: &mut Encoder) {
        out.uuid(self.topic_id.0);
        out.i32(self.partition);
        out.i32(self.partition_epoch.0);
        let present = [
            self.leader.is_some(),
            self.leader_epoch.is_some(),
            self.isr.is_some(),
            self.elr.is_some(),
            self.last_known_elr.is_some(),
            self.recovery_state.is_some(),
            self.replicas.is_some(),
            self.directories.is_some(),
            self.adding.is_some(),
            self.removing.is_some(),
        ];
        out.u64(present.iter().enumerate().fold(0, |flags, (bit, set)| flags | (u64::from(*set) << bit)));
        if let Some(leader) = self.leader {
            out.i32(leader.0);
        }
        if let Some(epoch) = self.leader_epoch {
            out.i32(epoch.0);
        }
        for list in [&self.isr, &self.elr, &self.last_known_elr].into_iter().flatten() {
            encode_nodes(out, list);
        }
        if let Some(state) = self.recovery_state {
            out.u8(state as u8);
        }
        if let Some(replicas) = &self.replicas {
            encode_nodes(out, replicas);
        }
        if let Some(directories) = &self.directories {
            encode_directories(out, directories);
        }
        for list in [&self.adding, &self.removing].into_iter().flatten() {
            encode_nodes(out, list);
        }
    }

    pub(crate) fn decode(input: &mut Decoder<'_>) -> Result<Self, RecordError> {
        let mut change = Self::new(TopicId(input.uuid()?), input.i32()?, PartitionEpoch(input.i32()?));
        let flags = input.u64()?;
        if flags & !KNOWN_FLAGS != 0 {
            return Err(RecordError::UnknownValue { what: "partition change flags", value: flags });
        }
        let mut bit = 0;
        let mut next = || {
            bit += 1;
            flags & (1 << (bit - 1)) != 0
        };
        change.leader = next().then(|| input.i32().map(NodeId)).transpose()?;
        change.leader_epoch = next().then(|| input.i32().map(LeaderEpoch)).transpose()?;
        change.isr = next().then(|| decode_nodes(input)).transpose()?;
        change.elr = next().then(|| decode_nodes(input)).transpose()?;
        change.last_known_elr = next().then(|| decode_nodes(input)).transpose()?;
        change.recovery_state =
            next().then(|| input.known("recovery state", LeaderRecoveryState::from_id)).transpose()?;
        change.replicas = next().then(|| decode_nodes(input)).transpose()?;
        change.directories = next().then(|| decode_directories(input)).transpose()?;
        change.adding = next().then(|| decode_nodes(input)).transpose()?;
        change.removing = next().then(|| decode_nodes(input)).transpose()?;
        Ok(change)
    }
}

pub(crate) fn encode_nodes(out: &mut Encoder, nodes: &[NodeId]) {
    out.list(nodes, |out, node| out.i32(node.0));
}

pub(crate) fn decode_nodes(input: &mut Decoder<'_>) -> Result<ReplicaList, RecordError> {
    let count = input.count(1)?;
    (0..count).map(|_| input.i32().map(NodeId)).collect()
}

fn encode_directories(out: &mut Encoder, directories: &[DirectoryId]) {
    out.list(directories, |out, directory| out.uuid(directory.0));
}

fn decode_directories(input: &mut Decoder<'_>) -> Result<DirectoryList, RecordError> {
    let count = input.count(16)?;
    (0..count).map(|_| input.uuid().map(DirectoryId)).collect()
}
