//! Errors of the rooms below as Kafka's error codes: the one place where they meet.

use crate::broker::ChannelError;
use rookery_protocol::error::ErrorCode;
use rookery_raft::controller::ControllerError;

/// The code of a controller's refusal.
pub fn controller_code(error: &ControllerError) -> ErrorCode {
    use ControllerError as E;
    match error {
        E::NotController => ErrorCode::NotController,
        E::NotReady(_) => ErrorCode::RequestTimedOut,
        E::Internal(_) => ErrorCode::UnknownServerError,
        E::InconsistentClusterId { .. } => ErrorCode::InconsistentClusterId,
        E::DuplicateBrokerRegistration(_) => ErrorCode::DuplicateBrokerRegistration,
        E::InvalidRegistration(_) => ErrorCode::InvalidRegistration,
        E::UnsupportedVersion(_) => ErrorCode::UnsupportedVersion,
        E::BrokerIdNotRegistered(_) => ErrorCode::BrokerIdNotRegistered,
        E::StaleBrokerEpoch { .. } => ErrorCode::StaleBrokerEpoch,
        E::InvalidRequest(_) => ErrorCode::InvalidRequest,
        E::InvalidTopic(_) => ErrorCode::InvalidTopicException,
        E::TopicAlreadyExists(_) => ErrorCode::TopicAlreadyExists,
        E::UnknownTopicOrPartition => ErrorCode::UnknownTopicOrPartition,
        E::UnknownTopicId => ErrorCode::UnknownTopicId,
        E::InvalidPartitions(_) => ErrorCode::InvalidPartitions,
        E::InvalidReplicationFactor(_) => ErrorCode::InvalidReplicationFactor,
        E::InvalidReplicaAssignment(_) => ErrorCode::InvalidReplicaAssignment,
        E::InvalidConfig(_) => ErrorCode::InvalidConfig,
        E::PolicyViolation(_) => ErrorCode::PolicyViolation,
        E::FencedLeaderEpoch => ErrorCode::FencedLeaderEpoch,
        E::UnknownLeaderEpoch => ErrorCode::UnknownLeaderEpoch,
        E::InvalidUpdateVersion => ErrorCode::InvalidUpdateVersion,
        E::IneligibleReplica(..) => ErrorCode::IneligibleReplica,
        E::PreferredLeaderNotAvailable => ErrorCode::PreferredLeaderNotAvailable,
        E::EligibleLeadersNotAvailable => ErrorCode::EligibleLeadersNotAvailable,
        E::ElectionNotNeeded => ErrorCode::ElectionNotNeeded,
    }
}

/// The code of a request that did not get its answer.
pub fn channel_code(error: &ChannelError) -> ErrorCode {
    match error {
        ChannelError::Refused(refusal) => controller_code(refusal),
        ChannelError::TimedOut(_) => ErrorCode::RequestTimedOut,
    }
}
