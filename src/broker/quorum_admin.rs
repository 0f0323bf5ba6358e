//! Changes of the quorum's voters that an operator asks for, carried to the active controller.

use super::{LocalMetadata, Metadata, MetadataCell};
use crate::peer::{Lane, PeerError, PeerIdentity, PeerPool, PeerService, ServiceFuture};
use bytes::Bytes;
use rookery_raft::ids::NodeId;
use rookery_raft::quorum::{QuorumError, QuorumNode};
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// The kind of such a request on the lane `Controller`.
pub const KIND_REPLACE_VOTER: u16 = 2;
const TIMEOUT: Duration = Duration::from_secs(75);
/// A controller that is away for longer is not elected by waiting.
const ELECTION_MAX: Duration = Duration::from_secs(10);
const RETRY: Duration = Duration::from_millis(200);

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

impl ReplaceError {
    fn to_service(&self, node: NodeId) -> PeerError {
        let (code, message) = match self {
            ReplaceError::NoVoter(_) => (1, node.to_string()),
            ReplaceError::NoController(why) => (2, why.clone()),
            ReplaceError::Failed(why) => (3, why.clone()),
        };
        PeerError::Service { code, message: message.into() }
    }

    fn from_service(error: &PeerError, node: NodeId) -> Self {
        match error {
            PeerError::Service { code: 1, .. } => ReplaceError::NoVoter(node),
            PeerError::Service { code: 2, message } => ReplaceError::NoController(message.to_string()),
            PeerError::Service { message, .. } => ReplaceError::Failed(message.to_string()),
            other => ReplaceError::NoController(other.to_string()),
        }
    }
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

    /// Put the identity that answers at a voter's address in the place of the one the quorum knows. A new controller goes on
    /// where the one before it was.
    pub async fn replace_voter(&self, node: NodeId) -> Result<(), ReplaceError> {
        let began = Instant::now();
        loop {
            match self.try_to_replace(node).await {
                Err(ReplaceError::NoController(_)) if began.elapsed() < ELECTION_MAX => sleep(RETRY).await,
                outcome => return outcome,
            }
        }
    }

    async fn try_to_replace(&self, node: NodeId) -> Result<(), ReplaceError> {
        let Some(controller) = self.metadata.controller() else {
            return Err(ReplaceError::NoController("none is known".to_owned()));
        };
        if controller == self.me {
            return self.replace_here(node).await;
        }
        let body = vec![Bytes::copy_from_slice(&node.0.to_be_bytes())];
        let answer = self.pool.call(controller, Lane::Controller, KIND_REPLACE_VOTER, body, TIMEOUT).await;
        answer.map(drop).map_err(|error| {
            self.metadata.controller_was_wrong(controller);
            ReplaceError::from_service(&error, node)
        })
    }

    async fn replace_here(&self, node: NodeId) -> Result<(), ReplaceError> {
        let Some(LocalMetadata::Voter { quorum, .. }) = self.metadata.get() else {
            return Err(ReplaceError::NoController("this node is no voter".to_owned()));
        };
        if !quorum.is_active() {
            return Err(ReplaceError::NoController(format!("node {} was taken for it and is not", self.me)));
        }
        let voters = quorum.leadership().borrow().voters.clone();
        let old = voters.into_iter().find(|v| v.id.node_id == node).ok_or(ReplaceError::NoVoter(node))?;
        let address = QuorumNode { address: old.node.address };
        let Some(report) = quorum.identify(node, &address).await else {
            return Err(ReplaceError::Failed(format!(
                "node {node} does not answer at {}: start it first",
                address.address
            )));
        };
        if report.id == old.id {
            return Ok(()); // it never lost its identity
        }
        quorum.replace_voter(old.id, report.id, address).await.map_err(|error| match error {
            QuorumError::NotController(_) => ReplaceError::NoController("it changed meanwhile".to_owned()),
            other => ReplaceError::Failed(other.to_string()),
        })
    }
}

impl PeerService for QuorumAdmin {
    fn call(&self, _from: PeerIdentity, _kind: u16, body: Bytes) -> ServiceFuture<'_> {
        Box::pin(async move {
            let Ok(id) = <[u8; 4]>::try_from(body.as_ref()) else {
                let message = "unreadable request".into();
                return Err(PeerError::Service { code: 3, message });
            };
            let node = NodeId(i32::from_be_bytes(id));
            self.replace_here(node).await.map(|()| Vec::new()).map_err(|error| error.to_service(node))
        })
    }
}
