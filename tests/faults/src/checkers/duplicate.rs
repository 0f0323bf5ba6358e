//! duplicate: one value at two offsets. Every value is sent once, by an idempotent producer.

use crate::facts::Facts;
use crate::history::{Offset, Time, Value, shown};
use std::collections::HashMap;

/// Over all acks, polls and reads: a value that was at one offset first and is at another now was written twice, too.
pub fn check(facts: &Facts<'_>) -> Vec<(Time, String)> {
    let mut place: HashMap<Value, Vec<(i32, Offset)>> = HashMap::new();
    let mut found = Vec::new();
    for (t, who, p, o, v) in facts.placed() {
        // Values that nobody sent are another checker's.
        if !facts.sent.contains_key(&v) {
            continue;
        }
        let places = place.entry(v).or_default();
        if !places.contains(&(p, o)) {
            if let Some((q, at)) = places.first() {
                let value = shown(v);
                found.push((t, format!("{value} is at {at} of partition {q} and at {o} of partition {p} ({who})")));
            }
            places.push((p, o));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::super::hand_made::Story;
    use super::check;

    #[test]
    fn a_value_is_read_twice() {
        let story = Story::default().written(1, 0).read(0, &[(0, 1), (1, 1)]);
        assert_eq!(story.found(check).len(), 1);
    }

    #[test]
    fn an_unknown_value_may_not_be_there_twice_either() {
        let story = Story::default().send(1).unknown(1).read(0, &[(0, 1), (1, 1)]);
        assert_eq!(story.found(check).len(), 1);
    }

    #[test]
    fn the_same_place_read_again_is_no_duplicate() {
        let story = Story::default().written(1, 0).poll(&[(0, 1)]).read(0, &[(0, 1)]).read(1, &[(0, 1)]);
        assert!(story.found(check).is_empty());
    }
}
