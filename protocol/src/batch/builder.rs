//! [`RecordBatchBuilder`]: batches that this process makes itself.

use bytes::BytesMut;

use super::header::HEADER_BYTES;
use super::{
    BatchError, NO_PRODUCER_EPOCH, NO_PRODUCER_ID, NO_SEQUENCE, RecordBatch, RecordBatchHeader, TimestampType,
};
use crate::compression::Compression;

/// Collects records and makes one batch of them: for internal topics, the console producer, compaction and tests.
#[derive(Clone, Debug)]
pub struct RecordBatchBuilder {
    compression: Compression,
    timestamp_type: TimestampType,
    transactional: bool,
    control: bool,
    base_offset: i64,
    partition_leader_epoch: i32,
    producer_id: i64,
    producer_epoch: i16,
    base_sequence: i32,
    base_timestamp: Option<i64>,
    max_timestamp: i64,
    last_offset_delta: i32,
    count: i32,
    records: Vec<u8>,
}

impl Default for RecordBatchBuilder {
    fn default() -> Self {
        Self::new()
    }
}

impl RecordBatchBuilder {
    /// Empty: uncompressed, offsets from 0, no producer.
    pub fn new() -> Self {
        Self {
            compression: Compression::None,
            timestamp_type: TimestampType::CreateTime,
            transactional: false,
            control: false,
            base_offset: 0,
            partition_leader_epoch: -1,
            producer_id: NO_PRODUCER_ID,
            producer_epoch: NO_PRODUCER_EPOCH,
            base_sequence: NO_SEQUENCE,
            base_timestamp: None,
            max_timestamp: -1,
            last_offset_delta: -1,
            count: 0,
            records: Vec::new(),
        }
    }

    /// Pack the records.
    #[must_use]
    pub fn compression(mut self, compression: Compression) -> Self {
        self.compression = compression;
        self
    }

    /// Say who set the timestamps.
    #[must_use]
    pub fn timestamp_type(mut self, timestamp_type: TimestampType) -> Self {
        self.timestamp_type = timestamp_type;
        self
    }

    /// Its place in the log.
    #[must_use]
    pub fn place(mut self, base_offset: i64, partition_leader_epoch: i32) -> Self {
        (self.base_offset, self.partition_leader_epoch) = (base_offset, partition_leader_epoch);
        self
    }

    /// The idempotent producer it comes from.
    #[must_use]
    pub fn producer(mut self, producer_id: i64, producer_epoch: i16, base_sequence: i32) -> Self {
        (self.producer_id, self.producer_epoch, self.base_sequence) = (producer_id, producer_epoch, base_sequence);
        self
    }

    /// Make it part of a transaction.
    #[must_use]
    pub fn transactional(mut self, transactional: bool) -> Self {
        self.transactional = transactional;
        self
    }

    /// Make it a control batch.
    #[must_use]
    pub fn control(mut self, control: bool) -> Self {
        self.control = control;
        self
    }

    /// Add a record at the next offset. `timestamp` is in milliseconds since 1970.
    pub fn push(
        &mut self,
        timestamp: i64,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: &[(&str, Option<&[u8]>)],
    ) -> &mut Self {
        self.push_at(self.last_offset_delta + 1, timestamp, key, value, headers)
    }

    /// Add a record at an offset of its own, which must be above the last one: compaction keeps offsets.
    pub fn push_at(
        &mut self,
        offset_delta: i32,
        timestamp: i64,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: &[(&str, Option<&[u8]>)],
    ) -> &mut Self {
        debug_assert!(offset_delta > self.last_offset_delta, "offsets rise");
        let base = *self.base_timestamp.get_or_insert(timestamp);
        let mut body = Vec::with_capacity(key.map_or(0, <[u8]>::len) + value.map_or(0, <[u8]>::len) + 16);
        body.push(0);
        put_varlong(&mut body, timestamp.wrapping_sub(base));
        put_varlong(&mut body, i64::from(offset_delta));
        put_nullable(&mut body, key);
        put_nullable(&mut body, value);
        put_varlong(&mut body, headers.len() as i64);
        for (name, value) in headers {
            put_nullable(&mut body, Some(name.as_bytes()));
            put_nullable(&mut body, *value);
        }
        put_varlong(&mut self.records, body.len() as i64);
        self.records.extend_from_slice(&body);
        self.max_timestamp = self.max_timestamp.max(timestamp);
        self.last_offset_delta = offset_delta;
        self.count += 1;
        self
    }

    /// Let the batch end at a later offset than its last record: compaction may remove the last record, but never moves
    /// the end.
    #[must_use]
    pub fn last_offset_delta(mut self, delta: i32) -> Self {
        self.last_offset_delta = self.last_offset_delta.max(delta);
        self
    }

    /// Records so far.
    pub fn len(&self) -> usize {
        self.count as usize
    }

    /// Whether there is no record yet.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Bytes of the batch so far, uncompressed.
    pub fn plain_size(&self) -> usize {
        HEADER_BYTES + self.records.len()
    }

    /// The batch. Without a record it is an error; so is one over 2 GiB.
    pub fn build(self) -> Result<RecordBatch, BatchError> {
        if self.is_empty() {
            return Err(BatchError::Count { count: 0, expected: 1 });
        }
        let records = match self.compression {
            Compression::None => self.records,
            codec => codec.compress(&self.records)?,
        };
        let mut header = RecordBatchHeader {
            base_offset: self.base_offset,
            batch_length: 0,
            partition_leader_epoch: self.partition_leader_epoch,
            crc: 0,
            attributes: RecordBatchHeader::attributes_of(
                self.compression,
                self.timestamp_type,
                self.transactional,
                self.control,
            ),
            last_offset_delta: self.last_offset_delta,
            base_timestamp: self.base_timestamp.unwrap_or(-1),
            max_timestamp: self.max_timestamp,
            producer_id: self.producer_id,
            producer_epoch: self.producer_epoch,
            base_sequence: self.base_sequence,
            records_count: self.count,
        };
        let mut bytes = BytesMut::with_capacity(HEADER_BYTES + records.len());
        bytes.resize(HEADER_BYTES, 0);
        bytes.extend_from_slice(&records);
        header.seal(&mut bytes)?;
        Ok(RecordBatch::from_parts(header, bytes.freeze()))
    }
}

fn put_varlong(out: &mut Vec<u8>, value: i64) {
    let mut zigzag = (value << 1 ^ value >> 63) as u64;
    while zigzag >= 0x80 {
        out.push(zigzag as u8 | 0x80);
        zigzag >>= 7;
    }
    out.push(zigzag as u8);
}

fn put_nullable(out: &mut Vec<u8>, bytes: Option<&[u8]>) {
    match bytes {
        None => put_varlong(out, -1),
        Some(bytes) => {
            put_varlong(out, bytes.len() as i64);
            out.extend_from_slice(bytes);
        }
    }
}
