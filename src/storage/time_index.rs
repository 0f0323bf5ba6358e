//! The time index: one entry per chunk of at least 64 KiB of batches.
//!
//! An entry says what the chunk that ends at its last offset holds, and three things about everything before: the
//! largest timestamp so far, its offset, and how many bytes the log had taken. The first answers "where does timestamp t
//! begin" by binary search (the running maximum ascends); the chunk's **own** maximum decides retention by time, so that
//! one record from the future delays its own chunk only; the byte position decides retention by size.

use rookery_protocol::batch::RecordBatchHeader;

/// Batches are gathered into a chunk until it has this many bytes.
pub const CHUNK_BYTES: u64 = 64 * 1024;

/// One closed chunk.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TimeIndexEntry {
    /// Last offset of the chunk's last batch: the key.
    pub last_offset: i64,
    /// Largest timestamp in the chunk, in milliseconds since 1970.
    pub chunk_max_timestamp: i64,
    /// Largest timestamp in this chunk and all before it.
    pub running_max_timestamp: i64,
    /// Last offset of the batch that has it.
    pub running_max_offset: i64,
    /// Bytes of all batches up to the end of this chunk, since the log was created.
    pub end_position: u64,
}

/// Bytes of an encoded entry, without its key.
const ENCODED: usize = 33;
const FORMAT: u8 = 1;

impl TimeIndexEntry {
    /// The value stored under the last offset.
    pub fn encode(&self) -> [u8; ENCODED] {
        let mut out = [0; ENCODED];
        out[0] = FORMAT;
        out[1..9].copy_from_slice(&self.chunk_max_timestamp.to_be_bytes());
        out[9..17].copy_from_slice(&self.running_max_timestamp.to_be_bytes());
        out[17..25].copy_from_slice(&self.running_max_offset.to_be_bytes());
        out[25..33].copy_from_slice(&self.end_position.to_be_bytes());
        out
    }

    /// The entry of a key and its value; `None` if the value is not one.
    pub fn decode(last_offset: i64, value: &[u8]) -> Option<Self> {
        let value: &[u8; ENCODED] = value.try_into().ok()?;
        if value[0] != FORMAT {
            return None;
        }
        let word = |at: usize| value[at..].first_chunk::<8>().copied();
        Some(Self {
            last_offset,
            chunk_max_timestamp: i64::from_be_bytes(word(1)?),
            running_max_timestamp: i64::from_be_bytes(word(9)?),
            running_max_offset: i64::from_be_bytes(word(17)?),
            end_position: u64::from_be_bytes(word(25)?),
        })
    }
}

/// The chunk that is still being filled, and the running values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenChunk {
    bytes: u64,
    max_timestamp: i64,
    running_max_timestamp: i64,
    running_max_offset: i64,
    position: u64,
}

impl OpenChunk {
    /// The chunk after `last`, the log's newest entry.
    pub fn after(last: Option<TimeIndexEntry>) -> Self {
        Self {
            bytes: 0,
            max_timestamp: -1,
            running_max_timestamp: last.map_or(-1, |e| e.running_max_timestamp),
            running_max_offset: last.map_or(-1, |e| e.running_max_offset),
            position: last.map_or(0, |e| e.end_position),
        }
    }

    /// An empty chunk of a log whose batches begin at byte `position`.
    pub fn at_position(position: u64) -> Self {
        Self { position, ..Self::after(None) }
    }

    /// Adds a batch; returns the entry if that closed the chunk. A batch without timestamps counts as written at `now_ms`,
    /// so that retention by time reaches it.
    pub fn add(&mut self, batch: &RecordBatchHeader, now_ms: i64) -> Option<TimeIndexEntry> {
        let timestamp = if batch.max_timestamp >= 0 { batch.max_timestamp } else { now_ms };
        self.bytes += batch.size() as u64;
        self.position += batch.size() as u64;
        self.max_timestamp = self.max_timestamp.max(timestamp);
        if timestamp > self.running_max_timestamp {
            self.running_max_timestamp = timestamp;
            self.running_max_offset = batch.last_offset();
        }
        if self.bytes < CHUNK_BYTES {
            return None;
        }
        let entry = TimeIndexEntry {
            last_offset: batch.last_offset(),
            chunk_max_timestamp: self.max_timestamp,
            running_max_timestamp: self.running_max_timestamp,
            running_max_offset: self.running_max_offset,
            end_position: self.position,
        };
        self.bytes = 0;
        self.max_timestamp = -1;
        Some(entry)
    }

    /// Largest timestamp of the open chunk; −1 if it is empty.
    pub fn max_timestamp(&self) -> i64 {
        self.max_timestamp
    }
    /// Last offset of the batch with the largest timestamp so far, −1 if there is none.
    pub fn running_max_offset(&self) -> i64 {
        self.running_max_offset
    }
    /// Bytes of all batches since the log was created.
    pub fn position(&self) -> u64 {
        self.position
    }
    /// Replaces the running maximum: the batch that had it is gone.
    pub fn set_running_max(&mut self, timestamp: i64, offset: i64) {
        self.running_max_timestamp = timestamp;
        self.running_max_offset = offset;
    }
}

#[cfg(test)]
mod tests {
    use super::super::batch_header::testing::TestBatch;
    use super::*;

    fn header(base_offset: i64, timestamp: i64, payload: usize) -> RecordBatchHeader {
        let batch = TestBatch { base_offset, timestamp, payload: vec![0; payload], ..Default::default() }.build();
        RecordBatchHeader::parse(&batch).unwrap()
    }

    #[test]
    fn a_chunk_closes_at_64_kib_with_its_own_and_the_running_maximum() {
        let mut chunk = OpenChunk::after(None);
        assert_eq!(chunk.add(&header(0, 900, 40_000), 0), None);
        let first = chunk.add(&header(1, 500, 40_000), 0).expect("80 kB close a chunk");
        assert_eq!((first.last_offset, first.chunk_max_timestamp, first.end_position), (1, 900, 80_122));
        let second = chunk.add(&header(2, 600, 70_000), 0).expect("70 kB close a chunk");
        assert_eq!(
            (second.chunk_max_timestamp, second.running_max_timestamp, second.running_max_offset),
            (600, 900, 0)
        );
        assert_eq!(TimeIndexEntry::decode(2, &second.encode()), Some(second));
        assert_eq!(TimeIndexEntry::decode(2, &[]), None);
    }
}
