//! The store's twin in memory: the same contract, no threads, and faults on request.
//!
//! Writes wait in the queue until the test (or the simulation) commits them. What a real disk may do in a crash, this
//! one does when told to: lose everything that was queued, or keep a prefix of it that nobody was told about.

use super::error::StorageError;
use super::log_class::LogClass;
use super::log_store::{
    LocalPartitionId, LogStore, StoreGeneration, StoreHealth, StoreIdentity, StoreOp, StoreWrite, StoredBatch,
    StoredPartition, WriteCompletion,
};
use super::partition_meta::PartitionMeta;
use super::time_index::TimeIndexEntry;
use bytes::Bytes;
use parking_lot::Mutex;
use rookery_raft::ids::{ClusterId, DirectoryId, TopicIdPartition};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

/// What goes wrong with the next commit.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fault {
    /// The fsync fails; the first `kept` writes of the commit reached the disk all the same.
    FsyncFails {
        /// Writes that a reopen will find.
        kept: usize,
    },
    /// No space left; nothing of the commit reached the disk.
    DiskFull,
}

/// Monotonic time since any origin.
pub type MonotonicClock = Arc<dyn Fn() -> Duration + Send + Sync>;

#[derive(Default)]
struct PartitionData {
    meta: Bytes,
    batches: BTreeMap<(LogClass, i64), Bytes>,
    time: BTreeMap<i64, TimeIndexEntry>,
    snapshots: BTreeMap<i64, Bytes>,
    /// Batches whose keys are damaged: nobody can read past them.
    lost_keys: BTreeSet<(LogClass, i64)>,
}

struct QueuedWrite {
    write: StoreWrite,
    done: Arc<dyn WriteCompletion>,
    ticket: u64,
    queued_at: Duration,
}

struct Inner {
    generation: StoreGeneration,
    health: StoreHealth,
    log_lost: bool,
    next_id: u32,
    durable_next_id: u32,
    durable: BTreeMap<LocalPartitionId, PartitionData>,
    queue: VecDeque<QueuedWrite>,
    queued_bytes: usize,
    queued_bytes_max: usize,
    fault: Option<Fault>,
    /// Reads of batches that come back, if they do not all.
    reads_left: Option<usize>,
}

/// A disk in memory.
pub struct MemoryStore {
    identity: StoreIdentity,
    clock: MonotonicClock,
    inner: Mutex<Inner>,
}

impl MemoryStore {
    /// An empty disk.
    pub fn new(directory_id: DirectoryId, cluster_id: ClusterId, clock: MonotonicClock) -> Arc<Self> {
        let inner = Inner {
            generation: StoreGeneration(1),
            health: StoreHealth::Online,
            log_lost: false,
            next_id: 0,
            durable_next_id: 0,
            durable: BTreeMap::new(),
            queue: VecDeque::new(),
            queued_bytes: 0,
            queued_bytes_max: usize::MAX,
            fault: None,
            reads_left: None,
        };
        Arc::new(Self { identity: StoreIdentity { directory_id, cluster_id }, clock, inner: Mutex::new(inner) })
    }

    /// Commits everything queued; how many writes. With a fault set, the commit fails and the store goes offline.
    pub fn commit(&self) -> usize {
        self.commit_some(usize::MAX)
    }

    /// Commits at most `writes` of what is queued.
    pub fn commit_some(&self, writes: usize) -> usize {
        let (group, result) = {
            let mut inner = self.inner.lock();
            let count = writes.min(inner.queue.len());
            if count == 0 {
                return 0;
            }
            let error = match inner.fault.take() {
                None => None,
                Some(Fault::FsyncFails { kept }) => {
                    inner.apply_queued(kept);
                    Some(StorageError::Offline("fsync failed".into()))
                }
                Some(Fault::DiskFull) => Some(StorageError::DiskFull("as told".into())),
            };
            match error {
                None => {
                    inner.apply_queued(count);
                    (inner.take(count), Ok(()))
                }
                Some(error) => {
                    inner.health = StoreHealth::Offline(error.clone());
                    let all = inner.queue.len();
                    (inner.take(all), Err(error))
                }
            }
        };
        // Completions of a group come after all of it is visible, and without our lock.
        for queued in &group {
            queued.done.complete(queued.ticket, &result);
        }
        group.len()
    }

    /// Writes that wait for a commit.
    pub fn queued(&self) -> usize {
        self.inner.lock().queue.len()
    }

    /// Sets what goes wrong with the next commit.
    pub fn inject(&self, fault: Fault) {
        self.inner.lock().fault = Some(fault);
    }

    /// The next `left` reads of batches come back, and none behind them (EIO); with `None` all do. Writes are taken all the time.
    pub fn set_reads_left(&self, left: Option<usize>) {
        self.inner.lock().reads_left = left;
    }

    /// Bounds the queue.
    pub fn set_queued_bytes_max(&self, bytes: usize) {
        self.inner.lock().queued_bytes_max = bytes;
    }

    /// The power goes. The first `kept` queued writes reached the disk; nothing is completed. [`LogStore::reopen`] follows.
    pub fn crash(&self, kept: usize) {
        let mut inner = self.inner.lock();
        inner.apply_queued(kept);
        let all = inner.queue.len();
        inner.take(all);
        inner.next_id = inner.durable_next_id;
        inner.health = StoreHealth::Offline(StorageError::Closed);
    }

    /// The disk fails in the middle of things, and has forgotten everything. [`LogStore::reopen`] finds that synced data is missing.
    pub fn fail_and_forget(&self) {
        let error = StorageError::Offline("the disk has failed".into());
        let queued = {
            let mut inner = self.inner.lock();
            inner.durable.clear();
            (inner.log_lost, inner.health) = (true, StoreHealth::Offline(error.clone()));
            let all = inner.queue.len();
            inner.take(all)
        };
        for queued in queued {
            queued.done.complete(queued.ticket, &Err(error.clone()));
        }
    }

    /// The next open finds that synced data is missing.
    pub fn lose_log(&self) {
        self.inner.lock().log_lost = true;
    }

    /// Damages a stored batch: flips one bit of its byte at `at`.
    pub fn corrupt_batch(&self, partition: LocalPartitionId, class: LogClass, last_offset: i64, at: usize) {
        let mut inner = self.inner.lock();
        if let Some(batch) = inner.durable.get_mut(&partition).and_then(|p| p.batches.get_mut(&(class, last_offset))) {
            let mut bytes = batch.to_vec();
            bytes[at] ^= 1;
            *batch = bytes.into();
        }
    }

    /// Damages the key of a stored batch.
    pub fn corrupt_key(&self, partition: LocalPartitionId, class: LogClass, last_offset: i64) {
        if let Some(data) = self.inner.lock().durable.get_mut(&partition) {
            data.lost_keys.insert((class, last_offset));
        }
    }

    /// A batch as it lies on the disk, by its last offset, whatever state it is in.
    pub fn stored_batch(&self, partition: TopicIdPartition, last_offset: i64) -> Option<Bytes> {
        let inner = self.inner.lock();
        let (id, class) = inner.find(partition, last_offset)?;
        inner.durable[&id].batches.get(&(class, last_offset)).cloned()
    }

    /// As [`corrupt_batch`](Self::corrupt_batch), wherever it lies.
    pub fn rot(&self, partition: TopicIdPartition, last_offset: i64, at: usize) {
        let found = self.inner.lock().find(partition, last_offset);
        if let Some((id, class)) = found {
            self.corrupt_batch(id, class, last_offset, at);
        }
    }

    fn read<T>(&self, read: impl FnOnce(&Inner) -> T) -> Result<T, StorageError> {
        let inner = self.inner.lock();
        match &inner.health {
            StoreHealth::Online => Ok(read(&inner)),
            StoreHealth::Offline(error) => Err(error.clone()),
        }
    }
}

impl Inner {
    fn begin_read(&mut self) -> Result<(), StorageError> {
        match &mut self.reads_left {
            None => Ok(()),
            Some(0) => Err(StorageError::Offline("input/output error".into())),
            Some(left) => {
                *left -= 1;
                Ok(())
            }
        }
    }

    fn find(&self, partition: TopicIdPartition, last_offset: i64) -> Option<(LocalPartitionId, LogClass)> {
        let is_its = |data: &PartitionData| PartitionMeta::decode(&data.meta).is_some_and(|m| m.partition == partition);
        let (id, data) = self.durable.iter().find(|(_, data)| is_its(data))?;
        let (class, _) = data.batches.keys().find(|(_, last)| *last == last_offset)?;
        Some((*id, *class))
    }

    fn take(&mut self, count: usize) -> Vec<QueuedWrite> {
        let taken: Vec<QueuedWrite> = self.queue.drain(..count).collect();
        self.queued_bytes -= taken.iter().map(|q| q.write.size()).sum::<usize>();
        taken
    }

    fn apply_queued(&mut self, count: usize) {
        for i in 0..count.min(self.queue.len()) {
            let write = self.queue[i].write.clone();
            for op in write.ops {
                self.apply(write.partition, op);
            }
        }
    }

    fn apply(&mut self, id: LocalPartitionId, op: StoreOp) {
        if let StoreOp::DeletePartition { .. } = op {
            self.durable.remove(&id);
            return;
        }
        self.durable_next_id = self.durable_next_id.max(id.0 + 1);
        let data = self.durable.entry(id).or_default();
        match op {
            StoreOp::PutBatch { class, last_offset, batch } => drop(data.batches.insert((class, last_offset), batch)),
            StoreOp::DeleteBatches { class, last_offsets } => {
                data.batches.retain(|(c, last), _| *c != class || !last_offsets.contains(last));
            }
            StoreOp::PutTimeEntry(entry) => drop(data.time.insert(entry.last_offset, entry)),
            StoreOp::DeleteTimeEntries(range) => data.time.retain(|last, _| !range.contains(last)),
            StoreOp::PutProducerSnapshot { offset, snapshot } => drop(data.snapshots.insert(offset, snapshot)),
            StoreOp::DeleteProducerSnapshot { offset } => drop(data.snapshots.remove(&offset)),
            StoreOp::PutMeta(meta) => data.meta = meta,
            StoreOp::DeletePartition { .. } => unreachable!("handled above"),
        }
    }
}

fn in_class(class: LogClass, range: &Range<i64>) -> Range<(LogClass, i64)> {
    (class, range.start)..(class, range.end.max(range.start))
}

impl LogStore for MemoryStore {
    fn generation(&self) -> StoreGeneration {
        self.inner.lock().generation
    }

    fn identity(&self) -> StoreIdentity {
        self.identity
    }

    fn log_lost(&self) -> bool {
        self.inner.lock().log_lost
    }

    fn acknowledge_log_lost(&self) -> Result<(), StorageError> {
        self.inner.lock().log_lost = false;
        Ok(())
    }

    fn submit(
        &self,
        generation: StoreGeneration,
        write: StoreWrite,
        done: Arc<dyn WriteCompletion>,
        ticket: u64,
    ) -> Result<(), StorageError> {
        let queued_at = (self.clock)();
        let mut inner = self.inner.lock();
        if generation != inner.generation {
            return Err(StorageError::StaleGeneration { held: generation, current: inner.generation });
        }
        if let StoreHealth::Offline(error) = &inner.health {
            return Err(error.clone());
        }
        if inner.queued_bytes.saturating_add(write.size()) > inner.queued_bytes_max {
            return Err(StorageError::QueueFull { queued_bytes: inner.queued_bytes });
        }
        inner.queued_bytes += write.size();
        inner.queue.push_back(QueuedWrite { write, done, ticket, queued_at });
        Ok(())
    }

    fn allocate_partition(&self) -> LocalPartitionId {
        let mut inner = self.inner.lock();
        inner.next_id += 1;
        LocalPartitionId(inner.next_id - 1)
    }

    fn partitions(&self) -> Result<Vec<StoredPartition>, StorageError> {
        self.read(|inner| {
            let stored = |(id, data): (&LocalPartitionId, &PartitionData)| StoredPartition {
                id: *id,
                meta: data.meta.clone(),
                producer_snapshots: data.snapshots.iter().map(|(offset, bytes)| (*offset, bytes.clone())).collect(),
            };
            inner.durable.iter().map(stored).collect()
        })
    }

    fn read_batches(
        &self,
        partition: LocalPartitionId,
        class: LogClass,
        last_offsets: Range<i64>,
        max_bytes: usize,
    ) -> Result<Vec<StoredBatch>, StorageError> {
        self.inner.lock().begin_read()?;
        self.read(|inner| {
            let mut found = Vec::new();
            let mut size = 0;
            let Some(data) = inner.durable.get(&partition) else { return Ok(found) };
            for ((_, last_offset), batch) in data.batches.range(in_class(class, &last_offsets)) {
                if data.lost_keys.contains(&(class, *last_offset)) {
                    let nothing = found.is_empty();
                    return if nothing {
                        Err(StorageError::corrupt("a batch's key cannot be read"))
                    } else {
                        Ok(found)
                    };
                }
                size += batch.len();
                if size > max_bytes && !found.is_empty() {
                    break;
                }
                found.push(StoredBatch { last_offset: *last_offset, batch: batch.clone() });
            }
            Ok(found)
        })?
    }

    fn last_offset_in(
        &self,
        partition: LocalPartitionId,
        class: LogClass,
        last_offsets: Range<i64>,
    ) -> Result<Option<i64>, StorageError> {
        self.read(|inner| {
            let data = inner.durable.get(&partition)?;
            data.batches.range(in_class(class, &last_offsets)).next_back().map(|((_, last), _)| *last)
        })
    }

    fn time_entries(
        &self,
        partition: LocalPartitionId,
        last_offsets: Range<i64>,
        max_entries: usize,
    ) -> Result<Vec<TimeIndexEntry>, StorageError> {
        self.read(|inner| {
            let Some(data) = inner.durable.get(&partition) else { return Vec::new() };
            let range = last_offsets.start..last_offsets.end.max(last_offsets.start);
            data.time.range(range).take(max_entries).map(|(_, entry)| *entry).collect()
        })
    }

    fn last_time_entry_before(
        &self,
        partition: LocalPartitionId,
        offset: i64,
    ) -> Result<Option<TimeIndexEntry>, StorageError> {
        self.read(|inner| {
            let data = inner.durable.get(&partition)?;
            data.time.range(..offset).next_back().map(|(_, entry)| *entry)
        })
    }

    fn health(&self) -> StoreHealth {
        self.inner.lock().health.clone()
    }

    fn oldest_unfinished_commit_age(&self) -> Option<Duration> {
        let now = (self.clock)();
        self.inner.lock().queue.front().map(|q| now.saturating_sub(q.queued_at))
    }

    fn unflushed_bytes(&self) -> u64 {
        0
    }

    fn reclaim(&self) -> Result<(), StorageError> {
        self.read(|_| ())
    }

    fn close(&self) -> Result<(), StorageError> {
        self.commit();
        let mut inner = self.inner.lock();
        if let StoreHealth::Offline(error) = &inner.health {
            return Err(error.clone());
        }
        inner.health = StoreHealth::Offline(StorageError::Closed);
        Ok(())
    }

    fn reopen(&self) -> Result<StoreGeneration, StorageError> {
        let abandoned = {
            let mut inner = self.inner.lock();
            inner.health = StoreHealth::Offline(StorageError::Closed);
            let all = inner.queue.len();
            inner.take(all)
        };
        for queued in abandoned {
            queued.done.complete(queued.ticket, &Err(StorageError::Closed));
        }
        let mut inner = self.inner.lock();
        inner.generation.0 += 1;
        inner.next_id = inner.durable_next_id;
        inner.health = StoreHealth::Online;
        Ok(inner.generation)
    }
}
