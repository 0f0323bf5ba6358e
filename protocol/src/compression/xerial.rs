//! The framing that snappy-java puts around snappy blocks, and with it every Kafka client on the JVM.
//!
//! Sixteen bytes (a magic of eight, its version, the oldest version that can read it), then blocks: a big-endian length
//! of four bytes and one raw snappy block of at most 32 KiB. Some clients send one raw block without framing; that is
//! read as well.

use std::io::{Error, ErrorKind};

use bytes::Buf;
use snap::raw::{Decoder, Encoder, decompress_len};

const MAGIC: [u8; 8] = [0x82, b'S', b'N', b'A', b'P', b'P', b'Y', 0];
const HEADER_BYTES: usize = 16;
const BLOCK_BYTES: usize = 32 << 10;
/// An element of a snappy block makes at most 64 bytes out of three: a block that claims more lies.
const EXPANSION_MAX: usize = 32;

/// Pack with framing.
pub(super) fn compress(plain: &[u8]) -> Result<Vec<u8>, Error> {
    let mut out = Vec::with_capacity(HEADER_BYTES + plain.len() / 2);
    out.extend_from_slice(&MAGIC);
    out.extend_from_slice(&1u32.to_be_bytes());
    out.extend_from_slice(&1u32.to_be_bytes());
    let mut encoder = Encoder::new();
    for block in plain.chunks(BLOCK_BYTES) {
        let packed = encoder.compress_vec(block)?;
        out.extend_from_slice(&(packed.len() as u32).to_be_bytes());
        out.extend_from_slice(&packed);
    }
    Ok(out)
}

/// Unpack with or without framing; None if more than `limit` bytes would come out.
pub(super) fn decompress(packed: &[u8], limit: usize) -> Result<Option<Vec<u8>>, Error> {
    let mut plain = Vec::new();
    if !packed.starts_with(&MAGIC) {
        return Ok(append_block(packed, &mut plain, limit)?.then_some(plain));
    }
    let truncated = || Error::new(ErrorKind::UnexpectedEof, "the xerial framing ends inside a block");
    let mut rest = packed.get(HEADER_BYTES..).ok_or_else(truncated)?;
    while !rest.is_empty() {
        if rest.len() < 4 {
            return Err(truncated());
        }
        let length = rest.get_u32() as usize;
        let block = rest.get(..length).ok_or_else(truncated)?;
        if !append_block(block, &mut plain, limit)? {
            return Ok(None);
        }
        rest.advance(length);
    }
    Ok(Some(plain))
}

/// False if the block would go beyond the limit. It says its size in front, and is believed only as far as it can be
/// true.
fn append_block(block: &[u8], plain: &mut Vec<u8>, limit: usize) -> Result<bool, Error> {
    let (start, length) = (plain.len(), decompress_len(block)?);
    if length > block.len().saturating_mul(EXPANSION_MAX) {
        return Err(Error::new(ErrorKind::InvalidData, "a snappy block claims more than it can hold"));
    }
    if length > limit - start {
        return Ok(false);
    }
    plain.resize(start + length, 0);
    let written = Decoder::new().decompress(block, &mut plain[start..])?;
    plain.truncate(start + written);
    Ok(true)
}
