//! A [`CoordinatorLog`] in memory: the twin for tests.

use super::{AppendError, Appended, CoordinatorLog, LogBounds, ReadError, decode_batches};
use bytes::{Bytes, BytesMut};
use parking_lot::Mutex;
use rookery_raft::ids::LeaderEpoch;
use std::collections::BTreeMap;
use tokio::sync::watch;

#[derive(Debug)]
struct Partition {
    epoch: LeaderEpoch,
    start: i64,
    end: i64,
    /// Last offset and bytes of each batch.
    batches: Vec<(i64, Bytes)>,
    high_watermark: watch::Sender<i64>,
    /// While set, what is appended stays uncommitted.
    held: bool,
    /// Nobody has confirmed the leader lately.
    unconfirmed: bool,
    next_append: Option<AppendError>,
}

/// Partition logs in memory. The high watermark follows the end at once, unless it is held.
#[derive(Debug, Default)]
pub struct MemoryLog {
    partitions: Mutex<BTreeMap<i32, Partition>>,
}

impl MemoryLog {
    /// No partitions; each begins to exist when it is first led.
    pub fn new() -> Self {
        Self::default()
    }

    /// Makes `epoch` the current leader epoch of the partition and keeps what its log holds.
    pub fn lead(&self, partition: i32, epoch: LeaderEpoch) {
        let mut partitions = self.partitions.lock();
        let p = partitions.entry(partition).or_insert_with(|| Partition {
            epoch,
            start: 0,
            end: 0,
            batches: Vec::new(),
            high_watermark: watch::Sender::new(0),
            held: false,
            unconfirmed: false,
            next_append: None,
        });
        p.epoch = epoch;
        p.high_watermark = watch::Sender::new(p.end);
        p.held = false;
        p.unconfirmed = false;
    }

    /// [`lead`](Self::lead), by a replica that knows a lower high watermark than the leader before it, and holds it.
    pub fn lead_behind(&self, partition: i32, epoch: LeaderEpoch, high_watermark: i64) {
        self.lead(partition, epoch);
        if let Some(p) = self.partitions.lock().get_mut(&partition) {
            p.high_watermark = watch::Sender::new(high_watermark);
            p.held = true;
        }
    }

    /// Confirms the leader, or nobody does any more.
    pub fn confirm(&self, partition: i32, confirmed: bool) {
        if let Some(p) = self.partitions.lock().get_mut(&partition) {
            p.unconfirmed = !confirmed;
        }
    }

    /// Stops, or lets go on, the high watermark.
    pub fn hold_high_watermark(&self, partition: i32, held: bool) {
        if let Some(p) = self.partitions.lock().get_mut(&partition) {
            p.held = held;
            if !held {
                p.high_watermark.send_replace(p.end);
            }
        }
    }

    /// The next append fails so.
    pub fn fail_next_append(&self, partition: i32, error: AppendError) {
        if let Some(p) = self.partitions.lock().get_mut(&partition) {
            p.next_append = Some(error);
        }
    }

    fn of<R>(
        &self,
        partition: i32,
        epoch: LeaderEpoch,
        run: impl FnOnce(&mut Partition) -> Result<R, ReadError>,
    ) -> Result<R, ReadError> {
        match self.partitions.lock().get_mut(&partition) {
            Some(p) if p.epoch == epoch => run(p),
            _ => Err(ReadError::NotLeader),
        }
    }
}

impl CoordinatorLog for MemoryLog {
    fn stands(&self, partition: i32, epoch: LeaderEpoch) -> bool {
        self.partitions.lock().get(&partition).is_some_and(|p| p.epoch == epoch && !p.unconfirmed)
    }

    async fn append(&self, partition: i32, epoch: LeaderEpoch, batch: Bytes) -> Result<Appended, AppendError> {
        let mut partitions = self.partitions.lock();
        let p = partitions.get_mut(&partition).filter(|p| p.epoch == epoch).ok_or(AppendError::NotLeader)?;
        if let Some(error) = p.next_append.take() {
            return Err(error);
        }
        let decoded = decode_batches(&batch).map_err(|e| AppendError::Failed(e.to_string()))?;
        let [only] = decoded.as_slice() else { return Err(AppendError::Failed("not one batch".to_owned())) };
        let appended = Appended { base_offset: p.end, last_offset: p.end + (only.last_offset - only.base_offset) };
        let mut placed = BytesMut::from(&batch[..]);
        placed[..8].copy_from_slice(&p.end.to_be_bytes());
        p.batches.push((appended.last_offset, placed.freeze()));
        p.end = appended.last_offset + 1;
        if !p.held {
            p.high_watermark.send_replace(p.end);
        }
        Ok(appended)
    }

    async fn read(&self, partition: i32, epoch: LeaderEpoch, from: i64, max: usize) -> Result<Vec<Bytes>, ReadError> {
        self.of(partition, epoch, |p| {
            let first = p.batches.partition_point(|(last, _)| *last < from);
            let mut size = 0;
            let fits = |(_, batch): &&(i64, Bytes)| {
                let room = size == 0 || size + batch.len() <= max;
                size += batch.len();
                room
            };
            Ok(p.batches[first..].iter().take_while(fits).map(|(_, batch)| batch.clone()).collect())
        })
    }

    async fn bounds(&self, partition: i32, epoch: LeaderEpoch) -> Result<LogBounds, ReadError> {
        self.of(partition, epoch, |p| Ok(LogBounds { start: p.start, end: p.end }))
    }

    fn high_watermark(&self, partition: i32, epoch: LeaderEpoch) -> Result<watch::Receiver<i64>, ReadError> {
        self.of(partition, epoch, |p| Ok(p.high_watermark.subscribe()))
    }

    async fn advance_log_start(&self, partition: i32, epoch: LeaderEpoch, to: i64) -> Result<(), AppendError> {
        self.of(partition, epoch, |p| {
            p.start = p.start.max(to);
            let start = p.start;
            p.batches.retain(|(last, _)| *last >= start);
            Ok(())
        })
        .map_err(|_| AppendError::NotLeader)
    }
}
