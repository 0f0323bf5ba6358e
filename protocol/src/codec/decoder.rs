//! [`Decoder`]: a cursor over one frame.

use bytes::Bytes;
use smol_str::SmolStr;
use uuid::Uuid;

use super::DecodeError;

/// How much memory the arrays of one frame may take: `floor` + `factor` × the frame's size.
///
/// A frame is bounded anyway, by the least wire size of its elements: some forty times its size in the worst case, with
/// nothing but empty names in it. Real requests need less than four. The default lets small frames be and keeps large
/// ones within eight times.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DecodeLimits {
    /// Bytes that any frame may use.
    pub floor: usize,
    /// Further bytes for each byte of the frame.
    pub factor: usize,
}

impl Default for DecodeLimits {
    fn default() -> Self {
        Self { floor: 1 << 20, factor: 8 }
    }
}

/// A cursor over one frame. Invariant: `position <= end <= frame.len()`; every read is checked against `end` first.
#[derive(Debug)]
pub struct Decoder {
    frame: Bytes,
    position: usize,
    end: usize,
    /// Bytes that arrays may still take.
    array_bytes_left: usize,
}

impl Decoder {
    /// Start at the first byte of `frame`, with the default limits.
    pub fn new(frame: Bytes) -> Self {
        Self::with_limits(frame, DecodeLimits::default())
    }

    /// Start at the first byte of `frame`.
    pub fn with_limits(frame: Bytes, limits: DecodeLimits) -> Self {
        let end = frame.len();
        let array_bytes_left = limits.floor.saturating_add(limits.factor.saturating_mul(end));
        Self { frame, position: 0, end, array_bytes_left }
    }

    /// How many bytes are left.
    pub fn remaining(&self) -> usize {
        self.end - self.position
    }

    /// How many bytes were read.
    pub fn position(&self) -> usize {
        self.position
    }

    fn advance(&mut self, length: usize) -> Result<usize, DecodeError> {
        let start = self.position;
        if length > self.remaining() {
            return Err(DecodeError::Truncated { offset: start, needed: length, remaining: self.remaining() });
        }
        self.position += length;
        Ok(start)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let start = self.advance(N)?;
        Ok(self.frame[start..start + N].try_into().expect("the slice has N bytes"))
    }

    /// One byte; anything but 0 is true, as in Kafka.
    pub fn bool(&mut self) -> Result<bool, DecodeError> {
        Ok(self.i8()? != 0)
    }

    /// One byte.
    pub fn i8(&mut self) -> Result<i8, DecodeError> {
        self.array().map(i8::from_be_bytes)
    }

    /// Two bytes, big endian.
    pub fn i16(&mut self) -> Result<i16, DecodeError> {
        self.array().map(i16::from_be_bytes)
    }

    /// Two bytes, big endian, without sign.
    pub fn u16(&mut self) -> Result<u16, DecodeError> {
        self.array().map(u16::from_be_bytes)
    }

    /// Four bytes, big endian.
    pub fn i32(&mut self) -> Result<i32, DecodeError> {
        self.array().map(i32::from_be_bytes)
    }

    /// Eight bytes, big endian.
    pub fn i64(&mut self) -> Result<i64, DecodeError> {
        self.array().map(i64::from_be_bytes)
    }

    /// Eight bytes of IEEE 754.
    pub fn f64(&mut self) -> Result<f64, DecodeError> {
        self.array().map(f64::from_be_bytes)
    }

    /// Sixteen bytes.
    pub fn uuid(&mut self) -> Result<Uuid, DecodeError> {
        self.array().map(Uuid::from_bytes)
    }

    /// Seven bits a byte, least significant first, at most 32 bits.
    pub fn uvarint(&mut self) -> Result<u32, DecodeError> {
        let offset = self.position;
        let mut value = 0u64;
        for shift in (0..35).step_by(7) {
            let byte = self.array::<1>()?[0];
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return u32::try_from(value).map_err(|_| DecodeError::VarintTooLong { offset });
            }
        }
        Err(DecodeError::VarintTooLong { offset })
    }

    /// `length` bytes as a slice of the frame: no copy, but the frame lives as long as the slice.
    pub fn slice(&mut self, length: usize) -> Result<Bytes, DecodeError> {
        let start = self.advance(length)?;
        Ok(self.frame.slice(start..start + length))
    }

    /// `length` bytes of UTF-8.
    pub fn text(&mut self, length: usize) -> Result<SmolStr, DecodeError> {
        let offset = self.advance(length)?;
        let text = std::str::from_utf8(&self.frame[offset..offset + length]);
        text.map(SmolStr::new).map_err(|_| DecodeError::InvalidUtf8 { offset })
    }

    /// A length prefix of two bytes; None is null.
    pub(super) fn length16(&mut self) -> Result<Option<usize>, DecodeError> {
        let length = self.i16()?;
        self.length(i64::from(length))
    }

    /// A length prefix of four bytes; None is null.
    pub(super) fn length32(&mut self) -> Result<Option<usize>, DecodeError> {
        let length = self.i32()?;
        self.length(i64::from(length))
    }

    /// A compact length prefix: one more than the length, 0 is null.
    pub(super) fn compact_length(&mut self) -> Result<Option<usize>, DecodeError> {
        let length = i64::from(self.uvarint()?) - 1;
        self.length(length)
    }

    fn length(&self, length: i64) -> Result<Option<usize>, DecodeError> {
        match length {
            -1 => Ok(None),
            0.. => Ok(Some(length as usize)),
            _ => Err(DecodeError::NegativeLength { offset: self.position, length }),
        }
    }

    /// Check the claim of an array of `count` elements, each of at least `least_wire` bytes and `in_memory` bytes once
    /// read.
    pub(super) fn charge(&mut self, count: usize, least_wire: usize, in_memory: usize) -> Result<(), DecodeError> {
        let (offset, remaining) = (self.position, self.remaining());
        if count.saturating_mul(least_wire.max(1)) > remaining {
            return Err(DecodeError::ArrayTooLong { offset, claimed: count, remaining });
        }
        match self.array_bytes_left.checked_sub(count.saturating_mul(in_memory)) {
            Some(left) => self.array_bytes_left = left,
            None => return Err(DecodeError::TooMuchMemory { offset }),
        }
        Ok(())
    }

    /// The tagged fields at the end of a flexible struct (KIP-482). `known` reads the value of a tag and says true, or
    /// reads nothing and says false: such a field of a later version is skipped. Brokers act on what they know and
    /// forward nothing, so unknown fields are not kept.
    pub fn tagged_fields(
        &mut self,
        mut known: impl FnMut(&mut Self, u32) -> Result<bool, DecodeError>,
    ) -> Result<(), DecodeError> {
        for _ in 0..self.uvarint()? {
            let tag = self.uvarint()?;
            let declared = self.uvarint()? as usize;
            let start = self.advance(declared)?;
            let (behind, outer_end) = (self.position, self.end);
            (self.position, self.end) = (start, behind);
            if known(self, tag)? && self.position != behind {
                let used = self.position - start;
                return Err(DecodeError::TaggedFieldSize { offset: self.position, tag, declared, used });
            }
            (self.position, self.end) = (behind, outer_end);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decoder(bytes: &'static [u8]) -> Decoder {
        Decoder::new(Bytes::from_static(bytes))
    }

    #[test]
    fn a_varint_has_at_most_32_bits() {
        assert_eq!(decoder(&[0xff, 0xff, 0xff, 0xff, 0x0f]).uvarint(), Ok(u32::MAX));
        assert_eq!(decoder(&[0xac, 0x02]).uvarint(), Ok(300));
        let too_long = Err(DecodeError::VarintTooLong { offset: 0 });
        assert_eq!(decoder(&[0xff, 0xff, 0xff, 0xff, 0x1f]).uvarint(), too_long);
        assert_eq!(decoder(&[0x80, 0x80, 0x80, 0x80, 0x80, 0x01]).uvarint(), too_long);
        assert!(matches!(decoder(&[0x80]).uvarint(), Err(DecodeError::Truncated { .. })));
    }

    #[test]
    fn unknown_tags_are_skipped_and_known_ones_must_fill_their_size() {
        let bytes = &[3, 0, 1, 7, 5, 2, 9, 9, 9, 0, 42];
        let mut read = Vec::new();
        let mut frame = decoder(bytes);
        frame
            .tagged_fields(|input, tag| {
                if tag == 0 {
                    read.push(input.i8()?);
                }
                Ok(tag == 0)
            })
            .expect("valid");
        assert_eq!((read, frame.i8()), (vec![7], Ok(42)));

        let short = decoder(&[1, 0, 2, 7, 7]).tagged_fields(|input, _| input.i8().map(|_| true));
        assert!(matches!(short, Err(DecodeError::TaggedFieldSize { declared: 2, used: 1, .. })));
        let beyond = decoder(&[1, 0, 1, 7, 7]).tagged_fields(|input, _| input.i16().map(|_| true));
        assert!(matches!(beyond, Err(DecodeError::Truncated { needed: 2, remaining: 1, .. })), "{beyond:?}");
    }

    #[test]
    fn lengths_below_null_are_refused() {
        assert_eq!(decoder(&[0xff, 0xff]).length16(), Ok(None));
        assert_eq!(decoder(&[0xff, 0xfe]).length16(), Err(DecodeError::NegativeLength { offset: 2, length: -2 }));
        assert_eq!(decoder(&[0]).compact_length(), Ok(None));
    }
}
