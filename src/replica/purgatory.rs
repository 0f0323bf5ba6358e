//! Requests that wait for an offset: `DelayedProduce` for the high watermark, `DelayedFetch` for something to read.
//!
//! Kafka keeps one purgatory for the broker, keyed by partition, with a timer wheel and watchers that re-check. Here
//! every partition owns one ordered map per kind, under a lock of its own that is held for a few map operations: moving
//! an offset takes exactly the waiters at or below it, and costs nothing when nobody waits. Time-outs are not the
//! purgatory's: whoever waits owns a timer, and a waiter that is dropped takes its entry with it.
//!
//! Bound: every waiter holds a permit of one semaphore for the broker ([`PurgatoryLimit`]); without one a fetch is
//! answered at once with what there is, and a produce is refused before it is appended.

use super::error::ReplicaError;
use super::refused::ProducerBatch;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, oneshot};

/// How many requests of a kind may wait on this broker at once.
#[derive(Debug, Clone)]
pub struct PurgatoryLimit {
    permits: Arc<Semaphore>,
    kind: &'static str,
    max: usize,
}

impl PurgatoryLimit {
    /// At most `max` waiting requests; `kind` labels the metric.
    pub fn new(kind: &'static str, max: usize) -> Self {
        Self { permits: Arc::new(Semaphore::new(max)), kind, max }
    }

    /// A place to wait, or `None` when all are taken.
    pub fn try_acquire(&self) -> Option<OwnedSemaphorePermit> {
        let permit = Arc::clone(&self.permits).try_acquire_owned().ok();
        metrics::gauge!("rookery_replica_purgatory_waiting", "kind" => self.kind).set(self.waiting() as f64);
        if permit.is_none() {
            metrics::counter!("rookery_replica_purgatory_refused_total", "kind" => self.kind).increment(1);
        }
        permit
    }

    /// How many wait now.
    pub fn waiting(&self) -> usize {
        self.max - self.permits.available_permits().min(self.max)
    }
}

/// The place of one waiter: the offset it waits for and a number that makes it unique.
pub type WaiterKey = (i64, u64);

/// Waiters of one partition, ordered by the offset that completes them.
#[derive(Debug)]
pub struct Purgatory<W> {
    next: u64,
    waiting: BTreeMap<WaiterKey, W>,
}

impl<W> Default for Purgatory<W> {
    fn default() -> Self {
        Self { next: 0, waiting: BTreeMap::new() }
    }
}

impl<W> Purgatory<W> {
    /// Waits until the watched offset reaches `offset`.
    pub fn watch(&mut self, offset: i64, waiter: W) -> WaiterKey {
        let key = (offset, self.next);
        self.next += 1;
        self.waiting.insert(key, waiter);
        key
    }

    /// The watched offset is `offset` now: takes every waiter that waited for it or for less, in order.
    pub fn reach(&mut self, offset: i64) -> Vec<W> {
        let mut reached = Vec::new();
        while let Some(entry) = self.waiting.first_entry() {
            if entry.key().0 > offset {
                break;
            }
            reached.push(entry.remove());
        }
        reached
    }

    /// Takes everyone, in order.
    pub fn drain(&mut self) -> Vec<W> {
        std::mem::take(&mut self.waiting).into_values().collect()
    }

    /// Forgets one waiter.
    pub fn forget(&mut self, key: WaiterKey) -> Option<W> {
        self.waiting.remove(&key)
    }

    /// How many wait.
    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Whether nobody waits.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }
}

/// The waiting half of an acks=all append: completes when the high watermark has passed the batch.
#[derive(Debug)]
pub struct DelayedProduce {
    receiver: oneshot::Receiver<Result<(), ReplicaError>>,
    place: WaiterKey,
    purgatory: Arc<Mutex<Purgatory<ProduceWaiter>>>,
}

/// The purgatory's half of an acks=all append.
#[derive(Debug)]
pub struct ProduceWaiter {
    /// The first batch of the append.
    pub batch: ProducerBatch,
    sender: oneshot::Sender<Result<(), ReplicaError>>,
    _permit: OwnedSemaphorePermit,
}

impl ProduceWaiter {
    /// Answers the request; one that gave up waiting is not missed.
    pub fn complete(self, result: Result<(), ReplicaError>) {
        let _gave_up = self.sender.send(result);
    }
}

impl DelayedProduce {
    /// Waits in `purgatory` until the high watermark reaches `offset`.
    pub fn watch(
        purgatory: &Arc<Mutex<Purgatory<ProduceWaiter>>>,
        offset: i64,
        batch: ProducerBatch,
        permit: OwnedSemaphorePermit,
    ) -> DelayedProduce {
        let (sender, receiver) = oneshot::channel();
        let place = purgatory.lock().watch(offset, ProduceWaiter { batch, sender, _permit: permit });
        DelayedProduce { receiver, place, purgatory: Arc::clone(purgatory) }
    }

    /// The result if there is one already: for callers that drive time themselves.
    pub fn try_result(&mut self) -> Option<Result<(), ReplicaError>> {
        match self.receiver.try_recv() {
            Ok(result) => Some(result),
            Err(oneshot::error::TryRecvError::Empty) => None,
            Err(oneshot::error::TryRecvError::Closed) => Some(Err(ReplicaError::NotLeaderOrFollower)),
        }
    }
}

impl Future for DelayedProduce {
    type Output = Result<(), ReplicaError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        // The sender is only ever dropped together with the partition itself.
        Pin::new(&mut self.receiver).poll(context).map(|sent| sent.unwrap_or(Err(ReplicaError::NotLeaderOrFollower)))
    }
}

impl Drop for DelayedProduce {
    fn drop(&mut self) {
        self.purgatory.lock().forget(self.place);
    }
}

/// A fetch that waits on several partitions for the first of them to have something new.
#[derive(Debug)]
pub struct DelayedFetch {
    wake: Arc<Notify>,
    places: Vec<(Arc<Mutex<Purgatory<FetchWaiter>>>, WaiterKey)>,
    _permit: OwnedSemaphorePermit,
}

/// The purgatory's half of a waiting fetch.
#[derive(Debug)]
pub struct FetchWaiter(Arc<Notify>);

impl FetchWaiter {
    /// Lets the fetch look again.
    pub fn wake(self) {
        self.0.notify_one();
    }
}

impl DelayedFetch {
    /// A fetch that waits nowhere yet.
    pub fn new(permit: OwnedSemaphorePermit) -> Self {
        Self { wake: Arc::new(Notify::new()), places: Vec::new(), _permit: permit }
    }

    /// Also waits here, until the readable end reaches `offset`. The caller looks at the offset again **after** this
    /// call, else an append between its read and this call would not wake it.
    pub fn watch(&mut self, purgatory: &Arc<Mutex<Purgatory<FetchWaiter>>>, offset: i64) {
        let place = purgatory.lock().watch(offset, FetchWaiter(Arc::clone(&self.wake)));
        self.places.push((Arc::clone(purgatory), place));
    }

    /// Completes at the first news on any watched partition; news from before the call count.
    pub async fn woken(&self) {
        self.wake.notified().await;
    }
}

impl Drop for DelayedFetch {
    fn drop(&mut self) {
        for (purgatory, place) in &self.places {
            purgatory.lock().forget(*place);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rookery_protocol::batch::RecordBatchBuilder;

    #[test]
    fn reaching_an_offset_takes_exactly_the_waiters_at_or_below_it() {
        let mut purgatory = Purgatory::default();
        // A duplicate waits for its original's offset, so waiters do not arrive in order.
        let c = purgatory.watch(30, "c");
        purgatory.watch(10, "a");
        purgatory.watch(20, "b");
        purgatory.watch(20, "b2");
        assert!(purgatory.reach(9).is_empty());
        assert_eq!(purgatory.reach(20), ["a", "b", "b2"]);
        assert_eq!(purgatory.forget(c), Some("c"));
        assert!(purgatory.is_empty());
    }

    fn batch() -> ProducerBatch {
        let mut batch = RecordBatchBuilder::new();
        batch.push(0, None, Some(b"v"), &[]);
        ProducerBatch::from(batch.build().expect("a batch").header())
    }

    #[test]
    fn a_waiter_that_gives_up_leaves_nothing_behind() {
        let limit = PurgatoryLimit::new("produce", 1);
        let purgatory = Arc::new(Mutex::new(Purgatory::default()));
        let waiter = DelayedProduce::watch(&purgatory, 5, batch(), limit.try_acquire().expect("the first place"));
        assert!(limit.try_acquire().is_none(), "the bound holds");
        drop(waiter);
        assert_eq!(purgatory.lock().len(), 0);
        assert_eq!(limit.waiting(), 0);
    }

    #[test]
    fn a_completed_produce_says_how_it_ended() {
        let limit = PurgatoryLimit::new("produce", 2);
        let purgatory = Arc::new(Mutex::new(Purgatory::default()));
        let mut committed = DelayedProduce::watch(&purgatory, 5, batch(), limit.try_acquire().expect("room"));
        let mut failed = DelayedProduce::watch(&purgatory, 9, batch(), limit.try_acquire().expect("room"));
        assert!(committed.try_result().is_none());
        for waiter in purgatory.lock().reach(5) {
            waiter.complete(Ok(()));
        }
        for waiter in purgatory.lock().drain() {
            waiter.complete(Err(ReplicaError::NotEnoughReplicasAfterAppend));
        }
        assert!(matches!(committed.try_result(), Some(Ok(()))));
        assert!(matches!(failed.try_result(), Some(Err(ReplicaError::NotEnoughReplicasAfterAppend))));
    }

    #[tokio::test]
    async fn one_news_wakes_a_fetch_once_however_many_partitions_it_watches() {
        let limit = PurgatoryLimit::new("fetch", 1);
        let (a, b) = (Arc::new(Mutex::new(Purgatory::default())), Arc::new(Mutex::new(Purgatory::default())));
        let mut fetch = DelayedFetch::new(limit.try_acquire().expect("room"));
        fetch.watch(&a, 1);
        fetch.watch(&b, 7);
        for waiter in a.lock().reach(3) {
            waiter.wake();
        }
        fetch.woken().await;
        assert_eq!((a.lock().len(), b.lock().len()), (0, 1));
        drop(fetch);
        assert_eq!(b.lock().len(), 0);
    }
}
