//! Rookery: a Kafka-compatible broker.
#![warn(missing_docs)]

pub mod coordinator;
