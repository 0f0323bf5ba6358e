//! lost-write: an acknowledged value that no reader ever sees although everything was read after healing, or that later
//! offsets jump over.

use crate::facts::Facts;
use crate::history::{Time, Value, shown};
use std::collections::{HashMap, HashSet};

/// Each pass is whole: what is in none of a partition's reads is lost.
pub fn check(facts: &Facts<'_>) -> Vec<(Time, String)> {
    let mut seen: HashMap<i32, (HashSet<Value>, i64, Time)> = HashMap::new();
    for read in &facts.reads {
        let (values, end, since) = seen.entry(read.p).or_insert((HashSet::new(), -1, read.t));
        values.extend(read.rows.iter().map(|(_, v)| *v));
        *end = (*end).max(read.rows.last().map_or(-1, |(o, _)| *o));
        *since = (*since).min(read.t);
    }
    let mut lost = Vec::new();
    for ack in &facts.acks {
        // What was acknowledged after the first read began is not in all of them, and need not be.
        let Some((values, end, _)) = seen.get(&ack.p).filter(|(.., since)| ack.t < *since) else { continue };
        if !values.contains(&ack.v) {
            let place = match ack.o {
                o if o < 0 => "at an offset that was not told".to_owned(),
                o if o <= *end => format!("at {o}, which the log, ending at {end}, jumps over or holds otherwise"),
                o => format!("at {o}, but the log ends at {end}"),
            };
            lost.push((ack.t, format!("{} was acknowledged in partition {} {place}", shown(ack.v), ack.p)));
        }
    }
    lost
}

#[cfg(test)]
mod tests {
    use super::super::hand_made::Story;
    use super::check;

    #[test]
    fn an_acknowledged_value_at_the_end_is_gone() {
        let story = Story::default().written(1, 0).written(2, 1).read(0, &[(0, 1)]);
        assert_eq!(story.found(check).len(), 1);
    }

    #[test]
    fn later_offsets_jump_over_it() {
        let story = Story::default().written(1, 0).written(2, 1).written(3, 2).read(0, &[(0, 1), (2, 3)]);
        assert!(story.found(check)[0].contains("jumps over"));
    }

    #[test]
    fn one_without_offset_counts_as_well() {
        assert_eq!(Story::default().written(1, -1).read(0, &[]).found(check).len(), 1);
    }

    #[test]
    fn a_history_that_ends_before_the_read_says_nothing() {
        assert!(Story::default().written(1, 0).found(check).is_empty());
    }
}
