//! Events in a snapshot. Strict as the records are: what this build does not know is an error.

use super::{
    Bounded, ConfigTransition, ConfigValue, DirectoryTransition, Event, Happening, LISTED_MAX, PartitionChangeKind,
    PartitionTransition, TopicSize,
};
use crate::ids::{BrokerEpoch, ClusterId, DirectoryId, IncarnationId, LeaderEpoch, MetadataOffset, NodeId, TopicId};
use crate::record::{
    ConfigResource, ConfigResourceType, Decoder, DirectoryState, Encoder, Observation, Provenance, RecordError,
    decode_nodes, encode_nodes,
};

impl Event {
    pub(crate) fn encode(&self, out: &mut Encoder) {
        out.i64(self.offset.0);
        self.provenance.encode(out);
        self.what.encode(out);
    }

    pub(crate) fn decode(input: &mut Decoder<'_>) -> Result<Self, RecordError> {
        Ok(Self {
            offset: MetadataOffset(input.i64()?),
            provenance: Provenance::decode(input)?,
            what: Happening::decode(input)?,
        })
    }
}

impl Happening {
    fn encode(&self, out: &mut Encoder) {
        let broker = |out: &mut Encoder, tag: u8, id: &NodeId, epoch: &BrokerEpoch| {
            out.u8(tag);
            out.i32(id.0);
            out.i64(epoch.0);
        };
        match self {
            Self::ClusterFormed { cluster_id, voters } => {
                out.u8(1);
                out.uuid(cluster_id.0);
                voters.encode(out, |out, voter| out.i32(voter.0));
            }
            Self::BrokerRegistered { id, epoch, incarnation, directories } => {
                broker(out, 2, id, epoch);
                out.uuid(incarnation.0);
                directories.encode(out, encode_directory);
            }
            Self::BrokerFenced { id, epoch } => broker(out, 3, id, epoch),
            Self::BrokerUnfenced { id, epoch } => broker(out, 4, id, epoch),
            Self::BrokerShuttingDown { id, epoch } => broker(out, 5, id, epoch),
            Self::BrokerUnregistered { id, epoch } => broker(out, 6, id, epoch),
            Self::DirectoriesChanged { id, epoch, directories } => {
                broker(out, 7, id, epoch);
                directories.encode(out, encode_directory);
            }
            Self::PartitionsChanged { change, partitions } => {
                out.u8(8);
                out.u8(*change as u8);
                partitions.encode(out, encode_partition);
            }
            Self::TopicsCreated(topics) => {
                out.u8(9);
                topics.encode(out, encode_topic);
            }
            Self::PartitionsAdded(topics) => {
                out.u8(10);
                topics.encode(out, encode_topic);
            }
            Self::TopicsDeleted(topics) => {
                out.u8(11);
                topics.encode(out, |out, topic| out.string(topic));
            }
            Self::ConfigsChanged(configs) => {
                out.u8(12);
                configs.encode(out, encode_config);
            }
            Self::FeatureChanged { name, level } => {
                out.u8(13);
                out.string(name);
                out.i16(*level);
            }
            Self::SecurityChanged { rules, quotas, credentials } => {
                out.u8(14);
                [rules, quotas, credentials].into_iter().for_each(|count| out.u64(u64::from(*count)));
            }
            Self::Observed(observation) => {
                out.u8(15);
                observation.encode(out);
            }
        }
    }

    fn decode(input: &mut Decoder<'_>) -> Result<Self, RecordError> {
        let node = |input: &mut Decoder<'_>| input.i32().map(NodeId);
        let epoch = |input: &mut Decoder<'_>| input.i64().map(BrokerEpoch);
        Ok(match input.u8()? {
            1 => Self::ClusterFormed { cluster_id: ClusterId(input.uuid()?), voters: Bounded::decode(input, node)? },
            2 => Self::BrokerRegistered {
                id: node(input)?,
                epoch: epoch(input)?,
                incarnation: IncarnationId(input.uuid()?),
                directories: Bounded::decode(input, decode_directory)?,
            },
            3 => Self::BrokerFenced { id: node(input)?, epoch: epoch(input)? },
            4 => Self::BrokerUnfenced { id: node(input)?, epoch: epoch(input)? },
            5 => Self::BrokerShuttingDown { id: node(input)?, epoch: epoch(input)? },
            6 => Self::BrokerUnregistered { id: node(input)?, epoch: epoch(input)? },
            7 => Self::DirectoriesChanged {
                id: node(input)?,
                epoch: epoch(input)?,
                directories: Bounded::decode(input, decode_directory)?,
            },
            8 => Self::PartitionsChanged {
                change: input.known("partition change", PartitionChangeKind::from_id)?,
                partitions: Bounded::decode(input, decode_partition)?,
            },
            9 => Self::TopicsCreated(Bounded::decode(input, decode_topic)?),
            10 => Self::PartitionsAdded(Bounded::decode(input, decode_topic)?),
            11 => Self::TopicsDeleted(Bounded::decode(input, |input| input.str().map(Into::into))?),
            12 => Self::ConfigsChanged(Bounded::decode(input, decode_config)?),
            13 => Self::FeatureChanged { name: input.string()?, level: input.i16()? },
            14 => Self::SecurityChanged { rules: number(input)?, quotas: number(input)?, credentials: number(input)? },
            15 => Self::Observed(Observation::decode(input)?),
            unknown => return Err(RecordError::UnknownValue { what: "event", value: u64::from(unknown) }),
        })
    }
}

fn number(input: &mut Decoder<'_>) -> Result<u32, RecordError> {
    u32::try_from(input.u64()?).map_err(|_| RecordError::BadNumber)
}

impl<T> Bounded<T> {
    fn encode(&self, out: &mut Encoder, encode: impl FnMut(&mut Encoder, &T)) {
        out.list(&self.listed, encode);
        out.u64(u64::from(self.more));
    }

    fn decode(
        input: &mut Decoder<'_>,
        decode: impl FnMut(&mut Decoder<'_>) -> Result<T, RecordError>,
    ) -> Result<Self, RecordError> {
        let listed = input.list(decode)?;
        if listed.len() > LISTED_MAX {
            return Err(RecordError::TooLong(listed.len() as u64));
        }
        Ok(Self { listed, more: number(input)? })
    }
}

fn encode_directory(out: &mut Encoder, directory: &DirectoryTransition) {
    out.uuid(directory.id.0);
    for state in [directory.before, directory.after] {
        out.option(state, |out, state| out.u8(state as u8));
    }
}

fn decode_directory(input: &mut Decoder<'_>) -> Result<DirectoryTransition, RecordError> {
    let state = |input: &mut Decoder<'_>| input.option(|input| input.known("directory state", DirectoryState::from_id));
    Ok(DirectoryTransition { id: DirectoryId(input.uuid()?), before: state(input)?, after: state(input)? })
}

fn encode_partition(out: &mut Encoder, partition: &PartitionTransition) {
    out.string(&partition.topic);
    out.i32(partition.partition);
    out.i32(partition.leader_before.0);
    out.i32(partition.leader.0);
    out.i32(partition.leader_epoch.0);
    [&partition.isr_before, &partition.isr, &partition.elr].into_iter().for_each(|nodes| encode_nodes(out, nodes));
}

fn decode_partition(input: &mut Decoder<'_>) -> Result<PartitionTransition, RecordError> {
    Ok(PartitionTransition {
        topic: input.str()?.into(),
        partition: input.i32()?,
        leader_before: NodeId(input.i32()?),
        leader: NodeId(input.i32()?),
        leader_epoch: LeaderEpoch(input.i32()?),
        isr_before: decode_nodes(input)?,
        isr: decode_nodes(input)?,
        elr: decode_nodes(input)?,
    })
}

fn encode_topic(out: &mut Encoder, topic: &TopicSize) {
    out.string(&topic.topic);
    out.uuid(topic.id.0);
    out.u64(u64::from(topic.partitions));
}

fn decode_topic(input: &mut Decoder<'_>) -> Result<TopicSize, RecordError> {
    Ok(TopicSize { topic: input.str()?.into(), id: TopicId(input.uuid()?), partitions: number(input)? })
}

fn encode_config(out: &mut Encoder, config: &ConfigTransition) {
    out.u8(config.resource.kind as u8);
    out.string(&config.resource.name);
    out.string(&config.name);
    for value in [&config.before, &config.after] {
        match value {
            ConfigValue::Default => out.u8(0),
            ConfigValue::Set(value) => {
                out.u8(1);
                out.string(value);
            }
            ConfigValue::Hidden => out.u8(2),
        }
    }
}

fn decode_config(input: &mut Decoder<'_>) -> Result<ConfigTransition, RecordError> {
    let value = |input: &mut Decoder<'_>| match input.u8()? {
        0 => Ok(ConfigValue::Default),
        1 => input.string().map(ConfigValue::Set),
        2 => Ok(ConfigValue::Hidden),
        unknown => Err(RecordError::UnknownValue { what: "config value", value: u64::from(unknown) }),
    };
    let kind = input.known("config resource type", ConfigResourceType::from_id)?;
    Ok(ConfigTransition {
        resource: ConfigResource { kind, name: input.string()? },
        name: input.string()?,
        before: value(input)?,
        after: value(input)?,
    })
}
