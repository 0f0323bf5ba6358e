//! Integration tests: one binary, real processes and real disks.
#![allow(clippy::unwrap_used)] // a test that cannot go on stops

#[cfg(feature = "rocksdb")]
mod cluster;
#[cfg(feature = "rocksdb")]
mod storage_kill;
