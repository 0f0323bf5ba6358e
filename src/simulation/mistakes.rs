//! Planted mistakes are noticed by some invariant, and the page that says so is right.
//!
//! `docs/reliability-simulation.md` has one row for each mistake: in which simulation which seed shows it, and which invariant it breaks. One
//! whose row has no seed is not noticed yet, which the page says as well.
//! `ROOKERY_SIM_SEARCH=n` tries the first `n` seeds for rows that are wrong or missing, and prints what it finds.

use super::cluster;
use super::invariants::Violation;
use crate::planted;
use rookery_raft::planted as raft;
use std::collections::BTreeMap;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};

const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/reliability-simulation.md");
/// The least that has to be noticed.
const NOTICED_MIN: usize = 20;

/// A planted mistake of either package.
#[derive(Clone, Copy)]
enum Mistake {
    Broker(planted::Mistake),
    Controller(raft::Mistake),
}

impl Mistake {
    fn all() -> impl Iterator<Item = Mistake> {
        let broker = planted::Mistake::ALL.iter().copied().map(Mistake::Broker);
        broker.chain(raft::Mistake::ALL.iter().copied().map(Mistake::Controller))
    }

    fn name(self) -> String {
        match self {
            Mistake::Broker(mistake) => format!("{mistake:?}"),
            Mistake::Controller(mistake) => format!("{mistake:?}"),
        }
    }

    /// The invariant that a run with the mistake in place breaks.
    fn shown_by(self, simulation: &str, seed: u64) -> Option<&'static str> {
        let _planted = match self {
            Mistake::Broker(mistake) => (Some(planted::plant(mistake)), None),
            Mistake::Controller(mistake) => (None, Some(raft::plant(mistake))),
        };
        let run = || match simulation {
            "replicas" => crate::replica::simulate(seed),
            "cluster" => cluster::run(seed, false).0.map(drop),
            "majority" => cluster::run_without_majority(seed).map(drop),
            other => panic!("there is no simulation {other}"),
        };
        // An assertion of the shipped code itself is as good.
        let broken =
            catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|_| Err(Violation::new("panic", String::new())));
        broken.err().map(|violation| violation.invariant)
    }
}

/// Simulation, seed and invariant by mistake, as the page has them.
fn rows() -> BTreeMap<String, (String, Option<u64>, String)> {
    let cells = |line: &str| line.split('|').map(|cell| cell.trim().trim_matches('`').to_owned()).collect::<Vec<_>>();
    let row = |line: &str| {
        let cells = line.starts_with("| `").then(|| cells(line)).filter(|cells| cells.len() == 7)?;
        Some((cells[1].clone(), (cells[2].clone(), cells[3].parse().ok(), cells[4].clone())))
    };
    fs::read_to_string(PAGE).expect("the page is there").lines().filter_map(row).collect()
}

#[test]
fn planted_mistakes_are_noticed_as_the_page_says() {
    let mut rows = rows();
    let search: u64 = std::env::var("ROOKERY_SIM_SEARCH").ok().and_then(|n| n.parse().ok()).unwrap_or(0);
    let (mut wrong, mut noticed) = (Vec::new(), 0);
    for mistake in Mistake::all() {
        let name = mistake.name();
        let row = rows.remove(&name);
        let shown = row.as_ref().and_then(|(simulation, seed, _)| mistake.shown_by(simulation, (*seed)?));
        let right = row.as_ref().is_some_and(|(_, seed, invariant)| seed.is_none() || shown == Some(invariant));
        noticed += usize::from(shown.is_some());
        if right && (search == 0 || shown.is_some()) {
            continue;
        }
        let simulation = row.as_ref().map_or("replicas", |(simulation, ..)| simulation);
        let seeds = if simulation != "replicas" { search.div_ceil(50) } else { search };
        let found = (0..seeds).find_map(|seed| Some((seed, mistake.shown_by(simulation, seed)?)));
        let line = format!("{name}: the page has {row:?}, which shows {shown:?}; found {found:?} in {simulation}");
        if search > 0 {
            eprintln!("{line}");
        }
        wrong.push(line);
    }
    assert!(wrong.is_empty() && rows.is_empty(), "{}\nno such mistakes: {rows:?}", wrong.join("\n"));
    assert!(noticed >= NOTICED_MIN, "only {noticed} are noticed");
}
