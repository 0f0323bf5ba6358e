//! Nothing is broken, but conditions are harsh ([`hogs`](crate::hogs)): nobody may be fenced and nobody elected for it.
//!
//! The usual clients run; what happened is what the cluster's own event log says (`GET /admin/v1/events`), and what terms the
//! quorum went through. Every fence, election and ISR change is shown with why.

use crate::bench::{Bench, CLIENT_PATIENCE, Case, errors_since, milliseconds};
use crate::cluster::Cluster;
use crate::facts::Facts;
use crate::figures::{Goal, Unit};
use crate::history::{Clock, History, Line, Op};
use crate::hogs::{Condition, DiskProbe, Harsh};
use crate::lab::Stop;
use crate::nodes::{EventView, Nodes, Role as NodeRole};
use crate::reader::Whole;
use crate::run::{NODES, Place};
use crate::workload::{Client, Library, Role};
use crate::{checkers, report};
use anyhow::{Context, Result, bail};
use clap::ValueEnum;
use std::collections::BTreeMap;
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// The clients run that long before.
const WARM: Duration = Duration::from_secs(5);
/// What began then may end after it.
const AFTER: Duration = Duration::from_secs(3);
/// Between two looks at the event log.
const LOOK: Duration = Duration::from_secs(1);
/// An event log that nobody shows for so long is not looked at any more.
const BLIND_MAX: Duration = Duration::from_secs(60);

/// What to measure.
#[derive(Debug, Clone, clap::Args)]
pub struct CalmArguments {
    /// Seconds of each
    #[arg(long, env = "FAULTS_SECONDS", default_value_t = 3600)]
    seconds: u64,
    /// Conditions, one after the other; several at once as in cpu+disk
    #[arg(long, env = "CONDITIONS", value_delimiter = ',', default_value = "cpu,jitter,disk")]
    conditions: Vec<String>,
    /// Which clients
    #[arg(long, env = "CLIENTS", value_delimiter = ',', value_enum, default_value = "librdkafka")]
    clients: Vec<Library>,
    /// Records a second, of all producers together
    #[arg(long, env = "RATE", default_value_t = 500.0)]
    rate: f64,
    #[command(flatten)]
    place: Place,
}

/// What is counted: a name, the kinds of events, whether there may be any. Another controller is another term of the quorum, which is
/// counted apart; one whom nobody answers for a while, since the disk stands still under all of them, takes its own office up again.
const COUNTED: [(&str, &[&str], bool); 5] = [
    ("fences", &["broker_fenced"], false),
    ("leader changes", &["leader_elected", "leader_lost", "unclean_leader", "leader_renewed"], false),
    ("offices of controllers taken up", &["controller_activated"], true),
    ("ISR shrinks", &["isr_shrunk"], true),
    ("suspicions", &["suspected_by_gossip", "silent", "connection_closed"], true),
];
/// Shown, but not counted: what else helps to see why.
const SHOWN_TOO: [&str; 8] = [
    "broker_registered",
    "broker_unfenced",
    "acquitted",
    "held_back_lonely",
    "held_back_again",
    "watcher_lagged",
    "deposed",
    "isr_grown",
];
/// So many lines of one kind are shown; all are in the history.
const SAID_MAX: usize = 40;
/// Of a line so much; all of it is in the history.
const WIDTH_MAX: usize = 240;
/// A commit that takes longer is one of a disk that hangs, and leaderships move for it by design.
const HANGS: f64 = 2000.0;

fn conditions_of(words: &str) -> Result<Vec<Condition>> {
    let one = |word: &str| {
        Condition::from_str(word.trim(), true).map_err(|_| {
            anyhow::anyhow!("there is no condition `{word}`: there are cpu, jitter, disk, also as cpu+disk")
        })
    };
    // None at all is a condition too: how things are without any.
    if words == "none" { Ok(Vec::new()) } else { words.split('+').map(one).collect() }
}

/// Measure.
pub fn run(arguments: &CalmArguments, stop: Stop) -> Result<ExitCode> {
    let mut all = Vec::new();
    for words in &arguments.conditions {
        all.push((words.as_str(), conditions_of(words)?));
    }
    let dir = arguments.place.directory_for("calm")?;
    let place = Place { dir: Some(dir.clone()), ..arguments.place.clone() };
    let mut nodes = Nodes::new(&place.rookery, &dir, &[NodeRole::Both; 3], &place.settings)?;
    let mut bench = Bench::create(NODES, &place, stop, "calm", &[nodes.version()])?;
    nodes.start_all(&bench.lab, &bench.stop)?;
    for (words, conditions) in all {
        stretch(&mut bench, &mut nodes, words, &conditions, arguments)?;
    }
    bench.end(&nodes.data())
}

/// One stretch of time under some conditions.
fn stretch(
    bench: &mut Bench,
    nodes: &mut Nodes,
    words: &str,
    conditions: &[Condition],
    arguments: &CalmArguments,
) -> Result<()> {
    nodes.await_well(&bench.stop)?;
    let target = bench.topic(nodes, "calm", &[1, 2, 3, 1, 2, 3])?;
    let share = arguments.rate / arguments.clients.len() as f64;
    let mut clients = Vec::new();
    for (writer, library) in (1..).zip(&arguments.clients) {
        let reader = if *library == Library::Librdkafka { Role::Tail } else { Role::Consumer };
        for role in [Role::Producer, reader, Role::Member] {
            clients.push(bench.client(*library, role, share, writer, &target)?);
        }
    }
    for producer in clients.iter_mut().filter(|c| c.plan.role == Role::Producer) {
        bench.await_acks(producer, &target, WARM)?;
    }
    let mut seen = Seen::begin(nodes)?;
    let (began, disk) = (Clock::now(), DiskProbe::start(&bench.dir));
    let mut harsh = Harsh::begin(&bench.lab, conditions, &nodes.ids(), &bench.place.runtimes.programs, &bench.dir)?;
    report::say(&format!("{words}: for {} s", arguments.seconds));
    let end = Instant::now() + Duration::from_secs(arguments.seconds);
    while Instant::now() < end {
        bench.stop.sleep(LOOK.min(end.saturating_duration_since(Instant::now())))?;
        seen.look(bench, nodes)?;
        let gone = [nodes.deserters(), clients.iter_mut().filter_map(Client::deserted).collect()].concat();
        if !gone.is_empty() {
            bail!("{}", gone.join("; "));
        }
    }
    let effect = harsh.seen()?;
    report::say(&format!("{words}: {effect}"));
    bench.note(format!("{words}: {effect}"))?;
    harsh.end(&bench.lab)?;
    let ended = Clock::now();
    let disk: Vec<f64> = disk.stop()?.into_iter().map(milliseconds).collect();
    let slowest = disk.iter().copied().fold(0.0, f64::max);
    if slowest > HANGS {
        report::say(&format!(
            "{words}: the disk took {slowest:.0} ms for one synced write: it hung, whoever kept it busy"
        ));
    }
    bench.stop.sleep(AFTER)?;
    nodes.await_well(&bench.stop)?;
    seen.look(bench, nodes)?;
    let mut history = History::default();
    let (producers, readers): (Vec<_>, Vec<_>) = clients.into_iter().partition(|c| c.plan.role == Role::Producer);
    for client in producers.into_iter().chain(readers) {
        let name = client.plan.name.clone();
        client.wait(CLIENT_PATIENCE, &bench.stop)?;
        history.by.extend(bench.lines_of(&name)?.by);
    }
    let of = Case { case: words, broker: "rookery", n: 1 };
    for (name, kinds, allowed) in COUNTED {
        let count: usize = kinds.iter().filter_map(|kind| seen.counts.get(*kind)).sum();
        let goal = if allowed { None } else { Goal::none() };
        bench.keep(&of, name, Unit::Count, goal, vec![count as f64])?;
    }
    bench.keep(&of, "terms of the quorum", Unit::Count, Goal::none(), vec![seen.terms(nodes)? as f64])?;
    for p in 0..target.partitions {
        let Whole { leader, epoch, rows, batches } = bench.whole(&nodes.brokers(), &target, p)?;
        let read = Line { t: Clock::now(), op: Op::Read { pass: 0, p, leader, epoch, rows, batches } };
        history.by.push(("reader".to_owned(), vec![read]));
    }
    let facts = Facts::of(&history);
    let anomalies = checkers::all(&facts);
    anomalies.iter().take(10).for_each(|a| report::say(&format!("{}: {}", a.name, a.what)));
    bench.keep(&of, "anomalies", Unit::Count, Goal::none(), vec![anomalies.len() as f64])?;
    let errors = errors_since(&history, began);
    errors.iter().take(10).for_each(|error| report::say(&format!("a client: {error}")));
    let errors = vec![errors.len() as f64];
    bench.keep(&of, "errors of clients", Unit::Count, Goal::none(), errors)?;
    let gap = report::longest_gap(&facts, began, ended).context("nothing was acknowledged")?;
    bench.keep(&of, "longest gap of a producer", Unit::Milliseconds, None, vec![milliseconds(gap)])?;
    let acks = facts.acks.iter().filter(|a| (began..ended).contains(&a.sent)).map(|a| milliseconds(a.t - a.sent));
    bench.keep(&of, "produce → ack", Unit::Milliseconds, None, acks.collect())?;
    bench.keep(&of, "synced write of 4 KiB", Unit::Milliseconds, None, disk)
}

/// What the cluster said of itself.
struct Seen {
    next: u64,
    term: u64,
    looked: Instant,
    counts: BTreeMap<String, usize>,
}

impl Seen {
    fn begin(nodes: &Nodes) -> Result<Seen> {
        let (next, term) = (nodes.events(None)?.next, nodes.view()?.quorum.term);
        Ok(Seen { next, term, looked: Instant::now(), counts: BTreeMap::new() })
    }

    /// Take in what is new.
    fn look(&mut self, bench: &Bench, nodes: &Nodes) -> Result<()> {
        loop {
            let page = match nodes.events(Some(self.next)) {
                Ok(page) => page,
                Err(error) if self.looked.elapsed() > BLIND_MAX => return Err(error),
                Err(_) => return Ok(()),
            };
            self.looked = Instant::now();
            if page.events.is_empty() {
                return Ok(());
            }
            for event in &page.events {
                self.take_in(bench, event)?;
            }
            self.next = page.next;
        }
    }

    fn take_in(&mut self, bench: &Bench, event: &EventView) -> Result<()> {
        let count = self.counts.entry(event.kind.clone()).or_default();
        *count += 1;
        let because = if event.because.is_empty() { String::new() } else { format!(" ({}):", event.because) };
        let line = format!("{} #{}{because} {}", event.time, event.number, event.what);
        bench.note(format!("{}: {line}", event.kind))?;
        let counted = COUNTED.iter().any(|(_, kinds, _)| kinds.contains(&event.kind.as_str()));
        if (counted || SHOWN_TOO.contains(&event.kind.as_str())) && *count <= SAID_MAX {
            let shown: String = line.chars().take(WIDTH_MAX).collect();
            report::say(&format!("    {shown}{}", if shown.len() < line.len() { " …" } else { "" }));
        }
        Ok(())
    }

    /// How many the quorum went through.
    fn terms(&self, nodes: &Nodes) -> Result<u64> {
        Ok(nodes.view()?.quorum.term.saturating_sub(self.term))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conditions_are_named_alone_and_together() {
        assert_eq!(conditions_of("cpu").unwrap(), [Condition::Cpu]);
        assert_eq!(conditions_of("jitter+disk").unwrap(), [Condition::Jitter, Condition::Disk]);
        assert_eq!(conditions_of("none").unwrap(), []);
        let refused = conditions_of("cpu+rain").unwrap_err().to_string();
        assert!(refused.contains("rain") && refused.contains("jitter"), "{refused}");
    }
}
