//! reorder: a producer's later acknowledged send to a partition sits at a lower offset.

use crate::facts::Facts;
use crate::history::{Offset, Time, Value, shown};
use std::collections::BTreeMap;

/// When sent, what, at which offset, when acknowledged.
type Acked = (Time, Value, Offset, Time);

/// Per writer and partition, in the order of sending. Where an ack did not tell the offset, the last read does.
pub fn check(facts: &Facts<'_>) -> Vec<(Time, String)> {
    let read: std::collections::HashMap<(i32, Value), Offset> =
        facts.reads.iter().flat_map(|r| r.rows.iter().map(move |(o, v)| ((r.p, *v), *o))).collect();
    let mut lanes: BTreeMap<(&str, i32), Vec<Acked>> = BTreeMap::new();
    for ack in &facts.acks {
        let Some((sent, _, by)) = facts.sent.get(&ack.v) else { continue };
        let offset = if ack.o >= 0 { Some(ack.o) } else { read.get(&(ack.p, ack.v)).copied() };
        if let Some(offset) = offset {
            lanes.entry((by, ack.p)).or_default().push((*sent, ack.v, offset, ack.t));
        }
    }
    let mut found = Vec::new();
    for ((by, p), mut lane) in lanes {
        // Values of one writer count up, also where two were sent in the same nanosecond.
        lane.sort_by_key(|(sent, v, ..)| (*sent, *v));
        let mut highest: Option<(Offset, Value)> = None;
        for (_, v, o, t) in lane {
            match highest {
                Some((above, earlier)) if o < above => {
                    let (late, early) = (shown(v), shown(earlier));
                    found.push((
                        t,
                        format!("{by} sent {early} before {late}, which is at {o} of partition {p}, before {above}"),
                    ));
                }
                _ => highest = Some((o, v)),
            }
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
    fn a_later_send_is_at_a_lower_offset() {
        assert_eq!(Story::default().written(1, 5).written(2, 4).found(check).len(), 1);
    }

    #[test]
    fn one_without_offset_is_looked_up() {
        let story = Story::default().written(1, -1).written(2, 0).read(0, &[(0, 2), (1, 1)]);
        assert_eq!(story.found(check).len(), 1);
    }

    #[test]
    fn two_producers_have_no_order() {
        let story = Story::default().written(1, 1).by("other", Op::Send { p: 0, v: 2 });
        assert!(story.by("other", Op::Ack { v: 2, p: 0, o: 0 }).found(check).is_empty());
    }

    #[test]
    fn an_unknown_value_has_no_order() {
        let story = Story::default().send(1).unknown(1).written(2, 0).read(0, &[(0, 2), (1, 1)]);
        assert!(story.found(check).is_empty());
    }
}
