//! Bits flip in a table of the store, where small batches lie, with their keys: whatever is hit, a batch is given out as it was written, or not at
//! all, and the rest of the directory goes on.

use super::super::batch_header::testing::TestBatch;
use super::super::error::StorageError;
use super::super::partition_log::{PartitionLog, ReadLimit};
use super::super::{LogClass, LogDirectory, LogStore, StoreHealth};
use super::RocksDbStore;
use super::tests::{append, copy, leader, logs, open, synced};
use bytes::Bytes;
use rookery_raft::ids::{TopicId, TopicIdPartition};
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::Arc;

const BATCHES: usize = 200;
const ONE_PASS: ReadLimit = ReadLimit { max_bytes: 1 << 20, at_least_one: true };

struct Image {
    temp: tempfile::TempDir,
    hit: TopicIdPartition,
    /// In another column family.
    other: TopicIdPartition,
    written: Vec<Bytes>,
    /// The table that holds the batches of `hit`.
    table: PathBuf,
}

struct Damaged {
    temp: tempfile::TempDir,
    store: Arc<RocksDbStore>,
    directory: LogDirectory,
    log: Arc<PartitionLog>,
}

impl Image {
    fn new() -> Image {
        let temp = tempfile::tempdir().unwrap();
        let partition = |partition| TopicIdPartition { topic_id: TopicId::random(), partition };
        let (hit, other) = (partition(0), partition(1));
        let store = open(temp.path());
        let directory = logs(&store);
        let log = directory.get_or_create(hit, LogClass::Hours1).unwrap();
        append(&log, BATCHES, 100);
        append(&directory.get_or_create(other, LogClass::Hours256).unwrap(), 10, 100);
        let written = log.read(0, i64::MAX, ReadLimit { max_bytes: usize::MAX, at_least_one: true }).unwrap().batches;
        assert_eq!(written.len(), BATCHES);
        store.close().unwrap();
        drop((log, directory, store));
        let files = fs::read_dir(temp.path().join("log")).unwrap().map(|entry| entry.unwrap().path());
        let tables = files.filter(|path| path.extension().is_some_and(|e| e == "sst"));
        let table = tables.max_by_key(|path| path.metadata().unwrap().len()).unwrap();
        let table = table.strip_prefix(temp.path()).unwrap().to_owned();
        Image { temp, hit, other, written, table }
    }

    fn bytes(&self) -> usize {
        fs::metadata(self.temp.path().join(&self.table)).unwrap().len() as usize
    }

    /// A copy, opened; then one bit of the table becomes another. (An open itself reads the end of every log, and fails those that it cannot read.)
    fn flipped(&self, at: usize) -> Damaged {
        let temp = tempfile::tempdir().unwrap();
        copy(self.temp.path(), temp.path());
        let store = open(temp.path());
        let directory = logs(&store);
        let log = directory.get(&self.hit).unwrap();
        let table = File::options().read(true).write(true).open(temp.path().join(&self.table)).unwrap();
        let mut byte = [0];
        table.read_exact_at(&mut byte, at as u64).unwrap();
        table.write_all_at(&[byte[0] ^ (1 << (at % 8))], at as u64).unwrap();
        Damaged { temp, store, directory, log }
    }

    /// The rest of the directory.
    fn assert_others_go_on(&self, store: &Arc<RocksDbStore>, directory: &LogDirectory) {
        let other = directory.get(&self.other).unwrap();
        append(&other, 1, 100);
        store.reclaim().unwrap();
        append(&other, 1, 100);
        assert_eq!(store.health(), StoreHealth::Online);
    }
}

/// Reads a log as a consumer does that skips what it is told is damaged; how many batches were damaged, or why the log is unreadable.
fn read_all(log: &PartitionLog, written: &[Bytes]) -> Result<usize, StorageError> {
    let (mut at, mut damaged) = (0, 0);
    while at < BATCHES as i64 {
        match log.read(at, BATCHES as i64, ONE_PASS) {
            Ok(read) => {
                assert!(!read.batches.is_empty(), "batches are skipped without a word at {at}");
                assert_eq!(read.batches, written[at as usize..][..read.batches.len()], "not what was written");
                at += read.batches.len() as i64;
            }
            Err(StorageError::Corrupt(_)) if log.damaged().iter().any(|damage| damage.last_offset == at) => {
                damaged += 1;
                at += 1;
            }
            Err(error) => {
                assert!(log.unreadable().is_some(), "{error}");
                return Err(error);
            }
        }
    }
    Ok(damaged)
}

#[test]
fn a_flipped_bit_of_a_table_changed_or_hid_batches_or_took_the_directory_offline() {
    let image = Image::new();
    let (mut sound, mut mendable, mut unreadable) = (0, 0, 0);
    let step = image.bytes() / 60;
    for at in (step / 2..image.bytes()).step_by(step) {
        let Damaged { temp: _temp, store, directory, log } = image.flipped(at);
        match read_all(&log, &image.written) {
            Ok(0) => sound += 1,
            Ok(_) => {
                for damage in log.damaged() {
                    let offset = damage.last_offset;
                    log.repair(offset, BATCHES as i64, &image.written[offset as usize]).unwrap();
                }
                append(&log, 1, 100);
                assert_eq!(read_all(&log, &image.written), Ok(0), "mended");
                mendable += 1;
            }
            Err(_) => unreadable += 1,
        }
        image.assert_others_go_on(&store, &directory);
    }
    println!("{sound} without effect, {mendable} mendable, {unreadable} unreadable");
    assert!(mendable > 20 && unreadable > 0, "{mendable} {unreadable}");
}

#[test]
fn a_table_that_compaction_could_not_read_took_the_directory_offline_for_ever() {
    let image = Image::new();
    let Damaged { temp, store, directory, log } = image.flipped(image.bytes() / 2);
    // What is deleted lies in the same table: a compaction has to read it, and nobody else has.
    log.advance_log_start(10).unwrap();
    synced(&log);
    store.reclaim().unwrap();
    let other = directory.get(&image.other).unwrap();
    let failed = std::iter::repeat_with(|| {
        // A log that has failed refuses it, and says so when asked.
        let _ = other.append_as_leader(TestBatch::default().build(), leader());
        other.when_synced(other.offsets().log_end).blocking_recv().unwrap()
    });
    let failed = failed.take(10_000).find_map(Result::err).expect("it meets the damage");
    assert!(matches!(failed, StorageError::Corrupt(_)), "{failed}");

    for _ in 0..2 {
        store.reopen().unwrap();
        assert_eq!(store.damaged_tables(), 1);
        image.assert_others_go_on(&store, &logs(&store));
    }
    store.close().unwrap();
    drop((log, directory, other, store));
    let store = open(temp.path());
    assert_eq!(store.damaged_tables(), 1, "also in another process");
    image.assert_others_go_on(&store, &logs(&store));
}
