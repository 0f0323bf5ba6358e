//! Appends: of a leader, who assigns offsets, and of a follower, who takes what the leader assigned.

use super::super::batch_header::{checked, stamped};
use super::super::error::{AppendError, StorageError};
use super::super::leader_epoch_cache::OffsetAndEpoch;
use super::super::log_store::StoreOp;
use super::super::producer_state::ChangedProducers;
use super::super::tail_cache::{EvictTail, TailBatch};
use super::{LogState, PartitionLog};
use bytes::Bytes;
use rookery_protocol::batch::{BatchError, RecordBatchHeader, TimestampType};
use rookery_raft::ids::LeaderEpoch;
use smallvec::SmallVec;
use std::sync::{Arc, Weak};

/// Who made the batches.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum AppendOrigin {
    /// A client: producer epochs and sequences are checked.
    Client,
    /// A coordinator of ours: epochs are checked, sequences are not.
    Coordinator,
}

/// How a leader appends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LeaderAppend {
    /// Stamped into every batch; never older than the log's newest.
    pub leader_epoch: LeaderEpoch,
    /// Of the topic.
    pub timestamp_type: TimestampType,
    /// Who made the batches.
    pub origin: AppendOrigin,
    /// Wall clock in milliseconds since 1970.
    pub now_ms: i64,
}

/// What an append did.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct AppendInfo {
    /// Offset of the first record.
    pub first_offset: i64,
    /// Offset of the last record. The append is durable once the synced end is above it.
    pub last_offset: i64,
    /// The time set by LogAppendTime, else −1.
    pub log_append_time_ms: i64,
    /// The log's start at the time.
    pub log_start_offset: i64,
    /// The batch was there already (idempotent retry): the offsets are those of the original, nothing was queued, and the
    /// acknowledgement has to wait like that of the original.
    pub duplicate: bool,
}

/// A batch that has been checked, and its bytes as they will be stored.
type LogBatch = (RecordBatchHeader, Bytes);

impl PartitionLog {
    /// Assigns offsets to one or more whole batches and queues them. Header and CRC of each are checked here; callers need
    /// not. The bytes are copied, so that what the tail keeps for readers never pins a frame whose size nobody knows.
    pub fn append_as_leader(self: &Arc<Self>, records: Bytes, how: LeaderAppend) -> Result<AppendInfo, AppendError> {
        let mut sent = split_batches(&records, false)?;
        // Before the lock, which the commit thread needs.
        sent.iter_mut().for_each(|(_, bytes)| *bytes = Bytes::copy_from_slice(bytes));
        let log_append_time = (how.timestamp_type == TimestampType::LogAppendTime).then_some(how.now_ms);
        let mut state = self.state.lock();
        state.check_online()?;
        if let Some(last) = state.epochs.latest().filter(|last| last.epoch > how.leader_epoch) {
            return Err(AppendError::StaleLeaderEpoch { epoch: how.leader_epoch, last: last.epoch });
        }
        let first_offset = state.log_end;
        let info = |first_offset, last_offset, duplicate| AppendInfo {
            first_offset,
            last_offset,
            log_append_time_ms: log_append_time.unwrap_or(-1),
            log_start_offset: state.log_start,
            duplicate,
        };
        let mut producers = state.producers.begin();
        let mut batches = Vec::with_capacity(sent.len());
        let mut offset = first_offset;
        for (mut header, bytes) in sent {
            if let Some(original) = producers.check(&header, how.origin)? {
                let append_time = log_append_time.map_or(-1, |_| original.timestamp);
                let info = info(original.first_offset, original.last_offset, true);
                return Ok(AppendInfo { log_append_time_ms: append_time, ..info });
            }
            header.base_offset = offset;
            header.partition_leader_epoch = how.leader_epoch.0;
            header.max_timestamp = log_append_time.unwrap_or(header.max_timestamp);
            offset = i64::from(header.last_offset_delta)
                .checked_add(1)
                .and_then(|records| offset.checked_add(records))
                .ok_or_else(|| AppendError::InvalidBatch("the log's offsets are used up".into()))?;
            producers.add(&header, how.now_ms);
            let stamped = stamped(bytes, header.base_offset, how.leader_epoch.0, log_append_time);
            batches.push((header, stamped.map_err(corrupt)?));
        }
        let info = info(first_offset, offset - 1, false);
        let changed = producers.finish();
        let bytes = self.queue_batches(&mut state, batches, changed, how.now_ms)?;
        drop(state);
        let log: Weak<dyn EvictTail> = Arc::<Self>::downgrade(self);
        self.config.tail_cache.charge(log, info.last_offset, bytes as usize);
        Ok(info)
    }

    /// Queues one or more whole batches fetched from the leader for a log that ends at `expected`; returns where it ends now. A partial
    /// last one is ignored. They must begin at the log's end or above it (a gap is what compaction left on the leader), and epochs must
    /// not go back. The bytes are not copied: nobody reads them here, and what holds them lets go as soon as they are on disk.
    pub fn append_as_follower(
        self: &Arc<Self>,
        records: Bytes,
        expected: OffsetAndEpoch,
        now_ms: i64,
    ) -> Result<OffsetAndEpoch, AppendError> {
        let fetched = split_batches(&records, true)?;
        let mut state = self.state.lock();
        state.check_online()?;
        state.check_end(expected)?;
        let mut log_end = state.log_end;
        // An epoch without records was assigned while leading; a later leader need not know it.
        let mut last_epoch = state.epochs.latest().filter(|last| last.start_offset < log_end).map(|last| last.epoch);
        let mut producers = state.producers.begin();
        for (header, _) in &fetched {
            if header.base_offset < log_end {
                return Err(AppendError::NotAtLogEnd { base_offset: header.base_offset, log_end });
            }
            let epoch = LeaderEpoch(header.partition_leader_epoch);
            if let Some(last) = last_epoch.filter(|last| *last > epoch) {
                return Err(AppendError::StaleLeaderEpoch { epoch, last });
            }
            if epoch.0 < 0 {
                return Err(AppendError::InvalidBatch("a replicated batch without leader epoch".into()));
            }
            last_epoch = Some(epoch);
            log_end = header.last_offset() + 1;
            producers.add(header, now_ms);
        }
        let changed = producers.finish();
        self.queue_batches(&mut state, fetched, changed, now_ms)?;
        state.in_flight.back_mut().expect("just queued").is_fetched = true;
        Ok(state.end())
    }

    /// Queues checked batches with their final offsets and moves the state; how many bytes. On `Err` nothing moved.
    fn queue_batches(
        self: &Arc<Self>,
        state: &mut LogState,
        batches: Vec<LogBatch>,
        changed: ChangedProducers,
        now_ms: i64,
    ) -> Result<u64, StorageError> {
        let class = state.class();
        let mut epochs = state.epochs.clone();
        let mut new_epoch = false;
        let mut chunk = state.chunk.clone();
        let mut ops = SmallVec::with_capacity(batches.len() + 1);
        let mut bytes = 0;
        for (header, batch) in &batches {
            let entry_changed = epochs.assign(LeaderEpoch(header.partition_leader_epoch), header.base_offset);
            // The entry of a new leader is in memory since it became one, and reaches the disk with this batch.
            new_epoch |= entry_changed || epochs.latest().is_some_and(|last| last.start_offset == header.base_offset);
            ops.push(StoreOp::PutBatch { class, last_offset: header.last_offset(), batch: batch.clone() });
            ops.extend(chunk.add(header, now_ms).map(StoreOp::PutTimeEntry));
            bytes += batch.len() as u64;
        }
        if new_epoch {
            ops.push(StoreOp::PutMeta(super::PartitionMeta { epochs: epochs.clone(), ..self.meta(state) }.encode()));
        }
        let due = state.bytes_since_snapshot >= self.config.producer_snapshot_bytes;
        let snapshot = due.then(|| state.producer_snapshot());
        ops.extend(snapshot.iter().flat_map(|s| s.ops.iter().cloned()));
        let log_end = batches.last().map_or(state.log_end, |(header, _)| header.last_offset() + 1);
        self.submit(state, ops, Some(log_end), None)?;

        if let Some(snapshot) = snapshot {
            state.take_snapshot(snapshot);
        }
        state.bytes_since_snapshot += bytes;
        state.producers.apply(changed);
        state.epochs = epochs;
        state.chunk = chunk;
        state.log_end = log_end;
        for (header, batch) in batches {
            let (base_offset, last_offset) = (header.base_offset, header.last_offset());
            state.tail.push(TailBatch { base_offset, last_offset, batch });
        }
        Ok(bytes)
    }
}

fn corrupt(error: BatchError) -> AppendError {
    AppendError::CorruptBatch(error.to_string().into())
}

/// Cuts records into batches and checks each. At least one whole batch, or an error.
fn split_batches(records: &Bytes, ignore_partial_tail: bool) -> Result<Vec<LogBatch>, AppendError> {
    let mut batches = Vec::with_capacity(1);
    let mut rest = records.clone();
    while !rest.is_empty() {
        let size = rest.get(8..12).and_then(|b| b.first_chunk().copied()).map(i32::from_be_bytes);
        let size = size
            .map(|length| usize::try_from(length).map_err(|_| AppendError::CorruptBatch("negative length".into())))
            .transpose()?;
        match size.map(|length| length.saturating_add(12)) {
            Some(size) if size <= rest.len() => {
                let batch = rest.split_to(size);
                batches.push((checked(&batch).map_err(corrupt)?, batch));
            }
            _ if ignore_partial_tail => break,
            _ => return Err(AppendError::CorruptBatch("the last batch is cut off".into())),
        }
    }
    if batches.is_empty() {
        return Err(AppendError::InvalidBatch("no whole batch".into()));
    }
    Ok(batches)
}
