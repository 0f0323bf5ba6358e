//! What openraft is told about us: its type parameters, and short names for the types they produce.
//!
//! Nothing of this leaves the room except [`QuorumNode`]. The runtime is a parameter from the first line on, so that a
//! deterministic one can drive the same code.
//!
//! `leader_id_std` allows one leader in a term (openraft's default allows several): the term is the
//! controller epoch, and a committed leader is named by its term alone.

use crate::ids::QuorumNodeId;
use bytes::Bytes;
use openraft::impls::{InlineBatch, OneshotResponder};
use openraft::vote::leader_id_std;
use openraft::{AsyncRuntime, EntryPayload, RaftTypeConfig};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::cmp::Ordering;
use std::fmt;
use std::marker::PhantomData;

pub use openraft_rt_tokio::TokioRuntime;

/// How to reach a voter.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Default, Serialize, Deserialize)]
pub struct QuorumNode {
    /// Its peer address, `host:port`.
    pub address: String,
}

/// The encoded metadata records of one decision: the payload of one entry.
#[derive(Clone, PartialEq, Eq, Default)]
pub(crate) struct Decision(pub(crate) Bytes);

impl fmt::Display for Decision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes of records", self.0.len())
    }
}
impl fmt::Debug for Decision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
// openraft asks every payload for serde; what is written and sent goes through `codec` instead.
impl Serialize for Decision {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0)
    }
}
impl<'de> Deserialize<'de> for Decision {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Decision(Vec::<u8>::deserialize(deserializer)?.into()))
    }
}

/// openraft's type parameters over the runtime `Rt`.
pub(crate) struct TypeConfig<Rt>(PhantomData<fn() -> Rt>);

// Derives would ask `Rt` for these traits, which no runtime has.
impl<Rt> Clone for TypeConfig<Rt> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<Rt> Copy for TypeConfig<Rt> {}
impl<Rt> Default for TypeConfig<Rt> {
    fn default() -> Self {
        Self(PhantomData)
    }
}
impl<Rt> fmt::Debug for TypeConfig<Rt> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TypeConfig")
    }
}
impl<Rt> PartialEq for TypeConfig<Rt> {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}
impl<Rt> Eq for TypeConfig<Rt> {}
impl<Rt> PartialOrd for TypeConfig<Rt> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
impl<Rt> Ord for TypeConfig<Rt> {
    fn cmp(&self, _: &Self) -> Ordering {
        Ordering::Equal
    }
}

impl<Rt: AsyncRuntime> RaftTypeConfig for TypeConfig<Rt> {
    type D = Decision;
    type R = ();
    type NodeId = QuorumNodeId;
    type Node = QuorumNode;
    type Term = u64;
    type LeaderId = leader_id_std::LeaderId<u64, QuorumNodeId>;
    type Vote = VoteValue;
    type Payload = EntryPayload<Decision, QuorumNodeId, QuorumNode>;
    type Entry = LogEntry;
    type AsyncRuntime = Rt;
    type Responder<T>
        = OneshotResponder<Self, T>
    where
        T: openraft::OptionalSend + 'static;
    type Batch<T>
        = InlineBatch<T>
    where
        T: openraft::OptionalSend + 'static;
    type ErrorSource = openraft::AnyError;
}

pub(crate) type CommittedLeader = leader_id_std::CommittedLeaderId<u64>;
pub(crate) type LogIndexId = openraft::LogId<CommittedLeader>;
pub(crate) type VoteValue = openraft::Vote<leader_id_std::LeaderId<u64, QuorumNodeId>>;
pub(crate) type LogEntry = openraft::Entry<CommittedLeader, EntryPayload<Decision, QuorumNodeId, QuorumNode>>;
pub(crate) type MembershipConfig = openraft::Membership<QuorumNodeId, QuorumNode>;
pub(crate) type StoredMembershipConfig = openraft::StoredMembership<CommittedLeader, QuorumNodeId, QuorumNode>;
