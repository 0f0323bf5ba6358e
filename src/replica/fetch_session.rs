//! Consumers' incremental fetch sessions (KIP-227): pure, no I/O, no clock, no randomness of its own.
//!
//! A consumer that fetches many partitions names them once; afterwards a request names only what changed, and an answer
//! holds only partitions with news. The cache is a saving, never a promise: a session may be evicted at any time, and
//! the client then opens another.
//!
//! | request | session id, epoch | effect |
//! |---|---|---|
//! | sessionless | any, -1 | full fetch; a named session is closed |
//! | full | any, 0 | a named session is closed, a new one opened if there is room |
//! | incremental | id, next epoch | the session's partitions, after additions and removals |
//!
//! Room: a slot is free, or some session was not used for `idle_min`, or a smaller one is older than that (Kafka's rule,
//! less its privileged kind: followers have sessions of their own in [`super::replica_session`]).
//!
//! Partitions that returned records go to the end of their session's order, so that under a byte limit all take turns.

use super::error::ReplicaError;
use std::collections::BTreeMap;
use std::time::Duration;

/// The epoch of a fetch that wants no session, or closes one.
pub const FINAL_EPOCH: i32 = -1;
/// The epoch of a fetch that opens a session.
pub const INITIAL_EPOCH: i32 = 0;

/// What a consumer asks of one partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConsumerFetch {
    /// From here on.
    pub offset: i64,
    /// The leader epoch the consumer knows, -1 for none.
    pub current_leader_epoch: i32,
    /// The epoch of the last record it has, -1 for none.
    pub last_fetched_epoch: i32,
    /// At most this much, except for the first batch.
    pub max_bytes: usize,
}

/// The parts of an answer that decide whether an incremental fetch mentions the partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FetchNews {
    /// The high watermark in the answer.
    pub high_watermark: i64,
    /// The log start in the answer.
    pub log_start: i64,
    /// Whether records come along.
    pub has_records: bool,
    /// Whether there is something that must always be said: an error, a divergence, a preferred replica.
    pub must_say: bool,
}

/// How one request is to be served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FetchContext<K> {
    /// For the answer's header; 0 is no session.
    pub session_id: i32,
    /// Only partitions with news belong into the answer.
    pub incremental: bool,
    /// What to read, in this order.
    pub partitions: Vec<(K, ConsumerFetch)>,
}

#[derive(Debug)]
struct Cached {
    fetch: ConsumerFetch,
    told: Option<(i64, i64)>,
    turn: u64,
}

#[derive(Debug)]
struct Session<K> {
    epoch: i32,
    last_used: Duration,
    partitions: BTreeMap<K, Cached>,
    order: BTreeMap<u64, K>,
    next_turn: u64,
}

impl<K: Ord + Clone> Session<K> {
    fn put(&mut self, key: K, fetch: ConsumerFetch) {
        if let Some(cached) = self.partitions.get_mut(&key) {
            cached.fetch = fetch;
            return;
        }
        let turn = self.next_turn;
        self.next_turn += 1;
        self.order.insert(turn, key.clone());
        self.partitions.insert(key, Cached { fetch, told: None, turn });
    }

    fn forget(&mut self, key: &K) {
        if let Some(cached) = self.partitions.remove(key) {
            self.order.remove(&cached.turn);
        }
    }

    fn move_to_end(&mut self, key: &K) {
        if let Some(cached) = self.partitions.get_mut(key) {
            self.order.remove(&cached.turn);
            cached.turn = self.next_turn;
            self.next_turn += 1;
            self.order.insert(cached.turn, key.clone());
        }
    }
}

/// The consumers' sessions of one broker.
#[derive(Debug)]
pub struct FetchSessionCache<K> {
    sessions: BTreeMap<i32, Session<K>>,
    slots: usize,
    idle_min: Duration,
}

impl<K: Ord + Clone> FetchSessionCache<K> {
    /// At most `slots` sessions (`max.incremental.fetch.session.cache.slots`, 1000); one used within `idle_min` (120 s)
    /// is safe from eviction by another.
    pub fn new(slots: usize, idle_min: Duration) -> Self {
        Self { sessions: BTreeMap::new(), slots, idle_min }
    }

    /// How many sessions are open.
    pub fn len(&self) -> usize {
        self.sessions.len()
    }

    /// Whether none is open.
    pub fn is_empty(&self) -> bool {
        self.sessions.is_empty()
    }

    /// Resolves a request. `fresh_id` is asked for ids until one is positive and unused.
    pub fn begin(
        &mut self,
        (session_id, epoch): (i32, i32),
        fetches: Vec<(K, ConsumerFetch)>,
        forgotten: &[K],
        now: Duration,
        mut fresh_id: impl FnMut() -> i32,
    ) -> Result<FetchContext<K>, ReplicaError> {
        if epoch == FINAL_EPOCH || epoch == INITIAL_EPOCH {
            self.sessions.remove(&session_id);
            let opened = if epoch == INITIAL_EPOCH { self.open(&fetches, now, &mut fresh_id) } else { None };
            return Ok(FetchContext { session_id: opened.unwrap_or(0), incremental: false, partitions: fetches });
        }
        let session = self.sessions.get_mut(&session_id).ok_or(ReplicaError::FetchSessionNotFound)?;
        if session.epoch != epoch {
            return Err(ReplicaError::InvalidFetchSessionEpoch);
        }
        session.epoch = if epoch == i32::MAX { 1 } else { epoch + 1 };
        session.last_used = now;
        for (key, fetch) in fetches {
            session.put(key, fetch);
        }
        for key in forgotten {
            session.forget(key);
        }
        if session.partitions.is_empty() {
            // Nothing is left to remember: the client is told so by session id 0.
            self.sessions.remove(&session_id);
            return Ok(FetchContext { session_id: 0, incremental: false, partitions: Vec::new() });
        }
        let partitions = session.order.values().map(|key| (key.clone(), session.partitions[key].fetch)).collect();
        Ok(FetchContext { session_id, incremental: true, partitions })
    }

    /// Whether the answer mentions this partition; notes what the client is told. Call once per partition that was read,
    /// in the context's order.
    pub fn must_mention(&mut self, context: &FetchContext<K>, key: &K, news: FetchNews) -> bool {
        let Some(session) = self.sessions.get_mut(&context.session_id) else { return true };
        let Some(cached) = session.partitions.get_mut(key) else { return true };
        let now_told = Some((news.high_watermark, news.log_start));
        let mention = !context.incremental || news.has_records || news.must_say || cached.told != now_told;
        if mention {
            // After an error the client is told anew once there is none.
            cached.told = if news.must_say { None } else { now_told };
            if news.has_records && context.incremental {
                session.move_to_end(key);
            }
        }
        mention
    }

    fn open(
        &mut self,
        fetches: &[(K, ConsumerFetch)],
        now: Duration,
        fresh_id: &mut impl FnMut() -> i32,
    ) -> Option<i32> {
        if fetches.is_empty() || !self.make_room(fetches.len(), now) {
            return None;
        }
        // Bounded: with a thousand sessions a random positive id is taken once in two million draws.
        let id = (0..64).map(|_| fresh_id() & i32::MAX).find(|id| *id > 0 && !self.sessions.contains_key(id))?;
        let mut session =
            Session { epoch: 1, last_used: now, partitions: BTreeMap::new(), order: BTreeMap::new(), next_turn: 0 };
        for (key, fetch) in fetches {
            session.put(key.clone(), *fetch);
        }
        self.sessions.insert(id, session);
        Some(id)
    }

    fn make_room(&mut self, size: usize, now: Duration) -> bool {
        if self.sessions.len() < self.slots {
            return true;
        }
        let idle = |session: &Session<K>| now.saturating_sub(session.last_used) > self.idle_min;
        let oldest = self.sessions.iter().min_by_key(|(_, session)| session.last_used);
        let victim = match oldest {
            Some((id, session)) if idle(session) => Some(*id),
            _ => {
                let smallest = self.sessions.iter().min_by_key(|(_, session)| session.partitions.len());
                smallest.filter(|(_, session)| session.partitions.len() < size).map(|(id, _)| *id)
            }
        };
        victim.is_some_and(|id| self.sessions.remove(&id).is_some())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fetch(offset: i64) -> ConsumerFetch {
        ConsumerFetch { offset, current_leader_epoch: -1, last_fetched_epoch: -1, max_bytes: 100 }
    }

    fn quiet(high_watermark: i64) -> FetchNews {
        FetchNews { high_watermark, log_start: 0, has_records: false, must_say: false }
    }

    fn cache(slots: usize) -> FetchSessionCache<&'static str> {
        FetchSessionCache::new(slots, Duration::from_secs(120))
    }

    fn open(cache: &mut FetchSessionCache<&'static str>, id: i32, keys: &[&'static str], at: u64) -> i32 {
        let fetches = keys.iter().map(|key| (*key, fetch(0))).collect();
        let mut draws = [0, id].into_iter().cycle();
        let now = Duration::from_secs(at);
        cache.begin((0, INITIAL_EPOCH), fetches, &[], now, || draws.next().expect("cycles")).expect("full").session_id
    }

    #[test]
    fn an_incremental_fetch_names_changes_and_hears_news_only() {
        let mut cache = cache(2);
        let id = open(&mut cache, 41, &["a", "b"], 0);
        assert_eq!(id, 41, "0 is no id");
        let first = FetchContext { session_id: id, incremental: false, partitions: vec![] };
        assert!(cache.must_mention(&first, &"a", quiet(5)), "a full answer has everything");
        assert!(cache.must_mention(&first, &"b", quiet(7)));

        let now = Duration::from_secs(1);
        let next = cache.begin((id, 1), vec![("c", fetch(3))], &["b"], now, || 0).expect("in turn");
        assert!(next.incremental);
        assert_eq!(next.partitions, [("a", fetch(0)), ("c", fetch(3))]);
        assert!(!cache.must_mention(&next, &"a", quiet(5)), "nothing new");
        assert!(cache.must_mention(&next, &"c", quiet(5)), "never told before");
        let next = cache.begin((id, 2), vec![], &[], now, || 0).expect("in turn");
        assert!(cache.must_mention(&next, &"a", quiet(6)), "the high watermark moved");
        assert!(cache.must_mention(&next, &"c", FetchNews { must_say: true, ..quiet(5) }));
        let next = cache.begin((id, 3), vec![], &[], now, || 0).expect("in turn");
        assert!(cache.must_mention(&next, &"c", quiet(5)), "well again after an error");
    }

    #[test]
    fn partitions_with_records_go_move_to_end() {
        let mut cache = cache(1);
        let id = open(&mut cache, 5, &["a", "b", "c"], 0);
        let now = Duration::ZERO;
        let first = cache.begin((id, 1), vec![], &[], now, || 0).expect("in turn");
        cache.must_mention(&first, &"a", FetchNews { has_records: true, ..quiet(5) });
        let second = cache.begin((id, 2), vec![], &[], now, || 0).expect("in turn");
        assert_eq!(second.partitions.iter().map(|(key, _)| *key).collect::<Vec<_>>(), ["b", "c", "a"]);
    }

    #[test]
    fn turns_are_checked_and_sessions_close() {
        let mut cache = cache(1);
        let id = open(&mut cache, 5, &["a"], 0);
        let now = Duration::ZERO;
        assert_eq!(cache.begin((id, 2), vec![], &[], now, || 0), Err(ReplicaError::InvalidFetchSessionEpoch));
        assert_eq!(cache.begin((id + 1, 1), vec![], &[], now, || 0), Err(ReplicaError::FetchSessionNotFound));
        let closing = cache.begin((id, FINAL_EPOCH), vec![("a", fetch(1))], &[], now, || 0).expect("sessionless");
        assert_eq!((closing.session_id, closing.partitions.len(), cache.len()), (0, 1, 0));

        let id = open(&mut cache, 6, &["a"], 0);
        let emptied = cache.begin((id, 1), vec![], &["a"], now, || 0).expect("in turn");
        assert_eq!((emptied.session_id, cache.is_empty()), (0, true));
    }

    #[test]
    fn the_cache_is_bounded_and_evicts_the_idle_or_the_smaller() {
        let mut cache = cache(2);
        let a = open(&mut cache, 1, &["a"], 0);
        let b = open(&mut cache, 2, &["a", "b"], 10);
        assert_eq!(open(&mut cache, 3, &["a"], 20), 0, "no smaller session and none idle");
        let c = open(&mut cache, 3, &["a", "b"], 20);
        assert_eq!((c, cache.len()), (3, 2));
        assert!(cache.begin((a, 1), vec![], &[], Duration::from_secs(21), || 0).is_err(), "the smaller one went");
        assert_eq!(open(&mut cache, 4, &["a"], 131), 4, "the idle one went");
        assert!(cache.begin((b, 1), vec![], &[], Duration::from_secs(131), || 0).is_err());
    }
}
