use super::*;
use crate::replica::testing::*;
use rookery_raft::ids::DirectoryId;
use rookery_raft::record::{MetadataRecord, PartitionChange};

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
