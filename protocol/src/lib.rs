//! The Kafka wire: codec, messages, record batches, compression.
#![warn(missing_docs)]
