//! Replication of partitions: leaders, followers, in-sync replicas, high watermarks.
//!
//! | file | what |
//! |---|---|
//! | [`replica_manager`] | every replica of this broker, as the metadata wants them; retention, checkpoints, long poll |
//! | `strays` | which logs on this disk are nobody's, and when that is certain |
//! | [`partition`] | one replica: its role, what protects what |
//! | [`leader`], [`isr`], [`high_watermark`] | what a leader knows of its followers, pure |
//! | [`partition_leader`], [`consumer_read`] | what a leader answers producers, followers, consumers |
//! | [`fetcher`], [`fetch_task`] | a follower's stream from one leader: pure, and the task around it |
//! | [`replica_service`], [`replica_session`], `replica_lane` | a leader's side of those streams |
//! | [`isr_task`] | proposals on their way to the controller |
//! | `refused` | producers that were refused: what they had in flight behind it |
//! | [`replica_manager::repair`], [`replica_manager::scrub`] | damaged data: mended from other replicas; looked for |
//! | [`purgatory`], [`answer_budget`] | requests that wait; what answers to consumers may hold |
//! | [`fetch_session`] | consumers' incremental fetch sessions (KIP-227), pure |
//! | [`message`] | the bytes between brokers |
//!
//! In: appends, fetches, metadata, commits of the store. Out: records, acknowledgements, ISR proposals. Never: who
//! leads; that is in the metadata log.

pub mod answer_budget;
pub mod consumer_read;
pub mod error;
pub mod fetch_session;
pub mod fetch_task;
pub mod fetcher;
pub mod high_watermark;
pub mod isr;
pub mod isr_task;
pub mod leader;
pub mod message;
pub mod partition;
mod partition_follower;
pub mod partition_leader;
pub mod purgatory;
mod refused;
mod replica_lane;
pub mod replica_manager;
pub mod replica_service;
pub mod replica_session;
#[cfg(test)]
mod simulation;
mod strays;
#[cfg(test)]
pub(crate) mod testing;

#[cfg(test)]
pub(crate) fn simulate(seed: u64) -> Result<(), crate::simulation::invariants::Violation> {
    simulation::run(seed).map(drop)
}

pub use answer_budget::{AnswerBudget, AnswerBytes};
pub use consumer_read::{ConsumerRead, FoundOffset, OffsetSpec};
pub use error::ReplicaError;
pub use fetch_session::{ConsumerFetch, FetchNews, FetchSessionCache};
pub use fetch_task::{KIND_FETCH, KIND_PROGRESS};
pub use isr_task::IsrChannel;
pub use partition::{Clock, Partition, ReplicaConfig};
pub use partition_leader::{AppendOutcome, AppendRequest, RequiredAcks};
pub use refused::NamedTopic;
pub use replica_lane::ReplicaLane;
pub use replica_manager::repair::{DamageCounts, KIND_BATCH, LogNews};
pub use replica_manager::scrub::{ScrubConfig, ScrubStatus};
pub use replica_manager::{
    ConsumerFetchAnswer, ConsumerFetchRequest, ReplicaCounts, ReplicaManager, ReplicaManagerConfig,
};
