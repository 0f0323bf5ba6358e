//! The engine on a real disk: the log's model, crashes as copies of the directory, loss and torn tails.
//!
//! A copy of the directory while the store is open is what a kill leaves: everything written so far, nothing flushed or
//! closed in good order.

use super::super::batch_header::testing::TestBatch;
use super::super::error::StorageError;
use super::super::log_directory::{LogConfig, LogDirectory};
use super::super::log_store::{StoreOp, StoreWrite, WriteCompletion};
use super::super::model_test::{self, TestDisk};
use super::super::partition_log::{AppendOrigin, LeaderAppend, PartitionLog, ReadLimit, TimestampType};
use super::super::tail_cache::TailCache;
use super::super::{LogClass, LogStore};
use super::{DataDirectory, OpenError, RocksDbConfig, RocksDbStore};
use bytes::Bytes;
use proptest::prelude::*;
use rookery_raft::ids::{ClusterId, LeaderEpoch, NodeId, TopicId, TopicIdPartition};
use smallvec::smallvec;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

const NODE: NodeId = NodeId(1);
/// The second witness stays out of tests of the first one.
const NO_MARK: Duration = Duration::from_secs(3600);
const EVERYTHING: ReadLimit = ReadLimit { max_bytes: usize::MAX, at_least_one: true };

pub(super) fn open(path: &Path) -> Arc<RocksDbStore> {
    try_open(path).unwrap()
}

fn try_open(path: &Path) -> Result<Arc<RocksDbStore>, OpenError> {
    let mut directory = DataDirectory::open(path, NODE).unwrap();
    let cluster = directory.cluster_id().unwrap_or_else(ClusterId::random);
    directory.bind_cluster(cluster).unwrap();
    RocksDbStore::open(directory, RocksDbConfig { mark_interval: NO_MARK, ..RocksDbConfig::default() })
}

pub(super) fn logs(store: &Arc<RocksDbStore>) -> LogDirectory {
    // No tail: reads meet the disk.
    let config = LogConfig { tail_cache: Arc::new(TailCache::new(0)), producer_snapshot_bytes: 1 << 20 };
    LogDirectory::open(store.clone(), config, 0).unwrap()
}

pub(super) fn synced(log: &Arc<PartitionLog>) {
    log.when_synced(log.offsets().log_end).blocking_recv().unwrap().unwrap();
}

pub(super) fn leader() -> LeaderAppend {
    LeaderAppend {
        leader_epoch: LeaderEpoch(1),
        timestamp_type: TimestampType::CreateTime,
        origin: AppendOrigin::Client,
        now_ms: 0,
    }
}

pub(super) fn append(log: &Arc<PartitionLog>, count: usize, payload: usize) {
    for i in 0..count {
        let batch = TestBatch { payload: vec![i as u8; payload], ..TestBatch::default() }.build();
        log.append_as_leader(batch, leader()).unwrap();
        synced(log);
    }
}

pub(super) fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

fn newest_wal(path: &Path) -> PathBuf {
    let files = fs::read_dir(path.join("log")).unwrap().map(|e| e.unwrap().path());
    files.filter(|p| p.extension().is_some_and(|e| e == "log")).max().unwrap()
}

/// A directory with `count` synced batches, as a kill leaves it.
fn killed(count: usize) -> (tempfile::TempDir, TopicIdPartition) {
    let (live, image) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let store = open(live.path());
    let partition = TopicIdPartition { topic_id: TopicId::random(), partition: 3 };
    let log = logs(&store).get_or_create(partition, LogClass::Hours256).unwrap();
    append(&log, count, 2000);
    copy(live.path(), image.path());
    (image, partition)
}

fn recovered(image: &Path, partition: TopicIdPartition) -> (bool, i64) {
    let store = open(image);
    let end = logs(&store).get(&partition).map_or(0, |log| {
        let read = log.read(0, i64::MAX, EVERYTHING).unwrap();
        assert_eq!(read.next_offset, log.offsets().log_end);
        read.next_offset
    });
    (store.log_lost(), end)
}

#[test]
fn a_kill_loses_nothing_synced() {
    let (image, partition) = killed(40);
    assert_eq!(recovered(image.path(), partition), (false, 40));
    assert_eq!(recovered(image.path(), partition), (false, 40), "and once more after the clean close");
}

#[test]
fn a_flipped_byte_in_synced_wal_is_loss_and_stays_loss_until_acknowledged() {
    let (image, partition) = killed(60);
    let wal = newest_wal(image.path());
    let mut bytes = fs::read(&wal).unwrap();
    bytes[40_000] ^= 1;
    fs::write(&wal, bytes).unwrap();
    let (lost, end) = recovered(image.path(), partition);
    assert!(lost && end < 60, "lost {lost}, end {end}");
    assert!(recovered(image.path(), partition).0, "the evidence is gone, the knowledge stays");
    let store = open(image.path());
    store.acknowledge_log_lost().unwrap();
    append(&logs(&store).get(&partition).unwrap(), 1, 10);
    store.close().unwrap();
    drop(store);
    assert!(!open(image.path()).log_lost());
}

/// A close wrote out the commit number alone. The batches stayed in the WAL, and RocksDB refuses where one column family is beyond the
/// point at which the WAL of another breaks off.
#[test]
fn a_store_closed_in_good_order_did_not_open_after_a_byte_of_its_wal_had_flipped() {
    let temp = tempfile::tempdir().unwrap();
    let store = open(temp.path());
    let partition = TopicIdPartition { topic_id: TopicId::random(), partition: 3 };
    append(&logs(&store).get_or_create(partition, LogClass::Hours256).unwrap(), 60, 2000);
    store.close().unwrap();
    drop(store);
    for wal in fs::read_dir(temp.path().join("log")).unwrap().map(|e| e.unwrap().path()) {
        if wal.extension().is_some_and(|e| e == "log") {
            let mut bytes = fs::read(&wal).unwrap();
            bytes.iter_mut().skip(40_000).take(1).for_each(|byte| *byte ^= 1);
            fs::write(&wal, bytes).unwrap();
        }
    }
    assert_eq!(recovered(temp.path(), partition), (false, 60), "nothing is left to replay");
}

#[test]
fn a_torn_tail_is_not_loss() {
    let (image, partition) = killed(30);
    let wal = newest_wal(image.path());
    let length = fs::metadata(&wal).unwrap().len();
    // The file may be preallocated; its content ends with the last batch's payload.
    let content = fs::read(&wal).unwrap().iter().rposition(|b| *b != 0).unwrap() as u64 + 1;
    assert!(content <= length);
    fs::File::options().write(true).open(&wal).unwrap().set_len(content - 100).unwrap();
    let (lost, end) = recovered(image.path(), partition);
    assert!(!lost);
    assert_eq!(end, 29);
}

#[test]
fn a_missing_wal_is_noticed_by_the_mark() {
    let live = tempfile::tempdir().unwrap();
    let image = tempfile::tempdir().unwrap();
    let store = open(live.path());
    let partition = TopicIdPartition { topic_id: TopicId::random(), partition: 0 };
    let log = logs(&store).get_or_create(partition, LogClass::Hours1).unwrap();
    append(&log, 3, 100);
    store.close().unwrap();
    copy(live.path(), image.path());
    // The close wrote the mark; the database of an earlier day does not reach it.
    fs::remove_dir_all(image.path().join("log")).unwrap();
    assert!(open(image.path()).log_lost());
}

#[test]
fn a_reopened_store_is_another_generation_and_old_logs_are_dead() {
    let temp = tempfile::tempdir().unwrap();
    let store = open(temp.path());
    let partition = TopicIdPartition { topic_id: TopicId::random(), partition: 0 };
    let old = logs(&store).get_or_create(partition, LogClass::Hours1).unwrap();
    append(&old, 5, 10);
    let before = store.generation();
    assert!(store.reopen().unwrap() > before);
    assert!(old.checkpoint(1).is_err());
    let new = logs(&store).get(&partition).unwrap();
    append(&new, 5, 10);
    assert_eq!(new.offsets().log_end, 10);
}

#[test]
fn retention_frees_the_disk() {
    let temp = tempfile::tempdir().unwrap();
    let store = open(temp.path());
    let partition = TopicIdPartition { topic_id: TopicId::random(), partition: 0 };
    let log = logs(&store).get_or_create(partition, LogClass::Hours1).unwrap();
    append(&log, 200, 50_000);
    store.reclaim().unwrap();
    let size = |path: &Path| -> u64 {
        fs::read_dir(path.join("log"))
            .unwrap()
            .map(|e| e.unwrap())
            .filter(|e| e.path().extension().is_some_and(|x| x == "blob"))
            .map(|e| e.metadata().unwrap().len())
            .sum()
    };
    let full = size(temp.path());
    assert!(full > 9_000_000, "{full} bytes in blob files");
    let start = log.retention_candidate(0, -1, 0, 200).unwrap().unwrap();
    log.advance_log_start(start).unwrap();
    append(&log, 1, 10);
    store.reclaim().unwrap();
    let left = size(temp.path());
    assert!(left < full / 10, "{left} of {full} bytes left");
    assert_eq!(log.offsets().log_start, start);
}

struct RealDisk(Arc<RocksDbStore>);

impl TestDisk for RealDisk {
    fn store(&self) -> Arc<dyn LogStore> {
        self.0.clone()
    }
    fn commit(&mut self, log: &Arc<PartitionLog>, _: usize) -> usize {
        synced(log);
        0
    }
    fn queued(&self) -> usize {
        0
    }
    fn crash(&mut self, _: &Arc<PartitionLog>, _: usize) {
        self.0.reopen().unwrap();
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, max_shrink_iters: 50, ..ProptestConfig::default() })]

    #[test]
    fn the_log_equals_a_vector_over_rocksdb(ops in model_test::ops(40)) {
        let temp = tempfile::tempdir().unwrap();
        model_test::run(&mut RealDisk(open(temp.path())), &ops);
    }
}

#[test]
fn batches_are_stored_as_they_came() {
    let temp = tempfile::tempdir().unwrap();
    let store = open(temp.path());
    let partition = TopicIdPartition { topic_id: TopicId::random(), partition: 0 };
    let log = logs(&store).get_or_create(partition, LogClass::Compacted).unwrap();
    let sent: Vec<Bytes> = [10, 511, 512, 100_000]
        .into_iter()
        .zip(0..)
        .map(|(size, base_offset)| {
            TestBatch { base_offset, leader_epoch: 4, payload: vec![7; size], ..TestBatch::default() }.build()
        })
        .collect();
    log.append_as_follower(sent.concat().into(), log.end(), 0).unwrap();
    synced(&log);
    assert_eq!(log.read(0, i64::MAX, EVERYTHING).unwrap().batches, sent);
}

#[test]
fn the_last_handle_may_go_away_on_the_commit_thread() {
    let temp = tempfile::tempdir().unwrap();
    let store = open(temp.path());
    let partition = TopicIdPartition { topic_id: TopicId::random(), partition: 0 };
    let directory = logs(&store);
    let log = directory.get_or_create(partition, LogClass::Hours1).unwrap();
    for _ in 0..50 {
        log.append_as_leader(TestBatch::default().build(), leader()).unwrap();
    }
    let survived = log.when_synced(50);
    drop((log, directory, store));
    survived.blocking_recv().unwrap().unwrap();
    // The thread closes the database behind itself; until then the directory is in use.
    let reopened = loop {
        let directory = match DataDirectory::open(temp.path(), NODE) {
            Ok(directory) => directory,
            Err(_) => continue,
        };
        match RocksDbStore::open(directory, RocksDbConfig::default()) {
            Ok(store) => break store,
            Err(_) => std::thread::yield_now(),
        }
    };
    assert_eq!(logs(&reopened).get(&partition).unwrap().offsets().log_end, 50);
}

#[test]
fn a_commit_thread_that_panicked_left_a_store_that_nobody_knew_of() {
    struct Panics;
    impl WriteCompletion for Panics {
        fn complete(&self, _: u64, _: &Result<(), StorageError>) {
            panic!("planted");
        }
    }
    let temp = tempfile::tempdir().unwrap();
    let store = open(temp.path());
    let broken = store.broken();
    let partition = store.allocate_partition();
    let write = StoreWrite { partition, ops: smallvec![StoreOp::DeleteProducerSnapshot { offset: 0 }] };
    store.submit(store.generation(), write, Arc::new(Panics), 0).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(broken.cancelled());
    assert!(store.close().is_err(), "its queue counts as failed");

    let healthy = tempfile::tempdir().unwrap();
    let store = open(healthy.path());
    store.close().unwrap();
    assert!(!store.broken().is_cancelled(), "an end in good order");
}

#[test]
fn records_removed_together_with_their_witness_are_lost_and_no_empty_store() {
    let temp = tempfile::tempdir().unwrap();
    let store = open(temp.path());
    assert!(!store.log_lost(), "a new one has lost nothing");
    store.close().unwrap();
    drop(store);
    fs::remove_dir_all(temp.path().join("log")).unwrap();
    fs::remove_file(temp.path().join("sync.mark")).unwrap();
    // An open that cannot write the loss down leaves the evidence for the next one.
    let in_the_way = temp.path().join("log.lost.tmp");
    fs::create_dir(&in_the_way).unwrap();
    assert!(try_open(temp.path()).is_err());
    fs::remove_dir(&in_the_way).unwrap();
    let store = open(temp.path());
    assert!(store.log_lost());
    store.acknowledge_log_lost().unwrap();
    store.close().unwrap();
    drop(store);
    assert!(!open(temp.path()).log_lost(), "told once");
}
