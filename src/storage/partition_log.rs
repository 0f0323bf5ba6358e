//! One partition's log over any store. (Signatures first; the bodies follow in the next commit.)
#![allow(unused_variables, clippy::todo)]

use super::error::{AppendError, StorageError};
use super::leader_epoch_cache::{EpochEndOffset, EpochEntry};
use super::log_class::LogClass;
use super::log_store::StoreGeneration;
use bytes::Bytes;
use rookery_raft::ids::{LeaderEpoch, TopicIdPartition};
use std::sync::Arc;
use tokio::sync::oneshot;

/// `message.timestamp.type`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TimestampType {
    /// The producer's timestamps stay.
    CreateTime,
    /// The leader sets the time of the append (and the CRC anew).
    LogAppendTime,
}

/// Who made the batches.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum AppendOrigin {
    /// A client: producer sequences are checked.
    Client,
    /// A coordinator of ours: epochs are checked, sequences are not.
    Coordinator,
}

/// How a leader appends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LeaderAppend {
    /// Stamped into every batch; never older than the log's newest.
    pub leader_epoch: LeaderEpoch,
    /// Of the topic.
    pub timestamp_type: TimestampType,
    /// Who made the batches.
    pub origin: AppendOrigin,
    /// Wall clock in milliseconds since 1970.
    pub now_ms: i64,
}

/// What an append did.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct AppendInfo {
    /// Offset of the first record.
    pub first_offset: i64,
    /// Offset of the last record. The append is durable once the synced end is above it.
    pub last_offset: i64,
    /// The time set by LogAppendTime, else −1.
    pub log_append_time_ms: i64,
    /// The log's start at the time.
    pub log_start_offset: i64,
    /// The batch was there already (idempotent retry): the offsets are those of the original, nothing was queued, and the
    /// acknowledgement has to wait like that of the original.
    pub duplicate: bool,
}

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

/// How much a read may return.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ReadLimit {
    /// Stop before the batch that would exceed this many bytes.
    pub max_bytes: usize,
    /// Return the first batch even if it alone exceeds `max_bytes` (KIP-74).
    pub at_least_one: bool,
}

/// Batches out of a log, whole and in order. The first may begin before the offset asked for.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct LogRead {
    /// As on the wire.
    pub batches: Vec<Bytes>,
    /// Their bytes.
    pub size: usize,
    /// Where the next read goes on: above the last batch, or the offset asked for if there was none.
    pub next_offset: i64,
}

/// Told on the commit thread, with no lock of the log held; must be short and must not block.
pub trait LogListener: Send + Sync {
    /// The synced end moved up (once per commit that concerns the log).
    fn synced(&self, offsets: LogOffsets);
    /// The store failed: nothing will ever be synced under this generation again.
    fn failed(&self, error: &StorageError);
}

/// One partition's log.
pub struct PartitionLog {}

impl PartitionLog {
    /// Whose log.
    pub fn topic_id_partition(&self) -> TopicIdPartition { unimplemented!() }
    /// The open of the store it was loaded under.
    pub fn generation(&self) -> StoreGeneration { unimplemented!() }
    /// Start, end and synced end at one moment.
    pub fn offsets(&self) -> LogOffsets { unimplemented!() }
    /// The high watermark last checkpointed before this open.
    pub fn recovered_high_watermark(&self) -> i64 { unimplemented!() }
    /// Replaces the listener.
    pub fn set_listener(&self, listener: Arc<dyn LogListener>) { unimplemented!() }
    /// Resolves once everything below `offset` is on disk, or the log failed or was truncated below it.
    pub fn when_synced(&self, offset: i64) -> oneshot::Receiver<Result<(), StorageError>> { unimplemented!() }
    /// Assigns offsets to one or more whole batches and queues them. CRC and header of each are checked here; callers need not.
    pub fn append_as_leader(self: &Arc<Self>, records: Bytes, how: LeaderAppend) -> Result<AppendInfo, AppendError> { unimplemented!() }
    /// Queues one or more whole batches fetched from the leader. A partial last batch is ignored.
    pub fn append_as_follower(self: &Arc<Self>, records: Bytes, now_ms: i64) -> Result<AppendInfo, AppendError> { unimplemented!() }
    /// A leader's first act: its epoch begins at the log's end (reaches the disk with its first batch).
    pub fn assign_leader_epoch(&self, epoch: LeaderEpoch) -> Result<EpochEntry, AppendError> { unimplemented!() }
    /// The newest epoch.
    pub fn latest_epoch(&self) -> Option<EpochEntry> { unimplemented!() }
    /// The epoch of the record at `offset`.
    pub fn epoch_of(&self, offset: i64) -> Option<LeaderEpoch> { unimplemented!() }
    /// Where an epoch ends; `None` if this log has never heard of one as new.
    pub fn end_offset_for_epoch(&self, epoch: LeaderEpoch) -> Option<EpochEndOffset> { unimplemented!() }
    /// Reads from memory; `Ok(None)`: it must come from disk, use [`read`](Self::read) on a blocking thread. Returns whole
    /// batches that end below `upper_bound`.
    pub fn try_read_cached(&self, from: i64, upper_bound: i64, limit: ReadLimit) -> Result<Option<LogRead>, StorageError> { unimplemented!() }
    /// Reads from memory or disk. **Blocks.**
    pub fn read(&self, from: i64, upper_bound: i64, limit: ReadLimit) -> Result<LogRead, StorageError> { unimplemented!() }
    /// Removes everything at or above `offset` (and a batch that spans it); returns the new end. **Blocks** (reads).
    pub fn truncate_to(self: &Arc<Self>, offset: i64) -> Result<i64, StorageError> { unimplemented!() }
    /// Empties the log; it goes on at `offset` (Kafka: truncateFullyAndStartAt).
    pub fn truncate_fully_and_start_at(self: &Arc<Self>, offset: i64) -> Result<(), StorageError> { unimplemented!() }
    /// Moves the log's start up to `offset` (≤ log end) and frees what lies below. **Blocks** (reads).
    pub fn advance_log_start(self: &Arc<Self>, offset: i64) -> Result<(), StorageError> { unimplemented!() }
    /// The log start that retention asks for, if it is above the present one: never above `high_watermark`; −1 means no
    /// bound. **Blocks.**
    pub fn retention_candidate(&self, now_ms: i64, retention_ms: i64, retention_bytes: i64, high_watermark: i64) -> Result<Option<i64>, StorageError> { unimplemented!() }
    /// The first batch below `upper_bound` with a timestamp at or after the given one; the caller finds the record in it. **Blocks.**
    pub fn find_batch_by_timestamp(&self, timestamp_ms: i64, upper_bound: i64) -> Result<Option<Bytes>, StorageError> { unimplemented!() }
    /// The first batch below `upper_bound` with the largest timestamp (KIP-734). **Blocks.**
    pub fn find_batch_of_max_timestamp(&self, upper_bound: i64) -> Result<Option<Bytes>, StorageError> { unimplemented!() }
    /// Queues the high watermark, and the producers if they changed: call every few seconds and before a clean close.
    pub fn checkpoint(self: &Arc<Self>, high_watermark: i64) -> Result<(), StorageError> { unimplemented!() }
    /// The topic's retention changed: batches from the log's end on go to another class.
    pub fn set_class(self: &Arc<Self>, class: LogClass) -> Result<(), StorageError> { unimplemented!() }
    /// Forgets producers idle for `producer.id.expiration.ms` or longer; how many.
    pub fn expire_producers(&self, now_ms: i64, expiration_ms: i64) -> usize { unimplemented!() }
    /// First offset of the oldest transaction still open: the last stable offset is the smaller of this and the high watermark.
    pub fn first_unstable_offset(&self) -> Option<i64> { unimplemented!() }
    /// Bytes between log start and log end (to within a chunk of 64 KiB).
    pub fn size_bytes(&self) -> u64 { unimplemented!() }
}
