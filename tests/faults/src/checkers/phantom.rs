//! phantom: a value that nobody sent, or that its client said it had never sent, or in a partition it was not sent to.

use crate::facts::Facts;
use crate::history::{Time, shown};
use std::collections::HashSet;

/// Each value is told once.
pub fn check(facts: &Facts<'_>) -> Vec<(Time, String)> {
    let mut told = HashSet::new();
    let mut found = Vec::new();
    for (t, who, p, o, v) in facts.placed() {
        let why = match facts.sent.get(&v) {
            None => "nobody sent it".to_owned(),
            Some(_) if facts.failed.contains(&v) => "its client never sent it".to_owned(),
            Some((_, to, _)) if *to != p => format!("it was sent to partition {to}"),
            Some(_) => continue,
        };
        if told.insert(v) {
            found.push((t, format!("{} at {o} of partition {p} ({who}): {why}", shown(v))));
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
    fn a_value_of_nobody_is_read() {
        assert_eq!(Story::default().written(1, 0).poll(&[(0, 1), (1, 9)]).found(check).len(), 1);
    }

    #[test]
    fn a_value_that_was_never_sent_is_read() {
        let failed = Op::Fail { v: 1, error: "queue full".to_owned() };
        assert_eq!(Story::default().send(1).by("producer", failed).poll(&[(0, 1)]).found(check).len(), 1);
    }
}
