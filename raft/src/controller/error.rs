//! Why the controller refuses.

use crate::ids::{BrokerEpoch, NodeId};
use serde::{Deserialize, Serialize};

/// A refusal. Each variant is one Kafka error code (the root package maps them); the text is for the client.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
pub enum ControllerError {
    /// NOT_CONTROLLER: ask the active controller.
    #[error("this node is not the active controller")]
    NotController,
    /// A retriable refusal: the state the request needs is on its way (COORDINATOR_NOT_AVAILABLE or REQUEST_TIMED_OUT
    /// on the wire, by API).
    #[error("try again: {0}")]
    NotReady(String),
    /// UNKNOWN_SERVER_ERROR: the decision would have made a state that must not be; nothing was written.
    #[error("refused to write an impossible record: {0}")]
    Internal(String),
    /// INCONSISTENT_CLUSTER_ID.
    #[error("the broker belongs to cluster {theirs}, this is cluster {ours}")]
    InconsistentClusterId {
        /// This cluster.
        ours: String,
        /// The broker's.
        theirs: String,
    },
    /// DUPLICATE_BROKER_REGISTRATION: another live process has that node id.
    #[error("broker {0} is registered by another process that is still alive")]
    DuplicateBrokerRegistration(NodeId),
    /// INVALID_REGISTRATION.
    #[error("invalid registration: {0}")]
    InvalidRegistration(String),
    /// UNSUPPORTED_VERSION: the broker cannot replay what this cluster writes.
    #[error("unsupported version: {0}")]
    UnsupportedVersion(String),
    /// BROKER_ID_NOT_REGISTERED.
    #[error("broker {0} is not registered")]
    BrokerIdNotRegistered(NodeId),
    /// STALE_BROKER_EPOCH.
    #[error("broker {id} has epoch {current}, the request says {given}")]
    StaleBrokerEpoch {
        /// The broker.
        id: NodeId,
        /// Its epoch.
        current: BrokerEpoch,
        /// What the request says.
        given: BrokerEpoch,
    },
    /// INVALID_REQUEST.
    #[error("{0}")]
    InvalidRequest(String),
    /// INVALID_TOPIC_EXCEPTION.
    #[error("{0}")]
    InvalidTopic(String),
    /// TOPIC_ALREADY_EXISTS.
    #[error("Topic '{0}' already exists.")]
    TopicAlreadyExists(String),
    /// UNKNOWN_TOPIC_OR_PARTITION.
    #[error("This server does not host this topic-partition.")]
    UnknownTopicOrPartition,
    /// UNKNOWN_TOPIC_ID.
    #[error("This server does not host this topic ID.")]
    UnknownTopicId,
    /// INVALID_PARTITIONS.
    #[error("{0}")]
    InvalidPartitions(String),
    /// INVALID_REPLICATION_FACTOR.
    #[error("{0}")]
    InvalidReplicationFactor(String),
    /// INVALID_REPLICA_ASSIGNMENT.
    #[error("{0}")]
    InvalidReplicaAssignment(String),
    /// INVALID_CONFIG.
    #[error("{0}")]
    InvalidConfig(String),
    /// POLICY_VIOLATION.
    #[error("{0}")]
    PolicyViolation(String),
    /// FENCED_LEADER_EPOCH.
    #[error("the leader epoch is older than the current one")]
    FencedLeaderEpoch,
    /// UNKNOWN_LEADER_EPOCH: the leader epoch is newer than the controller's.
    #[error("the leader epoch is newer than the current one")]
    UnknownLeaderEpoch,
    /// INVALID_UPDATE_VERSION: another partition epoch.
    #[error("the partition epoch is not the current one")]
    InvalidUpdateVersion,
    /// INELIGIBLE_REPLICA (KIP-903): a member of the asked ISR is fenced, shutting down or of another epoch.
    #[error("replica {0} may not be in the ISR now: {1}")]
    IneligibleReplica(NodeId, String),
    /// PREFERRED_LEADER_NOT_AVAILABLE.
    #[error("the preferred leader is not in sync or not available")]
    PreferredLeaderNotAvailable,
    /// ELIGIBLE_LEADERS_NOT_AVAILABLE.
    #[error("no replica is available to lead")]
    EligibleLeadersNotAvailable,
    /// ELECTION_NOT_NEEDED.
    #[error("the partition has the leader it should have")]
    ElectionNotNeeded,
}
