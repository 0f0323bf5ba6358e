//! The front of all groups this broker coordinates: finds the partition, asks its shard.

use super::config::GroupConfig;
use super::shard::GroupShard;
use super::types::*;
use crate::coordinator::{CoordinatorError, CoordinatorLog, CoordinatorRuntime, RuntimeConfig};
use futures_util::future::join_all;
use rand::SeedableRng;
use rand::rngs::StdRng;
use rookery_protocol::topics::GROUP_METADATA_TOPIC;
use rookery_raft::ids::{LeaderEpoch, TopicId, TopicName};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};

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
    /// Partitions that `__consumer_offsets` has; 0 while there is no such topic.
    partitions: AtomicI32,
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
    pub fn new(config: GroupConfig, random: impl Fn() -> u64 + Send + Sync + 'static) -> Self {
        let mut runtime = RuntimeConfig::new(GROUP_METADATA_TOPIC);
        runtime.limits.write_timeout = config.offset_commit_timeout;
        let config = Arc::new(config);
        let factory = move |_partition| GroupShard::new(config.clone(), StdRng::seed_from_u64(random()));
        Self { runtime: CoordinatorRuntime::new(factory, runtime), partitions: AtomicI32::new(0) }
    }

    /// How many partitions `__consumer_offsets` has, by the metadata; `None` while there is no such topic.
    pub fn set_partitions(&self, partitions: Option<i32>) {
        self.partitions.store(partitions.unwrap_or(0), Ordering::Release);
    }

    /// The partition whose leader coordinates `group_id`.
    fn partition_for(&self, group_id: &str) -> Result<i32, CoordinatorError> {
        match self.partitions.load(Ordering::Acquire) {
            0 => Err(CoordinatorError::NotCoordinator),
            partitions => Ok(partition_of(group_id, partitions)),
        }
    }

    /// This broker leads a partition of `__consumer_offsets` in `epoch`: its log is there.
    pub fn elected(&self, log: &Arc<L>, partition: i32, epoch: LeaderEpoch) {
        self.runtime.elected(log, partition, epoch);
    }

    /// This broker does not lead the partition any more.
    pub fn resigned(&self, partition: i32) {
        self.runtime.resigned(partition);
    }

    /// The partitions that were elected and have not resigned.
    pub fn coordinated(&self) -> Vec<i32> {
        self.runtime.partitions()
    }

    /// Resigns everything.
    pub async fn shutdown(&self) {
        self.runtime.shutdown().await;
    }

    async fn ask(&self, group_id: &str, request: GroupRequest) -> Result<GroupResponse, CoordinatorError> {
        if group_id.is_empty() {
            return Err(CoordinatorError::InvalidGroupId);
        }
        self.ask_even_unnamed(group_id, request).await
    }

    /// The empty group id was once allowed, and still is for offsets.
    async fn ask_even_unnamed(&self, group_id: &str, request: GroupRequest) -> Result<GroupResponse, CoordinatorError> {
        self.runtime.request(self.partition_for(group_id)?, request).await
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
        let group_id = request.group_id.clone();
        let response = self.ask_even_unnamed(&group_id, GroupRequest::CommitOffsets(request)).await?;
        Ok(expect!(response, GroupResponse::CommitOffsets(result) => result))
    }

    /// OffsetFetch for one group.
    pub async fn fetch_offsets(&self, request: OffsetFetchRequest) -> Result<Vec<FetchedTopic>, CoordinatorError> {
        let group_id = request.group_id.clone();
        let answer = self.ask_even_unnamed(&group_id, GroupRequest::FetchOffsets(request)).await;
        let response = answer.map_err(|error| match error {
            // Consumers before 3.9 do not know COORDINATOR_NOT_AVAILABLE here and would fail for good.
            CoordinatorError::CoordinatorNotAvailable => CoordinatorError::NotCoordinator,
            error => error,
        })?;
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
            match self.ask_even_unnamed(&group_id, GroupRequest::Describe(vec![group_id.clone()])).await {
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
        let mut refused = Vec::new();
        for group_id in group_ids {
            match self.partition_for(&group_id) {
                Ok(partition) => by_partition.entry(partition).or_default().push(group_id),
                Err(error) => refused.push((group_id, Some(error))),
            }
        }
        let one = |(partition, ids): (i32, Vec<GroupId>)| async move {
            match self.runtime.request(partition, GroupRequest::DeleteGroups(ids.clone())).await {
                Ok(response) => expect!(response, GroupResponse::DeleteGroups(result) => result),
                Err(error) => ids.into_iter().map(|id| (id, Some(error))).collect(),
            }
        };
        refused.extend(join_all(by_partition.into_iter().map(one)).await.into_iter().flatten());
        refused
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
