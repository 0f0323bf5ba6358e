//! The dialling end of a connection.
//!
//! States: *open* → *closed*, once. One task reads responses and writes requests; it ends, and closes the connection, when the peer goes
//! away, breaks the protocol, or when the last handle is dropped (the writer then says goodbye). Calls are registered in [`Calls`], whose
//! lock also holds the state: nothing can be registered after the close, so no caller is left waiting.

use super::frame::{self, FrameError, FrameHeader, Outbound, Role};
use super::metrics::ConnectionMetrics;
use super::service::KIND_GOODBYE;
use super::writer::write_frames;
use super::{ClosedReason, Direction, Lane, LaneLimits, PeerAddress, PeerConfig, PeerError, PeerEvent, PeerEvents};
use super::{PeerIdentity, hello, socket};
use bytes::Bytes;
use parking_lot::Mutex;
use rookery_raft::ids::NodeId;
use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use tokio::io::{AsyncRead, BufReader};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

const READ_BUFFER: usize = 32 * 1024;

/// Connects and shakes hands, each within its time. `local` is who we say we are.
pub(super) async fn dial(
    node: NodeId,
    lane: Lane,
    entry: &PeerAddress,
    local: &PeerIdentity,
    config: &PeerConfig,
) -> Result<(TcpStream, PeerIdentity), PeerError> {
    let refused = |kind| PeerError::Connect { node, address: entry.address.clone(), kind };
    let mut stream = timeout(config.connect_timeout, TcpStream::connect(&*entry.address))
        .await
        .map_err(|_| refused(io::ErrorKind::TimedOut))?
        .map_err(|error| refused(error.kind()))?;
    let failed = |detail: String| PeerError::Handshake { node, detail: detail.into() };
    socket::tune(&stream, config).map_err(|error| failed(error.to_string()))?;
    let greeting = hello::Hello::new(*local, lane, node, entry.directory_id);
    let reply = timeout(config.handshake_timeout, hello::greet(&mut stream, &greeting))
        .await
        .map_err(|_| failed("no reply in time".to_owned()))?
        .map_err(|error| failed(error.to_string()))?;
    Ok((stream, hello::accepted(&reply, local, node)?))
}

/// An open connection to one node on one lane; dropping the last handle ends it with a goodbye.
pub(super) struct Connection {
    node: NodeId,
    lane: Lane,
    limits: LaneLimits,
    // For whom and where it was opened: both are compared by pointer.
    local: Arc<PeerIdentity>,
    entry: Arc<PeerAddress>,
    opened: Instant,
    queue: mpsc::Sender<Outbound>,
    calls: Arc<Calls>,
    metrics: ConnectionMetrics,
}

/// What a connection needs from its pool.
pub(super) struct Surroundings<'a> {
    pub config: &'a PeerConfig,
    pub events: &'a PeerEvents,
    pub tracker: &'a TaskTracker,
    pub abort: &'a CancellationToken,
}

impl Connection {
    /// Dials, and starts the connection's task.
    pub async fn open(
        node: NodeId,
        lane: Lane,
        entry: Arc<PeerAddress>,
        local: Arc<PeerIdentity>,
        around: Surroundings<'_>,
    ) -> Result<Arc<Self>, PeerError> {
        let (stream, peer) = dial(node, lane, &entry, &local, around.config).await?;
        let limits = around.config.lane(lane);
        let metrics = ConnectionMetrics::new(lane, Direction::Outbound);
        let (queue, outbound) = mpsc::channel(limits.in_flight_max);
        let calls = Arc::new(Calls::default());
        let task = ConnectionTask {
            node,
            lane,
            peer,
            limits,
            calls: calls.clone(),
            metrics: metrics.clone(),
            events: around.events.clone(),
            abort: around.abort.clone(),
        };
        around.tracker.spawn(task.run(stream, outbound));
        let opened = Instant::now();
        Ok(Arc::new(Self { node, lane, limits, local, entry, opened, queue, calls, metrics }))
    }

    /// Whether a call under this identity to this address may use it.
    pub fn serves(&self, local: &Arc<PeerIdentity>, entry: &Arc<PeerAddress>) -> bool {
        Arc::ptr_eq(&self.local, local) && Arc::ptr_eq(&self.entry, entry) && self.is_open()
    }

    /// Whether it has not ended.
    pub fn is_open(&self) -> bool {
        self.calls.0.lock().closed.is_none()
    }

    /// When its handshake was done.
    pub fn opened(&self) -> Instant {
        self.opened
    }

    /// One call; the caller bounds its time, and dropping the future forgets it.
    pub async fn call(&self, kind: u16, segments: Vec<Bytes>) -> Result<Bytes, PeerError> {
        let (respond, response) = oneshot::channel();
        let ticket = self.calls.register(respond).ok_or(PeerError::Closed(self.node))?;
        let frame = frame::encode(
            kind,
            Role::Request,
            ticket.correlation,
            segments,
            self.lane.coverage(),
            self.limits.frame_bytes_max,
        )?;
        self.metrics.requests.increment(1);
        self.queue.send(frame).await.map_err(|_| PeerError::Closed(self.node))?;
        response.await.unwrap_or(Err(PeerError::Closed(self.node)))
    }
}

/// The calls of one connection that wait for their response.
#[derive(Default)]
struct Calls(Mutex<Waiting>);

#[derive(Default)]
struct Waiting {
    last_correlation: u64,
    by_correlation: BTreeMap<u64, oneshot::Sender<Result<Bytes, PeerError>>>,
    closed: Option<ClosedReason>,
}

// A registered call; dropping it forgets the call, whatever became of it.
struct Ticket<'a> {
    calls: &'a Calls,
    correlation: u64,
}

impl Drop for Ticket<'_> {
    fn drop(&mut self) {
        self.calls.0.lock().by_correlation.remove(&self.correlation);
    }
}

impl Calls {
    fn register(&self, respond: oneshot::Sender<Result<Bytes, PeerError>>) -> Option<Ticket<'_>> {
        let mut waiting = self.0.lock();
        if waiting.closed.is_some() {
            return None;
        }
        waiting.last_correlation += 1;
        let correlation = waiting.last_correlation;
        waiting.by_correlation.insert(correlation, respond);
        Some(Ticket { calls: self, correlation })
    }

    // A response nobody waits for any more is dropped.
    fn complete(&self, correlation: u64, result: Result<Bytes, PeerError>) {
        let waiting = self.0.lock().by_correlation.remove(&correlation);
        if let Some(respond) = waiting {
            let _ = respond.send(result);
        }
    }

    // Dropping the senders wakes every caller.
    fn close(&self, reason: ClosedReason) {
        let mut waiting = self.0.lock();
        waiting.closed = Some(reason);
        waiting.by_correlation.clear();
    }
}

struct ConnectionTask {
    node: NodeId,
    lane: Lane,
    peer: PeerIdentity,
    limits: LaneLimits,
    calls: Arc<Calls>,
    metrics: ConnectionMetrics,
    events: PeerEvents,
    abort: CancellationToken,
}

impl ConnectionTask {
    async fn run(self, mut stream: TcpStream, outbound: mpsc::Receiver<Outbound>) {
        let _open = self.metrics.count_open();
        let (peer, lane, direction) = (self.peer, self.lane, Direction::Outbound);
        self.events.send(PeerEvent::Opened { peer, lane, direction });
        let (read, write) = stream.split();
        let reason = tokio::select! {
            reason = self.read_responses(BufReader::with_capacity(READ_BUFFER, read)) => reason,
            written = write_frames(write, outbound, goodbye(), self.metrics.bytes_sent.clone()) => match written {
                Ok(()) => ClosedReason::Goodbye,
                Err(_) => ClosedReason::Lost,
            },
            () = self.abort.cancelled() => ClosedReason::LocalShutdown,
        };
        self.calls.close(reason);
        tracing::debug!(node = self.node.0, %lane, ?reason, "connection to peer closed");
        self.events.send(PeerEvent::Closed { peer, lane, direction, reason, at: Instant::now() });
    }

    async fn read_responses<R: AsyncRead + Unpin>(&self, mut reader: R) -> ClosedReason {
        loop {
            match self.read_response(&mut reader).await {
                Ok(None) => {}
                Ok(Some(reason)) => return reason,
                Err(error) if error.is_violation() => {
                    tracing::warn!(node = self.node.0, lane = %self.lane, %error, "peer broke the protocol; connection closed");
                    return ClosedReason::Protocol;
                }
                Err(_) => return ClosedReason::Lost,
            }
        }
    }

    async fn read_response<R: AsyncRead + Unpin>(&self, reader: &mut R) -> Result<Option<ClosedReason>, FrameError> {
        let Some(header) = frame::read_header(reader, self.limits.frame_bytes_max).await? else {
            return Ok(Some(ClosedReason::Lost));
        };
        let body = frame::read_body(reader, &header).await?;
        self.metrics.bytes_received.increment((frame::HEADER_LEN + body.len()) as u64);
        let FrameHeader { role, kind, correlation, .. } = header;
        match role {
            Role::Response => self.calls.complete(correlation, Ok(body)),
            Role::ErrorResponse => {
                let error = frame::decode_error(body).ok_or(FrameError::ErrorBody)?;
                self.calls.complete(correlation, Err(error));
            }
            Role::Request if kind == KIND_GOODBYE => return Ok(Some(ClosedReason::Goodbye)),
            Role::Request => return Err(FrameError::Role),
        }
        Ok(None)
    }
}

/// The frame that makes an end a planned one.
pub(super) fn goodbye() -> Outbound {
    frame::encode(KIND_GOODBYE, Role::Request, 0, Vec::new(), frame::Coverage::All, 0)
        .expect("an empty body always fits")
}
