//! Whole quorums on one thread: virtual time, seeded randomness, a network and disks in memory, the shipped code.

use super::codec::Encode as _;
use super::seeded_runtime::{SeededRuntime, seed_thread, wake_late};
use super::types::Decision;
use super::wire::{Envelope, Reply, Request};
use super::*;
use crate::controller::{
    BrokerHeartbeatRequest, ConfigChange, ConfigOp, Controller, ControllerConfig, ControllerRequest,
    ControllerResponse, DiskSpace, IncrementalAlterConfigsRequest, RegisterBrokerRequest,
};
use crate::delta::{MetadataDelta, MetadataPublisher};
use crate::ids::{BrokerEpoch, ClusterId, DirectoryId, IncarnationId, MetadataOffset, NodeId, QuorumNodeId};
use crate::image::MetadataImage;
use crate::record::{
    Address, ConfigResource, Directory, DirectoryState, FeatureRange, Listener, METADATA_VERSION_FEATURE,
    SecurityProtocol,
};
use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::{BoxFuture, join_all};
use openraft::AsyncRuntime;
use openraft_rt::deterministic_rng::DeterministicRng;
use parking_lot::Mutex;
use rand::RngExt;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use uuid::Uuid;

type Rt = DeterministicRng<SeededRuntime>;
type Voter = MetadataQuorum<Rt>;

/// Virtual time a condition may take: far above every timeout, so that only what never happens fails.
const PATIENCE: Duration = Duration::from_secs(60);

/// Runs a scenario on virtual time for several seeds.
fn simulate<F: Future<Output = ()>>(scenario: impl Fn() -> F) {
    for seed in 0..4 {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build();
        seed_thread(Some(seed));
        runtime.expect("a runtime").block_on(Rt::scope(seed, scenario()));
        wake_late(Duration::ZERO);
    }
}

/// The network: who runs at which id, and which ways are cut.
#[derive(Default)]
struct Hub {
    running: Mutex<BTreeMap<NodeId, Voter>>,
    cut: Mutex<BTreeSet<(NodeId, NodeId)>>,
    weather: Mutex<Weather>,
}

/// How long a message is under way, and how late whoever it is for takes it up.
#[derive(Clone, Copy)]
struct Weather {
    one_way: (Duration, Duration),
    late: Duration,
}

impl Default for Weather {
    fn default() -> Self {
        // Without latency virtual time would stand still between a request and its answer.
        Self { one_way: (Duration::from_micros(300), Duration::from_micros(300)), late: Duration::ZERO }
    }
}

impl Weather {
    async fn travel(self) {
        let between = |from: Duration, to: Duration| {
            let (from, to) = (from.as_micros() as u64, to.as_micros() as u64);
            Duration::from_micros(Rt::thread_rng().random_range(from..=to))
        };
        // Not the runtime's own, which is late besides.
        tokio::time::sleep(between(self.one_way.0, self.one_way.1) + between(Duration::ZERO, self.late)).await;
    }
}

struct Wire {
    from: NodeId,
    hub: Arc<Hub>,
}

impl QuorumTransport for Wire {
    fn call<'a>(
        &'a self,
        to: NodeId,
        _: &'a QuorumNode,
        request: Bytes,
    ) -> BoxFuture<'a, Result<Bytes, TransportError>> {
        async move {
            let weather = *self.hub.weather.lock();
            weather.travel().await;
            let lost = |from, to| self.hub.cut.lock().contains(&(from, to));
            if lost(self.from, to) {
                std::future::pending::<()>().await; // packets vanish; nobody says so
            }
            let voter = self.hub.running.lock().get(&to).cloned();
            let voter = voter.ok_or_else(|| TransportError::Unreachable("connection refused".into()))?;
            let reply = voter.handle(request).await;
            weather.travel().await;
            if lost(to, self.from) {
                std::future::pending::<()>().await;
            }
            Ok(reply)
        }
        .boxed()
    }
}

/// Checks that deltas follow each other without a gap.
#[derive(Default)]
struct Recorder {
    images: Mutex<Vec<Arc<MetadataImage>>>,
}

impl MetadataPublisher for Recorder {
    fn name(&self) -> &str {
        "recorder"
    }
    fn on_metadata_update(&self, _: &MetadataDelta, image: &Arc<MetadataImage>) {
        let mut images = self.images.lock();
        assert!(images.last().is_none_or(|last| last.offset < image.offset), "the log went backwards");
        images.push(image.clone());
    }
}

struct Machine {
    directory: u128,
    disk: MemoryDisk,
    snapshots: MemorySnapshots,
}

struct Cluster {
    hub: Arc<Hub>,
    machines: BTreeMap<NodeId, Machine>,
    next_directory: u128,
    tune: fn(&mut QuorumConfig),
}

/// In which terms somebody was active, and for how many milliseconds nobody was.
#[derive(Default, Debug, PartialEq)]
struct Reigns {
    terms: BTreeSet<u64>,
    without: u64,
}

const KEY: &str = "log.retention.ms";

impl Cluster {
    fn new(n: i32) -> Self {
        let mut cluster = Self { hub: Arc::default(), machines: BTreeMap::new(), next_directory: 100, tune: |_| () };
        for i in 1..=n {
            let machine =
                Machine { directory: i as u128, disk: MemoryDisk::new(), snapshots: MemorySnapshots::default() };
            cluster.machines.insert(NodeId(i), machine);
        }
        cluster
    }

    /// `n` voters that form a cluster and have an active controller.
    async fn formed(n: i32) -> Self {
        Self::formed_with(n, |_| ()).await
    }

    async fn formed_with(n: i32, tune: fn(&mut QuorumConfig)) -> Self {
        let mut cluster = Self::new(n);
        cluster.tune = tune;
        for i in 1..=n {
            cluster.start(i).await;
        }
        cluster.active().await;
        cluster
    }

    fn id(&self, i: i32) -> QuorumNodeId {
        let directory_id = DirectoryId(Uuid::from_u128(self.machines[&NodeId(i)].directory));
        QuorumNodeId { node_id: NodeId(i), directory_id }
    }

    fn voters(&self) -> BTreeMap<NodeId, QuorumNode> {
        self.machines.keys().map(|id| (*id, QuorumNode { address: format!("node{id}:9") })).collect()
    }

    async fn start(&self, i: i32) -> Voter {
        let machine = &self.machines[&NodeId(i)];
        let mut config = QuorumConfig::new(self.id(i), self.voters(), ClusterId(Uuid::from_u128(machine.directory)));
        config.execution = StorageExecution::Inline;
        config.wall_clock = || 0;
        (self.tune)(&mut config);
        let parts = QuorumParts {
            config,
            storage: Box::new(machine.disk.open()),
            snapshots: Arc::new(machine.snapshots.clone()),
            transport: Arc::new(Wire { from: NodeId(i), hub: self.hub.clone() }),
            publishers: vec![Arc::new(Recorder::default())],
            controller: Controller::new(ControllerConfig::default(), [7; 32]),
        };
        let voter = Voter::start(parts).await.expect("starts");
        self.hub.running.lock().insert(NodeId(i), voter.clone());
        voter
    }

    /// Node 9, which has no vote.
    fn observer(&self, cluster_id: Option<ClusterId>) -> MetadataObserver<Rt> {
        let me = QuorumNodeId { node_id: NodeId(9), directory_id: DirectoryId(Uuid::from_u128(9)) };
        let mut config = ObserverConfig::new(me, self.voters(), cluster_id);
        config.execution = StorageExecution::Inline;
        let wire = Arc::new(Wire { from: NodeId(9), hub: self.hub.clone() });
        let recorder: Arc<dyn MetadataPublisher> = Arc::new(Recorder::default());
        let snapshots = Arc::new(MemorySnapshots::default());
        MetadataObserver::start(config, wire, snapshots, MetadataImage::empty(), vec![recorder]).expect("starts")
    }

    /// Cuts the power of a node.
    async fn kill(&self, i: i32) {
        self.machines[&NodeId(i)].disk.crash();
        let voter = self.hub.running.lock().remove(&NodeId(i));
        if let Some(voter) = voter {
            voter.stop().await;
        }
    }

    fn wipe(&mut self, i: i32) {
        self.next_directory += 1;
        let machine = self.machines.get_mut(&NodeId(i)).expect("a machine");
        machine.disk.wipe();
        machine.snapshots.wipe();
        machine.directory = self.next_directory;
    }

    fn voter(&self, i: i32) -> Voter {
        self.hub.running.lock()[&NodeId(i)].clone()
    }

    fn running(&self) -> Vec<Voter> {
        self.hub.running.lock().values().cloned().collect()
    }

    /// Waits for a condition, on virtual time.
    async fn until<T>(&self, what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
        let mut waited = Duration::ZERO;
        loop {
            if let Some(value) = condition() {
                return value;
            }
            assert!(
                waited < PATIENCE,
                "never: {what}\n{:#?}",
                self.running().iter().map(Voter::status).collect::<Vec<_>>()
            );
            Rt::sleep(Duration::from_millis(5)).await;
            waited += Duration::from_millis(5);
        }
    }

    /// The number of the active controller.
    async fn active(&self) -> i32 {
        self.until("an active controller", || {
            self.running().iter().find(|v| v.is_active()).map(|v| v.status().me.node_id.0)
        })
        .await
    }

    /// An active controller that is not `old`, in a later term.
    async fn next_active(&self, old: i32, term: u64) -> i32 {
        self.until("another active controller", || {
            let other = |v: &&Voter| {
                let status = v.status();
                status.leadership.active && status.me.node_id.0 != old && status.leadership.term > term
            };
            self.running().iter().find(other).map(|v| v.status().me.node_id.0)
        })
        .await
    }

    /// Writes through whoever is active, again until it is carried out.
    async fn write(&self, value: u64) {
        assert_eq!(self.ask(set(value)).await, ControllerResponse::AlterConfigs(vec![Ok(())]));
    }

    /// Asks whoever is active, again until it is answered.
    async fn ask(&self, request: ControllerRequest) -> ControllerResponse {
        let mut tries = 0;
        loop {
            let active = self.active().await;
            match self.voter(active).submit(request.clone()).await {
                Ok(response) => return response,
                Err(QuorumError::NotController(_)) if tries < 100 => tries += 1,
                Err(error) => panic!("{error}"),
            }
            Rt::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Registers a broker, and sends its heartbeats for as long as it is among `alive`.
    async fn start_broker(&self, id: NodeId, alive: &Arc<Mutex<BTreeSet<NodeId>>>) {
        let image = self.voter(self.active().await).image();
        let life = Uuid::from_u128(id.0 as u128);
        let directory = Directory { id: DirectoryId(life), state: DirectoryState::Online };
        let registration = RegisterBrokerRequest {
            cluster_id: image.cluster.cluster_id().expect("formed"),
            id,
            incarnation: IncarnationId(life),
            previous_epoch: BrokerEpoch::UNKNOWN,
            listeners: vec![Listener {
                name: "PLAINTEXT".into(),
                host: "broker".into(),
                port: 9,
                security_protocol: SecurityProtocol::Plaintext,
            }],
            peer_address: Address { host: "broker".into(), port: 9 },
            gossip_address: None,
            rack: None,
            features: BTreeMap::from([(METADATA_VERSION_FEATURE.to_owned(), FeatureRange { min: 1, max: 1 })]),
            directories: vec![directory],
            is_controller: false,
        };
        let ControllerResponse::RegisterBroker { epoch } =
            self.ask(ControllerRequest::RegisterBroker(registration)).await
        else {
            panic!("it answers something else");
        };
        alive.lock().insert(id);
        let (hub, alive) = (self.hub.clone(), alive.clone());
        drop(Rt::spawn(async move {
            while alive.lock().contains(&id) {
                let active = hub.running.lock().values().find(|v| v.is_active()).cloned();
                if let Some(voter) = active {
                    let heartbeat = BrokerHeartbeatRequest {
                        id,
                        epoch,
                        applied_offset: voter.image().offset,
                        want_fence: false,
                        want_shutdown: false,
                        oldest_unfinished_commit: Duration::ZERO,
                        disk_space: DiskSpace::Ample,
                    };
                    let _ = voter.submit(ControllerRequest::BrokerHeartbeat(heartbeat)).await;
                }
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }));
    }

    fn set_weather(&self, one_way: (u64, u64), late: u64) {
        let ms = Duration::from_millis;
        *self.hub.weather.lock() = Weather { one_way: (ms(one_way.0), ms(one_way.1)), late: ms(late) };
        wake_late(ms(late));
    }

    /// Cuts both ways between a node and the others, or mends them.
    fn cut_off(&self, i: i32) {
        for other in self.machines.keys().filter(|id| id.0 != i) {
            self.hub.cut.lock().extend([(NodeId(i), *other), (*other, NodeId(i))]);
        }
    }

    fn mend(&self) {
        self.hub.cut.lock().clear();
    }

    /// Looks every 5 ms, for so long, at who is active.
    async fn watch(&self, seconds: u64) -> Reigns {
        let mut reigns = Reigns::default();
        let end = tokio::time::Instant::now() + Duration::from_secs(seconds);
        while tokio::time::Instant::now() < end {
            let active: Vec<Voter> = self.running().into_iter().filter(Voter::is_active).collect();
            assert!(active.len() <= 1, "two controllers: {:#?}", active.iter().map(Voter::status).collect::<Vec<_>>());
            match active.first() {
                Some(voter) => drop(reigns.terms.insert(voter.leadership().borrow().term)),
                None => reigns.without += 5,
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        reigns
    }

    /// Takes a wiped voter in, through whoever is active, again until it is done.
    async fn replace(&self, old: QuorumNodeId, new: QuorumNodeId) {
        let node = self.voters()[&new.node_id].clone();
        loop {
            let active = self.voter(self.active().await);
            match active.replace_voter(old, new, node.clone()).await {
                Ok(()) => return,
                Err(QuorumError::NotController(_) | QuorumError::Voters(_)) => {}
                Err(error) => panic!("{error}"),
            }
        }
    }

    /// Waits until everybody who runs has the value, and the same image.
    async fn agree(&self, value: u64) {
        self.until("all have the value", || {
            self.running().iter().all(|v| value_of(&v.image()) == Some(value)).then_some(())
        })
        .await;
        self.until("all have the same image", || {
            let images: Vec<_> = self.running().iter().map(Voter::image).collect();
            images.iter().all(|image| *image == images[0]).then_some(())
        })
        .await;
    }
}

fn set(value: u64) -> ControllerRequest {
    let change = ConfigChange { name: KEY.into(), op: ConfigOp::Set(value.to_string()) };
    let resources = vec![(ConfigResource::cluster(), vec![change])];
    ControllerRequest::IncrementalAlterConfigs(IncrementalAlterConfigsRequest { resources, validate_only: false })
}

fn value_of(image: &MetadataImage) -> Option<u64> {
    image.configs.cluster(KEY).and_then(|value| value.parse().ok())
}

#[test]
fn three_nodes_form_elect_and_replicate() {
    simulate(|| async {
        let cluster = Cluster::formed(3).await;
        cluster.write(1).await;
        cluster.write(2).await;
        cluster.agree(2).await;
        let image = cluster.voter(1).image();
        assert_eq!(image.cluster.cluster_id(), cluster.voter(2).status().cluster_id);
        assert_eq!(image.cluster.formation().expect("formed").voters.len(), 3);
    });
}

#[test]
fn one_node_is_a_cluster() {
    simulate(|| async {
        let cluster = Cluster::formed(1).await;
        cluster.write(1).await;
        cluster.kill(1).await;
        cluster.start(1).await;
        cluster.agree(1).await;
        cluster.write(2).await;
    });
}

#[test]
fn nothing_forms_while_a_voter_is_away_and_the_node_says_why() {
    simulate(|| async {
        let cluster = Cluster::new(3);
        cluster.start(1).await;
        cluster.start(3).await;
        Rt::sleep(Duration::from_secs(5)).await;
        for voter in cluster.running() {
            assert_eq!(voter.status().cluster_id, None);
            let why = voter.formation().borrow().why.clone();
            assert!(why.contains("no answer from node 2"), "{why}");
        }
        cluster.start(2).await;
        cluster.write(1).await;
        cluster.agree(1).await;
    });
}

#[test]
fn the_quorum_survives_its_leader() {
    simulate(|| async {
        let cluster = Cluster::formed(3).await;
        cluster.write(1).await;
        let old = cluster.active().await;
        let term = cluster.voter(old).status().leadership.term;
        cluster.kill(old).await;
        cluster.next_active(old, term).await;
        cluster.write(2).await;
        cluster.start(old).await;
        cluster.agree(2).await;
    });
}

#[test]
fn what_was_acknowledged_survives_the_loss_of_all_power() {
    simulate(|| async {
        let cluster = Cluster::formed(3).await;
        for value in 1..20 {
            cluster.write(value).await;
        }
        for i in 1..=3 {
            cluster.machines[&NodeId(i)].disk.crash();
        }
        for i in 1..=3 {
            cluster.kill(i).await;
        }
        for i in 1..=3 {
            cluster.start(i).await;
        }
        cluster.agree(19).await;
        cluster.write(20).await;
    });
}

#[test]
fn a_disk_that_lies_about_sync_is_seen_to_lose_data() {
    simulate(|| async {
        let cluster = Cluster::formed(3).await;
        cluster.write(1).await;
        cluster.agree(1).await;
        cluster.machines.values().for_each(|machine| machine.disk.lie_about_sync());
        cluster.write(2).await;
        for i in 1..=3 {
            cluster.kill(i).await;
        }
        for i in 1..=3 {
            cluster.start(i).await;
        }
        cluster.agree(1).await;
    });
}

#[test]
fn a_wiped_voter_is_nobody_until_it_is_taken_in_by_its_new_name() {
    simulate(|| async {
        let mut cluster = Cluster::formed(3).await;
        cluster.write(1).await;
        cluster.agree(1).await;
        let old = cluster.id(3);
        cluster.kill(3).await;
        cluster.wipe(3);
        cluster.start(3).await;
        let new = cluster.id(3);
        cluster.until("it knows the cluster", || cluster.voter(3).status().cluster_id).await;
        assert!(matches!(cluster.voter(3).status().formation.report.standing, Standing::Joined(_)));

        // It follows without a vote, and says so.
        cluster.write(11).await;
        cluster.until("it follows", || (value_of(&cluster.voter(3).image()) == Some(11)).then_some(())).await;
        let advice = cluster.voter(3).no_vote().expect("it has none");
        assert!(advice.contains("`rookery quorum replace 3`"), "{advice}");
        // Restarted, it does so again.
        cluster.kill(3).await;
        cluster.start(3).await;
        cluster.until("it follows again", || (value_of(&cluster.voter(3).image()) == Some(11)).then_some(())).await;

        // It does not answer for its old self.
        let cluster_id = cluster.voter(1).status().cluster_id.expect("formed");
        let envelope = Envelope { cluster_id, target: old, sender: cluster.id(1) };
        let reply = cluster.voter(3).handle(envelope.seal(&Request::Ask)).await;
        assert_eq!(Reply::open(reply), Ok(Reply::Refused(Refused::Identity(new))));

        // And does not count: with one more voter down there is no quorum.
        cluster.kill(2).await;
        Rt::sleep(Duration::from_secs(5)).await;
        let leads = |i: i32| cluster.voter(i).status().leadership.active;
        assert!(!leads(3));
        if leads(1) {
            let outcome = Rt::timeout(Duration::from_secs(5), cluster.voter(1).submit(set(9))).await;
            assert!(!matches!(outcome, Ok(Ok(_))), "one of three cannot commit");
        }
        cluster.start(2).await;
        cluster.write(2).await;

        cluster.replace(old, new).await;
        let voters = |v: &Voter| v.status().leadership.voters.iter().map(|hint| hint.id).collect::<BTreeSet<_>>();
        cluster
            .until("everybody knows", || cluster.running().iter().all(|v| voters(v).contains(&new)).then_some(()))
            .await;
        assert!(cluster.running().iter().all(|v| !voters(v).contains(&old)));
        cluster.until("it has a vote", || cluster.voter(3).no_vote().is_none().then_some(())).await;
        cluster.kill(2).await;
        cluster.write(3).await;
        cluster.agree(3).await;
        // A restart finds a voter, not a newcomer.
        cluster.start(2).await;
        cluster.kill(3).await;
        let again = cluster.start(3).await;
        assert!(matches!(again.status().formation.report.standing, Standing::Formed(_)));
        cluster.kill(1).await;
        cluster.write(4).await;
        cluster.agree(4).await;
    });
}

#[test]
fn a_wiped_voter_whose_leader_died_while_taking_it_in_was_left_alone_for_ever() {
    simulate(|| async {
        let mut cluster = Cluster::formed(5).await;
        cluster.write(1).await;
        cluster.agree(1).await;
        let leader = cluster.active().await;
        let term = cluster.voter(leader).status().leadership.term;
        let wiped = leader % 5 + 1;
        let old = cluster.id(wiped);
        cluster.kill(wiped).await;
        cluster.wipe(wiped);
        cluster.start(wiped).await;
        let new = cluster.id(wiped);
        let follows = |cluster: &Cluster, value| (value_of(&cluster.voter(wiped).image()) == Some(value)).then_some(());
        cluster.until("it follows", || follows(&cluster, 1)).await;

        // The leader reaches nobody but the wiped one: the entry that names it gets there, and to no other.
        for other in (1..=5).filter(|i| *i != leader && *i != wiped) {
            cluster.hub.cut.lock().extend([(NodeId(leader), NodeId(other)), (NodeId(other), NodeId(leader))]);
        }
        let before = cluster.voter(leader).status().log_end;
        let (leading, node) = (cluster.voter(leader), cluster.voters()[&NodeId(wiped)].clone());
        let taking_in = Rt::spawn(async move { leading.replace_voter(old, new, node).await });
        cluster.until("it is told", || (cluster.voter(wiped).status().log_end > before).then_some(())).await;
        cluster.kill(leader).await;
        cluster.kill(wiped).await;
        assert!(!matches!(taking_in.await, Ok(Ok(()))), "nothing was committed");
        cluster.hub.cut.lock().clear();
        cluster.next_active(leader, term).await;

        // Nobody knows of it now, so it must go on by itself, and say what to do.
        cluster.start(wiped).await;
        cluster.write(2).await;
        cluster.until("it follows on", || follows(&cluster, 2)).await;
        let advice = cluster.voter(wiped).no_vote().expect("it has none");
        assert!(advice.contains(&format!("`rookery quorum replace {wiped}`")), "{advice}");
        cluster.start(leader).await;
        cluster.write(3).await;
        cluster.agree(3).await;

        cluster.replace(old, new).await;
        cluster.until("it has a vote", || cluster.voter(wiped).no_vote().is_none().then_some(())).await;
        assert!(matches!(cluster.voter(wiped).status().formation.report.standing, Standing::Formed(_)));
        cluster.write(4).await;
        cluster.agree(4).await;
    });
}

#[test]
fn two_wiped_voters_of_three_do_not_form_a_second_cluster() {
    simulate(|| async {
        let mut cluster = Cluster::formed(3).await;
        cluster.write(1).await;
        let cluster_id = cluster.voter(1).status().cluster_id;
        for i in 1..=3 {
            cluster.kill(i).await;
        }
        cluster.wipe(1);
        cluster.wipe(2);
        cluster.start(1).await;
        cluster.start(2).await;
        Rt::sleep(Duration::from_secs(5)).await;
        assert!(cluster.running().iter().all(|v| v.status().cluster_id.is_none()));
        cluster.start(3).await;
        cluster
            .until("they see the cluster", || {
                cluster.running().iter().all(|v| v.status().cluster_id == cluster_id).then_some(())
            })
            .await;
        Rt::sleep(Duration::from_secs(5)).await;
        assert!(cluster.running().iter().all(|v| !v.is_active()), "the quorum is lost, and nobody pretends otherwise");
    });
}

#[test]
fn a_node_that_missed_the_purged_log_gets_a_snapshot() {
    simulate(|| async {
        let tune = |config: &mut QuorumConfig| (config.snapshot_after, config.keep_entries) = (20, 5);
        let cluster = Cluster::formed_with(3, tune).await;
        cluster.write(1).await;
        let away = cluster.active().await % 3 + 1;
        cluster.kill(away).await;
        for value in 2..100 {
            cluster.write(value).await;
        }
        let active = cluster.active().await;
        cluster.until("a purge", || (cluster.voter(active).status().snapshot.0 > 50).then_some(())).await;
        cluster.start(away).await;
        cluster.agree(99).await;
        assert!(cluster.voter(away).status().snapshot.0 > 0, "it came by snapshot");
        // And from its own snapshot after a restart.
        cluster.kill(away).await;
        cluster.start(away).await;
        cluster.agree(99).await;
    });
}

#[test]
fn an_observer_follows_through_snapshots_and_failures_and_keeps_to_its_cluster() {
    simulate(|| async {
        let tune = |config: &mut QuorumConfig| (config.snapshot_after, config.keep_entries) = (20, 5);
        let cluster = Cluster::formed_with(3, tune).await;
        for value in 1..60 {
            cluster.write(value).await;
        }
        let foreign = cluster.observer(Some(ClusterId(Uuid::from_u128(4711))));
        let observer = cluster.observer(None);
        cluster.until("it follows", || (value_of(&observer.image()) == Some(59)).then_some(())).await;
        let active = cluster.active().await;
        cluster.kill(active).await;
        cluster.write(60).await;
        cluster.until("it follows on", || (value_of(&observer.image()) == Some(60)).then_some(())).await;
        assert_eq!(observer.status().borrow().cluster_id, cluster.running()[0].status().cluster_id);
        assert!(cluster.running().iter().any(|v| v.status().observers.contains_key(&NodeId(9))));
        assert_eq!(foreign.image().offset, MetadataOffset(-1), "another cluster's log is not for it");
        observer.stop().await;
        foreign.stop().await;
    });
}

/// That voter answers, with nothing new.
#[test]
fn an_observer_stayed_with_a_voter_that_was_cut_off_from_the_others() {
    simulate(|| async {
        let cluster = Cluster::formed(3).await;
        cluster.write(1).await;
        let observer = cluster.observer(None);
        cluster.until("it follows", || (value_of(&observer.image()) == Some(1)).then_some(())).await;
        let asks = |v: &Voter| v.status().observers.contains_key(&NodeId(9));
        let asked = cluster.running().into_iter().find(asks).expect("somebody is asked").status().me.node_id;
        for other in cluster.voters().into_keys().filter(|id| *id != asked) {
            cluster.hub.cut.lock().extend([(asked, other), (other, asked)]);
        }
        loop {
            let on_the_other_side = |v: &Voter| v.is_active() && v.status().me.node_id != asked;
            let active = || cluster.running().into_iter().find(on_the_other_side);
            let active = cluster.until("an active controller on the other side", active).await;
            if active.submit(set(2)).await.is_ok() {
                break;
            }
        }
        Rt::sleep(Duration::from_secs(10)).await;
        assert_eq!(value_of(&observer.image()), Some(1), "it cannot know");
        observer.ask_another();
        cluster.until("it follows another one", || (value_of(&observer.image()) == Some(2)).then_some(())).await;
        observer.stop().await;
    });
}

#[test]
fn a_leader_hands_over_before_it_leaves() {
    simulate(|| async {
        let cluster = Cluster::formed(3).await;
        cluster.write(1).await;
        let old = cluster.active().await;
        let term = cluster.voter(old).status().leadership.term;
        assert!(cluster.voter(old).transfer_leadership().await);
        let new = cluster.next_active(old, term).await;
        assert_ne!(new, old);
        cluster.write(2).await;
        cluster.agree(2).await;
    });
}

#[test]
fn a_leader_that_had_handed_over_took_its_office_again_until_its_lease_ended() {
    simulate(|| async {
        let cluster = Cluster::formed(3).await;
        cluster.write(1).await;
        let old = cluster.active().await;
        let voter = cluster.voter(old);
        let term = voter.status().leadership.term;
        // Its lease is fresh, and nobody learns that he shall take over.
        cluster.cut_off(old);
        let asking = voter.clone();
        let asked = Rt::spawn(async move { asking.transfer_leadership().await });
        for _ in 0..100 {
            Rt::sleep(Duration::from_millis(2)).await;
            let leadership = voter.leadership().borrow().clone();
            assert!(!leadership.active && !leadership.in_office, "{leadership:?}");
        }
        assert!(!asked.await.expect("no panic"));
        cluster.mend();
        cluster.next_active(old, term).await;
        cluster.write(2).await;
        cluster.agree(2).await;
    });
}

#[test]
fn a_leader_without_a_controller_hands_over_and_the_next_one_decides() {
    simulate(|| async {
        let mut cluster = Cluster::new(3);
        cluster.tune = |config| {
            if config.me.node_id == NodeId(1) {
                // No clock counts that far: its controller panics when it takes office.
                config.controller_tick = Duration::MAX;
            }
        };
        for i in 1..=3 {
            cluster.start(i).await;
        }
        let leads = |v: &&Voter| v.raft().is_leader();
        let first = cluster.until("a leader", || cluster.running().iter().find(leads).cloned()).await;
        if first.status().me.node_id != NodeId(1) {
            first.raft().trigger().transfer_leader(cluster.id(1)).await.expect("runs");
        }
        let dead = cluster.voter(1);
        let why = cluster.until("its controller dies", || dead.failure()).await;
        assert_eq!(why, "the controller task panicked");
        let term = dead.status().leadership.term;
        assert!(dead.raft().is_leader() && !dead.is_active(), "nobody in the cluster decides anything");
        assert!(dead.transfer_leadership().await);
        cluster.next_active(1, term).await;
        cluster.write(2).await;
        cluster.agree(2).await;
    });
}

#[test]
fn each_time_a_voter_stood_in_the_place_of_a_dead_leader_it_kept_a_task_for_ever() {
    simulate(|| async {
        let cluster = Cluster::formed(3).await;
        cluster.write(1).await;
        cluster.agree(1).await;
        let leader = cluster.active().await;
        let voter = cluster.voter(leader % 3 + 1);
        cluster.until("it hears the leader", || voter.leader_heard()).await;
        cluster.kill(leader).await;
        // Nobody is elected.
        cluster.cut_off(leader % 3 + 1);
        let before = voter.tasks();
        for _ in 0..1000 {
            voter.leader_is_dead(NodeId(leader));
            Rt::sleep(Duration::from_millis(10)).await;
        }
        assert_eq!(voter.tasks(), before);
    });
}

#[test]
fn a_standby_names_the_controller() {
    simulate(|| async {
        let cluster = Cluster::formed(3).await;
        cluster.write(1).await;
        cluster.agree(1).await;
        let active = cluster.active().await;
        let standby = cluster.voter(active % 3 + 1);
        cluster.until("it knows the leader", || standby.status().leadership.leader).await;
        match standby.submit(set(2)).await {
            Err(QuorumError::NotController(Some(hint))) => assert_eq!(hint.id, cluster.id(active)),
            other => panic!("{other:?}"),
        }
    });
}

#[test]
fn requests_that_wait_share_an_entry() {
    simulate(|| async {
        let cluster = Cluster::formed(3).await;
        let active = cluster.voter(cluster.active().await);
        let before = active.image().offset;
        let outcomes = join_all((0..200).map(|value| active.submit(set(value)))).await;
        assert!(outcomes.iter().all(Result::is_ok));
        let entries = active.image().offset.0 - before.0;
        assert!(entries <= 4, "200 requests took {entries} entries");
        assert_eq!(value_of(&active.image()), Some(199), "in the order they came");
    });
}

#[test]
fn an_isolated_leader_commits_nothing_and_its_requests_can_be_tried_again() {
    simulate(|| async {
        let cluster = Cluster::formed(3).await;
        cluster.write(1).await;
        cluster.agree(1).await;
        let old = cluster.active().await;
        let term = cluster.voter(old).status().leadership.term;
        for other in (1..=3).filter(|i| *i != old) {
            cluster.hub.cut.lock().extend([(NodeId(old), NodeId(other)), (NodeId(other), NodeId(old))]);
        }
        let cut_off = cluster.voter(old);
        let outcome = Rt::spawn(async move { cut_off.submit(set(666)).await });
        let new = cluster.next_active(old, term).await;
        cluster.voter(new).submit(set(2)).await.expect("the majority goes on");
        cluster.hub.cut.lock().clear();
        let outcome = outcome.await.expect("no panic");
        assert!(matches!(outcome, Err(QuorumError::NotController(_))), "{outcome:?}");
        cluster.agree(2).await;
    });
}

#[test]
fn an_isolated_leader_does_not_say_that_all_is_well() {
    simulate(|| async {
        let cluster = Cluster::formed(3).await;
        cluster.write(1).await;
        let old = cluster.active().await;
        let term = cluster.voter(old).status().leadership.term;
        for other in (1..=3).filter(|i| *i != old) {
            cluster.hub.cut.lock().extend([(NodeId(old), NodeId(other)), (NodeId(other), NodeId(old))]);
        }
        cluster.next_active(old, term).await;
        // A request that writes nothing could be answered from memory; it needs the lease all the same.
        let cut_off = cluster.voter(old);
        let outcome = Rt::timeout(Duration::from_secs(5), cut_off.submit(ControllerRequest::ExpireSessions)).await;
        assert!(!matches!(outcome, Ok(Ok(_))), "{outcome:?}");
    });
}

/// Counts what is warned of on this thread.
struct Warnings(Arc<AtomicUsize>);

impl tracing::Subscriber for Warnings {
    fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
        *metadata.level() == tracing::Level::WARN && metadata.target().starts_with("rookery_raft")
    }
    fn event(&self, _: &tracing::Event<'_>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
    fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        tracing::span::Id::from_u64(1)
    }
    fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}
    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}
    fn enter(&self, _: &tracing::span::Id) {}
    fn exit(&self, _: &tracing::span::Id) {}
}

#[test]
fn an_isolated_leader_took_its_office_again_and_again() {
    simulate(|| async {
        let cluster = Cluster::formed(3).await;
        cluster.write(1).await;
        let old = cluster.active().await;
        let term = cluster.voter(old).status().leadership.term;
        cluster.cut_off(old);
        let warnings = Arc::new(AtomicUsize::new(0));
        let counting = tracing::subscriber::set_default(Warnings(warnings.clone()));
        let new = cluster.next_active(old, term).await;
        cluster.watch(30).await;
        drop(counting);
        assert_eq!(warnings.load(Ordering::Relaxed), 1, "the lease was lost once");
        let outcome = cluster.voter(old).submit(set(3)).await;
        assert!(matches!(outcome, Err(QuorumError::NotController(_))), "{outcome:?}");
        assert_eq!(cluster.voter(old).controller_in_sight(), None);
        let follower = cluster.voter((1..=3).find(|i| ![old, new].contains(i)).expect("the third"));
        assert_eq!(follower.controller_in_sight(), Some(NodeId(new)));
        cluster.mend();
        cluster.voter(new).submit(set(2)).await.expect("the majority goes on");
        cluster.agree(2).await;
    });
}

#[test]
fn a_request_that_came_after_the_lease_had_run_out_waited_for_the_batch_before_it() {
    simulate(|| async {
        let cluster = Cluster::formed(3).await;
        cluster.write(1).await;
        let old = cluster.active().await;
        let others = (1..=3).filter(|i| *i != old);
        // Two away: nobody can depose it, and what it has proposed stays open.
        for other in others {
            cluster.hub.running.lock().remove(&NodeId(other));
        }
        let voter = cluster.voter(old);
        let open = Rt::spawn(async move { voter.submit(set(2)).await });
        let voter = cluster.voter(old);
        Rt::sleep(Duration::from_millis(1)).await;
        let behind = Rt::timeout(Duration::from_secs(2), voter.submit(set(3))).await;
        assert!(matches!(behind, Ok(Err(QuorumError::NotController(_)))), "{behind:?}");
        drop(open);
    });
}

#[test]
fn a_voter_without_a_majority_still_named_the_last_controller() {
    simulate(|| async {
        let cluster = Cluster::formed(3).await;
        cluster.write(1).await;
        cluster.agree(1).await;
        let leader = cluster.active().await;
        let follower = leader % 3 + 1;
        cluster.until("it knows", || cluster.voter(follower).controller_in_sight()).await;
        cluster.cut_off(follower);
        cluster.until("it says so", || cluster.voter(follower).controller_in_sight().is_none().then_some(())).await;
        assert_eq!(cluster.voter(leader).controller_in_sight(), Some(NodeId(leader)));
    });
}

#[test]
fn a_damaged_snapshot_was_opened_again_and_again() {
    simulate(|| async {
        let cluster = Cluster::formed_with(1, |config| config.snapshot_after = 5).await;
        for value in 0..20 {
            cluster.write(value).await;
        }
        let voter = cluster.voter(1);
        cluster.until("a snapshot", || (voter.status().snapshot.0 > 0).then_some(())).await;
        voter.stop().await;
        let machine = &cluster.machines[&NodeId(1)];
        let mut damaged = machine.snapshots.create().expect("creates");
        damaged.write(b"RKSN\x01 and nothing of what belongs there").expect("writes");
        machine.snapshots.promote(&damaged.finish().expect("finishes")).expect("promotes");
        let controller = Controller::new(ControllerConfig::default(), [8; 32]);
        let again = voter.reopen(Box::new(machine.disk.open()), controller).await;
        assert!(matches!(again, Err(QuorumError::Storage(QuorumStorageError::Corrupt(_)))), "{again:?}");
    });
}

/// openraft gives up on a heartbeat after one interval; so no answer ever counted, and nobody else was elected either.
#[test]
fn a_majority_that_answered_later_than_a_heartbeat_interval_gave_no_lease() {
    for one_way in [25, 60] {
        simulate(|| async {
            let cluster = Cluster::formed(3).await;
            cluster.write(1).await;
            let term = cluster.voter(cluster.active().await).status().leadership.term;
            cluster.set_weather((one_way, one_way), 0);
            assert_eq!(cluster.watch(60).await, Reigns { terms: [term].into(), without: 0 });
        });
    }
}

#[test]
fn after_power_loss_of_all_and_the_loss_of_one_a_slow_majority_had_no_controller() {
    simulate(|| async {
        let cluster = Cluster::formed(3).await;
        cluster.write(1).await;
        for i in 1..=3 {
            cluster.machines[&NodeId(i)].disk.crash();
        }
        for i in 1..=3 {
            cluster.kill(i).await;
        }
        cluster.set_weather((25, 30), 0);
        cluster.start(1).await;
        cluster.start(2).await;
        cluster.active().await;
        let reigns = cluster.watch(60).await;
        assert_eq!((reigns.terms.len(), reigns.without), (1, 0));
        cluster.write(2).await;
        cluster.agree(2).await;
    });
}

#[test]
fn a_majority_that_is_back_has_a_controller_within_a_bounded_time() {
    simulate(|| async {
        let cluster = Cluster::formed(3).await;
        cluster.write(1).await;
        let mut longest = 0;
        for round in 0..40 {
            let leader = cluster.active().await;
            let (dead, weather) = (leader % 3 + 1, if round % 2 == 0 { (0, 1) } else { (20, 40) });
            cluster.set_weather(weather, 0);
            if round % 4 < 2 {
                cluster.kill(dead).await;
            }
            // Nobody has a majority.
            (1..=3).for_each(|i| cluster.cut_off(i));
            let away = Duration::from_millis(Rt::thread_rng().random_range(100..6000));
            Rt::sleep(away).await;
            cluster.mend();
            let mended = tokio::time::Instant::now();
            cluster.active().await;
            longest = longest.max(mended.elapsed().as_millis());
            if round % 4 < 2 {
                cluster.start(dead).await;
            }
            cluster.watch(2).await;
        }
        assert!(longest <= 3000, "{longest} ms");
    });
}

/// A voter that had answered a leader, and forgot it with its process, elected another while the first one counted on that answer.
#[test]
fn a_voter_that_started_anew_elected_another_while_the_leader_held_its_lease() {
    simulate(|| async {
        let cluster = Cluster::formed(3).await;
        cluster.write(1).await;
        cluster.agree(1).await;
        for _ in 0..10 {
            let leader = cluster.active().await;
            let (answers, cut) = (leader % 3 + 1, (leader + 1) % 3 + 1);
            // It would stand for election, if anybody voted for it.
            cluster.cut_off(cut);
            cluster.hub.cut.lock().retain(|(a, b)| [a.0, b.0].contains(&leader));
            let pause = Rt::thread_rng().random_range(800..1500);
            Rt::sleep(Duration::from_millis(pause)).await;
            assert_eq!(cluster.active().await, leader, "a majority answers it");
            cluster.kill(answers).await;
            cluster.start(answers).await;
            cluster.cut_off(leader);
            cluster.watch(3).await;
            cluster.mend();
            cluster.watch(2).await;
        }
    });
}

/// The lease lapsed between two answers, and with each lapse went the office and all sessions: nobody's silence was ever noticed.
#[test]
fn a_lease_that_lapsed_in_every_turn_took_the_office_and_hid_a_dead_broker() {
    for (one_way, one_is_away) in [((80, 120), false), ((115, 120), false), ((0, 100), true)] {
        simulate(|| async {
            let cluster = Cluster::formed(3).await;
            cluster.write(1).await;
            let leader = cluster.active().await;
            let voter = cluster.voter(leader);
            let term = voter.status().leadership.term;
            let (alive, lives, dies) = (Arc::default(), NodeId(8), NodeId(9));
            let fenced = |id| voter.image().cluster.broker(id).is_none_or(|broker| broker.fenced);
            for id in [lives, dies] {
                cluster.start_broker(id, &alive).await;
                cluster.until("it is unfenced", || (!fenced(id)).then_some(())).await;
            }
            if one_is_away {
                cluster.kill(leader % 3 + 1).await;
            }
            cluster.set_weather(one_way, 0);
            let mut lapses = 0;
            let mut was_active = true;
            for _ in 0..4000 {
                let leadership = voter.leadership().borrow().clone();
                assert!(leadership.in_office && leadership.term == term, "{one_way:?}: {leadership:?}");
                assert!(!fenced(lives) && !fenced(dies), "both send heartbeats");
                lapses += u32::from(was_active && !leadership.active);
                was_active = leadership.active;
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            println!("{one_way:?}, one away: {one_is_away}: {lapses} lapses in 20 s");
            alive.lock().remove(&dies);
            cluster.until("its session ends", || fenced(dies).then_some(())).await;
            assert!(!fenced(lives));
            assert_eq!(voter.status().leadership.term, term);
            alive.lock().clear();
        });
    }
}

/// One-way jitter, tasks that are late, and both: for a minute each, or as `ROOKERY_SIM_CALM_SECONDS` says.
#[test]
fn jitter_and_a_busy_machine_changed_the_controller() {
    let seconds = std::env::var("ROOKERY_SIM_CALM_SECONDS").ok().and_then(|s| s.parse().ok()).unwrap_or(60);
    for (one_way, late) in [((0, 100), 0), ((0, 1), 100), ((0, 50), 50)] {
        simulate(|| async {
            let cluster = Cluster::formed(3).await;
            cluster.write(1).await;
            let term = cluster.voter(cluster.active().await).status().leadership.term;
            cluster.set_weather(one_way, late);
            let reigns = cluster.watch(seconds).await;
            println!("{one_way:?} {late}: {reigns:?}");
            assert_eq!(reigns.terms, [term].into(), "{one_way:?} {late}");
        });
    }
}

#[test]
fn a_leader_that_can_send_but_not_hear_does_not_block_the_others() {
    simulate(|| async {
        let cluster = Cluster::formed(3).await;
        let old = cluster.active().await;
        let term = cluster.voter(old).status().leadership.term;
        for other in (1..=3).filter(|i| *i != old) {
            cluster.hub.cut.lock().insert((NodeId(other), NodeId(old)));
        }
        // With a batch in flight, which is sent again and again and renews the others' lease each time.
        let deaf = cluster.voter(old);
        let outcome = Rt::spawn(async move { deaf.submit(set(4)).await });
        let cut = tokio::time::Instant::now();
        let new = cluster.next_active(old, term).await;
        assert!(cut.elapsed() < Duration::from_secs(3), "{:?}", cut.elapsed());
        cluster.voter(new).submit(set(5)).await.expect("the majority goes on");
        cluster.mend();
        let outcome = outcome.await.expect("no panic");
        assert!(matches!(outcome, Ok(_) | Err(QuorumError::NotController(_))), "{outcome:?}");
        cluster.agree(5).await;
    });
}

#[test]
fn a_node_whose_disk_fails_steps_aside_and_comes_back_in_the_same_process() {
    simulate(|| async {
        let cluster = Cluster::formed(3).await;
        cluster.write(1).await;
        let old = cluster.active().await;
        let term = cluster.voter(old).status().leadership.term;
        let disk = cluster.machines[&NodeId(old)].disk.clone();
        disk.set_fault(Some(Box::new(|_, _| Err(QuorumStorageError::DiskFull("no space left".into())))));
        let _ = Rt::timeout(Duration::from_secs(1), cluster.voter(old).submit(set(2))).await;
        cluster.until("it says so", || cluster.voter(old).failure()).await;
        cluster.next_active(old, term).await;
        cluster.write(3).await;
        let same = cluster.voter(old);
        assert!(matches!(same.disk_failure(), Some(QuorumStorageError::DiskFull(_))), "{:?}", same.disk_failure());
        let seen = same.image();
        let mut images = same.images();
        images.mark_unchanged();
        same.stop().await;
        let controller = || Controller::new(ControllerConfig::default(), [8; 32]);
        let still = same.reopen(Box::new(disk.open()), controller()).await;
        assert!(still.is_err() || cluster.until("it fails again", || same.failure()).await.contains("no space"));
        assert_eq!(same.image(), seen, "what was published stays");
        same.stop().await;
        // Whoever asks others meanwhile misses nothing.
        let observer = same.observe().expect("others vote");
        assert_eq!(value_of(&images.wait_for(|image| value_of(image) == Some(3)).await.expect("told")), Some(3));
        disk.set_fault(None);
        same.reopen(Box::new(disk.open()), controller()).await.expect("there is space");
        assert_eq!((same.failure(), same.disk_failure()), (None, None));
        cluster.write(4).await;
        cluster.agree(4).await;
        observer.stop().await;
        // Its own log goes on (the recorder among the publishers has seen no step back).
        cluster.write(5).await;
        cluster.agree(5).await;
        cluster.until("its own log has it", || (same.status().applied >= same.image().offset).then_some(())).await;
    });
}

#[test]
fn a_snapshot_that_found_the_disk_full_was_no_failure_of_the_disk() {
    simulate(|| async {
        let cluster = Cluster::formed_with(1, |config| config.snapshot_after = 5).await;
        cluster.machines[&NodeId(1)].snapshots.refuse(Some(std::io::ErrorKind::StorageFull));
        for value in 0.. {
            let _ = Rt::timeout(Duration::from_secs(1), cluster.voter(1).submit(set(value))).await;
            if cluster.voter(1).failure().is_some() {
                break;
            }
        }
        let voter = cluster.voter(1);
        assert!(matches!(voter.disk_failure(), Some(QuorumStorageError::DiskFull(_))), "{:?}", voter.failure());
        voter.stop().await;
        cluster.machines[&NodeId(1)].snapshots.refuse(None);
        let controller = Controller::new(ControllerConfig::default(), [8; 32]);
        voter.reopen(Box::new(cluster.machines[&NodeId(1)].disk.open()), controller).await.expect("there is space");
        cluster.write(77).await;
    });
}

/// Carries requests between voters on real threads.
#[derive(Clone, Default)]
struct Threads(Arc<Mutex<BTreeMap<NodeId, MetadataQuorum>>>);

impl QuorumTransport for Threads {
    fn call<'a>(
        &'a self,
        to: NodeId,
        _: &'a QuorumNode,
        request: Bytes,
    ) -> BoxFuture<'a, Result<Bytes, TransportError>> {
        async move {
            let voter = self.0.lock().get(&to).cloned();
            let voter = voter.ok_or_else(|| TransportError::Unreachable("connection refused".into()))?;
            Ok(voter.handle(request).await)
        }
        .boxed()
    }
}

/// Three voters on threads and in real time: a disk that answers nothing is no error to anybody who waits for it.
struct OnThreads {
    hub: Threads,
    disks: BTreeMap<NodeId, MemoryDisk>,
    _snapshots: tempfile::TempDir,
}

fn new_controller() -> Controller {
    Controller::new(ControllerConfig::default(), [7; 32])
}

impl OnThreads {
    async fn start() -> Self {
        let (hub, snapshots) = (Threads::default(), tempfile::tempdir().expect("a directory"));
        let disks: BTreeMap<NodeId, MemoryDisk> = (1..=3).map(|i| (NodeId(i), MemoryDisk::new())).collect();
        let voters: BTreeMap<NodeId, QuorumNode> = disks.keys().map(|id| (*id, QuorumNode::default())).collect();
        for (id, disk) in &disks {
            let me = QuorumNodeId { node_id: *id, directory_id: DirectoryId::random() };
            let parts = QuorumParts {
                config: QuorumConfig {
                    heartbeat: Duration::from_millis(100),
                    election_min: Duration::from_millis(300),
                    election_max: Duration::from_millis(600),
                    ..QuorumConfig::new(me, voters.clone(), ClusterId::random())
                },
                storage: Box::new(disk.open()),
                snapshots: Arc::new(SnapshotFiles::open(snapshots.path().join(id.to_string())).expect("opens")),
                transport: Arc::new(hub.clone()),
                publishers: vec![Arc::new(Recorder::default())],
                controller: new_controller(),
            };
            let voter = MetadataQuorum::start(parts).await.expect("starts");
            hub.0.lock().insert(*id, voter);
        }
        Self { hub, disks, _snapshots: snapshots }
    }

    fn all(&self) -> Vec<MetadataQuorum> {
        self.hub.0.lock().values().cloned().collect()
    }

    /// The disk answers nothing until the sender is gone.
    fn freeze(&self, id: NodeId) -> std::sync::mpsc::Sender<()> {
        let (thaw, frozen) = std::sync::mpsc::channel::<()>();
        let mut frozen = Some(frozen);
        self.disks[&id].set_fault(Some(Box::new(move |_, _| {
            let _ = frozen.take().map(|frozen| frozen.recv());
            Ok(())
        })));
        thaw
    }

    async fn within(&self, what: &str, condition: impl Fn() -> bool) {
        let waiting = async {
            while !condition() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), waiting).await.unwrap_or_else(|_| panic!("never: {what}"));
    }

    /// By whoever is the active controller, but not by `not`. On real time a stalled machine lets a lease run out: tried again.
    async fn write(&self, value: u64, not: Option<NodeId>) -> MetadataQuorum {
        loop {
            let active = self.all().into_iter().find(|v| v.is_active() && Some(v.status().me.node_id) != not);
            if let Some(active) = active
                && let Ok(Ok(_)) = tokio::time::timeout(Duration::from_secs(1), active.submit(set(value))).await
            {
                return active;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    async fn stop(&self) {
        for voter in self.all() {
            voter.stop().await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_leader_whose_disk_hung_kept_the_office() {
    let cluster = OnThreads::start().await;
    let old = cluster.write(1, None).await;
    let id = old.status().me.node_id;

    let thaw = cluster.freeze(id);
    let _ = tokio::time::timeout(Duration::from_secs(1), old.submit(set(2))).await;
    cluster.within("it gives up", || old.failure().is_some_and(|why| why.contains("hangs"))).await;
    assert!(matches!(old.disk_failure(), Some(QuorumStorageError::Io(_))));
    let stopping = tokio::spawn({
        let old = old.clone();
        async move { old.stop().await }
    });
    cluster.write(3, Some(id)).await;
    assert!(!stopping.is_finished(), "the disk still has a write of it");

    drop(thaw);
    stopping.await.expect("stopped");
    old.reopen(Box::new(cluster.disks[&id].open()), new_controller()).await.expect("it moves again");
    cluster.write(4, None).await;
    cluster.within("all agree", || cluster.all().iter().all(|v| value_of(&v.image()) == Some(4))).await;
    assert_eq!(old.failure(), None);
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_follower_whose_disk_hung_did_not_learn_who_leads_by_now() {
    let cluster = OnThreads::start().await;
    let active = cluster.write(1, None).await.status().me.node_id;
    cluster.within("all agree", || cluster.all().iter().all(|v| value_of(&v.image()) == Some(1))).await;
    let hung = cluster.all().into_iter().find(|v| v.status().me.node_id != active).expect("one of three");
    cluster.within("its disk is idle", || hung.disk_stall().is_zero()).await;

    let thaw = cluster.freeze(hung.status().me.node_id);
    cluster.write(2, None).await;
    cluster.within("it shows", || hung.disk_stall() > Duration::from_millis(100)).await;
    let observer = hung.observe().expect("others vote");
    // What it is sent next comes after what it cannot write.
    for value in 3..20 {
        cluster.write(value, Some(hung.status().me.node_id)).await;
        cluster.within("it knows all the same", || value_of(&hung.image()) == Some(value)).await;
    }
    assert_eq!(hung.failure(), None, "a follower goes on when its disk does");

    drop(thaw);
    cluster.within("its own log comes as far", || hung.status().applied >= observer.image().offset).await;
    observer.stop().await;
    cluster.within("its disk is idle", || hung.disk_stall().is_zero()).await;
    cluster.write(20, None).await;
    cluster.within("all agree", || cluster.all().iter().all(|v| value_of(&v.image()) == Some(20))).await;
    cluster.stop().await;
}

#[test]
fn a_node_that_could_not_keep_its_formation_waited_for_ever() {
    simulate(|| async {
        let cluster = Cluster::new(3);
        let full = |batch: &[LogWrite], _| {
            let formation = |write: &LogWrite| matches!(write, LogWrite::Put { key: MetaKey::Formation, .. });
            let full = batch.iter().any(formation);
            if full { Err(QuorumStorageError::DiskFull("no space left".into())) } else { Ok(()) }
        };
        for i in 1..=3 {
            if i != 3 {
                cluster.machines[&NodeId(i)].disk.set_fault(Some(Box::new(full)));
            }
            cluster.start(i).await;
        }
        // The coordinator: it keeps the set before anybody hears of it.
        let why = cluster.until("it says so", || cluster.voter(1).failure()).await;
        assert!(why.contains("no space left"), "{why}");
        assert_eq!(cluster.voter(1).formation().borrow().why, why);
        assert_eq!(cluster.voter(3).failure(), None, "its disk is well: it waits");

        // And one that is asked: it cannot keep what it is to accept.
        let failed = cluster.hub.running.lock().remove(&NodeId(1)).expect("runs");
        failed.stop().await;
        cluster.machines[&NodeId(1)].disk.set_fault(None);
        cluster.start(1).await;
        let why = cluster.until("it says so", || cluster.voter(2).failure()).await;
        assert!(why.contains("no space left"), "{why}");

        let failed = cluster.hub.running.lock().remove(&NodeId(2)).expect("runs");
        failed.stop().await;
        cluster.machines[&NodeId(2)].disk.set_fault(None);
        cluster.start(2).await;
        cluster.write(1).await;
        cluster.agree(1).await;
    });
}

#[test]
fn an_entry_nobody_can_read_stops_the_node() {
    simulate(|| async {
        let cluster = Cluster::formed(3).await;
        cluster.write(1).await;
        cluster.agree(1).await;
        let active = cluster.voter(cluster.active().await);
        active.raft().write(Decision(Bytes::from_static(b"\xffnot records"))).await.expect("sent");
        // Every node stops that learns of the commit; the last one cannot learn of it without a leader.
        let stopped = || cluster.running().iter().filter_map(Voter::failure).collect::<Vec<_>>();
        let why = cluster.until("two stop", || Some(stopped()).filter(|why| why.len() >= 2)).await;
        assert!(why.iter().all(|why| why.contains("cannot be applied")), "{why:?}");
        let images = cluster.running().into_iter().map(|v| v.image());
        assert!(images.into_iter().all(|image| value_of(&image) == Some(1)), "nothing of it was published");
        assert!(matches!(active.submit(set(2)).await, Err(QuorumError::Stopped(_) | QuorumError::NotController(_))));
    });
}

#[test]
fn a_request_of_another_cluster_or_of_garbage_changes_nothing() {
    simulate(|| async {
        let cluster = Cluster::formed(3).await;
        let voter = cluster.voter(1);
        let vote = super::types::VoteValue::new(1_000_000, cluster.id(2));
        let request = Request::Vote { vote, last: None, transfer: true, pre: false };
        let foreign = ClusterId(Uuid::from_u128(4711));
        for cluster_id in [foreign, ClusterId::NONE] {
            let envelope = Envelope { cluster_id, target: cluster.id(1), sender: cluster.id(2) };
            let reply = Reply::open(voter.handle(envelope.seal(&request)).await).expect("a reply");
            assert!(matches!(reply, Reply::Refused(Refused::Cluster(_))), "{reply:?}");
        }
        let envelope = Envelope { cluster_id: foreign, target: cluster.id(1), sender: cluster.id(2) };
        let bytes = envelope.seal(&request);
        for n in 0..bytes.len() {
            let reply = Reply::open(voter.handle(bytes.slice(..n)).await).expect("a reply");
            assert!(matches!(reply, Reply::Refused(_)), "{n} bytes: {reply:?}");
        }
        assert!(voter.status().leadership.term < 1_000_000);
        assert!(!request.to_bytes().is_empty());
    });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_voter_runs_on_threads_and_files_and_reopens_them_in_the_process() {
    let directory = tempfile::tempdir().expect("a directory");
    let disk = MemoryDisk::new();
    let me = QuorumNodeId { node_id: NodeId(1), directory_id: DirectoryId::random() };
    let hub = Arc::new(Hub::default());
    for round in 1..=3 {
        let voters = BTreeMap::from([(NodeId(1), QuorumNode::default())]);
        let mut config = QuorumConfig::new(me, voters, ClusterId::random());
        config.snapshot_after = 10;
        let parts = QuorumParts {
            config,
            storage: Box::new(disk.open()),
            snapshots: Arc::new(SnapshotFiles::open(directory.path()).expect("opens")),
            transport: Arc::new(Wire { from: NodeId(1), hub: hub.clone() }),
            publishers: Vec::new(),
            controller: Controller::new(ControllerConfig::default(), [7; 32]),
        };
        let voter: MetadataQuorum = MetadataQuorum::start(parts).await.expect("starts");
        voter.leadership().wait_for(|l| l.active).await.expect("leads");
        assert_eq!(value_of(&voter.image()), (round > 1).then_some(round * 100 - 81));
        for value in 0..20 {
            // On real time a stalled machine lets the lease run out; callers try again.
            while let Err(error) = voter.submit(set(round * 100 + value)).await {
                assert!(matches!(error, QuorumError::NotController(_)), "{error}");
                tokio::task::yield_now().await;
            }
        }
        // A snapshot that is being made when the voter stops is none.
        while !directory.path().join("metadata.snapshot").exists() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        voter.stop().await;
        assert!(matches!(voter.submit(set(0)).await, Err(QuorumError::Stopped(_) | QuorumError::NotController(_))));
    }
}
