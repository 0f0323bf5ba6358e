//! A node: its rooms wired together, started in order, stopped in order.
//!
//! # Start
//!
//! 1. Ports are bound; the data directory is locked and identified. What is wrong here ends the process with one line.
//! 2. The HTTP API answers (`live`, not `ready`, and why). The peer listener answers other nodes.
//! 3. The metadata log opens: as a voter, which forms the cluster with the others if none is formed, or as an observer. The listed
//!    voters are asked whether this node can be who it says (`identity_check`).
//! 4. The cluster is known: the directory is bound to it and the store opens. Replicas and groups begin to follow the
//!    metadata ([`LatePublishers`]).
//! 5. The broker registers. When the metadata here includes that, gossip begins and Kafka's listeners are served: a client that is
//!    early is refused and goes elsewhere, and none is told of a cluster older than this start.
//! 6. The broker has caught up and is unfenced.
//!
//! # What must not end
//!
//! The tasks without which a node would be half alive are watched (`vital`): one that ends before the node stops ends the
//! node, with one line and a non-zero exit code.
//!
//! # Stop
//!
//! Leadership of partitions is handed over ([`crate::broker::Lifecycle`]), then that of the quorum; then listeners, groups, replicas,
//! store, gossip, metadata log, connections close, each after those that use it.

mod clock;
mod hooks;
#[cfg(feature = "rocksdb")]
mod identity_check;
#[cfg(feature = "rocksdb")]
mod node;
mod peer_services;
mod publishers;
#[cfg(feature = "rocksdb")]
mod quorum_keeper;
mod room;
#[cfg(feature = "rocksdb")]
mod space_watch;
mod store_keeper;
#[cfg(feature = "rocksdb")]
mod view;
#[cfg(feature = "rocksdb")]
mod vital;

pub use clock::NodeClock;
#[cfg(feature = "rocksdb")]
pub use node::{Node, StartError};
pub use publishers::LatePublishers;

/// What a simulated node is wired from.
#[cfg(test)]
pub(crate) mod simulated {
    pub(crate) use super::hooks::{DirectoryReports, Hooks};
    pub(crate) use super::peer_services::peer_services;
    pub(crate) use super::publishers::Addresses;
    pub(crate) use super::room::Room;
    pub(crate) use super::store_keeper::StoreKeeper;
}
