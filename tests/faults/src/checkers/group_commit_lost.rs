//! group-commit-lost: an acknowledged committed offset goes back.
//!
//! What a group has committed of a partition is a register: a read may show a commit unless another one, acknowledged, lies
//! wholly between that commit and the read. A commit of unknown outcome may take effect at any time after it began. Going
//! forward is never wrong here.

use crate::facts::Facts;
use crate::history::Time;

/// Reads that show less than an acknowledged commit, with nothing that could explain it.
pub fn check(facts: &Facts<'_>) -> Vec<(Time, String)> {
    let mut found = Vec::new();
    for read in &facts.committed {
        let same: Vec<_> = facts.commits.iter().filter(|c| c.group == read.group && c.p == read.p).collect();
        let Some(highest) = same.iter().filter(|c| c.until < read.since).max_by_key(|c| c.o) else { continue };
        if read.o >= highest.o {
            continue;
        }
        let explained = same.iter().any(|c| {
            let covered = |later: &&&crate::facts::Register<'_>| c.until < later.since && later.until < read.since;
            c.o == read.o && c.since < read.until && !same.iter().any(|later| covered(&later))
        });
        if !explained {
            let (group, p, o) = (read.group, read.p, read.o);
            found.push((
                read.until,
                format!("group {group} had committed {} of partition {p}, now it is {o}", highest.o),
            ));
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
    fn a_commit_goes_back() {
        let story = Story::default().commit(5, Outcome::Ok, 1).commit(9, Outcome::Ok, 1).committed(5);
        assert_eq!(story.found(check).len(), 1);
    }

    #[test]
    fn a_commit_is_gone() {
        assert_eq!(Story::default().commit(5, Outcome::Ok, 1).committed(-1).found(check).len(), 1);
    }

    #[test]
    fn a_commit_of_unknown_outcome_may_come_late() {
        let story = Story::default().commit(5, Outcome::Unknown, 1).commit(9, Outcome::Ok, 1).committed(5);
        assert!(story.found(check).is_empty());
    }

    #[test]
    fn of_two_commits_at_once_either_may_be_the_last() {
        let story = Story::default().commit(9, Outcome::Ok, 1).commit(5, Outcome::Ok, 2).committed(5);
        assert!(story.found(check).is_empty());
    }

    #[test]
    fn a_group_that_starts_again_from_less_says_so_by_a_commit() {
        let story = Story::default().commit(9, Outcome::Ok, 1).commit(5, Outcome::Ok, 1).committed(5);
        assert!(story.found(check).is_empty());
    }
}
