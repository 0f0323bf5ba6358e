//! Replication of one partition over three brokers, on virtual time, from a seed.
//!
//! The shipped types run: `Partition`, `Fetcher`, `ReplicaService`, the messages through their bytes, the storage room's log over its
//! twin in memory, and the controller with everything that it decides. Replaced are the clock, the network (drops, delays, reorders), the disk (commits
//! when told, crashes drop or keep what was not synced, an fsync fails, a disk is lost or wiped) and the metadata log, to which the controller's
//! decisions are appended without a quorum. No threads, but in `races`.
//!
//! The invariants are those of [`crate::simulation::invariants`]. A failing seed is printed; `ROOKERY_SIM_SEED` runs one,
//! `ROOKERY_SIM_SEEDS` sets how many.

mod controller;
mod elections;
mod late_answers;
mod races;
mod world;

use crate::simulation::invariants::Violation;
use crate::simulation::{every_seed, seeds};
use world::World;

/// One run; fails with the first violation.
pub(crate) fn run(seed: u64) -> Result<world::Seen, Violation> {
    let mut world = World::new(seed);
    for _ in 0..2500 {
        world.step();
        world.check()?;
    }
    world.heal()?;
    Ok(world.seen())
}

#[test]
fn nothing_acknowledged_is_lost_and_all_replicas_agree() {
    let mut total = world::Seen::default();
    every_seed(seeds(200, 1), run).iter().for_each(|seen| total.add(seen));
    // A run that saw no faults, or no progress under them, would show nothing.
    assert!(std::env::var("ROOKERY_SIM_SEED").is_ok() || total.saw_everything(), "{total:?}");
}
