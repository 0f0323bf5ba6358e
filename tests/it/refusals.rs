//! Starts that are refused: one line that says what, why and what to do, an exit code, and nothing changed.

use crate::harness::{Cluster, Role, expected, free_ports, refused, server_args};
use std::collections::{BTreeMap, BTreeSet};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// Every file below a directory with its content, and when it was written.
fn snapshot(dir: &Path) -> BTreeMap<PathBuf, (Vec<u8>, SystemTime)> {
    let mut files = BTreeMap::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(snapshot(&path));
        } else {
            let written = path.metadata().unwrap().modified().unwrap();
            files.insert(path.clone(), (std::fs::read(&path).unwrap(), written));
        }
    }
    files
}

fn assert_refused(args: &[impl AsRef<str>], part: &str, code: i32) {
    let (said, status) = refused(args);
    assert!(said.contains(part), "expected {part:?}: {said}");
    assert_eq!(status, Some(code), "{said}");
}

#[test]
fn a_port_in_use_or_a_wrong_setting() {
    let dir = tempfile::tempdir().unwrap();
    let holder = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = holder.local_addr().unwrap().to_string();
    let data = dir.path().join("data");
    let free: [u16; 3] = free_ports();
    let [kafka, peer, http] = free.map(|port| format!("127.0.0.1:{port}"));
    let data = data.to_str().unwrap();
    let with = |kafka: &str, peer: &str, http: &str| {
        ["server", "--data-dir", data, "--listen", kafka, "--peer", peer, "--http", http].map(str::to_owned)
    };
    assert_refused(&with(&taken, &peer, &http), "the port is in use", 1);
    assert!(!Path::new(data).exists(), "nothing was made");
    assert_refused(&with(&kafka, &taken, &http), "the port is in use", 1);
    assert_refused(&with(&kafka, &peer, &taken), "the port is in use", 1);
    for (args, part) in [
        (vec!["--set", "num.partitions=none"], "num.partitions = `none` (from flag --set num.partitions)"),
        (vec!["--set", "num.partition=1"], "did you mean `num.partitions`?"),
        (vec!["--roles", "broker"], "where is its cluster?"),
        (vec!["--roles", "broker", "--voters", "1@127.0.0.1:9192"], "process.roles has no `controller`"),
        (vec!["--node-id", "4", "--voters", "1@127.0.0.1:9192"], "not listed in controller.quorum.voters"),
    ] {
        assert_refused(&[vec!["server"], args].concat(), part, 2);
    }
}

#[test]
fn a_directory_that_is_not_this_nodes() {
    let mut cluster = Cluster::start(1);
    cluster.rookery(&["topic", "create", "t"], "");
    cluster.produce("t", 0..100);
    let node = &cluster.nodes[0];
    let voters = cluster.voters();
    let ports = [node.kafka, node.peer, node.http];
    let start = |id: usize, data: &Path, ports: [u16; 3]| server_args(id, Role::Both, data, ports, &voters);
    let data = cluster.data_dir(0);
    // While it runs.
    let other_ports = free_ports();
    let alone = format!("1@127.0.0.1:{}", other_ports[1]);
    assert_refused(&server_args(1, Role::Both, &data, other_ports, &alone), "is in use by another process", 1);
    assert_eq!(cluster.consume("t"), expected(100));
    assert!(cluster.terminate(0).success());

    let properties = data.join("directory.json");
    let right = std::fs::read(&properties).unwrap();
    let refuse = |content: &[u8], part: &str| {
        std::fs::write(&properties, content).unwrap();
        let before = snapshot(&data);
        assert_refused(&start(1, &data, ports), part, 1);
        assert_eq!(before.keys().collect::<Vec<_>>(), snapshot(&data).keys().collect::<Vec<_>>());
        assert!(before == snapshot(&data), "something was changed");
    };
    refuse(b"\x00garbage", "is damaged");
    refuse(b"{\"format_version\": 99}", "format version 99");
    let other = String::from_utf8(right.clone()).unwrap().replace("\"node_id\": 1", "\"node_id\": 7");
    refuse(other.as_bytes(), "belongs to node 7");
    std::fs::write(&properties, &right).unwrap();

    let foreign = cluster.data_dir(8);
    std::fs::create_dir(&foreign).unwrap();
    std::fs::write(foreign.join("precious"), "data").unwrap();
    let before = snapshot(&foreign);
    assert_refused(&start(1, &foreign, ports), "not a data directory of Rookery", 1);
    assert!(before == snapshot(&foreign));

    // Put right again, nothing is lost.
    cluster.launch_all();
    assert_eq!(cluster.consume("t"), expected(100));
}

#[test]
fn a_metadata_log_that_was_damaged_or_removed() {
    let mut cluster = Cluster::start(1);
    cluster.rookery(&["topic", "create", "t"], "");
    assert!(cluster.terminate(0).success());
    let node = &cluster.nodes[0];
    let data = cluster.data_dir(0);
    let args = server_args(1, Role::Both, &data, [node.kafka, node.peer, node.http], &cluster.voters());
    let log = data.join("quorum").join("log");
    let current = std::fs::read(log.join("CURRENT")).unwrap();
    std::fs::write(log.join("CURRENT"), "garbage").unwrap();
    assert_refused(&args, "metadata log is corrupt", 1);
    std::fs::write(log.join("CURRENT"), current).unwrap();
    // A directory that keeps its id but not its votes must never vote again under that id.
    let quorum = data.join("quorum");
    let aside = data.join("aside");
    std::fs::rename(&quorum, &aside).unwrap();
    assert_refused(&args, "metadata log lost synced data", 1);
    assert!(!quorum.exists(), "nothing was made");
    std::fs::rename(&aside, &quorum).unwrap();
    cluster.launch_all();
    cluster.describe("t", "0");
}

#[test]
fn a_node_of_another_cluster() {
    let mut other = Cluster::start(1);
    assert!(other.terminate(0).success());
    let mut others = Cluster::planned(&[Role::Controller, Role::Controller, Role::Controller, Role::Broker]);
    others.launch_all();
    (0..4).for_each(|i| others.kill(i));

    let cluster = Cluster::start(3);
    cluster.rookery(&["topic", "create", "t"], "");
    let stream = cluster.stream("t");
    let before = cluster.view(0).unwrap();
    // The disk of a cluster of one, which needs nobody else to begin.
    let mut place = [other.nodes[0].kafka, other.nodes[0].peer, other.nodes[0].http];
    let voters = cluster.voters().replace(&format!(":{}", cluster.nodes[0].peer), &format!(":{}", place[1]));
    assert_refused(&server_args(1, Role::Both, &other.data_dir(0), place, &voters), "belongs to cluster", 1);
    // A voter of three.
    place[1] = others.nodes[1].peer;
    let voters = cluster.voters().replace(&format!(":{}", cluster.nodes[1].peer), &format!(":{}", place[1]));
    assert_refused(&server_args(2, Role::Both, &others.data_dir(1), place, &voters), "belongs to cluster", 1);
    // A broker.
    place[1] = others.nodes[3].peer;
    assert_refused(
        &server_args(4, Role::Broker, &others.data_dir(3), place, &cluster.voters()),
        "belongs to cluster",
        1,
    );
    let written = stream.finish();
    assert_eq!(cluster.consume("t"), expected(written));
    let after = cluster.view(0).unwrap();
    for unchanged in ["cluster_id", "brokers"] {
        let epochs = |view: &serde_json::Value| match unchanged {
            "brokers" => view["brokers"].as_array().unwrap().iter().map(|b| b["epoch"].clone()).collect(),
            name => view[name].clone(),
        };
        assert_eq!(epochs(&before), epochs(&after));
    }
}

#[test]
fn a_node_id_that_is_used_twice() {
    let mut cluster = Cluster::planned(&[Role::Both, Role::Both, Role::Both, Role::Broker]);
    cluster.launch_all();
    cluster.rookery(&["topic", "create", "t", "--partitions", "4"], "");
    let stream = cluster.stream("t");
    let epochs = || {
        let view = cluster.view(0).unwrap();
        let brokers = view["brokers"].as_array().unwrap().clone();
        brokers.iter().map(|b| (b["node_id"].clone(), b["epoch"].clone(), b["fenced"].clone())).collect::<Vec<_>>()
    };
    let before = epochs();
    // As a voter: another process answers where the list says it is.
    for role in [Role::Both, Role::Controller] {
        let args = server_args(3, role, &cluster.data_dir(8), free_ports(), &cluster.voters());
        assert_refused(&args, "node id 3 is used twice", 1);
    }
    // As a broker.
    let args = server_args(4, Role::Broker, &cluster.data_dir(9), free_ports(), &cluster.voters());
    assert_refused(&args, "node id 4 is used twice", 1);

    let written = stream.finish();
    assert_eq!(cluster.consume("t"), expected(written));
    assert_eq!(epochs(), before, "nobody registered anew, nobody was fenced");
    for i in 0..3 {
        let log = std::fs::read_to_string(cluster.log(i)).unwrap();
        let heard = log.lines().filter_map(|l| l.split_once("gossip node=4 incarnation=")?.1.split(' ').next());
        assert_eq!(heard.collect::<BTreeSet<_>>().len(), 1, "node {} heard of the second process: {log}", i + 1);
    }
    let noticed = std::fs::read_to_string(cluster.log(3)).unwrap();
    assert!(!noticed.contains("registering again"), "{noticed}");
}
