//! poll-skip: a consumer that keeps its partitions jumps over an offset that holds a record.

use crate::facts::Facts;
use crate::history::{Offset, Time};
use std::collections::HashMap;

/// Per reader and partition, from offset 0: readers begin there.
pub fn check(facts: &Facts<'_>) -> Vec<(Time, String)> {
    let held = facts.held();
    let mut next: HashMap<(&str, i32), Offset> = HashMap::new();
    let mut found = Vec::new();
    for poll in &facts.polls {
        for (o, _) in poll.rows {
            let expected = next.insert((poll.by, poll.p), o + 1).unwrap_or(0);
            let records = held.get(&poll.p);
            let skipped = (expected..*o).filter(|s| records.is_some_and(|r| r.contains(s))).count();
            if skipped > 0 {
                let (by, p) = (poll.by, poll.p);
                found.push((
                    poll.t,
                    format!("{by} read {o} of partition {p} when {expected} was next: {skipped} records skipped"),
                ));
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::super::hand_made::Story;
    use super::check;

    #[test]
    fn a_reader_jumps_over_an_acknowledged_record() {
        let story = Story::default().written(1, 0).written(2, 1).written(3, 2).poll(&[(0, 1)]).poll(&[(2, 3)]);
        assert_eq!(story.found(check).len(), 1);
    }

    #[test]
    fn a_reader_misses_the_first() {
        assert_eq!(Story::default().written(1, 0).written(2, 1).poll(&[(1, 2)]).found(check).len(), 1);
    }

    #[test]
    fn offsets_without_record_may_be_jumped_over() {
        let story = Story::default().written(1, 0).written(3, 2).poll(&[(0, 1), (2, 3)]);
        assert!(story.found(check).is_empty());
    }
}
