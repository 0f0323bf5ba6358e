//! Reads: from the tail without touching the disk, or from the disk and on into the tail.

use super::super::batch_header::checked;
use super::super::error::StorageError;
use super::super::log_store::StoredBatch;
use super::super::partition_meta::Extent;
use super::{LogState, PartitionLog};
use bytes::Bytes;
use rookery_protocol::batch::RecordBatchHeader;

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

/// A batch, or what is wrong with it.
pub(super) type BatchOrDamage = Result<Bytes, String>;

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
pub(super) struct DiskPass {
    pub from: i64,
    /// Exclusive bound of last offsets: for a read never above the start of the tail.
    pub to: i64,
    pub extents: Vec<Extent>,
    pub truncations: u64,
}

/// A batch as it came from disk.
pub(super) struct DiskBatch {
    /// Its key.
    pub last_offset: i64,
    pub batch: Bytes,
    /// What it says, or what is wrong with it; its epoch is not checked yet.
    pub header: Result<RecordBatchHeader, String>,
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
    /// from disk is checked; one that is damaged ends the read before it, and is [`StorageError::Corrupt`] if it comes first
    /// ([`StorageError::NowhereSound`] once it is known that no replica has a sound copy).
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
            let found = self.noted(self.read_disk(&pass, limit.max_bytes.saturating_sub(read.size)))?;
            let mut state = self.state.lock();
            if state.truncations != pass.truncations {
                read = LogRead { next_offset: from, ..LogRead::default() };
                continue;
            }
            if found.is_empty() {
                // A gap up to the end of the pass.
                state.check_range(pass.from)?;
                read.next_offset = pass.to;
            }
            for DiskBatch { last_offset, batch, header } in found {
                if let Err(what) = header.and_then(|header| self.check_epoch(&state, &header)) {
                    let error = state.unreadable(last_offset, &what);
                    let is_new = state.note(last_offset, &what);
                    drop(state);
                    if is_new {
                        self.tell_damage(&what);
                    }
                    // What comes before it is served; the next read begins here.
                    return if read.batches.is_empty() { Err(error) } else { Ok(read) };
                }
                if !read.take(batch, last_offset, limit) {
                    return Ok(read);
                }
            }
        }
    }

    /// Batches of the pass, out of the column families its extents are in; the first in any case. Each comes with its header, or
    /// with what is wrong with it.
    pub(super) fn read_disk(&self, pass: &DiskPass, max_bytes: usize) -> Result<Vec<DiskBatch>, StorageError> {
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
        let checked = |StoredBatch { last_offset, batch }: StoredBatch| {
            let header = checked(&batch).map_err(|error| self.damage(last_offset, &error.to_string()));
            let header = header.and_then(|header| match header.last_offset() == last_offset {
                true => Ok(header),
                false => Err(self.damage(last_offset, "its offsets do not match its key")),
            });
            DiskBatch { last_offset, batch, header }
        };
        Ok(found.into_iter().map(checked).collect())
    }

    /// The part of a disk batch's check that needs the epoch cache: the leader epoch lies outside the CRC.
    pub(super) fn check_epoch(&self, state: &LogState, header: &RecordBatchHeader) -> Result<(), String> {
        let last_offset = header.last_offset();
        match state.epochs.epoch_of(last_offset) {
            // Below the log's start by now: the cache has forgotten its epoch, and nobody will serve it.
            _ if last_offset < state.log_start => Ok(()),
            Some(epoch) if epoch.0 == header.partition_leader_epoch => Ok(()),
            known => {
                let said = header.partition_leader_epoch;
                Err(self.damage(last_offset, &format!("it says leader epoch {said}, the epoch cache {known:?}")))
            }
        }
    }

    /// The first batch that ends at or after `offset` and below `to`, with the lock held. Reads the disk.
    pub(super) fn batch_at(&self, state: &LogState, offset: i64, to: i64) -> Result<Option<Bytes>, StorageError> {
        let found = self.batch_or_damage_at(state, offset, to)?;
        found.map(|(_, batch)| batch.map_err(StorageError::corrupt)).transpose()
    }

    /// The same with its last offset; of a damaged one what is wrong with it.
    pub(super) fn batch_or_damage_at(
        &self,
        state: &LogState,
        offset: i64,
        to: i64,
    ) -> Result<Option<(i64, BatchOrDamage)>, StorageError> {
        if offset < state.tail.start_offset() {
            let to = to.min(state.tail.start_offset());
            let extents = state.extents.clone();
            let pass = DiskPass { from: offset, to, extents, truncations: state.truncations };
            if let Some(DiskBatch { last_offset, header, batch }) = self.read_disk(&pass, 0)?.into_iter().next() {
                let sound = header.and_then(|header| self.check_epoch(state, &header));
                return Ok(Some((last_offset, sound.map(|()| batch))));
            }
        }
        let next = state.tail.from(offset).next().filter(|b| b.last_offset < to);
        Ok(next.map(|b| (b.last_offset, Ok(b.batch.clone()))))
    }

    fn damage(&self, last_offset: i64, what: &str) -> String {
        format!("{}: the batch that ends at {last_offset}: {what}", self.partition)
    }
}
