//! [`RecordBatch`]: one batch as a view over its bytes.

use bytes::{Bytes, BytesMut};

use super::header::{ATTRIBUTES_AT, CRC_AT, HEADER_BYTES, LEADER_EPOCH_AT, MAX_TIMESTAMP_AT};
use super::record::{RecordIter, RecordRefs};
use super::{BatchError, RecordBatchHeader};

/// One batch: its header, read once, and all its bytes, header included.
///
/// Invariants: `bytes` is exactly as long as the header says; the header is what the bytes say;
/// [`RecordBatchHeader::parse`] accepted it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordBatch {
    header: RecordBatchHeader,
    bytes: Bytes,
}

impl RecordBatch {
    /// A view of `bytes`, which must be one batch and nothing more. The checksum is not looked at: see
    /// [`check`](Self::check).
    pub fn parse(bytes: Bytes) -> Result<Self, BatchError> {
        let header = RecordBatchHeader::parse(&bytes)?;
        if bytes.len() < header.size() {
            return Err(BatchError::Truncated { needed: header.size(), actual: bytes.len() });
        }
        if bytes.len() > header.size() {
            return Err(BatchError::NotOneBatch);
        }
        Ok(Self { header, bytes })
    }

    pub(super) fn from_parts(header: RecordBatchHeader, bytes: Bytes) -> Self {
        debug_assert_eq!(bytes.len(), header.size(), "the bytes are those of the header");
        Self { header, bytes }
    }

    /// Its header.
    pub fn header(&self) -> &RecordBatchHeader {
        &self.header
    }

    /// All of it, as on the wire and on the disk.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// All of it.
    pub fn into_bytes(self) -> Bytes {
        self.bytes
    }

    /// Bytes, header included.
    pub fn size(&self) -> usize {
        self.bytes.len()
    }

    /// Offset of the first record.
    pub fn base_offset(&self) -> i64 {
        self.header.base_offset
    }

    /// Offset of the last record.
    pub fn last_offset(&self) -> i64 {
        self.header.last_offset()
    }

    /// Offset behind the batch.
    pub fn next_offset(&self) -> i64 {
        self.header.next_offset()
    }

    /// The checksum of the bytes and the codec: what a batch from a leader or from the disk must hold.
    pub fn check(&self) -> Result<(), BatchError> {
        let computed = crc32c::crc32c(&self.bytes[ATTRIBUTES_AT..]);
        if computed != self.header.crc {
            return Err(BatchError::Checksum { stored: self.header.crc, computed });
        }
        self.header.compression().map(|_| ())
    }

    /// The batch at its place in the log. Rewrites the two fields in place if nothing else holds the allocation that
    /// the bytes are a slice of, else copies the batch once. So a produce request of one partition is patched in place
    /// if its frame was read into an allocation of its own and decoder and request are gone; of several partitions all
    /// but the last are copied, which also frees them from each other's frame.
    ///
    /// `base_offset` must be at least 0 and leave room for the batch below i64::MAX.
    #[must_use]
    pub fn assign_offsets(mut self, base_offset: i64, partition_leader_epoch: i32) -> Self {
        debug_assert!(base_offset >= 0 && base_offset < i64::MAX - i64::from(self.header.last_offset_delta));
        let mut bytes = own(self.bytes);
        bytes[..8].copy_from_slice(&base_offset.to_be_bytes());
        bytes[LEADER_EPOCH_AT..][..4].copy_from_slice(&partition_leader_epoch.to_be_bytes());
        self.header.base_offset = base_offset;
        self.header.partition_leader_epoch = partition_leader_epoch;
        Self { bytes: bytes.freeze(), ..self }
    }

    /// The batch with the leader's time (milliseconds since 1970) instead of the producer's, and a new checksum. Copies
    /// as [`assign_offsets`](Self::assign_offsets) does.
    #[must_use]
    pub fn assign_append_time(mut self, timestamp: i64) -> Self {
        self.header.set_append_time(timestamp);
        let mut bytes = own(self.bytes);
        bytes[ATTRIBUTES_AT..][..2].copy_from_slice(&self.header.attributes.to_be_bytes());
        bytes[MAX_TIMESTAMP_AT..][..8].copy_from_slice(&timestamp.to_be_bytes());
        self.header.crc = crc32c::crc32c(&bytes[ATTRIBUTES_AT..]);
        bytes[CRC_AT..][..4].copy_from_slice(&self.header.crc.to_be_bytes());
        Self { bytes: bytes.freeze(), ..self }
    }

    /// The records, unpacked to at most `limit` bytes, each borrowed from them.
    pub fn plain_records(&self, limit: usize) -> Result<Bytes, BatchError> {
        Ok(self.header.compression()?.decompress(&self.bytes.slice(HEADER_BYTES..), limit)?)
    }

    /// Walk over unpacked records without taking them out.
    pub fn walk<'a>(&self, plain_records: &'a [u8]) -> RecordRefs<'a> {
        RecordRefs::new(plain_records, self.header.records_count)
    }

    /// The records one by one, unpacked to at most `limit` bytes. Keys and values are slices, of the batch itself if it
    /// is not compressed.
    pub fn records(&self, limit: usize) -> Result<RecordIter, BatchError> {
        Ok(RecordIter::new(self.header, self.plain_records(limit)?))
    }
}

fn own(bytes: Bytes) -> BytesMut {
    bytes.try_into_mut().unwrap_or_else(|shared| BytesMut::from(&shared[..]))
}

/// The batches in a row of bytes, for instance of a fetch. Ends after the first error. A client whose fetch was cut
/// short finds [`BatchError::Truncated`] at its end.
#[derive(Clone, Debug)]
pub struct RecordBatches {
    rest: Bytes,
}

impl RecordBatches {
    /// Over all of `bytes`.
    pub fn new(bytes: Bytes) -> Self {
        Self { rest: bytes }
    }
}

impl Iterator for RecordBatches {
    type Item = Result<RecordBatch, BatchError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let mut rest = std::mem::take(&mut self.rest);
        Some(RecordBatchHeader::parse(&rest).and_then(|header| {
            if rest.len() < header.size() {
                return Err(BatchError::Truncated { needed: header.size(), actual: rest.len() });
            }
            let bytes = rest.split_to(header.size());
            // An empty rest would still hold the frame, and the last batch could not be patched in place.
            self.rest = if rest.is_empty() { Bytes::new() } else { rest };
            Ok(RecordBatch { header, bytes })
        }))
    }
}
