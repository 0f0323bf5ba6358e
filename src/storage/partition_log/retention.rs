//! Retention by time and by size, chunk by chunk of the time index.

use super::super::error::StorageError;
use super::super::log_class::LogClass;
use super::PartitionLog;

/// Entries of the time index read at once.
const PAGE: usize = 256;

impl PartitionLog {
    /// The log start that retention asks for, if it is above the present one; never above `high_watermark` or the synced
    /// end. −1 for a setting means no bound; a compacted log is never shortened. **Blocks.**
    ///
    /// A chunk goes when its own largest timestamp is older than `retention_ms`, or when `retention_bytes` would remain
    /// without it. The first chunk that stays ends the pass, as the first segment does in Kafka.
    pub fn retention_candidate(
        &self,
        now_ms: i64,
        retention_ms: i64,
        retention_bytes: i64,
        high_watermark: i64,
    ) -> Result<Option<i64>, StorageError> {
        let (log_start, log_end, bound, settled, position, open_chunk_max, class) = {
            let state = self.state.lock();
            state.check_online()?;
            let bound = high_watermark.min(state.synced_end).min(state.log_end);
            let chunk = &state.chunk;
            let (position, newest) = (chunk.position(), chunk.max_timestamp());
            (state.log_start, state.log_end, bound, state.settled_end(), position, newest, state.class())
        };
        if class == LogClass::Compacted {
            return Ok(None);
        }
        let oldest_kept = (retention_ms >= 0).then(|| now_ms.saturating_sub(retention_ms));
        let expired = |timestamp: i64| oldest_kept.is_some_and(|oldest| timestamp < oldest);
        let spare = |end_position: u64| {
            u64::try_from(retention_bytes).is_ok_and(|keep| position.saturating_sub(end_position) >= keep)
        };
        let mut start = log_start;
        loop {
            let page = self.index_entries(start..bound.min(settled), PAGE)?;
            for entry in &page {
                if !expired(entry.chunk_max_timestamp) && !spare(entry.end_position) {
                    return Ok((start > log_start).then_some(start));
                }
                start = entry.last_offset + 1;
            }
            if page.len() < PAGE {
                break;
            }
        }
        // Every closed chunk goes; the open one too, if it holds something, all of it is old and all of it is committed.
        let whole_log = start < log_end && bound == log_end && settled == log_end;
        if whole_log && open_chunk_max >= 0 && expired(open_chunk_max) {
            start = log_end;
        }
        Ok((start > log_start).then_some(start))
    }
}
