//! A classic group: its members and what can be asked of them. Who moves it from state to state is in `rebalance`.

use super::records::{GroupMetadata, OffsetAndMetadata, StoredMember, subscribed_topics};
use super::types::{GroupId, JoinProtocol, JoinedMember, MemberId};
use crate::coordinator::{CoordinatorError, RequestId};
use bytes::Bytes;
use rookery_raft::ids::TopicName;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// What a consumer says as its protocol type.
const CONSUMER: &str = "consumer";

/// The state of a classic group; the transitions are listed in [the room's page](crate::coordinator::group).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum GroupState {
    /// No members.
    Empty,
    /// Members are asked to join (again).
    PreparingRebalance,
    /// All have joined; the leader's assignment is awaited, or not committed yet.
    CompletingRebalance,
    /// Everyone has its assignment.
    Stable,
}

impl GroupState {
    /// As the wire names it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Empty => "Empty",
            Self::PreparingRebalance => "PreparingRebalance",
            Self::CompletingRebalance => "CompletingRebalance",
            Self::Stable => "Stable",
        }
    }
}

impl fmt::Display for GroupState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// One member.
#[derive(Debug)]
pub(super) struct Member {
    pub member_id: MemberId,
    pub group_instance_id: Option<Arc<str>>,
    pub client_id: Arc<str>,
    pub client_host: Arc<str>,
    pub rebalance_timeout_ms: i32,
    pub session_timeout_ms: i32,
    /// Most wanted first, each name once.
    pub protocols: Vec<JoinProtocol>,
    pub assignment: Bytes,
    /// Has not been through a rebalance: may time out although it waits.
    pub is_new: bool,
    /// The JoinGroup that waits for the rebalance.
    pub awaiting_join: Option<RequestId>,
    /// The SyncGroup that waits for the assignment.
    pub awaiting_sync: Option<RequestId>,
}

impl Member {
    pub fn session_timeout(&self) -> Duration {
        millis(self.session_timeout_ms)
    }

    /// Who waits for the group needs no heartbeat, unless it is new: a client that never got its id cannot send one.
    pub fn has_satisfied_heartbeat(&self) -> bool {
        !self.is_new && (self.awaiting_join.is_some() || self.awaiting_sync.is_some())
    }

    pub fn metadata(&self, protocol: Option<&str>) -> Bytes {
        let found = self.protocols.iter().find(|p| Some(&*p.name) == protocol);
        found.map(|p| p.metadata.clone()).unwrap_or_default()
    }
}

/// A first rebalance that still waits for more members.
#[derive(Debug, Clone, Copy)]
pub(super) struct InitialDelay {
    pub delay: Duration,
    pub remaining: Duration,
    /// Someone joined since the last delay began.
    pub new_member_added: bool,
}

/// A classic group.
///
/// Invariants: `static_members` maps the instance id of each static member to its id and nothing else;
/// `protocol_support[p]` counts the members that offer `p`; `awaiting_join` counts those whose JoinGroup is parked;
/// while there are members, at least one protocol is offered by all; a leader is a member.
#[derive(Debug)]
pub(super) struct ClassicGroup {
    pub group_id: GroupId,
    pub state: GroupState,
    /// When it came into its state, milliseconds since 1970; `None` when an old record does not say.
    pub state_unix_ms: Option<i64>,
    pub protocol_type: Option<Arc<str>>,
    pub protocol: Option<Arc<str>>,
    pub generation: i32,
    pub leader: Option<MemberId>,
    members: BTreeMap<MemberId, Member>,
    static_members: BTreeMap<Arc<str>, MemberId>,
    protocol_support: BTreeMap<Arc<str>, usize>,
    awaiting_join: usize,
    /// Given an id by MEMBER_ID_REQUIRED and expected back (KIP-394).
    pub pending_join: BTreeSet<MemberId>,
    /// Got this generation's JoinGroup answer and have not sent SyncGroup.
    pub pending_sync: BTreeSet<MemberId>,
    pub subscribed_topics: Option<BTreeSet<TopicName>>,
    pub initial_delay: Option<InitialDelay>,
    /// The assignment of the current generation is written and not committed.
    pub storing: bool,
    /// A record of it is, or will be, in the log.
    pub persisted: bool,
}

impl ClassicGroup {
    pub fn new(group_id: GroupId, unix_ms: i64) -> Self {
        Self {
            group_id,
            state: GroupState::Empty,
            state_unix_ms: Some(unix_ms),
            protocol_type: None,
            protocol: None,
            generation: 0,
            leader: None,
            members: BTreeMap::new(),
            static_members: BTreeMap::new(),
            protocol_support: BTreeMap::new(),
            awaiting_join: 0,
            pending_join: BTreeSet::new(),
            pending_sync: BTreeSet::new(),
            subscribed_topics: None,
            initial_delay: None,
            storing: false,
            persisted: false,
        }
    }

    /// The group as its record tells it: stable with the members of that generation, or empty.
    pub fn from_record(group_id: GroupId, record: &GroupMetadata) -> Self {
        let mut group = Self::new(group_id, record.state_unix_ms);
        group.state = if record.members.is_empty() { GroupState::Empty } else { GroupState::Stable };
        group.state_unix_ms = Some(record.state_unix_ms).filter(|ms| *ms >= 0);
        group.protocol_type = Some(record.protocol_type.clone()).filter(|t| !t.is_empty());
        group.protocol.clone_from(&record.protocol);
        group.generation = record.generation;
        group.persisted = true;
        for stored in &record.members {
            let protocol = record.protocol.clone().expect("a record with members has a protocol: the decoder checks");
            group.add(Member {
                member_id: stored.member_id.clone(),
                group_instance_id: stored.group_instance_id.clone(),
                client_id: stored.client_id.clone(),
                client_host: stored.client_host.clone(),
                rebalance_timeout_ms: stored.rebalance_timeout_ms,
                session_timeout_ms: stored.session_timeout_ms,
                protocols: vec![JoinProtocol { name: protocol, metadata: stored.subscription.clone() }],
                assignment: stored.assignment.clone(),
                is_new: false,
                awaiting_join: None,
                awaiting_sync: None,
            });
        }
        if let Some(leader) = record.leader.as_ref().filter(|leader| group.members.contains_key(*leader)) {
            group.leader = Some(leader.clone());
        }
        group.subscribed_topics = group.compute_subscribed_topics();
        group
    }

    /// The record of the group as it is, with the assignments that `assignment` gives.
    pub fn to_record(&self, assignment: impl Fn(&Member) -> Bytes) -> GroupMetadata {
        let member = |member: &Member| StoredMember {
            member_id: member.member_id.clone(),
            group_instance_id: member.group_instance_id.clone(),
            client_id: member.client_id.clone(),
            client_host: member.client_host.clone(),
            rebalance_timeout_ms: member.rebalance_timeout_ms,
            session_timeout_ms: member.session_timeout_ms,
            subscription: member.metadata(self.protocol.as_deref()),
            assignment: assignment(member),
        };
        GroupMetadata {
            protocol_type: self.protocol_type.clone().unwrap_or_else(|| "".into()),
            generation: self.generation,
            protocol: self.protocol.clone(),
            leader: self.leader.clone(),
            state_unix_ms: self.state_unix_ms.unwrap_or(-1),
            members: self.members.values().map(member).collect(),
        }
    }

    pub fn transition(&mut self, state: GroupState, unix_ms: i64) {
        tracing::info!(group = &*self.group_id, generation = self.generation, from = %self.state, to = %state, members = self.members.len(), "group changed its state");
        self.state = state;
        self.state_unix_ms = Some(unix_ms);
    }

    pub fn members(&self) -> impl Iterator<Item = &Member> {
        self.members.values()
    }

    pub fn member(&self, id: &str) -> Option<&Member> {
        self.members.get(id)
    }

    pub fn member_mut(&mut self, id: &str) -> Option<&mut Member> {
        self.members.get_mut(id)
    }

    pub fn members_mut(&mut self) -> impl Iterator<Item = &mut Member> {
        self.members.values_mut()
    }

    pub fn size(&self) -> usize {
        self.members.len()
    }

    pub fn awaiting_join(&self) -> usize {
        self.awaiting_join
    }

    pub fn static_member(&self, instance_id: &str) -> Option<&MemberId> {
        self.static_members.get(instance_id)
    }

    pub fn is_leader(&self, id: &str) -> bool {
        self.leader.as_deref() == Some(id)
    }

    pub fn has_all_joined(&self) -> bool {
        self.awaiting_join == self.members.len() && self.pending_join.is_empty()
    }

    pub fn rebalance_timeout(&self) -> Duration {
        self.members.values().map(|member| millis(member.rebalance_timeout_ms)).max().unwrap_or_default()
    }

    pub fn add(&mut self, member: Member) {
        if let Some(instance) = &member.group_instance_id {
            self.static_members.insert(instance.clone(), member.member_id.clone());
        }
        self.leader.get_or_insert_with(|| member.member_id.clone());
        self.count_protocols(&member.protocols, 1);
        self.awaiting_join += usize::from(member.awaiting_join.is_some());
        self.pending_join.remove(&member.member_id);
        self.members.insert(member.member_id.clone(), member);
    }

    /// Forgets a member, pending or full; the answer to what it waits for is the caller's.
    pub fn remove(&mut self, id: &str) -> Option<Member> {
        self.pending_join.remove(id);
        self.pending_sync.remove(id);
        let member = self.members.remove(id)?;
        self.count_protocols(&member.protocols, -1);
        self.awaiting_join -= usize::from(member.awaiting_join.is_some());
        if let Some(instance) = &member.group_instance_id {
            self.static_members.remove(instance);
        }
        if self.is_leader(id) {
            self.leader = self.members.keys().next().cloned();
        }
        Some(member)
    }

    /// Gives the static member `instance_id` a new id; the rest of it stays. Returns what the old one waited for.
    pub fn replace_static(
        &mut self,
        instance_id: &Arc<str>,
        new_id: &MemberId,
    ) -> (MemberId, Option<RequestId>, Option<RequestId>) {
        let old_id = self.static_members.get(instance_id).cloned().expect("the caller found the instance id");
        let mut member = self.members.remove(&old_id).expect("static_members names members");
        let waited = (member.awaiting_join.take(), member.awaiting_sync.take());
        self.awaiting_join -= usize::from(waited.0.is_some());
        self.pending_sync.remove(&old_id);
        member.member_id = new_id.clone();
        self.members.insert(new_id.clone(), member);
        self.static_members.insert(instance_id.clone(), new_id.clone());
        if self.is_leader(&old_id) {
            self.leader = Some(new_id.clone());
        }
        (old_id, waited.0, waited.1)
    }

    /// Parks a JoinGroup; returns the one it takes the place of.
    pub fn park_join(&mut self, id: &str, request: RequestId) -> Option<RequestId> {
        let member = self.members.get_mut(id)?;
        let old = member.awaiting_join.replace(request);
        self.awaiting_join += usize::from(old.is_none());
        old
    }

    /// Takes a member's parked JoinGroup, to be answered.
    pub fn take_join(&mut self, id: &str) -> Option<RequestId> {
        let request = self.members.get_mut(id)?.awaiting_join.take();
        self.awaiting_join -= usize::from(request.is_some());
        request
    }

    pub fn set_protocols(&mut self, id: &str, protocols: Vec<JoinProtocol>) {
        let Some(member) = self.members.get_mut(id) else { return };
        let old = std::mem::replace(&mut member.protocols, protocols.clone());
        self.count_protocols(&old, -1);
        self.count_protocols(&protocols, 1);
    }

    fn count_protocols(&mut self, protocols: &[JoinProtocol], by: isize) {
        for protocol in protocols {
            let count = self.protocol_support.entry(protocol.name.clone()).or_default();
            *count = count.saturating_add_signed(by);
            if *count == 0 {
                self.protocol_support.remove(&protocol.name);
            }
        }
    }

    /// Whether a member with these protocols fits: same type, and at least one protocol that everyone offers.
    pub fn supports(&self, protocol_type: &str, protocols: &[JoinProtocol]) -> bool {
        if self.state == GroupState::Empty {
            return !protocol_type.is_empty() && !protocols.is_empty();
        }
        let by_all = |p: &JoinProtocol| self.protocol_support.get(&p.name).copied().unwrap_or(0) == self.members.len();
        self.protocol_type.as_deref() == Some(protocol_type) && protocols.iter().any(by_all)
    }

    /// The protocol most members prefer among those that all offer; of equals, the first by name.
    pub fn select_protocol(&self) -> Option<Arc<str>> {
        let mut votes: BTreeMap<&Arc<str>, usize> = BTreeMap::new();
        for member in self.members.values() {
            let common = |p: &&JoinProtocol| self.protocol_support.get(&p.name) == Some(&self.members.len());
            if let Some(choice) = member.protocols.iter().find(common) {
                *votes.entry(&choice.name).or_default() += 1;
            }
        }
        let most = votes.values().copied().max()?;
        votes.into_iter().find(|(_, count)| *count == most).map(|(name, _)| name.clone())
    }

    /// Keeps the leader if it has joined again, else chooses the first member that has. `false`: nobody has.
    pub fn elect_joined_leader(&mut self) -> bool {
        let joined = |member: &&Member| member.awaiting_join.is_some();
        let leader = self.leader.as_ref().and_then(|id| self.members.get(id)).filter(joined);
        let elected = leader.or_else(|| self.members.values().find(joined)).map(|member| member.member_id.clone());
        let found = elected.is_some();
        if found {
            self.leader = elected;
        }
        found
    }

    /// All members, for the leader.
    pub fn joined_members(&self) -> Vec<JoinedMember> {
        let member = |member: &Member| JoinedMember {
            member_id: member.member_id.clone(),
            group_instance_id: member.group_instance_id.clone(),
            metadata: member.metadata(self.protocol.as_deref()),
        };
        self.members.values().map(member).collect()
    }

    /// The topics all consumers together read; `None` where that cannot be known.
    pub fn compute_subscribed_topics(&self) -> Option<BTreeSet<TopicName>> {
        if !self.is_consumer_group() {
            return None;
        }
        let mut topics = BTreeSet::new();
        for member in self.members.values() {
            topics.extend(subscribed_topics(&member.metadata(self.protocol.as_deref()))?);
        }
        Some(topics)
    }

    pub fn is_consumer_group(&self) -> bool {
        self.protocol_type.as_deref() == Some(CONSUMER)
    }

    /// Whether a topic's offsets are in use: when in doubt, they are.
    pub fn is_subscribed_to(&self, topic: &str) -> bool {
        self.subscribed_topics.as_ref().map_or_else(|| self.is_consumer_group(), |topics| topics.contains(topic))
    }

    /// Whether `id` may speak: a member, and not one whose instance id another one took over (KIP-345).
    pub fn validate_member(&self, id: &str, instance_id: Option<&str>) -> Result<(), CoordinatorError> {
        if let Some(instance_id) = instance_id {
            match self.static_members.get(instance_id) {
                None => return Err(CoordinatorError::UnknownMemberId),
                Some(known) if &**known != id => return Err(CoordinatorError::FencedInstanceId),
                Some(_) => {}
            }
        }
        if self.members.contains_key(id) { Ok(()) } else { Err(CoordinatorError::UnknownMemberId) }
    }

    /// Since when an offset of `value` has not been in use, milliseconds since 1970; `None`: it is in use (KIP-211).
    pub fn offset_unused_since(&self, topic: &str, value: &OffsetAndMetadata) -> Option<i64> {
        if self.is_subscribed_to(topic) && self.state != GroupState::Empty {
            return None;
        }
        match (&self.protocol_type, self.state) {
            (None, _) => Some(value.commit_unix_ms),
            (Some(_), GroupState::Empty) => Some(self.state_unix_ms.unwrap_or(value.commit_unix_ms)),
            (Some(_), GroupState::Stable) if self.subscribed_topics.is_some() => Some(value.commit_unix_ms),
            _ => None,
        }
    }
}

/// Milliseconds of the wire; a negative one counts as none.
pub(super) fn millis(ms: i32) -> Duration {
    Duration::from_millis(u64::try_from(ms).unwrap_or(0))
}
