//! inconsistent-offset: one offset of a partition held two values, over all acks, polls and reads.

use crate::facts::Facts;
use crate::history::{Offset, Time, Value, shown};
use std::collections::HashMap;

/// Every pair is told once.
pub fn check(facts: &Facts<'_>) -> Vec<(Time, String)> {
    let mut first: HashMap<(i32, Offset), (Value, String)> = HashMap::new();
    let mut told = std::collections::HashSet::new();
    let mut found = Vec::new();
    for (t, who, p, o, v) in facts.placed() {
        match first.get(&(p, o)) {
            None => {
                first.insert((p, o), (v, who));
            }
            Some((other, by)) if *other != v => {
                if told.insert((p, o, v)) {
                    let (one, two) = (shown(*other), shown(v));
                    found.push((t, format!("offset {o} of partition {p} is {one} for {by} and {two} for {who}")));
                }
            }
            Some(_) => {}
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::super::hand_made::Story;
    use super::check;

    #[test]
    fn an_ack_and_a_poll_disagree() {
        assert_eq!(Story::default().written(1, 0).send(2).poll(&[(0, 2)]).found(check).len(), 1);
    }

    #[test]
    fn two_reads_disagree() {
        let story = Story::default().send(1).send(2).read(0, &[(0, 1)]).read(1, &[(0, 2)]);
        assert_eq!(story.found(check).len(), 1);
    }

    #[test]
    fn two_acks_disagree() {
        assert_eq!(Story::default().written(1, 0).written(2, 0).found(check).len(), 1);
    }
}
