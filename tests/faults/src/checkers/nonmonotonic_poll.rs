//! nonmonotonic-poll: a consumer that keeps its partitions goes back, or is told that its place is not there any more.

use crate::facts::Facts;
use crate::history::{Offset, Time};
use std::collections::HashMap;

/// Errors by which a client says that the log in front of it is gone: nothing is ever deleted in these runs.
const OUT_OF_PLACE: &[&str] =
    &["_AUTO_OFFSET_RESET", "OFFSET_OUT_OF_RANGE", "_LOG_TRUNCATION", "LogTruncation", "NoOffsetForPartition"];

/// Per reader and partition.
pub fn check(facts: &Facts<'_>) -> Vec<(Time, String)> {
    let mut last: HashMap<(&str, i32), Offset> = HashMap::new();
    let mut found = Vec::new();
    for poll in &facts.polls {
        for (o, _) in poll.rows {
            if let Some(before) = last.insert((poll.by, poll.p), *o)
                && *o <= before
            {
                found.push((poll.t, format!("{} read {o} of partition {} after {before}", poll.by, poll.p)));
            }
        }
    }
    for (t, by, error) in &facts.troubles {
        if OUT_OF_PLACE.iter().any(|e| error.contains(e)) && facts.polls.iter().any(|p| p.by == *by) {
            found.push((*t, format!("{by} was told: {error}")));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::super::hand_made::Story;
    use super::check;
    use crate::history::Op;

    #[test]
    fn a_reader_goes_back() {
        let story = Story::default().written(1, 0).written(2, 1).poll(&[(0, 1), (1, 2)]).poll(&[(0, 1)]);
        assert_eq!(story.found(check).len(), 1);
    }

    #[test]
    fn a_reader_gets_a_record_twice_in_one_poll() {
        assert_eq!(Story::default().written(1, 0).poll(&[(0, 1), (0, 1)]).found(check).len(), 1);
    }

    #[test]
    fn a_reader_is_told_that_its_place_is_gone() {
        let told = Op::Trouble { error: "_AUTO_OFFSET_RESET 0: out of range".to_owned() };
        assert_eq!(Story::default().written(1, 0).poll(&[(0, 1)]).by("consumer", told).found(check).len(), 1);
    }

    #[test]
    fn other_errors_are_none_of_it() {
        let told = Op::Trouble { error: "_TRANSPORT: connection refused".to_owned() };
        assert!(Story::default().written(1, 0).poll(&[(0, 1)]).by("consumer", told).found(check).is_empty());
    }
}
