//! The engine: one RocksDB per data directory, values in blob files, every commit synced.
//!
//! ```text
//! DIR/directory.json   who the directory is: format version, node id, directory id, cluster id
//! DIR/directory.lock   held while a process uses the directory
//! DIR/sync.mark        second witness of what was synced (see `sync_mark`)
//! DIR/log.lost         present while synced data is known to be missing
//! DIR/log.damaged      the column families with a damaged table, if there are any
//! DIR/quorum/          the metadata quorum's log, with a mark of its own (where the server puts it)
//! DIR/log/             RocksDB: `default`, `time`, and one `log.<class>` per retention class in use
//! ```
//!
//! | file | what |
//! |---|---|
//! | `data_directory` | identity, format version, lock |
//! | `keys` | the keys of each column family: part of the disk format |
//! | `options`, `no_resume` | RocksDB's options, each with its reason |
//! | `commit` | the queue and the one thread that writes |
//! | `wal_scan` | first witness: what later commits say about earlier ones |
//! | `sync_mark` | second witness: a file outside RocksDB |
//! | `witness` | asks both before an open |
//! | `store` | `RocksDbStore`: open, read, close, reopen |
//! | `quorum_log` | `QuorumLog`: the metadata quorum's log, in a RocksDB of its own |
//!
//! # Why loss of synced data cannot pass unseen
//!
//! A damaged byte in the WAL makes RocksDB drop everything behind it without a word (in the mode that alone survives an
//! ordinary power cut). So every commit carries its number and that of the last synced one before it. Before RocksDB opens
//! the WAL, [`wal_scan`] reads it block by block, goes on behind damage, and takes the largest number that any valid commit
//! names as synced. The mark file names another. If RocksDB then recovers fewer commits than either, synced data is gone:
//! `log.lost` is written before anything else. What neither sees: the very last commit rotting after its sync, before the
//! next commit and before the next mark (at most a second).
//!
//! All column families are flushed together (atomic flush; a flush that we ask for names all of them, since it takes along nothing else), so
//! that they are always at one point of one history, and a WAL is never kept for the sake of a small one. One that is written
//! out alone is beyond the point where a damaged WAL breaks off, and RocksDB then refuses to open.
//!
//! # Not here yet
//!
//! Latest-key rewriting of `__consumer_offsets` (until there is a log cleaner): it belongs beside `reclaim`, reads the
//! compacted class below the high watermark, and puts rewritten batches under their old keys through the commit thread.
//! A retention pass compacts the index of the classes it touched every time, not only above a tenth of garbage.

mod commit;
#[cfg(test)]
mod damage_tests;
mod data_directory;
mod keys;
mod no_resume;
mod options;
mod quorum_log;
mod store;
mod sync_mark;
#[cfg(test)]
mod tests;
mod wal_scan;
mod witness;
mod write_batch;

pub use data_directory::{DataDirectory, DirectoryError};
pub use quorum_log::{QuorumLog, SyncedCommit};
pub use store::{OpenError, RocksDbConfig, RocksDbStore};
