//! kill -9 in the middle of appends: whatever was acknowledged is there after the next open.
//!
//! The child is this test binary, running the ignored test [`child`].

use bytes::{BufMut, Bytes, BytesMut};
use rookery::storage::{
    AppendOrigin, DataDirectory, LeaderAppend, LogClass, LogConfig, LogDirectory, LogStore, PartitionLog, ReadLimit,
    RocksDbConfig, RocksDbStore, TimestampType,
};
use rookery_raft::ids::{ClusterId, LeaderEpoch, NodeId, TopicId, TopicIdPartition};
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

const DIRECTORY: &str = "ROOKERY_TEST_KILL_DIRECTORY";
const PARTITIONS: i32 = 3;
const APPENDERS: i32 = 4;

fn open(path: &Path) -> (Arc<RocksDbStore>, LogDirectory) {
    let mut directory = DataDirectory::open(path, NodeId(1)).expect("the directory is ours");
    let cluster = directory.cluster_id().unwrap_or_else(ClusterId::random);
    directory.bind_cluster(cluster).expect("one cluster");
    let store = RocksDbStore::open(directory, RocksDbConfig::default()).expect("opens");
    let logs = LogDirectory::open(store.clone(), LogConfig::default(), 0).expect("loads");
    (store, logs)
}

fn partition(partition: i32) -> TopicIdPartition {
    TopicIdPartition { topic_id: TopicId(uuid::Uuid::from_u128(7)), partition }
}

/// A batch of one record's worth of bytes; what is inside a record does not matter to the log.
fn batch(payload: &[u8]) -> Bytes {
    let mut out = BytesMut::new();
    out.put_i64(0);
    out.put_i32(49 + payload.len() as i32);
    out.put_i32(-1);
    out.put_i8(2);
    out.put_u32(0);
    out.put_i16(0);
    out.put_i32(0);
    out.put_i64(0);
    out.put_i64(0);
    out.put_i64(-1);
    out.put_i16(-1);
    out.put_i32(-1);
    out.put_i32(1);
    out.put_slice(payload);
    let crc = crc32c::crc32c(&out[21..]);
    out[17..21].copy_from_slice(&crc.to_be_bytes());
    out.freeze()
}

fn append(log: &Arc<PartitionLog>, payload: &[u8]) -> i64 {
    let how = LeaderAppend {
        leader_epoch: LeaderEpoch(0),
        timestamp_type: TimestampType::CreateTime,
        origin: AppendOrigin::Client,
        now_ms: 0,
    };
    let info = log.append_as_leader(batch(payload), how).expect("taken");
    log.when_synced(info.last_offset + 1).blocking_recv().expect("the log lives").expect("synced");
    info.last_offset
}

#[test]
#[ignore = "the child process of `acknowledged_appends_survive_kill_9`"]
fn child() {
    let Some(path) = std::env::var_os(DIRECTORY) else { return };
    let (_store, logs) = open(Path::new(&path));
    let logs = &logs;
    std::thread::scope(|scope| {
        for appender in 0..APPENDERS {
            scope.spawn(move || {
                for i in 0_u64.. {
                    let number = (appender + i as i32) % PARTITIONS;
                    let log = logs.get_or_create(partition(number), LogClass::Hours1).expect("created");
                    let text = format!("{appender}/{i}/").into_bytes();
                    let mut payload = text.clone();
                    payload.resize(100 + (i as usize * 97) % 4000, b'x');
                    let offset = append(&log, &payload);
                    let line = format!("acked {number} {offset} {}\n", String::from_utf8_lossy(&text));
                    std::io::stdout().lock().write_all(line.as_bytes()).expect("the parent reads");
                }
            });
        }
    });
}

/// Runs the child until it has acknowledged `count` appends, kills it, and returns all it acknowledged.
fn run_and_kill(path: &Path, count: usize) -> Vec<(i32, i64, String)> {
    let mut child = Command::new(std::env::current_exe().expect("this binary"))
        .args(["storage_kill::child", "--exact", "--ignored", "--nocapture"])
        .env(DIRECTORY, path)
        .stdout(Stdio::piped())
        .spawn()
        .expect("starts");
    let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines().map_while(Result::ok);
    let parse = |line: String| {
        let mut words = line.split(' ').skip_while(|word| !word.ends_with("acked")).skip(1);
        let (partition, offset) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
        // A last line cut off by the kill has no text.
        words.next().filter(|text| text.ends_with('/')).map(|text| (partition, offset, text.to_owned()))
    };
    let mut acked: Vec<_> = lines.by_ref().filter_map(parse).take(count).collect();
    assert_eq!(acked.len(), count, "the child died early");
    child.kill().expect("SIGKILL");
    acked.extend(lines.filter_map(parse));
    child.wait().expect("reaped");
    acked
}

#[test]
fn acknowledged_appends_survive_kill_9() {
    let temp = tempfile::tempdir().expect("a directory");
    let mut acked = Vec::new();
    for _ in 0..3 {
        acked.extend(run_and_kill(temp.path(), 300));
        let (store, logs) = open(temp.path());
        assert!(!store.log_lost(), "a kill is no loss");
        for (number, offset, text) in &acked {
            let log = logs.get(&partition(*number)).expect("its creation was acknowledged with it");
            let read = log.read(*offset, i64::MAX, ReadLimit { max_bytes: 1, at_least_one: true }).expect("readable");
            assert!(read.batches[0][61..].starts_with(text.as_bytes()), "{number} {offset} is not {text}");
        }
        store.close().expect("closes");
    }
}
