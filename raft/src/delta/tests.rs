//! The delta's own algebra; the controller's property tests drive it with real histories.

use super::*;
use crate::ids::{BrokerEpoch, DirectoryId, IncarnationId, LeaderEpoch, PartitionEpoch};
use crate::record::{Address, PartitionChange, PartitionRegistration, RegisterBroker};
use uuid::Uuid;

fn registration(leader: i32) -> PartitionRegistration {
    PartitionRegistration {
        replicas: [1, 2, 3].map(NodeId).into_iter().collect(),
        directories: [DirectoryId::NONE; 3].into_iter().collect(),
        isr: [1, 2, 3].map(NodeId).into_iter().collect(),
        elr: Default::default(),
        last_known_elr: Default::default(),
        recovery_state: Default::default(),
        leader: NodeId(leader),
        leader_epoch: LeaderEpoch(0),
        partition_epoch: PartitionEpoch(0),
        adding: Default::default(),
        removing: Default::default(),
    }
}

fn topic_id(n: u128) -> TopicId {
    TopicId(Uuid::from_u128(n))
}

fn topic(n: u128, name: &str, partitions: i32) -> Vec<MetadataRecord> {
    let mut records = vec![MetadataRecord::Topic { name: name.into(), id: topic_id(n) }];
    records.extend((0..partitions).map(|partition| MetadataRecord::Partition {
        topic_id: topic_id(n),
        partition,
        registration: registration(1),
    }));
    records
}

fn register(id: i32, epoch: i64) -> MetadataRecord {
    MetadataRecord::RegisterBroker(RegisterBroker {
        id: NodeId(id),
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

fn image_of(records: &[MetadataRecord]) -> Arc<MetadataImage> {
    let mut delta = MetadataDelta::new(MetadataImage::empty());
    for record in records {
        delta.replay(MetadataOffset(0), record).expect("sound records");
    }
    Arc::new(delta.apply())
}

#[test]
fn a_topic_made_again_in_the_batch_that_deletes_it_is_the_new_one() {
    let mut first = topic(1, "t", 2);
    first.push(MetadataRecord::Config {
        resource: crate::record::ConfigResource::topic("t"),
        name: "retention.ms".into(),
        value: Some("1".into()),
    });
    let image = image_of(&first);
    let mut delta = MetadataDelta::new(image);
    delta.replay(MetadataOffset(1), &MetadataRecord::RemoveTopic { topic_id: topic_id(1) }).expect("it exists");
    for record in topic(2, "t", 1) {
        delta.replay(MetadataOffset(1), &record).expect("the name is free");
    }
    let image = delta.apply();
    assert_eq!(image.topics.by_name("t").map(|t| (t.id, t.partitions.len())), Some((topic_id(2), 1)));
    assert_eq!(image.topics.len(), 1);
    assert_eq!(image.configs.topic("t", "retention.ms"), None, "configs die with their topic");
    let local = delta.local_changes(NodeId(1));
    assert_eq!((local.deleted.len(), local.leaders.len(), local.followers.len()), (2, 1, 0));
}

#[test]
fn what_is_impossible_is_fatal() {
    let image = image_of(&[topic(1, "t", 1), vec![register(1, 5)]].concat());
    let replay = |record: MetadataRecord| {
        MetadataDelta::new(image.clone()).replay(MetadataOffset(9), &record).map_err(|e| e.why)
    };
    let change = |epoch: i32| PartitionChange::new(topic_id(1), 0, PartitionEpoch(epoch));
    assert_eq!(
        replay(MetadataRecord::PartitionChange(change(2))),
        Err(Impossible::EpochGap(topic_id(1), 0)),
        "a partition epoch was jumped over"
    );
    let mut same_epoch = change(1);
    same_epoch.leader = Some(NodeId(2));
    assert_eq!(
        replay(MetadataRecord::PartitionChange(same_epoch)),
        Err(Impossible::EpochGap(topic_id(1), 0)),
        "two leaders share an epoch"
    );
    let mut outside = change(1);
    outside.isr = Some([NodeId(2)].into_iter().collect());
    assert_eq!(
        replay(MetadataRecord::PartitionChange(outside)),
        Err(Impossible::BrokenPartition(topic_id(1), 0, "the leader is outside the ISR"))
    );
    assert_eq!(
        replay(MetadataRecord::FenceBroker { id: NodeId(1), epoch: BrokerEpoch(4) }),
        Err(Impossible::WrongBrokerEpoch { id: NodeId(1), current: BrokerEpoch(5), given: BrokerEpoch(4) })
    );
    assert!(replay(register(1, 5)).is_err(), "an epoch was given twice");
    assert!(replay(topic(2, "t", 0).remove(0)).is_err(), "a name was given twice");
    assert!(
        replay(MetadataRecord::FeatureLevel { name: METADATA_VERSION_FEATURE.into(), level: 99 }).is_err(),
        "a format nobody here can read"
    );
    assert!(
        MetadataDelta::new(image.clone()).replay(MetadataOffset(0), &register(2, 6)).is_err(),
        "an entry is applied twice"
    );
}

#[test]
fn a_snapshot_tells_publishers_what_entries_would_have_told() {
    let old = image_of(&[topic(1, "a", 2), topic(2, "b", 1), vec![register(1, 1)]].concat());
    let mut by_records = MetadataDelta::new(old.clone());
    let mut change = PartitionChange::new(topic_id(1), 1, PartitionEpoch(1));
    change.leader = Some(NodeId(2));
    change.leader_epoch = Some(LeaderEpoch(1));
    let records = [
        vec![MetadataRecord::PartitionChange(change), MetadataRecord::RemoveTopic { topic_id: topic_id(2) }],
        topic(3, "c", 1),
        vec![register(2, 2), MetadataRecord::UnregisterBroker { id: NodeId(1), epoch: BrokerEpoch(1) }],
    ]
    .concat();
    for record in &records {
        by_records.replay(MetadataOffset(1), record).expect("sound records");
    }
    let new = by_records.apply();
    let by_snapshot = MetadataDelta::between(old, &new);
    for broker in [1, 2, 3].map(NodeId) {
        assert_eq!(by_snapshot.local_changes(broker), by_records.local_changes(broker));
    }
    assert_eq!(
        by_snapshot.cluster.changed().map(|(id, ..)| id).collect::<Vec<_>>(),
        by_records.cluster.changed().map(|(id, ..)| id).collect::<Vec<_>>()
    );
    assert_eq!(by_snapshot.apply(), new);
}

#[test]
fn a_late_publisher_is_told_everything() {
    struct Sees(parking_lot::Mutex<Vec<usize>>);
    impl MetadataPublisher for Sees {
        fn name(&self) -> &str {
            "sees"
        }
        fn on_metadata_update(&self, delta: &MetadataDelta, image: &Arc<MetadataImage>) {
            assert_eq!(delta.offset(), image.offset);
            self.0.lock().push(delta.topics.created().count());
        }
    }
    let sees = Arc::new(Sees(parking_lot::Mutex::new(Vec::new())));
    let mut loader = MetadataLoader::new(image_of(&topic(1, "a", 1)));
    loader.add_publisher(sees.clone());
    let more = [topic(2, "b", 1), topic(3, "c", 1)].concat();
    loader.apply([(MetadataOffset(3), &more[..]), (MetadataOffset(4), &[])]).expect("sound records");
    assert_eq!(*sees.0.lock(), vec![1, 2]);
    assert_eq!(loader.image().offset, MetadataOffset(4));
}
