//! Rookery: a Kafka-compatible broker in one binary.
//!
//! Unmodified Kafka clients talk to it. What must be agreed on is a record in one Raft log (package `rookery-raft`);
//! partition data lies in RocksDB-backed logs, replicated Kafka-style and fsynced before it is acknowledged;
//! gossip suspects failures, the metadata log decides them.
//!
//! # The house
//!
//! An arrow may only point down; `scripts/check-layers` holds that.
//!
//! | layer | room | what it does |
//! |---|---|---|
//! | 6 | `main`, [`cli`] | process, signals, command line |
//! | 4 | [`admin`] | HTTP admin API |
//! | 4 | [`net`] | Kafka listeners: sockets, frames, budgets |
//! | 0 | [`telemetry`] | the process's own log and metrics |
//! | 0 | [`config`] | settings: flags over environment over file over defaults |
//! | 0 | `rookery-raft` | metadata: records, image, delta, controller, quorum |
//! | 0 | `rookery-protocol` | the Kafka wire: codec, messages, record batches, compression |
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
pub mod replica;
#[cfg(feature = "rocksdb")]
pub mod server;
pub mod storage;
pub mod telemetry;
