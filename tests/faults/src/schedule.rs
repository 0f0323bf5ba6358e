//! Which fault comes when: everything from the seed, except which node it hits, which depends on who leads by then.

use crate::faults::Kind;
use anyhow::{Result, bail};
use rand::RngExt;
use rand::rngs::StdRng;
use rand::seq::{IndexedRandom, SliceRandom};
use std::time::Duration;

/// The name that stands for two faults at once.
pub const MIX: &str = "mix";

/// One turn: faults that come together.
pub struct Turn<'a> {
    /// One, or two of a mixture.
    pub faults: Vec<&'a Kind>,
    /// How long after the first the second comes.
    pub stagger: Duration,
    /// How long it lasts.
    pub hold: Duration,
    /// How long all is left alone afterwards.
    pub rest: Duration,
}

/// Deals turns: every chosen fault once in random order, then all of them again.
pub struct Schedule<'a> {
    singles: Vec<&'a Kind>,
    all: &'a [Kind],
    mixtures: usize,
    deck: Vec<Option<&'a Kind>>,
}

impl<'a> Schedule<'a> {
    /// `wanted`: names or groups of faults, `mix`, or `all`.
    pub fn new(all: &'a [Kind], wanted: &[String]) -> Result<Schedule<'a>> {
        let named = |name: &str| wanted.iter().any(|w| w == name || w == "all");
        for w in wanted {
            let known = w == "all" || w == MIX || all.iter().any(|k| k.name == w || k.group == w);
            if !known {
                let mut groups: Vec<&str> = all.iter().map(|k| k.group).collect();
                groups.dedup();
                bail!(
                    "no fault {w}: there are all, mix, the groups {}, and single ones (`faults list`)",
                    groups.join(", ")
                );
            }
        }
        let singles: Vec<&Kind> = all.iter().filter(|k| named(k.name) || named(k.group)).collect();
        let mixtures = if named(MIX) { (singles.len() / 3).max(1) } else { 0 };
        if singles.is_empty() && mixtures == 0 {
            bail!("no fault was chosen");
        }
        Ok(Schedule { singles, all, mixtures, deck: Vec::new() })
    }

    /// The next turn.
    pub fn deal(&mut self, random: &mut StdRng) -> Turn<'a> {
        if self.deck.is_empty() {
            self.deck = self.singles.iter().map(|k| Some(*k)).chain(std::iter::repeat_n(None, self.mixtures)).collect();
            self.deck.shuffle(random);
        }
        let faults = match self.deck.pop().flatten() {
            Some(kind) => vec![kind],
            None => self.mixture(random),
        };
        Turn {
            faults,
            stagger: Duration::from_millis(random.random_range(0..2000)),
            hold: Duration::from_millis(random.random_range(2500..8000)),
            rest: Duration::from_millis(random.random_range(1500..3000)),
        }
    }

    /// Two of different families. Not those that wait for the cluster to be well: it would not be.
    fn mixture(&self, random: &mut StdRng) -> Vec<&'a Kind> {
        let fit: Vec<&Kind> = self.all.iter().filter(|k| k.group != "rolling" && !k.name.ends_with("-all")).collect();
        let Some(first) = fit.choose(random).copied() else { return Vec::new() };
        let others: Vec<&Kind> = fit.into_iter().filter(|k| k.group != first.group).collect();
        [Some(first), others.choose(random).copied()].into_iter().flatten().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::faults::catalogue;
    use rand::SeedableRng;

    fn dealt(seed: u64, wanted: &[&str], turns: usize) -> Vec<(Vec<&'static str>, Duration)> {
        let all = catalogue();
        let wanted: Vec<String> = wanted.iter().map(|w| (*w).to_owned()).collect();
        let mut schedule = Schedule::new(&all, &wanted).unwrap();
        let mut random = StdRng::seed_from_u64(seed);
        (0..turns)
            .map(|_| schedule.deal(&mut random))
            .map(|turn| (turn.faults.iter().map(|k| k.name).collect(), turn.hold))
            .collect()
    }

    #[test]
    fn the_same_seed_deals_the_same_turns() {
        assert_eq!(dealt(7, &["all"], 40), dealt(7, &["all"], 40));
        assert_ne!(dealt(7, &["all"], 40), dealt(8, &["all"], 40));
    }

    #[test]
    fn every_chosen_fault_comes_once_before_any_comes_twice() {
        let mut names: Vec<_> = dealt(1, &["kill", "loss"], 7).into_iter().flat_map(|(names, _)| names).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), 7, "{names:?}");
    }

    #[test]
    fn a_mixture_is_of_two_families() {
        let all = catalogue();
        let group = |name: &str| all.iter().find(|k| k.name == name).unwrap().group;
        for (names, _) in dealt(3, &["mix"], 50) {
            assert_eq!(names.len(), 2);
            assert_ne!(group(names[0]), group(names[1]));
        }
    }

    #[test]
    fn a_fault_that_is_not_there_is_refused() {
        assert!(Schedule::new(&catalogue(), &["kil".to_owned()]).is_err());
    }
}
