//! replica-divergence: after healing, with nobody writing any more, the log reads differently from another leader.

use crate::facts::{Facts, Read};
use crate::history::Time;
use std::collections::BTreeMap;

/// Every pass of a partition against its first.
pub fn check(facts: &Facts<'_>) -> Vec<(Time, String)> {
    let mut first: BTreeMap<i32, &Read<'_>> = BTreeMap::new();
    let mut found = Vec::new();
    for read in &facts.reads {
        let Some(one) = first.get(&read.p) else {
            first.insert(read.p, read);
            continue;
        };
        if one.rows != read.rows {
            let at = one.rows.iter().zip(&read.rows).take_while(|(a, b)| a == b).count();
            let (p, a, b) = (read.p, one.leader, read.leader);
            let (m, n) = (one.rows.len(), read.rows.len());
            found.push((
                read.t,
                format!("partition {p}: {m} records from leader {a}, {n} from leader {b}, different from the {at}. on"),
            ));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::super::hand_made::Story;
    use super::check;

    #[test]
    fn another_leader_has_less() {
        let story = Story::default().send(1).send(2).read(0, &[(0, 1), (1, 2)]).read(1, &[(0, 1)]);
        assert_eq!(story.found(check).len(), 1);
    }

    #[test]
    fn another_leader_has_something_else() {
        let story = Story::default().send(1).send(2).read(0, &[(0, 1)]).read(1, &[(0, 2)]);
        assert_eq!(story.found(check).len(), 1);
    }
}
