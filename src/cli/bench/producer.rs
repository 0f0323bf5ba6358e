//! A producer with many batches under way, as cheap as it can be.
//!
//! One task owns everything and only ever reacts: records become due, answers come, time passes. Each connection has a task of
//! its own that moves bytes and nothing else.
//!
//! ```text
//!  plan ─ due ─▶ open batch ─ full, or lingered ─▶ partition's queue ─▶ request on a link ─▶ answer ─▶ recorder
//!                    ▲                                   ▲                    │
//!                    └──── one at a time, partitions     └── failed ──────────┘  (partition.rs)
//!                          in turn (sticky, KIP-480)
//! ```
//!
//! - One batch takes records at a time; when it is closed, the next partition has its turn. It is closed when it is full, or when it
//!   has lingered and could be sent at once: as long as it could not, more records join it, so that a busy cluster gets larger
//!   batches and an idle one small ones at once.
//! - A partition is sent over one connection to its leader; a request takes at most one batch of each partition.
//! - Bounded: records made and not acknowledged (`--in-flight`), requests of a connection, bytes of a request.
//! - A connection that breaks, or an answer that does not come, gives its batches back; leaders are looked up. Nothing is dropped: what was
//!   neither acknowledged nor refused at the end is counted as such.

use super::leaders::{Leaders, Lookup};
use super::link;
use super::pace::{Clock, Nanos, Schedule, nanos};
use super::partition::{Numbered, Outcome, Partition, RETRY_PAUSE};
use super::payload::{Mold, OpenBatch, Run, SealedBatch};
use super::recorder::{Latencies, Recorder};
use crate::cli::tries::Tries;
use anyhow::{Context, Result, anyhow, bail};
use bytes::Bytes;
use parking_lot::Mutex;
use rookery_protocol::codec::{Records, Segments, SmolStr};
use rookery_protocol::error::ErrorCode;
use rookery_protocol::messages::header::read_response;
use rookery_protocol::messages::produce::{PartitionProduceData, TopicProduceData};
use rookery_protocol::messages::{ProduceRequest, request_frame};
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Notify, mpsc};
use tokio::time::{MissedTickBehavior, interval, sleep, sleep_until};
use tokio_util::sync::CancellationToken;

/// Version 12 is the last that names topics.
const PRODUCE_VERSION_MAX: i16 = 12;
/// How often time-outs, pauses and the end are looked at.
const HOUSEKEEPING: Duration = Duration::from_millis(10);
/// Between two lookups of leaders.
const LOOKUP_PAUSE: Duration = Duration::from_millis(50);
/// Events that wait; those who bring them wait then.
const EVENTS_MAX: usize = 1024;

/// How to produce.
#[derive(Clone, Debug)]
pub struct ProducerSettings {
    /// Where to.
    pub topic: SmolStr,
    /// How many it has: all of them are written to.
    pub partitions: usize,
    /// As in Kafka: -1 for all in-sync replicas, 1, 0.
    pub acks: i16,
    /// To each broker.
    pub connections: usize,
    /// Under way on a connection; also batches of a partition.
    pub requests_in_flight: usize,
    /// A request that has so many takes no further batch.
    pub request_bytes: usize,
    /// How long a batch that is not full may wait.
    pub linger: Nanos,
    /// Records that were made and not yet acknowledged.
    pub in_flight_records: u64,
    /// Bytes of a record that are the user's.
    pub record_bytes: u64,
    /// An answer that takes longer never comes.
    pub request_timeout: Duration,
    /// If nothing is acknowledged for so long, nothing ever will be.
    pub patience: Duration,
}

/// When to make how many records.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// The open loop's; a closed loop has none.
    pub schedule: Option<Schedule>,
    /// The end of the warm-up.
    pub measured_from: Nanos,
    /// How many after that.
    pub records: Option<u64>,
    /// Nothing is due from then on.
    pub until: Option<Nanos>,
}

impl Plan {
    /// Whether the time is over.
    fn is_past(&self, now: Nanos) -> bool {
        self.until.is_some_and(|until| now >= until)
    }

    /// How many records may have been made by now, given how many were made and how many of those before the measurement.
    fn allowed(&self, now: Nanos, made: u64, made_before: Option<u64>) -> u64 {
        match self.schedule {
            Some(schedule) => {
                let due = schedule.count(self.until.map_or(now, |until| now.min(until.saturating_sub(1))));
                let warm_up = self.measured_from.checked_sub(1).map_or(0, |before| schedule.count(before));
                due.min(self.records.map_or(u64::MAX, |records| warm_up.saturating_add(records)))
            }
            None if self.is_past(now) => made,
            None => match (self.records, made_before) {
                (Some(records), Some(before)) => before.saturating_add(records),
                _ => u64::MAX,
            },
        }
    }
}

/// What became of it all.
#[derive(Default)]
pub struct Produced {
    /// Records that were acknowledged, warm-up included.
    pub acknowledged: u64,
    /// Records that were made and never acknowledged.
    pub unacknowledged: u64,
    /// Records that were due and never made.
    pub unsent: u64,
    /// Batches that had to be sent again.
    pub retried_batches: u64,
    /// What went wrong, how often.
    pub errors: BTreeMap<String, u64>,
    /// Offset behind the last acknowledged record of each partition.
    pub ends: BTreeMap<i32, i64>,
    /// How much later than planned records were made.
    pub lateness: Option<Latencies>,
    /// Why it ended before its time.
    pub failure: Option<String>,
}

impl Produced {
    /// Add what another producer has done.
    pub fn merge(&mut self, other: Produced) {
        self.acknowledged += other.acknowledged;
        self.unacknowledged += other.unacknowledged;
        self.unsent += other.unsent;
        self.retried_batches += other.retried_batches;
        for (error, count) in other.errors {
            *self.errors.entry(error).or_default() += count;
        }
        for (partition, end) in other.ends {
            let known = self.ends.entry(partition).or_default();
            *known = end.max(*known);
        }
        match (&mut self.lateness, other.lateness) {
            (Some(lateness), Some(more)) => lateness.merge(&more),
            (lateness, more) => *lateness = lateness.take().or(more),
        }
        self.failure = self.failure.take().or(other.failure);
    }
}

/// What the producer reacts to.
enum Event {
    Leaders(Leaders),
    Link { link: usize, generation: u64, what: LinkEvent },
}

enum LinkEvent {
    /// Connected, and the version to speak.
    Open(i16),
    Answer(Bytes),
    /// A request left that gets no answer.
    Sent,
    Closed(String),
}

/// Batches that travel together.
struct Request {
    correlation_id: i32,
    sent: Nanos,
    batches: Vec<(usize, Numbered)>,
}

enum LinkState {
    /// Not connected, and not to be before that time.
    Closed(Nanos),
    Connecting(mpsc::Sender<Segments>),
    Open(mpsc::Sender<Segments>, i16),
}

/// One connection to one broker.
struct Link {
    node: i32,
    state: LinkState,
    /// Connections so far: events of earlier ones are of no interest.
    generation: u64,
    correlation_id: i32,
    in_flight: VecDeque<Request>,
    /// Partitions that have something to send, each at most once.
    ready: VecDeque<usize>,
    /// Partitions that are sent over it.
    partitions: usize,
}

/// Where a partition is sent.
#[derive(Clone, Copy, Default)]
struct Route {
    link: Option<usize>,
    /// In whose `ready` it is; entries elsewhere are from before its leader moved.
    listed: Option<usize>,
}

/// A producer.
pub struct Producer {
    settings: ProducerSettings,
    clock: Clock,
    mold: Mold,
    recorder: Arc<Mutex<Recorder>>,
    partitions: Vec<Partition>,
    routes: Vec<Route>,
    by_index: HashMap<i32, usize>,
    links: Vec<Link>,
    by_node: HashMap<(i32, usize), usize>,
    addresses: BTreeMap<i32, String>,
    events: mpsc::Receiver<Event>,
    events_in: mpsc::Sender<Event>,
    look_up: Arc<Notify>,
    open: Option<OpenBatch>,
    /// The partition that the open batch is for.
    turn: usize,
    made: u64,
    made_before: Option<u64>,
    in_flight_records: u64,
    last_progress: Nanos,
    /// Some partition waits for a pause to pass.
    paused: bool,
    result: Produced,
}

impl Producer {
    /// A producer that is connected to every leader.
    pub async fn connect(
        settings: ProducerSettings,
        clock: Clock,
        mold: Mold,
        recorder: Arc<Mutex<Recorder>>,
        mut lookup: Lookup,
        first_partition: usize,
    ) -> Result<Self> {
        let leaders = every_leader(&settings, &mut lookup).await?;
        let mut indices: Vec<i32> = leaders.of.iter().map(|(partition, _)| *partition).collect();
        indices.sort_unstable();
        let (events_in, events) = mpsc::channel(EVENTS_MAX);
        let look_up = Arc::new(Notify::new());
        tokio::spawn(keep_looking_up(lookup, look_up.clone(), events_in.clone()));
        let mut producer = Self {
            partitions: indices.iter().map(|index| Partition::new(*index, settings.requests_in_flight)).collect(),
            routes: vec![Route::default(); indices.len()],
            by_index: indices.iter().enumerate().map(|(at, index)| (*index, at)).collect(),
            turn: first_partition % indices.len(),
            settings,
            clock,
            mold,
            recorder,
            links: Vec::new(),
            by_node: HashMap::new(),
            addresses: BTreeMap::new(),
            events,
            events_in,
            look_up,
            open: None,
            made: 0,
            made_before: None,
            in_flight_records: 0,
            last_progress: clock.now(),
            paused: false,
            result: Produced::default(),
        };
        producer.follow(leaders);
        producer.wait_connected().await?;
        Ok(producer)
    }

    async fn wait_connected(&mut self) -> Result<()> {
        let give_up = self.clock.now() + nanos(self.settings.patience);
        while self.links.iter().any(|link| link.partitions > 0 && !matches!(link.state, LinkState::Open(..))) {
            let now = self.clock.now();
            if now > give_up {
                bail!("not every leader could be connected to: {:?}", self.result.errors);
            }
            self.reconnect(now);
            tokio::select! {
                Some(event) = self.events.recv() => self.react(event)?,
                () = sleep(HOUSEKEEPING) => {}
            }
        }
        Ok(())
    }

    /// Work until everything is made and acknowledged, `stop` asks for no more records, or `abandon` for the end.
    pub async fn run(
        mut self,
        plan: Plan,
        due: Arc<Notify>,
        stop: CancellationToken,
        abandon: CancellationToken,
    ) -> Result<Produced> {
        let mut housekeeping = interval(HOUSEKEEPING);
        housekeeping.set_missed_tick_behavior(MissedTickBehavior::Delay);
        self.result.lateness = plan.schedule.map(|_| Latencies::new());
        self.last_progress = self.clock.now();
        let mut stopped = false;
        loop {
            let now = self.clock.now();
            if self.made_before.is_none() && now >= plan.measured_from {
                self.made_before = Some(self.made);
            }
            let allowed = if stopped { self.made } else { plan.allowed(now, self.made, self.made_before) };
            self.make(allowed, &plan, now)?;
            // Nothing more is due, ever: the last batch need not wait.
            let complete =
                stopped || plan.is_past(now) || plan.allowed(Nanos::MAX - 1, self.made, self.made_before) <= self.made;
            let all_made = complete && self.made >= allowed;
            self.close_lingered(all_made, now)?;
            self.send(now)?;
            if self.result.failure.is_some() || (all_made && self.in_flight_records == 0) {
                break;
            }
            let patience = nanos(self.settings.patience);
            if self.in_flight_records > 0 && now.saturating_sub(self.last_progress) > patience {
                let seconds = self.settings.patience.as_secs();
                self.result.failure = Some(format!("nothing was acknowledged for {seconds} s (--patience)"));
                break;
            }
            let lingers = self.open.as_ref().and_then(OpenBatch::first_due).map(|due| due + self.settings.linger);
            tokio::select! {
                Some(event) = self.events.recv() => {
                    self.react(event)?;
                    while let Ok(event) = self.events.try_recv() {
                        self.react(event)?;
                    }
                }
                () = due.notified(), if plan.schedule.is_some() => {}
                // What has lingered and still cannot be sent waits for an answer.
                () = sleep_until(self.clock.instant(lingers.unwrap_or(0))), if lingers.is_some_and(|at| at > now) => {}
                _ = housekeeping.tick() => self.keep_house()?,
                () = stop.cancelled(), if !stopped => {
                    stopped = true;
                    self.leave_unsent(&plan);
                }
                () = abandon.cancelled() => break,
            }
        }
        if !stopped {
            self.leave_unsent(&plan);
        }
        Ok(self.end())
    }

    /// What was due and will not be made was late, too: as long as it has waited till now.
    fn leave_unsent(&mut self, plan: &Plan) {
        let Some(schedule) = plan.schedule else { return };
        let now = self.clock.now();
        let due = plan.allowed(now, self.made, self.made_before);
        self.result.unsent = due.saturating_sub(self.made);
        let mut recorder = self.recorder.lock();
        for n in self.made..due {
            recorder.overdue(&[Run { due: schedule.due(n), count: 1 }], now);
        }
    }

    fn end(mut self) -> Produced {
        let now = self.clock.now();
        self.result.unacknowledged = self.in_flight_records;
        let mut recorder = self.recorder.lock();
        let flying = self.links.iter().flat_map(|link| &link.in_flight).flat_map(|r| &r.batches).map(|(_, sent)| sent);
        let waiting = flying.chain(self.partitions.iter().flat_map(Partition::waiting));
        let open = self.open.iter().map(OpenBatch::runs);
        for runs in waiting.map(|waiting| &waiting.batch.runs[..]).chain(open) {
            recorder.overdue(runs, now);
        }
        drop(recorder);
        self.result.ends = self.partitions.iter().map(|p| (p.index, p.end_offset)).collect();
        self.result
    }

    /// Records up to number `allowed`, as far as the bound on those in flight lets us.
    fn make(&mut self, allowed: u64, plan: &Plan, now: Nanos) -> Result<()> {
        loop {
            let left = allowed.saturating_sub(self.made);
            let left = left.min(self.settings.in_flight_records.saturating_sub(self.in_flight_records));
            if left == 0 {
                return Ok(());
            }
            let mut batch = match self.open.take() {
                Some(batch) => batch,
                None => self.mold.open()?,
            };
            let count = left.min(self.mold.room(&batch) as u64);
            for n in self.made..self.made + count {
                let due = plan.schedule.map_or(now, |schedule| schedule.due(n));
                if let Some(lateness) = &mut self.result.lateness
                    && due >= plan.measured_from
                {
                    lateness.add(now.saturating_sub(due), 1);
                }
                self.mold.push(&mut batch, due, n);
            }
            if self.in_flight_records == 0 {
                self.last_progress = now;
            }
            self.made += count;
            self.in_flight_records += count;
            if self.mold.room(&batch) == 0 {
                self.close(batch, now)?;
            } else {
                self.open = Some(batch);
            }
        }
    }

    fn close_lingered(&mut self, at_once: bool, now: Nanos) -> Result<()> {
        let Some(batch) = self.open.take_if(|batch| !batch.is_empty()) else { return Ok(()) };
        let lingered = batch.first_due().is_none_or(|due| now >= due + self.settings.linger);
        if at_once || (lingered && !self.is_busy(self.turn, now)) {
            return self.close(batch, now);
        }
        self.open = Some(batch);
        Ok(())
    }

    /// Whether a batch for the partition would have to wait for answers to others. One without reachable leader is not busy: it
    /// must not take the records that others could have.
    fn is_busy(&self, at: usize, now: Nanos) -> bool {
        let partition = &self.partitions[at];
        let connected = |link: &usize| matches!(self.links[*link].state, LinkState::Open(..));
        match self.routes[at].link.filter(connected) {
            Some(link) if !partition.is_resending() => !partition.is_free(now) || !self.has_slot(link),
            _ => false,
        }
    }

    /// The batch is done; the next partition has its turn.
    fn close(&mut self, batch: OpenBatch, now: Nanos) -> Result<()> {
        let at = self.turn;
        let sequence = self.partitions[at].next_sequence();
        let sealed = self.mold.seal(batch, self.clock.unix_ms(now), sequence)?;
        self.partitions[at].push(sealed);
        self.list(at, now);
        self.turn = (at + 1) % self.partitions.len();
        Ok(())
    }

    fn has_slot(&self, link: usize) -> bool {
        let link = &self.links[link];
        matches!(link.state, LinkState::Open(..)) && link.in_flight.len() < self.settings.requests_in_flight
    }

    /// Its link learns that the partition has something to send.
    fn list(&mut self, at: usize, now: Nanos) {
        let Route { link: Some(link), listed: None } = self.routes[at] else { return };
        if self.partitions[at].is_ready(now) {
            self.routes[at].listed = Some(link);
            self.links[link].ready.push_back(at);
        }
    }

    fn send(&mut self, now: Nanos) -> Result<()> {
        for link in 0..self.links.len() {
            while !self.links[link].ready.is_empty() && self.has_slot(link) {
                let batches = self.gather(link, now);
                if !batches.is_empty() {
                    self.send_request(link, batches, now)?;
                }
            }
        }
        Ok(())
    }

    /// At most one batch of each partition that is ready, up to the bytes of a request.
    fn gather(&mut self, link: usize, now: Nanos) -> Vec<(usize, Numbered)> {
        let (mut batches, mut bytes) = (Vec::new(), 0);
        while bytes < self.settings.request_bytes
            && let Some(at) = self.links[link].ready.pop_front()
        {
            if self.routes[at].listed != Some(link) {
                continue;
            }
            self.routes[at].listed = None;
            if let Some(next) = self.partitions[at].take(now) {
                bytes += next.batch.bytes.len();
                batches.push((at, next));
            }
        }
        for (at, _) in &batches {
            self.list(*at, now);
        }
        batches
    }

    fn send_request(&mut self, at: usize, batches: Vec<(usize, Numbered)>, now: Nanos) -> Result<()> {
        let data = |(at, next): &(usize, Numbered)| PartitionProduceData {
            index: self.partitions[*at].index,
            records: Some(Records::from(next.batch.bytes.clone())),
        };
        let request = ProduceRequest {
            transactional_id: None,
            acks: self.settings.acks,
            timeout_ms: i32::try_from(self.settings.request_timeout.as_millis()).unwrap_or(i32::MAX),
            topic_data: vec![TopicProduceData {
                name: self.settings.topic.clone(),
                partition_data: batches.iter().map(data).collect(),
                ..Default::default()
            }],
        };
        let link = &mut self.links[at];
        let LinkState::Open(frames, version) = &link.state else { bail!("a request without connection") };
        link.correlation_id = link.correlation_id.wrapping_add(1);
        let frame = request_frame(&request, *version, link.correlation_id, Some(super::CLIENT_ID))?;
        // There is room for as many as may be in flight; one that has closed says so by an event.
        let _ = frames.try_send(frame);
        link.in_flight.push_back(Request { correlation_id: link.correlation_id, sent: now, batches });
        Ok(())
    }

    fn react(&mut self, event: Event) -> Result<()> {
        let now = self.clock.now();
        match event {
            Event::Leaders(leaders) => self.follow(leaders),
            Event::Link { link, generation, .. } if self.links[link].generation != generation => {}
            Event::Link { link, what, .. } => match what {
                LinkEvent::Open(version) => {
                    let state = std::mem::replace(&mut self.links[link].state, LinkState::Closed(0));
                    if let LinkState::Connecting(frames) = state {
                        self.links[link].state = LinkState::Open(frames, version);
                    }
                }
                LinkEvent::Answer(frame) => {
                    if let Err(error) = self.answered(link, frame, now) {
                        self.close_link(link, &format!("{error:#}"), now);
                    }
                }
                LinkEvent::Sent => self.assume_acknowledged(link, now),
                LinkEvent::Closed(why) => self.close_link(link, &why, now),
            },
        }
        Ok(())
    }

    fn answered(&mut self, link: usize, frame: Bytes, now: Nanos) -> Result<()> {
        let LinkState::Open(_, version) = self.links[link].state else { bail!("an answer without connection") };
        let (header, response) = read_response::<ProduceRequest>(frame, version)?;
        let request = self.links[link].in_flight.pop_front().context("an answer to no request")?;
        if header.correlation_id != request.correlation_id {
            self.links[link].in_flight.push_front(request);
            bail!("the broker answered another request");
        }
        let answers: Vec<_> = response.responses.into_iter().flat_map(|topic| topic.partition_responses).collect();
        let mut acknowledged = Vec::with_capacity(request.batches.len());
        for (place, (at, sent)) in request.batches.into_iter().enumerate() {
            let index = self.partitions[at].index;
            // They come in the order of the request.
            let answer = answers.get(place).filter(|a| a.index == index);
            let answer = answer.or_else(|| answers.iter().find(|a| a.index == index));
            let Some(answer) = answer else {
                self.came_back(at, sent, "no answer for a partition", now);
                continue;
            };
            match self.partitions[at].answered(sent, answer.error_code, answer.base_offset, now) {
                Outcome::Acknowledged(batch) => acknowledged.push(batch),
                Outcome::Again => self.note_retry(error_name(answer.error_code)),
                Outcome::Refused(batch, why) => {
                    let told = answer.error_message.as_deref().filter(|told| !told.is_empty());
                    let why = told.map_or(why.clone(), |told| format!("{why} ({told})"));
                    *self.result.errors.entry(error_name(answer.error_code).to_owned()).or_default() += 1;
                    self.result.failure = Some(why);
                    self.mold.reclaim(batch);
                }
            }
            self.list(at, now);
        }
        self.acknowledge(acknowledged, now);
        Ok(())
    }

    /// acks=0: what has left counts as there.
    fn assume_acknowledged(&mut self, link: usize, now: Nanos) {
        let Some(request) = self.links[link].in_flight.pop_front() else { return };
        let mut batches = Vec::with_capacity(request.batches.len());
        for (at, sent) in request.batches {
            if let Outcome::Acknowledged(batch) = self.partitions[at].answered(sent, ErrorCode::None.code(), -1, now) {
                batches.push(batch);
            }
            self.list(at, now);
        }
        self.acknowledge(batches, now);
    }

    fn acknowledge(&mut self, batches: Vec<SealedBatch>, now: Nanos) {
        if batches.is_empty() {
            return;
        }
        let mut recorder = self.recorder.lock();
        for batch in &batches {
            recorder.arrived(&batch.runs, self.settings.record_bytes, now);
        }
        drop(recorder);
        self.last_progress = now;
        for batch in batches {
            self.result.acknowledged += u64::from(batch.count);
            self.in_flight_records -= u64::from(batch.count);
            self.mold.reclaim(batch);
        }
    }

    fn came_back(&mut self, at: usize, sent: Numbered, why: &str, now: Nanos) {
        self.partitions[at].give_back(sent, now);
        self.note_retry(why);
    }

    fn note_retry(&mut self, why: &str) {
        self.result.retried_batches += 1;
        *self.result.errors.entry(why.to_owned()).or_default() += 1;
        self.paused = true;
        self.look_up.notify_one();
    }

    fn close_link(&mut self, at: usize, why: &str, now: Nanos) {
        let link = &mut self.links[at];
        link.generation += 1;
        link.state = LinkState::Closed(now + RETRY_PAUSE);
        *self.result.errors.entry(why.to_owned()).or_default() += 1;
        for request in std::mem::take(&mut self.links[at].in_flight) {
            for (at, sent) in request.batches {
                self.partitions[at].give_back(sent, now);
                self.result.retried_batches += 1;
            }
        }
        self.paused = true;
        self.look_up.notify_one();
    }

    fn keep_house(&mut self) -> Result<()> {
        let (now, timeout) = (self.clock.now(), nanos(self.settings.request_timeout));
        for at in 0..self.links.len() {
            // The leader may take the whole time-out; its answer needs a moment more.
            let late = |request: &Request| now.saturating_sub(request.sent) > timeout + timeout / 2;
            if self.links[at].in_flight.front().is_some_and(late) {
                self.close_link(at, "no answer in time", now);
            }
        }
        self.reconnect(now);
        if self.paused {
            (0..self.partitions.len()).for_each(|at| self.list(at, now));
            self.paused = self.partitions.iter().any(Partition::is_resending);
        }
        Ok(())
    }

    fn reconnect(&mut self, now: Nanos) {
        for at in 0..self.links.len() {
            let link = &self.links[at];
            if link.partitions > 0 && matches!(link.state, LinkState::Closed(until) if now >= until) {
                self.open_link(at);
            }
        }
    }

    fn open_link(&mut self, at: usize) {
        let Some(address) = self.addresses.get(&self.links[at].node).cloned() else { return };
        let (frames, outgoing) = mpsc::channel(self.settings.requests_in_flight + 1);
        let link = &mut self.links[at];
        link.state = LinkState::Connecting(frames);
        let events = LinkEvents { link: at, generation: link.generation, events: self.events_in.clone() };
        tokio::spawn(serve(address, self.settings.acks != 0, outgoing, events));
    }

    /// Send each partition to its leader from now on.
    fn follow(&mut self, leaders: Leaders) {
        let now = self.clock.now();
        self.addresses.extend(leaders.addresses);
        for (index, node) in leaders.of {
            let Some(&at) = self.by_index.get(&index) else { continue };
            let key = (node, at % self.settings.connections);
            let link = *self.by_node.entry(key).or_insert_with(|| {
                self.links.push(Link {
                    node,
                    state: LinkState::Closed(0),
                    generation: 0,
                    correlation_id: 0,
                    in_flight: VecDeque::new(),
                    ready: VecDeque::new(),
                    partitions: 0,
                });
                self.links.len() - 1
            });
            if self.routes[at].link == Some(link) {
                continue;
            }
            if let Some(before) = std::mem::replace(&mut self.routes[at], Route { link: Some(link), listed: None }).link
            {
                self.links[before].partitions -= 1;
            }
            self.links[link].partitions += 1;
            self.list(at, now);
        }
        self.reconnect(now);
    }
}

/// Leaders of all partitions. A node may hear of a new topic, or of a new leader, a moment after others.
async fn every_leader(settings: &ProducerSettings, lookup: &mut Lookup) -> Result<Leaders> {
    let mut tries = Tries::new(settings.patience);
    loop {
        let ProducerSettings { topic, partitions, .. } = settings;
        let trouble = match lookup.ask().await {
            Ok(leaders) if leaders.of.len() >= *partitions => return Ok(leaders),
            Ok(leaders) => anyhow!("topic {topic}: {} of {partitions} partitions have a leader", leaders.of.len()),
            Err(error) => error,
        };
        tries.failed(trouble).await?;
    }
}

fn error_name(code: i16) -> &'static str {
    ErrorCode::from_code(code).map_or("unknown error", ErrorCode::name)
}

/// What a connection's task has to say.
struct LinkEvents {
    link: usize,
    generation: u64,
    events: mpsc::Sender<Event>,
}

impl LinkEvents {
    /// Whether the producer is still there.
    async fn say(&self, what: LinkEvent) -> bool {
        let event = Event::Link { link: self.link, generation: self.generation, what };
        self.events.send(event).await.is_ok()
    }
}

/// A connection, until it breaks or the producer lets go of it.
async fn serve(address: String, answers: bool, outgoing: mpsc::Receiver<Segments>, events: LinkEvents) {
    if let Err(error) = exchange(&address, answers, outgoing, &events).await {
        events.say(LinkEvent::Closed(format!("{error:#}"))).await;
    }
}

async fn exchange(
    address: &str,
    has_answers: bool,
    mut outgoing: mpsc::Receiver<Segments>,
    events: &LinkEvents,
) -> Result<()> {
    let (mut requests, mut answers, offered) = link::connect(address).await?;
    let version = offered.version::<ProduceRequest>(PRODUCE_VERSION_MAX)?;
    events.say(LinkEvent::Open(version)).await;
    let sending = async {
        while let Some(frame) = outgoing.recv().await {
            requests.send(frame).await?;
            if !has_answers && !events.say(LinkEvent::Sent).await {
                break;
            }
        }
        Ok(())
    };
    let receiving = async {
        loop {
            let frame = answers.next().await?;
            if !events.say(LinkEvent::Answer(frame)).await {
                return Ok(());
            }
        }
    };
    tokio::select! {
        ended = sending => ended,
        ended = receiving => ended,
    }
}

/// Looks leaders up whenever that is asked for, until the producer is gone.
async fn keep_looking_up(mut lookup: Lookup, asked: Arc<Notify>, events: mpsc::Sender<Event>) {
    loop {
        tokio::select! {
            () = asked.notified() => {}
            () = events.closed() => return,
        }
        match lookup.ask().await {
            Ok(leaders) => {
                if events.send(Event::Leaders(leaders)).await.is_err() {
                    return;
                }
            }
            // Whoever asked goes on asking; this one does not forget it either.
            Err(_) => asked.notify_one(),
        }
        sleep(LOOKUP_PAUSE).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: Nanos = 1_000_000_000;

    #[test]
    fn an_open_loop_makes_what_is_due_and_not_more() {
        let plan =
            Plan { schedule: Some(Schedule::new(0, 1000.0)), measured_from: 2 * S, records: None, until: Some(5 * S) };
        assert_eq!(plan.allowed(0, 0, None), 1);
        assert_eq!(plan.allowed(S - 1, 0, None), 1000);
        assert_eq!(plan.allowed(9 * S, 0, None), 5000, "nothing is due after the end");
        let counted = Plan { records: Some(500), until: None, ..plan };
        assert_eq!(counted.allowed(100 * S, 0, None), 2500, "500 after the warm-up");
    }

    #[test]
    fn a_closed_loop_counts_from_the_end_of_the_warm_up() {
        let plan = Plan { schedule: None, measured_from: 2 * S, records: Some(100), until: None };
        assert_eq!(plan.allowed(S, 70, None), u64::MAX);
        assert_eq!(plan.allowed(2 * S, 80, Some(75)), 175);
        let timed = Plan { records: None, until: Some(3 * S), ..plan };
        assert_eq!((timed.allowed(3 * S - 1, 9, Some(5)), timed.allowed(3 * S, 9, Some(5))), (u64::MAX, 9));
    }
}
