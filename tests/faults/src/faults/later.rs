//! Rows of the fault table that are not injected yet, so that the table says so.

/// Name and what is missing.
pub const LATER: &[(&str, &str)] = &[
    ("disk-full", "needs a small file system per node"),
    ("disk-slow", "needs a throttled device per node"),
    ("disk-hang", "needs a device that stops answering"),
    ("power-loss", "needs a file system per node that forgets what was not synced"),
    ("torn-write", "needs an editor of a stopped node's files"),
    ("bit-flip", "needs an editor of a stopped node's files"),
    ("fsync-error", "needs a file system that fails on demand"),
    ("membership", "needs reassignment of partitions in the broker"),
];
