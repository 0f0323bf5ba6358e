//! How quorum messages travel: a request of bytes to an address, an answer of bytes.
//!
//! The quorum knows no sockets. `src/peer` carries [`QuorumTransport::call`] over a connection of its own (so that bulk never stands before
//! a heartbeat) and hands what arrives to [`MetadataQuorum::handle`](super::MetadataQuorum::handle).

use super::types::QuorumNode;
use crate::ids::NodeId;
use bytes::Bytes;
use futures_util::future::BoxFuture;

/// Why a request has no answer. Whether the other side saw it is unknown.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum TransportError {
    /// No connection.
    #[error("unreachable: {0}")]
    Unreachable(String),
    /// The connection ended before the answer.
    #[error("connection lost: {0}")]
    Lost(String),
}

/// Carries quorum messages.
///
/// A call is cancelled by dropping its future; the quorum sets the deadlines. Calls to one node may overlap and must not wait for each other.
pub trait QuorumTransport: Send + Sync + 'static {
    /// Sends `request` to the node and returns its answer.
    fn call<'a>(
        &'a self,
        node_id: NodeId,
        node: &'a QuorumNode,
        request: Bytes,
    ) -> BoxFuture<'a, Result<Bytes, TransportError>>;
}
