//! A run from start to verdict: cluster, clients, faults, healing, reading back, checking.

use crate::cluster::Cluster;
use crate::disks::Disks;
use crate::faults::{Active, Kind, LATER, Need, Shim, World, catalogue};
use crate::history::{Clock, FaultPhase, Header, History, Journal, Op, Phase, Time};
use crate::lab::{Lab, Stop};
use crate::nodes::{Nodes, Role as NodeRole};
use crate::schedule::{Schedule, Turn};
use crate::workload::{Client, Goal, Library, Plan, Role, Runtimes};
use crate::{reader, report};
use anyhow::{Context, Result, bail};
use rand::SeedableRng;
use rand::rngs::StdRng;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// How many nodes.
pub const NODES: i32 = 3;
/// Of the topic.
pub const PARTITIONS: i32 = 6;
/// What is written to.
pub const TOPIC: &str = "faults";
/// Steady before the first fault.
const WARM: Duration = Duration::from_secs(5);
/// What healing, groups and clients may take before something is stuck: also a store whose disk has failed several times is
/// opened again by then.
const PATIENCE: Duration = Duration::from_secs(120);
/// A producer may keep what it holds for two minutes.
const CLIENT_PATIENCE: Duration = Duration::from_secs(150);

/// What to run.
#[derive(Debug, Clone, clap::Args)]
pub struct RunArguments {
    /// Seconds of faults
    #[arg(long, env = "FAULTS_SECONDS", default_value_t = 300)]
    seconds: u64,
    /// Where the schedule comes from; a new one if not said
    #[arg(long, env = "SEED")]
    seed: Option<u64>,
    /// Which faults: names, groups, mix, all
    #[arg(long, env = "FAULTS", value_delimiter = ',', default_value = "all")]
    faults: Vec<String>,
    /// Which clients
    #[arg(long, env = "CLIENTS", value_delimiter = ',', value_enum, default_value = "librdkafka,java")]
    clients: Vec<Library>,
    /// Records a second, of all producers together
    #[arg(long, env = "RATE", default_value_t = 500.0)]
    rate: f64,
    #[command(flatten)]
    place: Place,
}

/// The binary and where things are kept.
#[derive(Debug, Clone, clap::Args)]
pub struct Place {
    /// The rookery binary
    #[arg(long, env = "ROOKERY", default_value = "target/release/rookery")]
    pub rookery: PathBuf,
    /// Where the run is kept; a new directory under target/faults if not said
    #[arg(long, env = "RUN_DIR")]
    pub dir: Option<PathBuf>,
    /// A setting of every node, NAME=VALUE
    #[arg(long = "set", value_name = "NAME=VALUE")]
    pub settings: Vec<String>,
    /// Keep the nodes' data
    #[arg(long, env = "KEEP")]
    pub keep: bool,
    /// Where the client libraries are
    #[command(flatten)]
    pub runtimes: Runtimes,
}

impl Place {
    /// A new directory for a run of this name.
    pub fn directory_for(&self, name: &str) -> Result<PathBuf> {
        let dir = match &self.dir {
            Some(dir) => dir.clone(),
            None => PathBuf::from(format!("target/faults/{name}-{}", std::process::id())),
        };
        if dir.join("run.json").exists() {
            bail!("{} holds a run already", dir.display());
        }
        std::fs::create_dir_all(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
        Ok(std::fs::canonicalize(dir)?)
    }
}

/// Run it.
pub fn run(arguments: &RunArguments, stop: Stop) -> Result<ExitCode> {
    let seed = arguments.seed.unwrap_or_else(|| u64::from(rand::random::<u32>()));
    let kinds = catalogue();
    let mut schedule = Schedule::new(&kinds, &arguments.faults)?;
    let lab = Lab::create(NODES)?;
    let dir = arguments.place.directory_for(&seed.to_string())?;
    let roles = [NodeRole::Both; NODES as usize];
    let nodes = Nodes::new(&arguments.place.rookery, &dir, &roles, &arguments.place.settings)?;
    let header = Header {
        seed,
        seconds: arguments.seconds,
        faults: arguments.faults.clone(),
        clients: arguments.clients.iter().map(|c| c.name().to_owned()).collect(),
        version: nodes.version(),
        kernel: kernel(),
        topic: TOPIC.to_owned(),
        partitions: PARTITIONS,
    };
    History::write_header(&dir, &header)?;
    report::say(&format!("seed {seed}, {} s, in {}", arguments.seconds, dir.display()));
    let journal = Journal::create(&dir, "faults")?;
    let world = World {
        lab,
        nodes,
        random: StdRng::seed_from_u64(seed),
        stop,
        disks: Disks::none(),
        clocks: Shim::none(),
        syncs: Shim::none(),
        programs: arguments.place.runtimes.programs.clone(),
        scratch: dir.clone(),
        held: Default::default(),
    };
    let mut run = Run {
        world,
        journal,
        dir,
        goal: Goal { bootstrap: String::new(), topic: TOPIC.into(), partitions: PARTITIONS },
        clients: Vec::new(),
        injected: 0,
    };
    run.start(arguments, &kinds)?;
    run.faults(arguments, &mut schedule, &kinds)?;
    run.settle()?;
    let (dir, data, images) = (run.dir.clone(), run.world.nodes.data(), run.world.disks.images());
    drop(run);
    let code = report::again(&dir)?;
    // What a run without anomaly leaves behind is of no use to anybody.
    if code == ExitCode::SUCCESS && !arguments.place.keep {
        // What lay on disks of its own went with them.
        data.iter().filter(|data| data.exists()).try_for_each(std::fs::remove_dir_all)?;
        images.iter().try_for_each(std::fs::remove_file)?;
    }
    Ok(code)
}

struct Run {
    world: World,
    journal: Journal,
    dir: PathBuf,
    goal: Goal,
    clients: Vec<Client>,
    injected: u32,
}

impl Run {
    fn start(&mut self, arguments: &RunArguments, kinds: &[Kind]) -> Result<()> {
        let needs: Vec<Need> = kinds.iter().filter(|k| k.is_chosen(&arguments.faults)).map(|k| k.need).collect();
        self.world.prepare(&needs);
        let World { lab, nodes, stop, .. } = &mut self.world;
        for id in nodes.ids() {
            nodes.start(lab, id)?;
        }
        for id in nodes.ids() {
            nodes.wait_ready(id, PATIENCE, stop)?;
        }
        self.goal.bootstrap = nodes.bootstrap();
        // Each node leads as many partitions as the others.
        let turns = [vec![1, 2, 3], vec![2, 3, 1], vec![3, 1, 2]];
        let replicas: Vec<Vec<i32>> = turns.iter().cycle().take(usize::try_from(PARTITIONS)?).cloned().collect();
        create_topic(&nodes.ids(), TOPIC, &replicas, PATIENCE, stop)?;
        let share = arguments.rate / arguments.clients.len() as f64;
        for (n, library) in (1..).zip(&arguments.clients) {
            for (role, name) in [
                (Role::Producer, "producer"),
                (Role::Consumer, "consumer"),
                (Role::Member, "member-a"),
                (Role::Member, "member-b"),
                (Role::Topics, "topics"),
            ] {
                let only_once = matches!((library, name), (Library::Java, "member-b" | "topics"));
                if only_once {
                    continue;
                }
                let plan = Plan {
                    name: format!("{}-{name}", library.name()),
                    library: *library,
                    role,
                    writer: n,
                    rate: share,
                    group: format!("faults-{}", library.name()),
                };
                self.clients.push(plan.start(&self.world.lab, &arguments.place.runtimes, &self.dir, &self.goal)?);
            }
        }
        self.journal.write(Op::Phase { name: Phase::Warm })?;
        self.world.stop.sleep(WARM)?;
        self.all_acknowledge("the first acknowledgement of every partition")
    }

    fn faults(&mut self, arguments: &RunArguments, schedule: &mut Schedule<'_>, kinds: &[Kind]) -> Result<()> {
        self.journal.write(Op::Phase { name: Phase::Faults })?;
        for (name, why) in LATER {
            if arguments.faults.iter().any(|f| f == "all" || f == name) {
                self.note_missing(name, why)?;
            }
        }
        let chosen = kinds.iter().filter(|k| k.is_chosen(&arguments.faults));
        let missing: Vec<(&str, String)> = chosen.filter_map(|k| Some((k.name, self.world.missing(k.need)?))).collect();
        for (name, why) in &missing {
            self.note_missing(name, why)?;
        }
        let end = Instant::now() + Duration::from_secs(arguments.seconds);
        while Instant::now() < end {
            let turn = schedule.deal(&mut self.world.random);
            if turn.faults.iter().any(|k| missing.iter().any(|(name, _)| *name == k.name)) {
                if missing.len() >= kinds.len() {
                    bail!("none of the chosen faults is available here");
                }
                // Time must not stand still where only missing ones were chosen.
                self.world.stop.sleep(Duration::from_millis(10))?;
                continue;
            }
            self.turn(&turn)?;
        }
        Ok(())
    }

    fn note_missing(&self, name: &str, why: &str) -> Result<()> {
        let (name, detail) = (name.to_owned(), why.to_owned());
        self.journal.write(Op::Fault { id: 0, name, phase: FaultPhase::NotHere, detail })?;
        Ok(())
    }

    fn turn(&mut self, turn: &Turn<'_>) -> Result<()> {
        let name = turn.faults.iter().map(|k| k.name).collect::<Vec<_>>().join("+");
        self.injected += 1;
        let id = self.injected;
        let tell = |journal: &Journal, phase, detail: String| {
            journal.write(Op::Fault { id, name: name.clone(), phase, detail })
        };
        let began = Clock::now();
        let mut active: Vec<Box<dyn Active>> = Vec::new();
        for (n, kind) in turn.faults.iter().enumerate() {
            if n > 0 {
                self.world.stop.sleep(turn.stagger)?;
            }
            let before = Clock::now();
            match (kind.inject)(&mut self.world, &format!("fault{id}x{n}")) {
                Ok(fault) => {
                    if n == 0 {
                        let detail = fault.detail();
                        self.journal.write_at(
                            before,
                            Op::Fault { id, name: name.clone(), phase: FaultPhase::Inject, detail },
                        )?;
                    }
                    active.push(fault);
                }
                // The second of a mixture may find nobody left to hit.
                Err(error) if n > 0 => report::say(&format!("      {} was not possible: {error:#}", kind.name)),
                Err(error) => return Err(error.context(format!("injecting {}", kind.name))),
            }
        }
        let detail = active.iter().map(|a| a.detail()).collect::<Vec<_>>().join("; ");
        report::say(&format!("{id:>4}  {name}: {detail}"));
        self.world.stop.sleep(turn.hold)?;
        let mut effects = Vec::new();
        for fault in &mut active {
            effects.push(fault.effect(&mut self.world)?);
        }
        if effects.iter().all(Option::is_some) {
            let effect = effects.into_iter().flatten().collect::<Vec<_>>().join("; ");
            tell(&self.journal, FaultPhase::Effect, effect)?;
        }
        // The last one first; but one that has to be mended with the others' help comes after them.
        let (later, sooner): (Vec<_>, Vec<_>) = active.into_iter().rev().partition(|fault| fault.needs_the_others());
        for fault in sooner.into_iter().chain(later) {
            fault.heal(&mut self.world)?;
        }
        let healed = tell(&self.journal, FaultPhase::Heal, String::new())?;
        let well = self.await_well()?;
        if well {
            let normal = tell(&self.journal, FaultPhase::Normal, String::new())?;
            report::say(&format!(
                "      broken for {:.1} s, well again after {:.1} s",
                seconds(healed - began),
                seconds(normal - healed)
            ));
        }
        let gone: Vec<String> = self
            .world
            .nodes
            .deserters()
            .into_iter()
            .chain(self.clients.iter_mut().filter_map(Client::deserted))
            .collect();
        if !gone.is_empty() {
            let detail = gone.join("; ");
            self.journal.write(Op::Awaited {
                what: "every process still runs".into(),
                since: began,
                reached: false,
                detail: detail.clone(),
            })?;
            bail!("{detail}");
        }
        self.world.stop.sleep(turn.rest)
    }

    /// Wait until every node says that all is well.
    fn await_well(&mut self) -> Result<bool> {
        let mut trouble = Vec::new();
        self.wait_for("all nodes are ready and all ISRs full", PATIENCE, |run| {
            trouble = run.world.nodes.trouble();
            Ok(trouble.clone())
        })
    }

    /// Wait for something to be without trouble; a history says if it was in vain.
    fn wait_for(
        &mut self,
        what: &str,
        patience: Duration,
        mut trouble: impl FnMut(&mut Run) -> Result<Vec<String>>,
    ) -> Result<bool> {
        let (since, end) = (Clock::now(), Instant::now() + patience);
        loop {
            self.world.stop.check()?;
            let found = trouble(self).unwrap_or_else(|error| vec![format!("{error:#}")]);
            let reached = found.is_empty();
            if reached || Instant::now() > end {
                let detail = found.join("; ");
                if !reached {
                    report::say(&format!("      in vain for {} s: {what}: {detail}", patience.as_secs()));
                }
                self.journal.write(Op::Awaited { what: what.to_owned(), since, reached, detail })?;
                return Ok(reached);
            }
            self.world.stop.sleep(Duration::from_millis(50))?;
        }
    }

    /// A record of this process's own is acknowledged in every partition: not by an idempotent producer, but each with a
    /// value of its own, so that all checkers hold.
    fn all_acknowledge(&mut self, what: &str) -> Result<()> {
        let nodes = self.world.nodes.ids();
        let mut values = self.own_values();
        for p in 0..PARTITIONS {
            let (topic, nodes) = (self.goal.topic.clone(), nodes.clone());
            self.wait_for(&format!("{what} ({p})"), PATIENCE, |run| {
                let (_, described) = reader::describe(&nodes, &topic)?;
                let leader = described.partitions.iter().find(|d| d.partition_index == p).map_or(-1, |d| d.leader_id);
                let v = values.next().context("endless")?;
                run.journal.write(Op::Send { p, v })?;
                let answer = reader::any(&[leader], |wire, deadline| wire.produce(&topic, p, v, deadline));
                match answer {
                    Ok(crate::wire::Answer::Written(o)) => {
                        run.journal.write(Op::Ack { v, p, o })?;
                        Ok(Vec::new())
                    }
                    other => {
                        let error = match other {
                            Ok(crate::wire::Answer::Refused(error)) => error,
                            Ok(other) => format!("{other:?}"),
                            Err(error) => format!("{error:#}"),
                        };
                        run.journal.write(Op::Unknown { v, error: error.clone() })?;
                        Ok(vec![error])
                    }
                }
            })?;
        }
        Ok(())
    }

    /// Values that no client uses, other ones at each call.
    fn own_values(&self) -> impl Iterator<Item = i64> + use<> {
        let since = i64::try_from(Clock::now() / 1_000_000).unwrap_or_default() % 1_000_000;
        (900 * crate::history::WRITER_STEP + since * 1000)..
    }

    /// All is healed: let clients finish, read everything, also from other leaders.
    fn settle(&mut self) -> Result<()> {
        self.journal.write(Op::Phase { name: Phase::Settle })?;
        report::say("all is healed; reading everything back");
        self.await_well()?;
        self.world.stop.sleep(Duration::from_secs(2))?;
        self.end_clients(&[Role::Producer, Role::Topics])?;
        self.all_acknowledge("after healing, an acknowledgement of every partition")?;
        self.journal.write(Op::Phase { name: Phase::Read })?;
        let nodes = self.world.nodes.ids();
        let names = reader::topics(&nodes)?;
        self.journal.write(Op::Topics { names })?;
        let ends = self.read_all(0)?;
        self.groups_at_end(&ends)?;
        self.end_clients(&[Role::Consumer, Role::Member])?;
        // Every partition from another leader: each node is away once, so that what it led is led by another.
        for (pass, id) in (1..).zip(nodes) {
            let World { nodes, stop, .. } = &mut self.world;
            nodes.signal(id, rustix::process::Signal::KILL)?;
            nodes.wait(id)?;
            stop.sleep(Duration::from_secs(3))?;
            self.read_all(pass)?;
            let World { lab, nodes, .. } = &mut self.world;
            nodes.start(lab, id)?;
            self.await_well()?;
        }
        self.journal.write(Op::Phase { name: Phase::End })?;
        Ok(())
    }

    fn end_clients(&mut self, roles: &[Role]) -> Result<()> {
        let (mut ending, going_on): (Vec<Client>, Vec<Client>) =
            self.clients.drain(..).partition(|c| roles.contains(&c.plan.role));
        self.clients = going_on;
        ending.iter_mut().for_each(Client::ask_to_end);
        for client in ending {
            let (what, since) = (format!("{} ends when asked", client.plan.name), Clock::now());
            let ended = client.wait(CLIENT_PATIENCE, &self.world.stop);
            self.world.stop.check()?;
            let detail = ended.as_ref().err().map(|e| format!("{e:#}")).unwrap_or_default();
            self.journal.write(Op::Awaited { what, since, reached: ended.is_ok(), detail })?;
        }
        Ok(())
    }

    /// Read every partition; where each ends.
    fn read_all(&mut self, pass: u32) -> Result<Vec<i64>> {
        let (nodes, topic) = (self.world.nodes.ids(), self.goal.topic.clone());
        let mut ends = Vec::new();
        for p in 0..PARTITIONS {
            let mut found = None;
            self.wait_for(&format!("partition {p} can be read, pass {pass}"), PATIENCE, |_| {
                found = Some(reader::whole(&nodes, &topic, p)?);
                Ok(Vec::new())
            })?;
            if let Some(reader::Whole { leader, epoch, rows, batches }) = found {
                ends.push(rows.last().map_or(0, |(o, _)| o + 1));
                self.journal.write(Op::Read { pass, p, leader, epoch, rows, batches })?;
            }
        }
        Ok(ends)
    }

    fn groups_at_end(&mut self, ends: &[i64]) -> Result<()> {
        let mut groups: Vec<String> =
            self.clients.iter().filter(|c| c.plan.role == Role::Member).map(|c| c.plan.group.clone()).collect();
        groups.dedup();
        for group in groups {
            let nodes = self.world.nodes.ids();
            self.wait_for(&format!("group {group} has committed everything"), PATIENCE, |run| {
                let since = Clock::now();
                let committed = reader::committed(&nodes, &group, TOPIC, PARTITIONS)?;
                for (p, o) in (0..).zip(&committed) {
                    run.journal.write(Op::Committed { group: group.clone(), since, p, o: *o })?;
                }
                let behind = (0i32..).zip(committed.iter().zip(ends)).filter(|(_, (c, end))| c < end);
                Ok(behind.map(|(p, (c, end))| format!("{} of {end} in partition {p}", c.max(&0), p = { p })).collect())
            })?;
        }
        Ok(())
    }
}

/// Create a topic as soon as the cluster lets us.
pub fn create_topic(nodes: &[i32], topic: &str, replicas: &[Vec<i32>], patience: Duration, stop: &Stop) -> Result<()> {
    let end = Instant::now() + patience;
    loop {
        let made = reader::any(nodes, |wire, deadline| wire.create_topic(topic, replicas, deadline));
        let leads = made.and_then(|()| {
            let (_, described) = reader::describe(nodes, topic)?;
            let all = described.partitions.len() == replicas.len()
                && described.partitions.iter().all(|p| p.leader_id >= 0 && p.isr_nodes.len() == p.replica_nodes.len());
            if all { Ok(()) } else { bail!("topic {topic} has not all its leaders and replicas yet") }
        });
        match leads {
            Ok(()) => return Ok(()),
            Err(error) if Instant::now() > end => return Err(error),
            Err(_) => stop.sleep(Duration::from_millis(50))?,
        }
    }
}

/// The kernel's version.
pub fn kernel() -> String {
    std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default().trim().to_owned()
}

/// Nanoseconds as seconds.
pub fn seconds(time: Time) -> f64 {
    time as f64 / 1e9
}
