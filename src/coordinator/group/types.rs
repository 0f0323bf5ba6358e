//! Requests and responses of the group coordinator: plain structs, which the handlers convert from and to the wire.
//!
//! An error that concerns a whole request is the `Err` of its call; fields named `error` are for those parts of
//! Kafka's responses that carry one of their own.

use crate::coordinator::CoordinatorError;
use bytes::Bytes;
use rookery_raft::ids::{TopicId, TopicName};
use std::sync::Arc;

/// A group's id.
pub type GroupId = Arc<str>;
/// A member's id, chosen by the coordinator.
pub type MemberId = Arc<str>;

/// One assignment protocol a member offers, most wanted first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JoinProtocol {
    /// For instance `range`.
    pub name: Arc<str>,
    /// Opaque to the coordinator; for consumers, the subscription.
    pub metadata: Bytes,
}

/// JoinGroup, versions 0–9.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JoinGroupRequest {
    /// The group.
    pub group_id: GroupId,
    /// Milliseconds.
    pub session_timeout_ms: i32,
    /// Milliseconds; version 0 has none and uses the session timeout.
    pub rebalance_timeout_ms: i32,
    /// Empty for a new member.
    pub member_id: MemberId,
    /// `group.instance.id` (KIP-345), from version 5.
    pub group_instance_id: Option<Arc<str>>,
    /// For instance `consumer`.
    pub protocol_type: Arc<str>,
    /// What the member offers.
    pub protocols: Vec<JoinProtocol>,
    /// From the request header.
    pub client_id: Arc<str>,
    /// As Kafka prints it: `/10.0.0.1`.
    pub client_host: Arc<str>,
    /// Version 4 and above: a new dynamic member is sent away once to come back with its id (KIP-394).
    pub requires_known_member_id: bool,
    /// Version 9 and above: the answer may tell a leader not to assign (KIP-814).
    pub supports_skipping_assignment: bool,
}

/// A member as its leader sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JoinedMember {
    /// The member.
    pub member_id: MemberId,
    /// Its static name.
    pub group_instance_id: Option<Arc<str>>,
    /// Its metadata for the chosen protocol.
    pub metadata: Bytes,
}

/// The answer to a JoinGroup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JoinGroupResponse {
    /// `None`: joined.
    pub error: Option<CoordinatorError>,
    /// -1 on an error.
    pub generation: i32,
    /// `None` on an error.
    pub protocol_type: Option<Arc<str>>,
    /// `None` on an error; versions below 7 send the empty string.
    pub protocol_name: Option<Arc<str>>,
    /// The leader's member id; empty on an error.
    pub leader: MemberId,
    /// The leader must not assign: the group goes on as it was.
    pub skip_assignment: bool,
    /// The member's id, also with MEMBER_ID_REQUIRED.
    pub member_id: MemberId,
    /// All members, for the leader only.
    pub members: Vec<JoinedMember>,
}

impl JoinGroupResponse {
    /// A refusal.
    pub fn refused(member_id: MemberId, error: CoordinatorError) -> Self {
        Self {
            error: Some(error),
            generation: -1,
            protocol_type: None,
            protocol_name: None,
            leader: "".into(),
            skip_assignment: false,
            member_id,
            members: Vec::new(),
        }
    }
}

/// SyncGroup, versions 0–5.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SyncGroupRequest {
    /// The group.
    pub group_id: GroupId,
    /// As answered to JoinGroup.
    pub generation: i32,
    /// As answered to JoinGroup.
    pub member_id: MemberId,
    /// From version 3.
    pub group_instance_id: Option<Arc<str>>,
    /// From version 5.
    pub protocol_type: Option<Arc<str>>,
    /// From version 5.
    pub protocol_name: Option<Arc<str>>,
    /// What the leader decided; empty from anyone else.
    pub assignments: Vec<(MemberId, Bytes)>,
}

/// The answer to a SyncGroup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SyncGroupResponse {
    /// The group's protocol type.
    pub protocol_type: Option<Arc<str>>,
    /// The chosen protocol.
    pub protocol_name: Option<Arc<str>>,
    /// This member's assignment.
    pub assignment: Bytes,
}

/// Heartbeat, versions 0–4. The answer is empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeartbeatRequest {
    /// The group.
    pub group_id: GroupId,
    /// The member's generation.
    pub generation: i32,
    /// The member.
    pub member_id: MemberId,
    /// From version 3.
    pub group_instance_id: Option<Arc<str>>,
}

/// One of those who leave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemberIdentity {
    /// Empty when an administrator removes a static member by its name.
    pub member_id: MemberId,
    /// From version 3.
    pub group_instance_id: Option<Arc<str>>,
}

/// LeaveGroup, versions 0–5; one member before version 3.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeaveGroupRequest {
    /// The group.
    pub group_id: GroupId,
    /// Who leaves.
    pub members: Vec<MemberIdentity>,
}

/// What became of one who leaves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeftMember {
    /// As asked.
    pub identity: MemberIdentity,
    /// `None`: has left.
    pub error: Option<CoordinatorError>,
}

/// One offset to keep.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommittedPartition {
    /// The partition.
    pub partition: i32,
    /// The next offset to read.
    pub offset: i64,
    /// Leader epoch of the last record read, -1 for unknown (KIP-320).
    pub leader_epoch: i32,
    /// Kept as it is.
    pub metadata: Arc<str>,
}

/// The offsets of one topic. The handler has resolved name and id; the id is [`TopicId::NONE`] where it is not known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommittedTopic {
    /// The topic.
    pub name: TopicName,
    /// Its id.
    pub topic_id: TopicId,
    /// Its partitions.
    pub partitions: Vec<CommittedPartition>,
}

/// OffsetCommit, versions 2–10 (and older ones, as version 2).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OffsetCommitRequest {
    /// The group.
    pub group_id: GroupId,
    /// -1: not a member, a consumer that assigns its own partitions or an administrator.
    pub generation: i32,
    /// Empty with generation -1.
    pub member_id: MemberId,
    /// From version 7.
    pub group_instance_id: Option<Arc<str>>,
    /// Milliseconds the offsets are to be kept, versions 2–4 only; `None`: the broker's setting.
    pub retention_ms: Option<i64>,
    /// Version 9 and above is told GROUP_ID_NOT_FOUND, older ones ILLEGAL_GENERATION.
    pub knows_group_id_not_found: bool,
    /// What to commit.
    pub topics: Vec<CommittedTopic>,
}

/// Per topic, per partition: what became of it.
pub type PartitionErrors = Vec<(TopicName, Vec<(i32, Option<CoordinatorError>)>)>;

/// One topic whose offsets are asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FetchTopic {
    /// The topic.
    pub name: TopicName,
    /// Its id or [`TopicId::NONE`]: an offset committed to an older topic of that name is not given out.
    pub topic_id: TopicId,
    /// Its partitions.
    pub partitions: Vec<i32>,
}

/// OffsetFetch for one group, versions 1–10.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OffsetFetchRequest {
    /// The group.
    pub group_id: GroupId,
    /// `None`: every offset the group has.
    pub topics: Option<Vec<FetchTopic>>,
    /// Wait for what is being committed (KIP-447), instead of answering with what is committed.
    pub require_stable: bool,
}

/// One offset, or offset -1 where there is none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FetchedOffset {
    /// The partition.
    pub partition: i32,
    /// The next offset to read, -1 for none.
    pub offset: i64,
    /// -1 for unknown.
    pub leader_epoch: i32,
    /// As committed.
    pub metadata: Arc<str>,
}

/// The offsets of one topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FetchedTopic {
    /// The topic.
    pub name: TopicName,
    /// As asked, or as committed when all were asked for.
    pub topic_id: TopicId,
    /// Its offsets.
    pub partitions: Vec<FetchedOffset>,
}

/// OffsetDelete, version 0.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OffsetDeleteRequest {
    /// The group.
    pub group_id: GroupId,
    /// What to delete.
    pub topics: Vec<(TopicName, Vec<i32>)>,
}

/// A member as DescribeGroups shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DescribedMember {
    /// The member.
    pub member_id: MemberId,
    /// Its static name.
    pub group_instance_id: Option<Arc<str>>,
    /// From its last join.
    pub client_id: Arc<str>,
    /// From its last join.
    pub client_host: Arc<str>,
    /// Empty unless the group is stable.
    pub metadata: Bytes,
    /// Its assignment.
    pub assignment: Bytes,
}

/// DescribeGroups, versions 0–6, for one group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DescribedGroup {
    /// The group.
    pub group_id: GroupId,
    /// GROUP_ID_NOT_FOUND only from version 6 on: older versions show a group that does not exist as `Dead`, without an error.
    pub error: Option<CoordinatorError>,
    /// `Empty`, `PreparingRebalance`, `CompletingRebalance`, `Stable`, `Dead`.
    pub state: &'static str,
    /// Empty when nobody ever joined.
    pub protocol_type: Arc<str>,
    /// The chosen protocol, empty unless the group is stable.
    pub protocol: Arc<str>,
    /// Its members.
    pub members: Vec<DescribedMember>,
}

/// ListGroups, versions 0–5: empty filters let everything pass; upper and lower case are the same.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ListGroupsFilter {
    /// From version 4.
    pub states: Vec<String>,
    /// From version 5; the type of every group here is `classic`.
    pub types: Vec<String>,
}

/// One group of a ListGroups.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedGroup {
    /// The group.
    pub group_id: GroupId,
    /// Empty when nobody ever joined.
    pub protocol_type: Arc<str>,
    /// Its state.
    pub state: &'static str,
    /// `classic`.
    pub group_type: &'static str,
}

/// Everything one shard can be asked.
#[derive(Debug, Clone)]
#[expect(missing_docs, reason = "one variant per request type above")]
pub enum GroupRequest {
    Join(JoinGroupRequest),
    Sync(SyncGroupRequest),
    Heartbeat(HeartbeatRequest),
    Leave(LeaveGroupRequest),
    CommitOffsets(OffsetCommitRequest),
    FetchOffsets(OffsetFetchRequest),
    DeleteOffsets(OffsetDeleteRequest),
    Describe(Vec<GroupId>),
    List(ListGroupsFilter),
    DeleteGroups(Vec<GroupId>),
    TopicsDeleted(Vec<(TopicName, TopicId)>),
}

/// What one shard answers: the variant of the same name.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "one variant per response type above")]
pub enum GroupResponse {
    Join(JoinGroupResponse),
    Sync(SyncGroupResponse),
    Heartbeat,
    Leave(Vec<LeftMember>),
    CommitOffsets(PartitionErrors),
    FetchOffsets(Vec<FetchedTopic>),
    DeleteOffsets(PartitionErrors),
    Describe(Vec<DescribedGroup>),
    List(Vec<ListedGroup>),
    DeleteGroups(Vec<(GroupId, Option<CoordinatorError>)>),
    TopicsDeleted,
}

/// Kafka's strings carry their length in an i16; ids get a suffix of 37 bytes.
pub(super) const STRING_BYTES_MAX: usize = i16::MAX as usize;
const ID_BYTES_MAX: usize = STRING_BYTES_MAX - 64;

impl GroupRequest {
    /// Whether everything in it can be written into Kafka's records. The wire allows longer strings (in its flexible
    /// versions) than the records do.
    pub(super) fn is_well_formed(&self) -> bool {
        let fits = |text: &str| text.len() <= ID_BYTES_MAX;
        match self {
            Self::Join(join) => {
                fits(&join.group_id)
                    && fits(&join.member_id)
                    && join.group_instance_id.as_deref().is_none_or(|id| !id.is_empty() && fits(id))
                    && fits(&join.protocol_type)
                    && join.protocols.iter().all(|protocol| fits(&protocol.name))
                    && fits(&join.client_id)
                    && fits(&join.client_host)
            }
            Self::CommitOffsets(commit) => {
                fits(&commit.group_id) && commit.topics.iter().all(|topic| fits(&topic.name))
            }
            // Nothing else writes what it was sent: it names what is already there.
            _ => true,
        }
    }
}
