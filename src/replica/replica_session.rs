//! A leader broker's side of one replication stream: which partitions have news for this follower. No I/O, no clock.
//!
//! A follower broker has one session at a time (its fetcher sends one fetch at a time); opening another replaces it. The
//! session remembers the last position that the follower gave for each partition, so an idle partition costs nothing:
//! no entry in a request, none in an answer, no waiter per partition. News come as marks:
//!
//! * **ready**: its log end moved, the follower mentioned it, or its term changed: read it for the next answer, and wake
//!   a parked fetch;
//! * **quiet**: only its high watermark or log start moved: goes along with the next answer, wakes nobody.
//!
//! A partition whose records were sent waits until the follower mentions it again; new records meanwhile need no mark,
//! because mentioning it makes it ready. Request order is checked by the session epoch, so a fetch or a progress message
//! that was overtaken by a newer session is refused.

use super::error::ReplicaError;
use super::message::{FetchPartition, FetchedPartition, ReplicaFetchRequest, SessionTurn};
use rookery_raft::ids::{BrokerEpoch, TopicIdPartition};
use std::collections::{BTreeMap, BTreeSet};

#[derive(Debug, Clone)]
struct Known {
    asked: FetchPartition,
    /// High watermark and log start that the follower was told.
    told: Option<(i64, i64)>,
    /// An answer went out that the follower has to react to before it can be served again.
    answered: bool,
    /// Why this mention did not count when it came: the answer, whatever a later read would find.
    refused: Option<ReplicaError>,
}

/// The leader's memory of one follower broker.
#[derive(Debug)]
pub struct ReplicaSession {
    id: u64,
    broker_epoch: BrokerEpoch,
    /// The epoch of the fetch that is parked, or was answered last.
    epoch: u32,
    known: BTreeMap<TopicIdPartition, Known>,
    ready: BTreeSet<TopicIdPartition>,
    quiet: BTreeSet<TopicIdPartition>,
    /// The fetch is answered as soon as it can be, news or not.
    called_back: bool,
}

impl ReplicaSession {
    /// Opens a session with the first fetch of it; `id` is not 0.
    pub fn open(id: u64, request: &ReplicaFetchRequest) -> Self {
        let mut session = Self {
            id,
            broker_epoch: request.broker_epoch,
            epoch: 0,
            known: BTreeMap::new(),
            ready: BTreeSet::new(),
            quiet: BTreeSet::new(),
            // Until its first answer the follower does not know the session's name, and could say nothing meanwhile.
            called_back: true,
        };
        session.absorb(request);
        session
    }

    /// Its id.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// The next fetch of this session.
    pub fn resume(&mut self, request: &ReplicaFetchRequest) -> Result<(), ReplicaError> {
        if request.session.id != self.id || request.broker_epoch != self.broker_epoch {
            return Err(ReplicaError::FetchSessionNotFound);
        }
        if request.session.epoch != self.epoch.wrapping_add(1).max(1) {
            return Err(ReplicaError::InvalidFetchSessionEpoch);
        }
        self.epoch = request.session.epoch;
        self.called_back = false;
        self.absorb(request);
        Ok(())
    }

    fn absorb(&mut self, request: &ReplicaFetchRequest) {
        for id in &request.forgotten {
            self.known.remove(id);
            self.ready.remove(id);
            self.quiet.remove(id);
        }
        for asked in &request.changed {
            let told = self.known.get(&asked.id).filter(|known| known.asked.leader_epoch == asked.leader_epoch);
            let told = told.and_then(|known| known.told);
            self.known.insert(asked.id, Known { asked: *asked, told, answered: false, refused: None });
            self.ready.insert(asked.id);
        }
    }

    /// Whether a progress message belongs to the fetch that is parked here.
    pub fn is_current(&self, turn: SessionTurn, broker_epoch: BrokerEpoch) -> bool {
        turn == (SessionTurn { id: self.id, epoch: self.epoch }) && broker_epoch == self.broker_epoch
    }

    /// The follower has more to ask, and waits for this fetch.
    pub fn call_back(&mut self) {
        self.called_back = true;
    }

    /// Whether the fetch is answered even if there is nothing to say.
    pub fn is_called_back(&self) -> bool {
        self.called_back
    }

    /// A follower has synced more of a partition: what is read again meanwhile must not say less.
    pub fn progressed(&mut self, id: TopicIdPartition, synced: i64) {
        if let Some(known) = self.known.get_mut(&id) {
            known.asked.synced = known.asked.synced.max(synced.min(known.asked.wanted));
        }
    }

    /// What the follower has just said of a partition does not count. It has to hear that, so that it says it again.
    pub fn refuse(&mut self, id: TopicIdPartition, error: ReplicaError) {
        if let Some(known) = self.known.get_mut(&id) {
            known.refused = Some(error);
        }
    }

    /// Why the follower's last mention of a partition did not count, if it did not.
    pub fn refusal(&self, id: TopicIdPartition) -> Option<ReplicaError> {
        self.known.get(&id).and_then(|known| known.refused.clone())
    }

    /// The log end moved, or its leadership changed. `true`: a parked fetch should look.
    pub fn mark_ready(&mut self, id: TopicIdPartition) -> bool {
        self.known.get(&id).is_some_and(|known| !known.answered) && self.ready.insert(id)
    }

    /// The high watermark or the log start moved.
    pub fn mark_quiet(&mut self, id: TopicIdPartition) {
        if self.known.contains_key(&id) {
            self.quiet.insert(id);
        }
    }

    /// Takes the partitions to read now.
    pub fn take_ready(&mut self) -> Vec<FetchPartition> {
        let ready = std::mem::take(&mut self.ready);
        ready.iter().filter_map(|id| self.known.get(id)).filter(|known| !known.answered).map(|k| k.asked).collect()
    }

    /// Gives partitions back that there was no room for; they are read for the next answer.
    pub fn put_back(&mut self, ids: impl IntoIterator<Item = TopicIdPartition>) {
        self.ready.extend(ids.into_iter().filter(|id| self.known.contains_key(id)));
    }

    /// Takes the partitions that are worth a line only when an answer goes out anyway.
    pub fn take_quiet(&mut self) -> Vec<FetchPartition> {
        let quiet = std::mem::take(&mut self.quiet);
        quiet.iter().filter_map(|id| self.known.get(id)).filter(|known| !known.answered).map(|k| k.asked).collect()
    }

    /// Whether this read is worth an answer by itself. A changed high watermark or log start alone is not: it is kept as
    /// a quiet mark.
    pub fn is_news(&mut self, read: &FetchedPartition) -> bool {
        let Some(known) = self.known.get(&read.id) else { return false };
        let speaks = read.error != 0 || read.diverging.is_some() || !read.batches.is_empty();
        if !speaks && known.told != Some((read.high_watermark, read.log_start)) {
            self.quiet.insert(read.id);
        }
        speaks
    }

    /// This read is in the answer that goes out.
    pub fn told(&mut self, read: &FetchedPartition) {
        if let Some(known) = self.known.get_mut(&read.id) {
            known.told = Some((read.high_watermark, read.log_start));
            known.answered = read.error != 0 || read.diverging.is_some() || !read.batches.is_empty();
        }
    }

    /// Whether the follower knows this high watermark and log start already.
    pub fn knows(&self, read: &FetchedPartition) -> bool {
        self.known.get(&read.id).is_some_and(|known| known.told == Some((read.high_watermark, read.log_start)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use rookery_raft::ids::{ClusterId, LeaderEpoch, NodeId, TopicId};

    const A: TopicIdPartition = TopicIdPartition { topic_id: TopicId::NONE, partition: 0 };
    const B: TopicIdPartition = TopicIdPartition { topic_id: TopicId::NONE, partition: 1 };

    fn request(epoch: u32, changed: &[(TopicIdPartition, i64)]) -> ReplicaFetchRequest {
        let changed = changed.iter().map(|(id, wanted)| FetchPartition {
            id: *id,
            leader_epoch: LeaderEpoch(0),
            wanted: *wanted,
            synced: *wanted,
            last_fetched_epoch: LeaderEpoch(0),
            log_start: 0,
            max_bytes: 100,
        });
        ReplicaFetchRequest {
            cluster: ClusterId::NONE,
            broker: NodeId(2),
            broker_epoch: BrokerEpoch(5),
            session: SessionTurn { id: if epoch == 0 { 0 } else { 9 }, epoch },
            max_wait_ms: 500,
            max_bytes: 1000,
            changed: changed.collect(),
            forgotten: vec![],
        }
    }

    fn read(id: TopicIdPartition, records: &'static [u8], high_watermark: i64) -> FetchedPartition {
        let batches = if records.is_empty() { vec![] } else { vec![Bytes::from_static(records)] };
        FetchedPartition {
            id,
            error: 0,
            leader_epoch: LeaderEpoch(0),
            high_watermark,
            log_start: 0,
            diverging: None,
            batches,
        }
    }

    fn ids(list: Vec<FetchPartition>) -> Vec<TopicIdPartition> {
        list.into_iter().map(|p| p.id).collect()
    }

    #[test]
    fn idle_partitions_are_read_once_and_then_cost_nothing() {
        let mut session = ReplicaSession::open(9, &request(0, &[(A, 0), (B, 0)]));
        assert_eq!(ids(session.take_ready()), [A, B]);
        for id in [A, B] {
            let nothing = read(id, b"", 0);
            assert!(!session.is_news(&nothing));
            session.told(&nothing);
        }
        session.resume(&request(1, &[])).expect("in turn");
        assert!(session.take_ready().is_empty());
        assert!(session.mark_ready(B), "an append wakes the parked fetch");
        assert!(!session.mark_ready(B), "once");
        assert_eq!(ids(session.take_ready()), [B]);
    }

    #[test]
    fn what_was_sent_waits_for_the_follower() {
        let mut session = ReplicaSession::open(9, &request(0, &[(A, 0)]));
        session.take_ready();
        let sent = read(A, b"records", 0);
        assert!(session.is_news(&sent));
        session.told(&sent);
        assert!(!session.mark_ready(A), "the follower must say its new position first");
        session.resume(&request(1, &[(A, 3)])).expect("in turn");
        assert_eq!(session.take_ready()[0].wanted, 3);
    }

    #[test]
    fn a_moved_high_watermark_travels_with_the_next_answer() {
        let mut session = ReplicaSession::open(9, &request(0, &[(A, 3)]));
        session.take_ready();
        session.told(&read(A, b"", 0));
        session.mark_quiet(A);
        assert!(session.take_ready().is_empty());
        assert_eq!(ids(session.take_quiet()), [A]);
        assert!(!session.knows(&read(A, b"", 3)));
        session.told(&read(A, b"", 3));
        assert!(session.knows(&read(A, b"", 3)));
    }

    #[test]
    fn turns_are_checked() {
        let mut session = ReplicaSession::open(9, &request(0, &[(A, 0)]));
        assert_eq!(session.resume(&request(2, &[])), Err(ReplicaError::InvalidFetchSessionEpoch));
        session.resume(&request(1, &[])).expect("in turn");
        assert!(session.is_current(SessionTurn { id: 9, epoch: 1 }, BrokerEpoch(5)));
        assert!(!session.is_current(SessionTurn { id: 9, epoch: 0 }, BrokerEpoch(5)), "overtaken");
        let mut other = request(2, &[]);
        other.session.id = 8;
        assert_eq!(session.resume(&other), Err(ReplicaError::FetchSessionNotFound));
    }
}
