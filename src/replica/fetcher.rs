//! A follower broker's side of one replication stream: what to ask of one source broker next. No I/O, no clock.
//!
//! One fetcher per source broker carries every partition that this broker follows there. At most one fetch is in flight.
//!
//! | partition is | meaning | leaves by |
//! |---|---|---|
//! | *changed* | the next request mentions it: it is new, or its position moved | the request is built |
//! | *settled* | the leader's session knows its position; it costs nothing | records, a divergence or an error arrive |
//! | *busy* | an answer is being applied (append, truncation, restart) | [`Fetcher::moved`] |
//! | *resting* | its leader refused, or the log could not take the answer: then longer each time ([`Fetcher::stuck`]) | its pause ends, or a newer registration |
//!
//! The position has two offsets. `wanted` is the log end, synced or not; `synced` is on disk. The next fetch is sent as
//! soon as records are queued for the disk, so the leader's disk, the network and this disk work side by side; when the
//! commit completes while that fetch is parked at the leader, a progress message carries the new `synced`. One without
//! positions asks for the answer of the parked fetch: there is a partition to mention (a new term, a rest that is over), and
//! it must not wait until that fetch's time is up.
//!
//! Invariants: a position belongs to one leader epoch, and news of another epoch are dropped; a lost connection or a
//! refused session loses the whole session, and the next request lists everything again.

use super::error::{CORRUPT_MESSAGE, KAFKA_STORAGE_ERROR, OFFSET_OUT_OF_RANGE, ReplicaError};
use super::message::{
    DivergingEpoch, FetchPartition, FetchedPartition, ReplicaFetchRequest, ReplicaFetchResponse, ReplicaProgress,
    SessionTurn,
};
use crate::storage::OffsetAndEpoch;
use bytes::Bytes;
use rookery_raft::ids::{BrokerEpoch, ClusterId, LeaderEpoch, NodeId, TopicIdPartition};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// Bounds and pauses of a fetcher.
#[derive(Debug, Clone)]
pub struct FetcherConfig {
    /// How long the leader may park a fetch (`replica.fetch.wait.max.ms`).
    pub max_wait: Duration,
    /// For one answer (`replica.fetch.response.max.bytes`).
    pub max_bytes: u32,
    /// For one partition in one answer (`replica.fetch.max.bytes`).
    pub partition_max_bytes: u32,
    /// The pause after a failure (`replica.fetch.backoff.ms`); doubled up to `backoff_max` while the source is away.
    pub backoff: Duration,
    /// The longest pause.
    pub backoff_max: Duration,
}

impl Default for FetcherConfig {
    fn default() -> Self {
        Self {
            max_wait: Duration::from_millis(500),
            max_bytes: 10 << 20,
            partition_max_bytes: 1 << 20,
            backoff: Duration::from_millis(20),
            backoff_max: Duration::from_secs(1),
        }
    }
}

/// Where a follower's log stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FetchPosition {
    /// The log end.
    pub wanted: i64,
    /// The synced end.
    pub synced: i64,
    /// The epoch of the last batch, `NONE` for an empty log.
    pub last_epoch: LeaderEpoch,
    /// The log start.
    pub log_start: i64,
}

impl FetchPosition {
    /// The log's end.
    pub fn end(&self) -> OffsetAndEpoch {
        OffsetAndEpoch { offset: self.wanted, epoch: self.last_epoch }
    }
}

/// What the owner of the logs must do with an answer; each ends in [`Fetcher::moved`] or [`Fetcher::stuck`]. It is an answer for a log that ends
/// where it was `asked` for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FetchEvent {
    /// Append these batches (there may be none), then take over the leader's high watermark and log start.
    Records {
        /// Which partition.
        id: TopicIdPartition,
        /// The term that was followed.
        leader_epoch: LeaderEpoch,
        /// The end of the log that was asked for.
        asked: OffsetAndEpoch,
        /// Whole batches, from there on.
        batches: Vec<Bytes>,
        /// The leader's high watermark.
        high_watermark: i64,
        /// The leader's log start.
        log_start: i64,
    },
    /// The log left the leader's: truncate (KIP-101, KIP-279, KIP-595).
    Diverged {
        /// Which partition.
        id: TopicIdPartition,
        /// The term that was followed.
        leader_epoch: LeaderEpoch,
        /// The end of the log that was asked for.
        asked: OffsetAndEpoch,
        /// Where, as the leader sees it.
        diverging: DivergingEpoch,
    },
    /// The wanted offset is outside the leader's log; the answer says where that starts.
    OutOfRange {
        /// Which partition.
        id: TopicIdPartition,
        /// The term that was followed.
        leader_epoch: LeaderEpoch,
        /// The end of the log that was asked for.
        asked: OffsetAndEpoch,
        /// The leader's log start.
        log_start: i64,
    },
}

#[derive(Debug, Clone)]
struct FetchState {
    leader_epoch: LeaderEpoch,
    position: FetchPosition,
    /// The leader's session knows this partition.
    in_session: bool,
    /// The log's end that the leader was told last. An answer to another one is not applied: the log may have been
    /// reopened without its unsynced tail since, and records behind that tail would leave a hole.
    told: Option<OffsetAndEpoch>,
    busy: bool,
    /// What was synced while an answer was being applied, also one that brings no records: [`Fetcher::moved`] may tell a position
    /// that was read before. `None` while nothing is applied.
    synced_meanwhile: Option<i64>,
    /// While the log cannot take the answers.
    stuck: Option<Stuck>,
}

#[derive(Debug, Clone, Copy)]
struct Stuck {
    since: Duration,
    /// The last one.
    pause: Duration,
}

/// The follower's side of one replication stream.
#[derive(Debug)]
pub struct Fetcher {
    cluster: ClusterId,
    broker: NodeId,
    broker_epoch: BrokerEpoch,
    config: FetcherConfig,
    session: SessionTurn,
    partitions: BTreeMap<TopicIdPartition, FetchState>,
    changed: BTreeSet<TopicIdPartition>,
    resting: BTreeMap<TopicIdPartition, Duration>,
    forgotten: BTreeSet<TopicIdPartition>,
    unsaid: BTreeSet<TopicIdPartition>,
    in_flight: Option<SessionTurn>,
    /// The fetch whose answer was asked for.
    called_back: Option<SessionTurn>,
    pause: Duration,
    paused_until: Option<Duration>,
}

impl Fetcher {
    /// A fetcher of broker `broker`, in its present incarnation.
    pub fn new(cluster: ClusterId, broker: NodeId, broker_epoch: BrokerEpoch, config: FetcherConfig) -> Self {
        Self {
            cluster,
            broker,
            broker_epoch,
            pause: config.backoff,
            config,
            session: SessionTurn::default(),
            partitions: BTreeMap::new(),
            changed: BTreeSet::new(),
            resting: BTreeMap::new(),
            forgotten: BTreeSet::new(),
            unsaid: BTreeSet::new(),
            in_flight: None,
            called_back: None,
            paused_until: None,
        }
    }

    /// Follows a partition in `leader_epoch` from now on; replaces an older epoch of it.
    pub fn start(&mut self, id: TopicIdPartition, leader_epoch: LeaderEpoch, position: FetchPosition) {
        let in_session = self.partitions.get(&id).is_some_and(|state| state.in_session) || self.forgotten.remove(&id);
        self.partitions.insert(
            id,
            FetchState {
                leader_epoch,
                position,
                in_session,
                told: None,
                busy: false,
                synced_meanwhile: None,
                stuck: None,
            },
        );
        self.resting.remove(&id);
        self.changed.insert(id);
    }

    /// Follows it no more.
    pub fn stop(&mut self, id: TopicIdPartition) {
        if self.partitions.remove(&id).is_some_and(|state| state.in_session) {
            self.forgotten.insert(id);
        }
        self.changed.remove(&id);
        self.resting.remove(&id);
        self.unsaid.remove(&id);
    }

    /// Whether a partition is followed here.
    #[cfg(test)]
    pub(crate) fn follows(&self, id: TopicIdPartition) -> bool {
        self.partitions.contains_key(&id)
    }

    /// Whether nothing is followed here.
    pub fn is_empty(&self) -> bool {
        self.partitions.is_empty()
    }

    /// How many partitions are followed here.
    pub fn len(&self) -> usize {
        self.partitions.len()
    }

    /// The log has been brought to `position` in `leader_epoch`: ask on from there. Whether it had been stuck before.
    pub fn moved(&mut self, id: TopicIdPartition, leader_epoch: LeaderEpoch, position: FetchPosition) -> bool {
        self.stands_at(id, leader_epoch, position);
        self.state(id, leader_epoch).is_some_and(|state| state.stuck.take().is_some())
    }

    /// The log could not take an answer, and stands at `position` now, if it can say so: ask on from there after a pause, which is longer each
    /// time until it moves. For how long that has gone on: no time if it is new; `None` if another term is followed.
    pub fn stuck(
        &mut self,
        id: TopicIdPartition,
        leader_epoch: LeaderEpoch,
        position: Option<FetchPosition>,
        now: Duration,
    ) -> Option<Duration> {
        if let Some(position) = position {
            self.stands_at(id, leader_epoch, position);
        }
        let (first, longest) = (self.config.backoff, self.config.backoff_max);
        let state = self.state(id, leader_epoch)?;
        let stuck = match state.stuck {
            None => Stuck { since: now, pause: first },
            Some(Stuck { since, pause }) => Stuck { since, pause: (pause * 2).min(longest) },
        };
        state.stuck = Some(stuck);
        self.rest_for(id, leader_epoch, now + stuck.pause);
        Some(now.saturating_sub(stuck.since))
    }

    fn stands_at(&mut self, id: TopicIdPartition, leader_epoch: LeaderEpoch, position: FetchPosition) {
        if let Some(state) = self.state(id, leader_epoch) {
            let synced = position.synced.max(state.synced_meanwhile.take().unwrap_or(-1));
            let position = FetchPosition { synced: synced.min(position.wanted), ..position };
            let to_say = state.busy || !state.in_session || position != state.position;
            state.busy = false;
            state.position = position;
            if to_say {
                self.changed.insert(id);
            }
        }
    }

    /// Records that were queued are on disk now, up to `synced`.
    pub fn synced(&mut self, id: TopicIdPartition, leader_epoch: LeaderEpoch, synced: i64) {
        let in_flight = self.in_flight.is_some();
        if let Some(state) = self.state(id, leader_epoch)
            && synced > state.position.synced
        {
            state.synced_meanwhile = state.synced_meanwhile.map(|meanwhile| meanwhile.max(synced));
            state.position.synced = synced.min(state.position.wanted);
            let said_by_request = !in_flight || state.busy || !state.in_session;
            if said_by_request {
                self.changed.insert(id);
            } else {
                self.unsaid.insert(id);
            }
        }
    }

    /// Leaves the partition alone for a pause, then asks again.
    fn rest(&mut self, id: TopicIdPartition, leader_epoch: LeaderEpoch, now: Duration) {
        self.rest_for(id, leader_epoch, now + self.config.backoff);
    }

    fn rest_for(&mut self, id: TopicIdPartition, leader_epoch: LeaderEpoch, until: Duration) {
        if let Some(state) = self.state(id, leader_epoch) {
            state.busy = false;
            self.changed.remove(&id);
            self.resting.insert(id, until);
        }
    }

    /// The next fetch, if one is due: none in flight, no pause, something followed.
    pub fn next_request(&mut self, now: Duration) -> Option<ReplicaFetchRequest> {
        if self.in_flight.is_some() || self.paused_until.is_some_and(|until| now < until) {
            return None;
        }
        self.paused_until = None;
        while let Some((id, _)) = self.resting.iter().find(|(_, until)| **until <= now).map(|(id, at)| (*id, *at)) {
            self.resting.remove(&id);
            self.changed.insert(id);
        }
        let nothing_asked = self.changed.is_empty() && !self.partitions.values().any(|state| state.in_session);
        if self.partitions.is_empty() || nothing_asked {
            return None;
        }
        let changed: Vec<_> = std::mem::take(&mut self.changed)
            .into_iter()
            .filter_map(|id| {
                self.unsaid.remove(&id);
                let state = self.partitions.get_mut(&id)?;
                state.in_session = true;
                state.told = Some(state.position.end());
                Some(FetchPartition {
                    id,
                    leader_epoch: state.leader_epoch,
                    wanted: state.position.wanted,
                    synced: state.position.synced,
                    last_fetched_epoch: state.position.last_epoch,
                    log_start: state.position.log_start,
                    max_bytes: self.config.partition_max_bytes,
                })
            })
            .collect();
        self.in_flight = Some(self.session);
        Some(ReplicaFetchRequest {
            cluster: self.cluster,
            broker: self.broker,
            broker_epoch: self.broker_epoch,
            session: self.session,
            max_wait_ms: u32::try_from(self.config.max_wait.as_millis()).unwrap_or(u32::MAX),
            max_bytes: self.config.max_bytes,
            changed,
            forgotten: std::mem::take(&mut self.forgotten).into_iter().collect(),
        })
    }

    /// What was synced since the fetch that is parked at the leader, if there is such a fetch and such news; else a message
    /// without positions, once for a fetch, if a partition waits to be mentioned.
    pub fn next_progress(&mut self, now: Duration) -> Option<ReplicaProgress> {
        // The first fetch of a session is not parked, and has no name yet.
        let session = self.in_flight.filter(|turn| turn.id != 0)?;
        if self.unsaid.is_empty() {
            let waits = !self.changed.is_empty() || self.resting.values().any(|until| *until <= now);
            if !waits || self.called_back == Some(session) {
                return None;
            }
            self.called_back = Some(session);
        }
        let synced = std::mem::take(&mut self.unsaid)
            .into_iter()
            .filter_map(|id| self.partitions.get(&id).map(|state| (id, state.leader_epoch, state.position.synced)))
            .collect();
        Some(ReplicaProgress { broker: self.broker, broker_epoch: self.broker_epoch, session, synced })
    }

    /// A progress message did not count: its fetch had not arrived yet, another one had overtaken it, or it was lost.
    /// Says it again, with the fetch in flight now or, if there is none, in the next one.
    pub fn progress_lost(&mut self, progress: &ReplicaProgress) {
        if self.in_flight == Some(progress.session) && progress.synced.is_empty() {
            self.called_back = None;
        }
        let in_flight = self.in_flight.is_some();
        for (id, ..) in &progress.synced {
            match self.partitions.get(id) {
                Some(state) if in_flight && state.in_session => self.unsaid.insert(*id),
                Some(state) if !state.busy => self.changed.insert(*id),
                // What is busy is mentioned anyway.
                _ => false,
            };
        }
    }

    /// The answer to the fetch in flight.
    pub fn on_response(&mut self, response: ReplicaFetchResponse, now: Duration) -> Vec<FetchEvent> {
        let Some(turn) = self.in_flight.take() else { return Vec::new() };
        if response.error != 0 {
            self.lose_session();
            // A session that is unknown there is opened anew at once, anything else after a pause.
            let only_session = response.error == ReplicaError::FetchSessionNotFound.kafka_code()
                || response.error == ReplicaError::InvalidFetchSessionEpoch.kafka_code();
            if !(only_session && turn.epoch > 0) {
                self.pause(now);
            }
            return Vec::new();
        }
        self.pause = self.config.backoff;
        self.session = SessionTurn { id: response.session_id, epoch: turn.epoch.wrapping_add(1).max(1) };
        // What was synced while no session had a name is said by the next request.
        let unsaid = std::mem::take(&mut self.unsaid);
        self.changed.extend(unsaid);
        response.partitions.into_iter().filter_map(|partition| self.on_partition(partition, now)).collect()
    }

    fn on_partition(&mut self, partition: FetchedPartition, now: Duration) -> Option<FetchEvent> {
        let FetchedPartition { id, leader_epoch: answering, high_watermark, log_start, .. } = partition;
        let state = self.partitions.get_mut(&id)?;
        let leader_epoch = state.leader_epoch;
        let asked = state.position.end();
        if state.told != Some(asked) {
            // Started anew since it was asked for: that is in `changed` already.
            return None;
        }
        if partition.error == OFFSET_OUT_OF_RANGE && answering == leader_epoch {
            state.busy = true;
            state.synced_meanwhile = Some(-1);
            return Some(FetchEvent::OutOfRange { id, leader_epoch, asked, log_start });
        }
        if partition.error == KAFKA_STORAGE_ERROR || partition.error == CORRUPT_MESSAGE {
            // It has to be mended there.
            self.rest_for(id, leader_epoch, now + self.config.backoff_max);
            return None;
        }
        if partition.error != 0 {
            self.rest(id, leader_epoch, now);
            return None;
        }
        if answering != leader_epoch {
            // An answer from before the last `start`: that one is in `changed` already.
            return None;
        }
        // The leader waits until the partition is mentioned again, unless it had only a high watermark to tell.
        state.busy = partition.diverging.is_some() || !partition.batches.is_empty();
        state.synced_meanwhile = Some(-1);
        Some(match partition.diverging {
            Some(diverging) => FetchEvent::Diverged { id, leader_epoch, asked, diverging },
            None => {
                FetchEvent::Records { id, leader_epoch, asked, batches: partition.batches, high_watermark, log_start }
            }
        })
    }

    /// The fetch in flight will not be answered: the connection broke or it took too long.
    pub fn on_failure(&mut self, now: Duration) {
        self.in_flight = None;
        self.lose_session();
        self.pause(now);
    }

    /// When [`next_request`](Self::next_request) or [`next_progress`](Self::next_progress) has something to do again by the
    /// passing of time alone.
    pub fn next_due(&self) -> Option<Duration> {
        let rested = || self.resting.values().min().copied();
        match self.in_flight {
            _ if self.partitions.is_empty() => None,
            None => self.paused_until.or_else(rested),
            Some(turn) if turn.id == 0 || self.called_back == Some(turn) => None,
            Some(_) => rested(),
        }
    }

    fn pause(&mut self, now: Duration) {
        self.paused_until = Some(now + self.pause);
        self.pause = (self.pause * 2).min(self.config.backoff_max);
    }

    fn lose_session(&mut self) {
        self.session = SessionTurn::default();
        self.forgotten.clear();
        self.unsaid.clear();
        for (id, state) in &mut self.partitions {
            state.in_session = false;
            state.told = None;
            if !state.busy && !self.resting.contains_key(id) {
                self.changed.insert(*id);
            }
        }
    }

    fn state(&mut self, id: TopicIdPartition, leader_epoch: LeaderEpoch) -> Option<&mut FetchState> {
        self.partitions.get_mut(&id).filter(|state| state.leader_epoch == leader_epoch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rookery_raft::ids::TopicId;

    const A: TopicIdPartition = TopicIdPartition { topic_id: TopicId::NONE, partition: 0 };
    const B: TopicIdPartition = TopicIdPartition { topic_id: TopicId::NONE, partition: 1 };
    const EPOCH: LeaderEpoch = LeaderEpoch(3);

    fn at(wanted: i64, synced: i64) -> FetchPosition {
        FetchPosition { wanted, synced, last_epoch: LeaderEpoch(2), log_start: 0 }
    }

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn fetcher() -> Fetcher {
        let mut fetcher = Fetcher::new(ClusterId::NONE, NodeId(2), BrokerEpoch(5), FetcherConfig::default());
        fetcher.start(A, EPOCH, at(10, 10));
        fetcher.start(B, EPOCH, at(0, 0));
        fetcher
    }

    fn answer(partitions: Vec<FetchedPartition>) -> ReplicaFetchResponse {
        ReplicaFetchResponse { error: 0, session_id: 77, partitions }
    }

    fn records(id: TopicIdPartition) -> FetchedPartition {
        FetchedPartition {
            id,
            error: 0,
            leader_epoch: EPOCH,
            high_watermark: 9,
            log_start: 0,
            diverging: None,
            batches: vec![Bytes::from_static(b"batch")],
        }
    }

    #[test]
    fn settled_partitions_are_not_mentioned_again() {
        let mut fetcher = fetcher();
        let first = fetcher.next_request(ms(0)).expect("due");
        assert_eq!((first.session, first.changed.len()), (SessionTurn { id: 0, epoch: 0 }, 2));
        assert_eq!(fetcher.next_request(ms(0)), None, "one in flight");
        let events = fetcher.on_response(answer(vec![records(A)]), ms(1));
        assert!(matches!(&events[..], [FetchEvent::Records { id: A, high_watermark: 9, .. }]));
        fetcher.moved(A, EPOCH, at(15, 10));
        let second = fetcher.next_request(ms(1)).expect("due");
        assert_eq!(second.session, SessionTurn { id: 77, epoch: 1 });
        assert_eq!(second.changed.iter().map(|p| (p.id, p.wanted, p.synced)).collect::<Vec<_>>(), [(A, 15, 10)]);
        fetcher.on_response(answer(vec![]), ms(500));
        assert!(fetcher.next_request(ms(500)).expect("a poll").changed.is_empty());
    }

    #[test]
    fn progress_is_said_while_a_fetch_is_parked_and_by_the_fetch_otherwise() {
        let mut fetcher = fetcher();
        fetcher.next_request(ms(0));
        fetcher.on_response(answer(vec![records(A)]), ms(1));
        fetcher.moved(A, EPOCH, at(15, 10));
        assert_eq!(fetcher.next_progress(ms(1)), None, "nothing is in flight");
        fetcher.next_request(ms(1));
        fetcher.synced(A, EPOCH, 15);
        let progress = fetcher.next_progress(ms(1)).expect("synced while parked");
        assert_eq!(progress.session, SessionTurn { id: 77, epoch: 1 });
        assert_eq!(progress.synced, [(A, EPOCH, 15)]);
        assert_eq!(fetcher.next_progress(ms(1)), None);
        fetcher.synced(A, LeaderEpoch(2), 99);
        assert_eq!(fetcher.next_progress(ms(1)), None, "a commit of an older epoch");
    }

    /// It waited for the leader's `max_wait` once, and with it every acks=all append of that partition.
    #[test]
    fn progress_that_another_fetch_overtook_is_said_again_at_once() {
        let mut fetcher = fetcher();
        fetcher.next_request(ms(0));
        fetcher.on_response(answer(vec![records(A)]), ms(1));
        fetcher.moved(A, EPOCH, at(15, 10));
        fetcher.next_request(ms(1));
        fetcher.synced(A, EPOCH, 15);
        let overtaken = fetcher.next_progress(ms(1)).expect("synced while parked");
        fetcher.on_response(answer(vec![records(B)]), ms(2));
        fetcher.moved(B, EPOCH, at(5, 0));
        fetcher.next_request(ms(2));
        fetcher.progress_lost(&overtaken);
        let again = fetcher.next_progress(ms(2)).expect("said again");
        assert_eq!((again.session.epoch, &again.synced[..]), (2, &[(A, EPOCH, 15)][..]));
        // With nothing in flight the next request says it.
        fetcher.on_response(answer(vec![]), ms(3));
        fetcher.progress_lost(&again);
        assert_eq!(fetcher.next_request(ms(3)).expect("due").changed[0].synced, 15);
    }

    #[test]
    fn records_on_disk_before_they_were_said_to_be_queued_are_synced() {
        let mut fetcher = fetcher();
        fetcher.next_request(ms(0));
        fetcher.on_response(answer(vec![records(A)]), ms(1));
        // The commit thread is faster than the task that queued the records: nobody will speak of this commit again.
        fetcher.synced(A, EPOCH, 15);
        fetcher.moved(A, EPOCH, at(15, 10));
        assert_eq!(fetcher.next_request(ms(1)).expect("due").changed[0].synced, 15);
        // What was synced before a truncation counts up to where the log ends now.
        fetcher.on_response(answer(vec![records(A)]), ms(2));
        fetcher.synced(A, EPOCH, 20);
        fetcher.moved(A, EPOCH, at(12, 12));
        assert_eq!(fetcher.next_request(ms(2)).expect("due").changed[0].synced, 12);
    }

    #[test]
    fn a_commit_during_an_answer_without_records_was_forgotten() {
        let mut fetcher = fetcher();
        fetcher.next_request(ms(0));
        fetcher.on_response(answer(vec![records(A)]), ms(1));
        fetcher.moved(A, EPOCH, at(15, 10));
        fetcher.next_request(ms(1));
        // The task has read its position (15, 10); the commit comes; then the task tells what it read.
        fetcher.on_response(answer(vec![FetchedPartition { batches: vec![], ..records(A) }]), ms(2));
        fetcher.synced(A, EPOCH, 15);
        fetcher.moved(A, EPOCH, at(15, 10));
        assert_eq!(fetcher.next_request(ms(2)).expect("due").changed[0].synced, 15);
    }

    #[test]
    fn a_partition_that_is_new_does_not_wait_for_the_parked_fetch() {
        let mut fetcher = fetcher();
        fetcher.next_request(ms(0));
        fetcher.on_response(answer(vec![]), ms(1));
        let parked = fetcher.next_request(ms(1)).expect("due");
        assert_eq!(fetcher.next_progress(ms(1)), None, "nothing to mention");
        fetcher.start(A, LeaderEpoch(4), at(10, 10));
        let call = fetcher.next_progress(ms(2)).expect("A has a new term to mention");
        assert_eq!((call.session, call.synced.len()), (parked.session, 0));
        assert_eq!(fetcher.next_progress(ms(2)), None, "once");
        fetcher.progress_lost(&call);
        assert_eq!(fetcher.next_progress(ms(3)), Some(call), "it came before its fetch");
        fetcher.on_response(answer(vec![]), ms(4));
        assert_eq!(fetcher.next_request(ms(4)).expect("due").changed[0].id, A);
    }

    #[test]
    fn a_partition_that_has_rested_does_not_wait_for_the_parked_fetch() {
        let mut fetcher = fetcher();
        fetcher.next_request(ms(0));
        let refused =
            FetchedPartition { error: ReplicaError::NotLeaderOrFollower.kafka_code(), batches: vec![], ..records(B) };
        fetcher.on_response(answer(vec![refused]), ms(1));
        fetcher.next_request(ms(1)).expect("A goes on");
        assert_eq!(fetcher.next_due(), Some(ms(21)));
        assert_eq!(fetcher.next_progress(ms(20)), None);
        assert!(fetcher.next_progress(ms(21)).is_some_and(|call| call.synced.is_empty()));
        assert_eq!(fetcher.next_due(), None, "its answer comes next");
    }

    #[test]
    fn a_lost_connection_loses_the_session_and_pauses_longer_each_time() {
        let mut fetcher = fetcher();
        fetcher.next_request(ms(0));
        fetcher.on_failure(ms(0));
        assert_eq!(fetcher.next_request(ms(19)), None);
        assert_eq!(fetcher.next_due(), Some(ms(20)));
        assert_eq!(fetcher.next_request(ms(20)).expect("due").changed.len(), 2);
        fetcher.on_failure(ms(20));
        assert_eq!(fetcher.next_due(), Some(ms(60)));
    }

    #[test]
    fn an_unknown_session_is_opened_anew_at_once() {
        let mut fetcher = fetcher();
        fetcher.next_request(ms(0));
        fetcher.on_response(answer(vec![]), ms(1));
        fetcher.next_request(ms(1));
        fetcher.on_response(ReplicaFetchResponse::refused(&ReplicaError::FetchSessionNotFound), ms(2));
        let again = fetcher.next_request(ms(2)).expect("at once");
        assert_eq!((again.session, again.changed.len()), (SessionTurn::default(), 2));
    }

    #[test]
    fn a_refused_partition_rests_and_the_others_go_on() {
        let mut fetcher = fetcher();
        fetcher.next_request(ms(0));
        let refused =
            FetchedPartition { error: ReplicaError::UnknownLeaderEpoch.kafka_code(), batches: vec![], ..records(B) };
        assert!(fetcher.on_response(answer(vec![refused]), ms(1)).is_empty());
        assert!(fetcher.next_request(ms(1)).expect("A goes on").changed.is_empty());
        fetcher.on_response(answer(vec![]), ms(30));
        assert_eq!(fetcher.next_request(ms(30)).expect("due").changed[0].id, B);
    }

    #[test]
    fn a_log_that_could_take_nothing_was_asked_for_every_20_ms() {
        let mut fetcher = fetcher();
        fetcher.next_request(ms(0));
        let (mut now, mut pauses) = (ms(1), Vec::new());
        for n in 0..8 {
            assert_eq!(fetcher.on_response(answer(vec![records(A)]), now).len(), 1);
            assert_eq!(fetcher.stuck(A, EPOCH, Some(at(10, 10)), now), Some(now - ms(1)), "since the first time: {n}");
            assert!(fetcher.next_request(now).expect("B goes on").changed.is_empty());
            fetcher.on_response(answer(vec![]), now);
            let due = fetcher.next_due().expect("it is asked again");
            pauses.push((due - now).as_millis());
            now = due;
            assert_eq!(fetcher.next_request(now).expect("due").changed[0].id, A);
        }
        assert_eq!(pauses, [20, 40, 80, 160, 320, 640, 1000, 1000]);
        fetcher.on_response(answer(vec![records(A)]), now);
        assert!(fetcher.moved(A, EPOCH, at(15, 10)), "it is over");
        fetcher.next_request(now);
        fetcher.on_response(answer(vec![records(A)]), now);
        assert!(!fetcher.moved(A, EPOCH, at(20, 10)), "also told once");
        assert_eq!(fetcher.stuck(A, EPOCH, None, now), Some(ms(0)), "new");
        assert_eq!(fetcher.next_due(), Some(now + ms(20)), "from the beginning");
    }

    #[test]
    fn answers_of_another_term_are_dropped() {
        let mut fetcher = fetcher();
        fetcher.next_request(ms(0));
        fetcher.start(A, LeaderEpoch(4), at(10, 10));
        assert!(fetcher.on_response(answer(vec![records(A)]), ms(1)).is_empty());
        assert_eq!(fetcher.next_request(ms(1)).expect("due").changed[0].leader_epoch, LeaderEpoch(4));
        // The same term again, after the log was reopened without its tail.
        fetcher.start(A, LeaderEpoch(4), at(8, 8));
        let late = FetchedPartition { leader_epoch: LeaderEpoch(4), ..records(A) };
        assert!(fetcher.on_response(answer(vec![late]), ms(1)).is_empty(), "it continues a tail that is gone");
        assert_eq!(fetcher.next_request(ms(1)).expect("due").changed[0].wanted, 8);
        fetcher.stop(A);
        fetcher.on_response(answer(vec![]), ms(2));
        assert_eq!(fetcher.next_request(ms(2)).expect("B is left").forgotten, [A]);
    }
}
