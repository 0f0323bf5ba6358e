//! Record batches of format version 2 (KIP-98): the only format that is accepted, stored and sent.
//!
//! In: `records` of a message or of the disk. Out: [`RecordBatch`], a checked view over the same `Bytes`. Never here:
//! offsets, epochs or sequences as such; whoever owns the log decides them.
//!
//! ```text
//!  0 base offset i64            21 attributes i16         51 producer epoch i16
//!  8 length of the rest i32     23 last offset delta i32  53 base sequence i32
//! 12 partition leader epoch i32 27 base timestamp i64     57 number of records i32
//! 16 magic i8 = 2               35 max timestamp i64      61 records, compressed or not
//! 17 CRC-32C of 21.. u32        43 producer id i64
//! ```
//!
//! A batch is opaque after validation: only the first 21 bytes, which the checksum does not cover, are rewritten (and
//! the timestamps, with a new checksum, for LogAppendTime).
//!
//! What is checked when:
//!
//! | | structure, offsets in range | checksum, codec | one batch, counts, sequence, time | every record |
//! |---|---|---|---|---|
//! | [`RecordBatch::parse`], [`RecordBatches`] | yes | | | |
//! | [`RecordBatch::check`] (from a leader or the disk) | yes | yes | | |
//! | [`RecordBatch::from_produce`] (from a client) | yes | yes | yes | if [`ProduceRules::every_record`] |
//!
//! Looking at every record costs a decompression and some ten nanoseconds a record, which Kafka always pays. What it
//! catches is a client whose checksum is right and whose records are not: those harm that topic's readers, never the
//! log. It is needed where keys are required (compaction) and where each timestamp counts.

mod builder;
mod error;
mod header;
mod record;
mod record_batch;
#[cfg(test)]
mod tests;
mod validation;

pub use builder::RecordBatchBuilder;
pub use error::BatchError;
pub use header::{HEADER_BYTES, NO_PRODUCER_EPOCH, NO_PRODUCER_ID, NO_SEQUENCE, RecordBatchHeader, TimestampType};
pub use record::{ControlRecordType, Record, RecordHeader, RecordHeaders, RecordIter, RecordRef, RecordRefs};
pub use record_batch::{RecordBatch, RecordBatches};
pub use validation::ProduceRules;
