//! What a coordinator needs of its partition's log.

use bytes::Bytes;
use rookery_raft::ids::LeaderEpoch;
use std::future::Future;
use thiserror::Error;
use tokio::sync::watch;

/// Where a batch came to lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Appended {
    /// Offset of its first record.
    pub base_offset: i64,
    /// Offset of its last record.
    pub last_offset: i64,
}

/// The ends of a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogBounds {
    /// The first offset that can be read.
    pub start: i64,
    /// The offset after the last record.
    pub end: i64,
}

/// Why nothing is known to have been appended.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum AppendError {
    /// This broker does not lead the partition in that epoch: the coordinator resigns.
    #[error("not the leader in this epoch")]
    NotLeader,
    /// Refused before anything was written, for now: the same batch is offered again.
    #[error("the log takes no batch now: {0}")]
    Refused(String),
    /// Perhaps written, perhaps not: the coordinator loads anew.
    #[error("the append failed: {0}")]
    Failed(String),
}

/// Why a log cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ReadError {
    /// This broker does not lead the partition in that epoch.
    #[error("not the leader in this epoch")]
    NotLeader,
    /// Anything else; tried again.
    #[error("the read failed: {0}")]
    Failed(String),
}

/// The log of each partition of one coordinator's topic, as its leader sees it.
///
/// Every call names the leader epoch in which the coordinator was elected; a call in another epoch is refused, so that
/// a replaced coordinator can neither write nor load.
pub trait CoordinatorLog: Send + Sync + 'static {
    /// Whether the leader may speak for the partition now: it leads in that epoch, and the controller or the followers have confirmed
    /// it within the lease. A coordinator that was replaced without having heard of it tells nobody what it knows for longer.
    fn stands(&self, partition: i32, leader_epoch: LeaderEpoch) -> bool;

    /// Appends one record batch (magic 2; base offset and leader epoch are set by the log). Resolves when the
    /// offsets are known and the batch is readable by [`read`](Self::read); commitment is told by the high watermark.
    fn append(
        &self,
        partition: i32,
        leader_epoch: LeaderEpoch,
        batch: Bytes,
    ) -> impl Future<Output = Result<Appended, AppendError>> + Send;

    /// Whole batches from the one that holds `from`, at least one unless `from` is the end, about `max_bytes` at most;
    /// each `Bytes` holds one or more of them back to back.
    fn read(
        &self,
        partition: i32,
        leader_epoch: LeaderEpoch,
        from: i64,
        max_bytes: usize,
    ) -> impl Future<Output = Result<Vec<Bytes>, ReadError>> + Send;

    /// Start and end of the log.
    fn bounds(
        &self,
        partition: i32,
        leader_epoch: LeaderEpoch,
    ) -> impl Future<Output = Result<LogBounds, ReadError>> + Send;

    /// The high watermark and its advances. The sender is dropped when the leadership ends.
    fn high_watermark(&self, partition: i32, leader_epoch: LeaderEpoch) -> Result<watch::Receiver<i64>, ReadError>;

    /// Drops everything below `to`, which is at most the high watermark, on every replica.
    fn advance_log_start(
        &self,
        partition: i32,
        leader_epoch: LeaderEpoch,
        to: i64,
    ) -> impl Future<Output = Result<(), AppendError>> + Send;
}
