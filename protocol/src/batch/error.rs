//! What can be wrong with a record batch, and Kafka's code for it.

use thiserror::Error;

use crate::compression::CompressionError;
use crate::error::ErrorCode;

/// A batch that is refused.
#[derive(Debug, Error)]
pub enum BatchError {
    /// The bytes end inside a batch.
    #[error("the batch needs {needed} bytes, {actual} are there")]
    Truncated {
        /// Size of the batch, or of its header if not even that is there.
        needed: usize,
        /// How many there are.
        actual: usize,
    },
    /// The length field is smaller than a header.
    #[error("the batch says that its length is {0}")]
    InvalidLength(i32),
    /// Formats 0 and 1, or one of the future.
    #[error("format version {0} is not supported, only 2 is")]
    UnsupportedMagic(i8),
    /// The checksum differs.
    #[error("the checksum is {stored:#010x}, but that of the bytes is {computed:#010x}")]
    Checksum {
        /// In the header.
        stored: u32,
        /// Of the bytes.
        computed: u32,
    },
    /// A codec that there is not.
    #[error("compression type {0} is not known")]
    UnknownCompression(u8),
    /// Offsets below zero or beyond 64 bits.
    #[error("base offset {base_offset} with last offset delta {last_offset_delta} is not possible")]
    InvalidOffsets {
        /// First offset.
        base_offset: i64,
        /// Distance to the last.
        last_offset_delta: i32,
    },
    /// A produce request whose offsets do not start at 0.
    #[error("the base offset of a produced batch is {0}, not 0")]
    NonZeroBaseOffset(i64),
    /// No record, or a number of records that does not fit the offsets.
    #[error("the batch says {count} records, its offsets say {expected}")]
    Count {
        /// What the header says.
        count: i32,
        /// What its offsets, or its bytes, say.
        expected: i64,
    },
    /// A produce request without, or with more than one batch for a partition.
    #[error("a produce request has exactly one batch for each partition")]
    NotOneBatch,
    /// Larger than the topic allows.
    #[error("the batch has {size} bytes, the topic allows {max}")]
    TooLarge {
        /// Size with header.
        size: usize,
        /// `max.message.bytes`.
        max: usize,
    },
    /// Only brokers write control batches.
    #[error("clients may not write control batches")]
    ControlBatch,
    /// A producer id without a sequence.
    #[error("a batch with producer id {producer_id} has sequence {base_sequence}")]
    InvalidSequence {
        /// Whose.
        producer_id: i64,
        /// The sequence.
        base_sequence: i32,
    },
    /// A timestamp outside the topic's range.
    #[error("the timestamp {0} is out of range")]
    Timestamp(i64),
    /// A record without key where keys are required.
    #[error("record {index} has no key, which a compacted topic needs")]
    MissingKey {
        /// Which, from 0.
        index: usize,
    },
    /// A record whose bytes make no sense.
    #[error("record {index}: {what}")]
    MalformedRecord {
        /// Which, from 0.
        index: usize,
        /// Why.
        what: &'static str,
    },
    /// The records cannot be packed or unpacked.
    #[error(transparent)]
    Compression(#[from] CompressionError),
    /// More than 2 GiB.
    #[error("{0} bytes are too many for one batch")]
    TooManyBytes(usize),
}

impl BatchError {
    /// What the client is told. Damage on the way is retriable, a batch that was made wrong is not.
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::Truncated { .. } | Self::InvalidLength(_) | Self::Checksum { .. } => ErrorCode::CorruptMessage,
            Self::UnknownCompression(_) => ErrorCode::UnsupportedCompressionType,
            Self::TooLarge { .. } | Self::TooManyBytes(_) => ErrorCode::MessageTooLarge,
            Self::Timestamp(_) => ErrorCode::InvalidTimestamp,
            Self::UnsupportedMagic(_)
            | Self::InvalidOffsets { .. }
            | Self::NonZeroBaseOffset(_)
            | Self::Count { .. }
            | Self::NotOneBatch
            | Self::ControlBatch
            | Self::InvalidSequence { .. }
            | Self::MissingKey { .. }
            | Self::MalformedRecord { .. }
            | Self::Compression(_) => ErrorCode::InvalidRecord,
        }
    }
}
