//! What a person at the command line meets: addresses that lead nowhere, and readers that have seen enough.

use crate::harness::{Cluster, Role, free_ports, rookery};
use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};

#[test]
fn a_name_that_does_not_resolve_was_tried_for_half_a_minute_in_silence() {
    let commands: [&[&str]; 5] = [
        &["consume", "t"],
        &["produce", "t"],
        &["topic", "create", "t"],
        &["topic", "list"],
        &["topic", "describe", "t"],
    ];
    for command in commands {
        let output = rookery(&[command, &["--bootstrap", "no-such-host.invalid:9092"]].concat(), "");
        let said = String::from_utf8(output.stderr).unwrap();
        let lines: Vec<&str> = said.lines().filter(|l| !l.contains("waiting for an answer")).collect();
        assert_eq!(output.status.code(), Some(1), "{command:?}: {said}");
        assert!(
            lines.len() == 1 && lines[0].starts_with("rookery: cannot resolve no-such-host.invalid:9092: "),
            "{command:?}: {said}"
        );
    }
}

#[test]
fn whoever_waits_for_a_cluster_that_does_not_answer_was_not_told() {
    let [port] = free_ports();
    let address = format!("127.0.0.1:{port}");
    for command in ["consume", "produce"] {
        let mut process = Command::new(env!("CARGO_BIN_EXE_rookery"))
            .args([command, "t", "--bootstrap", &address])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut said = String::new();
        BufReader::new(process.stderr.take().unwrap()).read_line(&mut said).unwrap();
        process.kill().unwrap();
        process.wait().unwrap();
        let why = format!("rookery: cannot connect to {address}: Connection refused");
        assert!(said.starts_with(&why) && said.contains("; trying again for "), "{said}");
    }
    // Nothing is in doubt for these: they end at once.
    for command in [&["topic", "list"] as &[&str], &["topic", "create", "t"], &["topic", "delete", "t"]] {
        let output = rookery(&[command, &["--bootstrap", &address]].concat(), "");
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(said.starts_with(&format!("rookery: cannot connect to {address}: Connection refused")), "{said}");
        assert_eq!((output.status.code(), said.lines().count()), (Some(1), 1), "{said}");
    }
}

#[test]
fn an_address_that_cannot_be_one_is_wrong_usage() {
    for (args, part) in [
        (["topic", "list", "--bootstrap", "localhost"], "`localhost` is not HOST:PORT"),
        (["topic", "list", "--bootstrap", "a:1,http://b:2"], "`http://b:2` is not HOST:PORT"),
        (["topic", "list", "--bootstrap", "a:70000"], "`a:70000` is not HOST:PORT"),
        (["topic", "list", "--bootstrap", ","], "expected HOST:PORT"),
    ] {
        let output = rookery(&args, "");
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.code() == Some(2) && said.contains(part), "{args:?}: {said}");
    }
}

#[test]
fn a_reader_that_has_seen_enough_was_an_error() {
    let cluster = Cluster::start(1);
    let bootstrap = cluster.bootstrap();
    cluster.rookery(&["topic", "create", "t"], "");
    cluster.produce("t", 0..10);
    let start = |args: &[&str], output: Stdio| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_rookery"));
        command.args(args).stdin(Stdio::null()).stdout(output).stderr(Stdio::piped()).spawn().unwrap()
    };
    let ends_quietly = |mut process: std::process::Child, what: &str| {
        let status = cluster.until(&format!("{what} ends"), || process.try_wait().unwrap());
        let said = std::io::read_to_string(process.stderr.take().unwrap()).unwrap();
        assert!(status.success() && said.is_empty(), "{what}: {status}: {said}");
    };
    let http = format!("http://127.0.0.1:{}", cluster.nodes[0].http);
    for args in [
        &["topic", "list", "--bootstrap", &bootstrap] as &[&str],
        &["topic", "describe", "t", "--bootstrap", &bootstrap],
        &["consume", "t", "--from-beginning", "--exit-at-end", "--bootstrap", &bootstrap],
        &["consume", "t", "--bootstrap", &bootstrap],
        &["cluster", "--http", &http],
        &["cluster", "--json", "--http", &http],
        &["server", "--help-settings"],
        &["--help"],
    ] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        ends_quietly(start(args, writer.into()), &args.join(" "));
    }
    // All was read, and nothing more comes: it ends nevertheless when its reader does.
    let mut waiting = start(&["consume", "t", "--from-beginning", "--bootstrap", &bootstrap], Stdio::piped());
    let mut reader = BufReader::new(waiting.stdout.take().unwrap());
    let mut line = String::new();
    for _ in 0..10 {
        reader.read_line(&mut line).unwrap();
    }
    drop(reader);
    ends_quietly(waiting, "consume");
}

#[test]
fn the_log_had_numbers_as_text_and_warned_of_the_command_lines_variables() {
    let mut cluster = Cluster::planned(&[Role::Both]);
    let names = ["ROOKERY_BOOTSTRAP", "ROOKERY_HTTP", "ROOKERY_SERVICE_HOST"];
    cluster.launch_in(0, &["--set", "log.format=json"], &names.map(|name| (name, "http://127.0.0.1:1")));
    cluster.wait_ready(0);
    let log = std::fs::read_to_string(cluster.log(0)).unwrap();
    let lines: Vec<serde_json::Value> = log.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let warned: Vec<&str> = lines.iter().filter_map(|line| line["variable"].as_str()).collect();
    assert_eq!(warned, ["ROOKERY_SERVICE_HOST"]);
    for field in ["node", "broker", "epoch"] {
        let said: Vec<_> = lines.iter().map(|line| &line[field]).filter(|value| !value.is_null()).collect();
        assert!(!said.is_empty() && said.iter().all(|value| value.is_number()), "{field}: {said:?}");
    }
}
