//! Every log of one store.
use super::error::StorageError;
use super::log_class::LogClass;
use super::log_store::{LogStore, StoreGeneration};
use super::partition_log::PartitionLog;
use super::tail_cache::TailCache;
use rookery_raft::ids::TopicIdPartition;
use std::sync::Arc;

/// What a node decides for all its logs.
#[derive(Clone)]
pub struct LogConfig {
    /// Shared by all directories of a node.
    pub tail_cache: Arc<TailCache>,
    /// A producer snapshot is written after this many bytes.
    pub producer_snapshot_bytes: u64,
}

/// Every log of one open of a store. After a failure: reopen the store, open the directory anew, drop the old one.
pub struct LogDirectory {}

#[allow(unused_variables)]
impl LogDirectory {
    /// Loads every log. **Blocks.**
    pub fn open(store: Arc<dyn LogStore>, config: LogConfig, now_ms: i64) -> Result<Self, StorageError> { unimplemented!() }
    /// The store.
    pub fn store(&self) -> &Arc<dyn LogStore> { unimplemented!() }
    /// The open it was loaded under.
    pub fn generation(&self) -> StoreGeneration { unimplemented!() }
    /// One log.
    pub fn get(&self, partition: &TopicIdPartition) -> Option<Arc<PartitionLog>> { unimplemented!() }
    /// The log, made if it is not there. Queues; does not block.
    pub fn get_or_create(&self, partition: TopicIdPartition, class: LogClass) -> Result<Arc<PartitionLog>, StorageError> { unimplemented!() }
    /// Deletes a log: it refuses everything from now on. Queues; does not block.
    pub fn delete(&self, partition: &TopicIdPartition) -> Result<(), StorageError> { unimplemented!() }
    /// All logs, in order of topic id and partition.
    pub fn logs(&self) -> Vec<Arc<PartitionLog>> { unimplemented!() }
}
