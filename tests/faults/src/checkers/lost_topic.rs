//! lost-topic: an acknowledged creation of a topic is gone in the end. Nobody deletes topics in these runs.

use crate::facts::Facts;
use crate::history::{Outcome, Time};

/// Against the list that was read after healing.
pub fn check(facts: &Facts<'_>) -> Vec<(Time, String)> {
    let Some((listed, names)) = &facts.topics else { return Vec::new() };
    let gone =
        |(t, name, outcome): &&(Time, &str, Outcome)| *outcome == Outcome::Ok && t < listed && !names.contains(name);
    facts
        .created
        .iter()
        .filter(gone)
        .map(|(t, name, _)| (*t, format!("topic {name} was created, and is not there")))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::super::hand_made::Story;
    use super::check;
    use crate::history::{Op, Outcome};

    fn story(outcome: Outcome, names: &[&str]) -> Vec<String> {
        let names = names.iter().map(|n| (*n).to_owned()).collect();
        let made = Op::CreateTopic { name: "t".to_owned(), since: 0, outcome };
        Story::default().by("topics", made).by("faults", Op::Topics { names }).found(check)
    }

    #[test]
    fn an_acknowledged_topic_is_gone() {
        assert_eq!(story(Outcome::Ok, &["u"]).len(), 1);
    }

    #[test]
    fn one_that_is_there_is_not() {
        assert!(story(Outcome::Ok, &["t"]).is_empty());
    }

    #[test]
    fn one_of_unknown_outcome_may_be_gone() {
        assert!(story(Outcome::Unknown, &[]).is_empty());
    }
}
