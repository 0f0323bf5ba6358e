//! Partition logs on disk.
//!
//! **In**: record batches (bytes as on the wire), truncations, retention passes. **Out**: assigned offsets at once,
//! completions after the fsync, batches back. **Never**: who leads, who is in sync, what a consumer may see; this room
//! knows neither Kafka's messages nor the network.
//!
//! ```text
//! LogDirectory ── one per data directory: topic id + partition → PartitionLog
//!   PartitionLog ── offsets, epochs, producers, time index, tail, retention: all logic, no disk
//!     LogStore ── the disk: an atomic list of operations in, a completion after its fsync out
//!       RocksDbStore (feature `rocksdb`)   one commit thread, one synced write per group
//!       MemoryStore                        the twin: no threads, the test decides when a commit completes
//! ```
//!
//! | file | what |
//! |---|---|
//! | [`log_store`] | the `LogStore` trait: what a disk must do, and what it promises |
//! | [`partition_log`] | one partition's log over any store |
//! | [`log_directory`] | every log of a store, loaded at open |
//! | [`leader_epoch_cache`] | where each leader epoch begins (KIP-101, KIP-279) |
//! | [`producer_state`] | idempotent producers: sequences, epochs, duplicates (KIP-98) |
//! | [`time_index`] | one entry per 64 KiB: timestamps and byte positions |
//! | [`tail_cache`] | recent batches of every log under one byte budget |
//! | `rocksdb` | the engine, and how loss of synced data is noticed |
//! | [`disk_space`] | how full the disk is: watermarks with hysteresis |
//! | [`disk_reserve`] | allocated space for a store that has met the end of the disk |
//! | [`log_class`] | which logs share a column family: those whose data dies together |
//!
//! **Group commit.** An append assigns offsets and queues; it returns before the disk has seen anything. The queued end
//! (`log_end_offset`) moves at once, so that followers can fetch while our own disk works; the synced end moves when the
//! commit that holds the batch is on disk. Only the synced end may count for the high watermark.
//!
//! **A failed commit is final.** A store whose fsync failed is offline: it answers every later write and read with the
//! same error, and only [`LogStore::reopen`](log_store::LogStore::reopen) ends that, under a new
//! [`StoreGeneration`](log_store::StoreGeneration). Logs of an older generation stay dead for ever.

mod batch_header;
mod blocking;
pub mod disk_reserve;
pub mod disk_space;
pub mod error;
pub mod leader_epoch_cache;
pub mod log_class;
pub mod log_directory;
pub mod log_store;
pub mod memory_store;
#[cfg(test)]
mod model_test;
pub mod partition_log;
mod partition_meta;
pub mod producer_state;
#[cfg(feature = "rocksdb")]
pub mod rocksdb;
pub mod tail_cache;
pub mod time_index;

#[cfg(feature = "rocksdb")]
pub use self::rocksdb::{DataDirectory, QuorumLog, RocksDbConfig, RocksDbStore, SyncedCommit};
pub(crate) use blocking::blocking;
#[cfg(test)]
pub(crate) use blocking::inline;
pub use error::{AppendError, StorageError};
pub use leader_epoch_cache::{EpochEndOffset, EpochEntry, LeaderEpochCache, OffsetAndEpoch};
pub use log_class::LogClass;
pub use log_directory::{LogConfig, LogDirectory};
pub use log_store::{LocalPartitionId, LogStore, StoreGeneration, StoreHealth};
pub use memory_store::MemoryStore;
pub use partition_log::{
    AppendInfo, AppendOrigin, Damage, LeaderAppend, LogListener, LogOffsets, LogRead, PartitionLog, ReadLimit,
    RepairError, Scrubbed, TimestampType,
};
