//! Producers whose last batch was refused for a reason that passes: what they had in flight behind it is refused alike.
//!
//! An idempotent producer sends up to five batches ahead. Suppose a leader refuses one of them (it may not speak as leader
//! just now, too few replicas are in sync, too much waits) and a moment later could take the next: that one's sequence
//! leaves a gap. `OUT_OF_ORDER_SEQUENCE_NUMBER` would be the truth and do harm: librdkafka takes it as proof that nothing
//! behind the gap was ever written, begins a new producer epoch and sends everything unacknowledged anew, also what an
//! earlier leader appended and this one has: duplicates. Worse where the log knows nothing of the producer yet: it would
//! accept the later batch, and the refused one could never follow.
//!
//! So a batch behind a refused one gets the refusal of the first. The client then sends all of them again, in order and
//! unchanged, and the log tells duplicates from news.
//!
//! # Invariant
//!
//! While a producer has an entry, nothing of that producer id and epoch with a later sequence is appended by its request
//! here. The entry goes when the refused batch, or an earlier one, is tried again; when the log holds the refused batch
//! (another leader took it up meanwhile, and it came by replication); when the producer begins another epoch; and after
//! as many refusals as a client has batches in flight, so that a producer that gave a batch up is not held for ever and
//! hears of its gap.
//!
//! Lock: the map's own, held for a look-up and, inside it, the log's; `any` lets the usual append, with nobody refused, pass
//! without it. A batch of one producer comes on one connection, whose appends are in order: an entry is there before the
//! next batch asks.

use super::error::ReplicaError;
use crate::storage::producer_state::{BATCHES_IN_FLIGHT, is_after};
use crate::storage::{AppendError, PartitionLog};
use parking_lot::Mutex;
use rookery_protocol::batch::RecordBatchHeader;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Producers remembered per partition; beyond, the one with the smallest id is forgotten, and may hear of a gap.
const PRODUCERS_MAX: usize = 1000;

/// See the module.
#[derive(Debug, Default)]
pub struct RefusedProducers {
    any: AtomicBool,
    by_id: Mutex<BTreeMap<i64, Refused>>,
}

#[derive(Debug)]
struct Refused {
    epoch: i16,
    first_sequence: i32,
    error: ReplicaError,
    behind: usize,
}

impl RefusedProducers {
    /// The refusal that a batch shares because it comes behind a refused one.
    pub fn refusal_before(
        &self,
        header: &RecordBatchHeader,
        log: impl FnOnce() -> Arc<PartitionLog>,
    ) -> Option<ReplicaError> {
        if !self.any.load(Ordering::Acquire) {
            return None;
        }
        let mut by_id = self.by_id.lock();
        let refused = by_id.get_mut(&header.producer_id)?;
        let is_behind =
            header.producer_epoch == refused.epoch && is_after(refused.first_sequence, header.base_sequence);
        let is_missing = || !log().producer_has_reached(header.producer_id, refused.epoch, refused.first_sequence);
        if is_behind && refused.behind < BATCHES_IN_FLIGHT && is_missing() {
            refused.behind += 1;
            return Some(refused.error.clone());
        }
        by_id.remove(&header.producer_id);
        self.any.store(!by_id.is_empty(), Ordering::Release);
        None
    }

    /// A batch was not appended.
    pub fn note(&self, header: &RecordBatchHeader, error: &ReplicaError) {
        if !header.has_producer_id() || !passes(error) {
            return;
        }
        let refused = Refused {
            epoch: header.producer_epoch,
            first_sequence: header.base_sequence,
            error: error.clone(),
            behind: 0,
        };
        let mut by_id = self.by_id.lock();
        let earlier =
            |known: &Refused| known.epoch == refused.epoch && is_after(known.first_sequence, refused.first_sequence);
        if by_id.get(&header.producer_id).is_some_and(earlier) {
            return;
        }
        by_id.insert(header.producer_id, refused);
        if by_id.len() > PRODUCERS_MAX {
            by_id.pop_first();
        }
        self.any.store(true, Ordering::Release);
    }
}

/// Whether the same batch may be taken up later: nothing of it was appended, and it is not the batch's fault.
fn passes(error: &ReplicaError) -> bool {
    use ReplicaError as E;
    matches!(
        error,
        E::NotLeaderOrFollower
            | E::NotEnoughReplicas
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

    fn batch(producer_id: i64, epoch: i16, sequence: i32) -> RecordBatchHeader {
        *record_batch(producer_id, epoch, sequence).header()
    }

    fn log() -> Arc<PartitionLog> {
        open(&store()).get_or_create(P, LogClass::Infinite).expect("a log")
    }

    const WHY: ReplicaError = ReplicaError::NotEnoughReplicas;

    #[test]
    fn what_was_in_flight_behind_a_refused_batch_is_refused_alike() {
        let (refused, log) = (RefusedProducers::default(), log());
        assert_eq!(refused.refusal_before(&batch(1, 0, 7), || log.clone()), None);
        refused.note(&batch(1, 0, 7), &WHY);
        assert_eq!(refused.refusal_before(&batch(1, 0, 8), || log.clone()), Some(WHY));
        assert_eq!(refused.refusal_before(&batch(1, 0, 12), || log.clone()), Some(WHY));
        assert_eq!(refused.refusal_before(&batch(2, 0, 9), || log.clone()), None, "another producer");
        assert_eq!(refused.refusal_before(&batch(1, 0, 7), || log.clone()), None, "the refused batch again");
        assert_eq!(
            refused.refusal_before(&batch(1, 0, 8), || log.clone()),
            None,
            "it was taken up: the next may follow"
        );
    }

    #[test]
    fn a_new_epoch_and_an_earlier_batch_end_it() {
        let (refused, log) = (RefusedProducers::default(), log());
        refused.note(&batch(1, 0, 7), &WHY);
        assert_eq!(refused.refusal_before(&batch(1, 1, 8), || log.clone()), None);
        assert_eq!(refused.refusal_before(&batch(1, 0, 8), || log.clone()), None);
        refused.note(&batch(1, 0, i32::MAX), &WHY);
        assert_eq!(
            refused.refusal_before(&batch(1, 0, 0), || log.clone()),
            Some(WHY),
            "sequences begin anew after the largest"
        );
        assert_eq!(refused.refusal_before(&batch(1, 0, i32::MAX - 1), || log.clone()), None);
    }

    /// The refused batch went to another leader, and this replica leads again: seen with a producer whose later batches
    /// were refused until it heard of a gap.
    #[test]
    fn a_refused_batch_that_came_by_replication_held_up_what_follows_it() {
        let (refused, log) = (RefusedProducers::default(), log());
        refused.note(&batch(1, 0, 0), &WHY);
        assert_eq!(refused.refusal_before(&batch(1, 0, 1), || log.clone()), Some(WHY));
        let how = LeaderAppend {
            leader_epoch: LeaderEpoch(1),
            timestamp_type: TimestampType::CreateTime,
            origin: AppendOrigin::Client,
            now_ms: 0,
        };
        log.append_as_leader(record_batch(1, 0, 0).into_bytes(), how).expect("taken up");
        assert_eq!(refused.refusal_before(&batch(1, 0, 1), || log.clone()), None);
    }

    #[test]
    fn a_producer_that_gave_a_batch_up_is_not_held_for_ever() {
        let (refused, log) = (RefusedProducers::default(), log());
        refused.note(&batch(1, 0, 7), &WHY);
        for sequence in 8..8 + BATCHES_IN_FLIGHT as i32 {
            assert_eq!(refused.refusal_before(&batch(1, 0, sequence), || log.clone()), Some(WHY));
        }
        assert_eq!(refused.refusal_before(&batch(1, 0, 8), || log.clone()), None, "it may hear of its gap");
    }

    #[test]
    fn what_a_batch_is_refused_for_itself_is_not_shared_and_strangers_are_bounded() {
        let (refused, log) = (RefusedProducers::default(), log());
        refused.note(&batch(1, 0, 7), &ReplicaError::InvalidRequiredAcks(9));
        refused.note(&batch(-1, -1, -1), &WHY);
        assert_eq!(refused.refusal_before(&batch(1, 0, 8), || log.clone()), None);
        assert!(refused.by_id.lock().is_empty());
        (0..2000).for_each(|id| refused.note(&batch(id, 0, 0), &WHY));
        assert_eq!(refused.by_id.lock().len(), PRODUCERS_MAX);
    }
}
