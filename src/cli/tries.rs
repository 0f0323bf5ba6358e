//! Trying again: for how long, and what the person who waits is told meanwhile.

use super::output::say;
use anyhow::Result;
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// Between two tries.
const PAUSE: Duration = Duration::from_millis(100);
/// What is over sooner, such as an election, is not worth a word.
const QUIET: Duration = Duration::from_millis(500);
/// Reasons that change are not told faster than this.
const TELL_INTERVAL: Duration = Duration::from_secs(1);

/// An error that another try does not change.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Hopeless(pub String);

/// Tries of one thing that fails.
pub struct Tries {
    patience: Duration,
    began: Instant,
    told: Option<(String, Instant)>,
}

impl Tries {
    /// From now on, for so long.
    pub fn new(patience: Duration) -> Self {
        Self { patience, began: Instant::now(), told: None }
    }

    /// After a try that failed: waits a moment for the next one, or gives the error back where there is none.
    pub async fn failed(&mut self, error: anyhow::Error) -> Result<()> {
        if error.is::<Hopeless>() {
            return Err(error);
        }
        let left = self.patience.saturating_sub(self.began.elapsed());
        if left.is_zero() {
            return Err(error.context(format!("gave up after {} s", self.patience.as_secs())));
        }
        if self.began.elapsed() >= QUIET {
            self.tell(format!("{error:#}"), left);
        }
        sleep(PAUSE).await;
        Ok(())
    }

    fn tell(&mut self, why: String, left: Duration) {
        if self.told.as_ref().is_some_and(|(told, at)| *told == why || at.elapsed() < TELL_INTERVAL) {
            return;
        }
        say(format_args!("{why}; trying again for {} s", left.as_secs().max(1)));
        self.told = Some((why, Instant::now()));
    }
}
