//! Records to bytes and back: one frame each, all records of a decision in one entry.

use super::broker::{decode_directories, encode_directories};
use super::{
    AccessControlEntry, ConfigResource, ConfigResourceType, Decoder, Encoder, Formation, MetadataRecord, Observation,
    PartitionChange, PartitionRegistration, Provenance, QuotaEntity, RecordError, RegisterBroker, ScramMechanism,
    UserScramCredential,
};
use crate::ids::{BrokerEpoch, ClusterId, DirectoryId, NodeId, QuorumNodeId, TopicId};
use bytes::Bytes;

/// The first byte of every entry.
const ENTRY_FORMAT: u8 = 1;

/// The most bytes one entry may have: 64 MiB, about half a million partition changes. A larger decision is refused
/// when it is made, a larger entry when it is read.
pub const MAX_ENTRY_BYTES: usize = 64 << 20;

mod kind {
    pub(super) const FORMATION: u64 = 1;
    pub(super) const REGISTER_BROKER: u64 = 2;
    pub(super) const FENCE_BROKER: u64 = 3;
    pub(super) const UNFENCE_BROKER: u64 = 4;
    pub(super) const BROKER_SHUTTING_DOWN: u64 = 5;
    pub(super) const BROKER_DIRECTORIES: u64 = 6;
    pub(super) const UNREGISTER_BROKER: u64 = 7;
    pub(super) const TOPIC: u64 = 8;
    pub(super) const PARTITION: u64 = 9;
    pub(super) const PARTITION_CHANGE: u64 = 10;
    pub(super) const REMOVE_TOPIC: u64 = 11;
    pub(super) const CONFIG: u64 = 12;
    pub(super) const PRODUCER_IDS: u64 = 13;
    pub(super) const CLIENT_QUOTA: u64 = 14;
    pub(super) const ACCESS_CONTROL_ENTRY: u64 = 15;
    pub(super) const REMOVE_ACCESS_CONTROL_ENTRY: u64 = 16;
    pub(super) const USER_SCRAM_CREDENTIAL: u64 = 17;
    pub(super) const REMOVE_USER_SCRAM_CREDENTIAL: u64 = 18;
    pub(super) const FEATURE_LEVEL: u64 = 19;
    pub(super) const PROVENANCE: u64 = 20;
    pub(super) const OBSERVATION: u64 = 21;
}

/// The bytes of one Raft entry.
pub fn encode_records(records: &[MetadataRecord]) -> Bytes {
    let mut out = Encoder::new();
    let mut frame = Encoder::new();
    out.u8(ENTRY_FORMAT);
    out.count(records.len());
    for record in records {
        frame.clear();
        encode_frame(record, &mut frame);
        out.bytes(frame.as_slice());
    }
    Bytes::from(out.into_inner())
}

/// The records of one Raft entry. Any error means that this build must not go on replaying the log.
pub fn decode_records(bytes: &[u8]) -> Result<Vec<MetadataRecord>, RecordError> {
    if bytes.len() > MAX_ENTRY_BYTES {
        return Err(RecordError::TooLong(bytes.len() as u64));
    }
    let mut input = Decoder::new(bytes);
    let format = input.u8()?;
    if format != ENTRY_FORMAT {
        return Err(RecordError::UnknownFormat(format));
    }
    let records = input.list(|input| decode_frame(input.slice()?))?;
    match input.remaining() {
        0 => Ok(records),
        count => Err(RecordError::TrailingEntryBytes(count)),
    }
}

/// Every type has been written in version 0 only so far.
fn encode_frame(record: &MetadataRecord, out: &mut Encoder) {
    let header = |out: &mut Encoder, kind: u64| {
        out.u64(kind);
        out.u64(0);
    };
    let broker = |out: &mut Encoder, id: &NodeId, epoch: &BrokerEpoch| {
        out.i32(id.0);
        out.i64(epoch.0);
    };
    match record {
        MetadataRecord::Formation(formation) => {
            header(out, kind::FORMATION);
            encode_formation(formation, out);
        }
        MetadataRecord::RegisterBroker(registration) => {
            header(out, kind::REGISTER_BROKER);
            registration.encode(out);
        }
        MetadataRecord::FenceBroker { id, epoch } => {
            header(out, kind::FENCE_BROKER);
            broker(out, id, epoch);
        }
        MetadataRecord::UnfenceBroker { id, epoch } => {
            header(out, kind::UNFENCE_BROKER);
            broker(out, id, epoch);
        }
        MetadataRecord::BrokerShuttingDown { id, epoch } => {
            header(out, kind::BROKER_SHUTTING_DOWN);
            broker(out, id, epoch);
        }
        MetadataRecord::BrokerDirectories { id, epoch, directories } => {
            header(out, kind::BROKER_DIRECTORIES);
            broker(out, id, epoch);
            encode_directories(out, directories);
        }
        MetadataRecord::UnregisterBroker { id, epoch } => {
            header(out, kind::UNREGISTER_BROKER);
            broker(out, id, epoch);
        }
        MetadataRecord::Topic { name, id } => {
            header(out, kind::TOPIC);
            out.string(name);
            out.uuid(id.0);
        }
        MetadataRecord::Partition { topic_id, partition, registration } => {
            header(out, kind::PARTITION);
            out.uuid(topic_id.0);
            out.i32(*partition);
            registration.encode(out);
        }
        MetadataRecord::PartitionChange(change) => {
            header(out, kind::PARTITION_CHANGE);
            change.encode(out);
        }
        MetadataRecord::RemoveTopic { topic_id } => {
            header(out, kind::REMOVE_TOPIC);
            out.uuid(topic_id.0);
        }
        MetadataRecord::Config { resource, name, value } => {
            header(out, kind::CONFIG);
            encode_config(resource, name, value.as_deref(), out);
        }
        MetadataRecord::ProducerIds { next } => {
            header(out, kind::PRODUCER_IDS);
            out.i64(*next);
        }
        MetadataRecord::ClientQuota { entity, key, value } => {
            header(out, kind::CLIENT_QUOTA);
            out.list(entity, |out, part| part.encode(out));
            out.string(key);
            out.option(*value, Encoder::f64);
        }
        MetadataRecord::AccessControlEntry(entry) => {
            header(out, kind::ACCESS_CONTROL_ENTRY);
            entry.encode(out);
        }
        MetadataRecord::RemoveAccessControlEntry { id } => {
            header(out, kind::REMOVE_ACCESS_CONTROL_ENTRY);
            out.uuid(*id);
        }
        MetadataRecord::UserScramCredential(credential) => {
            header(out, kind::USER_SCRAM_CREDENTIAL);
            credential.encode(out);
        }
        MetadataRecord::RemoveUserScramCredential { user, mechanism } => {
            header(out, kind::REMOVE_USER_SCRAM_CREDENTIAL);
            out.string(user);
            out.u8(mechanism.id());
        }
        MetadataRecord::FeatureLevel { name, level } => {
            header(out, kind::FEATURE_LEVEL);
            out.string(name);
            out.i16(*level);
        }
        MetadataRecord::Provenance(provenance) => {
            header(out, kind::PROVENANCE);
            provenance.encode(out);
        }
        MetadataRecord::Observation(observation) => {
            header(out, kind::OBSERVATION);
            observation.encode(out);
        }
    }
}

fn decode_frame(frame: &[u8]) -> Result<MetadataRecord, RecordError> {
    let mut input = Decoder::new(frame);
    let input = &mut input;
    let kind = input.u64()?;
    let version = input.u64()?;
    if (kind::FORMATION..=kind::OBSERVATION).contains(&kind) && version != 0 {
        return Err(RecordError::UnknownVersion { kind, version });
    }
    let record = match kind {
        kind::FORMATION => MetadataRecord::Formation(decode_formation(input)?),
        kind::REGISTER_BROKER => MetadataRecord::RegisterBroker(RegisterBroker::decode(input)?),
        kind::FENCE_BROKER => MetadataRecord::FenceBroker { id: node(input)?, epoch: epoch(input)? },
        kind::UNFENCE_BROKER => MetadataRecord::UnfenceBroker { id: node(input)?, epoch: epoch(input)? },
        kind::BROKER_SHUTTING_DOWN => MetadataRecord::BrokerShuttingDown { id: node(input)?, epoch: epoch(input)? },
        kind::BROKER_DIRECTORIES => MetadataRecord::BrokerDirectories {
            id: node(input)?,
            epoch: epoch(input)?,
            directories: decode_directories(input)?,
        },
        kind::UNREGISTER_BROKER => MetadataRecord::UnregisterBroker { id: node(input)?, epoch: epoch(input)? },
        kind::TOPIC => MetadataRecord::Topic { name: input.str()?.into(), id: TopicId(input.uuid()?) },
        kind::PARTITION => MetadataRecord::Partition {
            topic_id: TopicId(input.uuid()?),
            partition: input.i32()?,
            registration: PartitionRegistration::decode(input)?,
        },
        kind::PARTITION_CHANGE => MetadataRecord::PartitionChange(PartitionChange::decode(input)?),
        kind::REMOVE_TOPIC => MetadataRecord::RemoveTopic { topic_id: TopicId(input.uuid()?) },
        kind::CONFIG => decode_config(input)?,
        kind::PRODUCER_IDS => MetadataRecord::ProducerIds { next: input.i64()? },
        kind::CLIENT_QUOTA => MetadataRecord::ClientQuota {
            entity: input.list(QuotaEntity::decode)?,
            key: input.string()?,
            value: input.option(Decoder::f64)?,
        },
        kind::ACCESS_CONTROL_ENTRY => MetadataRecord::AccessControlEntry(AccessControlEntry::decode(input)?),
        kind::REMOVE_ACCESS_CONTROL_ENTRY => MetadataRecord::RemoveAccessControlEntry { id: input.uuid()? },
        kind::USER_SCRAM_CREDENTIAL => MetadataRecord::UserScramCredential(UserScramCredential::decode(input)?),
        kind::REMOVE_USER_SCRAM_CREDENTIAL => MetadataRecord::RemoveUserScramCredential {
            user: input.string()?,
            mechanism: input.known("SCRAM mechanism", ScramMechanism::from_id)?,
        },
        kind::FEATURE_LEVEL => MetadataRecord::FeatureLevel { name: input.string()?, level: input.i16()? },
        kind::PROVENANCE => MetadataRecord::Provenance(Provenance::decode(input)?),
        kind::OBSERVATION => MetadataRecord::Observation(Observation::decode(input)?),
        unknown => return Err(RecordError::UnknownType(unknown)),
    };
    match input.remaining() {
        0 => Ok(record),
        count => Err(RecordError::TrailingBytes { kind, version, count }),
    }
}

fn node(input: &mut Decoder<'_>) -> Result<NodeId, RecordError> {
    input.i32().map(NodeId)
}

fn epoch(input: &mut Decoder<'_>) -> Result<BrokerEpoch, RecordError> {
    input.i64().map(BrokerEpoch)
}

fn encode_formation(formation: &Formation, out: &mut Encoder) {
    out.uuid(formation.cluster_id.0);
    out.list(&formation.voters, |out, voter| {
        out.i32(voter.node_id.0);
        out.uuid(voter.directory_id.0);
    });
}

fn decode_formation(input: &mut Decoder<'_>) -> Result<Formation, RecordError> {
    Ok(Formation {
        cluster_id: ClusterId(input.uuid()?),
        voters: input.list(|input| {
            Ok(QuorumNodeId { node_id: NodeId(input.i32()?), directory_id: DirectoryId(input.uuid()?) })
        })?,
    })
}

fn encode_config(resource: &ConfigResource, name: &str, value: Option<&str>, out: &mut Encoder) {
    out.u8(resource.kind as u8);
    out.string(&resource.name);
    out.string(name);
    out.option(value, Encoder::string);
}

fn decode_config(input: &mut Decoder<'_>) -> Result<MetadataRecord, RecordError> {
    let kind = input.known("config resource type", ConfigResourceType::from_id)?;
    Ok(MetadataRecord::Config {
        resource: ConfigResource { kind, name: input.string()? },
        name: input.string()?,
        value: input.option(Decoder::string)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::arbitrary::any_record;
    use crate::record::{Cause, Conviction};
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn records_survive_their_bytes(records in prop::collection::vec(any_record(), 0..8)) {
            let bytes = encode_records(&records);
            prop_assert_eq!(decode_records(&bytes).expect("own bytes"), records);
        }

        #[test]
        fn a_cut_entry_is_an_error(record in any_record(), cut in 1usize..200) {
            let bytes = encode_records(&[record]);
            let cut = bytes.len() - cut.min(bytes.len());
            prop_assert!(decode_records(&bytes[..cut]).is_err());
        }

        #[test]
        fn arbitrary_bytes_are_refused_or_canonical(mut bytes in prop::collection::vec(any::<u8>(), 0..512)) {
            if let Some(first) = bytes.first_mut() { *first = ENTRY_FORMAT; }
            if let Ok(records) = decode_records(&bytes) {
                prop_assert_eq!(&encode_records(&records)[..], &bytes[..]);
            }
        }

        #[test]
        fn a_flipped_byte_never_panics(record in any_record(), at in any::<prop::sample::Index>(), with in any::<u8>()) {
            let mut bytes = encode_records(&[record]).to_vec();
            let at = at.index(bytes.len());
            bytes[at] = with;
            let _ = decode_records(&bytes);
        }
    }

    #[test]
    fn what_is_not_known_is_refused() {
        let entry = |frame: &[u8]| {
            let mut out = Encoder::new();
            out.u8(ENTRY_FORMAT);
            out.count(1);
            out.bytes(frame);
            out.into_inner()
        };
        assert_eq!(decode_records(&entry(&[99, 0])), Err(RecordError::UnknownType(99)));
        assert_eq!(decode_records(&entry(&[13, 1, 0])), Err(RecordError::UnknownVersion { kind: 13, version: 1 }));
        assert_eq!(
            decode_records(&entry(&[13, 0, 0, 7])),
            Err(RecordError::TrailingBytes { kind: 13, version: 0, count: 1 })
        );
        let unknown = |what: &'static str, value: u64| Err(RecordError::UnknownValue { what, value });
        assert_eq!(decode_records(&entry(&[20, 0, 2, 1, 0, 99])), unknown("cause", 99));
        assert_eq!(decode_records(&entry(&[20, 0, 2, 1, 0, 7, 9])), unknown("conviction", 9));
        assert_eq!(decode_records(&entry(&[20, 0, 2, 1, 0, 11, 2, 9])), unknown("disk report", 9));
        assert_eq!(decode_records(&entry(&[21, 0, 2, 2, 99, 1])), unknown("finding", 99));
        assert_eq!(decode_records(&[2, 0]), Err(RecordError::UnknownFormat(2)));
        assert_eq!(decode_records(&[1, 0, 0]), Err(RecordError::TrailingEntryBytes(1)));
    }

    #[test]
    fn a_claimed_count_reserves_nothing() {
        let mut out = Encoder::new();
        out.u8(ENTRY_FORMAT);
        out.u64(u64::MAX);
        assert_eq!(decode_records(out.as_slice()), Err(RecordError::TooLong(u64::MAX)));
    }

    #[test]
    fn the_format_of_version_0_stays() {
        // Bytes that a released build may have in its log.
        let record = MetadataRecord::FenceBroker { id: NodeId(3), epoch: BrokerEpoch(300) };
        assert_eq!(&encode_records(&[record])[..], &[1, 1, 5, 3, 0, 6, 0xd8, 0x04]);
        let cause = Cause::Convicted(Conviction::SilentAndPingsUnanswered);
        let provenance = Provenance { controller: NodeId(1), term: 7, unix_ms: -1, cause };
        let record = MetadataRecord::Provenance(provenance);
        assert_eq!(&encode_records(&[record])[..], &[1, 1, 7, 20, 0, 2, 7, 1, 7, 3]);
    }
}
