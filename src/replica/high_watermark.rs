//! The end of what is committed, as one replica knows it.
//!
//! The true high watermark is nowhere written down. A leader computes its own from the **synced** offsets of the maximal
//! ISR; a follower takes the leader's, bounded by its own log end. Within one role and leader epoch it never goes back;
//! it does when a follower truncates, or learns less from a new leader that has to find the true one again (KIP-207:
//! until then that leader answers OFFSET_NOT_AVAILABLE).

/// The first offset that is not known to be committed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct HighWatermark(i64);

impl HighWatermark {
    /// What was known before, brought inside the log.
    pub fn within(known: i64, log_start: i64, log_end: i64) -> Self {
        Self(known.clamp(log_start, log_end.max(log_start)))
    }

    /// The first offset that is not known to be committed.
    pub fn offset(self) -> i64 {
        self.0
    }

    /// Moves forward to `candidate`; anything at or below the present value changes nothing.
    pub fn advance(&mut self, candidate: i64) -> bool {
        let moved = candidate > self.0;
        if moved {
            self.0 = candidate;
        }
        moved
    }

    /// A follower's rule: what the leader says, but not beyond the own log end.
    pub fn follow(&mut self, leader: i64, log_start: i64, log_end: i64) -> bool {
        let before = self.0;
        *self = Self::within(leader, log_start, log_end);
        self.0 != before
    }

    /// The log ends at `log_end` now.
    pub fn truncate_to(&mut self, log_end: i64) {
        self.0 = self.0.min(log_end);
    }
}

/// The highest offset that every counted replica has synced, or `None` when one of them has not yet proved anything in
/// this leader epoch.
pub fn synced_by_all(own_synced: i64, counted: impl IntoIterator<Item = Option<i64>>) -> Option<i64> {
    counted.into_iter().try_fold(own_synced, |lowest, synced| synced.map(|synced| lowest.min(synced)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_silent_member_holds_the_high_watermark() {
        assert_eq!(synced_by_all(10, [Some(7), Some(12)]), Some(7));
        assert_eq!(synced_by_all(5, [Some(7)]), Some(5), "the leader's own disk counts as well");
        assert_eq!(synced_by_all(10, [Some(7), None]), None);
        assert_eq!(synced_by_all(10, []), Some(10));
    }

    #[test]
    fn a_leader_never_goes_back_and_a_follower_stays_inside_its_log() {
        let mut leader = HighWatermark::within(5, 0, 9);
        assert!(leader.advance(8));
        assert!(!leader.advance(3));
        assert_eq!(leader.offset(), 8);

        let mut follower = HighWatermark::default();
        assert!(follower.follow(8, 0, 6));
        assert_eq!(follower.offset(), 6);
        follower.truncate_to(4);
        assert_eq!(follower.offset(), 4);
        assert!(follower.follow(2, 3, 4), "below the log start nothing is left to be uncommitted");
        assert_eq!(follower.offset(), 3);
    }
}
