//! stuck: after healing, something that must come true did not in its generous time: all nodes ready with full ISRs, every
//! partition acknowledging, every group at the end, every client ended when asked.

use crate::facts::Facts;
use crate::history::Time;

/// What was awaited in vain.
pub fn check(facts: &Facts<'_>) -> Vec<(Time, String)> {
    let vain = facts.awaited.iter().filter(|a| !a.reached);
    vain.map(|a| (a.t, format!("{}: {}", a.what, a.detail))).collect()
}

#[cfg(test)]
mod tests {
    use super::super::hand_made::Story;
    use super::check;
    use crate::history::Op;

    fn awaited(reached: bool) -> Vec<String> {
        let op =
            Op::Awaited { what: "leaders".to_owned(), since: 0, reached, detail: "partition 0 has none".to_owned() };
        Story::default().by("faults", op).found(check)
    }

    #[test]
    fn what_was_awaited_in_vain_is_found() {
        assert_eq!(awaited(false).len(), 1);
    }

    #[test]
    fn what_came_true_is_not() {
        assert!(awaited(true).is_empty());
    }
}
