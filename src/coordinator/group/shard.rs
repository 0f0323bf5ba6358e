//! The shard of one partition of `__consumer_offsets`: its groups, its offsets, its timers.

use super::classic_group::{ClassicGroup, GroupState};
use super::config::GroupConfig;
use super::offset_store::OffsetStore;
use super::rebalance::Context;
use super::records::{self, GroupChange};
use super::types::{
    DescribedGroup, DescribedMember, GroupId, GroupRequest, GroupResponse, JoinGroupRequest, JoinGroupResponse,
    ListGroupsFilter, ListedGroup, MemberId,
};
use crate::coordinator::{
    CoordinatorError, CoordinatorRecord, CoordinatorShard, DecodeError, Now, Output, RequestId, Timers,
};
use bytes::Bytes;
use rand::rngs::StdRng;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

type Out = Output<GroupChange, GroupResponse>;

/// Whose deadline.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum TimerKey {
    /// The retention's next pass.
    Retention,
    /// A group's join phase.
    Join(GroupId),
    /// A group's sync phase.
    Sync(GroupId),
    /// A group's assignment, written and not committed.
    Store(GroupId),
    /// A member's session.
    Session(GroupId, MemberId),
}

/// The groups whose ids hash to one partition.
///
/// Invariant: a group that has an offset exists, if only as an empty one ("simple" group).
#[derive(Debug)]
pub struct GroupShard {
    config: Arc<GroupConfig>,
    random: StdRng,
    timers: Timers<TimerKey>,
    pub(super) groups: BTreeMap<GroupId, ClassicGroup>,
    pub(super) offsets: OffsetStore,
}

impl GroupShard {
    /// As of an empty log. `random` makes member ids.
    pub fn new(config: Arc<GroupConfig>, random: StdRng) -> Self {
        Self { config, random, timers: Timers::default(), groups: BTreeMap::new(), offsets: OffsetStore::default() }
    }

    pub(super) fn config(&self) -> &GroupConfig {
        &self.config
    }

    /// Runs `event` on a group; `None` if there is no such group.
    pub(super) fn with_group<R>(
        &mut self,
        now: Now,
        group_id: &str,
        out: &mut Out,
        event: impl FnOnce(&mut ClassicGroup, &mut Context<'_>) -> R,
    ) -> Option<R> {
        let group = self.groups.get_mut(group_id)?;
        let (config, timers, random) = (&self.config, &mut self.timers, &mut self.random);
        Some(event(group, &mut Context { now, config, timers, random, out }))
    }

    fn join(&mut self, now: Now, request: RequestId, join: JoinGroupRequest, out: &mut Out) {
        let session = u64::try_from(join.session_timeout_ms).map(Duration::from_millis);
        let allowed = self.config.session_timeout_min..=self.config.session_timeout_max;
        if !session.is_ok_and(|session| allowed.contains(&session)) {
            let response = JoinGroupResponse::refused(join.member_id, CoordinatorError::InvalidSessionTimeout);
            return out.answer(request, GroupResponse::Join(response));
        }
        let group_id = join.group_id.clone();
        if !self.groups.contains_key(&group_id) {
            if !join.member_id.is_empty() {
                let response = JoinGroupResponse::refused(join.member_id, CoordinatorError::UnknownMemberId);
                return out.answer(request, GroupResponse::Join(response));
            }
            self.groups.insert(group_id.clone(), ClassicGroup::new(group_id.clone(), now.unix_ms));
        }
        self.with_group(now, &group_id, out, |group, cx| group.join(cx, request, join));
        self.forget_if_never_used(&group_id);
    }

    /// A group nobody ever was in leaves no trace: refused joins must not fill the memory.
    fn forget_if_never_used(&mut self, group_id: &str) {
        let Some(group) = self.groups.get(group_id) else { return };
        let unused = group.state == GroupState::Empty && !group.persisted && group.pending_join.is_empty();
        if unused && !self.offsets.knows(group_id) {
            self.groups.remove(group_id);
        }
    }

    fn describe(&self, group_id: GroupId) -> DescribedGroup {
        let Some(group) = self.groups.get(&group_id) else {
            let error = Some(CoordinatorError::GroupIdNotFound);
            let (protocol_type, protocol) = ("".into(), "".into());
            return DescribedGroup { group_id, error, state: "Dead", protocol_type, protocol, members: Vec::new() };
        };
        let protocol = group.protocol.clone().filter(|_| group.state == GroupState::Stable);
        let members = group.members().map(|member| DescribedMember {
            member_id: member.member_id.clone(),
            group_instance_id: member.group_instance_id.clone(),
            client_id: member.client_id.clone(),
            client_host: member.client_host.clone(),
            metadata: protocol.as_deref().map_or_else(Bytes::new, |protocol| member.metadata(Some(protocol))),
            assignment: member.assignment.clone(),
        });
        DescribedGroup {
            group_id,
            error: None,
            state: group.state.name(),
            protocol_type: group.protocol_type.clone().unwrap_or_else(|| "".into()),
            members: members.collect(),
            protocol: protocol.unwrap_or_else(|| "".into()),
        }
    }

    fn list(&self, filter: &ListGroupsFilter) -> Vec<ListedGroup> {
        let passes = |wanted: &[String], name: &str| {
            wanted.is_empty() || wanted.iter().any(|wanted| wanted.eq_ignore_ascii_case(name))
        };
        if !passes(&filter.types, "classic") {
            return Vec::new();
        }
        let groups = self.groups.values().filter(|group| passes(&filter.states, group.state.name()));
        groups
            .map(|group| ListedGroup {
                group_id: group.group_id.clone(),
                protocol_type: group.protocol_type.clone().unwrap_or_else(|| "".into()),
                state: group.state.name(),
                group_type: "classic",
            })
            .collect()
    }

    fn delete_group(&mut self, group_id: &GroupId, out: &mut Out) -> Result<(), CoordinatorError> {
        let group = self.groups.get(group_id).ok_or(CoordinatorError::GroupIdNotFound)?;
        if group.state != GroupState::Empty {
            return Err(CoordinatorError::NonEmptyGroup);
        }
        self.delete_all_offsets(group_id, out);
        self.remove_group(group_id, out);
        Ok(())
    }

    /// → Dead: the group is no more. Its tombstone is written also when it has no record: an older one may exist.
    pub(super) fn remove_group(&mut self, group_id: &GroupId, out: &mut Out) {
        if let Some(group) = self.groups.remove(group_id) {
            group.cancel_timers(&mut self.timers);
            out.write(GroupChange::Group { group_id: group_id.clone(), value: None });
        }
    }

    fn schedule_retention(&mut self, now: Now) {
        self.timers.schedule(TimerKey::Retention, now.monotonic + self.config.offsets_retention_check_interval);
    }

    fn fire(&mut self, now: Now, key: TimerKey, out: &mut Out) {
        match key {
            TimerKey::Retention => {
                self.expire(now, out);
                self.schedule_retention(now);
            }
            TimerKey::Join(id) => {
                self.with_group(now, &id, out, |group, cx| group.join_timer(cx));
            }
            TimerKey::Sync(id) => {
                self.with_group(now, &id, out, |group, cx| group.sync_timer(cx));
            }
            TimerKey::Store(id) => {
                self.with_group(now, &id, out, |group, cx| group.store_timer(cx));
            }
            TimerKey::Session(id, member) => {
                self.with_group(now, &id, out, |group, cx| group.session_timer(cx, &member));
                self.forget_if_never_used(&id);
            }
        }
    }
}

impl CoordinatorShard for GroupShard {
    type Request = GroupRequest;
    type Response = GroupResponse;
    type Change = GroupChange;

    fn only_reads(request: &GroupRequest) -> bool {
        use GroupRequest::*;
        match request {
            Heartbeat(_) | FetchOffsets(_) | Describe(_) | List(_) => true,
            Join(_) | Sync(_) | Leave(_) | CommitOffsets(_) | DeleteOffsets(_) | DeleteGroups(_) | TopicsDeleted(_) => {
                false
            }
        }
    }

    fn encode(change: &GroupChange) -> CoordinatorRecord {
        records::encode(change)
    }

    fn decode(record: &CoordinatorRecord) -> Result<Option<GroupChange>, DecodeError> {
        records::decode(record)
    }

    fn replay(&mut self, change: &GroupChange) {
        match change {
            GroupChange::Offset { group_id, topic, partition, value } => {
                if value.is_some() && !self.groups.contains_key(group_id) {
                    let mut simple = ClassicGroup::new(group_id.clone(), 0);
                    simple.state_unix_ms = None;
                    self.groups.insert(group_id.clone(), simple);
                }
                self.offsets.write(group_id, topic, *partition, value.clone());
            }
            GroupChange::Group { group_id, value: Some(record) } => {
                self.groups.insert(group_id.clone(), ClassicGroup::from_record(group_id.clone(), record));
            }
            GroupChange::Group { group_id, value: None } => {
                self.groups.remove(group_id);
            }
        }
    }

    fn loaded(&mut self, now: Now, out: &mut Out) {
        // A group's tombstone and an offset of it may have changed places when the log was rewritten.
        let known: Vec<_> = self.offsets.groups().cloned().collect();
        for group_id in known {
            if self.offsets.of_group(&group_id, true).next().is_some() {
                self.groups.entry(group_id.clone()).or_insert_with(|| ClassicGroup::new(group_id, now.unix_ms));
            }
        }
        let ids: Vec<_> = self.groups.keys().cloned().collect();
        for id in ids {
            self.with_group(now, &id, out, |group, cx| group.loaded(cx));
        }
        self.schedule_retention(now);
    }

    fn handle(&mut self, now: Now, request_id: RequestId, request: GroupRequest, out: &mut Out) {
        if !request.is_well_formed() {
            return out.refuse(request_id, CoordinatorError::InvalidRequest);
        }
        match request {
            GroupRequest::Join(join) => self.join(now, request_id, join, out),
            GroupRequest::Sync(sync) => {
                let group_id = sync.group_id.clone();
                if self.with_group(now, &group_id, out, |group, cx| group.sync(cx, request_id, sync)).is_none() {
                    out.refuse(request_id, CoordinatorError::UnknownMemberId);
                }
            }
            GroupRequest::Heartbeat(beat) => {
                match self.with_group(now, &beat.group_id, out, |group, cx| group.heartbeat(cx, &beat)) {
                    Some(Ok(())) => out.answer(request_id, GroupResponse::Heartbeat),
                    Some(Err(error)) => out.refuse(request_id, error),
                    None => out.refuse(request_id, CoordinatorError::UnknownMemberId),
                }
            }
            GroupRequest::Leave(leave) => {
                match self.with_group(now, &leave.group_id, out, |group, cx| group.leave(cx, leave.members)) {
                    Some(left) => out.answer_written(request_id, GroupResponse::Leave(left)),
                    None => out.refuse(request_id, CoordinatorError::UnknownMemberId),
                }
                self.forget_if_never_used(&leave.group_id);
            }
            GroupRequest::CommitOffsets(commit) => {
                let group_id = commit.group_id.clone();
                self.commit_offsets(now, request_id, commit, out);
                self.forget_if_never_used(&group_id);
            }
            GroupRequest::FetchOffsets(fetch) => self.fetch_offsets(request_id, fetch, out),
            GroupRequest::DeleteOffsets(delete) => self.delete_offsets(request_id, delete, out),
            GroupRequest::Describe(ids) => {
                let groups = ids.into_iter().map(|id| self.describe(id)).collect();
                out.answer(request_id, GroupResponse::Describe(groups));
            }
            GroupRequest::List(filter) => out.answer(request_id, GroupResponse::List(self.list(&filter))),
            GroupRequest::DeleteGroups(ids) => {
                let result = ids.into_iter().map(|id| {
                    let error = self.delete_group(&id, out).err();
                    (id, error)
                });
                let result = result.collect();
                out.answer_written(request_id, GroupResponse::DeleteGroups(result));
            }
            GroupRequest::TopicsDeleted(topics) => self.topics_deleted(request_id, &topics, out),
        }
    }

    fn committed(&mut self, now: Now, change: &GroupChange, out: &mut Out) {
        match change {
            GroupChange::Offset { group_id, topic, partition, value } => {
                self.offsets.commit(group_id, topic, *partition, value);
            }
            GroupChange::Group { group_id, value: Some(record) } => {
                self.with_group(now, group_id, out, |group, cx| group.assignment_committed(cx, record));
            }
            GroupChange::Group { value: None, .. } => {}
        }
    }

    fn tick(&mut self, now: Now, out: &mut Out) {
        while let Some(key) = self.timers.pop_due(now.monotonic) {
            self.fire(now, key, out);
        }
    }

    fn resumed(&mut self, now: Now, stopped: Duration, out: &mut Out) {
        self.timers.postpone(stopped);
        let ids: Vec<_> = self.groups.keys().cloned().collect();
        for id in ids {
            self.with_group(now, &id, out, |group, cx| group.restart_sessions(cx));
        }
    }

    fn next_deadline(&self) -> Option<Duration> {
        self.timers.next_deadline()
    }
}
