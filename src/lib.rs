//! Rookery: a Kafka-compatible broker.
#![warn(missing_docs)]
