//! The metadata quorum on real processes: how it comes into being, what it needs, and how a wiped voter comes back.

use crate::harness::{Cluster, Role, expected};
use std::time::Duration;

/// How each voter answers, in the order of their ids.
fn states(quorum: &serde_json::Value) -> Vec<String> {
    let voters = quorum["voter_states"].as_array().unwrap();
    voters.iter().map(|v| v["state"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn the_first_formation_waits_for_every_voter_and_later_a_majority_is_enough() {
    let mut cluster = Cluster::planned(&[Role::Both; 3]);
    cluster.launch(0);
    cluster.launch(1);
    for i in [0, 1] {
        cluster.wait_for_reason(i, "the first formation needs all listed voters; no answer from node 3");
        assert_eq!(cluster.view(i).unwrap()["cluster_id"], serde_json::Value::Null);
    }
    cluster.launch(2);
    (0..3).for_each(|i| cluster.wait_ready(i));
    cluster.rookery(&["topic", "create", "t", "--partitions", "3"], "");
    cluster.produce("t", 0..100);
    (0..3).for_each(|i| cluster.kill(i));
    for i in [1, 2] {
        cluster.launch(i);
    }
    for i in [1, 2] {
        cluster.wait_ready(i);
    }
    cluster.produce("t", 100..200);
    assert_eq!(cluster.consume("t"), expected(200));
}

#[test]
fn a_wiped_voter_has_no_vote_until_it_is_replaced_and_then_counts_again() {
    let mut cluster = Cluster::start(3);
    cluster.rookery(&["topic", "create", "t", "--partitions", "3"], "");
    cluster.produce("t", 0..1000);
    let formed = cluster.view(0).unwrap()["cluster_id"].clone();
    let voters = cluster.view(0).unwrap()["quorum"]["voters"].clone();
    let wiped = 2;
    cluster.kill(wiped);
    cluster.wipe(wiped);
    cluster.launch(wiped);
    cluster.wait_for_reason(wiped, "formed without this directory");
    cluster.wait_for_reason(wiped, "`rookery quorum replace 3`");
    assert!(std::fs::read_to_string(cluster.log(wiped)).unwrap().contains("`rookery quorum replace 3`"));
    assert_eq!(cluster.view(wiped).unwrap()["cluster_id"], formed);
    for asked in [0, wiped] {
        let quorum = cluster.view(asked).unwrap()["quorum"].clone();
        assert_eq!(states(&quorum), ["votes", "votes", "no vote"], "asked node {}: {quorum}", asked + 1);
        assert_eq!(quorum["has_majority"], true, "asked node {}: {quorum}", asked + 1);
    }

    // The others go on, and its broker fetches its replicas anew: it only lacks the vote.
    cluster.produce("t", 1000..2000);
    cluster.wait_in_sync(0);
    cluster.produce("t", 2000..3000);
    assert_eq!(cluster.consume("t"), expected(3000));
    assert_eq!(cluster.view(0).unwrap()["quorum"]["voters"], voters, "nobody took it for its old self");

    // With the controller down there is one voter left, and the wiped one does not make two of it.
    let controller = cluster.controller(0).unwrap();
    let left = 1 - controller;
    cluster.kill(controller);
    let term = |cluster: &Cluster| cluster.view(left).unwrap()["quorum"]["term"].clone();
    let before = term(&cluster);
    cluster.wait_for_reason(left, "no controller answers");
    assert_eq!(
        (term(&cluster), cluster.controller(left)),
        (before, None),
        "nobody was elected, and who is gone is not named"
    );
    let quorum = cluster.view(left).unwrap()["quorum"].clone();
    assert_eq!(quorum["has_majority"], false, "{quorum}");
    assert_eq!(states(&quorum)[controller], "unreachable", "{quorum}");
    cluster.launch(controller);
    cluster.wait_ready(controller);
    cluster.wait_ready(left);

    let replaced = cluster.replace_voter(wiped, left);
    let said = String::from_utf8_lossy(&replaced.stdout).into_owned();
    assert!(replaced.status.success() && said.contains("is a voter again"), "{replaced:?}\n{}", cluster.tails());
    // Once more, of the controller and of another node: it is told that there is nothing to do.
    for asked in [left, controller] {
        let again = cluster.replace_voter(wiped, asked);
        let said = String::from_utf8_lossy(&again.stdout).into_owned();
        assert!(again.status.success() && said.contains("nothing had to be done"), "{again:?}");
    }
    cluster.wait_ready(wiped);
    let now = cluster.view(0).unwrap()["quorum"]["voters"].clone();
    assert!(now.as_array().unwrap().len() == 3 && now != voters, "{now}");
    cluster.wait_in_sync(0);

    // It counts: the cluster survives another node, and finds it a voter after a restart.
    cluster.kill(controller);
    cluster.produce("t", 3000..4000);
    assert_eq!(cluster.consume("t"), expected(4000));
    cluster.launch(controller);
    cluster.wait_ready(controller);
    cluster.kill(wiped);
    cluster.launch(wiped);
    cluster.wait_ready(wiped);
    cluster.wait_in_sync(wiped);
    cluster.kill(left);
    cluster.produce("t", 4000..5000);
    assert_eq!(cluster.consume("t"), expected(5000));
}

#[test]
fn two_wiped_voters_of_three_are_no_cluster() {
    let mut cluster = Cluster::start(3);
    let formed = cluster.view(2).unwrap()["cluster_id"].clone();
    (0..3).for_each(|i| cluster.kill(i));
    for i in [0, 1] {
        cluster.wipe(i);
        cluster.launch(i);
    }
    for i in [0, 1] {
        cluster.wait_for_reason(i, "no answer from node 3");
    }
    cluster.launch(2);
    for i in [0, 1] {
        cluster.wait_for_reason(i, "formed without this directory");
        assert_eq!(cluster.view(i).unwrap()["cluster_id"], formed);
    }
    let term = || cluster.view(2).unwrap()["quorum"]["term"].clone();
    let before = term();
    std::thread::sleep(Duration::from_secs(3));
    let (now, controller) = (term(), cluster.controller(2));
    assert!(now == before && controller != Some(2), "one voter of three is no quorum: {controller:?}");
    for (i, node) in cluster.nodes.iter().enumerate() {
        assert!(cluster.not_ready(i).is_some());
        // A client must go elsewhere, and not be told of a cluster without brokers.
        assert!(std::net::TcpStream::connect(("127.0.0.1", node.kafka)).is_err(), "node {} takes clients", i + 1);
    }
    let refused = cluster.replace_voter(0, 2);
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && said.contains("no active controller"), "{said}");
}

#[test]
fn an_operator_hands_the_controller_over_while_records_are_written_and_no_broker_loses_anything() {
    let cluster = Cluster::start(3);
    cluster.rookery(&["topic", "create", "t", "--partitions", "3"], "");
    cluster.wait_in_sync(0);
    let leaders = || ["0", "1", "2"].map(|p| cluster.leader("t", p));
    let (before, stream) = (leaders(), cluster.stream("t"));
    // Asked of the controller itself, and of a node that has to pass it on.
    for itself in [true, false] {
        let was = cluster.until("a controller", || cluster.controller(0));
        let asked = if itself { was } else { (was + 1) % 3 };
        let done = cluster.quorum(&["transfer"], asked);
        let said = String::from_utf8_lossy(&done.stdout).into_owned();
        assert!(done.status.success(), "{done:?}\n{}", cluster.tails());
        let now = (0..3).find(|i| said.contains(&format!("node {} is the active controller", i + 1)));
        let now = now.unwrap_or_else(|| panic!("{said}"));
        assert_ne!(now, was, "{said}");
        for i in 0..3 {
            cluster.until("every node knows it", || (cluster.controller(i) == Some(now)).then_some(()));
        }
        // It decides: a topic can be made.
        cluster.rookery(&["topic", "create", if itself { "u" } else { "v" }], "");
    }
    let written = stream.finish();
    assert_eq!(cluster.consume("t"), expected(written));
    assert_eq!(leaders(), before);
    let fenced = cluster.get(0, "/admin/v1/events?kind=broker_fenced").unwrap();
    assert_eq!(fenced["events"].as_array().unwrap().len(), 0, "{fenced}");
}

#[test]
fn a_single_node_has_nobody_to_hand_the_controller_over_to() {
    let cluster = Cluster::start(1);
    let refused = cluster.quorum(&["transfer"], 0);
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && said.contains("there is no other voter"), "{said}");
    assert_eq!(cluster.controller(0), Some(0));
}
