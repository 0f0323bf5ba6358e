//! The quorum's messages over the connections between nodes: a lane of their own, so that nothing stands before a vote.

use super::metadata::{LocalMetadata, MetadataCell};
use crate::peer::{Lane, PeerError, PeerIdentity, PeerPool, PeerService, ServiceFuture};
use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use rookery_raft::ids::NodeId;
use rookery_raft::quorum::{QuorumNode, QuorumTransport, TransportError};
use std::time::Duration;

/// The kind of a quorum message on the lane `Control`.
pub const KIND_QUORUM: u16 = 1;
/// Only a bound: the quorum drops a call when its own deadline is over.
const CALL_MAX: Duration = Duration::from_secs(120);

/// Carries the quorum's messages to other nodes.
pub struct QuorumLane {
    pool: PeerPool,
}

impl QuorumLane {
    /// Over this node's connections.
    pub fn new(pool: PeerPool) -> Self {
        Self { pool }
    }
}

impl QuorumTransport for QuorumLane {
    fn call<'a>(
        &'a self,
        node_id: NodeId,
        node: &'a QuorumNode,
        request: Bytes,
    ) -> BoxFuture<'a, Result<Bytes, TransportError>> {
        async move {
            if self.pool.book().get(node_id).is_none_or(|entry| *entry.address != *node.address) {
                self.pool.book().set(node_id, node.address.as_str(), None);
            }
            let sent = self.pool.call(node_id, Lane::Control, KIND_QUORUM, vec![request], CALL_MAX).await;
            sent.map_err(|error| match error {
                PeerError::Closed(_) | PeerError::TimedOut { .. } => TransportError::Lost(error.to_string()),
                _ => TransportError::Unreachable(error.to_string()),
            })
        }
        .boxed()
    }
}

/// Answers other nodes' quorum messages, once the log is open.
pub struct QuorumService {
    metadata: MetadataCell,
}

impl QuorumService {
    /// Over this node's metadata.
    pub fn new(metadata: MetadataCell) -> Self {
        Self { metadata }
    }
}

impl PeerService for QuorumService {
    fn call(&self, _from: PeerIdentity, kind: u16, body: Bytes) -> ServiceFuture<'_> {
        Box::pin(async move {
            match self.metadata.get() {
                Some(LocalMetadata::Voter { quorum, .. }) => Ok(vec![quorum.handle(body).await]),
                // Not open yet, or never a voter: to the other end the same as nobody serving this.
                _ => Err(PeerError::UnknownKind(kind)),
            }
        })
    }
}
