use super::*;
use crate::coordinator::CoordinatorError;
use crate::coordinator::group::{CommittedPartition, CommittedTopic, OffsetCommitRequest};
use crate::coordinator::group::{FetchTopic, GroupConfig, OffsetFetchRequest};
use crate::replica::testing::*;
use crate::storage::memory_store::Fault;
use crate::storage::{LogStore, MemoryStore};
use rookery_raft::ids::NodeId;
use rookery_raft::record::{ConfigResource, MetadataRecord};
use std::time::Duration;

// Far above anything that should happen: a test that waits this long has failed.
const LONG: Duration = Duration::from_secs(60);
const OFFSETS: &str = "__consumer_offsets";

struct Fixture {
    store: Arc<MemoryStore>,
    log: Log,
    clock: Arc<TestClock>,
    replicas: Arc<ReplicaManager>,
    groups: Arc<GroupCoordinator<ReplicaLog>>,
    elections: Arc<GroupElections>,
    stop: CancellationToken,
}

impl Fixture {
    /// A registered broker that coordinates nothing.
    fn start() -> Self {
        let (store, mut log, clock) = (store(), Log::new(), Arc::new(TestClock::default()));
        let replicas = start_with_clock(&store, clock.clone());
        log.register(&replicas, 1);
        let groups = Arc::new(GroupCoordinator::new(GroupConfig::default(), || 7));
        let elections = Arc::new(GroupElections::new(replicas.clone(), groups.clone()));
        let stop = CancellationToken::new();
        tokio::spawn(elections.clone().run(stop.clone()));
        Self { store, log, clock, replicas, groups, elections, stop }
    }

    fn tell(&mut self, records: &[MetadataRecord]) {
        let delta = self.log.entry(records);
        self.replicas.on_metadata_update(&delta, &self.log.0);
        self.elections.on_metadata_update(&delta, &self.log.0);
    }

    async fn ask(&self) -> Result<i64, CoordinatorError> {
        let topics = vec![FetchTopic { name: "t".into(), topic_id: TopicId::NONE, partitions: vec![0] }];
        let request = OffsetFetchRequest { group_id: "g".into(), topics: Some(topics), require_stable: false };
        Ok(self.groups.fetch_offsets(request).await?[0].partitions[0].offset)
    }

    /// Asks until the answer is this one.
    async fn until(&self, wanted: Result<i64, CoordinatorError>) {
        let mut last = None;
        let asking = async {
            while last.as_ref() != Some(&wanted) {
                self.store.commit();
                last = Some(self.ask().await);
                tokio::task::yield_now().await;
            }
        };
        assert!(tokio::time::timeout(LONG, asking).await.is_ok(), "{last:?} instead of {wanted:?}");
    }

    /// Offers a commit of an offset until it is acknowledged.
    async fn commit(&self, offset: i64) {
        let partition = CommittedPartition { partition: 0, offset, leader_epoch: -1, metadata: "".into() };
        let request = OffsetCommitRequest {
            group_id: "g".into(),
            generation: -1,
            member_id: "".into(),
            group_instance_id: None,
            retention_ms: None,
            knows_group_id_not_found: true,
            topics: vec![CommittedTopic { name: "t".into(), topic_id: TopicId::NONE, partitions: vec![partition] }],
        };
        let committing = self.groups.commit_offsets(request);
        tokio::pin!(committing);
        let driven = async {
            loop {
                tokio::select! {
                    committed = &mut committing => return committed,
                    () = tokio::time::sleep(Duration::from_millis(1)) => drop(self.store.commit()),
                }
            }
        };
        tokio::time::timeout(LONG, driven).await.expect("a commit ends").expect("a coordinator takes it");
    }
}

impl Drop for Fixture {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

#[tokio::test]
async fn a_coordinator_comes_and_goes_with_the_leadership() {
    let mut f = Fixture::start();
    f.until(Err(CoordinatorError::NotCoordinator)).await;
    f.tell(&alone(OFFSETS, TOPIC));
    f.until(Ok(-1)).await;
    f.commit(3).await;
    f.until(Ok(3)).await;
    f.tell(&[change_of(1, NodeId::NONE)]);
    f.until(Err(CoordinatorError::NotCoordinator)).await;
    f.tell(&[change_of(2, ME)]);
    f.until(Ok(3)).await;
    f.tell(&[MetadataRecord::RemoveTopic { topic_id: TOPIC }]);
    f.until(Err(CoordinatorError::NotCoordinator)).await;
}

#[tokio::test]
async fn a_replica_that_was_made_late_was_led_without_a_coordinator() {
    let mut f = Fixture::start();
    f.store.set_queued_bytes_max(0);
    f.tell(&alone(OFFSETS, TOPIC));
    f.until(Err(CoordinatorError::NotCoordinator)).await;
    f.store.set_queued_bytes_max(usize::MAX);
    f.replicas.retry_unfinished();
    f.until(Ok(-1)).await;
}

#[tokio::test]
async fn a_term_that_began_while_the_store_was_closed_was_led_without_a_coordinator() {
    let mut f = Fixture::start();
    f.tell(&alone(OFFSETS, TOPIC));
    f.until(Ok(-1)).await;
    f.commit(3).await;
    f.store.inject(Fault::FsyncFails { kept: 0 });
    f.replicas.partition(P).expect("a replica").log().checkpoint(1).expect("the store takes a write");
    f.until(Err(CoordinatorError::NotCoordinator)).await;
    // The controller is told, and elects it again before the store is open.
    f.tell(&[change_of(1, ME)]);
    f.until(Err(CoordinatorError::NotCoordinator)).await;
    f.store.reopen().expect("the memory reopens");
    f.replicas.store_reopened(open(&f.store)).expect("its logs are there");
    f.until(Ok(3)).await;
}

#[tokio::test]
async fn a_leader_without_confirmation_for_a_while_lost_its_coordinator_for_the_whole_term() {
    let mut f = Fixture::start();
    let mut records = alone_of_two(OFFSETS, TOPIC);
    records.push(MetadataRecord::Config {
        resource: ConfigResource::topic(OFFSETS),
        name: "min.insync.replicas".to_owned(),
        value: Some("1".to_owned()),
    });
    f.tell(&records);
    f.until(Ok(-1)).await;
    f.clock.advance(Duration::from_secs(3600));
    let committing = f.commit(3);
    tokio::pin!(committing);
    // Time for the append to be refused.
    assert!(tokio::time::timeout(Duration::from_millis(200), &mut committing).await.is_err());
    f.replicas.heartbeat_answered(Duration::from_secs(3600));
    committing.await;
    f.until(Ok(3)).await;
}

#[tokio::test]
async fn a_topic_made_anew_had_the_coordinators_of_the_old_one() {
    let mut f = Fixture::start();
    f.tell(&alone(OFFSETS, TOPIC));
    f.until(Ok(-1)).await;
    f.commit(3).await;
    let mut anew = vec![MetadataRecord::RemoveTopic { topic_id: TOPIC }];
    anew.extend(alone(OFFSETS, OTHER_TOPIC));
    f.tell(&anew);
    f.until(Ok(-1)).await;
}

#[tokio::test]
async fn groups_were_hashed_by_the_setting_and_not_by_the_partitions_that_the_topic_has() {
    let mut f = Fixture::start();
    // "g" hashes to 103: partition 3 of 50, and 1 of 3.
    let mut records = alone(OFFSETS, TOPIC);
    for partition in 1..3 {
        let MetadataRecord::Partition { registration, .. } = records[1].clone() else { panic!("the first partition") };
        records.push(MetadataRecord::Partition { topic_id: TOPIC, partition, registration });
    }
    f.tell(&records);
    f.until(Ok(-1)).await;
    f.commit(3).await;
    let one = f.replicas.partition(rookery_raft::ids::TopicIdPartition { topic_id: TOPIC, partition: 1 });
    assert_eq!(one.expect("a replica").log().offsets().log_end, 1);
}
