//! What can go wrong in this room. Every error can be cloned: one failed commit fails many waiters.

use super::leader_epoch_cache::OffsetAndEpoch;
use super::log_store::StoreGeneration;
use rookery_raft::ids::LeaderEpoch;
use std::sync::Arc;

/// A store or a log that cannot do what was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StorageError {
    /// A write or an fsync failed. Final for this generation of the store: nothing is retried on it.
    #[error("the store is offline: {0}")]
    Offline(Arc<str>),
    /// No space left. Final like [`Offline`](Self::Offline); worth a reopen once there is space.
    #[error("the store is offline: no space left on the device ({0})")]
    DiskFull(Arc<str>),
    /// The store was closed in good order.
    #[error("the store is closed")]
    Closed,
    /// The log belongs to an earlier open of its store.
    #[error("the log belongs to {held:?} of the store, which is now at {current:?}")]
    StaleGeneration {
        /// The generation the log was loaded under.
        held: StoreGeneration,
        /// The store's generation now.
        current: StoreGeneration,
    },
    /// More is queued than the store's bound: try again once a commit has finished.
    #[error("the commit queue is full ({queued_bytes} bytes)")]
    QueueFull {
        /// Bytes that wait for a commit.
        queued_bytes: usize,
    },
    /// A read outside [log start, log end].
    #[error("offset {offset} is outside the log [{log_start}, {log_end}]")]
    OffsetOutOfRange {
        /// What was asked for.
        offset: i64,
        /// The first offset held.
        log_start: i64,
        /// The offset after the last one held.
        log_end: i64,
    },
    /// What came from disk is not what was written.
    #[error("corrupt data on disk: {0}")]
    Corrupt(Arc<str>),
    /// The same, and no replica has a sound copy.
    #[error("corrupt data on disk, and no replica has a sound copy: {0}")]
    NowhereSound(Arc<str>),
    /// The log was truncated below the awaited offset.
    #[error("the log was truncated to {new_end}")]
    Truncated {
        /// The log's end after the truncation.
        new_end: i64,
    },
    /// The log does not end where it did when this was decided. Nothing was changed.
    #[error("the log ends at {end}, this was decided for an end at {expected}")]
    EndMoved {
        /// The end it was decided for.
        expected: OffsetAndEpoch,
        /// The end now.
        end: OffsetAndEpoch,
    },
    /// The partition's log was deleted.
    #[error("the log was deleted")]
    Deleted,
}

impl StorageError {
    pub(crate) fn corrupt(what: impl Into<String>) -> Self {
        Self::Corrupt(Arc::from(what.into()))
    }
}

/// An append that was refused. Nothing was queued and no state moved.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AppendError {
    /// Not a record batch of magic 2, a wrong length, or a CRC that does not match. Kafka: CORRUPT_MESSAGE (2).
    #[error("corrupt record batch: {0}")]
    CorruptBatch(Arc<str>),
    /// A batch that is well-formed but not allowed here. Kafka: INVALID_RECORD (87).
    #[error("invalid record batch: {0}")]
    InvalidBatch(Arc<str>),
    /// The sequence does not follow the producer's last one. Kafka: OUT_OF_ORDER_SEQUENCE_NUMBER (45).
    #[error("producer {producer_id} sent sequence {first_sequence} where {expected} follows")]
    OutOfOrderSequence {
        /// The producer.
        producer_id: i64,
        /// The batch's first sequence.
        first_sequence: i32,
        /// What would have been accepted.
        expected: i32,
    },
    /// A newer instance of the producer has written. Kafka: INVALID_PRODUCER_EPOCH (47).
    #[error("producer {producer_id} sent epoch {epoch} after epoch {current}")]
    InvalidProducerEpoch {
        /// The producer.
        producer_id: i64,
        /// The batch's epoch.
        epoch: i16,
        /// The newest epoch seen.
        current: i16,
    },
    /// A transaction marker from a coordinator that has been replaced. Kafka: TRANSACTION_COORDINATOR_FENCED (52).
    #[error("a marker of coordinator epoch {epoch} after epoch {current}")]
    TransactionCoordinatorFenced {
        /// The marker's coordinator epoch.
        epoch: i32,
        /// The newest coordinator epoch seen.
        current: i32,
    },
    /// A follower's batch does not continue its log.
    #[error("the batch starts at {base_offset}, the log ends at {log_end}")]
    NotAtLogEnd {
        /// The batch's base offset.
        base_offset: i64,
        /// The log's end.
        log_end: i64,
    },
    /// A batch, or a leader, of an epoch older than the log's last.
    #[error("leader epoch {epoch} after leader epoch {last}")]
    StaleLeaderEpoch {
        /// The batch's epoch.
        epoch: LeaderEpoch,
        /// The log's newest epoch.
        last: LeaderEpoch,
    },
    /// The store refused.
    #[error(transparent)]
    Storage(#[from] StorageError),
}
