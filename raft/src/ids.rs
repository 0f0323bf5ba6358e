//! Identities and epochs, named once for the whole house.
//!
//! Every number that crosses a room has a type of its own, so that a broker epoch can never be handed
//! in where a leader epoch is meant.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::sync::Arc;
use uuid::Uuid;

macro_rules! number {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self.0)
            }
        }
        impl From<$inner> for $name {
            fn from(value: $inner) -> Self {
                Self(value)
            }
        }
    };
}

number! {
    /// Kafka's `node.id`: never negative for a node that exists.
    NodeId(i32)
}
number! {
    /// The metadata log index of the broker's registration: higher means later.
    BrokerEpoch(i64)
}
number! {
    /// Counts the leaders of one partition; the first is 0.
    LeaderEpoch(i32)
}
number! {
    /// Counts every change of one partition's registration (KIP-704).
    PartitionEpoch(i32)
}
number! {
    /// Position in the metadata log; the first entry has index 0. Kafka calls it the metadata offset.
    MetadataOffset(i64)
}

impl NodeId {
    /// What the wire says for "no node", for instance a partition without leader.
    pub const NONE: NodeId = NodeId(-1);
}
impl BrokerEpoch {
    /// "Not told": a request of an old version that carries no broker epoch.
    pub const UNKNOWN: BrokerEpoch = BrokerEpoch(-1);
}
impl LeaderEpoch {
    /// "Not known" on the wire (KIP-320).
    pub const NONE: LeaderEpoch = LeaderEpoch(-1);

    /// The epoch of the next leader.
    #[must_use]
    pub fn next(self) -> LeaderEpoch {
        LeaderEpoch(self.0 + 1)
    }
}
impl PartitionEpoch {
    /// The epoch after the next change.
    #[must_use]
    pub fn next(self) -> PartitionEpoch {
        PartitionEpoch(self.0 + 1)
    }
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        ///
        /// Printed as Kafka prints a UUID: URL-safe base64 without padding, 22 characters.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub Uuid);

        impl $name {
            /// A fresh random id; never one whose text begins with a dash (it would read as a flag).
            pub fn random() -> Self {
                loop {
                    let id = Self(Uuid::new_v4());
                    if !id.to_string().starts_with('-') {
                        return id;
                    }
                }
            }
            /// The all-zero id, which the wire uses for "none".
            pub const NONE: Self = Self(Uuid::nil());
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write_base64(self.0, f)
            }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self)
            }
        }
        impl std::str::FromStr for $name {
            type Err = InvalidId;
            fn from_str(text: &str) -> Result<Self, InvalidId> {
                parse_base64(text).map(Self).ok_or_else(|| InvalidId(text.to_owned()))
            }
        }
    };
}

id! {
    /// One formation of a cluster: chosen once, before the first vote.
    ClusterId
}
id! {
    /// One topic for its whole life: a topic deleted and made again is another (KIP-516).
    TopicId
}
id! {
    /// One data directory; a wiped disk gets a new one (KIP-858).
    DirectoryId
}
id! {
    /// One start of a broker's process.
    IncarnationId
}

impl DirectoryId {
    /// Stands for the directory of a replica whose broker has given its log up: it is in none until it has begun another (KIP-858).
    pub const LOST: Self = Self(Uuid::from_u128(1));
}

/// Text that is not 22 characters of URL-safe base64.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not an id: expected 22 characters of URL-safe base64 (16 bytes)")]
pub struct InvalidId(String);

/// A voter's identity in Raft (KRaft's ReplicaKey): a wiped disk is a new voter, never the old one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct QuorumNodeId {
    /// Whose.
    pub node_id: NodeId,
    /// On which disk.
    pub directory_id: DirectoryId,
}

impl fmt::Display for QuorumNodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.node_id, self.directory_id)
    }
}
impl fmt::Debug for QuorumNodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A topic's name, shared: cloning one costs a reference count.
pub type TopicName = Arc<str>;

/// One partition by its topic's id; what the house uses inside.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct TopicIdPartition {
    /// The topic.
    pub topic_id: TopicId,
    /// Its partition, from 0.
    pub partition: i32,
}

impl fmt::Display for TopicIdPartition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.topic_id, self.partition)
    }
}
impl fmt::Debug for TopicIdPartition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// One partition by its topic's name; what clients and people use.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct TopicPartition {
    /// The topic.
    pub topic: TopicName,
    /// Its partition, from 0.
    pub partition: i32,
}

impl fmt::Display for TopicPartition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.topic, self.partition)
    }
}

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

fn write_base64(id: Uuid, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let mut text = [0u8; 22];
    let bits = id.as_u128();
    for (i, c) in text.iter_mut().enumerate() {
        // 22 × 6 = 132 bits: the last character carries 2 bits of the id and 4 of padding.
        let six = if i == 21 { (bits << 4) & 63 } else { (bits >> (122 - 6 * i)) & 63 };
        *c = ALPHABET[six as usize];
    }
    f.pad(std::str::from_utf8(&text).expect("the alphabet is ASCII"))
}

fn parse_base64(text: &str) -> Option<Uuid> {
    if text.len() != 22 {
        return None;
    }
    let mut bits: u128 = 0;
    for (i, c) in text.bytes().enumerate() {
        let six = ALPHABET.iter().position(|a| *a == c)? as u128;
        if i == 21 {
            if six & 15 != 0 {
                return None;
            }
            bits = (bits << 2) | (six >> 4);
        } else {
            bits = (bits << 6) | six;
        }
    }
    Some(Uuid::from_u128(bits))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_print_as_kafka_prints_them() {
        // java: new Uuid(0x0123456789abcdefL, 0xfedcba9876543210L).toString()
        let id = TopicId(Uuid::from_u128(0x0123_4567_89ab_cdef_fedc_ba98_7654_3210));
        assert_eq!(id.to_string(), "ASNFZ4mrze_-3LqYdlQyEA");
        assert_eq!("ASNFZ4mrze_-3LqYdlQyEA".parse(), Ok(id));
    }

    #[test]
    fn an_id_survives_its_text() {
        for _ in 0..1000 {
            let id = DirectoryId::random();
            assert_eq!(id.to_string().parse(), Ok(id));
        }
    }

    #[test]
    fn text_that_is_no_id_is_refused() {
        for bad in ["", "x", "ASNFZ4mrze_-3LqYdlQyE", "ASNFZ4mrze_-3LqYdlQyEB", "ASNFZ4mrze/+3LqYdlQyEA"] {
            assert!(bad.parse::<TopicId>().is_err(), "{bad}");
        }
    }
}
