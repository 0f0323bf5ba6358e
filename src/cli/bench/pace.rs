//! When records are due: the clock of a run, and the schedule of an open loop.
//!
//! In an open loop record `n` is due at a time that follows from `n` alone. Whatever makes a record late, a broker that stalls
//! or a generator that is busy, is part of its latency, and a backlog costs no memory: it is a number.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tokio::sync::Notify;

/// Nanoseconds since a run began.
pub type Nanos = u64;

/// Nanoseconds of a duration; five centuries fit.
pub fn nanos(duration: Duration) -> Nanos {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// The one clock of a run: it never jumps, and says what its times are in the calendar as of the start.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    began: Instant,
    began_unix: Nanos,
}

impl Clock {
    /// Begins now.
    pub fn start() -> Self {
        let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self { began: Instant::now(), began_unix: nanos(unix) }
    }

    /// Since the start.
    pub fn now(&self) -> Nanos {
        nanos(self.began.elapsed())
    }

    /// For timers.
    pub fn instant(&self, at: Nanos) -> tokio::time::Instant {
        (self.began + Duration::from_nanos(at)).into()
    }

    /// Milliseconds since 1970.
    pub fn unix_ms(&self, at: Nanos) -> i64 {
        i64::try_from((self.began_unix + at) / 1_000_000).unwrap_or(i64::MAX)
    }
}

/// Records at even distances: `n` is due at `start + n / rate`.
#[derive(Clone, Copy, Debug)]
pub struct Schedule {
    start: Nanos,
    /// Records in a thousand seconds: rates below one a second are rates, too.
    per_1000_s: u64,
}

/// A thousand seconds.
const SCALE: u128 = 1_000_000_000_000;

impl Schedule {
    /// `rate` is in records a second, at least 0.001.
    pub fn new(start: Nanos, rate: f64) -> Self {
        Self { start, per_1000_s: ((rate * 1000.0).round() as u64).max(1) }
    }

    /// When record `n` (from 0) is due.
    pub fn due(&self, n: u64) -> Nanos {
        let after = u128::from(n) * SCALE / u128::from(self.per_1000_s);
        self.start.saturating_add(u64::try_from(after).unwrap_or(u64::MAX))
    }

    /// How many records are due at `now`: those `n` with `due(n) <= now`.
    pub fn count(&self, now: Nanos) -> u64 {
        let Some(elapsed) = now.checked_sub(self.start) else { return 0 };
        let count = ((u128::from(elapsed) + 1) * u128::from(self.per_1000_s)).div_ceil(SCALE);
        u64::try_from(count).unwrap_or(u64::MAX)
    }
}

/// Timers of the runtime are a millisecond coarse, which would be part of every latency: a thread of its own wakes the producer
/// when a record is due.
pub struct Pacer {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

/// Above ten thousand records a second, several go with one wake-up.
const STEP_MIN: Nanos = 100_000;
/// So that a stop is noticed.
const SLEEP_MAX: Nanos = 50_000_000;

impl Pacer {
    /// Wakes `due` for every record of the schedule.
    pub fn start(clock: Clock, schedule: Schedule, due: Arc<Notify>) -> std::io::Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let thread = std::thread::Builder::new().name("pacer".into()).spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                let now = clock.now();
                let next = schedule.due(schedule.count(now)).max(now + STEP_MIN);
                std::thread::sleep(Duration::from_nanos((next - now).min(SLEEP_MAX)));
                if clock.now() >= next {
                    due.notify_one();
                }
            }
        })?;
        Ok(Self { stop, thread: Some(thread) })
    }
}

impl Drop for Pacer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // A pacer that panicked has nothing left to say.
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn count_and_due_agree_to_the_nanosecond() {
        for rate in [0.001, 0.5, 1.0, 3.0, 999.999, 1000.0, 7777.7, 250_000.0, 3_000_000.0] {
            let schedule = Schedule::new(5, rate);
            for n in [0, 1, 2, 3, 6, 7, 99, 1000, 123_457] {
                let due = schedule.due(n);
                assert!(schedule.count(due) > n, "{rate}: record {n} is due at {due}");
                if due > 5 {
                    assert!(schedule.count(due - 1) <= n, "{rate}: record {n} is not due before {due}");
                }
            }
        }
    }

    #[test]
    fn a_backlog_keeps_the_times_at_which_its_records_were_due() {
        let schedule = Schedule::new(1_000_000_000, 1000.0);
        assert_eq!((schedule.count(0), schedule.count(999_999_999), schedule.count(1_000_000_000)), (0, 0, 1));
        // A stall of a second: a thousand more records are due at once, a millisecond apart as ever.
        assert_eq!(schedule.count(2_000_000_000), 1001);
        assert_eq!(schedule.due(500), 1_500_000_000);
    }

    #[tokio::test]
    async fn the_pacer_wakes_when_a_record_is_due() {
        let clock = Clock::start();
        let (schedule, due) = (Schedule::new(0, 2000.0), Arc::new(Notify::new()));
        let pacer = Pacer::start(clock, schedule, due.clone()).unwrap();
        for n in 1..=20 {
            while schedule.count(clock.now()) < n {
                due.notified().await;
            }
        }
        drop(pacer);
    }
}
