//! Kafka listeners: sockets in, frames to the handlers, responses out in request order.
//!
//! In: TCP connections. Out: whole frames to a [`RequestHandler`]; its responses back on the wire. This room knows
//! lengths and bytes, never what a request means.
//!
//! # A connection
//!
//! ```text
//!  socket → reader: length, budget, body → handler.handle(frame, held)    one at a time, in order
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
//! - Bytes of requests are taken from one [`RequestBudget`] for the whole node, half of it for frames of up to 1 MiB and half for
//!   larger ones. A small frame takes all its bytes when its length is known. A large one takes its first MiB, from the half of the
//!   small ones; when that MiB has arrived it gives it back and takes all of itself from the half of the large ones. So a length prefix
//!   alone takes little, and nobody waits while holding a part. When its half is spent, a frame is not read on.
//! - What a frame has taken goes to the handler with it, which holds it as long as it holds the frame's bytes or what it made of
//!   them: an append has its own copy when it returns, and then waits for replication at nobody's cost; everything else
//!   holds it until there is an answer.
//!
//! # What one client can take from others
//!
//! A frame that has begun must arrive at a pace: 30 s for the first MiB, one second more for each further one (`Pace` in `connection.rs`
//! says why so much). So a part of the budget that a reader holds comes back within that time, however its client sends, and large frames
//! that trickle in hold up other large frames at most.
//!
//! Bounds: connections of the node, bytes of a frame, bytes of all requests, requests in flight on a connection, time a
//! frame may take to arrive and to find room, time each MiB of an answer may take to be read, time without a request or an answer that is
//! due. Not counted is the first MiB of large frames that wait for their half: one MiB a connection, for at most 30 s.

mod activity;
mod budget;
mod connection;
mod listener;
mod outgoing;

pub use budget::{RequestBudget, RequestBytes};
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
    /// Work on one frame (without its length prefix). `held` is what the budget counts for it: to be dropped when nothing refers to
    /// the frame's bytes, or to what was made of them, any more.
    fn handle<'a>(
        &'a self,
        connection: &'a Arc<ConnectionInfo>,
        frame: Bytes,
        held: RequestBytes,
    ) -> BoxFuture<'a, Handled>;
}
