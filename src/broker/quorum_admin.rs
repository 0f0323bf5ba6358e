//! How the quorum's voters are, and the changes of them that an operator asks for, carried to the active controller.

use super::{LocalMetadata, Metadata, MetadataCell, MetadataQuorum};
use crate::peer::{Lane, PeerError, PeerIdentity, PeerPool, PeerService, ServiceFuture};
use bytes::Bytes;
use futures_util::future::join_all;
use rookery_raft::ids::{NodeId, QuorumNodeId};
use rookery_raft::quorum::{QuorumError, QuorumNode, Report, Standing};
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout};

/// The kinds of such requests on the lane `Controller`: a voter's new identity in the place of its old one.
pub const KIND_REPLACE_VOTER: u16 = 2;
/// Another active controller.
pub const KIND_TRANSFER_CONTROLLER: u16 = 3;
const TIMEOUT: Duration = Duration::from_secs(75);
/// A controller that is away for longer is not elected by waiting.
const ELECTION_MAX: Duration = Duration::from_secs(10);
const RETRY: Duration = Duration::from_millis(200);
/// A voter that takes longer to say who it is does not take part in an election either.
const ANSWER_MAX: Duration = Duration::from_secs(1);
/// What the controller answers when nothing had to be done.
const KEPT: &[u8] = &[1];

/// How a voter answered when it was asked who it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VoterState {
    /// As the voter that the quorum knows.
    Votes,
    /// As somebody without a vote: its disk was replaced.
    NoVote,
    /// Not at all.
    Unreachable,
}

/// What became of a voter that was to be replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Replaced {
    /// Its new identity is in the place of the old one.
    Done,
    /// It never lost its identity: nothing was changed.
    NotNeeded,
}

/// Why the quorum was not changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum QuorumChangeError {
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

impl QuorumChangeError {
    fn to_service(&self, node: NodeId) -> PeerError {
        let (code, message) = match self {
            QuorumChangeError::NoVoter(_) => (1, node.to_string()),
            QuorumChangeError::NoController(why) => (2, why.clone()),
            QuorumChangeError::Failed(why) => (3, why.clone()),
        };
        PeerError::Service { code, message: message.into() }
    }

    fn from_service(error: &PeerError, node: NodeId) -> Self {
        match error {
            PeerError::Service { code: 1, .. } => QuorumChangeError::NoVoter(node),
            PeerError::Service { code: 2, message } => QuorumChangeError::NoController(message.to_string()),
            PeerError::Service { message, .. } => QuorumChangeError::Failed(message.to_string()),
            other => QuorumChangeError::NoController(other.to_string()),
        }
    }
}

/// Asks for changes of the voters, and carries them out on the active controller.
#[derive(Clone)]
pub struct QuorumAdmin {
    me: NodeId,
    /// As the settings have them.
    listed: BTreeMap<NodeId, QuorumNode>,
    metadata: MetadataCell,
    pool: PeerPool,
}

impl QuorumAdmin {
    /// Of this node.
    pub fn new(me: NodeId, listed: BTreeMap<NodeId, QuorumNode>, metadata: MetadataCell, pool: PeerPool) -> Self {
        Self { me, listed, metadata, pool }
    }

    /// Every voter, asked now. Empty on a node that is none: it does not know who they are.
    pub async fn voters(&self) -> BTreeMap<NodeId, VoterState> {
        let Some(LocalMetadata::Voter { quorum, .. }) = self.metadata.get() else { return BTreeMap::new() };
        let known = quorum.leadership().borrow().voters.clone();
        let mine = quorum.formation().borrow().report.clone();
        let mut members: Vec<(NodeId, Option<QuorumNodeId>, QuorumNode)> =
            known.into_iter().map(|voter| (voter.id.node_id, Some(voter.id), voter.node)).collect();
        if members.is_empty() {
            // Before the formation, and in a log that is new to a formed cluster, there are only the settings.
            members = self.listed.iter().map(|(id, node)| (*id, None, node.clone())).collect();
        }
        let asked = members.into_iter().map(|(node, expected, address)| {
            let mine = mine.clone();
            async move {
                let report = if node == self.me {
                    Some(mine)
                } else {
                    timeout(ANSWER_MAX, quorum.identify(node, &address)).await.ok().flatten()
                };
                (node, state(expected, report.as_ref()))
            }
        });
        join_all(asked).await.into_iter().collect()
    }

    /// Put the identity that answers at a voter's address in the place of the one the quorum knows. A new controller goes on
    /// where the one before it was.
    pub async fn replace_voter(&self, node: NodeId) -> Result<Replaced, QuorumChangeError> {
        let began = Instant::now();
        loop {
            match self.try_to_replace(node).await {
                Err(QuorumChangeError::NoController(_)) if began.elapsed() < ELECTION_MAX => sleep(RETRY).await,
                outcome => return outcome,
            }
        }
    }

    async fn try_to_replace(&self, node: NodeId) -> Result<Replaced, QuorumChangeError> {
        let Some(controller) = self.metadata.controller() else {
            return Err(QuorumChangeError::NoController("none is known".to_owned()));
        };
        if controller == self.me {
            return self.replace_here(node).await;
        }
        let body = vec![Bytes::copy_from_slice(&node.0.to_be_bytes())];
        let answer = self.pool.call(controller, Lane::Controller, KIND_REPLACE_VOTER, body, TIMEOUT).await;
        match answer {
            Ok(answer) if answer == KEPT => Ok(Replaced::NotNeeded),
            Ok(_) => Ok(Replaced::Done),
            Err(error) => {
                self.metadata.controller_was_wrong(controller);
                Err(QuorumChangeError::from_service(&error, node))
            }
        }
    }

    /// Make another voter the active controller, the one that is furthest; which node that is. Where there is none, one that
    /// is elected soon is asked.
    pub async fn transfer_controller(&self) -> Result<NodeId, QuorumChangeError> {
        let began = Instant::now();
        loop {
            match self.try_to_transfer().await {
                Err(QuorumChangeError::NoController(_)) if began.elapsed() < ELECTION_MAX => sleep(RETRY).await,
                outcome => return outcome,
            }
        }
    }

    async fn try_to_transfer(&self) -> Result<NodeId, QuorumChangeError> {
        let Some(controller) = self.metadata.controller() else {
            return Err(QuorumChangeError::NoController("none is known".to_owned()));
        };
        if controller == self.me {
            return self.transfer_here().await;
        }
        let answer = self.pool.call(controller, Lane::Controller, KIND_TRANSFER_CONTROLLER, Vec::new(), TIMEOUT).await;
        match answer.map(|next| node_id(&next)) {
            Ok(Some(next)) => Ok(next),
            Ok(None) => Err(QuorumChangeError::Failed(format!("node {controller} answered in another language"))),
            Err(error) => {
                self.metadata.controller_was_wrong(controller);
                Err(QuorumChangeError::from_service(&error, controller))
            }
        }
    }

    async fn transfer_here(&self) -> Result<NodeId, QuorumChangeError> {
        let quorum = self.active_here()?;
        if quorum.leadership().borrow().voters.len() < 2 {
            return Err(QuorumChangeError::Failed("there is no other voter".to_owned()));
        }
        let gone = quorum.transfer_leadership().await;
        let leader = quorum.leadership().borrow().leader.as_ref().map(|leader| leader.id.node_id);
        match leader.filter(|leader| gone && *leader != self.me) {
            Some(next) => Ok(next),
            None => Err(QuorumChangeError::Failed(format!(
                "node {} handed over, and no other voter has taken over yet: ask `rookery cluster` who is the controller",
                self.me
            ))),
        }
    }

    /// The quorum, if this node is its active controller.
    fn active_here(&self) -> Result<&MetadataQuorum, QuorumChangeError> {
        let Some(LocalMetadata::Voter { quorum, .. }) = self.metadata.get() else {
            return Err(QuorumChangeError::NoController("this node is no voter".to_owned()));
        };
        if !quorum.is_active() {
            return Err(QuorumChangeError::NoController(format!("node {} was taken for it and is not", self.me)));
        }
        Ok(quorum)
    }

    async fn replace_here(&self, node: NodeId) -> Result<Replaced, QuorumChangeError> {
        let quorum = self.active_here()?;
        let voters = quorum.leadership().borrow().voters.clone();
        let old = voters.into_iter().find(|v| v.id.node_id == node).ok_or(QuorumChangeError::NoVoter(node))?;
        let address = QuorumNode { address: old.node.address };
        let Some(report) = quorum.identify(node, &address).await else {
            return Err(QuorumChangeError::Failed(format!(
                "node {node} does not answer at {}: start it first",
                address.address
            )));
        };
        if report.id == old.id {
            return Ok(Replaced::NotNeeded);
        }
        let replaced = quorum.replace_voter(old.id, report.id, address).await;
        replaced.map(|()| Replaced::Done).map_err(|error| match error {
            QuorumError::NotController(_) => QuorumChangeError::NoController("it changed meanwhile".to_owned()),
            other => QuorumChangeError::Failed(other.to_string()),
        })
    }
}

/// Where the quorum's own log does not say whom to expect, a node says itself whether it was taken in.
fn state(expected: Option<QuorumNodeId>, report: Option<&Report>) -> VoterState {
    match report {
        None => VoterState::Unreachable,
        Some(report) => {
            let votes = match expected {
                Some(id) => id == report.id,
                None => matches!(report.standing, Standing::Formed(_)),
            };
            if votes { VoterState::Votes } else { VoterState::NoVote }
        }
    }
}

fn node_id(bytes: &[u8]) -> Option<NodeId> {
    Some(NodeId(i32::from_be_bytes(bytes.try_into().ok()?)))
}

impl PeerService for QuorumAdmin {
    fn call(&self, _from: PeerIdentity, kind: u16, body: Bytes) -> ServiceFuture<'_> {
        Box::pin(async move {
            if kind == KIND_TRANSFER_CONTROLLER {
                let next = self.transfer_here().await.map_err(|error| error.to_service(self.me))?;
                return Ok(vec![Bytes::copy_from_slice(&next.0.to_be_bytes())]);
            }
            let Some(node) = node_id(&body) else {
                let message = "unreadable request".into();
                return Err(PeerError::Service { code: 3, message });
            };
            match self.replace_here(node).await {
                Ok(Replaced::Done) => Ok(Vec::new()),
                Ok(Replaced::NotNeeded) => Ok(vec![Bytes::from_static(KEPT)]),
                Err(error) => Err(error.to_service(node)),
            }
        })
    }
}
