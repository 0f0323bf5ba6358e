//! The log against a model that is a plain vector, under random operations, crashes and reopens.
//!
//! The model keeps one copy of itself per write in the store's queue: after a crash that kept n writes the log must equal
//! the copy made after the n-th.

use super::batch_header::testing::TestBatch;
use super::batch_header::{checked, header_of, stamped};
use super::log_directory::{LogConfig, LogDirectory};
use super::partition_log::{AppendOrigin, LeaderAppend, PartitionLog, ReadLimit, TimestampType};
use super::producer_state::ProducerState;
use super::tail_cache::TailCache;
use super::{LogClass, LogStore, MemoryStore};
use bytes::{Bytes, BytesMut};
use proptest::prelude::*;
use rookery_protocol::batch::RecordBatchHeader;
use rookery_raft::ids::{ClusterId, DirectoryId, LeaderEpoch, TopicId, TopicIdPartition};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

/// A disk that the test can commit and crash.
pub trait TestDisk {
    fn store(&self) -> Arc<dyn LogStore>;
    /// Commits about this many writes (a real disk: all of them, by waiting); how many are still queued.
    fn commit(&mut self, log: &Arc<PartitionLog>, writes: usize) -> usize;
    /// Writes that are queued.
    fn queued(&self) -> usize;
    /// Crashes, keeping so many of the queued writes (a real disk: closes), and opens again.
    fn crash(&mut self, log: &Arc<PartitionLog>, kept: usize);
}

struct MemoryDisk(Arc<MemoryStore>);

impl TestDisk for MemoryDisk {
    fn store(&self) -> Arc<dyn LogStore> {
        self.0.clone()
    }
    fn commit(&mut self, _: &Arc<PartitionLog>, writes: usize) -> usize {
        self.0.commit_some(writes);
        self.0.queued()
    }
    fn queued(&self) -> usize {
        self.0.queued()
    }
    fn crash(&mut self, _: &Arc<PartitionLog>, kept: usize) {
        self.0.crash(kept);
        self.0.reopen().unwrap();
    }
}

#[derive(Debug, Clone)]
pub enum Op {
    Lead { new_epoch: bool, batches: Vec<(i32, Option<i64>, usize, i64)> },
    Follow { gap: i64, new_epoch: bool, records: i32, producer: Option<i64> },
    Commit(usize),
    Truncate(f64),
    AdvanceStart(f64),
    Retain { keep_bytes: i64 },
    Checkpoint(f64),
    SetClass(LogClass),
    Restart { fully: bool },
    Crash(usize),
}

pub fn ops(count: usize) -> impl Strategy<Value = Vec<Op>> {
    let producer = prop_oneof![2 => Just(None), 3 => (0..3i64).prop_map(Some)];
    let batch = (1..5i32, producer.clone(), prop_oneof![10..200usize, 20_000..70_000usize], 0..1000i64);
    let op = prop_oneof![
        6 => (any::<bool>(), prop::collection::vec(batch, 1..4)).prop_map(|(new_epoch, batches)| Op::Lead { new_epoch, batches }),
        3 => (0..3i64, any::<bool>(), 1..4i32, producer)
            .prop_map(|(gap, new_epoch, records, producer)| Op::Follow { gap, new_epoch, records, producer }),
        4 => (1..6usize).prop_map(Op::Commit),
        2 => (0.3..1.0f64).prop_map(Op::Truncate),
        1 => (0.0..1.0f64).prop_map(Op::AdvanceStart),
        1 => (0..300_000i64).prop_map(|keep_bytes| Op::Retain { keep_bytes }),
        2 => (0.0..1.0f64).prop_map(Op::Checkpoint),
        1 => prop::sample::select(LogClass::ALL[..3].to_vec()).prop_map(Op::SetClass),
        1 => any::<bool>().prop_map(|fully| Op::Restart { fully }),
        2 => (0..6usize).prop_map(Op::Crash),
    ];
    prop::collection::vec(op, 1..count)
}

#[derive(Clone, Debug, Default)]
struct Model {
    batches: Vec<(RecordBatchHeader, Bytes)>,
    log_start: i64,
    log_end: i64,
}

impl Model {
    fn held(&self) -> impl Iterator<Item = &(RecordBatchHeader, Bytes)> {
        self.batches.iter().filter(|(h, _)| h.last_offset() >= self.log_start)
    }
    fn offset_at(&self, part: f64) -> i64 {
        self.log_start + ((self.log_end - self.log_start) as f64 * part) as i64
    }
    fn truncate(&mut self, offset: i64) {
        let spanning = self.held().find(|(h, _)| h.last_offset() >= offset).map(|(h, _)| h.base_offset);
        let end = spanning.map_or(offset, |base| base.clamp(self.log_start, offset));
        self.batches.retain(|(h, _)| h.last_offset() < end);
        self.log_end = end;
    }
    fn producers(&self) -> ProducerState {
        let mut state = ProducerState::default();
        self.batches.iter().for_each(|(header, _)| state.replay(header, 0));
        state
    }
}

struct Run<'a> {
    disk: &'a mut dyn TestDisk,
    directory: LogDirectory,
    log: Arc<PartitionLog>,
    model: Model,
    durable: Model,
    queued: VecDeque<Model>,
    epoch: i32,
    partition: TopicIdPartition,
}

fn config() -> LogConfig {
    // Small enough that most reads meet the disk, and that snapshots are frequent.
    LogConfig { tail_cache: Arc::new(TailCache::new(100_000)), producer_snapshot_bytes: 50_000 }
}

pub fn run(disk: &mut dyn TestDisk, ops: &[Op]) {
    let partition = TopicIdPartition { topic_id: TopicId::random(), partition: 0 };
    let directory = LogDirectory::open(disk.store(), config(), 0).unwrap();
    let log = directory.get_or_create(partition, LogClass::Hours1).unwrap();
    disk.commit(&log, usize::MAX);
    let (model, queued) = (Model::default(), VecDeque::new());
    let mut run = Run { disk, directory, log, durable: model.clone(), model, queued, epoch: 0, partition };
    for op in ops {
        run.step(op);
        run.check(op);
    }
}

impl Run<'_> {
    /// The log has taken one write for what the model has just done.
    fn wrote(&mut self, op: impl FnOnce(&Arc<PartitionLog>)) {
        let before = self.disk.queued();
        op(&self.log);
        match self.disk.queued().saturating_sub(before) {
            0 => self.durable = self.model.clone(),
            _ => self.queued.push_back(self.model.clone()),
        }
    }

    fn step(&mut self, op: &Op) {
        match op {
            Op::Lead { new_epoch, batches } => self.lead(*new_epoch, batches),
            Op::Follow { gap, new_epoch, records, producer } => self.follow(*gap, *new_epoch, *records, *producer),
            Op::Commit(writes) => {
                let left = self.disk.commit(&self.log, *writes);
                while self.queued.len() > left {
                    self.durable = self.queued.pop_front().expect("not empty");
                }
            }
            Op::Truncate(part) => {
                let offset = self.model.offset_at(*part);
                if offset < self.model.log_end {
                    self.model.truncate(offset);
                    let end = self.model.log_end;
                    self.wrote(|log| assert_eq!(log.truncate_to(offset, log.end(), 0).unwrap(), end));
                }
            }
            Op::AdvanceStart(part) => self.advance(self.model.offset_at(*part)),
            Op::Retain { keep_bytes } => {
                let synced = self.log.offsets().synced_end;
                if let Some(start) = self.log.retention_candidate(0, -1, *keep_bytes, synced).unwrap() {
                    assert!(start > self.model.log_start && start <= synced);
                    let left: usize =
                        self.model.held().filter(|(h, _)| h.base_offset >= start).map(|(h, _)| h.size()).sum();
                    assert!(left as i64 >= *keep_bytes, "{left} bytes left of {keep_bytes} to keep");
                    self.advance(start);
                }
            }
            Op::Checkpoint(part) => {
                let high_watermark = self.model.offset_at(*part).min(self.log.offsets().synced_end);
                let before = self.disk.queued();
                self.log.checkpoint(high_watermark).unwrap();
                if self.disk.queued() > before {
                    self.queued.push_back(self.model.clone());
                }
            }
            Op::SetClass(class) => {
                let before = self.disk.queued();
                self.log.set_class(*class).unwrap();
                if self.disk.queued() > before {
                    self.queued.push_back(self.model.clone());
                }
            }
            Op::Restart { fully } => {
                if *fully {
                    let start = self.model.log_end + 7;
                    self.model = Model { batches: Vec::new(), log_start: start, log_end: start };
                    self.wrote(|log| log.truncate_fully_and_start_at(start, log.end()).unwrap());
                }
            }
            Op::Crash(kept) => {
                self.disk.crash(&self.log, *kept);
                let kept = kept.min(&self.queued.len()).checked_sub(1).map(|last| self.queued[last].clone());
                self.model = kept.unwrap_or_else(|| self.durable.clone());
                self.durable = self.model.clone();
                self.queued.clear();
                let late = self.log.append_as_follower(TestBatch::default().build(), self.log.end(), 0);
                assert!(late.is_err(), "an old log is dead");
                self.directory = LogDirectory::open(self.disk.store(), config(), 0).unwrap();
                self.log = self.directory.get(&self.partition).expect("created and committed");
                assert_eq!(self.log.failure(), None);
            }
        }
    }

    fn lead(&mut self, new_epoch: bool, batches: &[(i32, Option<i64>, usize, i64)]) {
        self.epoch += i32::from(new_epoch);
        if new_epoch {
            self.log.assign_leader_epoch(LeaderEpoch(self.epoch)).unwrap();
        }
        let mut producers = self.model.producers();
        let mut records = BytesMut::new();
        for (count, producer, size, timestamp) in batches {
            let known = producer.and_then(|id| producers.producers().get(&id).cloned());
            let sequence = known.and_then(|e| e.batches.back().copied()).map_or(0, |b| b.last_sequence + 1);
            let producer = producer.map(|id| (id, 0, sequence));
            let payload = vec![b'x'; *size];
            let sent =
                TestBatch { records: *count, producer, payload, timestamp: *timestamp, ..TestBatch::default() }.build();
            records.extend_from_slice(&sent);
            let base_offset = self.model.log_end;
            let stored = stamped(sent, base_offset, self.epoch, None).unwrap();
            let header = checked(&stored).unwrap();
            producers.replay(&header, 0);
            self.model.log_end = header.last_offset() + 1;
            self.model.batches.push((header, stored));
        }
        let how = LeaderAppend {
            leader_epoch: LeaderEpoch(self.epoch),
            timestamp_type: TimestampType::CreateTime,
            origin: AppendOrigin::Client,
            now_ms: 0,
        };
        let end = self.model.log_end;
        self.wrote(|log| {
            let info = log.append_as_leader(records.clone().freeze(), how).unwrap();
            assert!(!info.duplicate);
            assert_eq!(info.last_offset, end - 1);
        });
    }

    fn follow(&mut self, gap: i64, new_epoch: bool, records: i32, producer: Option<i64>) {
        self.epoch += i32::from(new_epoch);
        let known = producer.and_then(|id| self.model.producers().producers().get(&id).cloned());
        let sequence = known.and_then(|e| e.batches.back().copied()).map_or(0, |b| b.last_sequence + 1);
        let batch = TestBatch {
            base_offset: self.model.log_end + gap,
            leader_epoch: self.epoch,
            records,
            producer: producer.map(|id| (id, 0, sequence)),
            ..TestBatch::default()
        }
        .build();
        let header = header_of(&batch).unwrap();
        self.model.log_end = header.last_offset() + 1;
        self.model.batches.push((header, batch.clone()));
        self.wrote(|log| assert_eq!(log.append_as_follower(batch, log.end(), 0), Ok(log.end())));
    }

    fn advance(&mut self, start: i64) {
        if start > self.model.log_start {
            self.model.log_start = start;
            self.wrote(|log| log.advance_log_start(start).unwrap());
        }
    }

    fn check(&self, op: &Op) {
        let offsets = self.log.offsets();
        assert_eq!((offsets.log_start, offsets.log_end), (self.model.log_start, self.model.log_end), "{op:?}");
        assert!(offsets.synced_end <= offsets.log_end);
        self.check_batches(op);
        self.check_epochs();
        self.check_producers(op);
    }

    fn check_batches(&self, op: &Op) {
        let mut read = Vec::new();
        let mut at = self.model.log_start;
        while at < self.model.log_end {
            let part = self.log.read(at, i64::MAX, ReadLimit { max_bytes: 50_000, at_least_one: true }).unwrap();
            if part.batches.is_empty() {
                break;
            }
            at = part.next_offset;
            read.extend(part.batches);
        }
        let held: Vec<Bytes> = self.model.held().map(|(_, bytes)| bytes.clone()).collect();
        assert!(read == held, "after {op:?}: read {} batches, the model holds {}", read.len(), held.len());
    }

    fn check_epochs(&self) {
        let mut ends: Vec<(i32, i64)> = Vec::new();
        for (header, _) in self.model.held() {
            match ends.last_mut() {
                Some((epoch, end)) if *epoch != header.partition_leader_epoch => {
                    *end = header.base_offset;
                    ends.push((header.partition_leader_epoch, self.model.log_end));
                }
                Some(_) => {}
                None => ends.push((header.partition_leader_epoch, self.model.log_end)),
            }
            assert_eq!(self.log.epoch_of(header.last_offset()), Some(LeaderEpoch(header.partition_leader_epoch)));
        }
        for (epoch, end) in ends {
            let told = self.log.end_offset_for_epoch(LeaderEpoch(epoch)).expect("an epoch with records is known");
            assert_eq!((told.epoch.0, told.end_offset), (epoch, end));
        }
    }

    fn check_producers(&self, op: &Op) {
        let (expected, known) = (self.model.producers(), self.log.producers());
        for (id, entry) in expected.producers() {
            let last = entry.batches.back().expect("every model producer has written");
            // What lies below the log's start may be forgotten, and may be remembered.
            if last.first_offset < self.model.log_start {
                continue;
            }
            let found = known.producers().get(id).and_then(|e| e.batches.back());
            assert_eq!(found, Some(last), "producer {id} after {op:?}");
        }
        for (id, entry) in known.producers() {
            if let Some(last) = entry.batches.back() {
                assert!(last.last_offset < self.model.log_end, "producer {id} remembers what was truncated, {op:?}");
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn the_log_equals_a_vector_over_memory(ops in ops(60)) {
        let clock = Arc::new(|| Duration::ZERO);
        let mut disk = MemoryDisk(MemoryStore::new(DirectoryId::random(), ClusterId::random(), clock));
        run(&mut disk, &ops);
    }
}
