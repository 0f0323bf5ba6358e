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

/// A card of the deck: one fault, a mixture that was asked for by name, or any mixture.
#[derive(Clone)]
enum Card<'a> {
    These(Vec<&'a Kind>),
    AnyMixture,
}

/// Deals turns: every chosen fault once in random order, then all of them again.
pub struct Schedule<'a> {
    all: &'a [Kind],
    chosen: Vec<Card<'a>>,
    deck: Vec<Card<'a>>,
}

impl<'a> Schedule<'a> {
    /// `wanted`: names or groups of faults, two names with a `+` between them, `mix`, or `all`.
    pub fn new(all: &'a [Kind], wanted: &[String]) -> Result<Schedule<'a>> {
        let every = wanted.iter().any(|w| w == "all");
        let single = |k: &&Kind| every || wanted.iter().any(|w| w == k.name || w == k.group);
        let mut chosen: Vec<Card<'_>> = all.iter().filter(single).map(|k| Card::These(vec![k])).collect();
        if every || wanted.iter().any(|w| w == MIX) {
            chosen.extend(std::iter::repeat_n(Card::AnyMixture, (chosen.len() / 3).max(1)));
        }
        for w in wanted {
            let named: Vec<&Kind> = w.split('+').filter_map(|name| all.iter().find(|k| k.name == name)).collect();
            let known = w == "all" || w == MIX || all.iter().any(|k| k.group == w);
            if !known && named.len() != w.split('+').count() {
                let mut groups: Vec<&str> = all.iter().map(|k| k.group).collect();
                groups.dedup();
                bail!(
                    "no fault {w}: there are all, mix, the groups {}, and single ones (`faults list`)",
                    groups.join(", ")
                );
            }
            if named.len() > 1 {
                chosen.push(Card::These(named));
            }
        }
        if chosen.is_empty() {
            bail!("no fault was chosen");
        }
        Ok(Schedule { all, chosen, deck: Vec::new() })
    }

    /// The next turn.
    pub fn deal(&mut self, random: &mut StdRng) -> Turn<'a> {
        if self.deck.is_empty() {
            self.deck.clone_from(&self.chosen);
            self.deck.shuffle(random);
        }
        let faults = match self.deck.pop() {
            Some(Card::These(faults)) => faults,
            _ => self.mixture(random),
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
    fn a_mixture_can_be_asked_for_by_name() {
        for (names, _) in dealt(3, &["kill-leader+loss-leader"], 5) {
            assert_eq!(names, ["kill-leader", "loss-leader"]);
        }
    }

    #[test]
    fn a_fault_that_is_not_there_is_refused() {
        assert!(Schedule::new(&catalogue(), &["kil".to_owned()]).is_err());
        assert!(Schedule::new(&catalogue(), &["kill-leader+kil".to_owned()]).is_err());
    }
}
