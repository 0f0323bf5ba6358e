//! When a connection is idle: nothing is due on it, and for a time nothing was.
//!
//! An answer is due from the moment its request has been read until its last byte is written (or it turns out to have none):
//! whoever waits for a long poll or a rebalance is not idle, however long that takes, and the time begins anew when it is over.

use parking_lot::Mutex;
use std::time::Duration;
use tokio::time::Instant;

/// What one connection is busy with. The reader and the writer share it; the lock is held for a glance.
#[derive(Debug)]
pub struct Activity {
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    due: usize,
    last: Instant,
}

/// An answer that is due, until it is dropped.
#[derive(Debug)]
pub struct Due<'a>(&'a Activity);

impl Activity {
    /// A connection that has just begun.
    pub fn new() -> Self {
        Self { state: Mutex::new(State { due: 0, last: Instant::now() }) }
    }

    /// A request was read.
    pub fn due(&self) -> Due<'_> {
        self.state.lock().due += 1;
        Due(self)
    }

    /// When the connection will have been idle for so long, if nothing happens until then; `None` while an answer is due.
    pub fn idle_at(&self, idle_max: Duration) -> Option<Instant> {
        let state = self.state.lock();
        (state.due == 0).then(|| state.last + idle_max)
    }
}

impl Drop for Due<'_> {
    fn drop(&mut self) {
        let mut state = self.0.state.lock();
        state.due -= 1;
        state.last = Instant::now();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_is_idle_from_its_last_answer_on() {
        let (activity, max) = (Activity::new(), Duration::from_secs(10));
        let first = activity.idle_at(max).expect("nothing is due");
        let (one, two) = (activity.due(), activity.due());
        drop(one);
        assert_eq!(activity.idle_at(max), None, "one is still due");
        std::thread::sleep(Duration::from_millis(2));
        let answered = Instant::now();
        drop(two);
        let last = activity.idle_at(max).expect("nothing is due");
        assert!(last >= answered + max && last > first);
    }
}
