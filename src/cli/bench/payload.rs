//! Batches that cost next to nothing to make.
//!
//! Every record of a run has the same size, so the bytes of a batch are the same up to a few numbers: which record it is,
//! when it was due, and the header. A buffer is filled once with as many records as a batch holds; after that a record costs 24
//! bytes written in place, a batch one checksum. A batch of fewer records is the front part of the same bytes. Buffers come
//! back when their batch was acknowledged.
//!
//! A compressed batch is really compressed, each time: its records carry their times inside.

use super::pace::Nanos;
use anyhow::{Context, Result, bail};
use bytes::{Bytes, BytesMut};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use rookery_protocol::batch::{
    HEADER_BYTES, NO_PRODUCER_EPOCH, NO_PRODUCER_ID, NO_SEQUENCE, RecordBatch, RecordBatchBuilder, RecordBatchHeader,
    TimestampType,
};
use rookery_protocol::compression::Compression;
use std::ops::Range;

/// What stands at the start of every value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// When the record was due, by the clock of its run.
    pub due: Nanos,
    /// Which record of its producer it is; the producer's number is in the upper 16 bits.
    pub number: u64,
    /// Which run it is of.
    pub run: u64,
}

/// Bytes of a stamp: no value is smaller.
pub const STAMP_BYTES: usize = 24;
/// Lower bits of a stamp's number.
const COUNTER_BITS: u32 = 48;

impl Stamp {
    /// Record `counter` of a producer.
    pub fn number(producer: u16, counter: u64) -> u64 {
        u64::from(producer) << COUNTER_BITS | counter
    }

    /// Which producer it is of.
    pub fn producer(&self) -> usize {
        (self.number >> COUNTER_BITS) as usize
    }

    fn write(self, value: &mut [u8]) {
        value[..8].copy_from_slice(&self.due.to_be_bytes());
        value[8..16].copy_from_slice(&self.number.to_be_bytes());
        value[16..24].copy_from_slice(&self.run.to_be_bytes());
    }

    /// Of a value; none if it is too small for one.
    pub fn read(value: &[u8]) -> Option<Self> {
        let number = |at: usize| Some(u64::from_be_bytes(value.get(at..at + 8)?.try_into().ok()?));
        Some(Self { due: number(0)?, number: number(8)?, run: number(16)? })
    }
}

/// What the records of a run look like.
#[derive(Clone, Debug)]
pub struct Shape {
    /// Bytes of a value, at least [`STAMP_BYTES`].
    pub value_bytes: usize,
    /// Bytes of a key; no key if 0.
    pub key_bytes: usize,
    /// Bytes of a full batch with its header, before compression. A larger record makes a batch of its own.
    pub batch_bytes: usize,
    /// The codec.
    pub codec: Compression,
    /// Which part of a value is the same in every record, from 0 to 1: what a codec can save.
    pub compressibility: f64,
}

impl Shape {
    /// Which bytes of a value a codec cannot save.
    fn random_part(&self) -> Range<usize> {
        let free = self.value_bytes - STAMP_BYTES;
        let same = (free as f64 * self.compressibility).round() as usize;
        STAMP_BYTES..self.value_bytes - same.min(free)
    }

    /// Bytes of a record that are the user's own.
    pub fn user_bytes(&self) -> u64 {
        (self.value_bytes + self.key_bytes) as u64
    }
}

/// Where things lie in the bytes of a full batch.
struct Layout {
    /// Where each record ends.
    ends: Vec<usize>,
    /// Where each value begins.
    stamps: Vec<usize>,
}

impl Layout {
    fn of(batch: &RecordBatch) -> Result<Self> {
        let plain = batch.plain_records(usize::MAX)?;
        let (mut ends, mut stamps) = (Vec::new(), Vec::new());
        for record in batch.walk(&plain) {
            let value = record?.value.context("a record without value")?;
            let at = HEADER_BYTES + (value.as_ptr().addr() - plain.as_ptr().addr());
            stamps.push(at);
            // Behind the value comes one byte more: there are no headers.
            ends.push(at + value.len() + 1);
        }
        Ok(Self { ends, stamps })
    }
}

/// The producer that batches are of.
#[derive(Clone, Copy, Debug)]
pub struct ProducerIdentity {
    /// Its id and epoch, if it is an idempotent one.
    pub id: Option<(i64, i16)>,
    /// Its number in this run.
    pub number: u16,
    /// The run.
    pub run: u64,
}

/// Makes batches, and takes their buffers back.
pub struct Mold {
    shape: Shape,
    producer: ProducerIdentity,
    layout: Layout,
    random: StdRng,
    blanks: Vec<BytesMut>,
}

/// Records that share the time at which they were due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    /// That time.
    pub due: Nanos,
    /// How many they are.
    pub count: u32,
}

/// A batch that takes more records.
pub struct OpenBatch {
    buffer: BytesMut,
    count: usize,
    runs: Vec<Run>,
}

impl OpenBatch {
    /// When its records were due, in order.
    pub fn runs(&self) -> &[Run] {
        &self.runs
    }

    /// When the first of its records was due.
    pub fn first_due(&self) -> Option<Nanos> {
        self.runs.first().map(|run| run.due)
    }

    /// Whether it has no record.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }
}

/// A batch with its final bytes.
pub struct SealedBatch {
    /// As on the wire.
    pub bytes: Bytes,
    /// When its records were due, in order.
    pub runs: Vec<Run>,
    /// How many records.
    pub count: u32,
    /// Sequence of its last record, [`NO_SEQUENCE`] if it has none.
    pub last_sequence: i32,
    /// All of the buffer; `bytes` is its front part, or made from it.
    buffer: Bytes,
}

impl Mold {
    /// For one producer.
    pub fn new(shape: Shape, producer: ProducerIdentity) -> Result<Self> {
        if shape.value_bytes < STAMP_BYTES {
            bail!("--record-bytes {}: a value has at least {STAMP_BYTES} bytes", shape.value_bytes);
        }
        let seed = producer.run ^ u64::from(producer.number);
        let mut mold = Self {
            shape,
            producer,
            layout: Layout { ends: Vec::new(), stamps: Vec::new() },
            random: StdRng::seed_from_u64(seed),
            blanks: Vec::new(),
        };
        let (batch, layout) = mold.fill()?;
        mold.layout = layout;
        mold.blanks.push(batch);
        Ok(mold)
    }

    /// Records of a full batch.
    pub fn batch_records(&self) -> usize {
        self.layout.ends.len()
    }

    /// A new buffer full of records.
    fn fill(&mut self) -> Result<(BytesMut, Layout)> {
        let Shape { value_bytes, key_bytes, batch_bytes, .. } = self.shape;
        let (mut key, mut value) = (vec![0; key_bytes], vec![b'.'; value_bytes]);
        let random = self.shape.random_part();
        let mut builder = RecordBatchBuilder::new();
        let mut largest = 0;
        while builder.is_empty() || builder.plain_size() + largest <= batch_bytes {
            let before = builder.plain_size();
            self.random.fill_bytes(&mut key);
            self.random.fill_bytes(&mut value[random.clone()]);
            builder.push(0, (key_bytes > 0).then_some(&key[..]), Some(&value), &[]);
            // A few varints grow with the place in the batch; never by more than this.
            largest = builder.plain_size() - before + 4;
        }
        let batch = builder.build()?;
        let layout = Layout::of(&batch)?;
        Ok((BytesMut::from(batch.into_bytes()), layout))
    }

    /// A batch without records.
    pub fn open(&mut self) -> Result<OpenBatch> {
        let buffer = match self.blanks.pop() {
            Some(blank) => blank,
            None => self.fill()?.0,
        };
        Ok(OpenBatch { buffer, count: 0, runs: Vec::new() })
    }

    /// How many more records a batch takes.
    pub fn room(&self, batch: &OpenBatch) -> usize {
        self.batch_records() - batch.count
    }

    /// Add record `counter`. There must be room.
    pub fn push(&self, batch: &mut OpenBatch, due: Nanos, counter: u64) {
        let number = Stamp::number(self.producer.number, counter);
        let stamp = Stamp { due, number, run: self.producer.run };
        stamp.write(&mut batch.buffer[self.layout.stamps[batch.count]..]);
        batch.count += 1;
        match batch.runs.last_mut() {
            Some(run) if run.due == due => run.count += 1,
            _ => batch.runs.push(Run { due, count: 1 }),
        }
    }

    /// No more records: header, compression, checksum. `timestamp` is in milliseconds since 1970, that of every record.
    /// There must be a record.
    pub fn seal(&self, batch: OpenBatch, timestamp: i64, base_sequence: i32) -> Result<SealedBatch> {
        let OpenBatch { mut buffer, count, runs } = batch;
        let end = self.layout.ends[count - 1];
        let records_count = i32::try_from(count).context("a batch of too many records")?;
        let (producer_id, producer_epoch, base_sequence) = match self.producer.id {
            Some((id, epoch)) => (id, epoch, base_sequence),
            None => (NO_PRODUCER_ID, NO_PRODUCER_EPOCH, NO_SEQUENCE),
        };
        let mut header = RecordBatchHeader {
            base_offset: 0,
            batch_length: 0,
            partition_leader_epoch: -1,
            crc: 0,
            attributes: RecordBatchHeader::attributes_of(self.shape.codec, TimestampType::CreateTime, false, false),
            last_offset_delta: records_count - 1,
            base_timestamp: timestamp,
            max_timestamp: timestamp,
            producer_id,
            producer_epoch,
            base_sequence,
            records_count,
        };
        let (bytes, buffer) = if self.shape.codec == Compression::None {
            header.seal(&mut buffer[..end])?;
            let buffer = buffer.freeze();
            (buffer.slice(..end), buffer)
        } else {
            let mut packed = vec![0; HEADER_BYTES];
            packed.extend_from_slice(&self.shape.codec.compress(&buffer[HEADER_BYTES..end])?);
            header.seal(&mut packed)?;
            (packed.into(), buffer.freeze())
        };
        let last_sequence = header.last_sequence();
        Ok(SealedBatch { bytes, runs, count: records_count.unsigned_abs(), last_sequence, buffer })
    }

    /// The buffer of a batch that is done with. It is used again unless somebody still looks at it.
    pub fn reclaim(&mut self, batch: SealedBatch) {
        let SealedBatch { bytes, buffer, .. } = batch;
        drop(bytes);
        if let Ok(blank) = buffer.try_into_mut() {
            self.blanks.push(blank);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rookery_protocol::batch::ProduceRules;

    fn shape(codec: Compression) -> Shape {
        Shape { value_bytes: 100, key_bytes: 0, batch_bytes: 16 << 10, codec, compressibility: 0.5 }
    }

    fn producer(number: u16) -> ProducerIdentity {
        ProducerIdentity { id: Some((7, 1)), number, run: 99 }
    }

    /// Every check that a broker has, and the stamps.
    fn stamps(batch: &SealedBatch) -> Vec<Stamp> {
        let rules = ProduceRules { every_record: true, ..ProduceRules::default() };
        let checked = RecordBatch::from_produce(batch.bytes.clone(), &rules).unwrap();
        let plain = checked.plain_records(1 << 20).unwrap();
        checked.walk(&plain).map(|record| Stamp::read(record.unwrap().value.unwrap()).unwrap()).collect()
    }

    #[test]
    fn batches_of_any_length_are_what_a_broker_takes() {
        for codec in Compression::ALL {
            let mut mold = Mold::new(shape(codec), producer(3)).unwrap();
            let full = mold.batch_records();
            assert!((140..=160).contains(&full), "{full}");
            for count in [1, 2, 63, 64, 65, full] {
                let mut batch = mold.open().unwrap();
                (0..count as u64).for_each(|n| mold.push(&mut batch, 1000 + n / 2, n));
                assert_eq!(mold.room(&batch), full - count);
                let sealed = mold.seal(batch, 1_700_000_000_000, i32::MAX - 5).unwrap();
                let expected = |n: u64| Stamp { due: 1000 + n / 2, number: Stamp::number(3, n), run: 99 };
                assert_eq!(stamps(&sealed), (0..count as u64).map(expected).collect::<Vec<_>>(), "{codec}");
                let header = *RecordBatch::parse(sealed.bytes.clone()).unwrap().header();
                let said = (header.producer_id, header.producer_epoch, header.base_sequence, header.max_timestamp);
                assert_eq!(said, (7, 1, i32::MAX - 5, 1_700_000_000_000));
                assert_eq!(sealed.last_sequence, header.last_sequence());
                assert_eq!(sealed.runs.iter().map(|run| run.count).sum::<u32>(), sealed.count);
                mold.reclaim(sealed);
            }
        }
    }

    #[test]
    fn a_buffer_that_was_used_before_leaves_no_trace() {
        let mut mold = Mold::new(shape(Compression::None), producer(0)).unwrap();
        for turn in 0..10 {
            let mut batch = mold.open().unwrap();
            (0..10 + turn % 3).for_each(|n| mold.push(&mut batch, turn, 100 * turn + n));
            let sealed = mold.seal(batch, 0, 0).unwrap();
            assert!(stamps(&sealed).iter().all(|stamp| stamp.due == turn && stamp.number / 100 == turn));
            mold.reclaim(sealed);
            assert_eq!(mold.blanks.len(), 1, "one buffer is enough");
        }
    }

    #[test]
    fn a_buffer_that_is_still_looked_at_is_not_used_again() {
        let mut mold = Mold::new(shape(Compression::None), producer(0)).unwrap();
        let mut batch = mold.open().unwrap();
        mold.push(&mut batch, 1, 1);
        let sealed = mold.seal(batch, 0, 0).unwrap();
        let held = sealed.bytes.clone();
        mold.reclaim(sealed);
        let mut batch = mold.open().unwrap();
        mold.push(&mut batch, 2, 2);
        let stamp = held[held.len() - 101..].to_vec();
        assert_eq!(Stamp::read(&stamp).unwrap().due, 1);
    }

    #[test]
    fn keys_large_records_and_incompressible_values() {
        let shape = Shape {
            value_bytes: 5000,
            key_bytes: 20,
            batch_bytes: 1000,
            codec: Compression::Zstd,
            compressibility: 0.0,
        };
        let user_bytes = shape.user_bytes();
        let mut mold = Mold::new(shape, ProducerIdentity { id: None, number: 0, run: 1 }).unwrap();
        assert_eq!((mold.batch_records(), user_bytes), (1, 5020), "a large record makes a batch of its own");
        let mut batch = mold.open().unwrap();
        mold.push(&mut batch, 0, 0);
        let sealed = mold.seal(batch, 0, 17).unwrap();
        let parsed = RecordBatch::parse(sealed.bytes.clone()).unwrap();
        assert!(!parsed.header().has_producer_id() && sealed.last_sequence == NO_SEQUENCE);
        assert_eq!(parsed.records(1 << 20).unwrap().next().unwrap().unwrap().key.unwrap().len(), 20);
        assert!(sealed.bytes.len() > 5000, "nothing can be saved");

        let half = Shape {
            value_bytes: 1024,
            key_bytes: 0,
            batch_bytes: 64 << 10,
            codec: Compression::Lz4,
            compressibility: 0.5,
        };
        let mut mold = Mold::new(half, producer(0)).unwrap();
        let mut batch = mold.open().unwrap();
        let count = mold.batch_records();
        (0..count as u64).for_each(|n| mold.push(&mut batch, n, n));
        let packed = mold.seal(batch, 0, 0).unwrap().bytes.len();
        assert!((count * 480..count * 600).contains(&packed), "{packed} bytes for {count} records");
    }

    #[test]
    fn a_value_without_room_for_its_stamp_is_refused() {
        let small = Shape { value_bytes: STAMP_BYTES - 1, ..shape(Compression::None) };
        assert!(Mold::new(small, producer(0)).is_err());
    }
}
