//! Brokers and controllers in processes of their own (`process.roles`).

use crate::harness::{Cluster, Role, expected, metadata};
use rookery::storage::DataDirectory;
use rookery_raft::ids::NodeId;

/// A client must only ever hear of brokers.
fn assert_only_brokers(cluster: &Cluster, told_by: usize, brokers: &[i32]) {
    let told = metadata(cluster.nodes[told_by].kafka);
    let mut ids: Vec<i32> = told.brokers.iter().map(|b| b.node_id).collect();
    ids.sort_unstable();
    assert_eq!(ids, brokers);
    assert!(brokers.contains(&told.controller_id), "changes are asked of a broker, not of node {}", told.controller_id);
    for partition in told.topics.iter().flat_map(|t| &t.partitions) {
        assert!(partition.replica_nodes.iter().all(|id| brokers.contains(id)), "{partition:?}");
    }
}

#[test]
fn one_controller_and_two_brokers() {
    let mut cluster = Cluster::planned(&[Role::Controller, Role::Broker, Role::Broker]);
    cluster.launch_all();
    cluster.rookery(&["topic", "create", "t", "--partitions", "4", "--replication-factor", "2"], "");
    cluster.produce("t", 0..1000);
    for i in [1, 2] {
        assert_only_brokers(&cluster, i, &[2, 3]);
    }

    // A controller let go of its directory once it knew the cluster.
    for i in 0..3 {
        let id = NodeId(i32::try_from(i).unwrap() + 1);
        let refused = DataDirectory::open(&cluster.data_dir(i), id).err().expect("the node holds it");
        assert!(refused.to_string().contains("in use by another process"), "{refused}");
    }

    // Each of them restarts in order; what is under way goes on while the only controller is away.
    for i in [1, 2] {
        assert!(cluster.terminate(i).success(), "{}", cluster.tail(i));
        cluster.launch(i);
        cluster.wait_ready(i);
        cluster.wait_in_sync(0);
    }
    cluster.rookery(&["topic", "create", "u", "--replication-factor", "2"], "");
    let stream = cluster.stream("u");
    cluster.until("it writes", || (!cluster.consume("u").is_empty()).then_some(()));
    assert!(cluster.terminate(0).success(), "{}", cluster.tail(0));
    let so_far = stream.written();
    cluster
        .until("records are acknowledged without a controller", || (cluster.consume("u").len() > so_far).then_some(()));
    assert_eq!(cluster.consume("t"), expected(1000));
    cluster.launch(0);
    cluster.wait_ready(0);
    let written = stream.finish();
    assert_eq!(cluster.consume("u"), expected(written));
    cluster.produce("t", 1000..2000);

    // kill -9 of a broker: the other leads, and with one replica acks=all waits until it is back.
    let victim = cluster.leader("t", "0");
    cluster.kill(victim);
    cluster.until("the other leads", || (cluster.leader("t", "0") == 3 - victim).then_some(()));
    cluster.launch(victim);
    cluster.wait_ready(victim);
    cluster.produce("t", 2000..3000);
    cluster.wait_in_sync(0);
    assert_eq!(cluster.consume("t"), expected(3000));
    for i in [1, 2] {
        assert_only_brokers(&cluster, i, &[2, 3]);
    }
}

#[test]
fn a_broker_beside_three_voters_follows_every_controller() {
    let mut cluster = Cluster::planned(&[Role::Both, Role::Both, Role::Both, Role::Broker]);
    cluster.launch_all();
    cluster.rookery(&["topic", "create", "t", "--partitions", "8"], "");
    cluster.until("it leads something", || {
        let view = cluster.view(0)?;
        let fourth = view["brokers"].as_array()?.iter().find(|b| b["node_id"] == 4)?.clone();
        (fourth["leads"].as_u64()? > 0).then_some(())
    });
    cluster.produce("t", 0..1000);
    let mut count = 1000;
    // Every controller in turn is killed under it.
    for _ in 0..2 {
        let controller = cluster.controller(0).or_else(|| cluster.controller(1)).unwrap();
        cluster.kill(controller);
        cluster.produce("t", count..count + 500);
        count += 500;
        cluster.launch(controller);
        cluster.wait_ready(controller);
        cluster.wait_in_sync(controller);
    }
    cluster.kill(3);
    cluster.produce("t", count..count + 500);
    cluster.launch(3);
    cluster.wait_ready(3);
    cluster.wait_in_sync(3);
    assert_eq!(cluster.consume("t"), expected(count + 500));
    assert_only_brokers(&cluster, 3, &[1, 2, 3, 4]);
}
