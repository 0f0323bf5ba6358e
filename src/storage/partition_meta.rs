//! What the store keeps of a partition besides its batches: one small value, replaced whole.

use super::leader_epoch_cache::{EpochEntry, LeaderEpochCache};
use super::log_class::LogClass;
use bytes::{Buf, BufMut, Bytes, BytesMut};
use rookery_raft::ids::{LeaderEpoch, TopicId, TopicIdPartition};
use uuid::Uuid;

const FORMAT: u8 = 1;

/// From this offset on the batches are in this class's column family.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Extent {
    pub from_offset: i64,
    pub class: LogClass,
}

/// The stored metadata of one partition.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PartitionMeta {
    pub partition: TopicIdPartition,
    pub log_start: i64,
    /// Byte position of the log's start, in the sense of the time index.
    pub start_position: u64,
    /// The log ends here at least, even if its last batch is gone.
    pub end_floor: i64,
    pub high_watermark: i64,
    /// Ascending, never empty.
    pub extents: Vec<Extent>,
    pub epochs: LeaderEpochCache,
}

impl PartitionMeta {
    pub fn encode(&self) -> Bytes {
        let mut out = BytesMut::with_capacity(64 + self.extents.len() * 9 + self.epochs.entries().len() * 12);
        out.put_u8(FORMAT);
        out.put_u128(self.partition.topic_id.0.as_u128());
        out.put_i32(self.partition.partition);
        out.put_i64(self.log_start);
        out.put_u64(self.start_position);
        out.put_i64(self.end_floor);
        out.put_i64(self.high_watermark);
        out.put_u32(self.extents.len() as u32);
        for extent in &self.extents {
            out.put_i64(extent.from_offset);
            out.put_u8(extent.class as u8);
        }
        out.put_u32(self.epochs.entries().len() as u32);
        for entry in self.epochs.entries() {
            out.put_i32(entry.epoch.0);
            out.put_i64(entry.start_offset);
        }
        out.freeze()
    }

    /// `None` if the bytes are not a partition's metadata of this format.
    pub fn decode(mut bytes: &[u8]) -> Option<Self> {
        let input = &mut bytes;
        if input.try_get_u8().ok()? != FORMAT {
            return None;
        }
        let topic_id = TopicId(Uuid::from_u128(input.try_get_u128().ok()?));
        let partition = TopicIdPartition { topic_id, partition: input.try_get_i32().ok()? };
        let log_start = input.try_get_i64().ok()?;
        let start_position = input.try_get_u64().ok()?;
        let end_floor = input.try_get_i64().ok()?;
        let high_watermark = input.try_get_i64().ok()?;
        let mut extents = Vec::new();
        for _ in 0..input.try_get_u32().ok()? {
            let from_offset = input.try_get_i64().ok()?;
            extents.push(Extent { from_offset, class: LogClass::from_number(input.try_get_u8().ok()?)? });
        }
        let mut entries = Vec::new();
        for _ in 0..input.try_get_u32().ok()? {
            let epoch = LeaderEpoch(input.try_get_i32().ok()?);
            entries.push(EpochEntry { epoch, start_offset: input.try_get_i64().ok()? });
        }
        let ascending = extents.windows(2).all(|w| w[0].from_offset < w[1].from_offset);
        let epochs = LeaderEpochCache::from_entries(entries)?;
        let sane = input.is_empty() && !extents.is_empty() && ascending && log_start >= 0 && end_floor >= 0;
        sane.then_some(Self { partition, log_start, start_position, end_floor, high_watermark, extents, epochs })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metadata_survives_its_bytes_and_damage_is_an_answer() {
        let mut epochs = LeaderEpochCache::default();
        epochs.assign(LeaderEpoch(3), 10);
        epochs.assign(LeaderEpoch(5), 20);
        let partition = TopicIdPartition { topic_id: TopicId::random(), partition: 4 };
        let extents = vec![
            Extent { from_offset: 0, class: LogClass::Hours4 },
            Extent { from_offset: 15, class: LogClass::Compacted },
        ];
        let start_position = 1 << 40;
        let meta = PartitionMeta {
            partition,
            log_start: 9,
            start_position,
            end_floor: 12,
            high_watermark: 11,
            extents,
            epochs,
        };
        let bytes = meta.encode();
        assert_eq!(PartitionMeta::decode(&bytes), Some(meta));
        for len in 0..bytes.len() {
            assert_eq!(PartitionMeta::decode(&bytes[..len]), None);
        }
    }
}
