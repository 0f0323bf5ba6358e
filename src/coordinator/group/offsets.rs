//! Offsets: OffsetCommit, OffsetFetch, OffsetDelete, expiry, and what becomes of them when a topic is deleted.

use super::classic_group::{ClassicGroup, GroupState};
use super::records::{GroupChange, OffsetAndMetadata};
use super::shard::GroupShard;
use super::types::{
    CommittedPartition, FetchTopic, FetchedOffset, FetchedTopic, GroupId, GroupResponse, OffsetCommitRequest,
    OffsetDeleteRequest, OffsetFetchRequest, PartitionErrors, STRING_BYTES_MAX,
};
use crate::coordinator::{CoordinatorError, Now, Output, RequestId};
use rookery_raft::ids::{TopicId, TopicName};

type Out = Output<GroupChange, GroupResponse>;

impl GroupShard {
    /// OffsetCommit: by a member of the current generation, or by anyone (generation -1) while the group is empty.
    pub(super) fn commit_offsets(&mut self, now: Now, request: RequestId, commit: OffsetCommitRequest, out: &mut Out) {
        if let Err(error) = self.validate_commit(&commit, now) {
            return out.refuse(request, error);
        }
        self.commit_keeps_session(now, &commit, out);
        // An offset far in the past or future must not overflow; nobody means more than an age.
        let expire_unix_ms = commit.retention_ms.map(|ms| now.unix_ms.saturating_add(ms.max(0)));
        let mut result = Vec::with_capacity(commit.topics.len());
        for topic in commit.topics {
            let mut errors = Vec::with_capacity(topic.partitions.len());
            for partition in topic.partitions {
                let number = partition.partition;
                if self.is_metadata_too_large(&partition.metadata) {
                    errors.push((number, Some(CoordinatorError::OffsetMetadataTooLarge)));
                    continue;
                }
                let value = offset_of(partition, topic.topic_id, now, expire_unix_ms);
                self.write_offset(&commit.group_id, &topic.name, number, Some(value), out);
                errors.push((number, None));
            }
            result.push((topic.name, errors));
        }
        out.answer_written(request, GroupResponse::CommitOffsets(result));
    }

    fn validate_commit(&mut self, commit: &OffsetCommitRequest, now: Now) -> Result<(), CoordinatorError> {
        let Some(group) = self.groups.get(&commit.group_id) else {
            if commit.generation >= 0 {
                return Err(if commit.knows_group_id_not_found {
                    CoordinatorError::GroupIdNotFound
                } else {
                    CoordinatorError::IllegalGeneration
                });
            }
            // A "simple" group: offsets without members.
            let group = ClassicGroup::new(commit.group_id.clone(), now.unix_ms);
            self.groups.insert(commit.group_id.clone(), group);
            return Ok(());
        };
        if commit.generation < 0 && group.state == GroupState::Empty {
            return Ok(());
        }
        if commit.generation < 0 && commit.member_id.is_empty() && commit.group_instance_id.is_none() {
            return Err(CoordinatorError::UnknownMemberId);
        }
        group.validate_member(&commit.member_id, commit.group_instance_id.as_deref())?;
        if commit.generation != group.generation {
            return Err(CoordinatorError::IllegalGeneration);
        }
        // The member has this generation's JoinGroup answer but no assignment: what it commits is another's.
        if group.state == GroupState::CompletingRebalance {
            return Err(CoordinatorError::RebalanceInProgress);
        }
        Ok(())
    }

    /// A commit counts as a heartbeat.
    fn commit_keeps_session(&mut self, now: Now, commit: &OffsetCommitRequest, out: &mut Out) {
        self.with_group(now, &commit.group_id, out, |group, cx| group.restart_session(cx, &commit.member_id));
    }

    /// Kafka counts UTF-16 units here, and the record's own limit is in bytes.
    fn is_metadata_too_large(&self, metadata: &str) -> bool {
        let max = self.config().offset_metadata_bytes_max;
        metadata.len() > max && (metadata.encode_utf16().count() > max || metadata.len() > STRING_BYTES_MAX)
    }

    fn write_offset(
        &mut self,
        group_id: &GroupId,
        topic: &TopicName,
        partition: i32,
        value: Option<OffsetAndMetadata>,
        out: &mut Out,
    ) {
        self.offsets.write(group_id, topic, partition, value.clone());
        out.write(GroupChange::Offset { group_id: group_id.clone(), topic: topic.clone(), partition, value });
    }

    /// OffsetFetch. A stable one reads what is written and is answered when all of that is committed (KIP-447); so is every other one
    /// while it is not known which offsets are committed: one that was acknowledged would seem to go back.
    pub(super) fn fetch_offsets(&mut self, request: RequestId, fetch: OffsetFetchRequest, out: &mut Out) {
        let stable = fetch.require_stable || !out.is_settled();
        let topics = match fetch.topics {
            Some(topics) => topics.into_iter().map(|topic| self.fetch_topic(&fetch.group_id, topic, stable)).collect(),
            None => self.fetch_all(&fetch.group_id, stable),
        };
        let response = GroupResponse::FetchOffsets(topics);
        if stable { out.answer_stable(request, response) } else { out.answer(request, response) }
    }

    fn fetch_topic(&self, group: &str, topic: FetchTopic, stable: bool) -> FetchedTopic {
        // Committed to a topic of this name that was deleted since: not an offset of this one.
        let is_of_topic = |value: &&OffsetAndMetadata| {
            value.topic_id == TopicId::NONE || topic.topic_id == TopicId::NONE || value.topic_id == topic.topic_id
        };
        let fetch = |partition: &i32| {
            let value = self.offsets.get(group, &topic.name, *partition, stable).filter(is_of_topic);
            fetched(*partition, value)
        };
        let partitions = topic.partitions.iter().map(fetch).collect();
        FetchedTopic { name: topic.name, topic_id: topic.topic_id, partitions }
    }

    fn fetch_all(&self, group: &str, stable: bool) -> Vec<FetchedTopic> {
        let mut topics: Vec<FetchedTopic> = Vec::new();
        for (name, partition, value) in self.offsets.of_group(group, stable) {
            let offset = fetched(partition, Some(value));
            match topics.last_mut() {
                Some(last) if last.name == *name => last.partitions.push(offset),
                _ => {
                    topics.push(FetchedTopic { name: name.clone(), topic_id: value.topic_id, partitions: vec![offset] })
                }
            }
        }
        topics
    }

    /// OffsetDelete (KIP-496): not for topics that members read.
    pub(super) fn delete_offsets(&mut self, request: RequestId, delete: OffsetDeleteRequest, out: &mut Out) {
        let Some(group) = self.groups.get(&delete.group_id) else {
            return out.refuse(request, CoordinatorError::GroupIdNotFound);
        };
        let empty = group.state == GroupState::Empty;
        if !empty && !group.is_consumer_group() {
            return out.refuse(request, CoordinatorError::NonEmptyGroup);
        }
        let in_use = |topic: &str| !empty && group.is_subscribed_to(topic);
        let used: Vec<bool> = delete.topics.iter().map(|(topic, _)| in_use(topic)).collect();
        let mut result: PartitionErrors = Vec::with_capacity(delete.topics.len());
        for ((topic, partitions), used) in delete.topics.into_iter().zip(used) {
            for partition in &partitions {
                if !used && self.offsets.get(&delete.group_id, &topic, *partition, true).is_some() {
                    self.write_offset(&delete.group_id, &topic, *partition, None, out);
                }
            }
            let error = used.then_some(CoordinatorError::GroupSubscribedToTopic);
            result.push((topic, partitions.into_iter().map(|partition| (partition, error)).collect()));
        }
        out.answer_written(request, GroupResponse::DeleteOffsets(result));
    }

    /// Tombstones for every offset of a group.
    pub(super) fn delete_all_offsets(&mut self, group_id: &GroupId, out: &mut Out) {
        let offsets = self.offsets.of_group(group_id, true);
        let keys: Vec<_> = offsets.map(|(topic, partition, _)| (topic.clone(), partition)).collect();
        for (topic, partition) in keys {
            self.write_offset(group_id, &topic, partition, None, out);
        }
    }

    /// Offsets of topics that are gone. One committed to a newer topic of the same name stays.
    pub(super) fn topics_deleted(&mut self, request: RequestId, topics: &[(TopicName, TopicId)], out: &mut Out) {
        let is_of = |topic: &TopicName, value: &OffsetAndMetadata| {
            let same = |id: TopicId| value.topic_id == TopicId::NONE || id == TopicId::NONE || value.topic_id == id;
            topics.iter().any(|(name, id)| name == topic && same(*id))
        };
        let mut gone = Vec::new();
        for group_id in self.offsets.groups() {
            let offsets = self.offsets.of_group(group_id, true).filter(|(topic, _, value)| is_of(topic, value));
            gone.extend(offsets.map(|(topic, partition, _)| (group_id.clone(), topic.clone(), partition)));
        }
        for (group_id, topic, partition) in gone {
            self.write_offset(&group_id, &topic, partition, None, out);
        }
        out.answer_written(request, GroupResponse::TopicsDeleted);
    }

    /// One pass of the retention (KIP-211): tombstones for offsets nobody used for `offsets.retention.minutes`, then for
    /// empty groups that have none left.
    pub(super) fn expire(&mut self, now: Now, out: &mut Out) {
        let retention = i64::try_from(self.config().offsets_retention.as_millis()).unwrap_or(i64::MAX);
        let max = self.config().expirations_per_pass_max;
        let is_expired = |group: &ClassicGroup, topic: &str, value: &OffsetAndMetadata| {
            let Some(since) = group.offset_unused_since(topic, value) else { return false };
            match value.expire_unix_ms {
                Some(at) => now.unix_ms >= at,
                None => now.unix_ms.saturating_sub(since) >= retention,
            }
        };
        let (mut expired, mut emptied) = (Vec::new(), Vec::new());
        for (group_id, group) in &self.groups {
            if expired.len() + emptied.len() >= max {
                break;
            }
            let mut all = true;
            for (topic, partition, value) in self.offsets.of_group(group_id, true) {
                if expired.len() < max && is_expired(group, topic, value) {
                    expired.push((group_id.clone(), topic.clone(), partition));
                } else {
                    all = false;
                }
            }
            if all && group.state == GroupState::Empty && group.pending_join.is_empty() {
                emptied.push(group_id.clone());
            }
        }
        if !expired.is_empty() || !emptied.is_empty() {
            tracing::info!(offsets = expired.len(), groups = emptied.len(), "expired");
        }
        metrics::counter!("rookery_coordinator_expired_offsets_total").increment(expired.len() as u64);
        for (group_id, topic, partition) in expired {
            self.write_offset(&group_id, &topic, partition, None, out);
        }
        for group_id in emptied {
            self.remove_group(&group_id, out);
        }
    }
}

fn offset_of(from: CommittedPartition, topic_id: TopicId, now: Now, expire_unix_ms: Option<i64>) -> OffsetAndMetadata {
    OffsetAndMetadata {
        offset: from.offset,
        leader_epoch: from.leader_epoch,
        metadata: from.metadata,
        commit_unix_ms: now.unix_ms,
        expire_unix_ms,
        topic_id,
    }
}

fn fetched(partition: i32, value: Option<&OffsetAndMetadata>) -> FetchedOffset {
    match value {
        Some(value) => FetchedOffset {
            partition,
            offset: value.offset,
            leader_epoch: value.leader_epoch,
            metadata: value.metadata.clone(),
        },
        None => FetchedOffset { partition, offset: -1, leader_epoch: -1, metadata: "".into() },
    }
}
