//! Connections to peers, one per (node, lane), made when first needed.
//!
//! A slot's states, all behind the slot's lock, which is never held across an await:
//!
//! ```text
//! Idle ──call──▶ Connecting ──ok──▶ Open ──it closed, or identity or address changed──▶ (next call) Connecting
//!                    │ error                └─closed soon after opening─▶ BackingOff
//!                    ▼
//!                BackingOff ──call before its end──▶ fails at once with the cause
//!                    └──call after its end, or a changed address──▶ Connecting
//! ```
//!
//! Only the task of the attempt leaves `Connecting`; callers wait for it (bounded by the slot's in-flight permits and their time-out).

use super::connection::{Connection, Surroundings};
use super::metrics;
use super::probe::{self, ProbeOutcome};
use super::service::KIND_PING;
use super::{AddressBook, Lane, LocalIdentity, PeerAddress, PeerConfig, PeerError, PeerEvents};
use bytes::Bytes;
#[cfg(test)]
use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use rookery_raft::ids::NodeId;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Semaphore, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Randomness for the delays between connects: uniform in `[0, 1)`.
pub type Jitter = Arc<dyn Fn() -> f64 + Send + Sync>;

/// What a simulation has in the place of sockets.
#[cfg(test)]
pub(crate) trait Carrier: Send + Sync {
    /// One request and its response; the pool bounds the time.
    fn call(&self, node: NodeId, lane: Lane, kind: u16, body: Bytes) -> BoxFuture<'static, Result<Bytes, PeerError>>;
    /// Asks whether the node's process is there; the pool bounds the time.
    fn probe(&self, node: NodeId) -> BoxFuture<'static, ProbeOutcome>;
}

/// Calls to peers. A cheap handle.
#[derive(Clone)]
pub struct PeerPool(Arc<Inner>);

struct Inner {
    identity: LocalIdentity,
    book: AddressBook,
    config: PeerConfig,
    events: PeerEvents,
    jitter: Jitter,
    slots: Mutex<BTreeMap<(NodeId, Lane), Arc<Slot>>>,
    // `closing` refuses new calls, `abort` ends connections that do not end by themselves.
    closing: CancellationToken,
    abort: CancellationToken,
    tracker: TaskTracker,
    #[cfg(test)]
    carrier: Option<Arc<dyn Carrier>>,
}

struct Slot {
    in_flight: Semaphore,
    state: Mutex<SlotState>,
}

struct SlotState {
    link: Link,
    // Consecutive attempts without a connection that lasted.
    failures: u32,
}

enum Link {
    Idle,
    /// The sender is dropped when the attempt is over.
    Connecting(watch::Receiver<()>),
    Open(Arc<Connection>),
    BackingOff {
        until: Instant,
        error: PeerError,
        entry: Arc<PeerAddress>,
    },
}

impl PeerPool {
    /// A pool without connections.
    pub fn new(
        identity: LocalIdentity,
        book: AddressBook,
        config: PeerConfig,
        events: PeerEvents,
        jitter: Jitter,
    ) -> Self {
        Self(Arc::new(Inner {
            identity,
            book,
            config,
            events,
            jitter,
            slots: Mutex::new(BTreeMap::new()),
            closing: CancellationToken::new(),
            abort: CancellationToken::new(),
            tracker: TaskTracker::new(),
            #[cfg(test)]
            carrier: None,
        }))
    }

    /// A pool over something else than sockets.
    #[cfg(test)]
    pub(crate) fn carried_by(
        identity: LocalIdentity,
        book: AddressBook,
        events: PeerEvents,
        carrier: Arc<dyn Carrier>,
    ) -> Self {
        let Self(inner) = Self::new(identity, book, PeerConfig::default(), events, Arc::new(|| 0.5));
        let inner = Arc::into_inner(inner).expect("nobody else has it yet");
        Self(Arc::new(Inner { carrier: Some(carrier), ..inner }))
    }

    /// One request and its response. `segments` are written one after the other without being copied together; on
    /// [`Lane::Replication`] only the first is covered by the frame's checksum.
    ///
    /// # Errors
    /// See [`PeerError::is_retriable`] and [`PeerError::is_outcome_unknown`]. A connection that ends fails its calls at once.
    pub async fn call(
        &self,
        node: NodeId,
        lane: Lane,
        kind: u16,
        segments: Vec<Bytes>,
        timeout: Duration,
    ) -> Result<Bytes, PeerError> {
        let answered = tokio::time::timeout(timeout, self.call_unbounded(node, lane, kind, segments)).await;
        answered.unwrap_or(Err(PeerError::TimedOut { node, timeout }))
    }

    /// A ping over the lane's own connection.
    ///
    /// # Errors
    /// As [`PeerPool::call`].
    pub async fn ping(&self, node: NodeId, lane: Lane, timeout: Duration) -> Result<(), PeerError> {
        self.call(node, lane, KIND_PING, Vec::new(), timeout).await.map(drop)
    }

    /// Asks on a fresh connection whether the node's process is there. For the failure watcher: the outcomes are evidence of
    /// different weight.
    pub async fn probe(&self, node: NodeId, timeout: Duration) -> ProbeOutcome {
        let Some(entry) = self.0.book.get(node) else {
            return ProbeOutcome::Failed(PeerError::NoAddress(node));
        };
        #[cfg(test)]
        if let Some(carrier) = &self.0.carrier {
            let asked = tokio::time::timeout(timeout, carrier.probe(node)).await;
            return asked.unwrap_or(ProbeOutcome::TimedOut);
        }
        probe::probe(node, &entry, &self.0.identity.current(), &self.0.config, timeout).await
    }

    /// [`PeerPool::probe`] at an address of the caller's, whatever the book says.
    pub async fn probe_at(&self, node: NodeId, address: &str, timeout: Duration) -> ProbeOutcome {
        let entry = PeerAddress { address: address.into(), directory_id: None };
        probe::probe(node, &entry, &self.0.identity.current(), &self.0.config, timeout).await
    }

    /// The addresses it dials.
    pub fn book(&self) -> &AddressBook {
        &self.0.book
    }

    /// Drops the connections to a node that has left the cluster.
    pub fn forget(&self, node: NodeId) {
        self.0.slots.lock().retain(|(slot_node, _), _| *slot_node != node);
    }

    /// Refuses new calls, lets those in flight finish for [`PeerConfig::shutdown_grace`], says goodbye and closes.
    pub async fn shutdown(&self) {
        let inner = &self.0;
        inner.closing.cancel();
        inner.slots.lock().clear();
        inner.tracker.close();
        if tokio::time::timeout(inner.config.shutdown_grace, inner.tracker.wait()).await.is_err() {
            inner.abort.cancel();
            inner.tracker.wait().await;
        }
    }

    async fn call_unbounded(
        &self,
        node: NodeId,
        lane: Lane,
        kind: u16,
        segments: Vec<Bytes>,
    ) -> Result<Bytes, PeerError> {
        #[cfg(test)]
        if let Some(carrier) = &self.0.carrier {
            return carrier.call(node, lane, kind, segments.concat().into()).await;
        }
        let slot = self.slot(node, lane)?;
        let _permit = slot.in_flight.try_acquire().map_err(|_| PeerError::Overloaded)?;
        let connection = self.connection(&slot, node, lane).await?;
        connection.call(kind, segments).await
    }

    // Slots exist only for nodes with an address, so that calls to nobody cost no memory.
    fn slot(&self, node: NodeId, lane: Lane) -> Result<Arc<Slot>, PeerError> {
        let inner = &self.0;
        if self.0.book.get(node).is_none() {
            self.forget(node);
            return Err(PeerError::NoAddress(node));
        }
        let mut slots = inner.slots.lock();
        if inner.closing.is_cancelled() {
            return Err(PeerError::ShuttingDown);
        }
        let slot = slots.entry((node, lane)).or_insert_with(|| {
            Arc::new(Slot {
                in_flight: Semaphore::new(inner.config.lane(lane).in_flight_max),
                state: Mutex::new(SlotState { link: Link::Idle, failures: 0 }),
            })
        });
        Ok(slot.clone())
    }

    async fn connection(&self, slot: &Arc<Slot>, node: NodeId, lane: Lane) -> Result<Arc<Connection>, PeerError> {
        let mut waited = false;
        loop {
            let mut attempt = match self.step(slot, node, lane) {
                Ok(Step::Ready(connection)) => return Ok(connection),
                Ok(Step::Wait(attempt)) => attempt,
                // Who waited for this very attempt is told its error, not that one has to wait.
                Err(PeerError::BackingOff(cause)) if waited => return Err(*cause),
                Err(error) => return Err(error),
            };
            let _ = attempt.changed().await;
            waited = true;
        }
    }

    fn step(&self, slot: &Arc<Slot>, node: NodeId, lane: Lane) -> Result<Step, PeerError> {
        let inner = &self.0;
        let local = inner.identity.current();
        let entry = inner.book.get(node).ok_or(PeerError::NoAddress(node))?;
        let now = Instant::now();
        let mut state = slot.state.lock();
        match &state.link {
            Link::Open(connection) if connection.serves(&local, &entry) => return Ok(Step::Ready(connection.clone())),
            Link::Open(connection) if !connection.is_open() => {
                let lasted = now.duration_since(connection.opened()) >= inner.config.backoff_max;
                state.failures = if lasted { 0 } else { state.failures + 1 };
                if state.failures > 1 {
                    // The second one in a row that closed at once: the other end takes connections and drops them.
                    let error = PeerError::Closed(node);
                    state.link =
                        Link::BackingOff { until: now + self.delay(state.failures), error: error.clone(), entry };
                    return Err(PeerError::BackingOff(Box::new(error)));
                }
            }
            Link::Connecting(attempt) => return Ok(Step::Wait(attempt.clone())),
            Link::BackingOff { until, error, entry: tried } if now < *until && Arc::ptr_eq(tried, &entry) => {
                return Err(PeerError::BackingOff(Box::new(error.clone())));
            }
            Link::Idle | Link::Open(_) | Link::BackingOff { .. } => {}
        }
        if inner.closing.is_cancelled() {
            return Err(PeerError::ShuttingDown);
        }
        let (over, attempt) = watch::channel(());
        state.link = Link::Connecting(attempt.clone());
        let (pool, slot) = (self.clone(), slot.clone());
        inner.tracker.spawn(async move {
            let around = Surroundings {
                config: &pool.0.config,
                events: &pool.0.events,
                tracker: &pool.0.tracker,
                abort: &pool.0.abort,
            };
            let opened = tokio::select! {
                opened = Connection::open(node, lane, entry.clone(), local, around) => opened,
                () = pool.0.closing.cancelled() => Err(PeerError::ShuttingDown),
            };
            pool.finish(&slot, opened, entry);
            drop(over);
        });
        Ok(Step::Wait(attempt))
    }

    fn finish(&self, slot: &Slot, opened: Result<Arc<Connection>, PeerError>, entry: Arc<PeerAddress>) {
        let mut state = slot.state.lock();
        state.link = match opened {
            // `failures` is forgiven once the connection has lasted, see `step`.
            Ok(connection) => Link::Open(connection),
            Err(error) => {
                state.failures = state.failures.saturating_add(1);
                report(&error, state.failures);
                Link::BackingOff { until: Instant::now() + self.delay(state.failures), error, entry }
            }
        };
    }

    // Doubles from the first to the longest delay; half of it is random, so that a cluster does not dial in step.
    fn delay(&self, failures: u32) -> Duration {
        let PeerConfig { backoff_initial, backoff_max, .. } = self.0.config;
        let doubled = backoff_initial.saturating_mul(1u32 << failures.saturating_sub(1).min(16)).min(backoff_max);
        doubled.mul_f64(0.5 + 0.5 * (self.0.jitter)().clamp(0.0, 1.0))
    }
}

// A refusal needs a person: it is told once per row of failures. A node that is merely away is not news.
fn report(error: &PeerError, failures: u32) {
    let refused = matches!(error, PeerError::Refused { .. } | PeerError::Handshake { .. });
    if refused {
        metrics::handshake_failed("client");
    }
    if refused && failures == 1 {
        tracing::warn!(%error, "no connection to peer");
    } else {
        tracing::debug!(%error, failures, "no connection to peer");
    }
}

enum Step {
    Ready(Arc<Connection>),
    Wait(watch::Receiver<()>),
}
