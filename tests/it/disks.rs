//! Nodes live through their disks' faults, on real file systems: one that fills up, one that is full, one that hangs.

use crate::harness::{Cluster, Role, expected};
use crate::settings::{TOPIC, alter};
use crate::small_disk::SmallDisk;
use bytes::Bytes;
use rookery::storage::{DataDirectory, QuorumLog};
use rookery_raft::ids::NodeId;
use rookery_raft::quorum::{Durability, LogWrite, QuorumStorage, QuorumStorageError};
use std::time::Duration;

/// Records of four kilobytes; no watermark is as small as a few thousand of them.
fn lines(records: std::ops::Range<usize>) -> Vec<String> {
    records.map(|n| format!("record-{n:06}-{}", "x".repeat(4000))).collect()
}

/// So many at once.
const CHUNK: usize = 1500;

/// Writes chunks until a condition holds; how many records were acknowledged, all of them.
fn fill(cluster: &Cluster, topic: &str, from: usize, mut until: impl FnMut() -> bool) -> usize {
    let mut next = from;
    while !until() {
        assert!(next < 200 * CHUNK, "never full\n{}", cluster.tails());
        cluster.rookery(&["produce", topic], &(lines(next..next + CHUNK).join("\n") + "\n"));
        next += CHUNK;
    }
    next
}

const NO_WATERMARKS: &[&str] = &["--set", "log.dirs.free.bytes.soft=0", "--set", "log.dirs.free.bytes.hard=0"];

fn says(cluster: &Cluster, i: usize, part: &str) -> bool {
    cluster.not_ready(i).is_some_and(|why| why.contains(part))
}

#[test]
fn a_disk_that_fills_up_gives_its_leaderships_away_and_takes_them_back_when_there_is_space() {
    let Some(disk) = SmallDisk::new(192) else { return };
    let mut cluster = Cluster::planned(&[Role::Both; 3]);
    disk.place(&cluster.data_dir(0));
    cluster.launch_all();
    for topic in ["kept", "big"] {
        cluster.rookery(&["topic", "create", topic, "--partitions", "3"], "");
    }
    let leads = |cluster: &Cluster, topic: &str| ["0", "1", "2"].iter().any(|p| cluster.leader(topic, p) == 0);
    let in_sync = |cluster: &Cluster, topic: &str| {
        ["0", "1", "2"].iter().filter(|p| cluster.describe(topic, p)[3].split(',').any(|id| id.trim() == "1")).count()
    };
    cluster.until("it leads as others do", || leads(&cluster, "kept").then_some(()));
    cluster.produce("kept", 0..500);

    let written = fill(&cluster, "big", 0, || says(&cluster, 0, "nearly full") || says(&cluster, 0, "is full"));
    cluster.until("others lead", || (!leads(&cluster, "kept") && !leads(&cluster, "big")).then_some(()));
    let written = fill(&cluster, "big", written, || says(&cluster, 0, "is full"));
    cluster.until("it is in no ISR that can spare it", || (in_sync(&cluster, "big") == 0).then_some(()));
    // Others have space.
    cluster.produce("kept", 500..1000);
    let written = fill(&cluster, "big", written, {
        let mut rounds = 0..3;
        move || rounds.next().is_none()
    });
    assert_eq!(cluster.consume("big"), lines(0..written));
    assert_eq!(cluster.consume("kept"), expected(1000));

    cluster.rookery(&["topic", "delete", "big"], "");
    cluster.wait_ready(0); // in the same process
    cluster.wait_in_sync(1);
    cluster.until("it leads again", || leads(&cluster, "kept").then_some(()));
    cluster.produce("kept", 1000..1500);
    assert_eq!(cluster.consume("kept"), expected(1500));
}

#[test]
fn a_node_alone_with_a_disk_nearly_full_refuses_records_and_does_everything_else() {
    let Some(disk) = SmallDisk::new(192) else { return };
    let mut cluster = Cluster::planned(&[Role::Both]);
    disk.place(&cluster.data_dir(0));
    cluster.launch_all();
    for topic in ["kept", "big"] {
        cluster.rookery(&["topic", "create", topic, "--partitions", "1"], "");
    }
    cluster.produce("kept", 0..500);
    assert_eq!(cluster.produce_once(0, "kept", 0), "NONE");
    // The last chunk may find the disk full in its middle: then it is refused, and nobody knows how much of it was taken.
    let (mut written, mut unknown) = (0, 0..0);
    while !says(&cluster, 0, "full") {
        let chunk = written..written + CHUNK;
        match cluster.try_produce("big", &lines(chunk.clone())) {
            true => written = chunk.end,
            false => unknown = chunk,
        }
    }
    assert_eq!(cluster.produce_once(0, "kept", 0), "KAFKA_STORAGE_ERROR");
    assert_eq!(cluster.consume("kept").len(), 501, "what was written is read");
    let found = cluster.consume("big");
    assert!(found.len() >= written && found.len() <= written.max(unknown.end), "{} of {written}", found.len());
    assert_eq!(found, lines(0..found.len()));
    cluster.until("a group commits its offsets", || (cluster.commit_offset(0, "kept", 7) == "NONE").then_some(()));

    cluster.rookery(&["topic", "delete", "big"], "");
    cluster.wait_ready(0); // in the same process
    assert_eq!(cluster.produce_once(0, "kept", 0), "NONE");
    assert_eq!(cluster.consume("kept").len(), 502);
}

#[test]
fn a_store_that_met_the_end_of_the_disk_is_opened_again_in_the_process_when_there_is_space() {
    let Some(disk) = SmallDisk::new(256) else { return };
    let mut cluster = Cluster::planned(&[Role::Both]);
    disk.place(&cluster.data_dir(0));
    disk.ballast(96);
    cluster.launch_with(0, &[NO_WATERMARKS, &["--set", "log.dirs.reserve.bytes=0"]].concat());
    cluster.wait_ready(0);
    cluster.rookery(&["topic", "create", "t", "--partitions", "1"], "");
    let mut written = 0;
    // The first chunk that fails is the one that met the end: nobody knows how much of it was taken.
    while cluster.try_produce("t", &lines(written..written + CHUNK)) {
        written += CHUNK;
        assert!(written < 200 * CHUNK, "never full");
    }
    cluster.wait_for_reason(0, "the data directory is offline");
    cluster.wait_for_reason(0, "no space left");
    disk.drop_ballast();
    cluster.wait_ready(0); // in the same process
    let found = cluster.consume("t");
    assert!(found.len() >= written, "{} of {written} are left", found.len());
    assert_eq!(found, lines(0..found.len()), "nothing but what was sent, once and in order");
    cluster.rookery(&["produce", "t"], &(lines(found.len()..found.len() + 10).join("\n") + "\n"));
    assert_eq!(cluster.consume("t"), lines(0..found.len() + 10));
}

#[test]
fn a_node_on_a_disk_full_to_the_last_byte_did_not_start() {
    let Some(disk) = SmallDisk::new(256) else { return };
    let mut cluster = Cluster::planned(&[Role::Both]);
    disk.place(&cluster.data_dir(0));
    cluster.launch_all();
    for topic in ["kept", "big"] {
        cluster.rookery(&["topic", "create", topic, "--partitions", "1"], "");
    }
    cluster.produce("kept", 0..500);
    cluster.rookery(&["produce", "big"], &(lines(0..10 * CHUNK).join("\n") + "\n"));
    cluster.kill(0);
    disk.fill();

    cluster.launch(0);
    cluster.wait_for_reason(0, "its reserve is out");
    cluster.until("it serves", || cluster.not_ready(0).filter(|why| !why.contains("open")).map(|_| ()));
    // Also until it listens.
    assert_eq!(cluster.consume("kept"), expected(500));
    let error = || cluster.produce_once(0, "kept", 0);
    cluster.until("the reserve is not for records", || (error() == "KAFKA_STORAGE_ERROR").then_some(()));

    cluster.rookery(&["topic", "delete", "big"], "");
    disk.drop_filling();
    cluster.wait_ready(0); // in the same process
    assert!(disk.data().join("reserve").exists());
    cluster.produce("kept", 500..1000);
    assert_eq!(cluster.consume("kept"), expected(1000));
}

#[test]
fn a_node_that_had_no_room_to_start_ended_instead_of_waiting_for_it() {
    let Some(disk) = SmallDisk::new(256) else { return };
    let mut cluster = Cluster::planned(&[Role::Both]);
    disk.place(&cluster.data_dir(0));
    let nothing_kept_back = [NO_WATERMARKS, &["--set", "log.dirs.reserve.bytes=0"]].concat();
    cluster.launch_with(0, &nothing_kept_back);
    cluster.wait_ready(0);
    cluster.rookery(&["topic", "create", "t", "--partitions", "1"], "");
    // In memory, and in the write-ahead log, which the next start writes out.
    cluster.rookery(&["produce", "t"], &(lines(0..2 * CHUNK).join("\n") + "\n"));
    cluster.kill(0);
    disk.fill();

    cluster.launch_with(0, &nothing_kept_back);
    cluster.wait_for_reason(0, "cannot be opened before there is space on its disk");
    cluster.wait_for_reason(0, "No space left");
    assert!(cluster.get(0, "/health/live").is_some() && cluster.is_running(0), "{}", cluster.tail(0));
    disk.drop_filling();
    cluster.wait_ready(0); // in the same process
    assert_eq!(cluster.consume("t"), lines(0..2 * CHUNK));
}

#[test]
fn a_store_that_met_the_end_of_the_disk_waited_for_space_that_only_it_could_give_back() {
    let Some(disk) = SmallDisk::new(256) else { return };
    let mut cluster = Cluster::planned(&[Role::Both]);
    disk.place(&cluster.data_dir(0));
    disk.ballast(64);
    cluster.launch_with(0, NO_WATERMARKS);
    cluster.wait_ready(0);
    for topic in ["kept", "big"] {
        cluster.rookery(&["topic", "create", topic, "--partitions", "1"], "");
    }
    cluster.produce("kept", 0..500);
    let reserve = disk.data().join("reserve");
    assert!(reserve.exists());
    let mut written = 0;
    while reserve.exists() {
        assert!(written < 200 * CHUNK, "never full");
        written += CHUNK * usize::from(cluster.try_produce("big", &lines(written..written + CHUNK)));
    }
    let serves = |cluster: &Cluster| {
        cluster.wait_for_reason(0, "its reserve is out");
        cluster.until("it is online", || (!says(cluster, 0, "offline")).then_some(()));
        // Also until it listens.
        assert_eq!(cluster.consume("kept"), expected(500));
        let error = || cluster.produce_once(0, "kept", 0);
        cluster.until("the reserve is not for records", || (error() == "KAFKA_STORAGE_ERROR").then_some(()));
        assert!(cluster.consume("big").len() >= written);
        cluster.until("a group commits its offsets", || (cluster.commit_offset(0, "kept", 7) == "NONE").then_some(()));
        assert!(cluster.metrics(0).contains("rookery_storage_reserve_bytes 0"), "{}", cluster.metrics(0));
    };
    serves(&cluster);
    // Without a reserve to release, and with what is left of it.
    cluster.kill(0);
    cluster.launch_with(0, NO_WATERMARKS);
    serves(&cluster);

    cluster.rookery(&["topic", "delete", "big"], "");
    cluster.wait_ready(0); // in the same process
    assert!(reserve.exists());
    cluster.produce("kept", 500..1000);
    assert_eq!(cluster.consume("kept"), expected(1000));
}

#[test]
fn the_metadata_log_keeps_what_it_synced_through_a_full_disk() {
    let Some(disk) = SmallDisk::new(96) else { return };
    disk.ballast(48);
    let mark = Duration::from_millis(100);
    let mut directory = DataDirectory::open(&disk.data(), NodeId(1)).unwrap();
    let mut log = QuorumLog::open(&mut directory, mark).unwrap();
    let append = |index| LogWrite::Append { index, entry: Bytes::from(vec![7; 100_000]) };
    let mut synced = 0;
    let met = loop {
        match log.write(&[append(synced)], Durability::Synced) {
            Ok(()) => synced += 1,
            Err(error) => break error,
        }
        assert!(synced < 10_000, "never full");
    };
    assert!(matches!(met, QuorumStorageError::DiskFull(_)), "{met}");
    let after = log.write(&[append(synced)], Durability::Synced);
    assert!(matches!(after, Err(QuorumStorageError::Closed(_))), "never again on this open: {after:?}");
    let synced_commit = log.synced_commit();
    drop(log);
    disk.drop_ballast();
    let mut log = QuorumLog::reopen(&disk.data(), mark, synced_commit).unwrap();
    let (first, last) = log.load().unwrap().log.unwrap();
    assert!(first == 0 && last + 1 >= synced, "{synced} were synced, {first} to {last} are left");
    let next = last + 1;
    log.write(&[append(next)], Durability::Synced).unwrap();
    assert_eq!(log.read(0, next + 1, usize::MAX).unwrap().len() as u64, next + 1);
}

#[test]
fn a_metadata_log_that_met_the_end_of_the_disk_is_opened_again_in_the_process() {
    let Some(disk) = SmallDisk::new(256) else { return };
    let mut cluster = Cluster::planned(&[Role::Both]);
    disk.place(&cluster.data_dir(0));
    cluster.launch_with(0, NO_WATERMARKS);
    cluster.wait_ready(0);
    cluster.rookery(&["topic", "create", "kept", "--partitions", "1"], "");
    cluster.produce("kept", 0..500);
    disk.fill();
    // Long, and another one each time. Its file has some room allocated already.
    let value = vec!["0:1"; 15_000].join(",");
    let reserve = disk.data().join("reserve");
    let mut changes = 0;
    while reserve.exists() {
        let (config, value) = ("leader.replication.throttled.replicas", format!("{value},0:{changes}"));
        let answer = alter(cluster.nodes[0].kafka, (TOPIC, "kept"), config, &value);
        changes += 1;
        assert!(changes < 2000, "never full: {answer:?}");
    }
    let log = || std::fs::read_to_string(cluster.log(0)).unwrap();
    cluster.until("it is online again", || log().contains("the metadata log is online again").then_some(()));
    assert!(log().contains("the metadata log is offline"), "{}", cluster.tail(0));
    // With the space of the reserve.
    cluster.until("it takes changes", || {
        let (error, _) = alter(cluster.nodes[0].kafka, (TOPIC, "kept"), "retention.ms", "86400000");
        (error == 0).then_some(())
    });
    cluster.wait_for_reason(0, "its reserve is out");
    assert_eq!(cluster.consume("kept"), expected(500));

    disk.drop_filling();
    cluster.wait_ready(0); // in the same process
    assert!(reserve.exists());
    cluster.produce("kept", 500..1000);
    assert_eq!(cluster.consume("kept"), expected(1000));
}

#[test]
fn a_node_whose_disk_hangs_gives_everything_away_and_comes_back_when_it_moves() {
    let disks: Vec<SmallDisk> = (0..3).map_while(|_| SmallDisk::new(512)).collect();
    if disks.len() < 3 {
        return;
    }
    let mut cluster = Cluster::planned(&[Role::Both; 3]);
    (0..3).for_each(|i| disks[i].place(&cluster.data_dir(i)));
    cluster.launch_all();
    cluster.rookery(&["topic", "create", "t", "--partitions", "3"], "");
    let stream = cluster.stream("t");
    // First a node that is not the controller, then the controller itself.
    for is_controller in [false, true] {
        let controller = cluster.until("a controller", || cluster.controller(0));
        let hung = if is_controller { controller } else { (controller + 1) % 3 };
        let watcher = (hung + 1) % 3;
        let id = u64::try_from(hung + 1).unwrap();
        let of_hung = |cluster: &Cluster, what: &str| {
            let brokers = cluster.view(watcher)?["brokers"].clone();
            brokers.as_array()?.iter().find(|b| b["node_id"] == id)?[what].as_u64()
        };
        cluster.until("it leads something", || of_hung(&cluster, "leads").filter(|n| *n > 0));
        let frozen = disks[hung].freeze();
        cluster.until("it leads nothing", || of_hung(&cluster, "leads").filter(|n| *n == 0));
        if is_controller {
            cluster.until("another is the controller", || cluster.controller(watcher).filter(|now| *now != hung));
            cluster.wait_for_reason(hung, "the metadata log is offline");
        } else {
            cluster.wait_for_reason(hung, "the disk of the metadata log hangs");
        }
        cluster.wait_for_reason(hung, "the disk of the data directory hangs");
        // Its clients wait until it knows itself.
        cluster.until("it knows that it leads nothing", || {
            let brokers = cluster.view(hung)?["brokers"].clone();
            brokers.as_array()?.iter().find(|b| b["node_id"] == id)?["leads"].as_u64().filter(|n| *n == 0)
        });
        let written = stream.written();
        cluster.until("records go on", || (stream.written() > written + 500).then_some(()));
        drop(frozen);
        cluster.wait_ready(hung); // in the same process
        cluster.wait_in_sync(watcher);
        cluster.until("it leads again", || of_hung(&cluster, "leads").filter(|n| *n > 0));
    }
    let written = stream.finish();
    assert_eq!(cluster.consume("t"), expected(written));
}

#[test]
fn a_node_whose_disk_breaks_down_says_so_and_others_lead() {
    let Some(disk) = SmallDisk::new(512) else { return };
    let mut cluster = Cluster::planned(&[Role::Both; 3]);
    disk.place(&cluster.data_dir(0));
    cluster.launch_all();
    cluster.rookery(&["topic", "create", "t", "--partitions", "3"], "");
    cluster.produce("t", 0..500);
    let leads = |cluster: &Cluster| ["0", "1", "2"].iter().any(|p| cluster.leader("t", p) == 0);
    cluster.until("it leads as others do", || leads(&cluster).then_some(()));
    let stream = cluster.stream("t");
    disk.break_down();
    cluster.wait_for_reason(0, "the data directory is offline");
    cluster.until("others lead", || (!leads(&cluster)).then_some(()));
    let written = stream.written();
    cluster.until("records go on", || (stream.written() > written + 500).then_some(()));
    let written = stream.finish();
    let mut sent = [expected(500), expected(written)].concat();
    sent.sort();
    assert_eq!(cluster.consume("t"), sent);
    assert!(cluster.is_running(0), "{}", cluster.tail(0));

    cluster.kill(0);
    disk.repair();
    cluster.launch(0);
    cluster.wait_ready(0);
    cluster.wait_in_sync(1);
    cluster.until("it leads again", || leads(&cluster).then_some(()));
    let metrics = cluster.metrics(0);
    assert!(metrics.contains("rookery_storage_offline 0"), "{metrics}");
}
