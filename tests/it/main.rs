//! Integration tests: one binary, real processes and real disks.
//!
//! | file | what it shows |
//! |---|---|
//! | `bench` | the load tool: what it says is what is there |
//! | `cluster` | records survive kill -9 of any node and of all; a node alone is a cluster |
//! | `quorum` | the first formation, a majority, wiped voters |
//! | `roles` | brokers and controllers in processes of their own |
//! | `listeners` | several named listeners, and what they advertise |
//! | `settings` | settings of nodes that are defaults of topics' configs, and changes of configs while the cluster runs |
//! | `shutdown` | SIGTERM hands over what the node leads; a rolling restart |
//! | `refusals` | starts that are refused in one line, and change nothing |
//! | `command_line` | what commands say, and how they end, when nobody answers and when nobody reads |
//! | `disks` | disks that fill up, are full, also at a start, or hang, on small file systems of their own (root) |
//! | `no_quorum` | brokers serve on when the controllers are gone, until they cannot be sure of each other either |
//! | `post_mortem` | what a node says of a death: the event log, and why a partition, a broker, a group is as it is |
//! | `scrub` | flipped bits, in blob files and in tables, are found, and mended or copied anew from another replica |
//! | `storage_kill` | the store under kill -9 |
//! | `unclean` | leaders elected by hand; unclean elections, asked for and allowed |
//! | `without_gossip` | failures are found with gossip switched off |
#![allow(clippy::unwrap_used)] // a test that cannot go on stops

#[cfg(feature = "rocksdb")]
mod bench;
#[cfg(feature = "rocksdb")]
mod cluster;
#[cfg(feature = "rocksdb")]
mod command_line;
#[cfg(feature = "rocksdb")]
mod disks;
#[cfg(feature = "rocksdb")]
mod harness;
#[cfg(feature = "rocksdb")]
mod listeners;
#[cfg(feature = "rocksdb")]
mod no_quorum;
#[cfg(feature = "rocksdb")]
mod post_mortem;
#[cfg(feature = "rocksdb")]
mod quorum;
#[cfg(feature = "rocksdb")]
mod refusals;
#[cfg(feature = "rocksdb")]
mod roles;
#[cfg(feature = "rocksdb")]
mod scrub;
#[cfg(feature = "rocksdb")]
mod settings;
#[cfg(feature = "rocksdb")]
mod shutdown;
#[cfg(feature = "rocksdb")]
mod small_disk;
#[cfg(feature = "rocksdb")]
mod storage_kill;
#[cfg(feature = "rocksdb")]
mod unclean;
#[cfg(feature = "rocksdb")]
mod without_gossip;

/// The binary has the same library as this test. Dev-dependencies had put the simulations' runtime into both.
#[test]
fn the_binary_that_is_tested_had_another_runtime_than_the_one_that_ships() {
    use rookery_raft::quorum::{MetadataQuorum, TokioRuntime};
    use std::any::{TypeId, type_name};
    let runtime = type_name::<TokioRuntime>();
    assert!(runtime.starts_with("openraft_rt_tokio::"), "{runtime}");
    assert_eq!(TypeId::of::<rookery::broker::MetadataQuorum>(), TypeId::of::<MetadataQuorum<TokioRuntime>>());
}
