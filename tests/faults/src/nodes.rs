//! Rookery's nodes, each in its namespace, and what they say of themselves over HTTP.

use crate::cluster::{Cluster, address};
use crate::http;
use crate::lab::{Lab, Port};
use crate::processes::Processes;
use anyhow::{Context, Result, bail};
use serde::Deserialize;
use std::fs;
use std::net::SocketAddr;
use std::ops::{Deref, DerefMut};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

const PEER_PORT: u16 = 9192;
const HTTP_PORT: u16 = 8090;
/// What a measurement waits for at most.
const PATIENCE: Duration = Duration::from_secs(60);

/// A node says at once how it is.
const HEALTH_MAX: Duration = Duration::from_millis(500);
/// A node that is asked about the cluster asks the voters itself, and waits for one that hangs.
const VIEW_MAX: Duration = Duration::from_secs(3);
/// A controller that is handed over waits for its successor.
const TRANSFER_MAX: Duration = Duration::from_secs(20);
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

/// A page of `GET /admin/v1/events`: the part of it that the test needs.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct EventPage {
    /// The events, oldest first.
    #[serde(default)]
    pub events: Vec<EventView>,
    /// Where to go on.
    pub next: u64,
}

/// Something that happened.
#[derive(Debug, Clone, Deserialize, serde::Serialize)]
pub struct EventView {
    /// Counts them.
    pub number: u64,
    /// When, by the wall clock of the controller.
    pub time: String,
    /// Such as `broker_fenced`.
    pub kind: String,
    /// In words.
    pub what: String,
    /// Why, in words.
    #[serde(default)]
    pub because: String,
}

/// What a node is (`process.roles`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// A broker with a vote in the metadata quorum.
    Both,
    /// A broker alone.
    Broker,
    /// A vote alone.
    Controller,
}

impl Role {
    fn setting(self) -> &'static str {
        match self {
            Role::Both => "broker,controller",
            Role::Broker => "broker",
            Role::Controller => "controller",
        }
    }
}

/// All nodes.
pub struct Nodes {
    binary: PathBuf,
    dir: PathBuf,
    settings: Vec<String>,
    /// Of node 1, 2, …
    roles: Vec<Role>,
    /// What each node's environment has more.
    pub environment: Vec<(i32, String, String)>,
    /// Libraries that every node loads before its own.
    pub preload: Vec<PathBuf>,
    /// Data that lies elsewhere than in `dir`.
    places: Vec<(i32, PathBuf)>,
    processes: Processes,
}

impl Deref for Nodes {
    type Target = Processes;

    fn deref(&self) -> &Processes {
        &self.processes
    }
}

impl DerefMut for Nodes {
    fn deref_mut(&mut self) -> &mut Processes {
        &mut self.processes
    }
}

impl Nodes {
    /// Nodes that are not started yet; their data and logs will be in `dir`.
    pub fn new(binary: &Path, dir: &Path, roles: &[Role], settings: &[String]) -> Result<Nodes> {
        let binary = fs::canonicalize(binary)
            .with_context(|| format!("no binary at {}: `make build`, or say ROOKERY=", binary.display()))?;
        Ok(Nodes {
            binary,
            dir: dir.to_owned(),
            settings: settings.to_vec(),
            roles: roles.to_vec(),
            environment: Vec::new(),
            preload: Vec::new(),
            places: Vec::new(),
            processes: Processes::new(dir, "node", i32::try_from(roles.len())?),
        })
    }

    /// Keep these nodes' data there. Before they start.
    pub fn place(&mut self, places: Vec<(i32, PathBuf)>) {
        self.places = places;
    }

    /// Nodes with one of these roles.
    fn with_roles(&self, wanted: &[Role]) -> Vec<i32> {
        let ids = self.ids().into_iter().zip(&self.roles);
        ids.filter(|(_, role)| wanted.contains(role)).map(|(id, _)| id).collect()
    }

    /// The newest view that any node answers with.
    pub fn view(&self) -> Result<View> {
        let views = || self.ids().into_iter().filter_map(|id| view(id).ok());
        let newest = || views().max_by_key(|v| (v.quorum.controller.is_some(), v.quorum.term));
        (0..ASKED).find_map(|_| newest()).context("no node answers")
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

    /// Make another voter the active controller, as an operator would: any node is asked.
    pub fn transfer_controller(&self, ask: i32) -> Result<()> {
        let (status, body) = http::post(admin(ask), "/admin/v1/quorum/transfer", "{}", TRANSFER_MAX)?;
        if status != 200 {
            bail!("the controller was not handed over: {body}");
        }
        Ok(())
    }

    /// What happened in the cluster, from event `after` on; without it only where to go on from.
    pub fn events(&self, after: Option<u64>) -> Result<EventPage> {
        let path = match after {
            Some(after) => format!("/admin/v1/events?limit=1000&after={after}"),
            None => "/admin/v1/events?limit=1".to_owned(),
        };
        let ask = |id: i32| {
            let (_, body) = http::get(admin(id), &path, VIEW_MAX)?;
            serde_json::from_str::<EventPage>(&body).context("the answer of /admin/v1/events")
        };
        // Whoever is furthest.
        let pages = self.ids().into_iter().filter_map(|id| ask(id).ok());
        pages.max_by_key(|page| page.next).context("no node tells events")
    }
}

impl Cluster for Nodes {
    fn name(&self) -> &'static str {
        "rookery"
    }

    fn version(&self) -> String {
        let out = Command::new(&self.binary).arg("--version").output();
        out.map(|o| String::from_utf8_lossy(&o.stdout).trim().to_owned()).unwrap_or_default()
    }

    fn patience(&self) -> Duration {
        PATIENCE
    }

    fn brokers(&self) -> Vec<i32> {
        self.with_roles(&[Role::Both, Role::Broker])
    }

    fn start(&mut self, lab: &Lab, id: i32) -> Result<()> {
        let voters: Vec<String> = self
            .with_roles(&[Role::Both, Role::Controller])
            .iter()
            .map(|n| format!("{n}@{}:{PEER_PORT}", Port::Node(*n).address()))
            .collect();
        let data = self.data_of(id);
        let mut environment: Vec<String> =
            self.environment.iter().filter(|(node, ..)| *node == id).map(|(_, k, v)| format!("{k}={v}")).collect();
        if !self.preload.is_empty() {
            let libraries: Vec<String> = self.preload.iter().map(|l| l.display().to_string()).collect();
            environment.push(format!("LD_PRELOAD={}", libraries.join(":")));
            environment.push(format!("FAULTS_DATA={}", data.display()));
        }
        let role = self.roles[usize::try_from(id - 1)?];
        let mut command = lab.command(Port::Node(id), "env");
        command.args(environment).arg(&self.binary).arg("server");
        command.args(["--node-id", &id.to_string(), "--roles", role.setting(), "--voters", &voters.join(",")]);
        command
            .args(["--listen", &address(id).to_string(), "--http", &admin(id).to_string()])
            .args(["--peer", &format!("{}:{PEER_PORT}", Port::Node(id).address())])
            .arg("--data-dir")
            .arg(data);
        for setting in &self.settings {
            command.args(["--set", setting]);
        }
        self.spawn(id, command)
    }

    fn ready(&self, id: i32) -> Result<()> {
        let (status, body) = http::get(admin(id), "/health/ready", HEALTH_MAX)?;
        if status != 200 {
            bail!("{body}");
        }
        Ok(())
    }

    fn controller(&self) -> Result<i32> {
        self.view()?.quorum.controller.map(|c| c.node_id).context("no active controller")
    }

    fn trouble(&self) -> Vec<String> {
        let mut trouble = Vec::new();
        for id in self.ids() {
            if let Err(error) = self.ready(id) {
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

    fn data(&self) -> Vec<PathBuf> {
        self.ids().iter().map(|id| self.data_of(*id)).collect()
    }
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

fn view(id: i32) -> Result<View> {
    let (_, body) = http::get(admin(id), "/admin/v1/cluster", VIEW_MAX)?;
    serde_json::from_str(&body).context("the answer of /admin/v1/cluster")
}
