//! ListOffsets by timestamp: the time index finds the chunk, the batches' headers find the batch.
//!
//! Answers are batches. Which record inside carries the timestamp is for whoever can decompress: the room of the wire.

use super::super::batch_header::header_of;
use super::super::error::StorageError;
use super::super::time_index::TimeIndexEntry;
use super::{PartitionLog, ReadLimit};
use bytes::Bytes;
use rookery_protocol::batch::RecordBatchHeader;
use std::ops::Range;

const PAGE: usize = 256;
const SCAN_BYTES: usize = 256 * 1024;

/// Where lookups begin and end, taken under the lock.
#[derive(Clone, Copy)]
struct Bounds {
    start: i64,
    /// Time entries at or above this may be on their way out.
    settled: i64,
    upper: i64,
}

impl PartitionLog {
    /// The first batch within `offsets` with a timestamp at or after the given one; it may begin before them. **Blocks.**
    pub fn find_batch_by_timestamp(
        &self,
        timestamp_ms: i64,
        offsets: Range<i64>,
    ) -> Result<Option<Bytes>, StorageError> {
        let bounds = self.bounds(offsets)?;
        let from = self.first_chunk_reaching(timestamp_ms, bounds)?;
        let mut found = None;
        self.scan(from, bounds.upper, |header, batch| {
            let reached = header.max_timestamp >= timestamp_ms;
            if reached {
                found = Some(batch.clone());
            }
            !reached
        })?;
        Ok(found)
    }

    /// The first batch below `upper_bound` with the largest timestamp (KIP-734). **Blocks.**
    pub fn find_batch_of_max_timestamp(&self, upper_bound: i64) -> Result<Option<Bytes>, StorageError> {
        let bounds = self.bounds(0..upper_bound)?;
        let remembered = self.state.lock().chunk.running_max_offset();
        let from = if remembered >= bounds.start && remembered < bounds.upper {
            remembered
        } else {
            self.chunk_with_max_timestamp(bounds)?
        };
        let mut best: Option<(i64, Bytes)> = None;
        // From the chunk with the largest timestamp it is enough to read that chunk; the rest of the log is read only
        // where the index does not reach yet.
        let mut stop_after = self.index_entries(from..bounds.settled, 1)?.first().map(|e| e.last_offset);
        if remembered >= bounds.start && remembered < bounds.upper {
            stop_after = Some(remembered);
        }
        self.scan(from, bounds.upper, |header, batch| {
            if best.as_ref().is_none_or(|(timestamp, _)| header.max_timestamp > *timestamp) {
                best = Some((header.max_timestamp, batch.clone()));
            }
            stop_after.is_none_or(|last| header.last_offset() < last)
        })?;
        Ok(best.filter(|(timestamp, _)| *timestamp >= 0).map(|(_, batch)| batch))
    }

    /// Entries of the time index.
    pub(super) fn index_entries(
        &self,
        last_offsets: Range<i64>,
        max_entries: usize,
    ) -> Result<Vec<TimeIndexEntry>, StorageError> {
        self.noted(self.store.time_entries(self.id, last_offsets, max_entries))
    }

    fn bounds(&self, offsets: Range<i64>) -> Result<Bounds, StorageError> {
        let state = self.state.lock();
        state.check_online()?;
        let (start, upper) = (state.log_start.max(offsets.start), offsets.end.min(state.log_end));
        Ok(Bounds { start, settled: state.settled_end(), upper })
    }

    /// Offset where the first chunk with a timestamp at or after the given one begins; where no closed chunk has one, the
    /// beginning of what the index does not cover.
    fn first_chunk_reaching(&self, timestamp_ms: i64, bounds: Bounds) -> Result<i64, StorageError> {
        // The running maximum ascends, so halving offsets finds the first entry that reaches the timestamp.
        let (mut low, mut high) = (bounds.start, bounds.settled);
        while low < high {
            let middle = low + (high - low) / 2;
            match self.index_entries(middle..high, 1)?.first() {
                Some(entry) if entry.running_max_timestamp < timestamp_ms => low = entry.last_offset + 1,
                _ => high = middle,
            }
        }
        // Its running maximum may be that of a chunk which retention has removed: walk on to one that has it itself.
        let mut before = self.noted(self.store.last_time_entry_before(self.id, low))?;
        loop {
            let from = before.map_or(bounds.start, |e| e.last_offset + 1).max(bounds.start);
            let page = self.index_entries(from..bounds.settled, PAGE)?;
            for entry in &page {
                if entry.chunk_max_timestamp >= timestamp_ms {
                    return Ok(before.map_or(bounds.start, |e| e.last_offset + 1).max(bounds.start));
                }
                before = Some(*entry);
            }
            if page.len() < PAGE {
                return Ok(before.map_or(bounds.start, |e| e.last_offset + 1).max(bounds.start));
            }
        }
    }

    /// Offset where the chunk with the largest timestamp begins, or what the index does not cover if that has a larger one.
    fn chunk_with_max_timestamp(&self, bounds: Bounds) -> Result<i64, StorageError> {
        let mut best: Option<(i64, i64)> = None;
        let mut before: Option<TimeIndexEntry> = None;
        loop {
            let from = before.map_or(bounds.start, |e| e.last_offset + 1);
            let page = self.index_entries(from..bounds.settled.min(bounds.upper), PAGE)?;
            for entry in &page {
                if best.is_none_or(|(timestamp, _)| entry.chunk_max_timestamp > timestamp) {
                    best = Some((entry.chunk_max_timestamp, before.map_or(bounds.start, |e| e.last_offset + 1)));
                }
                before = Some(*entry);
            }
            if page.len() < PAGE {
                break;
            }
        }
        let uncovered = before.map_or(bounds.start, |e| e.last_offset + 1);
        let mut tail_max = -1;
        self.scan(uncovered, bounds.upper, |header, _| {
            tail_max = tail_max.max(header.max_timestamp);
            true
        })?;
        Ok(best.filter(|(timestamp, _)| *timestamp >= tail_max).map_or(uncovered, |(_, from)| from))
    }

    /// Goes through batches until the visitor has enough.
    fn scan(
        &self,
        from: i64,
        to: i64,
        mut go_on: impl FnMut(&RecordBatchHeader, &Bytes) -> bool,
    ) -> Result<(), StorageError> {
        let mut at = from;
        while at < to {
            let read = self.read(at, to, ReadLimit { max_bytes: SCAN_BYTES, at_least_one: true })?;
            if read.batches.is_empty() {
                return Ok(());
            }
            for batch in &read.batches {
                let header = header_of(batch)?;
                if !go_on(&header, batch) {
                    return Ok(());
                }
            }
            at = read.next_offset;
        }
        Ok(())
    }
}
