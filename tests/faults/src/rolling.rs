//! A rolling restart as an operator does it, over and over: SIGTERM to each node in turn, started again, the next one when all
//! is well. What clients with default settings see of it, and how long the broker itself takes to hand a partition over.
//!
//! The hand-over is seen by raw connections to all three nodes at once, which write one record after the other to a
//! partition that the leaving node leads, and ask again at once when they are refused: from the last acknowledgement of the
//! old leader to the first one of another node. A client's acknowledgements would measure its own pauses before it asks
//! again (100 ms in librdkafka), and the nodes' clocks when they think it happened, not when it could be used. The
//! resolution is one write: some milliseconds.

use crate::bench::{Bench, CLIENT_PATIENCE, Case, errors_since, milliseconds};
use crate::cluster::Cluster;
use crate::facts::Facts;
use crate::figures::{Goal, Unit};
use crate::history::{Clock, History, Op, Time};
use crate::lab::Stop;
use crate::nodes::{Nodes, Role as NodeRole};
use crate::probe::Writers;
use crate::reader::Whole;
use crate::run::{NODES, Place, seconds};
use crate::workload::{Client, Goal as Target, Library, Role};
use crate::{checkers, report};
use anyhow::{Context, Result, bail};
use rustix::process::Signal;
use std::process::ExitCode;
use std::time::Duration;

/// The clients run that long before the first node leaves.
const WARM: Duration = Duration::from_secs(4);
/// From "all is well" to the next node.
const BETWEEN: Duration = Duration::from_secs(2);

/// What to measure.
#[derive(Debug, Clone, clap::Args)]
pub struct RollingArguments {
    /// How often all three nodes
    #[arg(long, env = "TIMES", default_value_t = 20)]
    times: usize,
    /// Which clients
    #[arg(long, env = "CLIENTS", value_delimiter = ',', value_enum, default_value = "librdkafka")]
    clients: Vec<Library>,
    /// Records a second, of all producers together
    #[arg(long, env = "RATE", default_value_t = 500.0)]
    rate: f64,
    #[command(flatten)]
    place: Place,
}

/// One node's restart.
struct Restart {
    node: i32,
    began: Time,
    well: Time,
    /// Nothing if the old leader or its successor was not seen to acknowledge.
    hand_over: Option<Time>,
    /// Until the process was gone.
    left: Time,
}

/// Measure.
pub fn run(arguments: &RollingArguments, stop: Stop) -> Result<ExitCode> {
    let dir = arguments.place.directory_for("rolling")?;
    let place = Place { dir: Some(dir.clone()), ..arguments.place.clone() };
    let mut nodes = Nodes::new(&place.rookery, &dir, &[NodeRole::Both; 3], &place.settings)?;
    let mut bench = Bench::create(NODES, &place, stop, "rolling", &[nodes.version()])?;
    nodes.start_all(&bench.lab, &bench.stop)?;
    for n in 1..=arguments.times {
        once(&mut bench, &mut nodes, arguments, n)?;
    }
    bench.end(&nodes.data())
}

/// All three nodes once.
fn once(bench: &mut Bench, nodes: &mut Nodes, arguments: &RollingArguments, n: usize) -> Result<()> {
    nodes.await_well(&bench.stop)?;
    // Each node leads something of both until its turn comes; where it is led after that does not matter.
    let target = bench.topic(nodes, "rolling", &[1, 2, 3, 1, 2, 3])?;
    let probed = bench.topic(nodes, "handover", &[1, 2, 3])?;
    let mut clients = Vec::new();
    let share = arguments.rate / arguments.clients.len() as f64;
    for (writer, library) in (1..).zip(&arguments.clients) {
        for role in [Role::Producer, Role::Consumer, Role::Member] {
            clients.push(bench.client(*library, role, share, writer, &target)?);
        }
    }
    for producer in clients.iter_mut().filter(|c| c.plan.role == Role::Producer) {
        bench.await_acks(producer, &target, WARM)?;
    }
    let mut restarts = Vec::new();
    for node in nodes.ids() {
        restarts.push(restart(bench, nodes, node, &probed)?);
        bench.stop.sleep(BETWEEN)?;
    }
    let gone: Vec<String> = clients.iter_mut().filter_map(Client::deserted).collect();
    if !gone.is_empty() {
        bail!("{}", gone.join("; "));
    }
    // Producers first: readers end when they have everything.
    let (producers, readers): (Vec<_>, Vec<_>) = clients.into_iter().partition(|c| c.plan.role == Role::Producer);
    let mut history = History::default();
    for client in producers.into_iter().chain(readers) {
        let name = client.plan.name.clone();
        client.wait(CLIENT_PATIENCE, &bench.stop)?;
        history.by.extend(bench.lines_of(&name)?.by);
    }
    judge(bench, nodes, &target, arguments, n, &restarts, history)
}

/// One node leaves and comes back.
fn restart(bench: &Bench, nodes: &mut Nodes, node: i32, probed: &Target) -> Result<Restart> {
    let values = (700 + i64::from(node)) * crate::history::WRITER_STEP;
    let writers = Writers::start(&nodes.brokers(), &probed.topic, node - 1, values);
    writers.await_ack(node, nodes.patience(), &bench.stop)?;
    bench.stop.sleep(Duration::from_millis(500))?;
    nodes.mark(node, "SIGTERM");
    let began = Clock::now();
    nodes.signal(node, Signal::TERM)?;
    let status = nodes.wait(node)?;
    let left = Clock::now();
    if !status.success() {
        bail!("node {node} was asked to leave and ended with {status}");
    }
    nodes.start(&bench.lab, node)?;
    let well = nodes.await_well(&bench.stop)?;
    let hand_over = hand_over(&writers.stop(), node, began);
    Ok(Restart { node, began, well, hand_over, left })
}

/// From the last acknowledgement of the old leader to the first one of another after it was asked to leave.
fn hand_over(acks: &[(Time, i32)], old: i32, began: Time) -> Option<Time> {
    let first = acks.iter().filter(|(t, node)| *node != old && *t >= began).map(|(t, _)| *t).min()?;
    // One that comes late was on its way when the other led already.
    let last = acks.iter().filter(|(t, node)| *node == old && *t < first).map(|(t, _)| *t).max()?;
    Some(first - last)
}

fn judge(
    bench: &mut Bench,
    nodes: &Nodes,
    target: &Target,
    arguments: &RollingArguments,
    n: usize,
    restarts: &[Restart],
    mut history: History,
) -> Result<()> {
    let brokers = nodes.brokers();
    let of = Case { case: "rolling restart", broker: "rookery", n };
    let hand_overs: Vec<f64> = restarts.iter().filter_map(|r| r.hand_over).map(milliseconds).collect();
    let said: Vec<String> = hand_overs.iter().map(|ms| format!("{ms:.1}")).collect();
    let unseen = restarts.len() - hand_overs.len();
    bench.keep(&of, "hand-over in the broker", Unit::Milliseconds, Goal::of(50.0, None), hand_overs)?;
    bench.keep(&of, "hand-overs not seen", Unit::Count, Goal::none(), vec![unseen as f64])?;
    let left = restarts.iter().map(|r| seconds(r.left - r.began)).collect();
    bench.keep(&of, "SIGTERM → gone", Unit::Seconds, None, left)?;
    let mut gaps_said = Vec::new();
    for library in &arguments.clients {
        let theirs = |name: &str| name.contains(&format!("-{}-", library.name()));
        let by: Vec<_> = history.by.iter().filter(|(name, _)| theirs(name)).cloned().collect();
        let mine = History { by, ..History::default() };
        let facts = Facts::of(&mine);
        let mut gaps = Vec::new();
        for r in restarts {
            let gap = report::longest_gap(&facts, r.began, r.well);
            let gap = gap.with_context(|| format!("no acknowledgement around the restart of node {}", r.node))?;
            gaps.push(milliseconds(gap));
        }
        gaps_said.push(gaps.iter().map(|ms| format!("{ms:.0}")).collect::<Vec<_>>().join(" "));
        let name = library.name();
        bench.keep(&of, &format!("longest gap, {name}"), Unit::Milliseconds, Goal::of(None, 400.0), gaps)?;
        // What a client meets while it starts has nothing to do with a restart.
        let errors = errors_since(&mine, restarts.first().map_or(0, |r| r.began));
        errors.iter().take(10).for_each(|error| report::say(&format!("{name}: {error}")));
        bench.keep(&of, &format!("errors, {name}"), Unit::Count, Goal::none(), vec![errors.len() as f64])?;
        let notices = mine.lines().filter(|(_, l)| matches!(l.op, Op::Notice { .. })).count();
        bench.keep(&of, &format!("notices, {name}"), Unit::Count, None, vec![notices as f64])?;
    }
    for p in 0..target.partitions {
        let Whole { leader, epoch, rows, batches } = bench.whole(&brokers, target, p)?;
        bench.journal.write(Op::Read { pass: 0, p, leader, epoch, rows: rows.clone(), batches: batches.clone() })?;
        let read = crate::history::Line { t: Clock::now(), op: Op::Read { pass: 0, p, leader, epoch, rows, batches } };
        history.by.push(("reader".to_owned(), vec![read]));
    }
    let anomalies = checkers::all(&Facts::of(&history));
    for anomaly in anomalies.iter().take(10) {
        report::say(&format!("{}: {}", anomaly.name, anomaly.what));
    }
    bench.keep(&of, "anomalies", Unit::Count, Goal::none(), vec![anomalies.len() as f64])?;
    let (said, gaps) = (said.join(" "), gaps_said.join("; "));
    report::say(&format!("rolling restart {n}: hand-overs {said} ms; longest gaps {gaps} ms"));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hand_over_is_from_the_last_ack_of_the_old_leader_to_the_first_of_another() {
        let acks = [(5, 1), (10, 1), (14, 1), (31, 2), (33, 1), (40, 2), (90, 1)];
        assert_eq!(hand_over(&acks, 1, 8), Some(17), "what comes late, and a leader that is back, do not count");
        assert_eq!(hand_over(&acks[..3], 1, 8), None, "no successor");
        assert_eq!(hand_over(&acks[3..4], 1, 8), None, "no old leader");
        assert_eq!(hand_over(&[(5, 2), (10, 1), (30, 3)], 1, 8), Some(20), "who led before does not count");
    }
}
