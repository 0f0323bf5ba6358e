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
                let (value, how) = (shown(v), producers(facts, (*q, *at), (p, o)));
                found
                    .push((t, format!("{value} is at {at} of partition {q} and at {o} of partition {p} ({who}){how}")));
            }
            places.push((p, o));
        }
    }
    found
}

/// Who wrote both: under one producer epoch a broker has let the second pass; under two, the client sent it anew.
fn producers(facts: &Facts<'_>, one: (i32, Offset), other: (i32, Offset)) -> String {
    let of = |(p, o)| facts.reads.iter().find(|r| r.p == p).and_then(|r| r.producer_of(o));
    match (of(one), of(other)) {
        (Some((id, epoch)), Some(second)) if (id, epoch) == second => {
            format!(": both written by producer {id} in its epoch {epoch}")
        }
        (Some((id, epoch)), Some((second, later))) => {
            format!(": written by producer {id} in epoch {epoch}, then sent anew by producer {second} in epoch {later}")
        }
        _ => String::new(),
    }
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
