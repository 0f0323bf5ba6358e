//! How members move a classic group: JoinGroup, SyncGroup, Heartbeat, LeaveGroup and the time-outs between them.
//!
//! Facts follow Kafka's `GroupMetadataManager`; the table of transitions is in [the room's page](super).

use super::classic_group::{ClassicGroup, GroupState, InitialDelay, Member, millis};
use super::config::GroupConfig;
use super::records::{GroupChange, GroupMetadata, encoded_group_bytes};
use super::shard::TimerKey;
use super::types::{
    GroupResponse, HeartbeatRequest, JoinGroupRequest, JoinGroupResponse, JoinProtocol, LeftMember, MemberId,
    MemberIdentity, SyncGroupRequest, SyncGroupResponse,
};
use crate::coordinator::{CoordinatorError, Now, Output, RequestId, Timers};
use bytes::Bytes;
use rand::Rng;
use rand::rngs::StdRng;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// What a group needs from around it while one event is handled.
pub(super) struct Context<'a> {
    pub now: Now,
    pub config: &'a GroupConfig,
    pub timers: &'a mut Timers<TimerKey>,
    pub random: &'a mut StdRng,
    pub out: &'a mut Output<GroupChange, GroupResponse>,
}

impl Context<'_> {
    fn schedule(&mut self, key: TimerKey, after: Duration) {
        self.timers.schedule(key, self.now.monotonic + after);
    }

    fn new_member_id(&mut self, prefix: &str) -> MemberId {
        let mut bytes = [0; 16];
        self.random.fill_bytes(&mut bytes);
        format!("{prefix}-{}", uuid::Builder::from_random_bytes(bytes).into_uuid()).into()
    }

    fn refuse_join(&mut self, request: RequestId, member_id: MemberId, error: CoordinatorError) {
        self.out.answer(request, GroupResponse::Join(JoinGroupResponse::refused(member_id, error)));
    }
}

impl ClassicGroup {
    /// JoinGroup, for a group that exists (or was just made for it).
    pub fn join(&mut self, cx: &mut Context<'_>, request: RequestId, mut join: JoinGroupRequest) {
        keep_first_of_each_name(&mut join.protocols);
        if !self.accepts(cx.config, &join.member_id) {
            if let Some(member) = self.remove(&join.member_id) {
                self.refuse_waiting(cx, &member, CoordinatorError::UnknownMemberId);
            }
            cx.refuse_join(request, "".into(), CoordinatorError::GroupMaxSizeReached);
            self.complete_join_if_all_joined(cx);
        } else if !self.supports(&join.protocol_type, &join.protocols) {
            cx.refuse_join(request, join.member_id, CoordinatorError::InconsistentGroupProtocol);
        } else if join.member_id.is_empty() {
            self.join_new(cx, request, join);
        } else if self.pending_join.contains(&join.member_id) {
            // A pending member is dynamic; one that comes back with an instance id is another client.
            match join.group_instance_id {
                Some(_) => cx.refuse_join(request, join.member_id, CoordinatorError::UnknownMemberId),
                None => self.add_and_rebalance(cx, request, join.member_id.clone(), join),
            }
        } else {
            match self.validate_member(&join.member_id, join.group_instance_id.as_deref()) {
                Err(error) => cx.refuse_join(request, join.member_id, error),
                Ok(()) => self.join_again(cx, request, join),
            }
        }
    }

    /// `group.max.size`. While a rebalance gathers, those who wait are counted: the last ones to come are turned away.
    fn accepts(&self, config: &GroupConfig, id: &str) -> bool {
        let known = self.member(id);
        match self.state {
            GroupState::Empty => true,
            GroupState::PreparingRebalance => {
                known.is_some_and(|member| member.awaiting_join.is_some()) || self.awaiting_join() < config.size_max
            }
            GroupState::CompletingRebalance | GroupState::Stable => known.is_some() || self.size() < config.size_max,
        }
    }

    fn join_new(&mut self, cx: &mut Context<'_>, request: RequestId, join: JoinGroupRequest) {
        match &join.group_instance_id {
            Some(instance) => {
                let instance = instance.clone();
                let id = cx.new_member_id(&instance);
                if self.static_member(&instance).is_some() {
                    self.take_over_static(cx, request, &instance, id, join);
                } else {
                    self.add_and_rebalance(cx, request, id, join);
                }
            }
            None => {
                let id = cx.new_member_id(&join.client_id);
                if join.requires_known_member_id {
                    self.pending_join.insert(id.clone());
                    cx.schedule(self.session_key(&id), millis(join.session_timeout_ms));
                    cx.refuse_join(request, id, CoordinatorError::MemberIdRequired);
                } else {
                    self.add_and_rebalance(cx, request, id, join);
                }
            }
        }
    }

    fn join_again(&mut self, cx: &mut Context<'_>, request: RequestId, join: JoinGroupRequest) {
        let id = join.member_id.clone();
        let unchanged = self.member(&id).is_some_and(|member| member.protocols == join.protocols);
        match self.state {
            GroupState::PreparingRebalance => self.update_and_rebalance(cx, request, join),
            // Its first answer may have been lost: say it again. A changed member forces a new round.
            GroupState::CompletingRebalance if unchanged => {
                let response = self.joined_response(&id);
                cx.out.answer(request, GroupResponse::Join(response));
            }
            // A leader that joins again wants a rebalance, for it saw a change in the topics; a follower goes on to SyncGroup.
            GroupState::Stable if unchanged && !self.is_leader(&id) => {
                let response = self.joined_response(&id);
                cx.out.answer(request, GroupResponse::Join(response));
            }
            GroupState::CompletingRebalance | GroupState::Stable => self.update_and_rebalance(cx, request, join),
            GroupState::Empty => cx.refuse_join(request, id, CoordinatorError::UnknownMemberId),
        }
    }

    fn add_and_rebalance(&mut self, cx: &mut Context<'_>, request: RequestId, id: MemberId, join: JoinGroupRequest) {
        if self.size() == 0 {
            self.protocol_type = Some(join.protocol_type);
        }
        if let Some(initial) = &mut self.initial_delay {
            initial.new_member_added = true;
        }
        self.add(Member {
            member_id: id.clone(),
            group_instance_id: join.group_instance_id,
            client_id: join.client_id,
            client_host: join.client_host,
            rebalance_timeout_ms: join.rebalance_timeout_ms.max(0),
            session_timeout_ms: join.session_timeout_ms,
            protocols: join.protocols,
            assignment: Bytes::new(),
            is_new: true,
            awaiting_join: Some(request),
            awaiting_sync: None,
        });
        // A new member has no id yet and sends no heartbeats; a client that went away must not stay for ever.
        cx.schedule(self.session_key(&id), cx.config.new_member_join_timeout);
        self.rebalance_or_complete_join(cx);
    }

    fn update_and_rebalance(&mut self, cx: &mut Context<'_>, request: RequestId, join: JoinGroupRequest) {
        self.update(cx, request, join);
        self.rebalance_or_complete_join(cx);
    }

    fn update(&mut self, cx: &mut Context<'_>, request: RequestId, join: JoinGroupRequest) {
        let id = join.member_id;
        self.set_protocols(&id, join.protocols);
        if let Some(member) = self.member_mut(&id) {
            member.rebalance_timeout_ms = join.rebalance_timeout_ms.max(0);
            member.session_timeout_ms = join.session_timeout_ms;
            member.client_id = join.client_id;
            member.client_host = join.client_host;
        }
        if let Some(superseded) = self.park_join(&id, request) {
            cx.refuse_join(superseded, id, CoordinatorError::RebalanceInProgress);
        }
    }

    /// A restarted static member comes without its id (KIP-345): it gets a new one, the old one is fenced, and a stable group
    /// goes on without a rebalance as long as the chosen protocol stays.
    fn take_over_static(
        &mut self,
        cx: &mut Context<'_>,
        request: RequestId,
        instance: &Arc<str>,
        id: MemberId,
        mut join: JoinGroupRequest,
    ) {
        let leader_before = self.leader.clone();
        let (old_id, join_waiting, sync_waiting) = self.replace_static(instance, &id);
        tracing::info!(
            group = &*self.group_id,
            instance = &**instance,
            old = &*old_id,
            new = &*id,
            "static member replaced"
        );
        cx.timers.cancel(&self.session_key(&old_id));
        if let Some(waiting) = join_waiting {
            cx.refuse_join(waiting, old_id, CoordinatorError::FencedInstanceId);
        }
        if let Some(waiting) = sync_waiting {
            cx.out.refuse(waiting, CoordinatorError::FencedInstanceId);
        }
        let skips = join.supports_skipping_assignment;
        join.member_id = id.clone();
        self.update(cx, request, join);
        self.restart_session(cx, &id);
        match self.state {
            GroupState::Stable => {
                let record = self.to_record(|member| member.assignment.clone());
                let stays = self.select_protocol() == self.protocol;
                if !stays || encoded_group_bytes(&record) > cx.config.group_record_bytes_max {
                    return self.rebalance_or_complete_join(cx);
                }
                self.take_join(&id);
                let mut response = self.joined_response(&id);
                if skips {
                    response.skip_assignment = self.is_leader(&id);
                } else {
                    // Told its old id as the leader's, a leader of an older version takes itself for a follower and
                    // does not assign.
                    response.members.clear();
                    response.leader = leader_before.unwrap_or_else(|| "".into());
                }
                self.write(cx, record);
                cx.out.answer_written(request, GroupResponse::Join(response));
            }
            // The leader may have been told the old id: its assignment would miss this member.
            GroupState::CompletingRebalance => self.prepare_rebalance(cx),
            GroupState::PreparingRebalance | GroupState::Empty => self.complete_join_if_all_joined(cx),
        }
    }

    fn rebalance_or_complete_join(&mut self, cx: &mut Context<'_>) {
        match self.state {
            GroupState::PreparingRebalance => self.complete_join_if_all_joined(cx),
            _ => self.prepare_rebalance(cx),
        }
    }

    /// → PreparingRebalance. Members whose SyncGroup waits are sent back to join.
    pub fn prepare_rebalance(&mut self, cx: &mut Context<'_>) {
        if self.state == GroupState::CompletingRebalance {
            self.abandon_assignment(cx, CoordinatorError::RebalanceInProgress);
        }
        self.pending_sync.clear();
        self.storing = false;
        cx.timers.cancel(&TimerKey::Sync(self.group_id.clone()));
        cx.timers.cancel(&TimerKey::Store(self.group_id.clone()));
        let first = self.state == GroupState::Empty;
        self.transition(GroupState::PreparingRebalance, cx.now.unix_ms);
        if first {
            let delay = cx.config.initial_rebalance_delay;
            let remaining = self.rebalance_timeout().saturating_sub(delay);
            self.initial_delay = Some(InitialDelay { delay, remaining, new_member_added: false });
            cx.schedule(TimerKey::Join(self.group_id.clone()), delay);
        } else if self.has_all_joined() {
            self.complete_join(cx);
        } else {
            cx.schedule(TimerKey::Join(self.group_id.clone()), self.rebalance_timeout());
        }
    }

    fn complete_join_if_all_joined(&mut self, cx: &mut Context<'_>) {
        // The first rebalance ends by its delay only.
        if self.state == GroupState::PreparingRebalance && self.initial_delay.is_none() && self.has_all_joined() {
            self.complete_join(cx);
        }
    }

    /// The join phase's timer.
    pub fn join_timer(&mut self, cx: &mut Context<'_>) {
        if self.state != GroupState::PreparingRebalance {
            return;
        }
        match self.initial_delay {
            Some(initial) if initial.new_member_added && !initial.remaining.is_zero() => {
                let delay = cx.config.initial_rebalance_delay.min(initial.remaining);
                let remaining = initial.remaining.saturating_sub(initial.delay);
                self.initial_delay = Some(InitialDelay { delay, remaining, new_member_added: false });
                cx.schedule(TimerKey::Join(self.group_id.clone()), delay);
            }
            _ => self.complete_join(cx),
        }
    }

    /// PreparingRebalance → CompletingRebalance, or → Empty when nobody is left. Dynamic members that did not come
    /// are removed; static ones stay until their session ends.
    fn complete_join(&mut self, cx: &mut Context<'_>) {
        cx.timers.cancel(&TimerKey::Join(self.group_id.clone()));
        let absent = |m: &&Member| m.awaiting_join.is_none() && m.group_instance_id.is_none();
        let absent: Vec<_> = self.members().filter(absent).map(|m| m.member_id.clone()).collect();
        for id in absent {
            tracing::info!(group = &*self.group_id, member = &*id, "removed: did not join the rebalance in time");
            cx.timers.cancel(&self.session_key(&id));
            self.remove(&id);
        }
        if !self.elect_joined_leader() && self.size() > 0 {
            // Only absent static members: wait until one comes or their sessions end.
            self.initial_delay = None;
            cx.schedule(TimerKey::Join(self.group_id.clone()), self.rebalance_timeout());
            return;
        }
        self.initial_delay = None;
        self.generation = self.generation.checked_add(1).unwrap_or(1);
        self.pending_sync.clear();
        self.protocol = self.select_protocol();
        self.subscribed_topics = self.compute_subscribed_topics();
        if self.size() == 0 {
            self.leader = None;
            self.transition(GroupState::Empty, cx.now.unix_ms);
            let record = self.to_record(|_| Bytes::new());
            self.write(cx, record);
            return;
        }
        self.transition(GroupState::CompletingRebalance, cx.now.unix_ms);
        let ids: Vec<_> = self.members().map(|m| m.member_id.clone()).collect();
        for id in ids {
            if let Some(request) = self.take_join(&id) {
                let response = self.joined_response(&id);
                cx.out.answer(request, GroupResponse::Join(response));
            }
            if let Some(member) = self.member_mut(&id) {
                member.is_new = false;
            }
            self.restart_session(cx, &id);
            self.pending_sync.insert(id);
        }
        cx.schedule(TimerKey::Sync(self.group_id.clone()), self.rebalance_timeout());
    }

    fn joined_response(&self, id: &MemberId) -> JoinGroupResponse {
        JoinGroupResponse {
            error: None,
            generation: self.generation,
            protocol_type: self.protocol_type.clone(),
            protocol_name: self.protocol.clone(),
            leader: self.leader.clone().unwrap_or_else(|| "".into()),
            skip_assignment: false,
            member_id: id.clone(),
            members: if self.is_leader(id) { self.joined_members() } else { Vec::new() },
        }
    }

    /// SyncGroup.
    pub fn sync(&mut self, cx: &mut Context<'_>, request: RequestId, sync: SyncGroupRequest) {
        let id = sync.member_id.clone();
        if let Err(error) = self.validate_sync(&sync) {
            return cx.out.refuse(request, error);
        }
        match self.state {
            GroupState::Empty => cx.out.refuse(request, CoordinatorError::UnknownMemberId),
            GroupState::PreparingRebalance => cx.out.refuse(request, CoordinatorError::RebalanceInProgress),
            GroupState::CompletingRebalance => {
                let member = self.member_mut(&id).expect("validated as a member");
                if let Some(superseded) = member.awaiting_sync.replace(request) {
                    cx.out.refuse(superseded, CoordinatorError::RebalanceInProgress);
                }
                self.has_synced(cx, &id);
                // A leader that asks twice gets what it said first: that is what the log will say.
                if self.is_leader(&id) && !self.storing {
                    self.store_assignment(cx, sync.assignments);
                }
            }
            GroupState::Stable => {
                self.has_synced(cx, &id);
                let assignment = self.member(&id).map(|member| member.assignment.clone()).unwrap_or_default();
                let response = self.synced_response(assignment);
                cx.out.answer(request, response);
            }
        }
    }

    fn validate_sync(&self, sync: &SyncGroupRequest) -> Result<(), CoordinatorError> {
        self.validate_member(&sync.member_id, sync.group_instance_id.as_deref())?;
        let differs =
            |said: &Option<Arc<str>>, known: &Option<Arc<str>>| said.is_some() && known.is_some() && said != known;
        if sync.generation != self.generation {
            Err(CoordinatorError::IllegalGeneration)
        } else if differs(&sync.protocol_type, &self.protocol_type) || differs(&sync.protocol_name, &self.protocol) {
            Err(CoordinatorError::InconsistentGroupProtocol)
        } else {
            Ok(())
        }
    }

    fn has_synced(&mut self, cx: &mut Context<'_>, id: &str) {
        if self.pending_sync.remove(id) && self.pending_sync.is_empty() {
            cx.timers.cancel(&TimerKey::Sync(self.group_id.clone()));
        }
    }

    /// Writes the leader's assignment; members get it when it is committed ([`assignment_committed`](Self::assignment_committed)).
    fn store_assignment(&mut self, cx: &mut Context<'_>, assignments: Vec<(MemberId, Bytes)>) {
        let assignments: BTreeMap<_, _> = assignments.into_iter().collect();
        let record = self.to_record(|member| assignments.get(&member.member_id).cloned().unwrap_or_default());
        if encoded_group_bytes(&record) > cx.config.group_record_bytes_max {
            tracing::warn!(group = &*self.group_id, "the group's assignment does not fit into one record");
            self.abandon_assignment(cx, CoordinatorError::UnknownServerError);
            return self.prepare_rebalance(cx);
        }
        self.storing = true;
        cx.schedule(TimerKey::Store(self.group_id.clone()), cx.config.offset_commit_timeout);
        self.write(cx, record);
    }

    /// CompletingRebalance → Stable: the record of this generation is committed. A record of an older round, or one that
    /// was given up, changes nothing.
    pub fn assignment_committed(&mut self, cx: &mut Context<'_>, record: &GroupMetadata) {
        if self.state != GroupState::CompletingRebalance || !self.storing || record.generation != self.generation {
            return;
        }
        self.storing = false;
        cx.timers.cancel(&TimerKey::Store(self.group_id.clone()));
        for stored in &record.members {
            if let Some(member) = self.member_mut(&stored.member_id) {
                member.assignment = stored.assignment.clone();
            }
        }
        self.transition(GroupState::Stable, cx.now.unix_ms);
        let ids: Vec<_> = self.members().map(|m| m.member_id.clone()).collect();
        for id in ids {
            let member = self.member_mut(&id).expect("listed above");
            let assignment = member.assignment.clone();
            if let Some(request) = member.awaiting_sync.take() {
                let response = self.synced_response(assignment);
                cx.out.answer(request, response);
                self.restart_session(cx, &id);
            }
        }
    }

    /// The assignment did not commit in time: nobody gets it, the group starts over. Should the record commit later,
    /// a fail-over would find a generation that no member has, and its members join again.
    pub fn store_timer(&mut self, cx: &mut Context<'_>) {
        if self.state == GroupState::CompletingRebalance && self.storing {
            self.abandon_assignment(cx, CoordinatorError::CoordinatorNotAvailable);
            self.prepare_rebalance(cx);
        }
    }

    fn synced_response(&self, assignment: Bytes) -> GroupResponse {
        GroupResponse::Sync(SyncGroupResponse {
            protocol_type: self.protocol_type.clone(),
            protocol_name: self.protocol.clone(),
            assignment,
        })
    }

    fn abandon_assignment(&mut self, cx: &mut Context<'_>, error: CoordinatorError) {
        let mut waiting = Vec::new();
        for member in self.members_mut() {
            member.assignment = Bytes::new();
            if let Some(request) = member.awaiting_sync.take() {
                waiting.push((member.member_id.clone(), request));
            }
        }
        for (id, request) in waiting {
            cx.out.refuse(request, error);
            self.restart_session(cx, &id);
        }
    }

    /// Members that never asked for their assignment hold theirs idle: they go, and the rest shares anew.
    pub fn sync_timer(&mut self, cx: &mut Context<'_>) {
        if self.pending_sync.is_empty() || matches!(self.state, GroupState::Empty | GroupState::PreparingRebalance) {
            return;
        }
        for id in std::mem::take(&mut self.pending_sync) {
            tracing::info!(group = &*self.group_id, member = &*id, "removed: did not sync in time");
            cx.timers.cancel(&self.session_key(&id));
            self.remove(&id);
        }
        self.prepare_rebalance(cx);
    }

    /// Heartbeat.
    pub fn heartbeat(&mut self, cx: &mut Context<'_>, heartbeat: &HeartbeatRequest) -> Result<(), CoordinatorError> {
        self.validate_member(&heartbeat.member_id, heartbeat.group_instance_id.as_deref())?;
        if heartbeat.generation != self.generation {
            return Err(CoordinatorError::IllegalGeneration);
        }
        match self.state {
            GroupState::Empty => Err(CoordinatorError::UnknownMemberId),
            GroupState::PreparingRebalance => {
                self.restart_session(cx, &heartbeat.member_id);
                Err(CoordinatorError::RebalanceInProgress)
            }
            GroupState::CompletingRebalance | GroupState::Stable => {
                self.restart_session(cx, &heartbeat.member_id);
                Ok(())
            }
        }
    }

    /// LeaveGroup.
    pub fn leave(&mut self, cx: &mut Context<'_>, members: Vec<MemberIdentity>) -> Vec<LeftMember> {
        let mut left = Vec::with_capacity(members.len());
        let mut any = false;
        for identity in members {
            let error = self.leave_one(cx, &identity).err();
            any |= error.is_none();
            left.push(LeftMember { identity, error });
        }
        if any {
            self.members_left(cx);
        }
        left
    }

    fn leave_one(&mut self, cx: &mut Context<'_>, identity: &MemberIdentity) -> Result<(), CoordinatorError> {
        let instance = identity.group_instance_id.as_deref();
        let id = if identity.member_id.is_empty() {
            let known = instance.and_then(|instance| self.static_member(instance));
            known.cloned().ok_or(CoordinatorError::UnknownMemberId)?
        } else {
            if !self.pending_join.contains(&identity.member_id) {
                self.validate_member(&identity.member_id, instance)?;
            }
            identity.member_id.clone()
        };
        self.expel(cx, &id);
        Ok(())
    }

    fn expel(&mut self, cx: &mut Context<'_>, id: &str) {
        cx.timers.cancel(&self.session_key(id));
        if let Some(member) = self.remove(id) {
            self.refuse_waiting(cx, &member, CoordinatorError::UnknownMemberId);
        }
    }

    fn refuse_waiting(&mut self, cx: &mut Context<'_>, member: &Member, error: CoordinatorError) {
        if let Some(request) = member.awaiting_join {
            cx.refuse_join(request, "".into(), error);
        }
        if let Some(request) = member.awaiting_sync {
            cx.out.refuse(request, error);
        }
    }

    fn members_left(&mut self, cx: &mut Context<'_>) {
        match self.state {
            GroupState::Stable | GroupState::CompletingRebalance => self.prepare_rebalance(cx),
            GroupState::PreparingRebalance => self.complete_join_if_all_joined(cx),
            GroupState::Empty => {}
        }
    }

    /// A session's timer: the member is removed unless it waits for the group.
    pub fn session_timer(&mut self, cx: &mut Context<'_>, id: &str) {
        if self.pending_join.remove(id) {
            return self.complete_join_if_all_joined(cx);
        }
        if self.member(id).is_some_and(|member| !member.has_satisfied_heartbeat()) {
            tracing::info!(group = &*self.group_id, member = id, "removed: session timed out");
            self.expel(cx, id);
            self.members_left(cx);
        }
    }

    /// The member was heard of.
    pub fn restart_session(&mut self, cx: &mut Context<'_>, id: &str) {
        if let Some(member) = self.member(id) {
            cx.schedule(self.session_key(id), member.session_timeout());
        }
    }

    /// Nobody could be heard of until now: every member's session begins anew.
    pub fn restart_sessions(&mut self, cx: &mut Context<'_>) {
        let ids: Vec<_> = self.members().map(|m| m.member_id.clone()).collect();
        for id in ids {
            self.restart_session(cx, &id);
        }
    }

    /// After a load: every session begins anew, and a group over a lowered `group.max.size` is shrunk by a rebalance.
    pub fn loaded(&mut self, cx: &mut Context<'_>) {
        self.restart_sessions(cx);
        if self.size() > cx.config.size_max {
            self.prepare_rebalance(cx);
        }
    }

    /// The group is deleted: its timers go.
    pub fn cancel_timers(&self, timers: &mut Timers<TimerKey>) {
        for id in self.members().map(|m| &m.member_id).chain(&self.pending_join) {
            timers.cancel(&self.session_key(id));
        }
        for key in [TimerKey::Join, TimerKey::Sync, TimerKey::Store] {
            timers.cancel(&key(self.group_id.clone()));
        }
    }

    fn write(&mut self, cx: &mut Context<'_>, record: GroupMetadata) {
        self.persisted = true;
        cx.out.write(GroupChange::Group { group_id: self.group_id.clone(), value: Some(record) });
    }

    fn session_key(&self, id: &str) -> TimerKey {
        TimerKey::Session(self.group_id.clone(), id.into())
    }
}

/// A protocol named twice would be counted twice.
fn keep_first_of_each_name(protocols: &mut Vec<JoinProtocol>) {
    let mut seen = std::collections::BTreeSet::new();
    protocols.retain(|protocol| seen.insert(protocol.name.clone()));
}
