//! A node: its rooms wired together, started in order, stopped in order.
//!
//! # Start
//!
//! 1. The data directory is locked and identified; ports are bound. What is wrong here ends the process with one line.
//! 2. The HTTP API answers (`live`, not `ready`, and why). The peer listener answers other nodes.
//! 3. The metadata log opens: as a voter, which forms the cluster with the others if none is formed, or as an observer.
//! 4. The cluster is known: the directory is bound to it and the store opens. Replicas and groups begin to follow the
//!    metadata ([`LatePublishers`]); gossip begins.
//! 5. The broker registers, catches up, is unfenced. Kafka's listeners are served from 4 on: a client that is early is told
//!    to look elsewhere or to wait, as the metadata says.
//!
//! # Stop
//!
//! Leadership of partitions is handed over ([`crate::broker::Lifecycle`]), then that of the quorum; then listeners, groups, replicas,
//! store, gossip, metadata log, connections close, each after those that use it.

mod clock;
mod hooks;
mod identity_check;
mod node;
mod publishers;
mod store_keeper;
mod view;

pub use clock::NodeClock;
pub use node::{Node, StartError};
pub use publishers::LatePublishers;
