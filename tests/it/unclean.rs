//! Leaders elected by hand, and unclean elections: only where an operator or the topic says so, and told as what they are.

use crate::harness::{Cluster, Role, expected, rookery};
use serde_json::Value;
use std::process::Output;

const TOPIC: &str = "precious";
const CONTROLLER: usize = 0;
const BROKERS: [usize; 3] = [1, 2, 3];

fn why(cluster: &Cluster) -> Value {
    cluster.get(CONTROLLER, &format!("/admin/v1/why/partitions/{TOPIC}/0")).unwrap()
}

/// What is said of the partition, once it begins so.
fn wait_for_summary(cluster: &Cluster, part: &str) -> Value {
    cluster.until(&format!("`why` says {part:?}"), || {
        let why = why(cluster);
        why["summary"].as_str().unwrap().contains(part).then_some(why)
    })
}

fn elect(cluster: &Cluster, more: &[&str]) -> Output {
    cluster.rookery_fallible(&[&["topic", "elect", TOPIC, "0"], more].concat(), "")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn unclean_elections(cluster: &Cluster) -> Vec<Value> {
    let page = cluster.get(CONTROLLER, "/admin/v1/events?kind=unclean_leader_elected").unwrap();
    page["events"].as_array().unwrap().clone()
}

fn counted(cluster: &Cluster) -> Option<u64> {
    let name = r#"rookery_cluster_events_total{kind="unclean_leader_elected"} "#;
    let metrics = cluster.metrics(CONTROLLER);
    metrics.lines().find_map(|line| line.strip_prefix(name)).map(|count| count.trim().parse().unwrap())
}

fn isr(cluster: &Cluster) -> usize {
    let view = cluster.view(CONTROLLER).unwrap();
    let trouble = view["partitions"]["in_trouble"].as_array().unwrap().clone();
    trouble.iter().find(|p| p["topic"] == TOPIC).map_or(3, |p| p["isr"].as_array().unwrap().len())
}

/// A partition of three replicas. One broker dies before the last hundred records, the two that have them die later and lose their
/// disks. All three are down then; returns the one that has what it had.
fn two_of_three_disks_gone(configs: &[&str]) -> (Cluster, usize) {
    let mut cluster = Cluster::planned(&[Role::Controller, Role::Broker, Role::Broker, Role::Broker]);
    cluster.launch_all();
    cluster.rookery(&[&["topic", "create", TOPIC], configs].concat(), "");
    cluster.wait_in_sync(CONTROLLER);
    cluster.produce(TOPIC, 0..100);
    let leader = cluster.leader(TOPIC, "0");
    // The last of the replicas: an election that merely takes the first would take an empty disk.
    let replicas = cluster.describe(TOPIC, "0")[2].clone();
    let mut preference = replicas.split(',').map(|id| id.parse::<usize>().unwrap() - 1);
    let stale = preference.rfind(|i| *i != leader).unwrap();
    cluster.kill(stale);
    cluster.until("it is out of the ISR", || (isr(&cluster) == 2).then_some(()));
    cluster.produce(TOPIC, 100..200);
    for i in BROKERS.into_iter().filter(|i| *i != stale) {
        cluster.kill(i);
        cluster.wipe(i);
    }
    wait_for_summary(&cluster, "leader none");
    (cluster, stale)
}

#[test]
fn a_partition_whose_last_disks_are_gone_is_led_again_only_when_somebody_accepts_the_loss() {
    let (mut cluster, stale) = two_of_three_disks_gone(&[]);
    BROKERS.into_iter().for_each(|i| cluster.launch(i));
    BROKERS.into_iter().for_each(|i| cluster.wait_ready(i));
    let said = wait_for_summary(&cluster, "no replica is left that holds everything committed");
    assert!(said["summary"].as_str().unwrap().starts_with("leader none"), "{said}");
    assert_eq!(said["waiting_for"], "an unclean election");
    let command = format!("`rookery topic elect {TOPIC} 0 --unclean`");
    assert!(said["what_to_do"].as_str().unwrap().contains(&command), "{said}");

    // A preferred election is none; an unclean one says first what it costs, and does nothing.
    let refused = elect(&cluster, &[]);
    assert!(
        !refused.status.success() && text(&refused.stderr).contains("PREFERRED_LEADER_NOT_AVAILABLE"),
        "{refused:?}"
    );
    let refused = elect(&cluster, &["--unclean"]);
    let told = text(&refused.stderr);
    assert!(
        !refused.status.success() && told.contains("lost for ever") && told.contains("--accept-data-loss"),
        "{told}"
    );
    assert!(unclean_elections(&cluster).is_empty() && counted(&cluster).is_none());
    assert!(why(&cluster)["summary"].as_str().unwrap().starts_with("leader none"));

    let elected = elect(&cluster, &["--unclean", "--accept-data-loss"]);
    assert!(elected.status.success(), "{elected:?}\n{}", cluster.tails());
    assert_eq!(text(&elected.stdout).trim(), format!("{TOPIC}-0: leader {}", stale + 1), "the one that has something");
    let events = unclean_elections(&cluster);
    assert_eq!(events.len(), 1, "{events:#?}");
    cluster.until("it is counted", || (counted(&cluster) == Some(1)).then_some(()));
    let http = format!("http://127.0.0.1:{}", cluster.nodes[CONTROLLER].http);
    let told = text(&rookery(&["events", "--kind", "unclean_leader_elected", "--http", &http], "").stdout);
    assert!(told.contains("UNCLEAN") && told.contains("LOST") && told.contains(TOPIC), "{told}");

    // What it had is there, what it had not is gone, and all three go on from there.
    cluster.wait_in_sync(CONTROLLER);
    assert_eq!(cluster.consume(TOPIC), expected(100));
    cluster.produce(TOPIC, 100..150);
    assert_eq!(cluster.consume(TOPIC), expected(150));
    cluster.until("it is well", || (why(&cluster)["healthy"] == true).then_some(()));
    let again = elect(&cluster, &["--unclean", "--accept-data-loss"]);
    assert!(
        again.status.success() && text(&again.stdout).contains("has a leader: nothing had to be done"),
        "{again:?}"
    );
    assert_eq!(unclean_elections(&cluster).len(), 1);
}

#[test]
fn a_topic_that_allows_it_is_led_again_by_itself_and_the_loss_is_told() {
    let (mut cluster, stale) = two_of_three_disks_gone(&["--config", "unclean.leader.election.enable=true"]);
    assert!(unclean_elections(&cluster).is_empty(), "nobody was there");
    cluster.launch(stale);
    let said = wait_for_summary(&cluster, &format!("leader {}", stale + 1));
    assert_eq!(unclean_elections(&cluster).len(), 1, "{said}");
    cluster.until("it is counted", || (counted(&cluster) == Some(1)).then_some(()));
    cluster.wait_ready(stale);
    // Alone it is below min.insync.replicas, and does not know yet what is committed.
    for i in BROKERS.into_iter().filter(|i| *i != stale) {
        cluster.launch(i);
        cluster.wait_ready(i);
    }
    cluster.wait_in_sync(CONTROLLER);
    assert_eq!(cluster.consume(TOPIC), expected(100));
    cluster.produce(TOPIC, 100..150);
    assert_eq!(cluster.consume(TOPIC), expected(150));
    assert_eq!(unclean_elections(&cluster).len(), 1);
}

/// The only replica lost its disk: nothing is left to lose, and still nobody leads an empty log without being asked.
#[test]
fn the_only_replica_without_its_disk_leads_an_empty_log_when_it_is_asked_to_and_is_well_then() {
    let mut cluster = Cluster::planned(&[Role::Controller, Role::Broker]);
    cluster.launch_all();
    cluster.rookery(&["topic", "create", TOPIC, "--replication-factor", "1"], "");
    cluster.produce(TOPIC, 0..100);
    cluster.kill(1);
    cluster.wipe(1);
    cluster.launch(1);
    cluster.wait_ready(1);
    wait_for_summary(&cluster, "no replica is left that holds everything committed");
    let elected = elect(&cluster, &["--unclean", "--accept-data-loss"]);
    assert!(elected.status.success(), "{elected:?}\n{}", cluster.tails());
    cluster.until("it has recovered", || (why(&cluster)["healthy"] == true).then_some(()));
    assert_eq!(cluster.consume(TOPIC), expected(0));
    cluster.produce(TOPIC, 0..10);
    assert_eq!(cluster.consume(TOPIC), expected(10));
}

#[test]
fn leadership_that_was_handed_over_is_taken_back_by_hand() {
    let mut cluster = Cluster::planned(&[Role::Controller, Role::Broker, Role::Broker, Role::Broker]);
    cluster.launch_with(CONTROLLER, &["--set", "auto.leader.rebalance.enable=false"]);
    BROKERS.into_iter().for_each(|i| cluster.launch(i));
    (0..4).for_each(|i| cluster.wait_ready(i));
    cluster.rookery(&["topic", "create", TOPIC], "");
    cluster.wait_in_sync(CONTROLLER);
    let preferred = cluster.leader(TOPIC, "0");
    assert!(cluster.terminate(preferred).success(), "{}", cluster.tail(preferred));
    cluster.launch(preferred);
    cluster.wait_ready(preferred);
    cluster.wait_in_sync(CONTROLLER);
    assert_ne!(cluster.leader(TOPIC, "0"), preferred);
    let elected = elect(&cluster, &[]);
    assert!(elected.status.success(), "{elected:?}");
    assert_eq!(text(&elected.stdout).trim(), format!("{TOPIC}-0: leader {}", preferred + 1));
    assert_eq!(cluster.leader(TOPIC, "0"), preferred);
    let again = elect(&cluster, &[]);
    assert!(again.status.success() && text(&again.stdout).contains("nothing had to be done"), "{again:?}");
}
