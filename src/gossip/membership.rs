//! What the gossip publishes.

use rookery_raft::ids::{IncarnationId, NodeId};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Instant;

/// What the gossip thinks of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Liveness {
    /// It answers.
    Alive,
    /// Somebody's probes of it went unanswered; it has not refuted yet.
    Suspect,
    /// It did not refute in time, or has left.
    Down,
    /// It said that it is about to leave, and still answers.
    Leaving,
}

impl Liveness {
    /// All of them.
    pub const ALL: [Liveness; 4] = [Liveness::Alive, Liveness::Suspect, Liveness::Down, Liveness::Leaving];

    /// Its name in logs, metrics and the admin API.
    pub fn as_str(self) -> &'static str {
        match self {
            Liveness::Alive => "alive",
            Liveness::Suspect => "suspect",
            Liveness::Down => "down",
            Liveness::Leaving => "leaving",
        }
    }

    /// Bad news, which the guards may hold back.
    pub fn is_accusation(self) -> bool {
        matches!(self, Liveness::Suspect | Liveness::Down)
    }
}

/// One other node, as published.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemberStatus {
    /// What is thought of it.
    pub liveness: Liveness,
    /// Of which start of its process.
    pub incarnation: IncarnationId,
    /// Where it gossips.
    pub address: SocketAddr,
    /// Since when, on this node's monotonic clock.
    pub since: Instant,
}

/// What this node thinks of the others, at one moment. Itself is not in it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MembershipView {
    /// By node id, in order.
    pub members: BTreeMap<NodeId, MemberStatus>,
    /// This node knows others and has heard nobody for more than two probe periods: what it thinks of them is worth nothing.
    pub lonely: bool,
    /// How far this node distrusts itself: 0 = well; its accusations are held back while above.
    pub distrust: u8,
}

/// A node's liveness has changed. Evidence, to be verified by who decides; held against the registration by its incarnation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GossipEvent {
    /// Whose.
    pub node_id: NodeId,
    /// Of which start of its process.
    pub incarnation: IncarnationId,
    /// What it is now.
    pub liveness: Liveness,
    /// When it was published, on this node's monotonic clock.
    pub at: Instant,
}
