//! Replication of partitions.

pub mod error;
pub mod fetch_session;
pub mod fetcher;
pub mod high_watermark;
pub mod isr;
pub mod leader;
pub mod message;
pub mod partition;
mod partition_follower;
pub mod partition_leader;
pub mod purgatory;
pub mod replica_service;
pub mod replica_session;
#[cfg(test)]
mod simulation;

pub use error::ReplicaError;
