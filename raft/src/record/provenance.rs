//! Who decided what the following records say, when, and why.
//!
//! A [`Provenance`] stands before the records of one decision in their entry, and counts up to the next one or to the end of the
//! entry. It is **information only**: it changes nothing but the event log of the image ([`crate::image::EventsImage`]), and nobody who
//! decides anything reads that. Its time is the wall clock of one node: told to people, never compared.

use super::codec::{Decoder, Encoder, RecordError};
use crate::ids::NodeId;
use serde::{Deserialize, Serialize};
use std::fmt;

/// Who decided, when, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Provenance {
    /// The active controller.
    pub controller: NodeId,
    /// Raft's term it decided in (the controller epoch).
    pub term: u64,
    /// Its wall clock, in milliseconds since 1970.
    pub unix_ms: i64,
    /// Why.
    pub cause: Cause,
}

impl Provenance {
    pub(crate) fn encode(&self, out: &mut Encoder) {
        out.i32(self.controller.0);
        out.u64(self.term);
        out.i64(self.unix_ms);
        self.cause.encode(out);
    }

    pub(crate) fn decode(input: &mut Decoder<'_>) -> Result<Self, RecordError> {
        Ok(Self {
            controller: NodeId(input.i32()?),
            term: input.u64()?,
            unix_ms: input.i64()?,
            cause: Cause::decode(input)?,
        })
    }
}

/// Why something was decided. Its words ([`fmt::Display`]) follow "because".
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Cause {
    /// The cluster was formed.
    Formation,
    /// A process registered as the broker: another life of it.
    Registration,
    /// The broker has applied its registration.
    CaughtUp,
    /// The broker asked to be fenced.
    FenceRequested,
    /// The broker began a controlled shutdown.
    ShutdownRequested,
    /// Everybody knows that the broker leads nothing any more: it may go.
    ShutdownCompleted,
    /// The failure watcher found the broker dead.
    Convicted(Conviction),
    /// No heartbeat within the session timeout.
    SessionExpired,
    /// An operator asked to forget the broker.
    UnregistrationRequested,
    /// The broker told of its directories.
    DirectoriesReported {
        /// Which broker.
        broker: NodeId,
        /// Whether a store was closed and opened again.
        reopened: bool,
    },
    /// The disk of the broker changed.
    DiskReported {
        /// Which broker.
        broker: NodeId,
        /// What it does now.
        disk: DiskReport,
    },
    /// Disks of some brokers hang or are short of space.
    DisksImpaired,
    /// The leader asked for another ISR.
    IsrProposed {
        /// Which broker.
        leader: NodeId,
    },
    /// Leadership goes back to preferred leaders, a few at a time.
    LeaderBalance,
    /// An operator asked for an election.
    ElectionRequested {
        /// Also outside ISR and ELR.
        unclean: bool,
    },
    /// A client asked to create topics.
    TopicCreationRequested,
    /// A client asked to delete topics.
    TopicDeletionRequested,
    /// A client asked for more partitions.
    PartitionsRequested,
    /// The cluster needs a topic of its own.
    InternalTopicNeeded,
    /// A client asked to change configs.
    ConfigsRequested,
    /// A broker asked for producer ids.
    ProducerIdsRequested,
    /// Nothing was decided: something was seen.
    Observed,
}

/// On what grounds the failure watcher found a broker dead.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[repr(u8)]
pub enum Conviction {
    /// Its connections ended without a goodbye, and its host refuses others.
    ConnectionClosedAndRefused = 1,
    /// It sends no heartbeats, and its host refuses connections.
    SilentAndRefused = 2,
    /// It sends no heartbeats and answers no pings.
    SilentAndPingsUnanswered = 3,
    /// Another process answers in its place.
    OtherIncarnationAnswered = 4,
}

impl Conviction {
    /// All of them.
    pub const ALL: [Self; 4] = [
        Self::ConnectionClosedAndRefused,
        Self::SilentAndRefused,
        Self::SilentAndPingsUnanswered,
        Self::OtherIncarnationAnswered,
    ];

    fn from_id(id: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|conviction| *conviction as u8 == id)
    }

    /// For metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::ConnectionClosedAndRefused => "connection_closed_and_refused",
            Self::SilentAndRefused => "silent_and_refused",
            Self::SilentAndPingsUnanswered => "silent_and_pings_unanswered",
            Self::OtherIncarnationAnswered => "other_incarnation_answered",
        }
    }
}

impl fmt::Display for Conviction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ConnectionClosedAndRefused => "its connection closed and nobody listens there any more",
            Self::SilentAndRefused => "it sends no heartbeats and nobody listens there",
            Self::SilentAndPingsUnanswered => "it neither sends heartbeats nor answers pings",
            Self::OtherIncarnationAnswered => "another process answers in its place",
        })
    }
}

/// What a broker's disk does; the worst it reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[repr(u8)]
pub enum DiskReport {
    /// It is in order.
    InOrder = 1,
    /// Short of space: it takes no clients' records.
    Low = 2,
    /// Full: it takes no records at all.
    Full = 3,
    /// It hangs: commits do not finish.
    Stalled = 4,
}

impl DiskReport {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::InOrder, Self::Low, Self::Full, Self::Stalled];

    fn from_id(id: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|report| *report as u8 == id)
    }
}

impl fmt::Display for DiskReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::InOrder => "is in order",
            Self::Low => "is short of space",
            Self::Full => "is full",
            Self::Stalled => "hangs: commits do not finish",
        })
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match self {
            Self::Formation => "the cluster was formed",
            Self::Registration => "a process registered as this broker",
            Self::CaughtUp => "it has applied its registration",
            Self::FenceRequested => "it asked for it",
            Self::ShutdownRequested => "it shuts down in order",
            Self::ShutdownCompleted => "it shut down in order",
            Self::Convicted(conviction) => return conviction.fmt(f),
            Self::SessionExpired => "its session expired: no heartbeat came in time",
            Self::UnregistrationRequested => "an operator unregistered it",
            Self::DirectoriesReported { broker, reopened: true } => {
                return write!(f, "broker {broker} opened its store again");
            }
            Self::DirectoriesReported { broker, reopened: false } => {
                return write!(f, "broker {broker} reported its data directories");
            }
            Self::DiskReported { broker, disk } => return write!(f, "the disk of broker {broker} {disk}"),
            Self::DisksImpaired => "disks of some brokers hang or are short of space",
            Self::IsrProposed { leader } => return write!(f, "leader {leader} asked for it"),
            Self::LeaderBalance => "leadership goes back to preferred leaders",
            Self::ElectionRequested { unclean: true } => "an operator asked for an UNCLEAN election",
            Self::ElectionRequested { unclean: false } => "an operator asked for preferred leaders",
            Self::TopicCreationRequested => "a client asked to create it",
            Self::TopicDeletionRequested => "a client asked to delete it",
            Self::PartitionsRequested => "a client asked for more partitions",
            Self::InternalTopicNeeded => "the cluster needs it",
            Self::ConfigsRequested => "a client asked for it",
            Self::ProducerIdsRequested => "a broker asked for producer ids",
            Self::Observed => "it was seen",
        };
        f.write_str(text)
    }
}

impl Cause {
    fn encode(self, out: &mut Encoder) {
        match self {
            Self::Formation => out.u8(1),
            Self::Registration => out.u8(2),
            Self::CaughtUp => out.u8(3),
            Self::FenceRequested => out.u8(4),
            Self::ShutdownRequested => out.u8(5),
            Self::ShutdownCompleted => out.u8(6),
            Self::Convicted(conviction) => {
                out.u8(7);
                out.u8(conviction as u8);
            }
            Self::SessionExpired => out.u8(8),
            Self::UnregistrationRequested => out.u8(9),
            Self::DirectoriesReported { broker, reopened } => {
                out.u8(10);
                out.i32(broker.0);
                out.bool(reopened);
            }
            Self::DiskReported { broker, disk } => {
                out.u8(11);
                out.i32(broker.0);
                out.u8(disk as u8);
            }
            Self::DisksImpaired => out.u8(12),
            Self::IsrProposed { leader } => {
                out.u8(13);
                out.i32(leader.0);
            }
            Self::LeaderBalance => out.u8(14),
            Self::ElectionRequested { unclean } => {
                out.u8(15);
                out.bool(unclean);
            }
            Self::TopicCreationRequested => out.u8(16),
            Self::TopicDeletionRequested => out.u8(17),
            Self::PartitionsRequested => out.u8(18),
            Self::InternalTopicNeeded => out.u8(19),
            Self::ConfigsRequested => out.u8(20),
            Self::ProducerIdsRequested => out.u8(21),
            Self::Observed => out.u8(22),
        }
    }

    fn decode(input: &mut Decoder<'_>) -> Result<Self, RecordError> {
        Ok(match input.u8()? {
            1 => Self::Formation,
            2 => Self::Registration,
            3 => Self::CaughtUp,
            4 => Self::FenceRequested,
            5 => Self::ShutdownRequested,
            6 => Self::ShutdownCompleted,
            7 => Self::Convicted(input.known("conviction", Conviction::from_id)?),
            8 => Self::SessionExpired,
            9 => Self::UnregistrationRequested,
            10 => Self::DirectoriesReported { broker: NodeId(input.i32()?), reopened: input.bool()? },
            11 => Self::DiskReported {
                broker: NodeId(input.i32()?),
                disk: input.known("disk report", DiskReport::from_id)?,
            },
            12 => Self::DisksImpaired,
            13 => Self::IsrProposed { leader: NodeId(input.i32()?) },
            14 => Self::LeaderBalance,
            15 => Self::ElectionRequested { unclean: input.bool()? },
            16 => Self::TopicCreationRequested,
            17 => Self::TopicDeletionRequested,
            18 => Self::PartitionsRequested,
            19 => Self::InternalTopicNeeded,
            20 => Self::ConfigsRequested,
            21 => Self::ProducerIdsRequested,
            22 => Self::Observed,
            unknown => return Err(RecordError::UnknownValue { what: "cause", value: u64::from(unknown) }),
        })
    }
}
