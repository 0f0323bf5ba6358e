//! Frames: what follows the handshake, both ways.
//!
//! ```text
//! length u32        bytes after this field: 24 + body
//! kind u16          what is asked; a response repeats it
//! flags u16         1 = response, 2 = error response; others are not known and end the connection
//! correlation u64   pairs a response with its request, unique per connection
//! checked u32       how many of the body's first bytes `body crc` covers
//! body crc u32      CRC-32C of those
//! header crc u32    CRC-32C of the 24 bytes before it: a wrong length is noticed before it is believed
//! body
//! ```

use bytes::{Buf, BufMut, Bytes, BytesMut};
use std::io;
use std::sync::Arc;
use tokio::io::{AsyncRead, AsyncReadExt};

use super::PeerError;

/// Bytes of a frame before its body.
pub(super) const HEADER_LEN: usize = 28;
const AFTER_LENGTH: usize = HEADER_LEN - 4;
// A body is read into a buffer of at most this, which then grows with what has really arrived.
const READ_INITIAL: usize = 1024 * 1024;

const FLAG_RESPONSE: u16 = 1;
const FLAG_ERROR: u16 = 2;

/// How much of a body its checksum covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Coverage {
    /// All of it.
    All,
    /// Its first segment: the others protect themselves.
    FirstSegment,
}

/// What a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    Request,
    Response,
    /// The body is an encoded [`PeerError`].
    ErrorResponse,
}

/// A frame on its way out: its header, encoded, and the segments of its body.
pub(super) struct Outbound {
    pub header: Bytes,
    pub segments: Vec<Bytes>,
}

/// A parsed header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FrameHeader {
    pub kind: u16,
    pub role: Role,
    pub correlation: u64,
    pub body_len: usize,
    checked: usize,
    body_crc: u32,
}

/// Why the bytes on a connection are no frame.
#[derive(Debug, thiserror::Error)]
pub(super) enum FrameError {
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("the stream ends inside a frame")]
    Truncated,
    #[error("a frame of {size} bytes exceeds the lane's {limit}")]
    TooLarge { size: usize, limit: usize },
    #[error("a frame of {0} bytes is shorter than its header")]
    TooShort(usize),
    #[error("a frame's header fails its checksum")]
    HeaderChecksum,
    #[error("a frame's body fails its checksum")]
    BodyChecksum,
    #[error("a frame has unknown flags {0:#x}")]
    Flags(u16),
    #[error("a frame's checksum covers more than its body")]
    Coverage,
    #[error("a frame's body did not arrive in time")]
    Stalled,
    #[error("a request came where a response belongs, or the reverse")]
    Role,
    #[error("an error response does not decode")]
    ErrorBody,
}

impl FrameError {
    /// Whether the peer, or what stands between, sent something wrong, rather than just going away.
    pub fn is_violation(&self) -> bool {
        !matches!(self, FrameError::Io(_) | FrameError::Truncated)
    }
}

/// Makes a frame; its body must not exceed `limit` bytes.
pub(super) fn encode(
    kind: u16,
    role: Role,
    correlation: u64,
    segments: Vec<Bytes>,
    coverage: Coverage,
    limit: usize,
) -> Result<Outbound, PeerError> {
    let size: usize = segments.iter().map(Bytes::len).sum();
    if size > limit {
        return Err(PeerError::TooLarge { size, limit });
    }
    let covered = match coverage {
        Coverage::All => &segments[..],
        Coverage::FirstSegment => &segments[..segments.len().min(1)],
    };
    let checked: usize = covered.iter().map(Bytes::len).sum();
    let body_crc = covered.iter().fold(0, |crc, segment| crc32c::crc32c_append(crc, segment));
    let mut header = BytesMut::with_capacity(HEADER_LEN);
    header.put_u32(u32::try_from(AFTER_LENGTH + size).expect("the lane's bound is far below 4 GiB"));
    header.put_u16(kind);
    header.put_u16(match role {
        Role::Request => 0,
        Role::Response => FLAG_RESPONSE,
        Role::ErrorResponse => FLAG_RESPONSE | FLAG_ERROR,
    });
    header.put_u64(correlation);
    header.put_u32(u32::try_from(checked).expect("no more than the body"));
    header.put_u32(body_crc);
    header.put_u32(crc32c::crc32c(&header));
    Ok(Outbound { header: header.freeze(), segments })
}

impl FrameHeader {
    fn parse(bytes: &[u8; HEADER_LEN], limit: usize) -> Result<Self, FrameError> {
        let mut buf = &bytes[..];
        let length = buf.get_u32() as usize;
        let kind = buf.get_u16();
        let flags = buf.get_u16();
        let correlation = buf.get_u64();
        let checked = buf.get_u32() as usize;
        let body_crc = buf.get_u32();
        if buf.get_u32() != crc32c::crc32c(&bytes[..HEADER_LEN - 4]) {
            return Err(FrameError::HeaderChecksum);
        }
        let body_len = length.checked_sub(AFTER_LENGTH).ok_or(FrameError::TooShort(length))?;
        if body_len > limit {
            return Err(FrameError::TooLarge { size: body_len, limit });
        }
        if checked > body_len {
            return Err(FrameError::Coverage);
        }
        let role = match flags {
            0 => Role::Request,
            FLAG_RESPONSE => Role::Response,
            3 => Role::ErrorResponse,
            unknown => return Err(FrameError::Flags(unknown)),
        };
        Ok(Self { kind, role, correlation, body_len, checked, body_crc })
    }
}

/// Reads the next frame's header; `None` when the stream ends between two frames. Not cancel-safe.
pub(super) async fn read_header<R: AsyncRead + Unpin>(
    reader: &mut R,
    limit: usize,
) -> Result<Option<FrameHeader>, FrameError> {
    let mut bytes = [0u8; HEADER_LEN];
    let mut filled = 0;
    while filled < HEADER_LEN {
        match reader.read(&mut bytes[filled..]).await? {
            0 if filled == 0 => return Ok(None),
            0 => return Err(FrameError::Truncated),
            n => filled += n,
        }
    }
    FrameHeader::parse(&bytes, limit).map(Some)
}

/// Reads the body that belongs to a header. Not cancel-safe.
pub(super) async fn read_body<R: AsyncRead + Unpin>(reader: &mut R, header: &FrameHeader) -> Result<Bytes, FrameError> {
    let mut body = BytesMut::with_capacity(header.body_len.min(READ_INITIAL));
    let mut rest = reader.take(header.body_len as u64);
    while body.len() < header.body_len {
        if body.len() == body.capacity() {
            // Twice what has arrived, and never more than what is still to come.
            body.reserve(body.len().min(header.body_len - body.len()));
        }
        if rest.read_buf(&mut body).await? == 0 {
            return Err(FrameError::Truncated);
        }
    }
    if crc32c::crc32c(&body[..header.checked]) != header.body_crc {
        return Err(FrameError::BodyChecksum);
    }
    Ok(body.freeze())
}

const ERROR_OVERLOADED: u16 = 1;
const ERROR_TOO_LARGE: u16 = 2;
const ERROR_UNKNOWN_KIND: u16 = 3;
const ERROR_SHUTTING_DOWN: u16 = 4;
const ERROR_SERVICE: u16 = 5;
const ERROR_MESSAGE_MAX: usize = 1024;

/// The body of an error response: number u16, two numbers u32, a sentence.
pub(super) fn encode_error(error: &PeerError) -> Bytes {
    let (number, first, second, message) = match error {
        PeerError::Overloaded => (ERROR_OVERLOADED, 0, 0, ""),
        PeerError::TooLarge { size, limit } => (ERROR_TOO_LARGE, saturate(*size), saturate(*limit), ""),
        PeerError::UnknownKind(kind) => (ERROR_UNKNOWN_KIND, u32::from(*kind), 0, ""),
        PeerError::ShuttingDown => (ERROR_SHUTTING_DOWN, 0, 0, ""),
        PeerError::Service { code, message } => (ERROR_SERVICE, u32::from(*code), 0, &**message),
        // A service that passes on an error of its own calls to other nodes: what it says to people is all that is left of it.
        other => {
            let message = other.to_string();
            return encode_error(&PeerError::Service { code: u16::MAX, message: message.into() });
        }
    };
    let message = &message[..message.floor_char_boundary(ERROR_MESSAGE_MAX)];
    let mut body = BytesMut::with_capacity(10 + message.len());
    body.put_u16(number);
    body.put_u32(first);
    body.put_u32(second);
    body.put_slice(message.as_bytes());
    body.freeze()
}

/// The error in an error response; `None` when its bytes are none of ours.
pub(super) fn decode_error(mut body: Bytes) -> Option<PeerError> {
    let number = body.try_get_u16().ok()?;
    let first = body.try_get_u32().ok()?;
    let second = body.try_get_u32().ok()?;
    Some(match number {
        ERROR_OVERLOADED => PeerError::Overloaded,
        ERROR_TOO_LARGE => PeerError::TooLarge { size: first as usize, limit: second as usize },
        ERROR_UNKNOWN_KIND => PeerError::UnknownKind(u16::try_from(first).ok()?),
        ERROR_SHUTTING_DOWN => PeerError::ShuttingDown,
        ERROR_SERVICE => {
            let message: Arc<str> = String::from_utf8_lossy(&body[..body.len().min(ERROR_MESSAGE_MAX)]).into();
            PeerError::Service { code: u16::try_from(first).ok()?, message }
        }
        _ => return None,
    })
}

fn saturate(size: usize) -> u32 {
    u32::try_from(size).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn wire(frame: &Outbound) -> Vec<u8> {
        let mut bytes = frame.header.to_vec();
        frame.segments.iter().for_each(|segment| bytes.extend_from_slice(segment));
        bytes
    }

    async fn read(mut bytes: &[u8], limit: usize) -> Result<Option<(FrameHeader, Bytes)>, FrameError> {
        let Some(header) = read_header(&mut bytes, limit).await? else { return Ok(None) };
        let body = read_body(&mut bytes, &header).await?;
        Ok(Some((header, body)))
    }

    fn frame(coverage: Coverage) -> Vec<u8> {
        let segments = vec![Bytes::from_static(b"head"), Bytes::new(), Bytes::from_static(b"batches")];
        wire(&encode(9, Role::Response, 77, segments, coverage, 100).expect("fits"))
    }

    #[tokio::test]
    async fn a_frame_survives_its_bytes() {
        for coverage in [Coverage::All, Coverage::FirstSegment] {
            let (header, body) = read(&frame(coverage), 100).await.expect("reads").expect("a frame");
            assert_eq!((header.kind, header.role, header.correlation), (9, Role::Response, 77));
            assert_eq!(&body[..], b"headbatches");
        }
        assert!(read(&[], 100).await.expect("a clean end").is_none());
    }

    #[tokio::test]
    async fn a_flipped_bit_is_noticed_wherever_it_is_covered() {
        let whole = frame(Coverage::All);
        for bit in 0..whole.len() * 8 {
            let mut bytes = whole.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert!(read(&bytes, 100).await.is_err(), "bit {bit}");
        }
        let mut bytes = frame(Coverage::FirstSegment);
        *bytes.last_mut().expect("not empty") ^= 1;
        assert!(read(&bytes, 100).await.is_ok(), "batches carry a checksum of their own");
    }

    #[tokio::test]
    async fn a_frame_beyond_the_bound_is_refused_at_both_ends() {
        let error = encode(1, Role::Request, 1, vec![Bytes::from_static(&[0; 101])], Coverage::All, 100).err();
        assert_eq!(error, Some(PeerError::TooLarge { size: 101, limit: 100 }));
        let sent =
            wire(&encode(1, Role::Request, 1, vec![Bytes::from_static(&[0; 101])], Coverage::All, 200).expect("fits"));
        assert!(matches!(read(&sent, 100).await, Err(FrameError::TooLarge { size: 101, limit: 100 })));
    }

    #[test]
    fn errors_of_a_service_survive_their_bytes() {
        let long: Arc<str> = "ü".repeat(2000).into();
        for error in [
            PeerError::Overloaded,
            PeerError::UnknownKind(9),
            PeerError::ShuttingDown,
            PeerError::TooLarge { size: 7, limit: 6 },
            PeerError::Service { code: 3, message: "no".into() },
        ] {
            assert_eq!(decode_error(encode_error(&error)), Some(error));
        }
        let cut = decode_error(encode_error(&PeerError::Service { code: 1, message: long }));
        assert!(matches!(cut, Some(PeerError::Service { message, .. }) if message.len() == ERROR_MESSAGE_MAX));
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
            let _ = runtime.block_on(read(&bytes, 1 << 20));
            let _ = decode_error(Bytes::from(bytes));
        }
    }
}
