//! The accepting end: listener, handshakes, and the bounds over all connections.
//!
//! Tasks: one accepts; one per connection shakes hands and then runs its `Session`; one per request runs the service. All are
//! tracked. `stopping` ends accepting and reading; what is being served may finish within the grace; `abort` ends the rest.

use super::hello::{self, Hello, HelloError, HelloReply};
use super::metrics::{self, ConnectionMetrics};
use super::session::Session;
use super::{
    Direction, Lane, LocalIdentity, PeerConfig, PeerEvent, PeerEvents, PeerIdentity, PeerServices, Refusal, socket,
};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

// After an accept that failed (file descriptors are spent, for instance): how long until the next one.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Serves the peers of this node until it is shut down or dropped.
pub struct PeerServer {
    address: SocketAddr,
    shared: Arc<ServerShared>,
    /// Cancelled with the end of the task that accepts.
    ended: CancellationToken,
}

pub(super) struct ServerShared {
    pub identity: LocalIdentity,
    pub services: PeerServices,
    pub config: PeerConfig,
    pub events: PeerEvents,
    pub tracker: TaskTracker,
    pub stopping: CancellationToken,
    pub abort: CancellationToken,
    /// Bytes of requests in flight, one semaphore per lane so that no lane starves another.
    pub request_bytes: [Arc<Semaphore>; Lane::ALL.len()],
    connections: Arc<Semaphore>,
    handshakes: Arc<Semaphore>,
}

impl PeerServer {
    /// Listens on `address` (port 0 chooses one) and serves from then on. Must be called inside a tokio runtime.
    ///
    /// # Errors
    /// The address cannot be listened on; a port in use is [`io::ErrorKind::AddrInUse`].
    pub fn bind(
        address: SocketAddr,
        identity: LocalIdentity,
        services: PeerServices,
        config: PeerConfig,
        events: PeerEvents,
    ) -> io::Result<Self> {
        let listener = socket::listen(address)?;
        let address = listener.local_addr()?;
        let request_bytes = Lane::ALL.map(|lane| {
            let limits = config.lane(lane);
            // Less than one frame would wait for ever.
            let bytes = limits.request_bytes_max.max(limits.frame_bytes_max);
            Arc::new(Semaphore::new(bytes.min(Semaphore::MAX_PERMITS)))
        });
        let shared = Arc::new(ServerShared {
            connections: Arc::new(Semaphore::new(config.connections_max)),
            handshakes: Arc::new(Semaphore::new(config.handshakes_max)),
            identity,
            services,
            config,
            events,
            tracker: TaskTracker::new(),
            stopping: CancellationToken::new(),
            abort: CancellationToken::new(),
            request_bytes,
        });
        let ended = CancellationToken::new();
        let (accepting, at_end) = (accept(listener, shared.clone()), ended.clone().drop_guard());
        shared.tracker.spawn(async move {
            let _at_end = at_end;
            accepting.await;
        });
        Ok(Self { address, shared, ended })
    }

    /// Where it listens, with the port that was chosen.
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// Resolves when no more peers are accepted, for whatever reason.
    pub fn ended(&self) -> impl Future<Output = ()> + Send + 'static {
        self.ended.clone().cancelled_owned()
    }

    /// Stops accepting and reading, lets requests that are being served finish for [`PeerConfig::shutdown_grace`], says goodbye
    /// and closes every connection.
    pub async fn shutdown(&self) {
        let shared = &self.shared;
        shared.stopping.cancel();
        shared.tracker.close();
        if tokio::time::timeout(shared.config.shutdown_grace, shared.tracker.wait()).await.is_err() {
            shared.abort.cancel();
            shared.tracker.wait().await;
        }
    }
}

impl Drop for PeerServer {
    fn drop(&mut self) {
        self.shared.stopping.cancel();
        self.shared.abort.cancel();
    }
}

async fn accept(listener: TcpListener, shared: Arc<ServerShared>) {
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = shared.stopping.cancelled() => return,
        };
        match accepted {
            Ok((stream, remote)) => {
                let Ok(handshake) = shared.handshakes.clone().try_acquire_owned() else {
                    metrics::handshake_failed("server");
                    tracing::debug!(%remote, "too many handshakes at once; connection closed");
                    continue;
                };
                shared.tracker.spawn(serve(shared.clone(), stream, remote, handshake));
            }
            Err(error) => {
                tracing::warn!(%error, "accepting a peer failed");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn serve(shared: Arc<ServerShared>, mut stream: TcpStream, remote: SocketAddr, handshake: OwnedSemaphorePermit) {
    let shaken = tokio::select! {
        shaken = tokio::time::timeout(shared.config.handshake_timeout, shake_hands(&shared, &mut stream)) => shaken,
        () = shared.abort.cancelled() => return,
    };
    drop(handshake);
    let (peer, lane, _connection) = match shaken {
        Ok(Ok(Ok(shaken))) => shaken,
        Ok(Ok(Err((peer, refusal)))) => {
            metrics::handshake_failed("server");
            return tracing::warn!(%remote, node = peer.node_id.0, reason = %refusal, "peer connection refused");
        }
        Ok(Err(HelloError::Io(error))) => {
            metrics::handshake_failed("server");
            return tracing::debug!(%remote, %error, "peer connection ended within its handshake");
        }
        Ok(Err(error)) => {
            metrics::handshake_failed("server");
            return tracing::warn!(%remote, %error, "peer connection closed");
        }
        Err(_elapsed) => {
            metrics::handshake_failed("server");
            return tracing::warn!(%remote, "peer connection closed: no handshake in time");
        }
    };
    let direction = Direction::Inbound;
    tracing::debug!(%remote, node = peer.node_id.0, %lane, "peer connected");
    shared.events.send(PeerEvent::Opened { peer, lane, direction });
    let metrics = ConnectionMetrics::new(lane, direction);
    let reason = Session::new(shared.clone(), peer, lane, remote, metrics).run(stream).await;
    tracing::debug!(%remote, node = peer.node_id.0, %lane, ?reason, "peer disconnected");
    shared.events.send(PeerEvent::Closed { peer, lane, direction, reason, at: Instant::now() });
}

type Shaken = Result<(PeerIdentity, Lane, OwnedSemaphorePermit), (PeerIdentity, Refusal)>;

async fn shake_hands(shared: &ServerShared, stream: &mut TcpStream) -> Result<Shaken, HelloError> {
    socket::tune(stream, &shared.config)?;
    let hello: Hello = hello::read_hello(stream).await?;
    let local = *shared.identity.current();
    let judged = hello.judge(&local).and_then(|(version, lane)| {
        if shared.stopping.is_cancelled() {
            return Err(Refusal::ShuttingDown);
        }
        let permit = shared.connections.clone().try_acquire_owned().map_err(|_| Refusal::Overloaded)?;
        Ok((version, lane, permit))
    });
    let outcome = judged.as_ref().map(|(version, ..)| *version).map_err(|refusal| *refusal);
    hello::answer(stream, &HelloReply { outcome, identity: local }).await?;
    Ok(judged.map(|(_, lane, permit)| (hello.identity, lane, permit)).map_err(|refusal| (hello.identity, refusal)))
}
