//! The bytes of SWIM messages. Big-endian, no lengths but the library's own.
//!
//! ```text
//! identity  node i32 · generation u64 · incarnation 16 · family u8 (4, 6) · ip 4 or 16 · port u16
//! member    identity · refutations u16 · state u8 (0 alive, 1 suspect, 2 down)
//! header    sender identity · sender's refutations u16 · recipient identity · message
//! message   tag u8, then what the tag needs: probe number u8, and the third node's identity
//! ```

use super::GossipIdentity;
use super::identity::GENERATION_MAX;
use bytes::{Buf, BufMut, TryGetError};
use foca::{Header, Member, Message, State};
use rookery_raft::ids::{IncarnationId, NodeId};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use uuid::Uuid;

type Identity = GossipIdentity;

/// Why bytes are no SWIM message, or a message has no room.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum CodecError {
    #[error("the datagram ends early")]
    Truncated,
    #[error("the datagram is full")]
    Full,
    #[error("unknown tag {0}")]
    Tag(u8),
    #[error("not a node's identity")]
    Identity,
}

impl From<TryGetError> for CodecError {
    fn from(_: TryGetError) -> Self {
        CodecError::Truncated
    }
}

/// The codec that `foca` is given.
#[derive(Clone, Copy, Debug)]
pub(super) struct SwimCodec;

impl foca::Codec<Identity> for SwimCodec {
    type Error = CodecError;

    fn encode_header(&mut self, header: &Header<Identity>, mut buf: impl BufMut) -> Result<(), CodecError> {
        let mut bytes = Vec::with_capacity(160);
        put_identity(&mut bytes, &header.src);
        bytes.put_u16(header.src_incarnation);
        put_identity(&mut bytes, &header.dst);
        put_message(&mut bytes, &header.message);
        put_all(&mut buf, &bytes)
    }

    fn decode_header(&mut self, mut buf: impl Buf) -> Result<Header<Identity>, CodecError> {
        Ok(Header {
            src: get_identity(&mut buf)?,
            src_incarnation: buf.try_get_u16()?,
            dst: get_identity(&mut buf)?,
            message: get_message(&mut buf)?,
        })
    }

    fn encode_member(&mut self, member: &Member<Identity>, mut buf: impl BufMut) -> Result<(), CodecError> {
        let mut bytes = Vec::with_capacity(64);
        put_identity(&mut bytes, member.id());
        bytes.put_u16(member.incarnation());
        bytes.put_u8(match member.state() {
            State::Alive => 0,
            State::Suspect => 1,
            State::Down => 2,
        });
        put_all(&mut buf, &bytes)
    }

    fn decode_member(&mut self, mut buf: impl Buf) -> Result<Member<Identity>, CodecError> {
        let identity = get_identity(&mut buf)?;
        let refutations = buf.try_get_u16()?;
        let state = match buf.try_get_u8()? {
            0 => State::Alive,
            1 => State::Suspect,
            2 => State::Down,
            tag => return Err(CodecError::Tag(tag)),
        };
        Ok(Member::new(identity, refutations, state))
    }
}

// All or nothing: the library requires that a member without room leaves no trace.
fn put_all(buf: &mut impl BufMut, bytes: &[u8]) -> Result<(), CodecError> {
    if buf.remaining_mut() < bytes.len() {
        return Err(CodecError::Full);
    }
    buf.put_slice(bytes);
    Ok(())
}

fn put_identity(buf: &mut Vec<u8>, identity: &Identity) {
    buf.put_i32(identity.node_id.0);
    buf.put_u64(identity.generation);
    buf.put_u128(identity.incarnation.0.as_u128());
    match identity.address.ip() {
        IpAddr::V4(ip) => {
            buf.put_u8(4);
            buf.put_slice(&ip.octets());
        }
        IpAddr::V6(ip) => {
            buf.put_u8(6);
            buf.put_slice(&ip.octets());
        }
    }
    buf.put_u16(identity.address.port());
}

fn get_identity(buf: &mut impl Buf) -> Result<Identity, CodecError> {
    let node_id = NodeId(buf.try_get_i32()?);
    let generation = buf.try_get_u64()?;
    let incarnation = IncarnationId(Uuid::from_u128(buf.try_get_u128()?));
    let ip = match buf.try_get_u8()? {
        4 => IpAddr::V4(Ipv4Addr::from_bits(buf.try_get_u32()?)),
        6 => IpAddr::V6(Ipv6Addr::from_bits(buf.try_get_u128()?)),
        _ => return Err(CodecError::Identity),
    };
    let address = SocketAddr::new(ip, buf.try_get_u16()?);
    // Nothing may make us send to an address that is nobody's or everybody's.
    let reachable =
        address.port() != 0 && !ip.is_unspecified() && !ip.is_multicast() && ip != IpAddr::V4(Ipv4Addr::BROADCAST);
    if node_id.0 < 0 || generation > GENERATION_MAX || !reachable {
        return Err(CodecError::Identity);
    }
    Ok(Identity { node_id, generation, incarnation, address })
}

fn put_message(buf: &mut Vec<u8>, message: &Message<Identity>) {
    let mut third = |tag: u8, probe_number: u8, identity: &Identity| {
        buf.put_u8(tag);
        buf.put_u8(probe_number);
        put_identity(buf, identity);
    };
    match message {
        Message::PingReq { target, probe_number } => third(2, *probe_number, target),
        Message::IndirectPing { origin, probe_number } => third(3, *probe_number, origin),
        Message::IndirectAck { target, probe_number } => third(4, *probe_number, target),
        Message::ForwardedAck { origin, probe_number } => third(5, *probe_number, origin),
        Message::Ping(probe_number) => buf.put_slice(&[0, *probe_number]),
        Message::Ack(probe_number) => buf.put_slice(&[1, *probe_number]),
        Message::Announce => buf.put_u8(6),
        Message::Feed => buf.put_u8(7),
        Message::Gossip => buf.put_u8(8),
        Message::Broadcast => buf.put_u8(9),
        Message::TurnUndead => buf.put_u8(10),
    }
}

fn get_message(buf: &mut impl Buf) -> Result<Message<Identity>, CodecError> {
    let tag = buf.try_get_u8()?;
    let probe_number = if tag <= 5 { buf.try_get_u8()? } else { 0 };
    Ok(match tag {
        0 => Message::Ping(probe_number),
        1 => Message::Ack(probe_number),
        2 => Message::PingReq { target: get_identity(buf)?, probe_number },
        3 => Message::IndirectPing { origin: get_identity(buf)?, probe_number },
        4 => Message::IndirectAck { target: get_identity(buf)?, probe_number },
        5 => Message::ForwardedAck { origin: get_identity(buf)?, probe_number },
        6 => Message::Announce,
        7 => Message::Feed,
        8 => Message::Gossip,
        9 => Message::Broadcast,
        10 => Message::TurnUndead,
        tag => return Err(CodecError::Tag(tag)),
    })
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use foca::Codec;
    use proptest::prelude::*;

    pub(in crate::gossip) fn identity(node: i32, generation: u64) -> Identity {
        Identity {
            node_id: NodeId(node),
            generation,
            incarnation: IncarnationId(Uuid::from_u128(u128::from(generation) << 32 | node as u128)),
            address: SocketAddr::from(([10, 0, (node >> 8) as u8, node as u8], 7000)),
        }
    }

    #[test]
    fn every_message_survives_its_bytes() {
        let third = Identity { address: "[fe80::1]:9".parse().expect("an address"), ..identity(3, 9) };
        for message in [
            Message::Ping(1),
            Message::Ack(2),
            Message::PingReq { target: third, probe_number: 3 },
            Message::IndirectPing { origin: third, probe_number: 4 },
            Message::IndirectAck { target: third, probe_number: 5 },
            Message::ForwardedAck { origin: third, probe_number: 6 },
            Message::Announce,
            Message::Feed,
            Message::Gossip,
            Message::Broadcast,
            Message::TurnUndead,
        ] {
            let header = Header { src: identity(1, 2), src_incarnation: 7, dst: identity(2, 3), message };
            let mut bytes = Vec::new();
            SwimCodec.encode_header(&header, &mut bytes).expect("room");
            let mut rest = &bytes[..];
            assert_eq!(SwimCodec.decode_header(&mut rest), Ok(header));
            assert!(rest.is_empty());
        }
        for state in [State::Alive, State::Suspect, State::Down] {
            let member = Member::new(third, 300, state);
            let mut bytes = Vec::new();
            SwimCodec.encode_member(&member, &mut bytes).expect("room");
            assert_eq!(SwimCodec.decode_member(&bytes[..]), Ok(member));
        }
    }

    #[test]
    fn a_member_without_room_leaves_no_trace() {
        let mut bytes = [0u8; 30];
        let mut room = &mut bytes[..];
        let error = SwimCodec.encode_member(&Member::alive(identity(1, 1)), &mut room);
        assert_eq!((error, room.len()), (Err(CodecError::Full), 30));
    }

    #[test]
    fn addresses_that_are_nobodys_are_refused() {
        for address in ["0.0.0.0:1", "10.0.0.1:0", "224.0.0.1:1", "255.255.255.255:1", "[::]:1", "[ff02::1]:1"] {
            let mut bytes = Vec::new();
            let id = Identity { address: address.parse().expect("an address"), ..identity(1, 1) };
            put_identity(&mut bytes, &id);
            assert_eq!(get_identity(&mut &bytes[..]), Err(CodecError::Identity), "{address}");
        }
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = SwimCodec.decode_header(&bytes[..]);
            let _ = SwimCodec.decode_member(&bytes[..]);
        }
    }
}
