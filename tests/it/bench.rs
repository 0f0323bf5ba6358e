//! The load tool against a node of its own: what it says must be what is there.

use crate::harness::{Cluster, rookery};
use serde_json::Value;
use std::process::{Child, Command, Output, Stdio};

/// One replica, as there is one node, and JSON.
fn arguments<'a>(command: &'a str, topic: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    let mut all = vec!["bench", command, "--topic", topic, "--output", "json"];
    if command != "consume" {
        all.extend(["--replication-factor", "1"]);
    }
    all.extend(more);
    all
}

/// Runs it to its end; what it printed, which is one line.
fn bench(cluster: &Cluster, command: &str, topic: &str, more: &[&str]) -> Value {
    report(&cluster.rookery(&arguments(command, topic, more), ""))
}

fn report(output: &Output) -> Value {
    let text = String::from_utf8(output.stdout.clone()).unwrap();
    assert_eq!(text.lines().count(), 1, "{text}");
    serde_json::from_str(&text).unwrap()
}

fn begin(cluster: &Cluster, command: &str, topic: &str, more: &[&str]) -> Child {
    Command::new(env!("CARGO_BIN_EXE_rookery"))
        .args(arguments(command, topic, more))
        .args(["--bootstrap", &cluster.bootstrap()])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

/// How many records of a topic can be read, each checked; none while there is no topic.
fn count(cluster: &Cluster, topic: &str) -> u64 {
    let output = cluster.rookery_fallible(&arguments("consume", topic, &["--verify"]), "");
    if output.status.success() { report(&output)["consumed"]["read"].as_u64().unwrap() } else { 0 }
}

#[test]
fn what_was_written_is_there_once_and_whole() {
    let cluster = Cluster::start(1);
    let cases: [(&str, &[&str]); 5] = [
        ("none", &["--partitions", "4", "--record-bytes", "100"]),
        ("lz4", &["--partitions", "3", "--codec", "lz4", "--producers", "2", "--connections", "2"]),
        ("zstd", &["--partitions", "1", "--codec", "zstd", "--key-bytes", "10", "--threads", "2"]),
        ("one", &["--partitions", "2", "--acks", "1", "--linger", "2ms", "--in-flight", "7"]),
        ("nobody", &["--partitions", "2", "--acks", "0", "--broker-pids", &std::process::id().to_string()]),
    ];
    for (topic, more) in cases {
        let written = bench(&cluster, "produce", topic, &[more, &["--records", "3000"]].concat());
        let (produced, load) = (&written["produced"], &written["load"]);
        for (what, expected) in [("acknowledged", 3000), ("records", 3000), ("unacknowledged", 0), ("unsent", 0)] {
            assert_eq!(produced[what], expected, "{topic} {what}: {written}");
        }
        let record = load["record_bytes"].as_u64().unwrap() + load["key_bytes"].as_u64().unwrap();
        assert_eq!(produced["bytes"], 3000 * record);
        assert_eq!(produced["ack_ms"]["count"], 3000);
        assert_eq!(produced["ack_ms"]["curve"].as_array().unwrap().last().unwrap()[0], 100.0);
        let seconds = produced["seconds"].as_array().unwrap();
        assert_eq!(seconds.iter().map(|s| s["records"].as_u64().unwrap()).sum::<u64>(), 3000);
        assert_eq!(load["idempotent"], matches!(topic, "none" | "lz4" | "zstd"));
        assert_eq!(written["brokers"].is_object(), topic == "nobody");

        // Without acknowledgement nobody knows when they are there.
        cluster.until("everything can be read", || (count(&cluster, topic) == 3000).then_some(()));
        let read = bench(&cluster, "consume", topic, &["--verify", "--connections", "2"]);
        let consumed = &read["consumed"];
        for (what, expected) in [("read", 3000), ("gaps", 0), ("damaged", 0), ("repeated", 0), ("bytes", 3000 * record)]
        {
            assert_eq!(consumed[what], expected, "{topic} {what}: {read}");
        }
        let some = bench(&cluster, "consume", topic, &["--records", "1"]);
        assert!(some["consumed"]["records"].as_u64().unwrap() >= 1 && some["interrupted"] == false, "{some}");
    }
}

#[test]
fn an_open_loop_is_received_in_the_same_process() {
    let cluster = Cluster::start(1);
    let more = ["--partitions", "3", "--rate", "500", "--records", "300", "--warm-up", "200ms", "--record-bytes", "64"];
    let report = bench(&cluster, "end-to-end", "t", &more);
    let (produced, consumed) = (&report["produced"], &report["consumed"]);
    assert_eq!((&produced["records"], &produced["acknowledged"]), (&300.into(), &400.into()), "{report}");
    assert_eq!((&produced["late_ms"]["count"], &produced["ack_ms"]["count"]), (&300.into(), &300.into()));
    assert_eq!((&consumed["read"], &consumed["expected"], &consumed["missing"]), (&400.into(), &400.into(), &0.into()));
    assert_eq!(consumed["end_to_end_ms"]["count"], 300);
    // A record is due, made, acknowledged; nothing is received before it was due.
    assert!(consumed["end_to_end_ms"]["p50"].as_f64().unwrap() > 0.0);
    assert!(produced["ack_ms"]["max"].as_f64() >= produced["late_ms"]["p50"].as_f64());
}

#[test]
fn every_reader_reads_everything() {
    let cluster = Cluster::start(1);
    let more = ["--partitions", "4", "--records", "2000", "--consumers", "3", "--producers", "2", "--codec", "snappy"];
    let consumed = bench(&cluster, "fan-out", "t", &more)["consumed"].clone();
    for (what, expected) in
        [("read", 6000), ("expected", 6000), ("missing", 0), ("gaps", 0), ("damaged", 0), ("repeated", 0)]
    {
        assert_eq!(consumed[what], expected, "{what}: {consumed}");
    }
    assert_eq!((&consumed["consumers"], &consumed["end_to_end_ms"]["count"]), (&3.into(), &6000.into()));
}

#[test]
fn a_leader_that_is_killed_loses_and_repeats_nothing() {
    let mut cluster = Cluster::start(1);
    let running = begin(&cluster, "end-to-end", "t", &["--partitions", "3", "--rate", "400", "--records", "1600"]);
    cluster.until("records come", || (count(&cluster, "t") > 100).then_some(()));
    cluster.kill(0);
    cluster.launch(0);
    cluster.wait_ready(0);
    let output = running.wait_with_output().unwrap();
    assert!(output.status.success(), "{}\n{}", String::from_utf8_lossy(&output.stderr), cluster.tails());
    let report = report(&output);
    let (produced, consumed) = (&report["produced"], &report["consumed"]);
    assert_eq!(produced["acknowledged"], 1600, "{report}");
    for (what, expected) in [("read", 1600), ("missing", 0), ("gaps", 0), ("damaged", 0), ("repeated", 0)] {
        assert_eq!(consumed[what], expected, "{what}: {report}");
    }
    assert!(!produced["errors"].as_object().unwrap().is_empty() && !consumed["errors"].as_object().unwrap().is_empty());
    // Whatever was due while nobody answered waited for it.
    let (p50, max) = (produced["ack_ms"]["p50"].as_f64().unwrap(), produced["ack_ms"]["max"].as_f64().unwrap());
    assert!(max > p50, "{report}");
}

#[test]
fn an_interrupted_run_tells_what_it_has_measured() {
    let cluster = Cluster::start(1);
    let running = begin(&cluster, "produce", "t", &["--partitions", "2", "--duration", "10m"]);
    cluster.until("records come", || (count(&cluster, "t") > 0).then_some(()));
    let told = Command::new("kill").args(["-INT", &running.id().to_string()]).status().unwrap();
    assert!(told.success());
    let output = running.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let report = report(&output);
    assert_eq!((&report["interrupted"], &report["produced"]["unacknowledged"]), (&true.into(), &0.into()), "{report}");
    assert_eq!(report["produced"]["acknowledged"], count(&cluster, "t"), "all that is acknowledged, and nothing else");
}

#[test]
fn what_cannot_be_measured_is_refused_in_a_line() {
    let cluster = Cluster::start(1);
    cluster.rookery(&["topic", "create", "t", "--partitions", "2"], "");
    for (command, more, part) in [
        ("produce", &["--partitions", "3"] as &[&str], "topic t has 2 partitions, not 3"),
        ("produce", &["--acks", "1", "--idempotent=true"], "needs --acks all"),
        ("produce", &["--requests-in-flight", "6"], "need --idempotent=false"),
        ("produce", &["--record-bytes", "23"], "at least 24 bytes"),
        ("end-to-end", &["--acks", "0"], "needs --acks all or 1"),
        ("consume", &["--tail"], "needs --records or --duration"),
        ("produce", &["--broker-pids", "4294967295", "--records", "1"], "process 4294967295"),
    ] {
        let output = cluster.rookery_fallible(&arguments(command, "t", more), "");
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!((output.status.code(), said.lines().count()), (Some(1), 1), "{command} {more:?}: {said}");
        assert!(said.contains(part), "{command} {more:?}: {said}");
    }
    let help = rookery(&["bench", "produce", "--rate", "0"], "");
    assert_eq!(help.status.code(), Some(2));
}
