//! What can go wrong between two nodes.

use super::PeerIdentity;
use rookery_raft::ids::NodeId;
use std::io;
use std::sync::Arc;
use std::time::Duration;

/// Why a handshake was refused. Travels in the reply as its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[repr(u16)]
pub enum Refusal {
    /// The two version ranges do not meet.
    #[error("no common version of the inter-broker protocol")]
    Version = 1,
    /// Both ends are formed, into different clusters.
    #[error("it belongs to another cluster")]
    Cluster = 2,
    /// The node that listens there is not the one that was meant: another node id, or another directory (a wiped disk).
    #[error("another node or another directory answers there")]
    Target = 3,
    /// The dialling end carries the accepting node's id without being it: a node id used twice.
    #[error("the node id is used twice")]
    DuplicateNodeId = 4,
    /// The hello carries credentials, which this version does not accept.
    #[error("authentication is not supported")]
    Authentication = 5,
    /// The lane is not known to the accepting end.
    #[error("unknown lane")]
    Lane = 6,
    /// The accepting end has no room for another connection.
    #[error("too many connections")]
    Overloaded = 7,
    /// The accepting end is about to stop.
    #[error("shutting down")]
    ShuttingDown = 8,
    /// A reason this version does not know.
    #[error("refused for a reason unknown to this version")]
    Unknown = 0xffff,
}

impl Refusal {
    pub(super) fn from_wire(number: u16) -> Refusal {
        use Refusal::*;
        [Version, Cluster, Target, DuplicateNodeId, Authentication, Lane, Overloaded, ShuttingDown]
            .into_iter()
            .find(|refusal| *refusal as u16 == number)
            .unwrap_or(Unknown)
    }

    /// Whether the same attempt may succeed a little later without anybody changing a setting.
    pub fn is_transient(self) -> bool {
        matches!(self, Refusal::Overloaded | Refusal::ShuttingDown)
    }
}

/// A call to a peer that has no response.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PeerError {
    /// The address book has no entry for the node.
    #[error("no peer address is known for node {0}")]
    NoAddress(NodeId),
    /// TCP connect failed.
    #[error("cannot connect to node {node} at {address}: {kind}")]
    Connect {
        /// To whom.
        node: NodeId,
        /// Where, as the address book says it.
        address: Arc<str>,
        /// How; [`io::ErrorKind::ConnectionRefused`] means that nobody listens there.
        kind: io::ErrorKind,
    },
    /// The connection was made, the handshake did not finish.
    #[error("handshake with node {node} failed: {detail}")]
    Handshake {
        /// With whom.
        node: NodeId,
        /// What happened.
        detail: Arc<str>,
    },
    /// The other end refused us.
    #[error("node {node} refused the connection: {refusal}")]
    Refused {
        /// Who was meant.
        node: NodeId,
        /// Why.
        refusal: Refusal,
        /// Who really answered, for instance under which cluster id.
        answered: PeerIdentity,
    },
    /// A recent connect failed and the next one is not due yet; nothing was sent.
    #[error("waiting to reconnect after: {0}")]
    BackingOff(Box<PeerError>),
    /// The connection ended while the call was under way: its outcome is unknown.
    #[error("the connection to node {0} closed")]
    Closed(NodeId),
    /// No response in time: the outcome is unknown.
    #[error("no response from node {node} within {timeout:?}")]
    TimedOut {
        /// From whom.
        node: NodeId,
        /// The caller's limit.
        timeout: Duration,
    },
    /// A bound was met, here or at the other end; the service has not seen the request.
    #[error("too many calls in flight")]
    Overloaded,
    /// A body above the lane's bound; the service has not seen it, or its response cannot be sent.
    #[error("a frame of {size} bytes exceeds the lane's {limit}")]
    TooLarge {
        /// Its size in bytes.
        size: usize,
        /// The bound in bytes.
        limit: usize,
    },
    /// No service is registered at the other end for this kind on this lane.
    #[error("kind {0} is served by nobody on this lane")]
    UnknownKind(u16),
    /// This end or the other is stopping; the service has not seen the request.
    #[error("shutting down")]
    ShuttingDown,
    /// The service's own refusal: a number and a sentence, both its own.
    #[error("the service answered {code}: {message}")]
    Service {
        /// The service's number.
        code: u16,
        /// For people.
        message: Arc<str>,
    },
}

impl PeerError {
    /// Whether the same call may succeed later. For [`PeerError::is_outcome_unknown`] errors only the caller knows if repeating is safe.
    pub fn is_retriable(&self) -> bool {
        match self {
            PeerError::Refused { refusal, .. } => refusal.is_transient(),
            PeerError::BackingOff(cause) => cause.is_retriable(),
            PeerError::TooLarge { .. } | PeerError::UnknownKind(_) | PeerError::Service { .. } => false,
            PeerError::NoAddress(_)
            | PeerError::Connect { .. }
            | PeerError::Handshake { .. }
            | PeerError::Closed(_)
            | PeerError::TimedOut { .. }
            | PeerError::Overloaded
            | PeerError::ShuttingDown => true,
        }
    }

    /// Whether the service may have seen, and carried out, the request.
    pub fn is_outcome_unknown(&self) -> bool {
        matches!(self, PeerError::Closed(_) | PeerError::TimedOut { .. })
    }
}
