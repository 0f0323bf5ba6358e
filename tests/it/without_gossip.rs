//! Gossip switched off: failures are found by heartbeats and connections alone, a little later and never wrongly.

use crate::harness::{Cluster, Role, expected};
use std::collections::BTreeSet;

/// Every broker that was ever fenced.
fn fenced(cluster: &Cluster, i: usize) -> BTreeSet<u64> {
    let page = cluster.get(i, "/admin/v1/events?kind=broker_fenced&limit=1000").unwrap();
    page["events"].as_array().unwrap().iter().map(|event| event["broker"]["id"].as_u64().unwrap()).collect()
}

#[test]
fn a_killed_and_a_hanging_leader_are_replaced_without_gossip() {
    let mut cluster = Cluster::planned(&[Role::Both; 3]);
    let launch = |cluster: &mut Cluster, i| cluster.launch_with(i, &["--set", "gossip.enable=false"]);
    (0..3).for_each(|i| launch(&mut cluster, i));
    (0..3).for_each(|i| cluster.wait_ready(i));
    assert!(cluster.view(0).unwrap()["gossip"].as_array().unwrap().is_empty());
    cluster.rookery(&["topic", "create", "t"], "");
    cluster.wait_in_sync(0);
    let stream = cluster.stream("t");
    let mut victims = BTreeSet::new();
    for hang in [false, true] {
        let victim = cluster.leader("t", "0");
        let witness = (0..3).find(|i| *i != victim).unwrap();
        victims.insert(victim as u64 + 1);
        if hang {
            cluster.pause(victim)
        } else {
            cluster.kill(victim)
        }
        cluster.until("another one leads", || {
            let view = cluster.get(witness, "/admin/v1/why/partitions/t/0")?;
            let leads = format!("leader {} ", victim + 1);
            let said = view["summary"].as_str()?.to_owned();
            (said.contains("leader ") && !said.contains(&leads) && !said.starts_with("leader none")).then_some(())
        });
        let so_far = stream.written();
        cluster.until("it takes records", || (stream.written() > so_far + 100).then_some(()));
        if hang {
            cluster.resume(victim)
        } else {
            launch(&mut cluster, victim)
        }
        cluster.wait_ready(victim);
        cluster.wait_in_sync(witness);
    }
    let written = stream.finish();
    assert_eq!(cluster.consume("t"), expected(written));
    assert!(fenced(&cluster, 0).is_subset(&victims), "{:?} were fenced, {victims:?} were dead", fenced(&cluster, 0));
    (0..3).for_each(|i| assert!(!cluster.metrics(i).contains("rookery_gossip_"), "node {} gossips", i + 1));
}
