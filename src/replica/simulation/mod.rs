//! Replication of one partition over three brokers, on virtual time, from a seed.
//!
//! The shipped types run: `Partition`, `Fetcher`, `ReplicaService`, the messages through their bytes, and the storage
//! room's log over its twin in memory. Replaced are the clock, the network (drops, delays, reorders), the disk (commits
//! when told, crashes drop or keep what was not synced, an fsync fails) and the controller, which is a model of the rules that
//! the metadata log enforces. No threads, but in `races`.
//!
//! `oracle` holds what must never happen. A failing seed is printed; `ROOKERY_SIM_SEED` runs one, `ROOKERY_SIM_SEEDS` sets
//! how many. Every [`Planted`] mistake must be caught by some seed.

mod batches;
mod controller;
mod oracle;
mod races;
mod world;

use world::World;

/// A mistake built in on purpose, to see that the oracle would notice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Planted {
    /// The leader counts its own log end instead of its synced end.
    AckBeforeFsync,
    /// The offset that a follower wants counts as synced.
    CountUnsynced,
    /// The high watermark moves although the ISR is too small.
    HighWatermarkBelowMinIsr,
    /// A leader whose store was reopened goes on in its old term.
    LeadAgainAfterLostTail,
    /// What a follower said in one leader epoch counts in another.
    RememberAnotherTerm,
    /// A diverged follower keeps its tail.
    SkipTruncation,
}

fn run(seed: u64, planted: Option<Planted>) -> Result<world::Seen, String> {
    let mut world = World::new(seed, planted);
    for _ in 0..2500 {
        world.step();
        world.check()?;
    }
    world.heal()?;
    Ok(world.seen())
}

fn seeds(default: u64) -> std::ops::Range<u64> {
    let number = |name: &str| std::env::var(name).ok().and_then(|value| value.parse().ok());
    match number("ROOKERY_SIM_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("ROOKERY_SIM_SEEDS").unwrap_or(default),
    }
}

#[test]
fn nothing_acknowledged_is_lost_and_all_replicas_agree() {
    let mut total = world::Seen::default();
    for seed in seeds(300) {
        match run(seed, None) {
            Ok(seen) => total.add(&seen),
            Err(violation) => panic!("seed {seed}: {violation}"),
        }
    }
    // A run that saw no faults, or no progress under them, would show nothing.
    assert!(total.saw_everything(), "{total:?}");
}

fn is_caught(planted: Planted) {
    // A run that only gets stuck is not a broken promise.
    let broken = |violation: &String| !violation.starts_with("stuck");
    let caught = (0..600).find_map(|seed| run(seed, Some(planted)).err().filter(broken).map(|what| (seed, what)));
    assert!(caught.is_some(), "{planted:?} was not caught");
}

#[test]
fn an_ack_before_fsync_is_caught() {
    is_caught(Planted::AckBeforeFsync);
}

#[test]
fn counting_what_a_follower_wants_is_caught() {
    is_caught(Planted::CountUnsynced);
}

#[test]
fn a_high_watermark_below_min_insync_is_caught() {
    is_caught(Planted::HighWatermarkBelowMinIsr);
}

#[test]
fn leading_on_after_a_lost_tail_is_caught() {
    is_caught(Planted::LeadAgainAfterLostTail);
}

#[test]
fn counting_words_of_another_leader_epoch_is_caught() {
    is_caught(Planted::RememberAnotherTerm);
}

#[test]
fn a_missing_truncation_is_caught() {
    is_caught(Planted::SkipTruncation);
}
