//! Three machines, their disks, the faults that befall them, the clients, and who looks on.
//!
//! | file | what |
//! |---|---|
//! | `machine` | a process and the disks that outlive it |
//! | `faults` | what befalls them, chosen by the seed |
//! | `operator` | the topic and its configs, elections that are asked for, voters that have lost their vote |
//! | `clients` | producers |
//! | `schedules` | runs in which a certain thing happens |
//! | `watch` | the invariants |
//! | `tests` | the runs |

mod clients;
mod faults;
mod machine;
mod operator;
pub(super) mod schedules;
#[cfg(test)]
mod tests;
mod watch;

use super::invariants::{FencedLeader, OneCluster, OneHistory, PartitionInvariants, Violation, stuck};
use super::network::{End, Network};
use super::process::{Process, Start};
use crate::broker::Metadata;
use crate::replica::purgatory::DelayedProduce;
use crate::storage::{MemoryStore, inline};
use faults::Fault;
use machine::{Machine, Rot, durable};
use operator::Wishes;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use rookery_raft::ids::{ClusterId, DirectoryId, LeaderEpoch, NodeId, TopicId, TopicIdPartition};
use rookery_raft::quorum::seeded_runtime::seed_thread;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
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

struct Producer {
    id: i64,
    partition: i32,
    sequence: i32,
    value: u64,
    /// How often it was answered.
    acks: u64,
    state: ProducerState,
}

enum ProducerState {
    Idle { not_before: u64 },
    Waiting { at: NodeId, life: u64, epoch: LeaderEpoch, offset: i64, wait: DelayedProduce, until: u64 },
}

/// What happened in a run, and how often: one without faults, or without progress under them, shows nothing.
#[derive(Debug, Default, Clone)]
pub(super) struct Seen(BTreeMap<&'static str, u64>);

impl Seen {
    fn add(&mut self, what: &'static str) {
        self.add_some(what, 1);
    }

    fn add_some(&mut self, what: &'static str, count: u64) {
        *self.0.entry(what).or_default() += count;
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
    climate: Vec<Fault>,
    /// When whose process leaves in order.
    rolling: Vec<(u64, usize)>,
    rotten: Vec<Rot>,
    wishes: Wishes,
    /// The next event to be looked at.
    events: u64,
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
            climate: Vec::new(),
            rolling: Vec::new(),
            rotten: Vec::new(),
            wishes: Wishes::default(),
            events: 0,
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
        world.choose_climate(seed);
        for id in (1..=NODES).map(NodeId) {
            let directory = 1000 + id.0.unsigned_abs() as u128;
            let store = world.empty_store(directory);
            let starts = world.rng.random_range(0..300);
            world.machines.push(Machine::new(id, directory, store, starts));
        }
        for at in 0..PRODUCERS {
            let (id, partition) = (at as i64, at as i32 % PARTITIONS);
            let state = ProducerState::Idle { not_before: 0 };
            let value = at as u64;
            world.producers.push(Producer { id, partition, sequence: 0, value, acks: 0, state });
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
        // What it had in flight, and something new.
        let target: Vec<u64> = self.producers.iter().map(|producer| producer.acks + 2).collect();
        self.until(HEALED_WITHIN, "everything whole again", |world| {
            world.producers.iter().zip(&target).all(|(p, target)| p.acks >= *target) && world.is_whole()
        })?;
        self.final_checks()?;
        let terms: usize = self.partitions.values().map(|p| p.single_leader.terms() - 1).sum();
        self.seen.add_some("elections", terms as u64);
        Ok(self.seen.clone())
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
        out.push_str(&format!("{producers:?} {:?} {:?}", self.rotten, self.climate));
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
        self.make_room();
        self.look_at_rot();
        self.leave_in_turn();
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
        let reached = self.network.reached(self.now);
        let reached = self.machines.iter_mut().filter(|machine| reached.contains(&machine.id));
        reached.filter_map(Machine::running).for_each(|process| process.reach(self.now - 1));
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
                if let (Some(_), Some(process)) = (machine.stopped.take(), &mut machine.process) {
                    process.wake_up(self.now);
                    machine.running_since = self.now;
                }
            }
            if self.machines[at].running().is_some_and(|process| process.has_left()) {
                self.depart(at);
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
            now: self.now,
            seed,
            gossip: self.gossip,
            room: machine.room.clone(),
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
        let commits = commits && !(self.machines[at].running().is_some() && self.forget(at));
        let machine = &mut self.machines[at];
        let Some(process) = machine.process.as_mut().filter(|_| machine.stopped.is_none()) else { return Ok(()) };
        if commits {
            if std::mem::take(&mut machine.sync_fails) {
                machine.left = durable(&machine.store);
            }
            process.reach(self.now - 1);
            let store = &machine.store;
            process.within(|| store.commit());
        }
        process.tick(self.now);
        if let Some(why) = process.failure().filter(|_| process.is_at(self.now)) {
            self.network.trace.note(|| format!("{} {} ends: {why}", self.now, machine.id));
            if why.contains("panicked") {
                return Err(stuck(format!("{}: {why}", machine.id)));
            }
            self.crash(at, 500);
        }
        Ok(())
    }
}

fn life_of(process: &Process) -> u64 {
    process.identity.current().incarnation.0.as_u64_pair().1
}
