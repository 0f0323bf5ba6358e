//! Deadlines by key, on a clock that is passed in.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// A set of named deadlines: each key has at most one, and setting it anew moves it.
///
/// Two ordered maps, so that moving a session's deadline on each heartbeat costs O(log n), and equal deadlines
/// fire in the order of their keys: a run is repeatable.
#[derive(Debug)]
pub struct Timers<K> {
    by_key: BTreeMap<K, Duration>,
    by_deadline: BTreeSet<(Duration, K)>,
}

impl<K> Default for Timers<K> {
    fn default() -> Self {
        Self { by_key: BTreeMap::new(), by_deadline: BTreeSet::new() }
    }
}

impl<K: Ord + Clone> Timers<K> {
    /// Sets or moves the deadline of `key`.
    pub fn schedule(&mut self, key: K, at: Duration) {
        if let Some(old) = self.by_key.insert(key.clone(), at) {
            self.by_deadline.remove(&(old, key.clone()));
        }
        self.by_deadline.insert((at, key));
    }

    /// Forgets the deadline of `key`, if it has one.
    pub fn cancel(&mut self, key: &K) {
        if let Some((key, at)) = self.by_key.remove_entry(key) {
            self.by_deadline.remove(&(at, key));
        }
    }

    /// Moves every deadline: for as long as `by` no time has passed for them. O(n log n).
    pub fn postpone(&mut self, by: Duration) {
        self.by_key.values_mut().for_each(|at| *at += by);
        self.by_deadline = std::mem::take(&mut self.by_deadline).into_iter().map(|(at, key)| (at + by, key)).collect();
    }

    /// The earliest deadline.
    pub fn next_deadline(&self) -> Option<Duration> {
        self.by_deadline.first().map(|(at, _)| *at)
    }

    /// Takes the earliest deadline that is not after `now`.
    pub fn pop_due(&mut self, now: Duration) -> Option<K> {
        if self.next_deadline()? > now {
            return None;
        }
        let (_, key) = self.by_deadline.pop_first()?;
        self.by_key.remove(&key);
        Some(key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moved_deadline_fires_once_and_late() {
        let mut timers = Timers::default();
        timers.schedule("a", Duration::from_millis(10));
        timers.schedule("b", Duration::from_millis(20));
        timers.schedule("a", Duration::from_millis(30));
        assert_eq!(timers.next_deadline(), Some(Duration::from_millis(20)));
        assert_eq!(timers.pop_due(Duration::from_millis(19)), None);
        assert_eq!(timers.pop_due(Duration::from_millis(30)), Some("b"));
        assert_eq!(timers.pop_due(Duration::from_millis(30)), Some("a"));
        assert_eq!(timers.pop_due(Duration::MAX), None);
        timers.schedule("c", Duration::ZERO);
        timers.cancel(&"c");
        assert_eq!(timers.next_deadline(), None);
    }

    #[test]
    fn a_postponed_deadline_can_still_be_moved_and_cancelled() {
        let at = Duration::from_millis;
        let mut timers = Timers::default();
        ["a", "b", "c"].into_iter().zip(1..).for_each(|(key, n)| timers.schedule(key, at(n)));
        timers.postpone(at(10));
        assert_eq!(timers.pop_due(at(10)), None);
        timers.schedule("a", at(20));
        timers.cancel(&"b");
        assert_eq!(timers.pop_due(at(19)), Some("c"));
        assert_eq!(timers.pop_due(at(19)), None);
        assert_eq!(timers.pop_due(at(20)), Some("a"));
        assert_eq!(timers.next_deadline(), None);
    }
}
