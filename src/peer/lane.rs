//! Lanes: what may wait behind what.

use super::frame::Coverage;

/// One kind of traffic between two nodes; each has its own TCP connection, so that none waits behind another's bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Lane {
    /// Raft: votes, appends, snapshots.
    Control = 0,
    /// Requests to the active controller, and of observers.
    Controller = 1,
    /// Broker heartbeats. The end of this connection is evidence by itself.
    Heartbeat = 2,
    /// Followers fetching from leaders.
    Replication = 3,
    /// A fresh connection made only to see whether somebody answers; its end says nothing.
    Probe = 4,
}

impl Lane {
    /// All of them, in the order of their numbers.
    pub const ALL: [Lane; 5] = [Lane::Control, Lane::Controller, Lane::Heartbeat, Lane::Replication, Lane::Probe];

    /// The lane of a number from the wire.
    pub fn from_wire(number: u8) -> Option<Lane> {
        Lane::ALL.get(usize::from(number)).copied()
    }

    /// Its name in logs and metric labels.
    pub fn as_str(self) -> &'static str {
        match self {
            Lane::Control => "control",
            Lane::Controller => "controller",
            Lane::Heartbeat => "heartbeat",
            Lane::Replication => "replication",
            Lane::Probe => "probe",
        }
    }

    // Record batches carry a CRC of their own, and the replica checks it: here only the structured first segment is covered.
    pub(super) fn coverage(self) -> Coverage {
        match self {
            Lane::Replication => Coverage::FirstSegment,
            _ => Coverage::All,
        }
    }
}

impl std::fmt::Display for Lane {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.as_str())
    }
}
