//! One shard between its log and its callers, without I/O.
//!
//! # States
//!
//! | state | meaning | leaves by |
//! |---|---|---|
//! | loading | [`EventLoop::load`] is given the log, batch by batch; no request is handled | [`EventLoop::loaded`] → active |
//! | active | requests, timers, appends, high watermarks | [`EventLoop::end`] consumes it |
//! | stopped | active, but no timer of the shard fires ([`EventLoop::set_standing`]); deadlines of deferred answers do | [`EventLoop::set_standing`] → active |
//!
//! A record's way: *unwritten* (emitted by the shard, in order) → *appending* (handed out by
//! [`EventLoop::next_append`], one batch at a time, so that order in the log = order of emission) → *in flight*
//! (offset known) → committed (high watermark above the batch).
//!
//! Every emitted record has a sequence number. `committed_sequence` is the number of the first one that is not
//! committed; a deferred answer carries the number that has to be reached.
//!
//! # Invariants
//! - Sequence numbers of `in_flight`, `appending`, `unwritten` are consecutive and end at `next_sequence`.
//! - A shard hears with each event whether all that was loaded is committed ([`Output::is_settled`]).
//! - A deferred answer is given as "yes" only at `committed_sequence >= its sequence`.
//! - Every request is answered exactly once: `outstanding` holds those that are not.

use super::live_keys::RewriteLimits;
use super::shard::When;
use super::{
    Answer, Appended, CoordinatorError, CoordinatorRecord, CoordinatorShard, DecodeError, DecodedBatch, LiveKeys, Now,
    Output, RequestId, encode_batch,
};
use bytes::Bytes;
use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

/// Bounds of one shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LoopLimits {
    /// `offset.commit.timeout.ms`: how long an answer waits for its records to commit.
    pub write_timeout: Duration,
    /// Bytes of records in one batch; a single larger record gets a batch of its own.
    pub batch_bytes_max: usize,
    /// Bytes of records that are not committed; above it every request is refused.
    pub uncommitted_bytes_max: usize,
    /// Requests that are not answered; above it every further one is refused.
    pub outstanding_max: usize,
    /// Latest-key rewriting.
    pub rewrite: RewriteLimits,
}

impl Default for LoopLimits {
    fn default() -> Self {
        Self {
            write_timeout: Duration::from_secs(5),
            batch_bytes_max: 512 << 10,
            uncommitted_bytes_max: 32 << 20,
            outstanding_max: 100_000,
            rewrite: RewriteLimits::default(),
        }
    }
}

/// What became of a stretch that was given to [`EventLoop::rewrite`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rewriting {
    /// Its live records are emitted; [`EventLoop::log_start_due`] will say when the log start may move.
    Emitted,
    /// It begins with something this version does not understand: it stays.
    Stuck,
}

struct Unwritten<C> {
    record: CoordinatorRecord,
    /// `None` for a copy made by rewriting, and for types we do not know: the shard has nothing to do at commit.
    change: Option<C>,
}

struct Batch<C> {
    first_sequence: u64,
    last_offset: i64,
    bytes: usize,
    keys: Vec<Bytes>,
    changes: Vec<Option<C>>,
}

impl<C> Batch<C> {
    fn end_sequence(&self) -> u64 {
        self.first_sequence + self.changes.len() as u64
    }
}

struct Deferred<R> {
    request: RequestId,
    result: Result<R, CoordinatorError>,
    sequence: u64,
    deadline: Duration,
}

/// Drives one [`CoordinatorShard`]. Sans I/O: time, log and callers are passed in.
pub struct EventLoop<S: CoordinatorShard> {
    shard: S,
    limits: LoopLimits,
    next_sequence: u64,
    committed_sequence: u64,
    /// Of the first record that was not in the log when it was loaded.
    loaded_sequence: u64,
    high_watermark: i64,
    /// The offset after the last record known to be in the log.
    end_offset: i64,
    unwritten: VecDeque<Unwritten<S::Change>>,
    appending: Option<Batch<S::Change>>,
    in_flight: VecDeque<Batch<S::Change>>,
    uncommitted_bytes: usize,
    deferred: VecDeque<Deferred<S::Response>>,
    outstanding: BTreeSet<RequestId>,
    answers: Vec<Answer<S::Response>>,
    live: LiveKeys,
    /// (log start, sequence that must be committed before it).
    rewriting: Option<(i64, u64)>,
    unknown_records: u64,
    /// Since when the shard's timers do not fire.
    stopped_at: Option<Duration>,
}

impl<S: CoordinatorShard> EventLoop<S> {
    /// Around an empty shard, in state loading.
    pub fn new(shard: S, limits: LoopLimits) -> Self {
        Self {
            shard,
            limits,
            next_sequence: 0,
            committed_sequence: 0,
            loaded_sequence: 0,
            high_watermark: 0,
            end_offset: 0,
            unwritten: VecDeque::new(),
            appending: None,
            in_flight: VecDeque::new(),
            uncommitted_bytes: 0,
            deferred: VecDeque::new(),
            outstanding: BTreeSet::new(),
            answers: Vec::new(),
            live: LiveKeys::default(),
            rewriting: None,
            unknown_records: 0,
            stopped_at: None,
        }
    }

    /// Replays one batch of the log. What lies above the high watermark counts as in flight: a leader never loses
    /// it, but it is not committed yet.
    pub fn load(&mut self, batch: DecodedBatch) -> Result<(), DecodeError> {
        if batch.skipped {
            self.unknown_records += 1;
        }
        let mut flying = Batch {
            first_sequence: self.next_sequence,
            last_offset: batch.last_offset,
            bytes: 0,
            keys: Vec::new(),
            changes: Vec::with_capacity(batch.records.len()),
        };
        for (offset, record) in batch.records {
            let change = S::decode(&record)?;
            match &change {
                Some(change) => self.shard.replay(change),
                None => self.unknown_records += 1,
            }
            self.live.replayed(&record.key, record.value.is_none(), offset);
            flying.changes.push(change);
        }
        self.next_sequence = flying.end_sequence();
        self.end_offset = batch.last_offset + 1;
        self.in_flight.push_back(flying);
        Ok(())
    }

    /// The whole log was given to [`load`](Self::load): from here on requests are handled.
    pub fn loaded(&mut self, now: Now) {
        self.loaded_sequence = self.next_sequence;
        self.run(now, |shard, out| shard.loaded(now, out));
    }

    /// Records met while loading whose type this version does not know.
    pub fn unknown_records(&self) -> u64 {
        self.unknown_records
    }

    /// The state machine, to look at.
    pub fn shard(&self) -> &S {
        &self.shard
    }

    /// The newest record of each key.
    pub fn live_keys(&self) -> &LiveKeys {
        &self.live
    }

    /// Handles one request. `request_id` must not have been used before.
    pub fn handle(&mut self, now: Now, request_id: RequestId, request: S::Request) {
        let full = self.uncommitted_bytes > self.limits.uncommitted_bytes_max
            || self.outstanding.len() >= self.limits.outstanding_max;
        if full {
            let result = Err(CoordinatorError::CoordinatorNotAvailable);
            self.answers.push(Answer { request: request_id, result });
            return;
        }
        self.outstanding.insert(request_id);
        self.run(now, |shard, out| shard.handle(now, request_id, request, out));
    }

    /// Whether the coordinator may speak now. While it may not, it refuses those who would say that they live, so no time passes for
    /// the shard.
    pub fn set_standing(&mut self, now: Now, standing: bool) {
        match (self.stopped_at, standing) {
            (None, false) => self.stopped_at = Some(now.monotonic),
            (Some(since), true) => {
                self.stopped_at = None;
                self.run(now, |shard, out| shard.resumed(now, now.monotonic.saturating_sub(since), out));
            }
            (None, true) | (Some(_), false) => {}
        }
    }

    /// Whether it was told to stand at last.
    pub fn is_standing(&self) -> bool {
        self.stopped_at.is_none()
    }

    /// Handles what is due.
    pub fn tick(&mut self, now: Now) {
        if self.shard_deadline().is_some_and(|at| at <= now.monotonic) {
            self.run(now, |shard, out| shard.tick(now, out));
        }
        while self.deferred.front().is_some_and(|d| d.deadline <= now.monotonic) {
            let late = self.deferred.pop_front().expect("the front was just seen");
            self.answer(late.request, Err(CoordinatorError::CoordinatorNotAvailable));
        }
    }

    /// When [`tick`](Self::tick) is wanted next.
    pub fn next_deadline(&self) -> Option<Duration> {
        let write = self.deferred.front().map(|d| d.deadline);
        self.shard_deadline().into_iter().chain(write).min()
    }

    fn shard_deadline(&self) -> Option<Duration> {
        self.shard.next_deadline().filter(|_| self.is_standing())
    }

    /// The next batch to append, if there is something to write and no append is under way.
    /// Its outcome goes to [`appended`](Self::appended); an unknown outcome ends the loop.
    pub fn next_append(&mut self, now: Now) -> Option<Bytes> {
        if self.appending.is_some() || self.unwritten.is_empty() {
            return None;
        }
        let mut size = 0;
        let count = self
            .unwritten
            .iter()
            .take_while(|unwritten| {
                let fits = size == 0 || size + bytes_of(&unwritten.record) <= self.limits.batch_bytes_max;
                size += bytes_of(&unwritten.record);
                fits
            })
            .count();
        let bytes = encode_batch(self.unwritten.iter().take(count).map(|u| &u.record), now.unix_ms);
        let mut batch = Batch {
            first_sequence: self.next_sequence - self.unwritten.len() as u64,
            last_offset: 0,
            bytes: 0,
            keys: Vec::with_capacity(count),
            changes: Vec::with_capacity(count),
        };
        for unwritten in self.unwritten.drain(..count) {
            batch.bytes += bytes_of(&unwritten.record);
            batch.keys.push(unwritten.record.key);
            batch.changes.push(unwritten.change);
        }
        self.appending = Some(batch);
        Some(bytes)
    }

    /// The batch of the last [`next_append`](Self::next_append) is in the log.
    pub fn appended(&mut self, now: Now, appended: Appended) {
        let mut batch = self.appending.take().expect("an append is under way when one ends");
        for (i, key) in batch.keys.drain(..).enumerate() {
            self.live.placed(&key, batch.first_sequence + i as u64, appended.base_offset + i as i64);
        }
        batch.last_offset = appended.last_offset;
        self.end_offset = appended.last_offset + 1;
        self.in_flight.push_back(batch);
        self.advance(now);
    }

    /// The high watermark is now `offset`: everything below it is committed.
    pub fn high_watermark(&mut self, now: Now, offset: i64) {
        self.high_watermark = self.high_watermark.max(offset);
        self.advance(now);
    }

    fn advance(&mut self, now: Now) {
        while self.in_flight.front().is_some_and(|batch| batch.last_offset < self.high_watermark) {
            let batch = self.in_flight.pop_front().expect("the front was just seen");
            self.committed_sequence = batch.end_sequence();
            self.uncommitted_bytes -= batch.bytes;
            for change in batch.changes.iter().flatten() {
                self.run(now, |shard, out| shard.committed(now, change, out));
            }
        }
        while self.deferred.front().is_some_and(|d| d.sequence <= self.committed_sequence) {
            let done = self.deferred.pop_front().expect("the front was just seen");
            self.answer(done.request, done.result);
        }
    }

    /// Whether the log, which starts at `log_start`, should be rewritten from there; one stretch at a time.
    pub fn wants_rewriting(&self, log_start: i64) -> bool {
        self.rewriting.is_none()
            && self.uncommitted_bytes <= self.limits.rewrite.bytes_per_step
            && self.live.wants_rewriting(log_start, self.end_offset, &self.limits.rewrite)
    }

    /// Rewrites a stretch: `batches` are the first of the log.
    pub fn rewrite(&mut self, batches: Vec<DecodedBatch>) -> Rewriting {
        let mut upto = None;
        for batch in batches.into_iter().take_while(|batch| !batch.skipped) {
            upto = Some(batch.last_offset + 1);
            for (offset, record) in batch.records {
                if self.live.is_live(&record.key, offset) {
                    self.emit(record, None);
                }
            }
        }
        let Some(upto) = upto else { return Rewriting::Stuck };
        self.rewriting = Some((upto, self.next_sequence));
        Rewriting::Emitted
    }

    /// Where the log start may move to, once: everything that replaces what lies below is committed.
    pub fn log_start_due(&mut self) -> Option<i64> {
        let (upto, sequence) = self.rewriting?;
        if self.committed_sequence < sequence {
            return None;
        }
        self.rewriting = None;
        Some(upto)
    }

    /// The answers given since the last call.
    pub fn take_answers(&mut self) -> Vec<Answer<S::Response>> {
        std::mem::take(&mut self.answers)
    }

    /// Ends the loop, as after loss of leadership: everyone who waits is answered with `error`.
    pub fn end(mut self, error: CoordinatorError) -> Vec<Answer<S::Response>> {
        let waiting = std::mem::take(&mut self.outstanding);
        self.answers.extend(waiting.into_iter().map(|request| Answer { request, result: Err(error) }));
        self.answers
    }

    fn run(&mut self, now: Now, event: impl FnOnce(&mut S, &mut Output<S::Change, S::Response>)) {
        let mut out = Output { settled: self.committed_sequence >= self.loaded_sequence, ..Output::default() };
        event(&mut self.shard, &mut out);
        for change in out.changes {
            self.emit(S::encode(&change), Some(change));
        }
        for (request, result, when) in out.answers {
            if when == When::Now || self.committed_sequence >= self.next_sequence {
                self.answer(request, result);
            } else {
                let deadline = now.monotonic + self.limits.write_timeout;
                self.deferred.push_back(Deferred { request, result, sequence: self.next_sequence, deadline });
            }
        }
    }

    fn emit(&mut self, record: CoordinatorRecord, change: Option<S::Change>) {
        self.live.emitted(&record.key, record.value.is_none(), self.next_sequence);
        self.next_sequence += 1;
        self.uncommitted_bytes += bytes_of(&record);
        self.unwritten.push_back(Unwritten { record, change });
    }

    fn answer(&mut self, request: RequestId, result: Result<S::Response, CoordinatorError>) {
        // A late second answer (timed out, then committed) has nobody to go to.
        if self.outstanding.remove(&request) {
            self.answers.push(Answer { request, result });
        }
    }
}

/// Its bytes in a batch, rounded up: 32 covers the varints.
fn bytes_of(record: &CoordinatorRecord) -> usize {
    record.key.len() + record.value.as_ref().map_or(0, Bytes::len) + 32
}
