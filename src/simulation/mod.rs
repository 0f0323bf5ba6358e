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

use invariants::Violation;
use parking_lot::Mutex;
use std::any::Any;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

/// The seeds to run: `ROOKERY_SIM_SEED` is one, `ROOKERY_SIM_SEEDS` says how many, of which a costly simulation takes one in `cost`.
pub(crate) fn seeds(default: u64, cost: u64) -> Range<u64> {
    match (number("ROOKERY_SIM_SEED"), number("ROOKERY_SIM_SEEDS")) {
        (Some(seed), _) => seed..seed + 1,
        (None, Some(seeds)) => 0..(seeds / cost).max(1),
        (None, None) => 0..default,
    }
}

/// A number from the environment.
fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// Runs every seed, as many at once as there are cores. A run has one thread: all that is not its own (the planted mistake, the sequence
/// of random numbers, whether disk work is done by the caller) belongs to that thread.
///
/// # Panics
/// Where one breaks something: with the first such seed and the command that repeats it.
pub(crate) fn every_seed<T: Send>(seeds: Range<u64>, run: impl Fn(u64) -> Result<T, Violation> + Sync) -> Vec<T> {
    let test = thread::current().name().filter(|name| *name != "main").unwrap_or("simulation").to_owned();
    let (next, done, broken) = (AtomicU64::new(seeds.start), Mutex::new(Vec::new()), Mutex::new(None::<(u64, String)>));
    let work = || {
        while broken.lock().is_none() {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= seeds.end {
                return;
            }
            let what = match catch_unwind(AssertUnwindSafe(|| run(seed))) {
                Ok(Ok(seen)) => {
                    done.lock().push(seen);
                    continue;
                }
                Ok(Err(violation)) => violation.to_string(),
                Err(panic) => said(panic.as_ref()),
            };
            let mut broken = broken.lock();
            if broken.as_ref().is_none_or(|(first, _)| seed < *first) {
                *broken = Some((seed, what));
            }
        }
    };
    let cores = thread::available_parallelism().map_or(1, usize::from);
    thread::scope(|scope| (0..cores).for_each(|_| drop(scope.spawn(work))));
    if let Some((seed, what)) = broken.into_inner() {
        panic!("seed {seed}: {what}\nagain: ROOKERY_SIM_SEED={seed} scripts/sim {test}");
    }
    done.into_inner()
}

fn said(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().cloned();
    let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
    format!("panicked: {}", text.unwrap_or_else(|| "it said nothing".to_owned()))
}
