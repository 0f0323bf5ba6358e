//! The loop around [`Formation`]: it asks, keeps and proposes what the state machine says, until the cluster is known.
//!
//! The task owns the state machine. What others propose comes through a bounded mailbox; what this node keeps and why it waits is published in a watch.

use super::codec::Encode;
use super::formation::{FirstVoters, Formation, Refusal, Report, Standing, Step};
use super::log_store::LogStore;
use super::network::Peers;
use super::state_machine::StateMachine;
use super::storage::{MetaKey, QuorumStorageError};
use super::types::{QuorumNode, StoredMembershipConfig, TypeConfig};
use super::wire::{Reply, Request};
use crate::ids::{ClusterId, DirectoryId, NodeId, QuorumNodeId};
use futures_util::future::join_all;
use openraft::AsyncRuntime;
use openraft::async_runtime::Select2;
use openraft::errors::{InitializeError, RaftError};
use std::collections::BTreeMap;
use std::future::pending;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot, watch};

pub(crate) type Raft<Rt> = openraft::Raft<TypeConfig<Rt>, StateMachine<Rt>>;

/// Proposals that may wait; a peer repeats what was refused.
const MAILBOX: usize = 16;

/// What the node keeps, and why the cluster is not there yet.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FormationStatus {
    /// What it tells others.
    pub report: Report,
    /// For people.
    pub why: String,
}

pub(crate) enum FormationMessage {
    /// A peer's proposal.
    Propose(FirstVoters, oneshot::Sender<Result<(), Refusal>>),
    /// A Raft message for this directory has arrived, of the cluster it prepared for: its log begins.
    Began(oneshot::Sender<()>),
}

/// Reaches the task; cheap to clone.
#[derive(Clone)]
pub(crate) struct FormationHandle {
    mailbox: mpsc::Sender<FormationMessage>,
    pub(crate) status: watch::Receiver<FormationStatus>,
}

impl FormationHandle {
    pub(crate) fn standing(&self) -> Standing {
        self.status.borrow().report.standing.clone()
    }

    /// Hands a proposal to the task; `None` when it has stopped.
    pub(crate) async fn propose(&self, set: FirstVoters) -> Option<Result<(), Refusal>> {
        let (tx, rx) = oneshot::channel();
        self.mailbox.send(FormationMessage::Propose(set, tx)).await.ok()?;
        rx.await.ok()
    }

    /// Keeps that the log has begun; `None` when the task has stopped.
    pub(crate) async fn began(&self) -> Option<()> {
        let (tx, rx) = oneshot::channel();
        self.mailbox.send(FormationMessage::Began(tx)).await.ok()?;
        rx.await.ok()
    }
}

pub(crate) struct FormationTask<Rt: AsyncRuntime> {
    formation: Formation,
    listed: BTreeMap<NodeId, QuorumNode>,
    peers: Arc<Peers>,
    log: LogStore<Rt>,
    raft: Raft<Rt>,
    /// What this node has applied.
    membership: watch::Receiver<StoredMembershipConfig>,
    retry: Duration,
    mailbox: mpsc::Receiver<FormationMessage>,
    status: watch::Sender<FormationStatus>,
}

/// What a round of calls brought.
enum Round {
    Reports(Vec<(NodeId, Option<Report>)>),
    Answers(FirstVoters, Vec<(QuorumNodeId, Option<Result<(), Refusal>>)>),
}

impl<Rt: AsyncRuntime> FormationTask<Rt> {
    pub(crate) fn new(
        formation: Formation,
        listed: BTreeMap<NodeId, QuorumNode>,
        peers: Arc<Peers>,
        log: LogStore<Rt>,
        raft: Raft<Rt>,
        membership: watch::Receiver<StoredMembershipConfig>,
        retry: Duration,
    ) -> (Self, FormationHandle) {
        let (tx, mailbox) = mpsc::channel(MAILBOX);
        let status = FormationStatus { report: formation.report(), why: formation.why() };
        let (status, status_rx) = watch::channel(status);
        let task = Self { formation, listed, peers, log, raft, membership, retry, mailbox, status };
        (task, FormationHandle { mailbox: tx, status: status_rx })
    }

    /// Runs until every handle is gone; an error, of the disk or of Raft, ends it for good.
    pub(crate) async fn run(mut self) -> Result<(), String> {
        let formed = self.form().await;
        formed.map_err(|error| {
            let why = format!("the cluster's formation cannot go on: {error}");
            let report = self.formation.report();
            self.status.send_replace(FormationStatus { report, why: why.clone() });
            why
        })
    }

    async fn form(&mut self) -> Result<(), QuorumStorageError> {
        loop {
            self.publish();
            match self.formation.next() {
                Step::Keep(standing) => self.keep(standing).await?,
                Step::Initialize(set) => {
                    self.initialize(&set).await?;
                    self.keep(Standing::Formed(set.cluster_id)).await?;
                }
                Step::Done(_) => {
                    let taken_in = taken_in(self.formation.standing().clone(), &mut self.membership, self.peers.me);
                    match Rt::select2(self.mailbox.recv(), taken_in).await {
                        Select2::First(Some(message)) => self.answer(message).await?,
                        Select2::First(None) => return Ok(()),
                        Select2::Second(cluster_id) => self.keep(Standing::Formed(cluster_id)).await?,
                    }
                }
                Step::Ask(nodes) => {
                    let round = ask::<Rt>(self.peers.clone(), self.listed.clone(), nodes);
                    self.work(round).await?;
                }
                Step::Propose(set, to) => {
                    let round = propose::<Rt>(self.peers.clone(), set, to);
                    self.work(round).await?;
                }
            }
        }
    }

    fn publish(&self) {
        let status = FormationStatus { report: self.formation.report(), why: self.formation.why() };
        self.status.send_if_modified(|old| {
            let changed = *old != status;
            if changed {
                match status.report.standing {
                    Standing::Joined(_) => tracing::warn!(why = %status.why, "metadata quorum"),
                    _ => tracing::info!(why = %status.why, "metadata quorum"),
                }
                *old = status;
            }
            changed
        });
    }

    /// Runs a round of calls, then pauses if nothing follows from it; the mailbox is served meanwhile.
    async fn work(&mut self, round: impl Future<Output = Round> + Send) -> Result<(), QuorumStorageError> {
        let mut round = pin!(round);
        let before = self.formation.next();
        loop {
            match Rt::select2(&mut round, self.mailbox.recv()).await {
                Select2::First(result) => {
                    self.take_in(result);
                    break;
                }
                Select2::Second(Some(message)) => self.answer(message).await?,
                Select2::Second(None) => return Ok(()),
            }
        }
        if self.formation.next() == before {
            self.publish();
            let mut pause = Box::pin(Rt::sleep(self.retry));
            if let Select2::Second(Some(message)) = Rt::select2(&mut pause, self.mailbox.recv()).await {
                self.answer(message).await?;
            }
        }
        Ok(())
    }

    fn take_in(&mut self, round: Round) {
        match round {
            Round::Reports(reports) => {
                reports.into_iter().for_each(|(from, report)| self.formation.on_report(from, report));
            }
            Round::Answers(set, answers) => {
                for (from, answer) in answers {
                    if let Some(answer) = answer {
                        self.formation.on_answer(&set, from, answer);
                    }
                }
            }
        }
    }

    async fn answer(&mut self, message: FormationMessage) -> Result<(), QuorumStorageError> {
        match message {
            FormationMessage::Propose(set, tx) => {
                let answer = self.formation.on_proposal(&set);
                if let Ok(Some(standing)) = &answer {
                    self.keep(standing.clone()).await?;
                }
                let _ = tx.send(answer.map(|_| ()));
            }
            FormationMessage::Began(tx) => {
                if let Standing::Prepared(set) = self.formation.standing() {
                    let cluster_id = set.cluster_id;
                    self.keep(Standing::Formed(cluster_id)).await?;
                }
                let _ = tx.send(());
            }
        }
        self.publish();
        Ok(())
    }

    async fn keep(&mut self, standing: Standing) -> Result<(), QuorumStorageError> {
        self.log.put(MetaKey::Formation, standing.to_sealed()).await?;
        if let Some(cluster_id) = standing.cluster_id() {
            *self.peers.cluster_id.write() = cluster_id;
        }
        self.formation.kept(standing);
        Ok(())
    }

    async fn initialize(&mut self, set: &FirstVoters) -> Result<(), QuorumStorageError> {
        match self.raft.initialize(set.voters.clone()).await {
            Ok(()) => {
                tracing::info!(cluster_id = %set.cluster_id, voters = set.voters.len(), "formed a cluster");
                Ok(())
            }
            // A crash came between writing the first entry and keeping that it is written.
            Err(RaftError::APIError(InitializeError::NotAllowed(_))) => Ok(()),
            Err(error) => Err(QuorumStorageError::Closed(error.to_string())),
        }
    }
}

/// Waits until a node that has only joined is taken in: until it has applied a membership that names its directory.
async fn taken_in(
    standing: Standing,
    membership: &mut watch::Receiver<StoredMembershipConfig>,
    me: QuorumNodeId,
) -> ClusterId {
    if let Standing::Joined(cluster_id) = standing
        && membership.wait_for(|applied| applied.get_node(&me).is_some()).await.is_ok()
    {
        return cluster_id;
    }
    pending().await
}

async fn ask<Rt: AsyncRuntime>(peers: Arc<Peers>, listed: BTreeMap<NodeId, QuorumNode>, nodes: Vec<NodeId>) -> Round {
    let calls = nodes.into_iter().map(|node_id| {
        let (peers, node) = (peers.clone(), listed.get(&node_id).cloned().unwrap_or_default());
        async move { (node_id, ask_one::<Rt>(&peers, node_id, &node).await) }
    });
    Round::Reports(join_all(calls).await)
}

/// What the node at this address keeps.
pub(crate) async fn ask_one<Rt: AsyncRuntime>(peers: &Peers, node_id: NodeId, node: &QuorumNode) -> Option<Report> {
    let target = QuorumNodeId { node_id, directory_id: DirectoryId::NONE };
    match peers.call::<Rt>(target, node, &Request::Ask, peers.timeouts.append).await {
        Ok(Reply::Report(report)) if report.id.node_id == node_id => Some(report),
        Ok(_) => None,
        Err(error) => {
            tracing::debug!(node_id = node_id.0, %error, "no report");
            None
        }
    }
}

async fn propose<Rt: AsyncRuntime>(peers: Arc<Peers>, set: FirstVoters, to: Vec<QuorumNodeId>) -> Round {
    let request = Request::Propose(set.clone());
    let calls = to.into_iter().map(|id| {
        let (peers, request) = (peers.clone(), request.clone());
        let node = set.voters.get(&id).cloned().unwrap_or_default();
        async move {
            match peers.call::<Rt>(id, &node, &request, peers.timeouts.append).await {
                Ok(Reply::Proposal(answer)) => (id, Some(answer)),
                _ => (id, None),
            }
        }
    });
    let answers = join_all(calls).await;
    Round::Answers(set, answers)
}
