//! The contract of the disk under the metadata log: [`QuorumStorage`].
//!
//! What the quorum must remember is small: a vote, a few other single values, and a log of entries with
//! consecutive indexes. The trait therefore speaks of bytes only. Every encoding (format byte, checksums of
//! entries, openraft's types) is made above it, so that an engine cannot get Raft wrong; it can only lose data, and that
//! is what the contract is about.
//!
//! # Who calls it
//!
//! One long-lived thread owns the storage and makes every call, one after the other ([`StorageThread`](super::storage_thread)).
//! Calls may block. Nobody else touches the engine, so an implementation needs no locks.
//!
//! # Contract
//!
//! 1. **Atomic.** [`write`](QuorumStorage::write) applies all writes of the batch in their order, or none of them, also across a crash
//!    (one RocksDB `WriteBatch` over all column families).
//! 2. **Durable.** When `write` returned `Ok` for [`Durability::Synced`], the batch and **everything written before it**
//!    survive the loss of power (`WriteOptions::set_sync(true)`; RocksDB's default does not sync).
//! 3. **In order.** After a crash the state is that of a prefix of the writes. [`Durability::Buffered`] writes may be lost,
//!    but never while a later write survives.
//! 4. **Read your writes.** [`read`](QuorumStorage::read) sees every write that returned `Ok`.
//! 5. **No retry.** After `write` failed, nothing is known about what is on disk. The caller makes no further write on this
//!    open storage; an engine must not resume by itself either. The storage is dropped and opened anew.
//! 6. **Loss is an error.** An open that finds less than was synced, or a hole in the log, fails with
//!    [`QuorumStorageError::Lost`] or [`QuorumStorageError::Corrupt`]; it never returns a shorter log. (Such a voter is a wiped
//!    voter: it goes on under a new directory id.)
//! 7. **Dropping closes** the storage; its directory can be opened again in the same process.
//!
//! The shape of the log is the caller's duty: appended indexes follow the last entry (any index may follow an empty log),
//! nothing is appended below a purge.

use bytes::Bytes;
use std::collections::BTreeMap;

/// A value of which there is at most one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[repr(u8)]
pub enum MetaKey {
    /// The vote: term and for whom. Losing it allows voting twice.
    Vote = 1,
    /// The last log id known to be committed. Only saves time at restart.
    Committed = 2,
    /// The log id of the last purged entry.
    Purged = 3,
    /// Cluster id and first voter set: prepared, then formed.
    Formation = 4,
}

impl MetaKey {
    /// Every key, in the order of their numbers.
    pub const ALL: [MetaKey; 4] = [MetaKey::Vote, MetaKey::Committed, MetaKey::Purged, MetaKey::Formation];

    /// The key's number on disk; never reused for another meaning.
    pub fn as_u8(self) -> u8 {
        self as u8
    }

    /// The key of a number found on disk, if this version knows it.
    pub fn from_u8(number: u8) -> Option<MetaKey> {
        Self::ALL.into_iter().find(|key| key.as_u8() == number)
    }
}

/// One change of the storage. A batch of them is applied in order and as a whole.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum LogWrite {
    /// Sets a single value.
    Put {
        /// Which.
        key: MetaKey,
        /// Its bytes, opaque to the engine.
        value: Bytes,
    },
    /// Adds the entry at `index`.
    Append {
        /// One above the last entry's, if there is one.
        index: u64,
        /// Its bytes, opaque to the engine.
        entry: Bytes,
    },
    /// Removes every entry with an index of at least `from`.
    Truncate {
        /// The first index to go.
        from: u64,
    },
    /// Removes every entry with an index of at most `upto` (which may lie above the last entry).
    Purge {
        /// The last index to go.
        upto: u64,
    },
}

/// Whether [`QuorumStorage::write`] waits for the disk.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Durability {
    /// On disk when `write` returns.
    Synced,
    /// May be lost in a crash, in order (rule 3). Used only for values that save time.
    Buffered,
}

/// What an open storage holds.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct SavedState {
    /// The single values that were ever set.
    pub meta: BTreeMap<MetaKey, Bytes>,
    /// First and last index of the log, both inclusive; none while it is empty.
    pub log: Option<(u64, u64)>,
}

impl SavedState {
    /// Whether nothing was ever written: the mark of a fresh or a wiped disk.
    pub fn is_empty(&self) -> bool {
        self.meta.is_empty() && self.log.is_none()
    }
}

/// Why the storage cannot go on. Every one of these stops the quorum on this node until the storage is opened anew.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QuorumStorageError {
    /// The disk refused.
    #[error("metadata log: {0}")]
    Io(String),
    /// No space left: opening anew makes sense once there is some.
    #[error("metadata log: disk full: {0}")]
    DiskFull(String),
    /// What is on disk cannot be what was written.
    #[error("metadata log is corrupt: {0}")]
    Corrupt(String),
    /// Less is on disk than was synced.
    #[error("metadata log lost synced data: {0}")]
    Lost(String),
    /// Written by a newer version.
    #[error("metadata log has format {found}, this version reads up to {supported}")]
    TooNew {
        /// The format byte on disk.
        found: u8,
        /// The highest one known here.
        supported: u8,
    },
    /// The storage was closed, or an earlier write on it failed.
    #[error("metadata log is closed: {0}")]
    Closed(String),
}

/// The disk under the metadata log; see the module's page for the contract.
pub trait QuorumStorage: Send + 'static {
    /// What is there. Called once after opening, before any write.
    fn load(&mut self) -> Result<SavedState, QuorumStorageError>;

    /// Applies `batch` in order, all or nothing; with [`Durability::Synced`] it is on disk on return.
    fn write(&mut self, batch: &[LogWrite], durability: Durability) -> Result<(), QuorumStorageError>;

    /// The entries from `from` (inclusive) to `to` (exclusive), in order and without a hole.
    ///
    /// May stop early once `max_bytes` of entries are gathered, but returns at least one entry when `from < to`.
    /// The caller asks only for indexes that exist; a missing one is [`QuorumStorageError::Corrupt`].
    fn read(&mut self, from: u64, to: u64, max_bytes: usize) -> Result<Vec<Bytes>, QuorumStorageError>;
}
