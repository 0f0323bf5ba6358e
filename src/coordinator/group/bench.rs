//! A shard on a bench: its event loop, a log, a clock that only the test moves.

use super::records::GroupChange;
use super::*;
use crate::coordinator::{
    Appended, CoordinatorError, CoordinatorRecord, CoordinatorShard, EventLoop, LoopLimits, Now, RequestId, Rewriting,
    decode_batches, encode_batch,
};
use bytes::{Bytes, BytesMut};
use rand::SeedableRng;
use rand::rngs::StdRng;
use rookery_raft::ids::TopicId;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

pub(super) type Answered = Result<GroupResponse, CoordinatorError>;

pub(super) struct Bench {
    pub event_loop: EventLoop<GroupShard>,
    pub config: GroupConfig,
    pub limits: LoopLimits,
    pub now: Now,
    /// Base offset, last offset, bytes.
    pub log: Vec<(i64, i64, Bytes)>,
    pub log_start: i64,
    pub high_watermark: i64,
    /// While set, the high watermark stands still.
    pub held: bool,
    pub answers: BTreeMap<RequestId, Answered>,
    /// How many fail-overs there were, now and when each request was answered.
    pub fail_overs: u64,
    pub answered_after: BTreeMap<RequestId, u64>,
    next_request: RequestId,
    seed: u64,
}

/// OffsetFetch of one partition, not a stable one.
pub(super) fn fetch(group: &str, topic: &str, partition: i32) -> GroupRequest {
    let topics = vec![FetchTopic { name: topic.into(), topic_id: TopicId::NONE, partitions: vec![partition] }];
    GroupRequest::FetchOffsets(OffsetFetchRequest {
        group_id: group.into(),
        topics: Some(topics),
        require_stable: false,
    })
}

impl Bench {
    pub fn new() -> Self {
        Self::with(GroupConfig::default(), LoopLimits::default(), 1)
    }

    pub fn with(config: GroupConfig, limits: LoopLimits, seed: u64) -> Self {
        let now = Now { monotonic: Duration::ZERO, unix_ms: 1_700_000_000_000 };
        let shard = GroupShard::new(Arc::new(config.clone()), StdRng::seed_from_u64(seed));
        let mut event_loop = EventLoop::new(shard, limits);
        event_loop.loaded(now);
        Self {
            event_loop,
            config,
            limits,
            now,
            log: Vec::new(),
            log_start: 0,
            high_watermark: 0,
            held: false,
            answers: BTreeMap::new(),
            fail_overs: 0,
            answered_after: BTreeMap::new(),
            next_request: 0,
            seed,
        }
    }

    pub fn log_end(&self) -> i64 {
        self.log.last().map_or(self.log_start, |(_, last, _)| last + 1)
    }

    pub fn append_raw(&mut self, bytes: &Bytes) -> Appended {
        let decoded = decode_batches(bytes).unwrap();
        let base_offset = self.log_end();
        let last_offset = base_offset + decoded[0].last_offset;
        let mut placed = BytesMut::from(&bytes[..]);
        placed[..8].copy_from_slice(&base_offset.to_be_bytes());
        self.log.push((base_offset, last_offset, placed.freeze()));
        Appended { base_offset, last_offset }
    }

    /// Appends and commits until nothing moves.
    pub fn settle(&mut self) {
        loop {
            let batch = self.event_loop.next_append(self.now);
            let quiet = batch.is_none();
            if let Some(batch) = batch {
                let appended = self.append_raw(&batch);
                self.event_loop.appended(self.now, appended);
            }
            if !self.held {
                self.high_watermark = self.log_end();
                self.event_loop.high_watermark(self.now, self.high_watermark);
            }
            self.collect();
            if quiet {
                return;
            }
        }
    }

    pub fn collect(&mut self) {
        for answer in self.event_loop.take_answers() {
            self.answered_after.insert(answer.request, self.fail_overs);
            assert!(self.answers.insert(answer.request, answer.result).is_none(), "answered twice");
        }
    }

    pub fn release(&mut self) {
        self.held = false;
        self.settle();
    }

    pub fn send(&mut self, request: GroupRequest) -> RequestId {
        let id = self.next_request;
        self.next_request += 1;
        self.event_loop.handle(self.now, id, request);
        self.collect();
        id
    }

    /// Sends, settles, and expects the answer at once.
    pub fn ask(&mut self, request: GroupRequest) -> Answered {
        let id = self.send(request);
        self.settle();
        self.take(id).expect("answered at once")
    }

    pub fn take(&mut self, id: RequestId) -> Option<Answered> {
        self.answers.remove(&id)
    }

    /// Lets time pass, deadline by deadline.
    pub fn pass(&mut self, time: Duration) {
        let end = self.now.monotonic + time;
        loop {
            let at = self.event_loop.next_deadline().map_or(end, |at| at.min(end)).max(self.now.monotonic);
            self.now.unix_ms += (at - self.now.monotonic).as_millis() as i64;
            self.now.monotonic = at;
            self.event_loop.tick(self.now);
            self.settle();
            if at == end {
                return;
            }
        }
    }

    /// Another broker takes over: what is not committed may be gone with the old leader.
    pub fn fail_over(&mut self, lose_uncommitted: bool) {
        self.fail_over_knowing(lose_uncommitted, self.high_watermark);
    }

    /// The same, to a broker that knows of a lower high watermark, until it moves again.
    pub fn fail_over_knowing(&mut self, lose_uncommitted: bool, known_high_watermark: i64) {
        if lose_uncommitted {
            let high_watermark = self.high_watermark;
            self.log.retain(|(_, last, _)| *last < high_watermark);
        }
        self.seed += 1;
        self.fail_overs += 1;
        let shard = GroupShard::new(Arc::new(self.config.clone()), StdRng::seed_from_u64(self.seed));
        let old = std::mem::replace(&mut self.event_loop, EventLoop::new(shard, self.limits));
        for answer in old.end(CoordinatorError::NotCoordinator) {
            assert!(self.answers.insert(answer.request, answer.result).is_none(), "answered twice");
        }
        for (_, _, bytes) in &self.log {
            for batch in decode_batches(bytes).unwrap() {
                self.event_loop.load(batch).unwrap();
            }
        }
        self.event_loop.high_watermark(self.now, known_high_watermark);
        self.event_loop.loaded(self.now);
        self.settle();
    }

    /// One step of latest-key rewriting, as the runtime does it. `false`: nothing to do.
    pub fn rewrite(&mut self) -> bool {
        if !self.event_loop.wants_rewriting(self.log_start) {
            return false;
        }
        let mut stretch = Vec::new();
        let mut size = 0;
        for (_, _, bytes) in &self.log {
            if size > 0 && size + bytes.len() > self.limits.rewrite.bytes_per_step {
                break;
            }
            size += bytes.len();
            stretch.extend(decode_batches(bytes).unwrap());
        }
        assert_eq!(self.event_loop.rewrite(stretch), Rewriting::Emitted);
        true
    }

    pub fn advance_log_start(&mut self) {
        if let Some(start) = self.event_loop.log_start_due() {
            assert!(start <= self.high_watermark, "log start above the high watermark");
            self.log_start = start;
            self.log.retain(|(_, last, _)| *last >= start);
        }
    }

    pub fn records(&self) -> Vec<CoordinatorRecord> {
        let batches = self.log.iter().flat_map(|(_, _, bytes)| decode_batches(bytes).unwrap());
        batches.flat_map(|batch| batch.records).map(|(_, record)| record).collect()
    }

    pub fn changes(&self) -> Vec<GroupChange> {
        self.records().iter().filter_map(|record| GroupShard::decode(record).unwrap()).collect()
    }

    pub fn append_foreign(&mut self, record: CoordinatorRecord) {
        let bytes = encode_batch([&record], 0);
        self.append_raw(&bytes);
        self.high_watermark = self.log_end();
    }

    pub fn state(&mut self, group: &str) -> &'static str {
        self.describe(group).state
    }

    pub fn describe(&mut self, group: &str) -> DescribedGroup {
        match self.ask(GroupRequest::Describe(vec![group.into()])) {
            Ok(GroupResponse::Describe(mut groups)) => groups.remove(0),
            other => panic!("{other:?}"),
        }
    }

    pub fn fetch(&mut self, group: &str, topic: &str, partition: i32) -> i64 {
        match self.ask(fetch(group, topic, partition)) {
            Ok(GroupResponse::FetchOffsets(topics)) => topics[0].partitions[0].offset,
            other => panic!("{other:?}"),
        }
    }

    pub fn joined(&mut self, id: RequestId) -> JoinGroupResponse {
        match self.take(id) {
            Some(Ok(GroupResponse::Join(response))) => response,
            other => panic!("no JoinGroup answer but {other:?}"),
        }
    }

    pub fn ask_join(&mut self, request: JoinGroupRequest) -> JoinGroupResponse {
        let id = self.send(GroupRequest::Join(request));
        self.settle();
        self.joined(id)
    }

    /// A stable group of `count` dynamic members; the first in the list leads.
    pub fn stable(&mut self, group: &str, count: usize) -> Vec<JoinGroupResponse> {
        let waiting: Vec<_> = (0..count).map(|_| self.send(GroupRequest::Join(join(group)))).collect();
        self.pass(Duration::from_secs(10));
        let mut joined: Vec<_> = waiting.into_iter().map(|id| self.joined(id)).collect();
        joined.sort_by_key(|member| member.member_id != member.leader);
        let assignments = joined.iter().map(|m| (m.member_id.clone(), assignment_of(&m.member_id))).collect();
        self.ask(GroupRequest::Sync(sync(group, &joined[0], assignments))).unwrap();
        for member in &joined[1..] {
            self.ask(GroupRequest::Sync(sync(group, member, Vec::new()))).unwrap();
        }
        for member in &joined {
            self.ask(beat(group, member.generation, &member.member_id)).unwrap();
        }
        assert_eq!(self.state(group), "Stable");
        joined
    }
}

pub(super) fn assignment_of(member: &str) -> Bytes {
    Bytes::copy_from_slice(format!("for {member}").as_bytes())
}

/// A consumer's subscription to `topics`, version 0.
pub(super) fn subscription(topics: &[&str]) -> Bytes {
    let mut bytes = vec![0, 0];
    bytes.extend((topics.len() as i32).to_be_bytes());
    for topic in topics {
        bytes.extend((topic.len() as i16).to_be_bytes());
        bytes.extend(topic.as_bytes());
    }
    bytes.extend((-1i32).to_be_bytes());
    bytes.into()
}

pub(super) fn protocol(name: &str) -> JoinProtocol {
    JoinProtocol { name: name.into(), metadata: subscription(&["orders"]) }
}

/// A new member of an old client: no member id asked for first.
pub(super) fn join(group: &str) -> JoinGroupRequest {
    JoinGroupRequest {
        group_id: group.into(),
        session_timeout_ms: 10_000,
        rebalance_timeout_ms: 60_000,
        member_id: "".into(),
        group_instance_id: None,
        protocol_type: "consumer".into(),
        protocols: vec![protocol("range")],
        client_id: "client".into(),
        client_host: "/127.0.0.1".into(),
        requires_known_member_id: false,
        supports_skipping_assignment: false,
    }
}

pub(super) fn join_static(group: &str, instance: &str) -> JoinGroupRequest {
    JoinGroupRequest { group_instance_id: Some(instance.into()), ..join(group) }
}

pub(super) fn rejoin(group: &str, member: &str) -> JoinGroupRequest {
    JoinGroupRequest { member_id: member.into(), ..join(group) }
}

pub(super) fn sync(group: &str, joined: &JoinGroupResponse, assignments: Vec<(MemberId, Bytes)>) -> SyncGroupRequest {
    SyncGroupRequest {
        group_id: group.into(),
        generation: joined.generation,
        member_id: joined.member_id.clone(),
        group_instance_id: None,
        protocol_type: joined.protocol_type.clone(),
        protocol_name: joined.protocol_name.clone(),
        assignments,
    }
}

pub(super) fn beat(group: &str, generation: i32, member: &str) -> GroupRequest {
    GroupRequest::Heartbeat(HeartbeatRequest {
        group_id: group.into(),
        generation,
        member_id: member.into(),
        group_instance_id: None,
    })
}

pub(super) fn leave(group: &str, member: &str, instance: Option<&str>) -> GroupRequest {
    let identity = MemberIdentity { member_id: member.into(), group_instance_id: instance.map(Into::into) };
    GroupRequest::Leave(LeaveGroupRequest { group_id: group.into(), members: vec![identity] })
}

/// A commit of `offset` for partition 0 of `topic`.
pub(super) fn commit(group: &str, generation: i32, member: &str, topic: &str, offset: i64) -> OffsetCommitRequest {
    let partition = CommittedPartition { partition: 0, offset, leader_epoch: 3, metadata: "m".into() };
    OffsetCommitRequest {
        group_id: group.into(),
        generation,
        member_id: member.into(),
        group_instance_id: None,
        retention_ms: None,
        knows_group_id_not_found: true,
        topics: vec![CommittedTopic { name: topic.into(), topic_id: TopicId::NONE, partitions: vec![partition] }],
    }
}
