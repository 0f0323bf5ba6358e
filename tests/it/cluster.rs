//! Three real nodes as processes, driven through the command line: records survive the kill -9 of a leader, and a node
//! that was killed comes back from its disk.

use std::io::Write;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

/// A cluster that is slower than this is broken, not slow.
const PATIENCE: Duration = Duration::from_secs(120);

struct Cluster {
    dir: tempfile::TempDir,
    kafka: Vec<u16>,
    peer: Vec<u16>,
    http: Vec<u16>,
    nodes: Vec<Option<Child>>,
}

impl Cluster {
    fn start(count: usize) -> Cluster {
        // Held together, then let go: three times `count` ports that are free and different.
        let held: Vec<TcpListener> = (0..3 * count).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
        let ports: Vec<u16> = held.iter().map(|l| l.local_addr().unwrap().port()).collect();
        drop(held);
        let mut cluster = Cluster {
            dir: tempfile::tempdir().unwrap(),
            kafka: ports[..count].to_vec(),
            peer: ports[count..2 * count].to_vec(),
            http: ports[2 * count..].to_vec(),
            nodes: (0..count).map(|_| None).collect(),
        };
        (0..count).for_each(|i| cluster.launch(i));
        (0..count).for_each(|i| cluster.wait_ready(i));
        cluster
    }

    fn launch(&mut self, i: usize) {
        let voters: Vec<String> =
            self.peer.iter().enumerate().map(|(i, port)| format!("{}@127.0.0.1:{port}", i + 1)).collect();
        let log = std::fs::File::options().create(true).append(true).open(self.log(i)).unwrap();
        let node = Command::new(env!("CARGO_BIN_EXE_rookery"))
            .args(["server", "--node-id", &(i + 1).to_string(), "--voters", &voters.join(",")])
            .args(["--data-dir", self.dir.path().join((i + 1).to_string()).to_str().unwrap()])
            .args(["--listen", &format!("127.0.0.1:{}", self.kafka[i])])
            .args(["--http", &format!("127.0.0.1:{}", self.http[i])])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        self.nodes[i] = Some(node);
    }

    fn log(&self, i: usize) -> std::path::PathBuf {
        self.dir.path().join(format!("{}.log", i + 1))
    }

    fn wait_ready(&mut self, i: usize) {
        let url = format!("http://127.0.0.1:{}/health/ready", self.http[i]);
        let log = self.log(i);
        let node = self.nodes[i].as_mut().unwrap();
        let began = Instant::now();
        loop {
            if ureq::get(&url).call().is_ok() {
                return;
            }
            let ended = node.try_wait().unwrap();
            assert!(ended.is_none(), "node {} ended: {}", i + 1, tail(&log));
            assert!(began.elapsed() < PATIENCE, "node {} is not ready: {}", i + 1, tail(&log));
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn kill(&mut self, i: usize) {
        let mut node = self.nodes[i].take().unwrap();
        node.kill().unwrap();
        node.wait().unwrap();
    }

    fn rookery(&self, args: &[&str], input: &str) -> Output {
        let bootstrap: Vec<String> = self.kafka.iter().map(|port| format!("127.0.0.1:{port}")).collect();
        let mut command = Command::new(env!("CARGO_BIN_EXE_rookery"))
            .args(args)
            .args(["--bootstrap", &bootstrap.join(",")])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        command.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        let output = command.wait_with_output().unwrap();
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        let logs: Vec<String> = (0..self.nodes.len()).map(|i| tail(&self.log(i))).collect();
        assert!(output.status.success(), "rookery {args:?}: {errors}\n{}", logs.join("\n--\n"));
        output
    }

    fn produce(&self, topic: &str, records: std::ops::Range<usize>) {
        let lines: String = records.map(|n| format!("record-{n:06}\n")).collect();
        self.rookery(&["produce", topic], &lines);
    }

    fn consume(&self, topic: &str) -> Vec<String> {
        let output = self.rookery(&["consume", topic, "--from-beginning", "--exit-at-end"], "");
        let mut lines: Vec<String> = String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect();
        lines.sort();
        lines
    }

    /// The node (from 0) that leads a partition, as the cluster says.
    fn leader(&self, topic: &str, partition: &str) -> usize {
        let output = self.rookery(&["topic", "describe", topic], "");
        let text = String::from_utf8(output.stdout).unwrap();
        let row =
            text.lines().map(|l| l.split_whitespace().collect::<Vec<_>>()).find(|c| c.first() == Some(&partition));
        row.unwrap()[1].parse::<usize>().unwrap() - 1
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for node in self.nodes.iter_mut().flatten() {
            let _ = node.kill();
            let _ = node.wait();
        }
    }
}

fn tail(path: &Path) -> String {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(15)..].join("\n")
}

fn expected(count: usize) -> Vec<String> {
    (0..count).map(|n| format!("record-{n:06}")).collect()
}

#[test]
fn acknowledged_records_survive_kill_9_of_every_node_in_turn() {
    let mut cluster = Cluster::start(3);
    cluster.rookery(&["topic", "create", "t", "--partitions", "3"], "");
    cluster.produce("t", 0..1000);
    assert_eq!(cluster.consume("t"), expected(1000));
    for round in 0..3 {
        let victim = cluster.leader("t", "0");
        cluster.kill(victim);
        let from = 1000 * (round + 1);
        cluster.produce("t", from..from + 1000);
        assert_eq!(cluster.consume("t"), expected(from + 1000), "with node {} down", victim + 1);
        cluster.launch(victim);
        cluster.wait_ready(victim);
    }
    // All at once: what was acknowledged is on their disks.
    (0..3).for_each(|i| cluster.kill(i));
    (0..3).for_each(|i| cluster.launch(i));
    (0..3).for_each(|i| cluster.wait_ready(i));
    assert_eq!(cluster.consume("t"), expected(4000));
}

#[test]
fn a_node_alone_is_a_cluster_and_leaves_in_order() {
    let mut cluster = Cluster::start(1);
    cluster.rookery(&["topic", "create", "t"], "");
    cluster.produce("t", 0..100);
    let node = cluster.nodes[0].as_mut().unwrap();
    let terminated = Command::new("kill").arg(node.id().to_string()).status().unwrap();
    assert!(terminated.success());
    assert!(node.wait().unwrap().success(), "SIGTERM is a clean end: {}", tail(&cluster.log(0)));
    cluster.launch(0);
    cluster.wait_ready(0);
    assert_eq!(cluster.consume("t"), expected(100));
}

#[test]
fn a_node_that_cannot_start_says_why_in_one_line() {
    let dir = tempfile::tempdir().unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let foreign = dir.path().join("foreign");
    std::fs::create_dir(&foreign).unwrap();
    std::fs::write(foreign.join("precious"), "data").unwrap();
    let fresh = dir.path().join("fresh").to_str().unwrap().to_owned();
    for (args, part, code) in [
        (vec!["--data-dir", &fresh, "--listen", &format!("127.0.0.1:{port}")], "the port is in use", 1),
        (
            vec!["--data-dir", foreign.to_str().unwrap(), "--listen", "127.0.0.1:0"],
            "not a data directory of Rookery",
            1,
        ),
        (vec!["--set", "num.partitions=none"], "num.partitions = `none` (from flag --set num.partitions)", 2),
        (vec!["--set", "num.partition=1"], "did you mean `num.partitions`?", 2),
    ] {
        let output = Command::new(env!("CARGO_BIN_EXE_rookery")).arg("server").args(&args).output().unwrap();
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        let said: Vec<&str> = errors.lines().filter(|l| l.starts_with("rookery: ")).collect();
        assert!(said.len() == 1 && said[0].contains(part), "{args:?}: {errors}");
        assert_eq!(output.status.code(), Some(code), "{args:?}: {errors}");
    }
    assert_eq!(std::fs::read_to_string(foreign.join("precious")).unwrap(), "data");
}
