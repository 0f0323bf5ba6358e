//! Real nodes as processes, driven through the command line: records survive the kill -9 of a leader, and a node
//! that was killed comes back from its disk.

use crate::harness::{Cluster, expected};

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
    cluster.launch_all();
    assert_eq!(cluster.consume("t"), expected(4000));
}

#[test]
fn a_node_alone_is_a_cluster_and_leaves_in_order() {
    let mut cluster = Cluster::start(1);
    cluster.rookery(&["topic", "create", "t"], "");
    cluster.produce("t", 0..100);
    let status = cluster.terminate(0);
    assert!(status.success(), "SIGTERM is a clean end: {}", cluster.tail(0));
    cluster.launch_all();
    assert_eq!(cluster.consume("t"), expected(100));
}
