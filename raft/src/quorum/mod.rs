//! The metadata quorum: openraft behind a handle of our own.

mod codec;
mod formation;
pub(crate) mod log_store;
pub mod memory_storage;
pub mod snapshot_store;
pub mod storage;
mod storage_thread;
mod types;

pub use codec::DecodeError;
pub use formation::{FirstVoters, Formation, Refusal, Report, Standing, Step};
pub use memory_storage::{MemoryDisk, MemoryStorage};
pub use storage::{Durability, LogWrite, MetaKey, QuorumStorage, QuorumStorageError, SavedState};
pub use storage_thread::StorageExecution;
pub use types::{QuorumNode, TokioRuntime};
