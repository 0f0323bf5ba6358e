//! The front of all groups this broker coordinates: finds the partition, asks its shard.

use super::config::GroupConfig;
use super::shard::GroupShard;
use super::types::*;
use crate::coordinator::{CoordinatorError, CoordinatorLog, CoordinatorRuntime, RuntimeConfig};
use futures_util::future::join_all;
use rand::SeedableRng;
use rand::rngs::StdRng;
use rookery_raft::ids::{LeaderEpoch, TopicId, TopicName};
use std::collections::BTreeMap;
use std::sync::Arc;

/// The topic that holds groups and offsets.
pub const CONSUMER_OFFSETS: &str = "__consumer_offsets";

/// The partition of `__consumer_offsets` that holds `group_id`: the absolute value of Java's `String.hashCode` (over UTF-16),
/// modulo the number of partitions. The one hash without an absolute value counts as 0 (Kafka's `Utils.abs`; its
/// `toPositive`, which clears the sign bit, is used for record keys and gives other partitions).
pub fn partition_of(group_id: &str, partitions: i32) -> i32 {
    let hash = group_id.encode_utf16().fold(0i32, |hash, unit| hash.wrapping_mul(31).wrapping_add(i32::from(unit)));
    hash.checked_abs().unwrap_or(0) % partitions.max(1)
}

/// All classic groups this broker coordinates. Cheap to share behind an `Arc`.
pub struct GroupCoordinator<L> {
    runtime: CoordinatorRuntime<GroupShard, L>,
    partitions: i32,
}

/// Unpacks the response of one kind; a shard answers each request with its own kind.
macro_rules! expect {
    ($response:expr, $pattern:pat => $value:expr) => {
        match $response {
            $pattern => $value,
            other => unreachable!("a shard answers in kind, not with {other:?}"),
        }
    };
}

impl<L: CoordinatorLog> GroupCoordinator<L> {
    /// Coordinates nothing yet. `random` seeds the member ids.
    pub fn new(log: Arc<L>, config: GroupConfig, random: impl Fn() -> u64 + Send + Sync + 'static) -> Self {
        let partitions = config.offsets_topic_partitions;
        let mut runtime = RuntimeConfig::new(CONSUMER_OFFSETS);
        runtime.limits.write_timeout = config.offset_commit_timeout;
        let config = Arc::new(config);
        let factory = move |_partition| GroupShard::new(config.clone(), StdRng::seed_from_u64(random()));
        Self { runtime: CoordinatorRuntime::new(log, factory, runtime), partitions }
    }

    /// The partition whose leader coordinates `group_id`.
    pub fn partition_for(&self, group_id: &str) -> i32 {
        partition_of(group_id, self.partitions)
    }

    /// This broker leads a partition of `__consumer_offsets` from `epoch` on.
    pub fn elected(&self, partition: i32, epoch: LeaderEpoch) {
        self.runtime.elected(partition, epoch);
    }

    /// Another broker leads the partition in `epoch`; `None`: the partition is gone.
    pub fn resigned(&self, partition: i32, epoch: Option<LeaderEpoch>) {
        self.runtime.resigned(partition, epoch);
    }

    /// Resigns everything.
    pub async fn shutdown(&self) {
        self.runtime.shutdown().await;
    }

    async fn ask(&self, group_id: &str, request: GroupRequest) -> Result<GroupResponse, CoordinatorError> {
        if group_id.is_empty() {
            return Err(CoordinatorError::InvalidGroupId);
        }
        self.runtime.request(self.partition_for(group_id), request).await
    }

    /// JoinGroup: answered when the group has a new generation, which takes up to the rebalance time-out.
    pub async fn join_group(&self, request: JoinGroupRequest) -> JoinGroupResponse {
        let (group_id, member_id) = (request.group_id.clone(), request.member_id.clone());
        match self.ask(&group_id, GroupRequest::Join(request)).await {
            Ok(response) => expect!(response, GroupResponse::Join(joined) => joined),
            Err(error) => JoinGroupResponse::refused(member_id, error),
        }
    }

    /// SyncGroup: answered when the leader's assignment is committed.
    pub async fn sync_group(&self, request: SyncGroupRequest) -> Result<SyncGroupResponse, CoordinatorError> {
        let group_id = request.group_id.clone();
        Ok(expect!(self.ask(&group_id, GroupRequest::Sync(request)).await?, GroupResponse::Sync(synced) => synced))
    }

    /// Heartbeat. While the coordinator loads it is taken as good: the session begins anew anyway.
    pub async fn heartbeat(&self, request: HeartbeatRequest) -> Result<(), CoordinatorError> {
        let group_id = request.group_id.clone();
        match self.ask(&group_id, GroupRequest::Heartbeat(request)).await {
            Ok(_) | Err(CoordinatorError::CoordinatorLoadInProgress) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// LeaveGroup, of one or several members.
    pub async fn leave_group(&self, request: LeaveGroupRequest) -> Result<Vec<LeftMember>, CoordinatorError> {
        let (group_id, members) = (request.group_id.clone(), request.members.clone());
        match self.ask(&group_id, GroupRequest::Leave(request)).await {
            Ok(response) => Ok(expect!(response, GroupResponse::Leave(left) => left)),
            // No such group: that is said of each member.
            Err(error @ CoordinatorError::UnknownMemberId) => {
                Ok(members.into_iter().map(|identity| LeftMember { identity, error: Some(error) }).collect())
            }
            Err(error) => Err(error),
        }
    }

    /// OffsetCommit: answered when the offsets are committed in the log.
    pub async fn commit_offsets(&self, request: OffsetCommitRequest) -> Result<PartitionErrors, CoordinatorError> {
        // The empty group id was once allowed, and still is for offsets.
        let partition = self.partition_for(&request.group_id);
        let response = self.runtime.request(partition, GroupRequest::CommitOffsets(request)).await?;
        Ok(expect!(response, GroupResponse::CommitOffsets(result) => result))
    }

    /// OffsetFetch for one group.
    pub async fn fetch_offsets(&self, request: OffsetFetchRequest) -> Result<Vec<FetchedTopic>, CoordinatorError> {
        let partition = self.partition_for(&request.group_id);
        let response = self.runtime.request(partition, GroupRequest::FetchOffsets(request)).await?;
        Ok(expect!(response, GroupResponse::FetchOffsets(topics) => topics))
    }

    /// OffsetDelete (KIP-496).
    pub async fn delete_offsets(&self, request: OffsetDeleteRequest) -> Result<PartitionErrors, CoordinatorError> {
        let group_id = request.group_id.clone();
        let response = self.ask(&group_id, GroupRequest::DeleteOffsets(request)).await?;
        Ok(expect!(response, GroupResponse::DeleteOffsets(result) => result))
    }

    /// DescribeGroups: one answer per group, in the order asked. Versions below 6 leave a GROUP_ID_NOT_FOUND out.
    pub async fn describe_groups(&self, group_ids: Vec<GroupId>) -> Vec<DescribedGroup> {
        let one = |group_id: GroupId| async move {
            let partition = self.partition_for(&group_id);
            match self.runtime.request(partition, GroupRequest::Describe(vec![group_id.clone()])).await {
                Ok(response) => expect!(response, GroupResponse::Describe(groups) => groups),
                Err(error) => vec![DescribedGroup {
                    group_id,
                    error: Some(error),
                    state: "",
                    protocol_type: "".into(),
                    protocol: "".into(),
                    members: Vec::new(),
                }],
            }
        };
        join_all(group_ids.into_iter().map(one)).await.into_iter().flatten().collect()
    }

    /// ListGroups: the groups this broker coordinates.
    pub async fn list_groups(&self, filter: &ListGroupsFilter) -> Result<Vec<ListedGroup>, CoordinatorError> {
        let one = |partition| self.runtime.request(partition, GroupRequest::List(filter.clone()));
        let mut groups = Vec::new();
        for listed in join_all(self.runtime.partitions().into_iter().map(one)).await {
            match listed {
                Ok(response) => groups.extend(expect!(response, GroupResponse::List(listed) => listed)),
                // Lost in between: another broker lists those.
                Err(CoordinatorError::NotCoordinator) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(groups)
    }

    /// DeleteGroups: one answer per group.
    pub async fn delete_groups(&self, group_ids: Vec<GroupId>) -> Vec<(GroupId, Option<CoordinatorError>)> {
        let mut by_partition: BTreeMap<i32, Vec<GroupId>> = BTreeMap::new();
        for group_id in group_ids {
            by_partition.entry(self.partition_for(&group_id)).or_default().push(group_id);
        }
        let one = |(partition, ids): (i32, Vec<GroupId>)| async move {
            match self.runtime.request(partition, GroupRequest::DeleteGroups(ids.clone())).await {
                Ok(response) => expect!(response, GroupResponse::DeleteGroups(result) => result),
                Err(error) => ids.into_iter().map(|id| (id, Some(error))).collect(),
            }
        };
        join_all(by_partition.into_iter().map(one)).await.into_iter().flatten().collect()
    }

    /// Topics were deleted: their offsets go, in every partition led here. A partition that moves meanwhile keeps them
    /// until they expire.
    pub async fn topics_deleted(&self, topics: Vec<(TopicName, TopicId)>) {
        let one = |partition| self.runtime.request(partition, GroupRequest::TopicsDeleted(topics.clone()));
        for result in join_all(self.runtime.partitions().into_iter().map(one)).await {
            if let Err(error) = result {
                tracing::debug!(%error, "offsets of deleted topics are left to their retention");
            }
        }
    }
}
