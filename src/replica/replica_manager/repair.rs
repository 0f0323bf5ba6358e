//! Damaged data is mended from other replicas.
//!
//! | what is damaged | found by | what is done |
//! |---|---|---|
//! | a batch below the high watermark | any read, the scrub | fetched from another replica and written under its own key |
//! | a batch at or above it, on a follower | the same | nothing until the high watermark has passed it, or a truncation removes it. (Cutting it away would take back what this replica has said it has synced, and the leader may have counted it by now.) |
//! | a batch at or above it, on a leader, and not in memory | the same | after `replica.lag.time.max.ms` the log is **given up**: followers cannot get over it, and another replica has to lead |
//! | what an open or a truncation has to read: the last chunk, a producer snapshot, the batch that spans the new end | the open, the truncation | the log is given up |
//! | the same, where this broker has the only replica | | the replica is offline; a person decides |
//! | nothing, but the disk does not give back what a truncation or a new log start has to read, and the store goes on | the fetch from the leader, which is tried again | after `replica.lag.time.max.ms` the log is given up; until then it is as it was, and may be elected |
//! | a batch of which no replica has a sound copy | every replica that was asked | told in log, health and metric, asked again from time to time; its readers get CORRUPT_MESSAGE there, and go on behind it |
//! | keys in a block of a table, a block that cannot be taken apart | a read, the scrub | the log is given up; where this broker has the only replica its readers get CORRUPT_MESSAGE there |
//! | any block of a table | the same, or a compaction | its column family is compacted no more, which is told (`src/storage/rocksdb/store.rs`) |
//! | a table's own index or footer, the metadata of partitions | an open | nothing here: the directory does not open; a person moves the store away, and the replicas are copied anew |
//!
//! # How a batch is fetched
//!
//! One at a time, from the leader first, then the ISR, then the other replicas. The request names both epochs like a fetch: whoever answers must have a
//! replica in that **leader epoch** (leading or following), know the asking **broker epoch** as the present one of a replica, and the batch
//! as below its own high watermark. The answer is checked again here, under the role lock of the same leader epoch, against this replica's high
//! watermark and by the log itself ([`PartitionLog::repair`](crate::storage::PartitionLog::repair)). The high watermark on both sides: what is below it is
//! in every log for good, so neither a truncation nor another leader can make of it the copy of another record.
//!
//! # How a log is given up
//!
//! | replica | becomes | when |
//! |---|---|---|
//! | leader, follower | given up | see above ([`Partition::give_up`]): offline, resigned, its log takes and tells nothing any more |
//! | given up | replaced | the metadata have a **newer leader epoch** than the last one in which it took part, in which another leads and this replica is in neither ISR nor ELR: the log is deleted, and an empty one follows |
//!
//! Meanwhile the controller is told ([`ReplicaManager::log_news`]) until the metadata say so. It takes the replica out of ISR and ELR, and out of its directory:
//! that is [`DirectoryId::LOST`] then, in which no election takes it, not even an unclean one, and no ISR. And it
//! gives the partition a new leader epoch also where the leader stays. So whatever the leader had heard of the old log, and
//! every proposal built on it, is of an older epoch and counts no more; in the new one this replica speaks only with its empty log. That it has
//! begun one is told as well, until the metadata have it in a directory again; it counts once it has caught up. Where nobody else can lead the
//! old log stays: it may be the last copy. (A registration puts the replica into the broker's directory too, as one without data; a log
//! that is found damaged again is given up again.)
//!
//! # Who changes what
//!
//! One task mends ([`ReplicaManager::mend`]). Logs are replaced behind `publishing`, like every change of the table. What is damaged is known by the
//! logs alone; nothing is remembered here but since when a batch waits.

use super::{ReplicaManager, log_class};
use crate::peer::Lane;
use crate::replica::error::{CORRUPT_MESSAGE, OFFSET_OUT_OF_RANGE, ReplicaError};
use crate::replica::message::{BatchRequest, BatchResponse};
use crate::replica::partition::{Partition, Role};
use crate::storage::{self, RepairError, StorageError};
use bytes::Bytes;
use rookery_raft::ids::{DirectoryId, LeaderEpoch, NodeId, TopicIdPartition};
use rookery_raft::image::PartitionRegistration;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Semaphore, watch};

/// The kind of a request for one committed batch on the lane `Replication`.
pub const KIND_BATCH: u16 = 3;
/// How long another replica may take to read it.
const ANSWER_MAX: Duration = Duration::from_secs(5);
/// Between two rounds while something is damaged, and while no replica has a sound copy of it.
const AGAIN: Duration = Duration::from_secs(1);
const AGAIN_NOWHERE: Duration = Duration::from_secs(30);
/// Batches read for other replicas at once.
pub(super) const BATCHES_MAX: usize = 2;

/// What is damaged on this broker.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DamageCounts {
    /// Batches known to be damaged.
    pub batches: usize,
    /// Of them, those of which no replica has a sound copy.
    pub nowhere_sound: usize,
    /// One of these.
    pub example: Option<String>,
    /// Replicas whose log was given up and not replaced yet.
    pub given_up: usize,
}

/// Since when a damaged batch waits for the high watermark.
#[derive(Default)]
pub(super) struct Waiting(BTreeMap<(TopicIdPartition, i64), Duration>);

/// What the controller does not know yet of logs that were given up.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LogNews {
    /// Replicas that it still counts on, or may.
    pub lost: Vec<TopicIdPartition>,
    /// Replicas that it does not count on although they have begun another log.
    pub renewed: Vec<TopicIdPartition>,
}

impl LogNews {
    /// Whether there is nothing to tell.
    pub fn is_empty(&self) -> bool {
        self.lost.is_empty() && self.renewed.is_empty()
    }
}

enum Mended {
    /// Nothing is left to do.
    Done,
    /// Not now.
    Later,
    /// No replica has a sound copy.
    Nowhere,
}

impl ReplicaManager {
    /// Mends what is damaged, for ever.
    pub(super) async fn keep_mending(self: Arc<Self>) {
        let mut waiting = Waiting::default();
        loop {
            let found = self.damage_found.notified();
            let pause = self.mend(&mut waiting).await;
            tokio::select! {
                () = found => {}
                () = async { tokio::time::sleep(pause.unwrap_or_default()).await }, if pause.is_some() => {}
            }
        }
    }

    /// One round over everything that is damaged; when to try again, if something is left.
    pub(super) async fn mend(self: &Arc<Self>, waiting: &mut Waiting) -> Option<Duration> {
        let mut pause: Option<Duration> = None;
        let mut sooner = |at: Duration| pause = Some(pause.map_or(at, |pause: Duration| pause.min(at)));
        let table = self.table.load_full();
        let mut still = BTreeMap::new();
        for (id, partition) in table.iter() {
            self.give_up_unreadable(partition);
            for damage in partition.log().damaged() {
                let key = (*id, damage.last_offset);
                let since = *waiting.0.get(&key).unwrap_or(&self.clock.now());
                match self.mend_one(partition, damage.last_offset, since).await {
                    Mended::Done => {}
                    Mended::Later => {
                        still.insert(key, since);
                        sooner(AGAIN);
                    }
                    Mended::Nowhere => {
                        if !damage.nowhere_sound {
                            let (what, offset) = (&damage.what, damage.last_offset);
                            tracing::error!(partition = %id, offset, %what, "NO REPLICA has a sound copy of a damaged batch");
                        }
                        sooner(AGAIN_NOWHERE);
                    }
                }
            }
        }
        waiting.0 = still;
        self.replace_lost();
        if !self.log_news().is_empty() {
            self.given_up.send_replace(());
            sooner(AGAIN);
        }
        let counts = self.damage();
        metrics::gauge!("rookery_storage_damaged_batches").set(counts.batches as f64);
        metrics::gauge!("rookery_storage_nowhere_sound_batches").set(counts.nowhere_sound as f64);
        metrics::gauge!("rookery_replica_given_up").set(counts.given_up as f64);
        if counts.given_up > 0 {
            sooner(AGAIN);
        }
        pause
    }

    /// What cannot be read cannot be mended in its place either.
    fn give_up_unreadable(&self, partition: &Partition) {
        let log = partition.log();
        let Some(what) = log.unreadable() else { return };
        if self.has_others(partition.id()) {
            partition.give_up(&what);
        } else if log.note_only_copy() {
            tracing::error!(partition = %partition.id(), %what, "what is stored cannot be read, and there is NO OTHER REPLICA of it");
        }
    }

    async fn mend_one(self: &Arc<Self>, partition: &Arc<Partition>, last_offset: i64, since: Duration) -> Mended {
        let log = partition.log();
        let looked = storage::blocking({
            let log = log.clone();
            move || log.is_still_damaged(last_offset)
        });
        match looked.await {
            Some(Ok(false)) => return Mended::Done,
            Some(Ok(true)) => {}
            _ => return Mended::Later,
        }
        let (role, leader_epoch) = partition.role();
        if role == Role::Offline {
            return Mended::Later;
        }
        if last_offset >= partition.high_watermark() {
            let is_stuck = self.clock.now().saturating_sub(since) > self.config.replica.lag_max;
            if role == Role::Leader && is_stuck && !log.is_cached(last_offset) && self.has_others(partition.id()) {
                partition.give_up("a batch that is not committed yet is damaged");
            }
            return Mended::Later;
        }
        let mut somewhere = false;
        for source in self.sources(partition.id()) {
            match self.fetch_batch(source, partition.id(), leader_epoch, last_offset).await {
                Some(Ok(copy)) => {
                    let partition = Arc::clone(partition);
                    let mended = storage::blocking(move || partition.repair(leader_epoch, last_offset, &copy)).await;
                    match mended {
                        Some(Ok(())) => return Mended::Done,
                        Some(Err(error @ RepairError::WrongCopy(_))) => {
                            tracing::warn!(source = source.0, last_offset, %error, "a copy of a damaged batch was refused");
                        }
                        _ => somewhere = true,
                    }
                }
                // It has none either.
                Some(Err(CORRUPT_MESSAGE | OFFSET_OUT_OF_RANGE)) => {}
                Some(Err(_)) | None => somewhere = true,
            }
        }
        log.note_nowhere_sound(last_offset, !somewhere);
        if somewhere { Mended::Later } else { Mended::Nowhere }
    }

    async fn fetch_batch(
        &self,
        source: NodeId,
        id: TopicIdPartition,
        leader_epoch: LeaderEpoch,
        last_offset: i64,
    ) -> Option<Result<Bytes, i16>> {
        let cluster = self.image.load().cluster.cluster_id()?;
        let (broker, broker_epoch) = (self.config.node, self.context.broker_epoch());
        let request = BatchRequest { cluster, broker, broker_epoch, id, leader_epoch, last_offset };
        let answer = self.pool.call(source, Lane::Replication, KIND_BATCH, vec![request.encode()], ANSWER_MAX).await;
        let answer = answer.inspect_err(
            |error| tracing::info!(source = source.0, %error, "a copy of a damaged batch is not to be had"),
        );
        match BatchResponse::decode(answer.ok()?) {
            Ok(BatchResponse { error: 0, batch }) => Some(Ok(batch)),
            Ok(BatchResponse { error, .. }) => Some(Err(error)),
            Err(error) => {
                tracing::warn!(source = source.0, %error, "a copy of a damaged batch cannot be read");
                None
            }
        }
    }

    /// Who may have a sound copy: the leader, the ISR, everybody else.
    fn sources(&self, id: TopicIdPartition) -> Vec<NodeId> {
        let image = self.image.load();
        let Some(registration) = image.partition(id) else { return Vec::new() };
        let mut sources = Vec::new();
        for node in [registration.leader].iter().chain(&registration.isr).chain(&registration.replicas) {
            if *node != self.config.node && *node != NodeId::NONE && !sources.contains(node) {
                sources.push(*node);
            }
        }
        sources
    }

    fn has_others(&self, id: TopicIdPartition) -> bool {
        self.image.load().partition(id).is_some_and(|registration| registration.replicas.len() > 1)
    }

    /// One committed batch for a replica whose own is damaged.
    pub(crate) async fn batch_for(self: &Arc<Self>, request: BatchRequest) -> BatchResponse {
        let Ok(_permit) = self.batches.try_acquire() else { return BatchResponse::refused(&ReplicaError::Overloaded) };
        let this = Arc::clone(self);
        let read = storage::blocking(move || this.read_batch_for(&request)).await;
        match read.unwrap_or(Err(ReplicaError::NotLeaderOrFollower)) {
            Ok(batch) => BatchResponse { error: 0, batch },
            // Mended here as well, in time; the asking replica looks elsewhere.
            Err(ReplicaError::Storage(StorageError::Corrupt(_) | StorageError::NowhereSound(_))) => {
                BatchResponse { error: CORRUPT_MESSAGE, batch: Bytes::new() }
            }
            Err(error) => BatchResponse::refused(&error),
        }
    }

    fn read_batch_for(&self, request: &BatchRequest) -> Result<Bytes, ReplicaError> {
        let image = self.image.load_full();
        if image.cluster.cluster_id() != Some(request.cluster) {
            return Err(ReplicaError::InconsistentClusterId);
        }
        let is_replica = image.partition(request.id).is_some_and(|p| p.replicas.contains(&request.broker));
        let epoch = image.cluster.broker(request.broker).map(|broker| broker.epoch());
        if !is_replica || epoch != Some(request.broker_epoch) {
            return Err(ReplicaError::StaleBrokerEpoch);
        }
        let partition = self.partition(request.id).ok_or(ReplicaError::UnknownTopicOrPartition)?;
        partition.committed_batch(request.leader_epoch, request.last_offset)
    }

    /// What is damaged now.
    pub fn damage(&self) -> DamageCounts {
        let mut counts = DamageCounts::default();
        for (id, partition) in self.table.load().iter() {
            counts.given_up += usize::from(partition.given_up().is_some());
            if let Some(what) = partition.log().unreadable().filter(|_| !self.has_others(*id)) {
                counts.batches += 1;
                counts.nowhere_sound += 1;
                counts.example.get_or_insert_with(|| what.to_string());
            }
            for damage in partition.log().damaged() {
                counts.batches += 1;
                if damage.nowhere_sound {
                    counts.nowhere_sound += 1;
                    counts
                        .example
                        .get_or_insert_with(|| format!("{id}, the batch that ends at {}", damage.last_offset));
                }
            }
        }
        counts
    }

    // ---- logs that were given up ----

    /// Marked when there may be [`log_news`](Self::log_news).
    pub fn given_up(&self) -> watch::Receiver<()> {
        self.given_up.subscribe()
    }

    /// What the controller has to be told of logs that were given up, and of those that followed them.
    pub fn log_news(&self) -> LogNews {
        let (image, mut news) = (self.image.load(), LogNews::default());
        for (id, partition) in self.table.load().iter() {
            let Some(registration) = image.partition(*id).filter(|registration| registration.replicas.len() > 1) else {
                continue;
            };
            let is_marked = registration.directory_of(self.config.node) == Some(DirectoryId::LOST);
            match partition.given_up() {
                // Marked for an earlier log: the present leader may have heard of this one.
                Some(since) if is_marked && registration.has_leader() && registration.leader_epoch <= since => {
                    news.lost.push(*id);
                }
                // One that is out already, and led by another, is about to be replaced.
                Some(since) if !is_marked && !self.is_replaceable(registration, since) => news.lost.push(*id),
                None if is_marked => news.renewed.push(*id),
                _ => {}
            }
        }
        news
    }

    /// Whether another leads, and nobody counts on what this replica has said up to an epoch.
    fn is_replaceable(&self, registration: &PartitionRegistration, since: LeaderEpoch) -> bool {
        let me = self.config.node;
        let counts = registration.isr.contains(&me) || registration.elr.contains(&me) || registration.leader == me;
        registration.has_leader() && registration.leader_epoch > since && !counts
    }

    /// Empty logs instead of those that were given up, where others have what they held.
    fn replace_lost(&self) {
        if self.table.load().values().all(|partition| partition.given_up().is_none()) {
            return;
        }
        let _publishing = self.publishing.lock();
        let image = self.image.load_full();
        for (id, partition) in self.table.load_full().iter() {
            let (Some(since), Some(registration)) = (partition.given_up(), image.partition(*id)) else { continue };
            // It may still be in a session, and tell its position there.
            self.unfollow(*id, None);
            if !self.is_replaceable(registration, since) {
                continue;
            }
            let directory = self.directory.load_full();
            let class = log_class(&self.config.topic_configs, &image, *id);
            match directory.delete(id).and_then(|()| directory.get_or_create(*id, class)) {
                Ok(log) => {
                    tracing::warn!(partition = %id, leader = registration.leader.0, "a damaged log is copied anew");
                    metrics::counter!("rookery_replica_copied_anew_total").increment(1);
                    self.unfinished.lock().garbage = true;
                    partition.store_reopened(log);
                    self.apply(&image, *id, registration);
                }
                Err(error) => tracing::warn!(partition = %id, %error, "a damaged log is still there; trying again"),
            }
        }
    }
}

pub(super) fn batches() -> Arc<Semaphore> {
    Arc::new(Semaphore::new(BATCHES_MAX))
}
