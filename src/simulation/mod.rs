//! Whole clusters in one thread, on virtual time, from a seed.
//!
//! | file | what |
//! |---|---|
//! | `process` | a node's rooms as the server room wires them: quorum, controller, failure watch, gossip, lifecycle, replicas, store keeper |
//! | `network` | in the place of sockets: order, delay, loss, partitions, broken connections |
//! | `cluster` | three machines with disks, the faults, the clients, and who looks on |
//! | `invariants` | what must never happen, one file each; the replica room's simulation is held to the same |
//! | `mistakes` | each planted mistake is noticed by some invariant |
//!
//! Shipped types run; replaced are the clock (a paused runtime for each process, which the simulation moves on by the millisecond),
//! the network, the disks (the storage rooms' memory twins) and the randomness. The same seed gives the same run.

pub(crate) mod batches;
mod cluster;
pub(crate) mod invariants;
mod mistakes;
mod network;
mod process;

/// The seeds to run: `ROOKERY_SIM_SEED` is one, `ROOKERY_SIM_SEEDS` says how many, of which a costly simulation takes one in `cost`.
pub(crate) fn seeds(default: u64, cost: u64) -> std::ops::Range<u64> {
    let number = |name: &str| std::env::var(name).ok().and_then(|value| value.parse().ok());
    match number("ROOKERY_SIM_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("ROOKERY_SIM_SEEDS").map_or(default, |seeds| (seeds / cost).max(1)),
    }
}
