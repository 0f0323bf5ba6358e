//! group-skip: a record below a group's committed offset was delivered to no member.

use crate::facts::Facts;
use crate::history::{Offset, Time};
use std::collections::{BTreeMap, HashSet};

/// Members write down what they were given before they commit it, so an acknowledged commit covers only what is there.
pub fn check(facts: &Facts<'_>) -> Vec<(Time, String)> {
    let mut delivered: BTreeMap<(&str, i32), HashSet<Offset>> = BTreeMap::new();
    for (group, poll) in &facts.delivered {
        delivered.entry((group, poll.p)).or_default().extend(poll.rows.iter().map(|(o, _)| *o));
    }
    let mut committed: BTreeMap<(&str, i32), (Offset, Time)> = BTreeMap::new();
    for commit in facts.commits.iter().filter(|c| c.until != crate::facts::NEVER) {
        let highest = committed.entry((commit.group, commit.p)).or_insert((commit.o, commit.until));
        if commit.o > highest.0 {
            *highest = (commit.o, commit.until);
        }
    }
    let held = facts.held();
    let mut found = Vec::new();
    for ((group, p), (to, t)) in committed {
        let none = HashSet::new();
        let got = delivered.get(&(group, p)).unwrap_or(&none);
        let records = held.get(&p).unwrap_or(&none);
        let mut missing: Vec<Offset> = records.iter().copied().filter(|o| *o < to && !got.contains(o)).collect();
        missing.sort_unstable();
        if let Some(first) = missing.first() {
            let count = missing.len();
            found.push((t, format!("group {group} committed {to} of partition {p}, {count} records were delivered to nobody, the first at {first}")));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::super::hand_made::Story;
    use super::check;
    use crate::history::Outcome;

    #[test]
    fn a_record_below_the_commit_was_delivered_to_nobody() {
        let story = Story::default().written(1, 0).written(2, 1).deliver("a", &[(1, 2)]).commit(2, Outcome::Ok, 1);
        assert_eq!(story.found(check).len(), 1);
    }

    #[test]
    fn members_share_the_records() {
        let story = Story::default().written(1, 0).written(2, 1).deliver("a", &[(0, 1)]).deliver("b", &[(1, 2)]);
        assert!(story.commit(2, Outcome::Ok, 1).found(check).is_empty());
    }

    #[test]
    fn a_commit_of_unknown_outcome_claims_nothing() {
        let story = Story::default().written(1, 0).commit(1, Outcome::Unknown, 1);
        assert!(story.found(check).is_empty());
    }

    #[test]
    fn what_was_not_committed_yet_may_be_missing() {
        let story = Story::default().written(1, 0).written(2, 1).deliver("a", &[(0, 1)]).commit(1, Outcome::Ok, 1);
        assert!(story.found(check).is_empty());
    }
}
