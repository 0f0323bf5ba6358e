//! Soft evidence for the event log: what the active controller saw, which decided nothing by itself.

use super::codec::{Decoder, Encoder, RecordError};
use crate::ids::{BrokerEpoch, NodeId};
use serde::{Deserialize, Serialize};
use std::fmt;

/// Something the active controller saw, so many times since it was last told. Information only, as a [`super::Provenance`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Observation {
    /// Of whom.
    pub broker: NodeId,
    /// In which life, or [`BrokerEpoch::UNKNOWN`].
    pub epoch: BrokerEpoch,
    /// What.
    pub finding: Finding,
    /// How often; at least once.
    pub count: u32,
}

/// What was seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[repr(u8)]
pub enum Finding {
    /// Gossip holds it suspect or down.
    SuspectedByGossip = 1,
    /// The last open connection with it ended without a goodbye.
    ConnectionClosed = 2,
    /// No heartbeat for three intervals.
    Silent = 3,
    /// The suspicion was refuted: it answered a ping, or its heartbeat came.
    Acquitted = 4,
    /// It was silent, but so were most: the controller itself may be the one cut off.
    HeldBackLonely = 5,
    /// It was silent again, soon after it was fenced for silence and came back: left to the session timeout.
    HeldBackAgain = 6,
    /// The controller's failure watcher did not run for a while: every suspicion was dropped.
    WatcherLagged = 7,
    /// Its disk is in order again.
    DiskInOrder = 8,
    /// Its disk is short of space.
    DiskLow = 9,
    /// Its disk is full.
    DiskFull = 10,
    /// Its disk hangs.
    DiskStalled = 11,
    /// It is the active controller from now on.
    ControllerActivated = 12,
    /// It led the quorum until another node was elected.
    Deposed = 13,
}

impl Finding {
    /// All of them.
    pub const ALL: [Self; 13] = [
        Self::SuspectedByGossip,
        Self::ConnectionClosed,
        Self::Silent,
        Self::Acquitted,
        Self::HeldBackLonely,
        Self::HeldBackAgain,
        Self::WatcherLagged,
        Self::DiskInOrder,
        Self::DiskLow,
        Self::DiskFull,
        Self::DiskStalled,
        Self::ControllerActivated,
        Self::Deposed,
    ];

    fn from_id(id: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|finding| *finding as u8 == id)
    }

    /// For metrics and filters.
    pub fn name(self) -> &'static str {
        match self {
            Self::SuspectedByGossip => "suspected_by_gossip",
            Self::ConnectionClosed => "connection_closed",
            Self::Silent => "silent",
            Self::Acquitted => "acquitted",
            Self::HeldBackLonely => "held_back_lonely",
            Self::HeldBackAgain => "held_back_again",
            Self::WatcherLagged => "watcher_lagged",
            Self::DiskInOrder => "disk_in_order",
            Self::DiskLow => "disk_low",
            Self::DiskFull => "disk_full",
            Self::DiskStalled => "disk_stalled",
            Self::ControllerActivated => "controller_activated",
            Self::Deposed => "deposed",
        }
    }
}

/// The words follow "broker N".
impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::SuspectedByGossip => "is suspected by gossip",
            Self::ConnectionClosed => "has no open connection left with the controller",
            Self::Silent => "has sent no heartbeat for three intervals",
            Self::Acquitted => "lives: the suspicion is refuted",
            Self::HeldBackLonely => {
                "is silent, but so are most brokers: the controller may be the one cut off, and fences nobody for it"
            }
            Self::HeldBackAgain => "is silent again soon after it came back: its session timeout decides",
            Self::WatcherLagged => "did not run for a while as controller: all its suspicions are dropped",
            Self::DiskInOrder => "has a disk in order again",
            Self::DiskLow => "has a disk short of space: it takes no clients' records",
            Self::DiskFull => "has a full disk: it takes no records",
            Self::DiskStalled => "has a disk that hangs: commits do not finish",
            Self::ControllerActivated => "is the active controller",
            Self::Deposed => "led the quorum until another node was elected",
        })
    }
}

impl Observation {
    pub(crate) fn encode(&self, out: &mut Encoder) {
        out.i32(self.broker.0);
        out.i64(self.epoch.0);
        out.u8(self.finding as u8);
        out.u64(u64::from(self.count));
    }

    pub(crate) fn decode(input: &mut Decoder<'_>) -> Result<Self, RecordError> {
        Ok(Self {
            broker: NodeId(input.i32()?),
            epoch: BrokerEpoch(input.i64()?),
            finding: input.known("finding", Finding::from_id)?,
            count: u32::try_from(input.u64()?).map_err(|_| RecordError::BadNumber)?,
        })
    }
}
