//! Groups under random joins, crashes, departures, commits, stuck high watermarks, fail-overs and rewriting, on virtual
//! time, from a seed.
//!
//! Checked on the way:
//! - *one leader*: in one generation of one coordinator, one member is told to assign;
//! - *one assignment*: whoever gets an assignment for generation `g` gets it from the same decision as all others that
//!   do, before and after a fail-over, and that decision was made for `g`;
//! - *generations rise*: a decision nobody saw before has a higher generation than every one that was seen;
//! - *group-commit-lost*: a committed offset never goes back, and never lies below an acknowledged one, also where a new coordinator
//!   knows of a lower high watermark than the one before.
//!
//! At the end everything heals, and *stuck* is checked: the clients that run are the members of one stable group, and
//! every request was answered.

use super::bench::*;
use super::*;
use crate::coordinator::{CoordinatorError, LoopLimits, RequestId, RewriteLimits};
use bytes::Bytes;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

const GROUP: &str = "g";
const TOPICS: [&str; 4] = ["t0", "t1", "t2", "t3"];

#[derive(Debug, PartialEq)]
enum Phase {
    /// Until when.
    Down(Duration),
    Out,
    Joining(RequestId),
    Syncing(RequestId),
    Member,
}

struct Client {
    instance: Option<String>,
    new_protocol: bool,
    phase: Phase,
    member_id: MemberId,
    generation: i32,
    joined: Option<JoinGroupResponse>,
    heartbeat_at: Duration,
    heartbeat: Option<RequestId>,
    commits: Vec<(RequestId, usize, i64)>,
}

struct World {
    bench: Bench,
    random: StdRng,
    clients: Vec<Client>,
    next_value: i64,
    acknowledged: [i64; TOPICS.len()],
    seen: [i64; TOPICS.len()],
    leaders: BTreeMap<(u64, i32), MemberId>,
    decisions: BTreeMap<i32, String>,
    /// Requests of clients that crashed: nobody waits for them.
    abandoned: BTreeSet<RequestId>,
    healed: bool,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut random = StdRng::seed_from_u64(seed);
        let rewrite = RewriteLimits { records_min: 30, live_percent_max: 60, bytes_per_step: 3_000 };
        let limits = LoopLimits { rewrite, batch_bytes_max: 700, ..LoopLimits::default() };
        let mut client = |i: usize| Client {
            instance: random.random_bool(0.4).then(|| format!("i{i}")),
            new_protocol: random.random_bool(0.7),
            phase: Phase::Out,
            member_id: "".into(),
            generation: -1,
            joined: None,
            heartbeat_at: Duration::ZERO,
            heartbeat: None,
            commits: Vec::new(),
        };
        let clients = (0..5).map(&mut client).collect();
        Self {
            bench: Bench::with(GroupConfig::default(), limits, seed),
            random,
            clients,
            next_value: 0,
            acknowledged: [-1; TOPICS.len()],
            seen: [-1; TOPICS.len()],
            leaders: BTreeMap::new(),
            decisions: BTreeMap::new(),
            abandoned: BTreeSet::new(),
            healed: false,
        }
    }

    fn run(&mut self, steps: usize) {
        for _ in 0..steps {
            self.disturb();
            let time = Duration::from_millis(self.random.random_range(0..1500));
            self.step(time);
        }
        self.heal();
    }

    fn step(&mut self, time: Duration) {
        self.bench.pass(time);
        for i in 0..self.clients.len() {
            self.answers(i);
            self.act(i);
        }
        self.bench.settle();
        self.check_offsets();
    }

    fn disturb(&mut self) {
        match self.random.random_range(0..100) {
            0..3 => {
                let lose = self.random.random_bool(0.5);
                let ends = self.bench.log.iter().map(|(_, last, _)| last + 1);
                let known: Vec<i64> = ends.filter(|end| *end <= self.bench.high_watermark).collect();
                self.bench.held |= self.random.random_bool(0.5);
                match known.len() {
                    0 => self.bench.fail_over(lose),
                    some => self.bench.fail_over_knowing(lose, known[self.random.random_range(0..some)]),
                }
            }
            3..8 => self.bench.held = true,
            8..20 if self.bench.held => self.bench.release(),
            20..26 => self.commit_some(),
            26..30 => {
                let i = self.random.random_range(0..self.clients.len());
                self.crash(i);
            }
            30..33 => {
                let i = self.random.random_range(0..self.clients.len());
                self.leave(i);
            }
            33..45 => {
                self.bench.rewrite();
            }
            45..60 => self.bench.advance_log_start(),
            _ => {}
        }
    }

    /// The high watermark moves to some batch between where it is and the end.
    fn commit_some(&mut self) {
        let uncommitted: Vec<i64> =
            self.bench.log.iter().map(|(_, last, _)| last + 1).filter(|end| *end > self.bench.high_watermark).collect();
        if !uncommitted.is_empty() {
            self.bench.high_watermark = uncommitted[self.random.random_range(0..uncommitted.len())];
            self.bench.event_loop.high_watermark(self.bench.now, self.bench.high_watermark);
            self.bench.collect();
        }
    }

    fn crash(&mut self, i: usize) {
        let until = self.bench.now.monotonic + Duration::from_millis(self.random.random_range(0..40_000));
        let client = &mut self.clients[i];
        if let Phase::Joining(id) | Phase::Syncing(id) = client.phase {
            self.abandoned.insert(id);
        }
        self.abandoned.extend(client.heartbeat.take());
        self.abandoned.extend(client.commits.drain(..).map(|(id, _, _)| id));
        client.member_id = "".into();
        client.phase = Phase::Down(until);
    }

    fn leave(&mut self, i: usize) {
        if self.clients[i].phase == Phase::Member {
            let id = self.bench.send(leave(GROUP, &self.clients[i].member_id.clone(), None));
            self.abandoned.insert(id);
            self.crash(i);
        }
    }

    fn answers(&mut self, i: usize) {
        match self.clients[i].phase {
            Phase::Joining(id) => {
                if let Some(answer) = self.bench.take(id) {
                    self.join_answered(i, id, answer);
                }
            }
            Phase::Syncing(id) => {
                if let Some(answer) = self.bench.take(id) {
                    self.sync_answered(i, answer);
                }
            }
            _ => {}
        }
        if let Some(answer) = self.clients[i].heartbeat.and_then(|id| self.bench.take(id)) {
            self.clients[i].heartbeat = None;
            if let Err(error) = answer
                && self.clients[i].phase == Phase::Member
            {
                self.refused(i, error);
            }
        }
        for (id, topic, value) in std::mem::take(&mut self.clients[i].commits) {
            match self.bench.take(id) {
                None => self.clients[i].commits.push((id, topic, value)),
                Some(Ok(GroupResponse::CommitOffsets(result))) => {
                    assert_eq!(result[0].1[0].1, None);
                    self.acknowledged[topic] = self.acknowledged[topic].max(value);
                }
                Some(_) => {}
            }
        }
    }

    fn join_answered(&mut self, i: usize, id: RequestId, answer: Answered) {
        self.clients[i].phase = Phase::Out;
        let response = match answer {
            Ok(GroupResponse::Join(response)) => response,
            Ok(other) => panic!("{other:?}"),
            Err(error) => return self.refused(i, error),
        };
        if let Some(error) = response.error {
            if error == CoordinatorError::MemberIdRequired {
                self.clients[i].member_id = response.member_id;
                return;
            }
            return self.refused(i, error);
        }
        if !response.members.is_empty() && !response.skip_assignment {
            assert_eq!(response.leader, response.member_id);
            let coordinator = self.bench.answered_after[&id];
            let known = self.leaders.entry((coordinator, response.generation)).or_insert(response.leader.clone());
            assert_eq!(*known, response.leader, "two leaders in generation {}", response.generation);
        }
        let client = &mut self.clients[i];
        client.member_id = response.member_id.clone();
        client.generation = response.generation;
        client.joined = Some(response);
        self.send_sync(i);
    }

    fn send_sync(&mut self, i: usize) {
        let Some(joined) = self.clients[i].joined.clone() else { return };
        let nonce: u32 = self.random.random();
        let decision = format!("{}/{nonce}", joined.generation);
        let given = if joined.skip_assignment { Vec::new() } else { joined.members.clone() };
        let given = given.into_iter().map(|m| (m.member_id, Bytes::from(decision.clone()))).collect();
        let mut request = sync(GROUP, &joined, given);
        request.group_instance_id = self.clients[i].instance.as_deref().map(Into::into);
        self.clients[i].phase = Phase::Syncing(self.bench.send(GroupRequest::Sync(request)));
    }

    fn sync_answered(&mut self, i: usize, answer: Answered) {
        let synced = match answer {
            Ok(GroupResponse::Sync(synced)) => synced,
            Ok(other) => panic!("{other:?}"),
            Err(error) => {
                self.clients[i].phase = Phase::Out;
                return self.refused(i, error);
            }
        };
        let decision = String::from_utf8(synced.assignment.to_vec()).unwrap();
        let generation = self.clients[i].generation;
        assert!(decision.starts_with(&format!("{generation}/")), "{decision:?} for generation {generation}");
        if !self.decisions.contains_key(&generation) {
            let newest = self.decisions.keys().last().copied().unwrap_or(0);
            assert!(generation > newest, "generation {generation} after {newest}");
        }
        let known = self.decisions.entry(generation).or_insert_with(|| decision.clone());
        assert_eq!(*known, decision, "two assignments for generation {generation}");
        let client = &mut self.clients[i];
        client.phase = Phase::Member;
        client.heartbeat_at = self.bench.now.monotonic;
    }

    fn refused(&mut self, i: usize, error: CoordinatorError) {
        let client = &mut self.clients[i];
        match error {
            CoordinatorError::UnknownMemberId
            | CoordinatorError::IllegalGeneration
            | CoordinatorError::FencedInstanceId => client.member_id = "".into(),
            // A member looks for its coordinator and goes on.
            CoordinatorError::NotCoordinator | CoordinatorError::CoordinatorNotAvailable
                if client.phase == Phase::Member =>
            {
                return;
            }
            CoordinatorError::RebalanceInProgress
            | CoordinatorError::NotCoordinator
            | CoordinatorError::CoordinatorNotAvailable
            | CoordinatorError::InconsistentGroupProtocol => {}
            other => panic!("{other}"),
        }
        client.phase = Phase::Out;
    }

    fn act(&mut self, i: usize) {
        let now = self.bench.now.monotonic;
        match self.clients[i].phase {
            Phase::Down(until) if until <= now => self.clients[i].phase = Phase::Out,
            Phase::Out => {
                let client = &self.clients[i];
                let mut request = JoinGroupRequest {
                    group_instance_id: client.instance.as_deref().map(Into::into),
                    requires_known_member_id: client.new_protocol,
                    supports_skipping_assignment: client.new_protocol,
                    rebalance_timeout_ms: 20_000,
                    ..rejoin(GROUP, &client.member_id)
                };
                request.protocols.push(protocol("sticky"));
                if self.random.random_bool(0.2) {
                    request.protocols.swap(0, 1);
                }
                self.clients[i].phase = Phase::Joining(self.bench.send(GroupRequest::Join(request)));
            }
            Phase::Member => {
                if self.clients[i].heartbeat_at <= now && self.clients[i].heartbeat.is_none() {
                    let client = &mut self.clients[i];
                    client.heartbeat_at = now + Duration::from_secs(3);
                    client.heartbeat = Some(self.bench.send(beat(GROUP, client.generation, &client.member_id)));
                }
                if !self.healed && self.random.random_bool(0.4) {
                    self.commit(i);
                }
            }
            _ => {}
        }
    }

    fn commit(&mut self, i: usize) {
        let topic = self.random.random_range(0..TOPICS.len());
        self.next_value += 1;
        let client = &mut self.clients[i];
        let request = commit(GROUP, client.generation, &client.member_id, TOPICS[topic], self.next_value);
        let id = self.bench.send(GroupRequest::CommitOffsets(request));
        client.commits.push((id, topic, self.next_value));
    }

    fn check_offsets(&mut self) {
        for (i, topic) in TOPICS.iter().enumerate() {
            let request = self.bench.send(fetch(GROUP, topic, 0));
            let offset = match self.bench.take(request) {
                Some(Ok(GroupResponse::FetchOffsets(topics))) => topics[0].partitions[0].offset,
                Some(Ok(other)) => panic!("{other:?}"),
                Some(Err(_)) => continue,
                // It is not known what is committed.
                None => {
                    self.abandoned.insert(request);
                    continue;
                }
            };
            assert!(offset >= self.seen[i], "the offset of {topic} went back from {} to {offset}", self.seen[i]);
            assert!(offset >= self.acknowledged[i], "{topic}: {offset}, but {} was acknowledged", self.acknowledged[i]);
            self.seen[i] = offset;
        }
    }

    fn heal(&mut self) {
        self.healed = true;
        // Some die at the very moment of a last fail-over and never come back; at least one client runs.
        self.bench.release();
        self.bench.fail_over(true);
        for i in 1..self.clients.len() {
            if self.random.random_bool(0.3) {
                self.crash(i);
                self.clients[i].phase = Phase::Down(Duration::MAX);
            }
        }
        for _ in 0..200 {
            self.step(Duration::from_secs(1));
        }
        self.clients.retain(|client| client.phase != Phase::Down(Duration::MAX));
        // One heartbeat round without refusal, all in the same generation.
        let generations: BTreeSet<i32> = self.clients.iter().map(|client| client.generation).collect();
        let phases: Vec<_> = self.clients.iter().map(|client| &client.phase).collect();
        assert!(phases.iter().all(|phase| **phase == Phase::Member), "stuck: {phases:?}");
        assert_eq!(generations.len(), 1, "several generations in one group");
        let described = self.bench.describe(GROUP);
        assert_eq!((described.state, described.members.len()), ("Stable", self.clients.len()));
        self.bench.pass(Duration::from_secs(600));
        for id in std::mem::take(&mut self.abandoned) {
            assert!(self.bench.take(id).is_some(), "request {id} was never answered");
        }
    }
}

#[test]
fn groups_keep_their_word_through_whatever_happens() {
    let (mut fail_overs, mut generations, mut acknowledged, mut starts) = (0, 0, 0, 0);
    for seed in 0..100 {
        let mut world = World::new(seed);
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| world.run(400)));
        if let Err(panic) = result {
            eprintln!("seed {seed}");
            std::panic::resume_unwind(panic);
        }
        fail_overs += world.bench.fail_overs;
        generations += world.decisions.len();
        acknowledged += world.acknowledged.iter().filter(|value| **value >= 0).count();
        starts += usize::from(world.bench.log_start > 0);
    }
    // A run in which nothing happened shows nothing.
    assert!(
        fail_overs > 500 && generations > 1000 && acknowledged > 300 && starts > 50,
        "{fail_overs} fail-overs, {generations} generations, {acknowledged} topics, {starts} rewritten logs"
    );
}
