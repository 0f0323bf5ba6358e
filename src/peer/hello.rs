//! The handshake: one hello, one reply, each a bounded message of its own.
//!
//! ```text
//! message  magic "ROOKPEER" · length u16 · payload · crc32c(magic, length, payload) u32
//! hello    version min u16 · version max u16 · lane u8 · identity · target node i32 · target directory? · auth kind u16 · auth u16+bytes
//! reply    status u16 (0 = accepted) · version u16 · version min u16 · version max u16 · identity
//! identity cluster id? · node i32 · directory 16 · incarnation 16 · broker epoch i64
//! x?       0u8, or 1u8 and the 16 bytes
//! ```
//!
//! A later version may append fields: what follows the known ones is ignored. These two messages are the only ones read before
//! the other end is known, so their bound is small.

use super::{Lane, PeerError, PeerIdentity, Refusal};
use bytes::{Buf, BufMut, TryGetError};
use rookery_raft::ids::{BrokerEpoch, ClusterId, DirectoryId, IncarnationId, NodeId};
use std::io;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use uuid::Uuid;

/// Oldest version of the inter-broker protocol this build speaks.
pub const VERSION_MIN: u16 = 1;
/// Newest version of the inter-broker protocol this build speaks.
pub const VERSION_MAX: u16 = 1;

const MAGIC: &[u8; 8] = b"ROOKPEER";
const PAYLOAD_MAX: usize = 2048;

/// Why a handshake message is none.
#[derive(Debug, thiserror::Error)]
pub(super) enum HelloError {
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("not the inter-broker protocol (no magic)")]
    Magic,
    #[error("a handshake of {0} bytes exceeds the bound")]
    TooLong(usize),
    #[error("the handshake fails its checksum")]
    Checksum,
    #[error("the handshake ends early")]
    Truncated,
    #[error("the handshake has an invalid field")]
    Field,
}

impl From<TryGetError> for HelloError {
    fn from(_: TryGetError) -> Self {
        HelloError::Truncated
    }
}

/// What the dialling end says first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Hello {
    pub version_min: u16,
    pub version_max: u16,
    /// As on the wire: an unknown lane is refused with a reply, not cut off.
    pub lane: u8,
    pub identity: PeerIdentity,
    pub target_node: NodeId,
    pub target_directory: Option<DirectoryId>,
    /// 0 = none; the credentials' bytes are read and not kept.
    pub auth_kind: u16,
}

/// What the accepting end answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct HelloReply {
    /// The chosen version, or why not.
    pub outcome: Result<u16, Refusal>,
    pub identity: PeerIdentity,
}

impl Hello {
    pub fn new(identity: PeerIdentity, lane: Lane, target_node: NodeId, target_directory: Option<DirectoryId>) -> Self {
        let (version_min, version_max) = (VERSION_MIN, VERSION_MAX);
        Self { version_min, version_max, lane: lane as u8, identity, target_node, target_directory, auth_kind: 0 }
    }

    /// What the accepting end thinks of it: the version and lane to speak, or the reason against.
    pub fn judge(&self, local: &PeerIdentity) -> Result<(u16, Lane), Refusal> {
        let version = self.version_max.min(VERSION_MAX);
        if version < self.version_min.max(VERSION_MIN) {
            return Err(Refusal::Version);
        }
        if self.auth_kind != 0 {
            return Err(Refusal::Authentication);
        }
        // One side unformed is no mismatch: this is how an empty node learns that a cluster exists.
        if let (Some(theirs), Some(ours)) = (self.identity.cluster_id, local.cluster_id)
            && theirs != ours
        {
            return Err(Refusal::Cluster);
        }
        if self.target_node != local.node_id || self.target_directory.is_some_and(|id| id != local.directory_id) {
            return Err(Refusal::Target);
        }
        if self.identity.node_id == local.node_id && self.identity.incarnation != local.incarnation {
            return Err(Refusal::DuplicateNodeId);
        }
        let lane = Lane::from_wire(self.lane).ok_or(Refusal::Lane)?;
        Ok((version, lane))
    }

    fn encode(&self) -> Vec<u8> {
        let mut payload = Vec::with_capacity(128);
        payload.put_u16(self.version_min);
        payload.put_u16(self.version_max);
        payload.put_u8(self.lane);
        put_identity(&mut payload, &self.identity);
        payload.put_i32(self.target_node.0);
        put_optional(&mut payload, self.target_directory.map(|id| id.0));
        payload.put_u16(self.auth_kind);
        payload.put_u16(0);
        payload
    }

    fn decode(mut payload: &[u8]) -> Result<Self, HelloError> {
        let buf = &mut payload;
        let hello = Self {
            version_min: buf.try_get_u16()?,
            version_max: buf.try_get_u16()?,
            lane: buf.try_get_u8()?,
            identity: get_identity(buf)?,
            target_node: NodeId(buf.try_get_i32()?),
            target_directory: get_optional(buf)?.map(DirectoryId),
            auth_kind: buf.try_get_u16()?,
        };
        let credentials = usize::from(buf.try_get_u16()?);
        if buf.remaining() < credentials {
            return Err(HelloError::Truncated);
        }
        Ok(hello)
    }
}

impl HelloReply {
    fn encode(&self) -> Vec<u8> {
        let mut payload = Vec::with_capacity(128);
        let (status, version) = match self.outcome {
            Ok(version) => (0, version),
            Err(refusal) => (refusal as u16, 0),
        };
        payload.put_u16(status);
        payload.put_u16(version);
        payload.put_u16(VERSION_MIN);
        payload.put_u16(VERSION_MAX);
        put_identity(&mut payload, &self.identity);
        payload
    }

    fn decode(mut payload: &[u8]) -> Result<Self, HelloError> {
        let buf = &mut payload;
        let status = buf.try_get_u16()?;
        let version = buf.try_get_u16()?;
        let _their_range = (buf.try_get_u16()?, buf.try_get_u16()?);
        let identity = get_identity(buf)?;
        let outcome = match status {
            0 if (VERSION_MIN..=VERSION_MAX).contains(&version) => Ok(version),
            0 => return Err(HelloError::Field),
            refusal => Err(Refusal::from_wire(refusal)),
        };
        Ok(Self { outcome, identity })
    }
}

/// The dialling end: says hello, reads the reply. The caller bounds the time, and holds the peer's cluster id against its own.
pub(super) async fn greet<S>(stream: &mut S, hello: &Hello) -> Result<HelloReply, HelloError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    stream.write_all(&message(&hello.encode())).await?;
    HelloReply::decode(&read_message(stream).await?)
}

/// The accepting end: reads the hello. The caller bounds the time and answers with [`answer`].
pub(super) async fn read_hello<S: AsyncRead + Unpin>(stream: &mut S) -> Result<Hello, HelloError> {
    Hello::decode(&read_message(stream).await?)
}

/// The accepting end's reply.
pub(super) async fn answer<S: AsyncWrite + Unpin>(stream: &mut S, reply: &HelloReply) -> io::Result<()> {
    stream.write_all(&message(&reply.encode())).await
}

/// What the dialling end makes of a reply.
pub(super) fn accepted(reply: &HelloReply, local: &PeerIdentity, target: NodeId) -> Result<PeerIdentity, PeerError> {
    let answered = reply.identity;
    let refused = |refusal| PeerError::Refused { node: target, refusal, answered };
    reply.outcome.map_err(refused)?;
    // The other end has checked all this. We check what we can see, so that neither end has to trust the other's version.
    if answered.node_id != target {
        return Err(refused(Refusal::Target));
    }
    match (answered.cluster_id, local.cluster_id) {
        (Some(theirs), Some(ours)) if theirs != ours => Err(refused(Refusal::Cluster)),
        _ => Ok(answered),
    }
}

fn message(payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(MAGIC.len() + 2 + payload.len() + 4);
    bytes.put_slice(MAGIC);
    bytes.put_u16(u16::try_from(payload.len()).expect("a handshake message is a few hundred bytes"));
    bytes.put_slice(payload);
    bytes.put_u32(crc32c::crc32c(&bytes));
    bytes
}

async fn read_message<S: AsyncRead + Unpin>(stream: &mut S) -> Result<Vec<u8>, HelloError> {
    let mut head = [0u8; 10];
    stream.read_exact(&mut head).await?;
    if head[..8] != *MAGIC {
        return Err(HelloError::Magic);
    }
    let length = usize::from(u16::from_be_bytes([head[8], head[9]]));
    if length > PAYLOAD_MAX {
        return Err(HelloError::TooLong(length));
    }
    let mut payload = vec![0u8; length];
    stream.read_exact(&mut payload).await?;
    let checksum = stream.read_u32().await?;
    if checksum != crc32c::crc32c_append(crc32c::crc32c(&head), &payload) {
        return Err(HelloError::Checksum);
    }
    Ok(payload)
}

fn put_optional(buf: &mut Vec<u8>, id: Option<Uuid>) {
    buf.put_u8(u8::from(id.is_some()));
    if let Some(id) = id {
        buf.put_u128(id.as_u128());
    }
}

fn get_optional(buf: &mut &[u8]) -> Result<Option<Uuid>, HelloError> {
    match buf.try_get_u8()? {
        0 => Ok(None),
        1 => Ok(Some(Uuid::from_u128(buf.try_get_u128()?))),
        _ => Err(HelloError::Field),
    }
}

fn put_identity(buf: &mut Vec<u8>, identity: &PeerIdentity) {
    put_optional(buf, identity.cluster_id.map(|id| id.0));
    buf.put_i32(identity.node_id.0);
    buf.put_u128(identity.directory_id.0.as_u128());
    buf.put_u128(identity.incarnation.0.as_u128());
    buf.put_i64(identity.broker_epoch.0);
}

fn get_identity(buf: &mut &[u8]) -> Result<PeerIdentity, HelloError> {
    let identity = PeerIdentity {
        cluster_id: get_optional(buf)?.map(ClusterId),
        node_id: NodeId(buf.try_get_i32()?),
        directory_id: DirectoryId(Uuid::from_u128(buf.try_get_u128()?)),
        incarnation: IncarnationId(Uuid::from_u128(buf.try_get_u128()?)),
        broker_epoch: BrokerEpoch(buf.try_get_i64()?),
    };
    if identity.node_id.0 < 0 { Err(HelloError::Field) } else { Ok(identity) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn identity(node: i32, cluster_id: Option<ClusterId>) -> PeerIdentity {
        PeerIdentity {
            cluster_id,
            node_id: NodeId(node),
            directory_id: DirectoryId::random(),
            incarnation: IncarnationId::random(),
            broker_epoch: BrokerEpoch(3),
        }
    }

    #[test]
    fn a_hello_is_judged_by_version_cluster_target_and_duplicate() {
        let cluster = ClusterId::random();
        let local = identity(1, Some(cluster));
        let good = Hello::new(identity(2, Some(cluster)), Lane::Control, NodeId(1), Some(local.directory_id));
        assert_eq!(good.judge(&local), Ok((1, Lane::Control)));
        let with = |edit: fn(&mut Hello)| {
            let mut hello = good;
            edit(&mut hello);
            hello.judge(&local)
        };
        assert_eq!(with(|h| (h.version_min, h.version_max) = (2, 9)), Err(Refusal::Version));
        assert_eq!(with(|h| (h.version_min, h.version_max) = (0, 0)), Err(Refusal::Version));
        assert_eq!(with(|h| h.version_max = 9), Ok((1, Lane::Control)));
        assert_eq!(with(|h| h.identity.cluster_id = Some(ClusterId::random())), Err(Refusal::Cluster));
        assert_eq!(with(|h| h.identity.cluster_id = None), Ok((1, Lane::Control)));
        assert_eq!(with(|h| h.target_node = NodeId(3)), Err(Refusal::Target));
        assert_eq!(with(|h| h.target_directory = Some(DirectoryId::random())), Err(Refusal::Target));
        assert_eq!(with(|h| h.identity.node_id = NodeId(1)), Err(Refusal::DuplicateNodeId));
        assert_eq!(with(|h| h.auth_kind = 1), Err(Refusal::Authentication));
        assert_eq!(with(|h| h.lane = 200), Err(Refusal::Lane));
    }

    #[test]
    fn both_messages_survive_their_bytes() {
        for cluster_id in [None, Some(ClusterId::random())] {
            for directory in [None, Some(DirectoryId::random())] {
                let hello = Hello::new(identity(7, cluster_id), Lane::Heartbeat, NodeId(2), directory);
                assert_eq!(Hello::decode(&hello.encode()).expect("decodes"), hello);
            }
            for outcome in [Ok(1), Err(Refusal::Cluster), Err(Refusal::Unknown)] {
                let reply = HelloReply { outcome, identity: identity(2, cluster_id) };
                assert_eq!(HelloReply::decode(&reply.encode()).expect("decodes"), reply);
            }
        }
    }

    #[test]
    fn fields_of_a_later_version_are_ignored() {
        let hello = Hello::new(identity(7, None), Lane::Probe, NodeId(2), None);
        let mut bytes = hello.encode();
        bytes.extend_from_slice(b"something new");
        assert_eq!(Hello::decode(&bytes).expect("decodes"), hello);
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..256)) {
            let _ = Hello::decode(&bytes);
            let _ = HelloReply::decode(&bytes);
        }

        #[test]
        fn every_shorter_hello_is_truncated(cut in 0usize..1000) {
            let bytes = Hello::new(identity(7, Some(ClusterId::random())), Lane::Control, NodeId(2), None).encode();
            let cut = cut % bytes.len();
            prop_assert!(matches!(Hello::decode(&bytes[..cut]), Err(HelloError::Truncated)));
        }
    }
}
