//! Metadata records: the facts in the Raft log, and their bytes.
//!
//! The log carries facts, never commands: a record says what *is* from now on (this broker holds that epoch, this
//! partition has that ISR), so that two versions of the code can never diverge on replay. One Raft entry is one
//! decision and holds all its records ([`encode_records`]).
//!
//! In: facts the active controller decided. Out: bytes for the log, and back. Never: a decision, a default, a clock.
//!
//! # Format
//!
//! ```text
//! entry  := format:u8 (1)  count:varint  frame*
//! frame  := length:varint  type:varint  version:varint  fields…
//! ```
//!
//! Integers are LEB128 varints (signed ones zigzag), ids 16 bytes, strings and lists length-prefixed. A type, a
//! version, an enum value, a flag or a trailing byte this build does not know is a [`RecordError`], and whoever
//! replays the log **stops**: skipping what one does not understand would diverge silently. What a record of some
//! version looks like never changes; a new field is a new version, written only once `metadata.version` allows it.

mod broker;
mod codec;
mod encoding;
mod observation;
mod partition;
mod provenance;
mod security;
mod version;

#[cfg(test)]
pub(crate) mod arbitrary;

pub use broker::{Address, Directory, DirectoryState, FeatureRange, Listener, RegisterBroker, SecurityProtocol};
pub use codec::RecordError;
pub(crate) use codec::{Decoder, Encoder};
pub use encoding::{MAX_ENTRY_BYTES, decode_records, encode_records};
pub use observation::{Finding, Observation};
pub use partition::{DirectoryList, LeaderRecoveryState, PartitionChange, PartitionRegistration, ReplicaList};
pub(crate) use partition::{decode_nodes, encode_nodes};
pub use provenance::{Cause, Conviction, DiskReport, Provenance};
pub use security::{
    AccessControlEntry, AclOperation, AclPermission, PatternType, QuotaEntity, ResourceType, ScramMechanism,
    UserScramCredential,
};
pub use version::{METADATA_VERSION_FEATURE, MetadataVersion};

use crate::ids::{BrokerEpoch, ClusterId, NodeId, QuorumNodeId, TopicId, TopicName};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// One fact of the metadata log.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum MetadataRecord {
    /// The cluster was formed: its id and first voters. The first record of every log, written once.
    Formation(Formation),
    /// A broker registered: it is fenced, under a new epoch. Replaces any earlier registration of that node.
    RegisterBroker(RegisterBroker),
    /// The broker leads nothing and is in no ISR until it is unfenced.
    FenceBroker {
        /// Which broker.
        id: NodeId,
        /// Its epoch; another epoch is another life.
        epoch: BrokerEpoch,
    },
    /// The broker may lead and join ISRs.
    UnfenceBroker {
        /// Which broker.
        id: NodeId,
        /// Its epoch.
        epoch: BrokerEpoch,
    },
    /// The broker began a controlled shutdown: no new leadership, no ISR to join.
    BrokerShuttingDown {
        /// Which broker.
        id: NodeId,
        /// Its epoch.
        epoch: BrokerEpoch,
    },
    /// The broker's directories are now these (a disk failed or came back).
    BrokerDirectories {
        /// Which broker.
        id: NodeId,
        /// Its epoch.
        epoch: BrokerEpoch,
        /// All its directories.
        directories: Vec<Directory>,
    },
    /// The broker is gone for good; its registration is forgotten.
    UnregisterBroker {
        /// Which broker.
        id: NodeId,
        /// Its epoch.
        epoch: BrokerEpoch,
    },
    /// A topic exists; its partitions follow in the same entry.
    Topic {
        /// Its name.
        name: TopicName,
        /// Its id.
        id: TopicId,
    },
    /// A partition exists. Partitions of a topic are numbered from 0 without gaps.
    Partition {
        /// Its topic.
        topic_id: TopicId,
        /// Its number.
        partition: i32,
        /// Its whole state.
        registration: PartitionRegistration,
    },
    /// Some of a partition's state changed.
    PartitionChange(PartitionChange),
    /// The topic, its partitions and its configs are gone.
    RemoveTopic {
        /// Which topic.
        topic_id: TopicId,
    },
    /// A dynamic config was set or deleted.
    Config {
        /// What it configures.
        resource: ConfigResource,
        /// Kafka's property name.
        name: String,
        /// The value, or `None`: back to the default.
        value: Option<String>,
    },
    /// Producer ids below this one are given out.
    ProducerIds {
        /// The first id of the next block.
        next: i64,
    },
    /// A client quota was set or deleted (KIP-546).
    ClientQuota {
        /// Whom it limits, sorted by type.
        entity: Vec<QuotaEntity>,
        /// Which quota, for instance `producer_byte_rate`.
        key: String,
        /// The limit, or `None`: none any more.
        value: Option<f64>,
    },
    /// An access rule exists.
    AccessControlEntry(AccessControlEntry),
    /// The access rule is gone.
    RemoveAccessControlEntry {
        /// Which rule.
        id: Uuid,
    },
    /// A user's SCRAM credential was set (KIP-554).
    UserScramCredential(UserScramCredential),
    /// A user's SCRAM credential is gone.
    RemoveUserScramCredential {
        /// Whose.
        user: String,
        /// Which.
        mechanism: ScramMechanism,
    },
    /// A feature is finalised at this level (KIP-584); level 0 removes it.
    FeatureLevel {
        /// For instance `metadata.version`.
        name: String,
        /// The level in force from this entry on.
        level: i16,
    },
    /// Who decided what the records after this one say, when, and why. Information only.
    Provenance(Provenance),
    /// Something the active controller saw. Information only.
    Observation(Observation),
}

/// How the cluster began.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Formation {
    /// Chosen once, before the first vote.
    pub cluster_id: ClusterId,
    /// The voters it was formed with.
    pub voters: Vec<QuorumNodeId>,
}

/// What a dynamic config belongs to. An empty name is the default of all (Kafka's `--entity-default`).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ConfigResource {
    /// Topic, broker, …
    pub kind: ConfigResourceType,
    /// Topic name, broker id in decimal, group name; empty for the cluster-wide default.
    pub name: String,
}

impl ConfigResource {
    /// A topic's configs.
    pub fn topic(name: impl Into<String>) -> Self {
        Self { kind: ConfigResourceType::Topic, name: name.into() }
    }
    /// One broker's configs.
    pub fn broker(id: NodeId) -> Self {
        Self { kind: ConfigResourceType::Broker, name: id.to_string() }
    }
    /// The configs every broker falls back to.
    pub fn cluster() -> Self {
        Self { kind: ConfigResourceType::Broker, name: String::new() }
    }
}

/// Kafka's config resource types that live in the metadata log, with Kafka's wire ids.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[repr(u8)]
pub enum ConfigResourceType {
    /// A topic.
    Topic = 2,
    /// A broker, or all of them.
    Broker = 4,
    /// A client metrics subscription (KIP-714).
    ClientMetrics = 16,
    /// A group (KIP-848).
    Group = 32,
}

impl ConfigResourceType {
    /// The type with this wire id.
    pub fn from_id(id: u8) -> Option<Self> {
        match id {
            2 => Some(Self::Topic),
            4 => Some(Self::Broker),
            16 => Some(Self::ClientMetrics),
            32 => Some(Self::Group),
            _ => None,
        }
    }
}

impl MetadataRecord {
    /// The lowest finalised `metadata.version` under which this record may be written.
    pub fn min_metadata_version(&self) -> MetadataVersion {
        MetadataVersion::V1
    }
}
