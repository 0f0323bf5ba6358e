//! What a leader answers its consumers: records below the high watermark, offsets by time, ends of epochs.

use super::error::ReplicaError;
use super::fetch_session::ConsumerFetch;
use super::message::DivergingEpoch;
use super::partition::{Partition, Role};
use super::partition_leader::diverges;
use super::purgatory::DelayedFetch;
use crate::storage::{EpochEndOffset, PartitionLog, ReadLimit};
use bytes::Bytes;
use rookery_protocol::batch::{BatchError, Record, RecordBatch};
use rookery_raft::ids::LeaderEpoch;
use std::ops::Range;
use std::sync::Arc;

/// One partition's part of a fetch answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConsumerRead {
    /// Whole batches; the first may begin before the offset asked for.
    pub batches: Vec<Bytes>,
    /// Their bytes.
    pub size: usize,
    /// Nothing at or above it is visible.
    pub high_watermark: i64,
    /// The log's first offset.
    pub log_start: i64,
    /// The reader's log is not a prefix of this one: it has to go back (KIP-320, KIP-595).
    pub diverging: Option<DivergingEpoch>,
}

/// Kafka's special timestamps of ListOffsets, and plain ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OffsetSpec {
    /// -2, and -4 (the earliest that is here, which is the same without tiered storage).
    Earliest,
    /// -1: the next record that a consumer will see.
    Latest,
    /// -3: the record with the largest timestamp (KIP-734).
    MaxTimestamp,
    /// -5 and -6: what only tiered storage has.
    Tiered,
    /// The first record at or after it, in milliseconds since 1970.
    Timestamp(i64),
}

impl OffsetSpec {
    /// From the wire; `None` for a number that means nothing.
    pub fn from_wire(timestamp: i64) -> Option<OffsetSpec> {
        match timestamp {
            -1 => Some(OffsetSpec::Latest),
            -2 | -4 => Some(OffsetSpec::Earliest),
            -3 => Some(OffsetSpec::MaxTimestamp),
            -5 | -6 => Some(OffsetSpec::Tiered),
            ms if ms >= 0 => Some(OffsetSpec::Timestamp(ms)),
            _ => None,
        }
    }
}

/// An answer of ListOffsets; -1 where there is nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FoundOffset {
    /// The offset.
    pub offset: i64,
    /// The record's timestamp, for searches by time.
    pub timestamp_ms: i64,
    /// The epoch of the record at the offset.
    pub leader_epoch: LeaderEpoch,
}

impl FoundOffset {
    /// No such record.
    pub const NONE: FoundOffset = FoundOffset { offset: -1, timestamp_ms: -1, leader_epoch: LeaderEpoch::NONE };
}

/// A batch that is looked into may unpack to this much.
const PLAIN_BYTES_MAX: usize = 128 << 20;

impl Partition {
    /// Records for a consumer; `Ok(None)` if they must come from disk and `may_block` is false. With `may_block`:
    /// **blocks.**
    pub fn consumer_read(
        &self,
        asked: &ConsumerFetch,
        limit: ReadLimit,
        may_block: bool,
    ) -> Result<Option<ConsumerRead>, ReplicaError> {
        let now = self.context.clock.now();
        let (log, leader_epoch) = {
            let role = self.role.read();
            self.check_leads(&role, LeaderEpoch(asked.current_leader_epoch), now)?;
            (Arc::clone(&role.log), role.leader_epoch)
        };
        // The offsets first: what is below the high watermark read afterwards is in the log for good.
        let offsets = log.offsets();
        let high_watermark = self.high_watermark();
        let mut answer = ConsumerRead {
            batches: Vec::new(),
            size: 0,
            high_watermark,
            log_start: offsets.log_start,
            diverging: diverges(&log, asked.offset, LeaderEpoch(asked.last_fetched_epoch)),
        };
        if answer.diverging.is_none() {
            if !(offsets.log_start..=offsets.log_end).contains(&asked.offset) {
                let (log_start, end) = (offsets.log_start, high_watermark);
                return Err(ReplicaError::OffsetOutOfRange { offset: asked.offset, log_start, end });
            }
            if asked.offset < high_watermark && (limit.max_bytes > 0 || limit.at_least_one) {
                let read = if may_block {
                    Some(log.read(asked.offset, high_watermark, limit)?)
                } else {
                    log.try_read_cached(asked.offset, high_watermark, limit)?
                };
                let Some(read) = read else { return Ok(None) };
                (answer.batches, answer.size) = (read.batches, read.size);
            }
        }
        // What was read after the check could come from another term's log.
        match self.role() {
            (Role::Leader, epoch) if epoch == leader_epoch => Ok(Some(answer)),
            _ => Err(ReplicaError::NotLeaderOrFollower),
        }
    }

    /// Lets a fetch wait here until more than `seen` (the high watermark it read at) is visible.
    pub fn await_records(&self, fetch: &mut DelayedFetch, seen: i64) {
        fetch.watch(&self.fetches, seen + 1);
        // The high watermark may have passed, or the leadership ended, between the read and the watch.
        let gone = self.with_leader(|_| ()).is_none();
        // Read before `fetches` is taken: the order is role, replication, purgatory.
        let high_watermark = self.high_watermark();
        let reached = if gone { self.fetches.lock().drain() } else { self.fetches.lock().reach(high_watermark) };
        for waiter in reached {
            waiter.wake();
        }
    }

    /// ListOffsets. **Blocks** for searches by time.
    pub fn find_offset(
        &self,
        current_leader_epoch: LeaderEpoch,
        spec: OffsetSpec,
    ) -> Result<FoundOffset, ReplicaError> {
        let now = self.context.clock.now();
        let (log, leader_epoch) = {
            let role = self.role.read();
            self.check_leads(&role, current_leader_epoch, now)?;
            (Arc::clone(&role.log), role.leader_epoch)
        };
        let found = self.find_offset_in(&log, spec)?;
        // The high watermark, or what was read, may have been a follower's by then, and less than was told before.
        match self.role() {
            (Role::Leader, epoch) if epoch == leader_epoch => Ok(found),
            _ => Err(ReplicaError::NotLeaderOrFollower),
        }
    }

    fn find_offset_in(&self, log: &PartitionLog, spec: OffsetSpec) -> Result<FoundOffset, ReplicaError> {
        let epoch_start = self.with_leader(|term| term.epoch_start_offset());
        let (epoch_start, high_watermark) =
            (epoch_start.ok_or(ReplicaError::NotLeaderOrFollower)?, self.high_watermark());
        let offsets = log.offsets();
        let at = |offset: i64| FoundOffset {
            offset,
            timestamp_ms: -1,
            leader_epoch: log
                .epoch_of(offset)
                .or_else(|| log.latest_epoch().map(|e| e.epoch))
                .unwrap_or(LeaderEpoch::NONE),
        };
        match spec {
            OffsetSpec::Earliest => return Ok(at(offsets.log_start)),
            OffsetSpec::Tiered => return Ok(FoundOffset::NONE),
            _ => {}
        }
        // A new leader cannot tell yet what is committed: an older answer may have been higher (KIP-207).
        if high_watermark < epoch_start {
            return Err(ReplicaError::OffsetNotAvailable);
        }
        match spec {
            OffsetSpec::Latest => Ok(at(high_watermark)),
            OffsetSpec::Timestamp(ms) => first_record_reaching(log, ms, offsets.log_start..high_watermark),
            _ => match log.find_batch_of_max_timestamp(high_watermark)? {
                Some(batch) => record_in(log, parsed(batch)?, spec, offsets.log_start),
                None => Ok(FoundOffset::NONE),
            },
        }
    }

    /// OffsetForLeaderEpoch (KIP-320): where an epoch ends in this leader's log.
    pub fn epoch_end(
        &self,
        current_leader_epoch: LeaderEpoch,
        epoch: LeaderEpoch,
    ) -> Result<Option<EpochEndOffset>, ReplicaError> {
        let now = self.context.clock.now();
        let role = self.role.read();
        self.check_leads(&role, current_leader_epoch, now)?;
        Ok(role.log.end_offset_for_epoch(epoch))
    }
}

/// The first record with a timestamp at or after the given one. A batch that the log start lies in may have had it below.
fn first_record_reaching(log: &PartitionLog, ms: i64, mut offsets: Range<i64>) -> Result<FoundOffset, ReplicaError> {
    while let Some(batch) = log.find_batch_by_timestamp(ms, offsets.clone())? {
        let batch = parsed(batch)?;
        let last_offset = batch.last_offset();
        let found = record_in(log, batch, OffsetSpec::Timestamp(ms), offsets.start)?;
        if found != FoundOffset::NONE {
            return Ok(found);
        }
        offsets.start = last_offset + 1;
    }
    Ok(FoundOffset::NONE)
}

fn corrupt(error: &BatchError) -> ReplicaError {
    ReplicaError::Storage(crate::storage::StorageError::Corrupt(error.to_string().into()))
}

fn parsed(batch: Bytes) -> Result<RecordBatch, ReplicaError> {
    RecordBatch::parse(batch).map_err(|e| corrupt(&e))
}

/// The record that was searched for, in the batch that holds it.
fn record_in(
    log: &PartitionLog,
    batch: RecordBatch,
    spec: OffsetSpec,
    log_start: i64,
) -> Result<FoundOffset, ReplicaError> {
    let epoch = log.epoch_of(batch.last_offset()).unwrap_or(LeaderEpoch::NONE);
    let mut best: Option<Record> = None;
    for record in batch.records(PLAIN_BYTES_MAX).map_err(|e| corrupt(&e))? {
        let record = record.map_err(|e| corrupt(&e))?;
        if record.offset < log_start {
            continue;
        }
        let better = match spec {
            OffsetSpec::Timestamp(ms) => record.timestamp >= ms,
            _ => best.as_ref().is_none_or(|b| record.timestamp > b.timestamp),
        };
        if better {
            best = Some(record);
            if matches!(spec, OffsetSpec::Timestamp(_)) {
                break;
            }
        }
    }
    Ok(best.map_or(FoundOffset::NONE, |r| FoundOffset {
        offset: r.offset,
        timestamp_ms: r.timestamp,
        leader_epoch: epoch,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::replica::message::FetchPartition;
    use crate::replica::testing::*;
    use crate::replica::{AppendOutcome, ReplicaManager};
    use crate::storage::MemoryStore;
    use rookery_raft::ids::BrokerEpoch;

    fn append_at(manager: &ReplicaManager, timestamps: &[i64]) -> AppendOutcome {
        let partition = manager.partition(P).expect("a replica");
        partition.append_as_leader(batch(timestamps), acks_of_leader(LeaderEpoch::NONE)).expect("it leads")
    }

    /// Two batches, offsets 0 to 4, of epoch 0; all of it committed.
    fn five_records() -> (Arc<MemoryStore>, Log, Arc<ReplicaManager>) {
        let (store, mut log) = (store(), Log::new());
        let manager = start(&store);
        log.register(&manager, 1);
        log.tell(&manager, &alone("t", TOPIC));
        append_at(&manager, &[1000, 3000, 2000]);
        append_at(&manager, &[4000, 2500]);
        store.commit();
        (store, log, manager)
    }

    fn found(offset: i64, timestamp_ms: i64, epoch: i32) -> Result<FoundOffset, ReplicaError> {
        Ok(FoundOffset { offset, timestamp_ms, leader_epoch: LeaderEpoch(epoch) })
    }

    const ANY: LeaderEpoch = LeaderEpoch::NONE;

    #[tokio::test]
    async fn list_offsets_finds_both_ends_and_records_by_time() {
        let (store, _log, manager) = five_records();
        let find = |spec| manager.find_offset(P, ANY, spec);
        assert_eq!(find(OffsetSpec::Earliest).await, found(0, -1, 0));
        assert_eq!(find(OffsetSpec::Latest).await, found(5, -1, 0));
        assert_eq!(find(OffsetSpec::Timestamp(0)).await, found(0, 1000, 0));
        assert_eq!(find(OffsetSpec::Timestamp(1500)).await, found(1, 3000, 0), "the first by offset, not by time");
        assert_eq!(find(OffsetSpec::Timestamp(3001)).await, found(3, 4000, 0));
        assert_eq!(find(OffsetSpec::Timestamp(4001)).await, Ok(FoundOffset::NONE));
        assert_eq!(find(OffsetSpec::MaxTimestamp).await, found(3, 4000, 0));
        assert_eq!(find(OffsetSpec::Tiered).await, Ok(FoundOffset::NONE));

        // What is not committed does not exist yet.
        append_at(&manager, &[9000]);
        assert_eq!(find(OffsetSpec::Latest).await, found(5, -1, 0));
        assert_eq!(find(OffsetSpec::Timestamp(5000)).await, Ok(FoundOffset::NONE));
        assert_eq!(find(OffsetSpec::MaxTimestamp).await, found(3, 4000, 0));
        store.commit();
        assert_eq!(find(OffsetSpec::Latest).await, found(6, -1, 0));
        assert_eq!(find(OffsetSpec::MaxTimestamp).await, found(5, 9000, 0));
    }

    #[tokio::test]
    async fn a_search_by_time_ended_at_the_batch_that_the_log_start_lies_in() {
        let (store, _log, manager) = five_records();
        manager.partition(P).expect("a replica").delete_records(2).unwrap();
        store.commit();
        let find = |spec| manager.find_offset(P, ANY, spec);
        assert_eq!(find(OffsetSpec::Earliest).await, found(2, -1, 0));
        assert_eq!(find(OffsetSpec::Timestamp(0)).await, found(2, 2000, 0));
        assert_eq!(find(OffsetSpec::Timestamp(2600)).await, found(3, 4000, 0), "3000 is deleted");
    }

    /// KIP-207: the leader before it may have told a higher end, and earlier records found by time.
    #[tokio::test]
    async fn a_new_leader_tells_no_end_before_it_knows_what_is_committed() {
        let (store, mut log) = (store(), Log::new());
        let manager = start(&store);
        log.register(&manager, 1);
        log.tell(&manager, &topic("t", TOPIC, ME));
        append_at(&manager, &[1000]);
        store.commit();
        log.tell(&manager, &[change_of(1, ME)]);
        let find = |spec| manager.find_offset(P, ANY, spec);
        for spec in [OffsetSpec::Latest, OffsetSpec::Timestamp(0), OffsetSpec::MaxTimestamp] {
            assert_eq!(find(spec).await, Err(ReplicaError::OffsetNotAvailable), "{spec:?}");
        }
        assert_eq!(find(OffsetSpec::Earliest).await, found(0, -1, 0));
        let asked = FetchPartition {
            id: P,
            leader_epoch: LeaderEpoch(1),
            wanted: 1,
            synced: 1,
            last_fetched_epoch: LeaderEpoch(0),
            log_start: 0,
            max_bytes: 1,
        };
        manager.partition(P).expect("a replica").follower_fetch(OTHER, BrokerEpoch(2), &asked).expect("it follows");
        assert_eq!(find(OffsetSpec::Latest).await, found(1, -1, 1));
        assert_eq!(find(OffsetSpec::Timestamp(0)).await, found(0, 1000, 0));
    }

    #[tokio::test]
    async fn list_offsets_holds_the_leader_epoch_that_it_is_asked_with() {
        let (_store, mut log, manager) = five_records();
        log.tell(&manager, &[change_of(1, ME)]);
        let find = |epoch| manager.find_offset(P, LeaderEpoch(epoch), OffsetSpec::Earliest);
        assert_eq!(find(1).await, found(0, -1, 0));
        assert_eq!(find(0).await, Err(ReplicaError::FencedLeaderEpoch));
        assert_eq!(find(2).await, Err(ReplicaError::UnknownLeaderEpoch));
        log.tell(&manager, &[change_of(2, rookery_raft::ids::NodeId::NONE)]);
        assert_eq!(find(2).await, Err(ReplicaError::NotLeaderOrFollower));
        let nowhere = manager.find_offset(Q, ANY, OffsetSpec::Earliest);
        assert_eq!(nowhere.await, Err(ReplicaError::NotLeaderOrFollower));
    }
}
