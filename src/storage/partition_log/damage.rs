//! What of the log is damaged on disk, and how it is mended.
//!
//! A stored batch is damaged where it is not what its key, its CRC and the epoch cache say (the bytes outside the CRC are covered by the
//! other two). Reads and the scrub find it; it is then **noted**, so that others can mend it.
//!
//! | a noted batch | becomes | by |
//! |---|---|---|
//! | damaged | mending | [`PartitionLog::repair`]: a sound copy is queued |
//! | mending | forgotten | the commit of that copy |
//! | damaged | nowhere sound | [`PartitionLog::note_nowhere_sound`]: no replica has a sound copy |
//! | any | forgotten | truncation or the log's start removes it, or it is read and sound after all |
//!
//! Where keys are damaged, or what the store finds them by, nobody can say which batches are missing. Such a log is **unreadable** there: its
//! reads fail at that place, until the replica gives it up ([`PartitionLog::give_up`]) for the sake of another one's copy.
//!
//! # Invariants
//!
//! 1. **A repair writes nothing that the log did not hold.** The copy has the same last offset as the key, the leader epoch that the epoch cache
//!    has for it, begins above the batch before it, and is sound. The record at an (epoch, offset) is the same on every replica whose log
//!    holds it; below the high watermark of both sides nothing is ever cut away. So it is the batch that was there.
//! 2. **It writes only where there is a batch.** Only a noted batch is mended, one inside [log start, synced end), checked under the log's
//!    lock together with queueing the write. A truncation, a new log start or a deletion that came before has removed the note, the
//!    range or the log; one that comes later is behind the repair in the queue and removes it again.
//! 3. It goes through the commit thread and names the log's store generation, like every other write: another open never gets it.
//! 4. A note may be stale (the batch was mended between a read and its note): [`PartitionLog::is_still_damaged`] looks again before
//!    anybody is asked. A repair of a sound batch would write the same bytes once more.

use super::super::batch_header::checked;
use super::super::error::StorageError;
use super::super::log_store::StoreOp;
use super::read::{DiskBatch, DiskPass};
use super::{LogState, PartitionLog};
use crate::planted::planted;
use bytes::Bytes;
use smallvec::smallvec;
use std::sync::Arc;

/// Noted at most in one log; the next ones are found again when these are mended.
const NOTED_MAX: usize = 1000;

/// A damaged batch of a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// Its key.
    pub last_offset: i64,
    /// What is wrong with it.
    pub what: Arc<str>,
    /// No replica has a sound copy.
    pub nowhere_sound: bool,
}

#[derive(Clone, Debug)]
pub(super) struct Note {
    what: Arc<str>,
    nowhere_sound: bool,
    mending: bool,
}

/// Something stored that cannot be read.
#[derive(Clone, Debug)]
pub(super) struct Unreadable {
    what: Arc<str>,
    only_copy: bool,
}

/// One step of a scrub.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Scrubbed {
    /// Where to go on; `None` at the end.
    pub next: Option<i64>,
    /// Batches read.
    pub batches: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Damaged ones among them.
    pub damaged: u64,
}

/// Why a copy was not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RepairError {
    /// There is nothing to mend (any more).
    #[error("there is nothing to mend")]
    NotDamaged,
    /// It is not the batch that was there, or not sound itself.
    #[error("the copy is not the batch that was here: {0}")]
    WrongCopy(String),
    /// The log refused.
    #[error(transparent)]
    Storage(#[from] StorageError),
}

impl LogState {
    /// Notes a damaged batch, unless it is outside the log; whether it was not known.
    pub(super) fn note(&mut self, last_offset: i64, what: &str) -> bool {
        let outside = last_offset < self.log_start || last_offset >= self.log_end;
        if outside || self.damaged.len() >= NOTED_MAX || self.damaged.contains_key(&last_offset) {
            return false;
        }
        self.damaged.insert(last_offset, Note { what: what.into(), nowhere_sound: false, mending: false });
        true
    }

    /// The error of a read that meets this batch first.
    pub(super) fn unreadable(&self, last_offset: i64, what: &str) -> StorageError {
        match self.damaged.get(&last_offset) {
            Some(note) if note.nowhere_sound => StorageError::NowhereSound(what.into()),
            _ => StorageError::corrupt(what),
        }
    }
}

impl PartitionLog {
    /// The result of a read of the store; one that has failed because what is stored cannot be read is noted. Called without the log's lock.
    pub(super) fn noted<T>(&self, read: Result<T, StorageError>) -> Result<T, StorageError> {
        let Err(StorageError::Corrupt(what)) = &read else { return read };
        let (is_new, only_copy) = {
            let mut state = self.state.lock();
            let is_new = state.unreadable.is_none();
            let noted = state.unreadable.get_or_insert_with(|| Unreadable { what: what.clone(), only_copy: false });
            (is_new, noted.only_copy)
        };
        if is_new {
            self.tell_damage(what);
        }
        if only_copy { Err(StorageError::NowhereSound(what.clone())) } else { read }
    }

    /// What of the log cannot be read, if that was met.
    pub fn unreadable(&self) -> Option<Arc<str>> {
        self.state.lock().unreadable.as_ref().map(|unreadable| unreadable.what.clone())
    }

    /// There is no other replica to copy anew what cannot be read: readers are told. Whether that is news.
    pub fn note_only_copy(&self) -> bool {
        self.state
            .lock()
            .unreadable
            .as_mut()
            .is_some_and(|unreadable| !std::mem::replace(&mut unreadable.only_copy, true))
    }

    /// Every damaged batch that is known and not being mended, ascending.
    pub fn damaged(&self) -> Vec<Damage> {
        let state = self.state.lock();
        let noted = state.damaged.iter().filter(|(_, note)| !note.mending);
        let damage = |(at, note): (&i64, &Note)| Damage {
            last_offset: *at,
            what: note.what.clone(),
            nowhere_sound: note.nowhere_sound,
        };
        noted.map(damage).collect()
    }

    /// Tells of a batch that was noted a moment ago. Called without the log's lock.
    pub(super) fn tell_damage(&self, what: &str) {
        tracing::error!(partition = %self.partition, %what, "a stored batch is damaged");
        metrics::counter!("rookery_storage_damage_found_total").increment(1);
        let listener = self.listener.lock().clone();
        if let Some(listener) = listener {
            listener.damaged();
        }
    }

    /// Reads what is stored from `from` on, at most `max_bytes` (but one batch), below the synced end, and checks it as reads do. What
    /// is damaged is noted. **Blocks.**
    pub fn scrub(&self, from: i64, max_bytes: usize) -> Result<Scrubbed, StorageError> {
        let pass = {
            let state = self.state.lock();
            state.check_online()?;
            DiskPass {
                from: from.max(state.log_start),
                // The disk may still hold what a queued truncation removes.
                to: state.synced_end.min(state.settled_end()),
                extents: state.extents.clone(),
                truncations: state.truncations,
            }
        };
        let mut step = Scrubbed::default();
        if pass.from >= pass.to {
            return Ok(step);
        }
        let found = self.noted(self.read_disk(&pass, max_bytes))?;
        let mut told = Vec::new();
        let mut state = self.state.lock();
        state.check_online()?;
        if state.truncations != pass.truncations {
            return Ok(Scrubbed { next: Some(pass.from), ..step });
        }
        for DiskBatch { last_offset, batch, header } in found {
            step.batches += 1;
            step.bytes += batch.len() as u64;
            step.next = Some(last_offset + 1);
            if let Err(what) = header.and_then(|header| self.check_epoch(&state, &header)) {
                step.damaged += 1;
                if state.note(last_offset, &what) {
                    told.push(what);
                }
            }
        }
        drop(state);
        told.iter().for_each(|what| self.tell_damage(what));
        Ok(step)
    }

    /// Whether a noted batch is damaged now; it is forgotten if it is not. **Blocks.**
    pub fn is_still_damaged(&self, last_offset: i64) -> Result<bool, StorageError> {
        let pass = {
            let state = self.state.lock();
            state.check_online()?;
            if !state.damaged.contains_key(&last_offset) {
                return Ok(false);
            }
            let extents = state.extents.clone();
            DiskPass { from: last_offset, to: last_offset + 1, extents, truncations: state.truncations }
        };
        let found = self.read_disk(&pass, 0)?.into_iter().next();
        let mut state = self.state.lock();
        if state.truncations != pass.truncations {
            return Ok(state.damaged.contains_key(&last_offset));
        }
        let is_sound = |found: DiskBatch| found.header.and_then(|header| self.check_epoch(&state, &header)).is_ok();
        // A batch that is gone needs no repair either.
        let is_sound = found.is_none_or(is_sound);
        if is_sound {
            state.damaged.remove(&last_offset);
        }
        Ok(!is_sound)
    }

    /// Queues a sound copy of a damaged batch under its own key. Everything below `committed_end` is committed, as far as this replica
    /// knows. **Blocks** (reads).
    pub fn repair(self: &Arc<Self>, last_offset: i64, committed_end: i64, copy: &Bytes) -> Result<(), RepairError> {
        let wrong = |what: &str| RepairError::WrongCopy(what.to_owned());
        let header = checked(copy).map_err(|error| RepairError::WrongCopy(error.to_string()))?;
        let mut state = self.state.lock();
        state.check_online()?;
        if state.damaged.get(&last_offset).is_none_or(|note| note.mending) {
            return Err(RepairError::NotDamaged);
        }
        let end = committed_end.min(state.synced_end);
        if last_offset < state.log_start || last_offset >= end {
            return Err(RepairError::NotDamaged);
        }
        if header.last_offset() != last_offset {
            return Err(wrong("it ends at another offset"));
        }
        let epoch = state.epochs.epoch_of(last_offset).map(|epoch| epoch.0);
        if epoch != Some(header.partition_leader_epoch) && !planted!(RepairFromAnotherEpoch) {
            return Err(wrong("it is of another leader epoch"));
        }
        let extent = state.extents.iter().rposition(|extent| extent.from_offset <= last_offset).unwrap_or(0);
        // What lies below the log's start is of no interest: the first batch may span it.
        let before = self.last_offset_below(&state, extent, last_offset)?;
        if before.is_some_and(|before| header.base_offset <= before) {
            return Err(wrong("it begins before the end of the batch before it"));
        }
        let class = state.extents[extent].class;
        let write = smallvec![StoreOp::PutBatch { class, last_offset, batch: Bytes::copy_from_slice(copy) }];
        self.submit(&mut state, write, None, None)?;
        state.in_flight.back_mut().expect("just submitted").mends = Some(last_offset);
        if let Some(note) = state.damaged.get_mut(&last_offset) {
            note.mending = true;
        }
        Ok(())
    }

    /// The log is damaged where it cannot be mended: it takes and gives nothing any more.
    pub fn give_up(&self, what: &str) {
        let failed = self.state.lock().fail(StorageError::corrupt(what));
        for (waiter, result) in failed {
            // A waiter that has gone away needs no answer.
            let _ = waiter.send(result);
        }
    }

    /// Whether a batch is in memory.
    pub fn is_cached(&self, last_offset: i64) -> bool {
        let state = self.state.lock();
        last_offset >= state.tail.start_offset()
    }

    /// No replica has a sound copy of a damaged batch, or (with `false`) one may have. Readers are told.
    pub fn note_nowhere_sound(&self, last_offset: i64, nowhere_sound: bool) {
        if let Some(note) = self.state.lock().damaged.get_mut(&last_offset) {
            note.nowhere_sound = nowhere_sound;
        }
    }

    fn last_offset_below(
        &self,
        state: &LogState,
        extent: usize,
        last_offset: i64,
    ) -> Result<Option<i64>, StorageError> {
        for i in (0..=extent).rev() {
            let next = state.extents.get(i + 1).map_or(i64::MAX, |e| e.from_offset);
            let range = state.extents[i].from_offset..next.min(last_offset);
            if let Some(found) = self.store.last_offset_in(self.id, state.extents[i].class, range)? {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }
}
