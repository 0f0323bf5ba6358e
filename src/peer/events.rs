//! Connections that opened and closed.

use super::{Lane, PeerIdentity};
use tokio::sync::broadcast;
use tokio::time::Instant;

/// Who made the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// The peer dialled us.
    Inbound,
    /// We dialled the peer.
    Outbound,
}

/// How a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClosedReason {
    /// The peer, or we, said so first: a planned end, no evidence of anything.
    Goodbye,
    /// The peer's kernel closed it without a word: its process is gone, or closed it in error.
    Lost,
    /// The peer broke the protocol and we cut it off.
    Protocol,
    /// This node is stopping.
    LocalShutdown,
}

/// Something that happened to a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PeerEvent {
    /// A handshake succeeded.
    Opened {
        /// With whom, as it said itself.
        peer: PeerIdentity,
        /// For what.
        lane: Lane,
        /// Who dialled.
        direction: Direction,
    },
    /// A connection that was `Opened` has ended.
    Closed {
        /// With whom it had been opened: compare incarnation and epoch before believing anything about the node.
        peer: PeerIdentity,
        /// For what.
        lane: Lane,
        /// Who dialled.
        direction: Direction,
        /// How.
        reason: ClosedReason,
        /// When this node noticed, on its monotonic clock.
        at: Instant,
    },
}

/// Where a node's server and pool tell of their connections. Bounded: a subscriber that falls more than 1024 events behind is told so
/// (`RecvError::Lagged`) and has to fall back on heartbeats for what it missed.
#[derive(Clone)]
pub struct PeerEvents(broadcast::Sender<PeerEvent>);

impl PeerEvents {
    const CAPACITY: usize = 1024;

    /// A channel without subscribers yet.
    pub fn new() -> Self {
        Self(broadcast::Sender::new(Self::CAPACITY))
    }

    /// Events from now on.
    pub fn subscribe(&self) -> broadcast::Receiver<PeerEvent> {
        self.0.subscribe()
    }

    pub(crate) fn send(&self, event: PeerEvent) {
        // No subscriber is no error: a node that is no controller has nobody to tell.
        let _ = self.0.send(event);
    }
}

impl Default for PeerEvents {
    fn default() -> Self {
        Self::new()
    }
}
