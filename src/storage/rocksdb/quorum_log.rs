//! The metadata quorum's log on a RocksDB of its own, beside the partition logs: `DIR/quorum/`.
//!
//! One owner makes every call (see `QuorumStorage`), so there is no lock and no thread but the one that keeps the mark.
//! Every synced write is one write batch with one fsync; commit numbers and mark are those of the log store, so loss of
//! synced data is [`QuorumStorageError::Lost`] at open, never a shorter log. RocksDB replays its WAL in order, so a buffered
//! write is lost only with everything after it.
//!
//! Keys, in the default column family: `c` commit numbers; `f` the format byte; `m`, key u8: a single value;
//! `e`, index u64 BE: an entry.

use super::super::error::StorageError;
use super::commit::store_error;
use super::data_directory::{DataDirectory, Part};
use super::keys::COMMIT;
use super::options;
use super::sync_mark::{SyncMarkHandle, SyncMarkWriter};
use super::wal_scan::CommitNumbers;
use super::witness::{self, Witnessed};
use super::write_batch::Database;
use ::rocksdb::{
    ColumnFamilyDescriptor, DBRawIteratorWithThreadMode, ReadOptions, WriteBatch, WriteBufferManager, WriteOptions,
};
use bytes::Bytes;
use rookery_raft::quorum::{Durability, LogWrite, MetaKey, QuorumStorage, QuorumStorageError, SavedState};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

const FORMAT: u8 = 1;
const FORMAT_KEY: &[u8] = b"f";
const WRITE_BUFFER_BYTES: usize = 16 << 20;

/// The number of the last commit of a metadata log that was synced by this process.
#[derive(Clone, Debug, Default)]
pub struct SyncedCommit(Arc<AtomicU64>);

fn is_there(quorum: &Path) -> Result<bool, QuorumStorageError> {
    let current = quorum.join("log").join("CURRENT");
    current.try_exists().map_err(|e| QuorumStorageError::Io(format!("{}: {e}", current.display())))
}

/// The metadata log of one node. Dropping it closes it.
pub struct QuorumLog {
    db: Database,
    commit: u64,
    synced: u64,
    marked: SyncMarkHandle,
    mark: Option<SyncMarkWriter>,
    known: SyncedCommit,
    /// After a failed write nothing is known about the disk: no further write on this open.
    failed: Option<QuorumStorageError>,
}

impl QuorumLog {
    /// Opens the log of a node, or makes it. Fails with `Lost` where synced data is missing, or the whole log. Blocks.
    pub fn open(directory: &mut DataDirectory, mark_interval: Duration) -> Result<Self, QuorumStorageError> {
        let path = directory.path().join("quorum");
        if directory.has_had(Part::MetadataLog) && !is_there(&path)? {
            return Err(QuorumStorageError::Lost(format!("{} is gone", path.join("log").display())));
        }
        let log = Self::open_at(&path, mark_interval, SyncedCommit::default())?;
        directory.keep_part(Part::MetadataLog).map_err(|error| quorum_error(witness::directory_error(error)))?;
        Ok(log)
    }

    /// Opens the log of a node's data directory again, in the process that has had it open and still holds the directory. What
    /// this process has synced must be there, whatever the witnesses on that disk have come to say. Blocks.
    pub fn reopen(
        data_directory: &Path,
        mark_interval: Duration,
        known: SyncedCommit,
    ) -> Result<Self, QuorumStorageError> {
        let path = data_directory.join("quorum");
        if !is_there(&path)? {
            return Err(QuorumStorageError::Lost(format!("{} is gone", path.join("log").display())));
        }
        Self::open_at(&path, mark_interval, known)
    }

    /// The last commit that this process has synced, kept up by this open and those after it.
    pub fn synced_commit(&self) -> SyncedCommit {
        self.known.clone()
    }

    fn open_at(directory: &Path, mark_interval: Duration, known: SyncedCommit) -> Result<Self, QuorumStorageError> {
        let io = |error| quorum_error(witness::io_error(error));
        std::fs::create_dir_all(directory).map_err(io)?;
        let database = directory.join("log");
        let synced_here = known.0.load(Ordering::Acquire);
        let mark = directory.join("sync.mark");
        let witnessed = witness::open(&mark, &database, synced_here, || open_database(&database));
        let witnessed = witnessed.map_err(quorum_error)?;
        if witnessed.lost {
            let (found, named) = (witnessed.recovered, witnessed.mark.commit());
            let text = format!("{}: {found} commits were found, {named} were synced", database.display());
            return Err(QuorumStorageError::Lost(text));
        }
        let commit = witnessed.last_commit();
        let Witnessed { db, mark, .. } = witnessed;
        match db.get(FORMAT_KEY).map_err(|e| quorum_error(store_error(e)))?.as_deref() {
            None | Some([FORMAT]) => {}
            Some([found, ..]) if *found > FORMAT => {
                return Err(QuorumStorageError::TooNew { found: *found, supported: FORMAT });
            }
            Some(_) => return Err(QuorumStorageError::Corrupt("the format byte".into())),
        }
        let mark = SyncMarkWriter::start(mark, mark_interval).map_err(io)?;
        let marked = mark.handle();
        known.0.fetch_max(commit, Ordering::AcqRel);
        Ok(Self { db, commit, synced: commit, marked, mark: Some(mark), known, failed: None })
    }

    fn write_batch(&self, writes: &[LogWrite]) -> WriteBatch {
        let mut batch = WriteBatch::default();
        // First, where the scan of the WAL looks for it.
        batch.put(COMMIT, CommitNumbers { commit: self.commit + 1, synced: self.synced }.encode());
        if self.commit == 0 {
            batch.put(FORMAT_KEY, [FORMAT]);
        }
        for write in writes {
            match write {
                LogWrite::Put { key, value } => batch.put([b'm', key.as_u8()], value),
                LogWrite::Append { index, entry } => batch.put(entry_key(*index), entry),
                LogWrite::Truncate { from } => batch.delete_range(&entry_key(*from)[..], &AFTER_ENTRIES[..]),
                LogWrite::Purge { upto: u64::MAX } => batch.delete_range(&entry_key(0)[..], &AFTER_ENTRIES[..]),
                LogWrite::Purge { upto } => batch.delete_range(entry_key(0), entry_key(upto + 1)),
            }
        }
        batch
    }

    fn entries(&self, from: u64) -> DBRawIteratorWithThreadMode<'_, Database> {
        let mut read = ReadOptions::default();
        read.set_iterate_lower_bound(entry_key(0));
        read.set_iterate_upper_bound(AFTER_ENTRIES);
        let mut iterator = self.db.raw_iterator_opt(read);
        iterator.seek(entry_key(from));
        iterator
    }
}

/// Above every entry's key and below every other key that follows, the format byte's first of all.
const AFTER_ENTRIES: [u8; 10] = [b'e', 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff];

fn entry_key(index: u64) -> [u8; 9] {
    let mut key = [b'e'; 9];
    key[1..].copy_from_slice(&index.to_be_bytes());
    key
}

fn index_of(key: &[u8]) -> Result<u64, QuorumStorageError> {
    let index = key.strip_prefix(b"e").and_then(|index| index.try_into().ok());
    index.map(u64::from_be_bytes).ok_or_else(|| QuorumStorageError::Corrupt("an entry's key".into()))
}

fn open_database(path: &Path) -> Result<Database, StorageError> {
    let write_buffers = WriteBufferManager::new_write_buffer_manager(WRITE_BUFFER_BYTES, false);
    let mut family = options::column_family();
    // Entries are small and short-lived; the log is purged after every snapshot.
    family.set_enable_blob_files(false);
    family.set_write_buffer_size(WRITE_BUFFER_BYTES / 2);
    let families = [ColumnFamilyDescriptor::new(super::keys::DEFAULT, family)];
    Database::open_cf_descriptors(&options::database(path, &write_buffers), path, families).map_err(store_error)
}

fn quorum_error(error: StorageError) -> QuorumStorageError {
    match error {
        StorageError::DiskFull(what) => QuorumStorageError::DiskFull(what.to_string()),
        StorageError::Corrupt(what) => QuorumStorageError::Corrupt(what.to_string()),
        other => QuorumStorageError::Io(other.to_string()),
    }
}

impl QuorumStorage for QuorumLog {
    fn load(&mut self) -> Result<SavedState, QuorumStorageError> {
        let mut saved = SavedState::default();
        for key in MetaKey::ALL {
            let value = self.db.get([b'm', key.as_u8()]).map_err(|e| quorum_error(store_error(e)))?;
            saved.meta.extend(value.map(|value| (key, Bytes::from(value))));
        }
        let mut at = self.entries(0);
        let mut expected = None;
        while let Some(key) = at.key() {
            let index = index_of(key)?;
            if expected.is_some_and(|expected| expected != index) {
                return Err(QuorumStorageError::Corrupt(format!("a hole before entry {index}")));
            }
            saved.log = Some((saved.log.map_or(index, |(first, _)| first), index));
            expected = index.checked_add(1);
            at.next();
        }
        at.status().map_err(|e| quorum_error(store_error(e)))?;
        Ok(saved)
    }

    fn write(&mut self, batch: &[LogWrite], durability: Durability) -> Result<(), QuorumStorageError> {
        if let Some(error) = &self.failed {
            return Err(QuorumStorageError::Closed(error.to_string()));
        }
        let mut options = WriteOptions::default();
        options.set_sync(durability == Durability::Synced);
        if let Err(error) = self.db.write_opt(self.write_batch(batch), &options) {
            let error = quorum_error(store_error(error));
            self.failed = Some(error.clone());
            return Err(error);
        }
        self.commit += 1;
        if durability == Durability::Synced {
            self.synced = self.commit;
            self.marked.synced(self.synced);
            self.known.0.fetch_max(self.synced, Ordering::AcqRel);
        }
        Ok(())
    }

    fn read(&mut self, from: u64, to: u64, max_bytes: usize) -> Result<Vec<Bytes>, QuorumStorageError> {
        let mut entries = Vec::new();
        if from >= to {
            return Ok(entries);
        }
        let mut bytes = 0;
        let mut at = self.entries(from);
        for index in from..to {
            let missing = || QuorumStorageError::Corrupt(format!("entry {index} is missing"));
            let (key, value) = match at.item() {
                Some(item) => item,
                None => {
                    at.status().map_err(|e| quorum_error(store_error(e)))?;
                    return Err(missing());
                }
            };
            if index_of(key)? != index {
                return Err(missing());
            }
            bytes += value.len();
            if bytes > max_bytes && !entries.is_empty() {
                break;
            }
            entries.push(Bytes::copy_from_slice(value));
            at.next();
        }
        Ok(entries)
    }
}

impl Drop for QuorumLog {
    fn drop(&mut self) {
        if let Some(mark) = self.mark.take() {
            mark.close();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rookery_raft::quorum::testing::{conformance, contract};

    const NO_MARK: Duration = Duration::from_secs(3600);

    fn open(path: &Path) -> QuorumLog {
        QuorumLog::open_at(path, NO_MARK, SyncedCommit::default()).unwrap()
    }
    fn append(index: u64) -> LogWrite {
        LogWrite::Append { index, entry: Bytes::from(vec![1; 1000]) }
    }

    #[test]
    fn openrafts_suite_passes() {
        conformance(|| {
            let temp = tempfile::tempdir().unwrap();
            let log = open(temp.path());
            (temp, Box::new(log) as Box<dyn QuorumStorage>)
        });
    }

    #[test]
    fn the_contract_holds() {
        let temp = tempfile::tempdir().unwrap();
        contract(|| Box::new(open(temp.path())));
    }

    #[test]
    fn lost_synced_entries_are_an_error_and_never_a_shorter_log() {
        let temp = tempfile::tempdir().unwrap();
        let mut log = open(temp.path());
        for index in 1..=80 {
            log.write(&[append(index)], Durability::Synced).unwrap();
        }
        // Killed, not closed: the log is never dropped, and its lock is left behind in the copy.
        let image = tempfile::tempdir().unwrap();
        std::fs::create_dir(image.path().join("log")).unwrap();
        std::fs::copy(temp.path().join("sync.mark"), image.path().join("sync.mark")).unwrap();
        for entry in std::fs::read_dir(temp.path().join("log")).unwrap() {
            let path = entry.unwrap().path();
            let mut bytes = std::fs::read(&path).unwrap();
            if path.extension().is_some_and(|e| e == "log") {
                bytes[40_000] ^= 1;
            }
            std::fs::write(image.path().join("log").join(path.file_name().unwrap()), bytes).unwrap();
        }
        for _ in 0..2 {
            let refused = QuorumLog::open_at(image.path(), NO_MARK, SyncedCommit::default()).err().expect("refused");
            assert!(matches!(refused, QuorumStorageError::Lost(_)), "{refused}");
        }
    }

    #[test]
    fn a_directory_that_has_voted_and_lost_its_log_is_refused() {
        let temp = tempfile::tempdir().unwrap();
        let mut directory = DataDirectory::open(temp.path(), rookery_raft::ids::NodeId(1)).unwrap();
        for _ in 0..2 {
            drop(QuorumLog::open(&mut directory, NO_MARK).unwrap());
        }
        std::fs::remove_dir_all(temp.path().join("quorum")).unwrap();
        let refused = QuorumLog::open(&mut directory, NO_MARK).err().expect("refused");
        assert!(matches!(refused, QuorumStorageError::Lost(_)), "{refused}");
        assert!(!temp.path().join("quorum").exists(), "nothing was made");
    }

    #[test]
    fn a_log_opens_again_in_the_same_process_and_one_that_is_gone_is_lost() {
        let temp = tempfile::tempdir().unwrap();
        let mut directory = DataDirectory::open(temp.path(), rookery_raft::ids::NodeId(1)).unwrap();
        let mut log = QuorumLog::open(&mut directory, NO_MARK).unwrap();
        log.write(&[append(0)], Durability::Synced).unwrap();
        let synced = log.synced_commit();
        assert!(QuorumLog::reopen(temp.path(), NO_MARK, synced.clone()).is_err(), "it is still open");
        drop(log);
        let mut log = QuorumLog::reopen(temp.path(), NO_MARK, synced.clone()).unwrap();
        assert_eq!(log.load().unwrap().log, Some((0, 0)));
        drop(log);
        std::fs::remove_dir_all(temp.path().join("quorum")).unwrap();
        let refused = QuorumLog::reopen(temp.path(), NO_MARK, synced).err().expect("refused");
        assert!(matches!(refused, QuorumStorageError::Lost(_)), "{refused}");
    }

    /// The mark is up to its interval old, and a WAL whose tail cannot be read looks like one that ends there.
    #[test]
    fn a_log_reopened_without_what_this_process_had_synced_voted_twice() {
        let temp = tempfile::tempdir().unwrap();
        let mut directory = DataDirectory::open(temp.path(), rookery_raft::ids::NodeId(1)).unwrap();
        let mut log = QuorumLog::open(&mut directory, NO_MARK).unwrap();
        log.write(&[append(0)], Durability::Synced).unwrap();
        let synced = log.synced_commit();
        drop(log);
        synced.0.fetch_add(1, Ordering::AcqRel); // as if one more had been synced, of which the disk knows nothing
        let refused = QuorumLog::reopen(temp.path(), NO_MARK, synced).err().expect("refused");
        assert!(matches!(refused, QuorumStorageError::Lost(_)), "{refused}");
    }

    #[test]
    fn a_log_that_was_never_truncated_opens_again() {
        let temp = tempfile::tempdir().unwrap();
        open(temp.path()).write(&[append(0), append(1)], Durability::Synced).unwrap();
        let mut log = open(temp.path());
        assert_eq!(log.load().unwrap().log, Some((0, 1)));
        log.write(&[LogWrite::Truncate { from: 1 }], Durability::Synced).unwrap();
        drop(log);
        let mut log = open(temp.path());
        assert_eq!(log.load().unwrap().log, Some((0, 0)));
        assert_eq!(log.db.get(FORMAT_KEY).unwrap().as_deref(), Some(&[FORMAT][..]));
    }
}
