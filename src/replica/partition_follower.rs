//! What a follower does with its leader's answers. Every call names the leader epoch that was asked in, and is refused
//! when the partition follows another by now.
//!
//! # Answers that come late
//!
//! Calls run beside each other: a stream that is dropped leaves one behind on its blocking thread, which may run much later, in the same
//! leader epoch, when the next stream has brought records of which the leader counts that they are synced. The store may have been reopened as
//! well. So whatever changes the log's end names the end that was asked for too, and the log compares under its own lock.
//!
//! * In one leader epoch the answer that a log diverges, and where, follows from where it ends and the epoch of its last record alone: those name all
//!   that is in it, and the leader's epochs do not change. A cut that passes the comparison cuts the log it was meant for, whenever it
//!   comes, in whichever open of the store. The offset alone would not do: records that took the place of a tail may end where that ended.
//! * The same pair says that a log is empty, or ends below the leader's start (which only moves up): [`Partition::restart`].
//! * [`Partition::follow_log_start`] touches no end. The leader has deleted what lies below the start it has told, for good, and none of it is at
//!   or above this replica's high watermark: late, it does what the next answer would have done.

use super::error::ReplicaError;
use super::fetcher::FetchPosition;
use super::message::DivergingEpoch;
use super::partition::{Partition, Role, RoleState, position};
use crate::planted::planted;
use crate::storage::{OffsetAndEpoch, PartitionLog, StorageError};
use bytes::Bytes;
use parking_lot::RwLockReadGuard;
use rookery_raft::ids::LeaderEpoch;
use std::sync::Arc;
use std::time::Duration;

impl Partition {
    /// Queues the leader's batches behind the log end and takes over its high watermark. Does not block; the synced end
    /// follows by [`PartitionEvents::follower_synced`](super::partition::PartitionEvents::follower_synced).
    ///
    /// The log must still end where it was `asked` for. A log takes batches that begin above its end (compaction leaves
    /// such gaps), so nothing but this comparison keeps an answer to an earlier position from leaving a hole where an
    /// unsynced tail was lost. The high watermark is of the same log.
    pub fn append_as_follower(
        &self,
        leader_epoch: LeaderEpoch,
        asked: OffsetAndEpoch,
        batches: &[Bytes],
        high_watermark: i64,
    ) -> Result<FetchPosition, ReplicaError> {
        let role = self.follows(leader_epoch)?;
        let mut expected = if planted!(AppendBeyondLogEnd) { role.log.end() } else { asked };
        let now_ms = self.context.clock.wall_ms();
        for batch in batches {
            expected = role.log.append_as_follower(batch.clone(), expected, now_ms)?;
        }
        let position = position(&role.log);
        if position.end() != expected {
            return Err(StorageError::EndMoved { expected, end: position.end() }.into());
        }
        let (moved, known) = {
            let mut replication = self.replication.lock();
            let moved = replication.high_watermark.follow(high_watermark, position.log_start, position.wanted);
            (moved, replication.high_watermark.offset())
        };
        if moved {
            let reached = self.fetches.lock().reach(known);
            for waiter in reached {
                waiter.wake();
            }
        }
        Ok(position)
    }

    /// The leader's log starts later: so does this one, but never above the high watermark. **Blocks** (reads).
    pub fn follow_log_start(&self, leader_epoch: LeaderEpoch, leader_log_start: i64) -> Result<(), ReplicaError> {
        let role = self.follows(leader_epoch)?;
        let start = leader_log_start.min(self.high_watermark());
        if start > role.log.offsets().log_start {
            role.log.advance_log_start(start)?;
        }
        Ok(())
    }

    /// Removes what the leader does not have (KIP-101, KIP-279): down to where the diverging epoch, or the largest one
    /// below it that this log knows, ends in **both** logs. One step may not be enough; the next fetch finds out.
    /// **Blocks** (reads).
    pub fn truncate(
        &self,
        leader_epoch: LeaderEpoch,
        asked: OffsetAndEpoch,
        diverging: DivergingEpoch,
    ) -> Result<FetchPosition, ReplicaError> {
        let role = self.follows(leader_epoch)?;
        if planted!(SkipTruncation) {
            // Pretends: asks on from where the leader is, with the old tail in place.
            return Ok(FetchPosition { last_epoch: LeaderEpoch::NONE, ..position(&role.log) });
        }
        let asked = if planted!(CutMovedEnd) { role.log.end() } else { asked };
        let here = role.log.end_offset_for_epoch(diverging.epoch).map_or(asked.offset, |here| here.end_offset);
        let end = here.min(diverging.end_offset);
        let high_watermark = self.high_watermark();
        if end < high_watermark {
            // Possible only after an unclean election, or a loss of synced data on every eligible replica.
            tracing::warn!(partition = %self.id(), end, high_watermark, "truncating below the high watermark");
        }
        let end = role.log.truncate_to(end, asked, self.context.clock.wall_ms())?;
        self.replication.lock().high_watermark.truncate_to(end);
        tracing::info!(partition = %self.id(), leader_epoch = leader_epoch.0, from = asked.offset, to = end, "truncated to the leader's log");
        Ok(position(&role.log))
    }

    /// The wanted offset is not in the leader's log. If the leader's log begins above this one's end (or this one is
    /// empty), nothing here is worth keeping: starts over at the leader's log start. Anything else is left alone, since
    /// throwing records away could throw away the last copy; the next registration or the leader's progress resolves it.
    pub fn restart(
        &self,
        leader_epoch: LeaderEpoch,
        asked: OffsetAndEpoch,
        leader_log_start: i64,
    ) -> Result<FetchPosition, ReplicaError> {
        let role = self.follows(leader_epoch)?;
        let asked = if planted!(CutMovedEnd) { role.log.end() } else { asked };
        let offsets = role.log.offsets();
        let empty = offsets.log_start == offsets.log_end;
        if leader_log_start > offsets.log_end || (empty && leader_log_start != offsets.log_end) {
            role.log.truncate_fully_and_start_at(leader_log_start, asked)?;
            let offsets = role.log.offsets();
            let high_watermark = self.high_watermark();
            self.replication.lock().high_watermark.follow(high_watermark, offsets.log_start, offsets.log_end);
            tracing::info!(partition = %self.id(), leader_epoch = leader_epoch.0, leader_log_start, "started over at the leader's log start");
            return Ok(position(&role.log));
        }
        Err(ReplicaError::OffsetOutOfRange {
            offset: offsets.log_end,
            log_start: leader_log_start,
            end: offsets.log_end,
        })
    }

    /// An answer could not be brought to the log, for this long by now. Where that is because what has to be read is not to be had, the log is
    /// given up: at once if it is damaged (it would be every time), after `replica.lag.time.max.ms` if the disk does not give it back.
    /// (Until then the log is as it was. It may be read yet, and be elected meanwhile.) Not for a store that has failed: it is opened anew,
    /// with all its logs. Whether it was given up.
    pub fn give_up_unreadable(&self, error: &ReplicaError, stuck: Duration) -> bool {
        let what = match error {
            ReplicaError::Storage(StorageError::Corrupt(what)) => what,
            ReplicaError::Storage(StorageError::Offline(what)) if stuck > self.context.config.lag_max => what,
            _ => return false,
        };
        let is_alone = self.log().is_store_online();
        if is_alone {
            self.give_up(what);
        }
        is_alone
    }

    /// Where the log of a follower stands now.
    pub fn follower_position(&self, leader_epoch: LeaderEpoch) -> Result<FetchPosition, ReplicaError> {
        Ok(position(&self.follows(leader_epoch)?.log))
    }

    fn follows(&self, leader_epoch: LeaderEpoch) -> Result<RwLockReadGuard<'_, RoleState>, ReplicaError> {
        let role = self.role.read();
        if matches!(role.role, Role::Follower(_)) && role.leader_epoch == leader_epoch {
            Ok(role)
        } else {
            Err(ReplicaError::NotLeaderOrFollower)
        }
    }

    /// Moves the log start up to `offset`, for DeleteRecords and retention; never above the high watermark. **Blocks**
    /// (reads).
    pub fn delete_records(&self, offset: i64) -> Result<i64, ReplicaError> {
        let log: Arc<PartitionLog> = self.log();
        let (offsets, high_watermark) = (log.offsets(), self.high_watermark());
        // DeleteRecords names the high watermark by -1.
        let start = if offset == -1 { high_watermark } else { offset };
        if start < 0 || start > high_watermark {
            let log_start = offsets.log_start;
            return Err(ReplicaError::OffsetOutOfRange { offset, log_start, end: high_watermark });
        }
        if start > offsets.log_start {
            log.advance_log_start(start)?;
            self.context.events.high_watermark_moved(self.id());
        }
        Ok(log.offsets().log_start)
    }
}
