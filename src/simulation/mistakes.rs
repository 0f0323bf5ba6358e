//! Planted mistakes are noticed by some invariant, and the page that says so is right.
//!
//! `docs/reliability-simulation.md` has a row for each mistake: in which simulation which seed shows it, and which invariant it breaks. Where a
//! second check holds what the first lets through, the row names both, and they are planted together. A row without a seed is not shown yet.
//! `ROOKERY_SIM_SEARCH=n` tries the first `n` seeds for rows that are wrong or missing, and prints what it finds.

use super::invariants::Violation;
use super::{cluster, every_seed, number};
use crate::planted;
use rookery_raft::planted as raft;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};

const PAGE: &str = "docs/reliability-simulation.md";

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

    fn plant(self) -> (Option<planted::Planted>, Option<raft::Planted>) {
        match self {
            Mistake::Broker(mistake) => (Some(planted::plant(mistake)), None),
            Mistake::Controller(mistake) => (None, Some(raft::plant(mistake))),
        }
    }
}

/// A line of the table.
#[derive(Clone, Debug)]
struct Row {
    mistakes: Vec<String>,
    simulation: String,
    seed: Option<u64>,
    invariant: String,
}

impl Row {
    fn parse(line: &str) -> Option<Row> {
        let cells: Vec<&str> = line.strip_prefix("| `")?.split('|').map(str::trim).collect();
        let [mistakes, simulation, seed, invariant, _, _] = cells[..] else { return None };
        let mistakes = mistakes.split('`').filter(|word| word.chars().next().is_some_and(char::is_uppercase));
        Some(Row {
            mistakes: mistakes.map(str::to_owned).collect(),
            simulation: simulation.to_owned(),
            seed: seed.parse().ok(),
            invariant: invariant.trim_matches('`').to_owned(),
        })
    }

    /// The invariant that a run with the mistakes in place breaks, and one without them does not.
    fn breaks(&self, seed: u64) -> Option<&'static str> {
        let named = Mistake::all().filter(|mistake| self.mistakes.contains(&mistake.name()));
        let planted: Vec<_> = named.map(Mistake::plant).collect();
        let broken = self.run(seed)?;
        drop(planted);
        self.run(seed).is_none().then_some(broken)
    }

    fn run(&self, seed: u64) -> Option<&'static str> {
        let run = || match self.simulation.as_str() {
            "replicas" => crate::replica::simulate(seed),
            "cluster" => cluster::run(seed, false).0.map(drop),
            "majority" => cluster::schedules::without_majority(seed).map(drop),
            "quorum" => cluster::schedules::without_quorum(seed).map(drop),
            other => panic!("there is no simulation {other}"),
        };
        // An assertion of the shipped code itself is as good.
        let broken =
            catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|_| Err(Violation::new("panic", String::new())));
        broken.err().map(|violation| violation.invariant)
    }

    /// What is wrong with it.
    fn check(&self, search: u64) -> Option<String> {
        if self.seed.is_none() && search == 0 {
            return None;
        }
        let shown = self.seed.and_then(|seed| self.breaks(seed));
        if shown.is_some_and(|shown| shown == self.invariant) {
            return None;
        }
        // A whole cluster costs as much as some ten runs of one partition.
        let seeds = if self.simulation == "replicas" { search } else { search.div_ceil(10) };
        let found = (0..seeds).find_map(|seed| Some((seed, self.breaks(seed)?)));
        let line = format!("{self:?} shows {shown:?}; found {found:?}");
        if search > 0 {
            eprintln!("{line}");
        }
        Some(line)
    }
}

#[test]
fn planted_mistakes_are_noticed_as_the_page_says() {
    let page = fs::read_to_string(PAGE).expect("the page is there");
    let rows: Vec<Row> = page.lines().filter_map(Row::parse).collect();
    let named = |name: &String| rows.iter().any(|row| row.mistakes.contains(name));
    let missing: Vec<String> = Mistake::all().map(Mistake::name).filter(|name| !named(name)).collect();
    let known: Vec<String> = Mistake::all().map(Mistake::name).collect();
    let unknown: Vec<&String> =
        rows.iter().flat_map(|row| &row.mistakes).filter(|name| !known.contains(name)).collect();
    let search = number("ROOKERY_SIM_SEARCH").unwrap_or(0);
    let checked = every_seed(0..rows.len() as u64, |at| Ok(rows[at as usize].check(search)));
    let wrong: Vec<String> = checked.into_iter().flatten().collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(missing.is_empty() && unknown.is_empty(), "not in the table: {missing:?}; no such mistakes: {unknown:?}");
}
