//! The records of `__consumer_offsets`: Kafka's schemas (`OffsetCommitKey`, `OffsetCommitValue`, `GroupMetadataKey`,
//! `GroupMetadataValue`), byte for byte.
//!
//! | type in the key | record | value versions read | written, as Kafka 4.3 does |
//! |---|---|---|---|
//! | 0, 1 | a committed offset | 0–4 | key 1; value 4, or 1 when the commit carries its own retention |
//! | 2 | a classic group | 0–4 | key 2; value 3 |
//! | 3 and above | KIP-848, share and streams groups | – | kept, not understood |
//!
//! From version 4 on a value has tagged fields: unknown ones are skipped, so that a newer broker may add some (KIP-915).

use super::types::{GroupId, MemberId};
use crate::coordinator::{CoordinatorRecord, DecodeError};
use bytes::{Buf, BufMut, Bytes, BytesMut};
use rookery_raft::ids::{TopicId, TopicName};
use std::collections::BTreeSet;
use std::sync::Arc;
use uuid::Uuid;

const OFFSET_COMMIT_OLD: i16 = 0;
const OFFSET_COMMIT: i16 = 1;
const GROUP_METADATA: i16 = 2;

/// A committed offset.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OffsetAndMetadata {
    /// The next offset to read.
    pub offset: i64,
    /// Leader epoch of the last record read, -1 for unknown.
    pub leader_epoch: i32,
    /// The client's own.
    pub metadata: Arc<str>,
    /// Milliseconds since 1970.
    pub commit_unix_ms: i64,
    /// Milliseconds since 1970; `None`: the broker's retention decides.
    pub expire_unix_ms: Option<i64>,
    /// [`TopicId::NONE`] where it was not known.
    pub topic_id: TopicId,
}

/// A member as a group's record keeps it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredMember {
    /// The member.
    pub member_id: MemberId,
    /// Its static name.
    pub group_instance_id: Option<Arc<str>>,
    /// From its last join.
    pub client_id: Arc<str>,
    /// From its last join.
    pub client_host: Arc<str>,
    /// Milliseconds.
    pub rebalance_timeout_ms: i32,
    /// Milliseconds.
    pub session_timeout_ms: i32,
    /// Its metadata for the chosen protocol.
    pub subscription: Bytes,
    /// What the leader gave it.
    pub assignment: Bytes,
}

/// A group's record: the outcome of one rebalance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupMetadata {
    /// Empty when nobody ever joined.
    pub protocol_type: Arc<str>,
    /// Counts the rebalances.
    pub generation: i32,
    /// The chosen protocol; always there when there are members.
    pub protocol: Option<Arc<str>>,
    /// The leader's member id.
    pub leader: Option<MemberId>,
    /// When the group came into its state, milliseconds since 1970; -1 in old records.
    pub state_unix_ms: i64,
    /// Its members, each id and each instance id once.
    pub members: Vec<StoredMember>,
}

/// One record: a key, and its new value or a tombstone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GroupChange {
    /// A group's offset for one partition.
    Offset {
        /// The group.
        group_id: GroupId,
        /// The topic.
        topic: TopicName,
        /// The partition.
        partition: i32,
        /// `None`: deleted or expired.
        value: Option<OffsetAndMetadata>,
    },
    /// A classic group.
    Group {
        /// The group.
        group_id: GroupId,
        /// `None`: deleted.
        value: Option<GroupMetadata>,
    },
}

/// The bytes of a change.
pub(super) fn encode(change: &GroupChange) -> CoordinatorRecord {
    let mut key = BytesMut::new();
    let value = match change {
        GroupChange::Offset { group_id, topic, partition, value } => {
            key.put_i16(OFFSET_COMMIT);
            put_string(&mut key, group_id);
            put_string(&mut key, topic);
            key.put_i32(*partition);
            value.as_ref().map(encode_offset)
        }
        GroupChange::Group { group_id, value } => {
            key.put_i16(GROUP_METADATA);
            put_string(&mut key, group_id);
            value.as_ref().map(encode_group)
        }
    };
    CoordinatorRecord { key: key.freeze(), value }
}

fn encode_offset(value: &OffsetAndMetadata) -> Bytes {
    let mut to = BytesMut::with_capacity(48 + value.metadata.len());
    if let Some(expire) = value.expire_unix_ms {
        to.put_i16(1);
        to.put_i64(value.offset);
        put_string(&mut to, &value.metadata);
        to.put_i64(value.commit_unix_ms);
        to.put_i64(expire);
        return to.freeze();
    }
    to.put_i16(4);
    to.put_i64(value.offset);
    to.put_i32(value.leader_epoch);
    put_unsigned_varint(&mut to, value.metadata.len() as u32 + 1);
    to.put_slice(value.metadata.as_bytes());
    to.put_i64(value.commit_unix_ms);
    if value.topic_id == TopicId::NONE {
        to.put_u8(0);
    } else {
        to.put_slice(&[1, 0, 16]);
        to.put_slice(value.topic_id.0.as_bytes());
    }
    to.freeze()
}

fn encode_group(value: &GroupMetadata) -> Bytes {
    let mut to = BytesMut::with_capacity(64);
    to.put_i16(3);
    put_string(&mut to, &value.protocol_type);
    to.put_i32(value.generation);
    put_nullable_string(&mut to, value.protocol.as_deref());
    put_nullable_string(&mut to, value.leader.as_deref());
    to.put_i64(value.state_unix_ms);
    to.put_i32(value.members.len() as i32);
    for member in &value.members {
        put_string(&mut to, &member.member_id);
        put_nullable_string(&mut to, member.group_instance_id.as_deref());
        put_string(&mut to, &member.client_id);
        put_string(&mut to, &member.client_host);
        to.put_i32(member.rebalance_timeout_ms);
        to.put_i32(member.session_timeout_ms);
        put_bytes(&mut to, &member.subscription);
        put_bytes(&mut to, &member.assignment);
    }
    to.freeze()
}

/// Bytes of a group's value, to refuse one that no batch can hold.
pub(super) fn encoded_group_bytes(value: &GroupMetadata) -> usize {
    let text = |text: Option<&str>| 2 + text.map_or(0, str::len);
    let member = |m: &StoredMember| {
        text(Some(&m.member_id))
            + text(m.group_instance_id.as_deref())
            + text(Some(&m.client_id))
            + text(Some(&m.client_host))
            + 16
            + m.subscription.len()
            + m.assignment.len()
    };
    let head = 18 + text(Some(&value.protocol_type)) + text(value.protocol.as_deref()) + text(value.leader.as_deref());
    head + value.members.iter().map(member).sum::<usize>()
}

/// The change in a record; `None` for a type this version does not know.
pub(super) fn decode(record: &CoordinatorRecord) -> Result<Option<GroupChange>, DecodeError> {
    let mut key = Reader { rest: record.key.clone(), record_type: -1, flexible: false };
    let record_type = key.i16("key type")?;
    key.record_type = record_type;
    let change = match record_type {
        OFFSET_COMMIT_OLD | OFFSET_COMMIT => GroupChange::Offset {
            group_id: key.string("group")?,
            topic: key.string("topic")?,
            partition: key.i32("partition")?,
            value: record.value.clone().map(|value| decode_offset(value, record_type)).transpose()?,
        },
        GROUP_METADATA => GroupChange::Group {
            group_id: key.string("group")?,
            value: record.value.clone().map(|value| decode_group(value, record_type)).transpose()?,
        },
        _ => return Ok(None),
    };
    Ok(Some(change))
}

fn decode_offset(value: Bytes, record_type: i16) -> Result<OffsetAndMetadata, DecodeError> {
    let (mut from, version) = Reader::of_value(value, record_type)?;
    let offset = from.i64("offset")?;
    let leader_epoch = if version >= 3 { from.i32("leaderEpoch")? } else { -1 };
    let metadata = from.string("metadata")?;
    let commit_unix_ms = from.i64("commitTimestamp")?;
    let expire_unix_ms = if version == 1 { Some(from.i64("expireTimestamp")?).filter(|at| *at >= 0) } else { None };
    let mut topic_id = TopicId::NONE;
    from.tagged(|tag, mut value| {
        if tag == 0 {
            let bytes = value.take(16, "topicId")?;
            topic_id = TopicId(Uuid::from_slice(&bytes).map_err(|_| value.malformed("topicId"))?);
        }
        Ok(())
    })?;
    Ok(OffsetAndMetadata { offset, leader_epoch, metadata, commit_unix_ms, expire_unix_ms, topic_id })
}

fn decode_group(value: Bytes, record_type: i16) -> Result<GroupMetadata, DecodeError> {
    let (mut from, version) = Reader::of_value(value, record_type)?;
    let mut group = GroupMetadata {
        protocol_type: from.string("protocolType")?,
        generation: from.i32("generation")?,
        protocol: from.nullable_string("protocol")?,
        leader: from.nullable_string("leader")?,
        state_unix_ms: if version >= 2 { from.i64("currentStateTimestamp")? } else { -1 },
        members: Vec::new(),
    };
    let (mut ids, mut instances) = (BTreeSet::new(), BTreeSet::new());
    for _ in 0..from.array("members")? {
        let member_id = from.string("memberId")?;
        let group_instance_id = if version >= 3 { from.nullable_string("groupInstanceId")? } else { None };
        let client_id = from.string("clientId")?;
        let client_host = from.string("clientHost")?;
        let rebalance_timeout_ms = if version >= 1 { from.i32("rebalanceTimeout")? } else { -1 };
        let session_timeout_ms = from.i32("sessionTimeout")?;
        let (subscription, assignment) = (from.bytes("subscription")?, from.bytes("assignment")?);
        from.tagged(|_, _| Ok(()))?;
        let twice = !ids.insert(member_id.clone()) || group_instance_id.clone().is_some_and(|id| !instances.insert(id));
        if twice {
            return Err(from.malformed("member named twice"));
        }
        group.members.push(StoredMember {
            member_id,
            group_instance_id,
            client_id,
            client_host,
            // Before version 1 a member had one time-out for both.
            rebalance_timeout_ms: if rebalance_timeout_ms < 0 { session_timeout_ms } else { rebalance_timeout_ms },
            session_timeout_ms,
            subscription,
            assignment,
        });
    }
    from.tagged(|_, _| Ok(()))?;
    if group.protocol.is_none() && !group.members.is_empty() {
        return Err(from.malformed("members without a protocol"));
    }
    Ok(group)
}

/// The topics of a consumer's subscription, or `None` where the bytes are none. Only the part that version 0 has is read:
/// every later version begins with it.
pub(super) fn subscribed_topics(subscription: &Bytes) -> Option<Vec<TopicName>> {
    let mut from = Reader { rest: subscription.clone(), record_type: -1, flexible: false };
    from.i16("version").ok()?;
    let count = from.array("topics").ok()?;
    (0..count).map(|_| from.string("topic").ok()).collect()
}

fn put_string(to: &mut BytesMut, text: &str) {
    to.put_i16(i16::try_from(text.len()).expect("strings were bounded when the request came in"));
    to.put_slice(text.as_bytes());
}

fn put_nullable_string(to: &mut BytesMut, text: Option<&str>) {
    match text {
        Some(text) => put_string(to, text),
        None => to.put_i16(-1),
    }
}

fn put_bytes(to: &mut BytesMut, bytes: &Bytes) {
    to.put_i32(i32::try_from(bytes.len()).expect("bytes came in a frame of less than 2 GiB"));
    to.put_slice(bytes);
}

fn put_unsigned_varint(to: &mut BytesMut, mut value: u32) {
    while value >= 0x80 {
        to.put_u8(value as u8 | 0x80);
        value >>= 7;
    }
    to.put_u8(value as u8);
}

/// Reads Kafka's primitive types and says which field was short.
struct Reader {
    rest: Bytes,
    record_type: i16,
    flexible: bool,
}

impl Reader {
    fn of_value(value: Bytes, record_type: i16) -> Result<(Self, i16), DecodeError> {
        let mut from = Reader { rest: value, record_type, flexible: false };
        let version = from.i16("value version")?;
        if !(0..=4).contains(&version) {
            return Err(DecodeError::UnknownVersion { record_type, version });
        }
        from.flexible = version >= 4;
        Ok((from, version))
    }

    fn malformed(&self, what: &'static str) -> DecodeError {
        DecodeError::Malformed { record_type: self.record_type, what }
    }

    fn i16(&mut self, what: &'static str) -> Result<i16, DecodeError> {
        self.rest.try_get_i16().map_err(|_| self.malformed(what))
    }

    fn i32(&mut self, what: &'static str) -> Result<i32, DecodeError> {
        self.rest.try_get_i32().map_err(|_| self.malformed(what))
    }

    fn i64(&mut self, what: &'static str) -> Result<i64, DecodeError> {
        self.rest.try_get_i64().map_err(|_| self.malformed(what))
    }

    fn unsigned_varint(&mut self, what: &'static str) -> Result<u32, DecodeError> {
        let mut value = 0u32;
        for shift in (0..35).step_by(7) {
            let byte = self.rest.try_get_u8().map_err(|_| self.malformed(what))?;
            value |= u32::from(byte & 0x7f).checked_shl(shift).unwrap_or(0);
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(self.malformed(what))
    }

    /// A copy: a kept slice would pin the batch it came in.
    fn take(&mut self, length: usize, what: &'static str) -> Result<Bytes, DecodeError> {
        if length > self.rest.len() {
            return Err(self.malformed(what));
        }
        Ok(Bytes::copy_from_slice(&self.rest.split_to(length)))
    }

    /// A length as its type writes it: -1 (or 0 in flexible versions) is null.
    fn length(&mut self, wide: bool, what: &'static str) -> Result<Option<usize>, DecodeError> {
        let length = match (self.flexible, wide) {
            (true, _) => i64::from(self.unsigned_varint(what)?) - 1,
            (false, true) => i64::from(self.i32(what)?),
            (false, false) => i64::from(self.i16(what)?),
        };
        Ok(usize::try_from(length).ok())
    }

    fn nullable_string(&mut self, what: &'static str) -> Result<Option<Arc<str>>, DecodeError> {
        let Some(length) = self.length(false, what)? else { return Ok(None) };
        let bytes = self.take(length, what)?;
        std::str::from_utf8(&bytes).map(|text| Some(Arc::from(text))).map_err(|_| self.malformed(what))
    }

    fn string(&mut self, what: &'static str) -> Result<Arc<str>, DecodeError> {
        self.nullable_string(what)?.ok_or_else(|| self.malformed(what))
    }

    fn bytes(&mut self, what: &'static str) -> Result<Bytes, DecodeError> {
        let length = self.length(true, what)?.ok_or_else(|| self.malformed(what))?;
        self.take(length, what)
    }

    /// The count of an array, at most one element per byte that remains.
    fn array(&mut self, what: &'static str) -> Result<usize, DecodeError> {
        self.length(true, what)?.filter(|count| *count <= self.rest.len()).ok_or_else(|| self.malformed(what))
    }

    fn tagged(&mut self, mut field: impl FnMut(u32, Reader) -> Result<(), DecodeError>) -> Result<(), DecodeError> {
        if !self.flexible {
            return Ok(());
        }
        for _ in 0..self.unsigned_varint("tagged fields")? {
            let tag = self.unsigned_varint("tag")?;
            let size = self.unsigned_varint("tag size")? as usize;
            let rest = self.take(size, "tagged field")?;
            field(tag, Reader { rest, record_type: self.record_type, flexible: true })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Written by Kafka 4.3.1's own `MessageUtil` from the same fields.
    const COMMIT_KEY: &str = "000100076772c3bc70706500066f726465727300000007";
    const COMMIT_VALUES: [&str; 5] = [
        "00000000011f71fb04cb00046d6574610000018bcfe56800",
        "00010000011f71fb04cb00046d6574610000018bcfe568000000018bcfee8fc0",
        "00020000011f71fb04cb00046d6574610000018bcfe56800",
        "00030000011f71fb04cb0000000500046d6574610000018bcfe56800",
        "00040000011f71fb04cb00000005056d6574610000018bcfe568000100100123456789abcdeffedcba9876543210",
    ];
    const COMMIT_VALUE_WITHOUT_TOPIC_ID: &str = "00040000000000000001ffffffff01000000000000000200";
    const GROUP_KEY: &str = "0002000167";
    const GROUP_VALUES: [&str; 5] = [
        "00000008636f6e73756d657200000003000572616e676500036d2d310000000100036d2d31000163000a2f3132372e302e302e310000afc80000000201020000000103",
        "00010008636f6e73756d657200000003000572616e676500036d2d310000000100036d2d31000163000a2f3132372e302e302e31000493e00000afc80000000201020000000103",
        "00020008636f6e73756d657200000003000572616e676500036d2d310000018bcfe568000000000100036d2d31000163000a2f3132372e302e302e31000493e00000afc80000000201020000000103",
        "00030008636f6e73756d657200000003000572616e676500036d2d310000018bcfe568000000000100036d2d310003692d31000163000a2f3132372e302e302e31000493e00000afc80000000201020000000103",
        "000409636f6e73756d6572000000030672616e6765046d2d310000018bcfe5680002046d2d3104692d3102630b2f3132372e302e302e31000493e00000afc803010202030000",
    ];
    const EMPTY_GROUP_VALUE: &str = "0003000000000000ffffffff000000000000000900000000";

    fn bytes(hex: &str) -> Bytes {
        (0..hex.len()).step_by(2).map(|i| u8::from_str_radix(&hex[i..i + 2], 16).unwrap()).collect()
    }

    fn record(key: &str, value: &str) -> CoordinatorRecord {
        CoordinatorRecord { key: bytes(key), value: Some(bytes(value)) }
    }

    fn offset(version: usize) -> GroupChange {
        let value = OffsetAndMetadata {
            offset: 1_234_567_890_123,
            leader_epoch: if version >= 3 { 5 } else { -1 },
            metadata: "meta".into(),
            commit_unix_ms: 1_700_000_000_000,
            expire_unix_ms: (version == 1).then_some(1_700_000_600_000),
            topic_id: match version {
                4 => TopicId(Uuid::from_u128(0x0123_4567_89ab_cdef_fedc_ba98_7654_3210)),
                _ => TopicId::NONE,
            },
        };
        GroupChange::Offset { group_id: "grüppe".into(), topic: "orders".into(), partition: 7, value: Some(value) }
    }

    fn group(version: usize) -> GroupChange {
        let member = StoredMember {
            member_id: "m-1".into(),
            group_instance_id: (version >= 3).then(|| "i-1".into()),
            client_id: "c".into(),
            client_host: "/127.0.0.1".into(),
            rebalance_timeout_ms: if version >= 1 { 300_000 } else { 45_000 },
            session_timeout_ms: 45_000,
            subscription: Bytes::from_static(&[1, 2]),
            assignment: Bytes::from_static(&[3]),
        };
        let value = GroupMetadata {
            protocol_type: "consumer".into(),
            generation: 3,
            protocol: Some("range".into()),
            leader: Some("m-1".into()),
            state_unix_ms: if version >= 2 { 1_700_000_000_000 } else { -1 },
            members: vec![member],
        };
        GroupChange::Group { group_id: "g".into(), value: Some(value) }
    }

    #[test]
    fn every_version_kafka_wrote_is_read() {
        for version in 0..=4 {
            assert_eq!(decode(&record(COMMIT_KEY, COMMIT_VALUES[version])), Ok(Some(offset(version))));
            assert_eq!(decode(&record(GROUP_KEY, GROUP_VALUES[version])), Ok(Some(group(version))));
        }
    }

    #[test]
    fn what_is_written_is_what_kafka_writes() {
        assert_eq!(encode(&offset(4)), record(COMMIT_KEY, COMMIT_VALUES[4]));
        assert_eq!(encode(&offset(1)), record(COMMIT_KEY, COMMIT_VALUES[1]));
        assert_eq!(encode(&group(3)), record(GROUP_KEY, GROUP_VALUES[3]));
        let plain = OffsetAndMetadata {
            offset: 1,
            leader_epoch: -1,
            metadata: "".into(),
            commit_unix_ms: 2,
            expire_unix_ms: None,
            topic_id: TopicId::NONE,
        };
        assert_eq!(encode_offset(&plain), bytes(COMMIT_VALUE_WITHOUT_TOPIC_ID));
        let empty = GroupMetadata {
            protocol_type: "".into(),
            generation: 0,
            protocol: None,
            leader: None,
            state_unix_ms: 9,
            members: Vec::new(),
        };
        assert_eq!(encode_group(&empty), bytes(EMPTY_GROUP_VALUE));
        let GroupChange::Group { value: Some(full), .. } = group(3) else { unreachable!() };
        assert_eq!(encoded_group_bytes(&full), encode_group(&full).len());
    }

    #[test]
    fn a_newer_type_is_kept_and_a_newer_version_of_a_known_type_stops() {
        assert_eq!(decode(&record("000300016700", "0000")), Ok(None));
        let newer = decode(&record(GROUP_KEY, "0005"));
        assert_eq!(newer, Err(DecodeError::UnknownVersion { record_type: 2, version: 5 }));
        // A tagged field of a newer broker (tag 9, two bytes) is no obstacle.
        let tagged = "00040000000000000001ffffffff01000000000000000201 0902abcd".replace(' ', "");
        assert!(matches!(decode(&record(COMMIT_KEY, &tagged)), Ok(Some(_))));
    }

    #[test]
    fn a_record_without_sense_is_refused() {
        for (i, value) in COMMIT_VALUES.iter().chain(&GROUP_VALUES).enumerate() {
            let key = if i < 5 { COMMIT_KEY } else { GROUP_KEY };
            for cut in (0..value.len()).step_by(2) {
                assert!(decode(&record(key, &value[..cut])).is_err(), "{value} cut at {cut}");
            }
        }
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(key_type in 0i16..3, version in 0i16..5, key: Vec<u8>, value: Vec<u8>) {
            let key = [&key_type.to_be_bytes()[..], &key].concat().into();
            let value = Some([&version.to_be_bytes()[..], &value].concat().into());
            let _ = decode(&CoordinatorRecord { key, value });
        }
    }
}
