//! The metadata quorum: what must be agreed on is a record in one Raft log.
//!
//! | room | what it does |
//! |---|---|
//! | [`ids`] | identities and epochs, named once for the whole house |
//! | [`record`] | `MetadataRecord`s: the facts in the log, and their bytes |
//! | [`image`] | `MetadataImage`: everything the log says, immutable, shared by `Arc`; its snapshot |
//! | [`delta`] | `MetadataDelta`: what a batch of records changed; `MetadataLoader` and `MetadataPublisher`s |
//! | [`controller`] | the active controller's decisions: records out of requests |
//! | [`planted`] | mistakes that tests can switch on, one at a time |
//! | [`quorum`] | openraft behind a `MetadataQuorum` handle: log, network, formation, observers |
//!
//! This package knows neither RocksDB nor Kafka's messages: its thousands of simulated runs build without C++.
#![warn(missing_docs)]

pub mod controller;
pub mod delta;
pub mod ids;
pub mod image;
pub mod planted;
pub mod quorum;
pub mod record;
