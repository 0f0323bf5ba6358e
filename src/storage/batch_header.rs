//! What a log does with the bytes of a batch: checks them, and stamps them as a leader.

use super::error::StorageError;
use bytes::Bytes;
use rookery_protocol::batch::{BatchError, RecordBatch, RecordBatchHeader};

/// The header of a slice that holds exactly one batch, with its checksum.
pub fn checked(batch: &Bytes) -> Result<RecordBatchHeader, BatchError> {
    let batch = RecordBatch::parse(batch.clone())?;
    batch.check()?;
    Ok(*batch.header())
}

/// The header of a batch that was checked when it came in or was read.
pub fn header_of(batch: &Bytes) -> Result<RecordBatchHeader, StorageError> {
    RecordBatchHeader::parse(batch).map_err(|error| StorageError::corrupt(error.to_string()))
}

/// The batch as a leader stores it: base offset and leader epoch set, and the time of the append if the topic wants it. In place,
/// if the bytes are nobody else's.
pub fn stamped(
    batch: Bytes,
    base_offset: i64,
    leader_epoch: i32,
    log_append_time: Option<i64>,
) -> Result<Bytes, BatchError> {
    let batch = RecordBatch::parse(batch)?.assign_offsets(base_offset, leader_epoch);
    Ok(match log_append_time {
        Some(now_ms) => batch.assign_append_time(now_ms),
        None => batch,
    }
    .into_bytes())
}

/// Batches for tests of this room.
#[cfg(test)]
pub mod testing {
    use bytes::{BufMut, Bytes, BytesMut};

    const HEADER_BYTES: usize = 61;

    /// What a test cares about; the rest is a producer's default.
    #[derive(Debug, Clone)]
    pub struct TestBatch {
        pub base_offset: i64,
        pub leader_epoch: i32,
        pub records: i32,
        pub timestamp: i64,
        pub producer: Option<(i64, i16, i32)>,
        pub payload: Vec<u8>,
        pub attributes: i16,
    }

    impl Default for TestBatch {
        fn default() -> Self {
            let payload = b"payload".to_vec();
            Self {
                base_offset: 0,
                leader_epoch: -1,
                records: 1,
                timestamp: 1000,
                producer: None,
                payload,
                attributes: 0,
            }
        }
    }

    impl TestBatch {
        pub fn build(&self) -> Bytes {
            let (producer_id, producer_epoch, sequence) = self.producer.unwrap_or((-1, -1, -1));
            let mut out = BytesMut::new();
            out.put_i64(self.base_offset);
            out.put_i32((HEADER_BYTES - 12 + self.payload.len()) as i32);
            out.put_i32(self.leader_epoch);
            out.put_i8(2);
            out.put_u32(0);
            out.put_i16(self.attributes);
            out.put_i32(self.records - 1);
            out.put_i64(self.timestamp);
            out.put_i64(self.timestamp);
            out.put_i64(producer_id);
            out.put_i16(producer_epoch);
            out.put_i32(sequence);
            out.put_i32(self.records);
            out.put_slice(&self.payload);
            let crc = crc32c::crc32c(&out[21..]);
            out[17..21].copy_from_slice(&crc.to_be_bytes());
            out.freeze()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::testing::TestBatch;
    use super::*;
    use rookery_protocol::batch::TimestampType;

    #[test]
    fn stamping_keeps_the_crc_and_log_append_time_renews_it() {
        let sent = TestBatch { records: 3, ..Default::default() }.build();
        let plain = checked(&stamped(sent.clone(), 40, 7, None).unwrap()).unwrap();
        assert_eq!((plain.base_offset, plain.last_offset(), plain.partition_leader_epoch), (40, 42, 7));
        assert_eq!(plain.crc, RecordBatchHeader::parse(&sent).unwrap().crc);
        let timed = checked(&stamped(sent.clone(), 40, 7, Some(99)).unwrap()).unwrap();
        assert!(timed.timestamp_type() == TimestampType::LogAppendTime);
        assert_eq!(timed.max_timestamp, 99);
    }

    #[test]
    fn any_flipped_byte_after_the_epoch_is_noticed() {
        let sent = TestBatch::default().build();
        for at in (8..12).chain(16..sent.len()) {
            let mut bad = sent.to_vec();
            bad[at] ^= 1;
            assert!(checked(&bad.into()).is_err(), "byte {at}");
        }
        for len in 0..sent.len() {
            assert!(checked(&sent.slice(..len)).is_err(), "length {len}");
        }
    }
}
