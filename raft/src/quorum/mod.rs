//! The metadata quorum: openraft behind a handle of our own.

mod codec;
mod formation;
mod formation_task;
pub(crate) mod log_store;
pub mod memory_storage;
mod network;
mod service;
pub mod snapshot_store;
mod state_machine;
pub mod storage;
mod storage_thread;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
pub mod transport;
mod types;
mod wire;

pub use codec::DecodeError;
pub use formation::{FirstVoters, Formation, Refusal, Report, Standing, Step};
pub use memory_storage::{MemoryDisk, MemoryStorage};
pub use storage::{Durability, LogWrite, MetaKey, QuorumStorage, QuorumStorageError, SavedState};
pub use storage_thread::StorageExecution;
pub use transport::{QuorumTransport, TransportError};
pub use types::{QuorumNode, TokioRuntime};
