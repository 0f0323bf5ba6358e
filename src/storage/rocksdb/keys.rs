//! Keys. All numbers are big-endian, so that RocksDB's order is ours. Part of the disk format.
//!
//! | column family | key | value |
//! |---|---|---|
//! | `log.<class>` | partition u32, last offset u64 | the batch as on the wire |
//! | `time` | partition u32, last offset u64 | `TimeIndexEntry` |
//! | `default` | `c` | number of the last commit u64, last synced commit before it u64 |
//! | `default` | `n` | the next unused partition id u32 |
//! | `default` | `p`, partition u32 | `PartitionMeta` |
//! | `default` | `s`, partition u32, offset u64 | producer snapshot |

use super::super::log_store::LocalPartitionId;

/// The column family of the time index.
pub const TIME: &str = "time";
/// The column family of everything small.
pub const DEFAULT: &str = "default";
/// The key of the commit numbers: the first operation of every commit.
pub const COMMIT: &[u8] = b"c";
/// The key of the next unused partition id.
pub const NEXT_PARTITION: &[u8] = b"n";
/// First byte of the keys of partition metadata.
pub const META_PREFIX: u8 = b'p';
const SNAPSHOT_PREFIX: u8 = b's';

/// A key of `log.<class>` or `time`. Offsets are never negative there.
pub fn offset_key(partition: LocalPartitionId, offset: i64) -> [u8; 12] {
    let mut key = [0; 12];
    key[..4].copy_from_slice(&partition.0.to_be_bytes());
    key[4..].copy_from_slice(&offset.max(0).to_be_bytes());
    key
}

/// The offset of a key made by [`offset_key`], if it is one of this partition.
pub fn offset_of(partition: LocalPartitionId, key: &[u8]) -> Option<i64> {
    let (id, offset) = key.split_first_chunk::<4>()?;
    let offset = u64::from_be_bytes(offset.try_into().ok()?);
    (*id == partition.0.to_be_bytes()).then(|| i64::try_from(offset).ok()).flatten()
}

/// The key of a partition's metadata.
pub fn meta_key(partition: LocalPartitionId) -> [u8; 5] {
    let mut key = [META_PREFIX; 5];
    key[1..].copy_from_slice(&partition.0.to_be_bytes());
    key
}

/// The partition of a key made by [`meta_key`].
pub fn partition_of_meta(key: &[u8]) -> Option<LocalPartitionId> {
    let id = key.strip_prefix(&[META_PREFIX])?;
    Some(LocalPartitionId(u32::from_be_bytes(id.try_into().ok()?)))
}

/// The key of a producer snapshot.
pub fn snapshot_key(partition: LocalPartitionId, offset: i64) -> [u8; 13] {
    let mut key = [SNAPSHOT_PREFIX; 13];
    key[1..].copy_from_slice(&offset_key(partition, offset));
    key
}

/// The offset of a key made by [`snapshot_key`], if it is one of this partition.
pub fn offset_of_snapshot(partition: LocalPartitionId, key: &[u8]) -> Option<i64> {
    offset_of(partition, key.strip_prefix(&[SNAPSHOT_PREFIX])?)
}
