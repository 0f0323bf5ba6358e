//! A broker's replicas over the memory store, driven by metadata: no clock of their own, no answers from a network.

use super::error::ReplicaError;
use super::fetcher::FetcherConfig;
use super::partition::{Clock, ReplicaConfig};
use super::partition_leader::{AppendRequest, RequiredAcks};
use super::replica_lane::ReplicaLane;
use super::replica_manager::repair::KIND_BATCH;
use super::replica_manager::scrub::ScrubConfig;
use super::replica_manager::{ReplicaManager, ReplicaManagerConfig};
use crate::peer::{
    AddressBook, Carrier, Lane, LocalIdentity, PeerConfig, PeerError, PeerEvents, PeerIdentity, PeerPool, PeerService,
    ProbeOutcome,
};
use crate::storage::tail_cache::TailCache;
use crate::storage::{AppendOrigin, LogConfig, LogDirectory, MemoryStore, TimestampType};
use bytes::Bytes;
use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use rookery_protocol::batch::RecordBatchBuilder;
use rookery_raft::delta::{MetadataDelta, MetadataPublisher};
use rookery_raft::ids::{
    BrokerEpoch, ClusterId, DirectoryId, IncarnationId, LeaderEpoch, MetadataOffset, NodeId, PartitionEpoch, TopicId,
    TopicIdPartition,
};
use rookery_raft::image::MetadataImage;
use rookery_raft::image::topic_configs::TopicConfigs;
use rookery_raft::record::{
    Address, Formation, Listener, MetadataRecord, PartitionChange, PartitionRegistration, RegisterBroker,
    SecurityProtocol,
};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use uuid::Uuid;

pub(crate) const ME: NodeId = NodeId(1);
pub(crate) const OTHER: NodeId = NodeId(2);
pub(crate) const TOPIC: TopicId = TopicId(Uuid::from_u128(7));
pub(crate) const OTHER_TOPIC: TopicId = TopicId(Uuid::from_u128(8));
pub(crate) const P: TopicIdPartition = TopicIdPartition { topic_id: TOPIC, partition: 0 };
pub(crate) const Q: TopicIdPartition = TopicIdPartition { topic_id: OTHER_TOPIC, partition: 0 };

/// A clock that stands until it is moved.
#[derive(Default)]
pub(crate) struct TestClock(AtomicU64);

impl TestClock {
    pub(crate) fn advance(&self, by: Duration) {
        self.0.fetch_add(by.as_millis() as u64, Ordering::Relaxed);
    }
}

impl Clock for TestClock {
    fn now(&self) -> Duration {
        Duration::from_millis(self.0.load(Ordering::Relaxed))
    }
    fn wall_ms(&self) -> i64 {
        self.0.load(Ordering::Relaxed) as i64
    }
}

pub(crate) fn store() -> Arc<MemoryStore> {
    MemoryStore::new(DirectoryId::NONE, ClusterId::NONE, Arc::new(|| Duration::ZERO))
}

pub(crate) fn open(store: &Arc<MemoryStore>) -> LogDirectory {
    LogDirectory::open(store.clone(), LogConfig::default(), 0).expect("the store opens")
}

/// A broker that has just started over what is on its disk.
pub(crate) fn start(store: &Arc<MemoryStore>) -> Arc<ReplicaManager> {
    start_with_clock(store, Arc::new(TestClock::default()))
}

/// The same, in its own time.
pub(crate) fn start_with_clock(store: &Arc<MemoryStore>, clock: Arc<TestClock>) -> Arc<ReplicaManager> {
    let pool =
        PeerPool::new(identity(ME), AddressBook::new(), PeerConfig::default(), PeerEvents::new(), Arc::new(|| 0.5));
    start_as(ME, open(store), clock, pool)
}

fn identity(node_id: NodeId) -> LocalIdentity {
    LocalIdentity::new(peer(node_id))
}

fn peer(node_id: NodeId) -> PeerIdentity {
    PeerIdentity {
        cluster_id: None,
        node_id,
        directory_id: DirectoryId::NONE,
        incarnation: IncarnationId::NONE,
        broker_epoch: BrokerEpoch::UNKNOWN,
    }
}

/// Brokers that ask each other for batches, and for nothing else.
#[derive(Clone, Default)]
pub(crate) struct Wire(Arc<Mutex<BTreeMap<NodeId, ReplicaLane>>>);

struct End(NodeId, Wire);

impl Carrier for End {
    fn call(&self, node: NodeId, _: Lane, kind: u16, body: Bytes) -> BoxFuture<'static, Result<Bytes, PeerError>> {
        let (from, lane) = (peer(self.0), self.1.0.lock().get(&node).cloned());
        Box::pin(async move {
            match lane.filter(|_| kind == KIND_BATCH) {
                Some(lane) => Ok(lane.call(from, kind, body).await?.concat().into()),
                None => Err(PeerError::UnknownKind(kind)),
            }
        })
    }

    fn probe(&self, _: NodeId) -> BoxFuture<'static, ProbeOutcome> {
        Box::pin(std::future::pending())
    }
}

impl Wire {
    /// A broker on this wire that keeps no more batches in memory than it must.
    pub(crate) fn start(&self, node: NodeId, store: &Arc<MemoryStore>, clock: Arc<TestClock>) -> Arc<ReplicaManager> {
        let carrier = Arc::new(End(node, self.clone()));
        let pool = PeerPool::carried_by(identity(node), AddressBook::new(), PeerEvents::new(), carrier);
        let config = LogConfig { tail_cache: Arc::new(TailCache::new(0)), ..LogConfig::default() };
        let logs = LogDirectory::open(store.clone(), config, 0).expect("the store opens");
        let manager = start_as(node, logs, clock, pool);
        let lane = ReplicaLane::default();
        lane.open(manager.clone());
        self.join(node, lane);
        manager
    }

    /// It can be reached.
    pub(crate) fn join(&self, node: NodeId, lane: ReplicaLane) {
        self.0.lock().insert(node, lane);
    }

    /// It cannot be reached any more.
    pub(crate) fn cut(&self, node: NodeId) {
        self.0.lock().remove(&node);
    }
}

fn start_as(node: NodeId, logs: LogDirectory, clock: Arc<TestClock>, pool: PeerPool) -> Arc<ReplicaManager> {
    let config = ReplicaManagerConfig {
        node,
        replica: ReplicaConfig::default(),
        fetcher: FetcherConfig::default(),
        topic_configs: Arc::new(TopicConfigs::new(ME, [])),
        retention_interval: Duration::from_secs(3600),
        producer_expiration: Duration::from_secs(3600),
        scrub: ScrubConfig::default(),
    };
    ReplicaManager::new(config, logs, clock, pool, 1)
}

/// The metadata log as its entries come in.
pub(crate) struct Log(pub(crate) Arc<MetadataImage>);

impl Log {
    pub(crate) fn new() -> Self {
        let mut log = Log(MetadataImage::empty());
        log.entry(&[MetadataRecord::Formation(Formation {
            cluster_id: ClusterId(Uuid::from_u128(3)),
            voters: vec![],
        })]);
        log
    }

    pub(crate) fn entry(&mut self, records: &[MetadataRecord]) -> MetadataDelta {
        let mut delta = MetadataDelta::new(self.0.clone());
        let index = MetadataOffset(self.0.offset.0 + 1);
        for record in records {
            delta.replay(index, record).expect("sound records");
        }
        self.0 = Arc::new(delta.apply());
        delta
    }

    /// One entry, and this broker is told of it.
    pub(crate) fn tell(&mut self, manager: &ReplicaManager, records: &[MetadataRecord]) {
        let delta = self.entry(records);
        manager.on_metadata_update(&delta, &self.0);
    }

    /// This broker is registered, and knows it.
    pub(crate) fn register(&mut self, manager: &ReplicaManager, epoch: i64) {
        manager.registered(BrokerEpoch(epoch));
        manager.heartbeat_answered(Duration::ZERO);
        self.tell(manager, &[registration(ME, epoch)]);
    }
}

pub(crate) fn registration(id: NodeId, epoch: i64) -> MetadataRecord {
    MetadataRecord::RegisterBroker(RegisterBroker {
        id,
        epoch: BrokerEpoch(epoch),
        incarnation: IncarnationId::NONE,
        previous_epoch: BrokerEpoch::UNKNOWN,
        listeners: vec![Listener {
            name: "PLAINTEXT".to_owned(),
            host: format!("host-{id}"),
            port: 9092,
            security_protocol: SecurityProtocol::Plaintext,
        }],
        peer_address: Address { host: "h".into(), port: 1 },
        gossip_address: None,
        rack: None,
        features: Default::default(),
        directories: vec![],
        is_controller: false,
    })
}

/// Partition 0 of a topic that is made.
fn partition(replicas: &[NodeId], isr: &[NodeId], leader: NodeId) -> PartitionRegistration {
    PartitionRegistration {
        replicas: replicas.iter().copied().collect(),
        directories: replicas.iter().map(|_| DirectoryId::NONE).collect(),
        isr: isr.iter().copied().collect(),
        elr: Default::default(),
        last_known_elr: Default::default(),
        recovery_state: Default::default(),
        leader,
        leader_epoch: LeaderEpoch(0),
        partition_epoch: PartitionEpoch(0),
        adding: Default::default(),
        removing: Default::default(),
    }
}

fn one_partition(name: &str, id: TopicId, registration: PartitionRegistration) -> Vec<MetadataRecord> {
    vec![
        MetadataRecord::Topic { name: name.into(), id },
        MetadataRecord::Partition { topic_id: id, partition: 0, registration },
    ]
}

/// A topic of one partition, on this broker and another.
pub(crate) fn topic(name: &str, id: TopicId, leader: NodeId) -> Vec<MetadataRecord> {
    one_partition(name, id, partition(&[ME, OTHER], &[ME, OTHER], leader))
}

/// A topic of one partition that this broker alone has.
pub(crate) fn alone(name: &str, id: TopicId) -> Vec<MetadataRecord> {
    one_partition(name, id, partition(&[ME], &[ME], ME))
}

/// A topic of one partition of which this broker alone is in sync.
pub(crate) fn alone_of_two(name: &str, id: TopicId) -> Vec<MetadataRecord> {
    one_partition(name, id, partition(&[ME, OTHER], &[ME], ME))
}

/// The next registration of partition 0 of `TOPIC`: epoch `n` of both kinds.
pub(crate) fn change(n: i32) -> PartitionChange {
    PartitionChange { leader_epoch: Some(LeaderEpoch(n)), ..PartitionChange::new(TOPIC, 0, PartitionEpoch(n)) }
}

/// Records with these timestamps.
pub(crate) fn batch(timestamps: &[i64]) -> Bytes {
    let mut batch = RecordBatchBuilder::new();
    for timestamp in timestamps {
        batch.push(*timestamp, None, Some(b"v"), &[]);
    }
    batch.build().expect("a batch").into_bytes()
}

pub(crate) fn change_of(n: i32, leader: NodeId) -> MetadataRecord {
    MetadataRecord::PartitionChange(PartitionChange { leader: Some(leader), ..change(n) })
}

/// An append that waits for this broker's disk.
pub(crate) fn acks_of_leader(leader_epoch: LeaderEpoch) -> AppendRequest {
    AppendRequest {
        acks: RequiredAcks::Leader,
        timestamp_type: TimestampType::CreateTime,
        origin: AppendOrigin::Client,
        leader_epoch,
    }
}

pub(crate) fn append(manager: &ReplicaManager, id: TopicIdPartition, epoch: i32) -> Result<i64, ReplicaError> {
    let how = acks_of_leader(LeaderEpoch(epoch));
    let partition = manager.partition(id).ok_or(ReplicaError::NotLeaderOrFollower)?;
    Ok(partition.append_as_leader(batch(&[1000]), how)?.info.first_offset)
}

pub(crate) fn on_disk(store: &Arc<MemoryStore>) -> Vec<TopicIdPartition> {
    store.commit();
    open(store).logs().iter().map(|log| log.topic_id_partition()).collect()
}
