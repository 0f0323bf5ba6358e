//! Record batches of a coordinator's topic: Kafka's format, magic 2, uncompressed as Kafka's default writes them.
//!
//! A coordinator's batch is small and of one kind, so this is all it needs: a plain writer, and a reader that takes
//! nothing on trust (lengths, counts and the CRC are checked before use).

use super::CoordinatorRecord;
use bytes::{Buf, BufMut, Bytes, BytesMut};
use thiserror::Error;

/// Bytes before the first record.
const HEADER: usize = 61;
/// Offset of the attributes, where the CRC's reach begins.
const ATTRIBUTES: usize = 21;
const COMPRESSION: i16 = 0x07;
const TRANSACTIONAL: i16 = 0x10;
const CONTROL: i16 = 0x20;

/// Bytes that are no record batch we can read.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum BatchError {
    /// The bytes end inside the batch, or a length points outside.
    #[error("a record batch is cut short")]
    Truncated,
    /// Not magic 2.
    #[error("record batch of magic {0}")]
    Magic(i8),
    /// The checksum does not fit.
    #[error("record batch with a wrong checksum")]
    Checksum,
    /// Compressed: a coordinator never writes these.
    #[error("record batch compressed with codec {0}")]
    Compressed(i16),
}

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

/// One batch of all `records`, with base offset 0 and no leader epoch: the log sets both.
pub fn encode_batch<'a>(records: impl IntoIterator<Item = &'a CoordinatorRecord>, unix_ms: i64) -> Bytes {
    let mut batch = BytesMut::with_capacity(512);
    batch.put_bytes(0, HEADER);
    let mut count = 0;
    let mut body = BytesMut::new();
    for record in records {
        body.clear();
        body.put_i8(0);
        put_varint(&mut body, 0);
        put_varint(&mut body, count);
        put_varint(&mut body, record.key.len() as i64);
        body.put_slice(&record.key);
        match &record.value {
            None => put_varint(&mut body, -1),
            Some(value) => {
                put_varint(&mut body, value.len() as i64);
                body.put_slice(value);
            }
        }
        put_varint(&mut body, 0);
        put_varint(&mut batch, body.len() as i64);
        batch.put_slice(&body);
        count += 1;
    }
    let length = batch.len() - 12;
    let mut header = &mut batch[..HEADER];
    header.put_i64(0);
    header.put_i32(length as i32);
    header.put_i32(-1);
    header.put_i8(2);
    header.put_u32(0);
    header.put_i16(0);
    header.put_i32(count as i32 - 1);
    header.put_i64(unix_ms);
    header.put_i64(unix_ms);
    header.put_i64(-1);
    header.put_i16(-1);
    header.put_i32(-1);
    header.put_i32(count as i32);
    let crc = crc32c::crc32c(&batch[ATTRIBUTES..]);
    batch[17..21].copy_from_slice(&crc.to_be_bytes());
    batch.freeze()
}

/// Every batch in `bytes`, back to back.
pub fn decode_batches(bytes: &Bytes) -> Result<Vec<DecodedBatch>, BatchError> {
    let mut batches = Vec::new();
    let mut rest = bytes.clone();
    while !rest.is_empty() {
        if rest.len() < HEADER {
            return Err(BatchError::Truncated);
        }
        let length = (&rest[8..]).get_i32();
        let size = usize::try_from(length).map_err(|_| BatchError::Truncated)?.saturating_add(12);
        if size < HEADER || size > rest.len() {
            return Err(BatchError::Truncated);
        }
        batches.push(decode_batch(rest.split_to(size))?);
    }
    Ok(batches)
}

fn decode_batch(mut batch: Bytes) -> Result<DecodedBatch, BatchError> {
    let crc = (&batch[17..]).get_u32();
    let magic = batch[16] as i8;
    if magic != 2 {
        return Err(BatchError::Magic(magic));
    }
    if crc32c::crc32c(&batch[ATTRIBUTES..]) != crc {
        return Err(BatchError::Checksum);
    }
    let base_offset = batch.get_i64();
    batch.advance(13);
    let attributes = batch.get_i16();
    let last_delta = i64::from(batch.get_i32());
    batch.advance(30);
    let count = batch.get_i32();
    let last_offset = base_offset.checked_add(last_delta).filter(|_| last_delta >= 0).ok_or(BatchError::Truncated)?;
    if attributes & COMPRESSION != 0 {
        return Err(BatchError::Compressed(attributes & COMPRESSION));
    }
    if attributes & (TRANSACTIONAL | CONTROL) != 0 {
        return Ok(DecodedBatch { base_offset, last_offset, records: Vec::new(), skipped: true });
    }
    let mut records = Vec::new();
    for _ in 0..count {
        records.push(decode_record(&mut batch, base_offset)?);
    }
    Ok(DecodedBatch { base_offset, last_offset, records, skipped: false })
}

fn decode_record(batch: &mut Bytes, base_offset: i64) -> Result<(i64, CoordinatorRecord), BatchError> {
    let length = usize::try_from(get_varint(batch)?).ok().filter(|l| *l <= batch.len()).ok_or(BatchError::Truncated)?;
    let mut record = batch.split_to(length);
    if record.is_empty() {
        return Err(BatchError::Truncated);
    }
    record.advance(1);
    get_varint(&mut record)?;
    let offset = base_offset.checked_add(get_varint(&mut record)?).ok_or(BatchError::Truncated)?;
    let key = get_bytes(&mut record)?.unwrap_or_default();
    let value = get_bytes(&mut record)?;
    Ok((offset, CoordinatorRecord { key, value }))
}

fn get_bytes(from: &mut Bytes) -> Result<Option<Bytes>, BatchError> {
    match get_varint(from)? {
        -1 => Ok(None),
        length => match usize::try_from(length) {
            // Copied: a kept slice would pin the whole batch it came in.
            Ok(length) if length <= from.len() => Ok(Some(Bytes::copy_from_slice(&from.split_to(length)))),
            _ => Err(BatchError::Truncated),
        },
    }
}

fn put_varint(to: &mut BytesMut, value: i64) {
    let mut rest = ((value << 1) ^ (value >> 63)) as u64;
    while rest >= 0x80 {
        to.put_u8(rest as u8 | 0x80);
        rest >>= 7;
    }
    to.put_u8(rest as u8);
}

fn get_varint(from: &mut Bytes) -> Result<i64, BatchError> {
    let mut value = 0u64;
    for shift in (0..64).step_by(7) {
        let byte = from.try_get_u8().map_err(|_| BatchError::Truncated)?;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Ok((value >> 1) as i64 ^ -((value & 1) as i64));
        }
    }
    Err(BatchError::Truncated)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn record(key: &str, value: Option<&str>) -> CoordinatorRecord {
        CoordinatorRecord {
            key: Bytes::copy_from_slice(key.as_bytes()),
            value: value.map(|v| Bytes::copy_from_slice(v.as_bytes())),
        }
    }

    #[test]
    fn a_batch_reads_back() {
        let records = [record("a", Some("1")), record("b", None), record("", Some(""))];
        let bytes = encode_batch(&records, 1_700_000_000_000);
        let batches = decode_batches(&[&bytes[..], &bytes[..]].concat().into()).unwrap();
        assert_eq!(batches.len(), 2);
        assert_eq!((batches[0].base_offset, batches[0].last_offset), (0, 2));
        assert_eq!(batches[0].records.iter().map(|(_, r)| r.clone()).collect::<Vec<_>>(), records);
    }

    #[test]
    fn a_flipped_bit_is_noticed() {
        let bytes = encode_batch(&[record("key", Some("value"))], 0);
        for bit in ATTRIBUTES * 8..bytes.len() * 8 {
            let mut bad = bytes.to_vec();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(decode_batches(&bad.into()), Err(BatchError::Checksum), "bit {bit}");
        }
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes: Vec<u8>) {
            let _ = decode_batches(&bytes.into());
        }

        #[test]
        fn arbitrary_records_behind_a_true_checksum_never_panic(body in proptest::collection::vec(any::<u8>(), 0..200)) {
            let mut batch = encode_batch(&[], 0).to_vec();
            batch.extend_from_slice(&body);
            let length = batch.len() as i32 - 12;
            batch[8..12].copy_from_slice(&length.to_be_bytes());
            batch[57..61].copy_from_slice(&i32::MAX.to_be_bytes());
            batch[23..27].copy_from_slice(&0i32.to_be_bytes());
            let crc = crc32c::crc32c(&batch[ATTRIBUTES..]);
            batch[17..21].copy_from_slice(&crc.to_be_bytes());
            prop_assert!(decode_batches(&batch.into()).is_err());
        }
    }
}
