//! Whether clients notice that the controller changes: how long acknowledgements and records take while all is well, and in
//! the seconds after the controller was handed over or a node that is only the controller was killed.
//!
//! Two views: from giving a record to a librdkafka producer to its acknowledgement, and from there to a librdkafka consumer
//! having it (default settings, both). A record counts to the window in which it was sent, however late it comes. Each
//! repetition has a steady window of its own just before, so that what else the machine does meets both.

use crate::bench::{Bench, CLIENT_PATIENCE, Case, errors_since, milliseconds};
use crate::cluster::Cluster;
use crate::facts::Facts;
use crate::figures::{Goal, Unit};
use crate::history::{Clock, History, Time};
use crate::lab::Stop;
use crate::nodes::{Nodes, Role as NodeRole};
use crate::report;
use crate::run::Place;
use crate::workload::{Library, Role};
use anyhow::{Result, bail};
use clap::ValueEnum;
use rustix::process::Signal;
use std::collections::HashMap;
use std::process::ExitCode;
use std::time::Duration;

/// The clients run that long before the first window.
const WARM: Duration = Duration::from_secs(5);
/// From "all is well" to the next window.
const SETTLE: Duration = Duration::from_secs(3);
/// So much more than steady may the 99th of a hundred take.
const ALLOWED: f64 = 1.2;
/// Brokers, where controllers are apart.
const BROKERS: usize = 3;

/// What to measure.
#[derive(Debug, Clone, clap::Args)]
pub struct LatencyArguments {
    /// How often each
    #[arg(long, env = "TIMES", default_value_t = 20)]
    times: usize,
    /// What is done
    #[arg(long, env = "CASES", value_delimiter = ',', value_enum, default_value = "transfer,kill-controller")]
    cases: Vec<Change>,
    /// Seconds of a window
    #[arg(long, env = "WINDOW", default_value_t = 3.0)]
    window: f64,
    /// Records a second
    #[arg(long, env = "RATE", default_value_t = 500.0)]
    rate: f64,
    #[command(flatten)]
    place: Place,
}

/// How the controller changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Change {
    /// `rookery quorum transfer`, of three nodes that are brokers and controllers
    Transfer,
    /// The same, of three controllers beside three brokers
    TransferApart,
    /// kill -9 of the active one of three controllers beside three brokers
    KillController,
}

impl Change {
    fn roles(self) -> Vec<NodeRole> {
        match self {
            Change::Transfer => vec![NodeRole::Both; BROKERS],
            Change::TransferApart | Change::KillController => {
                [[NodeRole::Broker; BROKERS], [NodeRole::Controller; BROKERS]].concat()
            }
        }
    }

    fn name(self) -> &'static str {
        match self {
            Change::Transfer => "controller handed over",
            Change::TransferApart => "controller-only node hands over",
            Change::KillController => "controller-only node killed",
        }
    }
}

/// When the records were sent that count.
struct Window {
    steady: (Time, Time),
    changed: (Time, Time),
}

/// Measure.
pub fn run(arguments: &LatencyArguments, stop: Stop) -> Result<ExitCode> {
    let dir = arguments.place.directory_for("latency")?;
    let place = Place { dir: Some(dir.clone()), ..arguments.place.clone() };
    let nodes_of = |change: &Change| {
        let dir = dir.join(change.name().replace(' ', "-"));
        std::fs::create_dir_all(&dir)?;
        Nodes::new(&place.rookery, &dir, &change.roles(), &place.settings)
    };
    let mut clusters = Vec::new();
    for change in &arguments.cases {
        clusters.push((*change, nodes_of(change)?));
    }
    let version = clusters.first().map(|(_, nodes)| nodes.version()).unwrap_or_default();
    let mut bench = Bench::create(2 * BROKERS as i32, &place, stop, "latency", &[version])?;
    let mut data = Vec::new();
    for (change, nodes) in &mut clusters {
        measure(&mut bench, nodes, *change, arguments)?;
        data.extend(nodes.data());
    }
    bench.end(&data)
}

/// One case: the clients run through all its repetitions.
fn measure(bench: &mut Bench, nodes: &mut Nodes, change: Change, arguments: &LatencyArguments) -> Result<()> {
    nodes.start_all(&bench.lab, &bench.stop)?;
    let brokers = nodes.brokers();
    let target = bench.topic(nodes, "latency", &[brokers.clone(), brokers].concat())?;
    let mut producer = bench.client(Library::Librdkafka, Role::Producer, arguments.rate, 1, &target)?;
    let consumer = bench.client(Library::Librdkafka, Role::Tail, 0.0, 0, &target)?;
    bench.await_acks(&mut producer, &target, WARM)?;
    let length = Duration::from_secs_f64(arguments.window);
    let mut windows = Vec::new();
    for n in 1..=arguments.times {
        nodes.await_well(&bench.stop)?;
        bench.stop.sleep(SETTLE)?;
        let steady = Clock::now();
        bench.stop.sleep(length)?;
        let (before, began) = (nodes.controller()?, Clock::now());
        match change {
            Change::Transfer | Change::TransferApart => nodes.transfer_controller(before)?,
            Change::KillController => nodes.signal(before, Signal::KILL)?,
        }
        let done = Clock::now();
        bench.stop.sleep(length)?;
        let after = nodes.controller()?;
        if after == before {
            bail!("node {before} is the controller as before: nothing was measured");
        }
        bench.note(format!("{}: node {before} until {began}, then node {after}", change.name()))?;
        let took = milliseconds(done - began);
        report::say(&format!("{} {n}: node {before} → {after}, asked and answered in {took:.1} ms", change.name()));
        let length = u64::try_from(length.as_nanos())?;
        windows.push(Window { steady: (steady, steady + length), changed: (began, began + length) });
        if change == Change::KillController {
            nodes.wait(before)?;
            nodes.start(&bench.lab, before)?;
        }
    }
    nodes.await_well(&bench.stop)?;
    let (sent_by, read_by) = (producer.plan.name.clone(), consumer.plan.name.clone());
    producer.wait(CLIENT_PATIENCE, &bench.stop)?;
    consumer.wait(CLIENT_PATIENCE, &bench.stop)?;
    let written = bench.lines_of(&sent_by)?;
    let read = bench.lines_of(&read_by)?;
    let history = History { by: [written.by, read.by].concat(), ..History::default() };
    let facts = Facts::of(&history);
    let errors = errors_since(&history, windows.first().map_or(0, |w| w.steady.0)).len();
    let lost = bench.lost(nodes, &target, &facts)?;
    let came: HashMap<i64, Time> =
        facts.polls.iter().flat_map(|poll| poll.rows.iter().map(|(_, v)| (*v, poll.t))).collect();
    let steady_case = format!("steady, before “{}”", change.name());
    for (n, window) in (1..).zip(&windows) {
        for (case, stretch, goal) in [
            (steady_case.as_str(), window.steady, None),
            (change.name(), window.changed, Goal::against(ALLOWED, &steady_case)),
        ] {
            let of = Case { case, broker: "rookery", n };
            let (acks, fetches) = latencies(&facts, &came, stretch);
            bench.keep(&of, "produce → ack", Unit::Milliseconds, goal.clone(), acks)?;
            bench.keep(&of, "produce → consumer", Unit::Milliseconds, goal, fetches)?;
        }
    }
    let of = Case { case: change.name(), broker: "rookery", n: windows.len() };
    bench.keep(&of, "errors", Unit::Count, Goal::none(), vec![errors as f64])?;
    bench.keep(&of, "lost", Unit::Count, Goal::none(), vec![lost as f64])?;
    nodes.stop_all()
}

/// Milliseconds from sending to the acknowledgement, and to the consumer, of what was sent in that time.
fn latencies(facts: &Facts<'_>, came: &HashMap<i64, Time>, (from, to): (Time, Time)) -> (Vec<f64>, Vec<f64>) {
    let of = facts.acks.iter().filter(|a| (from..to).contains(&a.sent));
    let mut fetches = Vec::new();
    let mut acks = Vec::new();
    for ack in of {
        acks.push(rounded(ack.t.saturating_sub(ack.sent)));
        // It may come before the acknowledgement: the two go different ways.
        fetches.extend(came.get(&ack.v).map(|t| rounded(t.saturating_sub(ack.sent))));
    }
    (acks, fetches)
}

/// Milliseconds, to the microsecond: the file stays readable.
fn rounded(time: Time) -> f64 {
    (milliseconds(time) * 1000.0).round() / 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::{Line, Op};

    #[test]
    fn a_record_counts_to_the_window_in_which_it_was_sent_however_late_it_comes() {
        let line = |ms: Time, op| Line { t: ms * 1_000_000, op };
        let writes = vec![
            line(10, Op::Send { p: 0, v: 1 }),
            line(14, Op::Ack { v: 1, p: 0, o: 0 }),
            line(20, Op::Send { p: 0, v: 2 }),
            line(90, Op::Ack { v: 2, p: 0, o: 1 }),
        ];
        let polls =
            vec![line(13, Op::Poll { p: 0, rows: vec![(0, 1)] }), line(95, Op::Poll { p: 0, rows: vec![(1, 2)] })];
        let by = vec![("producer".to_owned(), writes), ("tail".to_owned(), polls)];
        let history = History { by, ..History::default() };
        let facts = Facts::of(&history);
        let came = facts.polls.iter().flat_map(|poll| poll.rows.iter().map(|(_, v)| (*v, poll.t))).collect();
        let window = |from: Time, to: Time| latencies(&facts, &came, (from * 1_000_000, to * 1_000_000));
        assert_eq!(window(10, 20), (vec![4.0], vec![3.0]));
        assert_eq!(window(20, 30), (vec![70.0], vec![75.0]));
        assert_eq!(window(30, 100), (vec![], vec![]));
    }
}
