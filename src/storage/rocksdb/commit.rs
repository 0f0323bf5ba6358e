//! The queue in front of the disk, and the one thread that writes.
//!
//! The thread takes what has gathered (at most [`GROUP_BYTES`] or [`GROUP_WRITES`]), makes one write batch of it, writes it
//! with one fsync, and completes its writes in order. While it waits for the disk the next group gathers.
//!
//! | queue | becomes | by |
//! |---|---|---|
//! | open | closing | `close`: takes nothing new, commits what is queued, then the thread ends |
//! | open, closing | failed | a write that fails: every queued write is completed with the error; for ever |
//!
//! The queue's lock guards its state; it is never held during a write or a completion.

use super::super::error::StorageError;
use super::super::log_store::{StoreWrite, WriteCompletion};
use super::keys::{COMMIT, NEXT_PARTITION};
use super::sync_mark::SyncMarkHandle;
use super::wal_scan::CommitNumbers;
use super::write_batch::{self, Database};
use ::rocksdb::{ErrorKind, WriteBatch, WriteOptions};
use parking_lot::{Condvar, Mutex};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A group is closed at this many bytes.
pub const GROUP_BYTES: usize = 4 << 20;
/// Or at this many writes.
pub const GROUP_WRITES: usize = 256;

struct QueuedWrite {
    write: StoreWrite,
    done: Arc<dyn WriteCompletion>,
    ticket: u64,
    bytes: usize,
    queued_at: Instant,
}

#[derive(Default)]
struct State {
    writes: VecDeque<QueuedWrite>,
    bytes: usize,
    closing: bool,
    failed: Option<StorageError>,
    /// Since when the group now on its way to the disk is there.
    committing_since: Option<Instant>,
    /// Writes ever queued, and ever completed.
    queued: u64,
    completed: u64,
}

/// The queue of one open of a store.
pub struct CommitQueue {
    state: Mutex<State>,
    wake: Condvar,
    /// A group was completed.
    done: Condvar,
    bytes_max: usize,
}

impl CommitQueue {
    /// An empty queue that holds at most `bytes_max`.
    pub fn new(bytes_max: usize) -> Self {
        Self { state: Mutex::default(), wake: Condvar::new(), done: Condvar::new(), bytes_max }
    }

    /// Adds a write.
    pub fn push(&self, write: StoreWrite, done: Arc<dyn WriteCompletion>, ticket: u64) -> Result<(), StorageError> {
        let bytes = write.size();
        let mut state = self.state.lock();
        if let Some(error) = &state.failed {
            return Err(error.clone());
        }
        if state.closing {
            return Err(StorageError::Closed);
        }
        if state.bytes + bytes > self.bytes_max {
            return Err(StorageError::QueueFull { queued_bytes: state.bytes });
        }
        state.bytes += bytes;
        state.queued += 1;
        metrics::gauge!("rookery_storage_queued_bytes").set(state.bytes as f64);
        state.writes.push_back(QueuedWrite { write, done, ticket, bytes, queued_at: Instant::now() });
        drop(state);
        self.wake.notify_one();
        Ok(())
    }

    /// Takes nothing new from now on.
    pub fn close(&self) {
        self.state.lock().closing = true;
        self.wake.notify_one();
    }

    /// Why nothing is written any more.
    pub fn failure(&self) -> Option<StorageError> {
        let state = self.state.lock();
        state.failed.clone().or_else(|| state.closing.then_some(StorageError::Closed))
    }

    /// Waits until everything that is queued now is on disk.
    pub fn settle(&self) -> Result<(), StorageError> {
        let mut state = self.state.lock();
        let queued = state.queued;
        while state.completed < queued {
            if let Some(error) = &state.failed {
                return Err(error.clone());
            }
            self.done.wait(&mut state);
        }
        Ok(())
    }

    /// For how long the group on its way to the disk, or else the oldest write that waits for the thread, has been there.
    pub fn oldest_unfinished_age(&self) -> Option<Duration> {
        let state = self.state.lock();
        let oldest = state.committing_since.or_else(|| state.writes.front().map(|w| w.queued_at));
        oldest.map(|since| since.elapsed())
    }

    /// Waits for a group; `None` when the queue is closing and empty.
    fn next_group(&self) -> Option<Vec<QueuedWrite>> {
        let mut state = self.state.lock();
        while state.writes.is_empty() {
            if state.closing {
                return None;
            }
            self.wake.wait(&mut state);
        }
        let mut bytes = 0;
        let fits = |write: &&QueuedWrite| {
            bytes += write.bytes;
            bytes <= GROUP_BYTES
        };
        let count = state.writes.iter().take(GROUP_WRITES).take_while(fits).count().max(1);
        let group: Vec<QueuedWrite> = state.writes.drain(..count).collect();
        state.bytes -= group.iter().map(|w| w.bytes).sum::<usize>();
        metrics::gauge!("rookery_storage_queued_bytes").set(state.bytes as f64);
        state.committing_since = Some(Instant::now());
        Some(group)
    }

    /// Nothing is written any more; what was still queued.
    fn fail(&self, error: &StorageError) -> Vec<QueuedWrite> {
        let mut state = self.state.lock();
        state.failed.get_or_insert_with(|| error.clone());
        state.bytes = 0;
        self.done.notify_all();
        state.writes.drain(..).collect()
    }
}

/// The thread's own state.
pub struct CommitThread {
    pub db: Arc<Database>,
    pub queue: Arc<CommitQueue>,
    pub mark: SyncMarkHandle,
    /// The last commit on disk.
    pub synced: u64,
    /// The next unused partition id, as on disk.
    pub next_partition: u32,
}

impl CommitThread {
    /// Runs until the queue is closed and empty.
    pub fn run(mut self) {
        let _guard = FailOnPanic(self.queue.clone());
        while let Some(group) = self.queue.next_group() {
            let started = Instant::now();
            let result = match self.queue.failure() {
                Some(error) if error != StorageError::Closed => Err(error),
                _ => self.commit(&group),
            };
            metrics::histogram!("rookery_storage_commit_seconds").record(started.elapsed().as_secs_f64());
            metrics::histogram!("rookery_storage_commit_writes").record(group.len() as f64);
            let bytes: usize = group.iter().map(|w| w.bytes).sum();
            metrics::counter!("rookery_storage_committed_bytes_total").increment(bytes as u64);
            // The queue is failed before any waiter hears of it, so that nobody can queue in between.
            let abandoned = result.as_ref().err().map_or_else(Vec::new, |error| {
                tracing::error!(%error, "a commit failed: the store is offline until it is reopened");
                self.queue.fail(error)
            });
            for queued in group.iter().chain(&abandoned) {
                queued.done.complete(queued.ticket, &result);
            }
            let mut state = self.queue.state.lock();
            state.committing_since = None;
            state.completed += group.len() as u64;
            self.queue.done.notify_all();
        }
    }

    fn commit(&mut self, group: &[QueuedWrite]) -> Result<(), StorageError> {
        let bytes: usize = group.iter().map(|w| w.bytes).sum();
        let mut batch = WriteBatch::with_capacity_bytes(bytes + 64 * group.len() + 64);
        let numbers = CommitNumbers { commit: self.synced + 1, synced: self.synced };
        // First, where the scan of the WAL looks for it.
        batch.put(COMMIT, numbers.encode());
        let mut next_partition = self.next_partition;
        for queued in group {
            write_batch::create_missing_families(&self.db, &queued.write).map_err(store_error)?;
            write_batch::add(&self.db, &mut batch, &queued.write);
            next_partition = next_partition.max(queued.write.partition.0 + 1);
        }
        if next_partition > self.next_partition {
            batch.put(NEXT_PARTITION, next_partition.to_be_bytes());
        }
        let mut synced = WriteOptions::default();
        synced.set_sync(true);
        self.db.write_opt(batch, &synced).map_err(store_error)?;
        self.next_partition = next_partition;
        self.synced = numbers.commit;
        self.mark.synced(numbers.commit);
        Ok(())
    }
}

/// A thread that panics leaves a store that says so, not one that takes writes nobody will commit.
struct FailOnPanic(Arc<CommitQueue>);

impl Drop for FailOnPanic {
    fn drop(&mut self) {
        if std::thread::panicking() {
            // Completing what was queued could meet the same broken invariant; its logs learn of it from the store's health.
            self.0.fail(&StorageError::Offline("the commit thread panicked".into()));
        }
    }
}

/// What an error of RocksDB means for the store.
pub fn store_error(error: rocksdb::Error) -> StorageError {
    let text = error.to_string();
    match error.kind() {
        ErrorKind::IOError if text.contains("No space left") => StorageError::DiskFull(text.into()),
        ErrorKind::Corruption => StorageError::Corrupt(text.into()),
        _ => StorageError::Offline(text.into()),
    }
}
