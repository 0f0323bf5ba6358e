//! Answers the fetches of follower brokers: sessions, long poll, progress.
//!
//! A fetch is answered at once when it opens a session, or brings or finds news: records, a divergence, an error. Otherwise it is
//! parked until an append to one of its partitions, until the follower calls it back, or its time is up. Appends wake it through marks in its session, once for
//! all of them; nothing is registered per partition. The sessions map is locked for look-ups only.

use super::error::ReplicaError;
use super::message::{FetchPartition, FetchedPartition, ReplicaFetchRequest, ReplicaFetchResponse, ReplicaProgress};
use super::partition::{Partition, ReplicaContext};
use super::replica_session::ReplicaSession;
use crate::storage::{self, ReadLimit};
use parking_lot::Mutex;
use rookery_raft::ids::{BrokerEpoch, ClusterId, LeaderEpoch, NodeId, TopicIdPartition};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::Notify;

/// Where the replicas of this broker are found.
pub trait Replicas: Send + Sync {
    /// The replica of a partition, if this broker has one.
    fn replica(&self, id: TopicIdPartition) -> Option<Arc<Partition>>;
}

/// One follower broker's session with this broker.
pub struct SessionSlot {
    broker: NodeId,
    broker_epoch: BrokerEpoch,
    /// Held while a fetch or a progress message is taken in, before every other lock: a progress message counts up to what its
    /// fetch has proved to match, so it must not come between that fetch's turn and its positions.
    taking_in: Mutex<()>,
    session: Mutex<ReplicaSession>,
    wake: Notify,
}

/// What a pass over the marked partitions found.
#[derive(Debug, PartialEq)]
pub enum Collected {
    /// Nothing that is worth an answer before the time is up.
    Quiet,
    /// The answer.
    Answer(Vec<FetchedPartition>),
    /// Some records are on disk only: again, where blocking is allowed. Nothing was taken.
    OnDisk,
}

/// The leader broker's side of all replication streams.
pub struct ReplicaService {
    cluster: ClusterId,
    context: Arc<ReplicaContext>,
    replicas: Arc<dyn Replicas>,
    sessions: Mutex<BTreeMap<NodeId, Arc<SessionSlot>>>,
    /// Session ids of two lives of this process should not meet: starts at a number that the caller drew.
    next_session: AtomicU64,
    max_wait: Duration,
    max_bytes: usize,
}

impl ReplicaService {
    /// `session_seed` is random. No fetch is parked longer than `max_wait` or answered with more than `max_bytes` (but
    /// one batch), whatever it asks for.
    pub fn new(
        cluster: ClusterId,
        context: Arc<ReplicaContext>,
        replicas: Arc<dyn Replicas>,
        session_seed: u64,
        (max_wait, max_bytes): (Duration, usize),
    ) -> Self {
        let next_session = AtomicU64::new(session_seed | 1);
        Self { cluster, context, replicas, sessions: Mutex::default(), next_session, max_wait, max_bytes }
    }

    /// Takes in what a fetch says, and counts it.
    pub fn begin(&self, request: &ReplicaFetchRequest) -> Result<Arc<SessionSlot>, ReplicaError> {
        if request.cluster != self.cluster {
            return Err(ReplicaError::InconsistentClusterId);
        }
        let known = self.sessions.lock().get(&request.broker).cloned();
        if known.as_ref().is_some_and(|slot| slot.broker_epoch > request.broker_epoch) {
            return Err(ReplicaError::StaleBrokerEpoch);
        }
        let opens = request.session.epoch == 0;
        let slot = if opens { self.open(request, known) } else { known.ok_or(ReplicaError::FetchSessionNotFound)? };
        let taking_in = slot.taking_in.lock();
        if !opens {
            slot.session.lock().resume(request)?;
        }
        self.context.fetch_heard(request.broker, request.broker_epoch);
        for id in &request.forgotten {
            if let Some(partition) = self.replicas.replica(*id) {
                partition.follower_left(request.broker);
            }
        }
        for asked in &request.changed {
            let heard = match self.replicas.replica(asked.id) {
                None => Err(ReplicaError::UnknownTopicOrPartition),
                Some(partition) => partition.follower_fetch(request.broker, request.broker_epoch, asked),
            };
            if let Err(error) = heard {
                // A read a moment later may find it right; the follower must mention it again all the same.
                slot.session.lock().refuse(asked.id, error);
            }
        }
        drop(taking_in);
        Ok(slot)
    }

    fn open(&self, request: &ReplicaFetchRequest, known: Option<Arc<SessionSlot>>) -> Arc<SessionSlot> {
        let id = self.next_session.fetch_add(2, Ordering::Relaxed);
        let slot = Arc::new(SessionSlot {
            broker: request.broker,
            broker_epoch: request.broker_epoch,
            taking_in: Mutex::new(()),
            session: Mutex::new(ReplicaSession::open(id, request)),
            wake: Notify::new(),
        });
        self.sessions.lock().insert(request.broker, Arc::clone(&slot));
        if let Some(replaced) = known {
            replaced.wake.notify_one();
        }
        slot
    }

    /// Reads the partitions with news. With `force` (the time is up), or if the follower waits for it, an answer goes out even if
    /// it is empty.
    pub fn collect(&self, slot: &SessionSlot, max_bytes: usize, may_block: bool, force: bool) -> Collected {
        let max_bytes = max_bytes.min(self.max_bytes);
        let (ready, force) = {
            let mut session = slot.session.lock();
            (session.take_ready(), force || session.is_called_back())
        };
        let mut answers = Vec::new();
        let mut size = 0;
        for (i, asked) in ready.iter().enumerate() {
            if size >= max_bytes {
                slot.session.lock().put_back(ready[i..].iter().map(|left| left.id));
                break;
            }
            let limit =
                ReadLimit { max_bytes: (asked.max_bytes as usize).min(max_bytes - size), at_least_one: size == 0 };
            let Some(answer) = self.read(slot, *asked, limit, may_block) else {
                slot.session.lock().put_back(ready.iter().map(|all| all.id));
                return Collected::OnDisk;
            };
            if answer.batches.is_empty() && !limit.at_least_one && self.has_more(slot, *asked) {
                // Its next batch did not fit any more.
                slot.session.lock().put_back([asked.id]);
                continue;
            }
            if slot.session.lock().is_news(&answer) {
                size += answer.size();
                answers.push(answer);
            }
        }
        if answers.is_empty() && !force {
            return Collected::Quiet;
        }
        self.add_quiet(slot, &mut answers);
        let mut session = slot.session.lock();
        for answer in &answers {
            session.told(answer);
        }
        Collected::Answer(answers)
    }

    /// High watermarks and log starts that moved go along with any answer.
    fn add_quiet(&self, slot: &SessionSlot, answers: &mut Vec<FetchedPartition>) {
        let quiet = slot.session.lock().take_quiet();
        let nothing = ReadLimit { max_bytes: 0, at_least_one: false };
        for asked in
            quiet.into_iter().filter(|asked| !answers.iter().any(|answer| answer.id == asked.id)).collect::<Vec<_>>()
        {
            if let Some(answer) = self.read(slot, asked, nothing, false)
                && !slot.session.lock().knows(&answer)
            {
                answers.push(answer);
            }
        }
    }

    fn has_more(&self, slot: &SessionSlot, asked: FetchPartition) -> bool {
        let replica = self.replicas.replica(asked.id);
        replica.is_some_and(|replica| {
            replica.follower_read(slot.broker, slot.broker_epoch, asked).is_ok_and(|read| read.has_records())
        })
    }

    fn read(
        &self,
        slot: &SessionSlot,
        asked: FetchPartition,
        limit: ReadLimit,
        may_block: bool,
    ) -> Option<FetchedPartition> {
        let refusal = slot.session.lock().refusal(asked.id);
        if let Some(error) = refusal {
            return Some(refused(asked, &error));
        }
        let result = match self.replicas.replica(asked.id) {
            None => Err(ReplicaError::UnknownTopicOrPartition),
            Some(replica) => match replica.follower_read(slot.broker, slot.broker_epoch, asked) {
                Err(error) => Err(error),
                Ok(mut read) if limit.max_bytes > 0 || limit.at_least_one => {
                    let done = if may_block { read.read(limit).map(|()| true) } else { read.try_read(limit) };
                    match done {
                        Ok(false) => return None,
                        Ok(true) => read.confirm(&replica),
                        Err(error) => Err(error),
                    }
                }
                Ok(read) => read.confirm(&replica),
            },
        };
        Some(result.unwrap_or_else(|error| refused(asked, &error)))
    }

    /// What a follower has synced while its fetch is parked here; without positions, that it waits for the answer. An error tells it
    /// to say so again.
    pub fn progress(&self, progress: &ReplicaProgress) -> Result<(), ReplicaError> {
        let slot = self.sessions.lock().get(&progress.broker).cloned().ok_or(ReplicaError::FetchSessionNotFound)?;
        let _taking_in = slot.taking_in.lock();
        if !slot.session.lock().is_current(progress.session, progress.broker_epoch) {
            return Err(ReplicaError::InvalidFetchSessionEpoch);
        }
        if progress.synced.is_empty() {
            slot.session.lock().call_back();
            slot.wake.notify_one();
        }
        for (id, leader_epoch, synced) in &progress.synced {
            slot.session.lock().progressed(*id, *synced);
            if let Some(partition) = self.replicas.replica(*id) {
                // A stale term is found again by its next fetch.
                let _stale =
                    partition.follower_progress(progress.broker, progress.broker_epoch, *leader_epoch, *synced);
            }
        }
        Ok(())
    }

    /// Records were appended, or the term changed: these followers' parked fetches look.
    pub fn wake(&self, id: TopicIdPartition, followers: impl IntoIterator<Item = NodeId>) {
        for broker in followers {
            let slot = self.sessions.lock().get(&broker).cloned();
            if let Some(slot) = slot
                && slot.session.lock().mark_ready(id)
            {
                slot.wake.notify_one();
            }
        }
    }

    /// The high watermark or the log start moved: told with the next answer.
    pub fn mark_quiet(&self, id: TopicIdPartition, followers: impl IntoIterator<Item = NodeId>) {
        for broker in followers {
            let slot = self.sessions.lock().get(&broker).cloned();
            if let Some(slot) = slot {
                slot.session.lock().mark_quiet(id);
            }
        }
    }

    /// Serves one fetch, however long it waits. Not cancelled half-way: what was collected would be lost for the session.
    pub async fn fetch(self: &Arc<Self>, request: ReplicaFetchRequest) -> ReplicaFetchResponse {
        let slot = match self.begin(&request) {
            Ok(slot) => slot,
            Err(error) => return ReplicaFetchResponse::refused(&error),
        };
        let wait = Duration::from_millis(u64::from(request.max_wait_ms)).min(self.max_wait);
        let deadline = tokio::time::sleep(wait);
        tokio::pin!(deadline);
        let mut force = false;
        loop {
            let partitions = match self.collect(&slot, request.max_bytes as usize, false, force) {
                Collected::OnDisk => {
                    let (service, slot, bytes) = (Arc::clone(self), Arc::clone(&slot), request.max_bytes as usize);
                    let read = storage::blocking(move || service.collect(&slot, bytes, true, force)).await;
                    read.unwrap_or(Collected::Answer(Vec::new()))
                }
                collected => collected,
            };
            if let Collected::Answer(partitions) = partitions {
                let session_id = slot.session.lock().id();
                return ReplicaFetchResponse { error: 0, session_id, partitions };
            }
            tokio::select! {
                biased;
                () = &mut deadline => force = true,
                () = slot.wake.notified() => {
                    let current = self.sessions.lock().get(&slot.broker).is_some_and(|now| Arc::ptr_eq(now, &slot));
                    if !current {
                        return ReplicaFetchResponse::refused(&ReplicaError::FetchSessionNotFound);
                    }
                }
            }
        }
    }
}

impl SessionSlot {
    /// Its id, for the answer.
    pub fn session_id(&self) -> u64 {
        self.session.lock().id()
    }
}

fn refused(asked: FetchPartition, error: &ReplicaError) -> FetchedPartition {
    let log_start = match error {
        ReplicaError::OffsetOutOfRange { log_start, .. } => *log_start,
        _ => -1,
    };
    FetchedPartition {
        id: asked.id,
        error: error.kafka_code(),
        // The follower compares it with the term it asked in.
        leader_epoch: if log_start >= 0 { asked.leader_epoch } else { LeaderEpoch::NONE },
        high_watermark: -1,
        log_start,
        diverging: None,
        batches: Vec::new(),
    }
}
