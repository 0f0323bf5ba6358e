//! Apache Kafka's nodes, each broker and controller, and what they say of themselves over its protocol.
//!
//! Its defaults, but for what three nodes need: internal topics of three replicas, of which two must be in sync. Data of a
//! node lies in `kafka-ID` of the run's directory, beside its `server.properties`.

use crate::cluster::{Cluster, KAFKA_PORT, address};
use crate::lab::{Lab, Port};
use crate::processes::Processes;
use crate::wire::Wire;
use anyhow::{Context, Result, bail};
use rookery_protocol::messages::DescribeQuorumRequest;
use rookery_protocol::messages::describe_quorum::{RequestPartitionData, RequestTopicData, ResponsePartitionData};
use rustix::process::Signal;
use std::fs;
use std::ops::{Deref, DerefMut};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

const CONTROLLER_PORT: u16 = 9093;
const DESCRIBE_QUORUM: i16 = 1;
const METADATA_TOPIC: &str = "__cluster_metadata";
const CLUSTER_ID: &str = "faultsKafkaCluster001A";
/// A broker is fenced after nine seconds of silence, and a replica may be behind for thirty.
const PATIENCE: Duration = Duration::from_secs(180);
/// For one answer: a JVM may be collecting.
const ANSWER_MAX: Duration = Duration::from_secs(3);

/// Where Apache Kafka is.
#[derive(Debug, Clone, clap::Args)]
pub struct KafkaPlace {
    /// Folder of Apache Kafka's jars: `tests/clients/setup kafka` makes one, and says where
    #[arg(long, env = "KAFKA_LIBS")]
    pub kafka_libs: Option<PathBuf>,
    /// Heap of each of its nodes
    #[arg(long, env = "KAFKA_HEAP", default_value = "1G")]
    pub kafka_heap: String,
}

/// All nodes.
pub struct KafkaNodes {
    libs: PathBuf,
    heap: String,
    version: String,
    dir: PathBuf,
    processes: Processes,
}

impl Deref for KafkaNodes {
    type Target = Processes;

    fn deref(&self) -> &Processes {
        &self.processes
    }
}

impl DerefMut for KafkaNodes {
    fn deref_mut(&mut self) -> &mut Processes {
        &mut self.processes
    }
}

impl KafkaNodes {
    /// Nodes that are not started yet; their data and logs will be in `dir`.
    pub fn new(place: &KafkaPlace, dir: &Path, count: i32) -> Result<KafkaNodes> {
        let how = "`tests/clients/setup kafka` fetches Apache Kafka from Maven Central (needs java and mvn) and prints \
                   a folder: say KAFKA_LIBS=FOLDER/libs, or take kafka out of BROKERS=";
        let libs = place.kafka_libs.as_ref().with_context(|| format!("no Apache Kafka here. {how}"))?;
        let version = version(libs).with_context(|| format!("no Apache Kafka in {}. {how}", libs.display()))?;
        if Command::new("java").arg("-version").output().is_err() {
            bail!("Apache Kafka needs the command java: install default-jdk-headless (scripts/setup clients)");
        }
        let processes = Processes::new(dir, "kafka", count);
        let libs = fs::canonicalize(libs)?;
        Ok(KafkaNodes { libs, heap: place.kafka_heap.clone(), version, dir: dir.to_owned(), processes })
    }

    fn data_of(&self, id: i32) -> PathBuf {
        self.dir.join(format!("kafka-{id}"))
    }

    fn java(&self, command: &mut Command) {
        command.args(["-Dorg.slf4j.simpleLogger.defaultLogLevel=info", "-Dorg.slf4j.simpleLogger.showDateTime=true"]);
        command.arg("-cp").arg(self.libs.join("*"));
    }

    /// Write a node's settings and format its directory.
    fn format(&self, id: i32) -> Result<()> {
        let (data, ids) = (self.data_of(id), self.ids());
        fs::create_dir_all(&data)?;
        let controller = |n: i32| format!("{}:{CONTROLLER_PORT}", Port::Node(n).address());
        let list = |say: &dyn Fn(i32) -> String| ids.iter().map(|n| say(*n)).collect::<Vec<_>>().join(",");
        let (replicas, in_sync) = (ids.len().min(3), if ids.len() < 3 { 1 } else { 2 });
        let properties = data.join("server.properties");
        let host = Port::Node(id).address();
        fs::write(
            &properties,
            format!(
                "process.roles=broker,controller\n\
                 node.id={id}\n\
                 listeners=PLAINTEXT://{host}:{KAFKA_PORT},CONTROLLER://{}\n\
                 controller.listener.names=CONTROLLER\n\
                 controller.quorum.bootstrap.servers={}\n\
                 log.dirs={}\n\
                 offsets.topic.replication.factor={replicas}\n\
                 transaction.state.log.replication.factor={replicas}\n\
                 transaction.state.log.min.isr={in_sync}\n\
                 share.coordinator.state.topic.replication.factor={replicas}\n\
                 share.coordinator.state.topic.min.isr={in_sync}\n",
                controller(id),
                list(&controller),
                data.join("data").display()
            ),
        )?;
        let voters = list(&|n| format!("{n}@{}:faultsKafkaNodeDir{n:03}A", controller(n)));
        let mut command = Command::new("java");
        command.args(["-Xmx256M", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"]);
        self.java(&mut command);
        command.args(["kafka.tools.StorageTool", "format", "-t", CLUSTER_ID, "--initial-controllers", &voters, "-c"]);
        let done = command.arg(properties).output().context("cannot run java")?;
        if !done.status.success() {
            let said = [done.stdout, done.stderr].map(|b| String::from_utf8_lossy(&b).trim().to_owned()).join("\n");
            bail!("formatting the directory of Kafka's node {id}: {said}");
        }
        Ok(())
    }

    /// What the controllers say of their quorum; each broker passes the question on.
    fn quorum(&self) -> Result<ResponsePartitionData> {
        let partitions = vec![RequestPartitionData { partition_index: 0 }];
        let request =
            DescribeQuorumRequest { topics: vec![RequestTopicData { topic_name: METADATA_TOPIC.into(), partitions }] };
        let mut last = None;
        for id in self.ids() {
            let deadline = Instant::now() + ANSWER_MAX;
            let asked = Wire::open(address(id), deadline).and_then(|mut w| w.ask(&request, DESCRIBE_QUORUM, deadline));
            match asked.map(|answer| answer.topics.into_iter().flat_map(|t| t.partitions).next()) {
                Ok(Some(quorum)) if quorum.error_code == 0 && quorum.leader_id >= 0 => return Ok(quorum),
                Ok(_) => last = Some(anyhow::anyhow!("no active controller is known at node {id}")),
                Err(error) => last = Some(error.context(format!("node {id}"))),
            }
        }
        Err(last.context("there are no nodes")?)
    }

    /// What is not in order in what one node says of brokers and topics.
    fn trouble_at(&self, id: i32) -> Result<Vec<String>> {
        let deadline = Instant::now() + ANSWER_MAX;
        let metadata = Wire::open(address(id), deadline)?.metadata(None, deadline)?;
        let mut trouble = Vec::new();
        for broker in self.ids() {
            if !metadata.brokers.iter().any(|b| b.node_id == broker) {
                trouble.push(format!("node {id} sees no broker {broker}"));
            }
        }
        let partitions = || metadata.topics.iter().flat_map(|t| &t.partitions);
        let offline = partitions().filter(|p| p.leader_id < 0).count();
        let behind = partitions().filter(|p| p.isr_nodes.len() < p.replica_nodes.len()).count();
        if offline + behind > 0 {
            let total = partitions().count();
            trouble.push(format!("node {id} sees {behind} of {total} partitions under-replicated, {offline} offline"));
        }
        Ok(trouble)
    }
}

impl Cluster for KafkaNodes {
    fn name(&self) -> &'static str {
        "kafka"
    }

    fn version(&self) -> String {
        format!("Apache Kafka {}", self.version)
    }

    fn patience(&self) -> Duration {
        PATIENCE
    }

    fn start(&mut self, lab: &Lab, id: i32) -> Result<()> {
        if !self.data_of(id).exists() {
            self.format(id)?;
        }
        // As its start script has them, but for the heap.
        let mut command = lab.command(Port::Node(id), "java");
        command.args([format!("-Xms{}", self.heap), format!("-Xmx{}", self.heap)]);
        command.args(["-server", "-XX:+UseG1GC", "-XX:MaxGCPauseMillis=20", "-XX:InitiatingHeapOccupancyPercent=35"]);
        command.args(["-XX:+ExplicitGCInvokesConcurrent", "-XX:MaxInlineLevel=15", "-Djava.awt.headless=true"]);
        self.java(&mut command);
        command.arg("kafka.Kafka").arg(self.data_of(id).join("server.properties"));
        self.spawn(id, command)
    }

    /// It names itself among the brokers: it is registered, not fenced, and serves.
    fn ready(&self, id: i32) -> Result<()> {
        let deadline = Instant::now() + ANSWER_MAX;
        let metadata = Wire::open(address(id), deadline)?.metadata(Some(METADATA_TOPIC), deadline)?;
        if !metadata.brokers.iter().any(|b| b.node_id == id) {
            bail!("it is not among the brokers yet");
        }
        Ok(())
    }

    fn controller(&self) -> Result<i32> {
        Ok(self.quorum()?.leader_id)
    }

    fn trouble(&self) -> Vec<String> {
        let mut trouble = Vec::new();
        for id in self.ids() {
            match self.trouble_at(id) {
                Ok(found) => trouble.extend(found),
                Err(error) => trouble.push(format!("node {id}: {error:#}")),
            }
        }
        match self.quorum() {
            Err(error) => trouble.push(format!("the quorum: {error:#}")),
            Ok(quorum) => {
                for voter in quorum.current_voters.iter().filter(|v| v.log_end_offset < quorum.high_watermark) {
                    trouble.push(format!("voter {} is behind", voter.replica_id));
                }
            }
        }
        trouble
    }

    /// The last one may wait long for a controller that has left before it: its log is whole after a kill, too.
    fn stop_all(&mut self) -> Result<()> {
        let running: Vec<i32> = self.ids().into_iter().filter(|id| self.runs(*id)).collect();
        for id in &running {
            self.signal(*id, Signal::TERM)?;
        }
        for id in running {
            if self.wait(id).is_err() {
                self.signal(id, Signal::KILL)?;
                self.wait(id)?;
            }
        }
        Ok(())
    }

    fn data(&self) -> Vec<PathBuf> {
        self.ids().iter().map(|id| self.data_of(*id)).collect()
    }
}

/// As the name of its main jar says.
fn version(libs: &Path) -> Option<String> {
    let names = fs::read_dir(libs).ok()?.filter_map(|e| Some(e.ok()?.file_name().to_string_lossy().into_owned()));
    names.filter_map(|name| Some(name.strip_prefix("kafka_2.13-")?.strip_suffix(".jar")?.to_owned())).next()
}
