//! Changes of the quorum's voters that an operator asks for, carried to the active controller.

use super::{LocalMetadata, Metadata, MetadataCell};
use crate::peer::{Lane, PeerIdentity, PeerPool, PeerService, ServiceFuture};
use bytes::Bytes;
use rookery_raft::ids::NodeId;
use rookery_raft::quorum::QuorumNode;
use std::time::Duration;

/// The kind of such a request on the lane `Controller`.
pub const KIND_REPLACE_VOTER: u16 = 2;
const TIMEOUT: Duration = Duration::from_secs(75);

/// Why a voter was not replaced.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReplaceError {
    /// There is no such voter.
    #[error("node {0} is no voter of the metadata quorum")]
    NoVoter(NodeId),
    /// Nobody can do it now.
    #[error("no active controller can be reached: {0}")]
    NoController(String),
    /// It was tried and failed.
    #[error("{0}")]
    Failed(String),
}

/// Asks for changes of the voters, and carries them out on the active controller.
#[derive(Clone)]
pub struct QuorumAdmin {
    me: NodeId,
    metadata: MetadataCell,
    pool: PeerPool,
}

impl QuorumAdmin {
    /// Of this node.
    pub fn new(me: NodeId, metadata: MetadataCell, pool: PeerPool) -> Self {
        Self { me, metadata, pool }
    }

    /// Put the identity that answers at a voter's address in the place of the one the quorum knows.
    pub async fn replace_voter(&self, node: NodeId) -> Result<(), ReplaceError> {
        let Some(controller) = self.metadata.controller() else {
            return Err(ReplaceError::NoController("none is known".to_owned()));
        };
        if controller == self.me {
            return self.replace_here(node).await;
        }
        let body = vec![Bytes::copy_from_slice(&node.0.to_be_bytes())];
        let answer = self.pool.call(controller, Lane::Controller, KIND_REPLACE_VOTER, body, TIMEOUT).await;
        match answer {
            Ok(answer) if answer.is_empty() => Ok(()),
            Ok(answer) => Err(ReplaceError::Failed(String::from_utf8_lossy(&answer).into_owned())),
            Err(error) => Err(ReplaceError::NoController(error.to_string())),
        }
    }

    async fn replace_here(&self, node: NodeId) -> Result<(), ReplaceError> {
        let Some(LocalMetadata::Voter { quorum, .. }) = self.metadata.get() else {
            return Err(ReplaceError::NoController("this node is no voter".to_owned()));
        };
        let voters = quorum.leadership().borrow().voters.clone();
        let old = voters.into_iter().find(|v| v.id.node_id == node).ok_or(ReplaceError::NoVoter(node))?;
        let address = QuorumNode { address: old.node.address };
        let Some(report) = quorum.identify(node, &address).await else {
            return Err(ReplaceError::Failed(format!("node {node} does not answer at {}: start it first", address.address)));
        };
        if report.id == old.id {
            return Ok(()); // it never lost its identity
        }
        quorum.replace_voter(old.id, report.id, address).await.map_err(|e| ReplaceError::Failed(e.to_string()))
    }
}

impl PeerService for QuorumAdmin {
    fn call(&self, _from: PeerIdentity, _kind: u16, body: Bytes) -> ServiceFuture<'_> {
        Box::pin(async move {
            let Ok(id) = <[u8; 4]>::try_from(body.as_ref()) else {
                return Ok(vec![Bytes::from_static(b"unreadable request")]);
            };
            match self.replace_here(NodeId(i32::from_be_bytes(id))).await {
                Ok(()) => Ok(Vec::new()),
                Err(error) => Ok(vec![Bytes::from(error.to_string())]),
            }
        })
    }
}
