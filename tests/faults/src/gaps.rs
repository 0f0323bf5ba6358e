//! How long nothing is acknowledged when a node is killed, stopped or cut off: once more each time, as a distribution.
//!
//! Two views of each: the longest time between two acks of one partition as a librdkafka producer with default settings sees
//! it, and the time from the fault to the first ack of the [`probe`]. Each repetition has a topic of its own whose leaders
//! are placed by hand. What was acknowledged is read back.
//!
//! Several brokers are measured in turn: all repetitions of one fault on the first, then on the next, then the next fault, so
//! that a slow hour of the machine meets all of them. Only one cluster runs at a time, at the same addresses.

use crate::bench::{Bench, CLIENT_PATIENCE, Case};
use crate::cluster::Cluster;
use crate::figures::{Goal, Unit};
use crate::history::Clock;
use crate::kafka::{KafkaNodes, KafkaPlace};
use crate::lab::{Loss, Port, Stop};
use crate::nodes::{Nodes, Role as NodeRole};
use crate::run::{NODES, Place, seconds};
use crate::workload::{Library, Role};
use crate::{facts, probe, report};
use anyhow::{Result, bail};
use clap::ValueEnum;
use rustix::process::Signal;
use std::collections::BTreeMap;
use std::process::ExitCode;
use std::time::{Duration, Instant};

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
    /// Which brokers, in turn
    #[arg(long, env = "BROKERS", value_delimiter = ',', value_enum, default_value = "rookery")]
    brokers: Vec<Broker>,
    /// Records a second
    #[arg(long, env = "RATE", default_value_t = 500.0)]
    rate: f64,
    #[command(flatten)]
    place: Place,
    #[command(flatten)]
    kafka: KafkaPlace,
}

/// Whose nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Broker {
    /// Ours
    Rookery,
    /// Apache Kafka's
    Kafka,
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
    /// A replica that leads nothing of the topic and is not the active controller
    Follower,
    /// The active controller, which leads nothing of the topic
    Controller,
    /// The active controller, which leads
    Both,
}

/// What issue and page promise, in seconds: for the producer, for the probe.
fn goals(action: Action, victim: Victim) -> (Option<Goal>, Option<Goal>) {
    match (action, victim) {
        (Action::Kill, Victim::Leader | Victim::Follower) => (Goal::of(0.3, 1.0), Goal::of(0.3, 1.0)),
        (Action::Kill, Victim::Controller | Victim::Both) => (Goal::of(0.8, 1.5), Goal::of(0.8, 1.5)),
        (Action::Stop | Action::Isolate, _) => (None, Goal::of(1.2, 2.0)),
    }
}

/// A cluster under measurement.
struct Subject {
    cluster: Box<dyn Cluster>,
    /// When each node was last mended.
    mended: BTreeMap<i32, Instant>,
}

/// Measure.
pub fn run(arguments: &GapsArguments, stop: Stop) -> Result<ExitCode> {
    // What is missing is said before anything is begun.
    let place = &arguments.place;
    let dir = place.directory_for("gaps")?;
    let mut subjects = Vec::new();
    for broker in &arguments.brokers {
        let cluster: Box<dyn Cluster> = match broker {
            Broker::Rookery => {
                Box::new(Nodes::new(&place.rookery, &dir, &[NodeRole::Both; NODES as usize], &place.settings)?)
            }
            Broker::Kafka => Box::new(KafkaNodes::new(&arguments.kafka, &dir, NODES)?),
        };
        subjects.push(Subject { cluster, mended: BTreeMap::new() });
    }
    let versions: Vec<String> = subjects.iter().map(|s| s.cluster.version()).collect();
    let place = Place { dir: Some(dir), ..place.clone() };
    let mut bench = Bench::create(NODES, &place, stop, "gaps", &versions)?;
    let mut running = None;
    for action in &arguments.actions {
        for victim in &arguments.victims {
            for now in 0..subjects.len() {
                if running != Some(now) {
                    if let Some(before) = running {
                        let Subject { cluster, mended } = &mut subjects[before];
                        cluster.stop_all()?;
                        mended.clear();
                    }
                    subjects[now].cluster.start_all(&bench.lab, &bench.stop)?;
                    running = Some(now);
                }
                for n in 1..=arguments.times {
                    once(&mut bench, &mut subjects[now], (*action, *victim), n, arguments.rate)?;
                }
            }
        }
    }
    let data: Vec<_> = subjects.iter().flat_map(|s| s.cluster.data()).collect();
    // The processes end with the lab.
    bench.end(&data)
}

/// One repetition.
fn once(
    bench: &mut Bench,
    subject: &mut Subject,
    (action, victim): (Action, Victim),
    n: usize,
    rate: f64,
) -> Result<()> {
    let Subject { cluster, mended } = subject;
    let cluster = &mut **cluster;
    cluster.await_well(&bench.stop)?;
    let controller = cluster.controller()?;
    let mut others = [controller % NODES + 1, (controller + 1) % NODES + 1];
    // The one that was broken longest ago.
    others.sort_by_key(|id| mended.get(id).copied());
    let [one, other] = others;
    // The first partition is the one that is probed.
    let (node, leaders) = match victim {
        Victim::Leader => (one, vec![one, other, controller]),
        Victim::Follower => (one, vec![other, controller]),
        Victim::Controller => (controller, vec![one, other]),
        Victim::Both => (controller, vec![controller, one, other]),
    };
    if let Some(mended) = mended.get(&node) {
        bench.stop.sleep(APART.saturating_sub(mended.elapsed() + BEFORE))?;
    }
    let target = bench.topic(cluster, "gaps", &leaders)?;
    let mut client = bench.client(Library::Librdkafka, Role::Producer, rate, 1, &target)?;
    let name = client.plan.name.clone();
    bench.await_acks(&mut client, &target, BEFORE)?;
    let others = Port::all(NODES).into_iter().filter(|p| *p != Port::Node(node)).collect::<Vec<_>>();
    let before = Clock::now();
    match action {
        Action::Kill => cluster.signal(node, Signal::KILL)?,
        Action::Stop => cluster.signal(node, Signal::STOP)?,
        Action::Isolate => {
            let one = vec![Port::Node(node)];
            let losses = [
                Loss { from: one.clone(), to: others.clone(), percent: 100 },
                Loss { from: others, to: one, percent: 100 },
            ];
            bench.lab.cut("gap", &losses)?;
        }
    }
    let patience = cluster.patience();
    let acked = probe::first_ack(&cluster.ids(), &target.topic, 0, 800 * crate::history::WRITER_STEP, patience);
    let Some(acked) = acked else { bail!("nothing was acknowledged within {} s", patience.as_secs()) };
    bench.stop.sleep(AFTER)?;
    let after = Clock::now();
    match action {
        Action::Kill => {
            cluster.wait(node)?;
            cluster.start(&bench.lab, node)?;
        }
        Action::Stop => cluster.signal(node, Signal::CONT)?,
        Action::Isolate => bench.lab.restore("gap")?,
    }
    mended.insert(node, Instant::now());
    client.wait(CLIENT_PATIENCE, &bench.stop)?;
    let case = format!("{action:?} {victim:?}").to_lowercase();
    bench.note(format!(
        "{case} of {}, node {node}, {}: probe after {} ns",
        cluster.name(),
        target.topic,
        acked - before
    ))?;
    cluster.await_well(&bench.stop)?;
    let mine = bench.lines_of(&name)?;
    let facts = facts::Facts::of(&mine);
    let Some(gap) = report::longest_gap(&facts, before, after) else {
        bail!("the producer got no acknowledgement around the fault: see {name}.err")
    };
    let lost = bench.lost(cluster, &target, &facts)?;
    let (gap, probe) = (seconds(gap), seconds(acked - before));
    report::say(&format!("{} {case} {n}: producer {gap:.3} s, probe {probe:.3} s", cluster.name()));
    let ours = cluster.name() == "rookery";
    let (producer_goal, probe_goal) = if ours { goals(action, victim) } else { (None, None) };
    let of = Case { case: &case, broker: cluster.name(), n };
    bench.keep(&of, "longest gap of the producer", Unit::Seconds, producer_goal, vec![gap])?;
    bench.keep(&of, "first ack of the probe", Unit::Seconds, probe_goal, vec![probe])?;
    bench.keep(&of, "lost", Unit::Count, if ours { Goal::none() } else { None }, vec![lost as f64])
}
