//! Watches a run: once a second what came in that second goes into the series, brokers are looked at, and the progress bar moves.

use super::pace::{Clock, Nanos};
use super::processes::{self, Brokers, BrokersUsage, Usage};
use super::recorder::Recorder;
use crate::cli::output;
use anyhow::Result;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use parking_lot::Mutex;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{MissedTickBehavior, interval_at, sleep_until};
use tokio_util::sync::CancellationToken;

/// The bar moves so often; a whole number of times a second.
const STEP: Duration = Duration::from_millis(250);
const STEPS_PER_SECOND: u64 = 4;
/// Of the bar.
const WIDTH: u64 = 1000;

/// How far a run is.
#[derive(Clone, Copy, Debug)]
pub enum Goal {
    /// So many records.
    Records(u64),
    /// So long.
    Time(Duration),
    /// Nobody knows.
    Open,
}

/// What is watched.
pub struct Monitor {
    /// The run's.
    pub clock: Clock,
    /// The end of the warm-up.
    pub measured_from: Nanos,
    /// What is shown.
    pub shown: Arc<Mutex<Recorder>>,
    /// What else is taken down.
    pub other: Option<Arc<Mutex<Recorder>>>,
    /// Where it goes.
    pub goal: Goal,
    /// The brokers' processes.
    pub broker_pids: Vec<u32>,
    /// Whether to be silent.
    pub quiet: bool,
}

/// What a run cost.
#[derive(Default)]
pub struct Cost {
    /// This process, since the end of the warm-up.
    pub client_cpu_s: f64,
    /// This process now.
    pub client: Usage,
    /// The brokers.
    pub brokers: Option<BrokersUsage>,
}

impl Monitor {
    /// Until the run is `done`.
    pub async fn run(self, done: CancellationToken) -> Result<Cost> {
        let bar = self.bar()?;
        let began = self.clock.instant(self.measured_from);
        tokio::select! {
            () = sleep_until(began) => {}
            () = done.cancelled() => {}
        }
        // It never got beyond the warm-up. A short run may be over before this task has its first turn.
        if self.clock.now() < self.measured_from {
            return Ok(Cost::default());
        }
        let (before, mut brokers) = (processes::own()?, Brokers::begin(&self.broker_pids)?);
        let mut ticks = interval_at(began + STEP, STEP);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        let mut seconds = 0;
        loop {
            tokio::select! {
                _ = ticks.tick() => {}
                () = done.cancelled() => break,
            }
            let steps = self.clock.now().saturating_sub(self.measured_from) / (1_000_000_000 / STEPS_PER_SECOND);
            if steps / STEPS_PER_SECOND > seconds {
                seconds = steps / STEPS_PER_SECOND;
                self.roll();
                if let Some(brokers) = &mut brokers {
                    brokers.look();
                }
            }
            self.show(&bar);
        }
        self.roll();
        bar.finish_and_clear();
        let client = processes::own()?;
        let bytes = self.shown.lock().bytes;
        // A broker that has died since cannot be asked.
        let brokers = brokers
            .as_mut()
            .and_then(|brokers| brokers.end(bytes).map_err(|error| output::say(format_args!("{error:#}"))).ok());
        Ok(Cost { client_cpu_s: client.cpu_s - before.cpu_s, client, brokers })
    }

    fn roll(&self) {
        let now = self.clock.now();
        self.shown.lock().roll(now);
        if let Some(other) = &self.other {
            other.lock().roll(now);
        }
    }

    /// On standard error, if that is a terminal.
    fn bar(&self) -> Result<ProgressBar> {
        let target = if self.quiet { ProgressDrawTarget::hidden() } else { ProgressDrawTarget::stderr() };
        let (length, template) = match self.goal {
            Goal::Open => (None, "{spinner} {elapsed} {msg}"),
            _ => (Some(WIDTH), "{wide_bar} {percent:>3} % {msg}"),
        };
        let bar = ProgressBar::with_draw_target(length, target).with_style(ProgressStyle::with_template(template)?);
        bar.set_message("warming up");
        Ok(bar)
    }

    fn show(&self, bar: &ProgressBar) {
        if bar.is_hidden() {
            return;
        }
        let elapsed = self.clock.now().saturating_sub(self.measured_from);
        let recorder = self.shown.lock();
        let position = match self.goal {
            Goal::Records(records) => recorder.records as f64 / records.max(1) as f64,
            Goal::Time(time) => elapsed as f64 / 1e9 / time.as_secs_f64().max(1e-3),
            Goal::Open => 0.0,
        };
        let seconds = (elapsed as f64 / 1e9).max(1e-3);
        let (records, bytes) = (recorder.records as f64 / seconds, recorder.bytes as f64 / 1e6 / seconds);
        let latest = recorder.seconds.last().filter(|second| second.max_ms > 0.0);
        let latest = latest.map_or(String::new(), |s| format!(", p50 {:.1} ms, p99 {:.1} ms", s.p50_ms, s.p99_ms));
        drop(recorder);
        bar.set_position((position.min(1.0) * WIDTH as f64) as u64);
        bar.set_message(format!("{records:.0} records/s, {bytes:.1} MB/s{latest}"));
        bar.tick();
    }
}
