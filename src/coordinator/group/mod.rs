//! The group coordinator of Kafka's classic protocol (JoinGroup, SyncGroup, Heartbeat, LeaveGroup) and of offsets.
//!
//! # States of a group, and every transition
//!
//! | from | to | when |
//! |---|---|---|
//! | – | Empty | a first JoinGroup, or an offset committed without a generation; or its record was replayed, without members |
//! | – | Stable | its record was replayed, with members: their sessions begin anew |
//! | Empty | PreparingRebalance | a member joins; the group waits `group.initial.rebalance.delay.ms`, again for as long as more come, at most the rebalance time-out |
//! | PreparingRebalance | CompletingRebalance | every member has joined again, or the rebalance time-out is over: dynamic members that did not come are removed, generation + 1, protocol and leader are chosen, JoinGroups are answered |
//! | PreparingRebalance | Empty | the same, with nobody left: generation + 1, written |
//! | PreparingRebalance | PreparingRebalance | the time-out is over and only static members are left, none of which came: wait for one, or for their sessions to end |
//! | CompletingRebalance | Stable | the leader's assignment is **committed**: SyncGroups are answered |
//! | CompletingRebalance | PreparingRebalance | a member joins, leaves, times out, changes its metadata or is replaced; someone did not sync in time; the assignment did not commit in time or does not fit: waiting SyncGroups are refused |
//! | Stable | PreparingRebalance | a member joins, leaves, times out or changes its metadata; the leader joins again; someone did not sync in time; a static member came back with other protocols |
//! | Stable | Stable | a static member came back with a new member id and the same choice of protocol: written |
//! | Empty | Dead | deleted, or its last offset expired: a tombstone is written, the group is forgotten. A group that does not exist is described as `Dead` |
//! | any | Dead | leadership lost: the whole shard is dropped, every waiting request gets NOT_COORDINATOR |
//!
//! # Invariants
//! - A member gets the assignment of generation `g` only when the record with all assignments of `g` is committed; so
//!   every later coordinator gives the same one, and there is one assignment per (group, generation) that anyone
//!   ever got.
//! - A generation is never lower than one with a committed assignment. (One that was only announced by a
//!   JoinGroup answer and never synced may come again after a fail-over, as in Kafka: it gave nobody anything.)
//! - An acknowledged offset commit is below the high watermark, hence replayed by every later coordinator.
//! - Whoever waits has a deadline: a JoinGroup the join timer, a SyncGroup the sync or store timer, a write the
//!   runtime's write time-out.
//!
//! # Other than Kafka, on purpose
//! - No record is written for a group that was just made and has no member: here nothing needs it, and a group
//!   nobody ever was in is forgotten at once.
//! - A JoinGroup or SyncGroup that the same member sends again answers the older one (REBALANCE_IN_PROGRESS); Kafka leaves it
//!   without an answer. A leader that repeats its SyncGroup gets what it said first; Kafka writes both and tells one.
//! - Deleting a topic spares offsets that were committed to its namesake made later.

mod classic_group;
mod config;
mod group_coordinator;
mod offset_store;
mod offsets;
mod rebalance;
mod records;
mod shard;
mod types;

#[cfg(test)]
mod bench;
#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;

pub use classic_group::GroupState;
pub use config::GroupConfig;
pub use group_coordinator::{GroupCoordinator, partition_of};
pub use records::{GroupChange, GroupMetadata, OffsetAndMetadata, StoredMember};
pub use shard::GroupShard;
pub use types::*;
