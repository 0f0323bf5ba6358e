//! Why this node's Raft stands still, where its disk is the reason.
//!
//! openraft stops for good on any error of a disk and tells it as text. What can be done about it depends on the disk alone, so
//! whoever meets the error notes it here; the first one stays. One of these belongs to one open of the disk.

use super::storage::QuorumStorageError;
use parking_lot::Mutex;
use std::io;
use std::sync::Arc;

/// The first failure of the disk under one run of the quorum; clones share it.
#[derive(Clone, Default)]
pub(crate) struct DiskFailure(Arc<Mutex<Option<QuorumStorageError>>>);

impl DiskFailure {
    pub(crate) fn note(&self, error: &QuorumStorageError) {
        self.0.lock().get_or_insert_with(|| error.clone());
    }

    /// A file of a snapshot. One that is not what was written is no failure of the disk.
    pub(crate) fn note_file(&self, error: &io::Error) {
        match error.kind() {
            io::ErrorKind::StorageFull => self.note(&QuorumStorageError::DiskFull(error.to_string())),
            // Ours, from formats and checksums.
            io::ErrorKind::InvalidData | io::ErrorKind::Other => {}
            _ => self.note(&QuorumStorageError::Io(error.to_string())),
        }
    }

    pub(crate) fn get(&self) -> Option<QuorumStorageError> {
        self.0.lock().clone()
    }
}
