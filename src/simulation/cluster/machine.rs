//! One machine: a process, or none, and the disks that outlive it.

use crate::broker::{QuorumChangeError, Replaced};
use crate::replica::partition::Partition;
use crate::simulation::batches::read;
use crate::simulation::invariants::Record;
use crate::simulation::process::{DiskRoom, Process};
use crate::storage::{LogConfig, LogDirectory, LogStore, MemoryStore, PartitionLog, StoreHealth};
use rookery_raft::ids::{BrokerEpoch, ClusterId, NodeId, TopicIdPartition};
use rookery_raft::image::MetadataImage;
use rookery_raft::quorum::{MemoryDisk, MemorySnapshots};
use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock, Weak};
use tokio::task::JoinHandle;

pub(super) struct Machine {
    pub id: NodeId,
    pub directory: u128,
    pub store: Arc<MemoryStore>,
    pub quorum_disk: MemoryDisk,
    pub snapshots: MemorySnapshots,
    pub cluster: Arc<OnceLock<ClusterId>>,
    pub process: Option<Process>,
    /// A stopped process goes on then; a dead one starts then.
    pub resumes: Option<u64>,
    pub stopped: Option<u64>,
    /// When the process went on last.
    pub running_since: u64,
    pub starts: u64,
    /// No commit before this.
    pub disk_hangs_until: u64,
    pub slow_disk: bool,
    pub room: Arc<DiskRoom>,
    /// There is room again from then on.
    pub full_until: u64,
    /// Its records are gone, and the metadata log does not know yet.
    pub lost: bool,
    /// They went while its process ran, under this epoch.
    pub lost_under: Option<BrokerEpoch>,
    /// Its vote is gone with its disk, until an operator has replaced it.
    pub replacing: Option<Option<JoinHandle<Result<Replaced, QuorumChangeError>>>>,
    /// The next commit fails.
    pub sync_fails: bool,
    /// The disk fails with the next commit, and forgets everything.
    pub forgets: bool,
    /// What was on its disk when it died, or when a sync failed.
    pub left: BTreeMap<TopicIdPartition, Vec<Record>>,
    /// What went with the last disk: it was there when its broker said so.
    pub gone: BTreeMap<TopicIdPartition, Vec<Record>>,
    /// The metadata that it had when it was looked at last.
    pub image: Option<Arc<MetadataImage>>,
    /// What open logs have on disk, as far as it was looked at.
    seen: BTreeMap<TopicIdPartition, SeenLog>,
}

/// A stored batch that has rotted, and was not mended yet.
#[derive(Debug)]
pub(super) struct Rot {
    /// On which machine.
    pub at: usize,
    pub id: TopicIdPartition,
    pub offset: i64,
}

/// What was read from a log once need not be read again while the log only grows.
struct SeenLog {
    log: Weak<PartitionLog>,
    durable: Vec<Record>,
}

impl Machine {
    pub fn new(id: NodeId, directory: u128, store: Arc<MemoryStore>, starts: u64) -> Self {
        Self {
            id,
            directory,
            store,
            quorum_disk: MemoryDisk::new(),
            snapshots: MemorySnapshots::default(),
            cluster: Arc::default(),
            process: None,
            resumes: None,
            stopped: None,
            running_since: 0,
            starts,
            disk_hangs_until: 0,
            slow_disk: false,
            room: Arc::default(),
            full_until: 0,
            lost: false,
            lost_under: None,
            replacing: None,
            sync_fails: false,
            forgets: false,
            left: BTreeMap::new(),
            gone: BTreeMap::new(),
            image: None,
            seen: BTreeMap::new(),
        }
    }

    /// A process that runs.
    pub fn running(&mut self) -> Option<&mut Process> {
        self.process.as_mut().filter(|_| self.stopped.is_none())
    }

    /// The replica of a partition.
    pub fn replica(&self, id: TopicIdPartition) -> Option<Arc<Partition>> {
        self.process.as_ref()?.replicas.get()?.partition(id)
    }

    /// The replica of a partition, if its log belongs to the present open of the store.
    pub fn open_replica(&self, id: TopicIdPartition) -> Option<Arc<Partition>> {
        let partition = self.replica(id)?;
        let is_open =
            partition.log().generation() == self.store.generation() && self.store.health() == StoreHealth::Online;
        is_open.then_some(partition)
    }

    /// Looks at a log. To be called whenever the process has lived on: nothing is cut away and written again in one millisecond.
    pub fn look_at(&mut self, id: TopicIdPartition) {
        let Some(partition) = self.open_replica(id) else {
            self.seen.remove(&id);
            return;
        };
        let (log, offsets) = (partition.log(), partition.log().offsets());
        let seen = self.seen.entry(id).or_insert_with(|| SeenLog { log: Weak::new(), durable: Vec::new() });
        if !std::ptr::eq(seen.log.as_ptr(), Arc::as_ptr(&log)) {
            *seen = SeenLog { log: Arc::downgrade(&log), durable: Vec::new() };
        }
        let cut = seen.durable.partition_point(|(offset, ..)| *offset < offsets.log_end);
        seen.durable.truncate(cut);
        let next = seen.durable.last().map_or(offsets.log_start, |(last, ..)| last + 1);
        if next < offsets.synced_end {
            seen.durable.extend(read(&log, next, offsets.synced_end));
        }
    }

    /// Something of a log that could not be read was mended.
    pub fn look_again_at(&mut self, id: TopicIdPartition) {
        self.seen.remove(&id);
    }

    /// What its disk holds of a partition; of an open log, as it was looked at last.
    pub fn on_disk<T>(&self, id: TopicIdPartition, look: impl FnOnce(&[Record]) -> T) -> T {
        if self.process.is_none() || self.store.health() != StoreHealth::Online {
            return look(self.left.get(&id).map_or(&[], Vec::as_slice));
        }
        match self.seen.get(&id).filter(|_| self.open_replica(id).is_some()) {
            Some(seen) => look(&seen.durable),
            // Not open yet, or no more: as a start would find it.
            None => look(durable(&self.store).get(&id).map_or(&[], Vec::as_slice)),
        }
    }
}

/// Everything on a disk, as a start finds it.
pub(super) fn durable(store: &Arc<MemoryStore>) -> BTreeMap<TopicIdPartition, Vec<Record>> {
    if store.health() != StoreHealth::Online {
        return BTreeMap::new();
    }
    let store: Arc<dyn LogStore> = store.clone();
    let directory = LogDirectory::open(store, LogConfig::default(), 0).expect("opens");
    let logs = directory.logs().into_iter();
    logs.map(|log| (log.topic_id_partition(), read(&log, 0, log.offsets().synced_end))).collect()
}
