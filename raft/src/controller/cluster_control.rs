//! Brokers: registration, sessions, fencing, directories, leaving.
//!
//! # A broker's life
//!
//! ```text
//!              register (new epoch)
//! unknown ───────────────────────────▶ fenced ◀──────────────────────────────┐
//!    ▲                                   │ heartbeat, registration applied   │ session expired, evidence,
//!    │ unregister                        ▼                                   │ want_fence, shut down
//!    └────────────────────────────── unfenced ──▶ shutting down ─────────────┘
//!                                        want_shutdown
//! ```
//!
//! The log holds these states. Soft state, rebuilt by every new active controller: when a broker was last heard of,
//! up to where it has applied, whether its heartbeat connection closed, how its disk does.
//!
//! # What follows in the same entry
//!
//! - **Fenced, shutting down, directory offline**: the replica leaves the ISR and stays eligible (ELR); leaders move.
//! - **Registration**: as fenced, for every partition of the broker, whether it was fenced before or not. A partition
//!   it led has a new leader or none, so the leader epoch of its earlier life is over. A replica whose recorded
//!   directory is not listed is *wiped*, one in a `log_lost` directory *lost*: both leave ISR and ELR. A directory
//!   listed as offline keeps its place in the ELR: by its id it is the same disk, nobody can lead from it while it is
//!   offline, and it has to be listed again, with its state, before anybody can.
//! - **Unfenced, directory back**: partitions without leader are looked at again.
//!
//! # Disks that hang or fill up
//!
//! Such a broker looks alive to every detector; its heartbeats say what its disk does (and new partitions go elsewhere, where there are others:
//! [`Placement`](super::Placement)):
//!
//! | disk | leaderships | ISR places |
//! |---|---|---|
//! | short of space ([`DiskSpace::Low`]) | move where another in-sync replica suits better | stay: it follows |
//! | full ([`DiskSpace::Reserve`]) | the same | are given up where min.insync.replicas are left without it |
//! | stalled: it is at one commit for too long | the same | are given up where another in-sync replica can lead |
//!
//! A replica that gave up its place may not take it again while its disk is full or stalled. Where nobody else can lead, it
//! leads on; and a full one is elected where nobody else can be: records can still be read there, and retention, which gives
//! space back, runs where a leader is. When more than half of the brokers are full it is not the brokers, and nobody leaves an ISR for
//! that; when more than half of them wait for their disks, none is taken for stalled ([`ClusterControl::do_most_wait`]).
//!
//! What follows is looked for when a broker's disk changes and every few seconds
//! ([`ClusterControl::relieve_impaired`]), from the conditions and the image alone: it does not matter which change made it possible.

use super::observations::Observations;
use super::partition_change_builder::PartitionChangeBuilder;
use super::partition_control::{self, PartitionControl};
use super::{
    Answer, Batch, BrokerHeartbeatRequest, BrokerHeartbeatResponse, ControllerConfig, ControllerError,
    ControllerResponse, DiskSpace, Election, Fitness, RegisterBrokerRequest, Suitability, UpdateDirectoriesRequest,
};
use crate::ids::{BrokerEpoch, DirectoryId, MetadataOffset, NodeId, TopicIdPartition};
use crate::image::{BrokerRegistration, MetadataImage};
use crate::planted::planted;
use crate::record::{
    Cause, Conviction, Directory, DirectoryState, DiskReport, Finding, METADATA_VERSION_FEATURE, MetadataRecord,
    Observation, PartitionRegistration, RegisterBroker,
};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

/// What a registration may bring at most; more is a mistake or an attack.
const LISTENERS_MAX: usize = 64;
const DIRECTORIES_MAX: usize = 256;
const FEATURES_MAX: usize = 256;
const NAME_BYTES_MAX: usize = 1024;

/// What a broker's disk does, as its last heartbeat said.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct DiskCondition {
    stalled: bool,
    space: DiskSpace,
}

impl DiskCondition {
    /// Records cannot be appended there for now: the replica is no member of an ISR.
    fn is_out(self) -> bool {
        self.stalled || self.space == DiskSpace::Reserve
    }

    /// The worst of it.
    fn report(self) -> DiskReport {
        match self.space {
            _ if self.stalled => DiskReport::Stalled,
            DiskSpace::Reserve => DiskReport::Full,
            DiskSpace::Low => DiskReport::Low,
            DiskSpace::Ample => DiskReport::InOrder,
        }
    }
}

/// Soft state about one broker in one life.
#[derive(Clone, Debug)]
struct Session {
    epoch: BrokerEpoch,
    last_contact: Duration,
    applied: MetadataOffset,
    connection_closed: bool,
    disk: DiskCondition,
    /// For how long its disk had been at one commit at its last heartbeat.
    commit_age: Duration,
    /// Everybody must have applied up to here before the broker may go.
    shutdown_offset: Option<MetadataOffset>,
}

impl Session {
    fn new(epoch: BrokerEpoch, now: Duration) -> Self {
        Self {
            epoch,
            last_contact: now,
            applied: MetadataOffset(-1),
            connection_closed: false,
            disk: DiskCondition::default(),
            commit_age: Duration::ZERO,
            shutdown_offset: None,
        }
    }
}

pub(super) struct ClusterControl {
    config: ControllerConfig,
    sessions: BTreeMap<NodeId, Session>,
    last_expiry_check: Duration,
    /// For the event log.
    pub(super) observations: Observations,
}

impl ClusterControl {
    pub(super) fn new(config: ControllerConfig) -> Self {
        Self {
            config,
            sessions: BTreeMap::new(),
            last_expiry_check: Duration::ZERO,
            observations: Observations::default(),
        }
    }

    pub(super) fn restart(&mut self, image: &MetadataImage, now: Duration) {
        self.last_expiry_check = now;
        self.sessions = image.cluster.brokers().map(|b| (b.id(), Session::new(b.epoch(), now))).collect();
    }

    /// What brokers said from `since` to `now` was refused: that time is no silence of theirs.
    pub(super) fn stood_by(&mut self, since: Duration, now: Duration) {
        let gap = now.saturating_sub(since);
        self.last_expiry_check = (self.last_expiry_check + gap).min(now);
        self.sessions.values_mut().for_each(|s| s.last_contact = (s.last_contact + gap).min(now));
    }

    pub(super) fn forget(&mut self) {
        self.sessions.clear();
        self.observations.forget();
    }

    pub(super) fn connection_closed(&mut self, id: NodeId, epoch: BrokerEpoch) {
        if let Some(session) = self.sessions.get_mut(&id).filter(|s| s.epoch == epoch) {
            session.connection_closed = true;
        }
    }

    fn disk(&self, id: NodeId) -> DiskCondition {
        self.sessions.get(&id).map(|s| s.disk).unwrap_or_default()
    }

    /// How well a replica could lead: its broker active, its directory usable, its disk in order.
    pub(super) fn suitability(
        &self,
        image: &MetadataImage,
        partition: &PartitionRegistration,
        id: NodeId,
    ) -> Suitability {
        self.suitability_in(image, partition.directory_of(id).unwrap_or_default(), id, partition.leader == id)
    }

    /// The same, where the replica is or will be in that directory.
    pub(super) fn suitability_in(
        &self,
        image: &MetadataImage,
        directory: DirectoryId,
        id: NodeId,
        leads: bool,
    ) -> Suitability {
        let hosted = |broker: &Arc<BrokerRegistration>| broker.is_active() && broker.can_host(directory);
        let disk = self.disk(id);
        match image.cluster.broker(id).is_some_and(hosted) {
            false => Suitability::Unable,
            // A leader whom nobody could replace stays: no leader at all would be no better.
            true if disk.stalled && !leads => Suitability::Unable,
            true if disk.is_out() => Suitability::ReadOnly,
            true if disk == DiskCondition::default() => Suitability::Good,
            true => Suitability::LastResort,
        }
    }

    /// Whether records can be appended on a broker's disk now.
    pub(super) fn can_append(&self, id: NodeId) -> bool {
        !self.disk(id).is_out()
    }

    /// How well a broker could take a new partition.
    pub(super) fn fitness(&self, broker: &BrokerRegistration) -> Fitness {
        match broker.is_active() && broker.record.directories.iter().any(|d| d.state.is_usable()) {
            false => Fitness::Inactive,
            true if self.disk(broker.id()) != DiskCondition::default() => Fitness::Impaired,
            true => Fitness::Fit,
        }
    }

    /// The broker of a request, in the life the request means.
    pub(super) fn checked(
        image: &MetadataImage,
        id: NodeId,
        epoch: BrokerEpoch,
    ) -> Result<&Arc<BrokerRegistration>, ControllerError> {
        let broker = image.cluster.broker(id).ok_or(ControllerError::BrokerIdNotRegistered(id))?;
        if broker.epoch() != epoch && !planted!(SkipBrokerEpochCheck) {
            return Err(ControllerError::StaleBrokerEpoch { id, current: broker.epoch(), given: epoch });
        }
        Ok(broker)
    }

    // ---- registration ----

    pub(super) fn register(&mut self, batch: &mut Batch, request: &RegisterBrokerRequest, now: Duration) -> Answer {
        let image = batch.image().clone();
        check_registration(&image, request)?;
        let epoch = batch.next_broker_epoch();
        if let Some(old) = image.cluster.broker(request.id) {
            if old.epoch() >= epoch {
                return Err(ControllerError::NotReady(format!("broker {} is being registered", request.id)));
            }
            if old.record.incarnation != request.incarnation && !old.fenced && self.session_is_alive(old, now) {
                return Err(ControllerError::DuplicateBrokerRegistration(request.id));
            }
        }
        let registration = RegisterBroker {
            id: request.id,
            epoch,
            incarnation: request.incarnation,
            previous_epoch: request.previous_epoch,
            listeners: request.listeners.clone(),
            peer_address: request.peer_address.clone(),
            gossip_address: request.gossip_address.clone(),
            rack: request.rack.clone(),
            features: request.features.clone(),
            directories: request.directories.clone(),
            is_controller: request.is_controller,
        };
        let mut records = vec![MetadataRecord::RegisterBroker(registration)];
        let after = batch.preview(&records)?;
        let home = home_directory(&request.directories);
        records.extend(self.change_replicas_of(&after, request.id, |partition, builder| {
            let builder = replica_after_registration(partition, request.id, &request.directories, home, builder);
            Some(if planted!(RegistrationKeepsIsr) { builder } else { builder.leave_isr(request.id) })
        }));
        batch.push(Cause::Registration, records)?;
        self.sessions.insert(request.id, Session::new(epoch, now));
        tracing::info!(broker = request.id.0, epoch = epoch.0, incarnation = %request.incarnation, "broker registered");
        Ok(ControllerResponse::RegisterBroker { epoch })
    }

    fn session_is_alive(&self, broker: &BrokerRegistration, now: Duration) -> bool {
        self.sessions.get(&broker.id()).is_some_and(|session| {
            let silent = now.saturating_sub(session.last_contact);
            session.epoch == broker.epoch() && !session.connection_closed && silent <= self.config.session_timeout
        })
    }

    // ---- heartbeats ----

    pub(super) fn heartbeat(&mut self, batch: &mut Batch, request: &BrokerHeartbeatRequest, now: Duration) -> Answer {
        let (id, epoch) = (request.id, request.epoch);
        let broker = Self::checked(batch.image(), id, epoch)?.clone();
        let session = self.sessions.entry(id).or_insert_with(|| Session::new(epoch, now));
        if session.epoch != epoch {
            *session = Session::new(epoch, now);
        }
        session.last_contact = now;
        session.connection_closed = false;
        session.applied = session.applied.max(request.applied_offset);
        let is_caught_up = request.applied_offset >= broker.registered_at || planted!(UnfenceBeforeCaughtUp);
        let mut response = BrokerHeartbeatResponse { is_caught_up, is_fenced: broker.fenced, should_shut_down: false };
        if request.want_shutdown {
            response.should_shut_down = self.leave(batch, &broker)?;
            response.is_fenced = broker.fenced || response.should_shut_down;
        } else if broker.fenced && is_caught_up && !request.want_fence {
            self.unfence(batch, id, epoch)?;
            response.is_fenced = false;
        } else if !broker.fenced && request.want_fence {
            self.fence(batch, id, epoch, Cause::FenceRequested)?;
            response.is_fenced = true;
        }
        self.watch_disk(batch, request, now)?;
        Ok(ControllerResponse::BrokerHeartbeat(response))
    }

    /// One step of a controlled shutdown; whether the broker may end its process.
    fn leave(&mut self, batch: &mut Batch, broker: &BrokerRegistration) -> Result<bool, ControllerError> {
        let (id, epoch) = (broker.id(), broker.epoch());
        if broker.fenced {
            return Ok(true);
        }
        if !broker.shutting_down {
            let mut records = vec![MetadataRecord::BrokerShuttingDown { id, epoch }];
            let after = batch.preview(&records)?;
            records.extend(self.change_replicas_of(&after, id, |_, builder| Some(builder.leave_isr(id))));
            batch.push(Cause::ShutdownRequested, records)?;
            tracing::info!(broker = id.0, "broker is shutting down, its leaderships move");
            return Ok(false);
        }
        // The entry that moved the leaderships is applied here. Once every active broker has applied it too, no client
        // is sent to the leaving one any more.
        let applied_here = batch.image().offset;
        let Some(session) = self.sessions.get_mut(&id) else { return Ok(false) };
        let needed = *session.shutdown_offset.get_or_insert(applied_here);
        let behind = |b: &&Arc<BrokerRegistration>| self.sessions.get(&b.id()).is_some_and(|s| s.applied < needed);
        if batch.image().cluster.brokers().filter(|b| b.is_active()).any(|b| behind(&b)) {
            return Ok(false);
        }
        self.fence(batch, id, epoch, Cause::ShutdownCompleted)?;
        Ok(true)
    }

    fn watch_disk(
        &mut self,
        batch: &mut Batch,
        request: &BrokerHeartbeatRequest,
        now: Duration,
    ) -> Result<(), ControllerError> {
        let (id, oldest) = (request.id, request.oldest_unfinished_commit);
        if let Some(session) = self.sessions.get_mut(&id) {
            session.commit_age = oldest;
        }
        let stalled = oldest > self.config.commit_stall_max && !self.do_most_wait(batch.image());
        let disk = DiskCondition { stalled, space: request.disk_space };
        let Some(session) = self.sessions.get_mut(&id) else { return Ok(()) };
        let before = std::mem::replace(&mut session.disk, disk);
        if before == disk {
            return Ok(());
        }
        match (before.stalled, disk.stalled) {
            (false, true) => tracing::warn!(broker = id.0, ?oldest, "commits stall: leaderships move"),
            (true, false) => tracing::info!(broker = id.0, "commits move again"),
            _ => {}
        }
        if before.space != disk.space {
            tracing::warn!(broker = id.0, before = ?before.space, now = ?disk.space, "the space on a broker's disk changed");
        }
        if before.report() != disk.report() {
            let finding = match disk.report() {
                DiskReport::InOrder => Finding::DiskInOrder,
                DiskReport::Low => Finding::DiskLow,
                DiskReport::Full => Finding::DiskFull,
                DiskReport::Stalled => Finding::DiskStalled,
            };
            self.observations.note(Observation { broker: id, epoch: request.epoch, finding, count: 1 }, now);
        }
        self.relieve(batch, Some(id), Cause::DiskReported { broker: id, disk: disk.report() })
    }

    /// Whether the disks of most brokers are at one commit for half the time that makes a stall. One disk that hangs makes nobody else wait: then it
    /// is what they have in common, a machine or its storage, and no broker's leaderships would be better off elsewhere. Looked at anew with
    /// the next heartbeat.
    fn do_most_wait(&self, image: &MetadataImage) -> bool {
        let long = self.config.commit_stall_max / 2;
        let waits = |b: &Arc<BrokerRegistration>| self.sessions.get(&b.id()).is_some_and(|s| s.commit_age > long);
        let active = image.cluster.brokers().filter(|b| b.is_active());
        let (all, waiting) = active.fold((0, 0), |(all, waiting), b| (all + 1, waiting + usize::from(waits(b))));
        waiting * 2 > all && all > 1
    }

    /// Moves what can be moved by now away from brokers whose disk hangs or fills up.
    pub(super) fn relieve_impaired(&self, batch: &mut Batch) -> Result<(), ControllerError> {
        self.relieve(batch, None, Cause::DisksImpaired)
    }

    /// Also looks at every partition of `changed`, whose disk may be in order again.
    fn relieve(&self, batch: &mut Batch, changed: Option<NodeId>, cause: Cause) -> Result<(), ControllerError> {
        let impaired = |id: &NodeId| self.disk(*id) != DiskCondition::default();
        let concerned: BTreeSet<NodeId> = self.sessions.keys().copied().filter(impaired).chain(changed).collect();
        if concerned.is_empty() {
            return Ok(());
        }
        let image = batch.image().clone();
        let active = image.cluster.brokers().filter(|b| b.is_active());
        let (all, stalled, full) = active.fold((0, 0, 0), |(all, stalled, full), b| {
            let disk = self.disk(b.id());
            (all + 1, stalled + usize::from(disk.stalled), full + usize::from(disk.space == DiskSpace::Reserve))
        });
        let are_most = |some: usize| some * 2 > all && all > 1;
        let (most_stall, most_are_full) = (are_most(stalled), are_most(full));
        if most_stall || most_are_full {
            tracing::warn!(stalled, full, all, "most brokers' disks hang, or are full: nobody leaves an ISR for it");
        }
        let must_go =
            |disk: DiskCondition| (disk.stalled && !most_stall) || (disk.space == DiskSpace::Reserve && !most_are_full);
        let has_one = |partition: &PartitionRegistration| partition.replicas.iter().any(|r| concerned.contains(r));
        let records = self.change_partitions(&image, has_one, |partition, mut builder| {
            for id in partition.isr.iter().copied().filter(|id| must_go(self.disk(*id))) {
                let other = |r: &NodeId| {
                    let suits = self.suitability(&image, partition, *r);
                    *r != id
                        && (suits >= Suitability::LastResort || (suits > Suitability::Unable && *r == partition.leader))
                };
                let replaceable = partition.isr.iter().any(other);
                if replaceable && (self.disk(id).stalled || builder.can_spare(id)) {
                    builder = builder.leave_isr(id);
                }
            }
            Some(builder)
        });
        batch.push(cause, records)
    }

    // ---- fencing ----

    fn unfence(&mut self, batch: &mut Batch, id: NodeId, epoch: BrokerEpoch) -> Result<(), ControllerError> {
        let mut records = vec![MetadataRecord::UnfenceBroker { id, epoch }];
        let after = batch.preview(&records)?;
        records.extend(self.elect_leaderless_of(&after, id));
        batch.push(Cause::CaughtUp, records)?;
        tracing::info!(broker = id.0, epoch = epoch.0, "broker unfenced");
        Ok(())
    }

    fn fence(
        &mut self,
        batch: &mut Batch,
        id: NodeId,
        epoch: BrokerEpoch,
        cause: Cause,
    ) -> Result<(), ControllerError> {
        self.fence_all(batch, &[(id, epoch)], cause)
    }

    /// Fences several brokers at once: one change for each partition, so that no leadership moves to another that is
    /// fenced in the same breath.
    fn fence_all(
        &mut self,
        batch: &mut Batch,
        brokers: &[(NodeId, BrokerEpoch)],
        cause: Cause,
    ) -> Result<(), ControllerError> {
        let fence = |(id, epoch): &(NodeId, BrokerEpoch)| MetadataRecord::FenceBroker { id: *id, epoch: *epoch };
        let mut records: Vec<MetadataRecord> = brokers.iter().map(fence).collect();
        let after = batch.preview(&records)?;
        let concerned =
            |partition: &PartitionRegistration| brokers.iter().any(|(id, _)| partition.replicas.contains(id));
        records.extend(self.change_partitions(&after, concerned, |_, builder| {
            let leaving = brokers.iter().filter(|_| !planted!(FenceKeepsIsr));
            Some(leaving.fold(builder, |builder, (id, _)| builder.leave_isr(*id)))
        }));
        let partitions = records.len() - brokers.len();
        batch.push(cause, records)?;
        for (id, epoch) in brokers {
            tracing::info!(broker = id.0, epoch = epoch.0, partitions, why = %cause, "broker fenced");
        }
        Ok(())
    }

    /// The failure watcher's verdict; void if the broker has begun another life or is fenced already.
    pub(super) fn fence_on_evidence(
        &mut self,
        batch: &mut Batch,
        id: NodeId,
        epoch: BrokerEpoch,
        why: Conviction,
    ) -> Answer {
        let target = batch.image().cluster.broker(id).filter(|b| b.epoch() == epoch && !b.fenced);
        if target.is_none() {
            return Ok(ControllerResponse::Fenced(vec![]));
        }
        self.fence(batch, id, epoch, Cause::Convicted(why))?;
        Ok(ControllerResponse::Fenced(vec![id]))
    }

    pub(super) fn expire_sessions(&mut self, batch: &mut Batch, now: Duration) -> Answer {
        let timeout = self.config.session_timeout;
        // A controller that was itself not running (stopped, starved) has heard nobody: that proves nothing.
        let own_lag = now.saturating_sub(self.last_expiry_check);
        self.last_expiry_check = now;
        if own_lag > timeout / 2 {
            tracing::warn!(?own_lag, "the controller itself lagged: all sessions begin anew");
            self.sessions.values_mut().for_each(|s| s.last_contact = now);
            return Ok(ControllerResponse::Fenced(vec![]));
        }
        let image = batch.image().clone();
        let mut expired = Vec::new();
        for broker in image.cluster.brokers().filter(|b| !b.fenced) {
            let session = self.sessions.entry(broker.id()).or_insert_with(|| Session::new(broker.epoch(), now));
            if now.saturating_sub(session.last_contact) > timeout {
                expired.push((broker.id(), broker.epoch()));
            }
        }
        self.sessions.retain(|id, _| image.cluster.broker(*id).is_some());
        if !expired.is_empty() {
            self.fence_all(batch, &expired, Cause::SessionExpired)?;
        }
        Ok(ControllerResponse::Fenced(expired.into_iter().map(|(id, _)| id).collect()))
    }

    pub(super) fn unregister(&mut self, batch: &mut Batch, id: NodeId) -> Answer {
        let image = batch.image().clone();
        let broker = image.cluster.broker(id).ok_or(ControllerError::BrokerIdNotRegistered(id))?;
        if broker.epoch() >= batch.next_broker_epoch() {
            return Err(ControllerError::NotReady(format!("broker {id} is being registered")));
        }
        let mut records = vec![MetadataRecord::UnregisterBroker { id, epoch: broker.epoch() }];
        let after = batch.preview(&records)?;
        records.extend(self.change_replicas_of(&after, id, |_, builder| Some(builder.leave_isr(id))));
        batch.push(Cause::UnregistrationRequested, records)?;
        self.sessions.remove(&id);
        tracing::info!(broker = id.0, "broker unregistered");
        Ok(ControllerResponse::Done)
    }

    // ---- directories ----

    pub(super) fn update_directories(&mut self, batch: &mut Batch, request: &UpdateDirectoriesRequest) -> Answer {
        let (id, epoch) = (request.id, request.epoch);
        let before = Self::checked(batch.image(), id, epoch)?.clone();
        check_directories(batch.image(), id, &request.directories)?;
        let mut records = Vec::new();
        if before.record.directories != request.directories {
            let directories = request.directories.clone();
            records.push(MetadataRecord::BrokerDirectories { id, epoch, directories });
        }
        let after = batch.preview(&records)?;
        let home = home_directory(&request.directories);
        let changes = self.change_replicas_of(&after, id, |partition, builder| {
            let recorded = partition.directory_of(id)?;
            if recorded == DirectoryId::LOST {
                return None;
            }
            let state = state_of(&request.directories, recorded);
            let was_lost = before.directory_state(recorded) == Some(DirectoryState::LogLost);
            let builder = match state {
                // Lost data is reported once; a replica that has caught up since keeps its place.
                Some(DirectoryState::LogLost) if was_lost => builder,
                Some(DirectoryState::Offline) => builder.leave_isr(id),
                Some(DirectoryState::Online) => builder,
                // In the same life: its leader may be about to propose or count what is gone. In a new epoch it knows nothing of that.
                _ => replica_after_registration(partition, id, &request.directories, home, builder).new_leader_life(),
            };
            let reopened = request.reopened.contains(&recorded) && partition.leader == id;
            Some(if reopened && !planted!(ReopenedLeaderKeepsEpoch) { builder.new_leader_life() } else { builder })
        });
        records.extend(changes);
        let after = batch.preview(&records)?;
        records.extend(self.lose_replicas(&after, id, &request.lost));
        let after = batch.preview(&records)?;
        records.extend(self.renew_replicas(&after, id, &request.renewed, home));
        batch.push(Cause::DirectoriesReported { broker: id, reopened: !request.reopened.is_empty() }, records)?;
        Ok(ControllerResponse::Done)
    }

    // ---- what follows for partitions ----

    /// Replicas of a broker have given up their logs. Also where that changes no set.
    fn lose_replicas(&self, image: &MetadataImage, broker: NodeId, lost: &[TopicIdPartition]) -> Vec<MetadataRecord> {
        self.change_listed(image, broker, lost, |_, builder| Some(builder.given_up(broker)))
    }

    /// Replicas that had given up their logs have begun others.
    fn renew_replicas(
        &self,
        image: &MetadataImage,
        broker: NodeId,
        renewed: &[TopicIdPartition],
        home: DirectoryId,
    ) -> Vec<MetadataRecord> {
        self.change_listed(image, broker, renewed, |partition, builder| {
            let is_lost = partition.directory_of(broker) == Some(DirectoryId::LOST);
            is_lost.then(|| builder.directory(broker, home))
        })
    }

    /// Changes those of the listed partitions that the broker has a replica of. Mostly there are none, which costs nothing.
    fn change_listed<'i>(
        &self,
        image: &'i MetadataImage,
        broker: NodeId,
        listed: &[TopicIdPartition],
        change: impl Fn(&'i PartitionRegistration, PartitionChangeBuilder<'i>) -> Option<PartitionChangeBuilder<'i>>,
    ) -> Vec<MetadataRecord> {
        if listed.is_empty() {
            return Vec::new();
        }
        let listed: BTreeSet<TopicIdPartition> = listed.iter().copied().collect();
        let is_listed =
            |id, partition: &PartitionRegistration| listed.contains(&id) && partition.replicas.contains(&broker);
        self.change_identified(image, is_listed, change)
    }

    /// Changes every partition the broker has a replica of, as `change` says; `None` leaves one alone.
    fn change_replicas_of<'i>(
        &self,
        image: &'i MetadataImage,
        broker: NodeId,
        change: impl Fn(&'i PartitionRegistration, PartitionChangeBuilder<'i>) -> Option<PartitionChangeBuilder<'i>>,
    ) -> Vec<MetadataRecord> {
        self.change_partitions(image, |partition| partition.replicas.contains(&broker), change)
    }

    fn change_partitions<'i>(
        &self,
        image: &'i MetadataImage,
        concerned: impl Fn(&PartitionRegistration) -> bool,
        change: impl Fn(&'i PartitionRegistration, PartitionChangeBuilder<'i>) -> Option<PartitionChangeBuilder<'i>>,
    ) -> Vec<MetadataRecord> {
        self.change_identified(image, |_, partition| concerned(partition), change)
    }

    fn change_identified<'i>(
        &self,
        image: &'i MetadataImage,
        concerned: impl Fn(TopicIdPartition, &PartitionRegistration) -> bool,
        change: impl Fn(&'i PartitionRegistration, PartitionChangeBuilder<'i>) -> Option<PartitionChangeBuilder<'i>>,
    ) -> Vec<MetadataRecord> {
        let mut records = Vec::new();
        let control = PartitionControl { cluster: self };
        for topic in image.topics.iter() {
            let mut rules = None;
            let of_topic = |number| TopicIdPartition { topic_id: topic.id, partition: number };
            for (number, partition) in topic.iter().filter(|(number, p)| concerned(of_topic(*number), p)) {
                let rules = rules.get_or_insert_with(|| partition_control::TopicRules::of(image, &topic.name));
                let id = of_topic(number);
                let builder = control.builder(id, partition, rules);
                records.extend(change(partition, builder).and_then(|b| control.build(image, id, partition, b)));
            }
        }
        records
    }

    /// Looks again at partitions of the broker that have no leader.
    fn elect_leaderless_of(&self, image: &MetadataImage, broker: NodeId) -> Vec<MetadataRecord> {
        self.change_replicas_of(image, broker, |partition, builder| (!partition.has_leader()).then_some(builder))
    }
}

/// What a registration does to one replica, by the directory it was last recorded in.
fn replica_after_registration<'a>(
    partition: &PartitionRegistration,
    id: NodeId,
    directories: &[Directory],
    home: DirectoryId,
    builder: PartitionChangeBuilder<'a>,
) -> PartitionChangeBuilder<'a> {
    let recorded = partition.directory_of(id).unwrap_or(DirectoryId::NONE);
    match state_of(directories, recorded) {
        Some(DirectoryState::Online) => builder,
        Some(DirectoryState::Offline) => builder.leave_isr(id),
        Some(DirectoryState::LogLost) if planted!(LogLostCounts) => builder,
        Some(DirectoryState::LogLost) => builder.log_lost(id),
        // The disk is another one: what was there is gone, and the replica begins anew in a directory that exists.
        None if planted!(WipedDirectoryCounts) => builder.leave_isr(id).directory(id, home),
        None => builder.wiped(id).directory(id, home),
    }
}

fn state_of(directories: &[Directory], id: DirectoryId) -> Option<DirectoryState> {
    directories.iter().find(|d| d.id == id).map(|d| d.state)
}

/// Where a replica without a directory goes: the first usable one.
fn home_directory(directories: &[Directory]) -> DirectoryId {
    directories.iter().find(|d| d.state.is_usable()).map_or(DirectoryId::NONE, |d| d.id)
}

fn check_registration(image: &MetadataImage, request: &RegisterBrokerRequest) -> Result<(), ControllerError> {
    let Some(ours) = image.cluster.cluster_id() else {
        return Err(ControllerError::NotReady("the cluster is not formed yet".into()));
    };
    if ours != request.cluster_id {
        let (ours, theirs) = (ours.to_string(), request.cluster_id.to_string());
        return Err(ControllerError::InconsistentClusterId { ours, theirs });
    }
    let invalid = |why: &str| Err(ControllerError::InvalidRegistration(why.to_owned()));
    let too_long = |text: &str| text.len() > NAME_BYTES_MAX;
    if request.id.0 < 0 {
        return invalid("a node id is not negative");
    }
    if request.listeners.is_empty() || request.listeners.len() > LISTENERS_MAX {
        return invalid("a broker advertises at least one listener, and not more than 64");
    }
    let names: BTreeSet<&str> = request.listeners.iter().map(|l| l.name.as_str()).collect();
    if names.len() != request.listeners.len() {
        return invalid("two listeners have one name");
    }
    if request.listeners.iter().any(|l| too_long(&l.name) || too_long(&l.host) || l.host.is_empty() || l.port == 0) {
        return invalid("a listener needs a host and a port");
    }
    let addresses = std::iter::once(&request.peer_address).chain(&request.gossip_address);
    if addresses.into_iter().any(|a| too_long(&a.host)) || request.rack.as_deref().is_some_and(too_long) {
        return invalid("an address or rack is too long");
    }
    if request.features.len() > FEATURES_MAX || request.features.keys().any(|name| too_long(name)) {
        return invalid("too many features");
    }
    check_directories(image, request.id, &request.directories)?;
    let level = image.features.level(METADATA_VERSION_FEATURE);
    match request.features.get(METADATA_VERSION_FEATURE) {
        Some(range) if (range.min..=range.max).contains(&level) => Ok(()),
        Some(range) => Err(ControllerError::UnsupportedVersion(format!(
            "the cluster runs metadata.version {level}, the broker supports {} to {}",
            range.min, range.max
        ))),
        None => {
            Err(ControllerError::UnsupportedVersion("the broker does not say which metadata.version it has".into()))
        }
    }
}

fn check_directories(image: &MetadataImage, id: NodeId, directories: &[Directory]) -> Result<(), ControllerError> {
    let invalid = |why: String| Err(ControllerError::InvalidRegistration(why));
    if directories.is_empty() || directories.len() > DIRECTORIES_MAX {
        return invalid("a broker has at least one data directory, and not more than 256".into());
    }
    for (i, directory) in directories.iter().enumerate() {
        if directory.id == DirectoryId::NONE || directories[..i].iter().any(|d| d.id == directory.id) {
            return invalid(format!("directory id {} is reserved or listed twice", directory.id));
        }
        let owner = |b: &&Arc<BrokerRegistration>| b.id() != id && b.directory_state(directory.id).is_some();
        if let Some(other) = image.cluster.brokers().find(owner) {
            return invalid(format!("directory {} belongs to broker {}: a copied disk?", directory.id, other.id()));
        }
    }
    Ok(())
}

/// The election that runs by itself for a topic: unclean only where that is enabled.
pub(super) fn automatic_election(unclean_enabled: bool) -> Election {
    if unclean_enabled { Election::Unclean } else { Election::Online }
}
