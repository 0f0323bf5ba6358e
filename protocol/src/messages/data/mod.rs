//! Versioned values that travel inside messages and records, each behind an int16.
//!
//! The files beside this one are written by `scripts/messages`, like those of `api/`; this one holds what the schemas
//! do not say. In `__consumer_offsets` the number in front of a **key** is the type of the record, in front of a
//! **value** its version.

mod consumer_protocol_assignment;
mod consumer_protocol_subscription;
mod group_metadata_key;
mod group_metadata_value;
mod offset_commit_key;
mod offset_commit_value;

use bytes::Bytes;

/// What the leader of a classic group hands out (KIP-429), and its `TopicPartition`.
pub mod assignment {
    pub use super::consumer_protocol_assignment::*;
}
/// What a member of a classic group wants, and its `TopicPartition`.
pub mod subscription {
    pub use super::consumer_protocol_subscription::*;
}
pub use consumer_protocol_assignment::ConsumerProtocolAssignment;
pub use consumer_protocol_subscription::ConsumerProtocolSubscription;
pub use group_metadata_key::GroupMetadataKey;
pub use group_metadata_value::{GroupMetadataValue, MemberMetadata};
pub use offset_commit_key::OffsetCommitKey;
pub use offset_commit_value::OffsetCommitValue;

use super::Message;
use crate::codec::{DecodeError, Decoder, EncodeError, Encoder};

/// A value behind its version.
pub trait Versioned: Message {
    /// The version, then the value in it.
    fn to_versioned_bytes(&self, version: i16) -> Result<Bytes, EncodeError> {
        let mut out = Encoder::new();
        out.i16(version);
        self.encode(version, &mut out)?;
        Ok(out.into_bytes())
    }

    /// The version and the value in it. A version of the future is an error: what it means is not known.
    fn from_versioned_bytes(bytes: Bytes) -> Result<(i16, Self), DecodeError> {
        let mut input = Decoder::new(bytes);
        let version = input.i16()?;
        Ok((version, Self::decode(version, &mut input)?))
    }
}

impl Versioned for OffsetCommitValue {}
impl Versioned for GroupMetadataValue {}

macro_rules! consumer_protocol {
    ($($name:ident),*) => {$(
        impl $name {
            /// Read one as clients write it. A version of the future is read as the highest known one: each version of
            /// this protocol only adds fields at the end.
            pub fn from_bytes(bytes: Bytes) -> Result<Self, DecodeError> {
                let mut input = Decoder::new(bytes);
                let version = input.i16()?.min(*Self::VERSIONS.end());
                Self::decode(version, &mut input)
            }

            /// The version, then the value in it.
            pub fn to_bytes(&self, version: i16) -> Result<Bytes, EncodeError> {
                let mut out = Encoder::new();
                out.i16(version);
                self.encode(version, &mut out)?;
                Ok(out.into_bytes())
            }
        }
    )*};
}
consumer_protocol!(ConsumerProtocolSubscription, ConsumerProtocolAssignment);

/// The key of a record in `__consumer_offsets`.
#[derive(Clone, Debug, PartialEq)]
pub enum CoordinatorKey {
    /// Types 0 and 1: the offset that a group committed for one partition.
    OffsetCommit(OffsetCommitKey),
    /// Type 2: a classic group.
    GroupMetadata(GroupMetadataKey),
    /// A type that this version does not know: the record is passed over, as Kafka does.
    Unknown(i16),
}

impl CoordinatorKey {
    const OFFSET_COMMIT: i16 = 1;
    const GROUP_METADATA: i16 = 2;

    /// Read the key of a record.
    pub fn decode(bytes: Bytes) -> Result<Self, DecodeError> {
        let mut input = Decoder::new(bytes);
        match input.i16()? {
            // Type 0 is that of Kafka before 0.8.2, with the same key.
            0 | Self::OFFSET_COMMIT => OffsetCommitKey::decode(0, &mut input).map(Self::OffsetCommit),
            Self::GROUP_METADATA => GroupMetadataKey::decode(0, &mut input).map(Self::GroupMetadata),
            other => Ok(Self::Unknown(other)),
        }
    }

    /// Write the key of a record.
    pub fn encode(&self) -> Result<Bytes, EncodeError> {
        let mut out = Encoder::new();
        match self {
            Self::OffsetCommit(key) => {
                out.i16(Self::OFFSET_COMMIT);
                key.encode(0, &mut out)?;
            }
            Self::GroupMetadata(key) => {
                out.i16(Self::GROUP_METADATA);
                key.encode(0, &mut out)?;
            }
            Self::Unknown(kind) => out.i16(*kind),
        }
        Ok(out.into_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_and_values_are_kafkas_bytes() {
        let key = CoordinatorKey::OffsetCommit(OffsetCommitKey { group: "g".into(), topic: "t".into(), partition: 3 });
        let bytes = key.encode().expect("fits");
        assert_eq!(bytes, [0, 1, 0, 1, b'g', 0, 1, b't', 0, 0, 0, 3][..]);
        assert_eq!(CoordinatorKey::decode(bytes), Ok(key));

        let value = OffsetCommitValue { offset: 9, leader_epoch: 4, commit_timestamp: 1, ..Default::default() };
        let bytes = value.to_versioned_bytes(3).expect("fits");
        let golden = [&[0, 3][..], &9i64.to_be_bytes(), &4i32.to_be_bytes(), &[0, 0], &1i64.to_be_bytes()].concat();
        assert_eq!(bytes, golden);
        assert_eq!(OffsetCommitValue::from_versioned_bytes(bytes), Ok((3, value)));

        let future = Bytes::from_static(&[0, 99, 1, 2, 3]);
        assert_eq!(CoordinatorKey::decode(future.clone()), Ok(CoordinatorKey::Unknown(99)));
        assert!(OffsetCommitValue::from_versioned_bytes(future).is_err());
    }

    #[test]
    fn a_subscription_of_the_future_is_read_as_the_last_known_version() {
        let wanted = ConsumerProtocolSubscription { topics: vec!["t".into()], ..Default::default() };
        let mut bytes = wanted.to_bytes(3).expect("fits").to_vec();
        bytes[1] = 4;
        bytes.push(1);
        assert_eq!(ConsumerProtocolSubscription::from_bytes(bytes.into()), Ok(wanted));
    }
}
