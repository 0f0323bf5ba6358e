//! The bytes of all requests that a node works on: a budget of two halves.
//!
//! One half is for frames of up to [`FRAME_STEP_BYTES`], the other for larger ones. Almost everything that keeps a cluster alive is
//! small (heartbeats, fetches, commits, most produces), and nothing that sends large frames, however slowly, can take it any room.
//! Each half is first come, first served. A frame larger than its half counts as all of it.
//!
//! What is taken is held as long as the bytes are there: by the reader while the frame arrives, then by the handler that works on
//! it. Nobody waits for a part while holding another.

use std::sync::Arc;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// A frame of more than this is a large one. Of a large one, so much must have arrived before the rest of it is counted.
pub(super) const FRAME_STEP_BYTES: usize = 1 << 20;

/// Bytes that requests may occupy, all connections together. Cloning shares it.
#[derive(Clone, Debug)]
pub struct RequestBudget {
    small: Half,
    large: Half,
}

#[derive(Clone, Debug)]
struct Half {
    free: Arc<Semaphore>,
    total: usize,
}

/// Bytes taken; given back when dropped.
#[derive(Debug)]
pub struct RequestBytes {
    permit: OwnedSemaphorePermit,
}

impl RequestBudget {
    /// A budget of so many bytes.
    pub fn new(total: usize) -> Self {
        let total = total.clamp(2, Semaphore::MAX_PERMITS);
        Self { small: Half::new(total / 2), large: Half::new(total - total / 2) }
    }

    /// Wait until so many bytes are free in the half of frames of that size, and take them. First come, first served.
    pub async fn take(&self, bytes: usize) -> RequestBytes {
        let half = if bytes <= FRAME_STEP_BYTES { &self.small } else { &self.large };
        let count = u32::try_from(bytes.min(half.total)).unwrap_or(u32::MAX);
        let permit = Arc::clone(&half.free).acquire_many_owned(count).await.expect("the semaphore is never closed");
        RequestBytes { permit }
    }

    /// Bytes in use now.
    pub fn in_use(&self) -> usize {
        [&self.small, &self.large].map(|half| half.total - half.free.available_permits()).iter().sum()
    }
}

impl Half {
    fn new(total: usize) -> Self {
        Self { free: Arc::new(Semaphore::new(total)), total }
    }
}

impl RequestBytes {
    /// Gives back all but so many bytes.
    pub fn keep(&mut self, bytes: usize) {
        drop(self.permit.split(self.permit.num_permits().saturating_sub(bytes)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;

    const MIB: usize = 1 << 20;

    fn now(budget: &RequestBudget, bytes: usize) -> Option<RequestBytes> {
        Box::pin(budget.take(bytes)).now_or_never()
    }

    #[test]
    fn large_frames_and_those_that_wait_for_room_take_small_ones_none() {
        let budget = RequestBudget::new(8 * MIB);
        let larger_than_its_half = now(&budget, 100 * MIB).unwrap();
        assert_eq!(budget.in_use(), 4 * MIB);
        let mut waits = Box::pin(budget.take(MIB + 1));
        assert!((&mut waits).now_or_never().is_none());
        let small: Vec<_> = (0..4).map(|_| now(&budget, MIB).unwrap()).collect();
        assert!(now(&budget, 1).is_none(), "this half is spent as well");
        drop(larger_than_its_half);
        assert!(waits.now_or_never().is_some() && now(&budget, 1).is_none());
        drop(small);
        assert_eq!(budget.in_use(), 0);
    }

    #[test]
    fn what_is_not_kept_is_free_at_once() {
        let budget = RequestBudget::new(2 * MIB);
        let mut held = now(&budget, MIB).unwrap();
        held.keep(2 * MIB);
        assert_eq!(budget.in_use(), MIB, "no more than it has");
        held.keep(100);
        assert_eq!(budget.in_use(), 100);
        held.keep(0);
        assert_eq!(budget.in_use(), 0);
    }
}
