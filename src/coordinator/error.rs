//! What a coordinator refuses with, and Kafka's code for each in one place.

use rookery_protocol::error::ErrorCode;
use thiserror::Error;

/// Why a request was refused. Each variant is one of Kafka's error codes, see `From` for [`ErrorCode`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Error)]
pub enum CoordinatorError {
    /// A group's state does not fit into one record.
    #[error("the server met a condition it does not expect")]
    UnknownServerError,
    /// The metadata beside an offset is longer than `offset.metadata.max.bytes`.
    #[error("the metadata of the offset is too large")]
    OffsetMetadataTooLarge,
    /// The new leader still replays its log.
    #[error("the coordinator is loading")]
    CoordinatorLoadInProgress,
    /// The log takes no records now, or they did not commit in time; whether they will is not known.
    #[error("the coordinator is not available")]
    CoordinatorNotAvailable,
    /// This broker does not lead the partition.
    #[error("this is not the coordinator")]
    NotCoordinator,
    /// The generation is not the group's.
    #[error("the generation is not the current one")]
    IllegalGeneration,
    /// No assignment protocol that all members know, or another protocol type.
    #[error("the member's protocols do not fit the group's")]
    InconsistentGroupProtocol,
    /// The group id is empty.
    #[error("the group id is invalid")]
    InvalidGroupId,
    /// Not a member.
    #[error("the coordinator does not know this member")]
    UnknownMemberId,
    /// Outside `group.min.session.timeout.ms` .. `group.max.session.timeout.ms`.
    #[error("the session timeout is outside the range the broker allows")]
    InvalidSessionTimeout,
    /// The member has to join again.
    #[error("the group is rebalancing")]
    RebalanceInProgress,
    /// A field that no client would send.
    #[error("the request is malformed")]
    InvalidRequest,
    /// The group has members.
    #[error("the group is not empty")]
    NonEmptyGroup,
    /// No such group.
    #[error("the group id does not exist")]
    GroupIdNotFound,
    /// Join again with the id in the answer (KIP-394).
    #[error("the member has to join again with the id it was given")]
    MemberIdRequired,
    /// The group has `group.max.size` members.
    #[error("the group is full")]
    GroupMaxSizeReached,
    /// Another member took over this `group.instance.id` (KIP-345).
    #[error("a newer member has this instance id")]
    FencedInstanceId,
    /// A member reads this topic.
    #[error("the group is subscribed to the topic")]
    GroupSubscribedToTopic,
}

impl From<CoordinatorError> for ErrorCode {
    fn from(error: CoordinatorError) -> Self {
        match error {
            CoordinatorError::UnknownServerError => Self::UnknownServerError,
            CoordinatorError::OffsetMetadataTooLarge => Self::OffsetMetadataTooLarge,
            CoordinatorError::CoordinatorLoadInProgress => Self::CoordinatorLoadInProgress,
            CoordinatorError::CoordinatorNotAvailable => Self::CoordinatorNotAvailable,
            CoordinatorError::NotCoordinator => Self::NotCoordinator,
            CoordinatorError::IllegalGeneration => Self::IllegalGeneration,
            CoordinatorError::InconsistentGroupProtocol => Self::InconsistentGroupProtocol,
            CoordinatorError::InvalidGroupId => Self::InvalidGroupId,
            CoordinatorError::UnknownMemberId => Self::UnknownMemberId,
            CoordinatorError::InvalidSessionTimeout => Self::InvalidSessionTimeout,
            CoordinatorError::RebalanceInProgress => Self::RebalanceInProgress,
            CoordinatorError::InvalidRequest => Self::InvalidRequest,
            CoordinatorError::NonEmptyGroup => Self::NonEmptyGroup,
            CoordinatorError::GroupIdNotFound => Self::GroupIdNotFound,
            CoordinatorError::MemberIdRequired => Self::MemberIdRequired,
            CoordinatorError::GroupMaxSizeReached => Self::GroupMaxSizeReached,
            CoordinatorError::FencedInstanceId => Self::FencedInstanceId,
            CoordinatorError::GroupSubscribedToTopic => Self::GroupSubscribedToTopic,
        }
    }
}
