//! Many cores on virtual time, with a network that delays, loses and parts. Same seed, same run.
