//! Rows of the fault table that are not injected, so that the table says so.

/// Name and what is missing.
pub const LATER: &[(&str, &str)] = &[
    ("reassignment", "membership of partitions: the broker cannot move replicas yet"),
    ("disk-cache", "a disk that loses what it said was synced: a loop device keeps all it was sent"),
];
