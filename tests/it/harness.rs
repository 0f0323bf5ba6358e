//! Clusters of real processes on real disks, driven through the command line and the HTTP API.

use rookery_protocol::batch::RecordBatchBuilder;
use rookery_protocol::codec::Records;
use rookery_protocol::error::ErrorCode;
use rookery_protocol::messages::header::read_response;
use rookery_protocol::messages::offset_commit::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};
use rookery_protocol::messages::produce::{PartitionProduceData, TopicProduceData};
use rookery_protocol::messages::{
    FindCoordinatorRequest, MetadataRequest, MetadataResponse, OffsetCommitRequest, ProduceRequest, Request,
    request_frame,
};
use serde_json::Value;
use std::fmt::Write as _;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// A cluster that is slower than this is broken, not slow.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// What a node is (`process.roles`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Role {
    Both,
    Broker,
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

/// One node: its place, and its process while it runs.
pub struct Node {
    pub role: Role,
    pub kafka: u16,
    pub peer: u16,
    pub http: u16,
    process: Option<Server>,
}

/// A node's process. Dropping it ends it, also where a test fails in the middle of waiting for it.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Nodes that know each other, from 0 here and from 1 in their own eyes. Dropping it ends them.
pub struct Cluster {
    pub nodes: Vec<Node>,
    /// After those who use it.
    dir: tempfile::TempDir,
}

impl Cluster {
    /// Nodes that are broker and controller, ready.
    pub fn start(count: usize) -> Cluster {
        let mut cluster = Cluster::planned(&vec![Role::Both; count]);
        cluster.launch_all();
        cluster
    }

    /// Nodes that do not run yet.
    pub fn planned(roles: &[Role]) -> Cluster {
        let node = |role: &Role| {
            let [kafka, peer, http] = free_ports();
            Node { role: *role, kafka, peer, http, process: None }
        };
        Cluster { dir: tempfile::tempdir().unwrap(), nodes: roles.iter().map(node).collect() }
    }

    /// Launches every node and waits until all are ready.
    pub fn launch_all(&mut self) {
        (0..self.nodes.len()).for_each(|i| self.launch(i));
        (0..self.nodes.len()).for_each(|i| self.wait_ready(i));
    }

    /// `controller.quorum.voters`.
    pub fn voters(&self) -> String {
        let voters = self.nodes.iter().enumerate().filter(|(_, n)| n.role != Role::Broker);
        voters.map(|(i, n)| format!("{}@127.0.0.1:{}", i + 1, n.peer)).collect::<Vec<_>>().join(",")
    }

    pub fn launch(&mut self, i: usize) {
        self.launch_with(i, &[]);
    }

    /// Launches a node with more on its command line.
    pub fn launch_with(&mut self, i: usize, more: &[&str]) {
        self.launch_in(i, more, &[]);
    }

    /// Launches a node with more on its command line, and in its environment.
    pub fn launch_in(&mut self, i: usize, more: &[&str], environment: &[(&str, &str)]) {
        let node = &self.nodes[i];
        let mut args =
            server_args(i + 1, node.role, &self.data_dir(i), [node.kafka, node.peer, node.http], &self.voters());
        args.extend(more.iter().map(|arg| (*arg).to_owned()));
        let log = std::fs::File::options().create(true).append(true).open(self.log(i)).unwrap();
        let process = Command::new(env!("CARGO_BIN_EXE_rookery"))
            .args(&args)
            .envs(environment.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        self.nodes[i].process = Some(Server(process));
    }

    pub fn data_dir(&self, i: usize) -> PathBuf {
        self.dir.path().join((i + 1).to_string())
    }

    pub fn log(&self, i: usize) -> PathBuf {
        self.dir.path().join(format!("{}.log", i + 1))
    }

    /// The last lines of a node's log.
    pub fn tail(&self, i: usize) -> String {
        tail(&self.log(i))
    }

    /// Waits until `condition` gives something, and fails with `what` and every log otherwise.
    pub fn until<T>(&self, what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
        let began = Instant::now();
        loop {
            if let Some(value) = condition() {
                return value;
            }
            assert!(began.elapsed() < PATIENCE, "never: {what}\n{}", self.tails());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    pub fn tails(&self) -> String {
        (0..self.nodes.len()).map(|i| self.tail(i)).collect::<Vec<_>>().join("\n--\n")
    }

    /// Why a node is not ready; nothing while it is. A node that does not answer HTTP says so.
    pub fn not_ready(&self, i: usize) -> Option<String> {
        let url = format!("http://127.0.0.1:{}/health/ready", self.nodes[i].http);
        match ureq::get(&url).config().http_status_as_error(false).build().call() {
            Ok(answer) if answer.status().is_success() => None,
            Ok(mut answer) => Some(answer.body_mut().read_to_string().unwrap()),
            Err(error) => Some(error.to_string()),
        }
    }

    pub fn wait_ready(&mut self, i: usize) {
        let log = self.log(i);
        let mut process = self.nodes[i].process.take().unwrap();
        self.until(&format!("node {} is ready", i + 1), || {
            let ended = process.0.try_wait().unwrap();
            assert!(ended.is_none(), "node {} ended: {}", i + 1, tail(&log));
            self.not_ready(i).is_none().then_some(())
        });
        self.nodes[i].process = Some(process);
    }

    /// Waits until a node gives this reason for not being ready.
    pub fn wait_for_reason(&self, i: usize, part: &str) {
        let what = format!("node {} says {part:?}", i + 1);
        self.until(&what, || self.not_ready(i).filter(|why| why.contains(part)).map(|_| ()));
    }

    /// `/admin/v1/cluster` of a node.
    pub fn view(&self, i: usize) -> Option<Value> {
        let url = format!("http://127.0.0.1:{}/admin/v1/cluster", self.nodes[i].http);
        ureq::get(&url).call().ok()?.body_mut().read_json().ok()
    }

    /// Waits until a node sees no partition out of sync.
    pub fn wait_in_sync(&self, i: usize) {
        self.until("every replica is in sync", || {
            let partitions = self.view(i)?["partitions"].clone();
            (partitions["under_replicated"] == 0 && partitions["offline"] == 0).then_some(())
        });
    }

    /// The node (from 0) that a node takes for the active controller.
    pub fn controller(&self, i: usize) -> Option<usize> {
        let id = self.view(i)?["quorum"]["controller"]["node_id"].as_u64()?;
        Some(usize::try_from(id).unwrap() - 1)
    }

    /// Whether a node's process is there.
    pub fn is_running(&mut self, i: usize) -> bool {
        self.nodes[i].process.as_mut().is_some_and(|process| process.0.try_wait().unwrap().is_none())
    }

    /// `/metrics` of a node.
    pub fn metrics(&self, i: usize) -> String {
        let url = format!("http://127.0.0.1:{}/metrics", self.nodes[i].http);
        ureq::get(&url).call().unwrap().body_mut().read_to_string().unwrap()
    }

    /// JSON from a node's admin API.
    pub fn get(&self, i: usize, path: &str) -> Option<Value> {
        let url = format!("http://127.0.0.1:{}{path}", self.nodes[i].http);
        ureq::get(&url).call().ok()?.body_mut().read_json().ok()
    }

    /// Asks a node's admin API for something that needs no more words.
    pub fn post(&self, i: usize, path: &str) {
        let url = format!("http://127.0.0.1:{}{path}", self.nodes[i].http);
        ureq::post(&url).header("content-type", "application/json").send("{}").unwrap();
    }

    /// kill -9.
    pub fn kill(&mut self, i: usize) {
        let mut process = self.nodes[i].process.take().unwrap();
        process.0.kill().unwrap();
        process.0.wait().unwrap();
    }

    /// SIGSTOP: it hangs, and its connections stay open.
    pub fn pause(&self, i: usize) {
        self.signal(i, "STOP");
    }

    /// SIGCONT.
    pub fn resume(&self, i: usize) {
        self.signal(i, "CONT");
    }

    fn signal(&self, i: usize, signal: &str) {
        let process = self.nodes[i].process.as_ref().unwrap();
        let told = Command::new("kill").args(["-s", signal, &process.0.id().to_string()]).status().unwrap();
        assert!(told.success());
    }

    /// SIGTERM, and how the process ended.
    pub fn terminate(&mut self, i: usize) -> ExitStatus {
        self.signal(i, "TERM");
        let mut process = self.nodes[i].process.take().unwrap();
        self.until("SIGTERM ends the process", || process.0.try_wait().unwrap())
    }

    /// The node's disk is replaced by an empty one.
    pub fn wipe(&mut self, i: usize) {
        assert!(self.nodes[i].process.is_none(), "it still runs");
        std::fs::remove_dir_all(self.data_dir(i)).unwrap();
    }

    /// Where clients begin: every broker.
    pub fn bootstrap(&self) -> String {
        let brokers = self.nodes.iter().filter(|n| n.role != Role::Controller);
        brokers.map(|n| format!("127.0.0.1:{}", n.kafka)).collect::<Vec<_>>().join(",")
    }

    /// Runs a client command, which must succeed.
    pub fn rookery(&self, args: &[&str], input: &str) -> Output {
        let output = self.rookery_fallible(args, input);
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "rookery {args:?}: {errors}\n{}", self.tails());
        output
    }

    /// Runs a client command.
    pub fn rookery_fallible(&self, args: &[&str], input: &str) -> Output {
        rookery(&[args, &["--bootstrap", &self.bootstrap()]].concat(), input)
    }

    /// `rookery quorum replace` of a node, asked of another one.
    pub fn replace_voter(&self, i: usize, ask: usize) -> Output {
        self.quorum(&["replace", &(i + 1).to_string()], ask)
    }

    /// `rookery quorum …`, asked of a node.
    pub fn quorum(&self, args: &[&str], ask: usize) -> Output {
        let http = format!("http://127.0.0.1:{}", self.nodes[ask].http);
        rookery(&[&["quorum"], args, &["--http", &http]].concat(), "")
    }

    pub fn produce(&self, topic: &str, records: std::ops::Range<usize>) {
        let lines = records.fold(String::new(), |mut lines, n| {
            writeln!(lines, "record-{n:06}").unwrap();
            lines
        });
        self.rookery(&["produce", topic], &lines);
    }

    /// Writes lines with the command-line producer; whether all were acknowledged.
    pub fn try_produce(&self, topic: &str, lines: &[String]) -> bool {
        let arguments = ["produce", topic, "--bootstrap", &self.bootstrap()];
        rookery(&arguments, &(lines.join("\n") + "\n")).status.success()
    }

    /// One record to partition 0 of a topic, asked of one node and once: the name of the error.
    pub fn produce_once(&self, i: usize, topic: &str, partition: i32) -> &'static str {
        let mut batch = RecordBatchBuilder::new();
        batch.push(0, None, Some(b"once"), &[]);
        let records = Some(Records::from(batch.build().unwrap().into_bytes()));
        let request = ProduceRequest {
            acks: -1,
            timeout_ms: 10_000,
            topic_data: vec![TopicProduceData {
                name: topic.into(),
                partition_data: vec![PartitionProduceData { index: partition, records }],
                ..Default::default()
            }],
            ..Default::default()
        };
        let response = ask(self.nodes[i].kafka, 9, &request);
        ErrorCode::from_code(response.responses[0].partition_responses[0].error_code).unwrap().name()
    }

    /// Commits an offset of partition 0 of a topic for a group without members, asked of one node and once: the name of the error.
    pub fn commit_offset(&self, i: usize, topic: &str, offset: i64) -> &'static str {
        let port = self.nodes[i].kafka;
        let find = FindCoordinatorRequest { key_type: 0, coordinator_keys: vec!["g".into()], ..Default::default() };
        self.until("a coordinator", || {
            (ask(port, 4, &find).coordinators[0].error_code == ErrorCode::None.code()).then_some(())
        });
        let partition =
            OffsetCommitRequestPartition { partition_index: 0, committed_offset: offset, ..Default::default() };
        let topic = OffsetCommitRequestTopic { name: topic.into(), partitions: vec![partition], ..Default::default() };
        let request = OffsetCommitRequest {
            group_id: "g".into(),
            generation_id_or_member_epoch: -1,
            topics: vec![topic],
            ..Default::default()
        };
        let response = ask(port, 8, &request);
        ErrorCode::from_code(response.topics[0].partitions[0].error_code).unwrap().name()
    }

    /// Every record of a topic, sorted.
    pub fn consume(&self, topic: &str) -> Vec<String> {
        let output = self.rookery(&["consume", topic, "--from-beginning", "--exit-at-end"], "");
        let mut lines: Vec<String> = String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect();
        lines.sort();
        lines
    }

    /// A producer that writes record after record until it is told to stop.
    pub fn stream(&self, topic: &str) -> Stream {
        let process = Command::new(env!("CARGO_BIN_EXE_rookery"))
            .args(["produce", topic, "--bootstrap", &self.bootstrap()])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        Stream::begin(process)
    }

    /// A row of `rookery topic describe`: leader, epoch, replicas, in sync, offline.
    pub fn describe(&self, topic: &str, partition: &str) -> Vec<String> {
        let output = self.rookery(&["topic", "describe", topic], "");
        let text = String::from_utf8(output.stdout).unwrap();
        let mut rows = text.lines().map(|l| l.split_whitespace().map(str::to_owned).collect::<Vec<_>>());
        rows.find(|row| row.first().is_some_and(|first| first == partition)).unwrap()[1..].to_vec()
    }

    /// The node (from 0) that leads a partition, as the cluster says.
    pub fn leader(&self, topic: &str, partition: &str) -> usize {
        self.describe(topic, partition)[0].parse::<usize>().unwrap() - 1
    }
}

/// A running producer.
pub struct Stream {
    process: Child,
    stop: Arc<AtomicBool>,
    given: Arc<AtomicUsize>,
    writer: JoinHandle<()>,
}

impl Stream {
    fn begin(mut process: Child) -> Stream {
        let mut input = process.stdin.take().unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let given = Arc::new(AtomicUsize::new(0));
        let count = given.clone();
        let writer = std::thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                writeln!(input, "record-{:06}", count.load(Ordering::Relaxed)).unwrap();
                count.fetch_add(1, Ordering::Relaxed);
                std::thread::sleep(Duration::from_millis(2));
            }
        });
        Stream { process, stop, given, writer }
    }

    /// How many records it was given so far.
    pub fn written(&self) -> usize {
        self.given.load(Ordering::Relaxed)
    }

    /// How many records were written; every one of them was acknowledged, or this fails with what the producer said.
    pub fn finish(self) -> usize {
        self.stop.store(true, Ordering::Relaxed);
        let output = self.process.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "the producer failed: {said}");
        self.writer.join().unwrap();
        let written = self.given.load(Ordering::Relaxed);
        assert!(said.contains(&format!("{written} records written")), "{said}");
        written
    }
}

/// The command line of a server.
pub fn server_args(id: usize, role: Role, data: &Path, ports: [u16; 3], voters: &str) -> Vec<String> {
    let [kafka, peer, http] = ports.map(|port| format!("127.0.0.1:{port}"));
    let id = id.to_string();
    let pairs = [
        ("--node-id", id.as_str()),
        ("--roles", role.setting()),
        ("--data-dir", data.to_str().unwrap()),
        ("--listen", &kafka),
        ("--peer", &peer),
        ("--http", &http),
        ("--voters", voters),
    ];
    let mut args = vec!["server".to_owned()];
    pairs.into_iter().for_each(|(name, value)| args.extend([name.to_owned(), value.to_owned()]));
    args
}

/// The whole cluster, as a client is told on one port.
pub fn metadata(port: u16) -> MetadataResponse {
    ask(port, 12, &MetadataRequest { topics: None, ..Default::default() })
}

/// One request on a connection of its own.
pub fn ask<R: Request>(port: u16, version: i16, request: &R) -> R::Response {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    for piece in request_frame(request, version, 1, Some("test")).unwrap().parts() {
        stream.write_all(piece).unwrap();
    }
    let mut length = [0; 4];
    stream.read_exact(&mut length).unwrap();
    let mut body = vec![0; usize::try_from(i32::from_be_bytes(length)).unwrap()];
    stream.read_exact(&mut body).unwrap();
    read_response::<R>(body.into(), version).unwrap().1
}

/// Runs a server that must end by itself, not in order, with one line for the operator: that line, and the exit code.
pub fn refused(args: &[impl AsRef<str>]) -> (String, Option<i32>) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_rookery"));
    command.args(args.iter().map(AsRef::as_ref)).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut process = command.spawn().unwrap();
    let (began, mut stderr) = (Instant::now(), process.stderr.take().unwrap());
    let reader = std::thread::spawn(move || std::io::read_to_string(&mut stderr).unwrap());
    let status = loop {
        match process.try_wait().unwrap() {
            Some(status) => break status,
            None if began.elapsed() > PATIENCE => {
                process.kill().unwrap();
                panic!("it was not refused: {}", reader.join().unwrap());
            }
            None => std::thread::sleep(Duration::from_millis(20)),
        }
    };
    let errors = reader.join().unwrap();
    let said: Vec<&str> = errors.lines().filter(|l| l.starts_with("rookery: ")).collect();
    assert!(said.len() == 1 && !status.success() && !errors.contains("panicked"), "{status}: {errors}");
    (said[0].to_owned(), status.code())
}

/// Runs a command to its end.
pub fn rookery(args: &[&str], input: &str) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_rookery"))
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // A command that fails early does not read its input.
    let _ = command.stdin.take().unwrap().write_all(input.as_bytes());
    command.wait_with_output().unwrap()
}

/// Ports nobody listens on, below the range from which the kernel picks ports for outgoing connections: a node that is down for a
/// while finds its port free when it comes back.
pub fn free_ports<const N: usize>() -> [u16; N] {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let base = 12_000 + u16::try_from(std::process::id() % 160).unwrap() * 100;
    std::array::from_fn(|_| {
        loop {
            let port = base + NEXT.fetch_add(1, Ordering::Relaxed);
            if TcpListener::bind(("127.0.0.1", port)).is_ok() {
                return port;
            }
        }
    })
}

fn tail(path: &Path) -> String {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(20)..].join("\n")
}

pub fn expected(count: usize) -> Vec<String> {
    (0..count).map(|n| format!("record-{n:06}")).collect()
}
