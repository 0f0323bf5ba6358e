//! Where each leader epoch begins (KIP-101), and where it ends (KIP-279).
//!
//! Invariants: epochs and start offsets both ascend strictly; no entry starts at or after the log's end except the one
//! of a leader that has not appended yet. The cache belongs to the log's lock. Its entries reach the disk in the same
//! write as the first batch of the epoch and leave it in the same write as a truncation: a batch whose epoch is not in
//! the cache does not exist.

use rookery_raft::ids::LeaderEpoch;
use std::fmt;

/// The first offset written in an epoch.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct EpochEntry {
    /// The epoch.
    pub epoch: LeaderEpoch,
    /// Offset of its first record, or the log's end where it has none yet.
    pub start_offset: i64,
}

/// The answer to "where does this epoch end in your log?".
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct EpochEndOffset {
    /// The largest epoch at or below the one asked for that the log knows (or the one asked for, if it is below them all).
    pub epoch: LeaderEpoch,
    /// The offset after the last record of that epoch.
    pub end_offset: i64,
}

/// Where a log ends, and the leader epoch of its last record (`NONE` if it holds none). Logs that end alike hold the same records: the record at
/// an (epoch, offset) is the same in every log, and so is all that comes before it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct OffsetAndEpoch {
    /// The log's end.
    pub offset: i64,
    /// Of the record before it.
    pub epoch: LeaderEpoch,
}

impl fmt::Display for OffsetAndEpoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (leader epoch {})", self.offset, self.epoch.0)
    }
}

/// The epochs of one log.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct LeaderEpochCache {
    entries: Vec<EpochEntry>,
}

impl LeaderEpochCache {
    /// From stored entries; `None` if they do not ascend.
    pub fn from_entries(entries: Vec<EpochEntry>) -> Option<Self> {
        let ascending = |w: &[EpochEntry]| w[0].epoch < w[1].epoch && w[0].start_offset < w[1].start_offset;
        entries.windows(2).all(ascending).then_some(Self { entries })
    }

    /// All entries, ascending.
    pub fn entries(&self) -> &[EpochEntry] {
        &self.entries
    }

    /// The newest epoch.
    pub fn latest(&self) -> Option<EpochEntry> {
        self.entries.last().copied()
    }

    /// Notes that `epoch` starts at `start_offset`. Entries that contradict it (as new or newer, or starting at or after
    /// it) go: they had no records. Returns whether anything changed.
    pub fn assign(&mut self, epoch: LeaderEpoch, start_offset: i64) -> bool {
        if self.latest().is_some_and(|last| last.epoch == epoch && last.start_offset <= start_offset) {
            return false;
        }
        // An entry of this very epoch stays where it began: what follows it had no records (a term that was led here and
        // wrote nothing, while another replica went on in the epoch before).
        let before = self.entries.len();
        let keep = self.entries.partition_point(|e| e.epoch <= epoch && e.start_offset < start_offset);
        self.entries.truncate(keep);
        if self.latest().is_some_and(|last| last.epoch == epoch) {
            return keep != before;
        }
        self.entries.push(EpochEntry { epoch, start_offset });
        true
    }

    /// The epoch of the record at `offset`, if the log is old enough to tell.
    pub fn epoch_of(&self, offset: i64) -> Option<LeaderEpoch> {
        let after = self.entries.partition_point(|e| e.start_offset <= offset);
        after.checked_sub(1).map(|i| self.entries[i].epoch)
    }

    /// Where `epoch` ends. `None` if the log has never heard of an epoch as new as that one (Kafka: undefined).
    pub fn end_offset_for(&self, epoch: LeaderEpoch, log_end: i64) -> Option<EpochEndOffset> {
        if self.latest()?.epoch == epoch {
            return Some(EpochEndOffset { epoch, end_offset: log_end });
        }
        let higher = self.entries.partition_point(|e| e.epoch <= epoch);
        let end_offset = self.entries.get(higher)?.start_offset;
        let floor = higher.checked_sub(1).map_or(epoch, |i| self.entries[i].epoch);
        Some(EpochEndOffset { epoch: floor, end_offset })
    }

    /// The log now ends at `end`: drops entries that start there or later. Returns whether anything changed.
    pub fn truncate_from_end(&mut self, end: i64) -> bool {
        let before = self.entries.len();
        self.entries.retain(|e| e.start_offset < end);
        self.entries.len() != before
    }

    /// The log now starts at `start`: drops entries wholly below it; the one that spans it begins there.
    pub fn truncate_from_start(&mut self, start: i64) -> bool {
        let spanning = self.entries.partition_point(|e| e.start_offset <= start).saturating_sub(1);
        let Some(entry) = self.entries.get(spanning).copied() else { return false };
        if entry.start_offset >= start && spanning == 0 {
            return false;
        }
        self.entries.drain(..spanning);
        self.entries[0].start_offset = entry.start_offset.max(start);
        true
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.entries.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cache(entries: &[(i32, i64)]) -> LeaderEpochCache {
        let mut cache = LeaderEpochCache::default();
        for (epoch, start) in entries {
            cache.assign(LeaderEpoch(*epoch), *start);
        }
        cache
    }
    fn end(cache: &LeaderEpochCache, epoch: i32, log_end: i64) -> Option<(i32, i64)> {
        cache.end_offset_for(LeaderEpoch(epoch), log_end).map(|e| (e.epoch.0, e.end_offset))
    }

    #[test]
    fn an_epoch_ends_where_the_next_known_one_begins() {
        let c = cache(&[(2, 10), (4, 20), (7, 30)]);
        assert_eq!(end(&c, 7, 42), Some((7, 42)));
        assert_eq!(end(&c, 4, 42), Some((4, 30)));
        assert_eq!(end(&c, 5, 42), Some((4, 30)), "between two epochs: the floor and where it ends");
        assert_eq!(end(&c, 1, 42), Some((1, 10)), "below all: the first one's start");
        assert_eq!(end(&c, 8, 42), None, "newer than all");
        assert_eq!(end(&cache(&[]), 0, 0), None);
    }

    #[test]
    fn a_new_epoch_replaces_entries_without_records() {
        let mut c = cache(&[(2, 10), (5, 20)]);
        assert!(c.assign(LeaderEpoch(6), 20));
        assert_eq!(c, cache(&[(2, 10), (6, 20)]));
        assert!(!c.assign(LeaderEpoch(6), 25), "already known");
    }

    #[test]
    fn a_term_led_without_records_leaves_the_epoch_before_it_where_it_began() {
        let mut c = cache(&[(0, 0), (1, 5)]);
        assert!(c.assign(LeaderEpoch(0), 5));
        assert_eq!(c, cache(&[(0, 0)]));
    }

    #[test]
    fn truncation_at_both_ends() {
        let mut c = cache(&[(2, 10), (4, 20), (7, 30)]);
        assert!(!c.truncate_from_end(31));
        assert!(c.truncate_from_end(30));
        assert!(c.truncate_from_start(25));
        assert_eq!(c, cache(&[(4, 25)]));
        assert!(!c.truncate_from_start(25));
        let mut c = cache(&[(2, 10), (4, 20)]);
        assert!(c.truncate_from_start(20));
        assert_eq!(c, cache(&[(4, 20)]), "an epoch that begins at the start stays as it is");
        assert!(!cache(&[(4, 20)]).truncate_from_start(5));
    }

    #[test]
    fn offsets_have_the_epoch_they_were_written_in() {
        let c = cache(&[(2, 10), (4, 20)]);
        assert_eq!(c.epoch_of(9), None);
        assert_eq!(c.epoch_of(19), Some(LeaderEpoch(2)));
        assert_eq!(c.epoch_of(20), Some(LeaderEpoch(4)));
    }
}
