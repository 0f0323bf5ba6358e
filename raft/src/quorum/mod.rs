//! The metadata quorum: openraft behind a handle of our own.

pub mod storage;

pub use storage::{Durability, LogWrite, MetaKey, QuorumStorage, QuorumStorageError, SavedState};
