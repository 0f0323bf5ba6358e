//! What a leader answers: appends, and the fetches and progress of its followers.

use super::error::ReplicaError;
use super::message::{DivergingEpoch, FetchPartition, FetchedPartition};
use super::partition::{Partition, Role, RoleState};
use super::purgatory::DelayedProduce;
use super::refused::ProducerBatch;
use crate::planted::planted;
use crate::storage::{
    AppendError, AppendInfo, AppendOrigin, LeaderAppend, PartitionLog, ReadLimit, StorageError, TimestampType,
};
use bytes::Bytes;
use parking_lot::RwLockReadGuard;
use rookery_protocol::batch::RecordBatchHeader;
use rookery_raft::controller::DiskSpace;
use rookery_raft::ids::{BrokerEpoch, LeaderEpoch, NodeId};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;

/// The durability a produce asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RequiredAcks {
    /// 0: no answer is wanted.
    None,
    /// 1: on the leader's disk.
    Leader,
    /// -1, all: on the disk of every in-sync replica, at least `min.insync.replicas`.
    All,
}

impl TryFrom<i16> for RequiredAcks {
    type Error = ReplicaError;

    fn try_from(acks: i16) -> Result<Self, ReplicaError> {
        match acks {
            0 => Ok(Self::None),
            1 => Ok(Self::Leader),
            -1 => Ok(Self::All),
            other => Err(ReplicaError::InvalidRequiredAcks(other)),
        }
    }
}

/// How records are to be appended.
#[derive(Debug, Clone, Copy)]
pub struct AppendRequest {
    /// When to acknowledge.
    pub acks: RequiredAcks,
    /// `message.timestamp.type` of the topic.
    pub timestamp_type: TimestampType,
    /// A client or a coordinator of ours.
    pub origin: AppendOrigin,
    /// Only in this leader epoch; `NONE` in any. A coordinator names the epoch it was elected in.
    pub leader_epoch: LeaderEpoch,
}

/// An append that was accepted; it is acknowledged when [`AppendOutcome::acknowledged`] completes.
#[derive(Debug)]
pub struct AppendOutcome {
    /// The offsets; those of the original for a duplicate, which waits like the original.
    pub info: AppendInfo,
    /// What the acknowledgement waits for.
    pub wait: AckWait,
}

/// What an acknowledgement waits for.
#[derive(Debug)]
pub enum AckWait {
    /// Nothing.
    None,
    /// The leader's disk.
    Synced(oneshot::Receiver<Result<(), StorageError>>),
    /// The high watermark.
    Committed(DelayedProduce),
}

impl AppendOutcome {
    /// Waits as the request asked for. The caller owns the time-out: dropping the future leaves nothing behind.
    pub async fn acknowledged(self) -> Result<AppendInfo, ReplicaError> {
        match self.wait {
            AckWait::None => {}
            // A log that is dropped answers nobody: its partition is gone.
            AckWait::Synced(synced) => synced.await.unwrap_or(Err(StorageError::Deleted))?,
            AckWait::Committed(committed) => committed.await?,
        }
        Ok(self.info)
    }
}

/// A follower's fetch of one partition, checked and counted; what is left is to read.
pub struct FollowerRead {
    log: Arc<PartitionLog>,
    asked: FetchPartition,
    answer: FetchedPartition,
    upper_bound: i64,
}

impl Partition {
    /// Appends whole batches and says what their acknowledgement waits for. Never blocks on the disk.
    pub fn append_as_leader(&self, records: Bytes, how: AppendRequest) -> Result<AppendOutcome, ReplicaError> {
        let header = RecordBatchHeader::parse(&records).map_err(|e| AppendError::CorruptBatch(e.to_string().into()))?;
        let first = ProducerBatch::from(&header);
        if let Some(refusal) = self.refused.refusal_before(first, || self.log()) {
            return Err(refusal);
        }
        let appended = self.try_append(first, records, how).map_err(|error| self.certain(first, error));
        appended.inspect_err(|error| self.refused.note(first, error))
    }

    /// Only a leader knows a gap; whether this one is one still shows when somebody confirms it (module `refused`).
    fn certain(&self, batch: ProducerBatch, error: ReplicaError) -> ReplicaError {
        if !matches!(error, ReplicaError::Append(AppendError::OutOfOrderSequence { .. })) {
            return error;
        }
        let now = self.context.clock.now();
        let is_confirmed = |since| self.with_leader(|term| self.context.is_confirmed(term, since, now)) == Some(true);
        match self.refused.is_certain(batch, self.role().1, now, is_confirmed) {
            true => error,
            false => ReplicaError::NotLeaderOrFollower,
        }
    }

    fn try_append(
        &self,
        first: ProducerBatch,
        records: Bytes,
        how: AppendRequest,
    ) -> Result<AppendOutcome, ReplicaError> {
        let now = self.context.clock.now();
        let role = self.role.read();
        self.check_leads(&role, how.leader_epoch, now)?;
        if how.origin == AppendOrigin::Client && self.context.disk_space() != DiskSpace::Ample {
            return Err(ReplicaError::ShortOfSpace);
        }
        let mut permit = None;
        if how.acks == RequiredAcks::All {
            if self.with_leader(super::leader::LeaderState::is_under_min_isr).unwrap_or(true) {
                return Err(ReplicaError::NotEnoughReplicas);
            }
            permit = Some(self.context.config.produce_purgatory.try_acquire().ok_or(ReplicaError::Overloaded)?);
        }
        let append = LeaderAppend {
            leader_epoch: role.leader_epoch,
            timestamp_type: how.timestamp_type,
            origin: how.origin,
            now_ms: self.context.clock.wall_ms(),
        };
        let info = role.log.append_as_leader(records, append)?;
        let required = if planted!(AckDuplicateAtOnce) && info.duplicate { 0 } else { info.last_offset + 1 };
        let wait = match (how.acks, permit) {
            (RequiredAcks::None, _) => AckWait::None,
            (RequiredAcks::Leader, _) => AckWait::Synced(role.log.when_synced(required)),
            (RequiredAcks::All, permit) => {
                let permit = permit.expect("acks=all has taken its permit above");
                AckWait::Committed(DelayedProduce::watch(&self.produces, required, first, permit))
            }
        };
        // Still under `role`: the end of the leadership drains the purgatory only after this waiter is in it.
        drop(role);
        // The high watermark may have passed the batch between the append and the watch; a duplicate's often has.
        let high_watermark = self.high_watermark();
        if high_watermark >= required {
            let reached = self.produces.lock().reach(high_watermark);
            for waiter in reached {
                waiter.complete(Ok(()));
            }
        }
        if !info.duplicate {
            self.context.events.log_end_moved(self.id());
        }
        Ok(AppendOutcome { info, wait })
    }

    /// Whether this replica leads in that epoch and may speak for it now.
    pub fn stands_in(&self, leader_epoch: LeaderEpoch) -> bool {
        self.check_leads(&self.role.read(), leader_epoch, self.context.clock.now()).is_ok()
    }

    /// Leads, in the epoch that the caller knows, and may speak.
    pub(super) fn check_leads(
        &self,
        role: &RoleState,
        current_leader_epoch: LeaderEpoch,
        now: Duration,
    ) -> Result<(), ReplicaError> {
        check_epoch(role, current_leader_epoch)?;
        let stands =
            role.role == Role::Leader && self.with_leader(|term| self.context.stands(term, now)).unwrap_or(false);
        let stands = stands || (planted!(IgnoreLease) && role.role == Role::Leader);
        if stands { Ok(()) } else { Err(ReplicaError::NotLeaderOrFollower) }
    }

    /// A follower mentions a partition in a fetch: checks both epochs, then divergence; only then what it says counts
    /// (architecture, invariant 6). What it gets is for [`follower_read`](Self::follower_read) to say.
    pub fn follower_fetch(
        &self,
        from: NodeId,
        broker_epoch: BrokerEpoch,
        asked: &FetchPartition,
    ) -> Result<(), ReplicaError> {
        let now = self.context.clock.now();
        let role = self.role.read();
        self.check_follower(&role, from, broker_epoch, asked.leader_epoch)?;
        let offsets = role.log.offsets();
        let diverged = diverges(&role.log, asked.wanted, asked.last_fetched_epoch).is_some();
        if (diverged && !planted!(SkipDivergenceCheck))
            || !(offsets.log_start..=offsets.log_end).contains(&asked.wanted)
        {
            return Ok(());
        }
        if let Some(term) = self.replication.lock().leading.as_mut() {
            term.follower_fetched(from, asked.wanted, asked.synced, offsets.log_end, now);
        }
        self.advance_after(role, now);
        Ok(())
    }

    /// A follower's word has been taken down. The offsets are read only now: a commit of ours that completes meanwhile either
    /// finds that word in its own [`advance`](Self::advance), or is seen here. (Read before, both could miss each other, and the
    /// high watermark would stand still until the next message.)
    fn advance_after(&self, role: RwLockReadGuard<'_, RoleState>, now: Duration) {
        let (term, offsets) = (role.leader_epoch, role.log.offsets());
        drop(role);
        self.advance(term, offsets, now);
    }

    /// A follower follows this partition here no more: its earlier fetches confirm nothing.
    pub fn follower_left(&self, from: NodeId) {
        if let Some(term) = self.replication.lock().leading.as_mut() {
            term.follower_left(from);
        }
    }

    /// What there is for a follower at its last position. Changes nothing, so it may be asked again while a fetch waits.
    pub fn follower_read(
        &self,
        from: NodeId,
        broker_epoch: BrokerEpoch,
        asked: FetchPartition,
    ) -> Result<FollowerRead, ReplicaError> {
        let role = self.role.read();
        self.check_follower(&role, from, broker_epoch, asked.leader_epoch)?;
        let offsets = role.log.offsets();
        let answer = FetchedPartition {
            id: self.id(),
            error: 0,
            leader_epoch: role.leader_epoch,
            high_watermark: self.high_watermark(),
            log_start: offsets.log_start,
            diverging: diverges(&role.log, asked.wanted, asked.last_fetched_epoch),
            batches: Vec::new(),
        };
        let inside = (offsets.log_start..=offsets.log_end).contains(&asked.wanted);
        if answer.diverging.is_none() && !inside {
            let (log_start, end) = (offsets.log_start, offsets.log_end);
            return Err(ReplicaError::OffsetOutOfRange { offset: asked.wanted, log_start, end });
        }
        Ok(FollowerRead { log: Arc::clone(&role.log), asked, answer, upper_bound: offsets.log_end })
    }

    /// What a follower has synced while its fetch is parked here.
    pub fn follower_progress(
        &self,
        from: NodeId,
        broker_epoch: BrokerEpoch,
        leader_epoch: LeaderEpoch,
        synced: i64,
    ) -> Result<(), ReplicaError> {
        let now = self.context.clock.now();
        let role = self.role.read();
        self.check_follower(&role, from, broker_epoch, leader_epoch)?;
        let log_end = role.log.offsets().log_end;
        if let Some(term) = self.replication.lock().leading.as_mut() {
            term.follower_synced(from, synced, log_end, now);
        }
        self.advance_after(role, now);
        Ok(())
    }

    fn check_follower(
        &self,
        role: &RoleState,
        from: NodeId,
        broker_epoch: BrokerEpoch,
        leader_epoch: LeaderEpoch,
    ) -> Result<(), ReplicaError> {
        let same_term = leader_epoch == role.leader_epoch || planted!(SkipEpochOfFollower);
        if !same_term {
            check_epoch(role, leader_epoch)?;
        }
        if role.role != Role::Leader || !same_term {
            return Err(ReplicaError::NotLeaderOrFollower);
        }
        let mut replication = self.replication.lock();
        let term = replication.leading.as_mut().ok_or(ReplicaError::NotLeaderOrFollower)?;
        if term.follower(from).is_none() {
            // Assigned a moment ago, and the metadata has not reached this broker: Kafka answers the same.
            return Err(ReplicaError::UnknownLeaderEpoch);
        }
        if term.accept_broker_epoch(from, broker_epoch) { Ok(()) } else { Err(ReplicaError::StaleBrokerEpoch) }
    }
}

/// The leader epoch in a request against ours (KIP-320).
pub(super) fn check_epoch(role: &RoleState, requested: LeaderEpoch) -> Result<(), ReplicaError> {
    if requested == LeaderEpoch::NONE || requested == role.leader_epoch {
        Ok(())
    } else if requested < role.leader_epoch {
        Err(ReplicaError::FencedLeaderEpoch)
    } else {
        Err(ReplicaError::UnknownLeaderEpoch)
    }
}

/// Where a reader's log leaves this one (KIP-595): its last epoch is unknown here, or ends before the offset it wants.
pub(super) fn diverges(log: &PartitionLog, wanted: i64, last_fetched_epoch: LeaderEpoch) -> Option<DivergingEpoch> {
    if last_fetched_epoch == LeaderEpoch::NONE {
        return None;
    }
    let here = log.end_offset_for_epoch(last_fetched_epoch)?;
    let diverged = here.epoch < last_fetched_epoch || here.end_offset < wanted;
    diverged.then_some(DivergingEpoch { epoch: here.epoch, end_offset: here.end_offset })
}

impl FollowerRead {
    /// Reads from memory; `false`: the records are on disk, call [`read`](Self::read) where blocking is allowed.
    pub fn try_read(&mut self, limit: ReadLimit) -> Result<bool, ReplicaError> {
        if !self.has_records() {
            return Ok(true);
        }
        let Some(read) = self.log.try_read_cached(self.asked.wanted, self.upper_bound, limit)? else {
            return Ok(false);
        };
        self.answer.batches = read.batches;
        Ok(true)
    }

    /// Reads from memory or disk. **Blocks.**
    pub fn read(&mut self, limit: ReadLimit) -> Result<(), ReplicaError> {
        if self.has_records() {
            self.answer.batches = self.log.read(self.asked.wanted, self.upper_bound, limit)?.batches;
        }
        Ok(())
    }

    /// Whether there is something to read at all.
    pub fn has_records(&self) -> bool {
        self.answer.diverging.is_none() && self.asked.wanted < self.upper_bound
    }

    /// The answer, if the partition still leads in the epoch of the check. What was read after that may come from
    /// another leader's log, whose earlier records this follower was never compared with.
    pub fn confirm(self, partition: &Partition) -> Result<FetchedPartition, ReplicaError> {
        match partition.role() {
            (Role::Leader, epoch) if epoch == self.answer.leader_epoch => Ok(self.answer),
            _ => Err(ReplicaError::NotLeaderOrFollower),
        }
    }
}
