//! How long nothing is acknowledged when a node is killed, stopped or cut off: once more each time, as a distribution.
//!
//! Two views of each: the longest time between two acks of one partition as a librdkafka producer with default settings sees
//! it, and the time from the fault to the first ack of the [`probe`]. Each repetition has a topic of its own whose leaders
//! are placed by hand. What was acknowledged is read back.

use crate::history::{Clock, Header, History, Journal, Op, Time, load_lines, path};
use crate::lab::{Lab, Loss, Port, Stop};
use crate::nodes::Nodes;
use crate::run::{NODES, Place, create_topic, seconds};
use crate::workload::{Goal, Library, Plan, Role};
use crate::{facts, probe, reader, report};
use anyhow::{Result, bail};
use clap::ValueEnum;
use rustix::process::Signal;
use std::collections::{BTreeMap, HashSet};
use std::process::ExitCode;
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(60);
/// The producer runs that long before.
const BEFORE: Duration = Duration::from_millis(2500);
/// And that long after the first ack.
const AFTER: Duration = Duration::from_millis(2500);

/// From one fault of a node to the next one of the same node: a broker that has just been fenced for silence is not fenced
/// for it again within ten seconds (flapping), and a repetition that comes sooner would measure that.
const APART: Duration = Duration::from_secs(15);

/// What to measure.
#[derive(Debug, Clone, clap::Args)]
pub struct GapsArguments {
    /// How often each
    #[arg(long, env = "TIMES", default_value_t = 20)]
    times: usize,
    /// What is done to the node
    #[arg(long, env = "ACTIONS", value_delimiter = ',', value_enum, default_value = "kill,stop,isolate")]
    actions: Vec<Action>,
    /// What the node is
    #[arg(long, env = "VICTIMS", value_delimiter = ',', value_enum, default_value = "leader,controller,both")]
    victims: Vec<Victim>,
    /// Records a second
    #[arg(long, env = "RATE", default_value_t = 500.0)]
    rate: f64,
    #[command(flatten)]
    place: Place,
}

/// What is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Action {
    /// kill -9
    Kill,
    /// SIGSTOP
    Stop,
    /// Cut off from everyone
    Isolate,
}

/// To whom.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Victim {
    /// A leader that is not the active controller
    Leader,
    /// The active controller, which leads nothing of the topic
    Controller,
    /// The active controller, which leads
    Both,
}

#[derive(Default)]
struct Samples {
    gap: Vec<Time>,
    probe: Vec<Time>,
}

/// Measure.
pub fn run(arguments: &GapsArguments, stop: Stop) -> Result<ExitCode> {
    let lab = Lab::create(NODES)?;
    let place = &arguments.place;
    let dir = place.directory(0)?;
    let mut nodes = Nodes::new(&place.rookery, &dir, NODES, &place.settings)?;
    let header = Header { version: nodes.version(), clients: vec!["librdkafka".to_owned()], ..Default::default() };
    History::write_header(&dir, &header)?;
    report::say(&format!("{} · {} times each, in {}", nodes.version(), arguments.times, dir.display()));
    for id in nodes.ids() {
        nodes.start(&lab, id)?;
    }
    for id in nodes.ids() {
        nodes.wait_ready(id, PATIENCE, &stop)?;
    }
    let journal = Journal::create(&dir, "gaps")?;
    let mut bench = Bench { lab, nodes, stop, journal, arguments, dir, count: 0, lost: 0, mended: BTreeMap::new() };
    let mut table = Vec::new();
    for action in &arguments.actions {
        for victim in &arguments.victims {
            let mut samples = Samples::default();
            for n in 1..=arguments.times {
                let (gap, probe) = bench.once(*action, *victim)?;
                report::say(&format!(
                    "{} {n}: producer {:.3} s, probe {:.3} s",
                    name(*action, *victim),
                    seconds(gap),
                    seconds(probe)
                ));
                samples.gap.push(gap);
                samples.probe.push(probe);
            }
            table.push((name(*action, *victim), samples));
        }
    }
    report::say(&format!("\n{:<20} {:<22} {:>8} {:>8} {:>8} {:>8}", "fault", "seconds", "min", "p50", "p99", "max"));
    for (name, samples) in table {
        for (what, mut times) in [("longest gap, producer", samples.gap), ("first ack, probe", samples.probe)] {
            times.sort_unstable();
            // Nearest rank: of twenty, p99 is the longest.
            let at = |q: usize| seconds(times[(times.len() * q).div_ceil(100).max(1) - 1]);
            let (least, most) = (seconds(times[0]), seconds(times[times.len() - 1]));
            report::say(&format!("{name:<20} {what:<22} {least:>8.3} {:>8.3} {:>8.3} {most:>8.3}", at(50), at(99)));
        }
    }
    let (lost, data) = (bench.lost, bench.nodes.data());
    if lost > 0 {
        report::say(&format!("FAILED: {lost} acknowledged records were lost; see {}", bench.dir.display()));
        return Ok(ExitCode::FAILURE);
    }
    drop(bench);
    if !place.keep {
        data.iter().try_for_each(std::fs::remove_dir_all)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn name(action: Action, victim: Victim) -> String {
    format!("{action:?} {victim:?}").to_lowercase()
}

struct Bench<'a> {
    lab: Lab,
    nodes: Nodes,
    stop: Stop,
    journal: Journal,
    arguments: &'a GapsArguments,
    dir: std::path::PathBuf,
    count: usize,
    lost: usize,
    /// When each node was last mended.
    mended: BTreeMap<i32, Instant>,
}

impl Bench<'_> {
    /// One repetition: the producer's longest gap and the probe's time to the first ack.
    fn once(&mut self, action: Action, victim: Victim) -> Result<(Time, Time)> {
        self.count += 1;
        self.await_well()?;
        let controller = self.nodes.controller()?;
        let mut others = [controller % NODES + 1, (controller + 1) % NODES + 1];
        // The one that was broken longest ago.
        others.sort_by_key(|id| self.mended.get(id).copied());
        let [one, other] = others;
        // The first partition is the one that is probed.
        let (node, leaders) = match victim {
            Victim::Leader => (one, vec![one, other, controller]),
            Victim::Controller => (controller, vec![one, other]),
            Victim::Both => (controller, vec![controller, one, other]),
        };
        let replicas: Vec<Vec<i32>> =
            leaders.iter().map(|first| (0..NODES).map(|n| (first - 1 + n) % NODES + 1).collect()).collect();
        if let Some(mended) = self.mended.get(&node) {
            self.stop.sleep(APART.saturating_sub(mended.elapsed() + BEFORE))?;
        }
        let topic = format!("gaps-{}", self.count);
        create_topic(&self.nodes, &topic, &replicas, &self.stop)?;
        let goal =
            Goal { bootstrap: self.nodes.bootstrap(), topic: topic.clone(), partitions: i32::try_from(leaders.len())? };
        let plan = Plan {
            name: format!("{topic}-producer"),
            library: Library::Librdkafka,
            role: Role::Producer,
            writer: 1,
            rate: self.arguments.rate,
            group: String::new(),
        };
        let client = plan.start(&self.lab, &self.arguments.place.runtimes, &self.dir, &goal)?;
        self.stop.sleep(BEFORE)?;
        let others = Port::all(NODES).into_iter().filter(|p| *p != Port::Node(node)).collect::<Vec<_>>();
        let before = Clock::now();
        match action {
            Action::Kill => {
                self.nodes.signal(node, Signal::KILL)?;
            }
            Action::Stop => self.nodes.signal(node, Signal::STOP)?,
            Action::Isolate => {
                let one = vec![Port::Node(node)];
                let losses = [
                    Loss { from: one.clone(), to: others.clone(), percent: 100 },
                    Loss { from: others, to: one, percent: 100 },
                ];
                self.lab.cut("gap", &losses)?;
            }
        }
        let acked = probe::first_ack(&self.nodes.ids(), &topic, 0, 800 * crate::history::WRITER_STEP, PATIENCE);
        let Some(acked) = acked else { bail!("nothing was acknowledged within {} s", PATIENCE.as_secs()) };
        self.stop.sleep(AFTER)?;
        let after = Clock::now();
        match action {
            Action::Kill => {
                self.nodes.wait(node)?;
                self.nodes.start(&self.lab, node)?;
            }
            Action::Stop => self.nodes.signal(node, Signal::CONT)?,
            Action::Isolate => self.lab.restore("gap")?,
        }
        self.mended.insert(node, Instant::now());
        client.wait(PATIENCE, &self.stop)?;
        let detail = format!("{}, node {node}, {topic}: probe after {} ns", name(action, victim), acked - before);
        self.journal.write(Op::Trouble { error: detail })?;
        self.await_well()?;
        let lines = load_lines(&path(&self.dir, &plan.name))?;
        let mine = History { by: vec![(plan.name.clone(), lines)], ..Default::default() };
        let facts = facts::Facts::of(&mine);
        let Some(gap) = report::longest_gap(&facts, before, after) else {
            bail!("the producer got no acknowledgement around the fault: see {}.err", plan.name)
        };
        for p in 0..goal.partitions {
            let whole = reader::whole(&self.nodes.ids(), &topic, p)?;
            let there: HashSet<i64> = whole.rows.iter().map(|(_, v)| *v).collect();
            let gone = facts.acks.iter().filter(|a| a.p == p && !there.contains(&a.v)).count();
            if gone > 0 {
                report::say(&format!("{topic}, partition {p}: {gone} acknowledged records are not there"));
                self.lost += gone;
            }
        }
        Ok((gap, acked - before))
    }

    fn await_well(&mut self) -> Result<()> {
        let end = Instant::now() + PATIENCE;
        loop {
            let trouble = self.nodes.trouble();
            if trouble.is_empty() {
                return Ok(());
            }
            if Instant::now() > end {
                bail!("not well after {} s: {}", PATIENCE.as_secs(), trouble.join("; "));
            }
            self.stop.sleep(Duration::from_millis(50))?;
        }
    }
}
