//! What any node says of a death, by HTTP and at the command line.

use crate::harness::{Cluster, rookery};
use serde_json::Value;

/// `GET` of a path of a node's admin API: the status and the body.
fn get(cluster: &Cluster, i: usize, path: &str) -> (u16, Value) {
    let url = format!("http://127.0.0.1:{}{path}", cluster.nodes[i].http);
    let mut answer = ureq::get(&url).config().http_status_as_error(false).build().call().unwrap();
    (answer.status().as_u16(), answer.body_mut().read_json().unwrap())
}

/// A command that asks a node's admin API and succeeds: what it prints.
fn said(cluster: &Cluster, i: usize, args: &[&str]) -> String {
    let http = format!("http://127.0.0.1:{}", cluster.nodes[i].http);
    let output = rookery(&[args, &["--http", &http]].concat(), "");
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn events(cluster: &Cluster, i: usize) -> Vec<Value> {
    let (status, page) = get(cluster, i, "/admin/v1/events?limit=1000");
    assert_eq!(status, 200, "{page}");
    page["events"].as_array().unwrap().clone()
}

#[test]
fn another_node_says_why_a_partition_has_no_leader_when_its_only_replica_was_killed() {
    let mut cluster = Cluster::start(3);
    cluster.rookery(&["topic", "create", "lonely", "--replication-factor", "1"], "");
    cluster.rookery(&["topic", "create", "shared"], "");
    cluster.wait_in_sync(0);
    let victim = cluster.leader("lonely", "0");
    let id = victim + 1;
    let other = (0..3).find(|i| *i != victim).unwrap();
    let path = "/admin/v1/why/partitions/lonely/0";
    let (_, before) = get(&cluster, other, path);
    assert_eq!((&before["healthy"], &before["last_event"]["kind"]), (&true.into(), &"topics_created".into()));

    cluster.kill(victim);
    let why = cluster.until("another node says that the partition has no leader", || {
        let (status, why) = get(&cluster, other, path);
        assert_eq!(status, 200, "{why}");
        (why["healthy"] == false && why["summary"].as_str().unwrap().starts_with("leader none")).then_some(why)
    });
    let summary = why["summary"].as_str().unwrap();
    assert!(summary.contains(&format!("ISR was {{{id}}}; broker {id} fenced")), "{summary}");
    assert!(summary.contains(" because "), "{summary}");
    assert_eq!(why["waiting_for"], format!("broker {id}"));
    let links = why["because"].as_array().unwrap();
    let fence = links.iter().find(|link| link["text"].as_str().unwrap().starts_with(&format!("broker {id} fenced")));
    let fence = fence.expect("the fence is a link of the chain");
    assert!(fence["time"].as_str().unwrap().starts_with("20") && fence["event"].is_u64(), "{fence}");

    let (_, of_broker) = get(&cluster, other, &format!("/admin/v1/why/brokers/{id}"));
    assert_eq!(of_broker["healthy"], false);
    assert!(of_broker["summary"].as_str().unwrap().starts_with(&format!("broker {id} fenced")), "{of_broker}");

    // The same for people.
    let printed = said(&cluster, other, &["why", "partition", "lonely", "0"]);
    assert!(printed.starts_with("partition lonely-0: leader none: ISR was"), "{printed}");
    assert!(printed.contains(&format!("waiting for: broker {id}\n")), "{printed}");
    let printed = said(&cluster, other, &["why", "broker", &id.to_string()]);
    assert!(printed.starts_with(&format!("broker {id}: broker {id} fenced")), "{printed}");
    let printed = said(&cluster, other, &["events", "--broker", &id.to_string(), "--kind", "broker_fenced"]);
    assert!(printed.lines().count() == 1 && printed.contains(" because "), "{printed}");
    let missing = format!("http://127.0.0.1:{}", cluster.nodes[other].http);
    let output = rookery(&["why", "broker", "77", "--http", &missing], "");
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("broker 77 is not registered"));

    // It comes back: all is well, and every node has the same log.
    cluster.launch(victim);
    cluster.wait_ready(victim);
    cluster.until("the partition is well again", || (get(&cluster, victim, path).1["healthy"] == true).then_some(()));
    let all = cluster.until("three nodes with one event log", || {
        let logs: Vec<Vec<Value>> = (0..3).map(|i| events(&cluster, i)).collect();
        (logs[0] == logs[1] && logs[1] == logs[2]).then(|| logs[0].clone())
    });
    for kind in
        ["cluster_formed", "broker_registered", "topics_created", "broker_fenced", "leader_lost", "leader_elected"]
    {
        assert!(all.iter().any(|event| event["kind"] == kind), "no {kind} in {all:#?}");
    }

    // What was seen before the verdict is told, too, and counted where it was decided.
    let fence = all.iter().find(|event| event["kind"] == "broker_fenced" && event["broker"]["id"] == id).unwrap();
    let seen = ["connection_closed", "silent", "suspected_by_gossip"];
    let suspicion = all.iter().find(|event| {
        seen.iter().any(|kind| event["kind"] == *kind)
            && event["broker"]["id"] == id
            && event["number"].as_u64() < fence["number"].as_u64()
    });
    assert!(suspicion.is_some(), "no suspicion of {id} in {all:#?}");
    assert!(all.iter().any(|event| event["kind"] == "controller_activated"), "{all:#?}");
    let judge = usize::try_from(fence["controller"].as_u64().unwrap()).unwrap() - 1;
    // The verdict did not wait for gossip, which comes to the same a moment later.
    let down = "rookery_gossip_changes_total{liveness=\"down\"}";
    let metrics = cluster.until("gossip holds it down", || Some(cluster.metrics(judge)).filter(|m| m.contains(down)));
    for name in [
        "rookery_cluster_events_total{kind=\"broker_fenced\"}",
        "rookery_broker_failure_findings_total{finding=",
        "rookery_broker_failure_verdicts_total{why=",
    ] {
        assert!(metrics.contains(name), "no {name} in\n{metrics}");
    }

    // The log outlives all processes.
    (0..3).for_each(|i| cluster.kill(i));
    cluster.launch_all();
    assert_eq!(events(&cluster, 0)[..all.len()], all[..]);
}

#[test]
fn a_groups_coordinator_says_how_it_is() {
    let cluster = Cluster::start(1);
    assert_eq!(get(&cluster, 0, "/admin/v1/why/groups/g").0, 404, "no group has ever been");
    cluster.rookery(&["topic", "create", "t"], "");
    assert_eq!(cluster.commit_offset(0, "t", 5), "NONE");
    let (status, why) = get(&cluster, 0, "/admin/v1/why/groups/g");
    assert_eq!((status, &why["healthy"]), (200, &true.into()), "{why}");
    assert!(why["summary"].as_str().unwrap().starts_with("well: it has no members"), "{why}");
    assert!(said(&cluster, 0, &["why", "group", "g"]).starts_with("group g: well: it has no members"));
    let (status, problem) = get(&cluster, 0, "/admin/v1/why/groups/other");
    assert_eq!(status, 404, "{problem}");
}
