//! `LogStore`: what a disk must do for partition logs, and what it promises.
//!
//! **Order.** Writes are committed in the order in which they were submitted; each is atomic; a commit holds one or more
//! of them. After a crash the store holds a prefix of the submitted writes that includes every completed one.
//!
//! **Visibility.** A read sees every completed write and may see later ones once they are durable. It never sees a write
//! that a crash could still take back.
//!
//! **Completion.** Every accepted write is completed exactly once, in order, with no lock of the store held: `Ok` after
//! its fsync, `Err` if its commit failed. After the first `Err` of a generation no later write of it gets `Ok`.
//!
//! **Generations.** Each open is a new [`StoreGeneration`]. A write names the generation its log was loaded under; after
//! a reopen the old ones are refused, so that a log that outlived its store can never write to the next one.

use super::error::StorageError;
use super::log_class::LogClass;
use super::time_index::TimeIndexEntry;
use bytes::Bytes;
use rookery_raft::ids::{ClusterId, DirectoryId};
use smallvec::SmallVec;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

/// A partition's short name inside one store: dense, never used twice.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct LocalPartitionId(pub u32);

/// Counts the opens of a store within one process; the first is 1.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct StoreGeneration(pub u64);

/// One atomic change of one partition.
#[derive(Debug, Clone)]
pub struct StoreWrite {
    /// Whose.
    pub partition: LocalPartitionId,
    /// Applied in order.
    pub ops: SmallVec<[StoreOp; 4]>,
}

/// One operation of a [`StoreWrite`]. Ranges are half-open and count **last** offsets, which are the keys of the log.
#[derive(Debug, Clone)]
pub enum StoreOp {
    /// Stores a batch under its last offset.
    PutBatch {
        /// The column family of its extent.
        class: LogClass,
        /// The key.
        last_offset: i64,
        /// The batch as on the wire.
        batch: Bytes,
    },
    /// Removes every batch whose last offset is in the range.
    DeleteBatches {
        /// The column family of the extent.
        class: LogClass,
        /// Last offsets.
        last_offsets: Range<i64>,
    },
    /// Stores an entry of the time index.
    PutTimeEntry(TimeIndexEntry),
    /// Removes the entries of the time index whose last offset is in the range.
    DeleteTimeEntries(Range<i64>),
    /// Stores the producer state as it was when the log ended at `offset`.
    PutProducerSnapshot {
        /// The log's end at the time.
        offset: i64,
        /// Encoded by `ProducerState`.
        snapshot: Bytes,
    },
    /// Removes one producer snapshot.
    DeleteProducerSnapshot {
        /// The key it was put under.
        offset: i64,
    },
    /// Replaces the partition's metadata (log start, end floor, extents, leader epochs, high watermark). The first one of
    /// a partition creates it.
    PutMeta(Bytes),
    /// Removes everything the store knows of the partition in these classes.
    DeletePartition {
        /// Every class an extent of the partition ever used.
        classes: Vec<LogClass>,
    },
}

impl StoreWrite {
    /// What the write costs in the queue, in bytes.
    pub fn size(&self) -> usize {
        let payload = |op: &StoreOp| match op {
            StoreOp::PutBatch { batch, .. } => batch.len(),
            StoreOp::PutProducerSnapshot { snapshot, .. } => snapshot.len(),
            StoreOp::PutMeta(meta) => meta.len(),
            _ => 0,
        };
        self.ops.iter().map(|op| payload(op) + 32).sum()
    }
}

/// Told when a write is durable, or never will be.
pub trait WriteCompletion: Send + Sync {
    /// Runs on the store's commit thread (or in the test that commits): must be short and must not block.
    fn complete(&self, ticket: u64, result: &Result<(), StorageError>);
}

/// What a partition left in the store.
#[derive(Debug, Clone)]
pub struct StoredPartition {
    /// Its short name.
    pub id: LocalPartitionId,
    /// The newest [`StoreOp::PutMeta`].
    pub meta: Bytes,
    /// Producer snapshots by offset, ascending.
    pub producer_snapshots: Vec<(i64, Bytes)>,
}

/// Whether a store takes writes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StoreHealth {
    /// It does.
    Online,
    /// It does not, until it is reopened.
    Offline(StorageError),
}

/// What an open found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StoreIdentity {
    /// The directory's own id: a wiped directory gets another.
    pub directory_id: DirectoryId,
    /// The cluster it belongs to.
    pub cluster_id: ClusterId,
}

/// A batch under its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredBatch {
    /// The key.
    pub last_offset: i64,
    /// The batch as on the wire.
    pub batch: Bytes,
}

/// The disk under partition logs. See the module's contract.
pub trait LogStore: Send + Sync + 'static {
    /// The current open.
    fn generation(&self) -> StoreGeneration;

    /// Who the directory is.
    fn identity(&self) -> StoreIdentity;

    /// Whether this open found that data synced by an earlier one is missing or damaged. The directory must register as
    /// lost. Stays true over crashes and reopens until [`acknowledge_log_lost`](Self::acknowledge_log_lost).
    fn log_lost(&self) -> bool;

    /// Clears [`log_lost`](Self::log_lost), durably: the registration that said so has been committed. Blocks.
    fn acknowledge_log_lost(&self) -> Result<(), StorageError>;

    /// Queues a write and returns at once. On `Err` nothing was queued and nothing will be completed.
    fn submit(
        &self,
        generation: StoreGeneration,
        write: StoreWrite,
        done: Arc<dyn WriteCompletion>,
        ticket: u64,
    ) -> Result<(), StorageError>;

    /// The id for a partition about to be created. Unused ids are not given back.
    fn allocate_partition(&self) -> LocalPartitionId;

    /// Every partition, in order of id. Blocks.
    fn partitions(&self) -> Result<Vec<StoredPartition>, StorageError>;

    /// Batches whose last offset is in the range, ascending: the first in any case, more while the sum stays within
    /// `max_bytes`. Blocks.
    fn read_batches(
        &self,
        partition: LocalPartitionId,
        class: LogClass,
        last_offsets: Range<i64>,
        max_bytes: usize,
    ) -> Result<Vec<StoredBatch>, StorageError>;

    /// The largest last offset in the range, if there is a batch in it. Blocks.
    fn last_offset_in(
        &self,
        partition: LocalPartitionId,
        class: LogClass,
        last_offsets: Range<i64>,
    ) -> Result<Option<i64>, StorageError>;

    /// Entries of the time index with a last offset in the range, ascending, at most `max_entries`. Blocks.
    fn time_entries(
        &self,
        partition: LocalPartitionId,
        last_offsets: Range<i64>,
        max_entries: usize,
    ) -> Result<Vec<TimeIndexEntry>, StorageError>;

    /// The entry of the time index with the largest last offset below `offset`. Blocks.
    fn last_time_entry_before(
        &self,
        partition: LocalPartitionId,
        offset: i64,
    ) -> Result<Option<TimeIndexEntry>, StorageError>;

    /// Column families with a damaged table: they are compacted no more.
    fn damaged_tables(&self) -> usize {
        0
    }

    /// Whether writes are taken.
    fn health(&self) -> StoreHealth;

    /// For how long the commit that is under way has not come back: a hanging disk shows here. What waits behind it does not count: a slow
    /// disk ends one commit after the other, however long the queue.
    fn oldest_unfinished_commit_age(&self) -> Option<Duration>;

    /// Bytes that are durable only in the write-ahead log and will be written once more. May block.
    fn unflushed_bytes(&self) -> u64;

    /// Gives space of deleted batches back to the file system where that is worth it. Blocks; call after a retention pass.
    fn reclaim(&self) -> Result<(), StorageError>;

    /// Completes what is queued, then closes. Later writes get [`StorageError::Closed`]. Blocks.
    fn close(&self) -> Result<(), StorageError>;

    /// Opens again after a close or a failure, as a new generation. What was queued and not completed has been completed
    /// with an error before this returns. Blocks.
    fn reopen(&self) -> Result<StoreGeneration, StorageError>;
}
