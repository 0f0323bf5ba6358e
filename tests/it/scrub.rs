//! Bytes go bad on a node's disk: a scrub finds them, and they are mended from another replica.

use crate::harness::Cluster;
use serde_json::Value;
use std::os::unix::fs::FileExt;

const RECORDS: usize = 4000;

/// Of a kilobyte: values in blob files, and more than a start replays.
fn lines() -> Vec<String> {
    (0..RECORDS).map(|n| format!("record-{n:06}-{}", "x".repeat(1000))).collect()
}

/// Flips one bit in the largest blob file of a node that is down: in an early record of the only topic with data.
fn flip(cluster: &Cluster, i: usize) {
    let files = std::fs::read_dir(cluster.data_dir(i).join("log")).unwrap().map(|file| file.unwrap().path());
    let blobs = files.filter(|path| path.extension().is_some_and(|extension| extension == "blob"));
    let path = blobs.max_by_key(|path| path.metadata().unwrap().len()).expect("a blob file");
    let file = std::fs::File::options().read(true).write(true).open(&path).unwrap();
    let at = file.metadata().unwrap().len() / 4;
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).unwrap();
    file.write_all_at(&[byte[0] ^ 0x10], at).unwrap();
    file.sync_all().unwrap();
}

/// Flips bits all over the largest table of a node that is down: in values, and in keys.
fn flip_in_table(cluster: &Cluster, i: usize) {
    let files = std::fs::read_dir(cluster.data_dir(i).join("log")).unwrap().map(|file| file.unwrap().path());
    let tables = files.filter(|path| path.extension().is_some_and(|extension| extension == "sst"));
    let path = tables.max_by_key(|path| path.metadata().unwrap().len()).expect("a table");
    let mut bytes = std::fs::read(&path).unwrap();
    // Not its own index and footer, at its end.
    let end = bytes.len() / 10 * 8;
    (1..20).for_each(|n| bytes[end * n / 20] ^= 0x10);
    std::fs::write(&path, bytes).unwrap();
}

fn warnings(cluster: &Cluster, i: usize) -> String {
    cluster.get(i, "/health/ready").map_or_else(String::new, |health| health["warnings"].to_string())
}

fn metric(cluster: &Cluster, i: usize, name: &str) -> Option<f64> {
    let metrics = cluster.metrics(i);
    let line = metrics.lines().find(|line| line.split([' ', '{']).next() == Some(name))?;
    line.rsplit(' ').next()?.parse().ok()
}

fn scrub(cluster: &Cluster, i: usize) -> Value {
    cluster.post(i, "/admin/v1/scrub");
    cluster
        .until("the scrub has ended", || cluster.get(i, "/admin/v1/scrub").filter(|status| status["running"] == false))
}

#[test]
fn a_flipped_bit_is_mended_from_the_leader_and_on_the_leader_from_a_follower() {
    let mut cluster = Cluster::start(3);
    cluster.rookery(&["topic", "create", "t", "--partitions", "1", "--replication-factor", "3"], "");
    let leader = cluster.leader("t", "0");
    cluster.rookery(&["produce", "t"], &(lines().join("\n") + "\n"));
    cluster.wait_in_sync(0);
    for bad in [(leader + 1) % 3, leader] {
        assert!(cluster.terminate(bad).success());
        flip(&cluster, bad);
        cluster.launch(bad);
        cluster.wait_ready(bad);
        cluster.wait_in_sync((bad + 1) % 3);
        cluster.until("the preferred leader leads", || (cluster.leader("t", "0") == leader).then_some(()));
        let status = scrub(&cluster, bad);
        assert_eq!(status["damaged"], 1, "{status}\n{}", cluster.tail(bad));
        cluster.until("it is mended", || {
            let mended = metric(&cluster, bad, "rookery_storage_damage_mended_total") == Some(1.0);
            (mended && metric(&cluster, bad, "rookery_storage_damaged_batches") == Some(0.0)).then_some(())
        });
        cluster.wait_ready(bad);
        let status = scrub(&cluster, bad);
        assert_eq!(status["damaged"], 0, "{status}");
        assert_eq!(cluster.consume("t"), lines());
    }
}

/// Of one small record each: they lie in the tables.
const SMALL: usize = 400;

#[test]
fn a_damaged_table_costs_no_more_than_the_replicas_that_lie_in_it() {
    let mut cluster = Cluster::start(3);
    cluster.rookery(&["topic", "create", "t", "--partitions", "1", "--replication-factor", "3"], "");
    cluster.rookery(&["topic", "create", "other", "--partitions", "3", "--replication-factor", "3"], "");
    let leader = cluster.leader("t", "0");
    for _ in 0..SMALL {
        cluster.until("it is written", || (cluster.produce_once(leader, "t", 0) == "NONE").then_some(()));
    }
    cluster.wait_in_sync(0);
    let written = cluster.consume("t").len();
    assert!(written >= SMALL);
    for bad in [(leader + 1) % 3, leader] {
        assert!(cluster.terminate(bad).success());
        flip_in_table(&cluster, bad);
        cluster.launch(bad);
        cluster.wait_ready(bad);
        cluster.until("the scrub ends", || {
            cluster.post(bad, "/admin/v1/scrub");
            cluster.get(bad, "/admin/v1/scrub").filter(|status| status["last"].is_object())
        });
        cluster.until("it is mended, or copied anew", || {
            let is_done = |name| metric(&cluster, bad, name).unwrap_or_default() == 0.0;
            let mended = is_done("rookery_storage_damaged_batches") && is_done("rookery_replica_given_up");
            let something = ["rookery_storage_damage_mended_total", "rookery_replica_copied_anew_total"];
            let something = something.iter().any(|name| metric(&cluster, bad, name).unwrap_or_default() > 0.0);
            (mended && something && cluster.not_ready(bad).is_none()).then_some(())
        });
        cluster.wait_in_sync((bad + 1) % 3);
        let status = scrub(&cluster, bad);
        assert_eq!((&status["damaged"], &status["logs_unread"]), (&0.into(), &0.into()), "{status}");
        assert_eq!(cluster.consume("t").len(), written);
        assert!(warnings(&cluster, bad).contains("damaged table"), "{}", warnings(&cluster, bad));

        // What a person does about the table.
        assert!(cluster.terminate(bad).success());
        std::fs::remove_dir_all(cluster.data_dir(bad).join("log")).unwrap();
        cluster.launch(bad);
        cluster.wait_ready(bad);
        cluster.wait_in_sync((bad + 1) % 3);
        assert!(!warnings(&cluster, bad).contains("damaged table"), "{}", warnings(&cluster, bad));
        cluster.until("the preferred leader leads", || (cluster.leader("t", "0") == leader).then_some(()));
    }
    assert_eq!(cluster.consume("t").len(), written);
}
