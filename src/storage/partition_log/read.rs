//! Reads: from the tail without touching the disk, or from the disk and on into the tail.

use super::super::batch_header::{checked, header_of};
use super::super::error::StorageError;
use super::super::log_store::StoredBatch;
use super::super::partition_meta::Extent;
use super::{LogState, PartitionLog};
use bytes::Bytes;

/// How much a read may return.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ReadLimit {
    /// Stop before the batch that would exceed this many bytes.
    pub max_bytes: usize,
    /// Return the first batch even if it alone exceeds `max_bytes` (KIP-74).
    pub at_least_one: bool,
}

/// Batches out of a log, whole and in order. The first may begin before the offset asked for.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct LogRead {
    /// As on the wire.
    pub batches: Vec<Bytes>,
    /// Their bytes.
    pub size: usize,
    /// Where the next read goes on: above the last batch, or the offset asked for if there was none.
    pub next_offset: i64,
}

impl LogRead {
    /// Adds a batch if the limit lets it in.
    fn take(&mut self, batch: Bytes, last_offset: i64, limit: ReadLimit) -> bool {
        let fits = self.size.saturating_add(batch.len()) <= limit.max_bytes;
        let first = limit.at_least_one && self.batches.is_empty();
        if !fits && !first {
            return false;
        }
        self.size += batch.len();
        self.batches.push(batch);
        self.next_offset = last_offset + 1;
        true
    }
}

impl LogState {
    pub(super) fn check_range(&self, offset: i64) -> Result<(), StorageError> {
        self.check_online()?;
        let (log_start, log_end) = (self.log_start, self.log_end);
        if offset < log_start || offset > log_end {
            return Err(StorageError::OffsetOutOfRange { offset, log_start, log_end });
        }
        Ok(())
    }

    /// Goes on with a read that has reached the tail.
    fn read_tail(&self, read: &mut LogRead, upper_bound: i64, limit: ReadLimit) {
        for batch in self.tail.from(read.next_offset) {
            if batch.last_offset >= upper_bound || !read.take(batch.batch.clone(), batch.last_offset, limit) {
                return;
            }
        }
    }
}

/// What a pass over the disk needs to know of the state, taken under the lock.
struct DiskPass {
    from: i64,
    /// Exclusive bound of last offsets: never above the start of the tail.
    to: i64,
    extents: Vec<Extent>,
    truncations: u64,
}

impl PartitionLog {
    /// Reads from memory alone. `Ok(None)`: it must come from disk, use [`read`](Self::read) where blocking is allowed.
    /// Returns whole batches that end below `upper_bound`.
    pub fn try_read_cached(
        &self,
        from: i64,
        upper_bound: i64,
        limit: ReadLimit,
    ) -> Result<Option<LogRead>, StorageError> {
        let state = self.state.lock();
        state.check_range(from)?;
        let mut read = LogRead { next_offset: from, ..LogRead::default() };
        if from < state.tail.start_offset() && from < upper_bound {
            return Ok(None);
        }
        state.read_tail(&mut read, upper_bound, limit);
        Ok(Some(read))
    }

    /// Reads from memory or disk. **Blocks.** Returns whole batches that end below `upper_bound`. Every batch that comes
    /// from disk is checked; damage is [`StorageError::Corrupt`].
    pub fn read(&self, from: i64, upper_bound: i64, limit: ReadLimit) -> Result<LogRead, StorageError> {
        let mut read = LogRead { next_offset: from, ..LogRead::default() };
        loop {
            let pass = {
                let state = self.state.lock();
                // Retention may overtake a read that has begun: what was read stays good.
                match state.check_range(read.next_offset) {
                    Err(StorageError::OffsetOutOfRange { .. }) if !read.batches.is_empty() => return Ok(read),
                    other => other?,
                }
                let end = upper_bound.min(state.log_end);
                if read.next_offset >= end {
                    return Ok(read);
                }
                if read.next_offset >= state.tail.start_offset() {
                    state.read_tail(&mut read, end, limit);
                    return Ok(read);
                }
                DiskPass {
                    from: read.next_offset,
                    to: end.min(state.tail.start_offset()),
                    extents: state.extents.clone(),
                    truncations: state.truncations,
                }
            };
            let found = self.read_disk(&pass, limit.max_bytes.saturating_sub(read.size))?;
            let state = self.state.lock();
            if state.truncations != pass.truncations {
                read = LogRead { next_offset: from, ..LogRead::default() };
                continue;
            }
            if found.is_empty() {
                // A gap up to the end of the pass.
                state.check_range(pass.from)?;
                read.next_offset = pass.to;
            }
            for stored in found {
                state.check_batch(&stored)?;
                if !read.take(stored.batch, stored.last_offset, limit) {
                    return Ok(read);
                }
            }
        }
    }

    /// Batches of the pass, out of the column families its extents are in; the first in any case.
    fn read_disk(&self, pass: &DiskPass, max_bytes: usize) -> Result<Vec<StoredBatch>, StorageError> {
        let mut found = Vec::new();
        for (i, extent) in pass.extents.iter().enumerate() {
            let next = pass.extents.get(i + 1).map_or(i64::MAX, |e| e.from_offset);
            let range = extent.from_offset.max(pass.from)..next.min(pass.to);
            if !range.is_empty() {
                found = self.store.read_batches(self.id, extent.class, range, max_bytes)?;
            }
            if !found.is_empty() {
                break;
            }
        }
        for stored in &found {
            let header = checked(&stored.batch);
            let header = header.map_err(|error| self.corrupt(stored.last_offset, &error.to_string()))?;
            if header.last_offset() != stored.last_offset {
                return Err(self.corrupt(stored.last_offset, "its offsets do not match its key"));
            }
        }
        Ok(found)
    }

    /// The first batch that ends at or after `offset` and below `to`, with the lock held. Reads the disk.
    pub(super) fn batch_at(&self, state: &LogState, offset: i64, to: i64) -> Result<Option<Bytes>, StorageError> {
        if offset < state.tail.start_offset() {
            let to = to.min(state.tail.start_offset());
            let extents = state.extents.clone();
            let pass = DiskPass { from: offset, to, extents, truncations: state.truncations };
            if let Some(stored) = self.read_disk(&pass, 0)?.into_iter().next() {
                state.check_batch(&stored)?;
                return Ok(Some(stored.batch));
            }
        }
        Ok(state.tail.from(offset).next().filter(|b| b.last_offset < to).map(|b| b.batch.clone()))
    }

    fn corrupt(&self, last_offset: i64, what: &str) -> StorageError {
        StorageError::corrupt(format!("{}: the batch that ends at {last_offset}: {what}", self.partition))
    }
}

impl LogState {
    /// The part of a disk batch's check that needs the epoch cache: the leader epoch lies outside the CRC.
    fn check_batch(&self, stored: &StoredBatch) -> Result<(), StorageError> {
        let header = header_of(&stored.batch)?;
        match self.epochs.epoch_of(stored.last_offset) {
            // Below the log's start by now: the cache has forgotten its epoch, and nobody will serve it.
            _ if stored.last_offset < self.log_start => Ok(()),
            Some(epoch) if epoch.0 == header.partition_leader_epoch => Ok(()),
            known => Err(StorageError::corrupt(format!(
                "the batch that ends at {} says leader epoch {}, the epoch cache {known:?}",
                stored.last_offset, header.partition_leader_epoch
            ))),
        }
    }
}
