//! The metadata quorum: openraft behind a handle of our own.
//!
//! In: requests for the active controller, bytes from peers, a disk, a transport, a clock (the runtime's). Out: committed metadata records as
//! [`MetadataImage`](crate::image::MetadataImage)s, to publishers and to whoever looks; bytes for peers. Never: an openraft type outside this room, a socket, a RocksDB, a
//! decision about the cluster (that is [`crate::controller`], which this room only calls).
//!
//! | who | what it is | talks to |
//! |---|---|---|
//! | [`MetadataQuorum`] | the handle of a voter | everything below |
//! | `controller_task` | the log's single writer, while this node is the active controller | openraft, `Controller` |
//! | `state_machine` | committed entries → image → publishers; snapshots | `MetadataLoader`, [`SnapshotStore`] |
//! | `lease` | the leader's heartbeats, and how long its answers count | openraft |
//! | `log_store`, `storage_thread`, `disk_failure` | openraft's log over one thread that blocks, and what becomes of it when its disk fails | [`QuorumStorage`] |
//! | `formation`, `formation_task` | how the cluster comes into being exactly once | peers |
//! | `standby`, `publication` | how a voter whose directory is new follows until it is taken in, and one line of images from both its sources | an observer |
//! | `network`, `service`, `wire` | asking and answering peers | [`QuorumTransport`] |
//! | [`MetadataObserver`] | how a broker that is no voter follows | voters |
//!
//! # What the rest relies on
//!
//! 1. **One leader in a term**, and the term is the controller epoch (`leader_id_std`).
//! 2. **Synced before said**: a vote, an entry, a truncation and a purge are on disk before openraft hears that they are. After a failed
//!    write the storage takes no more; the way back is [`MetadataQuorum::stop`] and [`MetadataQuorum::reopen`], in the same process.
//! 3. **An identity is a disk**: every request names the directory it means; a wiped node is another node. It joins again only by
//!    [`MetadataQuorum::replace_voter`].
//! 4. **One batch of decisions, one entry, one term**; a new controller decides nothing before it has applied its own term's
//!    first entry (`controller_task` has the argument).
//! 5. **At most one active controller** at any moment, but for a hand-over, in which the old one answers nothing any more (`lease`).
//! 6. **What cannot be replayed stops the node**, visibly ([`MetadataQuorum::failure`]).
//!
//! A restarted leader must be elected again (`enable_leader_restore` off: it lacks its soft state). A leader that no majority answers stands by, and falls
//! silent long enough for the others to elect (`lease`).
//!
//! # Simulation
//!
//! Everything is generic over openraft's `AsyncRuntime`; storage runs on its thread or, with [`StorageExecution::Inline`], in the caller. The tests of this
//! room run whole quorums on one thread, on virtual time, with seeded randomness. Iteration is over ordered maps.

mod codec;
mod config;
mod controller_task;
mod disk_failure;
mod error;
mod formation;
mod formation_task;
mod lease;
pub(crate) mod log_store;
pub mod memory_storage;
mod network;
mod observer;
mod publication;
#[allow(clippy::module_inception)] // the handle is what the room is about
mod quorum;
#[cfg(any(test, feature = "testing"))]
pub mod seeded_runtime;
mod service;
pub mod snapshot_store;
mod standby;
mod state_machine;
pub mod storage;
mod storage_thread;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
pub mod transport;
mod types;
mod wire;

pub use codec::DecodeError;
pub use config::QuorumConfig;
pub use error::{LeaderHint, QuorumError};
pub use formation::{FirstVoters, Formation, Refusal, Report, Standing, Step};
pub use formation_task::FormationStatus;
pub use memory_storage::{MemoryDisk, MemoryStorage};
pub use observer::{MetadataObserver, ObserverConfig, ObserverStatus};
pub use quorum::{Leadership, MetadataQuorum, QuorumParts, QuorumStatus};
pub use snapshot_store::{MemorySnapshots, SnapshotBlob, SnapshotFiles, SnapshotSink, SnapshotStore};
pub use storage::{Durability, LogWrite, MetaKey, QuorumStorage, QuorumStorageError, SavedState};
pub use storage_thread::StorageExecution;
pub use transport::{QuorumTransport, TransportError};
pub use types::{QuorumNode, TokioRuntime};
pub use wire::Refused;

#[cfg(test)]
mod tests;
