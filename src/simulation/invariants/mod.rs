//! What must never happen, one file per invariant, over everything that was ever acknowledged, visible or in office.
//!
//! | file | invariant |
//! |---|---|
//! | `single_leader` | one leader in a leader epoch |
//! | `acked_durable` | what was acknowledged is on the disks of min.insync replicas then, and of every later leader |
//! | `one_value` | an offset never holds two committed values; one (leader epoch, offset) is one record on whatever replica |
//! | `high_watermark` | it never goes back within a leader epoch |
//! | `fenced_leader` | a fenced broker takes no record once its lease is over |
//! | `fenced_isr` | nobody is in an ISR whose broker is fenced or leaving |
//! | `unfenced` | a broker is unfenced only once it has applied its own registration |
//! | `candidates` | every member of ISR and ELR, and whoever is elected, holds everything committed |
//! | `no_duplicate` | an idempotent producer's value lies at one offset |
//! | `no_gap` | a producer that sends in order, several batches ahead, never hears of a gap |
//! | `one_history` | the metadata log has one content at one offset, on whatever node; what was answered stays |
//! | `one_cluster` | there is one cluster id, ever |
//! | `unclean` | an unclean election happens only where it was allowed, is told of, and takes nothing that the new leader has on its disk |
//! | `liveness` | once everything is healed, everything works again |
//!
//! They know no simulation: whoever runs one tells them what it sees.

mod acked_durable;
mod candidates;
mod fenced_isr;
mod fenced_leader;
mod high_watermark;
mod liveness;
mod no_duplicate;
mod no_gap;
mod one_cluster;
mod one_history;
mod one_value;
mod single_leader;
mod unclean;
mod unfenced;

pub(crate) use acked_durable::AckedDurable;
pub(crate) use candidates::candidate;
pub(crate) use fenced_isr::fenced_isr;
pub(crate) use fenced_leader::FencedLeader;
pub(crate) use high_watermark::HighWatermarks;
pub(crate) use liveness::stuck;
pub(crate) use no_duplicate::no_duplicate;
pub(crate) use no_gap::no_gap;
pub(crate) use one_cluster::OneCluster;
pub(crate) use one_history::OneHistory;
pub(crate) use one_value::{OneValue, logs_match};
pub(crate) use single_leader::SingleLeader;
use unclean::Histories;
pub(crate) use unfenced::unfenced;

/// One stored record: offset, leader epoch, value.
pub(crate) type Record = (i64, i32, u64);

/// What was broken, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Violation {
    /// The file here.
    pub invariant: &'static str,
    /// What was seen.
    pub what: String,
}

impl Violation {
    pub(crate) fn new(invariant: &'static str, what: String) -> Self {
        Self { invariant, what }
    }
}

impl std::fmt::Display for Violation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.invariant, self.what)
    }
}

/// The invariants of one partition.
#[derive(Default)]
pub(crate) struct PartitionInvariants {
    pub single_leader: SingleLeader,
    pub acked: AckedDurable,
    pub committed: OneValue,
    pub high_watermarks: HighWatermarks,
    histories: Histories,
}
