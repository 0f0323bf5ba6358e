//! [`Encoder`]: one growing buffer for what is small, and large `Bytes` kept aside as they are.

use bytes::{BufMut, Bytes, BytesMut};
use uuid::Uuid;

use super::EncodeError;

/// `Bytes` at least this long become a segment of their own. Below it, copying is cheaper than one more entry of a
/// vectored write.
const SEGMENT_BYTES_MIN: usize = 1024;
const FRAME_PREFIX_BYTES: usize = size_of::<i32>();
/// Most responses fit; larger ones grow.
const FRAME_CAPACITY_BYTES: usize = 256;

/// Collects one frame. Large `Bytes` are not copied: `cuts` remembers where in the buffer they belong.
///
/// Invariant: the positions in `cuts` never fall and never exceed the buffer's length.
#[derive(Debug, Default)]
pub struct Encoder {
    buffer: BytesMut,
    cuts: Vec<(usize, Bytes)>,
    cut_bytes: usize,
}

impl Encoder {
    /// An empty one.
    pub fn new() -> Self {
        Self::default()
    }

    /// An empty one with room for `capacity` bytes of small values.
    pub fn with_capacity(capacity: usize) -> Self {
        Self { buffer: BytesMut::with_capacity(capacity), ..Self::default() }
    }

    /// An empty one with room in front for the four-byte length with which every request and response travels.
    pub(crate) fn for_frame() -> Self {
        let mut out = Self::with_capacity(FRAME_CAPACITY_BYTES);
        out.i32(0);
        out
    }

    /// How many bytes were written, large ones included.
    pub fn len(&self) -> usize {
        self.buffer.len() + self.cut_bytes
    }

    /// Whether nothing was written.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// One byte.
    pub fn bool(&mut self, value: bool) {
        self.buffer.put_u8(u8::from(value));
    }

    /// One byte.
    pub fn i8(&mut self, value: i8) {
        self.buffer.put_i8(value);
    }

    /// Two bytes, big endian.
    pub fn i16(&mut self, value: i16) {
        self.buffer.put_i16(value);
    }

    /// Two bytes, big endian, without sign.
    pub fn u16(&mut self, value: u16) {
        self.buffer.put_u16(value);
    }

    /// Four bytes, big endian.
    pub fn i32(&mut self, value: i32) {
        self.buffer.put_i32(value);
    }

    /// Eight bytes, big endian.
    pub fn i64(&mut self, value: i64) {
        self.buffer.put_i64(value);
    }

    /// Eight bytes of IEEE 754.
    pub fn f64(&mut self, value: f64) {
        self.buffer.put_f64(value);
    }

    /// Sixteen bytes.
    pub fn uuid(&mut self, value: Uuid) {
        self.buffer.put_slice(value.as_bytes());
    }

    /// Seven bits a byte, least significant first.
    pub fn uvarint(&mut self, value: u32) {
        let (bytes, length) = uvarint_bytes(value);
        self.buffer.put_slice(&bytes[..length]);
    }

    /// Bytes as they are, copied.
    pub fn slice(&mut self, bytes: &[u8]) {
        self.buffer.put_slice(bytes);
    }

    /// Bytes as they are; a large piece becomes a segment of its own and is not copied.
    pub fn bytes(&mut self, bytes: &Bytes) {
        if bytes.len() < SEGMENT_BYTES_MIN {
            self.buffer.put_slice(bytes);
        } else {
            self.cut_bytes += bytes.len();
            self.cuts.push((self.buffer.len(), bytes.clone()));
        }
    }

    /// A length prefix of two bytes; None is null.
    pub(super) fn length16(&mut self, length: Option<usize>) -> Result<(), EncodeError> {
        let value = length.map_or(Ok(-1), i16::try_from);
        self.i16(value.map_err(|_| EncodeError::TooLong { length: length.unwrap_or_default() })?);
        Ok(())
    }

    /// A length prefix of four bytes; None is null.
    pub(super) fn length32(&mut self, length: Option<usize>) -> Result<(), EncodeError> {
        let value = length.map_or(Ok(-1), i32::try_from);
        self.i32(value.map_err(|_| EncodeError::TooLong { length: length.unwrap_or_default() })?);
        Ok(())
    }

    /// A compact length prefix: one more than the length, 0 is null.
    pub(super) fn compact_length(&mut self, length: Option<usize>) -> Result<(), EncodeError> {
        let value = length.map_or(Ok(-1), i32::try_from);
        let value = value.map_err(|_| EncodeError::TooLong { length: length.unwrap_or_default() })?;
        self.uvarint((value + 1) as u32);
        Ok(())
    }

    /// One tagged field: tag, size, value. The size is known only after the value, which then moves up by the one to
    /// five bytes that the size takes; values of tagged fields are small.
    pub fn tagged_field(
        &mut self,
        tag: u32,
        value: impl FnOnce(&mut Self) -> Result<(), EncodeError>,
    ) -> Result<(), EncodeError> {
        self.uvarint(tag);
        let (start, before, first_cut) = (self.buffer.len(), self.len(), self.cuts.len());
        value(self)?;
        let size = self.len() - before;
        let size = u32::try_from(size).map_err(|_| EncodeError::TooLong { length: size })?;
        let (bytes, length) = uvarint_bytes(size);
        let behind = self.buffer.len();
        self.buffer.put_bytes(0, length);
        self.buffer.copy_within(start..behind, start + length);
        self.buffer[start..start + length].copy_from_slice(&bytes[..length]);
        for (position, _) in &mut self.cuts[first_cut..] {
            *position += length;
        }
        Ok(())
    }

    /// Fill in the length that [`for_frame`](Self::for_frame) left room for.
    pub(crate) fn into_frame(mut self) -> Result<Segments, EncodeError> {
        let length = self.len() - FRAME_PREFIX_BYTES;
        let prefix = i32::try_from(length).map_err(|_| EncodeError::TooLong { length })?;
        self.buffer[..FRAME_PREFIX_BYTES].copy_from_slice(&prefix.to_be_bytes());
        Ok(self.into_segments())
    }

    /// What was written, in order.
    pub fn into_segments(self) -> Segments {
        let length = self.len();
        let buffer = self.buffer.freeze();
        if self.cuts.is_empty() {
            return Segments { parts: vec![buffer], length };
        }
        let mut parts = Vec::with_capacity(2 * self.cuts.len() + 1);
        let mut start = 0;
        for (position, large) in self.cuts {
            if position > start {
                parts.push(buffer.slice(start..position));
            }
            parts.push(large);
            start = position;
        }
        if buffer.len() > start {
            parts.push(buffer.slice(start..));
        }
        Segments { parts, length }
    }

    /// What was written, as one piece; copies if there were large `Bytes`.
    pub fn into_bytes(self) -> Bytes {
        self.into_segments().into_bytes()
    }
}

/// A frame as the pieces of a vectored write.
#[derive(Clone, Debug, Default)]
pub struct Segments {
    parts: Vec<Bytes>,
    length: usize,
}

impl Segments {
    /// Bytes of all pieces.
    pub fn len(&self) -> usize {
        self.length
    }

    /// Whether there is nothing to write.
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// The pieces in the order in which they are written.
    pub fn parts(&self) -> &[Bytes] {
        &self.parts
    }

    /// One piece; copies if there are several.
    pub fn into_bytes(mut self) -> Bytes {
        if self.parts.len() == 1 {
            return self.parts.remove(0);
        }
        let mut whole = BytesMut::with_capacity(self.length);
        self.parts.iter().for_each(|part| whole.put_slice(part));
        whole.freeze()
    }
}

impl IntoIterator for Segments {
    type Item = Bytes;
    type IntoIter = std::vec::IntoIter<Bytes>;

    fn into_iter(self) -> Self::IntoIter {
        self.parts.into_iter()
    }
}

fn uvarint_bytes(mut value: u32) -> ([u8; 5], usize) {
    let mut bytes = [0; 5];
    let mut length = 0;
    while value >= 0x80 {
        bytes[length] = (value as u8) | 0x80;
        value >>= 7;
        length += 1;
    }
    bytes[length] = value as u8;
    (bytes, length + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_bytes_are_never_copied_and_keep_their_place() {
        let large = Bytes::from(vec![7; SEGMENT_BYTES_MIN]);
        let mut out = Encoder::for_frame();
        out.i16(1);
        out.bytes(&large);
        out.bytes(&large);
        out.tagged_field(300, |out| {
            out.i8(2);
            out.bytes(&large);
            out.i8(3);
            Ok(())
        })
        .expect("fits");
        let length = out.len();
        let frame = out.into_frame().expect("fits");
        assert_eq!(frame.len(), length);
        let same = frame.parts().iter().filter(|part| part.as_ptr() == large.as_ptr()).count();
        assert_eq!(same, 3, "the three large pieces are the very same memory");

        let tail = [&[0xac, 0x02, 0x82, 0x08, 2][..], &large, &[3]].concat();
        let expected = [&(length as i32 - 4).to_be_bytes()[..], &[0, 1], &large, &large, &tail].concat();
        assert_eq!(frame.into_bytes(), expected);
    }
}
