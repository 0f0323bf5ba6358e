//! Integration tests: one binary, real processes and real disks.
