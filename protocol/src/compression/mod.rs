//! The four codecs of record batches, as Kafka's clients frame them.
//!
//! In: the records of one batch. Out: the same, smaller or larger; never more than the caller's limit, so that a few
//! kilobytes cannot unfold into gigabytes. The broker stores batches as they were sent; it only unpacks where it must
//! look inside.

mod xerial;

use std::io::{Read, Write};

use bytes::Bytes;
use lz4_flex::frame::{BlockMode, BlockSize, FrameDecoder, FrameEncoder, FrameInfo};
use thiserror::Error;

/// How the records of a batch are packed: the lowest three bits of its attributes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Compression {
    /// As they are.
    #[default]
    None = 0,
    /// RFC 1952.
    Gzip = 1,
    /// Snappy blocks in the framing of xerial's snappy-java.
    Snappy = 2,
    /// The LZ4 frame format.
    Lz4 = 3,
    /// RFC 8878 (KIP-110).
    Zstd = 4,
}

/// Records that cannot be packed or unpacked.
#[derive(Debug, Error)]
pub enum CompressionError {
    /// The codec refuses.
    #[error("{compression}: {source}")]
    Codec {
        /// Which.
        compression: Compression,
        /// What it said.
        source: std::io::Error,
    },
    /// More comes out than is allowed.
    #[error("{compression}: more than {limit} bytes come out")]
    TooLarge {
        /// Which codec.
        compression: Compression,
        /// How many bytes were allowed.
        limit: usize,
    },
}

impl Compression {
    /// All of them, by number.
    pub const ALL: [Self; 5] = [Self::None, Self::Gzip, Self::Snappy, Self::Lz4, Self::Zstd];

    /// The codec of a number, None if there is no such.
    pub fn from_id(id: u8) -> Option<Self> {
        Self::ALL.get(usize::from(id)).copied()
    }

    /// Kafka's name, as in `compression.type`.
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Gzip => "gzip",
            Self::Snappy => "snappy",
            Self::Lz4 => "lz4",
            Self::Zstd => "zstd",
        }
    }

    /// Pack.
    pub fn compress(self, plain: &[u8]) -> Result<Vec<u8>, CompressionError> {
        let packed = match self {
            Self::None => Ok(plain.to_vec()),
            Self::Gzip => gzip(plain),
            Self::Snappy => xerial::compress(plain),
            Self::Lz4 => lz4(plain),
            Self::Zstd => zstd::encode_all(plain, zstd::DEFAULT_COMPRESSION_LEVEL),
        };
        packed.map_err(|source| CompressionError::Codec { compression: self, source })
    }

    /// Unpack to at most `limit` bytes. Uncompressed bytes come back as they are, whatever the limit.
    ///
    /// Memory stays within twice the limit and the codec's own window. For zstd that is what the frame declares, up to
    /// 128 MiB of address space that is touched only as data fills it; a smaller cap would refuse what Kafka's
    /// producers make at high levels.
    pub fn decompress(self, packed: &Bytes, limit: usize) -> Result<Bytes, CompressionError> {
        let codec_error = |source| CompressionError::Codec { compression: self, source };
        let plain = match self {
            Self::None => return Ok(packed.clone()),
            Self::Gzip => read_bounded(flate2::bufread::MultiGzDecoder::new(&packed[..]), limit),
            Self::Snappy => xerial::decompress(packed, limit),
            Self::Lz4 => read_bounded(FrameDecoder::new(&packed[..]), limit),
            Self::Zstd => zstd::Decoder::with_buffer(&packed[..]).and_then(|decoder| read_bounded(decoder, limit)),
        };
        match plain.map_err(codec_error)? {
            Some(plain) => Ok(plain.into()),
            None => Err(CompressionError::TooLarge { compression: self, limit }),
        }
    }
}

impl std::fmt::Display for Compression {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

fn gzip(plain: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut out = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    out.write_all(plain)?;
    out.finish()
}

fn lz4(plain: &[u8]) -> std::io::Result<Vec<u8>> {
    // Kafka's own reader takes independent blocks only.
    let frame = FrameInfo::new().block_mode(BlockMode::Independent).block_size(BlockSize::Max64KB);
    let mut out = FrameEncoder::with_frame_info(frame, Vec::new());
    out.write_all(plain)?;
    Ok(out.finish()?)
}

/// Everything that `source` gives, or None if that is more than `limit` bytes.
fn read_bounded(source: impl Read, limit: usize) -> std::io::Result<Option<Vec<u8>>> {
    let mut plain = Vec::new();
    source.take(limit as u64 + 1).read_to_end(&mut plain)?;
    Ok((plain.len() <= limit).then_some(plain))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text() -> Vec<u8> {
        (0..40_000u32).flat_map(|n| (n / 7).to_be_bytes()).collect()
    }

    #[test]
    fn every_codec_gives_back_what_it_got() {
        for compression in Compression::ALL {
            for plain in [text(), b"short".to_vec(), vec![]] {
                let packed = Bytes::from(compression.compress(&plain).expect("packs"));
                let unpacked = compression.decompress(&packed, plain.len()).expect("unpacks");
                assert_eq!(unpacked, plain, "{compression}");
            }
        }
    }

    #[test]
    fn a_bomb_stops_at_the_limit() {
        let bomb = vec![0; 8 << 20];
        for compression in &Compression::ALL[1..] {
            let packed = Bytes::from(compression.compress(&bomb).expect("packs"));
            let result = compression.decompress(&packed, 1 << 20);
            assert!(matches!(result, Err(CompressionError::TooLarge { .. })), "{compression}: {result:?}");
        }
    }

    #[test]
    fn damage_is_an_error() {
        for compression in &Compression::ALL[1..] {
            let mut packed = compression.compress(&text()).expect("packs");
            packed.truncate(packed.len() / 2);
            let result = compression.decompress(&packed.into(), 1 << 20);
            assert!(matches!(result, Err(CompressionError::Codec { .. })), "{compression}");
            let garbage = compression.decompress(&Bytes::from_static(b"\x7f not packed at all"), 1 << 20);
            assert!(garbage.is_err(), "{compression}");
        }
    }

    #[test]
    fn a_snappy_block_is_not_believed_beyond_what_it_can_hold() {
        let claims_a_gigabyte = Bytes::from_static(&[0x80, 0x80, 0x80, 0x80, 0x04, 0, 0]);
        let result = Compression::Snappy.decompress(&claims_a_gigabyte, usize::MAX);
        assert!(matches!(result, Err(CompressionError::Codec { .. })), "{result:?}");
    }

    #[test]
    fn snappy_without_framing_is_read_too() {
        let raw = snap::raw::Encoder::new().compress_vec(&text()).expect("packs");
        assert_eq!(Compression::Snappy.decompress(&raw.into(), 1 << 20).expect("unpacks"), text());
    }
}
