//! Record batches of a coordinator's topic: one batch out of many records, and back.

use super::CoordinatorRecord;
use bytes::Bytes;
use rookery_protocol::batch::{BatchError, RecordBatch, RecordBatchBuilder, RecordBatches};

/// No coordinator writes a batch that unpacks to more; a foreign one that does is refused.
const UNPACKED_BYTES_MAX: usize = 256 << 20;

/// A batch that was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DecodedBatch {
    /// Offset of the first record.
    pub base_offset: i64,
    /// Offset of the last record, also when that record is gone.
    pub last_offset: i64,
    /// Offset and record, in order; empty for a control batch or one of a transaction, see `skipped`.
    pub records: Vec<(i64, CoordinatorRecord)>,
    /// A control batch, or one written inside a transaction: not understood before transactions are.
    pub skipped: bool,
}

/// One uncompressed batch of all `records` (Kafka's default for its coordinators), with base offset 0 and no leader epoch: the log
/// sets both. `records` holds at least one record and less than 2 GiB.
pub fn encode_batch<'a>(records: impl IntoIterator<Item = &'a CoordinatorRecord>, unix_ms: i64) -> Bytes {
    let mut builder = RecordBatchBuilder::new();
    for record in records {
        builder.push(unix_ms, Some(&record.key), record.value.as_deref(), &[]);
    }
    builder.build().expect("an append has records, and the event loop bounds their bytes").into_bytes()
}

/// Every batch in `bytes`, back to back; lengths, counts and checksums are checked.
pub fn decode_batches(bytes: &Bytes) -> Result<Vec<DecodedBatch>, BatchError> {
    RecordBatches::new(bytes.clone()).map(|batch| decode_batch(&batch?)).collect()
}

fn decode_batch(batch: &RecordBatch) -> Result<DecodedBatch, BatchError> {
    batch.check()?;
    let skipped = batch.header().is_control() || batch.header().is_transactional();
    let mut records = Vec::new();
    if !skipped {
        for record in batch.records(UNPACKED_BYTES_MAX)? {
            let record = record?;
            // Copied: a kept slice would pin the whole batch it came in.
            let copy = |bytes: Bytes| Bytes::copy_from_slice(&bytes);
            let (key, value) = (record.key.map(copy).unwrap_or_default(), record.value.map(copy));
            records.push((record.offset, CoordinatorRecord { key, value }));
        }
    }
    Ok(DecodedBatch { base_offset: batch.base_offset(), last_offset: batch.last_offset(), records, skipped })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(key: &'static str, value: Option<&'static str>) -> CoordinatorRecord {
        CoordinatorRecord { key: Bytes::from_static(key.as_bytes()), value: value.map(|v| v.as_bytes().into()) }
    }

    #[test]
    fn batches_read_back_and_a_flipped_bit_does_not() {
        let records = [record("a", Some("1")), record("b", None), record("", Some(""))];
        let bytes = encode_batch(&records, 1_700_000_000_000);
        let batches = decode_batches(&[&bytes[..], &bytes[..]].concat().into()).unwrap();
        assert_eq!(batches.len(), 2);
        assert_eq!((batches[0].base_offset, batches[0].last_offset, batches[0].skipped), (0, 2, false));
        assert_eq!(batches[1].records.iter().map(|(_, r)| r.clone()).collect::<Vec<_>>(), records);
        let mut bad = bytes.to_vec();
        *bad.last_mut().unwrap() ^= 1;
        assert!(decode_batches(&bad.into()).is_err());
    }

    #[test]
    fn a_transactions_batch_is_not_taken_for_committed_offsets() {
        let mut builder = RecordBatchBuilder::new().producer(7, 0, 0).transactional(true);
        builder.push(0, Some(b"k"), Some(b"v"), &[]);
        let batches = decode_batches(&builder.build().unwrap().into_bytes()).unwrap();
        assert!(batches[0].skipped && batches[0].records.is_empty());
    }
}
