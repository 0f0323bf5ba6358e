//! One accepted connection: reads requests, runs services, writes responses in the order in which they are ready.
//!
//! One task reads and writes. A request is read only once its bytes fit the lane's budget; it then runs as a task of its own, so that one
//! that waits (long poll) holds up nobody. The in-flight permit is held until the response is queued, and the queue has as many places as there are permits:
//! a peer that does not read its responses stops being served, and costs at most `2 × in_flight_max` responses.

use super::connection::goodbye;
use super::frame::{self, FrameError, FrameHeader, Outbound, Role};
use super::metrics::{self, ConnectionMetrics};
use super::server::ServerShared;
use super::service::{KIND_GOODBYE, KIND_PING};
use super::writer::write_frames;
use super::{ClosedReason, Lane, LaneLimits, PeerError, PeerIdentity, PeerService};
use bytes::Bytes;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::io::{AsyncRead, BufReader};
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

const READ_BUFFER: usize = 32 * 1024;

/// The accepting end of one connection after its handshake.
pub(super) struct Session {
    shared: Arc<ServerShared>,
    peer: PeerIdentity,
    lane: Lane,
    remote: SocketAddr,
    limits: LaneLimits,
    in_flight: Arc<Semaphore>,
    metrics: ConnectionMetrics,
}

impl Session {
    pub fn new(
        shared: Arc<ServerShared>,
        peer: PeerIdentity,
        lane: Lane,
        remote: SocketAddr,
        metrics: ConnectionMetrics,
    ) -> Self {
        let limits = shared.config.lane(lane);
        let in_flight = Arc::new(Semaphore::new(limits.in_flight_max));
        Self { shared, peer, lane, remote, limits, in_flight, metrics }
    }

    /// Serves until one of the two ends it.
    pub async fn run(self, mut stream: TcpStream) -> ClosedReason {
        let _open = self.metrics.count_open();
        let (read, write) = stream.split();
        let (queue, outbound) = mpsc::channel(self.limits.in_flight_max);
        let writer = write_frames(write, outbound, goodbye(), self.metrics.bytes_sent.clone());
        tokio::pin!(writer);
        let reason = tokio::select! {
            reason = self.read_requests(BufReader::with_capacity(READ_BUFFER, read), &queue) => reason,
            // It cannot end well: `queue` is alive.
            _ = &mut writer => ClosedReason::Lost,
            () = self.shared.stopping.cancelled() => ClosedReason::LocalShutdown,
        };
        if reason == ClosedReason::LocalShutdown {
            // The writer says goodbye after the last response; services hold the other senders.
            drop(queue);
            tokio::select! {
                _ = writer => {}
                () = self.shared.abort.cancelled() => {}
            }
        }
        reason
    }

    async fn read_requests<R>(&self, mut reader: R, queue: &mpsc::Sender<Outbound>) -> ClosedReason
    where
        R: AsyncRead + Unpin,
    {
        loop {
            match self.read_request(&mut reader, queue).await {
                Ok(None) => {}
                Ok(Some(reason)) => return reason,
                Err(error) if error.is_violation() => {
                    let (remote, node, lane) = (self.remote, self.peer.node_id, self.lane);
                    tracing::warn!(%remote, node = node.0, %lane, %error, "peer broke the protocol; connection closed");
                    return ClosedReason::Protocol;
                }
                Err(_) => return ClosedReason::Lost,
            }
        }
    }

    async fn read_request<R>(
        &self,
        reader: &mut R,
        queue: &mpsc::Sender<Outbound>,
    ) -> Result<Option<ClosedReason>, FrameError>
    where
        R: AsyncRead + Unpin,
    {
        let Some(header) = frame::read_header(reader, self.limits.frame_bytes_max).await? else {
            return Ok(Some(ClosedReason::Lost));
        };
        if header.role != Role::Request {
            return Err(FrameError::Role);
        }
        if header.kind == KIND_GOODBYE {
            return Ok(Some(ClosedReason::Goodbye));
        }
        let bytes = self.reserve(header.body_len).await;
        let body = tokio::time::timeout(self.shared.config.body_timeout, frame::read_body(reader, &header))
            .await
            .map_err(|_| FrameError::Stalled)??;
        self.metrics.bytes_received.increment((frame::HEADER_LEN + body.len()) as u64);
        self.metrics.requests.increment(1);
        match self.admit(&header) {
            Ok(admitted) => self.spawn(admitted, &header, body, bytes, queue.clone()),
            Err(Refused::Ping) => respond(queue, self.response(&header, Ok(vec![body]))).await,
            Err(Refused::Error(error)) => respond(queue, self.response(&header, Err(error))).await,
        }
        Ok(None)
    }

    // Waits until the lane's budget has room: this connection is not read from meanwhile.
    async fn reserve(&self, bytes: usize) -> ReservedBytes {
        let budget = self.shared.request_bytes[self.lane as usize].clone();
        let permits = u32::try_from(bytes).expect("the lane's bound is far below 4 GiB");
        let permit = budget.acquire_many_owned(permits).await.expect("the budget is never closed");
        let gauge = metrics::request_bytes(self.lane);
        gauge.increment(f64::from(permits));
        ReservedBytes { gauge, _permit: permit }
    }

    fn admit(&self, header: &FrameHeader) -> Result<Admitted, Refused> {
        if header.kind == KIND_PING {
            return Err(Refused::Ping);
        }
        let service = self.shared.services.find(self.lane, header.kind);
        let service = service.ok_or(Refused::Error(PeerError::UnknownKind(header.kind)))?.clone();
        match self.in_flight.clone().try_acquire_owned() {
            Ok(permit) => Ok(Admitted { service, permit }),
            Err(_) => {
                self.metrics.overloaded.increment(1);
                Err(Refused::Error(PeerError::Overloaded))
            }
        }
    }

    fn spawn(
        &self,
        Admitted { service, permit }: Admitted,
        header: &FrameHeader,
        body: Bytes,
        bytes: ReservedBytes,
        queue: mpsc::Sender<Outbound>,
    ) {
        let (peer, header, lane, limits) = (self.peer, *header, self.lane, self.limits);
        let abort = self.shared.abort.clone();
        self.shared.tracker.spawn(async move {
            let result = tokio::select! {
                result = service.call(peer, header.kind, body) => result,
                () = abort.cancelled() => return,
            };
            drop(bytes);
            // The peer may be gone: its response then has no reader, which is no error of ours.
            tokio::select! {
                () = respond(&queue, response(&header, result, lane, limits)) => {}
                () = abort.cancelled() => {}
            }
            drop(permit);
        });
    }

    fn response(&self, header: &FrameHeader, result: Result<Vec<Bytes>, PeerError>) -> Outbound {
        response(header, result, self.lane, self.limits)
    }
}

struct Admitted {
    service: Arc<dyn PeerService>,
    permit: OwnedSemaphorePermit,
}

enum Refused {
    Ping,
    Error(PeerError),
}

// Bytes of one request out of the lane's budget.
struct ReservedBytes {
    gauge: ::metrics::Gauge,
    _permit: OwnedSemaphorePermit,
}

impl Drop for ReservedBytes {
    fn drop(&mut self) {
        self.gauge.decrement(self._permit.num_permits() as f64);
    }
}

async fn respond(queue: &mpsc::Sender<Outbound>, frame: Outbound) {
    let _ = queue.send(frame).await;
}

fn response(header: &FrameHeader, result: Result<Vec<Bytes>, PeerError>, lane: Lane, limits: LaneLimits) -> Outbound {
    let FrameHeader { kind, correlation, .. } = *header;
    let encode =
        |role, segments| frame::encode(kind, role, correlation, segments, lane.coverage(), limits.frame_bytes_max);
    result.and_then(|segments| encode(Role::Response, segments)).unwrap_or_else(|error| {
        encode(Role::ErrorResponse, vec![frame::encode_error(&error)])
            .expect("an error is smaller than any lane's bound")
    })
}
