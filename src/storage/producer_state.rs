//! Idempotent producers (KIP-98): sequences, epochs, duplicates; and where their open transactions begin.
//!
//! For each producer id the log remembers the epoch and the last fifteen batches. A batch is accepted if its sequence
//! follows the last one, or is 0 in a new epoch, or if the producer is unknown (its history may have been deleted). A
//! batch equal in epoch and sequences to one of those is a duplicate: it gets the original's offsets.
//!
//! Kafka remembers five, as many as a client has in flight on one connection. But the Java client sends five more to a new leader
//! while the old one, which is cut off, has not answered yet; what it then tries again must be known as well, or it is told
//! OUT_OF_ORDER_SEQUENCE_NUMBER, begins a new epoch and sends all of it anew. So this is for two changes of the leader.
//!
//! The state is a function of the batches in the log and of expiry. It belongs to the log's lock; a [`ProducerUpdate`]
//! collects the effect of one append and touches the state only when the append has been queued. Snapshots are written
//! into the store now and then, so that a start replays a bounded tail of the log and not all of it.

use super::error::AppendError;
use super::partition_log::AppendOrigin;
use bytes::{Buf, BufMut, Bytes, BytesMut};
use rookery_protocol::batch::RecordBatchHeader;
use std::collections::{BTreeMap, VecDeque};

/// A client has at most this many in flight on one connection.
pub const BATCHES_IN_FLIGHT: usize = 5;
/// Batches remembered per producer.
pub const BATCHES_PER_PRODUCER: usize = 3 * BATCHES_IN_FLIGHT;
const NO_SEQUENCE: i32 = -1;
const SNAPSHOT_FORMAT: u8 = 1;

/// `delta` after `sequence`, going from `i32::MAX` to 0.
pub fn sequence_after(sequence: i32, delta: i32) -> i32 {
    let sum = i64::from(sequence) + i64::from(delta);
    if sum > i64::from(i32::MAX) { (sum - i64::from(i32::MAX) - 1) as i32 } else { sum as i32 }
}

/// Whether `later` comes after `sequence`, within half of all sequences.
pub fn is_after(sequence: i32, later: i32) -> bool {
    let ahead = later.wrapping_sub(sequence) & i32::MAX;
    (1..=i32::MAX / 2).contains(&ahead)
}

/// One remembered batch.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ProducerBatch {
    /// Sequence of its first record.
    pub first_sequence: i32,
    /// Sequence of its last record.
    pub last_sequence: i32,
    /// Offset of its first record.
    pub first_offset: i64,
    /// Offset of its last record.
    pub last_offset: i64,
    /// Its largest timestamp.
    pub timestamp: i64,
}

/// What the log knows of one producer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ProducerEntry {
    /// The newest epoch seen.
    pub epoch: i16,
    /// Up to [`BATCHES_PER_PRODUCER`], oldest first, all of this epoch.
    pub batches: VecDeque<ProducerBatch>,
    /// When it last wrote, by this broker's clock.
    pub last_seen_ms: i64,
    /// First offset of its open transaction.
    pub transaction_first_offset: Option<i64>,
}

impl ProducerEntry {
    fn new(epoch: i16) -> Self {
        Self { epoch, batches: VecDeque::new(), last_seen_ms: -1, transaction_first_offset: None }
    }
    fn last_sequence(&self) -> i32 {
        self.batches.back().map_or(NO_SEQUENCE, |b| b.last_sequence)
    }
    fn set_epoch(&mut self, epoch: i16) {
        if epoch != self.epoch {
            self.epoch = epoch;
            self.batches.clear();
        }
    }
}

/// The producers of one log.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct ProducerState {
    producers: BTreeMap<i64, ProducerEntry>,
}

impl ProducerState {
    /// Starts an append.
    pub fn begin(&self) -> ProducerUpdate<'_> {
        ProducerUpdate { state: self, changed: BTreeMap::new() }
    }

    /// Takes over what an append changed.
    pub fn apply(&mut self, changed: ChangedProducers) {
        self.producers.extend(changed.0);
    }

    /// Adds a batch that is in the log already (a replica's, or one replayed at open): it is not judged.
    pub fn replay(&mut self, header: &RecordBatchHeader, now_ms: i64) {
        if header.has_producer_id() {
            let mut update = self.begin();
            update.add(header, now_ms);
            let changed = update.finish();
            self.apply(changed);
        }
    }

    /// Known producers by id.
    pub fn producers(&self) -> &BTreeMap<i64, ProducerEntry> {
        &self.producers
    }

    /// Whether a producer has written `sequence`, or a later one, in this epoch or a newer one.
    pub fn has_reached(&self, producer_id: i64, epoch: i16, sequence: i32) -> bool {
        self.producers.get(&producer_id).is_some_and(|entry| {
            let is_there = |last| last != NO_SEQUENCE && !is_after(last, sequence);
            entry.epoch > epoch || (entry.epoch == epoch && is_there(entry.last_sequence()))
        })
    }

    /// Forgets producers that have been idle for `expiration_ms` and have no open transaction; how many.
    pub fn expire(&mut self, now_ms: i64, expiration_ms: i64) -> usize {
        let before = self.producers.len();
        let idle = |e: &ProducerEntry| now_ms.saturating_sub(e.last_seen_ms) >= expiration_ms;
        self.producers.retain(|_, e| e.transaction_first_offset.is_some() || !idle(e));
        before - self.producers.len()
    }

    /// Takes over when each producer was last seen from `newer`; forgets those that `newer` does not know any more.
    pub fn take_last_seen(&mut self, newer: &ProducerState) {
        self.producers.retain(|id, entry| {
            let known = newer.producers.get(id);
            entry.last_seen_ms = known.map_or(entry.last_seen_ms, |e| e.last_seen_ms);
            known.is_some()
        });
    }

    /// First offset of the oldest open transaction.
    pub fn first_unstable_offset(&self) -> Option<i64> {
        self.producers.values().filter_map(|e| e.transaction_first_offset).min()
    }

    /// The bytes of a snapshot.
    pub fn encode(&self) -> Bytes {
        let mut out = BytesMut::with_capacity(8 + self.producers.len() * 64);
        out.put_u8(SNAPSHOT_FORMAT);
        out.put_u32(self.producers.len() as u32);
        for (id, entry) in &self.producers {
            out.put_i64(*id);
            out.put_i16(entry.epoch);
            out.put_i64(entry.last_seen_ms);
            out.put_i64(entry.transaction_first_offset.unwrap_or(-1));
            out.put_u8(entry.batches.len() as u8);
            for batch in &entry.batches {
                out.put_i32(batch.first_sequence);
                out.put_i32(batch.last_sequence);
                out.put_i64(batch.first_offset);
                out.put_i64(batch.last_offset);
                out.put_i64(batch.timestamp);
            }
        }
        out.freeze()
    }

    /// The state of a snapshot; `None` if the bytes are not one.
    pub fn decode(mut bytes: &[u8]) -> Option<Self> {
        let input = &mut bytes;
        if input.try_get_u8().ok()? != SNAPSHOT_FORMAT {
            return None;
        }
        let mut producers = BTreeMap::new();
        for _ in 0..input.try_get_u32().ok()? {
            let id = input.try_get_i64().ok()?;
            let mut entry = ProducerEntry::new(input.try_get_i16().ok()?);
            entry.last_seen_ms = input.try_get_i64().ok()?;
            entry.transaction_first_offset = Some(input.try_get_i64().ok()?).filter(|offset| *offset >= 0);
            let batches = usize::from(input.try_get_u8().ok()?);
            if batches > BATCHES_PER_PRODUCER {
                return None;
            }
            for _ in 0..batches {
                entry.batches.push_back(ProducerBatch {
                    first_sequence: input.try_get_i32().ok()?,
                    last_sequence: input.try_get_i32().ok()?,
                    first_offset: input.try_get_i64().ok()?,
                    last_offset: input.try_get_i64().ok()?,
                    timestamp: input.try_get_i64().ok()?,
                });
            }
            producers.insert(id, entry);
        }
        input.is_empty().then_some(Self { producers })
    }
}

/// The entries one append replaces.
#[derive(Debug, Default)]
pub struct ChangedProducers(BTreeMap<i64, ProducerEntry>);

/// The effect of one append on the producers, before it is queued.
pub struct ProducerUpdate<'a> {
    state: &'a ProducerState,
    changed: BTreeMap<i64, ProducerEntry>,
}

impl ProducerUpdate<'_> {
    fn entry(&self, producer_id: i64) -> Option<&ProducerEntry> {
        self.changed.get(&producer_id).or_else(|| self.state.producers.get(&producer_id))
    }

    /// Judges a batch on its way into a leader's log: `Ok(Some)` is the original of a duplicate.
    pub fn check(
        &self,
        header: &RecordBatchHeader,
        origin: AppendOrigin,
    ) -> Result<Option<ProducerBatch>, AppendError> {
        if !header.has_producer_id() {
            return Ok(None);
        }
        let sequenced = origin == AppendOrigin::Client && !header.is_control();
        if header.producer_epoch < 0 || (sequenced && header.base_sequence < 0) {
            return Err(AppendError::InvalidBatch("a producer id without epoch and sequence".into()));
        }
        let Some(entry) = self.entry(header.producer_id) else { return Ok(None) };
        if header.producer_epoch < entry.epoch {
            let (producer_id, epoch, current) = (header.producer_id, header.producer_epoch, entry.epoch);
            return Err(AppendError::InvalidProducerEpoch { producer_id, epoch, current });
        }
        if !sequenced {
            return Ok(None);
        }
        let (first, last) = (header.base_sequence, header.last_sequence());
        let same_epoch = header.producer_epoch == entry.epoch;
        let original = |b: &&ProducerBatch| (b.first_sequence, b.last_sequence) == (first, last);
        if let Some(batch) = entry.batches.iter().find(original).filter(|_| same_epoch) {
            return Ok(Some(*batch));
        }
        let expected = if same_epoch { sequence_after(entry.last_sequence(), 1) } else { 0 };
        if first != expected {
            let producer_id = header.producer_id;
            return Err(AppendError::OutOfOrderSequence { producer_id, first_sequence: first, expected });
        }
        Ok(None)
    }

    /// Adds an accepted batch, whose header has its final offsets.
    pub fn add(&mut self, header: &RecordBatchHeader, now_ms: i64) {
        if !header.has_producer_id() {
            return;
        }
        let known = self.entry(header.producer_id).cloned();
        let mut entry = known.unwrap_or_else(|| ProducerEntry::new(header.producer_epoch));
        entry.set_epoch(header.producer_epoch);
        entry.last_seen_ms = now_ms;
        if header.is_control() {
            entry.transaction_first_offset = None;
        } else {
            if header.is_transactional() {
                entry.transaction_first_offset.get_or_insert(header.base_offset);
            }
            if header.base_sequence >= 0 {
                if entry.batches.len() == BATCHES_PER_PRODUCER {
                    entry.batches.pop_front();
                }
                entry.batches.push_back(ProducerBatch {
                    first_sequence: header.base_sequence,
                    last_sequence: header.last_sequence(),
                    first_offset: header.base_offset,
                    last_offset: header.last_offset(),
                    timestamp: header.max_timestamp,
                });
            }
        }
        self.changed.insert(header.producer_id, entry);
    }

    /// What to apply once the append is queued.
    pub fn finish(self) -> ChangedProducers {
        ChangedProducers(self.changed)
    }
}

#[cfg(test)]
mod tests {
    use super::super::batch_header::testing::TestBatch;
    use super::*;

    fn header(base_offset: i64, epoch: i16, sequence: i32, records: i32) -> RecordBatchHeader {
        let producer = Some((7, epoch, sequence));
        RecordBatchHeader::parse(&TestBatch { base_offset, records, producer, ..Default::default() }.build()).unwrap()
    }
    fn check(state: &ProducerState, header: &RecordBatchHeader) -> Result<Option<i64>, AppendError> {
        state.begin().check(header, AppendOrigin::Client).map(|found| found.map(|b| b.first_offset))
    }

    #[test]
    fn sequences_follow_and_wrap() {
        let mut state = ProducerState::default();
        assert_eq!(check(&state, &header(0, 0, 41, 1)), Ok(None), "an unknown producer may begin anywhere");
        state.replay(&header(0, 0, i32::MAX - 1, 2), 1);
        assert_eq!(check(&state, &header(2, 0, 0, 3)), Ok(None), "after i32::MAX comes 0");
        assert!(matches!(check(&state, &header(2, 0, 1, 1)), Err(AppendError::OutOfOrderSequence { expected: 0, .. })));
        state.replay(&header(2, 0, i32::MAX, 2), 1);
        assert_eq!(state.producers()[&7].last_sequence(), 0, "a batch may span the wrap");
    }

    #[test]
    fn a_retry_of_a_remembered_batch_is_a_duplicate_and_older_ones_are_out_of_order() {
        let mut state = ProducerState::default();
        let written = BATCHES_PER_PRODUCER as i32 + 1;
        for i in 0..written {
            state.replay(&header(i64::from(i) * 10, 0, i, 1), 1);
        }
        for i in 1..written {
            assert_eq!(check(&state, &header(99, 0, i, 1)), Ok(Some(i64::from(i) * 10)));
        }
        assert!(matches!(check(&state, &header(99, 0, 0, 1)), Err(AppendError::OutOfOrderSequence { .. })));
        assert!(matches!(check(&state, &header(99, 0, written - 1, 2)), Err(AppendError::OutOfOrderSequence { .. })));
    }

    #[test]
    fn a_java_producer_had_more_than_five_batches_under_way_when_the_leader_changed() {
        // Two lay with the old leader, which was cut off before it answered; the new one took five more behind them.
        let mut state = ProducerState::default();
        for (offset, sequence, records) in [
            (57, 3144, 1),
            (58, 3145, 2),
            (60, 3147, 147),
            (207, 3294, 147),
            (354, 3441, 37),
            (391, 3478, 1),
            (392, 3479, 2),
        ] {
            state.replay(&header(offset, 1, sequence, records), 1);
        }
        assert_eq!(check(&state, &header(999, 1, 3144, 1)), Ok(Some(57)), "the old leader's is tried again at last");
    }

    #[test]
    fn a_new_epoch_begins_at_zero_and_fences_the_old_one() {
        let mut state = ProducerState::default();
        state.replay(&header(0, 3, 0, 1), 1);
        assert!(matches!(check(&state, &header(1, 4, 1, 1)), Err(AppendError::OutOfOrderSequence { expected: 0, .. })));
        assert_eq!(check(&state, &header(1, 4, 0, 1)), Ok(None), "not a duplicate of epoch 3's first batch");
        state.replay(&header(1, 4, 0, 1), 1);
        assert!(matches!(
            check(&state, &header(2, 3, 1, 1)),
            Err(AppendError::InvalidProducerEpoch { current: 4, .. })
        ));
    }

    #[test]
    fn a_transaction_is_unstable_until_its_marker_and_keeps_its_producer() {
        let mut state = ProducerState::default();
        let mut data = header(10, 0, 0, 1);
        data.attributes = 1 << 4;
        state.replay(&data, 1);
        assert_eq!(state.first_unstable_offset(), Some(10));
        assert_eq!(state.expire(1_000, 10), 0);
        let mut marker = header(11, 0, -1, 1);
        marker.attributes = 1 << 4 | 1 << 5;
        state.replay(&marker, 1);
        assert_eq!(state.first_unstable_offset(), None);
        assert_eq!(state.expire(1_000, 10), 1);
    }

    #[test]
    fn a_snapshot_survives_its_bytes_and_damage_is_an_answer() {
        let mut state = ProducerState::default();
        for i in 0..BATCHES_PER_PRODUCER as i32 + 4 {
            state.replay(&header(i64::from(i), 2, i, 1), 5);
        }
        let bytes = state.encode();
        assert_eq!(ProducerState::decode(&bytes), Some(state));
        for len in 0..bytes.len() {
            assert_eq!(ProducerState::decode(&bytes[..len]), None);
        }
    }
}
