//! One partition's log over any store: offsets, epochs, producers, time index, tail, truncation, retention.
//!
//! # State
//!
//! ```text
//! log start ≤ … ≤ log end           the records held; truncation lowers the end, retention raises the start
//!             synced end ≤ log end  everything below is on disk; only this end may count for a high watermark
//! ```
//! An append moves the end when it is **queued** and the synced end when its commit **completes**. Both come down at once
//! in a truncation, whose write then follows through the same queue; appends behind it are behind it on disk too.
//!
//! | state | leaves it by |
//! |---|---|
//! | online | a failed commit, a close → failed; `delete` → deleted; damage found at open, `give_up` → failed |
//! | failed, deleted | never: reopen the store, load the directory, take the new `PartitionLog` |
//!
//! # Invariants
//!
//! 1. Batches ascend without overlap. Offsets may have gaps (compaction, and replicas of logs that have them).
//! 2. Every batch at or above `tail.start_offset` is in the tail; every batch below it is on disk and visible there. Hence
//!    a disk read is always bounded by the start of the tail, and never meets batches a queued truncation will remove.
//! 3. The store gets writes in the order of the state changes: both happen under the one lock of the log.
//! 4. A refused append, truncation or new start has changed nothing: what it needs of the disk is read and new values are computed first, and
//!    taken over after the store accepted the write. So only its store, damage and its end fail a log.
//! 5. The epoch of a batch is in the store no later than the batch (same write), and leaves it no later.
//! 6. What a follower does to the log's end names the end that it was decided for ([`OffsetAndEpoch`]), and is refused if the log ends
//!    elsewhere by then. Both are compared under the lock that covers the change, so what comes late never meets another log than its own.
//!
//! One lock guards everything. Checksums, copies and disk reads of fetches happen outside it; truncation and changes of the
//! log start read the disk inside it (they are rare, and nothing may move meanwhile). Callbacks run without it.

mod append;
mod checkpoint;
mod damage;
#[cfg(test)]
mod damage_tests;
mod read;
mod rebuild;
mod retention;
#[cfg(test)]
mod tests;
mod time_lookup;
mod truncate;

use super::error::{AppendError, StorageError};
use super::leader_epoch_cache::{EpochEndOffset, EpochEntry, LeaderEpochCache, OffsetAndEpoch};
use super::log_class::LogClass;
use super::log_directory::LogConfig;
use super::log_store::{
    LocalPartitionId, LogStore, StoreGeneration, StoreHealth, StoreOp, StoreWrite, WriteCompletion,
};
use super::partition_meta::{Extent, PartitionMeta};
use super::producer_state::ProducerState;
use super::tail_cache::{EvictTail, Tail};
use super::time_index::OpenChunk;
use bytes::Bytes;
use parking_lot::Mutex;
use rookery_raft::ids::{LeaderEpoch, TopicIdPartition};
use smallvec::SmallVec;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use tokio::sync::oneshot;

pub use append::{AppendInfo, AppendOrigin, LeaderAppend};
pub use damage::{Damage, RepairError, Scrubbed};
pub use read::{LogRead, ReadLimit};
pub use rookery_protocol::batch::TimestampType;

/// The three ends of a log, read at one moment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LogOffsets {
    /// First offset held.
    pub log_start: i64,
    /// The next offset to be assigned; everything below is queued or synced.
    pub log_end: i64,
    /// Everything below is on disk.
    pub synced_end: i64,
}

/// Told on the commit thread, with no lock of the log held; must be short and must not block.
pub trait LogListener: Send + Sync {
    /// The synced end moved up.
    fn synced(&self, offsets: LogOffsets);
    /// The store failed: nothing will ever be synced under this generation again. Told once per failed write.
    fn failed(&self, error: &StorageError);
    /// A read or a scrub found a damaged batch that was not known; on the thread that read.
    fn damaged(&self) {}
}

type Waiter = oneshot::Sender<Result<(), StorageError>>;

/// A write the store has accepted and not completed.
struct InFlight {
    ticket: u64,
    /// Where the synced end is once this is on disk; truncations behind it in the queue lower it.
    synced_end: Option<i64>,
    /// What it truncates the log to, if it does.
    truncates_to: Option<i64>,
    /// The damaged batch that it mends, if it does.
    mends: Option<i64>,
    /// Its batches came from the leader, and leave the tail once they are on disk.
    is_fetched: bool,
}

/// Everything that changes. Guarded by the log's lock.
struct LogState {
    log_start: i64,
    log_end: i64,
    synced_end: i64,
    start_position: u64,
    end_floor: i64,
    high_watermark: i64,
    extents: Vec<Extent>,
    epochs: LeaderEpochCache,
    producers: ProducerState,
    /// Producer snapshots in the store or on their way, ascending by offset.
    snapshots: VecDeque<(i64, Bytes)>,
    bytes_since_snapshot: u64,
    chunk: OpenChunk,
    tail: Tail,
    in_flight: VecDeque<InFlight>,
    next_ticket: u64,
    waiters: BTreeMap<(i64, u64), Waiter>,
    next_waiter: u64,
    /// Counts truncations: a read that spans one starts again.
    truncations: u64,
    /// Damaged batches that are known, by last offset.
    damaged: BTreeMap<i64, damage::Note>,
    /// What of the log cannot be read at all, so that nobody knows which batches are there.
    unreadable: Option<damage::Unreadable>,
    failed: Option<StorageError>,
}

/// One partition's log. See the module's page for its invariants.
pub struct PartitionLog {
    partition: TopicIdPartition,
    id: LocalPartitionId,
    generation: StoreGeneration,
    recovered_high_watermark: i64,
    store: Arc<dyn LogStore>,
    config: LogConfig,
    listener: Mutex<Option<Arc<dyn LogListener>>>,
    state: Mutex<LogState>,
}

impl LogState {
    fn new(meta: PartitionMeta, log_end: i64) -> Self {
        let mut epochs = meta.epochs;
        epochs.truncate_from_end(log_end);
        Self {
            log_start: meta.log_start,
            log_end,
            synced_end: log_end,
            start_position: meta.start_position,
            end_floor: meta.end_floor,
            high_watermark: meta.high_watermark,
            extents: meta.extents,
            epochs,
            producers: ProducerState::default(),
            snapshots: VecDeque::new(),
            bytes_since_snapshot: 0,
            chunk: OpenChunk::at_position(meta.start_position),
            tail: Tail::new(log_end),
            in_flight: VecDeque::new(),
            next_ticket: 0,
            waiters: BTreeMap::new(),
            next_waiter: 0,
            truncations: 0,
            damaged: BTreeMap::new(),
            unreadable: None,
            failed: None,
        }
    }

    fn check_online(&self) -> Result<(), StorageError> {
        self.failed.clone().map_or(Ok(()), Err)
    }

    fn offsets(&self) -> LogOffsets {
        LogOffsets { log_start: self.log_start, log_end: self.log_end, synced_end: self.synced_end }
    }

    fn end(&self) -> OffsetAndEpoch {
        // The newest epoch may have no record, and no other log need know it.
        let last_record = Some(self.log_end - 1).filter(|last| *last >= self.log_start);
        let epoch = last_record.and_then(|last| self.epochs.epoch_of(last)).unwrap_or(LeaderEpoch::NONE);
        OffsetAndEpoch { offset: self.log_end, epoch }
    }

    fn check_end(&self, expected: OffsetAndEpoch) -> Result<(), StorageError> {
        let end = self.end();
        if end == expected { Ok(()) } else { Err(StorageError::EndMoved { expected, end }) }
    }

    fn class(&self) -> LogClass {
        self.extents.last().expect("a log always has an extent").class
    }

    /// Up to here the store's time index has no entry that a queued truncation is about to remove.
    fn settled_end(&self) -> i64 {
        self.in_flight.iter().filter_map(|w| w.truncates_to).fold(self.log_end, i64::min)
    }

    fn fail(&mut self, error: StorageError) -> Vec<(Waiter, Result<(), StorageError>)> {
        let failed = std::mem::take(&mut self.waiters).into_values().map(|w| (w, Err(error.clone()))).collect();
        self.failed.get_or_insert(error);
        failed
    }
}

impl PartitionLog {
    /// Whose log.
    pub fn topic_id_partition(&self) -> TopicIdPartition {
        self.partition
    }

    /// The open of the store it was loaded under.
    pub fn generation(&self) -> StoreGeneration {
        self.generation
    }

    /// Whether the store takes writes, and is still the open that this log belongs to. (A store that opens anew changes its generation
    /// before it is online.)
    pub fn is_store_online(&self) -> bool {
        self.store.health() == StoreHealth::Online && self.store.generation() == self.generation
    }

    /// Start, end and synced end at one moment.
    pub fn offsets(&self) -> LogOffsets {
        self.state.lock().offsets()
    }

    /// The end, and the epoch of the last record.
    pub fn end(&self) -> OffsetAndEpoch {
        self.state.lock().end()
    }

    /// The three ends and the epoch of the last record, at one moment.
    pub fn position(&self) -> (LogOffsets, OffsetAndEpoch) {
        let state = self.state.lock();
        (state.offsets(), state.end())
    }

    /// The high watermark last checkpointed before this open, inside the log.
    pub fn recovered_high_watermark(&self) -> i64 {
        self.recovered_high_watermark
    }

    /// Why the log takes nothing any more, if that is so.
    pub fn failure(&self) -> Option<StorageError> {
        self.state.lock().failed.clone()
    }

    /// Replaces the listener. It is told at once of damage that was found before: a scrub takes up logs that no replica has yet.
    pub fn set_listener(&self, listener: Arc<dyn LogListener>) {
        *self.listener.lock() = Some(listener.clone());
        // What is noted from now on finds the new listener.
        let is_damaged = {
            let state = self.state.lock();
            !state.damaged.is_empty() || state.unreadable.is_some()
        };
        if is_damaged {
            listener.damaged();
        }
    }

    /// Resolves once everything below `offset` is on disk, or the log failed or was truncated below it. A receiver error
    /// means the log was dropped.
    pub fn when_synced(&self, offset: i64) -> oneshot::Receiver<Result<(), StorageError>> {
        let (sender, receiver) = oneshot::channel();
        let mut state = self.state.lock();
        let known = if state.synced_end >= offset { Some(Ok(())) } else { state.failed.clone().map(Err) };
        match known {
            // The receiver is still in our hands, so this cannot fail.
            Some(result) => drop(sender.send(result)),
            None => {
                let key = (offset, state.next_waiter);
                state.next_waiter += 1;
                state.waiters.insert(key, sender);
            }
        }
        drop(state);
        receiver
    }

    /// A leader's first act: its epoch begins at the log's end. It reaches the disk with its first batch; until then no
    /// crash needs it, since the leader of another run has another epoch.
    pub fn assign_leader_epoch(&self, epoch: LeaderEpoch) -> Result<EpochEntry, AppendError> {
        let mut state = self.state.lock();
        state.check_online()?;
        if let Some(last) = state.epochs.latest().filter(|last| last.epoch > epoch && last.start_offset < state.log_end)
        {
            return Err(AppendError::StaleLeaderEpoch { epoch, last: last.epoch });
        }
        let log_end = state.log_end;
        state.epochs.assign(epoch, log_end);
        Ok(state.epochs.latest().expect("just assigned"))
    }

    /// The newest epoch.
    pub fn latest_epoch(&self) -> Option<EpochEntry> {
        self.state.lock().epochs.latest()
    }

    /// The epoch of the record at `offset`.
    pub fn epoch_of(&self, offset: i64) -> Option<LeaderEpoch> {
        self.state.lock().epochs.epoch_of(offset)
    }

    /// Where an epoch ends (KIP-279); `None` if this log has never heard of one as new.
    pub fn end_offset_for_epoch(&self, epoch: LeaderEpoch) -> Option<EpochEndOffset> {
        let state = self.state.lock();
        state.epochs.end_offset_for(epoch, state.log_end)
    }

    /// Every epoch the log knows, ascending.
    pub fn epochs(&self) -> LeaderEpochCache {
        self.state.lock().epochs.clone()
    }

    /// The producers as the log's end knows them.
    pub fn producers(&self) -> ProducerState {
        self.state.lock().producers.clone()
    }

    /// See [`ProducerState::has_reached`].
    pub fn producer_has_reached(&self, producer_id: i64, epoch: i16, sequence: i32) -> bool {
        self.state.lock().producers.has_reached(producer_id, epoch, sequence)
    }

    /// Forgets producers idle for `producer.id.expiration.ms` or longer; how many.
    pub fn expire_producers(&self, now_ms: i64, expiration_ms: i64) -> usize {
        self.state.lock().producers.expire(now_ms, expiration_ms)
    }

    /// First offset of the oldest transaction still open. The last stable offset is the smaller of this and the high
    /// watermark.
    pub fn first_unstable_offset(&self) -> Option<i64> {
        self.state.lock().producers.first_unstable_offset()
    }

    /// Bytes between log start and log end, to within a chunk of the time index.
    pub fn size_bytes(&self) -> u64 {
        let state = self.state.lock();
        state.chunk.position().saturating_sub(state.start_position)
    }

    /// The class that new batches go to.
    pub fn class(&self) -> LogClass {
        self.state.lock().class()
    }

    /// The metadata of the present state.
    fn meta(&self, state: &LogState) -> PartitionMeta {
        PartitionMeta {
            partition: self.partition,
            log_start: state.log_start,
            start_position: state.start_position,
            end_floor: state.end_floor,
            high_watermark: state.high_watermark,
            extents: state.extents.clone(),
            epochs: state.epochs.clone(),
        }
    }

    /// Hands a write to the store. On `Err` nothing happened.
    fn submit(
        self: &Arc<Self>,
        state: &mut LogState,
        ops: SmallVec<[StoreOp; 4]>,
        synced_end: Option<i64>,
        truncates_to: Option<i64>,
    ) -> Result<(), StorageError> {
        let ticket = state.next_ticket;
        let write = StoreWrite { partition: self.id, ops };
        self.store.submit(self.generation, write, self.clone(), ticket)?;
        state.next_ticket += 1;
        state.in_flight.push_back(InFlight { ticket, synced_end, truncates_to, mends: None, is_fetched: false });
        Ok(())
    }

    /// Takes note of a completed write; what to tell whom, once the lock is released.
    fn settle(&self, ticket: u64, result: &Result<(), StorageError>) -> Settled {
        let mut state = self.state.lock();
        let write = state.in_flight.pop_front().expect("a completion belongs to a write in flight");
        assert_eq!(write.ticket, ticket, "writes of one log complete in order");
        if let Err(error) = result {
            return Settled { waiters: state.fail(error.clone()), moved: None };
        }
        if let Some(mended) = write.mends
            && state.damaged.remove(&mended).is_some()
        {
            metrics::counter!("rookery_storage_damage_mended_total").increment(1);
            tracing::info!(partition = %self.partition, last_offset = mended, "a damaged batch was mended from another replica");
        }
        let Some(synced_end) = write.synced_end.filter(|end| *end > state.synced_end) else {
            return Settled { waiters: Vec::new(), moved: None };
        };
        state.synced_end = synced_end;
        if write.is_fetched {
            state.tail.evict(synced_end - 1, synced_end);
        }
        let later = state.waiters.split_off(&(synced_end + 1, 0));
        let due = std::mem::replace(&mut state.waiters, later);
        Settled { waiters: due.into_values().map(|w| (w, Ok(()))).collect(), moved: Some(state.offsets()) }
    }
}

struct Settled {
    waiters: Vec<(Waiter, Result<(), StorageError>)>,
    moved: Option<LogOffsets>,
}

impl WriteCompletion for PartitionLog {
    fn complete(&self, ticket: u64, result: &Result<(), StorageError>) {
        let settled = self.settle(ticket, result);
        let listener = self.listener.lock().clone();
        match (listener, result, settled.moved) {
            (Some(listener), Err(error), _) => listener.failed(error),
            (Some(listener), Ok(()), Some(offsets)) => listener.synced(offsets),
            _ => {}
        }
        for (waiter, result) in settled.waiters {
            // A waiter that has gone away needs no answer.
            let _ = waiter.send(result);
        }
    }
}

impl EvictTail for PartitionLog {
    fn evict_tail(&self, last_offset: i64) -> bool {
        let mut state = self.state.lock();
        let synced_end = state.synced_end;
        state.tail.evict(last_offset, synced_end) || state.failed.is_some()
    }
}
