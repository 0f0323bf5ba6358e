//! Runs in which a certain thing happens; what is left to the seed is when, to whom, and everything else.

use super::{HEALED_WITHIN, NODES, ProducerState, Seen, Violation, World, run_world, stuck};
use rand::RngExt;

/// A voter misses what is committed, a second one is wiped, the third is dead.
pub(crate) fn without_majority(seed: u64) -> Result<Seen, Violation> {
    run_world(seed, false, World::run_without_majority).0
}

/// No vote and no metadata travels, all else does: the data of healthy partitions goes on.
pub(crate) fn without_quorum(seed: u64) -> Result<Seen, Violation> {
    run_world(seed, false, World::run_without_quorum).0
}

/// So long the cluster is without a quorum.
const NO_QUORUM: u64 = 15_000;
/// No producer waits longer for an acknowledgement.
const ACK_WITHIN: u64 = 1_000;

impl World {
    fn until_whole(&mut self) -> Result<(), Violation> {
        self.until(20_000, "a whole cluster", |world| {
            world.topic.is_some() && world.all_partitions(|p| p.isr.len() == NODES as usize) && world.is_whole()
        })
    }

    /// A voter is cut off and misses what is committed; one of the two others comes back with an empty disk, and the last one is dead
    /// when the first is heard again. The two that are there hold no majority of what was promised.
    fn run_without_majority(&mut self) -> Result<Seen, Violation> {
        self.until_whole()?;
        let stale = self.rng.random_range(0..self.machines.len());
        let (wiped, dead) = ((stale + 1) % self.machines.len(), (stale + 2) % self.machines.len());
        let id = self.machines[stale].id;
        self.isolate(stale, u64::MAX, (true, true));
        self.until(20_000, "a fence of the node that is cut off", |world| {
            world.all_partitions(|p| !p.isr.contains(&id) && p.has_leader())
        })?;
        self.lose_disk(wiped, 50, true);
        self.crash(dead, 6_000);
        self.network.mend();
        let end = self.now + 5_000;
        self.until(6_000, "five seconds", |world| world.now >= end)?;
        self.heal();
        self.until(HEALED_WITHIN, "everything whole again", World::is_whole)?;
        self.final_checks()?;
        Ok(self.seen.clone())
    }

    fn run_without_quorum(&mut self) -> Result<Seen, Violation> {
        self.until_whole()?;
        let settled = self.now + self.rng.random_range(300..3_000);
        self.until(3_000, "some time", |world| world.now >= settled)?;
        self.stop_votes(u64::MAX);
        let end = self.now + NO_QUORUM;
        let mut last: Vec<(u64, u64)> = self.producers.iter().map(|producer| (producer.value, self.now)).collect();
        while self.now < end {
            self.tick(false)?;
            for (producer, (value, at)) in self.producers.iter().zip(&mut last) {
                if producer.value != *value {
                    (*value, *at) = (producer.value, self.now);
                } else if self.now > *at + ACK_WITHIN {
                    let waits = matches!(producer.state, ProducerState::Waiting { .. });
                    let what = format!("producer {} has no answer (waits: {waits})", producer.id);
                    return Err(stuck(format!("without a quorum: {what}; {}", self.describe())));
                }
            }
        }
        self.heal();
        self.until(HEALED_WITHIN, "everything whole again", World::is_whole)?;
        self.final_checks()?;
        Ok(self.seen.clone())
    }
}
