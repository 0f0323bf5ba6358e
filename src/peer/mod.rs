//! Connections between the nodes of one cluster, on a port of their own.
//!
//! | file | what it holds |
//! |---|---|
//! | [`identity`](LocalIdentity) | who a node is, on every connection; may change while it runs (formation, registration) |
//! | [`lane`](Lane) | separate TCP connections, so that bulk never stands in the way of control; their bounds |
//! | `hello` | the handshake: magic, versions, cluster, identity, target; typed [`Refusal`]s |
//! | `frame` | the frame's header, its checksums, reading with bounds |
//! | `writer` | one task per connection that writes frames vectored, without copying their segments |
//! | `connection` | the dialling end: calls by correlation id |
//! | [`pool`](PeerPool) | one connection per (node, lane), made when first needed; backoff |
//! | [`probe`](ProbeOutcome) | "is that process there?", on a fresh connection |
//! | [`server`](PeerServer) | the accepting end: handshake, services, bounds, graceful end |
//! | [`events`](PeerEvent) | connections that opened and closed: the failure watcher's fastest evidence |
//!
//! **In:** calls of the rooms above (`node, lane, kind, segments`), and the frames of peers. **Out:** calls to registered
//! [`PeerService`]s, responses, [`PeerEvent`]s. **Never:** a decision about a node. This room says "the connection closed" or
//! "nobody listens there"; the active controller decides what that means.
//!
//! # The protocol
//!
//! All integers are big-endian. A connection begins with one hello from the dialling end and one reply (see `hello`); each names its
//! sender's cluster id (or none, while it is unformed), node id, directory id, incarnation and broker epoch. Both must fit, or the
//! reply says why not and the connection ends. What is not our protocol at all gets no reply.
//! Then frames flow both ways (see `frame`): requests by the dialling end, responses by the accepting end in order of *completion*.
//! A request may wait at the server as long as it likes (long poll) without holding up another one.
//!
//! # Invariants
//!
//! 1. A connection belongs to one pair of identities: when the local identity or the peer's entry in the address book changes, the next
//!    call uses a new connection. So `from` in [`PeerService::call`] is never older than the call.
//! 2. A call ends exactly once: by its response, its time-out, or the end of its connection, whichever is first; then its correlation
//!    id is forgotten and a late response is dropped. The state is one map per connection behind one lock, never held across an await.
//! 3. Every queue has a bound: calls in flight per (node, lane), requests in flight per connection, bytes of requests in flight per lane of a
//!    server, frames in a writer's queue, connections, handshakes. A bound that is met is an error to the caller ([`PeerError::Overloaded`]) or
//!    back-pressure on that one connection, never memory.
//! 4. A closed connection is told once, with the identity it was opened for, and whether its end was announced ([`ClosedReason::Goodbye`]).
//! 5. A request that has reached its service runs to its end, also when the caller is gone: services need not be cancel-safe.
//!
//! Authentication and TLS have their slot in the hello and are refused today: this port belongs on a network of its own.

mod address_book;
mod config;
mod connection;
mod error;
mod events;
mod frame;
mod hello;
mod identity;
mod lane;
mod metrics;
mod pool;
mod probe;
mod server;
mod service;
mod session;
mod socket;
#[cfg(test)]
mod tests;
mod writer;

pub use address_book::{AddressBook, PeerAddress};
pub use config::{LaneLimits, PeerConfig};
pub use error::{PeerError, Refusal};
pub use events::{ClosedReason, Direction, PeerEvent, PeerEvents};
pub use hello::{VERSION_MAX, VERSION_MIN};
pub use identity::{LocalIdentity, PeerIdentity};
pub use lane::Lane;
#[cfg(test)]
pub(crate) use pool::Carrier;
pub use pool::{Jitter, PeerPool};
pub use probe::ProbeOutcome;
pub use server::PeerServer;
pub use service::{KIND_PING, KIND_RESERVED_MIN, PeerService, PeerServices, ServiceFuture};
