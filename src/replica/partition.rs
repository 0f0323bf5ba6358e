//! One replica of one partition on this broker.
//!
//! # Roles
//!
//! | role | becomes | when |
//! |---|---|---|
//! | `Offline` | `Leader`, `Follower` | a registration says so, the store is open, and (to lead) the leader epoch is newer than any that was resigned |
//! | `Leader` | `Follower` | a registration with a newer leader epoch names another |
//! | `Leader` | `Leader` | a registration with a newer leader epoch names this broker again: a new term with no memory of what followers said |
//! | `Follower` | `Leader`, `Follower` | a registration with a newer leader epoch |
//! | any | `Offline` | the store failed or was closed: the term is **resigned**; or the log is damaged and was given up |
//!
//! Only [`Partition::apply`], [`Partition::store_failed`] and [`Partition::give_up`] change the role. A registration is applied only if its
//! (leader epoch, partition epoch) is newer.
//!
//! # What protects what
//!
//! * `role` (read-write lock): role, terms, the log in use. Whoever appends or truncates holds it for reading over the
//!   call into the log, so that a batch can only enter the log under the epoch that was checked. (An append that slipped
//!   past a change of roles could put another record at an (epoch, offset) that other replicas already hold, which no
//!   epoch comparison can see.) Appends only queue; truncation reads from the disk under this lock, which is rare.
//! * `replication` (mutex): the high watermark and what the leader knows about its followers. Held for arithmetic only,
//!   never over a call into the log.
//! * the purgatories have locks of their own, taken last and held for map operations.
//!
//! Order: `role` → the log's own lock; `role` → `replication` → purgatory. Reads of records hold none of them: a leader
//! looks at its role again **after** a read for a follower ([`FollowerRead::confirm`]), because what it read may already
//! belong to another leader's log. Events go out with no lock held.
//!
//! # Invariants
//!
//! * The high watermark is below or at every synced end that [`LeaderState`] counts; see there.
//! * In one leader epoch, and one open of the store, a leader's log only grows. A term that was resigned is never taken
//!   up again, also not by another open of the same store (architecture, invariant 5).
//! * A waiter of an append is completed by the high watermark, by a committed ISR below min.insync.replicas (whichever of the two
//!   changed), or by the end of the leadership: never left behind. The ISR and min.insync.replicas change only under `role` for
//!   writing, so an append that looked at them before has its waiter in the purgatory by then.

use super::answer_budget::AnswerBudget;
use super::error::ReplicaError;
use super::fetcher::FetchPosition;
use super::high_watermark::HighWatermark;
use super::leader::{BrokerView, IsrProposal, LeaderState, PartitionState};
use super::partition_leader::check_epoch;
use super::purgatory::{FetchWaiter, ProduceWaiter, Purgatory, PurgatoryLimit};
use super::refused::RefusedProducers;
use crate::planted::planted;
use crate::storage::{LogListener, LogOffsets, PartitionLog, ReadLimit, RepairError, StorageError, StoreGeneration};
use bytes::Bytes;
use parking_lot::{Mutex, RwLock};
use rookery_raft::controller::DiskSpace;
use rookery_raft::ids::{BrokerEpoch, LeaderEpoch, NodeId, PartitionEpoch, TopicIdPartition};
use std::collections::BTreeMap;
use std::sync::{Arc, Weak};
use std::time::Duration;
use tokio::sync::watch;

/// Where time comes from.
pub trait Clock: Send + Sync {
    /// Monotonic time since some fixed moment.
    fn now(&self) -> Duration;
    /// Wall clock, milliseconds since 1970: for timestamps and retention only.
    fn wall_ms(&self) -> i64;
}

/// What a partition tells its surroundings. Called with no lock of the partition held; must not block.
pub trait PartitionEvents: Send + Sync {
    /// A leader's log end moved: followers can read more.
    fn log_end_moved(&self, id: TopicIdPartition);
    /// The high watermark or the log start moved.
    fn high_watermark_moved(&self, id: TopicIdPartition);
    /// A follower's records are on disk up to `synced`.
    fn follower_synced(&self, id: TopicIdPartition, leader_epoch: LeaderEpoch, synced: i64);
    /// The ISR should change.
    fn isr_proposed(&self, id: TopicIdPartition, proposal: IsrProposal);
    /// Damage was found in its log, or its log was given up.
    fn log_damaged(&self, _id: TopicIdPartition) {}
    /// The store under the partition failed.
    fn store_failed(&self, id: TopicIdPartition, error: &StorageError);
}

/// What one broker decides for all its replicas.
#[derive(Debug, Clone)]
pub struct ReplicaConfig {
    /// Lag after which a follower is to leave the ISR (`replica.lag.time.max.ms`, default 10 s here).
    pub lag_max: Duration,
    /// How long a leader stands without confirmation.
    pub lease: Duration,
    /// How many produces may wait for the high watermark.
    pub produce_purgatory: PurgatoryLimit,
    /// How many fetches may wait for records.
    pub fetch_purgatory: PurgatoryLimit,
    /// How many bytes answers to consumers may hold.
    pub answer_budget: AnswerBudget,
}

impl Default for ReplicaConfig {
    fn default() -> Self {
        Self {
            lag_max: Duration::from_secs(10),
            lease: Duration::from_secs(3),
            produce_purgatory: PurgatoryLimit::new("produce", 100_000),
            fetch_purgatory: PurgatoryLimit::new("fetch", 100_000),
            answer_budget: AnswerBudget::new(256 << 20),
        }
    }
}

/// Shared by all partitions of a broker.
pub struct ReplicaContext {
    /// This broker.
    pub node: NodeId,
    /// Settings.
    pub config: ReplicaConfig,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Who is told.
    pub events: Arc<dyn PartitionEvents>,
    confirmations: Mutex<Confirmations>,
    disk_space: Mutex<DiskSpace>,
}

/// Who has lately confirmed that this broker is not cut off.
#[derive(Debug)]
struct Confirmations {
    broker_epoch: BrokerEpoch,
    heartbeat: Option<Duration>,
    fetches: BTreeMap<NodeId, (BrokerEpoch, Duration)>,
}

impl ReplicaContext {
    /// For the partitions of broker `node`, registered under `broker_epoch`.
    pub fn new(
        (node, broker_epoch): (NodeId, BrokerEpoch),
        config: ReplicaConfig,
        clock: Arc<dyn Clock>,
        events: Arc<dyn PartitionEvents>,
    ) -> Self {
        let confirmations = Confirmations { broker_epoch, heartbeat: None, fetches: BTreeMap::new() };
        Self { node, config, clock, events, confirmations: Mutex::new(confirmations), disk_space: Mutex::default() }
    }

    /// The present registration of this broker.
    pub fn broker_epoch(&self) -> BrokerEpoch {
        self.confirmations.lock().broker_epoch
    }

    /// This broker registered anew.
    pub fn set_broker_epoch(&self, epoch: BrokerEpoch) {
        self.confirmations.lock().broker_epoch = epoch;
    }

    /// How much room the disk has.
    pub fn disk_space(&self) -> DiskSpace {
        *self.disk_space.lock()
    }

    /// The room on the disk changed; what it was before.
    pub fn set_disk_space(&self, space: DiskSpace) -> DiskSpace {
        std::mem::replace(&mut self.disk_space.lock(), space)
    }

    /// The controller answered the heartbeat that was **sent** at `sent`.
    pub fn heartbeat_answered(&self, sent: Duration) {
        let mut confirmations = self.confirmations.lock();
        confirmations.heartbeat = confirmations.heartbeat.max(Some(sent));
    }

    /// A follower broker sent a fetch of its session: it confirms every partition that is in it.
    pub fn fetch_heard(&self, from: NodeId, epoch: BrokerEpoch) {
        let now = self.clock.now();
        self.confirmations.lock().fetches.insert(from, (epoch, now));
    }

    pub(super) fn stands(&self, term: &LeaderState, now: Duration) -> bool {
        self.is_confirmed(term, now.saturating_sub(self.config.lease), now)
    }

    /// Whether it led at `since`, as somebody has said since.
    pub(super) fn is_confirmed(&self, term: &LeaderState, since: Duration, now: Duration) -> bool {
        let confirmations = self.confirmations.lock();
        term.has_standing(confirmations.heartbeat, &confirmations.fetches, now, now.saturating_sub(since))
    }
}

/// What a replica is at the moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// It serves reads and writes.
    Leader,
    /// It copies a leader.
    Follower(FollowerState),
    /// Its store is not available, or no registration has been applied under this open of it.
    Offline,
}

/// Whom a follower copies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FollowerState {
    /// The leader; `NodeId::NONE` while there is none.
    pub leader: NodeId,
}

/// What [`Partition::apply`] made of a registration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Applied {
    /// Older than what is known, or nothing to do.
    Nothing,
    /// A new term of ours began.
    BecameLeader,
    /// The same term, with another ISR or other replicas.
    StillLeader,
    /// Follows `leader` in a new epoch: fetch from this position.
    Follows {
        /// The leader, or `NodeId::NONE`.
        leader: NodeId,
        /// The term to follow.
        leader_epoch: LeaderEpoch,
        /// Where the log stands.
        position: FetchPosition,
    },
    /// Named leader of a term that this store has resigned, or unable to take it up: waits for the next epoch.
    Waits,
}

pub(super) struct RoleState {
    pub role: Role,
    pub log: Arc<PartitionLog>,
    pub leader_epoch: LeaderEpoch,
    pub partition_epoch: PartitionEpoch,
    pub leader: NodeId,
    /// Terms up to this one cannot be led (any more) by this replica: it led them before its store failed, or an
    /// earlier open of the store already held records of them.
    resigned: Option<LeaderEpoch>,
    /// The store under the log is gone until another open of it is handed in.
    closed: bool,
    /// The log is damaged beyond repair, and was given up: nothing that this replica has said up to this epoch counts.
    given_up: Option<LeaderEpoch>,
}

pub(super) struct Replication {
    pub high_watermark: HighWatermark,
    pub leading: Option<LeaderState>,
    /// What the follower follows, for commits that complete.
    pub following: Option<LeaderEpoch>,
    /// The open of the store whose commits count.
    generation: StoreGeneration,
    /// Whoever watches the high watermark of this term.
    watched: Option<watch::Sender<i64>>,
    #[cfg(test)]
    earlier: Option<LeaderState>,
}

#[cfg(test)]
impl Replication {
    fn remembering(&self, mut term: LeaderState) -> LeaderState {
        if let Some(earlier) = self.earlier.as_ref().filter(|_| planted!(RememberAnotherTerm)) {
            term.remember(earlier);
        }
        term
    }
}

/// One replica of one partition. See the module for its roles and locks.
pub struct Partition {
    id: TopicIdPartition,
    pub(super) context: Arc<ReplicaContext>,
    pub(super) role: RwLock<RoleState>,
    pub(super) replication: Mutex<Replication>,
    pub(super) produces: Arc<Mutex<Purgatory<ProduceWaiter>>>,
    pub(super) fetches: Arc<Mutex<Purgatory<FetchWaiter>>>,
    pub(super) refused: RefusedProducers,
}

impl Partition {
    /// A replica over an open log; offline until a registration is applied.
    pub fn new(log: Arc<PartitionLog>, context: Arc<ReplicaContext>) -> Arc<Self> {
        let offsets = log.offsets();
        let high_watermark = HighWatermark::within(log.recovered_high_watermark(), offsets.log_start, offsets.log_end);
        let partition = Arc::new(Self {
            id: log.topic_id_partition(),
            context,
            replication: Mutex::new(Replication {
                high_watermark,
                leading: None,
                following: None,
                generation: log.generation(),
                watched: None,
                #[cfg(test)]
                earlier: None,
            }),
            role: RwLock::new(RoleState {
                role: Role::Offline,
                log: Arc::clone(&log),
                leader_epoch: LeaderEpoch::NONE,
                partition_epoch: PartitionEpoch(-1),
                leader: NodeId::NONE,
                resigned: log.latest_epoch().map(|entry| entry.epoch),
                closed: false,
                given_up: None,
            }),
            produces: Arc::default(),
            fetches: Arc::default(),
            refused: RefusedProducers::default(),
        });
        partition.listen(&log);
        partition
    }

    fn listen(self: &Arc<Self>, log: &Arc<PartitionLog>) {
        let (partition, generation) = (Arc::downgrade(self), log.generation());
        log.set_listener(Arc::new(Listener { partition, log: Arc::downgrade(log), generation }));
    }

    /// Which partition.
    pub fn id(&self) -> TopicIdPartition {
        self.id
    }

    /// The log in use.
    pub fn log(&self) -> Arc<PartitionLog> {
        Arc::clone(&self.role.read().log)
    }

    /// The role and the leader epoch it is held in.
    pub fn role(&self) -> (Role, LeaderEpoch) {
        let role = self.role.read();
        (role.role, role.leader_epoch)
    }

    /// Who leads as far as the metadata here says, and in which epoch: the hint for clients (KIP-951).
    pub fn current_leader(&self) -> (NodeId, LeaderEpoch) {
        let role = self.role.read();
        (role.leader, role.leader_epoch)
    }

    /// The high watermark as known here.
    pub fn high_watermark(&self) -> i64 {
        self.replication.lock().high_watermark.offset()
    }

    /// The high watermark of one term and its advances; the sender goes with the term.
    pub fn watch_high_watermark(&self, leader_epoch: LeaderEpoch) -> Result<watch::Receiver<i64>, ReplicaError> {
        let mut replication = self.replication.lock();
        let high_watermark = replication.high_watermark.offset();
        if replication.leading.as_ref().is_none_or(|term| term.leader_epoch() != leader_epoch) {
            return Err(ReplicaError::NotLeaderOrFollower);
        }
        let sender = replication.watched.get_or_insert_with(|| watch::Sender::new(high_watermark));
        Ok(sender.subscribe())
    }

    /// The log of one term, to read all of it, committed or not: for a coordinator that replays its own partition.
    pub fn log_as_leader(&self, leader_epoch: LeaderEpoch) -> Result<Arc<PartitionLog>, ReplicaError> {
        let role = self.role.read();
        if role.role != Role::Leader || role.leader_epoch != leader_epoch {
            return Err(ReplicaError::NotLeaderOrFollower);
        }
        Ok(Arc::clone(&role.log))
    }

    /// Looks at the leader's knowledge; `None` when this replica does not lead.
    pub fn with_leader<T>(&self, look: impl FnOnce(&LeaderState) -> T) -> Option<T> {
        self.replication.lock().leading.as_ref().map(look)
    }

    /// Applies what the metadata says now. `brokers` has an entry for every registered replica.
    pub fn apply(
        &self,
        state: &PartitionState,
        brokers: &BTreeMap<NodeId, BrokerView>,
    ) -> Result<Applied, ReplicaError> {
        let now = self.context.clock.now();
        let mut role = self.role.write();
        let known = (role.leader_epoch, role.partition_epoch);
        let stale = (state.leader_epoch, state.partition_epoch) <= known;
        if stale && role.role != Role::Offline {
            return Ok(Applied::Nothing);
        }
        let same_term = role.leader_epoch == state.leader_epoch;
        (role.leader_epoch, role.partition_epoch) = (state.leader_epoch, state.partition_epoch);
        role.leader = state.leader;
        if role.closed {
            return Ok(Applied::Waits);
        }
        if matches!(role.log.failure(), Some(StorageError::Corrupt(_))) {
            self.resign(&mut role);
            role.given_up.get_or_insert(state.leader_epoch);
            let waiting = self.stop_leading(None);
            drop(role);
            waiting.fail(&ReplicaError::NotLeaderOrFollower, &self.refused);
            self.context.events.log_damaged(self.id);
            return Ok(Applied::Waits);
        }
        if state.leader == self.context.node {
            let applied = if same_term && role.role == Role::Leader {
                self.update_term(state, brokers, now);
                Applied::StillLeader
            } else {
                self.become_leader(&mut role, state, brokers, now)?
            };
            let waiting = self.waiting_in_vain();
            drop(role);
            waiting.fail(&ReplicaError::NotEnoughReplicasAfterAppend, &self.refused);
            self.advance_now();
            return Ok(applied);
        }
        let followed = matches!(role.role, Role::Follower(_));
        role.role = Role::Follower(FollowerState { leader: state.leader });
        if same_term && followed {
            return Ok(Applied::Nothing);
        }
        let position = position(&role.log);
        let waiting = self.stop_leading(Some(state.leader_epoch));
        drop(role);
        waiting.fail(&ReplicaError::NotLeaderOrFollower, &self.refused);
        Ok(Applied::Follows { leader: state.leader, leader_epoch: state.leader_epoch, position })
    }

    fn become_leader(
        &self,
        role: &mut RoleState,
        state: &PartitionState,
        brokers: &BTreeMap<NodeId, BrokerView>,
        now: Duration,
    ) -> Result<Applied, ReplicaError> {
        let resigned = role.resigned.is_some_and(|resigned| state.leader_epoch <= resigned);
        if resigned && !planted!(LeadAgainAfterLostTail) {
            role.role = Role::Offline;
            return Ok(Applied::Waits);
        }
        if let Err(error) = role.log.assign_leader_epoch(state.leader_epoch) {
            role.role = Role::Offline;
            return Err(error.into());
        }
        let offsets = role.log.offsets();
        let me = (self.context.node, self.context.broker_epoch());
        let term = LeaderState::new(me, state, brokers, offsets.log_end, now, self.context.config.lag_max);
        role.role = Role::Leader;
        let mut replication = self.replication.lock();
        #[cfg(test)]
        let term = replication.remembering(term);
        replication.following = None;
        replication.watched = None;
        // One that was elected uncleanly may have heard of commits that it has not on its disk: a crash would take back what was shown.
        replication.high_watermark.truncate_to(offsets.synced_end);
        // Waiting produces of an earlier term of ours stay: this log was never cut meanwhile, and their records are in it.
        replication.leading = Some(term);
        Ok(Applied::BecameLeader)
    }

    /// Another registration of the term we lead.
    fn update_term(&self, state: &PartitionState, brokers: &BTreeMap<NodeId, BrokerView>, now: Duration) {
        let mut replication = self.replication.lock();
        if let Some(term) = replication.leading.as_mut().filter(|term| term.leader_epoch() == state.leader_epoch) {
            term.update(state, brokers, now);
        }
    }

    /// What the metadata says of some brokers, or of `min.insync.replicas`, changed without a change of the registration.
    pub fn update_metadata(&self, brokers: &BTreeMap<NodeId, BrokerView>, min_insync_replicas: usize) {
        let role = self.role.write();
        if let Some(term) = self.replication.lock().leading.as_mut() {
            term.update_brokers(brokers);
            term.set_min_insync_replicas(min_insync_replicas);
        }
        let waiting = self.waiting_in_vain();
        drop(role);
        waiting.fail(&ReplicaError::NotEnoughReplicasAfterAppend, &self.refused);
        self.advance_now();
    }

    /// Who waits although too few replicas are in sync, as it was committed: a proposal may come to nothing. Caller holds `role` for writing.
    fn waiting_in_vain(&self) -> Waiting {
        let under_min = self.with_leader(LeaderState::is_committed_under_min_isr).unwrap_or(false);
        let produces = if under_min { self.produces.lock().drain() } else { Vec::new() };
        Waiting { produces, fetches: Vec::new() }
    }

    /// The store failed, or was closed: nothing that is not synced by now will ever be, and this term is over.
    pub fn store_failed(&self) {
        let mut role = self.role.write();
        self.resign(&mut role);
        role.closed = true;
        let waiting = self.stop_leading(None);
        drop(role);
        waiting.fail(&ReplicaError::NotLeaderOrFollower, &self.refused);
    }

    /// Another open of the store holds this log; offline until the registration is applied again.
    pub fn store_reopened(self: &Arc<Self>, log: Arc<PartitionLog>) {
        let offsets = log.offsets();
        let mut role = self.role.write();
        self.resign(&mut role);
        role.resigned = role.resigned.max(log.latest_epoch().map(|entry| entry.epoch));
        role.log = Arc::clone(&log);
        role.closed = false;
        role.given_up = None;
        let waiting = self.stop_leading(None);
        {
            let mut replication = self.replication.lock();
            replication.generation = log.generation();
            let known = replication.high_watermark.offset().max(log.recovered_high_watermark());
            replication.high_watermark = HighWatermark::within(known, offsets.log_start, offsets.log_end);
        }
        drop(role);
        waiting.fail(&ReplicaError::NotLeaderOrFollower, &self.refused);
        self.listen(&log);
    }

    /// The log is damaged in a way that cannot be mended batch by batch: this replica is offline until another log takes its place.
    pub fn give_up(&self, what: &str) {
        let mut role = self.role.write();
        if role.given_up.is_some() {
            return;
        }
        role.log.give_up(what);
        self.resign(&mut role);
        role.given_up = Some(role.leader_epoch);
        let waiting = self.stop_leading(None);
        drop(role);
        waiting.fail(&ReplicaError::NotLeaderOrFollower, &self.refused);
        tracing::error!(partition = %self.id, %what, "the log of this replica is given up");
        self.context.events.log_damaged(self.id);
    }

    /// The epoch up to which this replica took part with a log that was given up.
    pub fn given_up(&self) -> Option<LeaderEpoch> {
        self.role.read().given_up
    }

    /// A committed batch, for a replica whose own is damaged. **Blocks.**
    pub fn committed_batch(&self, leader_epoch: LeaderEpoch, last_offset: i64) -> Result<Bytes, ReplicaError> {
        let log = self.log_in(leader_epoch)?;
        let (log_start, end) = (log.offsets().log_start, self.high_watermark());
        if last_offset < log_start {
            return Err(ReplicaError::OffsetOutOfRange { offset: last_offset, log_start, end });
        }
        if last_offset >= end {
            return Err(ReplicaError::OffsetNotAvailable);
        }
        let read = log.read(last_offset, end, ReadLimit { max_bytes: 0, at_least_one: true })?;
        // What was read after the check could come from another term's log.
        self.log_in(leader_epoch)?;
        read.batches.into_iter().next().ok_or(ReplicaError::OffsetNotAvailable)
    }

    /// Queues a copy of a damaged batch that came from another replica in this term. **Blocks** (reads).
    pub fn repair(&self, leader_epoch: LeaderEpoch, last_offset: i64, copy: &Bytes) -> Result<(), RepairError> {
        let role = self.role.read();
        if role.role == Role::Offline || role.leader_epoch != leader_epoch {
            return Err(RepairError::NotDamaged);
        }
        role.log.repair(last_offset, self.high_watermark(), copy)
    }

    /// The log, if this replica leads or follows in a term.
    fn log_in(&self, leader_epoch: LeaderEpoch) -> Result<Arc<PartitionLog>, ReplicaError> {
        let role = self.role.read();
        check_epoch(&role, leader_epoch)?;
        match role.role {
            Role::Offline => Err(ReplicaError::NotLeaderOrFollower),
            _ => Ok(Arc::clone(&role.log)),
        }
    }

    fn resign(&self, role: &mut RoleState) {
        if role.role == Role::Leader {
            role.resigned = role.resigned.max(Some(role.leader_epoch));
        }
        role.role = Role::Offline;
    }

    fn stop_leading(&self, following: Option<LeaderEpoch>) -> Waiting {
        let mut replication = self.replication.lock();
        #[cfg(test)]
        if let Some(term) = replication.leading.take() {
            replication.earlier = Some(term);
        }
        replication.leading = None;
        replication.watched = None;
        replication.following = following;
        let produces = if planted!(KeepWaitersOfEndedTerm) { Vec::new() } else { self.produces.lock().drain() };
        Waiting { produces, fetches: self.fetches.lock().drain() }
    }

    /// Moves the high watermark as far as it goes, proposes a caught-up follower, and lets go who waited. Whatever could
    /// move it ends here: a commit of ours, a fetch or progress of a follower, a registration, the metadata.
    ///
    /// `offsets` were read while `leader_epoch` was led: within one term the log only grows, so they still hold if that
    /// term is still led, and are dropped otherwise. Called with no lock held, since it tells others.
    pub(super) fn advance(&self, leader_epoch: LeaderEpoch, offsets: LogOffsets, now: Duration) {
        let (moved, high_watermark, proposal) = {
            let mut replication = self.replication.lock();
            let Replication { high_watermark, leading, watched, .. } = &mut *replication;
            let Some(term) = leading.as_mut().filter(|term| term.leader_epoch() == leader_epoch) else { return };
            let own = if planted!(AckBeforeFsync) { offsets.log_end } else { offsets.synced_end };
            let moved = term.advance(high_watermark, own, offsets.log_end, now);
            if let Some(watched) = watched {
                watched.send_replace(high_watermark.offset());
            }
            (moved, *high_watermark, term.propose_expand(*high_watermark, now))
        };
        if moved {
            let produces = self.produces.lock().reach(high_watermark.offset());
            for waiter in produces {
                waiter.complete(Ok(()));
            }
            let fetches = self.fetches.lock().reach(high_watermark.offset());
            for waiter in fetches {
                waiter.wake();
            }
            self.context.events.high_watermark_moved(self.id);
        }
        if let Some(proposal) = proposal {
            self.context.events.isr_proposed(self.id, proposal);
        }
    }

    pub(super) fn advance_now(&self) {
        if let Some(leader_epoch) = self.with_leader(LeaderState::leader_epoch) {
            self.advance(leader_epoch, self.log().offsets(), self.context.clock.now());
        }
    }

    /// Looks for lagging followers: call a few times within `lag_max`.
    pub fn check_lag(&self) {
        let now = self.context.clock.now();
        let log_end = self.log().offsets().log_end;
        let proposal = {
            let mut replication = self.replication.lock();
            replication.leading.as_mut().and_then(|term| term.propose_shrink(log_end, now))
        };
        if let Some(proposal) = proposal {
            self.context.events.isr_proposed(self.id, proposal);
        }
        // A replica outside the ISR that is not caught up any more holds the high watermark no longer.
        self.advance_now();
    }

    /// The proposal that is pending, for another try while its outcome is unknown.
    pub fn pending_proposal(&self) -> Option<IsrProposal> {
        self.replication.lock().leading.as_ref().and_then(LeaderState::proposal)
    }

    /// The controller refused a proposal, and no copy of it can take effect any more.
    pub fn proposal_refused(&self, leader_epoch: LeaderEpoch, partition_epoch: PartitionEpoch) {
        let now = self.context.clock.now();
        if let Some(term) = self.replication.lock().leading.as_mut() {
            term.proposal_refused(leader_epoch, partition_epoch, now);
        }
        self.advance_now();
    }
}

/// Requests to be let go once no lock is held.
struct Waiting {
    produces: Vec<ProduceWaiter>,
    fetches: Vec<FetchWaiter>,
}

impl Waiting {
    /// Every produce is noted before anybody learns of it: a new leadership, under which the next batch could be taken, begins later.
    fn fail(self, error: &ReplicaError, refused: &RefusedProducers) {
        for waiter in &self.produces {
            refused.note(waiter.batch, error);
        }
        for waiter in self.produces {
            waiter.complete(Err(error.clone()));
        }
        for waiter in self.fetches {
            waiter.wake();
        }
    }
}

/// Where a log stands, for a fetch.
pub(super) fn position(log: &PartitionLog) -> FetchPosition {
    let (LogOffsets { log_start, log_end, synced_end }, end) = log.position();
    FetchPosition { wanted: log_end, synced: synced_end.min(log_end), last_epoch: end.epoch, log_start }
}

/// A log's commits, told to its partition as long as both are in use.
struct Listener {
    partition: Weak<Partition>,
    log: Weak<PartitionLog>,
    generation: StoreGeneration,
}

impl LogListener for Listener {
    /// Runs on the commit thread: takes the partition's mutex and never its role, which may be held over a truncation.
    fn synced(&self, _offsets: LogOffsets) {
        let (Some(partition), Some(log)) = (self.partition.upgrade(), self.log.upgrade()) else { return };
        let (leading, following) = {
            let replication = partition.replication.lock();
            if replication.generation != self.generation {
                return;
            }
            (replication.leading.as_ref().map(LeaderState::leader_epoch), replication.following)
        };
        // Read after the term: what was reported may be from before a truncation.
        let offsets = log.offsets();
        if let Some(leader_epoch) = leading {
            partition.advance(leader_epoch, offsets, partition.context.clock.now());
        } else if let Some(leader_epoch) = following {
            partition.context.events.follower_synced(partition.id, leader_epoch, offsets.synced_end);
        }
    }

    fn damaged(&self) {
        if let Some(partition) = self.partition.upgrade() {
            partition.context.events.log_damaged(partition.id);
        }
    }

    fn failed(&self, error: &StorageError) {
        let Some(partition) = self.partition.upgrade() else { return };
        let current = partition.replication.lock().generation == self.generation;
        if current {
            partition.context.events.store_failed(partition.id, error);
        }
    }
}
