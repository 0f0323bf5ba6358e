//! Producers one of whose batches was refused, or perhaps lost, for a reason that passes: what they had in flight behind it is refused alike.
//!
//! An idempotent producer sends up to five batches ahead. Suppose a leader refuses one of them (it may not speak as leader
//! just now, too few replicas are in sync, too much waits) and a moment later could take the next: that one's sequence
//! leaves a gap. The same if it appended one, its leadership ended, the batch was cut from its log or lost with an unsynced tail, and
//! it leads again when the next arrives. `OUT_OF_ORDER_SEQUENCE_NUMBER` would be the truth and do harm: librdkafka takes it as proof that nothing
//! behind the gap was ever written, begins a new producer epoch and sends everything unacknowledged anew, also what an
//! earlier leader appended and this one has: duplicates. Worse where the log knows nothing of the producer yet: it would
//! accept the later batch, and the refused one could never follow.
//!
//! So a batch behind a refused one gets the refusal of the first. The client then sends all of them again, in order and
//! unchanged, and the log tells duplicates from news.
//!
//! # A gap that only a leader may see
//!
//! A leader that was deposed and does not know it misses what its successor has taken. A client may send there all the same, with what
//! its successor acknowledged behind it: its metadata are older than an answer that was long under way. Then the gap is the leader's,
//! and the client, whose earlier batches are all acknowledged, would take it for lost data: a fatal error. So a gap is told only by a leader that has been
//! confirmed **after the batch came**; until then the batch is refused as by one that does not lead ([`RefusedProducers::is_certain`]), upon which the
//! client looks for the leader, and tries the same batch again where it finds one. A confirmation at `c`, after the batch came first at `s`, means that
//! no successor had taken anything up to `s`; all that lies before the batch was sent before `s`. So what was missing at `s` is missing.
//!
//! # Invariant
//!
//! While a producer has an entry, nothing of that producer id and epoch with a later sequence is appended by its request
//! here. The entry goes when the refused batch, or an earlier one, is tried again; when the log holds every refused batch
//! before the one that asks (it was not lost after all, or another leader took it up meanwhile, and it came by replication); when the producer begins another epoch; and after
//! as many refusals as a client has batches in flight, so that a producer that gave a batch up is not held for ever and
//! hears of its gap.
//!
//! A batch may also come before there is a replica to ask: the topic is a moment old, or this broker has just started, and the
//! metadata that the client has seen is not here yet. [`EarlyRefusals`] keeps those until the replica comes, which takes them over before it
//! leads.
//!
//! Locks: each map its own, held for a look-up and, inside it, the log's; `any` lets the usual append, with nobody refused, pass
//! without it. A batch of one producer comes on one connection, whose appends are in order: an entry is there before the
//! next batch asks.

use super::error::ReplicaError;
use crate::planted::planted;
use crate::storage::producer_state::{BATCHES_IN_FLIGHT, is_after};
use crate::storage::{AppendError, PartitionLog};
use parking_lot::Mutex;
use rookery_protocol::batch::RecordBatchHeader;
use rookery_protocol::codec::SmolStr;
use rookery_protocol::topics::is_legal_topic_name;
use rookery_raft::ids::{LeaderEpoch, TopicId};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Batches remembered that came before their replica; beyond, the oldest is forgotten.
const EARLY_MAX: usize = 1000;

/// Producers remembered per partition; beyond, the one with the smallest id is forgotten, and may hear of a gap.
const PRODUCERS_MAX: usize = 1000;

/// A batch by what its producer wrote on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProducerBatch {
    producer_id: i64,
    epoch: i16,
    first_sequence: i32,
}

impl From<&RecordBatchHeader> for ProducerBatch {
    fn from(header: &RecordBatchHeader) -> Self {
        Self { producer_id: header.producer_id, epoch: header.producer_epoch, first_sequence: header.base_sequence }
    }
}

impl ProducerBatch {
    fn is_idempotent(self) -> bool {
        self.producer_id >= 0
    }
}

/// See the module.
#[derive(Debug, Default)]
pub struct RefusedProducers {
    any: AtomicBool,
    by_id: Mutex<BTreeMap<i64, Refused>>,
    /// Gaps that were not told, by producer id: of which batch, in which leader epoch, since when.
    doubts: Mutex<BTreeMap<i64, (ProducerBatch, LeaderEpoch, Duration)>>,
}

#[derive(Debug)]
struct Refused {
    epoch: i16,
    /// Of the earliest batch that was refused.
    first: i32,
    /// Of the latest. A log without gaps that has this one has all of them.
    last: i32,
    error: ReplicaError,
    behind: usize,
}

impl RefusedProducers {
    /// The refusal that a batch shares because it comes behind a refused one.
    pub fn refusal_before(&self, batch: ProducerBatch, log: impl Fn() -> Arc<PartitionLog>) -> Option<ReplicaError> {
        if !self.any.load(Ordering::Acquire) || planted!(ForgetRefused) {
            return None;
        }
        let mut by_id = self.by_id.lock();
        let refused = by_id.get_mut(&batch.producer_id)?;
        let is_behind = |sequence| is_after(sequence, batch.first_sequence);
        let is_missing = |sequence| !log().producer_has_reached(batch.producer_id, batch.epoch, sequence);
        let holds_up = |sequence| is_behind(sequence) && is_missing(sequence);
        let is_held_up = batch.epoch == refused.epoch && (holds_up(refused.first) || holds_up(refused.last));
        if is_held_up && refused.behind < BATCHES_IN_FLIGHT {
            refused.behind += 1;
            // What it comes behind may get into the log by replication before the next one asks.
            if is_after(refused.last, batch.first_sequence) {
                refused.last = batch.first_sequence;
            }
            return Some(refused.error.clone());
        }
        by_id.remove(&batch.producer_id);
        self.any.store(!by_id.is_empty(), Ordering::Release);
        None
    }

    /// The log of a leader of this epoch misses what comes before a batch. Whether that is so for everybody: `is_confirmed(since)`, that
    /// this leader has been confirmed since the batch came first.
    pub fn is_certain(
        &self,
        batch: ProducerBatch,
        leader_epoch: LeaderEpoch,
        now: Duration,
        is_confirmed: impl Fn(Duration) -> bool,
    ) -> bool {
        if is_confirmed(now) || planted!(TrustOwnGap) {
            return true;
        }
        let mut doubts = self.doubts.lock();
        let known = doubts.get(&batch.producer_id).filter(|(of, epoch, _)| (*of, *epoch) == (batch, leader_epoch));
        let since = known.map_or(now, |(.., since)| *since);
        if is_confirmed(since) {
            doubts.remove(&batch.producer_id);
            return true;
        }
        doubts.insert(batch.producer_id, (batch, leader_epoch, since));
        if doubts.len() > PRODUCERS_MAX {
            doubts.pop_first();
        }
        false
    }

    /// A batch was not appended, or its leader can no longer tell what becomes of it.
    pub fn note(&self, batch: ProducerBatch, error: &ReplicaError) {
        if !batch.is_idempotent() || !passes(error) {
            return;
        }
        let ProducerBatch { producer_id, epoch, first_sequence: sequence } = batch;
        let mut by_id = self.by_id.lock();
        match by_id.get_mut(&producer_id).filter(|known| known.epoch == epoch) {
            Some(known) if is_after(known.last, sequence) => known.last = sequence,
            // It was appended before those that are known were refused, and its wait has ended only now.
            Some(known) if is_after(sequence, known.first) => known.first = sequence,
            Some(_) => {}
            None => {
                let refused = Refused { epoch, first: sequence, last: sequence, error: error.clone(), behind: 0 };
                by_id.insert(producer_id, refused);
            }
        }
        if by_id.len() > PRODUCERS_MAX {
            by_id.pop_first();
        }
        self.any.store(true, Ordering::Release);
    }
}

/// A topic as its client names it, also one that this broker does not know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NamedTopic {
    /// Up to version 12 of Produce.
    Name(SmolStr),
    /// From version 13 on.
    Id(TopicId),
}

/// Batches that were refused for want of a replica, until there is one. See the module.
#[derive(Debug, Default)]
pub struct EarlyRefusals {
    any: AtomicBool,
    batches: Mutex<VecDeque<(NamedTopic, i32, ProducerBatch, ReplicaError)>>,
}

impl EarlyRefusals {
    /// A batch was refused. Whoever notes it looks afterwards whether the replica has come meanwhile, and then calls
    /// [`hand_over`](Self::hand_over): one of the two finds the other's work.
    pub fn note(&self, topic: NamedTopic, partition: i32, batch: ProducerBatch, error: ReplicaError) {
        // No replica will come for a name that no topic can have, and what a client sends has no other bound.
        let may_come = !matches!(&topic, NamedTopic::Name(name) if !is_legal_topic_name(name));
        if !batch.is_idempotent() || !may_come {
            return;
        }
        let mut batches = self.batches.lock();
        if batches.len() >= EARLY_MAX {
            batches.pop_front();
        }
        batches.push_back((topic, partition, batch, error));
        self.any.store(true, Ordering::Release);
    }

    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.batches.lock().len()
    }

    /// The replica of this partition is there, and leads nothing yet.
    pub fn hand_over(&self, (id, name): (TopicId, &str), partition: i32, to: &RefusedProducers) {
        if !self.any.load(Ordering::Acquire) {
            return;
        }
        let mut batches = self.batches.lock();
        batches.retain(|(topic, number, batch, error)| {
            let is_of_topic = match topic {
                NamedTopic::Name(named) => named.as_str() == name,
                NamedTopic::Id(named) => *named == id,
            };
            let goes = is_of_topic && *number == partition;
            if goes {
                to.note(*batch, error);
            }
            !goes
        });
        self.any.store(!batches.is_empty(), Ordering::Release);
    }
}

/// Whether the same batch may be taken up later: it is not the batch's fault.
fn passes(error: &ReplicaError) -> bool {
    use ReplicaError as E;
    matches!(
        error,
        E::NotLeaderOrFollower
            | E::UnknownTopicOrPartition
            | E::NotEnoughReplicas
            | E::NotEnoughReplicasAfterAppend
            | E::Overloaded
            | E::ShortOfSpace
            | E::Storage(_)
            | E::Append(AppendError::StaleLeaderEpoch { .. })
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::replica::testing::{P, open, store};
    use crate::storage::{AppendOrigin, LeaderAppend, LogClass, TimestampType};
    use rookery_protocol::batch::{RecordBatch, RecordBatchBuilder};
    use rookery_raft::ids::LeaderEpoch;

    fn record_batch(producer_id: i64, epoch: i16, sequence: i32) -> RecordBatch {
        let mut batch = RecordBatchBuilder::new().producer(producer_id, epoch, sequence);
        batch.push(0, None, Some(b"v"), &[]);
        batch.build().expect("a batch")
    }

    fn batch(producer_id: i64, epoch: i16, sequence: i32) -> ProducerBatch {
        record_batch(producer_id, epoch, sequence).header().into()
    }

    fn log() -> Arc<PartitionLog> {
        open(&store()).get_or_create(P, LogClass::Infinite).expect("a log")
    }

    const WHY: ReplicaError = ReplicaError::NotEnoughReplicas;

    fn append(log: &Arc<PartitionLog>, sequence: i32) {
        let how = LeaderAppend {
            leader_epoch: LeaderEpoch(1),
            timestamp_type: TimestampType::CreateTime,
            origin: AppendOrigin::Client,
            now_ms: 0,
        };
        log.append_as_leader(record_batch(1, 0, sequence).into_bytes(), how).expect("taken up");
    }

    #[test]
    fn what_was_in_flight_behind_a_refused_batch_is_refused_alike() {
        let (refused, log) = (RefusedProducers::default(), log());
        assert_eq!(refused.refusal_before(batch(1, 0, 7), || log.clone()), None);
        refused.note(batch(1, 0, 7), &WHY);
        assert_eq!(refused.refusal_before(batch(1, 0, 8), || log.clone()), Some(WHY));
        assert_eq!(refused.refusal_before(batch(1, 0, 12), || log.clone()), Some(WHY));
        assert_eq!(refused.refusal_before(batch(2, 0, 9), || log.clone()), None, "another producer");
        assert_eq!(refused.refusal_before(batch(1, 0, 7), || log.clone()), None, "the refused batch again");
        assert_eq!(
            refused.refusal_before(batch(1, 0, 8), || log.clone()),
            None,
            "it was taken up: the next may follow"
        );
    }

    #[test]
    fn a_new_epoch_and_an_earlier_batch_end_it() {
        let (refused, log) = (RefusedProducers::default(), log());
        refused.note(batch(1, 0, 7), &WHY);
        assert_eq!(refused.refusal_before(batch(1, 1, 8), || log.clone()), None);
        assert_eq!(refused.refusal_before(batch(1, 0, 8), || log.clone()), None);
        refused.note(batch(1, 0, i32::MAX), &WHY);
        assert_eq!(
            refused.refusal_before(batch(1, 0, 0), || log.clone()),
            Some(WHY),
            "sequences begin anew after the largest"
        );
        assert_eq!(refused.refusal_before(batch(1, 0, i32::MAX - 1), || log.clone()), None);
    }

    /// Two batches waited when the leadership ended with the tail of the log: the first was on disk, the second was not.
    #[test]
    fn a_batch_lost_with_the_tail_left_what_follows_it_to_be_judged_by_its_sequence() {
        let (refused, log) = (RefusedProducers::default(), log());
        append(&log, 0);
        refused.note(batch(1, 0, 0), &WHY);
        refused.note(batch(1, 0, 1), &WHY);
        assert_eq!(refused.refusal_before(batch(1, 0, 2), || log.clone()), Some(WHY));
        assert_eq!(refused.refusal_before(batch(1, 0, 1), || log.clone()), None, "tried again");
    }

    /// The first batch waited when the second was refused; then its wait ended, and it stayed in the log.
    #[test]
    fn the_end_of_an_earlier_wait_made_a_refused_batch_forgotten() {
        let (refused, log) = (RefusedProducers::default(), log());
        append(&log, 0);
        refused.note(batch(1, 0, 1), &WHY);
        refused.note(batch(1, 0, 0), &WHY);
        assert_eq!(refused.refusal_before(batch(1, 0, 2), || log.clone()), Some(WHY));
        assert_eq!(refused.refusal_before(batch(1, 0, 1), || log.clone()), None, "tried again");
    }

    /// The first of three was refused, and the second because of it; then the first came by replication.
    #[test]
    fn a_batch_that_shared_a_refusal_was_forgotten_with_it() {
        let (refused, log) = (RefusedProducers::default(), log());
        refused.note(batch(1, 0, 0), &WHY);
        assert_eq!(refused.refusal_before(batch(1, 0, 1), || log.clone()), Some(WHY));
        append(&log, 0);
        assert_eq!(refused.refusal_before(batch(1, 0, 2), || log.clone()), Some(WHY));
        assert_eq!(refused.refusal_before(batch(1, 0, 1), || log.clone()), None, "tried again");
    }

    /// The refused batch went to another leader, and this replica leads again: seen with a producer whose later batches
    /// were refused until it heard of a gap.
    #[test]
    fn a_refused_batch_that_came_by_replication_held_up_what_follows_it() {
        let (refused, log) = (RefusedProducers::default(), log());
        refused.note(batch(1, 0, 0), &WHY);
        assert_eq!(refused.refusal_before(batch(1, 0, 1), || log.clone()), Some(WHY));
        append(&log, 0);
        assert_eq!(refused.refusal_before(batch(1, 0, 1), || log.clone()), None);
    }

    #[test]
    fn a_producer_that_gave_a_batch_up_is_not_held_for_ever() {
        let (refused, log) = (RefusedProducers::default(), log());
        refused.note(batch(1, 0, 7), &WHY);
        for sequence in 8..8 + BATCHES_IN_FLIGHT as i32 {
            assert_eq!(refused.refusal_before(batch(1, 0, sequence), || log.clone()), Some(WHY));
        }
        assert_eq!(refused.refusal_before(batch(1, 0, 8), || log.clone()), None, "it may hear of its gap");
    }

    #[test]
    fn what_a_batch_is_refused_for_itself_is_not_shared_and_strangers_are_bounded() {
        let (refused, log) = (RefusedProducers::default(), log());
        refused.note(batch(1, 0, 7), &ReplicaError::InvalidRequiredAcks(9));
        refused.note(batch(-1, -1, -1), &WHY);
        assert_eq!(refused.refusal_before(batch(1, 0, 8), || log.clone()), None);
        assert!(refused.by_id.lock().is_empty());
        (0..2000).for_each(|id| refused.note(batch(id, 0, 0), &WHY));
        assert_eq!(refused.by_id.lock().len(), PRODUCERS_MAX);
    }
}
