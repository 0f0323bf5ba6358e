//! Every log of one open of a store.
//!
//! The map changes only through [`LogDirectory::get_or_create`] and [`LogDirectory::delete`]; one lock guards it. When the
//! store has failed, the owner reopens it and opens a new directory: logs of the old one stay dead.

use super::error::StorageError;
use super::log_class::LogClass;
use super::log_store::{LogStore, StoreGeneration};
use super::partition_log::PartitionLog;
use super::tail_cache::TailCache;
use parking_lot::Mutex;
use rookery_raft::ids::TopicIdPartition;
use std::collections::BTreeMap;
use std::sync::Arc;

/// What a node decides for all its logs.
#[derive(Clone)]
pub struct LogConfig {
    /// Shared by all directories of a node.
    pub tail_cache: Arc<TailCache>,
    /// A producer snapshot is written after this many bytes: what a start has to replay.
    pub producer_snapshot_bytes: u64,
}

impl Default for LogConfig {
    fn default() -> Self {
        Self { tail_cache: Arc::new(TailCache::new(64 << 20)), producer_snapshot_bytes: 4 << 20 }
    }
}

/// Every log of one open of a store.
pub struct LogDirectory {
    store: Arc<dyn LogStore>,
    generation: StoreGeneration,
    config: LogConfig,
    logs: Mutex<BTreeMap<TopicIdPartition, Arc<PartitionLog>>>,
}

impl LogDirectory {
    /// Loads every log; reads a bounded tail of each. **Blocks.**
    pub fn open(store: Arc<dyn LogStore>, config: LogConfig, now_ms: i64) -> Result<Self, StorageError> {
        let generation = store.generation();
        let mut logs = BTreeMap::new();
        for stored in store.partitions()? {
            let log = PartitionLog::load(store.clone(), stored, config.clone(), now_ms)?;
            let partition = log.topic_id_partition();
            if logs.insert(partition, log).is_some() {
                return Err(StorageError::corrupt(format!("two logs claim to be {partition}")));
            }
        }
        Ok(Self { store, generation, config, logs: Mutex::new(logs) })
    }

    /// The store.
    pub fn store(&self) -> &Arc<dyn LogStore> {
        &self.store
    }

    /// The open it was loaded under.
    pub fn generation(&self) -> StoreGeneration {
        self.generation
    }

    /// One log.
    pub fn get(&self, partition: &TopicIdPartition) -> Option<Arc<PartitionLog>> {
        self.logs.lock().get(partition).cloned()
    }

    /// The log, made with this class if it is not there. Queues; does not block.
    pub fn get_or_create(
        &self,
        partition: TopicIdPartition,
        class: LogClass,
    ) -> Result<Arc<PartitionLog>, StorageError> {
        let mut logs = self.logs.lock();
        if let Some(log) = logs.get(&partition) {
            return Ok(log.clone());
        }
        let current = self.store.generation();
        if current != self.generation {
            return Err(StorageError::StaleGeneration { held: self.generation, current });
        }
        let log = PartitionLog::fresh(self.store.clone(), partition, class, self.config.clone());
        log.create_in_store()?;
        logs.insert(partition, log.clone());
        Ok(log)
    }

    /// Deletes a log, if it is there: it refuses everything from now on. Queues; does not block.
    pub fn delete(&self, partition: &TopicIdPartition) -> Result<(), StorageError> {
        let mut logs = self.logs.lock();
        if let Some(log) = logs.get(partition) {
            log.delete_from_store()?;
            logs.remove(partition);
        }
        Ok(())
    }

    /// All logs, in order of topic id and partition.
    pub fn logs(&self) -> Vec<Arc<PartitionLog>> {
        self.logs.lock().values().cloned().collect()
    }
}
