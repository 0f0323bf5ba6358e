//! What answers to consumers may hold: the bytes of records from before they are read until the last of them is written to the
//! socket.
//!
//! A record that a consumer is sent stays in memory until that consumer has taken it, whatever the tail cache has let go of
//! meanwhile. A thousand consumers that read slowly would hold a thousand answers. So every answer takes its bytes from one
//! budget of the node before it reads, gives back what it did not need, and the rest when it has been written or given up.
//! A fetch that waits for records holds nothing.
//!
//! How much an answer may take: what it asks for, but no more than [`SHARE`] of what is free, and never less than [`LEAST`],
//! for which it waits, first come, first served. So answers get smaller as the budget is used up, and one consumer cannot take it all.
//! An answer always has its first batch (KIP-74); where that is larger than what was taken, it lets go of everything, waits for
//! as much, and reads again. Nobody waits while holding a part, and who holds one is being written: that ends by itself, since a
//! client that reads too slowly is cut off.

use std::sync::Arc;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// What an answer can always have, once it is its turn.
pub const LEAST: usize = 1 << 20;
/// The part of what is free that one answer may take.
const SHARE: usize = 16;

/// One for a node; cloning shares it.
#[derive(Clone, Debug)]
pub struct AnswerBudget {
    free: Arc<Semaphore>,
    total: usize,
}

/// Bytes taken; given back when dropped.
#[derive(Debug)]
pub struct AnswerBytes {
    permit: OwnedSemaphorePermit,
    total: usize,
}

impl AnswerBudget {
    /// So many bytes, of which a permit of a semaphore is one.
    pub fn new(total: usize) -> Self {
        let total = total.min(Semaphore::MAX_PERMITS).min(u32::MAX as usize);
        Self { free: Arc::new(Semaphore::new(total)), total }
    }

    /// All of it.
    pub fn total(&self) -> usize {
        self.total
    }

    /// Bytes in use now.
    pub fn in_use(&self) -> usize {
        self.total - self.free.available_permits()
    }

    /// Takes room for an answer of at most `wanted` bytes, and of at least `least` or everything there is; waits where there is none.
    pub async fn reserve(&self, least: usize, wanted: usize) -> AnswerBytes {
        let share = self.free.available_permits() / SHARE;
        let bytes = wanted.min(share).max(least).min(self.total);
        let count = u32::try_from(bytes).unwrap_or(u32::MAX);
        let permit = Arc::clone(&self.free).acquire_many_owned(count).await.expect("the semaphore is never closed");
        AnswerBytes { permit, total: self.total }
    }
}

impl AnswerBytes {
    /// How large the answer may be.
    pub fn room(&self) -> usize {
        self.permit.num_permits()
    }

    /// Whether an answer of so many bytes may be given; nobody can have more than everything.
    pub fn is_enough_for(&self, used: usize) -> bool {
        used <= self.room() || self.room() == self.total
    }

    /// The answer has `used` bytes: gives back the rest.
    pub fn settle(&mut self, used: usize) {
        drop(self.permit.split(self.room().saturating_sub(used)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;

    const MIB: usize = 1 << 20;

    fn now(budget: &AnswerBudget, least: usize, wanted: usize) -> Option<AnswerBytes> {
        Box::pin(budget.reserve(least, wanted)).now_or_never()
    }

    #[test]
    fn answers_get_smaller_as_the_budget_is_used_up_and_the_last_ones_wait() {
        let budget = AnswerBudget::new(64 * MIB);
        let mut held = vec![now(&budget, MIB, 50 * MIB).unwrap()];
        assert_eq!(held[0].room(), 4 * MIB, "a sixteenth");
        while let Some(more) = now(&budget, MIB, 50 * MIB) {
            assert!((MIB..=held.last().unwrap().room()).contains(&more.room()));
            held.push(more);
        }
        assert!(budget.total - budget.in_use() < MIB);
        held.pop();
        let mut first = Box::pin(budget.reserve(10 * MIB, 10 * MIB));
        assert!((&mut first).now_or_never().is_none());
        assert!(now(&budget, 10, 10).is_none(), "first come, first served");
        held.clear();
        assert_eq!(first.now_or_never().unwrap().room(), 10 * MIB);
        assert_eq!(budget.in_use(), 0, "a waiter that goes away takes nothing");
    }

    #[test]
    fn an_answer_keeps_what_it_uses() {
        let budget = AnswerBudget::new(4 * MIB);
        let mut small = now(&budget, MIB, 2 * MIB).unwrap();
        assert!(small.is_enough_for(MIB) && !small.is_enough_for(MIB + 1));
        small.settle(100);
        assert_eq!((small.room(), budget.in_use()), (100, 100));
        drop(small);
        let mut all = now(&budget, 100 * MIB, 1).unwrap();
        assert!(all.is_enough_for(100 * MIB), "it could never have more");
        all.settle(100 * MIB);
        assert_eq!((all.room(), budget.in_use()), (4 * MIB, 4 * MIB));
    }
}
