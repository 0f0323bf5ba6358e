//! The contract between a state machine and the event loop around it.

use super::CoordinatorError;
use bytes::Bytes;
use std::time::Duration;
use thiserror::Error;

/// The two clocks of one instant. Only the first one decides; the second is written into records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    /// Monotonic, since some fixed point of this process: sessions and rebalances run on it.
    pub monotonic: Duration,
    /// Milliseconds since 1970: commit timestamps and retention, which outlive the process.
    pub unix_ms: i64,
}

/// Names one request until it is answered; chosen by whoever drives the event loop, never used twice.
pub type RequestId = u64;

/// One record of a coordinator's topic, encoded. No value: a tombstone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CoordinatorRecord {
    /// Begins with the record type, an i16.
    pub key: Bytes,
    /// Begins with the version of the value, an i16.
    pub value: Option<Bytes>,
}

/// A record of a type we know that we cannot read. Loading stops: to skip it would lose what was acknowledged.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum DecodeError {
    /// Written by a newer version.
    #[error("record type {record_type} has version {version}, which this broker does not know")]
    UnknownVersion {
        /// The type in the key.
        record_type: i16,
        /// The version in the value.
        version: i16,
    },
    /// The bytes end early, or say something impossible.
    #[error("record of type {record_type}: {why}")]
    Malformed {
        /// The type in the key, -1 where even that is missing.
        record_type: i16,
        /// What does not fit.
        why: String,
    },
}

/// When an answer may be given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum When {
    Now,
    Committed,
}

/// An answer to one request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer<R> {
    /// To which request.
    pub request: RequestId,
    /// The response, or why there is none.
    pub result: Result<R, CoordinatorError>,
}

/// What one event made: changes to write, in order, and answers.
#[derive(Debug)]
pub struct Output<C, R> {
    pub(super) changes: Vec<C>,
    pub(super) answers: Vec<(RequestId, Result<R, CoordinatorError>, When)>,
    pub(super) settled: bool,
}

impl<C, R> Default for Output<C, R> {
    fn default() -> Self {
        Self { changes: Vec::new(), answers: Vec::new(), settled: true }
    }
}

impl<C, R> Output<C, R> {
    /// A change that the shard has made to its state and that has to be written.
    pub fn write(&mut self, change: C) {
        self.changes.push(change);
    }

    /// Answers at once: the answer says nothing that a fail-over could make untrue.
    pub fn answer(&mut self, request: RequestId, response: R) {
        self.answers.push((request, Ok(response), When::Now));
    }

    /// Refuses at once.
    pub fn refuse(&mut self, request: RequestId, error: CoordinatorError) {
        self.answers.push((request, Err(error), When::Now));
    }

    /// Answers once everything this event wrote is committed; at once when it wrote nothing.
    pub fn answer_written(&mut self, request: RequestId, response: R) {
        let when = if self.changes.is_empty() { When::Now } else { When::Committed };
        self.answers.push((request, Ok(response), when));
    }

    /// Answers once everything written so far, also by earlier events, is committed.
    pub fn answer_stable(&mut self, request: RequestId, response: R) {
        self.answers.push((request, Ok(response), When::Committed));
    }

    /// Whether everything that the log held when it was loaded is known to be committed. Before that, what seems not to be may have
    /// been acknowledged by the coordinator before this one, whose high watermark was further on (as in KIP-207).
    pub fn is_settled(&self) -> bool {
        self.settled
    }

    /// How many changes this event made so far.
    pub fn written(&self) -> usize {
        self.changes.len()
    }
}

/// The state machine of one partition of a coordinator's topic.
///
/// Deterministic: the same calls give the same state and output. All state that a fail-over must keep is what
/// [`replay`](Self::replay) of its changes, in order, gives.
pub trait CoordinatorShard: Send + 'static {
    /// What is asked of it.
    type Request: Send + 'static;
    /// What it answers.
    type Response: Send + 'static;
    /// One record, decoded.
    type Change: Send + 'static;

    /// Whether a request is answered from what this coordinator knows alone. (Whatever writes waits for the followers, who would
    /// refuse a coordinator that was replaced.)
    fn only_reads(request: &Self::Request) -> bool;

    /// The bytes of a change. Total: a shard never makes a change that cannot be written.
    fn encode(change: &Self::Change) -> CoordinatorRecord;

    /// The change in a record read from the log; `None` for a record type of a newer version, which is kept but not understood.
    fn decode(record: &CoordinatorRecord) -> Result<Option<Self::Change>, DecodeError>;

    /// A change found in the log while loading.
    fn replay(&mut self, change: &Self::Change);

    /// The whole log was replayed: start the timers.
    fn loaded(&mut self, now: Now, out: &mut Output<Self::Change, Self::Response>);

    /// One request. It is answered now or later, exactly once, through some `out`.
    fn handle(
        &mut self,
        now: Now,
        request_id: RequestId,
        request: Self::Request,
        out: &mut Output<Self::Change, Self::Response>,
    );

    /// The high watermark has passed a change, made or replayed; called once for each, in log order.
    fn committed(&mut self, now: Now, change: &Self::Change, out: &mut Output<Self::Change, Self::Response>);

    /// Time has passed: handles every deadline that is due.
    fn tick(&mut self, now: Now, out: &mut Output<Self::Change, Self::Response>);

    /// For as long as `stopped` nothing that only reads was answered and `tick` was not called, whatever was due; now both begin again.
    /// Nobody may be given up for a silence that was not theirs: who lives by what was refused begins anew, everything else is due
    /// that much later.
    fn resumed(&mut self, now: Now, stopped: Duration, out: &mut Output<Self::Change, Self::Response>);

    /// When `tick` is wanted next, on the monotonic clock.
    fn next_deadline(&self) -> Option<Duration>;
}

/// Makes the empty shard of a partition, before each load.
pub trait ShardFactory<S>: Send + Sync + 'static {
    /// A shard as if its log were empty.
    fn create(&self, partition: i32) -> S;
}

impl<S, F: Fn(i32) -> S + Send + Sync + 'static> ShardFactory<S> for F {
    fn create(&self, partition: i32) -> S {
        self(partition)
    }
}
