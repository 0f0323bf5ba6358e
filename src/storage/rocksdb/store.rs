//! `RocksDbStore`: open, read, close, reopen.
//!
//! | state | becomes | by |
//! |---|---|---|
//! | open | failed | a commit that failed (see `commit`) |
//! | open, failed | closed | `close`, or the first half of `reopen` |
//! | closed (a new store is, too) | open, next generation | `reopen` |
//!
//! Locks: `open` guards the database handle; reads hold it shared, opening and closing take it whole. The commit
//! thread takes none of it, so closing joins the thread first and locks afterwards. `queue` is the commit queue of the same open
//! with its generation; it is held for a glance only, so that whoever submits, or asks how the disk does, never waits for a disk that
//! hangs. A queue that was taken from it just before a close refuses everything.

use super::super::batch_header::checked;
use super::super::error::StorageError;
use super::super::log_class::LogClass;
use super::super::log_store::{
    LocalPartitionId, LogStore, StoreGeneration, StoreHealth, StoreIdentity, StoreWrite, StoredBatch, StoredPartition,
    WriteCompletion,
};
use super::super::time_index::TimeIndexEntry;
use super::commit::{CommitQueue, CommitThread, store_error};
use super::data_directory::{DataDirectory, DirectoryError, Part, sync_parent, write_durably};
use super::keys::{self, META_PREFIX, NEXT_PARTITION, offset_key};
use super::options;
use super::sync_mark::SyncMarkWriter;
use super::witness::{self, Witnessed, damaged, directory_error, io_error};
use super::write_batch::{Database, class_family, time_index};
use ::rocksdb::{
    AsColumnFamilyRef, ColumnFamilyDescriptor, DBRawIteratorWithThreadMode, Direction, FlushOptions, IteratorMode,
    Options, ReadOptions, WriteBufferManager,
};
use bytes::Bytes;
use parking_lot::{Mutex, RwLock};
use std::collections::BTreeSet;
use std::io;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// What an operator may tune.
#[derive(Clone, Copy, Debug)]
pub struct RocksDbConfig {
    /// Bytes that may wait for a commit.
    pub queued_bytes_max: usize,
    /// Bytes of all memtables together.
    pub write_buffer_bytes: usize,
    /// How often the mark file follows the commits.
    pub mark_interval: Duration,
}

impl Default for RocksDbConfig {
    fn default() -> Self {
        let (queued_bytes_max, write_buffer_bytes) = (128 << 20, 256 << 20);
        Self { queued_bytes_max, write_buffer_bytes, mark_interval: Duration::from_secs(1) }
    }
}

/// Why a store does not open. One line each.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The directory is not usable.
    #[error(transparent)]
    Directory(#[from] DirectoryError),
    /// It was never bound to a cluster.
    #[error("{0} belongs to no cluster yet")]
    NoCluster(PathBuf),
    /// RocksDB refuses.
    #[error("{path}: {reason}")]
    Store {
        /// The database.
        path: PathBuf,
        /// Why.
        reason: String,
    },
}

/// Everything that lives between an open and a close.
struct Open {
    db: Arc<Database>,
    queue: Arc<CommitQueue>,
}

struct Threads {
    commit: JoinHandle<()>,
    mark: SyncMarkWriter,
}

/// The log store of one data directory.
pub struct RocksDbStore {
    path: PathBuf,
    /// Taken at a start alone.
    directory: Mutex<DataDirectory>,
    identity: StoreIdentity,
    config: RocksDbConfig,
    generation: AtomicU64,
    next_partition: AtomicU32,
    log_lost: AtomicBool,
    /// Column families of which a table is damaged.
    damaged: Mutex<BTreeSet<String>>,
    /// The last commit that an earlier open in this process has synced.
    synced_here: AtomicU64,
    open: RwLock<Option<Open>>,
    queue: Mutex<Option<(StoreGeneration, Arc<CommitQueue>)>>,
    threads: Mutex<Option<Threads>>,
    /// Cancelled when a commit thread has panicked.
    broken: CancellationToken,
}

impl RocksDbStore {
    /// Opens the store of a directory that is bound to a cluster. Blocks: replays the WAL.
    pub fn open(directory: DataDirectory, config: RocksDbConfig) -> Result<Arc<Self>, OpenError> {
        let store = Self::closed(directory, config)?;
        let refused = |error: StorageError| OpenError::Store { path: store.database(), reason: error.to_string() };
        store.start().map_err(refused)?;
        Ok(store)
    }

    /// The store of a directory that is bound to a cluster, not open yet: [`reopen`](LogStore::reopen) opens it.
    pub fn closed(directory: DataDirectory, config: RocksDbConfig) -> Result<Arc<Self>, OpenError> {
        let cluster_id = directory.cluster_id().ok_or_else(|| OpenError::NoCluster(directory.path().to_owned()))?;
        Ok(Arc::new(Self {
            path: directory.path().to_owned(),
            identity: StoreIdentity { directory_id: directory.directory_id(), cluster_id },
            directory: Mutex::new(directory),
            config,
            generation: AtomicU64::new(0),
            next_partition: AtomicU32::new(0),
            log_lost: AtomicBool::new(false),
            damaged: Mutex::default(),
            synced_here: AtomicU64::new(0),
            open: RwLock::new(None),
            queue: Mutex::new(None),
            threads: Mutex::new(None),
            broken: CancellationToken::new(),
        }))
    }

    /// Cancelled when a commit thread has panicked: what it took is neither written nor completed, and nobody is told.
    pub fn broken(&self) -> CancellationToken {
        self.broken.clone()
    }

    fn database(&self) -> PathBuf {
        self.path.join("log")
    }
    fn lost_flag(&self) -> PathBuf {
        self.path.join("log.lost")
    }

    fn damaged_file(&self) -> PathBuf {
        self.path.join("log.damaged")
    }

    /// A table of a column family is damaged, and compaction, which has to read it, would take the whole store offline: the family is
    /// compacted no more, now and after a restart. Everything else goes on.
    fn note_damaged_table(&self, db: &Database, family: &str, what: &str) {
        // A value in a blob file is read by nobody but readers.
        if !what.contains(".sst") || !self.damaged.lock().insert(family.to_owned()) {
            return;
        }
        tracing::error!(family, %what, "a table of the store is damaged: its column family is compacted no more");
        if let Some(handle) = db.cf_handle(family)
            && let Err(error) = db.set_options_cf(&handle, &[("disable_auto_compactions", "true")])
        {
            tracing::warn!(family, %error, "compaction was not switched off");
        }
        self.write_down_damage();
    }

    /// How a read of the time index ended.
    fn checked_index(&self, db: &Database, status: Result<(), rocksdb::Error>) -> Result<(), StorageError> {
        status.map_err(store_error).inspect_err(|error| {
            if let StorageError::Corrupt(what) = error {
                self.note_damaged_table(db, keys::TIME, what);
            }
        })
    }

    /// A hint: without it the next compaction finds out again.
    fn write_down_damage(&self) {
        let names: Vec<String> = self.damaged.lock().iter().cloned().collect();
        if let Err(error) = write_durably(&self.damaged_file(), names.join("\n").as_bytes()) {
            tracing::warn!(%error, "which tables are damaged was not written down");
        }
    }

    /// The tables are gone, with whatever was wrong with them.
    fn forget_damage(&self) -> Result<(), StorageError> {
        self.damaged.lock().clear();
        match std::fs::remove_file(self.damaged_file()) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(io_error(error)),
            _ => Ok(()),
        }
    }

    /// The store failed since a compaction met a damaged table: which family's it is.
    fn note_damage_met_by_compaction(&self, db: &Database, what: &str) {
        let files = db.live_files().unwrap_or_default();
        let of_text = files.iter().find(|file| what.contains(file.name.as_str()));
        match of_text {
            Some(file) => drop(self.damaged.lock().insert(file.column_family_name.clone())),
            None => {
                let all = LogClass::ALL.iter().map(|class| class.column_family());
                self.damaged.lock().extend(all.chain([keys::DEFAULT, keys::TIME]).map(str::to_owned));
            }
        }
        tracing::error!(%what, families = ?*self.damaged.lock(), "a table of the store is damaged: its column family is compacted no more");
        self.write_down_damage();
    }

    fn flag_loss(&self) -> Result<(), StorageError> {
        write_durably(&self.lost_flag(), b"synced data was missing at an open\n").map_err(io_error)
    }

    /// Opens the database, judges what was recovered, starts the threads.
    fn start(&self) -> Result<(), StorageError> {
        let mut directory = self.directory.lock();
        let path = self.database();
        let is_there = path.join("CURRENT").try_exists().map_err(io_error)?;
        let all_gone = directory.has_had(Part::PartitionLogs) && !is_there;
        if all_gone {
            // Before the open makes a database: that would be evidence that nothing is missing.
            self.flag_loss()?;
            self.forget_damage()?;
        }
        let known = std::fs::read_to_string(self.damaged_file());
        self.damaged.lock().extend(known.iter().flat_map(|text| text.lines()).map(str::to_owned));
        let damaged_families = self.damaged.lock().clone();
        let open = || open_database(&path, self.config.write_buffer_bytes, &damaged_families);
        let synced_here = self.synced_here.load(Ordering::Acquire);
        let witnessed = witness::open(&self.path.join("sync.mark"), &path, synced_here, open)?;
        if witnessed.lost {
            // Before anything else: the next open may find no evidence any more.
            self.flag_loss()?;
        }
        // Before anything is written, let alone acknowledged.
        directory.keep_part(Part::PartitionLogs).map_err(directory_error)?;
        drop(directory);
        let synced = witnessed.last_commit();
        let Witnessed { db, mark, .. } = witnessed;
        self.log_lost.store(self.lost_flag().exists(), Ordering::Release);
        let next_partition = match db.get(NEXT_PARTITION).map_err(store_error)? {
            Some(value) => u32::from_be_bytes(value.as_slice().try_into().map_err(|_| damaged("next partition id"))?),
            None => 0,
        };
        self.next_partition.store(next_partition, Ordering::Release);

        let db = Arc::new(db);
        let queue = Arc::new(CommitQueue::new(self.config.queued_bytes_max));
        let mark = SyncMarkWriter::start(mark, self.config.mark_interval).map_err(io_error)?;
        let thread = CommitThread { db: db.clone(), queue: queue.clone(), mark: mark.handle(), synced, next_partition };
        let broken = self.broken.clone();
        let commit = std::thread::Builder::new().name("log-commit".into()).spawn(move || {
            // Nothing of the thread is used afterwards.
            if let Err(panic) = catch_unwind(AssertUnwindSafe(|| thread.run())) {
                broken.cancel();
                resume_unwind(panic);
            }
        });
        let commit = commit.map_err(io_error)?;
        *self.threads.lock() = Some(Threads { commit, mark });
        let generation = StoreGeneration(self.generation.fetch_add(1, Ordering::AcqRel) + 1);
        *self.open.write() = Some(Open { db, queue: queue.clone() });
        *self.queue.lock() = Some((generation, queue));
        Ok(())
    }

    /// Ends the threads and lets go of the database. Nothing happens if that was done before.
    fn stop(&self) -> Result<(), StorageError> {
        if let Some((_, queue)) = self.queue.lock().take() {
            queue.close();
        }
        if let Some(threads) = self.threads.lock().take() {
            // The last handle of the store may be one that a completed write held: then we are on the commit thread, which
            // ends by itself once its queue is empty.
            if threads.commit.thread().id() != std::thread::current().id() {
                // A panic of the thread has been reported; its queue counts as failed.
                let _ = threads.commit.join();
            }
            self.synced_here.fetch_max(threads.mark.synced(), Ordering::AcqRel);
            threads.mark.close();
        }
        let Some(open) = self.open.write().take() else { return Ok(()) };
        match open.queue.failure() {
            Some(error) if error != StorageError::Closed => {
                if let StorageError::Corrupt(what) = &error {
                    self.note_damage_met_by_compaction(&open.db, what);
                }
                Err(error)
            }
            // The next open has nothing to replay.
            _ => flush_all(&open.db),
        }
    }

    /// The queue of this open, and of no other.
    fn commit_queue(&self, generation: StoreGeneration) -> Result<Arc<CommitQueue>, StorageError> {
        let queue = self.queue.lock();
        let current = queue.as_ref().filter(|(current, _)| *current == generation);
        current.map(|(_, queue)| queue.clone()).ok_or(StorageError::Closed)
    }

    fn read<T>(&self, read: impl FnOnce(&Database) -> Result<T, StorageError>) -> Result<T, StorageError> {
        let open = self.open.read();
        let open = open.as_ref().ok_or(StorageError::Closed)?;
        match open.queue.failure() {
            Some(error) => Err(error),
            None => read(&open.db),
        }
    }
}

impl Drop for RocksDbStore {
    fn drop(&mut self) {
        // Whoever wanted to know how the close went has called `close`.
        let _ = self.stop();
    }
}

fn open_database(
    path: &std::path::Path,
    write_buffer_bytes: usize,
    damaged_families: &BTreeSet<String>,
) -> Result<Database, StorageError> {
    let write_buffers = WriteBufferManager::new_write_buffer_manager(write_buffer_bytes, false);
    let database_options = options::database(path, &write_buffers);
    let mut families = vec![keys::DEFAULT.to_owned(), keys::TIME.to_owned()];
    if path.join("CURRENT").exists() {
        let found = Database::list_cf(&Options::default(), path).map_err(store_error)?;
        families.extend(found.into_iter().filter(|name| name != keys::DEFAULT && name != keys::TIME));
    }
    let known = |name: &String| LogClass::ALL.iter().any(|class| class.column_family() == name);
    if let Some(name) = families[2..].iter().find(|name| !known(name)) {
        return Err(StorageError::Corrupt(format!("unknown column family `{name}`: a newer version wrote it").into()));
    }
    let families = families.iter().map(|name| {
        let mut options = options::column_family();
        options.set_disable_auto_compactions(damaged_families.contains(name));
        ColumnFamilyDescriptor::new(name, options)
    });
    Database::open_cf_descriptors(&database_options, path, families).map_err(store_error)
}

fn unflushed(db: &Database, family: &impl AsColumnFamilyRef) -> u64 {
    // Nothing but an unknown name is an error; then nothing is known to be owed.
    db.property_int_value_cf(family, "rocksdb.cur-size-all-mem-tables").ok().flatten().unwrap_or(0)
}

fn flush_all(db: &Database) -> Result<(), StorageError> {
    let mut flush = FlushOptions::default();
    flush.set_wait(true);
    // By name: a flush that somebody asks for takes along only what it names, also where flushes are atomic.
    let names = [keys::DEFAULT, keys::TIME].into_iter().chain(LogClass::ALL.iter().map(|class| class.column_family()));
    let families: Vec<_> = names.filter_map(|name| db.cf_handle(name)).collect();
    db.flush_cfs_opt(&families.iter().collect::<Vec<_>>(), &flush).map_err(store_error)
}

/// Whether RocksDB checks what it reads, blocks of tables and values of blob files.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Blocks {
    Checked,
    /// Every batch is checked by its own CRC, and against its key.
    Unchecked,
}

/// An iterator over keys of one partition below `end`, which leaves the block cache alone.
fn iterator<'a>(
    db: &'a Database,
    family: &impl AsColumnFamilyRef,
    partition: LocalPartitionId,
    end: i64,
    blocks: Blocks,
) -> DBRawIteratorWithThreadMode<'a, Database> {
    let mut read = ReadOptions::default();
    read.set_iterate_lower_bound(offset_key(partition, 0));
    read.set_iterate_upper_bound(offset_key(partition, end));
    read.fill_cache(false);
    read.set_verify_checksums(blocks == Blocks::Checked);
    db.raw_iterator_cf_opt(family, read)
}

fn batches(
    db: &Database,
    family: &impl AsColumnFamilyRef,
    partition: LocalPartitionId,
    last_offsets: Range<i64>,
    max_bytes: usize,
    blocks: Blocks,
) -> Result<Vec<StoredBatch>, StorageError> {
    let (mut found, mut size) = (Vec::new(), 0);
    let mut at = iterator(db, family, partition, last_offsets.end, blocks);
    at.seek(offset_key(partition, last_offsets.start));
    while let Some((key, value)) = at.item() {
        size += value.len();
        if size > max_bytes && !found.is_empty() {
            break;
        }
        let Some(last_offset) = keys::offset_of(partition, key) else {
            match blocks {
                Blocks::Unchecked if !found.is_empty() => break,
                _ => return Err(damaged("a batch's key")),
            }
        };
        found.push(StoredBatch { last_offset, batch: Bytes::copy_from_slice(value) });
        if size >= max_bytes {
            break;
        }
        at.next();
    }
    match at.status().map_err(store_error) {
        Err(StorageError::Corrupt(_)) if blocks == Blocks::Unchecked && !found.is_empty() => Ok(found),
        ended => ended.map(|()| found),
    }
}

/// Batches that were read although something there does not match its checksum, from `start` on. A value that is damaged is told from its own
/// CRC by whoever reads it; here it is shown that no key is: the batches are there without a hole, as far as they are sound. (From where on it
/// cannot be shown nothing is given out: a batch that is missing would be skipped without a word.)
fn check_alone(mut found: Vec<StoredBatch>, start: i64, what: &Arc<str>) -> Result<Vec<StoredBatch>, StorageError> {
    let mut next = start;
    let hole = found.iter().position(|StoredBatch { last_offset, batch }| {
        // By its key: the base offset lies outside the CRC.
        let begins = checked(batch).map(|header| last_offset - i64::from(header.last_offset_delta));
        let leaves_a_hole = *last_offset < next || begins.is_ok_and(|begins| begins > next);
        next = last_offset + 1;
        leaves_a_hole
    });
    found.truncate(hole.unwrap_or(found.len()));
    if found.is_empty() { Err(StorageError::Corrupt(what.clone())) } else { Ok(found) }
}

fn decode_time_entry(partition: LocalPartitionId, key: &[u8], value: &[u8]) -> Result<TimeIndexEntry, StorageError> {
    let offset = keys::offset_of(partition, key).ok_or_else(|| damaged("a key of the time index"))?;
    TimeIndexEntry::decode(offset, value).ok_or_else(|| damaged("an entry of the time index"))
}

impl LogStore for RocksDbStore {
    fn generation(&self) -> StoreGeneration {
        StoreGeneration(self.generation.load(Ordering::Acquire))
    }

    fn identity(&self) -> StoreIdentity {
        self.identity
    }

    fn log_lost(&self) -> bool {
        self.log_lost.load(Ordering::Acquire)
    }

    fn acknowledge_log_lost(&self) -> Result<(), StorageError> {
        match std::fs::remove_file(self.lost_flag()) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(io_error(error)),
            _ => {}
        }
        sync_parent(&self.lost_flag()).map_err(io_error)?;
        self.log_lost.store(false, Ordering::Release);
        Ok(())
    }

    fn submit(
        &self,
        generation: StoreGeneration,
        write: StoreWrite,
        done: Arc<dyn WriteCompletion>,
        ticket: u64,
    ) -> Result<(), StorageError> {
        let current = self.generation();
        if generation != current {
            return Err(StorageError::StaleGeneration { held: generation, current });
        }
        self.commit_queue(generation)?.push(write, done, ticket)
    }

    fn allocate_partition(&self) -> LocalPartitionId {
        LocalPartitionId(self.next_partition.fetch_add(1, Ordering::AcqRel))
    }

    fn partitions(&self) -> Result<Vec<StoredPartition>, StorageError> {
        self.read(|db| {
            let mut found = Vec::new();
            for item in db.iterator(IteratorMode::From(&[META_PREFIX], Direction::Forward)) {
                let (key, value) = item.map_err(store_error)?;
                if key.first() != Some(&META_PREFIX) {
                    break;
                }
                let id = keys::partition_of_meta(&key).ok_or_else(|| damaged("a partition's key"))?;
                found.push(StoredPartition { id, meta: Bytes::from(value), producer_snapshots: Vec::new() });
            }
            for stored in &mut found {
                let first = keys::snapshot_key(stored.id, 0);
                for item in db.iterator(IteratorMode::From(&first, Direction::Forward)) {
                    let (key, value) = item.map_err(store_error)?;
                    let Some(offset) = keys::offset_of_snapshot(stored.id, &key) else { break };
                    stored.producer_snapshots.push((offset, Bytes::from(value)));
                }
            }
            Ok(found)
        })
    }

    fn read_batches(
        &self,
        partition: LocalPartitionId,
        class: LogClass,
        last_offsets: Range<i64>,
        max_bytes: usize,
    ) -> Result<Vec<StoredBatch>, StorageError> {
        self.read(|db| {
            let Some(family) = class_family(db, class) else { return Ok(Vec::new()) };
            let read = |blocks| batches(db, &family, partition, last_offsets.clone(), max_bytes, blocks);
            match read(Blocks::Checked) {
                Err(StorageError::Corrupt(what)) => {
                    self.note_damaged_table(db, class.column_family(), &what);
                    check_alone(read(Blocks::Unchecked)?, last_offsets.start, &what)
                }
                read => read,
            }
        })
    }

    fn last_offset_in(
        &self,
        partition: LocalPartitionId,
        class: LogClass,
        last_offsets: Range<i64>,
    ) -> Result<Option<i64>, StorageError> {
        self.read(|db| {
            let Some(family) = class_family(db, class) else { return Ok(None) };
            let read = |blocks| -> Result<Option<i64>, StorageError> {
                let mut at = iterator(db, &family, partition, last_offsets.end, blocks);
                at.seek_to_last();
                let last = at.key().and_then(|key| keys::offset_of(partition, key));
                at.status().map_err(store_error)?;
                Ok(last.filter(|offset| *offset >= last_offsets.start))
            };
            match read(Blocks::Checked) {
                Err(StorageError::Corrupt(what)) => {
                    self.note_damaged_table(db, class.column_family(), &what);
                    // A damaged batch in that block is what is to be mended here; a key that is damaged itself is refused by those who read the
                    // batches.
                    read(Blocks::Unchecked)
                }
                read => read,
            }
        })
    }

    fn time_entries(
        &self,
        partition: LocalPartitionId,
        last_offsets: Range<i64>,
        max_entries: usize,
    ) -> Result<Vec<TimeIndexEntry>, StorageError> {
        self.read(|db| {
            let mut found = Vec::new();
            if last_offsets.is_empty() {
                return Ok(found);
            }
            let mut at = iterator(db, &time_index(db), partition, last_offsets.end, Blocks::Checked);
            at.seek(offset_key(partition, last_offsets.start));
            while found.len() < max_entries
                && let Some((key, value)) = at.item()
            {
                found.push(decode_time_entry(partition, key, value)?);
                at.next();
            }
            self.checked_index(db, at.status())?;
            Ok(found)
        })
    }

    fn last_time_entry_before(
        &self,
        partition: LocalPartitionId,
        offset: i64,
    ) -> Result<Option<TimeIndexEntry>, StorageError> {
        self.read(|db| {
            let mut at = iterator(db, &time_index(db), partition, offset, Blocks::Checked);
            at.seek_to_last();
            let entry = at.item().map(|(key, value)| decode_time_entry(partition, key, value)).transpose()?;
            self.checked_index(db, at.status())?;
            Ok(entry)
        })
    }

    fn damaged_tables(&self) -> usize {
        self.damaged.lock().len()
    }

    fn health(&self) -> StoreHealth {
        let queue = self.queue.lock();
        let failure = queue.as_ref().map_or(Some(StorageError::Closed), |(_, queue)| queue.failure());
        failure.map_or(StoreHealth::Online, StoreHealth::Offline)
    }

    fn oldest_unfinished_commit_age(&self) -> Option<Duration> {
        self.queue.lock().as_ref().and_then(|(_, queue)| queue.oldest_unfinished_age())
    }

    fn unflushed_bytes(&self) -> u64 {
        let open = self.open.read();
        let Some(db) = open.as_ref().map(|open| &open.db) else { return 0 };
        let of_class = |class: &LogClass| class_family(db, *class).map(|family| unflushed(db, &family));
        LogClass::ALL.iter().filter_map(of_class).sum::<u64>() + unflushed(db, &time_index(db))
    }

    fn reclaim(&self) -> Result<(), StorageError> {
        // The deletions first: those that are still queued would keep their space. Not under `open`, which `stop` takes.
        self.commit_queue(self.generation())?.settle()?;
        self.read(|db| {
            // Range tombstones in a memtable make the next read expensive; in the index they are merged away, and blob
            // files without a live value go.
            flush_all(db)?;
            let damaged = self.damaged.lock().clone();
            let names = LogClass::ALL.iter().map(|class| class.column_family()).chain([keys::TIME]);
            for family in names.filter(|name| !damaged.contains(*name)).filter_map(|name| db.cf_handle(name)) {
                db.compact_range_cf(&family, None::<&[u8]>, None::<&[u8]>);
            }
            Ok(())
        })
    }

    fn close(&self) -> Result<(), StorageError> {
        self.stop()
    }

    fn reopen(&self) -> Result<StoreGeneration, StorageError> {
        if let Err(error) = self.stop() {
            tracing::warn!(%error, "the store had failed before it was reopened");
        }
        self.start()?;
        Ok(self.generation())
    }
}
