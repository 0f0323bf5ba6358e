//! One file per anomaly: a pure function from the facts of a run to what is wrong with them.
//!
//! Never here: judging by time, except which of two operations ended before the other began. An operation whose outcome is
//! unknown may have happened at any time after it began, once, or never.

mod duplicate;
mod group_commit_lost;
mod group_skip;
mod inconsistent_offset;
mod lost_topic;
mod lost_write;
mod nonmonotonic_poll;
mod phantom;
mod poll_skip;
mod reorder;
mod replica_divergence;
mod stuck;

use crate::facts::Facts;
use crate::history::Time;

/// Something that must not be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Anomaly {
    /// Its checker.
    pub name: &'static str,
    /// When it came about, as far as one can tell: an operation that it contradicts.
    pub t: Time,
    /// What is wrong.
    pub what: String,
}

/// What looks for an anomaly.
type Checker = fn(&Facts<'_>) -> Vec<(Time, String)>;

/// All of them.
pub const ALL: &[(&str, Checker)] = &[
    ("lost-write", lost_write::check),
    ("inconsistent-offset", inconsistent_offset::check),
    ("duplicate", duplicate::check),
    ("phantom", phantom::check),
    ("reorder", reorder::check),
    ("nonmonotonic-poll", nonmonotonic_poll::check),
    ("poll-skip", poll_skip::check),
    ("group-commit-lost", group_commit_lost::check),
    ("group-skip", group_skip::check),
    ("replica-divergence", replica_divergence::check),
    ("lost-topic", lost_topic::check),
    ("stuck", stuck::check),
];

/// Anomalies that are not looked for, because the feature or the workload is not there yet.
pub const LATER: &[(&str, &str)] = &[
    ("aborted-read, dirty-read", "transactions"),
    ("torn-txn, lost-txn", "transactions"),
    ("eos-duplicate, eos-lost", "transactions"),
];

/// Everything that is wrong.
pub fn all(facts: &Facts<'_>) -> Vec<Anomaly> {
    let found = |(name, check): &(&'static str, Checker)| {
        let name = *name;
        check(facts).into_iter().map(move |(t, what)| Anomaly { name, t, what })
    };
    ALL.iter().flat_map(found).collect()
}

#[cfg(test)]
mod hand_made {
    //! Histories by hand.

    use super::*;
    use crate::history::{History, Line, Offset, Op, Outcome, Value};

    /// Time from one line to the next.
    const STEP: Time = 10;

    /// A history that grows line by line.
    #[derive(Default)]
    pub struct Story {
        history: History,
        t: Time,
    }

    impl Story {
        /// Whoever it was, this happened next.
        pub fn by(mut self, who: &str, op: Op) -> Self {
            self.t += STEP;
            let line = Line { t: self.t, op };
            match self.history.by.iter_mut().find(|(name, _)| name == who) {
                Some((_, lines)) => lines.push(line),
                None => self.history.by.push((who.to_owned(), vec![line])),
            }
            self
        }

        pub fn send(self, v: Value) -> Self {
            self.by("producer", Op::Send { p: 0, v })
        }

        pub fn ack(self, v: Value, o: Offset) -> Self {
            self.by("producer", Op::Ack { v, p: 0, o })
        }

        pub fn unknown(self, v: Value) -> Self {
            self.by("producer", Op::Unknown { v, error: "timed out".to_owned() })
        }

        /// Sent, and acknowledged there.
        pub fn written(self, v: Value, o: Offset) -> Self {
            self.send(v).ack(v, o)
        }

        pub fn poll(self, rows: &[(Offset, Value)]) -> Self {
            self.by("consumer", Op::Poll { p: 0, rows: rows.to_vec() })
        }

        pub fn deliver(self, who: &str, rows: &[(Offset, Value)]) -> Self {
            self.by(who, Op::Deliver { group: "g".to_owned(), p: 0, rows: rows.to_vec() })
        }

        /// A commit that ends next and began `long` lines before.
        pub fn commit(self, o: Offset, outcome: Outcome, long: Time) -> Self {
            let since = (self.t + STEP + STEP / 2).saturating_sub(long * STEP);
            self.by("member", Op::Commit { group: "g".to_owned(), since, offsets: vec![(0, o)], outcome })
        }

        pub fn committed(self, o: Offset) -> Self {
            let since = self.t + STEP / 2;
            self.by("member", Op::Committed { group: "g".to_owned(), since, p: 0, o })
        }

        pub fn read(self, pass: u32, rows: &[(Offset, Value)]) -> Self {
            let leader = i32::try_from(pass).unwrap() + 1;
            self.by("faults", Op::Read { pass, p: 0, leader, epoch: leader, rows: rows.to_vec(), batches: vec![] })
        }

        /// What one checker says.
        pub fn found(&self, check: Checker) -> Vec<String> {
            check(&Facts::of(&self.history)).into_iter().map(|(_, what)| what).collect()
        }

        /// That nobody finds anything.
        pub fn is_clean(&self) {
            assert_eq!(all(&Facts::of(&self.history)), vec![]);
        }
    }

    #[test]
    fn a_clean_history_is_clean_for_every_checker() {
        Story::default()
            .written(1, 0)
            .written(2, 1)
            .poll(&[(0, 1)])
            .poll(&[(1, 2)])
            .deliver("member", &[(0, 1), (1, 2)])
            .commit(2, Outcome::Ok, 1)
            .committed(2)
            .read(0, &[(0, 1), (1, 2)])
            .read(1, &[(0, 1), (1, 2)])
            .is_clean();
    }

    #[test]
    fn an_unknown_value_may_be_there_once_or_never() {
        let begun = || Story::default().written(1, 0).send(2).unknown(2).send(3);
        begun().ack(3, 1).read(0, &[(0, 1), (1, 3)]).is_clean();
        begun().ack(3, 2).poll(&[(0, 1), (1, 2), (2, 3)]).read(0, &[(0, 1), (1, 2), (2, 3)]).is_clean();
        begun().ack(3, 1).read(0, &[(0, 1), (1, 3), (2, 2)]).is_clean();
    }

    #[test]
    fn a_send_without_any_outcome_is_unknown() {
        Story::default().send(1).written(2, 0).read(0, &[(0, 2)]).is_clean();
        Story::default().send(1).written(2, 1).read(0, &[(0, 1), (1, 2)]).is_clean();
    }
}
