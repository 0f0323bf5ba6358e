//! What a producer knows of one partition: which batches wait, which are under way, and what an answer means for them.
//!
//! A batch gets its sequence when it is sealed and keeps it, and its bytes, however often it is sent. It is in exactly one place:
//! in the queue, in a request on the wire, or acknowledged. The queue is in order of age.
//!
//! | state | what is sent | leaves it |
//! |---|---|---|
//! | flowing | the oldest, while fewer than `in_flight_max` are on the wire | to *resending* when a batch comes back |
//! | resending | once nothing is on the wire and the pause is over: the oldest of those that came back, alone | to *flowing* when none of them is left |
//!
//! So a batch that is sent again never overtakes, and is never overtaken by, one that is still on its way, and the broker finds
//! the sequences in order; those that were behind the failed one and were refused for it (OUT_OF_ORDER_SEQUENCE_NUMBER) come
//! back, too. A broker that already has a batch says so or acknowledges it again: either way it is there once. It knows its last five
//! batches again, no more. Hence *alone*: with newer ones behind it, a batch that the broker has already would be out of those five
//! when the connection breaks a second time.

use super::pace::Nanos;
use super::payload::SealedBatch;
use rookery_protocol::ErrorCode;
use std::collections::VecDeque;

/// After a failure, before the next try.
pub const RETRY_PAUSE: Nanos = 50_000_000;

/// What became of a batch.
pub enum Outcome {
    /// It is there.
    Acknowledged(SealedBatch),
    /// It waits to be sent again.
    Again,
    /// It never will be there; why.
    Refused(SealedBatch, String),
}

/// A batch with its age.
pub struct Numbered {
    /// Batches of a partition count from 0.
    pub ordinal: u64,
    /// It.
    pub batch: SealedBatch,
    /// It came back.
    again: bool,
}

/// One partition.
pub struct Partition {
    /// Its number.
    pub index: i32,
    /// Offset behind the last acknowledged batch, as far as the broker tells.
    pub end_offset: i64,
    in_flight_max: usize,
    queue: VecDeque<Numbered>,
    in_flight: usize,
    /// The one on the wire is there again.
    alone: bool,
    not_before: Nanos,
    next_sequence: i32,
    next_ordinal: u64,
}

impl Partition {
    /// Nothing was sent yet.
    pub fn new(index: i32, in_flight_max: usize) -> Self {
        Self {
            index,
            end_offset: 0,
            in_flight_max,
            queue: VecDeque::new(),
            in_flight: 0,
            alone: false,
            not_before: 0,
            next_sequence: 0,
            next_ordinal: 0,
        }
    }

    /// The sequence that the next batch begins with.
    pub fn next_sequence(&self) -> i32 {
        self.next_sequence
    }

    /// Whether nothing waits here and the next batch would be sent at once.
    pub fn is_free(&self, now: Nanos) -> bool {
        self.queue.is_empty() && self.may_send(now)
    }

    /// A new batch, whose sequence is [`next_sequence`](Self::next_sequence).
    pub fn push(&mut self, batch: SealedBatch) {
        // From the largest back to 0; a batch without sequence leaves it at 0.
        self.next_sequence = batch.last_sequence.wrapping_add(1) & i32::MAX;
        self.queue.push_back(Numbered { ordinal: self.next_ordinal, batch, again: false });
        self.next_ordinal += 1;
    }

    /// The batch to send now, if any.
    pub fn take(&mut self, now: Nanos) -> Option<Numbered> {
        if !self.may_send(now) {
            return None;
        }
        let next = self.queue.pop_front()?;
        self.alone = next.again;
        self.in_flight += 1;
        Some(next)
    }

    /// Whether [`take`](Self::take) would give something.
    pub fn is_ready(&self, now: Nanos) -> bool {
        !self.queue.is_empty() && self.may_send(now)
    }

    /// Whether batches came back and wait.
    pub fn is_resending(&self) -> bool {
        self.queue.front().is_some_and(|oldest| oldest.again)
    }

    /// Batches that wait, the oldest first.
    pub fn waiting(&self) -> impl Iterator<Item = &Numbered> {
        self.queue.iter()
    }

    fn may_send(&self, now: Nanos) -> bool {
        if self.is_resending() {
            self.in_flight == 0 && now >= self.not_before
        } else {
            self.in_flight < self.in_flight_max && !self.alone
        }
    }

    fn landed(&mut self) {
        self.in_flight -= 1;
        self.alone = false;
    }

    /// A batch could not be sent, or nobody knows what became of it.
    pub fn give_back(&mut self, mut sent: Numbered, now: Nanos) {
        self.landed();
        sent.again = true;
        self.not_before = now + RETRY_PAUSE;
        let at = self.queue.partition_point(|waiting| waiting.ordinal < sent.ordinal);
        self.queue.insert(at, sent);
    }

    /// An answer to a batch.
    pub fn answered(&mut self, sent: Numbered, code: i16, base_offset: i64, now: Nanos) -> Outcome {
        let error = ErrorCode::from_code(code);
        // It is next to be appended only if no older one waits.
        let is_behind = self.queue.front().is_some_and(|oldest| oldest.ordinal < sent.ordinal);
        match error {
            Some(ErrorCode::None | ErrorCode::DuplicateSequenceNumber) => {
                self.landed();
                // A broker that only knows that it has the batch does not say where.
                if base_offset >= 0 {
                    self.end_offset = self.end_offset.max(base_offset + i64::from(sent.batch.count));
                }
                Outcome::Acknowledged(sent.batch)
            }
            Some(error) if error.is_retriable() || (error == ErrorCode::OutOfOrderSequenceNumber && is_behind) => {
                self.give_back(sent, now);
                Outcome::Again
            }
            other => {
                self.landed();
                let why = other.map_or(format!("error {code}"), |e| format!("{}: {}", e.name(), e.message()));
                Outcome::Refused(sent.batch, format!("partition {}: {why}", self.index))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::payload::{Mold, ProducerIdentity, Shape};
    use super::*;
    use rand::rngs::StdRng;
    use rand::{RngExt, SeedableRng};
    use rookery_protocol::batch::{RecordBatch, RecordBatchHeader};
    use rookery_protocol::compression::Compression;

    const NONE: i16 = 0;

    fn mold() -> Mold {
        let shape =
            Shape { value_bytes: 24, key_bytes: 0, batch_bytes: 400, codec: Compression::None, compressibility: 0.0 };
        Mold::new(shape, ProducerIdentity { id: Some((1, 0)), number: 0, run: 0 }).unwrap()
    }

    fn add(mold: &mut Mold, partition: &mut Partition, counter: &mut u64, count: usize) {
        let mut batch = mold.open().unwrap();
        for _ in 0..count {
            mold.push(&mut batch, 0, *counter);
            *counter += 1;
        }
        let sealed = mold.seal(batch, 0, partition.next_sequence()).unwrap();
        partition.push(sealed);
    }

    /// A leader as KIP-98 has it: takes the next sequence, knows the last five batches again, refuses everything else.
    struct Leader {
        next: i32,
        log: Vec<(RecordBatchHeader, i64)>,
        end: i64,
    }

    impl Leader {
        fn append(&mut self, batch: &SealedBatch) -> (i16, i64) {
            let header = *RecordBatch::parse(batch.bytes.clone()).unwrap().header();
            let same = |(h, _): &&(RecordBatchHeader, i64)| h.base_sequence == header.base_sequence;
            if let Some((_, offset)) = self.log.iter().rev().take(5).find(same) {
                return (NONE, *offset);
            }
            if header.base_sequence != self.next {
                return (ErrorCode::OutOfOrderSequenceNumber.code(), -1);
            }
            let offset = self.end;
            self.log.push((header, offset));
            self.next = header.last_sequence().wrapping_add(1) & i32::MAX;
            self.end += i64::from(header.records_count);
            (NONE, offset)
        }
    }

    /// Requests and answers are lost, refused and late, whole connections break; sequences wrap on the way. Found that batches
    /// that came back must go alone.
    #[test]
    fn whatever_is_lost_every_batch_is_there_once_and_in_order() {
        let mut retried = 0;
        for seed in 0..300 {
            let mut random = StdRng::seed_from_u64(seed);
            let (mut mold, mut counter) = (mold(), 0);
            let mut partition = Partition::new(0, 5);
            partition.next_sequence = i32::MAX - 20;
            let mut leader = Leader { next: i32::MAX - 20, log: Vec::new(), end: 0 };
            // On the wire, in order: the batch, and the answer once the leader has seen it.
            let mut wire: VecDeque<(Numbered, Option<(i16, i64)>)> = VecDeque::new();
            let (mut now, mut made, mut acknowledged) = (0, 0, 0);
            while acknowledged < 40 {
                now += RETRY_PAUSE / 4;
                match random.random_range(0..10) {
                    0..3 if made < 40 => {
                        add(&mut mold, &mut partition, &mut counter, random.random_range(1..4));
                        made += 1;
                    }
                    0..5 => {
                        if let Some(next) = partition.take(now) {
                            wire.push_back((next, None));
                        }
                    }
                    5..7 => {
                        if let Some((sent, answer)) = wire.iter_mut().find(|(_, answer)| answer.is_none()) {
                            *answer = Some(match random.random_range(0..10) {
                                0 => (ErrorCode::NotLeaderOrFollower.code(), -1),
                                1 => {
                                    leader.append(&sent.batch);
                                    (ErrorCode::RequestTimedOut.code(), -1)
                                }
                                _ => leader.append(&sent.batch),
                            });
                        }
                    }
                    7..9 => {
                        if let Some((_, Some(_))) = wire.front() {
                            let (sent, Some((code, offset))) = wire.pop_front().unwrap() else { unreachable!() };
                            match partition.answered(sent, code, offset, now) {
                                Outcome::Acknowledged(batch) => {
                                    acknowledged += 1;
                                    mold.reclaim(batch);
                                }
                                Outcome::Again => retried += 1,
                                Outcome::Refused(_, why) => panic!("seed {seed}: {why}"),
                            }
                        }
                    }
                    _ if random.random_ratio(1, 10) => {
                        // The connection breaks; what was sent may or may not have arrived, the front part of it.
                        let mut arrives = true;
                        for (sent, answer) in std::mem::take(&mut wire) {
                            arrives &= random.random_bool(0.7);
                            if arrives && answer.is_none() {
                                leader.append(&sent.batch);
                            }
                            partition.give_back(sent, now);
                        }
                    }
                    _ => {}
                }
            }
            let sequences: Vec<i32> = leader.log.iter().map(|(h, _)| h.base_sequence).collect();
            assert_eq!(leader.log.len(), 40, "seed {seed}: {sequences:?}");
            assert_eq!(leader.end, i64::try_from(counter).unwrap(), "seed {seed}: as many records as were made");
            assert_eq!(partition.end_offset, leader.end, "seed {seed}");
        }
        assert!(retried > 1000, "{retried}: the mistakes were really made");
    }

    #[test]
    fn acknowledged_records_that_a_leader_has_lost_are_not_passed_over() {
        let (mut mold, mut counter) = (mold(), 0);
        let mut partition = Partition::new(4, 5);
        add(&mut mold, &mut partition, &mut counter, 1);
        let sent = partition.take(0).unwrap();
        // Nothing older waits: the leader should have expected this one.
        let code = ErrorCode::OutOfOrderSequenceNumber.code();
        let Outcome::Refused(_, why) = partition.answered(sent, code, -1, 0) else { panic!("it is no success") };
        assert!(why.starts_with("partition 4: OUT_OF_ORDER_SEQUENCE_NUMBER"), "{why}");
    }

    #[test]
    fn nothing_is_sent_while_a_failed_batch_has_others_behind_it() {
        let (mut mold, mut counter) = (mold(), 0);
        let mut partition = Partition::new(0, 5);
        (0..4).for_each(|_| add(&mut mold, &mut partition, &mut counter, 1));
        let [a, b, c] = [0, 0, 0].map(|_| partition.take(0).unwrap());
        let not_leader = ErrorCode::NotLeaderOrFollower.code();
        assert!(matches!(partition.answered(a, not_leader, -1, 0), Outcome::Again));
        assert!(partition.take(RETRY_PAUSE).is_none() && !partition.is_ready(RETRY_PAUSE));
        assert!(matches!(partition.answered(b, not_leader, -1, 0), Outcome::Again));
        partition.give_back(c, 0);
        assert!(partition.take(RETRY_PAUSE - 1).is_none(), "after a pause");
        for expected in 0..3 {
            let next = partition.take(RETRY_PAUSE).unwrap();
            assert_eq!(next.ordinal, expected);
            assert!(partition.take(RETRY_PAUSE).is_none(), "batch {expected} is alone");
            assert!(matches!(partition.answered(next, NONE, 0, RETRY_PAUSE), Outcome::Acknowledged(_)));
        }
        assert_eq!(partition.take(RETRY_PAUSE).unwrap().ordinal, 3, "it was never sent");
    }
}
