//! Truncation at the end, and the start of the log moving up.
//!
//! What either has to read is read first: a disk that does not give it back leaves the log as it was, so that it can be tried again, or be given
//! up, led or deleted meanwhile. (Read behind the cut, it left a log without producers, which nothing but another open of the store could
//! have mended, while the store had nothing to be opened anew for.)

use super::super::batch_header::header_of;
use super::super::error::StorageError;
use super::super::leader_epoch_cache::OffsetAndEpoch;
use super::super::log_store::StoreOp;
use super::super::partition_meta::Extent;
use super::super::time_index::OpenChunk;
use super::{LogState, PartitionLog, Waiter};
use smallvec::SmallVec;
use std::ops::Range;
use std::sync::Arc;

impl LogState {
    /// Removal of every batch whose last offset is in the range, from each column family the range touches.
    fn delete_batches(&self, last_offsets: Range<i64>) -> SmallVec<[StoreOp; 4]> {
        let mut ops = SmallVec::new();
        for (i, extent) in self.extents.iter().enumerate() {
            let next = self.extents.get(i + 1).map_or(i64::MAX, |e| e.from_offset);
            let part = extent.from_offset.max(last_offsets.start)..next.min(last_offsets.end);
            if !part.is_empty() {
                ops.push(StoreOp::DeleteBatches { class: extent.class, last_offsets: part });
            }
        }
        ops
    }

    /// The log ends at `end` from now on: lowers what is above it and takes out waiters that will never be served.
    fn lower_end(&mut self, end: i64) -> Vec<(Waiter, Result<(), StorageError>)> {
        self.log_end = end;
        self.synced_end = self.synced_end.min(end);
        self.high_watermark = self.high_watermark.min(end);
        self.end_floor = end;
        self.truncations += 1;
        self.damaged.split_off(&end);
        for write in &mut self.in_flight {
            write.synced_end = write.synced_end.map(|e| e.min(end));
        }
        let lost = self.waiters.split_off(&(end + 1, 0));
        lost.into_values().map(|w| (w, Err(StorageError::Truncated { new_end: end }))).collect()
    }
}

fn notify(waiters: Vec<(Waiter, Result<(), StorageError>)>) {
    for (waiter, result) in waiters {
        // A waiter that has gone away needs no answer.
        let _ = waiter.send(result);
    }
}

impl PartitionLog {
    /// Removes everything at or above `offset`, and a batch that spans it, with the epochs, time entries and producer
    /// snapshots above; returns the new end. One write. Refused unless the log ends at `expected`. **Blocks** (reads).
    pub fn truncate_to(
        self: &Arc<Self>,
        offset: i64,
        expected: OffsetAndEpoch,
        now_ms: i64,
    ) -> Result<i64, StorageError> {
        let mut state = self.state.lock();
        state.check_online()?;
        state.check_end(expected)?;
        if offset >= state.log_end {
            return Ok(state.log_end);
        }
        if offset < state.log_start {
            drop(state);
            self.truncate_fully_and_start_at(offset, expected)?;
            return Ok(offset);
        }
        let spanning = self.batch_at(&state, offset, state.log_end)?;
        let base = spanning.map(|batch| header_of(&batch)).transpose()?;
        let end = base.map_or(offset, |header| header.base_offset.clamp(state.log_start, offset));
        let rebuilt = self.rebuilt(&state, end, now_ms)?;

        let mut ops = state.delete_batches(end..i64::MAX);
        ops.push(StoreOp::DeleteTimeEntries(end..i64::MAX));
        let later = state.snapshots.iter().filter(|s| s.0 > end);
        ops.extend(later.map(|s| StoreOp::DeleteProducerSnapshot { offset: s.0 }));
        let mut meta = self.meta(&state);
        meta.epochs.truncate_from_end(end);
        meta.end_floor = end;
        meta.high_watermark = meta.high_watermark.min(end);
        meta.extents = truncated_extents(&state.extents, end);
        ops.push(StoreOp::PutMeta(meta.encode()));
        self.submit(&mut state, ops, Some(end), Some(end))?;

        state.epochs = meta.epochs;
        state.extents = meta.extents;
        state.snapshots.retain(|s| s.0 <= end);
        let lost = state.lower_end(end);
        state.tail.truncate(end);
        state.take_rebuilt(rebuilt);
        drop(state);
        notify(lost);
        Ok(end)
    }

    /// Empties the log; it goes on at `offset` (Kafka: truncateFullyAndStartAt). A follower does this when the leader's log
    /// starts above its own end. Refused unless the log ends at `expected`.
    pub fn truncate_fully_and_start_at(
        self: &Arc<Self>,
        offset: i64,
        expected: OffsetAndEpoch,
    ) -> Result<(), StorageError> {
        let mut state = self.state.lock();
        state.check_online()?;
        state.check_end(expected)?;
        let mut ops = state.delete_batches(0..i64::MAX);
        ops.push(StoreOp::DeleteTimeEntries(0..i64::MAX));
        ops.extend(state.snapshots.iter().map(|s| StoreOp::DeleteProducerSnapshot { offset: s.0 }));
        let mut meta = self.meta(&state);
        meta.epochs.clear();
        meta.log_start = offset;
        meta.end_floor = offset;
        meta.high_watermark = offset;
        meta.start_position = state.chunk.position();
        meta.extents = vec![Extent { from_offset: offset, class: state.class() }];
        ops.push(StoreOp::PutMeta(meta.encode()));
        // Everything before is gone, so nothing of it can be asked for: the truncation bounds the time index at 0.
        self.submit(&mut state, ops, Some(offset), Some(0))?;

        let lost = state.lower_end(offset);
        state.log_start = offset;
        state.high_watermark = offset;
        state.start_position = meta.start_position;
        state.epochs = meta.epochs;
        state.extents = meta.extents;
        state.snapshots.clear();
        state.damaged.clear();
        state.producers = super::ProducerState::default();
        state.bytes_since_snapshot = 0;
        state.chunk = OpenChunk::at_position(meta.start_position);
        state.tail.reset(offset);
        drop(state);
        notify(lost);
        Ok(())
    }

    /// Moves the log's start up to `offset` and frees what lies below: batches that end below it go. Does nothing if the
    /// start is there already. **Blocks** (reads).
    pub fn advance_log_start(self: &Arc<Self>, offset: i64) -> Result<(), StorageError> {
        let mut state = self.state.lock();
        state.check_online()?;
        if offset <= state.log_start {
            return Ok(());
        }
        state.check_range(offset)?;
        let below = self.last_entry_before(&state, offset)?;
        let start_position = match below {
            _ if offset == state.log_end => state.chunk.position(),
            Some(entry) => entry.end_position,
            None => state.start_position,
        };
        let mut ops = state.delete_batches(state.log_start..offset);
        ops.push(StoreOp::DeleteTimeEntries(state.log_start..offset));
        // What is about to go can no longer be replayed: one snapshot at or above the new start must hold it, and older
        // ones, which lead up to a hole, must go.
        let mut snapshots = state.snapshots.clone();
        snapshots.retain(|s| s.0 >= offset);
        if snapshots.front().is_none_or(|s| s.0 > offset.max(state.high_watermark)) {
            let snapshot = self.producers_at(&state, offset)?.encode();
            ops.push(StoreOp::PutProducerSnapshot { offset, snapshot: snapshot.clone() });
            snapshots.push_front((offset, snapshot));
        }
        let spent = state.snapshots.iter().filter(|s| s.0 < offset);
        ops.extend(spent.map(|s| StoreOp::DeleteProducerSnapshot { offset: s.0 }));
        let mut meta = self.meta(&state);
        meta.log_start = offset;
        meta.start_position = start_position;
        meta.end_floor = meta.end_floor.max(offset);
        meta.high_watermark = meta.high_watermark.max(offset);
        meta.epochs.truncate_from_start(offset);
        let spent = meta.extents.partition_point(|e| e.from_offset <= offset).saturating_sub(1);
        meta.extents.drain(..spent);
        ops.push(StoreOp::PutMeta(meta.encode()));
        self.submit(&mut state, ops, None, None)?;

        state.snapshots = snapshots;
        state.log_start = meta.log_start;
        state.damaged = state.damaged.split_off(&meta.log_start);
        state.start_position = meta.start_position;
        state.end_floor = meta.end_floor;
        state.high_watermark = meta.high_watermark;
        state.epochs = meta.epochs;
        state.extents = meta.extents;
        Ok(())
    }
}

/// The extents of a log that ends at `end`; new batches go where they went before.
fn truncated_extents(extents: &[Extent], end: i64) -> Vec<Extent> {
    let class = extents.last().expect("a log always has an extent").class;
    let mut kept: Vec<Extent> = extents.iter().copied().filter(|e| e.from_offset < end).collect();
    if kept.last().is_none_or(|last| last.class != class) {
        kept.push(Extent { from_offset: end, class });
    }
    kept
}
