//! What a batch from a client must hold (Kafka's `LogValidator` and `ProduceRequest.validateRecords`).

use std::ops::RangeInclusive;

use bytes::Bytes;

use super::{BatchError, NO_SEQUENCE, RecordBatch, RecordBatches, TimestampType};

/// Timestamp of a record that has none: Kafka lets it pass every range.
const NO_TIMESTAMP: i64 = -1;

/// What the topic asks of a produced batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProduceRules {
    /// `max.message.bytes`: the batch with its header, compressed.
    pub batch_bytes_max: usize,
    /// Which CreateTime timestamps (milliseconds since 1970) are accepted: now minus `message.timestamp.before.max.ms`
    /// to now plus `message.timestamp.after.max.ms`. Asked of the batch's first and largest timestamp, or of each if
    /// every record is looked at. A topic with LogAppendTime takes any: its leader overwrites them.
    pub timestamps: RangeInclusive<i64>,
    /// Look at every record: sizes, offsets, counts, keys.
    pub every_record: bool,
    /// Refuse records without key, as compacted topics must; looks at every record.
    pub keys_required: bool,
    /// How many bytes the records may unpack to where they are looked at.
    pub plain_bytes_max: usize,
}

impl Default for ProduceRules {
    /// Kafka's default size, any timestamp, no look inside.
    fn default() -> Self {
        Self {
            batch_bytes_max: (1 << 20) + 12,
            timestamps: i64::MIN..=i64::MAX,
            every_record: false,
            keys_required: false,
            plain_bytes_max: 64 << 20,
        }
    }
}

impl RecordBatch {
    /// The one batch that a produce request carries for a partition, checked in one pass.
    pub fn from_produce(records: Bytes, rules: &ProduceRules) -> Result<Self, BatchError> {
        let mut batches = RecordBatches::new(records);
        let batch = batches.next().ok_or(BatchError::NotOneBatch)??;
        if batches.next().is_some() {
            return Err(BatchError::NotOneBatch);
        }
        drop(batches);
        let size = batch.size();
        if size > rules.batch_bytes_max {
            return Err(BatchError::TooLarge { size, max: rules.batch_bytes_max });
        }
        batch.check()?;
        batch.check_produced_header(rules)?;
        if rules.every_record || rules.keys_required {
            batch.check_records(rules)?;
        }
        Ok(batch)
    }

    fn check_produced_header(&self, rules: &ProduceRules) -> Result<(), BatchError> {
        let header = self.header();
        if header.base_offset != 0 {
            return Err(BatchError::NonZeroBaseOffset(header.base_offset));
        }
        let (count, expected) = (header.records_count, i64::from(header.last_offset_delta) + 1);
        if count <= 0 || i64::from(count) != expected {
            return Err(BatchError::Count { count, expected });
        }
        if header.is_control() {
            return Err(BatchError::ControlBatch);
        }
        if header.has_producer_id() && header.base_sequence <= NO_SEQUENCE {
            let (producer_id, base_sequence) = (header.producer_id, header.base_sequence);
            return Err(BatchError::InvalidSequence { producer_id, base_sequence });
        }
        if header.timestamp_type() == TimestampType::CreateTime {
            check_timestamp(header.base_timestamp, rules)?;
            check_timestamp(header.max_timestamp, rules)?;
        }
        Ok(())
    }

    /// Every record parses, offsets are 0, 1, 2, …, as many as the header says, nothing behind them, keys where
    /// required.
    fn check_records(&self, rules: &ProduceRules) -> Result<(), BatchError> {
        let plain = self.plain_records(rules.plain_bytes_max)?;
        let created = self.header().timestamp_type() == TimestampType::CreateTime;
        let mut walk = self.walk(&plain);
        let mut index = 0;
        while let Some(record) = walk.next().transpose()? {
            if record.offset_delta as usize != index {
                return Err(BatchError::MalformedRecord { index, what: "its offset is not the next one" });
            }
            if rules.keys_required && record.key.is_none() {
                return Err(BatchError::MissingKey { index });
            }
            if created {
                check_timestamp(self.header().base_timestamp.wrapping_add(record.timestamp_delta), rules)?;
            }
            index += 1;
        }
        Ok(())
    }
}

fn check_timestamp(timestamp: i64, rules: &ProduceRules) -> Result<(), BatchError> {
    if timestamp == NO_TIMESTAMP || rules.timestamps.contains(&timestamp) {
        return Ok(());
    }
    Err(BatchError::Timestamp(timestamp))
}
