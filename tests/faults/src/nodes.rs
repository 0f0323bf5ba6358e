//! The nodes as processes, each in its namespace, and what they say of themselves over HTTP.

use crate::history::Clock;
use crate::http;
use crate::lab::{Lab, Port, Stop};
use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};
use serde::Deserialize;
use std::fs::{self, File, OpenOptions};
use std::io::{Read, Seek, SeekFrom};
use std::net::SocketAddr;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// Where clients connect.
pub const KAFKA_PORT: u16 = 9092;
const PEER_PORT: u16 = 9192;
const HTTP_PORT: u16 = 8090;
/// A node that has not left by then is stuck.
const STOP_MAX: Duration = Duration::from_secs(40);

/// A node says at once how it is.
const HEALTH_MAX: Duration = Duration::from_millis(500);
/// A node that is asked about the cluster asks the voters itself, and waits for one that hangs.
const VIEW_MAX: Duration = Duration::from_secs(3);
/// A busy machine may be too slow for one answer in time.
const ASKED: usize = 5;

/// The cluster as one node sees it: the part of `GET /admin/v1/cluster` that the test needs.
#[derive(Debug, Clone, Deserialize)]
pub struct View {
    /// The quorum.
    pub quorum: QuorumView,
    /// Registered brokers.
    pub brokers: Vec<BrokerView>,
    /// Totals.
    pub partitions: PartitionView,
}

/// The metadata quorum.
#[derive(Debug, Clone, Deserialize)]
pub struct QuorumView {
    /// The active controller.
    pub controller: Option<ControllerView>,
    /// Raft's term.
    pub term: u64,
}

/// The active controller.
#[derive(Debug, Clone, Deserialize)]
pub struct ControllerView {
    /// Its node.
    pub node_id: i32,
}

/// A broker.
#[derive(Debug, Clone, Deserialize)]
pub struct BrokerView {
    /// Its node.
    pub node_id: i32,
    /// Leads nothing, is in no ISR.
    pub fenced: bool,
    /// Partitions it leads.
    pub leads: usize,
}

/// How the partitions are.
#[derive(Debug, Clone, Deserialize)]
pub struct PartitionView {
    /// All.
    pub total: usize,
    /// ISR smaller than the replicas.
    pub under_replicated: usize,
    /// Without leader.
    pub offline: usize,
}

/// One node.
pub struct Node {
    /// Its id.
    pub id: i32,
    process: Option<Child>,
    /// Everything it has said, over all its lives.
    pub log: PathBuf,
}

/// All nodes.
pub struct Nodes {
    binary: PathBuf,
    dir: PathBuf,
    settings: Vec<String>,
    /// What each node's environment has more.
    pub environment: Vec<(i32, String, String)>,
    /// Libraries that every node loads before its own.
    pub preload: Vec<PathBuf>,
    /// Data that lies elsewhere than in `dir`.
    places: Vec<(i32, PathBuf)>,
    all: Vec<Node>,
}

impl Nodes {
    /// Nodes that are not started yet; their data and logs will be in `dir`.
    pub fn new(binary: &Path, dir: &Path, count: i32, settings: &[String]) -> Result<Nodes> {
        let binary = fs::canonicalize(binary)
            .with_context(|| format!("no binary at {}: `make build`, or say ROOKERY=", binary.display()))?;
        let all = (1..=count).map(|id| Node { id, process: None, log: dir.join(format!("node-{id}.log")) }).collect();
        Ok(Nodes {
            binary,
            dir: dir.to_owned(),
            settings: settings.to_vec(),
            environment: Vec::new(),
            preload: Vec::new(),
            places: Vec::new(),
            all,
        })
    }

    /// Keep these nodes' data there. Before they start.
    pub fn place(&mut self, places: Vec<(i32, PathBuf)>) {
        self.places = places;
    }

    /// Their ids.
    pub fn ids(&self) -> Vec<i32> {
        self.all.iter().map(|n| n.id).collect()
    }

    /// `HOST:PORT,…` for clients.
    pub fn bootstrap(&self) -> String {
        let addresses: Vec<String> = self.ids().into_iter().map(|id| kafka(id).to_string()).collect();
        addresses.join(",")
    }

    fn node(&mut self, id: i32) -> &mut Node {
        self.all.iter_mut().find(|n| n.id == id).expect("ids come from this list")
    }

    /// What `rookery --version` says.
    pub fn version(&self) -> String {
        let out = Command::new(&self.binary).arg("--version").output();
        out.map(|o| String::from_utf8_lossy(&o.stdout).trim().to_owned()).unwrap_or_default()
    }

    /// Start the process.
    pub fn start(&mut self, lab: &Lab, id: i32) -> Result<()> {
        let voters: Vec<String> =
            self.ids().iter().map(|n| format!("{n}@{}:{PEER_PORT}", Port::Node(*n).address())).collect();
        let (binary, data) = (self.binary.clone(), self.data_of(id));
        let mut environment: Vec<String> =
            self.environment.iter().filter(|(node, ..)| *node == id).map(|(_, k, v)| format!("{k}={v}")).collect();
        if !self.preload.is_empty() {
            let libraries: Vec<String> = self.preload.iter().map(|l| l.display().to_string()).collect();
            environment.push(format!("LD_PRELOAD={}", libraries.join(":")));
            environment.push(format!("FAULTS_DATA={}", data.display()));
        }
        let settings = self.settings.clone();
        let node = self.node(id);
        if node.process.is_some() {
            bail!("node {id} runs already");
        }
        let log = OpenOptions::new().create(true).append(true).open(&node.log)?;
        let mut command = lab.command(Port::Node(id), "env");
        command.args(environment).arg(binary).arg("server");
        command.args(["--node-id", &id.to_string(), "--voters", &voters.join(",")]);
        command
            .args(["--listen", &kafka(id).to_string(), "--http", &admin(id).to_string()])
            .arg("--data-dir")
            .arg(data);
        for setting in &settings {
            command.args(["--set", setting]);
        }
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).process_group(0);
        node.process = Some(command.spawn()?);
        Ok(())
    }

    /// Send a signal.
    pub fn signal(&mut self, id: i32, signal: Signal) -> Result<()> {
        let pid = self.pid(id)?;
        kill_process(pid, signal).with_context(|| format!("signalling node {id}"))
    }

    /// The process.
    pub fn pid(&mut self, id: i32) -> Result<Pid> {
        let process = self.node(id).process.as_ref().with_context(|| format!("node {id} does not run"))?;
        Pid::from_raw(process.id().cast_signed()).context("no pid")
    }

    /// Wait for the process to end.
    pub fn wait(&mut self, id: i32) -> Result<ExitStatus> {
        let end = Instant::now() + STOP_MAX;
        loop {
            if let Some(status) = self.ended(id)? {
                return Ok(status);
            }
            if Instant::now() > end {
                bail!("node {id} has not ended after {} s", STOP_MAX.as_secs());
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// How the process ended, if it did.
    pub fn ended(&mut self, id: i32) -> Result<Option<ExitStatus>> {
        let node = self.node(id);
        let Some(process) = &mut node.process else { bail!("node {id} does not run") };
        let status = process.try_wait()?;
        if status.is_some() {
            node.process = None;
        }
        Ok(status)
    }

    /// Whether there is a process.
    pub fn runs(&mut self, id: i32) -> bool {
        self.node(id).process.is_some()
    }

    /// Nodes that ended without having been asked to: each with its exit status and last words.
    pub fn deserters(&mut self) -> Vec<String> {
        let mut gone = Vec::new();
        for id in self.ids() {
            if self.runs(id)
                && let Ok(Some(status)) = self.ended(id)
            {
                gone.push(format!("node {id} ended by itself ({status}): {}", last_line(&self.node(id).log)));
            }
        }
        gone
    }

    /// Wait until a node says that it is ready.
    pub fn wait_ready(&mut self, id: i32, patience: Duration, stop: &Stop) -> Result<()> {
        let end = Instant::now() + patience;
        loop {
            stop.check()?;
            let why = match ready(id) {
                Ok(()) => return Ok(()),
                Err(error) => format!("{error:#}"),
            };
            if let Some(status) = self.ended(id)? {
                bail!("node {id} ended ({status}): {}", last_line(&self.node(id).log));
            }
            if Instant::now() > end {
                bail!("node {id} is not ready after {} s: {why}", patience.as_secs());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// The newest view that any node answers with.
    pub fn view(&self) -> Result<View> {
        let views = || self.ids().into_iter().filter_map(|id| view(id).ok());
        let newest = || views().max_by_key(|v| (v.quorum.controller.is_some(), v.quorum.term));
        (0..ASKED).find_map(|_| newest()).context("no node answers")
    }

    /// The active controller.
    pub fn controller(&self) -> Result<i32> {
        self.view()?.quorum.controller.map(|c| c.node_id).context("no active controller")
    }

    /// Why the cluster is not as it should be; nothing if it is.
    pub fn trouble(&self) -> Vec<String> {
        let mut trouble = Vec::new();
        for id in self.ids() {
            if let Err(error) = ready(id) {
                trouble.push(format!("node {id}: {error:#}"));
                continue;
            }
            match view(id) {
                Err(error) => trouble.push(format!("node {id}: {error:#}")),
                Ok(view) => {
                    let p = &view.partitions;
                    if p.under_replicated + p.offline > 0 {
                        let (total, behind, offline) = (p.total, p.under_replicated, p.offline);
                        trouble.push(format!(
                            "node {id} sees {behind} of {total} partitions under-replicated, {offline} offline"
                        ));
                    }
                    for fenced in view.brokers.iter().filter(|b| b.fenced) {
                        trouble.push(format!("node {id} sees broker {} fenced", fenced.node_id));
                    }
                }
            }
        }
        trouble
    }

    /// Where each node keeps its data.
    pub fn data(&self) -> Vec<PathBuf> {
        self.ids().iter().map(|id| self.data_of(*id)).collect()
    }

    /// Where a node keeps its data.
    pub fn data_of(&self, id: i32) -> PathBuf {
        let placed = self.places.iter().find(|(node, _)| *node == id);
        placed.map_or_else(|| self.dir.join(format!("node-{id}")), |(_, place)| place.clone())
    }

    /// Make a voter of a node that has lost its vote, as an operator would: another node is asked.
    pub fn replace_voter(&self, id: i32, ask: i32) -> Result<()> {
        let done = Command::new(&self.binary)
            .args(["quorum", "replace", &id.to_string(), "--http", &format!("http://{}", admin(ask))])
            .output()?;
        if !done.status.success() {
            bail!("rookery quorum replace {id}: {}", String::from_utf8_lossy(&done.stderr).trim());
        }
        Ok(())
    }

    /// How much a node has said so far.
    pub fn log_length(&mut self, id: i32) -> Result<u64> {
        Ok(fs::metadata(&self.node(id).log)?.len())
    }

    /// What a node has said since then.
    pub fn log_since(&mut self, id: i32, length: u64) -> Result<String> {
        let mut text = Vec::new();
        let mut file = File::open(&self.node(id).log)?;
        file.seek(SeekFrom::Start(length))?;
        file.read_to_end(&mut text)?;
        Ok(String::from_utf8_lossy(&text).into_owned())
    }

    /// Write a line between those of a node.
    pub fn mark(&mut self, id: i32, text: &str) {
        use std::io::Write;
        if let Ok(mut log) = OpenOptions::new().append(true).open(&self.node(id).log) {
            let _ = writeln!(log, "--- {text} at monotonic {}", Clock::now());
        }
    }
}

/// Where a node's clients connect.
pub fn kafka(id: i32) -> SocketAddr {
    (Port::Node(id).address(), KAFKA_PORT).into()
}

fn admin(id: i32) -> SocketAddr {
    (Port::Node(id).address(), HTTP_PORT).into()
}

/// Whether the node answers at all.
pub fn live(id: i32) -> bool {
    http::get(admin(id), "/health/live", HEALTH_MAX).is_ok()
}

/// Why the node says that it is not ready; nothing if it is, or says nothing also when asked again.
pub fn complaint(id: i32) -> Option<String> {
    let (status, body) = (0..ASKED).find_map(|_| http::get(admin(id), "/health/ready", HEALTH_MAX).ok())?;
    (status != 200).then_some(body)
}

/// The state letter in what `/proc` says of a process or thread.
pub fn state(stat: &str) -> Option<char> {
    stat.rsplit(") ").next().and_then(|rest| rest.chars().next())
}

fn ready(id: i32) -> Result<()> {
    let (status, body) = http::get(admin(id), "/health/ready", HEALTH_MAX)?;
    if status != 200 {
        bail!("{body}");
    }
    Ok(())
}

fn view(id: i32) -> Result<View> {
    let (_, body) = http::get(admin(id), "/admin/v1/cluster", VIEW_MAX)?;
    serde_json::from_str(&body).context("the answer of /admin/v1/cluster")
}

fn last_line(log: &Path) -> String {
    let mut text = String::new();
    if let Ok(mut file) = File::open(log) {
        let _ = file.read_to_string(&mut text);
    }
    text.lines().last().unwrap_or_default().to_owned()
}
