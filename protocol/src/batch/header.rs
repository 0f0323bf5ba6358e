//! [`RecordBatchHeader`]: the first 61 bytes of a batch.

use bytes::{Buf, BufMut};

use super::BatchError;
use crate::compression::Compression;

/// A batch of no idempotent producer.
pub const NO_PRODUCER_ID: i64 = -1;
/// The epoch that goes with it.
pub const NO_PRODUCER_EPOCH: i16 = -1;
/// The sequence that goes with it.
pub const NO_SEQUENCE: i32 = -1;

pub(super) const MAGIC: i8 = 2;
/// Bytes in front of the records.
pub const HEADER_BYTES: usize = 61;
/// Base offset and length, which the length does not count.
pub(super) const LENGTH_OVERHEAD: usize = 12;
/// Where the checksum's cover starts.
pub(super) const ATTRIBUTES_AT: usize = 21;
pub(super) const LEADER_EPOCH_AT: usize = 12;
pub(super) const MAGIC_AT: usize = 16;
pub(super) const CRC_AT: usize = 17;
pub(super) const MAX_TIMESTAMP_AT: usize = 35;

const COMPRESSION_MASK: i16 = 0x07;
const LOG_APPEND_TIME: i16 = 0x08;
const TRANSACTIONAL: i16 = 0x10;
const CONTROL: i16 = 0x20;

/// Who set the timestamps of a batch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum TimestampType {
    /// The producer, for each record.
    #[default]
    CreateTime,
    /// The leader, for the whole batch: its max timestamp is that of every record.
    LogAppendTime,
}

/// The header of a batch, without the magic (which is 2). Times are milliseconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordBatchHeader {
    /// Offset of the first record: it stays when compaction removes that record.
    pub base_offset: i64,
    /// Bytes behind this field.
    pub batch_length: i32,
    /// Epoch of the leader that appended the batch.
    pub partition_leader_epoch: i32,
    /// CRC-32C of everything from the attributes on.
    pub crc: u32,
    /// Bits: see the methods.
    pub attributes: i16,
    /// Offset of the last record minus the base offset.
    pub last_offset_delta: i32,
    /// What the records' timestamps are relative to.
    pub base_timestamp: i64,
    /// The largest timestamp.
    pub max_timestamp: i64,
    /// The idempotent producer, or [`NO_PRODUCER_ID`].
    pub producer_id: i64,
    /// Its epoch.
    pub producer_epoch: i16,
    /// The sequence of the first record.
    pub base_sequence: i32,
    /// How many records there are: fewer than offsets after compaction.
    pub records_count: i32,
}

impl RecordBatchHeader {
    /// Read a header and check what every user relies on: the magic, a length that covers the header, offsets within
    /// 0..=i64::MAX - 1.
    pub fn parse(bytes: &[u8]) -> Result<Self, BatchError> {
        if bytes.len() < HEADER_BYTES {
            // The magic decides what the other bytes mean: an old format is named as such, even if it is shorter than
            // this header.
            return Err(match bytes.get(MAGIC_AT) {
                Some(&magic) if magic as i8 != MAGIC => BatchError::UnsupportedMagic(magic as i8),
                _ => BatchError::Truncated { needed: HEADER_BYTES, actual: bytes.len() },
            });
        }
        let mut rest = bytes;
        let (base_offset, batch_length, partition_leader_epoch) = (rest.get_i64(), rest.get_i32(), rest.get_i32());
        let magic = rest.get_i8();
        if magic != MAGIC {
            return Err(BatchError::UnsupportedMagic(magic));
        }
        if batch_length < (HEADER_BYTES - LENGTH_OVERHEAD) as i32 {
            return Err(BatchError::InvalidLength(batch_length));
        }
        let header = Self {
            base_offset,
            batch_length,
            partition_leader_epoch,
            crc: rest.get_u32(),
            attributes: rest.get_i16(),
            last_offset_delta: rest.get_i32(),
            base_timestamp: rest.get_i64(),
            max_timestamp: rest.get_i64(),
            producer_id: rest.get_i64(),
            producer_epoch: rest.get_i16(),
            base_sequence: rest.get_i32(),
            records_count: rest.get_i32(),
        };
        let Self { base_offset, last_offset_delta, .. } = header;
        if base_offset < 0 || last_offset_delta < 0 || i64::MAX - i64::from(last_offset_delta) <= base_offset {
            return Err(BatchError::InvalidOffsets { base_offset, last_offset_delta });
        }
        Ok(header)
    }

    /// Write this header into the first [`HEADER_BYTES`] of `batch`, in front of the records that lie there already. Length and
    /// checksum become what those bytes need. More than 2 GiB is an error.
    pub fn seal(&mut self, batch: &mut [u8]) -> Result<(), BatchError> {
        let size = batch.len();
        let too_many = || BatchError::TooManyBytes(size);
        self.batch_length = i32::try_from(size.saturating_sub(LENGTH_OVERHEAD)).map_err(|_| too_many())?;
        let Some((mut room, _)) = batch.split_at_mut_checked(HEADER_BYTES) else {
            return Err(BatchError::Truncated { needed: HEADER_BYTES, actual: size });
        };
        self.write(&mut room);
        self.crc = crc32c::crc32c(&batch[ATTRIBUTES_AT..]);
        batch[CRC_AT..][..4].copy_from_slice(&self.crc.to_be_bytes());
        Ok(())
    }

    pub(super) fn write(&self, out: &mut impl BufMut) {
        out.put_i64(self.base_offset);
        out.put_i32(self.batch_length);
        out.put_i32(self.partition_leader_epoch);
        out.put_i8(MAGIC);
        out.put_u32(self.crc);
        out.put_i16(self.attributes);
        out.put_i32(self.last_offset_delta);
        out.put_i64(self.base_timestamp);
        out.put_i64(self.max_timestamp);
        out.put_i64(self.producer_id);
        out.put_i16(self.producer_epoch);
        out.put_i32(self.base_sequence);
        out.put_i32(self.records_count);
    }

    /// The attributes that say this.
    pub fn attributes_of(
        compression: Compression,
        timestamp_type: TimestampType,
        transactional: bool,
        control: bool,
    ) -> i16 {
        let bit = |set: bool, bit: i16| if set { bit } else { 0 };
        compression as i16
            | bit(timestamp_type == TimestampType::LogAppendTime, LOG_APPEND_TIME)
            | bit(transactional, TRANSACTIONAL)
            | bit(control, CONTROL)
    }

    pub(super) fn set_append_time(&mut self, max_timestamp: i64) {
        self.attributes |= LOG_APPEND_TIME;
        self.max_timestamp = max_timestamp;
    }

    /// Bytes of the batch, header included.
    pub fn size(&self) -> usize {
        LENGTH_OVERHEAD + self.batch_length as usize
    }

    /// Offset of the last record.
    pub fn last_offset(&self) -> i64 {
        self.base_offset + i64::from(self.last_offset_delta)
    }

    /// Offset behind the batch.
    pub fn next_offset(&self) -> i64 {
        self.last_offset() + 1
    }

    /// The codec.
    pub fn compression(&self) -> Result<Compression, BatchError> {
        let id = (self.attributes & COMPRESSION_MASK) as u8;
        Compression::from_id(id).ok_or(BatchError::UnknownCompression(id))
    }

    /// Who set the timestamps.
    pub fn timestamp_type(&self) -> TimestampType {
        if self.attributes & LOG_APPEND_TIME == 0 { TimestampType::CreateTime } else { TimestampType::LogAppendTime }
    }

    /// Whether the batch belongs to a transaction.
    pub fn is_transactional(&self) -> bool {
        self.attributes & TRANSACTIONAL != 0
    }

    /// Whether the batch holds a marker for the log instead of records for consumers.
    pub fn is_control(&self) -> bool {
        self.attributes & CONTROL != 0
    }

    /// Whether an idempotent producer sent the batch.
    pub fn has_producer_id(&self) -> bool {
        self.producer_id > NO_PRODUCER_ID
    }

    /// The sequence of the last record. Sequences go from i32::MAX back to 0; -1 if there is none.
    pub fn last_sequence(&self) -> i32 {
        if self.base_sequence == NO_SEQUENCE {
            return NO_SEQUENCE;
        }
        let last = i64::from(self.base_sequence) + i64::from(self.last_offset_delta);
        (last & i64::from(i32::MAX)) as i32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header() -> RecordBatchHeader {
        RecordBatchHeader {
            base_offset: 10,
            batch_length: 49,
            partition_leader_epoch: 3,
            crc: 0,
            attributes: 0,
            last_offset_delta: 4,
            base_timestamp: 100,
            max_timestamp: 200,
            producer_id: 7,
            producer_epoch: 1,
            base_sequence: i32::MAX - 2,
            records_count: 5,
        }
    }

    fn parse(change: impl FnOnce(&mut RecordBatchHeader)) -> Result<RecordBatchHeader, BatchError> {
        let (mut header, mut bytes) = (header(), Vec::new());
        change(&mut header);
        header.write(&mut bytes);
        RecordBatchHeader::parse(&bytes)
    }

    #[test]
    fn sequences_wrap_to_zero() {
        let read = parse(|_| ()).expect("valid");
        assert_eq!((read, read.last_sequence(), read.next_offset()), (header(), 1, 15));
    }

    #[test]
    fn impossible_numbers_are_refused() {
        assert!(matches!(parse(|h| h.batch_length = 48), Err(BatchError::InvalidLength(48))));
        assert!(matches!(parse(|h| h.batch_length = i32::MIN), Err(BatchError::InvalidLength(_))));
        assert!(matches!(parse(|h| h.base_offset = -1), Err(BatchError::InvalidOffsets { .. })));
        assert!(matches!(parse(|h| h.base_offset = i64::MAX - 4), Err(BatchError::InvalidOffsets { .. })));
        assert!(matches!(parse(|h| h.last_offset_delta = -1), Err(BatchError::InvalidOffsets { .. })));
        assert!(matches!(RecordBatchHeader::parse(&[1; 20]), Err(BatchError::UnsupportedMagic(1))));
        assert!(matches!(RecordBatchHeader::parse(&[2; 60]), Err(BatchError::Truncated { .. })));
    }
}
