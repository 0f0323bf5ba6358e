//! SIGTERM on three nodes: what the node leads is handed over before it goes, and clients notice nothing.

use crate::harness::{Cluster, expected};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Looks again and again, while `work` runs, for a partition without leader as a node sees it.
fn never_leaderless<T>(cluster: &mut Cluster, watcher: usize, work: impl FnOnce(&mut Cluster) -> T) -> T {
    let url = format!("http://127.0.0.1:{}/admin/v1/cluster", cluster.nodes[watcher].http);
    let stop = Arc::new(AtomicBool::new(false));
    let stopped = stop.clone();
    let looking = std::thread::spawn(move || {
        let mut looks = 0;
        while !stopped.load(Ordering::Relaxed) {
            let view: serde_json::Value = ureq::get(&url).call().unwrap().body_mut().read_json().unwrap();
            assert_eq!(view["partitions"]["offline"], 0, "{view}");
            looks += 1;
        }
        looks
    });
    let done = work(cluster);
    stop.store(true, Ordering::Relaxed);
    assert!(looking.join().unwrap() > 0);
    done
}

#[test]
fn a_leader_that_is_told_to_stop_hands_over_first() {
    let mut cluster = Cluster::start(3);
    cluster.rookery(&["topic", "create", "t", "--partitions", "6"], "");
    let stream = cluster.stream("t");
    // First one that is not the controller, then the controller itself.
    for is_controller in [false, true] {
        let controller = cluster.controller(0).unwrap();
        let leaving = if is_controller { controller } else { (controller + 1) % 3 };
        let watcher = (leaving + 1) % 3;
        let leads = |cluster: &Cluster| {
            let brokers = cluster.view(watcher)?["brokers"].clone();
            brokers.as_array()?.iter().find(|b| b["node_id"] == leaving + 1)?["leads"].as_u64()
        };
        cluster.until("it leads something", || leads(&cluster).filter(|n| *n > 0));
        let status = never_leaderless(&mut cluster, watcher, |cluster| cluster.terminate(leaving));
        assert!(status.success(), "{}", cluster.tail(leaving));
        assert_eq!(leads(&cluster), Some(0));
        if is_controller {
            let handed = std::fs::read_to_string(cluster.log(leaving)).unwrap();
            assert!(handed.contains("handing over the leadership"), "{handed}");
            assert!(cluster.controller(watcher).is_some_and(|now| now != leaving), "{}", cluster.tails());
        }
        cluster.launch(leaving);
        cluster.wait_ready(leaving);
        cluster.wait_in_sync(watcher);
    }
    let written = stream.finish();
    assert_eq!(cluster.consume("t"), expected(written));
}

#[test]
fn a_rolling_restart_loses_nothing_and_shows_no_error() {
    let mut cluster = Cluster::start(3);
    cluster.rookery(&["topic", "create", "t", "--partitions", "3"], "");
    let stream = cluster.stream("t");
    for i in 0..3 {
        let status = never_leaderless(&mut cluster, (i + 1) % 3, |cluster| {
            let status = cluster.terminate(i);
            cluster.launch(i);
            cluster.wait_ready(i);
            cluster.wait_in_sync(i);
            status
        });
        assert!(status.success(), "{}", cluster.tail(i));
    }
    let written = stream.finish();
    assert_eq!(cluster.consume("t"), expected(written));
}
