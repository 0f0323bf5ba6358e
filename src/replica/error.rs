//! What a replica answers instead of a result, and the Kafka code each has on the wire.

use crate::storage::{AppendError, StorageError};

/// Kafka's OFFSET_OUT_OF_RANGE: the one error of a fetch that a follower acts on.
pub const OFFSET_OUT_OF_RANGE: i16 = 1;
/// Kafka's KAFKA_STORAGE_ERROR: clients look for another leader and try again.
pub const KAFKA_STORAGE_ERROR: i16 = 56;
/// Kafka's CORRUPT_MESSAGE.
pub const CORRUPT_MESSAGE: i16 = 2;

/// Why a replica did not do what was asked. Cloned to every request that waited for the same thing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReplicaError {
    /// This broker is not the leader, or may not speak as one now; the client should look for the leader again.
    #[error("this broker is not the leader of the partition")]
    NotLeaderOrFollower,
    /// The request names an older leader epoch than ours (KIP-320).
    #[error("the request's leader epoch is older than the partition's")]
    FencedLeaderEpoch,
    /// The request names a newer leader epoch than ours: the metadata has not arrived here yet.
    #[error("the request's leader epoch is newer than the partition's")]
    UnknownLeaderEpoch,
    /// No replica of such a partition here.
    #[error("no replica of this partition on this broker")]
    UnknownTopicOrPartition,
    /// Outside what may be read.
    #[error("offset {offset} is outside [{log_start}, {end}]")]
    OffsetOutOfRange {
        /// What was asked for.
        offset: i64,
        /// The log start.
        log_start: i64,
        /// The end of what this reader may see.
        end: i64,
    },
    /// A new leader that does not know the high watermark yet (KIP-207).
    #[error("the high watermark is not known yet in this leader epoch")]
    OffsetNotAvailable,
    /// acks=all, and the ISR is smaller than min.insync.replicas: nothing was appended.
    #[error("fewer replicas in sync than min.insync.replicas")]
    NotEnoughReplicas,
    /// acks=all, and the ISR shrank below min.insync.replicas after the append; the records may yet be committed.
    #[error("fewer replicas in sync than min.insync.replicas, after the records were appended")]
    NotEnoughReplicasAfterAppend,
    /// acks other than 0, 1 and -1.
    #[error("acks={0} is not 0, 1 or -1")]
    InvalidRequiredAcks(i16),
    /// Waited as long as the request allowed.
    #[error("the request timed out")]
    RequestTimedOut,
    /// Too much is waiting on this broker; nothing was done.
    #[error("too many requests wait on this broker")]
    Overloaded,
    /// The disk is nearly full: clients' records are refused.
    #[error("the disk of this broker is nearly full: it takes no records until there is space")]
    ShortOfSpace,
    /// A request of an older incarnation of a broker, or of one that is no replica.
    #[error("the broker epoch of the request is stale")]
    StaleBrokerEpoch,
    /// A peer of another cluster.
    #[error("the request names another cluster")]
    InconsistentClusterId,
    /// The fetch session is not known (any more).
    #[error("no such fetch session")]
    FetchSessionNotFound,
    /// A fetch of a session came out of turn.
    #[error("the fetch session is at another epoch")]
    InvalidFetchSessionEpoch,
    /// The batches were refused; nothing was appended.
    #[error(transparent)]
    Append(AppendError),
    /// The disk, or what is on it.
    #[error(transparent)]
    Storage(#[from] StorageError),
}

impl From<AppendError> for ReplicaError {
    fn from(error: AppendError) -> Self {
        match error {
            AppendError::Storage(error) => error.into(),
            error => Self::Append(error),
        }
    }
}

impl ReplicaError {
    /// The error code of Kafka's protocol, used on both ports.
    pub fn kafka_code(&self) -> i16 {
        match self {
            Self::OffsetOutOfRange { .. } | Self::Storage(StorageError::OffsetOutOfRange { .. }) => OFFSET_OUT_OF_RANGE,
            Self::UnknownTopicOrPartition | Self::Storage(StorageError::Deleted) => 3,
            // A log whose tail was cut, or whose store was reopened, has lost its leadership.
            Self::NotLeaderOrFollower
            | Self::Append(AppendError::StaleLeaderEpoch { .. })
            | Self::Storage(StorageError::Truncated { .. }) => 6,
            Self::RequestTimedOut | Self::Overloaded | Self::Storage(StorageError::QueueFull { .. }) => 7,
            Self::NotEnoughReplicas => 19,
            Self::NotEnoughReplicasAfterAppend => 20,
            Self::InvalidRequiredAcks(_) => 21,
            Self::Append(AppendError::OutOfOrderSequence { .. }) => 45,
            Self::Append(AppendError::InvalidProducerEpoch { .. }) => 47,
            Self::Append(AppendError::TransactionCoordinatorFenced { .. }) => 52,
            Self::FetchSessionNotFound => 70,
            Self::InvalidFetchSessionEpoch => 71,
            Self::FencedLeaderEpoch => 74,
            Self::UnknownLeaderEpoch => 75,
            Self::StaleBrokerEpoch => 77,
            Self::OffsetNotAvailable => 78,
            Self::Append(AppendError::CorruptBatch(_) | AppendError::NotAtLogEnd { .. })
            | Self::Storage(StorageError::NowhereSound(_)) => CORRUPT_MESSAGE,
            Self::Append(AppendError::InvalidBatch(_)) => 87,
            Self::InconsistentClusterId => 104,
            Self::ShortOfSpace | Self::Storage(_) | Self::Append(AppendError::Storage(_)) => KAFKA_STORAGE_ERROR,
        }
    }
}
