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
use bytes::{Buf, Bytes};
use rookery_protocol::codec as wire;
use rookery_protocol::messages::Message;
use rookery_protocol::messages::data::{
    ConsumerProtocolSubscription, CoordinatorKey, GroupMetadataKey, GroupMetadataValue, MemberMetadata,
    OffsetCommitKey, OffsetCommitValue, Versioned,
};
use rookery_raft::ids::{TopicId, TopicName};
use std::collections::BTreeSet;
use std::sync::Arc;

const BOUNDED: &str = "strings were bounded when the request came in";

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

/// The bytes of a change. Every string in it was bounded when the request came in, see `GroupRequest::is_well_formed`.
pub(super) fn encode(change: &GroupChange) -> CoordinatorRecord {
    let (key, value) = match change {
        GroupChange::Offset { group_id, topic, partition, value } => {
            let (group, topic) = ((&**group_id).into(), (&**topic).into());
            let key = CoordinatorKey::OffsetCommit(OffsetCommitKey { group, topic, partition: *partition });
            (key, value.as_ref().map(encode_offset))
        }
        GroupChange::Group { group_id, value } => {
            let key = CoordinatorKey::GroupMetadata(GroupMetadataKey { group: (&**group_id).into() });
            (key, value.as_ref().map(encode_group))
        }
    };
    CoordinatorRecord { key: key.encode().expect(BOUNDED), value }
}

fn encode_offset(value: &OffsetAndMetadata) -> Bytes {
    // Only version 1 has a retention of the commit's own.
    let version = if value.expire_unix_ms.is_some() { 1 } else { 4 };
    let value = OffsetCommitValue {
        offset: value.offset,
        leader_epoch: value.leader_epoch,
        metadata: (&*value.metadata).into(),
        commit_timestamp: value.commit_unix_ms,
        expire_timestamp: value.expire_unix_ms.unwrap_or(-1),
        topic_id: value.topic_id.0,
        ..Default::default()
    };
    value.to_versioned_bytes(version).expect(BOUNDED)
}

fn encode_group(value: &GroupMetadata) -> Bytes {
    let member = |member: &StoredMember| MemberMetadata {
        member_id: (&*member.member_id).into(),
        group_instance_id: member.group_instance_id.as_deref().map(Into::into),
        client_id: (&*member.client_id).into(),
        client_host: (&*member.client_host).into(),
        rebalance_timeout: member.rebalance_timeout_ms,
        session_timeout: member.session_timeout_ms,
        subscription: member.subscription.clone(),
        assignment: member.assignment.clone(),
        ..Default::default()
    };
    let value = GroupMetadataValue {
        protocol_type: (&*value.protocol_type).into(),
        generation: value.generation,
        protocol: value.protocol.as_deref().map(Into::into),
        leader: value.leader.as_deref().map(Into::into),
        current_state_timestamp: value.state_unix_ms,
        members: value.members.iter().map(member).collect(),
        ..Default::default()
    };
    value.to_versioned_bytes(3).expect(BOUNDED)
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
    let record_type = record.key.clone().try_get_i16().unwrap_or(-1);
    let malformed = |why: wire::DecodeError| DecodeError::Malformed { record_type, why: why.to_string() };
    match CoordinatorKey::decode(record.key.clone()).map_err(malformed)? {
        CoordinatorKey::OffsetCommit(key) => {
            let value = read_value(record, record_type)?.map(decode_offset);
            let (group_id, topic) = (Arc::from(&*key.group), Arc::from(&*key.topic));
            Ok(Some(GroupChange::Offset { group_id, topic, partition: key.partition, value }))
        }
        CoordinatorKey::GroupMetadata(key) => {
            let value = read_value(record, record_type)?.map(decode_group).transpose();
            let value = value.map_err(|why| DecodeError::Malformed { record_type, why: why.to_owned() })?;
            Ok(Some(GroupChange::Group { group_id: Arc::from(&*key.group), value }))
        }
        CoordinatorKey::Unknown(_) => Ok(None),
    }
}

fn read_value<V: Versioned>(record: &CoordinatorRecord, record_type: i16) -> Result<Option<V>, DecodeError> {
    let Some(value) = record.value.clone() else { return Ok(None) };
    match value.clone().try_get_i16() {
        Ok(version) if !V::VERSIONS.contains(&version) => Err(DecodeError::UnknownVersion { record_type, version }),
        _ => match V::from_versioned_bytes(value) {
            Ok((_, value)) => Ok(Some(value)),
            Err(why) => Err(DecodeError::Malformed { record_type, why: why.to_string() }),
        },
    }
}

fn decode_offset(value: OffsetCommitValue) -> OffsetAndMetadata {
    OffsetAndMetadata {
        offset: value.offset,
        leader_epoch: value.leader_epoch,
        metadata: Arc::from(&*value.metadata),
        commit_unix_ms: value.commit_timestamp,
        expire_unix_ms: Some(value.expire_timestamp).filter(|at| *at >= 0),
        topic_id: TopicId(value.topic_id),
    }
}

fn decode_group(value: GroupMetadataValue) -> Result<GroupMetadata, &'static str> {
    let text = |text: &str| -> Arc<str> { Arc::from(text) };
    let member = |member: MemberMetadata| StoredMember {
        member_id: text(&member.member_id),
        group_instance_id: member.group_instance_id.as_deref().map(text),
        client_id: text(&member.client_id),
        client_host: text(&member.client_host),
        // Before version 1 a member had one time-out for both.
        rebalance_timeout_ms: match member.rebalance_timeout {
            ..0 => member.session_timeout,
            timeout => timeout,
        },
        session_timeout_ms: member.session_timeout,
        subscription: member.subscription,
        assignment: member.assignment,
    };
    let group = GroupMetadata {
        protocol_type: text(&value.protocol_type),
        generation: value.generation,
        protocol: value.protocol.as_deref().map(text),
        leader: value.leader.as_deref().map(text),
        state_unix_ms: value.current_state_timestamp,
        members: value.members.into_iter().map(member).collect(),
    };
    let ids: BTreeSet<_> = group.members.iter().map(|m| &m.member_id).collect();
    let instances: Vec<_> = group.members.iter().filter_map(|m| m.group_instance_id.as_ref()).collect();
    if ids.len() < group.members.len() || instances.iter().collect::<BTreeSet<_>>().len() < instances.len() {
        return Err("a member is named twice");
    }
    if group.protocol.is_none() && !group.members.is_empty() {
        return Err("members without a protocol");
    }
    Ok(group)
}

/// The topics of a consumer's subscription, or `None` where the bytes are none. Only the part that version 0 has is read, as
/// Kafka does: every later version begins with it.
pub(super) fn subscribed_topics(subscription: &Bytes) -> Option<Vec<TopicName>> {
    let mut input = wire::Decoder::new(subscription.clone());
    input.i16().ok()?;
    let subscription = ConsumerProtocolSubscription::decode(0, &mut input).ok()?;
    Some(subscription.topics.iter().map(|topic| Arc::from(&**topic)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use uuid::Uuid;

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
