//! Latest-key rewriting: keeps a coordinator's log short until there is a log cleaner.
//!
//! For each key the last record counts; all others are dead weight that the next coordinator replays for nothing. When
//! too much is dead, the live records of the log's first stretch are appended once more at its end, and when these,
//! **and everything that was written before them**, are committed, the log start moves behind the stretch.
//!
//! Why nothing is lost: take a record `r` of key `k` in the stretch when the log start passes it. If `r` was live when
//! the stretch was read, a copy of it was written. If not, a newer record of `k` (a value or a tombstone) was written
//! before. Either lies below the high watermark by then, so every later replay meets it. A tombstone may vanish with
//! the stretch: each older record of its key lies before it, in the same stretch or already gone.
//! Why nothing old comes back: a copy is made only of a record that is the newest of its key among all that was
//! **emitted**, not only among what is in the log, and later changes are emitted after it. Offsets never change.

use bytes::Bytes;
use std::collections::BTreeMap;

/// When to rewrite, and how much at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RewriteLimits {
    /// A log of fewer records is left alone.
    pub records_min: i64,
    /// Rewrite while fewer than this percentage of the records are live.
    pub live_percent_max: i64,
    /// Bytes of log read, and at most appended, in one step.
    pub bytes_per_step: usize,
}

impl Default for RewriteLimits {
    fn default() -> Self {
        // 10,000 records replay in milliseconds: nothing to gain below. At half, each live record is copied once for
        // every dead one that goes: at most two writes per record in the long run.
        Self { records_min: 10_000, live_percent_max: 50, bytes_per_step: 1 << 20 }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Position {
    /// Emitted, offset not known yet.
    Emitted(u64),
    At(i64),
}

/// Where the newest record of each key lies, keys whose newest record is a tombstone left out.
#[derive(Debug, Default)]
pub struct LiveKeys {
    positions: BTreeMap<Bytes, Position>,
}

impl LiveKeys {
    /// A record was emitted as the `sequence`-th of this coordinator's life.
    pub(super) fn emitted(&mut self, key: &Bytes, tombstone: bool, sequence: u64) {
        self.set(key, tombstone, Position::Emitted(sequence));
    }

    /// An emitted record came to lie at `offset`. Without effect if its key has a newer one.
    pub(super) fn placed(&mut self, key: &Bytes, sequence: u64, offset: i64) {
        if let Some(position) = self.positions.get_mut(key)
            && *position == Position::Emitted(sequence)
        {
            *position = Position::At(offset);
        }
    }

    /// A record was found in the log.
    pub(super) fn replayed(&mut self, key: &Bytes, tombstone: bool, offset: i64) {
        self.set(key, tombstone, Position::At(offset));
    }

    fn set(&mut self, key: &Bytes, tombstone: bool, position: Position) {
        if tombstone {
            self.positions.remove(key);
        } else if let Some(known) = self.positions.get_mut(key) {
            *known = position;
        } else {
            self.positions.insert(key.clone(), position);
        }
    }

    /// Whether the record at `offset` is the newest of its key.
    pub fn is_live(&self, key: &Bytes, offset: i64) -> bool {
        self.positions.get(key) == Some(&Position::At(offset))
    }

    /// Keys that have a value.
    pub fn len(&self) -> usize {
        self.positions.len()
    }

    /// No key has a value.
    pub fn is_empty(&self) -> bool {
        self.positions.is_empty()
    }

    /// Whether a log from `start` to `end` holds too many dead records.
    pub fn wants_rewriting(&self, start: i64, end: i64, limits: &RewriteLimits) -> bool {
        let records = end.saturating_sub(start);
        let live = i64::try_from(self.len()).unwrap_or(i64::MAX);
        records >= limits.records_min && live.saturating_mul(100) < records.saturating_mul(limits.live_percent_max)
    }
}
