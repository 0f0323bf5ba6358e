use super::*;
use crate::replica::partition::FollowerState;
use crate::replica::partition_leader::{AckWait, AppendRequest, RequiredAcks};
use crate::replica::testing::*;
use crate::storage::memory_store::Fault;
use crate::storage::{AppendOrigin, LogStore};
use rookery_protocol::batch::RecordBatchBuilder;
use rookery_raft::ids::{DirectoryId, TopicId};
use rookery_raft::record::{ConfigResource, MetadataRecord, PartitionChange};

const THIRD_TOPIC: TopicId = TopicId(uuid::Uuid::from_u128(9));

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

/// A client that has seen newer metadata than this broker sends several batches ahead; the topic came between the first and the second.
#[tokio::test]
async fn a_producers_second_batch_was_taken_before_its_first_that_came_too_early() {
    let (store, mut log) = (store(), Log::new());
    let manager = start(&store);
    log.register(&manager, 1);
    let of_producer = |sequence| {
        let mut batch = RecordBatchBuilder::new().producer(9, 0, sequence);
        batch.push(0, None, Some(b"v"), &[]);
        batch.build().unwrap().into_bytes()
    };
    let append = |id, sequence| {
        let partition: Arc<Partition> = manager.partition(id).unwrap();
        partition
            .append_as_leader(of_producer(sequence), acks_of_leader(LeaderEpoch::NONE))
            .map(|taken| taken.info.first_offset)
    };
    let refuse = |topic| {
        manager.refused_without_replica(topic, 0, &of_producer(0), ReplicaError::UnknownTopicOrPartition);
    };
    refuse(NamedTopic::Name("t".into()));
    // It would keep up to 100 MB for each partition that a request names.
    refuse(NamedTopic::Name("x".repeat(250).into()));
    refuse(NamedTopic::Id(OTHER_TOPIC));
    assert_eq!(manager.early_refusals.len(), 2);
    log.tell(&manager, &alone("t", TOPIC));
    log.tell(&manager, &alone("u", OTHER_TOPIC));
    for id in [P, Q] {
        assert_eq!(append(id, 1), Err(ReplicaError::UnknownTopicOrPartition), "it waits for the first");
        assert_eq!((append(id, 0), append(id, 1)), (Ok(0), Ok(1)));
    }
    // The replica came between the look and the note.
    log.tell(&manager, &[MetadataRecord::RemoveTopic { topic_id: TOPIC }]);
    log.tell(&manager, &alone("t", THIRD_TOPIC));
    refuse(NamedTopic::Name("t".into()));
    let id = TopicIdPartition { topic_id: THIRD_TOPIC, partition: 0 };
    assert_eq!(append(id, 1), Err(ReplicaError::UnknownTopicOrPartition));
    assert_eq!((append(id, 0), append(id, 1)), (Ok(0), Ok(1)));
}

/// It waited on until its client's time was over, although the same records would have been refused.
#[tokio::test]
async fn a_produce_that_waited_when_min_insync_replicas_rose_was_left_behind() {
    let (store, mut log) = (store(), Log::new());
    let manager = start(&store);
    log.register(&manager, 1);
    let min = |value: &str| MetadataRecord::Config {
        resource: ConfigResource::cluster(),
        name: "min.insync.replicas".into(),
        value: Some(value.into()),
    };
    log.tell(&manager, &[min("1")]);
    log.tell(&manager, &alone_of_two("t", TOPIC));
    let partition = manager.partition(P).unwrap();
    let append = || {
        let how = AppendRequest { acks: RequiredAcks::All, ..acks_of_leader(LeaderEpoch::NONE) };
        partition.append_as_leader(batch(&[1000]), how)
    };
    let AckWait::Committed(mut waits) = append().unwrap().wait else { panic!("acks=all waits for the high watermark") };
    assert_eq!(waits.try_result(), None, "its own disk is not done");
    log.tell(&manager, &[min("2")]);
    assert_eq!(waits.try_result(), Some(Err(ReplicaError::NotEnoughReplicasAfterAppend)));
    assert_eq!(append().unwrap_err(), ReplicaError::NotEnoughReplicas);
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

#[tokio::test]
async fn a_replica_follows_the_metadata_from_its_first_registration_to_its_end() {
    let (store, mut log) = (store(), Log::new());
    let manager = start(&store);
    log.register(&manager, 1);
    let role = || manager.partition(P).map(|partition| partition.role());
    assert_eq!(role(), None);
    log.tell(&manager, &topic("t", TOPIC, ME));
    assert_eq!(role(), Some((Role::Leader, LeaderEpoch(0))));
    assert_eq!(manager.led(TOPIC), BTreeMap::from([(0, LeaderEpoch(0))]));
    assert_eq!(append(&manager, P, 0), Ok(0));
    assert_eq!(manager.counts(), ReplicaCounts { replicas: 1, leaders: 1, ..ReplicaCounts::default() });

    log.tell(&manager, &[change_of(1, OTHER)]);
    assert_eq!(role(), Some((Role::Follower(FollowerState { leader: OTHER }), LeaderEpoch(1))));
    assert_eq!(append(&manager, P, 1), Err(ReplicaError::NotLeaderOrFollower));
    assert!(manager.streams.lock().contains_key(&OTHER), "it fetches");

    log.tell(&manager, &[change_of(2, ME)]);
    assert_eq!(role(), Some((Role::Leader, LeaderEpoch(2))));
    assert!(manager.streams.lock().is_empty(), "it fetches from nobody");
    assert_eq!(append(&manager, P, 2), Ok(1), "behind what it had");
    assert_eq!(append(&manager, P, 1), Err(ReplicaError::FencedLeaderEpoch));

    let moved = PartitionChange {
        replicas: Some([OTHER].into_iter().collect()),
        directories: Some([DirectoryId::NONE].into_iter().collect()),
        isr: Some([OTHER].into_iter().collect()),
        leader: Some(OTHER),
        ..change(3)
    };
    log.tell(&manager, &[MetadataRecord::PartitionChange(moved)]);
    assert_eq!((role(), manager.led(TOPIC)), (None, BTreeMap::new()));
    assert_eq!(on_disk(&store), []);

    log.tell(&manager, &topic("u", OTHER_TOPIC, ME));
    assert_eq!(on_disk(&store), [Q]);
    log.tell(&manager, &[MetadataRecord::RemoveTopic { topic_id: OTHER_TOPIC }]);
    assert_eq!(on_disk(&store), []);
    assert_eq!(manager.counts(), ReplicaCounts::default());
}

#[tokio::test]
async fn a_store_that_failed_and_reopened_leads_in_the_next_term_only() {
    let (store, mut log) = (store(), Log::new());
    let manager = start(&store);
    log.register(&manager, 1);
    log.tell(&manager, &alone("t", TOPIC));
    assert_eq!(append(&manager, P, 0), Ok(0));
    store.commit();
    assert_eq!(append(&manager, P, 0), Ok(1));
    store.inject(Fault::FsyncFails { kept: 0 });
    store.commit();
    assert!(manager.store_failure().borrow().is_some());
    assert_eq!(manager.counts().offline, 1);
    assert_eq!(append(&manager, P, 0), Err(ReplicaError::NotLeaderOrFollower));

    store.reopen().unwrap();
    manager.store_reopened(open(&store)).unwrap();
    assert!(manager.store_failure().borrow().is_none());
    assert_eq!(append(&manager, P, 0), Err(ReplicaError::NotLeaderOrFollower), "the term was resigned");
    log.tell(&manager, &[change_of(1, ME)]);
    assert_eq!(append(&manager, P, 1), Ok(1), "what was not synced is gone");
    assert_eq!(manager.counts().offline, 0);
}

#[tokio::test]
async fn a_topic_both_compacted_and_deleted_kept_its_records_for_ever() {
    for (policy, log_start) in [("compact", 0), ("delete", 1), ("compact,delete", 1), ("delete,compact", 1)] {
        let (store, mut log, clock) = (store(), Log::new(), Arc::new(TestClock::default()));
        let manager = start_with_clock(&store, clock.clone());
        log.register(&manager, 1);
        let config = |name: &str, value: &str| MetadataRecord::Config {
            resource: ConfigResource::topic("t"),
            name: name.to_owned(),
            value: Some(value.to_owned()),
        };
        let mut records = alone("t", TOPIC);
        records.extend([config("cleanup.policy", policy), config("retention.ms", "5000")]);
        log.tell(&manager, &records);
        append(&manager, P, 0).unwrap(); // a record of second 1
        store.commit();
        manager.retain();
        assert_eq!(manager.partition(P).unwrap().log().offsets().log_start, 0, "{policy}: too young to go");
        clock.advance(Duration::from_secs(7));
        manager.retain();
        assert_eq!(manager.partition(P).unwrap().log().offsets().log_start, log_start, "{policy}");
    }
}

/// A leader that was paused, or cut off for a moment, may not speak until its standing is confirmed again.
#[tokio::test]
async fn a_producer_heard_of_a_gap_behind_a_batch_that_was_refused_for_a_moment() {
    let (store, mut log, clock) = (store(), Log::new(), Arc::new(TestClock::default()));
    let manager = start_with_clock(&store, clock.clone());
    log.register(&manager, 1);
    log.tell(&manager, &topic("t", TOPIC, ME));
    let partition = manager.partition(P).unwrap();
    let send = |sequence| {
        let mut batch = RecordBatchBuilder::new().producer(9, 0, sequence);
        batch.push(1000, None, Some(b"v"), &[]);
        let records = batch.build().unwrap().into_bytes();
        partition.append_as_leader(records, acks_of_leader(LeaderEpoch(0))).map(|outcome| outcome.info.first_offset)
    };
    assert_eq!(send(0), Ok(0));
    clock.advance(Duration::from_secs(8));
    assert_eq!(send(1), Err(ReplicaError::NotLeaderOrFollower), "nobody has confirmed that it leads");
    manager.heartbeat_answered(clock.now());
    assert_eq!(send(2), Err(ReplicaError::NotLeaderOrFollower), "1 came before it");
    assert_eq!((send(1), send(2)), (Ok(1), Ok(2)), "again, in order");
}

#[tokio::test]
async fn a_disk_short_of_space_takes_no_records_of_clients_and_everything_else() {
    let (store, mut log) = (store(), Log::new());
    let manager = start(&store);
    log.register(&manager, 1);
    log.tell(&manager, &alone("t", TOPIC));
    assert_eq!(append(&manager, P, 0), Ok(0));
    store.commit();
    for space in [DiskSpace::Low, DiskSpace::Reserve] {
        manager.set_disk_space(space);
        let refused = append(&manager, P, 0).unwrap_err();
        assert_eq!((refused.clone(), refused.kafka_code()), (ReplicaError::ShortOfSpace, 56), "clients try again");
        let read = manager.find_offset(P, LeaderEpoch::NONE, OffsetSpec::Latest).await.unwrap();
        assert!(read.offset > 0, "it is read");
    }
    let partition = manager.partition(P).unwrap();
    let coordinator = AppendRequest { origin: AppendOrigin::Coordinator, ..acks_of_leader(LeaderEpoch(0)) };
    assert_eq!(
        partition.append_as_leader(batch(&[1000]), coordinator).unwrap().info.first_offset,
        1,
        "offsets are committed"
    );
    store.commit();
    assert_eq!(partition.delete_records(2), Ok(2), "space is given back");
    manager.set_disk_space(DiskSpace::Ample);
    assert_eq!(append(&manager, P, 0), Ok(2));
}

#[tokio::test]
async fn the_last_room_is_for_the_clusters_own_topics() {
    let (store, mut log) = (store(), Log::new());
    let manager = start(&store);
    log.register(&manager, 1);
    log.tell(&manager, &topic("t", TOPIC, OTHER));
    log.tell(&manager, &topic("__consumer_offsets", OTHER_TOPIC, OTHER));
    let followed = || manager.streams.lock().get(&OTHER).map(|stream| [P, Q].map(|id| stream.follows(id)));
    assert_eq!(followed(), Some([true, true]));
    manager.set_disk_space(DiskSpace::Low);
    assert_eq!(followed(), Some([true, true]), "what others have acknowledged is still copied");
    manager.set_disk_space(DiskSpace::Reserve);
    assert_eq!(followed(), Some([false, true]));
    log.tell(&manager, &[change_of(1, ME)]);
    log.tell(&manager, &[change_of(2, OTHER)]);
    assert_eq!(followed(), Some([false, true]), "whatever the metadata says");
    manager.set_disk_space(DiskSpace::Low);
    assert_eq!(followed(), Some([true, true]));
}

#[tokio::test]
async fn a_store_that_was_not_reopened_whole_counted_as_online() {
    let (store, mut log) = (store(), Log::new());
    let manager = start(&store);
    log.register(&manager, 1);
    log.tell(&manager, &alone("t", TOPIC));
    assert_eq!(append(&manager, P, 0), Ok(0));
    store.inject(Fault::DiskFull);
    store.commit();
    store.reopen().unwrap();
    let directory = open(&store);
    // The log was never written: it has to be made anew, and the store does not take that.
    store.set_queued_bytes_max(0);
    assert!(manager.store_reopened(directory).is_err());
    assert!(matches!(*manager.store_failure().borrow(), Some(StorageError::DiskFull(_))), "as it failed first");
    log.tell(&manager, &[change_of(1, ME)]);
    assert_eq!(append(&manager, P, 1), Err(ReplicaError::NotLeaderOrFollower));

    store.set_queued_bytes_max(usize::MAX);
    store.reopen().unwrap();
    manager.store_reopened(open(&store)).unwrap();
    log.tell(&manager, &[change_of(2, ME)]);
    assert_eq!(append(&manager, P, 2), Ok(0));
}

/// Consumers that read slowly held as many answers as there were consumers, and fetches that waited held what they had found so far.
#[tokio::test]
async fn answers_wait_for_memory_and_a_fetch_that_waits_for_records_holds_none() {
    let (store, mut log) = (store(), Log::new());
    let manager = start(&store);
    log.register(&manager, 1);
    log.tell(&manager, &alone("t", TOPIC));
    let budget = manager.context.config.answer_budget.clone();
    let fetch = |offset, max_wait| {
        let asked = ConsumerFetch { offset, current_leader_epoch: -1, last_fetched_epoch: -1, max_bytes: usize::MAX };
        let request =
            ConsumerFetchRequest { max_wait, min_bytes: 1, max_bytes: 50 << 20, partitions: vec![(P, asked)] };
        let manager = manager.clone();
        async move { manager.consumer_fetch(request).await }
    };
    let size_of = |answer: &ConsumerFetchAnswer| answer.reads[0].as_ref().unwrap().size;

    let waiting = tokio::spawn(fetch(0, Duration::from_secs(3600)));
    while manager.context.config.fetch_purgatory.waiting() == 0 {
        tokio::task::yield_now().await;
    }
    assert_eq!(budget.in_use(), 0);
    append(&manager, P, 0).unwrap();
    store.commit();
    let small = waiting.await.unwrap();
    assert!(size_of(&small) > 0);
    assert_eq!((small.memory.room(), budget.in_use()), (size_of(&small), size_of(&small)));

    // The rest is with others, but for one byte less than an answer may always have.
    let others = budget.reserve(budget.total() - budget.in_use() - answer_budget::LEAST + 1, 0).await;
    let mut next = Box::pin(fetch(0, Duration::ZERO));
    assert!(futures_util::poll!(&mut next).is_pending());
    drop(small);
    let answer = next.await;
    assert_eq!(budget.in_use(), others.room() + size_of(&answer));
    drop(answer);

    let mut large = RecordBatchBuilder::new();
    large.push(1000, None, Some(&vec![0; 2 * answer_budget::LEAST]), &[]);
    let how = acks_of_leader(LeaderEpoch::NONE);
    manager.partition(P).unwrap().append_as_leader(large.build().unwrap().into_bytes(), how).unwrap();
    store.commit();
    let mut next = Box::pin(fetch(1, Duration::ZERO));
    assert!(futures_util::poll!(&mut next).is_pending(), "its first batch is larger than what there is");
    drop(others);
    let answer = next.await;
    assert!(size_of(&answer) > 2 * answer_budget::LEAST && answer.memory.room() == size_of(&answer));
}
