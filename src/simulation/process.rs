//! One simulated process: the node's rooms as the server room wires them, on a runtime of its own whose clock the simulation moves.
//!
//! Dropping it is the end of the process: no task of it runs on. What outlives it is on the disks.

use super::network::{Arrived, Outbox, Sent, SimulatedCarrier, SimulatedSocket, address};
use crate::broker::{
    ControllerCandidates, ControllerChannel, Departures, FailureWatch, Lifecycle, LifecycleConfig, LocalMetadata,
    Metadata, MetadataCell, MetadataQuorum, QuorumAdmin, QuorumLane, Registration,
};
use crate::gossip::{Gossip, GossipConfig, GossipEvent, GossipIdentity, GossipProfile};
use crate::peer::{AddressBook, LocalIdentity, PeerEvents, PeerIdentity, PeerPool, PeerServices};
use crate::replica::fetcher::FetcherConfig;
use crate::replica::{Clock, ReplicaConfig, ReplicaLane, ReplicaManager, ReplicaManagerConfig, ScrubConfig};
use crate::server::simulated::{Addresses, DirectoryReports, Hooks, Room, StoreKeeper, peer_services};
use crate::server::{LatePublishers, NodeClock};
use crate::storage::disk_space::SpaceReading;
use crate::storage::tail_cache::TailCache;
use crate::storage::{LogConfig, LogDirectory, MemoryStore};
use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use rookery_raft::controller::{Controller, ControllerConfig, DiskSpace, RegisterBrokerRequest};
use rookery_raft::delta::MetadataPublisher;
use rookery_raft::ids::{BrokerEpoch, ClusterId, DirectoryId, IncarnationId, NodeId, QuorumNodeId};
use rookery_raft::image::topic_configs::TopicConfigs;
use rookery_raft::quorum::{MemoryDisk, MemorySnapshots, QuorumConfig, QuorumNode, QuorumParts, StorageExecution};
use rookery_raft::record::{
    Address, FeatureRange, Listener, METADATA_VERSION_FEATURE, MetadataVersion, SecurityProtocol,
};
use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::runtime::Runtime;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

const HEARTBEAT: Duration = Duration::from_millis(100);
pub(super) const SESSION: Duration = Duration::from_secs(2);
const LAG_MAX: Duration = Duration::from_millis(1500);
const REBALANCE: Duration = Duration::from_secs(1);
const HAND_OVER_MAX: Duration = Duration::from_secs(5);
/// Of records in memory, beside those that are not synced.
const CACHED_BYTES: usize = 1000;
/// So many milliseconds a process that nothing reaches may be behind the world: then its timers ring that much later, as on a busy machine.
const BEHIND_MAX: u64 = 5;
/// So long it is awake once something has reached it: whom a timer wakes in the last moment of a millisecond comes to it in the next.
const AWAKE: u64 = 2;

/// What a process starts from.
pub(super) struct Start {
    pub id: NodeId,
    pub nodes: Vec<NodeId>,
    pub directory: DirectoryId,
    pub store: Arc<MemoryStore>,
    pub quorum_disk: MemoryDisk,
    pub snapshots: MemorySnapshots,
    /// The cluster that its data directory is bound to.
    pub cluster: Arc<OnceLock<ClusterId>>,
    /// Unlike that of every other process.
    pub life: u64,
    /// When it starts.
    pub now: u64,
    pub seed: u64,
    pub gossip: bool,
    pub room: Arc<DiskRoom>,
}

/// A running process.
pub(super) struct Process {
    runtime: Runtime,
    began: Instant,
    /// By the clock of the world, in milliseconds: when it was started, ...
    started: u64,
    /// ... up to when it has lived, ...
    lived: u64,
    /// ... and up to when it is awake for what has reached it.
    awake: u64,
    pub identity: LocalIdentity,
    pub events: PeerEvents,
    pub outbox: Outbox,
    pub arrived: Arc<Arrived>,
    services: PeerServices,
    pub metadata: MetadataCell,
    pub admin: QuorumAdmin,
    pub replicas: Arc<OnceLock<Arc<ReplicaManager>>>,
    leaving: Leaving,
    main: JoinHandle<()>,
}

/// The way out in order.
#[derive(Clone, Default)]
struct Leaving {
    asked: CancellationToken,
    done: CancellationToken,
}

impl Process {
    pub fn start(start: Start) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
        let runtime = runtime.expect("a runtime");
        let entered = runtime.enter();
        let (began, started) = (Instant::now(), start.now);
        let me = QuorumNodeId { node_id: start.id, directory_id: start.directory };
        let identity = LocalIdentity::new(PeerIdentity {
            cluster_id: start.cluster.get().copied(),
            node_id: me.node_id,
            directory_id: me.directory_id,
            incarnation: IncarnationId(Uuid::from_u128(u128::from(start.life))),
            broker_epoch: BrokerEpoch::UNKNOWN,
        });
        let (outbox, arrived, book, events) =
            (Outbox::default(), Arc::new(Arrived::default()), AddressBook::new(), PeerEvents::new());
        let carrier = Arc::new(SimulatedCarrier(outbox.clone()));
        let pool = PeerPool::carried_by(identity.clone(), book.clone(), events.clone(), carrier);
        let metadata = MetadataCell::default();
        let admin = QuorumAdmin::new(me.node_id, BTreeMap::new(), metadata.clone(), pool.clone());
        let lane = ReplicaLane::default();
        let services = peer_services(&metadata, &admin, &lane);
        let (replicas, leaving) = (Arc::new(OnceLock::new()), Leaving::default());
        let live = Life {
            start,
            me,
            identity: identity.clone(),
            pool,
            book,
            events: events.clone(),
            metadata: metadata.clone(),
            lane,
            replicas: replicas.clone(),
            outbox: outbox.clone(),
            arrived: arrived.clone(),
            leaving: leaving.clone(),
        };
        drop(entered);
        let begun = runtime.block_on(live.begin());
        let main = runtime.spawn(live.run(begun));
        let (lived, awake) = (started, started + AWAKE);
        Self {
            runtime,
            began,
            started,
            lived,
            awake,
            identity,
            events,
            outbox,
            arrived,
            services,
            metadata,
            admin,
            replicas,
            leaving,
            main,
        }
    }

    /// Lives on, if there is a reason to.
    pub fn tick(&mut self, now: u64) {
        if now <= self.awake || now >= self.lived + BEHIND_MAX {
            self.live_until(now);
        }
    }

    /// Something reaches it now: it has lived until then, and lives on.
    pub fn reach(&mut self, now: u64) {
        self.live_until(now);
        self.awake = now + AWAKE;
    }

    /// Whether it has lived until `now`.
    pub fn is_at(&self, now: u64) -> bool {
        self.lived >= now
    }

    fn live_until(&mut self, now: u64) {
        if now > self.lived {
            self.lived = now;
            let until = self.began + Duration::from_millis(now - self.started);
            self.runtime.block_on(async { tokio::time::sleep_until(until).await });
        }
    }

    /// Was stopped: its clock has gone on, and it learns that all at once.
    pub fn wake_up(&mut self, now: u64) {
        let stopped = Duration::from_millis(now - self.lived);
        self.runtime.block_on(async { tokio::time::advance(stopped).await });
        (self.lived, self.awake) = (now, now + AWAKE);
    }

    /// Does something within the process.
    pub fn within<T>(&self, act: impl FnOnce() -> T) -> T {
        let _entered = self.runtime.enter();
        act()
    }

    pub fn spawn<T: Send + 'static>(&self, work: impl Future<Output = T> + Send + 'static) -> JoinHandle<T> {
        self.runtime.spawn(work)
    }

    /// A request has arrived.
    pub fn serve(&self, arrival: super::network::Arrival) {
        let super::network::Arrival { from, connection, call, lane, kind, body, .. } = arrival;
        let outbox = self.outbox.clone();
        let service = self.services.find(lane, kind).cloned();
        self.runtime.spawn(async move {
            let result = match service {
                Some(service) => service.call(from, kind, body).await.map(|segments| Bytes::from(segments.concat())),
                None => Err(crate::peer::PeerError::UnknownKind(kind)),
            };
            outbox.lock().push(Sent::Response { connection, call, result });
        });
    }

    pub fn quorum(&self) -> Option<&MetadataQuorum> {
        match self.metadata.get()? {
            LocalMetadata::Voter { quorum, .. } => Some(quorum),
            LocalMetadata::Observer { .. } => None,
        }
    }

    /// Why it would end by itself.
    pub fn failure(&self) -> Option<String> {
        let ended = self.main.is_finished().then(|| "a task that must not end has ended".to_owned());
        ended.or_else(|| self.quorum().and_then(MetadataQuorum::failure))
    }

    /// Asks it to leave in order.
    pub fn leave(&self) {
        self.leaving.asked.cancel();
    }

    /// Whether it may end.
    pub fn has_left(&self) -> bool {
        self.leaving.done.is_cancelled()
    }

    /// Ends one that has left, as the server room does: fetching, checkpoints, the store.
    pub fn close(self) {
        if let Some(replicas) = self.replicas.get() {
            self.within(|| {
                replicas.stop_fetching();
                replicas.checkpoint();
                // A store that has failed has nothing to close.
                drop(replicas.directory().store().close());
            });
        }
        self.end();
    }

    /// Looks for damage in everything that is stored.
    pub fn scrub(&self) {
        if let Some(replicas) = self.replicas.get() {
            self.within(|| replicas.scrub_now());
        }
    }

    pub fn end(self) {
        self.runtime.shutdown_background();
    }
}

/// What runs before the cluster is known.
struct Begun {
    clock: NodeClock,
    stop: CancellationToken,
    publishers: Arc<LatePublishers>,
    seeds: watch::Receiver<BTreeMap<NodeId, String>>,
    gossip_events: mpsc::Sender<GossipEvent>,
    vital: Vec<JoinHandle<()>>,
}

impl Leaving {
    /// Leads the life; in the order of the server room, the quorum's leadership is handed over once that of the partitions is.
    async fn follow(self, life: Lifecycle, metadata: MetadataCell) {
        let ended = life.run(self.asked.clone()).await;
        if ended.is_ok() && self.asked.is_cancelled() {
            if let Some(LocalMetadata::Voter { quorum, .. }) = metadata.get() {
                let _ = tokio::time::timeout(HAND_OVER_MAX, quorum.transfer_leadership()).await;
            }
            self.done.cancel();
            std::future::pending::<()>().await;
        }
    }
}

struct Life {
    start: Start,
    me: QuorumNodeId,
    identity: LocalIdentity,
    pool: PeerPool,
    book: AddressBook,
    events: PeerEvents,
    metadata: MetadataCell,
    lane: ReplicaLane,
    replicas: Arc<OnceLock<Arc<ReplicaManager>>>,
    outbox: Outbox,
    arrived: Arc<Arrived>,
    leaving: Leaving,
}

impl Life {
    /// Everything that is there before the cluster is known.
    async fn begin(&self) -> Begun {
        let (clock, stop) = (NodeClock::start(), CancellationToken::new());
        let departures = Departures::new();
        let (connections, followed) = (self.events.subscribe(), self.events.subscribe());
        let departing = tokio::spawn(departures.clone().follow(followed, stop.clone()));
        let publishers = Arc::new(LatePublishers::default());
        let others: Vec<NodeId> = self.start.nodes.iter().copied().filter(|id| *id != self.me.node_id).collect();
        let voters = others.iter().map(|id| (*id, address(*id).to_string())).collect();
        let addresses = Arc::new(Addresses::new(self.me.node_id, voters, self.book.clone()));
        let seeds = addresses.seeds();
        let (gossip_events, gossip_receiver) = mpsc::channel(1024);
        let early: Vec<Arc<dyn MetadataPublisher>> = vec![addresses, departures.clone(), publishers.clone()];
        let quorum = MetadataQuorum::start(self.quorum_parts(early)).await.expect("the metadata log opens");
        let watch = FailureWatch::new(self.me.node_id, HEARTBEAT, self.pool.clone(), departures);
        let watching = tokio::spawn(watch.clone().run(quorum.clone(), connections, gossip_receiver, stop.clone()));
        let candidates = ControllerCandidates::new(others);
        self.metadata.open(LocalMetadata::Voter { quorum, watch, candidates });
        Begun { clock, stop, publishers, seeds, gossip_events, vital: vec![departing, watching] }
    }

    /// In the order of the server room: the cluster, the store, the registration, gossip. Ends only if something has failed.
    async fn run(self, begun: Begun) {
        let Begun { clock, stop, publishers, seeds, gossip_events, mut vital } = begun;
        let cluster = loop {
            if let Some(id) = self.metadata.cluster_id() {
                break id;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        };
        self.identity.set_cluster_id(cluster);
        assert_eq!(*self.start.cluster.get_or_init(|| cluster), cluster, "a directory belongs to one cluster");

        let store = self.start.store.clone();
        // Most reads are to come from the disk.
        let log_config = LogConfig { tail_cache: Arc::new(TailCache::new(CACHED_BYTES)), ..LogConfig::default() };
        let logs = LogDirectory::open(store.clone(), log_config.clone(), 0).expect("the store opens");
        let shared: Arc<dyn Clock> = Arc::new(clock);
        let seed = self.start.seed;
        let replicas = ReplicaManager::new(self.replica_config(), logs, shared.clone(), self.pool.clone(), seed);
        let channel = ControllerChannel::new(self.me.node_id, Arc::new(self.metadata.clone()), self.pool.clone());
        let registration = watch::Sender::new(None::<Registration>);
        let reports = Arc::new(DirectoryReports::new(store.clone(), replicas.clone()));
        let space = self.start.room.clone();
        let hooks = Arc::new(Hooks {
            clock,
            store: store.clone(),
            replicas: replicas.clone(),
            reports: reports.clone(),
            space: space.reading(),
            metadata: self.metadata.clone(),
        });
        let life = Lifecycle::new(
            LifecycleConfig { heartbeat: HEARTBEAT, session: SESSION, leave_max: Duration::from_secs(5) },
            Arc::new(self.metadata.clone()),
            channel.clone(),
            self.identity.clone(),
            self.registration(cluster),
            registration.clone(),
            hooks,
        );
        self.lane.open(replicas.clone());
        publishers.begin(vec![replicas.clone()]);
        let keeper = StoreKeeper {
            store,
            logs: log_config,
            clock: shared,
            replicas: replicas.clone(),
            reports,
            channel: channel.clone(),
            registration: registration.subscribe(),
            images: self.metadata.images(),
            space,
        };
        vital.extend([
            tokio::spawn(replicas.clone().run(Arc::new(channel), stop.clone())),
            tokio::spawn(keeper.run(stop.clone())),
            tokio::spawn(self.leaving.clone().follow(life, self.metadata.clone())),
        ]);
        assert!(self.replicas.set(replicas).is_ok(), "once");
        loop {
            let epoch = registration.borrow().map(|r| r.epoch);
            let applied = self.metadata.image().cluster.broker(self.me.node_id).map(|b| b.epoch());
            if epoch.is_some() && applied >= epoch {
                break;
            }
            if vital.iter().any(JoinHandle::is_finished) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let gossip = self.start.gossip.then(|| {
            let identity = GossipIdentity {
                node_id: self.me.node_id,
                generation: self.start.life,
                incarnation: self.identity.current().incarnation,
                address: address(self.me.node_id),
            };
            let socket = SimulatedSocket {
                address: identity.address,
                outbox: self.outbox.clone(),
                arrived: self.arrived.clone(),
            };
            let profile = GossipProfile::LAN;
            let config = GossipConfig { socket, identity, cluster_id: cluster, profile, seed: self.start.seed };
            Gossip::start_on(config, seeds, gossip_events).expect("it has an address")
        });
        let announcing = async {
            self.leaving.asked.cancelled().await;
            gossip.iter().for_each(Gossip::announce_leaving);
            std::future::pending::<()>().await;
        };
        tokio::select! {
            biased;
            _ended = futures_util::future::select_all(&mut vital) => {}
            () = announcing => {}
        }
    }

    fn quorum_parts(&self, publishers: Vec<Arc<dyn MetadataPublisher>>) -> QuorumParts {
        let node = |id: &NodeId| (*id, QuorumNode { address: address(*id).to_string() });
        let voters: BTreeMap<NodeId, QuorumNode> = self.start.nodes.iter().map(node).collect();
        let mut config = QuorumConfig::new(self.me, voters, ClusterId(Uuid::from_u128(u128::from(self.start.life))));
        config.execution = StorageExecution::Inline;
        config.wall_clock = || 0;
        config.snapshot_after = 200;
        config.keep_entries = 50;
        let mut seed = [0; 32];
        seed[..8].copy_from_slice(&self.start.seed.to_be_bytes());
        let controller = ControllerConfig {
            session_timeout: SESSION,
            leader_rebalance_interval: REBALANCE,
            ..ControllerConfig::default()
        };
        QuorumParts {
            config,
            storage: Box::new(self.start.quorum_disk.open()),
            snapshots: Arc::new(self.start.snapshots.clone()),
            transport: Arc::new(QuorumLane::new(self.pool.clone())),
            publishers,
            controller: Controller::new(controller, seed),
        }
    }

    fn replica_config(&self) -> ReplicaManagerConfig {
        let replica = ReplicaConfig { lag_max: LAG_MAX, lease: SESSION, ..ReplicaConfig::default() };
        ReplicaManagerConfig {
            node: self.me.node_id,
            replica,
            fetcher: FetcherConfig::default(),
            topic_configs: Arc::new(TopicConfigs::new(self.me.node_id, [])),
            retention_interval: Duration::from_secs(300),
            producer_expiration: Duration::from_secs(86_400),
            scrub: ScrubConfig::default(),
        }
    }

    fn registration(&self, cluster_id: ClusterId) -> RegisterBrokerRequest {
        let place = address(self.me.node_id);
        let peer_address = Address { host: place.ip().to_string(), port: place.port() };
        RegisterBrokerRequest {
            cluster_id,
            id: self.me.node_id,
            incarnation: self.identity.current().incarnation,
            previous_epoch: BrokerEpoch::UNKNOWN,
            listeners: vec![Listener {
                name: "PLAINTEXT".into(),
                host: "h".into(),
                port: 9092,
                security_protocol: SecurityProtocol::Plaintext,
            }],
            gossip_address: Some(peer_address.clone()),
            peer_address,
            rack: None,
            features: BTreeMap::from([(
                METADATA_VERSION_FEATURE.to_owned(),
                FeatureRange { min: MetadataVersion::MINIMUM as i16, max: MetadataVersion::LATEST as i16 },
            )]),
            directories: Vec::new(),
            is_controller: true,
        }
    }
}

/// The room on a disk; it outlives processes.
#[derive(Default)]
pub(super) struct DiskRoom(watch::Sender<SpaceReading>);

impl DiskRoom {
    /// There is less of it.
    pub fn fill(&self, level: DiskSpace, is_too_full_to_open: bool) {
        self.0.send_replace(SpaceReading { level, is_too_full_to_open, ..SpaceReading::default() });
    }

    /// There is enough.
    pub fn empty(&self) {
        let changed = |reading: &mut SpaceReading| {
            let was_short = reading.level != DiskSpace::Ample;
            *reading = SpaceReading::default();
            was_short
        };
        self.0.send_if_modified(changed);
    }
}

impl Room for DiskRoom {
    fn reading(&self) -> watch::Receiver<SpaceReading> {
        self.0.subscribe()
    }

    fn met_the_end(self: Arc<Self>) -> BoxFuture<'static, DiskSpace> {
        self.0.send_modify(|reading| (reading.level, reading.reserve_is_out) = (DiskSpace::Reserve, true));
        std::future::ready(DiskSpace::Reserve).boxed()
    }
}
