//! Three machines, their disks, the faults that befall them, the clients, and who looks on.

use super::batches::{batch, read};
use super::invariants::{
    FencedLeader, OneCluster, OneHistory, PartitionInvariants, Record, Violation, candidate, logs_match, no_duplicate,
    stuck,
};
use super::network::{End, Network};
use super::process::{Process, SESSION, Start};
use crate::broker::{Metadata, QuorumChangeError, Replaced};
use crate::replica::partition::{Partition, Role};
use crate::replica::partition_leader::AckWait;
use crate::replica::purgatory::DelayedProduce;
use crate::replica::{AppendRequest, RequiredAcks};
use crate::storage::memory_store::Fault;
use crate::storage::{
    AppendOrigin, LogConfig, LogDirectory, LogStore, MemoryStore, StoreHealth, TimestampType, inline,
};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use rookery_raft::controller::{ControllerRequest, CreateTopicsRequest, NewTopic};
use rookery_raft::ids::{ClusterId, DirectoryId, LeaderEpoch, NodeId, TopicId, TopicIdPartition};
use rookery_raft::image::MetadataImage;
use rookery_raft::quorum::seeded_runtime::seed_thread;
use rookery_raft::quorum::{MemoryDisk, MemorySnapshots, QuorumStorageError};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::task::JoinHandle;
use uuid::Uuid;

const NODES: i32 = 3;
const PARTITIONS: i32 = 2;
const PRODUCERS: usize = 3;
const MIN_INSYNC: usize = 2;
/// Faults come this long, milliseconds.
const TROUBLE: u64 = 7_000;
/// After that everything must have come together again within this.
const HEALED_WITHIN: u64 = 60_000;

struct Machine {
    id: NodeId,
    directory: u128,
    store: Arc<MemoryStore>,
    quorum_disk: MemoryDisk,
    snapshots: MemorySnapshots,
    cluster: Arc<OnceLock<ClusterId>>,
    process: Option<Process>,
    /// A stopped process goes on then; a dead one starts then.
    resumes: Option<u64>,
    stopped: Option<u64>,
    starts: u64,
    /// No commit before this.
    disk_hangs_until: u64,
    slow_disk: bool,
    /// Its records are gone, and the metadata log does not know yet.
    lost: bool,
    /// Its vote is gone with its disk, until an operator has replaced it.
    replacing: Option<Option<JoinHandle<Result<Replaced, QuorumChangeError>>>>,
    /// The next commit fails.
    sync_fails: bool,
    /// What was on its disk when it died, or when a sync failed.
    left: BTreeMap<TopicIdPartition, Vec<Record>>,
    /// What went with the last disk: it was there when its broker said so.
    gone: BTreeMap<TopicIdPartition, Vec<Record>>,
}

struct Producer {
    id: i64,
    partition: i32,
    sequence: i32,
    value: u64,
    state: ProducerState,
}

enum ProducerState {
    Idle { not_before: u64 },
    Waiting { at: NodeId, life: u64, offset: i64, wait: DelayedProduce, until: u64 },
}

/// What happened in a run: one without faults, or without progress under them, shows nothing.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Seen {
    pub acks: u64,
    pub unknown: u64,
    pub crashes: u64,
    pub pauses: u64,
    pub cuts: u64,
    pub lossy: u64,
    pub failed_syncs: u64,
    pub slow_disks: u64,
    pub quorum_disks: u64,
    pub wipes: u64,
    pub lost_logs: u64,
    pub power_cuts: u64,
    pub elections: u64,
    pub fences: u64,
    pub controllers: u64,
}

impl Seen {
    fn counts(&self) -> [u64; 15] {
        [
            self.acks,
            self.unknown,
            self.crashes,
            self.pauses,
            self.cuts,
            self.lossy,
            self.failed_syncs,
            self.slow_disks,
            self.quorum_disks,
            self.wipes,
            self.lost_logs,
            self.power_cuts,
            self.elections,
            self.fences,
            self.controllers,
        ]
    }
}

struct World {
    rng: StdRng,
    now: u64,
    clock: Arc<AtomicU64>,
    machines: Vec<Machine>,
    network: Network,
    producers: Vec<Producer>,
    next_value: u64,
    next_life: u64,
    next_fault: u64,
    /// Which faults this seed knows.
    climate: u32,
    gossip: bool,
    topic: Option<TopicId>,
    creating: Option<JoinHandle<()>>,
    partitions: BTreeMap<TopicIdPartition, PartitionInvariants>,
    fenced: FencedLeader,
    history: OneHistory,
    cluster: OneCluster,
    mends: Vec<u64>,
    seen: Seen,
    controllers: BTreeSet<(u64, NodeId)>,
    checked: (i64, usize),
}

/// One run. `trace` asks for a line of everything that travelled.
pub(super) fn run(seed: u64, trace: bool) -> (Result<Seen, Violation>, Vec<String>) {
    run_world(seed, trace, World::run)
}

/// One run of [`World::run_without_majority`].
pub(super) fn run_without_majority(seed: u64) -> Result<Seen, Violation> {
    run_world(seed, false, World::run_without_majority).0
}

fn run_world(
    seed: u64,
    trace: bool,
    schedule: impl FnOnce(&mut World) -> Result<Seen, Violation>,
) -> (Result<Seen, Violation>, Vec<String>) {
    inline::turn_on();
    seed_thread(Some(seed));
    let mut world = World::new(seed);
    if trace {
        world.network.trace.lines = Some(Vec::new());
    }
    let result = schedule(&mut world);
    let lines = world.network.trace.lines.take().unwrap_or_default();
    for machine in &mut world.machines {
        if let Some(process) = machine.process.take() {
            process.end();
        }
    }
    seed_thread(None);
    (result, lines)
}

impl World {
    fn new(seed: u64) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        let clock = Arc::new(AtomicU64::new(0));
        let network = Network::new(rng.random());
        let climate: u32 = if seed.is_multiple_of(3) { u32::MAX } else { rng.random() };
        let gossip = rng.random_range(0..4) > 0;
        let mut world = Self {
            rng,
            now: 0,
            clock,
            machines: Vec::new(),
            network,
            producers: Vec::new(),
            next_value: PRODUCERS as u64,
            next_life: 0,
            next_fault: 0,
            climate,
            gossip,
            topic: None,
            creating: None,
            partitions: BTreeMap::new(),
            fenced: FencedLeader::default(),
            history: OneHistory::default(),
            cluster: OneCluster::default(),
            mends: Vec::new(),
            seen: Seen::default(),
            controllers: BTreeSet::new(),
            checked: (0, 0),
        };
        for id in (1..=NODES).map(NodeId) {
            let directory = 1000 + id.0.unsigned_abs() as u128;
            let store = world.empty_store(directory);
            let starts = world.rng.random_range(0..300);
            world.machines.push(Machine {
                id,
                directory,
                store,
                quorum_disk: MemoryDisk::new(),
                snapshots: MemorySnapshots::default(),
                cluster: Arc::default(),
                process: None,
                resumes: None,
                stopped: None,
                starts,
                disk_hangs_until: 0,
                slow_disk: false,
                lost: false,
                sync_fails: false,
                replacing: None,
                left: BTreeMap::new(),
                gone: BTreeMap::new(),
            });
        }
        for at in 0..PRODUCERS {
            let (id, partition) = (at as i64, at as i32 % PARTITIONS);
            let state = ProducerState::Idle { not_before: 0 };
            world.producers.push(Producer { id, partition, sequence: 0, value: at as u64, state });
        }
        world
    }

    fn empty_store(&self, directory: u128) -> Arc<MemoryStore> {
        let clock = self.clock.clone();
        let now = Arc::new(move || Duration::from_millis(clock.load(Ordering::Relaxed)));
        MemoryStore::new(DirectoryId(Uuid::from_u128(directory)), ClusterId::NONE, now)
    }

    fn chance(&mut self, percent: u32) -> bool {
        self.rng.random_range(0..100) < percent
    }

    /// A voter is cut off and misses what is committed; one of the two others comes back with an empty disk, and the last one is dead
    /// when the first is heard again. The two that are there hold no majority of what was promised.
    fn run_without_majority(&mut self) -> Result<Seen, Violation> {
        self.until(20_000, "a whole cluster", |world| {
            world.topic.is_some() && world.all_partitions(|p| p.isr.len() == NODES as usize) && world.is_whole()
        })?;
        let stale = self.rng.random_range(0..self.machines.len());
        let (wiped, dead) = ((stale + 1) % self.machines.len(), (stale + 2) % self.machines.len());
        let id = self.machines[stale].id;
        self.isolate(stale, u64::MAX, (true, true));
        self.until(20_000, "a fence of the node that is cut off", |world| {
            world.all_partitions(|p| !p.isr.contains(&id) && p.has_leader())
        })?;
        self.lose_disk(wiped, 50, true);
        self.crash(dead, 6_000);
        self.network.mend();
        let end = self.now + 5_000;
        self.until(6_000, "five seconds", |world| world.now >= end)?;
        self.heal();
        self.until(HEALED_WITHIN, "everything whole again", World::is_whole)?;
        self.final_checks()?;
        Ok(self.seen)
    }

    fn run(&mut self) -> Result<Seen, Violation> {
        self.until(20_000, "a topic with leaders", |world| {
            world.topic.is_some() && world.all_partitions(|p| p.isr.len() == NODES as usize && p.has_leader())
        })?;
        self.next_fault = self.now + 300;
        let end = self.now + TROUBLE;
        while self.now < end {
            self.tick(true)?;
        }
        self.heal();
        let acked: usize = self.partitions.values().map(|p| p.acked.len()).sum();
        let target: Vec<u64> = vec![self.next_value; self.producers.len()];
        self.until(HEALED_WITHIN, "everything whole again", |world| {
            let news = world.producers.iter().zip(&target).all(|(p, target)| p.value > *target);
            news && world.is_whole()
        })?;
        let after: usize = self.partitions.values().map(|p| p.acked.len()).sum();
        assert!(after > acked, "every producer was answered after the healing");
        self.final_checks()?;
        self.seen.elections = self.partitions.values().map(|p| p.single_leader.terms() as u64 - 1).sum();
        Ok(self.seen)
    }

    fn until(&mut self, limit: u64, what: &str, holds: impl Fn(&World) -> bool) -> Result<(), Violation> {
        let end = self.now + limit;
        while !holds(self) {
            if self.now > end {
                return Err(stuck(format!("never: {what}; {}", self.describe())));
            }
            self.tick(false)?;
        }
        Ok(())
    }

    fn describe(&self) -> String {
        let mut out = String::new();
        for machine in &self.machines {
            let Some(process) = &machine.process else {
                out.push_str(&format!("[{} down]", machine.id));
                continue;
            };
            let status = process.quorum().map(|q| {
                let s = q.status();
                (s.leadership.term, s.leadership.leader.map(|l| l.id.node_id), s.applied, s.formation.why)
            });
            let image = process.metadata.image();
            let brokers: Vec<_> = image.cluster.brokers().map(|b| (b.id().0, b.epoch().0, b.fenced)).collect();
            let roles: Vec<_> =
                self.replicas_of(machine).map(|p| (p.role(), p.log().offsets(), p.high_watermark())).collect();
            out.push_str(&format!("[{} {status:?} {brokers:?} {roles:?} {:?}]", machine.id, process.failure()));
        }
        if let Some(image) = self.history.newest() {
            out.push_str(&format!(
                "{:?}",
                image.topics.partitions().map(|(_, p)| p.as_ref().clone()).collect::<Vec<_>>()
            ));
        }
        let producers: Vec<_> = self.producers.iter().map(|p| (p.id, p.sequence, p.value)).collect();
        out.push_str(&format!("{producers:?}"));
        out
    }

    // ---- time ----

    fn tick(&mut self, trouble: bool) -> Result<(), Violation> {
        self.now += 1;
        self.clock.store(self.now, Ordering::Relaxed);
        if trouble && self.now >= self.next_fault {
            self.next_fault = self.now + self.rng.random_range(100..900);
            self.fault();
        }
        self.mend_links();
        self.start_and_resume();
        self.travel();
        for at in 0..self.machines.len() {
            self.live(at)?;
        }
        self.operate();
        for at in 0..self.producers.len() {
            self.produce(at)?;
        }
        self.look()
    }

    fn travel(&mut self) {
        let ends = self.machines.iter().filter_map(|m| Some((m.id, m.process.as_ref()?, m.stopped.is_some())));
        let ends: BTreeMap<NodeId, End<'_>> = ends
            .map(|(id, process, paused)| {
                let identity = *process.identity.current();
                (id, End { identity, events: &process.events, arrived: &process.arrived, paused })
            })
            .collect();
        let arrivals = self.network.tick(self.now, &ends);
        for machine in &self.machines {
            let Some(process) = &machine.process else { continue };
            let sent = std::mem::take(&mut *process.outbox.lock());
            for sent in sent {
                self.network.send(machine.id, sent, &ends);
            }
        }
        for arrival in arrivals {
            let target = self.machines.iter().find(|machine| machine.id == arrival.to);
            if let Some(process) = target.and_then(|machine| machine.process.as_ref()) {
                process.serve(arrival);
            }
        }
    }

    fn start_and_resume(&mut self) {
        for at in 0..self.machines.len() {
            let machine = &mut self.machines[at];
            if machine.resumes.is_some_and(|resumes| self.now >= resumes) {
                machine.resumes = None;
                if let (Some(since), Some(process)) = (machine.stopped.take(), &mut machine.process) {
                    process.wake_after(self.now - since);
                }
            }
            if self.machines[at].process.is_none() && self.now >= self.machines[at].starts {
                self.start(at);
            }
        }
    }

    fn start(&mut self, at: usize) {
        self.next_life += 1;
        let (life, seed) = (self.next_life, self.rng.random());
        let nodes = self.machines.iter().map(|machine| machine.id).collect();
        let machine = &mut self.machines[at];
        machine.process = Some(Process::start(Start {
            id: machine.id,
            nodes,
            directory: DirectoryId(Uuid::from_u128(machine.directory)),
            store: machine.store.clone(),
            quorum_disk: machine.quorum_disk.clone(),
            snapshots: machine.snapshots.clone(),
            cluster: machine.cluster.clone(),
            life,
            seed,
            gossip: self.gossip,
        }));
        machine.left.clear();
        self.network.trace.note(|| format!("{} start {}", self.now, machine.id));
    }

    fn live(&mut self, at: usize) -> Result<(), Violation> {
        let commits = {
            let machine = &self.machines[at];
            machine.store.queued() > 0 && self.now >= machine.disk_hangs_until
        } && {
            let percent = if self.machines[at].slow_disk { 3 } else { 60 };
            self.chance(percent)
        };
        let machine = &mut self.machines[at];
        let Some(process) = machine.process.as_mut().filter(|_| machine.stopped.is_none()) else { return Ok(()) };
        if commits {
            if std::mem::take(&mut machine.sync_fails) {
                machine.left = durable(&machine.store);
            }
            let store = &machine.store;
            process.within(|| store.commit());
        }
        process.tick();
        if let Some(why) = process.failure() {
            self.network.trace.note(|| format!("{} {} ends: {why}", self.now, machine.id));
            if why.contains("panicked") {
                return Err(stuck(format!("{}: {why}", machine.id)));
            }
            self.crash(at, 500);
        }
        Ok(())
    }

    // ---- faults ----

    fn fault(&mut self) {
        let kind = self.rng.random_range(0..12u32);
        if self.climate & (1 << kind) == 0 {
            return;
        }
        let at = self.rng.random_range(0..self.machines.len());
        let long = self.rng.random_range(50..3000);
        let until = self.now + long;
        self.network.trace.note(|| format!("{} fault {kind} at {at} for {long}", self.now));
        match kind {
            0 | 1 => self.crash(at, long),
            2 => self.pause(at, until),
            // Longer than a fence and the lease after it.
            3 => self.isolate(at, until + long, (true, true)),
            4 => {
                let way = if self.chance(50) { (true, false) } else { (false, true) };
                self.isolate(at, until, way);
            }
            5 => self.part(at, until),
            6 => self.spoil_links(until),
            7 => self.fail_sync(at),
            8 => {
                self.seen.slow_disks += 1;
                self.machines[at].slow_disk = true;
                if self.chance(40) {
                    self.machines[at].disk_hangs_until = until;
                }
                self.mends.push(until);
            }
            9 => self.fail_quorum_disk(at, until),
            10 => {
                let whole = self.chance(50);
                self.lose_disk(at, long, whole);
            }
            _ => {
                self.seen.power_cuts += 1;
                for at in 0..self.machines.len() {
                    let long = self.rng.random_range(10..600);
                    self.crash(at, long);
                }
            }
        }
    }

    fn crash(&mut self, at: usize, down_for: u64) {
        let Some(process) = self.machines[at].process.take() else { return };
        self.seen.crashes += 1;
        process.end();
        let kept = self.rng.random_range(0..=self.machines[at].store.queued());
        let machine = &mut self.machines[at];
        machine.store.crash(kept);
        machine.store.reopen().expect("reopens");
        machine.quorum_disk.crash();
        machine.left = durable(&machine.store);
        (machine.stopped, machine.resumes, machine.starts) = (None, None, self.now + down_for);
        let id = machine.id;
        self.network.process_ended(id);
        self.network.trace.note(|| format!("{} crash {id} kept {kept}", self.now));
    }

    fn pause(&mut self, at: usize, until: u64) {
        let machine = &mut self.machines[at];
        if machine.process.is_some() && machine.stopped.is_none() {
            self.seen.pauses += 1;
            (machine.stopped, machine.resumes) = (Some(self.now), Some(until));
        }
    }

    /// One node cannot send, or hear, or both.
    fn isolate(&mut self, at: usize, until: u64, (out, inward): (bool, bool)) {
        self.seen.cuts += 1;
        let id = self.machines[at].id;
        let others: Vec<NodeId> = self.machines.iter().map(|m| m.id).filter(|other| *other != id).collect();
        for other in others {
            self.network.way(id, other).cut |= out;
            self.network.way(other, id).cut |= inward;
        }
        self.mends.push(until);
    }

    /// Two nodes cannot reach each other; the third reaches both.
    fn part(&mut self, at: usize, until: u64) {
        self.seen.cuts += 1;
        let (one, other) = (self.machines[at].id, self.machines[(at + 1) % self.machines.len()].id);
        self.network.way(one, other).cut = true;
        self.network.way(other, one).cut = true;
        self.mends.push(until);
    }

    fn spoil_links(&mut self, until: u64) {
        self.seen.lossy += 1;
        let ids: Vec<NodeId> = self.machines.iter().map(|m| m.id).collect();
        for from in &ids {
            for to in ids.iter().filter(|to| *to != from) {
                let (loss, delay) = (self.rng.random_range(0..30), self.rng.random_range(0..120));
                let way = self.network.way(*from, *to);
                (way.loss, way.delay) = (loss, delay);
            }
        }
        self.mends.push(until);
    }

    fn mend_links(&mut self) {
        let before = self.mends.len();
        self.mends.retain(|until| *until > self.now);
        if self.mends.len() < before && self.mends.is_empty() {
            self.network.mend();
            self.machines.iter_mut().for_each(|machine| machine.slow_disk = false);
        }
    }

    fn fail_sync(&mut self, at: usize) {
        let queued = self.machines[at].store.queued();
        if self.machines[at].store.health() == StoreHealth::Online {
            self.seen.failed_syncs += 1;
            let kept = self.rng.random_range(0..=queued);
            self.machines[at].store.inject(Fault::FsyncFails { kept });
            self.machines[at].sync_fails = true;
        }
    }

    fn fail_quorum_disk(&mut self, at: usize, until: u64) {
        self.seen.quorum_disks += 1;
        let clock = self.clock.clone();
        let full = move || QuorumStorageError::DiskFull("no space left".into());
        let fault = move |_: &[_], _| if clock.load(Ordering::Relaxed) < until { Err(full()) } else { Ok(()) };
        self.machines[at].quorum_disk.set_fault(Some(Box::new(fault)));
        self.machines[at].starts = until;
    }

    /// A dead machine comes back without what was synced, if nothing committed goes with it: the records under their directory's id, or
    /// the whole disk, with the vote, under a new one.
    fn lose_disk(&mut self, at: usize, down_for: u64, whole: bool) {
        let id = self.machines[at].id;
        let spared = self.all_partitions(|p| p.isr.iter().chain(&p.elr).any(|other| *other != id));
        let others_have_theirs = self.machines.iter().all(|m| m.id == id || (!m.lost && m.replacing.is_none()));
        if !spared || !others_have_theirs || self.machines[at].replacing.is_some() || self.machines[at].lost {
            return;
        }
        self.crash(at, down_for);
        if whole {
            self.seen.wipes += 1;
            self.machines[at].directory += 1000;
        } else {
            self.seen.lost_logs += 1;
        }
        let store = self.empty_store(self.machines[at].directory);
        let machine = &mut self.machines[at];
        (machine.store, machine.lost) = (store, true);
        machine.gone = std::mem::take(&mut machine.left);
        if whole {
            machine.quorum_disk.wipe();
            machine.snapshots.wipe();
            machine.cluster = Arc::default();
            machine.replacing = Some(None);
        } else {
            machine.store.lose_log();
        }
    }

    fn heal(&mut self) {
        self.network.trace.note(|| format!("{} healed", self.now));
        self.network.mend();
        self.mends.clear();
        for machine in &mut self.machines {
            machine.quorum_disk.set_fault(None);
            (machine.slow_disk, machine.disk_hangs_until) = (false, 0);
            machine.starts = machine.starts.min(self.now + 10);
            machine.resumes = machine.resumes.map(|resumes| resumes.min(self.now));
        }
    }

    // ---- the operator ----

    fn operate(&mut self) {
        if self.topic.is_none() {
            self.create_topic();
        }
        for at in 0..self.machines.len() {
            let id = self.machines[at].id;
            let Some(asked) = &mut self.machines[at].replacing else { continue };
            match asked {
                Some(task) if task.is_finished() => {
                    let done = futures_util::FutureExt::now_or_never(task);
                    let taken_in = matches!(done, Some(Ok(Ok(_))));
                    self.machines[at].replacing = (!taken_in).then_some(None);
                }
                Some(_) => {}
                None => {
                    let joined = self.machines[at].process.as_ref().and_then(Process::quorum);
                    if self.now.is_multiple_of(200) && joined.is_some_and(|q| q.no_vote().is_some()) {
                        // Through the node itself: it knows who may be the controller.
                        let process = self.machines[at].process.as_ref().expect("it has a quorum");
                        let admin = process.admin.clone();
                        let task = process.spawn(async move { admin.replace_voter(id).await });
                        self.machines[at].replacing = Some(Some(task));
                    }
                }
            }
        }
    }

    fn create_topic(&mut self) {
        if let Some(image) = self.history.newest()
            && let Some(topic) = image.topics.by_name("topic")
        {
            self.topic = Some(topic.id);
            for partition in 0..PARTITIONS {
                self.partitions.insert(TopicIdPartition { topic_id: topic.id, partition }, Default::default());
            }
            return;
        }
        if self.creating.as_ref().is_some_and(|task| !task.is_finished()) {
            return;
        }
        let ready = self.history.newest().is_some_and(|i| i.cluster.brokers().filter(|b| b.is_active()).count() == 3);
        let active = self.machines.iter().filter_map(|m| m.process.as_ref());
        let active = active.filter_map(|p| Some((p, p.quorum().filter(|q| q.is_active())?.clone()))).next();
        if let (true, Some((process, quorum))) = (ready, active) {
            let topic = NewTopic {
                name: "topic".into(),
                partitions: PARTITIONS,
                replication_factor: 3,
                assignments: BTreeMap::new(),
                configs: BTreeMap::new(),
            };
            let request = CreateTopicsRequest { topics: vec![topic], validate_only: false };
            let request = ControllerRequest::CreateTopics(request);
            self.creating = Some(process.spawn(async move { drop(quorum.submit(request).await) }));
        }
    }

    // ---- clients ----

    fn produce(&mut self, at: usize) -> Result<(), Violation> {
        let Some(topic_id) = self.topic else { return Ok(()) };
        let producer = &mut self.producers[at];
        let id = TopicIdPartition { topic_id, partition: producer.partition };
        match &mut producer.state {
            ProducerState::Idle { not_before } if *not_before > self.now => Ok(()),
            ProducerState::Idle { .. } => self.send(at, id),
            ProducerState::Waiting { at: node, life, offset, wait, until } => {
                let (node, life, offset, until) = (*node, *life, *offset, *until);
                let same = self
                    .machines
                    .iter()
                    .any(|m| m.id == node && m.process.as_ref().is_some_and(|p| life_of(p) == life));
                let result = if same { wait.try_result() } else { None };
                match result {
                    Some(Ok(())) => self.acknowledged(at, id, offset),
                    None if same && self.now < until => Ok(()),
                    // An error after the append, a broken connection, a time-out: it may be there, or come to be.
                    _ => {
                        self.seen.unknown += 1;
                        let pause = self.rng.random_range(0..50);
                        self.producers[at].state = ProducerState::Idle { not_before: self.now + pause };
                        Ok(())
                    }
                }
            }
        }
    }

    /// To whom its newest metadata names, or to anybody, who may be wrong.
    fn send(&mut self, at: usize, id: TopicIdPartition) -> Result<(), Violation> {
        let leader = self.history.newest().and_then(|image| image.partition(id).map(|p| p.leader));
        let anybody = NodeId(self.rng.random_range(1..=NODES));
        let to = if self.chance(60) { leader.unwrap_or(anybody) } else { anybody };
        let (pause, patience) = (self.rng.random_range(1..40), self.rng.random_range(300..3000));
        let producer = &mut self.producers[at];
        producer.state = ProducerState::Idle { not_before: self.now + pause };
        let Some(machine) = self.machines.iter().find(|m| m.id == to && m.stopped.is_none()) else { return Ok(()) };
        let Some(process) = &machine.process else { return Ok(()) };
        let Some(partition) = process.replicas.get().and_then(|replicas| replicas.partition(id)) else { return Ok(()) };
        let records = batch(producer.id, producer.sequence, producer.value);
        let how = AppendRequest {
            acks: RequiredAcks::All,
            timestamp_type: TimestampType::CreateTime,
            origin: AppendOrigin::Client,
            leader_epoch: LeaderEpoch::NONE,
        };
        let Ok(outcome) = process.within(|| partition.append_as_leader(records, how)) else { return Ok(()) };
        let AckWait::Committed(wait) = outcome.wait else { unreachable!("acks=all waits for the high watermark") };
        let (life, offset) = (life_of(process), outcome.info.last_offset);
        producer.state = ProducerState::Waiting { at: to, life, offset, wait, until: self.now + patience };
        let epoch = process.identity.current().broker_epoch;
        // A fence, the lease, and a second for an election of the controller.
        let lease = SESSION + Duration::from_secs(1);
        self.fenced.took_a_record(to, epoch, Duration::from_millis(self.now), lease)
    }

    fn acknowledged(&mut self, at: usize, id: TopicIdPartition, offset: i64) -> Result<(), Violation> {
        self.seen.acks += 1;
        let value = self.producers[at].value;
        let holds = |records: &[Record]| records.iter().any(|(o, _, v)| (*o, *v) == (offset, value));
        let held = |m: &Machine| holds(&self.on_disk(m, id, offset)) || m.gone.get(&id).is_some_and(|r| holds(r));
        let copies = self.machines.iter().filter(|m| held(m)).count();
        self.network.trace.note(|| format!("{} ack {value} at {offset} of {}", self.now, id.partition));
        let pause = self.rng.random_range(0..60);
        let producer = &mut self.producers[at];
        producer.state = ProducerState::Idle { not_before: self.now + pause };
        producer.sequence += 1;
        producer.value = self.next_value;
        self.next_value += 1;
        self.partitions.get_mut(&id).expect("it was created").acked.acknowledged(value, offset, copies, MIN_INSYNC)
    }

    // ---- who looks on ----

    fn replicas_of<'a>(&self, machine: &'a Machine) -> impl Iterator<Item = Arc<Partition>> + use<'a> {
        let topic_id = self.topic;
        let replicas = machine.process.as_ref().and_then(|process| process.replicas.get());
        let of_topic = (0..PARTITIONS)
            .filter_map(move |partition| replicas?.partition(TopicIdPartition { topic_id: topic_id?, partition }));
        of_topic.collect::<Vec<_>>().into_iter()
    }

    /// What this machine's disk holds of a partition, from `from` on.
    fn on_disk(&self, machine: &Machine, id: TopicIdPartition, from: i64) -> Vec<Record> {
        if machine.process.is_none() || machine.store.health() != StoreHealth::Online {
            return machine.left.get(&id).cloned().unwrap_or_default();
        }
        let opened = machine.process.as_ref().and_then(|p| p.replicas.get()).and_then(|r| r.partition(id));
        match opened {
            Some(partition) if is_open(&partition, machine) => {
                let log = partition.log();
                read(&log, from, log.offsets().synced_end)
            }
            // Not open yet, or no more: as a start would find it.
            _ => durable(&machine.store).remove(&id).unwrap_or_default(),
        }
    }

    fn look(&mut self) -> Result<(), Violation> {
        let mut images: Vec<(NodeId, Arc<MetadataImage>)> = Vec::new();
        for machine in &self.machines {
            let Some(process) = &machine.process else { continue };
            let image = process.metadata.image();
            if let Some(cluster) = image.cluster.cluster_id() {
                self.cluster.belongs(machine.id, cluster)?;
            }
            if image.offset.0 >= 0 {
                images.push((machine.id, image));
            }
            if let Some(quorum) = process.quorum().filter(|q| q.is_active()) {
                let term = quorum.leadership().borrow().term;
                if self.controllers.insert((term, machine.id)) {
                    self.seen.controllers += 1;
                    self.network.trace.note(|| format!("{} controller {} term {term}", self.now, machine.id));
                }
            }
        }
        let before = self.history.newest().map(|image| image.offset);
        for (id, image) in &images {
            self.history.applied(*id, image)?;
        }
        if let Some(image) = self.history.newest().filter(|image| Some(image.offset) != before).cloned() {
            self.take_in(&image);
        }
        self.look_at_replicas()?;
        let state = (
            self.history.newest().map_or(-1, |image| image.offset.0),
            self.partitions.values().map(|p| p.committed.all().len()).sum(),
        );
        if state != self.checked && self.now.is_multiple_of(10) {
            self.checked = state;
            self.look_at_candidates()?;
        }
        if self.now.is_multiple_of(500) {
            for id in self.partitions.keys() {
                logs_match(&self.logs(*id))?;
            }
        }
        Ok(())
    }

    fn take_in(&mut self, image: &Arc<MetadataImage>) {
        for broker in image.cluster.brokers() {
            let now = Duration::from_millis(self.now);
            self.fenced.broker(broker.id(), broker.epoch(), broker.fenced, now);
            self.seen.fences += u64::from(broker.fenced);
            let machine = self.machines.iter_mut().find(|m| m.id == broker.id()).expect("one of ours");
            // Its loss is in the log with its registration.
            let registered =
                machine.process.as_ref().is_some_and(|p| p.identity.current().incarnation == broker.record.incarnation);
            machine.lost &= !registered;
        }
        self.network.trace.note(|| format!("{} metadata {}", self.now, image.offset));
    }

    fn look_at_replicas(&mut self) -> Result<(), Violation> {
        for at in 0..self.machines.len() {
            let id = self.machines[at].id;
            for partition in self.replicas_of(&self.machines[at]).collect::<Vec<_>>() {
                let (Role::Leader, epoch) = partition.role() else { continue };
                let invariants = self.partitions.get_mut(&partition.id()).expect("it was created");
                invariants.single_leader.leads(id, epoch)?;
                let high_watermark = partition.high_watermark();
                invariants.high_watermarks.at(id, epoch, high_watermark)?;
                let from = invariants.committed.all().last_key_value().map_or(0, |(last, _)| (*last - 8).max(0));
                if from < high_watermark && self.machines[at].store.health() == StoreHealth::Online {
                    invariants.committed.visible(id, &read(&partition.log(), from, high_watermark))?;
                }
            }
        }
        Ok(())
    }

    fn look_at_candidates(&self) -> Result<(), Violation> {
        let Some(image) = self.history.newest() else { return Ok(()) };
        for (id, invariants) in &self.partitions {
            let Some(registration) = image.partition(*id) else { continue };
            for member in registration.isr.iter().chain(&registration.elr) {
                let machine = self.machines.iter().find(|m| m.id == *member).expect("one of ours");
                if !machine.lost {
                    candidate(invariants, *member, "in ISR or ELR", &self.on_disk(machine, *id, 0))?;
                }
            }
        }
        Ok(())
    }

    fn logs(&self, id: TopicIdPartition) -> Vec<(NodeId, Vec<Record>)> {
        let all = self.machines.iter().filter_map(|machine| {
            let partition = self.replicas_of(machine).find(|p| p.id() == id)?;
            let usable = machine.store.health() == StoreHealth::Online && is_open(&partition, machine);
            let log = partition.log();
            usable.then(|| (machine.id, read(&log, 0, log.offsets().log_end)))
        });
        all.collect()
    }

    fn all_partitions(&self, holds: impl Fn(&rookery_raft::image::PartitionRegistration) -> bool) -> bool {
        let Some(image) = self.history.newest() else { return false };
        let mut partitions = image.topics.partitions().peekable();
        partitions.peek().is_some() && partitions.all(|(_, partition)| holds(partition))
    }

    fn is_whole(&self) -> bool {
        let voters = self.machines.iter().all(|m| m.replacing.is_none() && m.process.is_some() && !m.lost);
        let images: Vec<_> = self.machines.iter().filter_map(|m| Some(m.process.as_ref()?.metadata.image())).collect();
        let same = images.windows(2).all(|pair| pair[0].offset == pair[1].offset);
        let in_sync = self.all_partitions(|p| p.isr.len() == NODES as usize && p.has_leader());
        let idle = self.producers.iter().all(|p| matches!(p.state, ProducerState::Idle { .. }));
        let ends = self.partitions.keys().all(|id| {
            let ends: Vec<i64> = self
                .machines
                .iter()
                .filter_map(|m| Some(self.replicas_of(m).find(|p| p.id() == *id)?.log().offsets().synced_end))
                .collect();
            ends.len() == NODES as usize && ends.iter().all(|end| *end == ends[0])
        });
        voters && same && in_sync && idle && ends
    }

    fn final_checks(&self) -> Result<(), Violation> {
        for (id, invariants) in &self.partitions {
            let logs = self.logs(*id);
            logs_match(&logs)?;
            for (node, log) in &logs {
                candidate(invariants, *node, "at the end", log)?;
                no_duplicate(log)?;
                if *log != logs[0].1 {
                    let what = format!("the logs of {node} and {} differ at the end", logs[0].0);
                    return Err(Violation::new("one_value", what));
                }
            }
        }
        Ok(())
    }
}

fn life_of(process: &Process) -> u64 {
    process.identity.current().incarnation.0.as_u64_pair().1
}

/// Whether the log belongs to the present open of the store.
fn is_open(partition: &Partition, machine: &Machine) -> bool {
    partition.log().generation() == machine.store.generation()
}

/// Everything on a disk, as a start finds it.
fn durable(store: &Arc<MemoryStore>) -> BTreeMap<TopicIdPartition, Vec<Record>> {
    if store.health() != StoreHealth::Online {
        return BTreeMap::new();
    }
    let store: Arc<dyn LogStore> = store.clone();
    let directory = LogDirectory::open(store, LogConfig::default(), 0).expect("opens");
    let logs = directory.logs().into_iter();
    logs.map(|log| (log.topic_id_partition(), read(&log, 0, log.offsets().synced_end))).collect()
}

#[test]
fn a_cluster_keeps_every_promise_under_faults() {
    let mut total = [0; 15];
    for seed in super::seeds(8, 100) {
        match run(seed, false).0 {
            Ok(seen) => total.iter_mut().zip(seen.counts()).for_each(|(all, one)| *all += one),
            Err(violation) => panic!("seed {seed}: {violation}"),
        }
    }
    assert!(std::env::var("ROOKERY_SIM_SEED").is_ok() || total.iter().all(|count| *count > 0), "{total:?}");
}

/// How one of three nodes stops answering.
#[derive(Clone, Copy, Debug)]
enum Silence {
    Stopped,
    CutOff,
    /// Its kernel tells.
    Killed,
}

/// Virtual milliseconds from a controller's falling silent until every partition has another leader that serves.
fn controller_gap(seed: u64, silence: Silence) -> u64 {
    inline::turn_on();
    seed_thread(Some(seed));
    let mut world = World::new(seed);
    world.climate = 0;
    let whole = |w: &World| w.topic.is_some() && w.all_partitions(|p| p.isr.len() == 3) && w.is_whole();
    world.until(20_000, "a whole cluster", whole).expect("no faults yet");
    let settle = world.now + world.rng.random_range(300..800);
    world.until(1000, "some time", |w| w.now >= settle).expect("time passes");
    let is_controller = |m: &Machine| m.process.as_ref().and_then(Process::quorum).is_some_and(|q| q.is_active());
    let at = world.machines.iter().position(is_controller).expect("a whole cluster has a controller");
    let (victim, since) = (world.machines[at].id, world.now);
    match silence {
        Silence::Stopped => world.pause(at, since + 20_000),
        Silence::CutOff => world.isolate(at, since + 20_000, (true, true)),
        Silence::Killed => world.crash(at, 20_000),
    }
    let served = |w: &World| {
        let serves = |id: &TopicIdPartition| {
            let others = w.machines.iter().filter(|m| m.id != victim);
            let mut replicas = others.flat_map(|m| w.replicas_of(m)).filter(|p| p.id() == *id);
            replicas.any(|p| p.role().0 == Role::Leader) && w.all_partitions(|p| !p.isr.contains(&victim))
        };
        w.partitions.keys().all(serves)
    };
    world.until(15_000, "leaders without the silent node", served).expect("two of three go on");
    let gap = world.now - since;
    world.machines.iter_mut().filter_map(|m| m.process.take()).for_each(Process::end);
    seed_thread(None);
    gap
}

#[test]
fn a_controller_that_falls_silent_is_replaced_and_fenced_within_a_second() {
    for silence in [Silence::Stopped, Silence::CutOff, Silence::Killed] {
        let mut gaps: Vec<u64> = super::seeds(12, 100).map(|seed| controller_gap(seed, silence)).collect();
        gaps.sort_unstable();
        let (median, worst) = (gaps[gaps.len() / 2], gaps[gaps.len() - 1]);
        println!("{silence:?}: {gaps:?}");
        let (typical, longest) = if matches!(silence, Silence::Killed) { (500, 600) } else { (700, 1000) };
        assert!(median <= typical && worst <= longest, "{silence:?}: {gaps:?}");
    }
}

#[test]
fn a_stale_and_a_wiped_voter_are_no_majority() {
    for seed in super::seeds(4, 200) {
        if let Err(violation) = run_without_majority(seed) {
            panic!("seed {seed}: {violation}");
        }
    }
}

#[test]
fn the_same_seed_gives_the_same_run() {
    let (first, second) = (run(3, true).1, run(3, true).1);
    if let Some(at) = first.iter().zip(&second).position(|(one, other)| one != other) {
        let from = at.saturating_sub(5);
        panic!("line {at}: {:#?}\n{:#?}", &first[from..=at], &second[from..=at]);
    }
    assert_eq!(first.len(), second.len());
    assert!(first.len() > 1000, "{}", first.len());
}
