//! Why the quorum cannot do what it is asked.

use super::storage::QuorumStorageError;
use super::types::QuorumNode;
use crate::controller::ControllerError;
use crate::ids::QuorumNodeId;

/// A voter that may be asked instead.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LeaderHint {
    /// Who.
    pub id: QuorumNodeId,
    /// Where.
    pub node: QuorumNode,
}

/// Why the quorum cannot do what it is asked.
#[derive(Clone, PartialEq, Debug, thiserror::Error)]
pub enum QuorumError {
    /// A setting that makes no sense.
    #[error("metadata quorum: {0}")]
    Config(String),
    /// The metadata log's disk.
    #[error(transparent)]
    Storage(#[from] QuorumStorageError),
    /// The snapshot's disk.
    #[error("metadata snapshot: {0}")]
    Snapshot(String),
    /// Raft has stopped on this node; it must be closed and opened anew.
    #[error("the metadata quorum has stopped on this node: {0}")]
    Stopped(String),
    /// Another node is the active controller. Whether an outstanding request was carried out is unknown.
    #[error("this node is not the active controller")]
    NotController(Option<LeaderHint>),
    /// The active controller refuses.
    #[error(transparent)]
    Refused(#[from] ControllerError),
    /// A change of voters that cannot be made.
    #[error("change of voters: {0}")]
    Voters(String),
}
