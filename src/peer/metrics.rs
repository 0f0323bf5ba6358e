//! The room's metrics. Labels: `lane` (five values), `direction` (two), `end` (client, server).

use super::{Direction, Lane};
use ::metrics::{Counter, Gauge, counter, gauge};

/// Handles of one connection, looked up once.
#[derive(Clone)]
pub(super) struct ConnectionMetrics {
    pub bytes_sent: Counter,
    pub bytes_received: Counter,
    pub requests: Counter,
    pub overloaded: Counter,
    open: Gauge,
}

impl ConnectionMetrics {
    pub fn new(lane: Lane, direction: Direction) -> Self {
        let lane = lane.as_str();
        let direction = match direction {
            Direction::Inbound => "inbound",
            Direction::Outbound => "outbound",
        };
        Self {
            bytes_sent: counter!("rookery_peer_sent_bytes_total", "lane" => lane, "direction" => direction),
            bytes_received: counter!("rookery_peer_received_bytes_total", "lane" => lane, "direction" => direction),
            requests: counter!("rookery_peer_requests_total", "lane" => lane, "direction" => direction),
            overloaded: counter!("rookery_peer_overloaded_total", "lane" => lane, "direction" => direction),
            open: gauge!("rookery_peer_connections", "lane" => lane, "direction" => direction),
        }
    }

    /// Counts a connection for as long as the guard lives.
    pub fn count_open(&self) -> OpenGuard {
        self.open.increment(1);
        OpenGuard(self.open.clone())
    }
}

/// See [`ConnectionMetrics::count_open`].
pub(super) struct OpenGuard(Gauge);

impl Drop for OpenGuard {
    fn drop(&mut self) {
        self.0.decrement(1);
    }
}

/// Bytes of requests being read or served by a server, of one lane.
pub(super) fn request_bytes(lane: Lane) -> Gauge {
    gauge!("rookery_peer_request_bytes", "lane" => lane.as_str())
}

/// A handshake that did not become a connection, at either end.
pub(super) fn handshake_failed(end: &'static str) {
    counter!("rookery_peer_handshake_failures_total", "end" => end).increment(1);
}
