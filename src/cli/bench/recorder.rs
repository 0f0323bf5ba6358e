//! What was measured: latencies as histograms, and how much of what in each second.
//!
//! Only records that were due after the warm-up count, and they count where and when they were acknowledged or received.

use super::pace::Nanos;
use super::payload::Run;
use hdrhistogram::Histogram;
use serde::Serialize;

/// Microseconds; what takes longer than an hour counts as an hour.
const LATENCY_US_MAX: u64 = 3_600_000_000;
/// Within a thousandth of the value.
const DIGITS: u8 = 3;
/// Points of a latency curve for each halving of what lies above.
const CURVE_STEPS: u32 = 4;

/// Latencies.
pub struct Latencies(Histogram<u64>);

impl Latencies {
    /// None yet.
    pub fn new() -> Self {
        let bounds = Histogram::new_with_bounds(1, LATENCY_US_MAX, DIGITS);
        Self(bounds.expect("the bounds are constant and right"))
    }

    /// Add one for each of `count` records.
    pub fn add(&mut self, latency: Nanos, count: u64) {
        let micros = (latency / 1000).clamp(1, LATENCY_US_MAX);
        self.0.saturating_record_n(micros, count);
    }

    /// Add all of another one.
    pub fn merge(&mut self, other: &Latencies) {
        self.0.add(&other.0).expect("all histograms have the same bounds");
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn at(&self, quantile: f64) -> f64 {
        milliseconds(self.0.value_at_quantile(quantile))
    }

    /// As numbers.
    pub fn summary(&self) -> LatencySummary {
        let point = |q: f64, value: u64| [q * 100.0, milliseconds(value)];
        LatencySummary {
            count: self.0.len(),
            mean: round(self.0.mean() / 1000.0),
            p50: self.at(0.5),
            p90: self.at(0.9),
            p99: self.at(0.99),
            p99_9: self.at(0.999),
            max: milliseconds(self.0.max()),
            curve: self.0.iter_quantiles(CURVE_STEPS).map(|v| point(v.quantile(), v.value_iterated_to())).collect(),
        }
    }
}

/// Latencies in milliseconds.
#[derive(Clone, Debug, Serialize)]
pub struct LatencySummary {
    /// Of how many records.
    pub count: u64,
    /// The mean.
    pub mean: f64,
    /// Half of them were not above this, and so on.
    pub p50: f64,
    pub p90: f64,
    pub p99: f64,
    #[serde(rename = "p99.9")]
    pub p99_9: f64,
    /// The worst.
    pub max: f64,
    /// Per cent of the records, and what their latency was not above; denser towards the worst.
    pub curve: Vec<[f64; 2]>,
}

/// One second of a run.
#[derive(Clone, Debug, Serialize)]
pub struct Second {
    /// When it ended, in seconds after the warm-up.
    pub at: f64,
    /// Records that were acknowledged or received.
    pub records: u64,
    /// Their bytes in MB (10^6) a second.
    pub mb_per_s: f64,
    /// Latencies of those records, in milliseconds; 0 where none was measured.
    pub p50_ms: f64,
    pub p99_ms: f64,
    pub max_ms: f64,
}

/// Takes down what happens, from several tasks.
pub struct Recorder {
    /// What was due earlier is warm-up.
    measured_from: Nanos,
    total: Latencies,
    current: Latencies,
    current_records: u64,
    current_bytes: u64,
    current_began: Nanos,
    /// All that was measured.
    pub records: u64,
    /// Bytes of that.
    pub bytes: u64,
    /// When the last of it came.
    pub last: Nanos,
    /// Second by second.
    pub seconds: Vec<Second>,
}

impl Recorder {
    /// Nothing counts yet.
    pub fn new() -> Self {
        Self {
            measured_from: Nanos::MAX,
            total: Latencies::new(),
            current: Latencies::new(),
            current_records: 0,
            current_bytes: 0,
            current_began: Nanos::MAX,
            records: 0,
            bytes: 0,
            last: 0,
            seconds: Vec::new(),
        }
    }

    /// Everything that is due at `measured_from` or later counts.
    pub fn begin(&mut self, measured_from: Nanos) {
        (self.measured_from, self.current_began, self.last) = (measured_from, measured_from, measured_from);
    }

    /// Records that were due at these times are there at `now`; each has so many bytes.
    pub fn arrived(&mut self, runs: &[Run], record_bytes: u64, now: Nanos) {
        let measured_from = self.measured_from;
        for run in runs.iter().filter(|run| run.due >= measured_from) {
            let (latency, count) = (now.saturating_sub(run.due), u64::from(run.count));
            self.current.add(latency, count);
            self.count(count, count * record_bytes, now);
        }
    }

    /// Records without a time of their own are there at `now`.
    pub fn count(&mut self, records: u64, bytes: u64, now: Nanos) {
        if now < self.measured_from {
            return;
        }
        self.records += records;
        self.bytes += bytes;
        self.current_records += records;
        self.current_bytes += bytes;
        self.last = self.last.max(now);
    }

    /// Records that are not there at the end have been waiting at least so long.
    pub fn overdue(&mut self, runs: &[Run], now: Nanos) {
        let measured_from = self.measured_from;
        for run in runs.iter().filter(|run| run.due >= measured_from) {
            self.current.add(now.saturating_sub(run.due), u64::from(run.count));
        }
    }

    /// A second is over, or the run is.
    pub fn roll(&mut self, now: Nanos) {
        if now <= self.current_began {
            return;
        }
        let seconds = (now - self.current_began) as f64 / 1e9;
        let quantile = |q| if self.current.is_empty() { 0.0 } else { self.current.at(q) };
        self.seconds.push(Second {
            at: round((now - self.measured_from) as f64 / 1e9),
            records: self.current_records,
            mb_per_s: round(self.current_bytes as f64 / 1e6 / seconds),
            p50_ms: quantile(0.5),
            p99_ms: quantile(0.99),
            max_ms: quantile(1.0),
        });
        self.total.merge(&self.current);
        self.current.0.reset();
        (self.current_records, self.current_bytes, self.current_began) = (0, 0, now);
    }

    /// From the end of the warm-up to the last record, in seconds.
    pub fn elapsed(&self) -> f64 {
        self.last.saturating_sub(self.measured_from) as f64 / 1e9
    }

    /// All latencies up to the last [`roll`](Self::roll).
    pub fn latencies(&self) -> &Latencies {
        &self.total
    }
}

fn milliseconds(micros: u64) -> f64 {
    micros as f64 / 1000.0
}

/// To three decimals.
pub fn round(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Nanos = 1_000_000;

    #[test]
    fn quantiles_are_within_a_thousandth() {
        let mut latencies = Latencies::new();
        (1..=10_000).for_each(|n| latencies.add(n * MS / 10, 1));
        let summary = latencies.summary();
        let near = |found: f64, expected: f64| (found - expected).abs() <= expected / 1000.0;
        assert!(near(summary.p50, 500.0) && near(summary.p99, 990.0) && near(summary.p99_9, 999.0), "{summary:?}");
        assert!(near(summary.max, 1000.0) && near(summary.mean, 500.0) && summary.count == 10_000);
        assert!(summary.curve.is_sorted_by(|a, b| a[0] <= b[0] && a[1] <= b[1]));
        assert_eq!(summary.curve.last().unwrap()[0], 100.0);
    }

    #[test]
    fn nothing_is_too_long_or_too_short_to_be_counted() {
        let mut latencies = Latencies::new();
        latencies.add(0, 1);
        latencies.add(Nanos::MAX, 2);
        assert_eq!(latencies.summary().count, 3);
    }

    #[test]
    fn warm_up_does_not_count_and_a_stall_counts_for_all_that_were_due() {
        let mut recorder = Recorder::new();
        recorder.begin(1000 * MS);
        recorder.arrived(&[Run { due: 999 * MS, count: 10 }, Run { due: 1000 * MS, count: 1 }], 100, 1001 * MS);
        assert_eq!((recorder.records, recorder.bytes), (1, 100));
        // A second without an answer at a thousand records a second: half of them are over half a second late.
        let stalled: Vec<Run> = (0..1000).map(|n| Run { due: (1001 + n) * MS, count: 1 }).collect();
        recorder.arrived(&stalled, 100, 2001 * MS);
        recorder.roll(2002 * MS);
        let summary = recorder.latencies().summary();
        assert_eq!(summary.count, 1001);
        assert!((499.0..=502.0).contains(&summary.p50) && summary.max >= 999.0, "{summary:?}");
        assert!((recorder.elapsed() - 1.001).abs() < 1e-9);
        let second = &recorder.seconds[0];
        assert_eq!((recorder.seconds.len(), second.records), (1, 1001));
    }
}
