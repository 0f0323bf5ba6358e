//! Record batches for simulations: one record whose value is a number.

use super::invariants::Record;
use crate::storage::{PartitionLog, ReadLimit, StorageError};
use bytes::{BufMut, Bytes, BytesMut};

const HEADER: usize = 61;
const CRC_FROM: usize = 21;

/// A batch of one record from an idempotent producer; the value lies where a real record would.
pub(crate) fn batch(producer_id: i64, sequence: i32, value: u64) -> Bytes {
    let mut out = BytesMut::with_capacity(HEADER + 16);
    out.put_i64(0);
    out.put_i32((HEADER + 8 - 12) as i32);
    out.put_i32(-1);
    out.put_i8(2);
    out.put_u32(0);
    out.put_i16(0);
    out.put_i32(0);
    out.put_i64(1);
    out.put_i64(1);
    out.put_i64(producer_id);
    out.put_i16(0);
    out.put_i32(sequence);
    out.put_i32(1);
    out.put_u64(value);
    let crc = crc32c::crc32c(&out[CRC_FROM..]);
    out[17..21].copy_from_slice(&crc.to_be_bytes());
    out.freeze()
}

/// What a stored batch holds.
fn parse(batch: &Bytes) -> Record {
    let offset = i64::from_be_bytes(batch[0..8].try_into().expect("a header"));
    let epoch = i32::from_be_bytes(batch[12..16].try_into().expect("a header"));
    let value = u64::from_be_bytes(batch[HEADER..HEADER + 8].try_into().expect("a value"));
    (offset, epoch, value)
}

/// The records of a log in this range that can be read.
pub(crate) fn read(log: &PartitionLog, from: i64, to: i64) -> Vec<Record> {
    let mut records = Vec::new();
    let mut at = from.max(log.offsets().log_start);
    while at < to {
        let limit = ReadLimit { max_bytes: 1 << 20, at_least_one: true };
        let found = match log.read(at, to, limit) {
            Ok(found) => found,
            // Damaged: what lies behind it can be read.
            Err(StorageError::Corrupt(_) | StorageError::NowhereSound(_)) => {
                at += 1;
                continue;
            }
            Err(error) => panic!("the memory twin reads: {error}"),
        };
        if found.batches.is_empty() {
            break;
        }
        records.extend(found.batches.iter().map(parse));
        at = found.next_offset;
    }
    records
}
