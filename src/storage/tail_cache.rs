//! Recent batches of every log, under one byte budget.
//!
//! Each log has a [`Tail`]: its newest batches without a gap up to the queued end. A batch that is not synced yet is
//! always there (it is nowhere else to be read). Once it is synced, it depends on who would read it:
//!
//! | appended | bytes | leaves the tail |
//! |---|---|---|
//! | as leader | an exact copy, so that the budget counts what memory holds: a kept slice of a few hundred bytes would pin a frame of megabytes | when the budget of the whole node asks for it, oldest first over all logs |
//! | as follower | a slice of the leader's answer | at once, with everything before it: consumers read from the leader. Not charged: the commit queue bounds what is not synced |
//!
//! Locks: a log's tail belongs to the log's own lock. [`TailCache`] has one lock of its own around its queue of
//! evictions; it is taken with no log's lock held, and takes a log's lock inside. Never the other way round.

use bytes::Bytes;
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::sync::Weak;

/// One batch of a tail.
#[derive(Clone, Debug)]
pub struct TailBatch {
    /// Base offset.
    pub base_offset: i64,
    /// Last offset.
    pub last_offset: i64,
    /// As on the wire.
    pub batch: Bytes,
}

/// The newest batches of one log.
#[derive(Debug)]
pub struct Tail {
    batches: VecDeque<TailBatch>,
    /// Reads at or above this offset find everything here.
    start_offset: i64,
}

impl Tail {
    /// An empty tail of a log that ends at `log_end`.
    pub fn new(log_end: i64) -> Self {
        Self { batches: VecDeque::new(), start_offset: log_end }
    }

    /// From here on the tail holds every batch. It may lie inside the gap before the first one.
    pub fn start_offset(&self) -> i64 {
        self.start_offset
    }

    /// Adds the next batch.
    pub fn push(&mut self, batch: TailBatch) {
        self.batches.push_back(batch);
    }

    /// The batches that end at or after `offset`.
    pub fn from(&self, offset: i64) -> impl Iterator<Item = &TailBatch> {
        let first = self.batches.partition_point(|b| b.last_offset < offset);
        self.batches.range(first..)
    }

    /// Drops batches that end at or after `offset`.
    pub fn truncate(&mut self, offset: i64) {
        let keep = self.batches.partition_point(|b| b.last_offset < offset);
        self.batches.truncate(keep);
        self.start_offset = self.start_offset.min(offset);
    }

    /// Drops batches that end at or before `last_offset` and below `synced_end`; whether all of them could go.
    pub fn evict(&mut self, last_offset: i64, synced_end: i64) -> bool {
        while let Some(first) = self.batches.front() {
            if first.last_offset > last_offset {
                return true;
            }
            if first.last_offset >= synced_end {
                return false;
            }
            self.start_offset = first.last_offset + 1;
            self.batches.pop_front();
        }
        true
    }

    /// Forgets everything; the log ends at `log_end`.
    pub fn reset(&mut self, log_end: i64) {
        *self = Self::new(log_end);
    }
}

/// A log that can be asked to let go of old batches.
pub trait EvictTail: Send + Sync {
    /// Drops what ends at or before `last_offset`; false if some of it is not synced yet.
    fn evict_tail(&self, last_offset: i64) -> bool;
}

struct Charge {
    log: Weak<dyn EvictTail>,
    last_offset: i64,
    bytes: usize,
}

#[derive(Default)]
struct Charges {
    oldest_first: VecDeque<Charge>,
    bytes: usize,
}

/// The budget over all tails of a node.
pub struct TailCache {
    budget_bytes: usize,
    charges: Mutex<Charges>,
}

impl TailCache {
    /// A cache that keeps at most `budget_bytes` of synced batches, besides what is not synced yet (which the commit
    /// queue bounds).
    pub fn new(budget_bytes: usize) -> Self {
        Self { budget_bytes, charges: Mutex::default() }
    }

    /// Accounts for batches up to `last_offset` that `log` has just added, and evicts the oldest while over budget. A
    /// truncated batch stays charged until its turn comes: a little too careful, never too little. Call without the log's
    /// lock.
    pub fn charge(&self, log: Weak<dyn EvictTail>, last_offset: i64, bytes: usize) {
        let mut charges = self.charges.lock();
        charges.bytes += bytes;
        charges.oldest_first.push_back(Charge { log, last_offset, bytes });
        // Each charge is looked at once per call, so that a queue of unsynced batches cannot spin here.
        for _ in 0..charges.oldest_first.len() {
            if charges.bytes <= self.budget_bytes {
                break;
            }
            let Some(oldest) = charges.oldest_first.pop_front() else { break };
            let evicted = oldest.log.upgrade().is_none_or(|log| log.evict_tail(oldest.last_offset));
            if evicted {
                charges.bytes -= oldest.bytes;
            } else {
                charges.oldest_first.push_front(oldest);
                break;
            }
        }
        metrics::gauge!("rookery_storage_tail_bytes").set(charges.bytes as f64);
    }

    /// Bytes charged.
    pub fn bytes(&self) -> usize {
        self.charges.lock().bytes
    }
}
