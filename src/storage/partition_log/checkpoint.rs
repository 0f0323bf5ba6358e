//! What is written now and then: high watermark, producer snapshots, a new retention class; and the end of a log.

use super::super::error::StorageError;
use super::super::log_class::LogClass;
use super::super::log_store::StoreOp;
use super::super::partition_meta::Extent;
use super::{LogState, PartitionLog};
use bytes::Bytes;
use smallvec::{SmallVec, smallvec};
use std::sync::Arc;

/// Snapshots kept: one at or below the high watermark, which no truncation undercuts, and a few newer ones.
const SNAPSHOTS_KEPT: usize = 4;

/// A snapshot about to be written, and the older ones it replaces.
pub(super) struct ProducerSnapshot {
    pub(super) ops: SmallVec<[StoreOp; 4]>,
    offset: i64,
    bytes: Bytes,
    replaced: Vec<i64>,
}

impl LogState {
    /// The producers at the log's end, and which older snapshots nobody needs then.
    pub(super) fn producer_snapshot(&self) -> ProducerSnapshot {
        let (offset, bytes) = (self.log_end, self.producers.encode());
        let offsets: Vec<i64> = self.snapshots.iter().map(|s| s.0).filter(|o| *o != offset).collect();
        let below_watermark = offsets.iter().rposition(|o| *o <= self.high_watermark).unwrap_or(0);
        let mut replaced = offsets[..below_watermark].to_vec();
        // If the high watermark stands still, the newest of the middle ones stay.
        let middle = &offsets[(below_watermark + 1).min(offsets.len())..];
        let excess = middle.len().saturating_sub(SNAPSHOTS_KEPT - 2);
        replaced.extend(&middle[..excess]);
        let mut ops = smallvec![StoreOp::PutProducerSnapshot { offset, snapshot: bytes.clone() }];
        ops.extend(replaced.iter().map(|offset| StoreOp::DeleteProducerSnapshot { offset: *offset }));
        ProducerSnapshot { ops, offset, bytes, replaced }
    }

    /// The snapshot has been queued.
    pub(super) fn take_snapshot(&mut self, snapshot: ProducerSnapshot) {
        self.snapshots.retain(|s| s.0 != snapshot.offset && !snapshot.replaced.contains(&s.0));
        self.snapshots.push_back((snapshot.offset, snapshot.bytes));
        self.bytes_since_snapshot = 0;
    }
}

impl PartitionLog {
    /// Queues the high watermark, and the producers if the log grew: call every few seconds and before a clean close. Does
    /// nothing if nothing changed.
    pub fn checkpoint(self: &Arc<Self>, high_watermark: i64) -> Result<(), StorageError> {
        let mut state = self.state.lock();
        state.check_online()?;
        let moved = high_watermark != state.high_watermark;
        if !moved && state.bytes_since_snapshot == 0 {
            return Ok(());
        }
        let previous = std::mem::replace(&mut state.high_watermark, high_watermark);
        let mut ops: SmallVec<[StoreOp; 4]> = smallvec![StoreOp::PutMeta(self.meta(&state).encode())];
        let snapshot = (state.bytes_since_snapshot > 0).then(|| state.producer_snapshot());
        ops.extend(snapshot.iter().flat_map(|s| s.ops.iter().cloned()));
        if let Err(error) = self.submit(&mut state, ops, None, None) {
            state.high_watermark = previous;
            return Err(error);
        }
        if let Some(snapshot) = snapshot {
            state.take_snapshot(snapshot);
        }
        Ok(())
    }

    /// The topic's retention changed: batches from the log's end on go to another class. What is there stays where it is.
    pub fn set_class(self: &Arc<Self>, class: LogClass) -> Result<(), StorageError> {
        let mut state = self.state.lock();
        state.check_online()?;
        if state.class() == class {
            return Ok(());
        }
        let mut extents = state.extents.clone();
        extents.retain(|e| e.from_offset < state.log_end);
        // Without records of its own the extent that goes may have separated two of the same class.
        if extents.last().is_none_or(|last| last.class != class) {
            extents.push(Extent { from_offset: state.log_end, class });
        }
        let meta = super::PartitionMeta { extents: extents.clone(), ..self.meta(&state) };
        self.submit(&mut state, smallvec![StoreOp::PutMeta(meta.encode())], None, None)?;
        state.extents = extents;
        Ok(())
    }

    /// Queues the partition's first metadata.
    pub(in super::super) fn create_in_store(self: &Arc<Self>) -> Result<(), StorageError> {
        let mut state = self.state.lock();
        let meta = self.meta(&state).encode();
        self.submit(&mut state, smallvec![StoreOp::PutMeta(meta)], None, None)
    }

    /// Queues the removal of everything, of a damaged log too; the log refuses whatever comes next.
    pub(in super::super) fn delete_from_store(self: &Arc<Self>) -> Result<(), StorageError> {
        let mut state = self.state.lock();
        match state.check_online() {
            Ok(()) | Err(StorageError::Corrupt(_)) => {}
            Err(error) => return Err(error),
        }
        let mut classes: Vec<LogClass> = state.extents.iter().map(|e| e.class).collect();
        classes.sort_unstable();
        classes.dedup();
        self.submit(&mut state, smallvec![StoreOp::DeletePartition { classes }], None, None)?;
        let log_end = state.log_end;
        state.tail.reset(log_end);
        let waiters = state.fail(StorageError::Deleted);
        drop(state);
        for (waiter, result) in waiters {
            // A waiter that has gone away needs no answer.
            let _ = waiter.send(result);
        }
        Ok(())
    }
}
