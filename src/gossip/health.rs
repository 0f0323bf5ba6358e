//! How far this node trusts itself: the local health multiplier of Lifeguard (Dadgar, Phillips, Currey 2018), with the two signs that show here.
//!
//! A score from 0 (well) to [`SCORE_MAX`]. Late timers and being suspected by others raise it; every probe period that begins on time lowers it.
//! All waiting for others is multiplied by 1 + score, so that a slow node gives them the time it takes itself.

use std::time::Duration;

/// Probing slows down to a fifth at most, and a node that is well again is at full speed after 14 base periods.
pub(super) const SCORE_MAX: u8 = 4;

/// See the module.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct LocalHealth {
    score: u8,
}

impl LocalHealth {
    pub fn score(self) -> u8 {
        self.score
    }

    pub fn is_well(self) -> bool {
        self.score == 0
    }

    /// A timer fired later than it may: by how many periods.
    pub fn late(&mut self, lag: Duration, period: Duration) {
        let periods = (lag.as_millis() / period.as_millis().max(1)).min(u128::from(SCORE_MAX));
        self.worsen(1 + periods as u8);
    }

    /// Others suspect us, and we had to refute.
    pub fn suspected(&mut self) {
        self.worsen(1);
    }

    /// A probe period began on time.
    pub fn on_time(&mut self) {
        self.score = self.score.saturating_sub(1);
    }

    /// How long to wait for others, where a healthy node waits `base`.
    pub fn stretch(self, base: Duration) -> Duration {
        base * (1 + u32::from(self.score))
    }

    fn worsen(&mut self, by: u8) {
        self.score = self.score.saturating_add(by).min(SCORE_MAX);
    }
}
