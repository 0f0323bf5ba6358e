//! The fields of a record batch's header that a log needs (magic 2, KIP-98). Nothing here looks at records.
//!
//! ```text
//! 0 base offset i64 | 8 length i32 | 12 leader epoch i32 | 16 magic i8 | 17 crc u32 | 21 attributes i16
//! 23 last offset delta i32 | 27 base timestamp i64 | 35 max timestamp i64 | 43 producer id i64 | 51 producer epoch i16
//! 53 base sequence i32 | 57 record count i32 | 61 records
//! ```
//! The CRC-32C covers everything from the attributes on: base offset and leader epoch can be set without touching it.

use bytes::{BufMut, Bytes, BytesMut};

/// Bytes before the records.
pub const HEADER_SIZE: usize = 61;
const LENGTH_OVERHEAD: usize = 12;
const CRC_START: usize = 21;

const TIMESTAMP_TYPE: i16 = 1 << 3;
const TRANSACTIONAL: i16 = 1 << 4;
const CONTROL: i16 = 1 << 5;

/// A parsed header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchHeader {
    pub base_offset: i64,
    pub leader_epoch: i32,
    pub crc: u32,
    pub attributes: i16,
    pub last_offset_delta: i32,
    pub base_timestamp: i64,
    pub max_timestamp: i64,
    pub producer_id: i64,
    pub producer_epoch: i16,
    pub base_sequence: i32,
    pub record_count: i32,
    /// The whole batch in bytes, header included.
    pub size: usize,
}

impl BatchHeader {
    /// Reads the header of a slice that holds exactly one batch.
    pub fn parse(batch: &[u8]) -> Result<Self, &'static str> {
        let header = batch.first_chunk::<HEADER_SIZE>().ok_or("shorter than a header")?;
        let length = i32_at(header, 8);
        if usize::try_from(length).ok().and_then(|l| l.checked_add(LENGTH_OVERHEAD)) != Some(batch.len()) {
            return Err("the length field does not match the batch");
        }
        if header[16] != 2 {
            return Err("magic is not 2");
        }
        let parsed = Self {
            base_offset: i64_at(header, 0),
            leader_epoch: i32_at(header, 12),
            crc: i32_at(header, 17) as u32,
            attributes: i16_at(header, 21),
            last_offset_delta: i32_at(header, 23),
            base_timestamp: i64_at(header, 27),
            max_timestamp: i64_at(header, 35),
            producer_id: i64_at(header, 43),
            producer_epoch: i16_at(header, 51),
            base_sequence: i32_at(header, 53),
            record_count: i32_at(header, 57),
            size: batch.len(),
        };
        if parsed.last_offset_delta < 0 {
            return Err("negative last offset delta");
        }
        if parsed.base_offset < 0 || parsed.base_offset.checked_add(i64::from(parsed.last_offset_delta) + 1).is_none() {
            return Err("offsets out of bounds");
        }
        Ok(parsed)
    }

    /// Reads and checks the CRC too.
    pub fn parse_checked(batch: &[u8]) -> Result<Self, &'static str> {
        let header = Self::parse(batch)?;
        if crc32c::crc32c(&batch[CRC_START..]) != header.crc {
            return Err("the CRC does not match");
        }
        Ok(header)
    }

    pub fn last_offset(&self) -> i64 {
        self.base_offset + i64::from(self.last_offset_delta)
    }
    pub fn has_producer(&self) -> bool {
        self.producer_id >= 0
    }
    pub fn has_log_append_time(&self) -> bool {
        self.attributes & TIMESTAMP_TYPE != 0
    }
    pub fn is_transactional(&self) -> bool {
        self.attributes & TRANSACTIONAL != 0
    }
    pub fn is_control(&self) -> bool {
        self.attributes & CONTROL != 0
    }
    /// The sequence of the last record, wrapping from `i32::MAX` to 0.
    pub fn last_sequence(&self) -> i32 {
        super::producer_state::sequence_after(self.base_sequence, self.last_offset_delta)
    }
}

/// A copy of the batch as a leader stores it: base offset and leader epoch set, outside the CRC; with `log_append_time`
/// also the timestamp type and the largest timestamp, and then the CRC anew.
pub fn stamped(batch: &[u8], base_offset: i64, leader_epoch: i32, log_append_time: Option<i64>) -> Bytes {
    let mut out = BytesMut::with_capacity(batch.len());
    out.put_i64(base_offset);
    out.put_slice(&batch[8..12]);
    out.put_i32(leader_epoch);
    out.put_slice(&batch[16..]);
    if let Some(now_ms) = log_append_time {
        let attributes = i16::from_be_bytes([out[21], out[22]]) | TIMESTAMP_TYPE;
        out[21..23].copy_from_slice(&attributes.to_be_bytes());
        out[35..43].copy_from_slice(&now_ms.to_be_bytes());
        let crc = crc32c::crc32c(&out[CRC_START..]);
        out[17..21].copy_from_slice(&crc.to_be_bytes());
    }
    out.freeze()
}

fn i16_at(header: &[u8; HEADER_SIZE], at: usize) -> i16 {
    i16::from_be_bytes([header[at], header[at + 1]])
}
fn i32_at(header: &[u8; HEADER_SIZE], at: usize) -> i32 {
    i32::from_be_bytes(*header[at..].first_chunk().expect("offsets lie inside the header"))
}
fn i64_at(header: &[u8; HEADER_SIZE], at: usize) -> i64 {
    i64::from_be_bytes(*header[at..].first_chunk().expect("offsets lie inside the header"))
}

/// Batches for tests of this room.
#[cfg(test)]
pub mod testing {
    use super::*;

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
            out.put_i32((HEADER_SIZE - LENGTH_OVERHEAD + self.payload.len()) as i32);
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
            let crc = crc32c::crc32c(&out[CRC_START..]);
            out[17..21].copy_from_slice(&crc.to_be_bytes());
            out.freeze()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::testing::TestBatch;
    use super::*;

    #[test]
    fn stamping_keeps_the_crc_and_log_append_time_renews_it() {
        let sent = TestBatch { records: 3, ..Default::default() }.build();
        let plain = BatchHeader::parse_checked(&stamped(&sent, 40, 7, None)).unwrap();
        assert_eq!((plain.base_offset, plain.last_offset(), plain.leader_epoch), (40, 42, 7));
        assert_eq!(plain.crc, BatchHeader::parse(&sent).unwrap().crc);
        let timed = BatchHeader::parse_checked(&stamped(&sent, 40, 7, Some(99))).unwrap();
        assert!(timed.has_log_append_time());
        assert_eq!(timed.max_timestamp, 99);
    }

    #[test]
    fn any_flipped_byte_after_the_epoch_is_noticed() {
        let sent = TestBatch::default().build();
        for at in (8..12).chain(16..sent.len()) {
            let mut bad = sent.to_vec();
            bad[at] ^= 1;
            assert!(BatchHeader::parse_checked(&bad).is_err(), "byte {at}");
        }
        for len in 0..sent.len() {
            assert!(BatchHeader::parse_checked(&sent[..len]).is_err(), "length {len}");
        }
    }
}
