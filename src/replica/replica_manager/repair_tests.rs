//! Two brokers with the same three batches on disk; some of them go bad.

use super::repair::Waiting;
use super::*;
use crate::replica::error::{CORRUPT_MESSAGE, KAFKA_STORAGE_ERROR};
use crate::replica::message::{BatchRequest, DivergingEpoch, FetchPartition};
use crate::replica::partition::FollowerState;
use crate::replica::replica_manager::repair::{DamageCounts, LogNews};
use crate::replica::testing::*;
use crate::storage::{LocalPartitionId, LogStore, MemoryStore};
use bytes::Bytes;
use rookery_raft::record::{MetadataRecord, PartitionChange};

const EPOCHS: [i64; 2] = [5, 6];
/// Any byte behind the header.
const PAYLOAD: usize = 65;

struct Broker {
    store: Arc<MemoryStore>,
    clock: Arc<TestClock>,
    manager: Arc<ReplicaManager>,
    waiting: Waiting,
}

struct Pair {
    wire: Wire,
    log: Log,
    leader: Broker,
    follower: Broker,
}

fn stored(store: &MemoryStore) -> Vec<Bytes> {
    let class = LogClass::Hours256;
    let of = |id| store.read_batches(LocalPartitionId(id), class, 0..i64::MAX, usize::MAX).unwrap();
    (0..4).flat_map(of).map(|stored| stored.batch).collect()
}

impl Broker {
    fn start(wire: &Wire, node: NodeId, store: Arc<MemoryStore>) -> Broker {
        let clock = Arc::new(TestClock::default());
        let manager = wire.start(node, &store, clock.clone());
        Broker { store, clock, manager, waiting: Waiting::default() }
    }

    fn corrupt(&self, last_offset: i64) {
        self.store.corrupt_batch(LocalPartitionId(0), LogClass::Hours256, last_offset, PAYLOAD);
    }

    fn partition(&self) -> Arc<Partition> {
        self.manager.partition(P).expect("a replica")
    }

    async fn scrub(&self) -> u64 {
        self.manager.scrub_now();
        self.manager.scrub_pass().await;
        self.manager.scrub_status().found.damaged
    }

    async fn mend(&mut self) {
        self.manager.mend(&mut self.waiting).await;
        self.store.commit();
    }

    /// Its leader answers with these batches, and this high watermark.
    fn bring(&self, leader_epoch: LeaderEpoch, batches: &[Bytes], high_watermark: i64) {
        let (partition, asked) = (self.partition(), self.partition().log().end());
        partition.append_as_follower(leader_epoch, asked, batches, high_watermark).unwrap();
    }

    /// The error of a consumer's fetch, or how many batches it gets.
    fn consume(&self, offset: i64) -> Result<usize, i16> {
        let asked = ConsumerFetch { offset, max_bytes: 1 << 20, current_leader_epoch: -1, last_fetched_epoch: -1 };
        let limit = ReadLimit { max_bytes: 1 << 20, at_least_one: true };
        let read = self.partition().consumer_read(&asked, limit, true);
        read.map(|read| read.expect("it may block").batches.len()).map_err(|error| error.kafka_code())
    }
}

impl Pair {
    fn new() -> Pair {
        let (wire, mut log) = (Wire::default(), Log::new());
        let leader = Broker::start(&wire, ME, store());
        let follower = Broker::start(&wire, OTHER, store());
        log.entry(&[registration(ME, EPOCHS[0]), registration(OTHER, EPOCHS[1])]);
        let mut pair = Pair { wire, log, leader, follower };
        pair.register();
        pair.tell(&topic("t", TOPIC, ME));
        for n in 0..3 {
            append(&pair.leader.manager, P, 0).unwrap();
            pair.leader.store.commit();
            let batch = pair.leader.partition().log().read(n, n + 1, ReadLimit { max_bytes: 0, at_least_one: true });
            let batches = batch.unwrap().batches;
            pair.follower.bring(LeaderEpoch(0), &batches, n);
            pair.follower.store.commit();
        }
        pair.commit(3);
        assert_eq!(stored(&pair.leader.store), stored(&pair.follower.store));
        pair
    }

    fn register(&mut self) {
        for (broker, epoch) in [(&self.leader, EPOCHS[0]), (&self.follower, EPOCHS[1])] {
            broker.manager.registered(BrokerEpoch(epoch));
            broker.manager.heartbeat_answered(Duration::ZERO);
        }
        self.tell(&[]);
    }

    fn tell(&mut self, records: &[MetadataRecord]) {
        let delta = self.log.entry(records);
        for broker in [&self.leader, &self.follower] {
            broker.manager.on_metadata_update(&delta, &self.log.0);
        }
    }

    /// The follower says that it has synced everything below an offset, and hears of the high watermark.
    fn commit(&self, synced: i64) {
        let (_, leader_epoch) = self.leader.partition().role();
        let asked = FetchPartition {
            id: P,
            leader_epoch,
            wanted: synced,
            synced,
            last_fetched_epoch: LeaderEpoch(0),
            log_start: 0,
            max_bytes: 1,
        };
        self.leader.partition().follower_fetch(OTHER, BrokerEpoch(EPOCHS[1]), &asked).unwrap();
        self.follower.bring(leader_epoch, &[], synced);
        let both = [&self.leader, &self.follower].map(|broker| broker.partition().high_watermark());
        assert_eq!(both, [synced; 2]);
    }
}

#[tokio::test]
async fn what_a_scrub_finds_on_a_follower_is_mended_from_its_leader() {
    let mut pair = Pair::new();
    assert_eq!(pair.follower.scrub().await, 0);
    pair.follower.corrupt(1);
    assert_eq!(pair.follower.scrub().await, 1);
    assert_eq!(pair.follower.manager.damage().batches, 1);
    pair.wire.cut(ME);
    pair.follower.mend().await;
    assert_eq!(pair.follower.manager.damage().batches, 1, "nobody answers");
    let lane = crate::replica::ReplicaLane::default();
    lane.open(pair.leader.manager.clone());
    pair.wire.join(ME, lane);
    pair.follower.mend().await;
    assert_eq!(pair.follower.manager.damage(), DamageCounts::default());
    assert_eq!(stored(&pair.leader.store), stored(&pair.follower.store));
    assert_eq!(pair.follower.scrub().await, 0);
}

#[tokio::test]
async fn what_a_consumer_finds_on_a_leader_is_mended_from_an_in_sync_follower() {
    let mut pair = Pair::new();
    pair.leader.corrupt(1);
    assert_eq!(pair.leader.consume(0), Ok(1));
    assert_eq!(pair.leader.consume(1), Err(KAFKA_STORAGE_ERROR), "it tries again");
    assert_eq!(pair.leader.consume(2), Ok(1));
    pair.leader.mend().await;
    assert_eq!(pair.leader.consume(0), Ok(3));
    assert_eq!(stored(&pair.leader.store), stored(&pair.follower.store));
}

#[tokio::test]
async fn a_batch_that_is_sound_nowhere_is_told_and_never_invented() {
    let mut pair = Pair::new();
    pair.leader.corrupt(1);
    pair.follower.corrupt(1);
    let damaged = stored(&pair.leader.store);
    pair.leader.scrub().await;
    pair.leader.mend().await;
    assert_eq!(pair.leader.consume(1), Err(CORRUPT_MESSAGE), "as Kafka has it");
    assert_eq!((pair.leader.consume(0), pair.leader.consume(2)), (Ok(1), Ok(1)), "the rest is served");
    let damage = pair.leader.manager.damage();
    assert_eq!((damage.batches, damage.nowhere_sound), (1, 1));
    assert!(damage.example.is_some());
    assert_eq!(stored(&pair.leader.store), damaged);
    // The follower has noted its own by then. Its disk reads again what was written:
    assert_eq!(pair.follower.manager.damage().batches, 1);
    pair.follower.corrupt(1);
    pair.leader.mend().await;
    pair.follower.mend().await;
    assert_eq!(pair.leader.consume(0), Ok(3));
    assert_eq!(pair.follower.manager.damage().batches, 0);
}

#[tokio::test]
async fn while_somebody_cannot_be_asked_nothing_is_given_up() {
    let mut pair = Pair::new();
    pair.leader.corrupt(1);
    pair.wire.cut(OTHER);
    pair.leader.scrub().await;
    pair.leader.mend().await;
    assert_eq!(pair.leader.consume(1), Err(KAFKA_STORAGE_ERROR));
    assert_eq!(pair.leader.manager.damage().nowhere_sound, 0);
}

#[tokio::test]
async fn nobody_gets_a_batch_in_other_epochs_or_one_that_is_not_committed() {
    let mut pair = Pair::new();
    append(&pair.leader.manager, P, 0).unwrap();
    pair.leader.store.commit();
    let right = BatchRequest {
        cluster: pair.log.0.cluster.cluster_id().unwrap(),
        broker: OTHER,
        broker_epoch: BrokerEpoch(EPOCHS[1]),
        id: P,
        leader_epoch: LeaderEpoch(0),
        last_offset: 2,
    };
    let ask = |request: BatchRequest| {
        let manager = pair.leader.manager.clone();
        async move { manager.batch_for(request).await.error }
    };
    assert_eq!(ask(right.clone()).await, 0);
    assert_eq!(ask(BatchRequest { last_offset: 3, ..right.clone() }).await, 78, "not committed");
    assert_eq!(ask(BatchRequest { leader_epoch: LeaderEpoch(1), ..right.clone() }).await, 75, "unknown term");
    assert_eq!(ask(BatchRequest { broker_epoch: BrokerEpoch(4), ..right.clone() }).await, 77, "an earlier life");
    assert_eq!(ask(BatchRequest { broker: NodeId(3), ..right.clone() }).await, 77, "no replica");
    assert_eq!(ask(BatchRequest { id: Q, ..right.clone() }).await, 77);
    pair.tell(&[change_of(1, ME)]);
    let ask = pair.leader.manager.batch_for(right.clone()).await;
    assert_eq!(ask.error, 74, "an earlier term");
}

/// What was fetched in one term is not written in the next: a truncation may have come between.
#[tokio::test]
async fn a_copy_that_comes_after_a_change_of_leaders_is_not_written() {
    let mut pair = Pair::new();
    pair.follower.corrupt(1);
    pair.follower.scrub().await;
    let copy = pair.leader.partition().committed_batch(LeaderEpoch(0), 1).unwrap();
    let partition = pair.follower.partition();
    pair.tell(&[change_of(1, ME)]);
    assert!(partition.repair(LeaderEpoch(0), 1, &copy).is_err());
    assert_eq!(pair.follower.store.queued(), 0);
    partition.repair(LeaderEpoch(1), 1, &copy).unwrap();
}

#[tokio::test]
async fn damage_that_is_not_committed_waits_for_the_high_watermark() {
    let mut pair = Pair::new();
    append(&pair.leader.manager, P, 0).unwrap();
    append(&pair.leader.manager, P, 0).unwrap();
    pair.leader.store.commit();
    let all = pair.leader.partition().log().read(3, 5, ReadLimit { max_bytes: 1 << 20, at_least_one: true });
    let batches = all.unwrap().batches;
    pair.follower.bring(LeaderEpoch(0), &batches, 3);
    pair.follower.store.commit();
    pair.follower.corrupt(3);
    pair.follower.scrub().await;
    pair.follower.mend().await;
    assert_eq!(pair.follower.manager.damage().batches, 1);
    assert_eq!(pair.follower.partition().log().offsets().synced_end, 5, "what was said to be synced stays");
    pair.commit(5);
    pair.follower.mend().await;
    assert_eq!(pair.follower.manager.damage().batches, 0);
    assert_eq!(stored(&pair.leader.store), stored(&pair.follower.store));
}

fn isr(n: i32, leader: NodeId, isr: &[NodeId]) -> MetadataRecord {
    let isr = Some(isr.iter().copied().collect());
    MetadataRecord::PartitionChange(PartitionChange { leader: Some(leader), isr, ..change(n) })
}

#[tokio::test]
async fn a_log_that_cannot_be_opened_counted_as_in_sync_and_was_never_copied_anew() {
    let mut pair = Pair::new();
    pair.follower.corrupt(2); // an open replays it
    let store = pair.follower.store.clone();
    store.crash(0);
    store.reopen().unwrap();
    pair.follower = Broker::start(&pair.wire, OTHER, store);
    pair.register();
    let manager = pair.follower.manager.clone();
    assert_eq!(pair.follower.partition().role().0, Role::Offline);
    assert!(!manager.streams.lock().values().any(|stream| stream.follows(P)), "it says nothing to its leader");
    assert_eq!(manager.log_news().lost, [P]);

    let held = stored(&pair.follower.store);
    pair.follower.mend().await;
    assert_eq!(stored(&pair.follower.store), held, "it is in the ISR still");
    pair.tell(&[isr(1, NodeId::NONE, &[ME])]);
    pair.follower.mend().await;
    assert_eq!(stored(&pair.follower.store), held, "nobody leads: it may be the last copy");
    assert_eq!(manager.damage().given_up, 1);

    pair.tell(&[isr(2, ME, &[ME])]);
    assert_eq!(manager.log_news(), LogNews::default());
    pair.follower.mend().await;
    assert_eq!(stored(&pair.follower.store), Vec::<Bytes>::new());
    assert_eq!(pair.follower.partition().role(), (Role::Follower(FollowerState { leader: ME }), LeaderEpoch(2)));
    let log = pair.follower.partition().log();
    assert_eq!((log.offsets().log_end, pair.follower.partition().high_watermark(), log.failure()), (0, 0, None));
    assert_eq!(manager.damage(), DamageCounts::default());
    assert!(manager.streams.lock().values().any(|stream| stream.follows(P)), "from the beginning");
}

#[tokio::test]
async fn a_log_with_a_key_that_cannot_be_read_stayed_an_error_for_ever() {
    let mut pair = Pair::new();
    pair.follower.store.corrupt_key(LocalPartitionId(0), LogClass::Hours256, 1);
    assert_eq!(pair.follower.scrub().await, 0, "no batch is known to be damaged");
    assert_eq!(pair.follower.manager.scrub_status().last.unwrap().logs_unread, 1);
    pair.follower.mend().await;
    assert_eq!(pair.follower.manager.log_news().lost, [P]);
    assert_eq!(pair.follower.manager.damage().given_up, 1);
    pair.tell(&[isr(1, ME, &[ME])]);
    pair.follower.mend().await;
    assert!(stored(&pair.follower.store).is_empty(), "copied anew");
    assert_eq!(pair.follower.manager.damage(), DamageCounts::default());

    // A leader as well: others have to lead.
    pair.leader.store.corrupt_key(LocalPartitionId(0), LogClass::Hours256, 2);
    pair.leader.scrub().await;
    pair.leader.mend().await;
    assert_eq!(pair.leader.partition().role().0, Role::Offline);
    assert_eq!(pair.leader.manager.log_news().lost, [P]);
}

fn lost(n: i32, leader: NodeId, of: NodeId) -> MetadataRecord {
    let slot = |node: NodeId| if node == of { DirectoryId::LOST } else { DirectoryId::NONE };
    let directories = Some([ME, OTHER].map(slot).into_iter().collect());
    let isr = Some([ME, OTHER].into_iter().filter(|node| *node != of).collect());
    MetadataRecord::PartitionChange(PartitionChange { leader: Some(leader), isr, directories, ..change(n) })
}

#[tokio::test]
async fn the_controller_was_never_told_that_a_lost_replica_had_begun_another_log() {
    let mut pair = Pair::new();
    pair.follower.partition().give_up("as told");
    pair.tell(&[lost(1, NodeId::NONE, OTHER)]);
    assert_eq!(pair.follower.manager.log_news(), LogNews::default(), "it knows");
    pair.tell(&[lost(2, ME, OTHER)]);
    pair.follower.mend().await;
    assert!(stored(&pair.follower.store).is_empty());
    assert_eq!(pair.follower.manager.log_news(), LogNews { lost: vec![], renewed: vec![P] });
    // Given up once more before that was told: what the leader of this epoch has heard of the second log counts no more either.
    pair.follower.partition().give_up("again");
    assert_eq!(pair.follower.manager.log_news(), LogNews { lost: vec![P], renewed: vec![] });
}

/// The same term may hold what the leader has heard of the old log.
#[tokio::test]
async fn a_log_is_not_replaced_in_the_term_in_which_it_took_part() {
    let mut pair = Pair::new();
    pair.tell(&[isr(1, ME, &[ME])]);
    pair.follower.partition().give_up("as told");
    assert_eq!(pair.follower.manager.log_news().lost, [P], "though it is in no set");
    pair.follower.mend().await;
    assert!(!stored(&pair.follower.store).is_empty());
    pair.tell(&[isr(2, ME, &[ME])]);
    pair.follower.mend().await;
    assert!(stored(&pair.follower.store).is_empty());
}

#[tokio::test]
async fn a_leader_whose_uncommitted_batch_is_damaged_gives_its_log_up_after_a_while() {
    let mut pair = Pair::new();
    append(&pair.leader.manager, P, 0).unwrap();
    pair.leader.store.commit();
    append(&pair.leader.manager, P, 0).unwrap();
    pair.leader.store.commit();
    pair.leader.corrupt(3);
    pair.leader.scrub().await;
    pair.leader.mend().await;
    assert_eq!(pair.leader.partition().role().0, Role::Leader, "followers may get over it yet");
    pair.leader.clock.advance(Duration::from_secs(60));
    pair.leader.mend().await;
    assert_eq!(pair.leader.partition().role().0, Role::Offline);
    assert_eq!(pair.leader.manager.log_news().lost, [P]);
}

/// A disk that does not give back what a truncation has to read, under a store that goes on.
#[tokio::test]
async fn a_replica_whose_truncation_could_not_read_was_offline_until_a_restart() {
    let mut pair = Pair::new();
    let store = pair.follower.store.clone();
    pair.tell(&[isr(1, ME, &[ME, OTHER])]);
    let truncate = |partition: &Partition, epoch: i32, end_offset: i64| {
        let diverging = DivergingEpoch { epoch: LeaderEpoch(0), end_offset };
        partition.truncate(LeaderEpoch(epoch), partition.log().end(), diverging)
    };
    let partition = pair.follower.partition();
    store.set_reads_left(Some(1));
    let error = truncate(&partition, 1, 2).unwrap_err();
    assert!(!partition.give_up_unreadable(&error, Duration::from_secs(1)), "it may come round");
    assert_eq!(partition.follower_position(LeaderEpoch(1)).unwrap().wanted, 3);

    // Elected meanwhile, it has all it said that it has.
    pair.tell(&[isr(2, OTHER, &[ME, OTHER])]);
    assert_eq!(partition.role(), (Role::Leader, LeaderEpoch(2)));
    pair.tell(&[isr(3, ME, &[ME, OTHER])]);
    store.set_reads_left(None);
    assert_eq!(truncate(&partition, 3, 2).unwrap().wanted, 2, "by itself");

    store.set_reads_left(Some(1));
    let error = truncate(&partition, 3, 1).unwrap_err();
    let long = Duration::from_secs(60);
    assert!(!partition.give_up_unreadable(&StorageError::QueueFull { queued_bytes: 1 }.into(), long), "a busy disk");
    assert!(partition.give_up_unreadable(&error, long));
    assert_eq!(pair.follower.manager.log_news().lost, [P]);
    pair.tell(&[lost(4, ME, OTHER)]);
    pair.follower.mend().await;
    store.set_reads_left(None);
    assert!(stored(&store).is_empty(), "copied anew");
    assert_eq!(partition.role(), (Role::Follower(FollowerState { leader: ME }), LeaderEpoch(4)));
    assert_eq!(pair.follower.manager.damage(), DamageCounts::default());
}

/// The error that a failed store gives for every log is not the log's own.
#[tokio::test]
async fn a_store_that_has_failed_is_opened_anew_and_no_log_of_it_is_given_up() {
    let pair = Pair::new();
    let partition = pair.follower.partition();
    pair.follower.store.lose_log();
    pair.follower.store.crash(0);
    let errors = [StorageError::Corrupt("a table".into()), StorageError::Offline("a disk".into())];
    for error in errors.iter().cloned().map(ReplicaError::Storage) {
        assert!(!partition.give_up_unreadable(&error, Duration::from_secs(60)));
    }
    pair.follower.store.reopen().unwrap();
    assert!(!partition.give_up_unreadable(&errors[1].clone().into(), Duration::from_secs(60)), "the log is an old one");
    assert_eq!(partition.given_up(), None);
}
