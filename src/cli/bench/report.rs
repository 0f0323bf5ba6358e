//! What is told at the end: a table for people, a line of JSON for programs, and whether all is well.

use super::super::output::Results;
use super::arguments::LoadArguments;
use super::check::Tally;
use super::monitor::Cost;
use super::processes::{BrokersUsage, per_gb};
use super::producer::Produced;
use super::recorder::{LatencySummary, Recorder, Second, round};
use anyhow::{Result, bail};
use comfy_table::Table;
use serde::Serialize;
use std::collections::BTreeMap;
use std::io::Write;

/// How much in how long. MB and GB are 10^6 and 10^9 bytes.
#[derive(Serialize)]
pub struct Throughput {
    /// From the end of the warm-up to the last record, in seconds.
    pub elapsed_s: f64,
    pub records: u64,
    /// Keys and values; of `consume` whole batches, unless it knows better.
    pub bytes: u64,
    pub records_per_s: f64,
    pub mb_per_s: f64,
    /// Second by second.
    pub seconds: Vec<Second>,
}

impl Throughput {
    /// As far as it was taken down.
    pub fn of(recorder: &Recorder) -> Self {
        let elapsed = recorder.elapsed();
        let rate = |amount: f64| if elapsed > 0.0 { round(amount / elapsed) } else { 0.0 };
        Self {
            elapsed_s: round(elapsed),
            records: recorder.records,
            bytes: recorder.bytes,
            records_per_s: rate(recorder.records as f64),
            mb_per_s: rate(recorder.bytes as f64 / 1e6),
            seconds: recorder.seconds.clone(),
        }
    }
}

/// The writing side.
#[derive(Serialize)]
pub struct ProducedReport {
    #[serde(flatten)]
    pub throughput: Throughput,
    /// Records, those of the warm-up included.
    pub acknowledged: u64,
    /// Were made, and nobody knows whether they are there.
    pub unacknowledged: u64,
    /// Were due, and never made.
    pub unsent: u64,
    pub retried_batches: u64,
    /// What went wrong, how often.
    pub errors: BTreeMap<String, u64>,
    /// From when a record was due to its acknowledgement.
    pub ack_ms: LatencySummary,
    /// Open loop: from when a record was due until it was made; part of the above.
    pub late_ms: Option<LatencySummary>,
}

impl ProducedReport {
    /// Of producers and what was taken down of them.
    pub fn of(produced: &Produced, recorder: &Recorder) -> Self {
        Self {
            throughput: Throughput::of(recorder),
            acknowledged: produced.acknowledged,
            unacknowledged: produced.unacknowledged,
            unsent: produced.unsent,
            retried_batches: produced.retried_batches,
            errors: produced.errors.clone(),
            ack_ms: recorder.latencies().summary(),
            late_ms: produced.lateness.as_ref().map(|late| late.summary()),
        }
    }
}

/// The reading side.
#[derive(Serialize)]
pub struct ConsumedReport {
    #[serde(flatten)]
    pub throughput: Throughput,
    /// Readers of everything.
    pub consumers: u64,
    /// Records that were read in all, warm-up and those of others included.
    pub read: u64,
    pub batches: u64,
    pub batch_bytes: u64,
    /// Records of this run that all readers together should have read.
    pub expected: Option<u64>,
    pub missing: u64,
    /// Offsets that were left out.
    pub gaps: u64,
    /// Batches with a wrong checksum or unreadable records.
    pub damaged: u64,
    /// Records that came again, or out of order.
    pub repeated: u64,
    pub errors: BTreeMap<String, u64>,
    /// From when a record was due to its receipt.
    pub end_to_end_ms: Option<LatencySummary>,
}

impl ConsumedReport {
    /// Of readers and what was taken down of them.
    pub fn of(
        tally: &Tally,
        errors: BTreeMap<String, u64>,
        consumers: u64,
        expected: Option<u64>,
        recorder: &Recorder,
    ) -> Self {
        Self {
            throughput: Throughput::of(recorder),
            consumers,
            read: tally.records,
            batches: tally.batches,
            batch_bytes: tally.batch_bytes,
            expected,
            missing: expected.map_or(0, |expected| expected.saturating_sub(tally.own - tally.repeated)),
            gaps: tally.gaps,
            damaged: tally.damaged,
            repeated: tally.repeated,
            errors,
            end_to_end_ms: (!recorder.latencies().is_empty()).then(|| recorder.latencies().summary()),
        }
    }
}

/// What this tool itself used since the end of the warm-up.
#[derive(Serialize)]
pub struct ClientReport {
    pub cpu_s: f64,
    /// For 10^9 bytes, written and read.
    pub cpu_s_per_gb: f64,
    pub anonymous_mb: f64,
}

/// What the records were like.
#[derive(Serialize)]
pub struct LoadReport {
    pub record_bytes: u64,
    pub key_bytes: u64,
    pub codec: &'static str,
    pub compressibility: f64,
    pub batch_bytes: u64,
    pub linger_ms: f64,
    pub acks: i16,
    pub idempotent: bool,
    /// None in a closed loop.
    pub rate: Option<f64>,
    pub in_flight_records: u64,
    pub requests_in_flight: u16,
    pub producers: u16,
}

impl LoadReport {
    /// As asked for.
    pub fn of(load: &LoadArguments) -> Result<Self> {
        Ok(Self {
            record_bytes: load.record_bytes,
            key_bytes: load.key_bytes,
            codec: load.codec.name(),
            compressibility: load.compressibility,
            batch_bytes: load.batch_bytes,
            linger_ms: round(load.linger.as_secs_f64() * 1000.0),
            acks: load.acks,
            idempotent: load.is_idempotent()?,
            rate: load.rate,
            in_flight_records: load.in_flight_records() * u64::from(load.producers),
            requests_in_flight: load.requests_in_flight,
            producers: load.producers,
        })
    }
}

/// Everything.
#[derive(Serialize)]
pub struct Report {
    pub command: &'static str,
    pub topic: String,
    pub partitions: usize,
    /// To each broker.
    pub connections: u16,
    /// Milliseconds since 1970.
    pub began: i64,
    pub load: Option<LoadReport>,
    pub produced: Option<ProducedReport>,
    pub consumed: Option<ConsumedReport>,
    pub client: ClientReport,
    pub brokers: Option<BrokersUsage>,
    /// Somebody ended it before its time.
    pub interrupted: bool,
    /// Why it ended before its time.
    pub failure: Option<String>,
}

impl ClientReport {
    /// For so many bytes.
    pub fn of(cost: &Cost, bytes: u64) -> Self {
        Self {
            cpu_s: round(cost.client_cpu_s),
            cpu_s_per_gb: per_gb(cost.client_cpu_s, bytes),
            anonymous_mb: round(cost.client.anonymous_bytes as f64 / 1e6),
        }
    }
}

impl Report {
    /// To standard output.
    pub fn print(&self, json: bool) -> Result<()> {
        let mut out = Results::new();
        if json {
            writeln!(out, "{}", serde_json::to_string(self)?)?;
        } else {
            writeln!(out, "{}", self.table())?;
        }
        Ok(())
    }

    /// Whether everything is there that should be.
    pub fn verdict(&self) -> Result<()> {
        if let Some(failure) = &self.failure {
            bail!("{failure}");
        }
        let mut wrong = Vec::new();
        if let Some(consumed) = &self.consumed {
            let of = [
                (consumed.missing, "records are missing"),
                (consumed.gaps, "offsets are missing"),
                (consumed.damaged, "batches are damaged"),
                (consumed.repeated, "records came again or out of order"),
            ];
            wrong.extend(of.iter().filter(|(count, _)| *count > 0).map(|(count, what)| format!("{count} {what}")));
        }
        // Who interrupts a run does not wait for what is under way.
        let unacknowledged = self.produced.as_ref().map_or(0, |p| p.unacknowledged);
        if unacknowledged > 0 && !self.interrupted {
            wrong.push(format!("{unacknowledged} records were not acknowledged"));
        }
        if wrong.is_empty() { Ok(()) } else { bail!("{}", wrong.join(", ")) }
    }

    fn table(&self) -> Table {
        let mut table = Table::new();
        table.load_style(comfy_table::presets::NOTHING);
        let mut row = |name: &str, value: String| {
            table.add_row([name.to_owned(), value]);
        };
        row("topic", format!("{}, {} partitions", self.topic, self.partitions));
        if let Some(produced) = &self.produced {
            throughput(&mut row, "written", &produced.throughput);
            latencies(&mut row, "acknowledged after", &produced.ack_ms);
            if let Some(late) = &produced.late_ms {
                latencies(&mut row, "of that made late by", late);
            }
            if produced.retried_batches > 0 {
                row("sent again", format!("{} batches", produced.retried_batches));
            }
            if produced.unacknowledged > 0 || produced.unsent > 0 {
                let (unacknowledged, unsent) = (produced.unacknowledged, produced.unsent);
                row("not there", format!("{unacknowledged} records not acknowledged, {unsent} due and never sent"));
            }
            errors(&mut row, &produced.errors);
        }
        if let Some(consumed) = &self.consumed {
            throughput(&mut row, "read", &consumed.throughput);
            if let Some(end_to_end) = &consumed.end_to_end_ms {
                latencies(&mut row, "received after", end_to_end);
            }
            let expected = consumed.expected.map_or(String::new(), |expected| {
                format!("{expected} records expected of {} readers, {} missing; ", consumed.consumers, consumed.missing)
            });
            row(
                "found",
                format!(
                    "{expected}{} records in {} batches; {} offsets missing, {} batches damaged, {} records repeated",
                    consumed.read, consumed.batches, consumed.gaps, consumed.damaged, consumed.repeated
                ),
            );
            errors(&mut row, &consumed.errors);
        }
        let client = &self.client;
        row("this tool", format!("{} s CPU, {} s/GB, {} MB", client.cpu_s, client.cpu_s_per_gb, client.anonymous_mb));
        if let Some(brokers) = &self.brokers {
            let written = brokers.written_per_user_byte.map_or("-".to_owned(), |written| written.to_string());
            row(
                "brokers",
                format!(
                    "{} s CPU, {} s/GB, {written} bytes written per byte, {} MB at most",
                    brokers.cpu_s, brokers.cpu_s_per_gb, brokers.anonymous_mb_max
                ),
            );
        }
        if self.interrupted {
            row("interrupted", "yes".to_owned());
        }
        table
    }
}

fn throughput(row: &mut impl FnMut(&str, String), name: &str, throughput: &Throughput) {
    let Throughput { elapsed_s, records, records_per_s, mb_per_s, .. } = throughput;
    row(name, format!("{records} records in {elapsed_s:.1} s: {records_per_s:.0} records/s, {mb_per_s:.1} MB/s"));
}

fn latencies(row: &mut impl FnMut(&str, String), name: &str, found: &LatencySummary) {
    let LatencySummary { p50, p99, p99_9, max, .. } = found;
    row(name, format!("p50 {p50:.2} ms, p99 {p99:.2} ms, p99.9 {p99_9:.2} ms, max {max:.2} ms"));
}

fn errors(row: &mut impl FnMut(&str, String), errors: &BTreeMap<String, u64>) {
    for (error, count) in errors {
        row("went wrong", format!("{count} × {error}"));
    }
}
