//! Soft evidence on its way into the event log.
//!
//! What was seen is written along with the next decision, or alone after [`ALONE_AFTER`]. Of one kind about one broker it is told once
//! in [`AGAIN_AFTER`], with a count: a network that flaps must not fill the metadata log. It goes with the office: what a
//! deposed controller has not written is in its own log (tracing) only. Nothing is decided by it.

use crate::ids::NodeId;
use crate::record::{Finding, Observation};
use std::collections::BTreeMap;
use std::time::Duration;

/// How long something waits for a decision to go along with.
const ALONE_AFTER: Duration = Duration::from_secs(1);
/// How long the same is only counted after it was told.
const AGAIN_AFTER: Duration = Duration::from_secs(10);
/// Of more pairs of broker and finding nothing is kept.
const PAIRS_MAX: usize = 4096;

#[derive(Default)]
pub(super) struct Observations {
    seen: BTreeMap<(NodeId, Finding), Seen>,
    /// Counts everything that was noted.
    noted: u64,
}

struct Seen {
    /// What is to be told; a count of 0 once it was.
    untold: Observation,
    since: Duration,
    /// Which of all that was noted was the last of these.
    last: u64,
    told: Option<Duration>,
}

impl Seen {
    fn is_due(&self, now: Duration) -> bool {
        self.untold.count > 0 && self.told.is_none_or(|told| now.saturating_sub(told) >= AGAIN_AFTER)
    }
}

impl Observations {
    pub(super) fn forget(&mut self) {
        self.seen.clear();
    }

    pub(super) fn note(&mut self, observation: Observation, now: Duration) {
        let key = (observation.broker, observation.finding);
        if self.seen.len() >= PAIRS_MAX && !self.seen.contains_key(&key) {
            return;
        }
        let nothing = Observation { count: 0, ..observation };
        let seen = self.seen.entry(key).or_insert(Seen { untold: nothing, since: now, last: 0, told: None });
        if seen.untold.count == 0 {
            seen.since = now;
        }
        self.noted += 1;
        seen.last = self.noted;
        seen.untold.epoch = observation.epoch;
        seen.untold.count = seen.untold.count.saturating_add(observation.count);
    }

    /// What is to be written now, in the order in which it was seen last; with company sooner than alone.
    pub(super) fn take(&mut self, company: bool, now: Duration) -> Vec<Observation> {
        let waited = |seen: &Seen| seen.is_due(now) && now.saturating_sub(seen.since) >= ALONE_AFTER;
        if !company && !self.seen.values().any(waited) {
            return Vec::new();
        }
        let mut due: Vec<(u64, Observation)> = Vec::new();
        for seen in self.seen.values_mut().filter(|seen| seen.is_due(now)) {
            due.push((seen.last, seen.untold));
            seen.untold.count = 0;
            seen.told = Some(now);
        }
        self.seen
            .retain(|_, seen| seen.untold.count > 0 || seen.told.is_some_and(|t| now.saturating_sub(t) < AGAIN_AFTER));
        due.sort_by_key(|(last, _)| *last);
        due.into_iter().map(|(_, observation)| observation).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::BrokerEpoch;

    fn ms(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    fn seen(broker: i32, finding: Finding) -> Observation {
        Observation { broker: NodeId(broker), epoch: BrokerEpoch(7), finding, count: 1 }
    }

    fn told(taken: &[Observation]) -> Vec<(i32, Finding, u32)> {
        taken.iter().map(|o| (o.broker.0, o.finding, o.count)).collect()
    }

    #[test]
    fn it_goes_along_with_a_decision_or_alone_after_a_second() {
        let mut observations = Observations::default();
        observations.note(seen(2, Finding::Silent), ms(0));
        assert_eq!(told(&observations.take(false, ms(999))), []);
        assert_eq!(told(&observations.take(false, ms(1000))), [(2, Finding::Silent, 1)]);
        observations.note(seen(3, Finding::Silent), ms(1001));
        assert_eq!(told(&observations.take(true, ms(1001))), [(3, Finding::Silent, 1)]);
        assert_eq!(told(&observations.take(true, ms(60_000))), [], "each is told once");
    }

    #[test]
    fn a_network_that_flaps_filled_the_log() {
        let mut observations = Observations::default();
        let mut written = Vec::new();
        for at in (0..60_000).step_by(20) {
            observations.note(seen(2, Finding::SuspectedByGossip), ms(at));
            observations.note(seen(2, Finding::Acquitted), ms(at));
            written.extend(observations.take(true, ms(at)));
        }
        assert_eq!(written.len(), 2 * 6, "each kind once in ten seconds: {written:?}");
        let total: u32 = written.iter().map(|observation| observation.count).sum();
        assert_eq!(total, 2 * (1 + 5 * 500), "and nothing is left out but the last seconds");
        observations.note(seen(2, Finding::Silent), ms(59_981));
        assert_eq!(told(&observations.take(true, ms(59_981))), [(2, Finding::Silent, 1)], "another kind at once");
    }

    #[test]
    fn what_was_seen_last_is_told_last() {
        let mut observations = Observations::default();
        observations.note(seen(2, Finding::DiskFull), ms(0));
        observations.note(seen(2, Finding::DiskInOrder), ms(1));
        observations.take(true, ms(2));
        observations.note(seen(2, Finding::DiskInOrder), ms(3));
        observations.note(seen(2, Finding::DiskFull), ms(4));
        observations.note(seen(2, Finding::DiskInOrder), ms(4));
        observations.note(seen(2, Finding::DiskFull), ms(4));
        let last = observations.take(true, ms(20_000)).pop();
        assert_eq!(last.map(|o| o.finding), Some(Finding::DiskFull));
    }

    #[test]
    fn so_many_brokers_and_no_more() {
        let mut observations = Observations::default();
        (0..10_000).for_each(|id| observations.note(seen(id, Finding::Silent), ms(0)));
        assert_eq!(observations.take(true, ms(0)).len(), PAIRS_MAX);
    }
}
