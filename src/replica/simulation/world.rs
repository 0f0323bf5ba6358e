//! The cluster under simulation: what can happen next, chosen by the seed.

use super::controller::{Controller, MIN_INSYNC, directory};
use crate::replica::AppendOutcome;
use crate::replica::error::ReplicaError;
use crate::replica::fetcher::{FetchEvent, Fetcher, FetcherConfig};
use crate::replica::leader::IsrProposal;
use crate::replica::message::{ReplicaFetchRequest, ReplicaFetchResponse, ReplicaProgress};
use crate::replica::partition::{Applied, Clock, Partition, PartitionEvents, ReplicaConfig, ReplicaContext, Role};
use crate::replica::partition_leader::{AckWait, AppendRequest, RequiredAcks};
use crate::replica::purgatory::DelayedProduce;
use crate::replica::replica_service::{Collected, ReplicaService, Replicas, SessionSlot};
use crate::simulation::batches::{batch, read};
use crate::simulation::invariants::{
    PartitionInvariants, Record, Violation, candidate, fenced_isr, logs_match, no_duplicate, no_gap, stuck, unfenced,
};
use crate::storage::memory_store::Fault;
use crate::storage::{
    AppendOrigin, LogClass, LogConfig, LogDirectory, LogStore, MemoryStore, StorageError, TimestampType,
};
use bytes::Bytes;
use parking_lot::Mutex;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use rookery_raft::ids::{BrokerEpoch, ClusterId, DirectoryId, LeaderEpoch, NodeId, TopicId, TopicIdPartition};
use rookery_raft::record::DirectoryState;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use uuid::Uuid;

pub(super) const PARTITION: TopicIdPartition = TopicIdPartition { topic_id: TopicId(Uuid::from_u128(7)), partition: 0 };
const PRODUCERS: usize = 3;
/// Batches that a producer sends before it has an answer to the first.
const IN_FLIGHT: usize = 4;

struct SimClock(AtomicU64);

impl Clock for SimClock {
    fn now(&self) -> Duration {
        Duration::from_millis(self.0.load(Ordering::Relaxed))
    }
    fn wall_ms(&self) -> i64 {
        self.0.load(Ordering::Relaxed) as i64
    }
}

enum Event {
    LogEnd,
    HighWatermark,
    Synced(LeaderEpoch, i64),
    Proposal(IsrProposal),
    StoreFailed,
}

#[derive(Default)]
struct Events(Mutex<Vec<Event>>);

impl PartitionEvents for Events {
    fn log_end_moved(&self, _: TopicIdPartition) {
        self.0.lock().push(Event::LogEnd);
    }
    fn high_watermark_moved(&self, _: TopicIdPartition) {
        self.0.lock().push(Event::HighWatermark);
    }
    fn follower_synced(&self, _: TopicIdPartition, epoch: LeaderEpoch, synced: i64) {
        self.0.lock().push(Event::Synced(epoch, synced));
    }
    fn isr_proposed(&self, _: TopicIdPartition, proposal: IsrProposal) {
        self.0.lock().push(Event::Proposal(proposal));
    }
    fn store_failed(&self, _: TopicIdPartition, _: &StorageError) {
        self.0.lock().push(Event::StoreFailed);
    }
}

struct OneReplica(Arc<Partition>);

impl Replicas for OneReplica {
    fn replica(&self, id: TopicIdPartition) -> Option<Arc<Partition>> {
        (id == PARTITION).then(|| Arc::clone(&self.0))
    }
}

struct Parked {
    from: NodeId,
    request: u64,
    slot: Arc<SessionSlot>,
}

/// What a broker has to tell of its store.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Untold {
    Offline,
    Reopened,
}

struct Node {
    id: NodeId,
    up: bool,
    /// The store under a running broker has failed and waits to be reopened.
    failed: bool,
    /// What the controller has not been told of it.
    untold: Option<Untold>,
    /// Which of its disks it has.
    disk_number: u32,
    /// Its last try to change the ISR.
    submission: u64,
    broker_epoch: BrokerEpoch,
    store: Arc<MemoryStore>,
    partition: Arc<Partition>,
    context: Arc<ReplicaContext>,
    service: ReplicaService,
    events: Arc<Events>,
    fetchers: BTreeMap<NodeId, Fetcher>,
    in_flight: BTreeMap<NodeId, u64>,
    /// Answers that their fetch task has taken, and not brought to the log yet: it does nothing else meanwhile.
    taken: BTreeMap<NodeId, Vec<FetchEvent>>,
    /// What streams that have ended left on their blocking threads: it comes to the log beside all that follows.
    left_behind: Vec<FetchEvent>,
    parked: Vec<Parked>,
    applied: usize,
    /// What is on its disk, kept while nothing can change there.
    disk: Option<(i64, Vec<Record>)>,
    /// What went with its last disk: it was there when the broker said so.
    gone: Vec<Record>,
}

enum Packet {
    Fetch {
        from: NodeId,
        to: NodeId,
        request: u64,
        bytes: Bytes,
    },
    Answer {
        from: NodeId,
        to: NodeId,
        request: u64,
        bytes: Bytes,
    },
    Progress {
        from: NodeId,
        to: NodeId,
        bytes: Bytes,
    },
    Alter {
        from: NodeId,
        epoch: BrokerEpoch,
        submission: u64,
        proposal: IsrProposal,
    },
    Refused {
        to: NodeId,
        epoch: BrokerEpoch,
        submission: u64,
        proposal: IsrProposal,
    },
    /// What an earlier life had to tell of its store.
    Directory {
        from: NodeId,
        epoch: BrokerEpoch,
        directory: DirectoryId,
        online: bool,
    },
}

/// An idempotent client with several batches in flight on one connection. What failed is sent again in order, before anything new, once
/// no answer is waited for.
struct Producer {
    id: i64,
    next_sequence: i32,
    /// Not acknowledged, in order.
    window: Vec<InFlight>,
    /// Where the connection leads.
    to: usize,
    /// Batches of the window that are on the wire and will arrive there, whatever becomes of those before.
    on_the_wire: usize,
    /// The newest leader epoch that took something: a client does not go back to an earlier one (KIP-320).
    leader_epoch: LeaderEpoch,
    /// The last value that was acknowledged.
    acked: Option<u64>,
}

struct InFlight {
    sequence: i32,
    value: u64,
    state: Flight,
}

enum Flight {
    Unsent,
    Waiting(i64, DelayedProduce),
    Failed,
}

impl Producer {
    fn new(id: i64) -> Self {
        Self {
            id,
            next_sequence: 0,
            window: Vec::new(),
            to: 0,
            on_the_wire: 0,
            leader_epoch: LeaderEpoch::NONE,
            acked: None,
        }
    }

    fn is_waiting(&self) -> bool {
        self.window.iter().any(|batch| matches!(batch.state, Flight::Waiting(..)))
    }

    /// The connection broke, or was given up: what became of the batches is not known.
    fn disconnect(&mut self) {
        self.on_the_wire = 0;
        self.window.iter_mut().for_each(|batch| batch.state = Flight::Failed);
    }
}

/// What happened in a run: a schedule without faults shows nothing.
#[derive(Debug, Default, Clone)]
pub struct Seen {
    acks: u64,
    refused: u64,
    duplicates: u64,
    crashes: u64,
    store_failures: u64,
    elections: u64,
    isr_changes: u64,
    truncations: u64,
    lost_packets: u64,
    lost_disks: u64,
}

impl Seen {
    pub fn add(&mut self, other: &Seen) {
        self.acks += other.acks;
        self.refused += other.refused;
        self.duplicates += other.duplicates;
        self.crashes += other.crashes;
        self.store_failures += other.store_failures;
        self.elections += other.elections;
        self.isr_changes += other.isr_changes;
        self.truncations += other.truncations;
        self.lost_packets += other.lost_packets;
        self.lost_disks += other.lost_disks;
    }

    pub fn saw_everything(&self) -> bool {
        let counts = [
            self.acks,
            self.refused,
            self.duplicates,
            self.crashes,
            self.store_failures,
            self.elections,
            self.isr_changes,
            self.truncations,
            self.lost_packets,
            self.lost_disks,
        ];
        counts.iter().all(|count| *count > 0)
    }
}

pub struct World {
    rng: StdRng,
    /// For what changes nothing where all is well: it leaves the schedule of a seed as it is.
    aside: StdRng,
    clock: Arc<SimClock>,
    nodes: Vec<Node>,
    controller: Controller,
    network: Vec<Packet>,
    late: Vec<Packet>,
    producers: Vec<Producer>,
    next_value: u64,
    next_request: u64,
    invariants: PartitionInvariants,
    violation: Option<Violation>,
    seen: Seen,
    checked: (usize, usize),
    steps: u64,
    healing: bool,
}

fn open(
    id: NodeId,
    store: &Arc<MemoryStore>,
    broker_epoch: BrokerEpoch,
    clock: &Arc<SimClock>,
) -> (Arc<Partition>, Arc<ReplicaContext>, Arc<Events>, ReplicaService) {
    let directory = LogDirectory::open(Arc::clone(store) as Arc<dyn LogStore>, LogConfig::default(), 0).expect("opens");
    let log = directory.get_or_create(PARTITION, LogClass::of(false, -1, -1)).expect("a log");
    let events = Arc::new(Events::default());
    let config = ReplicaConfig {
        lag_max: Duration::from_millis(400),
        lease: Duration::from_secs(3600),
        ..ReplicaConfig::default()
    };
    let clock = Arc::clone(clock) as Arc<dyn Clock>;
    let context = Arc::new(ReplicaContext::new((id, broker_epoch), config, clock, Arc::clone(&events) as Arc<_>));
    let partition = Partition::new(log, Arc::clone(&context));
    let replicas = Arc::new(OneReplica(Arc::clone(&partition)));
    let limits = (Duration::from_millis(500), 1 << 20);
    let service = ReplicaService::new(ClusterId::NONE, Arc::clone(&context), replicas, broker_epoch.0 as u64, limits);
    (partition, context, events, service)
}

/// One broker's replica by itself.
pub(super) struct Lone {
    pub store: Arc<MemoryStore>,
    pub partition: Arc<Partition>,
    pub service: ReplicaService,
    context: Arc<ReplicaContext>,
    clock: Arc<SimClock>,
}

impl Lone {
    pub fn new(id: NodeId) -> Self {
        let clock = Arc::new(SimClock(AtomicU64::new(1000)));
        let store_clock = Arc::clone(&clock);
        let store = MemoryStore::new(DirectoryId::NONE, ClusterId::NONE, Arc::new(move || store_clock.now()));
        let (partition, context, _, service) = open(id, &store, BrokerEpoch(i64::from(id.0)), &clock);
        store.commit();
        Self { store, partition, service, context, clock }
    }

    /// Milliseconds pass; the time then.
    pub fn pass(&self, millis: u64) -> Duration {
        self.clock.0.fetch_add(millis, Ordering::Relaxed);
        self.clock.now()
    }

    /// The controller has answered the heartbeat that was sent then.
    pub fn confirm(&self, sent: Duration) {
        self.context.heartbeat_answered(sent);
    }

    /// A client's batch comes, acks=all.
    pub fn try_append(&self, records: Bytes) -> Result<AppendOutcome, ReplicaError> {
        self.partition.append_as_leader(records, by_client())
    }

    /// Appends a client's batch, acks=all; returns its last offset.
    pub fn append(&self, records: Bytes) -> i64 {
        self.confirm(self.clock.now());
        self.try_append(records).expect("it leads").info.last_offset
    }
}

fn by_client() -> AppendRequest {
    AppendRequest {
        acks: RequiredAcks::All,
        timestamp_type: TimestampType::CreateTime,
        origin: AppendOrigin::Client,
        leader_epoch: LeaderEpoch::NONE,
    }
}

impl World {
    pub fn new(seed: u64) -> Self {
        let clock = Arc::new(SimClock(AtomicU64::new(1000)));
        let ids = [1, 2, 3].map(NodeId);
        let nodes = ids.map(|id| {
            let store_clock = Arc::clone(&clock);
            let store = MemoryStore::new(DirectoryId::NONE, ClusterId::NONE, Arc::new(move || store_clock.now()));
            let broker_epoch = BrokerEpoch(i64::from(id.0));
            let (partition, context, events, service) = open(id, &store, broker_epoch, &clock);
            store.commit();
            Node {
                id,
                up: true,
                failed: false,
                untold: None,
                disk_number: 0,
                submission: 0,
                broker_epoch,
                store,
                partition,
                context,
                service,
                events,
                fetchers: BTreeMap::new(),
                in_flight: BTreeMap::new(),
                taken: BTreeMap::new(),
                left_behind: Vec::new(),
                parked: Vec::new(),
                applied: 0,
                disk: None,
                gone: Vec::new(),
            }
        });
        let producers = (0..PRODUCERS).map(|at| Producer::new(at as i64));
        let mut world = Self {
            rng: StdRng::seed_from_u64(seed),
            aside: StdRng::seed_from_u64(!seed),
            clock,
            nodes: nodes.into(),
            controller: Controller::new(&ids),
            network: Vec::new(),
            late: Vec::new(),
            producers: producers.collect(),
            next_value: 0,
            next_request: 0,
            invariants: PartitionInvariants::default(),
            violation: None,
            seen: Seen::default(),
            checked: (0, 0),
            steps: 0,
            healing: false,
        };
        for at in 0..3 {
            world.apply(at, 1);
        }
        world
    }

    pub fn seen(&self) -> Seen {
        self.seen.clone()
    }

    fn chance(&mut self, percent: u32) -> bool {
        self.rng.random_range(0..100) < percent
    }

    fn index(id: NodeId) -> usize {
        id.0 as usize - 1
    }

    /// One thing happens.
    pub fn step(&mut self) {
        self.steps += 1;
        let ms = self.rng.random_range(0..5);
        self.clock.0.fetch_add(ms, Ordering::Relaxed);
        self.controller.at(self.clock.now());
        let at = self.rng.random_range(0..3);
        match self.rng.random_range(0..1000) {
            0..150 => self.produce(),
            150..160 => self.give_up_waiting(),
            160..310 => self.commit(at),
            310..590 => self.deliver(),
            590..602 => self.lose_packet(),
            602..610 => self.deliver_late(),
            610..760 => self.tick(at),
            760..770 => self.bring_taken(at),
            770..830 => self.answer_parked(at, false),
            830..845 => self.answer_parked(at, true),
            845..900 => self.apply_some(at),
            900..955 => self.heartbeat(at),
            955..962 => self.check_lag(at),
            962..967 => self.fence(at),
            967..970 => self.crash(at),
            970..990 => self.restart(at),
            990..997 => self.fail_store(at),
            _ => self.time_out_fetch(at),
        }
        self.do_what_was_left_behind();
        self.settle();
    }

    fn produce(&mut self) {
        let at = self.rng.random_range(0..PRODUCERS);
        if self.producers[at].on_the_wire == 0 {
            if self.producers[at].is_waiting() {
                return;
            }
            self.fill_the_wire(at);
        }
        self.arrive(at);
    }

    /// A client sends what failed, and news if there is room, without waiting for answers.
    fn fill_the_wire(&mut self, at: usize) {
        let (to, count) = (self.rng.random_range(0..3), self.rng.random_range(1..=IN_FLIGHT));
        let producer = &mut self.producers[at];
        // As clients do: nothing so new that the broker could have forgotten the oldest (it knows the last five).
        let newest = producer.window.first().map_or(producer.next_sequence, |oldest| oldest.sequence) + 4;
        while producer.window.len() < count && producer.next_sequence <= newest {
            let (sequence, value) = (producer.next_sequence, self.next_value);
            producer.window.push(InFlight { sequence, value, state: Flight::Unsent });
            producer.next_sequence += 1;
            self.next_value += 1;
        }
        producer.window.iter_mut().for_each(|batch| batch.state = Flight::Unsent);
        (producer.to, producer.on_the_wire) = (to, count.min(producer.window.len()));
    }

    /// The first batch on the wire reaches the broker.
    fn arrive(&mut self, at: usize) {
        let producer = &mut self.producers[at];
        let node = &self.nodes[producer.to];
        let (_, leader_epoch) = node.partition.role();
        if !node.up || leader_epoch < producer.leader_epoch {
            return producer.disconnect();
        }
        producer.on_the_wire -= 1;
        let next = producer.window.iter_mut().find(|batch| matches!(batch.state, Flight::Unsent));
        let arrived = next.expect("what is on the wire has not been sent before");
        node.context.heartbeat_answered(node.context.clock.now());
        let records = batch(producer.id, arrived.sequence, arrived.value);
        match node.partition.append_as_leader(records, by_client()) {
            Ok(outcome) => {
                self.seen.duplicates += u64::from(outcome.info.duplicate);
                let AckWait::Committed(wait) = outcome.wait else {
                    unreachable!("acks=all waits for the high watermark")
                };
                arrived.state = Flight::Waiting(outcome.info.last_offset, wait);
                producer.leader_epoch = leader_epoch;
            }
            Err(error) => {
                arrived.state = Flight::Failed;
                self.seen.refused += 1;
                if let Err(violation) = no_gap(producer.id, arrived.sequence, &error) {
                    self.violation.get_or_insert(violation);
                }
            }
        }
    }

    fn give_up_waiting(&mut self) {
        let at = self.rng.random_range(0..PRODUCERS);
        self.producers[at].disconnect();
    }

    fn commit(&mut self, at: usize) {
        let writes = self.rng.random_range(1..6);
        if self.nodes[at].up {
            self.nodes[at].store.commit_some(writes);
        }
    }

    fn lose_packet(&mut self) {
        if self.network.is_empty() {
            return;
        }
        let at = self.rng.random_range(0..self.network.len());
        self.seen.lost_packets += 1;
        let packet = self.network.swap_remove(at);
        // Not lost: held up in some queue until long after its sender has given up.
        let late = match &packet {
            Packet::Fetch { from, to, request, bytes } => {
                Some(Packet::Fetch { from: *from, to: *to, request: *request, bytes: bytes.clone() })
            }
            Packet::Alter { from, epoch, submission, proposal } => {
                let (from, epoch, submission, proposal) = (*from, *epoch, *submission, proposal.clone());
                Some(Packet::Alter { from, epoch, submission, proposal })
            }
            _ => None,
        };
        if self.chance(60) {
            self.late.extend(late);
        }
        match packet {
            Packet::Fetch { from, to, request, .. } => self.fetch_failed(from, to, request),
            Packet::Answer { from, to, request, .. } => self.fetch_failed(to, from, request),
            Packet::Progress { from, to, bytes } => self.progress_lost(from, to, bytes),
            // The leader asks again until it hears of a newer registration.
            Packet::Alter { .. } | Packet::Refused { .. } | Packet::Directory { .. } => {}
        }
    }

    fn deliver_late(&mut self) {
        if !self.late.is_empty() {
            let at = self.rng.random_range(0..self.late.len());
            let packet = self.late.swap_remove(at);
            self.network.push(packet);
        }
    }

    fn fetch_failed(&mut self, from: NodeId, source: NodeId, request: u64) {
        let now = self.clock.now();
        let node = &mut self.nodes[Self::index(from)];
        if node.up && node.in_flight.get(&source) == Some(&request) {
            node.in_flight.remove(&source);
            node.fetchers.get_mut(&source).expect("it sent a request").on_failure(now);
        }
    }

    fn progress_lost(&mut self, from: NodeId, source: NodeId, bytes: Bytes) {
        let progress = ReplicaProgress::decode(bytes).expect("our own bytes");
        let node = &mut self.nodes[Self::index(from)];
        if let Some(fetcher) = node.fetchers.get_mut(&source).filter(|_| progress.broker_epoch == node.broker_epoch) {
            fetcher.progress_lost(&progress);
        }
    }

    /// A fetch takes too long for its sender; the packet may still arrive.
    fn time_out_fetch(&mut self, at: usize) {
        let from = self.nodes[at].id;
        if let Some((source, request)) = self.nodes[at].in_flight.iter().next().map(|(s, r)| (*s, *r)) {
            self.fetch_failed(from, source, request);
        }
    }

    fn tick(&mut self, at: usize) {
        let now = self.clock.now();
        let node = &mut self.nodes[at];
        if !node.up {
            return;
        }
        for (source, fetcher) in node.fetchers.iter_mut().filter(|(source, _)| !node.taken.contains_key(source)) {
            if let Some(request) = fetcher.next_request(now) {
                self.next_request += 1;
                node.in_flight.insert(*source, self.next_request);
                let bytes = request.encode();
                self.network.push(Packet::Fetch { from: node.id, to: *source, request: self.next_request, bytes });
            }
            if let Some(progress) = fetcher.next_progress(now) {
                self.network.push(Packet::Progress { from: node.id, to: *source, bytes: progress.encode() });
            }
        }
        if let Some(proposal) = node.partition.pending_proposal() {
            self.submit(at, proposal);
        }
    }

    fn submit(&mut self, at: usize, proposal: IsrProposal) {
        let (from, epoch) = (self.nodes[at].id, self.nodes[at].broker_epoch);
        // The channel's promise: a later submission leaves no earlier one behind.
        // What an earlier life has sent it has no power over.
        let earlier =
            |packet: &Packet| matches!(packet, Packet::Alter { from: f, epoch: e, .. } if (*f, *e) == (from, epoch));
        self.network.retain(|packet| !earlier(packet));
        self.late.retain(|packet| !earlier(packet));
        self.next_request += 1;
        self.nodes[at].submission = self.next_request;
        self.network.push(Packet::Alter { from, epoch, submission: self.next_request, proposal });
    }

    fn deliver(&mut self) {
        if self.network.is_empty() {
            return;
        }
        let at = self.rng.random_range(0..self.network.len());
        match self.network.swap_remove(at) {
            Packet::Fetch { from, to, request, bytes } => self.deliver_fetch(from, to, request, bytes),
            Packet::Answer { from, to, request, bytes } => self.deliver_answer(from, to, request, bytes),
            Packet::Progress { from, to, bytes } => {
                let progress = ReplicaProgress::decode(bytes.clone()).expect("our own bytes");
                let node = &self.nodes[Self::index(to)];
                if !node.up || node.service.progress(&progress).is_err() {
                    self.progress_lost(from, to, bytes);
                } else {
                    self.answer_parked(Self::index(to), false);
                }
            }
            Packet::Alter { from, epoch, submission, proposal } => {
                match self.controller.alter_partition(from, epoch, &proposal) {
                    Ok(()) => self.seen.isr_changes += 1,
                    Err(true) => self.network.push(Packet::Refused { to: from, epoch, submission, proposal }),
                    Err(false) => {}
                }
            }
            Packet::Directory { from, epoch, directory, online } => {
                self.controller.update_directory(from, epoch, directory, online);
            }
            Packet::Refused { to, epoch, submission, proposal } => {
                let node = &self.nodes[Self::index(to)];
                // An answer belongs to the last submission, or it is not listened to.
                if node.up && node.broker_epoch == epoch && node.submission == submission {
                    node.partition.proposal_refused(proposal.leader_epoch, proposal.partition_epoch);
                }
            }
        }
    }

    fn deliver_fetch(&mut self, from: NodeId, to: NodeId, request: u64, bytes: Bytes) {
        let asked = ReplicaFetchRequest::decode(bytes).expect("our own bytes");
        let node = &mut self.nodes[Self::index(to)];
        if !node.up {
            return self.fetch_failed(from, to, request);
        }
        match node.service.begin(&asked) {
            Err(error) => self.send_answer(to, from, request, &ReplicaFetchResponse::refused(&error)),
            Ok(slot) => {
                let (replaced, kept) = std::mem::take(&mut node.parked).into_iter().partition(|p| p.from == from);
                node.parked = kept;
                node.parked.push(Parked { from, request, slot });
                let lost = ReplicaFetchResponse::refused(&ReplicaError::FetchSessionNotFound);
                let replaced: Vec<Parked> = replaced;
                for parked in replaced {
                    self.send_answer(to, from, parked.request, &lost);
                }
                self.answer_parked(Self::index(to), false);
            }
        }
    }

    fn answer_parked(&mut self, at: usize, force: bool) {
        let to = self.nodes[at].id;
        for parked in std::mem::take(&mut self.nodes[at].parked) {
            match self.nodes[at].service.collect(&parked.slot, 300, true, force) {
                Collected::Answer(partitions) => {
                    let session_id = parked.slot.session_id();
                    let answer = ReplicaFetchResponse { error: 0, session_id, partitions };
                    self.send_answer(to, parked.from, parked.request, &answer);
                }
                _ => self.nodes[at].parked.push(parked),
            }
        }
    }

    fn send_answer(&mut self, from: NodeId, to: NodeId, request: u64, answer: &ReplicaFetchResponse) {
        let bytes = Bytes::from(answer.encode().concat());
        self.network.push(Packet::Answer { from, to, request, bytes });
    }

    fn deliver_answer(&mut self, source: NodeId, to: NodeId, request: u64, bytes: Bytes) {
        let now = self.clock.now();
        let node = &mut self.nodes[Self::index(to)];
        if !node.up || node.in_flight.get(&source) != Some(&request) {
            return;
        }
        node.in_flight.remove(&source);
        // What follows may cut the log and fill it again up to the same end.
        if !node.failed {
            node.disk = None;
        }
        let answer = ReplicaFetchResponse::decode(bytes).expect("our own bytes");
        let fetcher = node.fetchers.get_mut(&source).expect("it sent a request");
        node.taken.insert(source, fetcher.on_response(answer, now));
        if self.healing || self.chance(90) {
            self.bring_taken(Self::index(to));
        }
    }

    /// What the fetch tasks have taken comes to the log.
    fn bring_taken(&mut self, at: usize) {
        let now = self.clock.now();
        if !self.nodes[at].failed {
            self.nodes[at].disk = None;
        }
        for (source, event) in
            std::mem::take(&mut self.nodes[at].taken).into_iter().flat_map(|(s, e)| e.into_iter().map(move |e| (s, e)))
        {
            self.leave_behind(at, &event);
            let node = &mut self.nodes[at];
            // A stream that has ended brings nothing any more.
            let Some(fetcher) = node.fetchers.get_mut(&source) else { continue };
            let (id, epoch, moved) = match event {
                FetchEvent::Records { id, leader_epoch, asked, batches, high_watermark, .. } => {
                    let appended = node.partition.append_as_follower(leader_epoch, asked, &batches, high_watermark);
                    (id, leader_epoch, appended)
                }
                FetchEvent::Diverged { id, leader_epoch, asked, diverging } => {
                    self.seen.truncations += 1;
                    // A truncation that its disk fails in the middle is as if it had not been tried.
                    node.store.set_reads_left(Some(self.aside.random_range(0..4)));
                    let first = node.partition.truncate(leader_epoch, asked, diverging);
                    node.store.set_reads_left(None);
                    if let Ok(position) = first {
                        fetcher.moved(id, leader_epoch, position);
                        continue;
                    }
                    (id, leader_epoch, node.partition.truncate(leader_epoch, asked, diverging))
                }
                FetchEvent::OutOfRange { id, leader_epoch, asked, log_start } => {
                    (id, leader_epoch, node.partition.restart(leader_epoch, asked, log_start))
                }
            };
            match moved {
                Ok(position) => fetcher.moved(id, epoch, position),
                Err(_) => fetcher.stuck(id, epoch, node.partition.follower_position(epoch).ok(), now).is_some(),
            };
        }
    }

    /// A stream may end while its truncation waits for a thread, and the next one hears the same.
    fn leave_behind(&mut self, at: usize, event: &FetchEvent) {
        let cuts = matches!(event, FetchEvent::Diverged { .. } | FetchEvent::OutOfRange { .. });
        if cuts && self.aside.random_range(0..100) < 30 {
            self.nodes[at].left_behind.push(event.clone());
        }
    }

    fn do_what_was_left_behind(&mut self) {
        let at = self.aside.random_range(0..3);
        if self.nodes[at].left_behind.is_empty() || self.aside.random_range(0..100) >= 10 {
            return;
        }
        let node = &mut self.nodes[at];
        let next = self.aside.random_range(0..node.left_behind.len());
        let before = node.partition.log().offsets().log_end;
        // Nobody asks what came of it.
        match node.left_behind.swap_remove(next) {
            FetchEvent::Diverged { leader_epoch, asked, diverging, .. } => {
                drop(node.partition.truncate(leader_epoch, asked, diverging));
            }
            FetchEvent::OutOfRange { leader_epoch, asked, log_start, .. } => {
                drop(node.partition.restart(leader_epoch, asked, log_start));
            }
            FetchEvent::Records { .. } => unreachable!("it cuts nothing"),
        }
        if !node.failed && node.partition.log().offsets().log_end != before {
            node.disk = None;
        }
    }

    fn apply_some(&mut self, at: usize) {
        let (applied, end) = (self.nodes[at].applied, self.controller.log.len());
        if self.nodes[at].up && applied < end {
            // Several entries may arrive as one delta.
            let to = self.rng.random_range(applied + 1..=end);
            self.apply(at, to);
        }
    }

    fn apply(&mut self, at: usize, to: usize) {
        let entry = self.controller.log[to - 1].clone();
        let node = &mut self.nodes[at];
        node.applied = to;
        // Metadata from before the own registration is not acted on.
        if entry.brokers[&node.id].epoch != node.broker_epoch {
            return;
        }
        let applied = node.partition.apply(&entry.state, &entry.brokers);
        node.partition.update_metadata(&entry.brokers, MIN_INSYNC);
        match applied {
            Ok(Applied::BecameLeader) => {
                self.seen.elections += 1;
                node.fetchers.values_mut().for_each(|fetcher| fetcher.stop(PARTITION));
                let disk = self.disk(at);
                // One that learns of its election when others have been elected since commits nothing.
                let current = self.controller.now().state.leader_epoch == entry.state.leader_epoch;
                let complete = candidate(&self.invariants, self.nodes[at].id, "elected", &disk);
                if let (true, Err(violation)) = (current, complete) {
                    self.violation.get_or_insert(violation);
                }
            }
            Ok(Applied::Follows { leader, leader_epoch, position }) => {
                node.fetchers.values_mut().for_each(|fetcher| fetcher.stop(PARTITION));
                if leader != NodeId::NONE {
                    let (id, epoch) = (node.id, node.broker_epoch);
                    let new = || Fetcher::new(ClusterId::NONE, id, epoch, FetcherConfig::default());
                    node.fetchers.entry(leader).or_insert_with(new).start(PARTITION, leader_epoch, position);
                }
            }
            Ok(Applied::Waits) => node.fetchers.values_mut().for_each(|fetcher| fetcher.stop(PARTITION)),
            Ok(Applied::Nothing | Applied::StillLeader) => {}
            Err(error) => {
                let what = format!("{} cannot apply {entry:?}: {error}", self.nodes[at].id);
                self.violation.get_or_insert(stuck(what));
            }
        }
    }

    fn heartbeat(&mut self, at: usize) {
        let node = &self.nodes[at];
        if node.up {
            self.controller.heartbeat(node.id, node.broker_epoch, node.applied);
        }
    }

    fn check_lag(&mut self, at: usize) {
        if self.nodes[at].up {
            self.nodes[at].partition.check_lag();
        }
    }

    fn fence(&mut self, at: usize) {
        self.controller.fence(self.nodes[at].id);
    }

    fn crash(&mut self, at: usize) {
        if !self.nodes[at].up || self.nodes[at].failed {
            return;
        }
        self.seen.crashes += 1;
        let kept = self.rng.random_range(0..=self.nodes[at].store.queued());
        if self.chance(20) {
            // A report of its store is still on the way.
            let (from, epoch, online) = (self.nodes[at].id, self.nodes[at].broker_epoch, self.chance(50));
            let directory = directory(from, self.nodes[at].disk_number);
            self.late.push(Packet::Directory { from, epoch, directory, online });
        }
        let node = &mut self.nodes[at];
        node.store.crash(kept);
        node.store.reopen().expect("reopens");
        (node.up, node.untold) = (false, None);
        node.fetchers.clear();
        node.in_flight.clear();
        node.taken.clear();
        node.left_behind.clear();
        // Its connections break, and whoever waits for an answer learns it.
        let parked = std::mem::take(&mut node.parked);
        node.disk = None;
        let clock = Arc::clone(&self.clock);
        let (id, epoch) = (node.id, node.broker_epoch);
        (node.partition, node.context, node.events, node.service) = open(id, &node.store, epoch, &clock);
        for producer in &mut self.producers {
            if producer.to == at {
                producer.disconnect();
            }
        }
        self.network.retain(|packet| !matches!(packet, Packet::Alter { from, .. } if *from == id));
        for parked in parked {
            self.fetch_failed(parked.from, id, parked.request);
        }
    }

    /// A dead process starts again, or a running one reopens its failed store; both register anew.
    fn restart(&mut self, at: usize) {
        let id = self.nodes[at].id;
        if !self.nodes[at].up {
            let state = self.lose_disk(at);
            let epoch = self.controller.register(id, directory(id, self.nodes[at].disk_number), state);
            let clock = Arc::clone(&self.clock);
            let node = &mut self.nodes[at];
            node.store.reopen().expect("reopens");
            (node.partition, node.context, node.events, node.service) = open(id, &node.store, epoch, &clock);
            (node.up, node.broker_epoch, node.applied, node.disk) = (true, epoch, 0, None);
        } else if self.nodes[at].untold.is_some() && self.chance(50) {
            self.tell(at);
        } else if self.nodes[at].failed {
            self.reopen(at);
        }
    }

    /// Now and then a dead broker comes back with an empty disk, if nothing committed goes with it: the old one under its id, which
    /// has lost what was synced, or another one.
    fn lose_disk(&mut self, at: usize) -> DirectoryState {
        let id = self.nodes[at].id;
        if self.healing || !self.chance(25) || !self.controller.can_spare(id) {
            return DirectoryState::Online;
        }
        self.seen.lost_disks += 1;
        self.nodes[at].gone = self.disk(at);
        let store_clock = Arc::clone(&self.clock);
        let store = MemoryStore::new(DirectoryId::NONE, ClusterId::NONE, Arc::new(move || store_clock.now()));
        self.nodes[at].store = store;
        if self.chance(50) {
            return DirectoryState::LogLost;
        }
        self.nodes[at].disk_number += 1;
        DirectoryState::Online
    }

    /// As the store keeper does.
    fn tell(&mut self, at: usize) {
        let node = &mut self.nodes[at];
        if let Some(untold) = node.untold.take() {
            let disk = directory(node.id, node.disk_number);
            self.controller.update_directory(node.id, node.broker_epoch, disk, untold == Untold::Reopened);
        }
    }

    fn reopen(&mut self, at: usize) {
        let node = &mut self.nodes[at];
        node.store.reopen().expect("reopens");
        let store = Arc::clone(&node.store) as Arc<dyn LogStore>;
        let directory = LogDirectory::open(store, LogConfig::default(), 0).expect("opens");
        let log = directory.get_or_create(PARTITION, LogClass::of(false, -1, -1)).expect("a log");
        node.partition.store_reopened(log);
        node.disk = None;
        (node.failed, node.untold) = (false, Some(Untold::Reopened));
        // Metadata known so far is applied again; the registration follows when it follows.
        let applied = node.applied;
        if applied > 0 {
            self.apply(at, applied);
        }
        match self.chance(30) {
            true => self.register_again(at),
            false if self.chance(60) => self.tell(at),
            false => {}
        }
    }

    fn register_again(&mut self, at: usize) {
        let disk = directory(self.nodes[at].id, self.nodes[at].disk_number);
        let epoch = self.controller.register(self.nodes[at].id, disk, DirectoryState::Online);
        let node = &mut self.nodes[at];
        (node.broker_epoch, node.untold) = (epoch, None);
        node.context.set_broker_epoch(epoch);
        // Fetchers speak under the epoch they were made with.
        node.fetchers.clear();
        node.in_flight.clear();
        node.taken.clear();
        if let (Role::Follower(following), leader_epoch) = node.partition.role()
            && following.leader != NodeId::NONE
            && let Ok(position) = node.partition.follower_position(leader_epoch)
        {
            let mut fetcher = Fetcher::new(ClusterId::NONE, node.id, epoch, FetcherConfig::default());
            fetcher.start(PARTITION, leader_epoch, position);
            node.fetchers.insert(following.leader, fetcher);
        }
    }

    fn fail_store(&mut self, at: usize) {
        if !self.nodes[at].up || self.nodes[at].failed || self.nodes[at].store.queued() == 0 {
            return;
        }
        self.seen.store_failures += 1;
        self.disk(at);
        let kept = self.rng.random_range(0..=self.nodes[at].store.queued());
        self.nodes[at].store.inject(Fault::FsyncFails { kept });
        self.nodes[at].store.commit();
    }

    /// Everything that follows at once: events, acknowledgements.
    fn settle(&mut self) {
        for at in 0..3 {
            loop {
                let events = std::mem::take(&mut *self.nodes[at].events.0.lock());
                if events.is_empty() {
                    break;
                }
                for event in events {
                    self.on_event(at, event);
                }
            }
        }
        for at in 0..PRODUCERS {
            let mut acked = Vec::new();
            for batch in &mut self.producers[at].window {
                let Flight::Waiting(offset, wait) = &mut batch.state else { continue };
                match wait.try_result() {
                    None => {}
                    Some(Ok(())) => acked.push((batch.value, *offset)),
                    Some(Err(ReplicaError::NotEnoughReplicasAfterAppend | ReplicaError::NotLeaderOrFollower)) => {
                        batch.state = Flight::Failed;
                    }
                    Some(Err(error)) => {
                        self.violation.get_or_insert(stuck(format!("a produce ended with {error}")));
                    }
                }
            }
            for (value, offset) in acked {
                self.acknowledged(at, value, offset);
            }
        }
    }

    fn acknowledged(&mut self, at: usize, value: u64, offset: i64) {
        self.seen.acks += 1;
        let holds = |records: &[Record]| records.iter().any(|(o, _, v)| (*o, *v) == (offset, value));
        let copies = (0..3).filter(|node| holds(&self.disk(*node)) || holds(&self.nodes[*node].gone)).count();
        if let Err(violation) = self.invariants.acked.acknowledged(value, offset, copies, MIN_INSYNC) {
            self.violation.get_or_insert(violation);
        }
        let producer = &mut self.producers[at];
        producer.window.retain(|batch| batch.value != value);
        producer.acked = producer.acked.max(Some(value));
    }

    fn on_event(&mut self, at: usize, event: Event) {
        let node = &mut self.nodes[at];
        let followers: Vec<NodeId> =
            node.partition.with_leader(|term| term.follower_ids().collect()).unwrap_or_default();
        match event {
            Event::LogEnd => node.service.wake(PARTITION, followers),
            Event::HighWatermark => node.service.mark_quiet(PARTITION, followers),
            Event::Synced(epoch, synced) => {
                node.fetchers.values_mut().for_each(|fetcher| fetcher.synced(PARTITION, epoch, synced));
            }
            Event::Proposal(proposal) => self.submit(at, proposal),
            Event::StoreFailed => {
                node.partition.store_failed();
                (node.failed, node.untold) = (true, Some(Untold::Offline));
                node.fetchers.values_mut().for_each(|fetcher| fetcher.stop(PARTITION));
            }
        }
    }

    fn disk(&mut self, at: usize) -> Vec<Record> {
        let node = &mut self.nodes[at];
        let log = node.partition.log();
        let offsets = log.offsets();
        if let Some((_, disk)) = node.disk.as_ref().filter(|(end, _)| *end == offsets.synced_end || node.failed) {
            return disk.clone();
        }
        if node.failed {
            return Vec::new();
        }
        let disk = read(&log, offsets.log_start, offsets.synced_end);
        node.disk = Some((offsets.synced_end, disk.clone()));
        disk
    }

    /// What must hold after every step.
    pub fn check(&mut self) -> Result<(), Violation> {
        if let Some(violation) = self.violation.take() {
            return Err(violation);
        }
        for at in 0..3 {
            let node = &self.nodes[at];
            if let (true, (Role::Leader, epoch)) = (node.up, node.partition.role()) {
                let high_watermark = node.partition.high_watermark();
                let from = self.invariants.committed.all().last_key_value().map_or(0, |(last, _)| (*last - 8).max(0));
                let log = node.partition.log();
                let below = if from < high_watermark { read(&log, from, high_watermark) } else { Vec::new() };
                let id = node.id;
                self.invariants.single_leader.leads(id, epoch)?;
                self.invariants.high_watermarks.at(id, epoch, high_watermark)?;
                self.invariants.committed.visible(id, &below)?;
            }
        }
        let state = (self.controller.log.len(), self.invariants.committed.all().len());
        if state != self.checked {
            self.checked = state;
            let entry = self.controller.now().clone();
            fenced_isr(&entry.state.isr, |id| entry.brokers[&id].eligible)?;
            for node in self.nodes.iter().filter(|node| node.up) {
                let view = entry.brokers[&node.id];
                if view.eligible && view.epoch == node.broker_epoch {
                    let knows = |applied: usize| self.controller.log[applied].brokers[&node.id].epoch == view.epoch;
                    unfenced(node.id, node.applied.checked_sub(1).is_some_and(knows))?;
                }
            }
            for id in entry.state.isr.iter().chain(&entry.elr) {
                let at = Self::index(*id);
                if !self.nodes[at].failed {
                    let disk = self.disk(at);
                    candidate(&self.invariants, *id, "in ISR or ELR", &disk)?;
                }
            }
        }
        if self.steps.is_multiple_of(64) {
            logs_match(&self.logs())?;
        }
        Ok(())
    }

    fn logs(&self) -> Vec<(NodeId, Vec<Record>)> {
        let usable = self.nodes.iter().filter(|node| !node.failed);
        let all = usable.map(|node| {
            let log = node.partition.log();
            let offsets = log.offsets();
            (node.id, read(&log, offsets.log_start, offsets.log_end))
        });
        all.collect()
    }

    /// Everything works from now on: all must come together again, and every producer must get its answer.
    pub fn heal(&mut self) -> Result<(), Violation> {
        self.healing = true;
        let news = self.next_value;
        for at in 0..3 {
            while !self.nodes[at].up || self.nodes[at].failed || self.nodes[at].untold.is_some() {
                self.restart(at);
            }
        }
        for _ in 0..3000 {
            self.clock.0.fetch_add(5, Ordering::Relaxed);
            self.controller.at(self.clock.now());
            self.steps += 1;
            for at in 0..3 {
                self.apply_some(at);
                self.heartbeat(at);
                self.check_lag(at);
                self.bring_taken(at);
                self.tick(at);
                self.nodes[at].store.commit();
                self.settle();
                // Never by time: nothing that a follower knows may wait until the leader's patience ends.
                self.answer_parked(at, false);
            }
            while !self.network.is_empty() {
                self.deliver();
                self.settle();
            }
            self.check()?;
            // Whatever was begun before the healing is acknowledged, and one more each.
            if self.producers.iter().any(|producer| producer.acked < Some(news)) {
                self.produce();
            } else if self.is_whole() {
                return self.final_checks();
            }
        }
        let roles: Vec<_> =
            self.nodes.iter().map(|node| (node.partition.role(), node.partition.log().offsets())).collect();
        Err(stuck(format!("after healing: {:?} {roles:?}", self.controller.now())))
    }

    fn is_whole(&self) -> bool {
        let ends: Vec<i64> = self.nodes.iter().map(|node| node.partition.log().offsets().synced_end).collect();
        let whole = self.controller.now().state.isr.len() == 3;
        whole && ends.iter().all(|end| *end == ends[0]) && !self.producers.iter().any(Producer::is_waiting)
    }

    fn final_checks(&mut self) -> Result<(), Violation> {
        let logs = self.logs();
        logs_match(&logs)?;
        for (node, log) in &logs {
            candidate(&self.invariants, *node, "at the end", log)?;
            no_duplicate(log)?;
            if *log != logs[0].1 {
                return Err(Violation::new(
                    "one_value",
                    format!("the logs of {node} and {} differ at the end", logs[0].0),
                ));
            }
        }
        Ok(())
    }
}
