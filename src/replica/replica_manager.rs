//! [`ReplicaManager`]: every replica of this broker, and what the metadata wants of them.
//!
//! In: metadata deltas, fetches of consumers and followers, commits of the store. Out: replicas that lead or follow as
//! the metadata says, answers, ISR proposals. Never: a decision about who leads.
//!
//! # Who changes what
//!
//! - The partition table is written by [`MetadataPublisher::on_metadata_update`] alone, which one task calls in the order
//!   of the log, never concurrently; everyone else reads a snapshot of it. A new registration of this broker
//!   ([`ReplicaManager::registered`]) and a reopened store only replay the present image through the same code, behind
//!   `publishing`.
//! - **Metadata from before this life is not acted on**: until an image holds the registration that this process knows as
//!   its own, images are kept and nothing is opened by them. (An older one may name this broker leader of a term whose
//!   unsynced tail the last life lost: architecture, invariant 5.) Then all that was missed is applied at once.
//! - **What the store has not taken yet** ([`Unfinished`]): logs to be made, and logs to be deleted. Each publication that is
//!   acted on tries at once; the periodic task tries again. Which logs go, and why that is safe: [`super::strays`].
//! - `streams`: one [`FetchTask`] per source broker, one lock, held for map operations.
//! - A publication never blocks on a disk: logs are made by queueing, and truncation is the fetcher's work.
//!
//! # A disk that fills up
//!
//! Whoever measures it says so ([`ReplicaManager::set_disk_space`]). Leaders refuse clients' records below the soft watermark; what the
//! coordinators write, deletions, truncations and retention go on. Below the hard one, partitions of clients are not
//! followed either: their streams end and begin anew, behind `publishing` like every other change of them. No safety rests on it: the
//! levels are advice, and a record that slips past one is a record like any other. Deleted logs give their space back
//! with the next round of periodic work, not only with the next retention.
//!
//! Damaged data: [`repair`] and [`scrub`].
//!
//! # Periodic work, on one task
//!
//! Lagging followers are looked for several times per `replica.lag.time.max.ms`; high watermarks and producers are
//! checkpointed every few seconds; retention looks every `log.retention.check.interval.ms`, on leaders only (followers
//! follow the leader's log start).

pub mod repair;
#[cfg(test)]
mod repair_tests;
pub mod scrub;

use super::answer_budget::{self, AnswerBytes};
use super::consumer_read::{ConsumerRead, FoundOffset, OffsetSpec};
use super::error::ReplicaError;
use super::fetch_session::ConsumerFetch;
use super::fetch_task::{FetchSurroundings, FetchTask};
use super::fetcher::FetcherConfig;
use super::isr_task::{IsrChannel, IsrQueue};
use super::leader::{BrokerView, IsrProposal, PartitionState};
use super::partition::{Applied, Clock, Partition, PartitionEvents, ReplicaConfig, ReplicaContext, Role};
use super::purgatory::DelayedFetch;
use super::refused::{EarlyRefusals, NamedTopic, ProducerBatch};
use super::replica_service::{ReplicaService, Replicas};
use super::strays::stray;
use crate::peer::PeerPool;
use crate::planted::planted;
use crate::storage::{self, LogClass, LogDirectory, ReadLimit, StorageError};
use arc_swap::{ArcSwap, ArcSwapOption};
use parking_lot::Mutex;
use rookery_protocol::batch::RecordBatchHeader;
use rookery_protocol::topics::is_internal;
use rookery_raft::controller::DiskSpace;
use rookery_raft::delta::{LocalReplicaChanges, MetadataDelta, MetadataPublisher, ReplicaChange};
use rookery_raft::ids::{BrokerEpoch, ClusterId, DirectoryId, LeaderEpoch, NodeId, TopicId, TopicIdPartition};
use rookery_raft::image::topic_configs::TopicConfigs;
use rookery_raft::image::{MetadataImage, PartitionRegistration};
use rookery_raft::record::LeaderRecoveryState;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;
use tokio::sync::{Notify, Semaphore, watch};
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use scrub::{Scrub, ScrubConfig};

type Table = BTreeMap<TopicIdPartition, Arc<Partition>>;

/// Settings of a broker's replicas.
#[derive(Debug, Clone)]
pub struct ReplicaManagerConfig {
    /// This broker.
    pub node: NodeId,
    /// Of each replica.
    pub replica: ReplicaConfig,
    /// Of fetching from leaders.
    pub fetcher: FetcherConfig,
    /// What topics' configs are on this broker.
    pub topic_configs: Arc<TopicConfigs>,
    /// `log.retention.check.interval.ms`.
    pub retention_interval: Duration,
    /// `producer.id.expiration.ms`.
    pub producer_expiration: Duration,
    /// Of the scrub.
    pub scrub: ScrubConfig,
}

/// How many replicas are how; for metrics and the admin API.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ReplicaCounts {
    /// Replicas here.
    pub replicas: usize,
    /// Of them, led here.
    pub leaders: usize,
    /// Of those, with an ISR smaller than the replicas.
    pub under_replicated: usize,
    /// Of those, with an ISR smaller than min.insync.replicas.
    pub under_min_isr: usize,
    /// Replicas whose store is not available.
    pub offline: usize,
}

/// A consumer's fetch over many partitions.
#[derive(Debug, Clone)]
pub struct ConsumerFetchRequest {
    /// Wait for so long, at most, ...
    pub max_wait: Duration,
    /// ... for so many bytes.
    pub min_bytes: usize,
    /// Answer with so many at most, but one batch at least.
    pub max_bytes: usize,
    /// What, in this order; `None` for a partition that this broker has no replica of.
    pub partitions: Vec<(TopicIdPartition, ConsumerFetch)>,
}

/// What came of it.
#[derive(Debug)]
pub struct ConsumerFetchAnswer {
    /// In the order asked.
    pub reads: Vec<Result<ConsumerRead, ReplicaError>>,
    /// To be kept until the records have been sent.
    pub memory: AnswerBytes,
}

/// Searches by time that run at once.
const SEARCHES_MAX: usize = 4;
const CHECKPOINT_INTERVAL: Duration = Duration::from_secs(5);
/// A leader without confirmation stands for so long at most.
const LAG_CHECKS: u32 = 5;

struct Events {
    manager: OnceLock<Weak<ReplicaManager>>,
}

/// Where the store does not hold what the metadata wants.
struct Unfinished {
    /// Assigned, and without a log: the store was busy, or offline.
    missing: BTreeSet<TopicIdPartition>,
    /// The store may hold logs of other partitions: it was opened, or did not take a deletion.
    strays: bool,
    /// Logs were deleted, and their space was not given back yet.
    garbage: bool,
}

/// Every replica of this broker.
pub struct ReplicaManager {
    config: ReplicaManagerConfig,
    context: Arc<ReplicaContext>,
    clock: Arc<dyn Clock>,
    directory: ArcSwap<LogDirectory>,
    table: ArcSwap<Table>,
    image: ArcSwap<MetadataImage>,
    service: ArcSwapOption<ReplicaService>,
    session_seed: u64,
    pool: PeerPool,
    streams: Mutex<BTreeMap<NodeId, FetchTask>>,
    isr: Arc<IsrQueue>,
    store_failure: watch::Sender<Option<StorageError>>,
    /// Marked after every change of who leads here.
    leaderships: watch::Sender<()>,
    /// The newest image, acted on or not; `image` is the last that was.
    publishing: Mutex<Arc<MetadataImage>>,
    /// Written while `publishing` is held.
    unfinished: Mutex<Unfinished>,
    /// Searches by time unpack batches: a few at once, however many are asked for.
    searches: Arc<Semaphore>,
    /// Marked when a log notes damage, or was given up.
    damage_found: Notify,
    /// Marked while logs that were given up are not replaced.
    given_up: watch::Sender<()>,
    /// Batches read for other replicas: a few at once.
    batches: Arc<Semaphore>,
    scrub: Scrub,
    early_refusals: EarlyRefusals,
    me: OnceLock<Weak<ReplicaManager>>,
}

impl ReplicaManager {
    /// Over the logs of an open store. `session_seed` is random.
    pub fn new(
        config: ReplicaManagerConfig,
        directory: LogDirectory,
        clock: Arc<dyn Clock>,
        pool: PeerPool,
        session_seed: u64,
    ) -> Arc<Self> {
        let events = Arc::new(Events { manager: OnceLock::new() });
        let identity = (config.node, BrokerEpoch::UNKNOWN);
        let context = Arc::new(ReplicaContext::new(identity, config.replica.clone(), clock.clone(), events.clone()));
        let scrub = Scrub::new(config.scrub.clone());
        let manager = Arc::new(Self {
            config,
            context,
            clock,
            directory: ArcSwap::from_pointee(directory),
            table: ArcSwap::default(),
            image: ArcSwap::new(MetadataImage::empty()),
            service: ArcSwapOption::empty(),
            session_seed,
            pool,
            streams: Mutex::default(),
            isr: Arc::default(),
            store_failure: watch::Sender::new(None),
            leaderships: watch::Sender::new(()),
            publishing: Mutex::new(MetadataImage::empty()),
            unfinished: Mutex::new(Unfinished { missing: BTreeSet::new(), strays: true, garbage: false }),
            searches: Arc::new(Semaphore::new(SEARCHES_MAX)),
            damage_found: Notify::new(),
            given_up: watch::Sender::new(()),
            batches: repair::batches(),
            scrub,
            early_refusals: EarlyRefusals::default(),
            me: OnceLock::new(),
        });
        let weak = Arc::downgrade(&manager);
        manager.me.get_or_init(|| weak.clone());
        events.manager.get_or_init(|| weak);
        manager
    }

    /// The replica of a partition, if this broker has one.
    pub fn partition(&self, id: TopicIdPartition) -> Option<Arc<Partition>> {
        self.table.load().get(&id).cloned()
    }

    /// A client's batch was refused because there is no replica of its partition here. There may be one soon: what its producer has
    /// in flight behind it is not taken then before it.
    pub fn refused_without_replica(&self, topic: NamedTopic, partition: i32, batch: &[u8], error: ReplicaError) {
        let Ok(header) = RecordBatchHeader::parse(batch) else { return };
        self.early_refusals.note(topic.clone(), partition, ProducerBatch::from(&header), error);
        let image = self.image.load();
        let topic = match &topic {
            NamedTopic::Name(name) => image.topics.by_name(name),
            NamedTopic::Id(id) => image.topics.by_id(*id),
        };
        if let Some(topic) = topic {
            self.take_over_refusals(&image, TopicIdPartition { topic_id: topic.id, partition });
        }
    }

    /// What was refused before this replica came.
    fn take_over_refusals(&self, image: &MetadataImage, id: TopicIdPartition) {
        if let (Some(partition), Some(topic)) = (self.partition(id), image.topics.by_id(id.topic_id)) {
            self.early_refusals.hand_over((topic.id, &topic.name), id.partition, &partition.refused);
        }
    }

    /// The logs in use.
    pub fn directory(&self) -> Arc<LogDirectory> {
        self.directory.load_full()
    }

    /// Told when the store fails; the owner reopens it and calls [`store_reopened`](Self::store_reopened).
    pub fn store_failure(&self) -> watch::Receiver<Option<StorageError>> {
        self.store_failure.subscribe()
    }

    /// Marked after every change of what this broker leads; [`led`](Self::led) says what it is by then.
    pub fn leaderships(&self) -> watch::Receiver<()> {
        self.leaderships.subscribe()
    }

    /// The partitions of a topic that this broker leads now, and in which epochs.
    pub fn led(&self, topic_id: TopicId) -> BTreeMap<i32, LeaderEpoch> {
        let of_topic = |partition| TopicIdPartition { topic_id, partition };
        let table = self.table.load();
        let led = table.range(of_topic(0)..=of_topic(i32::MAX)).filter_map(|(id, partition)| match partition.role() {
            (Role::Leader, epoch) => Some((id.partition, epoch)),
            _ => None,
        });
        led.collect()
    }

    /// The controller confirmed the heartbeat that was sent at `sent`.
    pub fn heartbeat_answered(&self, sent: Duration) {
        self.context.heartbeat_answered(sent);
    }

    /// This broker is registered under a new epoch: every stream to a leader begins anew under it.
    pub fn registered(&self, epoch: BrokerEpoch) {
        let newest = self.publishing.lock();
        self.context.set_broker_epoch(epoch);
        self.streams.lock().clear();
        self.act_on(&newest, None);
        let table = self.table.load_full();
        for partition in table.values() {
            if let (Role::Follower(state), term) = partition.role()
                && let Ok(position) = partition.follower_position(term)
            {
                self.follow(partition.id(), state.leader, term, position);
            }
        }
    }

    /// How much room the disk has now.
    pub fn set_disk_space(&self, space: DiskSpace) {
        let _publishing = self.publishing.lock();
        let before = self.context.set_disk_space(space);
        if (before == DiskSpace::Reserve) == (space == DiskSpace::Reserve) {
            return;
        }
        for partition in self.table.load_full().values() {
            let id = partition.id();
            if self.is_internal(id) {
                continue;
            }
            if let (Role::Follower(state), term) = partition.role()
                && let Ok(position) = partition.follower_position(term)
            {
                self.unfollow(id, None);
                self.follow(id, state.leader, term, position);
            }
        }
    }

    /// Whether a partition may be copied to this disk now. The last room is for the cluster's own topics.
    fn has_room_for(&self, id: TopicIdPartition) -> bool {
        self.context.disk_space() != DiskSpace::Reserve || self.is_internal(id)
    }

    fn is_internal(&self, id: TopicIdPartition) -> bool {
        self.image.load().topics.by_id(id.topic_id).is_some_and(|topic| is_internal(&topic.name))
    }

    /// Fetch from nobody any more: this broker is about to close its store.
    pub fn stop_fetching(&self) {
        let _publishing = self.publishing.lock();
        self.context.set_broker_epoch(BrokerEpoch::UNKNOWN);
        self.streams.lock().clear();
    }

    /// The service that answers follower brokers, once the cluster is known.
    pub fn service(&self) -> Option<Arc<ReplicaService>> {
        self.service.load_full()
    }

    /// The store was opened anew under these logs: every replica waits for a new term. On an error it counts as failed on.
    pub fn store_reopened(&self, directory: LogDirectory) -> Result<(), StorageError> {
        let _publishing = self.publishing.lock();
        let directory = Arc::new(directory);
        let image = self.image.load_full();
        // Before the first replica can hear of a failure under this open.
        let failure = self.store_failure.send_replace(None);
        for (id, partition) in self.table.load().iter() {
            match directory.get_or_create(*id, log_class(&self.config.topic_configs, &image, *id)) {
                Ok(log) => partition.store_reopened(log),
                Err(error) => {
                    self.table.load().values().for_each(|partition| partition.store_failed());
                    self.store_failure.send_replace(failure.or_else(|| Some(error.clone())));
                    return Err(error);
                }
            }
        }
        self.directory.store(directory);
        self.unfinished.lock().strays = true;
        for id in self.table.load().keys() {
            if let Some(registration) = image.partition(*id) {
                self.apply(&image, *id, registration);
            }
        }
        self.delete_strays(&image);
        Ok(())
    }

    /// How many replicas are how.
    pub fn counts(&self) -> ReplicaCounts {
        let mut counts = ReplicaCounts::default();
        for partition in self.table.load().values() {
            counts.replicas += 1;
            counts.offline += usize::from(partition.role().0 == Role::Offline);
            partition.with_leader(|term| {
                counts.leaders += 1;
                counts.under_replicated += usize::from(term.is_under_replicated());
                counts.under_min_isr += usize::from(term.is_under_min_isr());
            });
        }
        counts
    }

    /// Look after lag, checkpoints and retention until told to stop, or until something under it broke.
    pub async fn run(self: Arc<Self>, channel: Arc<dyn IsrChannel>, stop: CancellationToken) {
        let replicas: Arc<dyn Replicas> = self.clone();
        let (isr, context) = (self.isr.clone(), self.context.clone());
        let proposing = isr.run(self.config.node, move || context.broker_epoch(), replicas, channel);
        let every = |period: Duration| {
            let mut ticks = interval(period.max(Duration::from_millis(10)));
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            ticks
        };
        let mut lag = every(self.config.replica.lag_max / LAG_CHECKS);
        let mut checkpoint = every(CHECKPOINT_INTERVAL);
        let mut retention = every(self.config.retention_interval);
        // Retention, or giving space back: one of them at a time.
        let mut retaining = None;
        let (mending, scrubbing) = (self.clone().keep_mending(), self.clone().keep_scrubbing());
        tokio::pin!(proposing, mending, scrubbing);
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                () = &mut proposing => return,
                () = &mut mending => return,
                () = &mut scrubbing => return,
                _ = lag.tick() => {
                    if let Some(source) = self.broken_stream() {
                        tracing::error!(leader = source.0, "the task that fetches from a leader has panicked");
                        return;
                    }
                    self.retry_unfinished();
                    self.check_lag();
                    if retaining.is_none() && std::mem::take(&mut self.unfinished.lock().garbage) {
                        let this = self.clone();
                        retaining = Some(tokio::spawn(storage::blocking(move || this.reclaim())));
                    }
                }
                _ = checkpoint.tick() => self.checkpoint(),
                // Beside this task: a long pass must hold up neither ISR changes nor checkpoints.
                _ = retention.tick(), if retaining.is_none() => {
                    let this = self.clone();
                    retaining = Some(tokio::spawn(storage::blocking(move || this.retain())));
                }
                ended = async { retaining.as_mut().expect("the arm is guarded").await }, if retaining.is_some() => {
                    retaining = None;
                    if let Err(error) = ended {
                        tracing::error!(%error, "a retention pass failed");
                    }
                }
            }
        }
    }

    fn broken_stream(&self) -> Option<NodeId> {
        self.streams.lock().iter().find(|(_, stream)| stream.is_broken()).map(|(source, _)| *source)
    }

    fn check_lag(&self) {
        for partition in self.table.load().values() {
            partition.check_lag();
        }
        let counts = self.counts();
        metrics::gauge!("rookery_replica_replicas").set(counts.replicas as f64);
        metrics::gauge!("rookery_replica_leaders").set(counts.leaders as f64);
        metrics::gauge!("rookery_replica_under_replicated").set(counts.under_replicated as f64);
        metrics::gauge!("rookery_replica_under_min_isr").set(counts.under_min_isr as f64);
        metrics::gauge!("rookery_replica_offline").set(counts.offline as f64);
        metrics::gauge!("rookery_replica_answer_bytes").set(self.context.config.answer_budget.in_use() as f64);
    }

    /// Write down high watermarks and producers: a start has less to replay. Also before a clean close.
    pub fn checkpoint(&self) {
        for partition in self.table.load().values() {
            if let Err(error) = partition.log().checkpoint(partition.high_watermark()) {
                tracing::debug!(partition = %partition.id(), %error, "no checkpoint");
            }
        }
    }

    /// One pass of retention over everything led here. **Blocks.**
    fn retain(&self) {
        let image = self.image.load_full();
        let now_ms = self.clock.wall_ms();
        let expiration_ms = i64::try_from(self.config.producer_expiration.as_millis()).unwrap_or(i64::MAX);
        let mut moved = 0usize;
        for (id, partition) in self.table.load().iter() {
            partition.log().expire_producers(now_ms, expiration_ms);
            let Some(topic) = image.topics.by_id(id.topic_id) else { continue };
            if !image.is_retention_bound(&topic.name) || partition.role().0 != Role::Leader {
                continue;
            }
            let number = |name| self.config.topic_configs.number(&image, &topic.name, name);
            let (ms, bytes) = (number("retention.ms"), number("retention.bytes"));
            let high_watermark = partition.high_watermark();
            let candidate = partition.log().retention_candidate(now_ms, ms, bytes, high_watermark);
            let result = match candidate {
                Ok(Some(start)) => partition.delete_records(start).map(|_| moved += 1),
                Ok(None) => Ok(()),
                Err(error) => Err(error.into()),
            };
            if let Err(error) = result {
                tracing::warn!(partition = %id, %error, "retention");
            }
        }
        if moved > 0 {
            tracing::debug!(partitions = moved, "retention moved log starts");
            self.reclaim();
        }
    }

    /// Give the space of deleted records back. **Blocks.**
    fn reclaim(&self) {
        if let Err(error) = self.directory.load().store().reclaim() {
            tracing::warn!(%error, "space was not given back");
        }
    }

    /// Serve a consumer's fetch, waiting as it asks, and for memory (see [`answer_budget`](super::answer_budget)).
    pub async fn consumer_fetch(self: &Arc<Self>, request: ConsumerFetchRequest) -> ConsumerFetchAnswer {
        let deadline = tokio::time::sleep(request.max_wait);
        tokio::pin!(deadline);
        let mut timed_out = request.max_wait.is_zero();
        let mut least = answer_budget::LEAST.min(request.max_bytes);
        loop {
            let mut memory = self.context.config.answer_budget.reserve(least, request.max_bytes).await;
            let room = memory.room();
            let reads = match self.read_all(&request, room, false) {
                Some(reads) => reads,
                None => {
                    let (this, request) = (Arc::clone(self), request.clone());
                    let read = tokio::task::spawn_blocking(move || this.read_all(&request, room, true)).await;
                    read.ok().flatten().unwrap_or_default()
                }
            };
            let size = reads.iter().flatten().map(|read| read.size).sum();
            if !memory.is_enough_for(size) {
                least = size;
                continue;
            }
            // An answer that has been cut short by the budget has at least half of its room.
            let enough = if room < request.max_bytes { request.min_bytes.min(room / 2) } else { request.min_bytes };
            let permit = match timed_out || is_enough(&reads, size, enough) {
                true => None,
                false => self.context.config.fetch_purgatory.try_acquire(),
            };
            let Some(permit) = permit else {
                memory.settle(size);
                return ConsumerFetchAnswer { reads, memory };
            };
            let mut waiting = DelayedFetch::new(permit);
            for ((id, _), read) in request.partitions.iter().zip(&reads) {
                if let (Some(partition), Ok(read)) = (self.partition(*id), read) {
                    partition.await_records(&mut waiting, read.high_watermark);
                }
            }
            // Who waits holds nothing.
            drop((reads, memory));
            tokio::select! {
                () = waiting.woken() => {}
                () = &mut deadline => timed_out = true,
            }
        }
    }

    /// One pass over the partitions, up to `room` bytes; `None` if something must come from disk and `may_block` is false.
    fn read_all(
        &self,
        request: &ConsumerFetchRequest,
        room: usize,
        may_block: bool,
    ) -> Option<Vec<Result<ConsumerRead, ReplicaError>>> {
        let table = self.table.load();
        let mut left = request.max_bytes.min(room);
        let mut nothing_yet = true;
        let mut reads = Vec::with_capacity(request.partitions.len());
        for (id, asked) in &request.partitions {
            let limit = ReadLimit { max_bytes: asked.max_bytes.min(left), at_least_one: nothing_yet };
            let read = match table.get(id) {
                None => Err(ReplicaError::NotLeaderOrFollower),
                Some(partition) => partition.consumer_read(asked, limit, may_block).transpose()?,
            };
            if let Ok(read) = &read {
                left = left.saturating_sub(read.size);
                nothing_yet &= read.size == 0;
            }
            reads.push(read);
        }
        Some(reads)
    }

    /// ListOffsets for one partition.
    pub async fn find_offset(
        &self,
        id: TopicIdPartition,
        current_leader_epoch: LeaderEpoch,
        spec: OffsetSpec,
    ) -> Result<FoundOffset, ReplicaError> {
        let partition = self.partition(id).ok_or(ReplicaError::NotLeaderOrFollower)?;
        match spec {
            OffsetSpec::Timestamp(_) | OffsetSpec::MaxTimestamp => {
                let _permit = self.searches.acquire().await.expect("the semaphore is never closed");
                let found =
                    tokio::task::spawn_blocking(move || partition.find_offset(current_leader_epoch, spec)).await;
                found.unwrap_or(Err(ReplicaError::NotLeaderOrFollower))
            }
            _ => partition.find_offset(current_leader_epoch, spec),
        }
    }

    /// Bring everything from the last image that was acted on to this one. Caller holds `publishing`.
    fn act_on(&self, image: &Arc<MetadataImage>, delta: Option<&MetadataDelta>) {
        if !self.holds_this_life(image) {
            return;
        }
        let last = self.image.load_full();
        let missed;
        let delta = match delta.filter(|delta| delta.base().offset == last.offset) {
            Some(delta) => delta,
            None => {
                missed = MetadataDelta::between(last, image);
                &missed
            }
        };
        self.image.store(image.clone());
        self.apply_changes(image, &delta.local_changes(self.config.node));
        self.delete_strays(image);
        if !delta.cluster.is_empty() || !delta.configs.is_empty() {
            self.refresh_leaders(image);
        }
        if !delta.configs.is_empty() {
            self.refresh_classes(image);
        }
    }

    fn apply_changes(&self, image: &MetadataImage, changes: &LocalReplicaChanges) {
        if changes.is_empty() {
            return;
        }
        let mut table = Table::clone(&self.table.load());
        for id in changes.deleted.keys() {
            if let Some(partition) = table.remove(id) {
                self.unfollow(*id, None);
                partition.store_failed(); // whoever waits here is told to look elsewhere
                self.unfinished.lock().garbage = true;
                if let Err(error) = self.directory.load().delete(id) {
                    tracing::warn!(partition = %id, %error, "the log of a deleted replica is still there; trying again");
                    self.unfinished.lock().strays = true;
                }
                tracing::info!(partition = %id, "replica deleted");
            }
        }
        let kept: Vec<(&TopicIdPartition, &ReplicaChange)> = changes.leaders.iter().chain(&changes.followers).collect();
        for (id, _) in &kept {
            if table.contains_key(id) {
                continue;
            }
            match self.directory.load().get_or_create(**id, log_class(&self.config.topic_configs, image, **id)) {
                Ok(log) => {
                    table.insert(**id, Partition::new(log, Arc::clone(&self.context)));
                }
                Err(error) => {
                    tracing::error!(partition = %id, %error, "no log for a new replica yet; trying again");
                    self.unfinished.lock().missing.insert(**id);
                }
            }
        }
        self.table.store(Arc::new(table));
        self.leaderships.send_replace(());
        for (id, change) in kept {
            self.take_over_refusals(image, *id);
            self.apply(image, *id, &change.new);
        }
    }

    /// What the store did not take when the metadata said it.
    pub(crate) fn retry_unfinished(&self) {
        {
            let unfinished = self.unfinished.lock();
            if unfinished.missing.is_empty() && !unfinished.strays {
                return;
            }
        }
        let _publishing = self.publishing.lock();
        let image = self.image.load_full();
        self.make_missing(&image);
        self.delete_strays(&image);
    }

    /// Caller holds `publishing`.
    fn make_missing(&self, image: &MetadataImage) {
        let missing = std::mem::take(&mut self.unfinished.lock().missing);
        for id in missing {
            let Some(registration) = image.partition(id).filter(|r| r.replicas.contains(&self.config.node)) else {
                continue;
            };
            match self.directory.load().get_or_create(id, log_class(&self.config.topic_configs, image, id)) {
                Ok(log) => {
                    let mut table = Table::clone(&self.table.load());
                    table.entry(id).or_insert_with(|| Partition::new(log, Arc::clone(&self.context)));
                    self.table.store(Arc::new(table));
                    self.take_over_refusals(image, id);
                    self.apply(image, id, registration);
                }
                Err(error) => {
                    tracing::debug!(partition = %id, %error, "still no log for a new replica");
                    self.unfinished.lock().missing.insert(id);
                }
            }
        }
    }

    /// Delete logs that are not of this broker's replicas. `image` was acted on; caller holds `publishing`.
    fn delete_strays(&self, image: &MetadataImage) {
        if !self.unfinished.lock().strays || !self.holds_this_life(image) {
            return;
        }
        let directory = self.directory.load_full();
        let (mut left, mut deleted) = (false, false);
        for log in directory.logs() {
            let id = log.topic_id_partition();
            let Some(why) = stray(image, self.config.node, id) else { continue };
            let bytes = log.size_bytes();
            match directory.delete(&id) {
                Ok(()) => {
                    deleted = true;
                    tracing::info!(partition = %id, bytes, why = why.as_str(), "deleted a stray log");
                }
                Err(error) => {
                    left = true;
                    tracing::debug!(partition = %id, %error, "a stray log is still there");
                }
            }
        }
        let mut unfinished = self.unfinished.lock();
        unfinished.strays = left;
        unfinished.garbage |= deleted;
    }

    /// Whether the newest image that was acted on holds the registration that this process knows as its own.
    pub fn knows_its_life(&self) -> bool {
        self.holds_this_life(&self.image.load())
    }

    /// Whether an image holds the registration that this process knows as its own.
    fn holds_this_life(&self, image: &MetadataImage) -> bool {
        if planted!(ActOnEarlierLifesMetadata) {
            return true;
        }
        let epoch = self.context.broker_epoch();
        epoch != BrokerEpoch::UNKNOWN && image.cluster.broker(self.config.node).map(|b| b.epoch()) == Some(epoch)
    }

    /// Bring one replica to its registration.
    fn apply(&self, image: &MetadataImage, id: TopicIdPartition, registration: &PartitionRegistration) {
        let Some(partition) = self.partition(id) else { return };
        let state = partition_state(image, id, registration);
        match partition.apply(&state, &broker_views(image, &state)) {
            Ok(Applied::BecameLeader) => {
                self.unfollow(id, None);
                tracing::debug!(partition = %id, epoch = state.leader_epoch.0, "leads");
            }
            Ok(Applied::Follows { leader, leader_epoch, position }) => {
                self.unfollow(id, Some(leader));
                self.follow(id, leader, leader_epoch, position);
            }
            Ok(Applied::Waits) => {
                self.unfollow(id, None);
                tracing::info!(partition = %id, epoch = state.leader_epoch.0, "waits for the next leader epoch");
            }
            Ok(Applied::StillLeader | Applied::Nothing) => {}
            Err(error) => tracing::error!(partition = %id, %error, "cannot take up what the metadata says"),
        }
        if registration.directory_of(self.config.node) == Some(DirectoryId::LOST) {
            self.damage_found.notify_one(); // the log may be another one by now
        }
        self.leaderships.send_replace(());
    }

    fn follow(&self, id: TopicIdPartition, leader: NodeId, term: LeaderEpoch, position: super::fetcher::FetchPosition) {
        let (epoch, cluster) = (self.context.broker_epoch(), self.image.load().cluster.cluster_id());
        let Some(cluster) = cluster else { return };
        if leader == NodeId::NONE || epoch == BrokerEpoch::UNKNOWN {
            return; // a registration, or a leader, comes by the metadata
        }
        if !self.has_room_for(id) {
            return; // begins again once there is space
        }
        let mut streams = self.streams.lock();
        let stream = streams
            .entry(leader)
            .or_insert_with(|| FetchTask::start(leader, (cluster, self.config.node, epoch), self.surroundings()));
        stream.follow(id, term, position);
        drop(streams);
        // A commit after the position was read found nobody to tell.
        let now = self.partition(id).and_then(|partition| partition.follower_position(term).ok());
        if let (Some(now), Some(stream)) = (now, self.streams.lock().get(&leader)) {
            stream.synced(id, term, now.synced);
        }
    }

    /// Follow the partition nowhere but at `keep`.
    fn unfollow(&self, id: TopicIdPartition, keep: Option<NodeId>) {
        self.streams.lock().retain(|leader, stream| Some(*leader) == keep || !stream.leave(id));
    }

    fn surroundings(&self) -> FetchSurroundings {
        let me = self.me.get().and_then(Weak::upgrade).expect("the manager is alive while it publishes");
        FetchSurroundings {
            pool: self.pool.clone(),
            replicas: me,
            clock: self.clock.clone(),
            config: self.config.fetcher.clone(),
        }
    }

    /// Brokers were fenced or came back, or configs changed: leaders count anew.
    fn refresh_leaders(&self, image: &MetadataImage) {
        for (id, partition) in self.table.load().iter() {
            if partition.role().0 != Role::Leader {
                continue;
            }
            if let Some(registration) = image.partition(*id) {
                let state = partition_state(image, *id, registration);
                partition.update_metadata(&broker_views(image, &state), state.min_insync_replicas);
            }
        }
    }

    fn refresh_classes(&self, image: &MetadataImage) {
        for (id, partition) in self.table.load().iter() {
            let (class, log) = (log_class(&self.config.topic_configs, image, *id), partition.log());
            if log.class() != class
                && let Err(error) = log.set_class(class)
            {
                tracing::warn!(partition = %id, %error, "the retention class was not changed");
            }
        }
    }

    fn open_service(self: &Arc<Self>, cluster: ClusterId) {
        let bounds = (self.config.fetcher.max_wait, self.config.fetcher.max_bytes as usize);
        let service = ReplicaService::new(cluster, self.context.clone(), self.clone(), self.session_seed, bounds);
        self.service.store(Some(Arc::new(service)));
    }

    fn followers_of(&self, id: TopicIdPartition) -> Vec<NodeId> {
        let image = self.image.load();
        let replicas = image.partition(id).map(|p| p.replicas.as_slice()).unwrap_or_default();
        replicas.iter().copied().filter(|node| *node != self.config.node).collect()
    }
}

impl Replicas for ReplicaManager {
    fn replica(&self, id: TopicIdPartition) -> Option<Arc<Partition>> {
        self.partition(id)
    }
}

impl MetadataPublisher for ReplicaManager {
    fn name(&self) -> &str {
        "replicas"
    }

    fn on_metadata_update(&self, delta: &MetadataDelta, image: &Arc<MetadataImage>) {
        let mut newest = self.publishing.lock();
        newest.clone_from(image);
        if self.service.load().is_none()
            && let (Some(cluster), Some(me)) = (image.cluster.cluster_id(), self.me.get().and_then(Weak::upgrade))
        {
            me.open_service(cluster);
        }
        self.act_on(image, Some(delta));
    }
}

impl Events {
    fn manager(&self) -> Option<Arc<ReplicaManager>> {
        self.manager.get().and_then(Weak::upgrade)
    }
}

impl PartitionEvents for Events {
    fn log_end_moved(&self, id: TopicIdPartition) {
        if let Some(manager) = self.manager()
            && let Some(service) = manager.service()
        {
            service.wake(id, manager.followers_of(id));
        }
    }

    fn high_watermark_moved(&self, id: TopicIdPartition) {
        if let Some(manager) = self.manager()
            && let Some(service) = manager.service()
        {
            service.mark_quiet(id, manager.followers_of(id));
        }
    }

    fn follower_synced(&self, id: TopicIdPartition, leader_epoch: LeaderEpoch, synced: i64) {
        let Some(manager) = self.manager() else { return };
        let leader = manager.image.load().partition(id).map_or(NodeId::NONE, |p| p.leader);
        if let Some(stream) = manager.streams.lock().get(&leader) {
            stream.synced(id, leader_epoch, synced);
        }
    }

    fn isr_proposed(&self, id: TopicIdPartition, _proposal: IsrProposal) {
        if let Some(manager) = self.manager() {
            manager.isr.add(id);
        }
    }

    fn log_damaged(&self, _: TopicIdPartition) {
        if let Some(manager) = self.manager() {
            manager.damage_found.notify_one();
            manager.leaderships.send_replace(());
        }
    }

    fn store_failed(&self, _: TopicIdPartition, error: &StorageError) {
        let Some(manager) = self.manager() else { return };
        // One store lies under all of them: whoever had nothing in flight would find out only with its next append.
        for partition in manager.table.load().values() {
            partition.store_failed();
        }
        manager.leaderships.send_replace(());
        let first = manager.store_failure.send_if_modified(|failure| {
            let first = failure.is_none();
            *failure = Some(error.clone());
            first
        });
        if first {
            tracing::error!(%error, "the data directory is offline: this broker gives up its replicas");
        }
    }
}

/// Whether there is something to say by now.
fn is_enough(reads: &[Result<ConsumerRead, ReplicaError>], size: usize, min_bytes: usize) -> bool {
    let is_news = |read: &Result<ConsumerRead, _>| read.as_ref().map_or(true, |read| read.diverging.is_some());
    reads.is_empty() || size >= min_bytes || reads.iter().any(is_news)
}

pub(super) fn partition_state(
    image: &MetadataImage,
    id: TopicIdPartition,
    registration: &PartitionRegistration,
) -> PartitionState {
    let min_insync_replicas =
        image.topics.by_id(id.topic_id).map_or(1, |t| image.min_isr(&t.name, registration.replicas.len()));
    PartitionState {
        leader: registration.leader,
        leader_epoch: registration.leader_epoch,
        partition_epoch: registration.partition_epoch,
        replicas: registration.replicas.to_vec(),
        isr: registration.isr.iter().copied().collect::<BTreeSet<_>>(),
        min_insync_replicas,
        recovering: registration.recovery_state == LeaderRecoveryState::Recovering,
    }
}

pub(super) fn broker_views(image: &MetadataImage, state: &PartitionState) -> BTreeMap<NodeId, BrokerView> {
    let view = |id: &NodeId| {
        let broker = image.cluster.broker(*id)?;
        Some((*id, BrokerView { epoch: broker.epoch(), eligible: broker.is_active() }))
    };
    state.replicas.iter().filter_map(view).collect()
}

fn log_class(configs: &TopicConfigs, image: &MetadataImage, id: TopicIdPartition) -> LogClass {
    let Some(topic) = image.topics.by_id(id.topic_id) else { return LogClass::of(false, -1, -1) };
    let number = |name| configs.number(image, &topic.name, name);
    LogClass::of(!image.is_retention_bound(&topic.name), number("retention.ms"), number("retention.bytes"))
}

#[cfg(test)]
mod tests;
