//! The node's clock.

use crate::replica::Clock;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::time::Instant;

/// Time since the process began, and the wall clock for timestamps.
#[derive(Debug, Clone, Copy)]
pub struct NodeClock {
    began: Instant,
}

impl NodeClock {
    /// From now on.
    pub fn start() -> Self {
        Self { began: Instant::now() }
    }

    /// A moment in this clock's terms; zero for one before it began.
    pub fn at(&self, moment: Instant) -> Duration {
        moment.saturating_duration_since(self.began)
    }
}

impl Clock for NodeClock {
    fn now(&self) -> Duration {
        self.began.elapsed()
    }

    fn wall_ms(&self) -> i64 {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
    }
}
