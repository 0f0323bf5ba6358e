//! [`Node`]: everything that runs, from the first port to the last goodbye.

use super::hooks::{DirectoryReports, Hooks};
use super::identity_check::IdentityCheck;
use super::peer_services::peer_services;
use super::publishers::Addresses;
use super::quorum_keeper::QuorumKeeper;
use super::room::{Room, Steps, until_there_is_room};
use super::space_watch::SpaceWatch;
use super::store_keeper::StoreKeeper;
use super::view::View;
use super::vital::Vital;
use super::{LatePublishers, NodeClock};
use crate::broker::{
    Broker, ControllerCandidates, ControllerChannel, Departures, FailureWatch, Lifecycle, LifecycleConfig,
    LocalMetadata, Metadata, MetadataCell, MetadataObserver, MetadataQuorum, ProducerIds, QuorumAdmin, QuorumLane,
    Registration,
};
use crate::config::ServerConfig;
use crate::config::listeners::HostPort;
use crate::coordinator::group::{GroupConfig, GroupCoordinator};
use crate::coordinator::{GroupElections, ReplicaLog};
use crate::gossip::{Gossip, GossipConfig, GossipEvent, GossipIdentity, GossipProfile};
use crate::handlers::Handlers;
use crate::net::{BoundListener, ListenerError, NetConfig, RequestBudget};
use crate::peer::{AddressBook, LocalIdentity, PeerConfig, PeerEvents, PeerIdentity, PeerPool, PeerServer};
use crate::replica::fetcher::FetcherConfig;
use crate::replica::{
    AnswerBudget, Clock, ReplicaConfig, ReplicaLane, ReplicaManager, ReplicaManagerConfig, ScrubConfig,
};
use crate::storage::disk_space::Watermarks;
use crate::storage::tail_cache::TailCache;
use crate::storage::{
    DataDirectory, LogConfig, LogDirectory, LogStore, QuorumLog, RocksDbConfig, RocksDbStore, StorageError,
};
use metrics_exporter_prometheus::PrometheusHandle;
use rookery_raft::controller::{Controller, ControllerConfig, RegisterBrokerRequest};
use rookery_raft::delta::MetadataPublisher;
use rookery_raft::ids::{BrokerEpoch, ClusterId, IncarnationId, NodeId, QuorumNodeId};
use rookery_raft::image::{MetadataImage, config_def};
use rookery_raft::quorum::{
    ObserverConfig, QuorumConfig, QuorumError, QuorumNode, QuorumParts, QuorumStorageError, SnapshotFiles,
};
use rookery_raft::record::{
    Address, ConfigResourceType, FeatureRange, Listener, METADATA_VERSION_FEATURE, MetadataVersion, SecurityProtocol,
};
use std::collections::BTreeMap;
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::net::lookup_host;
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Why a node does not start, or cannot go on: one line each.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StartError {
    /// A port.
    #[error(transparent)]
    Listener(#[from] ListenerError),
    /// The data directory.
    #[error("{0}")]
    Directory(String),
    /// An address that means nothing.
    #[error("{setting}: {address} cannot be resolved: {reason}")]
    Address {
        /// Which setting.
        setting: &'static str,
        /// As set.
        address: String,
        /// As the resolver says.
        reason: String,
    },
    /// The metadata log.
    #[error("{0}")]
    Metadata(String),
    /// Something that has to run as long as the node does has ended.
    #[error("{task}: {why}; the node cannot go on without it")]
    Vital {
        /// What.
        task: &'static str,
        /// In words.
        why: String,
    },
    /// The cluster does not take this process as this node.
    #[error("{0}")]
    Refused(String),
}

/// What this build can replay.
const SUPPORTED_METADATA: FeatureRange =
    FeatureRange { min: MetadataVersion::MINIMUM as i16, max: MetadataVersion::LATEST as i16 };
/// How often the mark of the metadata log follows its commits.
const MARK_INTERVAL: Duration = Duration::from_secs(1);
/// Gossip events that wait for the failure watch; more are dropped, and the view remains.
const GOSSIP_EVENTS: usize = 1024;
/// Until listeners and connections have ended after they were told to.
const CLOSE_MAX: Duration = Duration::from_secs(5);

/// A running node.
pub struct Node {
    config: Arc<ServerConfig>,
    metadata: MetadataCell,
    publishers: Arc<LatePublishers>,
    seeds: watch::Receiver<BTreeMap<NodeId, String>>,
    clock: NodeClock,
    identity: LocalIdentity,
    incarnation: IncarnationId,
    pool: PeerPool,
    server: PeerServer,
    replica_lane: ReplicaLane,
    departures: Arc<Departures>,
    gossip_events: mpsc::Sender<GossipEvent>,
    view: Arc<View>,
    space: Arc<SpaceWatch>,
    /// Why a store is not open yet.
    obstacle: watch::Sender<Option<String>>,
    /// The data directory and its lock, where no store of partition logs holds them.
    held: OnceLock<DataDirectory>,
    /// Ends what serves clients and what works in the background.
    stop: CancellationToken,
    /// Ends the HTTP API, last of all.
    stop_http: CancellationToken,
    tracker: TaskTracker,
    vital: Vital,
    http: Option<JoinHandle<()>>,
}

/// The broker's half of a node, from the moment the cluster is known.
struct BrokerHalf {
    store: Arc<RocksDbStore>,
    replicas: Arc<ReplicaManager>,
    groups: Arc<GroupCoordinator<ReplicaLog>>,
    leave: CancellationToken,
    life: JoinHandle<()>,
}

impl Node {
    /// Run a node until `stop` resolves; returns when it has left in order, or with what ended it.
    pub async fn run(
        config: ServerConfig,
        prometheus: PrometheusHandle,
        stop: impl Future<Output = ()>,
    ) -> Result<(), StartError> {
        let config = Arc::new(config);
        let doors = Doors::bind(&config).await?;
        let path = config.data_dir.clone();
        let node_id = config.node_id;
        let directory = blocking(move || DataDirectory::open(&path, node_id)).await?;
        let mut directory = directory.map_err(|e| StartError::Directory(e.to_string()))?;
        tokio::pin!(stop);
        let node = tokio::select! {
            started = Node::start(config.clone(), &mut directory, prometheus) => started?,
            // It waits for room on the disk.
            () = &mut stop => return Ok(()),
        };
        let mut gossip = None;
        let mut broker = None;
        let ended = tokio::select! {
            () = &mut stop => Ok(()),
            ended = node.vital.ended() => Err(ended),
            started = node.start_broker(directory, doors, &mut gossip, &mut broker) => match started {
                Err(error) => Err(error),
                Ok(()) => tokio::select! {
                    () = &mut stop => Ok(()),
                    ended = node.vital.ended() => Err(ended),
                },
            },
        };
        if let Err(error) = &ended {
            tracing::error!(%error, "this node cannot go on");
        }
        node.shut_down(broker, gossip).await;
        ended
    }

    /// Everything that is there before the cluster is known.
    async fn start(
        config: Arc<ServerConfig>,
        directory: &mut DataDirectory,
        prometheus: PrometheusHandle,
    ) -> Result<Node, StartError> {
        let vital = Vital::new();
        let clock = NodeClock::start();
        let me = QuorumNodeId { node_id: config.node_id, directory_id: directory.directory_id() };
        let incarnation = IncarnationId::random();
        let identity = LocalIdentity::new(PeerIdentity {
            cluster_id: directory.cluster_id(),
            node_id: me.node_id,
            directory_id: me.directory_id,
            incarnation,
            broker_epoch: BrokerEpoch::UNKNOWN,
        });
        let book = AddressBook::new();
        let events = PeerEvents::new();
        let peer_config = PeerConfig::default();
        let jitter = Arc::new(rand::random::<f64>);
        let pool = PeerPool::new(identity.clone(), book.clone(), peer_config.clone(), events.clone(), jitter);

        let metadata = MetadataCell::default();
        let admin = QuorumAdmin::new(me.node_id, listed_voters(&config), metadata.clone(), pool.clone());
        let replica_lane = ReplicaLane::default();
        let services = peer_services(&metadata, &admin, &replica_lane);
        let peer_address = resolve("peer.listener", &config.peer_bind).await?;
        let connections = events.subscribe();
        let departures = Departures::new();
        let followed = events.subscribe();
        let server = PeerServer::bind(peer_address, identity.clone(), services, peer_config, events).map_err(|e| {
            let reason = match e.kind() {
                io::ErrorKind::AddrInUse => "the port is in use by another process".to_owned(),
                _ => e.to_string(),
            };
            ListenerError { address: peer_address.to_string(), reason }
        })?;
        tokio::spawn(vital.task("the peer listener", server.ended()));

        let limits = &config.limits;
        let watermarks = Watermarks { soft: limits.free_bytes_soft, hard: limits.free_bytes_hard };
        let (path, reserve_bytes) = (config.data_dir.clone(), limits.reserve_bytes);
        let space = blocking(move || SpaceWatch::open(path, watermarks, reserve_bytes)).await?;
        let space = space.map_err(|e| StartError::Directory(format!("{}: {e}", config.data_dir.display())))?;
        let (obstacle, seen) = watch::channel(None);
        let view = Arc::new(View {
            node: me.node_id,
            is_broker: config.is_broker,
            metadata: metadata.clone(),
            admin,
            broker: OnceLock::new(),
            replicas: OnceLock::new(),
            groups: OnceLock::new(),
            gossip: OnceLock::new(),
            space: space.reading(),
            obstacle: seen,
            prometheus,
        });
        let (stop, stop_http, tracker) = (CancellationToken::new(), CancellationToken::new(), TaskTracker::new());
        let http = match &config.http {
            None => None,
            Some(address) => {
                let listener = crate::net::listen(address.bind_address()).await?;
                tracing::info!(%address, "HTTP admin API");
                let serving = crate::admin::serve(listener, view.clone(), view.clone(), stop_http.clone());
                Some(tokio::spawn(vital.task("the HTTP admin API", async move {
                    if let Err(error) = serving.await {
                        tracing::error!(%error, "the HTTP admin API failed");
                    }
                })))
            }
        };

        tracker.spawn(vital.task("the watch over the disk's space", space.clone().run(stop.clone())));
        tracker.spawn(vital.task("the watch over departures", departures.clone().follow(followed, stop.clone())));
        let publishers = Arc::new(LatePublishers::default());
        let others = config.voters.iter().filter(|v| v.node_id != me.node_id);
        let voters = others.map(|v| (v.node_id, v.address.to_string())).collect();
        let addresses = Arc::new(Addresses::new(me.node_id, voters, book));
        let seeds = addresses.seeds();
        let (gossip_events, gossip_receiver) = mpsc::channel(GOSSIP_EVENTS);
        let votes = config.voters.iter().any(|v| v.node_id == me.node_id);
        let log = if votes { Some(open_quorum_log(directory, me.node_id, &space, &obstacle).await?) } else { None };
        let early: Vec<Arc<dyn MetadataPublisher>> = vec![addresses, departures.clone()];
        let opening = OpenMetadata { config: &config, me, directory, pool: &pool, early, publishers: &publishers };
        let candidates = config.voters.iter().map(|v| v.node_id).filter(|id| *id != me.node_id).collect();
        let candidates = ControllerCandidates::new(candidates);
        match log {
            Some(log) => {
                let synced = log.synced_commit();
                let quorum = opening.voter(log).await?;
                let keeper = QuorumKeeper {
                    quorum: quorum.clone(),
                    path: config.data_dir.clone(),
                    mark_interval: MARK_INTERVAL,
                    synced,
                    controller: opening.controller(),
                    space: space.clone(),
                };
                tokio::spawn(vital.failure("the metadata quorum", keeper.run(stop.clone())));
                let watch =
                    FailureWatch::new(me.node_id, config.timing.broker_heartbeat, pool.clone(), departures.clone());
                let watching = watch.clone().run(quorum.clone(), connections, gossip_receiver, stop.clone());
                tracker.spawn(vital.task("the failure watch", watching));
                metadata.open(LocalMetadata::Voter { quorum, watch, candidates });
            }
            None => {
                let observer = opening.observer()?;
                let mut status = observer.status();
                tokio::spawn(vital.failure("the metadata observer", async move {
                    let failed = status.wait_for(|s| s.failure.is_some()).await;
                    failed.ok().and_then(|s| s.failure.clone()).unwrap_or_else(|| "its task has ended".to_owned())
                }));
                metadata.open(LocalMetadata::Observer { observer, candidates });
            }
        }
        let check = IdentityCheck {
            me: me.node_id,
            incarnation,
            cluster_id: directory.cluster_id(),
            data_dir: directory.path().display().to_string(),
            voters: config.voters.clone(),
            pool: pool.clone(),
        };
        let (refusing, stopped) = (vital.clone(), stop.clone());
        tracker.spawn(async move {
            tokio::select! {
                () = stopped.cancelled() => {}
                why = check.run() => if let Some(why) = why {
                    refusing.end(StartError::Refused(why));
                }
            }
        });
        Ok(Node {
            config,
            metadata,
            publishers,
            seeds,
            clock,
            identity,
            incarnation,
            pool,
            server,
            replica_lane,
            departures,
            gossip_events,
            view,
            space,
            obstacle,
            held: OnceLock::new(),
            stop,
            stop_http,
            tracker,
            vital,
            http,
        })
    }

    /// Wait for the cluster; then gossip and, on a broker, everything that serves clients.
    async fn start_broker(
        &self,
        mut directory: DataDirectory,
        doors: Doors,
        gossip: &mut Option<Gossip>,
        broker: &mut Option<BrokerHalf>,
    ) -> Result<(), StartError> {
        let cluster_id = self.wait_for_cluster().await;
        self.identity.set_cluster_id(cluster_id);
        directory.bind_cluster(cluster_id).map_err(|e| StartError::Directory(e.to_string()))?;
        if !self.config.is_broker {
            self.held.get_or_init(|| directory);
            *gossip = self.start_gossip(doors.gossip, cluster_id)?;
            return Ok(());
        }
        let clock: Arc<dyn Clock> = Arc::new(self.clock);
        let logs = LogConfig {
            tail_cache: Arc::new(TailCache::new(self.config.limits.log_cache_bytes)),
            ..LogConfig::default()
        };
        let mut rocksdb = RocksDbConfig::default();
        rocksdb.write_buffer_bytes = self.space.reserve().write_buffer_bytes(rocksdb.write_buffer_bytes);
        let store = RocksDbStore::closed(directory, rocksdb).map_err(|e| StartError::Directory(e.to_string()))?;
        let log_directory = self.open_logs(&store, &logs, clock.wall_ms()).await?;
        self.space.count(store.clone());
        if store.log_lost() {
            tracing::error!("the data directory lost synced data: its replicas count only after they have caught up");
        }

        let replicas =
            ReplicaManager::new(self.replica_config(), log_directory, clock.clone(), self.pool.clone(), rand::random());
        let groups = Arc::new(GroupCoordinator::new(self.group_config(), rand::random::<u64>));
        let channel = ControllerChannel::new(self.config.node_id, Arc::new(self.metadata.clone()), self.pool.clone());
        let registration = watch::Sender::new(None::<Registration>);
        let reports = Arc::new(DirectoryReports::new(store.clone(), replicas.clone()));
        let hooks = Arc::new(Hooks {
            clock: self.clock,
            store: store.clone(),
            replicas: replicas.clone(),
            reports: reports.clone(),
            space: self.space.reading(),
            metadata: self.metadata.clone(),
        });
        let life = Lifecycle::new(
            LifecycleConfig {
                heartbeat: self.config.timing.broker_heartbeat,
                session: self.config.timing.broker_session,
                leave_max: self.config.timing.controlled_shutdown,
            },
            Arc::new(self.metadata.clone()),
            channel.clone(),
            self.identity.clone(),
            self.registration(cluster_id),
            registration.clone(),
            hooks,
        );
        self.view.broker.get_or_init(|| life.state());
        self.view.replicas.get_or_init(|| replicas.clone());
        self.view.groups.get_or_init(|| groups.clone());
        self.replica_lane.open(replicas.clone());
        let elections = Arc::new(GroupElections::new(replicas.clone(), groups.clone()));
        self.publishers.begin(vec![replicas.clone(), elections.clone()]);

        let (stop, tracker, vital) = (&self.stop, &self.tracker, &self.vital);
        tokio::spawn(vital.task("the commit thread", store.broken().cancelled_owned()));
        tracker.spawn(vital.task("the group elections", elections.run(stop.clone())));
        tracker.spawn(vital.task("the replicas", replicas.clone().run(Arc::new(channel.clone()), stop.clone())));
        let keeper = StoreKeeper {
            store: store.clone(),
            logs,
            clock,
            replicas: replicas.clone(),
            reports,
            channel: channel.clone(),
            registration: registration.subscribe(),
            images: self.metadata.images(),
            space: self.space.clone(),
        };
        tracker.spawn(vital.task("the store keeper", keeper.run(stop.clone())));
        let producer_ids = ProducerIds::new(channel.clone(), registration.subscribe());
        tracker.spawn(producer_ids.clone().keep_reserve(stop.clone()));
        let metadata = Arc::new(self.metadata.clone());
        let departures = self.departures.clone();
        let shared = Broker::new(self.config.clone(), metadata, channel, producer_ids, departures);
        let handlers = Arc::new(Handlers::new(shared, replicas.clone(), groups.clone()));
        let limits = &self.config.limits;
        let net = NetConfig {
            connections_max: Arc::new(Semaphore::new(limits.connections)),
            budget: RequestBudget::new(limits.queued_request_bytes),
            frame_bytes_max: limits.request_bytes,
            idle_max: limits.connection_idle,
        };
        let leave = CancellationToken::new();
        let (life, refusing) = (life.run(leave.clone()), vital.clone());
        let life = tokio::spawn(vital.task("the broker's lifecycle", async move {
            if let Err(error) = life.await {
                refusing.end(StartError::Refused(error.to_string()));
            }
        }));
        *broker = Some(BrokerHalf { store, replicas, groups, leave, life });
        self.wait_until_registered(registration.subscribe()).await;
        self.warn_of_settings_that_the_cluster_decides();
        // Not before: what clients are told is at least as new as this registration.
        for listener in doors.listeners {
            tracing::info!(address = %listener.address(), "Kafka listener");
            let serving = listener.serve(net.clone(), handlers.clone(), tracker.clone(), stop.clone())?;
            tracker.spawn(vital.task("a Kafka listener", serving));
        }
        // Not before the registration either: a second process with this node id must not be heard of by anybody.
        *gossip = self.start_gossip(doors.gossip, cluster_id)?;
        Ok(())
    }

    /// Opens the partition logs, when there is room for it.
    async fn open_logs(
        &self,
        store: &Arc<RocksDbStore>,
        logs: &LogConfig,
        now: i64,
    ) -> Result<LogDirectory, StartError> {
        let mut steps = Steps::default();
        loop {
            let (store, logs) = (store.clone(), logs.clone());
            let opened = blocking(move || {
                store.reopen()?;
                LogDirectory::open(store, logs, now)
            });
            let path = self.config.data_dir.join("log");
            match opened.await? {
                Ok(opened) => {
                    self.obstacle.send_replace(None);
                    return Ok(opened);
                }
                Err(StorageError::DiskFull(why)) => {
                    wait_for_room(&path, &why, &self.space, &self.obstacle, &mut steps).await;
                }
                Err(error @ StorageError::Corrupt(_)) => {
                    return Err(StartError::Directory(format!(
                        "{path}: {error}; restore the disk, or, where other replicas have everything, move {path} away: all is \
                         copied anew",
                        path = path.display()
                    )));
                }
                Err(error) => return Err(StartError::Directory(format!("{}: {error}", path.display()))),
            }
        }
    }

    /// Until the metadata here includes this broker's registration.
    async fn wait_until_registered(&self, mut registration: watch::Receiver<Option<Registration>>) {
        loop {
            let epoch = registration.borrow_and_update().map(|r| r.epoch);
            let applied = self.metadata.image().cluster.broker(self.config.node_id).map(|b| b.epoch());
            if epoch.is_some() && applied >= epoch {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    fn warn_of_settings_that_the_cluster_decides(&self) {
        let image = self.metadata.image();
        for (name, setting) in &self.config.first_cluster_configs {
            let default = config_def::definition(ConfigResourceType::Broker, name).map(|config| config.default);
            if image.configs.cluster(name).or(default) != Some(setting) {
                tracing::warn!(
                    "{name} = {setting} in the settings of node {} has no effect: the cluster was formed with another \
                     value, or it was changed since. Change it for all nodes: kafka-configs --bootstrap-server … \
                     --entity-type brokers --entity-default --alter --add-config {name}={setting}",
                    self.config.node_id
                );
            }
        }
    }

    async fn wait_for_cluster(&self) -> ClusterId {
        let mut told = String::new();
        loop {
            if let Some(id) = self.metadata.cluster_id() {
                tracing::info!(cluster = %id, node = self.config.node_id.0, "member of the cluster");
                return id;
            }
            if let Some(LocalMetadata::Voter { quorum, .. }) = self.metadata.get() {
                let why = quorum.formation().borrow().why.clone();
                if why != told {
                    tracing::info!("{why}");
                    told = why;
                }
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    fn start_gossip(&self, door: Option<GossipDoor>, cluster_id: ClusterId) -> Result<Option<Gossip>, StartError> {
        let Some(GossipDoor { socket, address }) = door else { return Ok(None) };
        let profile = if self.config.timing.gossip_fast { GossipProfile::FAST } else { GossipProfile::LAN };
        let identity = GossipIdentity {
            node_id: self.config.node_id,
            generation: u64::try_from(self.clock.wall_ms()).unwrap_or(0),
            incarnation: self.incarnation,
            address,
        };
        let config = GossipConfig { socket, identity, cluster_id, profile, seed: rand::random() };
        let gossip = Gossip::start(config, self.seeds.clone(), self.gossip_events.clone())
            .map_err(|e| ListenerError { address: address.to_string(), reason: e.to_string() })?;
        tokio::spawn(self.vital.task("the gossip", gossip.ended()));
        self.view.gossip.get_or_init(|| gossip.view());
        Ok(Some(gossip))
    }

    fn replica_config(&self) -> ReplicaManagerConfig {
        let (timing, limits) = (&self.config.timing, &self.config.limits);
        let bytes = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        let mut replica = ReplicaConfig::default();
        (replica.lag_max, replica.lease) = (timing.replica_lag_max, timing.broker_session);
        replica.answer_budget = AnswerBudget::new(self.config.limits.queued_response_bytes);
        ReplicaManagerConfig {
            node: self.config.node_id,
            replica,
            fetcher: FetcherConfig {
                max_wait: timing.replica_fetch_wait,
                max_bytes: bytes(limits.replica_fetch_bytes),
                partition_max_bytes: bytes(limits.replica_fetch_partition_bytes),
                ..FetcherConfig::default()
            },
            topic_configs: self.config.topic_configs.clone(),
            retention_interval: timing.retention_check,
            producer_expiration: timing.producer_id_expiration,
            scrub: ScrubConfig {
                bytes_per_second: limits.scrub_bytes_per_second,
                interval: timing.scrub_interval,
                progress: Some(self.config.data_dir.join("scrub.json")),
            },
        }
    }

    fn group_config(&self) -> GroupConfig {
        let groups = &self.config.groups;
        GroupConfig {
            session_timeout_min: groups.session_timeout_min,
            session_timeout_max: groups.session_timeout_max,
            initial_rebalance_delay: groups.initial_rebalance_delay,
            size_max: groups.size_max,
            offset_metadata_bytes_max: groups.metadata_bytes_max,
            offsets_retention: groups.offsets_retention,
            ..GroupConfig::default()
        }
    }

    fn registration(&self, cluster_id: ClusterId) -> RegisterBrokerRequest {
        let address = |a: &HostPort| Address { host: a.host.clone(), port: a.port };
        let listener = |l: &crate::config::Listener| Listener {
            name: l.name.clone(),
            host: l.advertised.host.clone(),
            port: l.advertised.port,
            security_protocol: SecurityProtocol::Plaintext,
        };
        let peer_address = address(&self.config.peer_advertised);
        RegisterBrokerRequest {
            cluster_id,
            id: self.config.node_id,
            incarnation: self.incarnation,
            previous_epoch: BrokerEpoch::UNKNOWN,
            listeners: self.config.listeners.iter().map(listener).collect(),
            gossip_address: self.config.timing.gossip.then(|| peer_address.clone()),
            peer_address,
            rack: self.config.rack.clone(),
            features: BTreeMap::from([(METADATA_VERSION_FEATURE.to_owned(), SUPPORTED_METADATA)]),
            directories: Vec::new(),
            is_controller: self.config.is_controller,
        }
    }

    /// Let another voter lead the metadata quorum, if this one does.
    async fn hand_over(&self) {
        if let Some(LocalMetadata::Voter { quorum, .. }) = self.metadata.get() {
            let _ = tokio::time::timeout(CLOSE_MAX, quorum.transfer_leadership()).await;
        }
    }

    /// Leave in order; each step has a bound.
    async fn shut_down(self, broker: Option<BrokerHalf>, gossip: Option<Gossip>) {
        tracing::info!("stopping");
        self.vital.let_go();
        if let Some(gossip) = &gossip {
            gossip.announce_leaving();
        }
        if let Some(LocalMetadata::Voter { quorum, .. }) = self.metadata.get()
            && quorum.failure().is_some()
        {
            // It may lead without a controller, and only a controller lets a broker leave: the next one must be there first.
            self.hand_over().await;
        }
        let mut half = None;
        if let Some(BrokerHalf { store, replicas, groups, leave, life }) = broker {
            leave.cancel();
            let _ = tokio::time::timeout(self.config.timing.controlled_shutdown + CLOSE_MAX, life).await;
            half = Some((store, replicas, groups));
        }
        self.hand_over().await;
        if let Some((_, _, groups)) = &half {
            let _ = tokio::time::timeout(CLOSE_MAX, groups.shutdown()).await;
        }
        self.stop.cancel();
        self.tracker.close();
        let _ = tokio::time::timeout(CLOSE_MAX, self.tracker.wait()).await;
        if let Some((store, replicas, _)) = half {
            replicas.stop_fetching();
            replicas.checkpoint();
            match tokio::time::timeout(CLOSE_MAX, blocking(move || store.close())).await {
                Ok(Ok(Ok(()))) => {}
                // A disk that hangs must not hold the process.
                outcome => tracing::warn!(?outcome, "the store was not closed in order; nothing acknowledged is lost"),
            }
        }
        if let Some(gossip) = gossip {
            let _ = tokio::time::timeout(CLOSE_MAX, gossip.leave()).await;
        }
        match self.metadata.get() {
            Some(LocalMetadata::Voter { quorum, .. }) => {
                let _ = tokio::time::timeout(CLOSE_MAX, quorum.stop()).await;
            }
            Some(LocalMetadata::Observer { observer, .. }) => {
                let _ = tokio::time::timeout(CLOSE_MAX, observer.stop()).await;
            }
            None => {}
        }
        let _ = tokio::time::timeout(CLOSE_MAX, self.pool.shutdown()).await;
        let _ = tokio::time::timeout(CLOSE_MAX, self.server.shutdown()).await;
        self.stop_http.cancel();
        if let Some(http) = self.http {
            let _ = http.await;
        }
        tracing::info!("stopped");
    }
}

/// What the metadata log is opened with.
struct OpenMetadata<'a> {
    config: &'a ServerConfig,
    me: QuorumNodeId,
    directory: &'a DataDirectory,
    pool: &'a PeerPool,
    /// They act before those that come later.
    early: Vec<Arc<dyn MetadataPublisher>>,
    publishers: &'a Arc<LatePublishers>,
}

impl OpenMetadata<'_> {
    fn all_publishers(&self) -> Vec<Arc<dyn MetadataPublisher>> {
        self.early.iter().cloned().chain([self.publishers.clone() as Arc<dyn MetadataPublisher>]).collect()
    }

    fn snapshots(&self) -> Result<Arc<SnapshotFiles>, StartError> {
        let path = self.directory.path().join("quorum").join("snapshots");
        SnapshotFiles::open(&path).map(Arc::new).map_err(|e| StartError::Directory(format!("{}: {e}", path.display())))
    }

    fn controller(&self) -> ControllerConfig {
        let (topics, timing) = (&self.config.topics, &self.config.timing);
        ControllerConfig {
            default_partitions: topics.num_partitions,
            default_replication_factor: topics.replication_factor,
            session_timeout: timing.broker_session,
            leader_rebalance: timing.leader_rebalance,
            leader_rebalance_interval: timing.leader_rebalance_interval,
            leader_imbalance_percent: timing.leader_imbalance_percent,
            first_configs: self.config.first_cluster_configs.clone(),
            ..ControllerConfig::default()
        }
    }

    async fn voter(&self, log: QuorumLog) -> Result<MetadataQuorum, StartError> {
        let timing = &self.config.timing;
        let config = QuorumConfig {
            heartbeat: timing.quorum_heartbeat,
            election_min: timing.quorum_election_min,
            election_max: timing.quorum_election_max,
            ..QuorumConfig::new(self.me, listed_voters(self.config), ClusterId::random())
        };
        let parts = QuorumParts {
            config,
            storage: Box::new(log),
            snapshots: self.snapshots()?,
            transport: Arc::new(QuorumLane::new(self.pool.clone())),
            publishers: self.all_publishers(),
            controller: Controller::new(self.controller(), rand::random()),
        };
        MetadataQuorum::start(parts).await.map_err(|error| match error {
            QuorumError::Storage(error) => cannot_open(self.directory, self.me.node_id, &error),
            other => StartError::Metadata(other.to_string()),
        })
    }

    fn observer(&self) -> Result<MetadataObserver, StartError> {
        let config = ObserverConfig::new(self.me, listed_voters(self.config), self.directory.cluster_id());
        let transport = Arc::new(QuorumLane::new(self.pool.clone()));
        MetadataObserver::start(config, transport, self.snapshots()?, MetadataImage::empty(), self.all_publishers())
            .map_err(|e| StartError::Metadata(e.to_string()))
    }
}

/// `controller.quorum.voters`.
fn listed_voters(config: &ServerConfig) -> BTreeMap<NodeId, QuorumNode> {
    config.voters.iter().map(|v| (v.node_id, QuorumNode { address: v.address.to_string() })).collect()
}

/// Opens the metadata log, when there is room for it. A log that lost what it held must not vote again under this directory's id.
async fn open_quorum_log(
    directory: &mut DataDirectory,
    me: NodeId,
    space: &Arc<SpaceWatch>,
    obstacle: &watch::Sender<Option<String>>,
) -> Result<QuorumLog, StartError> {
    let mut steps = Steps::default();
    loop {
        let opened = tokio::task::block_in_place(|| QuorumLog::open(directory, MARK_INTERVAL));
        match opened {
            Ok(log) => {
                obstacle.send_replace(None);
                return Ok(log);
            }
            Err(QuorumStorageError::DiskFull(why)) => {
                wait_for_room(&directory.path().join("quorum"), &why, space, obstacle, &mut steps).await;
            }
            Err(error) => return Err(cannot_open(directory, me, &error)),
        }
    }
}

fn cannot_open(directory: &DataDirectory, me: NodeId, error: &QuorumStorageError) -> StartError {
    let path = directory.path().display();
    StartError::Metadata(match error {
        QuorumStorageError::Lost(_) | QuorumStorageError::Corrupt(_) => format!(
            "{path}: {error}; restore the disk, or, where other voters are left, move the directory away: \
             node {me} then starts without a vote until `rookery quorum replace {me}`"
        ),
        _ => format!("{path}: {error}"),
    })
}

/// A store did not open because its disk is full, even with the space of the reserve: somebody has to make room. The process waits for
/// that, live and not ready, instead of ending and being started over and over.
async fn wait_for_room(
    store: &Path,
    why: &str,
    space: &Arc<SpaceWatch>,
    obstacle: &watch::Sender<Option<String>>,
    steps: &mut Steps,
) {
    let waits = format!("{} cannot be opened before there is space on its disk: {why}", store.display());
    tracing::error!("{waits}");
    obstacle.send_replace(Some(waits));
    space.clone().met_the_end().await;
    until_there_is_room(&**space, steps).await;
}

/// What clients and gossip come by: bound before anything is touched or promised, opened when the node is registered.
struct Doors {
    listeners: Vec<BoundListener>,
    /// Nothing where gossip is off.
    gossip: Option<GossipDoor>,
}

struct GossipDoor {
    socket: UdpSocket,
    /// What others are told.
    address: SocketAddr,
}

impl Doors {
    async fn bind(config: &ServerConfig) -> Result<Doors, StartError> {
        let mut listeners = Vec::new();
        if config.is_broker {
            for listener in &config.listeners {
                listeners.push(BoundListener::bind(&listener.name, listener.bind.bind_address()).await?);
            }
        }
        let gossip = if config.timing.gossip { Some(GossipDoor::bind(config).await?) } else { None };
        Ok(Doors { listeners, gossip })
    }
}

impl GossipDoor {
    async fn bind(config: &ServerConfig) -> Result<GossipDoor, StartError> {
        let place = resolve("peer.listener", &config.peer_bind).await?;
        let address = resolve("advertised.peer.listener", &config.peer_advertised).await?;
        let socket = UdpSocket::bind(place).map_err(|e| {
            let reason = match e.kind() {
                io::ErrorKind::AddrInUse => "the UDP port (gossip) is in use by another process".to_owned(),
                _ => e.to_string(),
            };
            ListenerError { address: place.to_string(), reason }
        })?;
        Ok(GossipDoor { socket, address })
    }
}

async fn resolve(setting: &'static str, address: &HostPort) -> Result<SocketAddr, StartError> {
    let failed = |reason: String| StartError::Address { setting, address: address.to_string(), reason };
    let mut found = lookup_host(address.bind_address()).await.map_err(|e| failed(e.to_string()))?;
    found.next().ok_or_else(|| failed("the name has no address".to_owned()))
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, StartError> {
    tokio::task::spawn_blocking(work).await.map_err(|e| StartError::Directory(e.to_string()))
}
