//! What a reader can know of what it reads: whether offsets follow one another, whether checksums hold, whether this run's records
//! come once and in order, and how long they took.

use super::pace::Nanos;
use super::payload::{Run, Stamp};
use rookery_protocol::batch::{BatchError, RecordBatch};

/// How far to look into batches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Depth {
    /// Headers: offsets and counts.
    Headers,
    /// Checksums and every record too.
    Records,
    /// And the stamps of this run's records.
    Stamps(u64),
}

/// Records of a batch unpack to at most so many bytes.
const PLAIN_BYTES_MAX: usize = 256 << 20;

/// What was found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Records.
    pub records: u64,
    /// Record batches.
    pub batches: u64,
    /// Their bytes as they came, headers included.
    pub batch_bytes: u64,
    /// Bytes of keys and values, where they were looked at.
    pub user_bytes: u64,
    /// Offsets that are missing in between.
    pub gaps: u64,
    /// Batches with a wrong checksum, or records that cannot be read.
    pub damaged: u64,
    /// Records of this run that came again, or before an earlier one of their producer.
    pub repeated: u64,
    /// Records of this run.
    pub own: u64,
}

impl Tally {
    /// Add another one.
    pub fn merge(&mut self, other: &Tally) {
        self.records += other.records;
        self.batches += other.batches;
        self.batch_bytes += other.batch_bytes;
        self.user_bytes += other.user_bytes;
        self.gaps += other.gaps;
        self.damaged += other.damaged;
        self.repeated += other.repeated;
        self.own += other.own;
    }
}

/// One partition, from an offset on.
pub struct PartitionCheck {
    next_offset: i64,
    /// The number of the next record that each producer of this run can have written.
    next_numbers: Vec<u64>,
}

impl PartitionCheck {
    /// Begins at `offset`.
    pub fn new(offset: i64) -> Self {
        Self { next_offset: offset, next_numbers: Vec::new() }
    }

    /// The offset that is read next.
    pub fn next_offset(&self) -> i64 {
        self.next_offset
    }

    /// A batch is there: where to go on, known from its header alone. Gives how many of its first offsets were read before.
    pub fn pass(&mut self, batch: &RecordBatch, tally: &mut Tally) -> u64 {
        let (base, next) = (batch.base_offset(), batch.next_offset());
        tally.gaps += u64::try_from(base - self.next_offset).unwrap_or(0);
        let before = u64::try_from(self.next_offset.min(next) - base).unwrap_or(0);
        self.next_offset = self.next_offset.max(next);
        before
    }

    /// What is in it. `before` is what [`pass`](Self::pass) gave; this run's records add to `runs` when they were due.
    pub fn look(&mut self, batch: &RecordBatch, before: u64, depth: Depth, tally: &mut Tally, runs: &mut Vec<Run>) {
        tally.batches += 1;
        tally.batch_bytes += batch.size() as u64;
        if batch.header().is_control() {
            return;
        }
        if depth == Depth::Headers {
            let count = u64::from(batch.header().records_count.unsigned_abs());
            tally.records += count.saturating_sub(before);
        } else if self.look_inside(batch, before, depth, tally, runs).is_err() {
            tally.damaged += 1;
        }
    }

    fn look_inside(
        &mut self,
        batch: &RecordBatch,
        before: u64,
        depth: Depth,
        tally: &mut Tally,
        runs: &mut Vec<Run>,
    ) -> Result<(), BatchError> {
        batch.check()?;
        let plain = batch.plain_records(PLAIN_BYTES_MAX)?;
        for record in batch.walk(&plain) {
            let record = record?;
            if u64::from(record.offset_delta.unsigned_abs()) < before {
                continue;
            }
            tally.records += 1;
            tally.user_bytes += (record.key.map_or(0, <[u8]>::len) + record.value.map_or(0, <[u8]>::len)) as u64;
            if let Depth::Stamps(run) = depth
                && let Some(stamp) = record.value.and_then(Stamp::read).filter(|stamp| stamp.run == run)
            {
                self.own(stamp, tally, runs);
            }
        }
        Ok(())
    }

    fn own(&mut self, stamp: Stamp, tally: &mut Tally, runs: &mut Vec<Run>) {
        tally.own += 1;
        if self.next_numbers.len() <= stamp.producer() {
            self.next_numbers.resize(stamp.producer() + 1, 0);
        }
        let next = &mut self.next_numbers[stamp.producer()];
        if stamp.number < *next {
            tally.repeated += 1;
            return;
        }
        *next = stamp.number + 1;
        let due: Nanos = stamp.due;
        match runs.last_mut() {
            Some(run) if run.due == due => run.count += 1,
            _ => runs.push(Run { due, count: 1 }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::payload::{Mold, ProducerIdentity, Shape};
    use super::*;
    use bytes::{Bytes, BytesMut};
    use rookery_protocol::compression::Compression;

    const RUN: u64 = 5;

    fn batch(producer: u16, numbers: std::ops::Range<u64>, base_offset: i64) -> RecordBatch {
        let shape =
            Shape { value_bytes: 30, key_bytes: 2, batch_bytes: 4000, codec: Compression::Lz4, compressibility: 0.5 };
        let mut mold = Mold::new(shape, ProducerIdentity { id: None, number: producer, run: RUN }).unwrap();
        let mut open = mold.open().unwrap();
        numbers.for_each(|n| mold.push(&mut open, 10 * n, n));
        RecordBatch::parse(mold.seal(open, 0, 0).unwrap().bytes).unwrap().assign_offsets(base_offset, 0)
    }

    fn read(check: &mut PartitionCheck, batches: &[RecordBatch], depth: Depth) -> (Tally, Vec<Run>) {
        let (mut tally, mut runs) = (Tally::default(), Vec::new());
        for batch in batches {
            let before = check.pass(batch, &mut tally);
            check.look(batch, before, depth, &mut tally, &mut runs);
        }
        (tally, runs)
    }

    #[test]
    fn what_is_whole_is_sound() {
        let batches = [batch(0, 0..3, 100), batch(1, 0..2, 103), batch(0, 3..5, 105)];
        for depth in [Depth::Headers, Depth::Records, Depth::Stamps(RUN)] {
            let mut check = PartitionCheck::new(100);
            let (tally, runs) = read(&mut check, &batches, depth);
            let looked = depth != Depth::Headers;
            let own = if depth == Depth::Stamps(RUN) { 7 } else { 0 };
            assert_eq!((tally.records, tally.batches, tally.own), (7, 3, own), "{depth:?}");
            assert_eq!(tally.user_bytes, if looked { 7 * 32 } else { 0 });
            assert!(tally.gaps + tally.damaged + tally.repeated == 0 && check.next_offset() == 107);
            assert_eq!(runs.iter().map(|run| u64::from(run.count)).sum::<u64>(), own);
        }
        let (tally, runs) = read(&mut PartitionCheck::new(100), &batches, Depth::Stamps(RUN + 1));
        assert_eq!((tally.own, runs.len(), tally.records), (0, 0, 7), "another run's records");
    }

    #[test]
    fn missing_offsets_are_counted() {
        let (tally, _) =
            read(&mut PartitionCheck::new(98), &[batch(0, 0..3, 100), batch(0, 3..5, 104)], Depth::Headers);
        assert_eq!((tally.gaps, tally.records), (3, 5));
    }

    #[test]
    fn a_fetch_that_begins_within_a_batch_counts_the_rest_of_it() {
        for depth in [Depth::Headers, Depth::Records] {
            let (tally, _) = read(&mut PartitionCheck::new(101), &[batch(0, 0..3, 100)], depth);
            assert_eq!((tally.records, tally.gaps), (2, 0), "{depth:?}");
        }
    }

    #[test]
    fn records_that_come_again_or_out_of_order_are_seen() {
        let batches = [batch(0, 0..3, 0), batch(0, 2..4, 3), batch(1, 0..1, 5), batch(0, 1..2, 6)];
        let (tally, runs) = read(&mut PartitionCheck::new(0), &batches, Depth::Stamps(RUN));
        assert_eq!((tally.own, tally.repeated), (7, 2));
        assert_eq!(runs.len(), 5, "no latency of what came again");
    }

    #[test]
    fn a_flipped_bit_is_seen_where_checksums_are_looked_at() {
        let mut bytes = BytesMut::from(&batch(0, 0..3, 0).into_bytes()[..]);
        let last = bytes.len() - 1;
        bytes[last] ^= 1;
        let damaged = [RecordBatch::parse(Bytes::from(bytes)).unwrap()];
        assert_eq!(read(&mut PartitionCheck::new(0), &damaged, Depth::Records).0.damaged, 1);
        assert_eq!(read(&mut PartitionCheck::new(0), &damaged, Depth::Headers).0.damaged, 0);
    }
}
