//! A broker's replicas over the memory store, driven by metadata: no clock, no network answers.

use super::*;
use crate::peer::{AddressBook, LocalIdentity, PeerConfig, PeerEvents, PeerIdentity};
use crate::replica::partition_leader::{AppendRequest, RequiredAcks};
use crate::storage::{AppendOrigin, LogConfig, MemoryStore, TimestampType};
use bytes::Bytes;
use rookery_protocol::batch::RecordBatchBuilder;
use rookery_raft::ids::{DirectoryId, IncarnationId, MetadataOffset, PartitionEpoch, TopicId};
use rookery_raft::record::{Address, Formation, MetadataRecord, PartitionChange, RegisterBroker};
use uuid::Uuid;

const ME: NodeId = NodeId(1);
const OTHER: NodeId = NodeId(2);
const TOPIC: TopicId = TopicId(Uuid::from_u128(7));
const OTHER_TOPIC: TopicId = TopicId(Uuid::from_u128(8));
const P: TopicIdPartition = TopicIdPartition { topic_id: TOPIC, partition: 0 };
const Q: TopicIdPartition = TopicIdPartition { topic_id: OTHER_TOPIC, partition: 0 };

struct StoppedClock;

impl Clock for StoppedClock {
    fn now(&self) -> Duration {
        Duration::from_secs(1)
    }
    fn wall_ms(&self) -> i64 {
        1000
    }
}

fn store() -> Arc<MemoryStore> {
    MemoryStore::new(DirectoryId::NONE, ClusterId::NONE, Arc::new(|| Duration::from_secs(1)))
}

fn open(store: &Arc<MemoryStore>) -> LogDirectory {
    LogDirectory::open(store.clone(), LogConfig::default(), 0).expect("the store opens")
}

/// A broker that has just started over what is on its disk.
fn start(store: &Arc<MemoryStore>) -> Arc<ReplicaManager> {
    let identity = LocalIdentity::new(PeerIdentity {
        cluster_id: None,
        node_id: ME,
        directory_id: DirectoryId::NONE,
        incarnation: IncarnationId::NONE,
        broker_epoch: BrokerEpoch::UNKNOWN,
    });
    let (book, events) = (AddressBook::new(), PeerEvents::new());
    let pool = PeerPool::new(identity, book, PeerConfig::default(), events, Arc::new(|| 0.5));
    let config = ReplicaManagerConfig {
        node: ME,
        replica: ReplicaConfig::default(),
        fetcher: FetcherConfig::default(),
        retention_interval: Duration::from_secs(3600),
        producer_expiration: Duration::from_secs(3600),
    };
    ReplicaManager::new(config, open(store), Arc::new(StoppedClock), pool, 1)
}

/// The metadata log as its entries come in.
struct Log(Arc<MetadataImage>);

impl Log {
    fn new() -> Self {
        let mut log = Log(MetadataImage::empty());
        log.entry(&[MetadataRecord::Formation(Formation {
            cluster_id: ClusterId(Uuid::from_u128(3)),
            voters: vec![],
        })]);
        log
    }

    fn entry(&mut self, records: &[MetadataRecord]) -> MetadataDelta {
        let mut delta = MetadataDelta::new(self.0.clone());
        let index = MetadataOffset(self.0.offset.0 + 1);
        for record in records {
            delta.replay(index, record).expect("sound records");
        }
        self.0 = Arc::new(delta.apply());
        delta
    }

    /// One entry, and this broker is told of it.
    fn tell(&mut self, manager: &ReplicaManager, records: &[MetadataRecord]) {
        let delta = self.entry(records);
        manager.on_metadata_update(&delta, &self.0);
    }

    /// This broker is registered, and knows it.
    fn register(&mut self, manager: &ReplicaManager, epoch: i64) {
        manager.registered(BrokerEpoch(epoch));
        self.tell(manager, &[registration(ME, epoch)]);
    }
}

fn registration(id: NodeId, epoch: i64) -> MetadataRecord {
    MetadataRecord::RegisterBroker(RegisterBroker {
        id,
        epoch: BrokerEpoch(epoch),
        incarnation: IncarnationId::NONE,
        previous_epoch: BrokerEpoch::UNKNOWN,
        listeners: vec![],
        peer_address: Address { host: "h".into(), port: 1 },
        gossip_address: None,
        rack: None,
        features: Default::default(),
        directories: vec![],
        is_controller: false,
    })
}

fn topic(name: &str, id: TopicId, leader: NodeId) -> Vec<MetadataRecord> {
    let partition = PartitionRegistration {
        replicas: [ME, OTHER].into_iter().collect(),
        directories: [DirectoryId::NONE; 2].into_iter().collect(),
        isr: [ME, OTHER].into_iter().collect(),
        elr: Default::default(),
        last_known_elr: Default::default(),
        recovery_state: Default::default(),
        leader,
        leader_epoch: LeaderEpoch(0),
        partition_epoch: PartitionEpoch(0),
        adding: Default::default(),
        removing: Default::default(),
    };
    vec![
        MetadataRecord::Topic { name: name.into(), id },
        MetadataRecord::Partition { topic_id: id, partition: 0, registration: partition },
    ]
}

/// The next registration of partition 0 of `TOPIC`: epoch `n` of both kinds.
fn change(n: i32) -> PartitionChange {
    PartitionChange { leader_epoch: Some(LeaderEpoch(n)), ..PartitionChange::new(TOPIC, 0, PartitionEpoch(n)) }
}

/// Records with these timestamps.
fn batch(timestamps: &[i64]) -> Bytes {
    let mut batch = RecordBatchBuilder::new();
    for timestamp in timestamps {
        batch.push(*timestamp, None, Some(b"v"), &[]);
    }
    batch.build().expect("a batch").into_bytes()
}

fn append(manager: &ReplicaManager, id: TopicIdPartition, epoch: i32) -> Result<i64, ReplicaError> {
    manager.heartbeat_answered(Duration::from_secs(1));
    let how = AppendRequest {
        acks: RequiredAcks::Leader,
        timestamp_type: TimestampType::CreateTime,
        origin: AppendOrigin::Client,
        leader_epoch: LeaderEpoch(epoch),
    };
    let partition = manager.partition(id).ok_or(ReplicaError::NotLeaderOrFollower)?;
    Ok(partition.append_as_leader(batch(&[1000]), how)?.info.first_offset)
}

fn on_disk(store: &Arc<MemoryStore>) -> Vec<TopicIdPartition> {
    store.commit();
    open(store).logs().iter().map(|log| log.topic_id_partition()).collect()
}

#[tokio::test]
async fn a_log_whose_topic_was_deleted_while_the_node_was_down_stayed_on_its_disk() {
    let (store, mut log) = (store(), Log::new());
    let first_life = start(&store);
    log.register(&first_life, 1);
    log.tell(&first_life, &topic("t", TOPIC, ME));
    log.tell(&first_life, &topic("u", OTHER_TOPIC, ME));
    append(&first_life, P, 0).unwrap();
    assert_eq!(on_disk(&store), [P, Q]);
    drop(first_life);

    log.entry(&[MetadataRecord::RemoveTopic { topic_id: TOPIC }]);
    let second_life = start(&store);
    log.register(&second_life, 5);
    assert_eq!(on_disk(&store), [Q]);
    assert!(second_life.partition(P).is_none() && second_life.partition(Q).is_some());
}

#[tokio::test]
async fn a_log_of_a_replica_that_was_moved_away_while_the_node_was_down_stayed_on_its_disk() {
    let (store, mut log) = (store(), Log::new());
    let first_life = start(&store);
    log.register(&first_life, 1);
    log.tell(&first_life, &topic("t", TOPIC, OTHER));
    assert_eq!(on_disk(&store), [P]);
    drop(first_life);

    let moved = PartitionChange {
        replicas: Some([OTHER].into_iter().collect()),
        directories: Some([DirectoryId::NONE].into_iter().collect()),
        isr: Some([OTHER].into_iter().collect()),
        ..change(1)
    };
    log.entry(&[MetadataRecord::PartitionChange(moved)]);
    let second_life = start(&store);
    log.register(&second_life, 5);
    assert_eq!(on_disk(&store), []);
}

/// Replay after a start shows images from before the topic was made, and from before this life.
#[tokio::test]
async fn an_image_that_is_behind_deletes_nothing() {
    let (store, mut log) = (store(), Log::new());
    let first_life = start(&store);
    log.register(&first_life, 1);
    let before_the_topic = log.0.clone();
    log.tell(&first_life, &topic("t", TOPIC, ME));
    assert_eq!(on_disk(&store), [P]);
    drop(first_life);

    let second_life = start(&store);
    let whole = MetadataDelta::between(MetadataImage::empty(), &before_the_topic);
    second_life.on_metadata_update(&whole, &before_the_topic);
    assert_eq!(on_disk(&store), [P], "no registration is known yet");
    second_life.registered(BrokerEpoch(5));
    second_life.retry_unfinished();
    assert_eq!(on_disk(&store), [P], "the image holds another life's registration");
    let missed = MetadataDelta::between(before_the_topic, &log.0);
    second_life.on_metadata_update(&missed, &log.0);
    log.tell(&second_life, &[registration(ME, 5)]);
    assert_eq!(on_disk(&store), [P], "the topic is there");

    // Its next registration is on the way: what the image says now may be what the last one missed.
    second_life.registered(BrokerEpoch(9));
    second_life.unfinished.lock().strays = true;
    second_life.directory.load().get_or_create(Q, LogClass::of(false, -1, -1)).unwrap();
    second_life.retry_unfinished();
    assert_eq!(on_disk(&store), [P, Q]);
    log.tell(&second_life, &[registration(ME, 9)]);
    assert_eq!(on_disk(&store), [P]);
}

#[tokio::test]
async fn a_deletion_that_the_store_refused_was_left_to_the_next_start() {
    let (store, mut log) = (store(), Log::new());
    let manager = start(&store);
    log.register(&manager, 1);
    log.tell(&manager, &topic("t", TOPIC, ME));
    store.commit();
    store.set_queued_bytes_max(0);
    log.tell(&manager, &[MetadataRecord::RemoveTopic { topic_id: TOPIC }]);
    store.set_queued_bytes_max(usize::MAX);
    assert_eq!(on_disk(&store), [P]);
    manager.retry_unfinished();
    assert_eq!(on_disk(&store), []);
}
