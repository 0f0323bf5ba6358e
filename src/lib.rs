//! Rookery: a Kafka-compatible broker.
#![warn(missing_docs)]

pub mod gossip;
pub mod peer;
