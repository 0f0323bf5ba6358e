//! Several named listeners: each client is told the addresses of the listener it came by.

use crate::harness::{Cluster, Role, expected, free_ports, metadata};

#[test]
fn each_listener_tells_its_own_addresses() {
    let mut cluster = Cluster::planned(&[Role::Both, Role::Broker]);
    let outside: [u16; 2] = free_ports();
    for (i, port) in outside.into_iter().enumerate() {
        let inside = cluster.nodes[i].kafka;
        let listeners = format!("listeners=INSIDE://127.0.0.1:{inside},OUTSIDE://127.0.0.1:{port}");
        // Only the one that lies behind a door of another name says so.
        let advertised = format!("advertised.listeners=OUTSIDE://broker-{}.example.org:19092", i + 1);
        cluster.launch_with(i, &["--set", &listeners, "--set", &advertised]);
    }
    (0..2).for_each(|i| cluster.wait_ready(i));
    let told = |port: u16| {
        let mut brokers: Vec<(i32, String, i32)> =
            metadata(port).brokers.into_iter().map(|b| (b.node_id, b.host.to_string(), b.port)).collect();
        brokers.sort();
        brokers
    };
    let inside = |i: usize| (i32::try_from(i + 1).unwrap(), "127.0.0.1".to_owned(), i32::from(cluster.nodes[i].kafka));
    for (i, port) in outside.into_iter().enumerate() {
        cluster.until("both nodes are known", || (told(cluster.nodes[i].kafka).len() == 2).then_some(()));
        assert_eq!(told(cluster.nodes[i].kafka), [inside(0), inside(1)]);
        let [one, two] = [1, 2].map(|id| (id, format!("broker-{id}.example.org"), 19092));
        assert_eq!(told(port), [one, two]);
    }

    // The inside works as a whole.
    cluster.rookery(&["topic", "create", "t", "--partitions", "4", "--replication-factor", "2"], "");
    cluster.produce("t", 0..100);
    assert_eq!(cluster.consume("t"), expected(100));
}
