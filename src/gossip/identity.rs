//! A process in the eyes of the gossip.

use rookery_raft::ids::{IncarnationId, NodeId};
use std::net::SocketAddr;

/// Milliseconds since 1970 stay below this; a forged generation above it could never be beaten, and is not believed.
pub(super) const GENERATION_MAX: u64 = 1 << 62;

/// One start of one node's process, and where it listens for gossip.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct GossipIdentity {
    /// Its `node.id`: at most one identity per node id is believed.
    pub node_id: NodeId,
    /// Orders the identities of one node id: the starter passes a number that grows from start to start (milliseconds since
    /// 1970 will do: a clock set back is noticed and corrected by one message); each rejoin after a false conviction adds one.
    pub generation: u64,
    /// This start of its process, the same through all rejoins.
    pub incarnation: IncarnationId,
    /// Where it receives datagrams, as others reach it.
    pub address: SocketAddr,
}

impl GossipIdentity {
    /// How to address a node of which only the seed list is known.
    pub(super) fn unknown(node_id: NodeId, address: SocketAddr) -> Self {
        Self { node_id, generation: 0, incarnation: IncarnationId::NONE, address }
    }

    /// Whether this one is believed when both are heard of. Total for one node id.
    pub(super) fn beats(&self, other: &Self) -> bool {
        (self.generation, self.incarnation, self.address) > (other.generation, other.incarnation, other.address)
    }
}

impl foca::Identity for GossipIdentity {
    // One slot per node id: a node that restarts, also elsewhere, replaces itself.
    type Addr = NodeId;

    fn renew(&self) -> Option<Self> {
        Some(Self { generation: self.generation.checked_add(1)?, ..*self })
    }

    fn addr(&self) -> NodeId {
        self.node_id
    }

    fn win_addr_conflict(&self, adversary: &Self) -> bool {
        self.beats(adversary)
    }
}
