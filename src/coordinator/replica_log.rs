//! [`ReplicaLog`]: a coordinator's log is a partition that this broker leads.
//!
//! It is the log of one topic **id**: a coordinator of a topic that was deleted and made anew under its name can neither
//! read nor write the new one.

use super::log::{AppendError, Appended, CoordinatorLog, LogBounds, ReadError};
use crate::replica::{AppendRequest, Partition, ReplicaError, ReplicaManager, RequiredAcks};
use crate::storage::{AppendOrigin, ReadLimit, StorageError};
use bytes::Bytes;
use rookery_protocol::batch::TimestampType;
use rookery_raft::ids::{LeaderEpoch, TopicId, TopicIdPartition};
use std::sync::Arc;
use tokio::sync::watch;

/// The partitions of one internal topic, as their leader has them.
pub struct ReplicaLog {
    replicas: Arc<ReplicaManager>,
    topic_id: TopicId,
}

impl ReplicaLog {
    /// Over this broker's replicas of a topic.
    pub fn new(replicas: Arc<ReplicaManager>, topic_id: TopicId) -> Self {
        Self { replicas, topic_id }
    }

    fn partition(&self, partition: i32) -> Option<Arc<Partition>> {
        self.replicas.partition(TopicIdPartition { topic_id: self.topic_id, partition })
    }
}

fn read_error(error: ReplicaError) -> ReadError {
    match error {
        ReplicaError::NotLeaderOrFollower | ReplicaError::FencedLeaderEpoch => ReadError::NotLeader,
        other => ReadError::Failed(other.to_string()),
    }
}

impl CoordinatorLog for ReplicaLog {
    fn stands(&self, partition: i32, leader_epoch: LeaderEpoch) -> bool {
        self.partition(partition).is_some_and(|partition| partition.stands_in(leader_epoch))
    }

    async fn append(&self, partition: i32, leader_epoch: LeaderEpoch, batch: Bytes) -> Result<Appended, AppendError> {
        let partition = self.partition(partition).ok_or(AppendError::NotLeader)?;
        let how = AppendRequest {
            acks: RequiredAcks::All,
            timestamp_type: TimestampType::CreateTime,
            origin: AppendOrigin::Coordinator,
            leader_epoch,
        };
        match partition.append_as_leader(batch, how) {
            // Commitment is told by the high watermark; the waiter of this append is not needed.
            Ok(outcome) => {
                Ok(Appended { base_offset: outcome.info.first_offset, last_offset: outcome.info.last_offset })
            }
            // Still its leader, and without confirmation: that passes, or ends with the term.
            Err(ReplicaError::NotLeaderOrFollower) if partition.log_as_leader(leader_epoch).is_ok() => {
                Err(AppendError::Refused("no follower or controller has confirmed this leader lately".to_owned()))
            }
            Err(ReplicaError::NotLeaderOrFollower | ReplicaError::FencedLeaderEpoch) => Err(AppendError::NotLeader),
            Err(error @ ReplicaError::Storage(StorageError::QueueFull { .. })) => {
                Err(AppendError::Refused(error.to_string()))
            }
            Err(
                error @ (ReplicaError::NotEnoughReplicas | ReplicaError::Overloaded | ReplicaError::UnknownLeaderEpoch),
            ) => Err(AppendError::Refused(error.to_string())),
            Err(error) => Err(AppendError::Failed(error.to_string())),
        }
    }

    async fn read(
        &self,
        partition: i32,
        leader_epoch: LeaderEpoch,
        from: i64,
        max_bytes: usize,
    ) -> Result<Vec<Bytes>, ReadError> {
        let partition = self.partition(partition).ok_or(ReadError::NotLeader)?;
        let log = partition.log_as_leader(leader_epoch).map_err(read_error)?;
        let limit = ReadLimit { max_bytes, at_least_one: true };
        let read = tokio::task::spawn_blocking(move || log.read(from, log.offsets().log_end, limit)).await;
        match read {
            Ok(Ok(read)) => Ok(read.batches),
            Ok(Err(error)) => Err(ReadError::Failed(error.to_string())),
            Err(error) => Err(ReadError::Failed(error.to_string())),
        }
    }

    async fn bounds(&self, partition: i32, leader_epoch: LeaderEpoch) -> Result<LogBounds, ReadError> {
        let partition = self.partition(partition).ok_or(ReadError::NotLeader)?;
        let offsets = partition.log_as_leader(leader_epoch).map_err(read_error)?.offsets();
        Ok(LogBounds { start: offsets.log_start, end: offsets.log_end })
    }

    fn high_watermark(&self, partition: i32, leader_epoch: LeaderEpoch) -> Result<watch::Receiver<i64>, ReadError> {
        let partition = self.partition(partition).ok_or(ReadError::NotLeader)?;
        partition.watch_high_watermark(leader_epoch).map_err(read_error)
    }

    async fn advance_log_start(&self, partition: i32, leader_epoch: LeaderEpoch, to: i64) -> Result<(), AppendError> {
        let partition = self.partition(partition).ok_or(AppendError::NotLeader)?;
        partition.log_as_leader(leader_epoch).map_err(|_| AppendError::NotLeader)?;
        match tokio::task::spawn_blocking(move || partition.delete_records(to)).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => Err(AppendError::Failed(error.to_string())),
            Err(error) => Err(AppendError::Failed(error.to_string())),
        }
    }
}
