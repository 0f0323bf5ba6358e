//! The tokio half: one task per led partition.
//!
//! # States of a partition
//!
//! | state | answers | leaves by |
//! |---|---|---|
//! | not led (no task) | NOT_COORDINATOR | [`CoordinatorRuntime::elected`] → loading |
//! | loading | COORDINATOR_LOAD_IN_PROGRESS | end of log reached → active; unreadable record → failed; resigned, or the log says "not leader" → not led |
//! | active | the shard's | nobody confirms that this broker leads ([`CoordinatorLog::stands`]) → unconfirmed; append with unknown outcome, or a panic → loading, everyone waiting gets NOT_COORDINATOR; resigned → not led |
//! | unconfirmed | to readers, heartbeats among them, NOT_COORDINATOR, and no timer of the shard fires; to writers the shard's, once the followers have it | confirmed → active: sessions begin anew, other timers go on ([`CoordinatorShard::resumed`]); else as active |
//! | failed | COORDINATOR_NOT_AVAILABLE | a new election: another version of this broker may be able to read the record |
//!
//! The task owns the [`EventLoop`]; requests reach it through one bounded queue, in which callers wait for room.
//! The leader epoch is fixed for the life of the task and goes along with every call to the log.

use super::loads::{Loading, Loads};
use super::{
    AppendError, Appended, CoordinatorError, CoordinatorLog, CoordinatorShard, DecodeError, EventLoop, LoopLimits, Now,
    ReadError, RequestId, Rewriting, ShardFactory, decode_batches,
};
use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::Fuse;
use parking_lot::Mutex;
use rookery_protocol::batch::BatchError;
use rookery_raft::ids::LeaderEpoch;
use std::collections::BTreeMap;
use std::marker::PhantomData;
use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use thiserror::Error;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Between two offers of a batch that the log refused.
const APPEND_RETRY: Duration = Duration::from_millis(50);
/// First and longest pause before a load is tried again.
const RELOAD_PAUSE: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(5));
/// Between two looks whether a coordinator is confirmed again.
const UNCONFIRMED_LOOK: Duration = Duration::from_millis(100);
/// Requests handled before the loop looks at its other events again.
const REQUESTS_PER_TURN: usize = 256;

/// How the tasks run.
#[derive(Debug, Clone, Copy)]
pub struct RuntimeConfig {
    /// The topic, for logs and metrics.
    pub topic: &'static str,
    /// Requests that may queue before one partition's task.
    pub queue_max: usize,
    /// `offsets.load.buffer.size`: bytes read at once while loading.
    pub load_bytes: usize,
    /// How often a partition looks whether its log should be rewritten.
    pub rewrite_interval: Duration,
    /// Bounds of each shard.
    pub limits: LoopLimits,
}

impl RuntimeConfig {
    /// Kafka's defaults where it has them.
    pub fn new(topic: &'static str) -> Self {
        Self {
            topic,
            queue_max: 1024,
            load_bytes: 5 << 20,
            rewrite_interval: Duration::from_secs(30),
            limits: LoopLimits::default(),
        }
    }
}

type Reply<S> = oneshot::Sender<Result<<S as CoordinatorShard>::Response, CoordinatorError>>;

struct Command<S: CoordinatorShard> {
    request: S::Request,
    reply: Reply<S>,
}

struct Led<S: CoordinatorShard> {
    epoch: LeaderEpoch,
    requests: mpsc::Sender<Command<S>>,
    stop: CancellationToken,
}

/// All partitions of one coordinator's topic that this broker leads.
pub struct CoordinatorRuntime<S: CoordinatorShard, L> {
    factory: Arc<dyn ShardFactory<S>>,
    loads: Arc<Loads>,
    config: RuntimeConfig,
    partitions: Mutex<BTreeMap<i32, Led<S>>>,
    tasks: TaskTracker,
    stop: CancellationToken,
    started: Instant,
    log: PhantomData<fn(L)>,
}

impl<S: CoordinatorShard, L: CoordinatorLog> CoordinatorRuntime<S, L> {
    /// Leads nothing yet.
    pub fn new(factory: impl ShardFactory<S>, config: RuntimeConfig) -> Self {
        Self {
            factory: Arc::new(factory),
            loads: Loads::new(config.topic),
            config,
            partitions: Mutex::default(),
            tasks: TaskTracker::new(),
            stop: CancellationToken::new(),
            started: Instant::now(),
            log: PhantomData,
        }
    }

    /// This broker leads `partition` in `epoch`: loads it from `log`. An epoch not above the known one changes nothing.
    pub fn elected(&self, log: &Arc<L>, partition: i32, epoch: LeaderEpoch) {
        let mut partitions = self.partitions.lock();
        if self.stop.is_cancelled() || partitions.get(&partition).is_some_and(|led| led.epoch >= epoch) {
            return;
        }
        let (requests, queue) = mpsc::channel(self.config.queue_max);
        let stop = self.stop.child_token();
        if let Some(old) = partitions.insert(partition, Led { epoch, requests, stop: stop.clone() }) {
            old.stop.cancel();
        }
        let task = PartitionTask {
            log: log.clone(),
            factory: self.factory.clone(),
            loads: self.loads.clone(),
            // Those that are elected together are loads of one round.
            loading: Some(self.loads.begin()),
            config: self.config,
            partition,
            epoch,
            started: self.started,
            next_request: 0,
            waiting: BTreeMap::new(),
        };
        self.tasks.spawn(async move {
            let ended = pin!(stop.cancelled());
            task.run(queue, ended).await;
        });
    }

    /// This broker does not lead `partition` any more: everyone who waits is told.
    pub fn resigned(&self, partition: i32) {
        if let Some(led) = self.partitions.lock().remove(&partition) {
            led.stop.cancel();
        }
    }

    /// The partitions this broker leads, loading ones included.
    pub fn partitions(&self) -> Vec<i32> {
        self.partitions.lock().keys().copied().collect()
    }

    /// Hands a request to the shard of `partition` and waits for the answer, which may take as long as a rebalance.
    pub async fn request(&self, partition: i32, request: S::Request) -> Result<S::Response, CoordinatorError> {
        let requests = self.partitions.lock().get(&partition).map(|led| led.requests.clone());
        let requests = requests.ok_or(CoordinatorError::NotCoordinator)?;
        let (reply, answer) = oneshot::channel();
        // Either side closes when the task ends, which it does when the leadership ends.
        requests.send(Command { request, reply }).await.map_err(|_| CoordinatorError::NotCoordinator)?;
        answer.await.unwrap_or(Err(CoordinatorError::NotCoordinator))
    }

    /// Resigns everything and waits for the tasks.
    pub async fn shutdown(&self) {
        self.stop.cancel();
        self.partitions.lock().clear();
        self.tasks.close();
        self.tasks.wait().await;
    }
}

/// Why an active or loading partition stopped being one.
#[derive(Debug, Error)]
enum End {
    #[error("another broker leads")]
    NotLeader,
    #[error("append: {0}")]
    Append(String),
    #[error("read: {0}")]
    Read(String),
    #[error("the coordinator panicked")]
    Panicked,
    #[error(transparent)]
    Batch(#[from] BatchError),
    #[error(transparent)]
    Record(#[from] DecodeError),
}

impl From<ReadError> for End {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::NotLeader => Self::NotLeader,
            ReadError::Failed(why) => Self::Read(why),
        }
    }
}

impl From<AppendError> for End {
    fn from(error: AppendError) -> Self {
        match error {
            AppendError::NotLeader => Self::NotLeader,
            AppendError::Refused(why) | AppendError::Failed(why) => Self::Append(why),
        }
    }
}

struct PartitionTask<S: CoordinatorShard, L> {
    log: Arc<L>,
    factory: Arc<dyn ShardFactory<S>>,
    loads: Arc<Loads>,
    loading: Option<Loading>,
    config: RuntimeConfig,
    partition: i32,
    epoch: LeaderEpoch,
    started: Instant,
    next_request: RequestId,
    waiting: BTreeMap<RequestId, Reply<S>>,
}

impl<S: CoordinatorShard, L: CoordinatorLog> PartitionTask<S, L> {
    async fn run(mut self, mut queue: mpsc::Receiver<Command<S>>, mut stop: impl Future<Output = ()> + Unpin) {
        let (topic, partition, epoch) = (self.config.topic, self.partition, self.epoch);
        let mut pause = RELOAD_PAUSE.0;
        loop {
            let end = tokio::select! {
                biased;
                () = &mut stop => break,
                // Unwind safe: the shard is thrown away whole, and who waits is told below.
                end = AssertUnwindSafe(self.load_and_serve(&mut queue, &mut pause)).catch_unwind() => {
                    end.unwrap_or(End::Panicked)
                }
            };
            self.answer_all(CoordinatorError::NotCoordinator);
            match end {
                End::NotLeader => break,
                End::Record(error) => {
                    tracing::error!(topic, partition, epoch = epoch.0, %error, "cannot load: the coordinator stays unavailable");
                    metrics::counter!("rookery_coordinator_failed_loads_total", "topic" => topic).increment(1);
                    refuse_until(&mut queue, CoordinatorError::CoordinatorNotAvailable, &mut stop).await;
                    break;
                }
                End::Append(_) | End::Read(_) | End::Batch(_) | End::Panicked => {
                    tracing::warn!(topic, partition, epoch = epoch.0, error = %end, "loading anew");
                    metrics::counter!("rookery_coordinator_reloads_total", "topic" => topic).increment(1);
                    let mut slept = pin!(tokio::time::sleep(pause));
                    pause = (pause * 2).min(RELOAD_PAUSE.1);
                    refuse_until(&mut queue, CoordinatorError::CoordinatorLoadInProgress, &mut slept).await;
                }
            }
        }
        self.answer_all(CoordinatorError::NotCoordinator);
        tracing::debug!(topic, partition, epoch = epoch.0, "coordinator unloaded");
    }

    async fn load_and_serve(&mut self, queue: &mut mpsc::Receiver<Command<S>>, pause: &mut Duration) -> End {
        let loaded = {
            let mut load = pin!(self.load());
            loop {
                tokio::select! {
                    biased;
                    loaded = &mut load => break loaded,
                    Some(command) = queue.recv() => {
                        let _ = command.reply.send(Err(CoordinatorError::CoordinatorLoadInProgress));
                    }
                }
            }
        };
        match loaded {
            Err(end) => end,
            Ok(event_loop) => {
                *pause = RELOAD_PAUSE.0;
                match self.serve(event_loop, queue).await {
                    Ok(never) => match never {},
                    Err(end) => end,
                }
            }
        }
    }

    async fn load(&mut self) -> Result<EventLoop<S>, End> {
        let (topic, partition, epoch) = (self.config.topic, self.partition, self.epoch);
        let loading = self.loading.take().unwrap_or_else(|| self.loads.begin());
        let begun = Instant::now();
        let mut event_loop = EventLoop::new(self.factory.create(partition), self.config.limits);
        let bounds = self.log.bounds(partition, epoch).await?;
        let high_watermark = self.log.high_watermark(partition, epoch)?;
        let mut from = bounds.start;
        while from < bounds.end {
            let read = self.log.read(partition, epoch, from, self.config.load_bytes).await?;
            let before = from;
            for bytes in &read {
                for batch in decode_batches(bytes)? {
                    from = from.max(batch.last_offset + 1);
                    event_loop.load(batch)?;
                }
            }
            if from == before {
                return Err(End::Read(format!("no batch at offset {from}, the log ends at {}", bounds.end)));
            }
            let committed = *high_watermark.borrow();
            event_loop.high_watermark(self.now(), committed);
            tokio::task::yield_now().await;
        }
        event_loop.loaded(self.now());
        let unknown = event_loop.unknown_records();
        if unknown > 0 {
            tracing::warn!(topic, partition, unknown, "kept records of types this version does not know");
            metrics::counter!("rookery_coordinator_unknown_records_total", "topic" => topic).increment(unknown);
        }
        let (start, end, keys) = (bounds.start, bounds.end, event_loop.live_keys().len());
        tracing::debug!(topic, partition, epoch = epoch.0, start, end, keys, "coordinator loaded");
        loading.done(keys);
        metrics::histogram!("rookery_coordinator_load_seconds", "topic" => topic).record(begun.elapsed().as_secs_f64());
        Ok(event_loop)
    }

    async fn serve(
        &mut self,
        mut event_loop: EventLoop<S>,
        queue: &mut mpsc::Receiver<Command<S>>,
    ) -> Result<std::convert::Infallible, End> {
        let (log, partition, epoch) = (self.log.clone(), self.partition, self.epoch);
        let mut high_watermark = log.high_watermark(partition, epoch)?;
        let mut append = pin!(Fuse::terminated());
        let mut rewrite_at = Instant::now() + self.config.rewrite_interval;
        loop {
            self.look(&mut event_loop);
            let committed = *high_watermark.borrow_and_update();
            event_loop.high_watermark(self.now(), committed);
            if let Some(log_start) = event_loop.log_start_due() {
                log.advance_log_start(partition, epoch, log_start).await?;
                rewrite_at = Instant::now();
            }
            if let Some(batch) = event_loop.next_append(self.now()) {
                append.set(append_until_taken(log.clone(), partition, epoch, batch).fuse());
            }
            self.deliver(&mut event_loop);
            let look_at = (!event_loop.is_standing()).then(|| Instant::now() + UNCONFIRMED_LOOK);
            let due = event_loop.next_deadline().map(|at| self.started + at);
            let tick = due.into_iter().chain(look_at).fold(rewrite_at, Instant::min);
            tokio::select! {
                appended = &mut append => event_loop.appended(self.now(), appended?),
                changed = high_watermark.changed() => changed.map_err(|_| End::NotLeader)?,
                Some(command) = queue.recv() => {
                    self.handle(&mut event_loop, command);
                    for _ in 1..REQUESTS_PER_TURN {
                        let Ok(command) = queue.try_recv() else { break };
                        self.handle(&mut event_loop, command);
                    }
                }
                () = tokio::time::sleep_until(tick) => {
                    self.look(&mut event_loop);
                    event_loop.tick(self.now());
                    if rewrite_at <= Instant::now() {
                        rewrite_at = Instant::now() + self.config.rewrite_interval;
                        self.rewrite(&mut event_loop).await?;
                    }
                }
            }
        }
    }

    async fn rewrite(&self, event_loop: &mut EventLoop<S>) -> Result<(), End> {
        let bounds = self.log.bounds(self.partition, self.epoch).await?;
        if !event_loop.wants_rewriting(bounds.start) {
            return Ok(());
        }
        let bytes = self.config.limits.rewrite.bytes_per_step;
        let mut batches = Vec::new();
        for read in self.log.read(self.partition, self.epoch, bounds.start, bytes).await? {
            batches.extend(decode_batches(&read)?);
        }
        match event_loop.rewrite(batches) {
            Rewriting::Emitted => {
                metrics::counter!("rookery_coordinator_rewrites_total", "topic" => self.config.topic).increment(1);
            }
            Rewriting::Stuck => {
                tracing::warn!(partition = self.partition, offset = bounds.start, "cannot rewrite: unknown batch");
            }
        }
        Ok(())
    }

    /// Whether this coordinator may speak now. Looked at before every answer from what it knows alone, and before any timer.
    fn look(&self, event_loop: &mut EventLoop<S>) -> bool {
        event_loop.set_standing(self.now(), self.log.stands(self.partition, self.epoch));
        event_loop.is_standing()
    }

    fn handle(&mut self, event_loop: &mut EventLoop<S>, command: Command<S>) {
        if S::only_reads(&command.request) && !self.look(event_loop) {
            let _ = command.reply.send(Err(CoordinatorError::NotCoordinator));
            return;
        }
        let id = self.next_request;
        self.next_request += 1;
        self.waiting.insert(id, command.reply);
        event_loop.handle(self.now(), id, command.request);
    }

    fn deliver(&mut self, event_loop: &mut EventLoop<S>) {
        for answer in event_loop.take_answers() {
            if let Some(reply) = self.waiting.remove(&answer.request) {
                // The caller may have gone away with its connection.
                let _ = reply.send(answer.result);
            }
        }
    }

    fn answer_all(&mut self, error: CoordinatorError) {
        for (_, reply) in std::mem::take(&mut self.waiting) {
            let _ = reply.send(Err(error));
        }
    }

    fn now(&self) -> Now {
        let unix = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let unix_ms = i64::try_from(unix.as_millis()).unwrap_or(i64::MAX);
        Now { monotonic: self.started.elapsed(), unix_ms }
    }
}

/// Offers the batch until the log takes it or says that it never will.
async fn append_until_taken<L: CoordinatorLog>(
    log: Arc<L>,
    partition: i32,
    epoch: LeaderEpoch,
    batch: Bytes,
) -> Result<Appended, AppendError> {
    loop {
        match log.append(partition, epoch, batch.clone()).await {
            Err(AppendError::Refused(why)) => {
                tracing::debug!(partition, why, "the log refused a batch; it is offered again");
                tokio::time::sleep(APPEND_RETRY).await;
            }
            outcome => return outcome,
        }
    }
}

/// Answers every request with `error` until `done`.
async fn refuse_until<S: CoordinatorShard>(
    queue: &mut mpsc::Receiver<Command<S>>,
    error: CoordinatorError,
    done: &mut (impl Future<Output = ()> + Unpin),
) {
    loop {
        tokio::select! {
            biased;
            () = &mut *done => return,
            Some(command) = queue.recv() => {
                let _ = command.reply.send(Err(error));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::group::{
        CommittedPartition, CommittedTopic, FetchTopic, HeartbeatRequest, JoinGroupRequest, JoinProtocol, MemberId,
        OffsetCommitRequest, OffsetFetchRequest, SyncGroupRequest,
    };
    use super::super::group::{GroupConfig, GroupRequest, GroupResponse, GroupShard};
    use super::super::{MemoryLog, RewriteLimits};
    use super::*;
    use rand::SeedableRng;
    use rand::rngs::StdRng;
    use rookery_raft::ids::TopicId;
    use std::sync::atomic::{AtomicBool, Ordering};

    type Runtime = CoordinatorRuntime<GroupShard, MemoryLog>;

    fn runtime(change: impl FnOnce(&mut RuntimeConfig)) -> (Arc<MemoryLog>, Arc<Runtime>) {
        let log = Arc::new(MemoryLog::new());
        let mut config = RuntimeConfig::new("__consumer_offsets");
        change(&mut config);
        let groups = Arc::new(GroupConfig::default());
        let factory = move |_| GroupShard::new(groups.clone(), StdRng::seed_from_u64(7));
        (log.clone(), Arc::new(CoordinatorRuntime::new(factory, config)))
    }

    fn commit(offset: i64) -> GroupRequest {
        let partition = CommittedPartition { partition: 0, offset, leader_epoch: -1, metadata: "".into() };
        GroupRequest::CommitOffsets(OffsetCommitRequest {
            group_id: "g".into(),
            generation: -1,
            member_id: "".into(),
            group_instance_id: None,
            retention_ms: None,
            knows_group_id_not_found: true,
            topics: vec![CommittedTopic { name: "t".into(), topic_id: TopicId::NONE, partitions: vec![partition] }],
        })
    }

    /// The committed offset, once the partition is loaded.
    async fn fetch(runtime: &Runtime) -> Result<i64, CoordinatorError> {
        loop {
            let topics = vec![FetchTopic { name: "t".into(), topic_id: TopicId::NONE, partitions: vec![0] }];
            let fetch = OffsetFetchRequest { group_id: "g".into(), topics: Some(topics), require_stable: false };
            match runtime.request(0, GroupRequest::FetchOffsets(fetch)).await {
                Ok(GroupResponse::FetchOffsets(topics)) => return Ok(topics[0].partitions[0].offset),
                Ok(other) => panic!("{other:?}"),
                Err(CoordinatorError::CoordinatorLoadInProgress) => tokio::task::yield_now().await,
                Err(error) => return Err(error),
            }
        }
    }

    #[tokio::test]
    async fn a_partition_answers_while_it_is_led_and_its_state_moves_with_the_log() {
        let (log, runtime) = runtime(|_| {});
        assert_eq!(runtime.request(0, commit(1)).await, Err(CoordinatorError::NotCoordinator));
        log.lead(0, LeaderEpoch(1));
        runtime.elected(&log, 0, LeaderEpoch(1));
        assert_eq!(fetch(&runtime).await, Ok(-1));
        runtime.request(0, commit(1)).await.unwrap();
        assert_eq!(fetch(&runtime).await, Ok(1));
        // News of an older election change nothing.
        runtime.elected(&log, 0, LeaderEpoch(0));
        assert_eq!(fetch(&runtime).await, Ok(1));
        runtime.resigned(0);
        assert_eq!(fetch(&runtime).await, Err(CoordinatorError::NotCoordinator));
        log.lead(0, LeaderEpoch(3));
        runtime.elected(&log, 0, LeaderEpoch(3));
        assert_eq!(fetch(&runtime).await, Ok(1));
        runtime.shutdown().await;
        assert_eq!(fetch(&runtime).await, Err(CoordinatorError::NotCoordinator));
    }

    #[tokio::test]
    async fn a_refused_batch_is_offered_again_and_a_failed_one_means_loading_anew() {
        let (log, runtime) = runtime(|_| {});
        log.lead(0, LeaderEpoch(1));
        runtime.elected(&log, 0, LeaderEpoch(1));
        assert_eq!(fetch(&runtime).await, Ok(-1));
        log.fail_next_append(0, AppendError::Refused("too few in-sync replicas".to_owned()));
        runtime.request(0, commit(1)).await.unwrap();
        log.fail_next_append(0, AppendError::Failed("disk".to_owned()));
        assert_eq!(runtime.request(0, commit(2)).await, Err(CoordinatorError::NotCoordinator));
        assert_eq!(fetch(&runtime).await, Ok(1));
        runtime.request(0, commit(3)).await.unwrap();
        assert_eq!(fetch(&runtime).await, Ok(3));
        // Replaced without having heard of it: the log refuses, nothing is acknowledged.
        log.lead(0, LeaderEpoch(2));
        assert_eq!(runtime.request(0, commit(4)).await, Err(CoordinatorError::NotCoordinator));
        assert_eq!(fetch(&runtime).await, Err(CoordinatorError::NotCoordinator));
    }

    #[tokio::test]
    async fn who_waits_for_the_high_watermark_is_told_when_the_leadership_ends() {
        let (log, runtime) = runtime(|_| {});
        log.lead(0, LeaderEpoch(1));
        runtime.elected(&log, 0, LeaderEpoch(1));
        assert_eq!(fetch(&runtime).await, Ok(-1));
        log.hold_high_watermark(0, true);
        let waiting = tokio::spawn({
            let runtime = runtime.clone();
            async move { runtime.request(0, commit(1)).await }
        });
        while log.bounds(0, LeaderEpoch(1)).await.unwrap().end == 0 {
            tokio::task::yield_now().await;
        }
        assert_eq!(fetch(&runtime).await, Ok(-1), "written, not committed");
        runtime.resigned(0);
        assert_eq!(waiting.await.unwrap(), Err(CoordinatorError::NotCoordinator));
    }

    /// Its high watermark is what it last heard of, and an offset above that was acknowledged: it would have gone back.
    #[tokio::test]
    async fn a_new_coordinator_told_an_older_offset_than_the_one_before_had_acknowledged() {
        let (log, runtime) = runtime(|_| {});
        log.lead(0, LeaderEpoch(1));
        runtime.elected(&log, 0, LeaderEpoch(1));
        assert_eq!(fetch(&runtime).await, Ok(-1));
        runtime.request(0, commit(1)).await.unwrap();
        let first = log.bounds(0, LeaderEpoch(1)).await.unwrap().end;
        runtime.request(0, commit(2)).await.unwrap();
        log.lead_behind(0, LeaderEpoch(2), first);
        runtime.elected(&log, 0, LeaderEpoch(2));
        let fetching = tokio::spawn({
            let runtime = runtime.clone();
            async move { fetch(&runtime).await }
        });
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        log.hold_high_watermark(0, false);
        assert_eq!(fetching.await.unwrap(), Ok(2));
    }

    /// Another one is elected where this node cannot hear of it, and what it acknowledges is not known here.
    #[tokio::test]
    async fn a_coordinator_that_nobody_confirms_told_what_it_knew() {
        let (log, runtime) = runtime(|_| {});
        log.lead(0, LeaderEpoch(1));
        runtime.elected(&log, 0, LeaderEpoch(1));
        assert_eq!(fetch(&runtime).await, Ok(-1));
        log.confirm(0, false);
        assert_eq!(fetch(&runtime).await, Err(CoordinatorError::NotCoordinator));
        log.confirm(0, true);
        assert_eq!(fetch(&runtime).await, Ok(-1));
    }

    /// The only member of a stable group, in generation 1, with a session of ten seconds.
    async fn member(runtime: &Runtime) -> MemberId {
        let join = JoinGroupRequest {
            group_id: "g".into(),
            session_timeout_ms: 10_000,
            rebalance_timeout_ms: 10_000,
            member_id: "".into(),
            group_instance_id: None,
            protocol_type: "consumer".into(),
            protocols: vec![JoinProtocol { name: "range".into(), metadata: Bytes::new() }],
            client_id: "client".into(),
            client_host: "/127.0.0.1".into(),
            requires_known_member_id: false,
            supports_skipping_assignment: false,
        };
        let Ok(GroupResponse::Join(joined)) = runtime.request(0, GroupRequest::Join(join)).await else { panic!() };
        assert_eq!((joined.error, joined.generation), (None, 1));
        let sync = SyncGroupRequest {
            group_id: "g".into(),
            generation: 1,
            member_id: joined.member_id.clone(),
            group_instance_id: None,
            protocol_type: None,
            protocol_name: None,
            assignments: vec![(joined.member_id.clone(), Bytes::new())],
        };
        runtime.request(0, GroupRequest::Sync(sync)).await.unwrap();
        joined.member_id
    }

    async fn heartbeat(runtime: &Runtime, member: &MemberId) -> Result<GroupResponse, CoordinatorError> {
        let (group_id, member_id) = ("g".into(), member.clone());
        let beat = HeartbeatRequest { group_id, generation: 1, member_id, group_instance_id: None };
        runtime.request(0, GroupRequest::Heartbeat(beat)).await
    }

    /// It refused their heartbeats and went on counting their silence.
    #[tokio::test(start_paused = true)]
    async fn a_coordinator_that_nobody_confirmed_expelled_its_members() {
        let (log, runtime) = runtime(|_| {});
        log.lead(0, LeaderEpoch(1));
        runtime.elected(&log, 0, LeaderEpoch(1));
        assert_eq!(fetch(&runtime).await, Ok(-1));
        let member = member(&runtime).await;
        tokio::time::sleep(Duration::from_secs(8)).await;
        log.confirm(0, false);
        for _ in 0..10 {
            assert_eq!(heartbeat(&runtime, &member).await, Err(CoordinatorError::NotCoordinator));
            tokio::time::sleep(Duration::from_secs(3)).await;
        }
        log.confirm(0, true);
        tokio::time::sleep(Duration::from_secs(8)).await;
        assert_eq!(heartbeat(&runtime, &member).await, Ok(GroupResponse::Heartbeat), "its session began anew");
        tokio::time::sleep(Duration::from_secs(11)).await;
        let silent = heartbeat(&runtime, &member).await;
        assert_eq!(silent, Err(CoordinatorError::UnknownMemberId), "this silence was its own");
    }

    #[tokio::test(start_paused = true)]
    async fn a_write_is_given_up_in_time_while_nobody_confirms_the_coordinator() {
        let (log, runtime) = runtime(|_| {});
        log.lead(0, LeaderEpoch(1));
        runtime.elected(&log, 0, LeaderEpoch(1));
        assert_eq!(fetch(&runtime).await, Ok(-1));
        log.confirm(0, false);
        log.hold_high_watermark(0, true);
        let begun = Instant::now();
        assert_eq!(runtime.request(0, commit(1)).await, Err(CoordinatorError::CoordinatorNotAvailable));
        assert_eq!(begun.elapsed().as_secs(), LoopLimits::default().write_timeout.as_secs());
    }

    #[tokio::test]
    async fn a_coordinator_that_panicked_was_gone_for_the_whole_term() {
        let log = Arc::new(MemoryLog::new());
        let (groups, panicked) = (Arc::new(GroupConfig::default()), AtomicBool::new(false));
        let factory = move |_| {
            assert!(panicked.swap(true, Ordering::Relaxed), "planted");
            GroupShard::new(groups.clone(), StdRng::seed_from_u64(7))
        };
        let runtime = Runtime::new(factory, RuntimeConfig::new("__consumer_offsets"));
        log.lead(0, LeaderEpoch(1));
        runtime.elected(&log, 0, LeaderEpoch(1));
        assert_eq!(fetch(&runtime).await, Ok(-1));
    }

    #[tokio::test]
    async fn the_log_is_kept_short_while_it_is_written() {
        let (log, runtime) = runtime(|config| {
            config.rewrite_interval = Duration::from_millis(1);
            config.limits.rewrite = RewriteLimits { records_min: 50, live_percent_max: 50, bytes_per_step: 2_000 };
        });
        log.lead(0, LeaderEpoch(1));
        runtime.elected(&log, 0, LeaderEpoch(1));
        assert_eq!(fetch(&runtime).await, Ok(-1));
        let mut last = 0;
        loop {
            last += 1;
            runtime.request(0, commit(last)).await.unwrap();
            let bounds = log.bounds(0, LeaderEpoch(1)).await.unwrap();
            if bounds.start > 100 {
                break;
            }
        }
        log.lead(0, LeaderEpoch(2));
        runtime.elected(&log, 0, LeaderEpoch(2));
        assert_eq!(fetch(&runtime).await, Ok(last));
    }
}
