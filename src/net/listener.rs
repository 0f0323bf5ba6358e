//! Accepts connections, up to a bound, until told to stop.

use super::connection::{self, ConnectionLimits};
use super::{ConnectionInfo, RequestBudget, RequestHandler};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream, lookup_host};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Bounds of the Kafka listeners.
#[derive(Debug, Clone)]
pub struct NetConfig {
    /// Connections of the node (`max.connections`), all listeners together.
    pub connections_max: Arc<Semaphore>,
    /// Bytes of all requests (`queued.max.request.bytes`).
    pub budget: RequestBudget,
    /// Bytes of one request (`socket.request.max.bytes`).
    pub frame_bytes_max: usize,
    /// Time without a request (`connections.max.idle.ms`).
    pub idle_max: Duration,
}

/// A listener that cannot be opened.
#[derive(Debug, Clone, thiserror::Error)]
#[error("cannot listen on {address}: {reason}")]
pub struct ListenerError {
    /// As configured.
    pub address: String,
    /// In words, with what to do about it where that is known.
    pub reason: String,
}

const BACKLOG: i32 = 1024;
/// Pause after accept fails for want of file descriptors: retrying at once would spin.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);

/// A listener that holds its port and takes no connections yet.
pub struct BoundListener {
    name: Arc<str>,
    socket: socket2::Socket,
    address: SocketAddr,
}

impl BoundListener {
    /// Bind; clients that connect are refused, and go elsewhere, until the listener is served.
    pub async fn bind(name: &str, address: (&str, u16)) -> Result<BoundListener, ListenerError> {
        let failed =
            |e: io::Error| ListenerError { address: format!("{}:{}", address.0, address.1), reason: explain(&e) };
        let socket = bind(address).await.map_err(failed)?;
        let address = socket.local_addr().map_err(failed)?.as_socket();
        let address = address.expect("a socket bound to an internet address has one");
        Ok(BoundListener { name: name.into(), socket, address })
    }

    /// Where it listens, with the port that was chosen.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serve until the token is cancelled, each connection in a task of the tracker. A panic in one of them ends that
    /// connection only.
    pub fn serve(
        self,
        config: NetConfig,
        handler: Arc<dyn RequestHandler>,
        tasks: TaskTracker,
        stop: CancellationToken,
    ) -> Result<impl Future<Output = ()> + Send + use<>, ListenerError> {
        let failed = |e: io::Error| ListenerError { address: self.address.to_string(), reason: explain(&e) };
        let listener = start_listening(self.socket).map_err(failed)?;
        Ok(async move {
            tokio::select! {
                () = stop.cancelled() => {}
                () = accept_all(listener, self.name, config, handler, tasks, stop.clone()) => {}
            }
        })
    }
}

fn start_listening(socket: socket2::Socket) -> io::Result<TcpListener> {
    // Connections inherit it, and with it what is left of them does not hold the port against the next process.
    socket.set_reuse_address(true)?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

/// Open a TCP listener with this house's options; the error says what to do.
pub async fn listen(address: (&str, u16)) -> Result<TcpListener, ListenerError> {
    bind(address)
        .await
        .and_then(start_listening)
        .map_err(|e| ListenerError { address: format!("{}:{}", address.0, address.1), reason: explain(&e) })
}

async fn bind(address: (&str, u16)) -> io::Result<socket2::Socket> {
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the host name has no address");
    for address in lookup_host(address).await? {
        let bind = |reuse: bool| {
            let socket = socket2::Socket::new(socket2::Domain::for_address(address), socket2::Type::STREAM, None)?;
            socket.set_reuse_address(reuse)?;
            socket.set_nonblocking(true)?;
            socket.bind(&address.into())?;
            Ok(socket)
        };
        // With address reuse the kernel lets others bind the port too until somebody listens: only if it is not to be had
        // otherwise, so that a restarted node need not wait for old connections' TIME_WAIT.
        let bound = bind(false).or_else(|error: io::Error| match error.kind() {
            io::ErrorKind::AddrInUse => bind(true),
            _ => Err(error),
        });
        match bound {
            Ok(socket) => return Ok(socket),
            Err(e) => last = e,
        }
    }
    Err(last)
}

fn explain(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::AddrInUse => {
            "the port is in use by another process; choose another, or stop that one".to_owned()
        }
        io::ErrorKind::PermissionDenied => "not allowed; ports below 1024 need privileges".to_owned(),
        io::ErrorKind::AddrNotAvailable => "this machine has no such address".to_owned(),
        _ => error.to_string(),
    }
}

async fn accept_all(
    listener: TcpListener,
    name: Arc<str>,
    config: NetConfig,
    handler: Arc<dyn RequestHandler>,
    tasks: TaskTracker,
    stop: CancellationToken,
) {
    static NEXT_ID: AtomicU64 = AtomicU64::new(1);
    let limits = ConnectionLimits { frame_bytes_max: config.frame_bytes_max, idle_max: config.idle_max };
    loop {
        // Taken before accept: at the bound, new clients wait in the backlog and nothing is spent on them.
        let slot = Arc::clone(&config.connections_max).acquire_owned().await.expect("the semaphore is never closed");
        let (stream, peer) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(listener = %name, %error, "cannot accept a connection");
                tokio::time::sleep(ACCEPT_RETRY).await;
                continue;
            }
        };
        if let Err(error) = prepare(&stream) {
            tracing::debug!(%peer, %error, "connection ended before it began");
            continue;
        }
        let info =
            Arc::new(ConnectionInfo { id: NEXT_ID.fetch_add(1, Ordering::Relaxed), peer, listener: name.clone() });
        let (handler, budget, limits, stop) = (handler.clone(), config.budget.clone(), limits.clone(), stop.clone());
        tasks.spawn(async move {
            let _open = Open::begin(slot);
            connection::run(stream, &info, handler.as_ref(), &budget, &limits, stop).await;
        });
    }
}

/// A connection that counts, until its task ends in whatever way.
struct Open {
    _slot: OwnedSemaphorePermit,
}

impl Open {
    fn begin(slot: OwnedSemaphorePermit) -> Self {
        metrics::gauge!("rookery_net_connections").increment(1);
        Self { _slot: slot }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        metrics::gauge!("rookery_net_connections").decrement(1);
    }
}

fn prepare(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    socket2::SockRef::from(stream).set_keepalive(true)
}
