//! A reader of a whole topic.
//!
//! Partitions are read over a number of connections to their leaders. A connection has one fetch under way: what it brings says where
//! the next one begins. That next one is sent before what came is looked at, so that broker and reader work at once.
//!
//! A connection's task owns the positions of its partitions. Whatever goes wrong ends the task, which gives them back; then leaders
//! are looked up and new tasks begin where the old ones ended.

use super::check::{Depth, PartitionCheck, Tally};
use super::leaders::Lookup;
use super::link::{self, Answers, Requests};
use super::pace::{Clock, Nanos};
use super::recorder::Recorder;
use crate::cli::client::check;
use crate::cli::tries::Hopeless;
use anyhow::{Context, Result, bail};
use bytes::Bytes;
use parking_lot::Mutex;
use rookery_protocol::batch::{BatchError, RecordBatch, RecordBatches};
use rookery_protocol::codec::SmolStr;
use rookery_protocol::messages::fetch::{FetchPartition, FetchTopic};
use rookery_protocol::messages::header::read_response;
use rookery_protocol::messages::{FetchRequest, request_frame};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

/// Version 12 is the last that names topics.
const FETCH_VERSION_MAX: i16 = 12;
/// Between a failure and the next try.
const RETRY_PAUSE: Duration = Duration::from_millis(50);
/// A connection that lasted so long worked, even if nothing came.
const STEADY_MIN: Duration = Duration::from_secs(1);

/// Offset behind the last record of each partition, once it is known.
pub type Ends = Option<Arc<BTreeMap<i32, i64>>>;

/// How to read.
#[derive(Clone, Debug)]
pub struct ConsumerSettings {
    /// What.
    pub topic: SmolStr,
    /// To each broker.
    pub connections: usize,
    /// Of one answer.
    pub fetch_bytes: i32,
    /// Of one partition in an answer.
    pub partition_bytes: i32,
    /// An answer waits for so many bytes,
    pub min_bytes: i32,
    /// but not longer than this.
    pub max_wait: Duration,
    /// How far to look into batches.
    pub depth: Depth,
    /// Bytes of a record that are the user's, where that is known without looking.
    pub record_bytes: Option<u64>,
    /// Enough, for all readers of the recorder together.
    pub records_max: Option<u64>,
    /// An answer that takes longer, beyond `max_wait`, never comes.
    pub request_timeout: Duration,
    /// If nothing can be read for so long, nothing ever will be.
    pub patience: Duration,
}

/// What a reader has read.
#[derive(Default)]
pub struct Consumed {
    /// All of it.
    pub tally: Tally,
    /// What went wrong, how often.
    pub errors: BTreeMap<String, u64>,
    /// Why it ended before its time.
    pub failure: Option<String>,
}

impl Consumed {
    /// Add what another reader has read.
    pub fn merge(&mut self, other: Consumed) {
        self.tally.merge(&other.tally);
        for (error, count) in other.errors {
            *self.errors.entry(error).or_default() += count;
        }
        self.failure = self.failure.take().or(other.failure);
    }
}

/// A partition, and where it is read.
struct Position {
    partition: i32,
    check: PartitionCheck,
}

impl Position {
    fn is_at_end(&self, ends: &Ends) -> bool {
        ends.as_ref().is_some_and(|ends| ends.get(&self.partition).is_none_or(|end| self.check.next_offset() >= *end))
    }
}

/// A reader.
#[derive(Clone)]
pub struct Consumer {
    /// How.
    pub settings: ConsumerSettings,
    /// The run's.
    pub clock: Clock,
    /// Who takes down what arrives.
    pub recorder: Arc<Mutex<Recorder>>,
    /// When to end.
    pub ends: watch::Receiver<Ends>,
    /// End now.
    pub stop: CancellationToken,
}

/// What a task leaves behind.
struct Left {
    positions: Vec<Position>,
    tally: Tally,
    lasted: Duration,
    result: Result<()>,
}

impl Consumer {
    /// Read from these offsets to the ends, or until it is stopped.
    pub async fn run(self, mut lookup: Lookup, starts: &BTreeMap<i32, i64>) -> Consumed {
        let begin =
            |(partition, offset): (&i32, &i64)| Position { partition: *partition, check: PartitionCheck::new(*offset) };
        let mut idle: Vec<Position> = starts.iter().map(begin).collect();
        let mut consumed = Consumed::default();
        let mut tasks: JoinSet<Left> = JoinSet::new();
        let mut failing_since: Option<Instant> = None;
        loop {
            let mut trouble = None;
            if !idle.is_empty() && !self.stop.is_cancelled() {
                match self.begin(&mut lookup, &mut idle, &mut tasks).await {
                    Ok(()) => {}
                    Err(error) => trouble = Some(error),
                }
            }
            if trouble.is_none() {
                let Some(ended) = tasks.join_next().await else { break };
                let Ok(left) = ended else {
                    consumed.failure = Some("a connection's task panicked".to_owned());
                    break;
                };
                if left.tally.records > 0 || left.lasted > STEADY_MIN {
                    failing_since = None;
                }
                consumed.tally.merge(&left.tally);
                if let Err(error) = left.result {
                    idle.extend(left.positions);
                    trouble = Some(error);
                }
            }
            if let Some(error) = trouble {
                *consumed.errors.entry(format!("{error:#}")).or_default() += 1;
                let failing = failing_since.get_or_insert_with(Instant::now).elapsed();
                if error.is::<Hopeless>() || failing > self.settings.patience {
                    consumed.failure = Some(format!("{error:#}"));
                    break;
                }
                sleep(RETRY_PAUSE).await;
            }
            if self.stop.is_cancelled() && tasks.is_empty() {
                break;
            }
        }
        consumed
    }

    /// Spread partitions that nobody reads over new connections.
    async fn begin(&self, lookup: &mut Lookup, idle: &mut Vec<Position>, tasks: &mut JoinSet<Left>) -> Result<()> {
        let leaders = lookup.ask().await?;
        let leader_of: BTreeMap<i32, i32> = leaders.of.into_iter().collect();
        let mut groups: BTreeMap<(i32, usize), Vec<Position>> = BTreeMap::new();
        for position in std::mem::take(idle) {
            match leader_of.get(&position.partition) {
                Some(leader) => {
                    let lane = usize::try_from(position.partition).unwrap_or(0) % self.settings.connections;
                    groups.entry((*leader, lane)).or_default().push(position);
                }
                None => idle.push(position),
            }
        }
        for ((leader, _), mut positions) in groups {
            let Some(address) = leaders.addresses.get(&leader).cloned() else {
                idle.append(&mut positions);
                continue;
            };
            let mut this = self.clone();
            tasks.spawn(async move {
                let (mut tally, began) = (Tally::default(), Instant::now());
                let result = this.fetch(&address, &mut positions, &mut tally).await;
                Left { positions, tally, lasted: began.elapsed(), result }
            });
        }
        match idle.len() {
            0 => Ok(()),
            without => bail!("{without} partitions have no leader"),
        }
    }

    /// Over one connection, until every partition is at its end.
    async fn fetch(&mut self, address: &str, positions: &mut [Position], tally: &mut Tally) -> Result<()> {
        let (mut requests, mut answers, offered) = link::connect(address).await?;
        let version = offered.version::<FetchRequest>(FETCH_VERSION_MAX)?;
        let (mut correlation_id, mut arrived) = (0, Vec::new());
        positions.sort_unstable_by_key(|p| p.partition);
        loop {
            let at_end = !self.ask(&mut requests, positions, version, correlation_id).await?;
            self.look(positions, std::mem::take(&mut arrived), tally);
            if at_end {
                return Ok(());
            }
            let Some(frame) = self.answer(&mut answers, positions).await? else { return Ok(()) };
            let now = self.clock.now();
            let (header, response) = read_response::<FetchRequest>(frame, version)?;
            if header.correlation_id != correlation_id {
                bail!("the broker answered another request");
            }
            correlation_id = correlation_id.wrapping_add(1);
            check(response.error_code, None)?;
            let mut trouble = Ok(());
            for answer in response.responses.into_iter().flat_map(|topic| topic.partitions) {
                let place = positions.binary_search_by_key(&answer.partition_index, |p| p.partition);
                let Ok(place) = place else { continue };
                if let Err(error) = check(answer.error_code, None) {
                    trouble = Err(error);
                    continue;
                }
                let records = answer.records.unwrap_or_default().into_bytes();
                take_batches(&mut positions[place], records, now, place, tally, &mut arrived)?;
            }
            if trouble.is_err() {
                self.look(positions, arrived, tally);
                return trouble;
            }
        }
    }

    /// Send the next fetch; not if there is nothing more to read.
    async fn ask(
        &self,
        requests: &mut Requests,
        positions: &[Position],
        version: i16,
        correlation_id: i32,
    ) -> Result<bool> {
        let ends = self.ends.borrow().clone();
        // A broker fills its answer in the order of the request: everyone is first once.
        let first = usize::try_from(correlation_id).unwrap_or(0) % positions.len().max(1);
        let (behind, ahead) = positions.split_at(first);
        let wanted = |position: &Position| FetchPartition {
            partition: position.partition,
            fetch_offset: position.check.next_offset(),
            partition_max_bytes: self.settings.partition_bytes,
            ..Default::default()
        };
        let partitions: Vec<_> = ahead.iter().chain(behind).filter(|p| !p.is_at_end(&ends)).map(wanted).collect();
        if partitions.is_empty() {
            return Ok(false);
        }
        let request = FetchRequest {
            max_wait_ms: i32::try_from(self.settings.max_wait.as_millis()).unwrap_or(i32::MAX),
            min_bytes: self.settings.min_bytes,
            max_bytes: self.settings.fetch_bytes,
            topics: vec![FetchTopic { topic: self.settings.topic.clone(), partitions, ..Default::default() }],
            ..Default::default()
        };
        requests.send(request_frame(&request, version, correlation_id, Some(super::CLIENT_ID))?).await?;
        Ok(true)
    }

    /// The answer; none if it is not waited for any more.
    async fn answer(&mut self, answers: &mut Answers, positions: &[Position]) -> Result<Option<Bytes>> {
        let longest = self.settings.max_wait + self.settings.request_timeout;
        let answered = timeout(longest, async {
            loop {
                tokio::select! {
                    frame = answers.next() => return frame.map(Some),
                    changed = self.ends.changed() => {
                        let ends = self.ends.borrow_and_update().clone();
                        if changed.is_err() || positions.iter().all(|p| p.is_at_end(&ends)) {
                            return Ok(None);
                        }
                    }
                    () = self.stop.cancelled() => return Ok(None),
                }
            }
        });
        answered.await.context("a fetch was not answered in time")?
    }

    fn look(&self, positions: &mut [Position], arrived: Vec<Arrived>, tally: &mut Tally) {
        let mut runs = Vec::new();
        for Arrived { place, batch, before, at } in arrived {
            let (records, user) = (tally.records, tally.user_bytes);
            positions[place].check.look(&batch, before, self.settings.depth, tally, &mut runs);
            let records = tally.records - records;
            let mut recorder = self.recorder.lock();
            match (self.settings.depth, self.settings.record_bytes) {
                (Depth::Stamps(_), Some(bytes)) => recorder.arrived(&runs, bytes, at),
                (_, Some(bytes)) => recorder.count(records, records * bytes, at),
                (Depth::Headers, None) => recorder.count(records, batch.size() as u64, at),
                (_, None) => recorder.count(records, tally.user_bytes - user, at),
            }
            if self.settings.records_max.is_some_and(|enough| recorder.records >= enough) {
                self.stop.cancel();
            }
            drop(recorder);
            runs.clear();
        }
    }
}

/// A batch that is to be looked at.
struct Arrived {
    place: usize,
    batch: RecordBatch,
    before: u64,
    at: Nanos,
}

fn take_batches(
    position: &mut Position,
    records: Bytes,
    at: Nanos,
    place: usize,
    tally: &mut Tally,
    arrived: &mut Vec<Arrived>,
) -> Result<()> {
    for batch in RecordBatches::new(records) {
        let batch = match batch {
            Ok(batch) => batch,
            // The last one may be cut: it comes whole with the next fetch.
            Err(BatchError::Truncated { .. }) => break,
            Err(error) => {
                let (partition, offset) = (position.partition, position.check.next_offset());
                return Err(Hopeless(format!("partition {partition}, behind offset {offset}: {error}")).into());
            }
        };
        let before = position.check.pass(&batch, tally);
        arrived.push(Arrived { place, batch, before, at });
    }
    Ok(())
}
