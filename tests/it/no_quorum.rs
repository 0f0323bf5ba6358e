//! Losing the controller quorum stops changes of the metadata, and nothing else.

use crate::harness::{Cluster, Role, ask, expected};
use rookery_protocol::error::ErrorCode;
use rookery_protocol::messages::create_topics::CreatableTopic;
use rookery_protocol::messages::fetch::{FetchPartition, FetchTopic};
use rookery_protocol::messages::{CreateTopicsRequest, FetchRequest, FindCoordinatorRequest, InitProducerIdRequest};
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

const CONTROLLERS: [usize; 3] = [0, 1, 2];
const BROKERS: [usize; 3] = [3, 4, 5];
/// Several leases and session time-outs.
const LONG: Duration = Duration::from_secs(15);

fn create_topic(cluster: &Cluster, i: usize, name: &str) -> &'static str {
    let topic = CreatableTopic { name: name.into(), num_partitions: 1, replication_factor: 3, ..Default::default() };
    let request = CreateTopicsRequest { topics: vec![topic], timeout_ms: 1000, ..Default::default() };
    let answer = ask(cluster.nodes[i].kafka, 5, &request);
    ErrorCode::from_code(answer.topics[0].error_code).unwrap().name()
}

/// One fetch from the beginning of partition 0, asked of one node and once: the name of the error.
fn fetch_once(cluster: &Cluster, i: usize, topic: &str) -> &'static str {
    let partition = FetchPartition { partition: 0, partition_max_bytes: 1 << 20, ..Default::default() };
    let topic = FetchTopic { topic: topic.into(), partitions: vec![partition], ..Default::default() };
    let request = FetchRequest { max_wait_ms: 10, topics: vec![topic], session_epoch: -1, ..Default::default() };
    let answer = ask(cluster.nodes[i].kafka, 11, &request);
    ErrorCode::from_code(answer.responses[0].partitions[0].error_code).unwrap().name()
}

/// The broker that coordinates the group `g`.
fn coordinator(cluster: &Cluster) -> usize {
    let find = FindCoordinatorRequest { coordinator_keys: vec!["g".into()], ..Default::default() };
    cluster.until("a coordinator", || {
        let answer = ask(cluster.nodes[BROKERS[0]].kafka, 4, &find);
        let found = &answer.coordinators[0];
        (found.error_code == ErrorCode::None.code()).then(|| usize::try_from(found.node_id).unwrap() - 1)
    })
}

fn fenced(cluster: &Cluster) -> BTreeSet<i64> {
    let page = cluster.get(CONTROLLERS[0], "/admin/v1/events?kind=broker_fenced").unwrap();
    page["events"].as_array().unwrap().iter().map(|event| event["broker"]["id"].as_i64().unwrap()).collect()
}

#[test]
fn brokers_serve_on_without_controllers_until_one_of_them_is_missing_too() {
    let mut cluster = Cluster::planned(&[[Role::Controller; 3], [Role::Broker; 3]].concat());
    cluster.launch_all();
    cluster.rookery(&["topic", "create", "t"], "");
    cluster.rookery(&["topic", "create", "lonely", "--partitions", "3", "--replication-factor", "1"], "");
    cluster.wait_in_sync(CONTROLLERS[0]);
    let leader = cluster.leader("t", "0");
    let coordinator = coordinator(&cluster);
    assert_eq!(cluster.commit_offset(coordinator, "t", 1), "NONE");

    // Two of three voters are gone, and with them every controller.
    for i in &CONTROLLERS[1..] {
        cluster.kill(*i);
    }
    for i in BROKERS {
        cluster.wait_for_reason(i, "no controller answers heartbeats");
    }
    assert_eq!(create_topic(&cluster, leader, "u"), "REQUEST_TIMED_OUT");
    for i in BROKERS {
        let request = InitProducerIdRequest { transactional_id: None, ..Default::default() };
        let answer = ask(cluster.nodes[i].kafka, 4, &request);
        assert_eq!(answer.error_code, ErrorCode::None.code(), "an idempotent producer begins at node {}", i + 1);
    }
    let (began, mut written) = (Instant::now(), 0);
    while began.elapsed() < LONG {
        cluster.produce("t", written..written + 10);
        written += 10;
        assert_eq!(cluster.consume("t"), expected(written));
        assert_eq!(cluster.commit_offset(coordinator, "t", i64::try_from(written).unwrap()), "NONE");
    }
    assert_eq!(cluster.leader("t", "0"), leader);

    // Whether a broker is gone or whether this one is cut off from it: nobody can say, and no ISR can change. Who is not
    // confirmed by its whole ISR stops, for readers too; who needs nobody goes on.
    let victim = BROKERS.into_iter().find(|i| *i != leader).unwrap();
    cluster.kill(victim);
    let refused = "NOT_LEADER_OR_FOLLOWER";
    cluster.until("the leader stops", || (cluster.produce_once(leader, "t", 0) == refused).then_some(()));
    assert_eq!(fetch_once(&cluster, leader, "t"), refused);
    let alone = (0..3).find(|p| cluster.leader("lonely", &p.to_string()) == leader).unwrap();
    assert_eq!(cluster.produce_once(leader, "lonely", alone), "NONE");

    // It comes back, and the controllers after it.
    cluster.launch(victim);
    for i in &CONTROLLERS[1..] {
        cluster.launch(*i);
    }
    (0..6).for_each(|i| cluster.wait_ready(i));
    cluster.wait_in_sync(CONTROLLERS[0]);
    let records: Vec<String> = cluster.consume("t").into_iter().filter(|r| r.starts_with("record-")).collect();
    assert_eq!(records, expected(written));
    cluster.until("topics can be made again", || (create_topic(&cluster, leader, "u") == "NONE").then_some(()));
    // By its own registration, or for its death; the others were there all the time.
    let victim = i64::try_from(victim).unwrap() + 1;
    assert!(fenced(&cluster).is_subset(&BTreeSet::from([victim])), "{:?}", fenced(&cluster));
}
