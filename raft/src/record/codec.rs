//! The primitives of the record and snapshot formats.
//!
//! The decoder reads from a slice that is already in memory and reserves nothing on a peer's word: a list may not
//! claim more elements than bytes remain, and a string not more bytes.

use uuid::Uuid;

/// Bytes that are no record this build can replay. Fatal for whoever replays the log.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// The bytes end inside a value.
    #[error("the bytes end inside a value")]
    Truncated,
    /// A record ended before its frame did: written by a newer build.
    #[error("{count} bytes follow the last known field of record type {kind} version {version}")]
    TrailingBytes {
        /// The record's type.
        kind: u64,
        /// Its version.
        version: u64,
        /// How many bytes nobody read.
        count: usize,
    },
    /// Bytes follow the last record of the entry.
    #[error("{0} bytes follow the last record")]
    TrailingEntryBytes(usize),
    /// Not an entry of ours, or one of a newer format.
    #[error("unknown entry format {0}")]
    UnknownFormat(u8),
    /// A type this build does not know.
    #[error("unknown record type {0}")]
    UnknownType(u64),
    /// A version this build does not know.
    #[error("unknown version {version} of record type {kind}")]
    UnknownVersion {
        /// The record's type.
        kind: u64,
        /// Its version.
        version: u64,
    },
    /// A value of an enumeration, or a flag, this build does not know.
    #[error("unknown {what}: {value}")]
    UnknownValue {
        /// What it enumerates.
        what: &'static str,
        /// The value.
        value: u64,
    },
    /// A number outside its type, or with superfluous bytes.
    #[error("a number is out of range or not in its shortest form")]
    BadNumber,
    /// A string that is not UTF-8.
    #[error("a string is not UTF-8")]
    BadString,
    /// More bytes or elements than can be.
    #[error("a length of {0} exceeds what can be there")]
    TooLong(u64),
}

/// Writes primitives into a growing buffer.
#[derive(Default)]
pub(crate) struct Encoder {
    buffer: Vec<u8>,
}

impl Encoder {
    pub(crate) fn new() -> Self {
        Self::default()
    }
    pub(crate) fn into_inner(self) -> Vec<u8> {
        self.buffer
    }
    pub(crate) fn as_slice(&self) -> &[u8] {
        &self.buffer
    }
    pub(crate) fn clear(&mut self) {
        self.buffer.clear();
    }
    pub(crate) fn len(&self) -> usize {
        self.buffer.len()
    }
    pub(crate) fn raw(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }
    pub(crate) fn u8(&mut self, value: u8) {
        self.buffer.push(value);
    }
    pub(crate) fn bool(&mut self, value: bool) {
        self.u8(u8::from(value));
    }
    pub(crate) fn u64(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.buffer.push((value as u8) | 0x80);
            value >>= 7;
        }
        self.buffer.push(value as u8);
    }
    pub(crate) fn u16(&mut self, value: u16) {
        self.u64(u64::from(value));
    }
    pub(crate) fn i64(&mut self, value: i64) {
        self.u64(((value << 1) ^ (value >> 63)) as u64);
    }
    pub(crate) fn i32(&mut self, value: i32) {
        self.i64(i64::from(value));
    }
    pub(crate) fn i16(&mut self, value: i16) {
        self.i64(i64::from(value));
    }
    /// Eight bytes, most significant first: a bit pattern, so that NaN and −0 survive.
    pub(crate) fn f64(&mut self, value: f64) {
        self.raw(&value.to_bits().to_be_bytes());
    }
    pub(crate) fn uuid(&mut self, value: Uuid) {
        self.raw(value.as_bytes());
    }
    pub(crate) fn count(&mut self, count: usize) {
        self.u64(count as u64);
    }
    pub(crate) fn bytes(&mut self, bytes: &[u8]) {
        self.count(bytes.len());
        self.raw(bytes);
    }
    pub(crate) fn string(&mut self, text: &str) {
        self.bytes(text.as_bytes());
    }
    pub(crate) fn option<T>(&mut self, value: Option<T>, encode: impl FnOnce(&mut Self, T)) {
        self.bool(value.is_some());
        if let Some(value) = value {
            encode(self, value);
        }
    }
    pub(crate) fn list<T>(&mut self, list: &[T], mut encode: impl FnMut(&mut Self, &T)) {
        self.count(list.len());
        for item in list {
            encode(self, item);
        }
    }
}

/// Reads primitives out of a slice.
pub(crate) struct Decoder<'a> {
    rest: &'a [u8],
}

impl<'a> Decoder<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }
    pub(crate) fn remaining(&self) -> usize {
        self.rest.len()
    }
    pub(crate) fn take(&mut self, count: usize) -> Result<&'a [u8], RecordError> {
        let (head, rest) = self.rest.split_at_checked(count).ok_or(RecordError::Truncated)?;
        self.rest = rest;
        Ok(head)
    }
    pub(crate) fn u8(&mut self) -> Result<u8, RecordError> {
        Ok(self.take(1)?[0])
    }
    pub(crate) fn bool(&mut self) -> Result<bool, RecordError> {
        match self.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            other => Err(RecordError::UnknownValue { what: "boolean", value: u64::from(other) }),
        }
    }
    pub(crate) fn u64(&mut self) -> Result<u64, RecordError> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.u8()?;
            let bits = u64::from(byte & 0x7f);
            if shift == 63 && bits > 1 {
                return Err(RecordError::BadNumber);
            }
            value |= bits << shift;
            if byte & 0x80 == 0 {
                // One value, one encoding: a padded number would make two byte strings of one record.
                return if byte == 0 && shift > 0 { Err(RecordError::BadNumber) } else { Ok(value) };
            }
        }
        Err(RecordError::BadNumber)
    }
    pub(crate) fn u16(&mut self) -> Result<u16, RecordError> {
        u16::try_from(self.u64()?).map_err(|_| RecordError::BadNumber)
    }
    pub(crate) fn i64(&mut self) -> Result<i64, RecordError> {
        let raw = self.u64()?;
        Ok(((raw >> 1) as i64) ^ -((raw & 1) as i64))
    }
    pub(crate) fn i32(&mut self) -> Result<i32, RecordError> {
        i32::try_from(self.i64()?).map_err(|_| RecordError::BadNumber)
    }
    pub(crate) fn i16(&mut self) -> Result<i16, RecordError> {
        i16::try_from(self.i64()?).map_err(|_| RecordError::BadNumber)
    }
    pub(crate) fn f64(&mut self) -> Result<f64, RecordError> {
        let bytes = self.take(8)?.try_into().expect("take gave eight bytes");
        Ok(f64::from_bits(u64::from_be_bytes(bytes)))
    }
    pub(crate) fn uuid(&mut self) -> Result<Uuid, RecordError> {
        Ok(Uuid::from_bytes(self.take(16)?.try_into().expect("take gave sixteen bytes")))
    }
    /// A number of elements, each of which takes at least `min_bytes`.
    pub(crate) fn count(&mut self, min_bytes: usize) -> Result<usize, RecordError> {
        let count = self.u64()?;
        match usize::try_from(count) {
            Ok(n) if n.checked_mul(min_bytes).is_some_and(|bytes| bytes <= self.rest.len()) => Ok(n),
            _ => Err(RecordError::TooLong(count)),
        }
    }
    pub(crate) fn slice(&mut self) -> Result<&'a [u8], RecordError> {
        let count = self.count(1)?;
        self.take(count)
    }
    pub(crate) fn bytes(&mut self) -> Result<Vec<u8>, RecordError> {
        Ok(self.slice()?.to_vec())
    }
    pub(crate) fn str(&mut self) -> Result<&'a str, RecordError> {
        std::str::from_utf8(self.slice()?).map_err(|_| RecordError::BadString)
    }
    pub(crate) fn string(&mut self) -> Result<String, RecordError> {
        self.str().map(str::to_owned)
    }
    pub(crate) fn option<T>(
        &mut self,
        decode: impl FnOnce(&mut Self) -> Result<T, RecordError>,
    ) -> Result<Option<T>, RecordError> {
        if self.bool()? { decode(self).map(Some) } else { Ok(None) }
    }
    pub(crate) fn list<T>(
        &mut self,
        mut decode: impl FnMut(&mut Self) -> Result<T, RecordError>,
    ) -> Result<Vec<T>, RecordError> {
        // The claimed count is checked against the bytes, but an element in memory is larger than its bytes: grow
        // with what was really read.
        let count = self.count(1)?;
        let mut list = Vec::with_capacity(count.min(64));
        for _ in 0..count {
            list.push(decode(self)?);
        }
        Ok(list)
    }
    pub(crate) fn known<T>(
        &mut self,
        what: &'static str,
        from_id: impl FnOnce(u8) -> Option<T>,
    ) -> Result<T, RecordError> {
        let id = self.u8()?;
        from_id(id).ok_or(RecordError::UnknownValue { what, value: u64::from(id) })
    }
}
