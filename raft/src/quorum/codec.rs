//! Bytes of everything the quorum writes to disk or sends to a peer: our own encoding, never serde of openraft's types.
//!
//! Integers are big-endian, lists and byte strings are preceded by a `u32` count. What goes to disk is
//! sealed: one format byte, the CRC-32C of the rest, the rest. A format byte above [`FORMAT`] is refused, a checksum
//! that does not fit is corruption. No count is trusted: memory grows with the bytes that are really there.

use super::types::{Decision, LogEntry, LogIndexId, MembershipConfig, QuorumNode, StoredMembershipConfig, VoteValue};
use crate::ids::{ClusterId, DirectoryId, NodeId, QuorumNodeId};
use bytes::{BufMut, Bytes, BytesMut};
use openraft::EntryPayload;
use openraft::vote::{RaftLeaderId, leader_id_std};
use std::collections::{BTreeMap, BTreeSet};
use uuid::Uuid;

/// The format this version writes.
pub(crate) const FORMAT: u8 = 1;

/// Bytes that cannot be read as what they should be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// Fewer bytes than the value needs.
    #[error("{0} is cut short")]
    Short(&'static str),
    /// More bytes than the value needs.
    #[error("{0} bytes follow the value")]
    Trailing(usize),
    /// A value outside its range.
    #[error("{what} has the impossible value {value}")]
    Invalid {
        /// Of what.
        what: &'static str,
        /// The number found.
        value: u64,
    },
    /// The checksum does not fit.
    #[error("checksum is {found:08x}, expected {expected:08x}")]
    Checksum {
        /// Computed from the bytes.
        found: u32,
        /// Written beside them.
        expected: u32,
    },
    /// Written by a newer version.
    #[error("format {found} is newer than {supported}")]
    TooNew {
        /// The format found.
        found: u8,
        /// The highest this version reads.
        supported: u8,
    },
}

/// Wraps `body` for the disk.
pub(crate) fn seal(body: &[u8]) -> Bytes {
    let mut out = BytesMut::with_capacity(body.len() + 5);
    out.put_u8(FORMAT);
    out.put_u32(crc32c::crc32c(body));
    out.put_slice(body);
    out.freeze()
}

/// The body of a sealed value.
pub(crate) fn unseal(bytes: &Bytes) -> Result<Bytes, DecodeError> {
    let mut reader = Reader::new(bytes.clone());
    let format = reader.u8("format")?;
    if format == 0 || format > FORMAT {
        return Err(DecodeError::TooNew { found: format, supported: FORMAT });
    }
    let expected = reader.u32("checksum")?;
    let body = reader.rest();
    let found = crc32c::crc32c(&body);
    if found != expected {
        return Err(DecodeError::Checksum { found, expected });
    }
    Ok(body)
}

/// A value with an encoding.
pub(crate) trait Encode: Sized {
    /// Appends the value.
    fn encode(&self, out: &mut BytesMut);
    /// Reads the value from the front.
    fn decode(reader: &mut Reader) -> Result<Self, DecodeError>;

    /// The value alone.
    fn to_bytes(&self) -> Bytes {
        let mut out = BytesMut::new();
        self.encode(&mut out);
        out.freeze()
    }
    /// The value from bytes that hold nothing else.
    fn from_bytes(bytes: Bytes) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes);
        let value = Self::decode(&mut reader)?;
        reader.finish()?;
        Ok(value)
    }
    /// The value as it goes to disk.
    fn to_sealed(&self) -> Bytes {
        seal(&self.to_bytes())
    }
    /// The value as it comes from disk.
    fn from_sealed(bytes: &Bytes) -> Result<Self, DecodeError> {
        Self::from_bytes(unseal(bytes)?)
    }
}

/// A cursor that never reads past the end.
pub(crate) struct Reader {
    bytes: Bytes,
}

impl Reader {
    pub(crate) fn new(bytes: Bytes) -> Self {
        Self { bytes }
    }
    pub(crate) fn take(&mut self, n: usize, what: &'static str) -> Result<Bytes, DecodeError> {
        if self.bytes.len() < n {
            return Err(DecodeError::Short(what));
        }
        Ok(self.bytes.split_to(n))
    }
    fn array<const N: usize>(&mut self, what: &'static str) -> Result<[u8; N], DecodeError> {
        let mut out = [0; N];
        out.copy_from_slice(&self.take(N, what)?);
        Ok(out)
    }
    pub(crate) fn u8(&mut self, what: &'static str) -> Result<u8, DecodeError> {
        Ok(self.array::<1>(what)?[0])
    }
    pub(crate) fn u32(&mut self, what: &'static str) -> Result<u32, DecodeError> {
        Ok(u32::from_be_bytes(self.array(what)?))
    }
    pub(crate) fn u64(&mut self, what: &'static str) -> Result<u64, DecodeError> {
        Ok(u64::from_be_bytes(self.array(what)?))
    }
    pub(crate) fn string(&mut self, what: &'static str) -> Result<String, DecodeError> {
        let bytes = Bytes::decode(self)?;
        String::from_utf8(bytes.to_vec()).map_err(|_| DecodeError::Invalid { what, value: bytes.len() as u64 })
    }
    pub(crate) fn rest(&mut self) -> Bytes {
        std::mem::take(&mut self.bytes)
    }
    pub(crate) fn finish(self) -> Result<(), DecodeError> {
        if self.bytes.is_empty() { Ok(()) } else { Err(DecodeError::Trailing(self.bytes.len())) }
    }
}

impl Encode for u64 {
    fn encode(&self, out: &mut BytesMut) {
        out.put_u64(*self);
    }
    fn decode(reader: &mut Reader) -> Result<Self, DecodeError> {
        reader.u64("number")
    }
}

impl Encode for bool {
    fn encode(&self, out: &mut BytesMut) {
        out.put_u8(u8::from(*self));
    }
    fn decode(reader: &mut Reader) -> Result<Self, DecodeError> {
        match reader.u8("flag")? {
            0 => Ok(false),
            1 => Ok(true),
            value => Err(DecodeError::Invalid { what: "flag", value: value.into() }),
        }
    }
}

impl Encode for Bytes {
    fn encode(&self, out: &mut BytesMut) {
        out.put_u32(u32::try_from(self.len()).expect("no value of the quorum reaches 4 GiB"));
        out.put_slice(self);
    }
    fn decode(reader: &mut Reader) -> Result<Self, DecodeError> {
        let n = reader.u32("length")?;
        reader.take(n as usize, "bytes")
    }
}

impl Encode for String {
    fn encode(&self, out: &mut BytesMut) {
        out.put_u32(u32::try_from(self.len()).expect("no value of the quorum reaches 4 GiB"));
        out.put_slice(self.as_bytes());
    }
    fn decode(reader: &mut Reader) -> Result<Self, DecodeError> {
        reader.string("text")
    }
}

impl<T: Encode> Encode for Option<T> {
    fn encode(&self, out: &mut BytesMut) {
        self.is_some().encode(out);
        if let Some(value) = self {
            value.encode(out);
        }
    }
    fn decode(reader: &mut Reader) -> Result<Self, DecodeError> {
        Ok(if bool::decode(reader)? { Some(T::decode(reader)?) } else { None })
    }
}

impl<T: Encode> Encode for Vec<T> {
    fn encode(&self, out: &mut BytesMut) {
        out.put_u32(u32::try_from(self.len()).expect("no list of the quorum reaches 2^32"));
        for value in self {
            value.encode(out);
        }
    }
    fn decode(reader: &mut Reader) -> Result<Self, DecodeError> {
        let n = reader.u32("count")?;
        let mut values = Vec::new();
        for _ in 0..n {
            values.push(T::decode(reader)?);
        }
        Ok(values)
    }
}

impl Encode for Uuid {
    fn encode(&self, out: &mut BytesMut) {
        out.put_slice(self.as_bytes());
    }
    fn decode(reader: &mut Reader) -> Result<Self, DecodeError> {
        Ok(Uuid::from_bytes(reader.array("id")?))
    }
}

impl Encode for ClusterId {
    fn encode(&self, out: &mut BytesMut) {
        self.0.encode(out);
    }
    fn decode(reader: &mut Reader) -> Result<Self, DecodeError> {
        Ok(ClusterId(Uuid::decode(reader)?))
    }
}

impl Encode for QuorumNodeId {
    fn encode(&self, out: &mut BytesMut) {
        out.put_i32(self.node_id.0);
        self.directory_id.0.encode(out);
    }
    fn decode(reader: &mut Reader) -> Result<Self, DecodeError> {
        let node_id = NodeId(i32::from_be_bytes(reader.array("node id")?));
        Ok(QuorumNodeId { node_id, directory_id: DirectoryId(Uuid::decode(reader)?) })
    }
}

impl Encode for QuorumNode {
    fn encode(&self, out: &mut BytesMut) {
        self.address.encode(out);
    }
    fn decode(reader: &mut Reader) -> Result<Self, DecodeError> {
        Ok(QuorumNode { address: reader.string("address")? })
    }
}

impl Encode for LogIndexId {
    fn encode(&self, out: &mut BytesMut) {
        out.put_u64(self.leader_id.term);
        out.put_u64(self.index);
    }
    fn decode(reader: &mut Reader) -> Result<Self, DecodeError> {
        let term = reader.u64("term")?;
        let index = reader.u64("index")?;
        if index >= i64::MAX as u64 {
            // A metadata offset is an i64; a peer must not make one overflow.
            return Err(DecodeError::Invalid { what: "log index", value: index });
        }
        Ok(LogIndexId { leader_id: leader_id_std::CommittedLeaderId::new(term), index })
    }
}

impl Encode for VoteValue {
    fn encode(&self, out: &mut BytesMut) {
        out.put_u64(self.leader_id.term);
        self.leader_id.voted_for.encode(out);
        self.committed.encode(out);
    }
    fn decode(reader: &mut Reader) -> Result<Self, DecodeError> {
        let term = reader.u64("term")?;
        let voted_for = QuorumNodeId::decode(reader)?;
        let committed = bool::decode(reader)?;
        Ok(VoteValue { leader_id: leader_id_std::LeaderId::new(term, voted_for), committed })
    }
}

impl Encode for MembershipConfig {
    fn encode(&self, out: &mut BytesMut) {
        let configs: Vec<Vec<QuorumNodeId>> =
            self.get_joint_config().iter().map(|voters| voters.iter().copied().collect()).collect();
        configs.encode(out);
        let nodes: Vec<(QuorumNodeId, QuorumNode)> = self.nodes().map(|(id, node)| (*id, node.clone())).collect();
        nodes.encode(out);
    }
    fn decode(reader: &mut Reader) -> Result<Self, DecodeError> {
        let configs = Vec::<Vec<QuorumNodeId>>::decode(reader)?;
        let configs: Vec<BTreeSet<QuorumNodeId>> = configs.into_iter().map(|v| v.into_iter().collect()).collect();
        let nodes: BTreeMap<QuorumNodeId, QuorumNode> =
            Vec::<(QuorumNodeId, QuorumNode)>::decode(reader)?.into_iter().collect();
        let count = nodes.len() as u64;
        MembershipConfig::new(configs, nodes).map_err(|_| DecodeError::Invalid { what: "membership", value: count })
    }
}

impl<A: Encode, B: Encode> Encode for (A, B) {
    fn encode(&self, out: &mut BytesMut) {
        self.0.encode(out);
        self.1.encode(out);
    }
    fn decode(reader: &mut Reader) -> Result<Self, DecodeError> {
        Ok((A::decode(reader)?, B::decode(reader)?))
    }
}

impl Encode for StoredMembershipConfig {
    fn encode(&self, out: &mut BytesMut) {
        self.log_id().encode(out);
        self.membership().encode(out);
    }
    fn decode(reader: &mut Reader) -> Result<Self, DecodeError> {
        let log_id = Option::<LogIndexId>::decode(reader)?;
        Ok(StoredMembershipConfig::new(log_id, MembershipConfig::decode(reader)?))
    }
}

impl Encode for LogEntry {
    fn encode(&self, out: &mut BytesMut) {
        self.log_id.encode(out);
        match &self.payload {
            EntryPayload::Blank => out.put_u8(0),
            EntryPayload::Normal(decision) => {
                out.put_u8(1);
                decision.0.encode(out);
            }
            EntryPayload::Membership(membership) => {
                out.put_u8(2);
                membership.encode(out);
            }
        }
    }
    fn decode(reader: &mut Reader) -> Result<Self, DecodeError> {
        let log_id = LogIndexId::decode(reader)?;
        let payload = match reader.u8("entry kind")? {
            0 => EntryPayload::Blank,
            1 => EntryPayload::Normal(Decision(Bytes::decode(reader)?)),
            2 => EntryPayload::Membership(MembershipConfig::decode(reader)?),
            value => return Err(DecodeError::Invalid { what: "entry kind", value: value.into() }),
        };
        Ok(LogEntry { log_id, payload })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn node(n: i32) -> QuorumNodeId {
        QuorumNodeId { node_id: NodeId(n), directory_id: DirectoryId(Uuid::from_u128(n as u128 * 7)) }
    }

    #[test]
    fn an_entry_and_a_vote_survive_their_bytes() {
        let nodes: BTreeMap<_, _> = (1..=3).map(|n| (node(n), QuorumNode { address: format!("h{n}:9") })).collect();
        let joint = vec![BTreeSet::from([node(1), node(2)]), BTreeSet::from([node(2), node(3)])];
        let membership = MembershipConfig::new(joint, nodes).expect("valid");
        let id = LogIndexId { leader_id: leader_id_std::CommittedLeaderId::new(7), index: 9 };
        for payload in [
            EntryPayload::Blank,
            EntryPayload::Normal(Decision(Bytes::from_static(b"records"))),
            EntryPayload::Membership(membership),
        ] {
            let entry = LogEntry { log_id: id, payload };
            assert_eq!(LogEntry::from_sealed(&entry.to_sealed()), Ok(entry));
        }
        let vote = VoteValue { leader_id: leader_id_std::LeaderId::new(5, node(2)), committed: true };
        assert_eq!(VoteValue::from_sealed(&vote.to_sealed()), Ok(vote));
    }

    #[test]
    fn a_flipped_bit_and_a_newer_format_are_refused() {
        let sealed = LogEntry {
            log_id: LogIndexId { leader_id: leader_id_std::CommittedLeaderId::new(1), index: 2 },
            payload: EntryPayload::Normal(Decision(Bytes::from_static(b"abc"))),
        }
        .to_sealed();
        for bit in 0..sealed.len() * 8 {
            let mut broken = sealed.to_vec();
            broken[bit / 8] ^= 1 << (bit % 8);
            assert!(LogEntry::from_sealed(&Bytes::from(broken)).is_err(), "bit {bit}");
        }
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let bytes = Bytes::from(bytes);
            let _ = LogEntry::from_bytes(bytes.clone());
            let _ = VoteValue::from_bytes(bytes.clone());
            let _ = StoredMembershipConfig::from_bytes(bytes.clone());
            let _ = unseal(&bytes);
        }
    }
}
