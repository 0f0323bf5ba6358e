//! Rookery: a Kafka-compatible broker in one binary.
//!
//! Unmodified Kafka clients talk to it. What must be agreed on is a record in one Raft log (package `rookery-raft`);
//! partition data lies in RocksDB-backed logs, replicated Kafka-style and fsynced before it is acknowledged;
//! gossip suspects failures, the metadata log decides them.
//!
//! # The house
//!
//! An arrow may only point down; `scripts/check-layers` holds that, and that each of openraft, rocksdb, foca and axum is
//! known to one room only.
//!
//! | layer | room | what it does |
//! |---|---|---|
//! | 6 | `main`, `cli` | process, signals, command line with a small Kafka client, and a load tool (`cli::bench`) |
//! | 5 | `server` | wires the rooms into a node; the order of start and stop |
//! | 4 | [`handlers`] | Kafka's requests, one file per API |
//! | 4 | [`net`] | Kafka listeners: sockets, frames, budgets |
//! | 4 | [`admin`] | HTTP admin API |
//! | 3 | [`coordinator`] | groups on `__consumer_offsets`, and the runtime that later coordinators share |
//! | 3 | [`broker`] | registration, heartbeats, the way to the controller, the failure watch, who has just gone |
//! | 2 | [`replica`] | leaders, followers, ISR, high watermarks, long poll |
//! | 2 | [`gossip`] | SWIM: who seems to be there |
//! | 1 | [`storage`] | partition logs: logic over a disk trait, RocksDB and a memory twin below it |
//! | 1 | [`peer`] | connections between nodes |
//! | 0 | [`telemetry`], [`config`] | the process's own log and metrics; settings |
//! | 0 | `rookery-raft` | metadata: records, image, delta, controller, quorum |
//! | 0 | `rookery-protocol` | the Kafka wire: codec, messages, record batches, compression |
//!
//! # Where a produce goes
//!
//! [`net`] reads a frame, [`handlers`] decode and check it, `replica::Partition` assigns offsets under its epoch and hands the
//! batch to `storage`, whose commit thread writes and syncs everything that queued as one. Followers fetch what is queued;
//! what they have synced moves the high watermark; the answer waits for it.
//!
//! # Other than first planned, and why
//!
//! - `LeaderEpochCache` lives in [`storage`], not in [`replica`]: its entries are written in the same write as the first batch
//!   of an epoch, and removed in the same write as a truncation.
//! - Settings are a table of our own instead of a merging library: dotted Kafka names (`log.retention.ms` beside
//!   `log.dirs`) are keys here and would be nested tables there, and every error has to name its source.
//! - Appends copy a batch once on their way to the tail cache: a kept batch would otherwise pin a frame of unknown size.
#![warn(missing_docs)]

pub mod admin;
pub mod broker;
#[cfg(feature = "rocksdb")]
pub mod cli;
pub mod config;
pub mod coordinator;
pub mod gossip;
pub mod handlers;
pub mod net;
pub mod peer;
mod planted;
pub mod replica;
#[cfg(any(feature = "rocksdb", test))]
pub mod server;
#[cfg(test)]
mod simulation;
pub mod storage;
pub mod telemetry;
