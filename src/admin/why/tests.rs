use super::*;
use crate::admin::scenario::Scenario;
use crate::coordinator::group::DescribedGroup;
use crate::coordinator::{CoordinatorError, group::partition_of};
use rookery_raft::controller::{ControllerRequest, EnsureInternalTopicRequest};
use rookery_raft::ids::BrokerEpoch;
use rookery_raft::record::{Cause, DirectoryState, Finding, MetadataRecord, Observation, Provenance};
use std::collections::BTreeMap;
use std::time::Duration;

fn texts(why: &Why) -> String {
    why.because.iter().map(|reason| reason.text.as_str()).collect::<Vec<_>>().join("\n")
}

#[test]
fn a_partition_whose_only_replica_was_killed() {
    let mut scenario = Scenario::with_brokers(3);
    scenario.create("t", &[2]);
    scenario.now += Duration::from_secs(7);
    scenario.kill(2);
    let why = partition(&scenario.scene(&[(2, Liveness::Down)]), "t", 0).unwrap();
    let because = "its connection closed and nobody listens there any more";
    assert_eq!(
        why.summary,
        format!("leader none: ISR was {{2}}; broker 2 fenced 12:00:07 because {because}; waiting for broker 2")
    );
    assert_eq!((why.healthy, why.waiting_for.as_deref()), (false, Some("broker 2")));
    assert_eq!(why.what_to_do.as_deref(), Some("bring broker 2 back; nobody else has a copy"));
    assert_eq!(
        texts(&why),
        format!(
            "broker 2 fenced (epoch {}), because {because}\n\
             t-0 2 → none (epoch 1, ISR {{2}} → {{}}), because a broker was found dead: {because}\n\
             gossip on node 1 holds broker 2 down\neverything committed is held by {{2}} alone",
            scenario.image.cluster.broker(NodeId(2)).unwrap().epoch()
        )
    );
    assert_eq!(why.because[0].time.as_deref(), Some("1970-01-01T12:00:07.000Z"));
    // It is back, and the answer with it.
    scenario.start(2);
    let why = partition(&scenario.scene(&[(2, Liveness::Alive)]), "t", 0).unwrap();
    assert_eq!((why.healthy, why.summary.as_str()), (true, "well: leader 2 (epoch 2), in sync {2} of {2}"));
    assert_eq!(why.last_event.map(|event| event.kind), Some("leader_elected"));
}

#[test]
fn a_partition_that_waits_for_the_right_one_of_two() {
    let mut scenario = Scenario::with_brokers(3);
    scenario.create("t", &[2, 3]);
    scenario.alter_isr("t", &[2]);
    scenario.kill(2);
    let why = partition(&scenario.scene(&[]), "t", 0).unwrap();
    // Both are needed by min.insync.replicas, so nothing was committed without broker 3: it leads.
    assert!(why.summary.starts_with("leader 3 (epoch 1), in sync {3} of {2, 3}; broker 2 fenced"), "{}", why.summary);
    assert!(why.summary.ends_with("writes with acks=all are refused"), "{}", why.summary);
    assert!(texts(&why).contains("in sync are 1 of 2 replicas, min.insync.replicas asks for 2"), "{}", texts(&why));
    assert_eq!(why.waiting_for.as_deref(), Some("broker 2 to come back and catch up"));
    assert_eq!(why.what_to_do.as_deref(), Some("bring broker 2 back"));
    scenario.create("three", &[1, 2, 3]);
    scenario.start(2);
    scenario.alter_isr("three", &[1, 3]);
    scenario.alter_isr("three", &[1, 3, 2]);
    scenario.alter_isr("three", &[1, 3]);
    let why = partition(&scenario.scene(&[]), "three", 0).unwrap();
    let state = "leader 1 (epoch 0), in sync {1, 3} of {1, 2, 3}";
    assert_eq!(why.summary, format!("{state}; broker 2 is out of sync and copies what it misses"));
    assert!(texts(&why).contains("three-0 ISR {1, 3, 2} → {1, 3}, because leader 1 asked for it"), "{}", texts(&why));
}

#[test]
fn data_that_is_lost_and_an_unclean_election_are_said_loudly() {
    let mut scenario = Scenario::with_brokers(2);
    scenario.create("t", &[2]);
    scenario.kill(2);
    scenario.register(2, DirectoryState::LogLost);
    let why = partition(&scenario.scene(&[]), "t", 0).unwrap();
    assert!(why.summary.contains("no replica is left that holds everything committed"), "{}", why.summary);
    assert_eq!(why.waiting_for.as_deref(), Some("an unclean election"));
    let to_do = why.what_to_do.unwrap();
    assert!(to_do.starts_with("`rookery topic elect t 0 --unclean` goes on with what is left"), "{to_do}");
    scenario.beat(2, false);
    scenario.elect_uncleanly();
    let why = partition(&scenario.scene(&[]), "t", 0).unwrap();
    assert!(!why.healthy && why.summary.contains("elected UNCLEANLY"), "{}", why.summary);
    assert!(texts(&why).contains("committed records may be LOST"), "{}", texts(&why));
    let why = broker(&scenario.scene(&[]), NodeId(2)).unwrap();
    assert!(!why.healthy && why.summary.contains("lost synced data"), "{}", why.summary);
}

#[test]
fn what_to_do_names_the_command_that_does_it() {
    let mut scenario = Scenario::with_brokers(3);
    scenario.create("t", &[1, 2, 3]);
    for id in [1, 2, 3] {
        scenario.kill(id);
    }
    scenario.start(1);
    let why = partition(&scenario.scene(&[]), "t", 0).unwrap();
    assert_eq!(why.waiting_for.as_deref(), Some("broker 3 or broker 2, or an unclean election"));
    let to_do = why.what_to_do.unwrap();
    assert!(to_do.starts_with("bring broker 3 or broker 2 back; "), "{to_do}");
    assert!(to_do.contains("`rookery topic elect t 0 --unclean`"), "{to_do}");
    for id in [2, 3] {
        scenario.start(id);
    }
    scenario.alter_isr("t", &[2, 1]);
    scenario.alter_isr("t", &[2, 1, 3]);
    let why = partition(&scenario.scene(&[]), "t", 0).unwrap();
    let by_hand = "leadership goes back to broker 1 with the next balancing, or by `rookery topic elect t 0`";
    assert!(why.healthy && why.summary.ends_with(by_hand), "{}", why.summary);
}

#[test]
fn a_leader_that_nobody_can_depose_yet() {
    let mut scenario = Scenario::with_brokers(3);
    scenario.create("t", &[2, 3]);
    let mut scene = scenario.scene(&[(2, Liveness::Down)]);
    let why = partition(&scene, "t", 0).unwrap();
    assert!(!why.healthy && why.summary.contains("holds broker 2 down, and it still leads"), "{}", why.summary);
    scene.has_majority = Some(false);
    let why = partition(&scene, "t", 0).unwrap();
    assert!(texts(&why).contains("the metadata quorum has no majority"), "{}", texts(&why));
    scene.liveness.clear();
    assert!(!partition(&scene, "t", 0).unwrap().healthy);
}

#[test]
fn a_broker_through_its_life() {
    let mut scenario = Scenario::with_brokers(3);
    scenario.create("t", &[2]);
    scenario.create("u", &[1, 2, 3]);
    let why = broker(&scenario.scene(&[]), NodeId(2)).unwrap();
    assert_eq!((why.healthy, why.summary.as_str()), (true, "broker 2 serves: it leads 1 of its 2 partitions"));
    assert_eq!(why.last_event.map(|event| event.kind), Some("broker_unfenced"));
    // What was seen shortly before comes along.
    let (id, epoch) = (NodeId(2), scenario.image.cluster.broker(NodeId(2)).unwrap().epoch());
    let seen = Provenance { controller: NodeId(1), term: 1, unix_ms: 43_200_000, cause: Cause::Observed };
    let observation = Observation { broker: id, epoch, finding: Finding::SuspectedByGossip, count: 3 };
    scenario.replay(&[MetadataRecord::Provenance(seen), MetadataRecord::Observation(observation)]);
    scenario.kill(2);
    let why = broker(&scenario.scene(&[]), NodeId(2)).unwrap();
    assert!(why.summary.starts_with("broker 2 fenced 12:00:00 because its connection closed"), "{}", why.summary);
    let said = texts(&why);
    assert!(said.starts_with("broker 2 is suspected by gossip (3 times)\nbroker 2 fenced"), "{said}");
    assert!(said.contains("1 of its 2 partitions have no leader until it is back"), "{said}");
    assert!(why.what_to_do.unwrap().starts_with("start broker 2, or see why node2:9192 cannot be reached"));
    scenario.register(2, DirectoryState::Online);
    let why = broker(&scenario.scene(&[]), NodeId(2)).unwrap();
    assert!(why.summary.ends_with("registered 12:00:00 and has not caught up yet"), "{}", why.summary);
    scenario.beat(2, false);
    scenario.beat(2, true);
    assert!(broker(&scenario.scene(&[]), NodeId(2)).unwrap().summary.contains("is shutting down"));
    scenario.beat(2, true);
    scenario.ask(ControllerRequest::UnregisterBroker { id: NodeId(2) });
    let problem = broker(&scenario.scene(&[]), NodeId(2)).unwrap_err();
    assert_eq!((problem.status, problem.detail.contains("an operator unregistered it")), (404, true), "{problem:?}");
    let of_partition = partition(&scenario.scene(&[]), "t", 0).unwrap();
    assert!(of_partition.summary.contains("broker 2 is not registered"), "{}", of_partition.summary);
}

#[test]
fn a_disk_that_was_seen_full() {
    let mut scenario = Scenario::with_brokers(2);
    let (broker_id, epoch) = (NodeId(2), BrokerEpoch(2));
    let mut seen = |finding| {
        let provenance = Provenance { controller: NodeId(1), term: 1, unix_ms: 0, cause: Cause::Observed };
        let observation = Observation { broker: broker_id, epoch, finding, count: 1 };
        scenario.replay(&[MetadataRecord::Provenance(provenance), MetadataRecord::Observation(observation)]);
        broker(&scenario.scene(&[]), broker_id).unwrap()
    };
    assert!(seen(Finding::DiskFull).summary.contains("has a full disk"));
    assert!(seen(Finding::DiskInOrder).healthy);
    assert!(!seen(Finding::DiskStalled).healthy);
    assert!(seen(Finding::ControllerActivated).healthy, "another controller says it again if it is so");
}

#[test]
fn a_group() {
    let mut scenario = Scenario::with_brokers(3);
    let described = |error, state| DescribedGroup {
        group_id: "g".into(),
        error,
        state,
        protocol_type: "consumer".into(),
        protocol: "".into(),
        members: Vec::new(),
    };
    let ask = |scenario: &Scenario, described| group(&GroupScene { scene: scenario.scene(&[]), described }, "g");
    assert_eq!(ask(&scenario, None).unwrap_err().status, 404, "no group has ever been");
    scenario.ask(ControllerRequest::EnsureInternalTopic(EnsureInternalTopicRequest {
        name: "__consumer_offsets".into(),
        partitions: 4,
        replication_factor: 3,
        configs: BTreeMap::new(),
    }));
    let number = partition_of("g", 4);
    let led_by = |scenario: &Scenario| {
        scenario.image.topics.by_name("__consumer_offsets").unwrap().partition(number).unwrap().leader
    };
    // Node 1 answers; it comes to coordinate when the others are gone.
    for id in [2, 3] {
        scenario.kill(id);
    }
    assert_eq!(led_by(&scenario), NodeId(1));
    let why = ask(&scenario, Some(described(Some(CoordinatorError::CoordinatorLoadInProgress), "Dead"))).unwrap();
    assert!(!why.healthy && why.summary.contains("still reading its state"), "{}", why.summary);
    let unknown = ask(&scenario, Some(described(Some(CoordinatorError::GroupIdNotFound), "Dead"))).unwrap_err();
    assert_eq!(unknown.status, 404);
    let why = ask(&scenario, Some(described(None, "Stable"))).unwrap();
    assert!(!why.healthy && why.summary.contains("writes with acks=all are refused"), "{}", why.summary);
    for id in [2, 3] {
        scenario.start(id);
    }
    let why = ask(&scenario, Some(described(None, "PreparingRebalance"))).unwrap();
    assert_eq!((why.healthy, why.waiting_for.as_deref()), (false, Some("every member to join again")));
    // Another node coordinates.
    scenario.kill(1);
    let why = ask(&scenario, None).unwrap();
    let coordinator = led_by(&scenario);
    assert!(why.summary.starts_with(&format!("coordinated by broker {coordinator}: ")), "{}", why.summary);
    for id in [2, 3] {
        scenario.kill(id);
    }
    let why = ask(&scenario, None).unwrap();
    assert!(!why.healthy && why.summary.starts_with("no coordinator: "), "{}", why.summary);
}

#[test]
fn what_is_well_says_so_and_what_is_unknown_is_not_found() {
    let mut scenario = Scenario::with_brokers(3);
    scenario.create("t", &[2, 1]);
    let scene = scenario.scene(&[]);
    let why = partition(&scene, "t", 0).unwrap();
    assert_eq!((why.healthy, why.because.len()), (true, 0));
    assert_eq!(why.last_event.map(|event| event.kind), Some("topics_created"));
    assert_eq!(partition(&scene, "t", 1).unwrap_err().status, 404);
    assert_eq!(partition(&scene, "x", 0).unwrap_err().status, 404);
    assert_eq!(broker(&scene, NodeId(9)).unwrap_err().status, 404);
}
