//! [`MetadataQuorum`]: a voter's handle to everything in this room.
//!
//! # One handle, many runs
//!
//! A **run** is Raft with all its tasks on one open of the disk. The handle outlives runs: those who watch leadership and metadata need not know
//! that a disk was full for a while.
//!
//! | state | what holds | becomes | by |
//! |---|---|---|---|
//! | running | `failure()` is none | failed | an error of the disk, a disk that hangs under a leader, an entry that cannot be applied, a panic |
//! | failed | `failure()` says why, and `disk_failure()` if it is the disk's; no requests, no votes | stopped | [`MetadataQuorum::stop`]: nothing of the run is left, and the disk is closed |
//! | stopped | the same; the metadata stays as last published | running | [`MetadataQuorum::reopen`] with the disk opened anew |
//!
//! A run that ends and the next one are to Raft a crash and a restart of this voter: nothing is carried over but what the disk holds, and a
//! write that failed or was given up counts as one whose outcome nobody knows. What was **published** stays: it is committed, so the next
//! run comes to the same, and what it replays below that is not told again ([`Publication`]). For the time between, the same line of images
//! can be fed by an observer ([`MetadataQuorum::observe`]), as that of a voter that was not taken in yet. A run
//! begins only after the one before has ended to its last task, so there are never two that answer for one identity.

use super::config::QuorumConfig;
use super::controller_task::{ControllerTask, Office, QUEUE, Submission};
use super::disk_failure::DiskFailure;
use super::error::{LeaderHint, QuorumError};
use super::formation::{Formation, Report, Standing};
use super::formation_task::{FormationStatus, FormationTask, Raft, ask_one};
use super::lease::{Held, Lease};
use super::log_store::{LogStore, meta};
use super::network::{Network, Peers};
use super::observer::{MetadataObserver, ObserverConfig};
use super::publication::Publication;
use super::service::Service;
use super::snapshot_store::{MemorySnapshots, SnapshotStore};
use super::standby::Standby;
use super::state_machine::{Snapshots, StateMachine};
use super::storage::{MetaKey, QuorumStorage, QuorumStorageError, SavedState};
use super::storage_thread::StorageThread;
use super::transport::QuorumTransport;
use super::types::{QuorumNode, StoredMembershipConfig, TokioRuntime, TypeConfig};
use super::wire::{Refused, Reply};
use crate::controller::{Controller, ControllerError, ControllerRequest, ControllerResponse};
use crate::delta::{MetadataLoader, MetadataPublisher};
use crate::ids::{BrokerEpoch, ClusterId, MetadataOffset, NodeId, QuorumNodeId};
use crate::image::MetadataImage;
use crate::record::Observation;
use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use openraft::async_runtime::{Instant as _, Select2, Select3, WatchReceiver as _};
use openraft::errors::{ClientWriteError, RaftError};
use openraft::{AsyncRuntime, ChangeMembers, RaftMetrics, ServerState};
use parking_lot::{Mutex, RwLock};
use std::collections::{BTreeMap, BTreeSet};
use std::future::pending;
use std::io;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// A leader that has said nothing for so long is out of sight: longer than any election takes.
const OUT_OF_SIGHT: Duration = Duration::from_secs(2);
/// A new voter must have caught up within this time.
const CATCH_UP: Duration = Duration::from_secs(60);
/// Between two voters that stand for election in the place of a dead leader: enough for the first one to be elected.
const STAGGER: Duration = Duration::from_millis(80);
/// By how much the first voter that is left stands before the election time-outs of the others begin to end. Raft looks at the time once in a
/// fifth of the shortest of them, so that these end in few moments, and two voters whose looks coincide would split their votes again and again.
const HEAD_START: Duration = Duration::from_millis(60);
/// Between two looks at the disk.
const DISK_CHECK: Duration = Duration::from_millis(50);

/// Who leads, as this node knows it.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Leadership {
    /// The term, which is the controller epoch.
    pub term: u64,
    /// The leader, if one is known.
    pub leader: Option<LeaderHint>,
    /// Whether this node is the active controller: it leads, has applied its own term's first entry, and a majority has answered it lately.
    pub active: bool,
    /// Whether this node is the active controller, or will be again, with all that it has learned, as soon as a majority answers it: it still waits for that
    /// after its lease has lapsed.
    pub in_office: bool,
    /// The voters.
    pub voters: Vec<LeaderHint>,
    /// Why Raft has stopped here, if it has.
    pub failure: Option<String>,
}

/// The quorum's state for people and metrics.
#[derive(Clone, PartialEq, Debug)]
pub struct QuorumStatus {
    /// This node.
    pub me: QuorumNodeId,
    /// The cluster, once it is known.
    pub cluster_id: Option<ClusterId>,
    /// What this node keeps about the cluster, and why it waits if it does.
    pub formation: FormationStatus,
    /// Who leads.
    pub leadership: Leadership,
    /// The last entry in this node's log; −1 before the first.
    pub log_end: MetadataOffset,
    /// The last entry known here to be committed; −1 before the first.
    pub committed: MetadataOffset,
    /// The last entry applied here; −1 before the first.
    pub applied: MetadataOffset,
    /// The last entry in the current snapshot; −1 without one.
    pub snapshot: MetadataOffset,
    /// On the leader: how far each voter's log is known to agree with its own; −1 when unknown.
    pub replicated: BTreeMap<QuorumNodeId, MetadataOffset>,
    /// The offset each observer asked this node for last.
    pub observers: BTreeMap<NodeId, MetadataOffset>,
}

/// A voter. Cheap to clone.
///
/// [`stop`](Self::stop) closes the disk, so that the same directory can be opened again in this process, and [`reopen`](Self::reopen) goes on with it:
/// that is how a node comes back after its disk was full.
pub struct MetadataQuorum<Rt: AsyncRuntime = TokioRuntime> {
    inner: Arc<Inner<Rt>>,
}

impl<Rt: AsyncRuntime> Clone for MetadataQuorum<Rt> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone() }
    }
}

struct Inner<Rt: AsyncRuntime> {
    surroundings: Surroundings,
    /// What was published: of this node's own log, or, without a vote, of others'.
    published: watch::Receiver<Arc<MetadataImage>>,
    /// Held for a glance, never over an await.
    run: RwLock<Arc<Run<Rt>>>,
}

/// What every run has in common.
#[derive(Clone)]
struct Surroundings {
    config: QuorumConfig,
    snapshots: Arc<dyn SnapshotStore>,
    transport: Arc<dyn QuorumTransport>,
    publication: Arc<Publication>,
    leadership: watch::Sender<Leadership>,
}

/// Raft and its tasks on one open of the disk.
struct Run<Rt: AsyncRuntime> {
    service: Service<Rt>,
    submissions: mpsc::Sender<Submission>,
    disk: DiskFailure,
    stop: CancellationToken,
    tasks: Mutex<Vec<Rt::JoinHandle<()>>>,
    /// The last term in which this node, its leader, has asked another one to take over.
    handed_over: watch::Sender<Option<u64>>,
    stand_in: Mutex<Option<StandIn<Rt>>>,
    /// The last term in which it was told that this voter stands in: behind a cut it tries again and again.
    stood_in: AtomicU64,
}

/// Who stands for election in the place of a dead leader, and when; perhaps over.
struct StandIn<Rt: AsyncRuntime> {
    at: Instant,
    task: Rt::JoinHandle<()>,
}

/// Everything a voter is made of.
pub struct QuorumParts {
    /// Its settings.
    pub config: QuorumConfig,
    /// The metadata log's disk, just opened.
    pub storage: Box<dyn QuorumStorage>,
    /// Where its snapshots live.
    pub snapshots: Arc<dyn SnapshotStore>,
    /// How it reaches the others.
    pub transport: Arc<dyn QuorumTransport>,
    /// Who acts on the metadata, in order.
    pub publishers: Vec<Arc<dyn MetadataPublisher>>,
    /// Decides while this node is the active one.
    pub controller: Controller,
}

impl<Rt: AsyncRuntime> MetadataQuorum<Rt> {
    /// Opens the node's Raft state and begins to take part. The cluster may not be formed yet when this returns.
    pub async fn start(parts: QuorumParts) -> Result<Self, QuorumError> {
        let QuorumParts { config, storage, snapshots, transport, publishers, controller } = parts;
        let publication = Publication::new(publishers);
        let published = publication.image();
        let leadership = watch::Sender::new(Leadership::default());
        let surroundings = Surroundings { config, snapshots, transport, publication, leadership };
        let run = Run::start(surroundings.clone(), storage, controller).await?;
        let inner = Inner { surroundings, published, run: RwLock::new(Arc::new(run)) };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Takes part again, on the disk opened anew. Only after [`stop`](Self::stop); the controller is a new one.
    pub fn reopen(
        &self,
        storage: Box<dyn QuorumStorage>,
        controller: Controller,
    ) -> BoxFuture<'static, Result<(), QuorumError>> {
        assert!(self.run().stop.is_cancelled(), "a run begins after the one before has ended");
        let inner = self.inner.clone();
        async move {
            let next = Run::start(inner.surroundings.clone(), storage, controller).await?;
            *inner.run.write() = Arc::new(next);
            Ok(())
        }
        .boxed()
    }

    /// Follows the metadata from outside, as a node without a vote does, into the same publishers and images, from the last one on: for while
    /// the disk is away, until the log itself has come as far again. `None` where nobody else votes, or no cluster is known.
    pub fn observe(&self) -> Option<MetadataObserver<Rt>> {
        let Surroundings { config, transport, publication, .. } = &self.inner.surroundings;
        let cluster_id = self.status().cluster_id?;
        let observer = ObserverConfig { cluster_id: Some(cluster_id), ..config.observer() };
        // A snapshot is gathered in memory: the disk is what failed.
        let snapshots = Arc::new(MemorySnapshots::default());
        let from = self.image();
        MetadataObserver::start(observer, transport.clone(), snapshots, from, vec![publication.clone()]).ok()
    }

    /// For how long the disk has not answered what it was asked last. While it does so this node may learn of nothing from its own log: a
    /// follower is sent what comes next only after it has written what came before.
    pub fn disk_stall(&self) -> Duration {
        self.run().service.log.storage().stalled_for()
    }

    fn run(&self) -> Arc<Run<Rt>> {
        self.inner.run.read().clone()
    }

    /// Closes everything; the disk can be opened anew when this returns, which takes as long as the disk does. A leader should
    /// [hand over](Self::transfer_leadership) first.
    pub async fn stop(&self) {
        let run = self.run();
        run.stop.cancel();
        if let Err(error) = run.service.raft.shutdown().await {
            tracing::warn!(%error, "Raft did not end in order");
        }
        let tasks = std::mem::take(&mut *run.tasks.lock());
        let stand_in = run.stand_in.lock().take();
        for task in tasks.into_iter().chain(stand_in.map(|stand_in| stand_in.task)) {
            let _ = task.await;
        }
        run.service.snapshots.close::<Rt>().await;
        run.service.log.close().await;
    }

    /// What the disk did, if that is why Raft has stopped on this node.
    pub fn disk_failure(&self) -> Option<QuorumStorageError> {
        self.failure().and_then(|_| self.run().disk.get())
    }

    /// Answers a request that came over the transport.
    pub fn handle(&self, request: Bytes) -> BoxFuture<'static, Bytes> {
        let run = self.run();
        async move {
            // openraft takes a message after its end for an error worth telling.
            if run.stop.is_cancelled() {
                return Reply::Refused(Refused::NotRunning("it stops".into())).seal();
            }
            run.service.handle(request).await
        }
        .boxed()
    }

    /// The metadata as of the last entry applied here, or observed, while this node has no vote.
    pub fn image(&self) -> Arc<MetadataImage> {
        self.inner.published.borrow().clone()
    }

    /// Every new image; intermediate ones may be skipped.
    pub fn images(&self) -> watch::Receiver<Arc<MetadataImage>> {
        self.inner.published.clone()
    }

    /// Why this node has no vote in a cluster that is formed, and what to do; `None` while it has one, and before the formation.
    pub fn no_vote(&self) -> Option<String> {
        let me = self.run().service.peers.me;
        let formation = self.run().service.formation.status.borrow().clone();
        let leadership = self.inner.surroundings.leadership.borrow();
        match formation.report.standing {
            Standing::Joined(_) => Some(formation.why),
            Standing::Formed(_) if leadership.voters.is_empty() || leadership.voters.iter().any(|v| v.id == me) => None,
            Standing::Formed(_) => Some(format!(
                "{me} is no voter of the metadata quorum yet: `rookery quorum replace {}` makes it one",
                me.node_id
            )),
            Standing::Empty | Standing::Prepared(_) => None,
        }
    }

    /// Waits until the entry at `offset` is applied here.
    pub async fn wait_for(&self, offset: MetadataOffset) -> Result<(), QuorumError> {
        let mut images = self.images();
        let applied = images.wait_for(|image| image.offset >= offset).await;
        applied.map(|_| ()).map_err(|_| QuorumError::Stopped("it was stopped".into()))
    }

    /// Who leads, and whether it is this node; changes are seen through the watch.
    pub fn leadership(&self) -> watch::Receiver<Leadership> {
        self.inner.surroundings.leadership.subscribe()
    }

    /// Whether this node is the active controller.
    pub fn is_active(&self) -> bool {
        self.inner.surroundings.leadership.borrow().active
    }

    /// Who led last as far as this voter has heard, and when it did; `None` while this node leads itself. The time is tokio's own, which every
    /// runtime of ours goes by, so that it can be told outside this room.
    pub fn leader_heard(&self) -> Option<(NodeId, Instant)> {
        let run = self.run();
        let leads = self.inner.surroundings.leadership.borrow().leader.as_ref().map(|leader| leader.id);
        run.service.heard().filter(|_| leads != Some(run.service.peers.me))
    }

    /// The leader's process is dead: its kernel has closed every connection with this node.
    ///
    /// This voter then stands for election once the lease that it has given is over, and does not wait for an election time-out on top, which is there for a leader
    /// that is late. Voters do so one after the other, that they do not split the votes.
    pub fn leader_is_dead(&self, leader: NodeId) {
        let config = &self.inner.surroundings.config;
        // Others may have heard it a heartbeat later.
        let after_lease = config.heartbeat + STAGGER * self.voters_before_me(leader);
        self.stand_in_for(leader, after_lease);
    }

    /// The leader says nothing and answers nothing. The first of the voters that are left then stands for election a little before the others would.
    pub fn leader_is_silent(&self, leader: NodeId) {
        if self.voters_before_me(leader) == 0 {
            self.stand_in_for(leader, self.inner.surroundings.config.election_min.saturating_sub(HEAD_START));
        }
    }

    fn voters_before_me(&self, leader: NodeId) -> u32 {
        let (leadership, me) = (self.inner.surroundings.leadership.borrow(), self.inner.surroundings.config.me.node_id);
        let before = leadership.voters.iter().filter(|v| v.id.node_id < me && v.id.node_id != leader).count();
        u32::try_from(before).unwrap_or(u32::MAX)
    }

    /// Stands for election so long after the end of the lease that this voter has given. Only a wish: if the leader speaks after all, nothing
    /// happens, and a majority that hears it grants no pre-vote.
    fn stand_in_for(&self, leader: NodeId, after_lease: Duration) {
        let run = self.run();
        let term = self.inner.surroundings.leadership.borrow().term;
        let Some((_, heard)) = self.leader_heard().filter(|(id, _)| *id == leader) else { return };
        let lease = Lease::new(&self.inner.surroundings.config).length;
        let now = Instant::now();
        let wait = (lease + after_lease).saturating_sub(now - heard);
        let mut stand_in = run.stand_in.lock();
        if stand_in.as_ref().is_some_and(|stand_in| now < stand_in.at) {
            return;
        }
        let before = stand_in.take();
        let (this, stop) = (self.clone(), run.stop.clone());
        let stands = async move {
            Rt::sleep(wait).await;
            let leadership = this.inner.surroundings.leadership.borrow().clone();
            let silent = this.leader_heard().is_some_and(|(id, at)| id == leader && at.elapsed() > lease);
            if silent && leadership.term == term {
                let run = this.run();
                if run.stood_in.swap(term, Ordering::Relaxed) != term {
                    tracing::info!(leader = leader.0, term, "the leader is silent: standing for election");
                }
                // A Raft that has ended says why itself.
                let _ = run.service.raft.trigger().elect(true).await;
            }
            Ok(())
        };
        let task = Rt::spawn(async move {
            if let Some(before) = before {
                let _ = before.task.await;
            }
            drop(until::<Rt>(stop, stands).await);
        });
        *stand_in = Some(StandIn { at: now + wait, task });
    }

    /// The active controller, for people: this node while it is, or the leader that it follows while that one speaks.
    pub fn controller_in_sight(&self) -> Option<NodeId> {
        let leadership = self.inner.surroundings.leadership.borrow().clone();
        let run = self.run();
        let leader = leadership.leader?.id;
        let in_sight = if leader == run.service.peers.me {
            leadership.active
        } else {
            let heard = run.service.heard();
            heard.is_some_and(|(id, at)| id == leader.node_id && at.elapsed() < OUT_OF_SIGHT)
        };
        in_sight.then_some(leader.node_id)
    }

    /// Why Raft has stopped on this node, if it has: a failed disk, or an entry that cannot be applied.
    pub fn failure(&self) -> Option<String> {
        self.inner.surroundings.leadership.borrow().failure.clone()
    }

    /// The state of the first formation; changes are seen through the watch.
    pub fn formation(&self) -> watch::Receiver<FormationStatus> {
        self.run().service.formation.status.clone()
    }

    /// The whole state, for people and metrics.
    pub fn status(&self) -> QuorumStatus {
        let run = self.run();
        let service = &run.service;
        let metrics = service.raft.metrics().borrow_watched().clone();
        let offset = |index: Option<u64>| MetadataOffset(index.and_then(|i| i64::try_from(i).ok()).unwrap_or(-1));
        let cluster_id = *service.peers.cluster_id.read();
        let replicated = metrics.replication.into_iter().flatten();
        QuorumStatus {
            me: service.peers.me,
            cluster_id: (cluster_id != ClusterId::NONE).then_some(cluster_id),
            formation: service.formation.status.borrow().clone(),
            leadership: self.inner.surroundings.leadership.borrow().clone(),
            log_end: offset(metrics.last_log_index),
            committed: offset(metrics.local_committed.map(|id| id.index)),
            applied: service.applied(),
            snapshot: offset(metrics.snapshot.map(|id| id.index)),
            replicated: replicated.map(|(id, matched)| (id, offset(matched.map(|id| id.index)))).collect(),
            observers: service.observers(),
        }
    }

    /// Has the active controller carry out `request`, if that is this node; answered after it was applied here.
    ///
    /// Dropping the future leaves the outcome unknown.
    pub async fn submit(&self, request: ControllerRequest) -> Result<ControllerResponse, QuorumError> {
        let leadership = self.inner.surroundings.leadership.borrow().clone();
        if let Some(failure) = leadership.failure {
            return Err(QuorumError::Stopped(failure));
        }
        if !leadership.active {
            return Err(QuorumError::NotController(leadership.leader));
        }
        let (answer, result) = oneshot::channel();
        match self.run().submissions.try_send(Submission::Request(Box::new(request), answer)) {
            Ok(()) => {}
            Err(mpsc::error::TrySendError::Full(_)) => {
                let busy = ControllerError::NotReady("the controller's queue is full".into());
                return Err(QuorumError::Refused(busy));
            }
            Err(mpsc::error::TrySendError::Closed(_)) => return Err(QuorumError::NotController(None)),
        }
        result.await.unwrap_or(Err(QuorumError::NotController(None)))
    }

    /// Tells the active controller, if it is this node, that a broker's heartbeat connection has closed.
    ///
    /// Only evidence: lost when the queue is full.
    pub fn heartbeat_connection_closed(&self, id: NodeId, epoch: BrokerEpoch) {
        let _ = self.run().submissions.try_send(Submission::HeartbeatConnectionClosed(id, epoch));
    }

    /// Tells the active controller, if it is this node, of soft evidence for the event log.
    ///
    /// Lost when the queue is full; a caller that gathers for a moment leaves room in it.
    pub fn observed(&self, observations: Vec<Observation>) {
        let _ = self.run().submissions.try_send(Submission::Observed(observations));
    }

    /// Hands the leadership to the voter that is furthest, if this node has it; returns whether it is gone.
    pub async fn transfer_leadership(&self) -> bool {
        let me = self.run().service.peers.me;
        let metrics = self.run().service.raft.metrics().borrow_watched().clone();
        let voters: BTreeSet<QuorumNodeId> = metrics.membership_config.voter_ids().collect();
        let replicated = metrics.replication.into_iter().flatten();
        let next = replicated.filter(|(id, _)| *id != me && voters.contains(id)).max_by_key(|(_, matched)| *matched);
        let Some((next, _)) = next else { return !self.is_leader() };
        tracing::info!(to = %next, "handing over the leadership");
        // From then on openraft takes no entry of this leader's, and sends no heartbeat: it is for others to elect.
        self.run().handed_over.send_replace(Some(metrics.current_term));
        if self.run().service.raft.trigger().transfer_leader(next).await.is_err() {
            return !self.is_leader();
        }
        let mut leadership = self.leadership();
        let gone = leadership.wait_for(|l| l.leader.as_ref().is_some_and(|leader| leader.id != me));
        let _ =
            Rt::timeout(self.inner.surroundings.config.election_max * 5, async move { gone.await.map(|_| ()) }).await;
        !self.is_leader()
    }

    /// For tests that go behind the controller's back.
    #[cfg(test)]
    pub(super) fn raft(&self) -> Raft<Rt> {
        self.run().service.raft.clone()
    }

    /// How many tasks it holds on to.
    #[cfg(test)]
    pub(super) fn tasks(&self) -> usize {
        self.run().tasks.lock().len()
    }

    fn is_leader(&self) -> bool {
        self.run().service.raft.is_leader()
    }

    /// Asks the node at this address who it is and what it keeps.
    pub async fn identify(&self, node_id: NodeId, node: &QuorumNode) -> Option<Report> {
        ask_one::<Rt>(&self.run().service.peers, node_id, node).await
    }

    /// Puts a voter's new identity in the place of its old one, on the active controller: the new one first catches up,
    /// then one joint change takes it in and the old one out. Asked again, it goes on where it was.
    pub async fn replace_voter(
        &self,
        old: QuorumNodeId,
        new: QuorumNodeId,
        node: QuorumNode,
    ) -> Result<(), QuorumError> {
        let leadership = self.inner.surroundings.leadership.borrow().clone();
        if !leadership.active {
            return Err(QuorumError::NotController(leadership.leader));
        }
        let run = self.run();
        let raft = &run.service.raft;
        let mut voters: BTreeSet<QuorumNodeId> = leadership.voters.iter().map(|hint| hint.id).collect();
        let had_old = voters.remove(&old);
        if !voters.insert(new) && !had_old {
            return Ok(());
        }
        if !had_old {
            return Err(QuorumError::Voters(format!("{old} is no voter")));
        }
        let report = self.identify(new.node_id, &node).await;
        let mine = *self.run().service.peers.cluster_id.read();
        match report {
            Some(report) if report.id == new && report.standing.cluster_id() == Some(mine) => {}
            Some(report) => {
                let what = format!("at {} answers {}, which keeps {}", node.address, report.id, report.standing);
                return Err(QuorumError::Voters(what));
            }
            None => return Err(QuorumError::Voters(format!("no answer from {} at {}", new, node.address))),
        }
        match Rt::timeout(CATCH_UP, raft.add_learner(new, node, true)).await {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => return Err(change_failed(&error)),
            Err(_) => return Err(QuorumError::Voters(format!("{new} does not catch up"))),
        }
        let changed = raft.change_membership(ChangeMembers::ReplaceAllVoters(voters), false).await;
        changed.map(|_| ()).map_err(|e| change_failed(&e))?;
        tracing::info!(%old, %new, "replaced a voter");
        Ok(())
    }
}

impl<Rt: AsyncRuntime> Run<Rt> {
    async fn start(
        surroundings: Surroundings,
        storage: Box<dyn QuorumStorage>,
        controller: Controller,
    ) -> Result<Self, QuorumError> {
        let Surroundings { config, snapshots, transport, publication, leadership } = surroundings;
        let raft_config = Arc::new(config.openraft()?);
        let disk = DiskFailure::default();
        let (log, saved) = LogStore::<Rt>::open(storage, config.execution, disk.clone()).await?;
        let standing = standing(&saved)?;
        let held = Snapshots::open(snapshots.clone(), config.execution, disk.clone()).map_err(|e| match e.kind() {
            // Trying again does not mend it.
            io::ErrorKind::InvalidData => QuorumStorageError::Corrupt(e.to_string()).into(),
            _ => QuorumError::Snapshot(e.to_string()),
        })?;
        let peers = Arc::new(Peers {
            me: config.me,
            transport: transport.clone(),
            cluster_id: RwLock::new(standing.cluster_id().unwrap_or(ClusterId::NONE)),
            timeouts: config.timeouts(),
            sessions: AtomicU64::new(0),
            // Who never voted has promised nothing.
            may_vote: AtomicBool::new(!saved.meta.contains_key(&MetaKey::Vote)),
        });
        let (image_tx, image) = watch::channel(MetadataImage::empty());
        let mut loader = MetadataLoader::new(MetadataImage::empty());
        loader.add_publisher(publication.clone());
        let (membership_tx, membership) = watch::channel(StoredMembershipConfig::default());
        let machine = StateMachine::<Rt>::new(loader, held.clone(), image_tx, membership_tx);
        let network = Network::<Rt>::new(peers.clone());
        let raft = Raft::<Rt>::new(config.me, raft_config, network, log.clone(), machine)
            .await
            .map_err(|e| QuorumError::Stopped(e.to_string()))?;
        let formation = Formation::new(config.me, config.voters.clone(), standing, config.new_cluster_id);
        let voters = config.voters.clone();
        let retry = config.formation_retry;
        let (forming, formation) =
            FormationTask::new(formation, voters, peers.clone(), log.clone(), raft.clone(), membership, retry);
        let stop = CancellationToken::new();
        // Nobody else writes to it now: the tasks of the run before have ended.
        leadership.send_replace(Leadership::default());
        let standby = Standby {
            formation: formation.status.clone(),
            observer: config.observer(),
            transport,
            snapshots,
            publication,
            applied: image.clone(),
        };
        let (submissions, queue) = mpsc::channel(QUEUE);
        let controller_task = ControllerTask::<Rt> {
            raft: raft.clone(),
            peers: peers.clone(),
            image: image.clone(),
            leadership: leadership.subscribe(),
            queue,
            controller,
            tick: config.controller_tick,
            wall_clock: config.wall_clock,
            stop: stop.clone(),
            began: openraft::async_runtime::Instant::now(),
            office: Office::Lost,
        };
        let lease = Lease::new(&config);
        let handed_over = watch::Sender::new(None);
        let watching = watch_leadership(raft.clone(), lease, handed_over.subscribe(), leadership.clone());
        let voting = vote_after::<Rt>(lease.length, peers.clone());
        let disk_watch = watch_disk::<Rt>(log.storage().clone(), raft.clone(), config.disk_stall_max);
        let tasks = vec![
            Rt::spawn(supervise("formation", until::<Rt>(stop.clone(), forming.run()), leadership.clone())),
            Rt::spawn(supervise("standby", standby.run::<Rt>(stop.clone()), leadership.clone())),
            Rt::spawn(supervise("leadership", until::<Rt>(stop.clone(), watching), leadership.clone())),
            Rt::spawn(supervise("lease", until::<Rt>(stop.clone(), lease.keep(raft.clone())), leadership.clone())),
            Rt::spawn(supervise("voting", until::<Rt>(stop.clone(), voting), leadership.clone())),
            Rt::spawn(supervise("disk", until::<Rt>(stop.clone(), disk_watch), leadership.clone())),
            Rt::spawn(supervise("controller", controller_task.run().map(Ok), leadership)),
        ];
        let service = Service::new(peers, raft, log, held, formation, image);
        Ok(Self {
            service,
            submissions,
            disk,
            stop,
            tasks: Mutex::new(tasks),
            handed_over,
            stand_in: Mutex::new(None),
            stood_in: AtomicU64::new(0),
        })
    }
}

/// Lets this node take part in elections when whatever it promised before it started is over.
async fn vote_after<Rt: AsyncRuntime>(lease: Duration, peers: Arc<Peers>) -> Result<(), String> {
    Rt::sleep(lease).await;
    peers.may_vote.store(true, Ordering::Release);
    Ok(())
}

/// Until the disk under a leader hangs. Others can do what needs a disk only when the leader lets go: a leader with a disk that
/// hangs still commits what a majority of the others has written, but it could not even give its vote to a successor. A follower's disk
/// holds no other voter up (its own broker follows the others meanwhile: [`MetadataQuorum::disk_stall`]), and the only voter has no successor.
async fn watch_disk<Rt: AsyncRuntime>(
    storage: StorageThread,
    raft: Raft<Rt>,
    stall_max: Duration,
) -> Result<(), String> {
    let metrics = raft.metrics();
    drop(raft);
    let mut was_too_long = false;
    loop {
        Rt::sleep(DISK_CHECK).await;
        let stalled = storage.stalled_for();
        // Twice in a row: in a process that was stopped a write seems to have taken as long as that.
        if !std::mem::replace(&mut was_too_long, stalled > stall_max) || stalled <= stall_max {
            continue;
        }
        let leads_others = {
            let metrics = metrics.borrow_watched();
            metrics.state == ServerState::Leader && metrics.membership_config.voter_ids().count() > 1
        };
        if leads_others {
            let why = format!("its disk hangs: a write has not come back for {stalled:?}");
            let why = QuorumStorageError::Io(why);
            storage.abandon(&why);
            return Err(why.to_string());
        }
    }
}

/// A change that lost its leader goes on with the next one.
fn change_failed<Rt: AsyncRuntime>(error: &RaftError<TypeConfig<Rt>, ClientWriteError<TypeConfig<Rt>>>) -> QuorumError {
    match error {
        RaftError::APIError(ClientWriteError::ForwardToLeader(_)) => QuorumError::NotController(None),
        other => QuorumError::Voters(other.to_string()),
    }
}

/// Runs `work` until it ends or the node stops.
async fn until<Rt: AsyncRuntime>(
    stop: CancellationToken,
    work: impl Future<Output = Result<(), String>> + Send,
) -> Result<(), String> {
    match Rt::select2(Box::pin(stop.cancelled()), Box::pin(work)).await {
        Select2::First(()) => Ok(()),
        Select2::Second(outcome) => outcome,
    }
}

/// A task that fails or panics ends this node's part in the quorum, visibly: a voter without its controller must not stay in office.
async fn supervise(
    name: &str,
    work: impl Future<Output = Result<(), String>> + Send,
    leadership: watch::Sender<Leadership>,
) {
    // Unwind safe: nothing of the task is used afterwards.
    match AssertUnwindSafe(work).catch_unwind().await {
        Ok(Ok(())) => {}
        Ok(Err(why)) => fail(&leadership, &why),
        Err(_) => fail(&leadership, &format!("the {name} task panicked")),
    }
}

/// The first failure stays.
fn fail(leadership: &watch::Sender<Leadership>, why: &str) {
    leadership.send_modify(|leadership| {
        (leadership.active, leadership.in_office) = (false, false);
        leadership.failure.get_or_insert_with(|| why.to_owned());
    });
}

/// What the disk says this node is.
fn standing(saved: &SavedState) -> Result<Standing, QuorumStorageError> {
    let kept: Standing = meta(saved, MetaKey::Formation)?.unwrap_or_default();
    let has_raft_state = saved.log.is_some() || saved.meta.keys().any(|key| *key != MetaKey::Formation);
    match kept {
        // A log without a cluster: somebody else's directory, or half of one.
        Standing::Empty if has_raft_state => {
            Err(QuorumStorageError::Corrupt("there is a log, but no word of its cluster".into()))
        }
        // The process ended between the first write of Raft and keeping that it had begun.
        Standing::Prepared(set) if has_raft_state => Ok(Standing::Formed(set.cluster_id)),
        other => Ok(other),
    }
}

/// Mirrors openraft's metrics, as far as they concern leadership, until Raft ends; and the end of a lease, and that the leadership was given away, of which nobody tells.
async fn watch_leadership<Rt: AsyncRuntime>(
    raft: Raft<Rt>,
    lease: Lease,
    mut handed_over: watch::Receiver<Option<u64>>,
    leadership: watch::Sender<Leadership>,
) -> Result<(), String> {
    let mut metrics = raft.metrics();
    drop(raft);
    let mut waiting: Option<(u64, Rt::Instant)> = None;
    loop {
        let (mut now, held) = {
            let metrics = metrics.borrow_and_update();
            (leadership_of(&metrics), lease.held(&metrics))
        };
        let at = Rt::Instant::now();
        let ends = match held {
            Held::Since(answered) => [lease.length, lease.patience()].map(|length| answered + length),
            Held::Not | Held::Always => [at; 2],
        };
        let is_given_away = *handed_over.borrow_and_update() == Some(now.term);
        let entitled = now.active && held != Held::Not && !is_given_away;
        [now.active, now.in_office] = ends.map(|end| entitled && (held == Held::Always || at < end));
        let before = leadership.borrow().clone();
        if before.active && !now.active && now.in_office {
            tracing::debug!(term = now.term, "this leader's lease has lapsed: its controller stands by");
        }
        match waiting {
            Some((term, since)) if !entitled || now.active || term != now.term => {
                let (waited, again) = (at - since, now.active && term == now.term);
                tracing::info!(term, ?waited, again, "this leader no longer waits for a majority");
                waiting = None;
            }
            None if entitled && !now.in_office && before.in_office && before.term == now.term => {
                let within = lease.patience();
                tracing::warn!(
                    term = now.term,
                    ?within,
                    "no majority has answered this leader for longer than its lease: its controller resigns"
                );
                waiting = Some((now.term, at));
            }
            _ => {}
        }
        let next = match held {
            Held::Since(_) => ends.into_iter().find(|end| entitled && at < *end),
            Held::Not | Held::Always => None,
        };
        leadership.send_if_modified(|old| {
            if old.failure.is_some() {
                // A task of ours has failed; Raft knows nothing of that.
                now.failure.clone_from(&old.failure);
                (now.active, now.in_office) = (false, false);
            }
            let changed = *old != now;
            if changed {
                *old = now;
            }
            changed
        });
        let over = async {
            match next {
                Some(end) => Rt::sleep_until(end).await,
                None => pending().await,
            }
        };
        let (metrics, handed_over) = (Box::pin(metrics.changed()), Box::pin(handed_over.changed()));
        match Rt::select3(metrics, handed_over, Box::pin(over)).await {
            Select3::First(Ok(())) | Select3::Second(Ok(())) | Select3::Third(()) => {}
            Select3::First(Err(_)) | Select3::Second(Err(_)) => return Err("it was stopped".to_owned()),
        }
    }
}

/// As if every leader held its lease.
fn leadership_of<Rt: AsyncRuntime>(metrics: &RaftMetrics<TypeConfig<Rt>>) -> Leadership {
    let membership = metrics.membership_config.membership();
    let hint = |id: QuorumNodeId| LeaderHint { id, node: membership.get_node(&id).cloned().unwrap_or_default() };
    let applied_term = metrics.last_applied.map(|id| id.leader_id.term);
    let failure = metrics.running_state.as_ref().err().map(ToString::to_string);
    let active =
        failure.is_none() && metrics.state == ServerState::Leader && applied_term == Some(metrics.current_term);
    Leadership {
        term: metrics.current_term,
        leader: metrics.current_leader.map(hint),
        active,
        in_office: active,
        voters: metrics.membership_config.voter_ids().map(hint).collect(),
        failure,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_voter_whose_controller_panicked_stayed_in_office() {
        let (leadership, seen) = watch::channel(Leadership { active: true, ..Leadership::default() });
        let panics = async { panic!("planted") };
        supervise("controller", panics, leadership.clone()).await;
        assert_eq!(seen.borrow().failure.as_deref(), Some("the controller task panicked"));
        assert!(!seen.borrow().active);
        supervise("standby", async { Err("later".to_owned()) }, leadership.clone()).await;
        assert_eq!(seen.borrow().failure.as_deref(), Some("the controller task panicked"), "the first failure stays");
        supervise("formation", async { Ok(()) }, leadership).await;
    }
}
