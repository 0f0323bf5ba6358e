//! What is kept in memory only, made again from the store: at open, and for a truncation.

use super::super::batch_header::header_of;
use super::super::error::StorageError;
use super::super::log_class::LogClass;
use super::super::log_directory::LogConfig;
use super::super::log_store::{LocalPartitionId, LogStore, StoredPartition};
use super::super::partition_meta::{Extent, PartitionMeta};
use super::super::producer_state::ProducerState;
use super::super::time_index::{OpenChunk, TimeIndexEntry};
use super::{LeaderEpochCache, LogState, PartitionLog};
use parking_lot::Mutex;
use rookery_raft::ids::TopicIdPartition;
use std::sync::Arc;

/// Without any snapshot, producers are rebuilt from this much of the tail. (With snapshots it is never that far.)
const PRODUCER_REPLAY_BYTES_MAX: u64 = 16 << 20;

/// What is kept in memory only, of a log with a certain end.
pub(super) struct Rebuilt {
    chunk: OpenChunk,
    producers: ProducerState,
    replayed: u64,
}

impl LogState {
    pub(super) fn take_rebuilt(&mut self, rebuilt: Rebuilt) {
        self.chunk = rebuilt.chunk;
        self.producers = rebuilt.producers;
        self.bytes_since_snapshot = rebuilt.replayed;
    }
}

impl PartitionLog {
    /// A log that has nothing in the store yet.
    pub(in super::super) fn fresh(
        store: Arc<dyn LogStore>,
        partition: TopicIdPartition,
        class: LogClass,
        config: LogConfig,
    ) -> Arc<Self> {
        let meta = PartitionMeta {
            partition,
            log_start: 0,
            start_position: 0,
            end_floor: 0,
            high_watermark: 0,
            extents: vec![Extent { from_offset: 0, class }],
            epochs: LeaderEpochCache::default(),
        };
        let id = store.allocate_partition();
        Self::with_state(store, id, config, LogState::new(meta, 0), partition)
    }

    /// The log a store holds. Reads a bounded tail. Damage there fails this log alone; damage to the partition's metadata
    /// is an error, since nobody could tell whose log it was.
    pub(in super::super) fn load(
        store: Arc<dyn LogStore>,
        stored: StoredPartition,
        config: LogConfig,
        now_ms: i64,
    ) -> Result<Arc<Self>, StorageError> {
        let damaged = || StorageError::corrupt(format!("the metadata of the log with local id {}", stored.id.0));
        let meta = PartitionMeta::decode(&stored.meta).ok_or_else(damaged)?;
        let partition = meta.partition;
        let mut log_end = meta.end_floor.max(meta.log_start);
        for extent in meta.extents.iter().rev() {
            if let Some(last) = store.last_offset_in(stored.id, extent.class, extent.from_offset..i64::MAX)? {
                log_end = log_end.max(last + 1);
                break;
            }
        }
        let mut state = LogState::new(meta, log_end);
        state.high_watermark = state.high_watermark.clamp(state.log_start, log_end);
        state.snapshots = stored.producer_snapshots.into_iter().filter(|s| s.0 <= log_end).collect();
        let log = Self::with_state(store, stored.id, config, state, partition);
        let mut state = log.state.lock();
        match log.rebuilt(&state, log_end, now_ms) {
            Ok(rebuilt) => state.take_rebuilt(rebuilt),
            Err(StorageError::Corrupt(what)) => {
                tracing::error!(%partition, %what, "the log is damaged and stays offline");
                state.failed = Some(StorageError::Corrupt(what));
            }
            Err(error) => return Err(error),
        }
        drop(state);
        Ok(log)
    }

    fn with_state(
        store: Arc<dyn LogStore>,
        id: LocalPartitionId,
        config: LogConfig,
        state: LogState,
        partition: TopicIdPartition,
    ) -> Arc<Self> {
        Arc::new(Self {
            partition,
            id,
            generation: store.generation(),
            recovered_high_watermark: state.high_watermark,
            store,
            config,
            listener: Mutex::new(None),
            state: Mutex::new(state),
        })
    }

    /// Producers and the open chunk of the time index as they were when the log ended at `end`, where a batch ends. Reads only what lies
    /// below, and changes nothing.
    pub(super) fn rebuilt(&self, state: &LogState, end: i64, now_ms: i64) -> Result<Rebuilt, StorageError> {
        let last_entry = self.last_entry_before(state, end)?;
        let mut chunk = last_entry.map_or(OpenChunk::at_position(state.start_position), |e| OpenChunk::after(Some(e)));
        let chunk_from = last_entry.map_or(state.log_start, |e| e.last_offset + 1);
        let (producers_from, mut producers) = match state.snapshots.iter().rev().find(|s| s.0 <= end) {
            Some((offset, bytes)) => {
                let damaged =
                    || StorageError::corrupt(format!("{}: the producer snapshot at {offset}", self.partition));
                (*offset, ProducerState::decode(bytes).ok_or_else(damaged)?)
            }
            None => (self.bounded_replay_start(state, last_entry)?, ProducerState::default()),
        };
        let mut replayed = 0;
        let mut at = chunk_from.min(producers_from).max(state.log_start);
        while let Some(batch) = self.batch_at(state, at, end)? {
            let header = header_of(&batch)?;
            if header.last_offset() >= chunk_from {
                chunk.add(&header, now_ms);
            }
            if header.last_offset() >= producers_from {
                producers.replay(&header, now_ms);
                replayed += header.size() as u64;
            }
            at = header.last_offset() + 1;
        }
        Ok(Rebuilt { chunk, producers, replayed })
    }

    /// The producers as they were when the log ended at `offset`, of those still known: replayed from the newest snapshot
    /// at or below it. A damaged batch is passed over (its producer may hear of a gap after a crash): it must not hold up the
    /// retention that would remove it.
    pub(super) fn producers_at(&self, state: &LogState, offset: i64) -> Result<ProducerState, StorageError> {
        if offset == state.log_end {
            return Ok(state.producers.clone());
        }
        let snapshot = state.snapshots.iter().rev().find(|s| s.0 <= offset);
        let mut producers = snapshot.and_then(|(_, bytes)| ProducerState::decode(bytes)).unwrap_or_default();
        let mut at = snapshot.map_or(state.log_start, |s| s.0.max(state.log_start));
        while let Some((last_offset, batch)) = self.batch_or_damage_at(state, at, offset)? {
            match batch {
                Ok(batch) => producers.replay(&header_of(&batch)?, 0),
                Err(what) => tracing::warn!(%what, "a snapshot of the producers leaves a damaged batch out"),
            }
            at = last_offset + 1;
        }
        producers.take_last_seen(&state.producers);
        Ok(producers)
    }

    /// The newest entry of the time index that lies in the log and below `offset`. Entries still queued are not seen: what
    /// they cover is read batch by batch, which is right too.
    pub(super) fn last_entry_before(
        &self,
        state: &LogState,
        offset: i64,
    ) -> Result<Option<TimeIndexEntry>, StorageError> {
        let entry = self.store.last_time_entry_before(self.id, offset.min(state.settled_end()))?;
        Ok(entry.filter(|e| e.last_offset >= state.log_start))
    }

    fn bounded_replay_start(&self, state: &LogState, newest: Option<TimeIndexEntry>) -> Result<i64, StorageError> {
        let Some(newest) = newest else { return Ok(state.log_start) };
        let mut entry = newest;
        while newest.end_position.saturating_sub(entry.end_position) < PRODUCER_REPLAY_BYTES_MAX {
            match self.last_entry_before(state, entry.last_offset)? {
                Some(earlier) => entry = earlier,
                None => return Ok(state.log_start),
            }
        }
        Ok(entry.last_offset + 1)
    }
}
