//! Kafka's error codes, their names, and whether a client may try again.

use std::fmt;

macro_rules! retriable {
    (retriable) => {
        true
    };
    (lasting) => {
        false
    };
}

macro_rules! error_codes {
    ($($code:literal $variant:ident $name:ident $retry:ident: $message:literal,)*) => {
        /// Why a request, or a part of it, failed: the number that answers carry.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(i16)]
        pub enum ErrorCode {
            $(
                #[doc = concat!($code, ": ", $message)]
                $variant = $code,
            )*
        }

        impl ErrorCode {
            /// All of them, by number.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// Kafka's name, in capitals.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => stringify!($name),)*
                }
            }

            /// Whether the same request may succeed later; Kafka's clients retry by the same list.
            pub const fn is_retriable(self) -> bool {
                match self {
                    $(Self::$variant => retriable!($retry),)*
                }
            }

            /// What happened, for people.
            pub const fn message(self) -> &'static str {
                match self {
                    $(Self::$variant => $message,)*
                }
            }

            /// The error of a number, None if Kafka 4.4 does not know it.
            pub const fn from_code(code: i16) -> Option<Self> {
                match code {
                    $($code => Some(Self::$variant),)*
                    _ => None,
                }
            }
        }
    };
}

// As of Kafka 4.4.
error_codes! {
    -1 UnknownServerError UNKNOWN_SERVER_ERROR lasting: "the broker failed in a way it did not expect",
    0 None NONE lasting: "no error",
    1 OffsetOutOfRange OFFSET_OUT_OF_RANGE lasting: "the offset lies outside the partition's log",
    2 CorruptMessage CORRUPT_MESSAGE retriable: "the record batch is damaged: its checksum, size or format is wrong",
    3 UnknownTopicOrPartition UNKNOWN_TOPIC_OR_PARTITION retriable: "this broker has no such topic or partition",
    4 InvalidFetchSize INVALID_FETCH_SIZE lasting: "the fetch size is not valid",
    5 LeaderNotAvailable LEADER_NOT_AVAILABLE retriable: "the partition has no leader at the moment",
    6 NotLeaderOrFollower NOT_LEADER_OR_FOLLOWER retriable:
        "this broker does not lead the partition, or is no replica of it",
    7 RequestTimedOut REQUEST_TIMED_OUT retriable: "the request took longer than allowed",
    8 BrokerNotAvailable BROKER_NOT_AVAILABLE lasting: "the broker is not available",
    9 ReplicaNotAvailable REPLICA_NOT_AVAILABLE retriable: "the replica is not available",
    10 MessageTooLarge MESSAGE_TOO_LARGE lasting: "the record batch is larger than the topic allows",
    11 StaleControllerEpoch STALE_CONTROLLER_EPOCH lasting: "the controller's epoch is out of date",
    12 OffsetMetadataTooLarge OFFSET_METADATA_TOO_LARGE lasting: "the metadata of the committed offset is too long",
    13 NetworkException NETWORK_EXCEPTION retriable: "the connection closed before an answer came",
    14 CoordinatorLoadInProgress COORDINATOR_LOAD_IN_PROGRESS retriable: "the coordinator is still loading",
    15 CoordinatorNotAvailable COORDINATOR_NOT_AVAILABLE retriable: "the coordinator is not available",
    16 NotCoordinator NOT_COORDINATOR retriable: "this broker is not the coordinator",
    17 InvalidTopicException INVALID_TOPIC_EXCEPTION lasting:
        "the topic name is not legal, or the topic may not be used this way",
    18 RecordListTooLarge RECORD_LIST_TOO_LARGE lasting: "the record batch is larger than a segment",
    19 NotEnoughReplicas NOT_ENOUGH_REPLICAS retriable: "too few replicas are in sync to accept the records",
    20 NotEnoughReplicasAfterAppend NOT_ENOUGH_REPLICAS_AFTER_APPEND retriable:
        "the records were written, but to fewer in-sync replicas than required",
    21 InvalidRequiredAcks INVALID_REQUIRED_ACKS lasting: "acks must be 0, 1 or -1",
    22 IllegalGeneration ILLEGAL_GENERATION lasting: "the group generation is not the current one",
    23 InconsistentGroupProtocol INCONSISTENT_GROUP_PROTOCOL lasting:
        "the member's protocols do not fit those of its group",
    24 InvalidGroupId INVALID_GROUP_ID lasting: "the group id is not valid",
    25 UnknownMemberId UNKNOWN_MEMBER_ID lasting: "the coordinator does not know this member",
    26 InvalidSessionTimeout INVALID_SESSION_TIMEOUT lasting: "the session timeout lies outside the allowed range",
    27 RebalanceInProgress REBALANCE_IN_PROGRESS lasting: "the group is rebalancing: join again",
    28 InvalidCommitOffsetSize INVALID_COMMIT_OFFSET_SIZE lasting: "the data of the committed offset is too large",
    29 TopicAuthorizationFailed TOPIC_AUTHORIZATION_FAILED lasting: "not authorized for the topic",
    30 GroupAuthorizationFailed GROUP_AUTHORIZATION_FAILED lasting: "not authorized for the group",
    31 ClusterAuthorizationFailed CLUSTER_AUTHORIZATION_FAILED lasting: "not authorized for the cluster",
    32 InvalidTimestamp INVALID_TIMESTAMP lasting: "the record's timestamp lies outside the allowed range",
    33 UnsupportedSaslMechanism UNSUPPORTED_SASL_MECHANISM lasting: "the SASL mechanism is not supported",
    34 IllegalSaslState ILLEGAL_SASL_STATE lasting: "the request does not fit the state of SASL authentication",
    35 UnsupportedVersion UNSUPPORTED_VERSION lasting: "the broker does not have this version of the API",
    36 TopicAlreadyExists TOPIC_ALREADY_EXISTS lasting: "a topic of this name exists already",
    37 InvalidPartitions INVALID_PARTITIONS lasting: "the number of partitions is not valid",
    38 InvalidReplicationFactor INVALID_REPLICATION_FACTOR lasting:
        "the replication factor is below one or above the number of brokers",
    39 InvalidReplicaAssignment INVALID_REPLICA_ASSIGNMENT lasting: "the replica assignment is not valid",
    40 InvalidConfig INVALID_CONFIG lasting: "the configuration is not valid",
    41 NotController NOT_CONTROLLER retriable: "this node is not the active controller",
    42 InvalidRequest INVALID_REQUEST lasting: "the request contradicts itself or is malformed",
    43 UnsupportedForMessageFormat UNSUPPORTED_FOR_MESSAGE_FORMAT lasting:
        "the record format does not support the request",
    44 PolicyViolation POLICY_VIOLATION lasting: "a policy of the cluster forbids the request",
    45 OutOfOrderSequenceNumber OUT_OF_ORDER_SEQUENCE_NUMBER lasting:
        "the producer's sequence number is not the next one",
    46 DuplicateSequenceNumber DUPLICATE_SEQUENCE_NUMBER lasting: "the producer's sequence number was seen before",
    47 InvalidProducerEpoch INVALID_PRODUCER_EPOCH lasting: "the producer's epoch is out of date",
    48 InvalidTxnState INVALID_TXN_STATE lasting: "the transaction is not in a state that allows this",
    49 InvalidProducerIdMapping INVALID_PRODUCER_ID_MAPPING lasting:
        "the producer id does not belong to the transactional id",
    50 InvalidTransactionTimeout INVALID_TRANSACTION_TIMEOUT lasting:
        "the transaction timeout is larger than the broker allows",
    51 ConcurrentTransactions CONCURRENT_TRANSACTIONS retriable:
        "another operation of this transaction is still running",
    52 TransactionCoordinatorFenced TRANSACTION_COORDINATOR_FENCED lasting:
        "the transaction coordinator that sent this is out of date",
    53 TransactionalIdAuthorizationFailed TRANSACTIONAL_ID_AUTHORIZATION_FAILED lasting:
        "not authorized for the transactional id",
    54 SecurityDisabled SECURITY_DISABLED lasting: "security is switched off",
    55 OperationNotAttempted OPERATION_NOT_ATTEMPTED lasting: "the operation was not attempted",
    56 KafkaStorageError KAFKA_STORAGE_ERROR retriable: "the log could not be read or written",
    57 LogDirNotFound LOG_DIR_NOT_FOUND lasting: "the broker has no such log directory",
    58 SaslAuthenticationFailed SASL_AUTHENTICATION_FAILED lasting: "SASL authentication failed",
    59 UnknownProducerId UNKNOWN_PRODUCER_ID lasting: "nothing is known of this producer id",
    60 ReassignmentInProgress REASSIGNMENT_IN_PROGRESS lasting: "a reassignment of the partition is under way",
    61 DelegationTokenAuthDisabled DELEGATION_TOKEN_AUTH_DISABLED lasting: "delegation tokens are switched off",
    62 DelegationTokenNotFound DELEGATION_TOKEN_NOT_FOUND lasting: "no such delegation token",
    63 DelegationTokenOwnerMismatch DELEGATION_TOKEN_OWNER_MISMATCH lasting:
        "the principal neither owns nor renews the token",
    64 DelegationTokenRequestNotAllowed DELEGATION_TOKEN_REQUEST_NOT_ALLOWED lasting:
        "delegation tokens are not allowed on this connection",
    65 DelegationTokenAuthorizationFailed DELEGATION_TOKEN_AUTHORIZATION_FAILED lasting:
        "not authorized for the delegation token",
    66 DelegationTokenExpired DELEGATION_TOKEN_EXPIRED lasting: "the delegation token has expired",
    67 InvalidPrincipalType INVALID_PRINCIPAL_TYPE lasting: "the type of principal is not supported",
    68 NonEmptyGroup NON_EMPTY_GROUP lasting: "the group still has members",
    69 GroupIdNotFound GROUP_ID_NOT_FOUND lasting: "no such group",
    70 FetchSessionIdNotFound FETCH_SESSION_ID_NOT_FOUND retriable: "no such fetch session",
    71 InvalidFetchSessionEpoch INVALID_FETCH_SESSION_EPOCH retriable:
        "the epoch of the fetch session is not the expected one",
    72 ListenerNotFound LISTENER_NOT_FOUND retriable:
        "the leader has no listener of the name on which metadata was asked for",
    73 TopicDeletionDisabled TOPIC_DELETION_DISABLED lasting: "deleting topics is switched off",
    74 FencedLeaderEpoch FENCED_LEADER_EPOCH retriable: "the leader epoch is older than the broker's",
    75 UnknownLeaderEpoch UNKNOWN_LEADER_EPOCH retriable: "the leader epoch is newer than the broker's",
    76 UnsupportedCompressionType UNSUPPORTED_COMPRESSION_TYPE lasting: "the compression type is not supported",
    77 StaleBrokerEpoch STALE_BROKER_EPOCH lasting: "the broker epoch is out of date",
    78 OffsetNotAvailable OFFSET_NOT_AVAILABLE retriable: "the new leader does not know its high watermark yet",
    79 MemberIdRequired MEMBER_ID_REQUIRED lasting: "join again with the member id that this answer carries",
    80 PreferredLeaderNotAvailable PREFERRED_LEADER_NOT_AVAILABLE retriable: "the preferred leader is not available",
    81 GroupMaxSizeReached GROUP_MAX_SIZE_REACHED lasting: "the group is full",
    82 FencedInstanceId FENCED_INSTANCE_ID lasting: "another member took over this static instance",
    83 EligibleLeadersNotAvailable ELIGIBLE_LEADERS_NOT_AVAILABLE retriable: "no replica that may lead is available",
    84 ElectionNotNeeded ELECTION_NOT_NEEDED retriable: "no election is needed",
    85 NoReassignmentInProgress NO_REASSIGNMENT_IN_PROGRESS lasting: "no reassignment is under way",
    86 GroupSubscribedToTopic GROUP_SUBSCRIBED_TO_TOPIC lasting: "the group still subscribes to the topic",
    87 InvalidRecord INVALID_RECORD lasting: "a record is not valid",
    88 UnstableOffsetCommit UNSTABLE_OFFSET_COMMIT retriable: "a transaction may still change these offsets",
    89 ThrottlingQuotaExceeded THROTTLING_QUOTA_EXCEEDED retriable: "the quota is used up for now",
    90 ProducerFenced PRODUCER_FENCED lasting: "a newer producer with the same transactional id took over",
    91 ResourceNotFound RESOURCE_NOT_FOUND lasting: "no such resource",
    92 DuplicateResource DUPLICATE_RESOURCE lasting: "the request names a resource twice",
    93 UnacceptableCredential UNACCEPTABLE_CREDENTIAL lasting: "the credential does not meet the requirements",
    94 InconsistentVoterSet INCONSISTENT_VOTER_SET lasting: "sender and receiver disagree on who votes",
    95 InvalidUpdateVersion INVALID_UPDATE_VERSION lasting: "the version in the update is not valid",
    96 FeatureUpdateFailed FEATURE_UPDATE_FAILED lasting: "the features could not be updated",
    97 PrincipalDeserializationFailure PRINCIPAL_DESERIALIZATION_FAILURE lasting:
        "the forwarded principal could not be read",
    98 SnapshotNotFound SNAPSHOT_NOT_FOUND lasting: "no such snapshot",
    99 PositionOutOfRange POSITION_OUT_OF_RANGE lasting: "the position lies outside the snapshot",
    100 UnknownTopicId UNKNOWN_TOPIC_ID retriable: "this broker has no topic of this id",
    101 DuplicateBrokerRegistration DUPLICATE_BROKER_REGISTRATION lasting: "the broker id is in use",
    102 BrokerIdNotRegistered BROKER_ID_NOT_REGISTERED lasting: "no broker of this id is registered",
    103 InconsistentTopicId INCONSISTENT_TOPIC_ID retriable: "the log belongs to another topic id",
    104 InconsistentClusterId INCONSISTENT_CLUSTER_ID lasting: "the cluster id is another",
    105 TransactionalIdNotFound TRANSACTIONAL_ID_NOT_FOUND lasting: "no such transactional id",
    106 FetchSessionTopicIdError FETCH_SESSION_TOPIC_ID_ERROR retriable:
        "the fetch session mixes requests with and without topic ids",
    107 IneligibleReplica INELIGIBLE_REPLICA lasting: "a replica in the new ISR may not be there",
    108 NewLeaderElected NEW_LEADER_ELECTED lasting: "a new leader was elected: ask for the new state",
    109 OffsetMovedToTieredStorage OFFSET_MOVED_TO_TIERED_STORAGE lasting: "the offset is in tiered storage",
    110 FencedMemberEpoch FENCED_MEMBER_EPOCH lasting:
        "the member's epoch is out of date: give up its partitions and join again",
    111 UnreleasedInstanceId UNRELEASED_INSTANCE_ID lasting: "another member still holds this static instance",
    112 UnsupportedAssignor UNSUPPORTED_ASSIGNOR lasting: "the assignor is not supported by the group",
    113 StaleMemberEpoch STALE_MEMBER_EPOCH lasting: "the member's epoch is out of date: heartbeat first",
    114 MismatchedEndpointType MISMATCHED_ENDPOINT_TYPE lasting: "the request came to an endpoint of the wrong kind",
    115 UnsupportedEndpointType UNSUPPORTED_ENDPOINT_TYPE lasting: "this kind of endpoint is not supported",
    116 UnknownControllerId UNKNOWN_CONTROLLER_ID lasting: "no such controller",
    117 UnknownSubscriptionId UNKNOWN_SUBSCRIPTION_ID lasting: "the telemetry subscription is unknown or out of date",
    118 TelemetryTooLarge TELEMETRY_TOO_LARGE lasting: "the telemetry is larger than the broker accepts",
    119 InvalidRegistration INVALID_REGISTRATION lasting: "the registration is not valid",
    120 TransactionAbortable TRANSACTION_ABORTABLE lasting: "the transaction failed and may be aborted",
    121 InvalidRecordState INVALID_RECORD_STATE lasting:
        "the record is not in a state that allows this acknowledgement",
    122 ShareSessionNotFound SHARE_SESSION_NOT_FOUND retriable: "no such share session",
    123 InvalidShareSessionEpoch INVALID_SHARE_SESSION_EPOCH retriable:
        "the epoch of the share session is not the expected one",
    124 FencedStateEpoch FENCED_STATE_EPOCH lasting: "the state epoch is out of date",
    125 InvalidVoterKey INVALID_VOTER_KEY lasting: "the voter key is not that of the receiver",
    126 DuplicateVoter DUPLICATE_VOTER lasting: "the voter is in the set already",
    127 VoterNotFound VOTER_NOT_FOUND lasting: "the voter is not in the set",
    128 InvalidRegularExpression INVALID_REGULAR_EXPRESSION lasting: "the regular expression is not valid",
    129 RebootstrapRequired REBOOTSTRAP_REQUIRED lasting: "the client's metadata is out of date: bootstrap again",
    130 StreamsInvalidTopology STREAMS_INVALID_TOPOLOGY lasting: "the topology is not valid",
    131 StreamsInvalidTopologyEpoch STREAMS_INVALID_TOPOLOGY_EPOCH lasting: "the epoch of the topology is not valid",
    132 StreamsTopologyFenced STREAMS_TOPOLOGY_FENCED lasting: "the topology is out of date",
    133 ShareSessionLimitReached SHARE_SESSION_LIMIT_REACHED retriable: "no more share sessions are allowed",
    134 GroupDeletionFailed GROUP_DELETION_FAILED lasting: "the group could not be deleted",
    135 StreamsTopologyDescriptionUpdateFailed STREAMS_TOPOLOGY_DESCRIPTION_UPDATE_FAILED lasting:
        "the description of the topology could not be taken in",
    136 ControllerIdNotRegistered CONTROLLER_ID_NOT_REGISTERED lasting: "no controller of this id is registered",
}

impl ErrorCode {
    /// The number on the wire.
    pub const fn code(self) -> i16 {
        self as i16
    }

    /// Whether this says that nothing failed.
    pub const fn is_none(self) -> bool {
        matches!(self, Self::None)
    }
}

impl From<ErrorCode> for i16 {
    fn from(error: ErrorCode) -> i16 {
        error.code()
    }
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.name(), self.message())
    }
}

impl std::error::Error for ErrorCode {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_knows_its_way_back_and_has_the_oracles_name() {
        use kafka_protocol::error::ResponseError;
        for error in ErrorCode::ALL {
            assert_eq!(ErrorCode::from_code(error.code()), Some(*error));
            match ResponseError::try_from_code(error.code()) {
                None | Some(ResponseError::Unknown(_)) => {}
                Some(theirs) => assert_eq!(format!("{theirs:?}"), format!("{error:?}")),
            }
        }
        assert_eq!(ErrorCode::from_code(9999), None);
        assert!(ErrorCode::NotLeaderOrFollower.is_retriable() && !ErrorCode::InvalidRecord.is_retriable());
    }
}
