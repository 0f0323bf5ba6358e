//! Kafka listeners: sockets in, frames to the handlers, responses out in request order.
//!
//! In: TCP connections. Out: whole frames to a [`RequestHandler`]; its responses back on the wire. This room knows
//! lengths and bytes, never what a request means.
//!
//! # A connection
//!
//! ```text
//!  socket → reader: length, budget, body → handler.handle(frame)      one at a time, in order
//!                                              │ Handled (a response, or a future of it)
//!                                              ▼ bounded queue
//!  socket ← writer: awaits each in order, writes vectored
//! ```
//!
//! - [`RequestHandler::handle`] is called for one frame after the other: what must happen in order (an append) happens
//!   before it returns; what takes time (replication, a long poll) goes into the returned future. So a producer with five
//!   requests in flight has them appended in order and waits for them together.
//! - Responses leave in request order; a future is not polled before those ahead of it are written, so a client that
//!   does not read makes this node hold one response, not many.
//! - Bytes of responses are their makers' to account for: what a [`Reply`] holds is dropped when it has been written.
//! - Bytes of requests are taken from one [`RequestBudget`] for the whole node: the first MiB of a frame when its length is
//!   known, the whole of a larger one once that MiB has arrived, so that a length prefix alone takes little and nobody waits
//!   while holding a part. They are given back when the response is written. When the budget is spent, sockets are not
//!   read.
//!
//! Bounds: connections of the node, bytes of a frame, bytes of all requests, requests in flight on a connection, time a
//! frame may take to arrive, time each MiB of an answer may take to be read, time without a request or an answer that is due.

mod activity;
mod budget;
mod connection;
mod listener;
mod outgoing;

pub use budget::RequestBudget;
pub use listener::{BoundListener, ListenerError, NetConfig, listen};
#[cfg(feature = "rocksdb")] // for the command line
pub(crate) use outgoing::Outgoing;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use rookery_protocol::codec::Segments;
use std::net::SocketAddr;
use std::sync::Arc;

/// What a handler may know about a connection.
#[derive(Debug)]
pub struct ConnectionInfo {
    /// Counts connections of this process.
    pub id: u64,
    /// The client's address.
    pub peer: SocketAddr,
    /// Name of the listener it came through: decides which addresses it is told.
    pub listener: Arc<str>,
}

/// A response, and what is given back when it has been written or given up.
pub struct Reply {
    /// A whole frame, with its length.
    pub frame: Segments,
    /// Anything; dropped behind the last byte.
    pub held: Option<Box<dyn Send>>,
}

/// What became of a frame.
pub enum Handled {
    /// The response.
    Reply(Reply),
    /// The response comes later; what had to happen in order has happened.
    Later(BoxFuture<'static, Handled>),
    /// A request that has no response (Produce with acks=0).
    NoReply,
    /// The connection must end; why, for the log.
    Close(String),
}

/// Understands frames.
pub trait RequestHandler: Send + Sync + 'static {
    /// Work on one frame (without its length prefix).
    fn handle<'a>(&'a self, connection: &'a Arc<ConnectionInfo>, frame: Bytes) -> BoxFuture<'a, Handled>;
}
