//! Integration tests: one binary, real processes and real disks.

#[cfg(feature = "rocksdb")]
mod cluster;
#[cfg(feature = "rocksdb")]
mod storage_kill;
