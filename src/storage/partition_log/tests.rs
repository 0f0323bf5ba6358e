//! What the model does not look at: producers' answers, notifications, time, failure, the tail.

use super::super::batch_header::testing::TestBatch;
use super::super::batch_header::{checked, header_of};
use super::super::log_directory::{LogConfig, LogDirectory};
use super::super::memory_store::{Fault, MemoryStore};
use super::super::tail_cache::TailCache;
use super::super::{LocalPartitionId, LogStore};
use super::*;
use parking_lot::Mutex as TestMutex;
use rookery_raft::ids::{ClusterId, DirectoryId, TopicId};
use std::time::Duration;

const EVERYTHING: ReadLimit = ReadLimit { max_bytes: usize::MAX, at_least_one: true };

struct Rig {
    store: Arc<MemoryStore>,
    directory: LogDirectory,
    log: Arc<PartitionLog>,
}

fn rig_with(tail_bytes: usize) -> Rig {
    let store = MemoryStore::new(DirectoryId::random(), ClusterId::random(), Arc::new(|| Duration::ZERO));
    let config = LogConfig { tail_cache: Arc::new(TailCache::new(tail_bytes)), producer_snapshot_bytes: 1 << 20 };
    let directory = LogDirectory::open(store.clone(), config, 0).unwrap();
    let partition = TopicIdPartition { topic_id: TopicId::random(), partition: 0 };
    let log = directory.get_or_create(partition, LogClass::Hours1).unwrap();
    store.commit();
    Rig { store, directory, log }
}
fn rig() -> Rig {
    rig_with(1 << 20)
}

fn how(timestamp_type: TimestampType, now_ms: i64) -> LeaderAppend {
    LeaderAppend { leader_epoch: LeaderEpoch(1), timestamp_type, origin: AppendOrigin::Client, now_ms }
}

impl Rig {
    fn append(&self, batch: &TestBatch) -> Result<AppendInfo, AppendError> {
        self.log.append_as_leader(batch.build(), how(TimestampType::CreateTime, 0))
    }
    fn timed(&self, timestamp: i64, payload: usize) -> i64 {
        let batch = TestBatch { timestamp, payload: vec![0; payload], ..TestBatch::default() };
        self.append(&batch).unwrap().last_offset
    }
    fn found(&self, timestamp: i64) -> Option<i64> {
        let found = self.log.find_batch_by_timestamp(timestamp, 0..i64::MAX).unwrap();
        found.map(|batch| header_of(&batch).unwrap().base_offset)
    }
    fn newest(&self) -> Option<i64> {
        let found = self.log.find_batch_of_max_timestamp(i64::MAX).unwrap();
        found.map(|batch| header_of(&batch).unwrap().base_offset)
    }
}

#[derive(Default)]
struct Told(TestMutex<Vec<Result<i64, StorageError>>>);

impl LogListener for Told {
    fn synced(&self, offsets: LogOffsets) {
        self.0.lock().push(Ok(offsets.synced_end));
    }
    fn failed(&self, error: &StorageError) {
        self.0.lock().push(Err(error.clone()));
    }
}

#[test]
fn an_append_is_readable_at_once_and_durable_after_its_commit() {
    let rig = rig();
    let told = Arc::new(Told::default());
    rig.log.set_listener(told.clone());
    let info = rig.append(&TestBatch { records: 3, ..TestBatch::default() }).unwrap();
    assert_eq!((info.first_offset, info.last_offset), (0, 2));
    assert_eq!(rig.log.offsets(), LogOffsets { log_start: 0, log_end: 3, synced_end: 0 });
    assert_eq!(rig.log.try_read_cached(0, 3, EVERYTHING).unwrap().unwrap().next_offset, 3);
    let mut waiter = rig.log.when_synced(3);
    assert!(waiter.try_recv().is_err());
    rig.store.commit();
    assert_eq!(waiter.try_recv(), Ok(Ok(())));
    assert_eq!(*told.0.lock(), [Ok(3)]);
    assert_eq!(rig.log.offsets().synced_end, 3);
}

#[test]
fn a_retry_gets_the_offsets_of_the_original_and_queues_nothing() {
    let rig = rig();
    let batch = TestBatch { producer: Some((9, 0, 0)), records: 2, ..TestBatch::default() };
    rig.append(&batch).unwrap();
    let queued = rig.store.queued();
    let again = rig.append(&batch).unwrap();
    assert!(again.duplicate && again.last_offset == 1);
    assert_eq!(rig.store.queued(), queued);
    let gap = TestBatch { producer: Some((9, 0, 5)), ..TestBatch::default() };
    assert!(matches!(rig.append(&gap), Err(AppendError::OutOfOrderSequence { expected: 2, .. })));
}

#[test]
fn a_refused_append_changes_nothing() {
    let rig = rig();
    rig.store.set_queued_bytes_max(0);
    let batch = TestBatch { producer: Some((9, 0, 0)), ..TestBatch::default() };
    assert!(matches!(rig.append(&batch), Err(AppendError::Storage(StorageError::QueueFull { .. }))));
    assert_eq!((rig.log.offsets().log_end, rig.log.latest_epoch()), (0, None));
    rig.store.set_queued_bytes_max(usize::MAX);
    assert!(!rig.append(&batch).unwrap().duplicate);
    let mut two = BytesWith::of(&TestBatch::default());
    two.damage_second();
    assert!(matches!(
        rig.log.append_as_leader(two.0.into(), how(TimestampType::CreateTime, 0)),
        Err(AppendError::CorruptBatch(_))
    ));
    assert_eq!(rig.log.offsets().log_end, 1, "the good first batch did not go in alone");
}

struct BytesWith(Vec<u8>);
impl BytesWith {
    fn of(batch: &TestBatch) -> Self {
        Self([batch.build(), batch.build()].concat())
    }
    fn damage_second(&mut self) {
        *self.0.last_mut().unwrap() ^= 1;
    }
}

#[test]
fn log_append_time_is_the_brokers() {
    let rig = rig();
    let info = rig.log.append_as_leader(TestBatch::default().build(), how(TimestampType::LogAppendTime, 777)).unwrap();
    assert_eq!(info.log_append_time_ms, 777);
    let read = rig.log.read(0, 1, EVERYTHING).unwrap();
    assert_eq!(checked(&read.batches[0]).unwrap().max_timestamp, 777);
}

#[test]
fn a_failed_commit_fails_everyone_for_ever_and_a_reopened_store_needs_a_new_log() {
    let rig = rig();
    let told = Arc::new(Told::default());
    rig.log.set_listener(told.clone());
    rig.append(&TestBatch::default()).unwrap();
    rig.append(&TestBatch::default()).unwrap();
    let mut waiter = rig.log.when_synced(2);
    rig.store.inject(Fault::FsyncFails { kept: 1 });
    rig.store.commit();
    assert!(matches!(waiter.try_recv(), Ok(Err(StorageError::Offline(_)))));
    assert_eq!(told.0.lock().len(), 2);
    assert!(rig.append(&TestBatch::default()).is_err());
    assert!(rig.log.try_read_cached(0, 2, EVERYTHING).is_err());
    rig.store.reopen().unwrap();
    assert!(rig.append(&TestBatch::default()).is_err(), "the old log stays dead");
    let directory = LogDirectory::open(rig.store.clone(), LogConfig::default(), 0).unwrap();
    let log = directory.get(&rig.log.topic_id_partition()).unwrap();
    assert_eq!(log.offsets().log_end, 1, "the disk kept one, and nobody was told so");
}

#[test]
fn an_append_in_flight_does_not_raise_the_synced_end_over_a_truncation() {
    let rig = rig();
    for _ in 0..5 {
        rig.append(&TestBatch::default()).unwrap();
    }
    let mut lost = rig.log.when_synced(5);
    assert_eq!(rig.log.truncate_to(2, rig.log.end(), 0), Ok(2));
    assert_eq!(lost.try_recv(), Ok(Err(StorageError::Truncated { new_end: 2 })));
    rig.store.commit_some(5);
    assert_eq!(rig.log.offsets().synced_end, 2);
    rig.store.commit();
    assert_eq!(rig.log.read(0, i64::MAX, EVERYTHING).unwrap().next_offset, 2);
}

/// A cut that was decided for one tail, and came when another one lay there.
#[test]
fn a_late_truncation_cut_what_had_been_appended_and_synced_since() {
    let rig = rig();
    let follow = |epoch: i32, base_offset| {
        let batch = TestBatch { base_offset, leader_epoch: epoch, ..TestBatch::default() }.build();
        rig.log.append_as_follower(batch, rig.log.end(), 0).unwrap()
    };
    let [.., decided_for] = [0, 1, 2].map(|offset| follow(1, offset));
    assert_eq!(decided_for, OffsetAndEpoch { offset: 3, epoch: LeaderEpoch(1) });
    assert_eq!(rig.log.truncate_to(1, decided_for, 0), Ok(1));
    follow(2, 1);
    // The same offset, and another tail.
    for end in [follow(2, 2), follow(2, 3)] {
        rig.store.commit();
        let refused = StorageError::EndMoved { expected: decided_for, end: rig.log.end() };
        assert_eq!(rig.log.truncate_to(1, decided_for, 0), Err(refused.clone()));
        assert_eq!(rig.log.truncate_fully_and_start_at(9, decided_for), Err(refused.clone()));
        let late = TestBatch { base_offset: 9, leader_epoch: 2, ..TestBatch::default() }.build();
        assert_eq!(rig.log.append_as_follower(late, decided_for, 0), Err(refused.into()));
        assert_eq!((rig.store.queued(), rig.log.offsets().synced_end), (0, rig.log.end().offset), "{end}");
    }
}

/// Its store stayed online, so that nobody opened it anew: the replica could not fetch, not lead and not be deleted until a restart.
#[test]
fn a_read_error_in_the_middle_of_a_truncation_failed_the_log_for_ever() {
    let rig = rig_with(0);
    for sequence in 0..4 {
        rig.append(&TestBatch { producer: Some((9, 0, sequence)), ..TestBatch::default() }).unwrap();
        rig.store.commit();
    }
    let mut failed = 0;
    for reads in 0.. {
        let (end, producers) = (rig.log.end(), rig.log.producers());
        rig.store.set_reads_left(Some(reads));
        let truncated = rig.log.truncate_to(2, end, 0);
        rig.store.set_reads_left(None);
        if truncated.is_ok() {
            break;
        }
        failed += 1;
        assert!(matches!(truncated, Err(StorageError::Offline(_))));
        assert!(rig.log.is_store_online());
        assert_eq!((rig.log.failure(), rig.store.queued()), (None, 0));
        assert_eq!((rig.log.end(), rig.log.producers()), (end, producers));
        assert_eq!(rig.log.read(0, 4, EVERYTHING).unwrap().next_offset, 4);
    }
    assert!(failed > 1, "it reads more than the batch that it cuts at");
    let next = TestBatch { producer: Some((9, 0, 2)), ..TestBatch::default() };
    assert_eq!(rig.append(&next).unwrap().first_offset, 2, "as if nothing had been");
    rig.store.set_reads_left(Some(0));
    rig.log.truncate_to(1, rig.log.end(), 0).unwrap_err();
    rig.directory.delete(&rig.log.topic_id_partition()).unwrap();
    rig.store.commit();
    assert_eq!(rig.store.partitions().unwrap().len(), 0);
    assert_eq!(rig.log.failure(), Some(StorageError::Deleted));
}

#[test]
fn the_tail_keeps_to_its_budget_and_never_drops_what_is_not_synced() {
    let rig = rig_with(3000);
    for _ in 0..10 {
        rig.timed(0, 1000);
    }
    assert!(rig.log.try_read_cached(0, i64::MAX, EVERYTHING).unwrap().is_some(), "unsynced batches are nowhere else");
    rig.store.commit();
    rig.timed(0, 1000);
    assert!(rig.log.try_read_cached(0, i64::MAX, EVERYTHING).unwrap().is_none());
    assert!(rig.log.try_read_cached(10, i64::MAX, EVERYTHING).unwrap().is_some());
    assert_eq!(rig.log.read(0, i64::MAX, EVERYTHING).unwrap().next_offset, 11, "disk and tail together");
}

#[test]
fn reads_return_whole_batches_within_their_bounds() {
    let rig = rig();
    for _ in 0..3 {
        rig.append(&TestBatch { records: 10, ..TestBatch::default() }).unwrap();
    }
    let size = TestBatch::default().build().len();
    let limit = |max_bytes, at_least_one| ReadLimit { max_bytes, at_least_one };
    let read = |from, upper, limit| rig.log.read(from, upper, limit).map(|r| (r.batches.len(), r.next_offset));
    assert_eq!(read(5, 30, EVERYTHING), Ok((3, 30)), "the first batch begins before the offset");
    assert_eq!(read(0, 29, EVERYTHING), Ok((2, 20)), "no batch over the bound");
    assert_eq!(read(0, 30, limit(2 * size, false)), Ok((2, 20)));
    assert_eq!(read(0, 30, limit(1, true)), Ok((1, 10)));
    assert_eq!(read(0, 30, limit(1, false)), Ok((0, 0)));
    assert_eq!(read(30, 99, EVERYTHING), Ok((0, 30)));
    assert!(matches!(read(31, 99, EVERYTHING), Err(StorageError::OffsetOutOfRange { log_end: 30, .. })));
}

#[test]
fn timestamps_are_found_in_any_order_and_after_their_neighbours_are_gone() {
    for commit in [true, false] {
        let rig = rig_with(0);
        // Chunks of two batches; one timestamp from the future early on.
        for timestamp in [10, 20, 9000, 30, 40, 50, 60, 70, 80] {
            rig.timed(timestamp, 40_000);
        }
        if commit {
            rig.store.commit();
        }
        assert_eq!(
            (rig.found(5), rig.found(15), rig.found(45), rig.found(9000), rig.found(9001)),
            (Some(0), Some(1), Some(2), Some(2), None)
        );
        assert_eq!(rig.newest(), Some(2));
        rig.store.commit();
        rig.log.advance_log_start(4).unwrap();
        rig.store.commit();
        assert_eq!((rig.found(5), rig.found(45), rig.found(75), rig.found(81)), (Some(4), Some(5), Some(8), None));
        assert_eq!(rig.newest(), Some(8), "the deleted future does not count");
        assert_eq!(rig.log.find_batch_by_timestamp(75, 0..8).unwrap(), None, "not above the bound");
    }
}

#[test]
fn retention_by_time_stops_at_the_first_chunk_that_stays_and_at_the_high_watermark() {
    let rig = rig();
    for timestamp in [10, 20, 30, 40, 9000, 50, 60, 70] {
        rig.timed(timestamp, 40_000);
    }
    rig.store.commit();
    let candidate = |now, high_watermark| rig.log.retention_candidate(now, 100, -1, high_watermark).unwrap();
    assert_eq!(candidate(110, 8), None, "nothing is older than 100 ms");
    assert_eq!(candidate(150, 8), Some(4), "the chunk with the future waits for it");
    assert_eq!(candidate(150, 3), Some(2), "never above the high watermark");
    assert_eq!(candidate(10_000, 8), Some(8), "all of it is old: the log may be empty");
    rig.log.advance_log_start(8).unwrap();
    rig.store.commit();
    assert_eq!(rig.log.size_bytes(), 0);
    rig.log.set_class(LogClass::Compacted).unwrap();
    rig.timed(1, 100_000);
    rig.store.commit();
    assert_eq!(rig.log.retention_candidate(10_000, 1, 0, 9).unwrap(), None, "a compacted log is never shortened");
}

#[test]
fn an_emptied_log_keeps_its_end_over_a_reopen() {
    let rig = rig();
    for _ in 0..3 {
        rig.timed(1, 100);
    }
    rig.log.advance_log_start(3).unwrap();
    rig.store.commit();
    rig.store.crash(0);
    rig.store.reopen().unwrap();
    let directory = LogDirectory::open(rig.store.clone(), LogConfig::default(), 0).unwrap();
    let log = directory.get(&rig.log.topic_id_partition()).unwrap();
    assert_eq!(log.offsets(), LogOffsets { log_start: 3, log_end: 3, synced_end: 3 });
}

#[test]
fn damage_on_disk_is_noticed_also_where_the_crc_does_not_reach() {
    for at in [3, 13, 30, 65] {
        let rig = rig_with(0);
        rig.timed(1, 100);
        rig.store.commit();
        rig.timed(1, 100);
        rig.store.commit();
        rig.store.corrupt_batch(LocalPartitionId(0), LogClass::Hours1, 0, at);
        let read = rig.log.read(0, i64::MAX, EVERYTHING);
        assert!(matches!(read, Err(StorageError::Corrupt(_))), "byte {at}: {read:?}");
    }
}

#[test]
fn a_deleted_log_refuses_everything_and_its_id_is_not_used_again() {
    let rig = rig();
    rig.timed(1, 100);
    let mut waiter = rig.log.when_synced(1);
    rig.directory.delete(&rig.log.topic_id_partition()).unwrap();
    assert_eq!(waiter.try_recv(), Ok(Err(StorageError::Deleted)));
    assert_eq!(rig.append(&TestBatch::default()), Err(StorageError::Deleted.into()));
    rig.store.commit();
    let again = rig.directory.get_or_create(rig.log.topic_id_partition(), LogClass::Hours1).unwrap();
    assert_eq!(again.offsets().log_end, 0);
    rig.store.commit();
    let ids: Vec<u32> = rig.store.partitions().unwrap().iter().map(|p| p.id.0).collect();
    assert_eq!(ids, [1]);
}
