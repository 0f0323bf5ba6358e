//! Bounds and times of inter-broker connections.

use super::Lane;
use rookery_raft::image::config_def::MESSAGE_BYTES_MAX;
use std::time::Duration;

const MIB: usize = 1 << 20;
/// A replication frame takes the largest batch there may be, or as much of smaller ones, and what is said of each partition: some 60
/// bytes, of so many partitions as no broker has. What did not fit would stop the replication of its partition for ever.
const REPLICATION_FRAME_BYTES: usize = MESSAGE_BYTES_MAX as usize + 28 * MIB;
// Lengths on the wire are 32 bits; this leaves room for headers without a thought.
const FRAME_BYTES_CEILING: usize = 1 << 30;

/// Bounds of one lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LaneLimits {
    /// Largest body of one frame, either way, in bytes. A peer that announces more is cut off.
    pub frame_bytes_max: usize,
    /// Calls in flight per (node, lane) at the caller, and per connection at the server.
    pub in_flight_max: usize,
    /// Bytes of requests being read or served, over all connections of this lane of one server. At least `frame_bytes_max`.
    pub request_bytes_max: usize,
}

/// Bounds and times; the defaults are for one data centre.
#[derive(Clone, Debug)]
pub struct PeerConfig {
    /// TCP connect, at most.
    pub connect_timeout: Duration,
    /// From the connection to the end of the handshake, at most; at both ends.
    pub handshake_timeout: Duration,
    /// From a request's header to the end of its body, at most: who stalls inside a frame would hold the lane's budget.
    pub body_timeout: Duration,
    /// Sent bytes that stay unacknowledged this long end the connection (TCP_USER_TIMEOUT, RFC 5482).
    pub unacknowledged_max: Duration,
    /// An idle connection sends its first keepalive after this; three unanswered ones, a second apart, end it.
    pub keepalive_idle: Duration,
    /// First delay after a failed connect; doubles with each further one.
    pub backoff_initial: Duration,
    /// Longest delay between connects.
    pub backoff_max: Duration,
    /// Connections a server holds at once; more are closed at accept.
    pub connections_max: usize,
    /// Connections a server holds that have not finished their handshake; more are closed at accept.
    pub handshakes_max: usize,
    /// How long a graceful end waits for requests that are being served.
    pub shutdown_grace: Duration,
    /// Bounds by lane, in the order of [`Lane::ALL`].
    pub lanes: [LaneLimits; Lane::ALL.len()],
}

impl PeerConfig {
    /// The bounds of one lane; a frame never exceeds 1 GiB, whatever is set.
    pub fn lane(&self, lane: Lane) -> LaneLimits {
        let limits = self.lanes[lane as usize];
        LaneLimits {
            frame_bytes_max: limits.frame_bytes_max.min(FRAME_BYTES_CEILING),
            in_flight_max: limits.in_flight_max.max(1),
            request_bytes_max: limits.request_bytes_max,
        }
    }
}

impl Default for PeerConfig {
    fn default() -> Self {
        const KIB: usize = 1024;
        let lane = |frame_bytes_max, in_flight_max, request_bytes_max| LaneLimits {
            frame_bytes_max,
            in_flight_max,
            request_bytes_max,
        };
        Self {
            connect_timeout: Duration::from_secs(1),
            handshake_timeout: Duration::from_secs(2),
            body_timeout: Duration::from_secs(20),
            unacknowledged_max: Duration::from_secs(5),
            keepalive_idle: Duration::from_secs(2),
            backoff_initial: Duration::from_millis(20),
            backoff_max: Duration::from_secs(1),
            connections_max: 8192,
            handshakes_max: 256,
            shutdown_grace: Duration::from_secs(2),
            lanes: [
                lane(16 * MIB, 64, 64 * MIB),  // Control: appends and snapshot chunks
                lane(16 * MIB, 256, 64 * MIB), // Controller: a large create-topics is a few MiB
                lane(64 * KIB, 16, 4 * MIB),   // Heartbeat
                lane(REPLICATION_FRAME_BYTES, 64, 128 * MIB),
                lane(4 * KIB, 4, MIB), // Probe
            ],
        }
    }
}
