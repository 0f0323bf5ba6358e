//! The Kafka wire, at the level of Kafka 4.4: everything between bytes of a peer and typed values, and back.
//!
//! ```text
//! frame (Bytes) ─ codec ─ messages ─ typed request        typed response ─ messages ─ codec ─ segments
//!                            └ records ─ batch ─ compression
//! ```
//!
//! | to find | look in |
//! |---|---|
//! | primitive types, limits on what a peer may claim, frames as segments | [`codec`] |
//! | requests, responses, headers, records of `__consumer_offsets` | [`messages`], written by `scripts/messages` |
//! | which APIs and versions this broker offers | [`versions`] |
//! | error codes | [`error`] |
//! | which names of topics are legal, which are the cluster's own | [`topics`] |
//! | record batches: view, validation, records, builder | [`batch`] |
//! | gzip, snappy, lz4, zstd | [`compression`] |
//!
//! Never here: sockets, tasks, time, and what a broker does about a request. Nothing in this package waits, logs or
//! keeps state.
//!
//! Two rules hold everywhere. Bytes of a peer never panic and never make more than a small multiple of their own size
//! ([`codec`] says how). Record batches are not copied on the way in or out: decoded ones are slices of the frame,
//! encoded ones segments of their own.
#![warn(missing_docs)]

pub mod batch;
pub mod codec;
pub mod compression;
pub mod error;
pub mod messages;
pub mod topics;
pub mod versions;

pub use error::ErrorCode;
pub use smol_str::SmolStr;
