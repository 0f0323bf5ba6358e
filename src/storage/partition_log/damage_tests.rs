//! Damaged batches: found, noted, mended, and what may happen meanwhile.

use super::super::LogStore;
use super::super::batch_header::testing::TestBatch;
use super::super::log_directory::{LogConfig, LogDirectory};
use super::super::memory_store::MemoryStore;
use super::super::tail_cache::TailCache;
use super::*;
use crate::planted::{Mistake, plant};
use rookery_raft::ids::{ClusterId, DirectoryId, TopicId};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

const EVERYTHING: ReadLimit = ReadLimit { max_bytes: usize::MAX, at_least_one: true };
/// Any byte behind the header.
const PAYLOAD: usize = 70;

struct Rig {
    store: Arc<MemoryStore>,
    log: Arc<PartitionLog>,
    /// As they were stored.
    batches: Vec<Bytes>,
}

fn append(log: &Arc<PartitionLog>, epoch: i32) {
    let how = LeaderAppend {
        leader_epoch: LeaderEpoch(epoch),
        timestamp_type: TimestampType::CreateTime,
        origin: AppendOrigin::Client,
        now_ms: 0,
    };
    log.append_as_leader(TestBatch { payload: vec![7; 100], ..TestBatch::default() }.build(), how).unwrap();
}

/// Four batches of one record on disk, offset 2 and 3 of epoch 2; the one at offset 1 is damaged.
fn rig() -> Rig {
    let store = MemoryStore::new(DirectoryId::random(), ClusterId::random(), Arc::new(|| Duration::ZERO));
    let config = LogConfig { tail_cache: Arc::new(TailCache::new(0)), ..LogConfig::default() };
    let directory = LogDirectory::open(store.clone(), config, 0).unwrap();
    let partition = TopicIdPartition { topic_id: TopicId::random(), partition: 0 };
    let log = directory.get_or_create(partition, LogClass::Hours1).unwrap();
    for epoch in [1, 1, 2, 2] {
        append(&log, epoch);
        store.commit();
    }
    let batches = log.read(0, i64::MAX, EVERYTHING).unwrap().batches;
    let rig = Rig { store, log, batches };
    rig.corrupt(1, PAYLOAD);
    rig
}

impl Rig {
    fn corrupt(&self, last_offset: i64, at: usize) {
        self.store.corrupt_batch(LocalPartitionId(0), LogClass::Hours1, last_offset, at);
    }
    fn noted(&self) -> Vec<i64> {
        self.log.damaged().iter().map(|damage| damage.last_offset).collect()
    }
    fn scrub(&self) -> Scrubbed {
        let (mut total, mut at) = (Scrubbed::default(), Some(0));
        while let Some(from) = at {
            let step = self.log.scrub(from, 0).unwrap();
            total.batches += step.batches;
            total.bytes += step.bytes;
            total.damaged += step.damaged;
            at = step.next;
        }
        total
    }
    fn stored(&self) -> Vec<Bytes> {
        let stored = self.store.read_batches(LocalPartitionId(0), LogClass::Hours1, 0..i64::MAX, usize::MAX).unwrap();
        stored.into_iter().map(|stored| stored.batch).collect()
    }
}

#[test]
fn a_damaged_batch_ended_reads_that_began_before_it_with_nothing() {
    let rig = rig();
    let read = rig.log.read(0, i64::MAX, EVERYTHING).unwrap();
    assert_eq!((read.batches, read.next_offset), (rig.batches[..1].to_vec(), 1));
    assert!(matches!(rig.log.read(1, i64::MAX, EVERYTHING), Err(StorageError::Corrupt(_))));
    assert_eq!(rig.log.read(2, i64::MAX, EVERYTHING).unwrap().batches, rig.batches[2..]);
    assert_eq!(rig.noted(), [1], "once");
    rig.log.note_nowhere_sound(1, true);
    assert!(matches!(rig.log.read(1, i64::MAX, EVERYTHING), Err(StorageError::NowhereSound(_))));
    assert_eq!(rig.log.read(0, i64::MAX, EVERYTHING).unwrap().batches.len(), 1);
}

#[test]
fn a_scrub_reads_everything_that_is_synced_and_notes_what_is_damaged() {
    let rig = rig();
    rig.corrupt(3, 13); // the epoch, which the CRC does not cover
    append(&rig.log, 2); // not synced
    let total = rig.scrub();
    assert_eq!((total.batches, total.damaged), (4, 2));
    assert_eq!(total.bytes, rig.batches.iter().map(|batch| batch.len() as u64).sum::<u64>());
    assert_eq!(rig.noted(), [1, 3]);
    rig.store.commit();
    assert_eq!(rig.scrub().batches, 5);
}

/// The scrub of a start takes up a log before the metadata give it a replica, whose later scrubs found nothing new.
#[test]
fn damage_found_before_anybody_listened_was_never_told() {
    #[derive(Default)]
    struct Told(AtomicBool);
    impl LogListener for Told {
        fn synced(&self, _: LogOffsets) {}
        fn failed(&self, _: &StorageError) {}
        fn damaged(&self) {
            self.0.store(true, Ordering::Relaxed);
        }
    }
    let rig = rig();
    let is_told = || {
        let told = Arc::new(Told::default());
        rig.log.set_listener(told.clone());
        told.0.load(Ordering::Relaxed)
    };
    assert!(!is_told());
    assert_eq!(rig.scrub().damaged, 1);
    assert!(is_told());
}

#[test]
fn a_sound_copy_goes_under_its_own_key_and_nothing_else_does() {
    let rig = rig();
    assert_eq!(rig.log.repair(1, 4, &rig.batches[1]), Err(RepairError::NotDamaged), "nobody has noted it");
    rig.scrub();
    let other_epoch = {
        let mut bytes = rig.batches[1].to_vec();
        bytes[15] = 2;
        Bytes::from(bytes)
    };
    let unsound = {
        let mut bytes = rig.batches[1].to_vec();
        bytes[PAYLOAD] ^= 1;
        Bytes::from(bytes)
    };
    let swallows_another = TestBatch { base_offset: 0, records: 2, leader_epoch: 1, ..TestBatch::default() }.build();
    let two = Bytes::from([&rig.batches[1][..], &rig.batches[1][..]].concat());
    for wrong in [&rig.batches[0], &rig.batches[2], &other_epoch, &unsound, &swallows_another, &two] {
        let refused = rig.log.repair(1, 4, wrong);
        assert!(matches!(refused, Err(RepairError::WrongCopy(_))), "{refused:?}");
    }
    assert_eq!(rig.log.repair(1, 1, &rig.batches[1]), Err(RepairError::NotDamaged), "not committed");
    assert_eq!(rig.store.queued(), 0);

    rig.log.repair(1, 4, &rig.batches[1]).unwrap();
    assert_eq!(rig.log.repair(1, 4, &rig.batches[1]), Err(RepairError::NotDamaged), "it is on its way");
    assert!(rig.log.read(1, i64::MAX, EVERYTHING).is_err(), "and not there yet");
    rig.store.commit();
    assert_eq!(rig.stored(), rig.batches);
    assert_eq!((rig.noted(), rig.scrub().damaged), (vec![], 0));
    assert_eq!(rig.log.offsets(), LogOffsets { log_start: 0, log_end: 4, synced_end: 4 });
}

#[test]
fn a_stale_note_is_forgotten() {
    let rig = rig();
    rig.scrub();
    assert_eq!(rig.log.is_still_damaged(1), Ok(true));
    rig.corrupt(1, PAYLOAD); // back
    assert_eq!(rig.log.is_still_damaged(1), Ok(false));
    assert_eq!(rig.noted(), [0; 0]);
}

#[test]
fn truncation_and_a_new_log_start_leave_nothing_to_mend() {
    let rig = rig();
    rig.scrub();
    rig.log.truncate_to(1, rig.log.end(), 0).unwrap_err(); // it cannot be told where the damaged batch begins
    rig.log.advance_log_start(2).unwrap();
    assert_eq!(rig.noted(), [0; 0]);
    assert_eq!(rig.log.repair(1, 4, &rig.batches[1]), Err(RepairError::NotDamaged));
    rig.store.commit();
    assert_eq!(rig.stored(), rig.batches[2..]);

    let rig = self::rig();
    rig.scrub();
    // Queued, and overtaken: the truncation is behind it.
    rig.log.repair(1, 4, &rig.batches[1]).unwrap();
    rig.log.truncate_fully_and_start_at(0, rig.log.end()).unwrap();
    append(&rig.log, 5);
    rig.store.commit();
    assert_eq!((rig.stored().len(), rig.log.offsets().log_end), (1, 1));
    assert_eq!((rig.noted(), rig.scrub().damaged), (vec![], 0));
}

#[test]
fn a_deleted_log_and_one_of_an_earlier_open_are_not_mended() {
    let rig = rig();
    rig.scrub();
    rig.store.crash(0);
    rig.store.reopen().unwrap();
    let refused = rig.log.repair(1, 4, &rig.batches[1]);
    assert!(matches!(refused, Err(RepairError::Storage(StorageError::StaleGeneration { .. }))), "{refused:?}");
    assert_eq!(rig.store.queued(), 0);

    let rig = self::rig();
    rig.scrub();
    rig.log.delete_from_store().unwrap();
    assert_eq!(rig.log.repair(1, 4, &rig.batches[1]), Err(RepairError::Storage(StorageError::Deleted)));
    rig.store.commit();
    assert_eq!(rig.stored(), Vec::<Bytes>::new());
}

#[test]
fn a_log_whose_last_chunk_is_damaged_opens_as_failed() {
    let rig = rig();
    rig.store.crash(0);
    rig.store.reopen().unwrap();
    let directory = LogDirectory::open(rig.store.clone(), LogConfig::default(), 0).unwrap();
    assert!(matches!(directory.logs()[0].failure(), Some(StorageError::Corrupt(_))), "the last chunk is replayed");
}

/// The planted mistake that no simulation notices: none damages batches.
#[test]
fn a_batch_of_another_epoch_is_noticed_where_it_is_taken_for_a_repair() {
    let mended = |rig: &Rig| {
        rig.scrub();
        let foreign = TestBatch { base_offset: 1, leader_epoch: 2, ..TestBatch::default() }.build();
        rig.log.repair(1, 4, &foreign).is_ok()
    };
    assert!(!mended(&rig()));
    let _planted = plant(Mistake::RepairFromAnotherEpoch);
    let rig = rig();
    assert!(mended(&rig));
    rig.store.commit();
    assert_eq!(rig.scrub().damaged, 1, "what was written is not what was there");
}
