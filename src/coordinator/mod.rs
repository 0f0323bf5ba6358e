//! Coordinators: state machines that live on the partitions of an internal topic.
//!
//! Whoever leads partition `p` of `__consumer_offsets` coordinates the groups that hash to `p`. The state of
//! those groups is what replaying `p` gives, plus soft state (who waits for what, whose session ends when) that a
//! fail-over may forget, because clients then join again.
//!
//! | part | what it is |
//! |---|---|
//! | [`CoordinatorShard`] | the state machine of one partition: no clock, no threads, no I/O |
//! | [`EventLoop`] | around one shard: emits record batches, holds answers until the high watermark has passed them; still no I/O |
//! | [`CoordinatorRuntime`] | the tokio half: one task per led partition, which drives an [`EventLoop`] against a [`CoordinatorLog`] |
//! | [`CoordinatorLog`] | what a coordinator needs of a partition's log; the server binds it to the replica room |
//! | [`GroupElections`] | keeps what is coordinated at what is led |
//! | [`MemoryLog`] | the same in memory, for tests |
//! | [`LiveKeys`] | latest-key rewriting, in place of a log cleaner |
//! | [`group`] | the classic group protocol: the first shard. Transactions and share groups will be others |
//!
//! In: requests as plain structs of this room (the handlers convert), `elected` and `resigned` from the replicas
//! ([`GroupElections`] says how none is missed), high watermarks from the log. Out: record batches and answers.
//! Never: sockets, wire messages, other partitions' data, a decision who leads.
//!
//! # What is applied when, and why this is safe
//!
//! A write event changes the shard's state **at once** and emits the records that say so; the answer waits until the
//! high watermark has passed the last of them. Three cases:
//!
//! 1. *The records commit.* Every replica that may lead has them: any later coordinator replays to the same state, so
//!    the answer is true for ever.
//! 2. *The append fails with an unknown outcome, or leadership is lost.* The shard, being ahead of the log, is thrown
//!    away whole, nobody is told "yes", everyone waiting is told to look for the coordinator; a leader
//!    loads anew from its log. So no undo is needed: Kafka keeps snapshots (timeline structures) to revert to;
//!    here the log itself is the snapshot. It is rare, and the log is kept short by rewriting.
//! 3. *The log refuses for certain* (too few in-sync replicas): nothing was written, so the same batch is offered
//!    again. State = log + batches not yet appended, in order, as before.
//!
//! Reads that promise committed data must not see the first half of case 2. The shard is therefore told twice of each
//! change: when it is made, and when it is committed ([`CoordinatorShard::committed`]); an offset keeps both values,
//! and OffsetFetch reads the second one. A read that must be stable reads the first and waits like a write.
//!
//! One task owns one shard; nothing else touches it. A leader epoch travels with every append, so that a leader that
//! was replaced without knowing it can append nothing (its log refuses), and `resigned` of an old epoch ends nothing new.

mod batch;
mod elections;
mod error;
mod event_loop;
pub mod group;
mod live_keys;
mod loads;
mod log;
mod memory_log;
mod replica_log;
mod runtime;
mod shard;
mod timers;

pub use batch::{DecodedBatch, decode_batches, encode_batch};
pub use elections::GroupElections;
pub use error::CoordinatorError;
pub use event_loop::{EventLoop, LoopLimits, Rewriting};
pub use live_keys::{LiveKeys, RewriteLimits};
pub use log::{AppendError, Appended, CoordinatorLog, LogBounds, ReadError};
pub use memory_log::MemoryLog;
pub use replica_log::ReplicaLog;
pub use runtime::{CoordinatorRuntime, RuntimeConfig};
pub use shard::{Answer, CoordinatorRecord, CoordinatorShard, DecodeError, Now, Output, RequestId, ShardFactory};
pub use timers::Timers;
