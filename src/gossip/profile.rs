//! Timings of the protocol, and how they grow with the cluster.

use super::packet::PAYLOAD_MAX;
use foca::{Config, PeriodicParams};
use std::num::{NonZeroU8, NonZeroUsize};
use std::time::Duration;

/// From this many nodes on suspicion takes longer: news need more rounds to reach everybody.
const SUSPICION_GROWS_ABOVE: usize = 30;
/// How long a dead identity is remembered. A later one of the same node id replaces it at once, so this only bounds memory.
const REMEMBER_DOWN: Duration = Duration::from_secs(3600);

/// How often to ask, and how long to wait for answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GossipProfile {
    /// A node probes one other this often; a probe without any answer by its end makes a suspect.
    pub probe_period: Duration,
    /// A probe unanswered this long is repeated through others. Well above the network's p99 round trip, below a third of the period.
    pub probe_rtt: Duration,
    /// A suspect is down after this, up to 30 nodes.
    pub suspicion: Duration,
}

impl GossipProfile {
    /// One data centre: 200 / 60 / 300 ms.
    pub const LAN: Self = Self::of_millis(200, 60, 300);
    /// A quiet network and quiet machines: 100 / 30 / 200 ms.
    pub const FAST: Self = Self::of_millis(100, 30, 200);

    const fn of_millis(probe_period: u64, probe_rtt: u64, suspicion: u64) -> Self {
        Self {
            probe_period: Duration::from_millis(probe_period),
            probe_rtt: Duration::from_millis(probe_rtt),
            suspicion: Duration::from_millis(suspicion),
        }
    }

    /// How long a suspect has to refute in a cluster of `nodes`: grows by one base time with each factor of ten above 30 nodes.
    pub fn suspicion_of(&self, nodes: usize) -> Duration {
        let factor = 1.0 + (nodes.max(SUSPICION_GROWS_ABOVE) as f64 / SUSPICION_GROWS_ABOVE as f64).log10();
        self.suspicion.mul_f64(factor)
    }

    /// The library's settings for a cluster of `nodes`. Only what `foca` allows to change at run time depends on the number.
    pub(super) fn config(&self, nodes: usize) -> Config {
        let periodic = |frequency, members| {
            let num_members = NonZeroUsize::new(members).expect("a constant above zero");
            Some(PeriodicParams { frequency, num_members })
        };
        Config {
            probe_period: self.probe_period,
            probe_rtt: self.probe_rtt,
            num_indirect_probes: NonZeroUsize::new(3).expect("a constant above zero"),
            max_transmissions: transmissions(nodes),
            suspect_to_down_after: self.suspicion_of(nodes),
            remove_down_after: Some(REMEMBER_DOWN),
            max_packet_size: NonZeroUsize::new(PAYLOAD_MAX).expect("a constant above zero"),
            notify_down_members: true,
            periodic_announce: periodic(self.probe_period * 50, 1),
            // Heals a partition: both sides have declared each other down, and one message makes the other side rejoin.
            periodic_announce_to_down_members: periodic(self.probe_period * 5, 1),
            periodic_gossip: periodic(self.probe_period, 3),
        }
    }
}

impl Default for GossipProfile {
    fn default() -> Self {
        Self::LAN
    }
}

// Four per factor of ten, as in memberlist, and never below five.
fn transmissions(nodes: usize) -> NonZeroU8 {
    let digits = ((nodes + 1) as f64).log10().ceil() as u8;
    NonZeroU8::new(digits.saturating_mul(4).max(5)).expect("at least five")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn suspicion_is_flat_up_to_thirty_nodes_and_grows_slowly_above() {
        let millis = |nodes| GossipProfile::LAN.suspicion_of(nodes).as_millis();
        assert_eq!((millis(1), millis(3), millis(30)), (300, 300, 300));
        assert_eq!((millis(300), millis(3000)), (600, 900));
    }
}
