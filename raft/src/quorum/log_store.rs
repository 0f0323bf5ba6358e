//! The metadata log as openraft wants it, over a [`QuorumStorage`](super::storage::QuorumStorage).
//!
//! # State
//!
//! [`View`] mirrors in memory what the storage will hold once its queue is drained: vote, purged, committed, the range of the log, and the newest
//! entries up to a byte budget. It changes in the same critical section in which the write takes its place in the
//! storage's queue, so view and queue have one order. RaftCore is the only writer; readers (replication, the state machine, observers) only look.
//!
//! # Why a read is right
//!
//! An entry is in the view's cache, or the read goes through the same queue as the writes and runs after the append that wrote it. A read
//! may find its entries purged meanwhile; it then starts again at the new first index. A vote enters the view only
//! after it is on disk, because openraft's leaders compare it while they stream entries.
//!
//! # What is synced
//!
//! Vote, append, truncation and purge: openraft's callback runs, or the call returns, only after the sync. `committed` is buffered: losing it costs a later
//! start some waiting, nothing else.

use super::codec::{DecodeError, Encode};
use super::disk_failure::DiskFailure;
use super::storage::{Durability, LogWrite, MetaKey, QuorumStorage, QuorumStorageError, SavedState};
use super::storage_thread::{StorageExecution, StorageThread};
use super::types::{LogEntry, LogIndexId, TypeConfig, VoteValue};
use bytes::Bytes;
use openraft::storage::{IOFlushed, RaftLogStorage};
use openraft::{AsyncRuntime, LogState, OptionalSend, RaftLogReader};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::fmt::Debug;
use std::io;
use std::marker::PhantomData;
use std::ops::{Bound, RangeBounds};
use std::sync::Arc;

/// Bytes of entries kept in memory. Followers and observers that lag further read the disk.
const CACHE_BYTES: usize = 4 << 20;
/// Bytes of entries in one AppendEntries request; one entry may exceed it.
const SEND_BYTES: usize = 1 << 20;
/// Bytes of entries read from disk in one request to the storage.
const READ_BYTES: usize = 4 << 20;

/// What the log looks like after every queued write.
struct View {
    vote: Option<VoteValue>,
    committed: Option<LogIndexId>,
    purged: Option<LogIndexId>,
    last: Option<LogIndexId>,
    /// First index that exists, or would be appended to an empty log.
    first: u64,
    cache: BTreeMap<u64, (LogEntry, usize)>,
    cached_bytes: usize,
}

impl View {
    /// One above the last index that exists.
    fn end(&self) -> u64 {
        match &self.last {
            Some(last) if last.index >= self.first => last.index + 1,
            _ => self.first,
        }
    }

    fn insert(&mut self, entry: LogEntry, bytes: usize) {
        if self.end() == self.first {
            self.first = entry.log_id.index;
        }
        self.last = Some(entry.log_id);
        self.cached_bytes += bytes;
        self.cache.insert(entry.log_id.index, (entry, bytes));
        while self.cached_bytes > CACHE_BYTES && self.cache.len() > 1 {
            self.evict_first();
        }
    }

    fn evict_first(&mut self) {
        if let Some((_, (_, bytes))) = self.cache.pop_first() {
            self.cached_bytes -= bytes;
        }
    }

    fn truncate(&mut self, last: Option<LogIndexId>) {
        let from = last.map_or(0, |id| id.index + 1);
        let removed = self.cache.split_off(&from);
        self.cached_bytes -= removed.values().map(|(_, bytes)| bytes).sum::<usize>();
        self.last = self.last.min(last).max(self.purged);
    }

    fn purge(&mut self, upto: LogIndexId) {
        while self.cache.first_key_value().is_some_and(|(index, _)| *index <= upto.index) {
            self.evict_first();
        }
        self.purged = Some(upto).max(self.purged);
        self.last = self.last.max(Some(upto));
        self.first = self.first.max(upto.index + 1);
    }

    /// The entries of `from..to` as far as they are cached without a hole from the front.
    fn cached(&self, from: u64, to: u64, max_bytes: usize) -> Vec<LogEntry> {
        let mut entries = Vec::new();
        let mut sum = 0;
        for (index, (entry, bytes)) in self.cache.range(from..to) {
            sum += bytes;
            if *index != from + entries.len() as u64 || (sum > max_bytes && !entries.is_empty()) {
                break;
            }
            entries.push(entry.clone());
        }
        entries
    }
}

/// The log; clones share it. openraft holds two: the writer and the source of readers.
pub(crate) struct LogStore<Rt> {
    view: Arc<Mutex<View>>,
    storage: StorageThread,
    runtime: PhantomData<fn() -> Rt>,
}

impl<Rt> Clone for LogStore<Rt> {
    fn clone(&self) -> Self {
        Self { view: self.view.clone(), storage: self.storage.clone(), runtime: PhantomData }
    }
}

impl<Rt> LogStore<Rt> {
    /// Takes over an open storage.
    pub(crate) async fn open(
        storage: Box<dyn QuorumStorage>,
        execution: StorageExecution,
        failure: DiskFailure,
    ) -> Result<(Self, SavedState), QuorumStorageError> {
        let (storage, saved) = StorageThread::start(storage, execution, failure).await?;
        let purged: Option<LogIndexId> = meta(&saved, MetaKey::Purged)?;
        let mut last = purged;
        if let Some((_, index)) = saved.log {
            let entry = storage.read(index, index + 1, READ_BYTES).await?.pop();
            let entry = entry.ok_or_else(|| corrupt(format!("the last entry {index} is missing")))?;
            last = Some(decode_entry(index, &entry)?.log_id);
        }
        let first = saved.log.map_or_else(|| purged.map_or(0, |id| id.index + 1), |(first, _)| first);
        let view = View {
            vote: meta(&saved, MetaKey::Vote)?,
            committed: meta(&saved, MetaKey::Committed)?,
            purged,
            last,
            first,
            cache: BTreeMap::new(),
            cached_bytes: 0,
        };
        let log = Self { view: Arc::new(Mutex::new(view)), storage, runtime: PhantomData };
        Ok((log, saved))
    }

    /// Saves a single value that is not openraft's; on disk when it returns.
    pub(crate) async fn put(&self, key: MetaKey, value: Bytes) -> Result<(), QuorumStorageError> {
        self.storage.write(vec![LogWrite::Put { key, value }], Durability::Synced).await
    }

    /// The disk under the log.
    pub(crate) fn storage(&self) -> &StorageThread {
        &self.storage
    }

    /// Closes the storage under the log.
    pub(crate) async fn close(&self) {
        self.storage.close().await;
    }

    /// Entries of `from..to`, clipped to what exists; may stop early at `max_bytes`, not before one entry.
    pub(crate) async fn entries(
        &self,
        from: u64,
        to: u64,
        max_bytes: usize,
    ) -> Result<Vec<LogEntry>, QuorumStorageError> {
        loop {
            let (start, end) = {
                let view = self.view.lock();
                let (start, end) = (from.max(view.first), to.min(view.end()));
                if start >= end {
                    return Ok(Vec::new());
                }
                let cached = view.cached(start, end, max_bytes);
                if !cached.is_empty() {
                    return Ok(cached);
                }
                // The disk serves what lies before the cache.
                (start, view.cache.first_key_value().map_or(end, |(first, _)| end.min(*first)).max(start + 1))
            };
            match self.storage.read(start, end, max_bytes).await {
                Ok(stored) => {
                    return stored.iter().zip(start..).map(|(bytes, index)| decode_entry(index, bytes)).collect();
                }
                Err(QuorumStorageError::Corrupt(_)) if self.view.lock().first > start => continue,
                Err(e) => return Err(e),
            }
        }
    }

    async fn all_entries(&self, from: u64, to: u64) -> Result<Vec<LogEntry>, QuorumStorageError> {
        let mut all: Vec<LogEntry> = Vec::new();
        loop {
            let next = all.last().map_or(from, |entry| entry.log_id.index + 1);
            let more = self.entries(next, to, READ_BYTES).await?;
            if more.is_empty() {
                return Ok(all);
            }
            all.extend(more);
        }
    }
}

fn corrupt(what: String) -> QuorumStorageError {
    QuorumStorageError::Corrupt(what)
}

fn decode_error(what: &str, error: DecodeError) -> QuorumStorageError {
    match error {
        DecodeError::TooNew { found, supported } => QuorumStorageError::TooNew { found, supported },
        other => corrupt(format!("{what}: {other}")),
    }
}

fn decode_entry(index: u64, bytes: &Bytes) -> Result<LogEntry, QuorumStorageError> {
    let entry = LogEntry::from_sealed(bytes).map_err(|e| decode_error(&format!("entry {index}"), e))?;
    if entry.log_id.index != index {
        return Err(corrupt(format!("entry {} at index {index}", entry.log_id.index)));
    }
    Ok(entry)
}

/// A single value of a loaded storage.
pub(crate) fn meta<T: Encode>(saved: &SavedState, key: MetaKey) -> Result<Option<T>, QuorumStorageError> {
    let decode = |bytes| T::from_sealed(bytes).map_err(|e| decode_error(&format!("{key:?}"), e));
    saved.meta.get(&key).map(decode).transpose()
}

fn io_error(error: QuorumStorageError) -> io::Error {
    match error {
        QuorumStorageError::DiskFull(_) => io::Error::new(io::ErrorKind::StorageFull, error),
        other => io::Error::other(other),
    }
}

fn bounds(range: &impl RangeBounds<u64>) -> (u64, u64) {
    let from = match range.start_bound() {
        Bound::Included(i) => *i,
        Bound::Excluded(i) => i.saturating_add(1),
        Bound::Unbounded => 0,
    };
    let to = match range.end_bound() {
        Bound::Included(i) => i.saturating_add(1),
        Bound::Excluded(i) => *i,
        Bound::Unbounded => u64::MAX,
    };
    (from, to)
}

impl<Rt: AsyncRuntime> RaftLogReader<TypeConfig<Rt>> for LogStore<Rt> {
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: RB,
    ) -> Result<Vec<LogEntry>, io::Error> {
        let (from, to) = bounds(&range);
        self.all_entries(from, to).await.map_err(io_error)
    }

    async fn read_vote(&mut self) -> Result<Option<VoteValue>, io::Error> {
        Ok(self.view.lock().vote)
    }

    async fn limited_get_log_entries(&mut self, start: u64, end: u64) -> Result<Vec<LogEntry>, io::Error> {
        self.entries(start, end, SEND_BYTES).await.map_err(io_error)
    }
}

impl<Rt: AsyncRuntime> RaftLogStorage<TypeConfig<Rt>> for LogStore<Rt> {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> Result<LogState<TypeConfig<Rt>>, io::Error> {
        let view = self.view.lock();
        Ok(LogState { last_purged_log_id: view.purged, last_log_id: view.last })
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &VoteValue) -> Result<(), io::Error> {
        self.put(MetaKey::Vote, vote.to_sealed()).await.map_err(io_error)?;
        self.view.lock().vote = Some(*vote);
        Ok(())
    }

    async fn save_committed(&mut self, committed: Option<LogIndexId>) -> Result<(), io::Error> {
        let Some(committed) = committed else { return Ok(()) };
        let place = self.storage.reserve().await.map_err(io_error)?;
        self.view.lock().committed = Some(committed);
        let put = LogWrite::Put { key: MetaKey::Committed, value: committed.to_sealed() };
        // A failure shows at the next synced write: the storage takes none after it.
        place.write(vec![put], Durability::Buffered, |_| ());
        Ok(())
    }

    async fn read_committed(&mut self) -> Result<Option<LogIndexId>, io::Error> {
        Ok(self.view.lock().committed)
    }

    async fn append<I>(&mut self, entries: I, callback: IOFlushed<TypeConfig<Rt>>) -> Result<(), io::Error>
    where
        I: IntoIterator<Item = LogEntry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let entries: Vec<(LogEntry, Bytes)> = entries.into_iter().map(|e| (e.clone(), e.to_sealed())).collect();
        let place = match self.storage.reserve().await {
            Ok(place) => place,
            Err(e) => {
                callback.io_completed(Err(io_error(e.clone())));
                return Err(io_error(e));
            }
        };
        let mut view = self.view.lock();
        let mut batch = Vec::with_capacity(entries.len());
        for (entry, bytes) in entries {
            batch.push(LogWrite::Append { index: entry.log_id.index, entry: bytes.clone() });
            view.insert(entry, bytes.len());
        }
        drop(view);
        place.write(batch, Durability::Synced, move |result| callback.io_completed(result.map_err(io_error)));
        Ok(())
    }

    async fn truncate_after(&mut self, last_log_id: Option<LogIndexId>) -> Result<(), io::Error> {
        self.view.lock().truncate(last_log_id);
        let from = last_log_id.map_or(0, |id| id.index + 1);
        self.storage.write(vec![LogWrite::Truncate { from }], Durability::Synced).await.map_err(io_error)
    }

    async fn purge(&mut self, log_id: LogIndexId) -> Result<(), io::Error> {
        self.view.lock().purge(log_id);
        let put = LogWrite::Put { key: MetaKey::Purged, value: log_id.to_sealed() };
        let batch = vec![put, LogWrite::Purge { upto: log_id.index }];
        self.storage.write(batch, Durability::Synced).await.map_err(io_error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::{DirectoryId, NodeId, QuorumNodeId};
    use crate::quorum::MemoryDisk;
    use crate::quorum::types::{CommittedLeader, Decision, TokioRuntime};
    use openraft::EntryPayload;
    use openraft::async_runtime::Oneshot as _;
    use openraft::type_config::alias::OneshotOf;

    type C = TypeConfig<TokioRuntime>;
    type Log = LogStore<TokioRuntime>;

    fn id(term: u64, index: u64) -> LogIndexId {
        LogIndexId { leader_id: CommittedLeader::new(term), index }
    }

    fn entry(term: u64, index: u64, size: usize) -> LogEntry {
        LogEntry { log_id: id(term, index), payload: EntryPayload::Normal(Decision(vec![7; size].into())) }
    }

    async fn append(log: &mut Log, entries: Vec<LogEntry>) -> io::Result<()> {
        let (tx, rx) = OneshotOf::<C>::channel();
        log.append(entries, IOFlushed::signal(tx)).await?;
        rx.await.expect("the callback runs")
    }

    async fn open(disk: &MemoryDisk, execution: StorageExecution) -> Log {
        LogStore::open(Box::new(disk.open()), execution, DiskFailure::default()).await.expect("opens").0
    }

    /// After every call that returns, the power goes; what the call did must be there.
    #[tokio::test]
    async fn whatever_openraft_is_told_is_done_survives_a_power_cut() {
        for execution in [StorageExecution::Thread, StorageExecution::Inline] {
            let disk = MemoryDisk::new();
            let me = QuorumNodeId { node_id: NodeId(1), directory_id: DirectoryId::random() };
            let vote = VoteValue::new(3, me);

            let mut log = open(&disk, execution).await;
            log.save_vote(&vote).await.expect("vote");
            disk.crash();
            let mut log = open(&disk, execution).await;
            assert_eq!(log.read_vote().await.expect("vote"), Some(vote));

            append(&mut log, (0..10).map(|i| entry(3, i, 1)).collect()).await.expect("append");
            disk.crash();
            let mut log = open(&disk, execution).await;
            assert_eq!(log.get_log_state().await.expect("state").last_log_id, Some(id(3, 9)));

            log.truncate_after(Some(id(3, 6))).await.expect("truncate");
            disk.crash();
            let mut log = open(&disk, execution).await;
            assert_eq!(log.get_log_state().await.expect("state").last_log_id, Some(id(3, 6)));

            log.purge(id(3, 2)).await.expect("purge");
            disk.crash();
            let mut log = open(&disk, execution).await;
            let state = log.get_log_state().await.expect("state");
            assert_eq!((state.last_purged_log_id, state.last_log_id), (Some(id(3, 2)), Some(id(3, 6))));
            assert_eq!(log.try_get_log_entries(..).await.expect("entries").len(), 4);
        }
    }

    #[tokio::test]
    async fn entries_that_left_the_cache_come_from_the_disk() {
        let disk = MemoryDisk::new();
        let mut log = open(&disk, StorageExecution::Thread).await;
        let all: Vec<_> = (0..40).map(|i| entry(1, i, CACHE_BYTES / 8)).collect();
        for entry in &all {
            append(&mut log, vec![entry.clone()]).await.expect("append");
        }
        assert!(log.view.lock().cached_bytes <= CACHE_BYTES);
        assert_eq!(log.try_get_log_entries(0..40).await.expect("entries"), all);
        assert_eq!(log.try_get_log_entries(5..7).await.expect("entries"), all[5..7]);
        let some = log.limited_get_log_entries(3, 40).await.expect("entries");
        assert!(!some.is_empty() && some[..] == all[3..3 + some.len()], "a piece, from the right place");
    }

    #[tokio::test]
    async fn after_a_failed_write_the_storage_takes_no_more_until_it_is_opened_anew() {
        let disk = MemoryDisk::new();
        let mut log = open(&disk, StorageExecution::Thread).await;
        append(&mut log, vec![entry(1, 0, 1)]).await.expect("append");
        let mut once = Some(QuorumStorageError::Io("fsync failed".into()));
        disk.set_fault(Some(Box::new(move |_, _| once.take().map_or(Ok(()), Err))));
        assert!(append(&mut log, vec![entry(1, 1, 1)]).await.is_err());
        assert!(append(&mut log, vec![entry(1, 2, 1)]).await.is_err(), "although the disk would take it now");
        log.close().await;
        let mut log = open(&disk, StorageExecution::Thread).await;
        append(&mut log, vec![entry(1, 1, 1)]).await.expect("append");
    }
}
