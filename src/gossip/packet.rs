//! The envelope of a datagram.
//!
//! ```text
//! magic "RG" · version u8 (1) · flags u8 (0) · cluster id 16 · kind u8 · payload · crc32c of all that precedes u32
//! kind 0    a SWIM message: header, members, broadcasts
//! kind 1    superseded: node i32 · generation u64. To a node whose identity lost against a known one of its node id.
//! kind 2    accused: node i32 · generation u64 · refutations u16 · accuser i32. To a suspect, so that it can refute at once.
//! ```

use bytes::{Buf, BufMut, Bytes, BytesMut};
use rookery_raft::ids::{ClusterId, NodeId};
use uuid::Uuid;

/// Largest datagram sent or read, in bytes: fits one Ethernet frame with any IP header (RFC 8085).
pub const PACKET_MAX: usize = 1400;
const HEAD_LEN: usize = 21;
const CRC_LEN: usize = 4;
/// Room for a SWIM message.
pub(super) const PAYLOAD_MAX: usize = PACKET_MAX - HEAD_LEN - CRC_LEN;

const MAGIC: &[u8; 2] = b"RG";
const VERSION: u8 = 1;

/// What a datagram carries.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Packet<'a> {
    Swim(&'a [u8]),
    Superseded { node_id: NodeId, generation: u64 },
    Accused { node_id: NodeId, generation: u64, refutations: u16, accuser: NodeId },
}

/// Why a datagram was dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dropped {
    /// Above [`PACKET_MAX`].
    TooLarge,
    /// Not ours, or damaged.
    Malformed,
    /// Another version, or flags that this one does not know.
    Version,
    /// Another cluster's.
    ForeignCluster,
    /// A node id beyond [`super::MEMBERS_MAX`].
    Members,
    /// The sender, or what it says about our node id, lost against a later identity.
    Superseded,
    /// The library's own refusal.
    Protocol,
}

impl Dropped {
    /// Its name as a metric label.
    pub fn as_str(self) -> &'static str {
        match self {
            Dropped::TooLarge => "too_large",
            Dropped::Malformed => "malformed",
            Dropped::Version => "version",
            Dropped::ForeignCluster => "foreign_cluster",
            Dropped::Members => "members",
            Dropped::Superseded => "superseded",
            Dropped::Protocol => "protocol",
        }
    }
}

pub(super) fn encode(cluster_id: ClusterId, packet: &Packet<'_>) -> Bytes {
    let mut bytes = BytesMut::with_capacity(PACKET_MAX);
    bytes.put_slice(MAGIC);
    bytes.put_u8(VERSION);
    bytes.put_u8(0);
    bytes.put_u128(cluster_id.0.as_u128());
    match packet {
        Packet::Swim(payload) => {
            bytes.put_u8(0);
            bytes.put_slice(payload);
        }
        Packet::Superseded { node_id, generation } => {
            bytes.put_u8(1);
            bytes.put_i32(node_id.0);
            bytes.put_u64(*generation);
        }
        Packet::Accused { node_id, generation, refutations, accuser } => {
            bytes.put_u8(2);
            bytes.put_i32(node_id.0);
            bytes.put_u64(*generation);
            bytes.put_u16(*refutations);
            bytes.put_i32(accuser.0);
        }
    }
    bytes.put_u32(crc32c::crc32c(&bytes));
    bytes.freeze()
}

pub(super) fn decode(cluster_id: ClusterId, bytes: &[u8]) -> Result<Packet<'_>, Dropped> {
    if bytes.len() > PACKET_MAX {
        return Err(Dropped::TooLarge);
    }
    if bytes.len() < HEAD_LEN + CRC_LEN || bytes[..2] != *MAGIC {
        return Err(Dropped::Malformed);
    }
    let (checked, mut crc) = bytes.split_at(bytes.len() - CRC_LEN);
    if crc.get_u32() != crc32c::crc32c(checked) {
        return Err(Dropped::Malformed);
    }
    let mut rest = &checked[2..];
    if (rest.get_u8(), rest.get_u8()) != (VERSION, 0) {
        return Err(Dropped::Version);
    }
    if ClusterId(Uuid::from_u128(rest.get_u128())) != cluster_id {
        return Err(Dropped::ForeignCluster);
    }
    match rest.get_u8() {
        0 => Ok(Packet::Swim(rest)),
        1 if rest.len() == 12 => Ok(Packet::Superseded { node_id: NodeId(rest.get_i32()), generation: rest.get_u64() }),
        2 if rest.len() == 18 => Ok(Packet::Accused {
            node_id: NodeId(rest.get_i32()),
            generation: rest.get_u64(),
            refutations: rest.get_u16(),
            accuser: NodeId(rest.get_i32()),
        }),
        _ => Err(Dropped::Malformed),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_packet_survives_its_bytes_and_a_flipped_bit_does_not() {
        let cluster = ClusterId::random();
        for packet in [
            Packet::Swim(b"payload"),
            Packet::Swim(&[7; PAYLOAD_MAX]),
            Packet::Superseded { node_id: NodeId(3), generation: 1 << 40 },
            Packet::Accused { node_id: NodeId(3), generation: 1 << 40, refutations: 9, accuser: NodeId(4) },
        ] {
            let bytes = encode(cluster, &packet);
            assert!(bytes.len() <= PACKET_MAX);
            assert_eq!(decode(cluster, &bytes), Ok(packet));
            for bit in 0..bytes.len() * 8 {
                let mut flipped = bytes.to_vec();
                flipped[bit / 8] ^= 1 << (bit % 8);
                assert!(decode(cluster, &flipped).is_err(), "bit {bit}");
            }
        }
    }

    #[test]
    fn a_foreign_cluster_is_dropped() {
        let bytes = encode(ClusterId::random(), &Packet::Swim(b"hello"));
        assert_eq!(decode(ClusterId::random(), &bytes), Err(Dropped::ForeignCluster));
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..1500)) {
            let _ = decode(ClusterId::NONE, &bytes);
        }
    }
}
