//! Records inside a batch: [`RecordRef`] borrows, [`Record`] owns slices.

use bytes::Bytes;
use smol_str::SmolStr;

use super::{BatchError, RecordBatchHeader, TimestampType};

/// A record as a view of unpacked bytes. Nothing is allocated for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordRef<'a> {
    /// Relative to the batch's base timestamp.
    pub timestamp_delta: i64,
    /// Relative to the batch's base offset; never negative.
    pub offset_delta: i32,
    /// The key.
    pub key: Option<&'a [u8]>,
    /// The value; None is a tombstone in a compacted topic.
    pub value: Option<&'a [u8]>,
    /// The headers, checked: an iterator.
    pub headers: RecordHeaders<'a>,
}

/// The headers of a record, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordHeaders<'a> {
    left: usize,
    bytes: Cursor<'a>,
}

impl<'a> Iterator for RecordHeaders<'a> {
    type Item = (&'a str, Option<&'a [u8]>);

    fn next(&mut self) -> Option<Self::Item> {
        self.left = self.left.checked_sub(1)?;
        Some(self.bytes.header().expect("headers were checked when the record was read"))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

/// A record taken out of its batch. Key, value and header values are slices of the unpacked records.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Record {
    /// Its offset.
    pub offset: i64,
    /// Milliseconds since 1970, -1 if it has none.
    pub timestamp: i64,
    /// The key.
    pub key: Option<Bytes>,
    /// The value; None is a tombstone in a compacted topic.
    pub value: Option<Bytes>,
    /// The headers, in order; a name may come twice.
    pub headers: Vec<RecordHeader>,
}

/// A header of a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordHeader {
    /// Its name.
    pub key: SmolStr,
    /// Its value.
    pub value: Option<Bytes>,
}

/// What a control record says, in its key: an int16 version, then an int16 type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ControlRecordType {
    /// The transaction was aborted.
    Abort,
    /// The transaction was committed.
    Commit,
    /// Another marker, of no meaning to consumers.
    Other(i16),
}

impl ControlRecordType {
    /// Read the key of a control record, None if it is none.
    pub fn from_key(key: &[u8]) -> Option<Self> {
        let kind = key.get(2..4)?;
        Some(match i16::from_be_bytes([kind[0], kind[1]]) {
            0 => Self::Abort,
            1 => Self::Commit,
            other => Self::Other(other),
        })
    }

    /// The key of a control record, version 0.
    pub fn to_key(self) -> [u8; 4] {
        let kind: i16 = match self {
            Self::Abort => 0,
            Self::Commit => 1,
            Self::Other(kind) => kind,
        };
        let [high, low] = kind.to_be_bytes();
        [0, 0, high, low]
    }
}

/// Walks over unpacked records and checks each; ends after the first error. It is also an error if there are more or
/// fewer records than the batch says.
#[derive(Clone, Debug)]
pub struct RecordRefs<'a> {
    bytes: Cursor<'a>,
    count: i32,
    index: usize,
    done: bool,
}

impl<'a> RecordRefs<'a> {
    pub(super) fn new(plain_records: &'a [u8], count: i32) -> Self {
        Self { bytes: Cursor(plain_records), count, index: 0, done: false }
    }
}

impl<'a> Iterator for RecordRefs<'a> {
    type Item = Result<RecordRef<'a>, BatchError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.done {
            return None;
        }
        let (index, count) = (self.index, self.count);
        let at_end = index as i64 >= i64::from(count);
        if at_end && self.bytes.0.is_empty() {
            self.done = true;
            return None;
        }
        let record = match self.bytes.record() {
            _ if at_end => Err(BatchError::MalformedRecord { index, what: "there are bytes behind the last record" }),
            Ok(record) => Ok(record),
            Err(what) => Err(BatchError::MalformedRecord { index, what }),
        };
        self.index += 1;
        self.done = record.is_err();
        Some(record)
    }
}

/// The records of a batch, one by one. Ends after the first error.
#[derive(Clone, Debug)]
pub struct RecordIter {
    header: RecordBatchHeader,
    plain: Bytes,
    read: usize,
    index: usize,
    done: bool,
}

impl RecordIter {
    pub(super) fn new(header: RecordBatchHeader, plain: Bytes) -> Self {
        Self { header, plain, read: 0, index: 0, done: false }
    }
}

impl Iterator for RecordIter {
    type Item = Result<Record, BatchError>;

    fn next(&mut self) -> Option<Self::Item> {
        let mut walk = RecordRefs {
            bytes: Cursor(&self.plain[self.read..]),
            count: self.header.records_count,
            index: self.index,
            done: self.done,
        };
        let next = walk.next();
        self.read = self.plain.len() - walk.bytes.0.len();
        (self.index, self.done) = (walk.index, walk.done);
        Some(next?.map(|record| own(&self.header, &self.plain, record)))
    }
}

fn own(batch: &RecordBatchHeader, plain: &Bytes, record: RecordRef<'_>) -> Record {
    let slice = |part: Option<&[u8]>| part.map(|part| plain.slice_ref(part));
    Record {
        offset: batch.base_offset.wrapping_add(i64::from(record.offset_delta)),
        timestamp: match batch.timestamp_type() {
            TimestampType::CreateTime => batch.base_timestamp.wrapping_add(record.timestamp_delta),
            TimestampType::LogAppendTime => batch.max_timestamp,
        },
        key: slice(record.key),
        value: slice(record.value),
        headers: record.headers.map(|(key, value)| RecordHeader { key: key.into(), value: slice(value) }).collect(),
    }
}

/// The rest of some unpacked bytes. Its errors say what is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Cursor<'a>(&'a [u8]);

const TRUNCATED: &str = "it ends too early";

impl<'a> Cursor<'a> {
    fn take(&mut self, length: usize) -> Result<&'a [u8], &'static str> {
        let (taken, rest) = self.0.split_at_checked(length).ok_or(TRUNCATED)?;
        self.0 = rest;
        Ok(taken)
    }

    /// A zigzag number of at most 64 bits.
    fn varlong(&mut self) -> Result<i64, &'static str> {
        let mut value = 0u64;
        for shift in (0..70).step_by(7) {
            let byte = self.take(1)?[0];
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok((value >> 1) as i64 ^ -((value & 1) as i64));
            }
        }
        Err("a variable-length number has too many bits")
    }

    /// A zigzag number of at most 32 bits.
    fn varint(&mut self) -> Result<i32, &'static str> {
        i32::try_from(self.varlong()?).map_err(|_| "a variable-length number has too many bits")
    }

    fn nullable(&mut self) -> Result<Option<&'a [u8]>, &'static str> {
        match self.varint()? {
            -1 => Ok(None),
            length => Ok(Some(self.take(usize::try_from(length).map_err(|_| "a length is negative")?)?)),
        }
    }

    fn header(&mut self) -> Result<(&'a str, Option<&'a [u8]>), &'static str> {
        let key = self.nullable()?.ok_or("a header has no name")?;
        let key = std::str::from_utf8(key).map_err(|_| "the name of a header is not UTF-8")?;
        Ok((key, self.nullable()?))
    }

    fn record(&mut self) -> Result<RecordRef<'a>, &'static str> {
        let length = usize::try_from(self.varint()?).map_err(|_| "its length is negative")?;
        let mut body = Cursor(self.take(length)?);
        body.take(1)?; // attributes: none are defined
        let timestamp_delta = body.varlong()?;
        let offset_delta = body.varint()?;
        if offset_delta < 0 {
            return Err("its offset lies before its batch");
        }
        let (key, value) = (body.nullable()?, body.nullable()?);
        let left = usize::try_from(body.varint()?).map_err(|_| "the number of its headers is negative")?;
        let headers = RecordHeaders { left, bytes: body };
        for _ in 0..left {
            body.header()?;
        }
        if !body.0.is_empty() {
            return Err("it is shorter than its length");
        }
        Ok(RecordRef { timestamp_delta, offset_delta, key, value, headers })
    }
}
