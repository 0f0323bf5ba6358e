//! An image as a file: binary, streamed both ways, versioned, checksummed.
//!
//! ```text
//! snapshot := magic:"RKSN"  version:u8  chunk*
//! chunk    := length:u32be  crc32c:u32be  payload
//! payload  := item*                     a chunk holds whole items
//! item     := tag:varint  fields…       a topic is followed by its partitions
//! ```
//!
//! The last item is `END` with the number of items before it, so that a file cut between two chunks is noticed. The
//! writer holds one chunk (256 KiB) at a time, the reader one chunk and the image it builds. Same primitives as the
//! records; an unknown version or tag is an error, for the reason given in [`crate::record`].

use super::events::Event;
use super::{BrokerRegistration, MetadataImage, TopicImage};
use crate::ids::{MetadataOffset, TopicId, TopicName};
use crate::record::{
    AccessControlEntry, ConfigResource, ConfigResourceType, Decoder, Encoder, MetadataRecord, PartitionRegistration,
    QuotaEntity, RecordError, RegisterBroker, UserScramCredential, decode_records, encode_records,
};
use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::sync::Arc;

const MAGIC: &[u8; 4] = b"RKSN";
const VERSION: u8 = 1;
/// A chunk is written once it has this many bytes; the last item may go beyond.
const CHUNK_BYTES: usize = 256 << 10;
/// No chunk is longer: [`CHUNK_BYTES`] and the largest item a log entry can bring.
const MAX_CHUNK_BYTES: u32 = 72 << 20;

mod tag {
    pub(super) const END: u64 = 0;
    pub(super) const OFFSET: u64 = 1;
    pub(super) const FORMATION: u64 = 2;
    pub(super) const BROKER: u64 = 3;
    pub(super) const TOPIC: u64 = 4;
    pub(super) const CONFIG: u64 = 5;
    pub(super) const FEATURE: u64 = 6;
    pub(super) const PRODUCER_IDS: u64 = 7;
    pub(super) const QUOTA: u64 = 8;
    pub(super) const ACL: u64 = 9;
    pub(super) const SCRAM: u64 = 10;
    pub(super) const PARTITION: u64 = 11;
    pub(super) const EVENT: u64 = 12;
}

/// Why a snapshot could not be written or read.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// Reading or writing failed; a file that ends early is `UnexpectedEof`.
    #[error("snapshot: {0}")]
    Io(#[from] io::Error),
    /// Not a snapshot of ours.
    #[error("not a metadata snapshot: wrong magic bytes")]
    BadMagic,
    /// Written by a newer build.
    #[error("snapshot version {0} is not known to this build")]
    UnknownVersion(u8),
    /// A chunk's checksum does not match its bytes.
    #[error("snapshot chunk {0} is corrupt: checksum mismatch")]
    Corrupt(u64),
    /// An item this build cannot read.
    #[error("snapshot: {0}")]
    Item(#[from] RecordError),
    /// Items that do not fit together, or fewer than were written.
    #[error("snapshot is inconsistent: {0}")]
    Inconsistent(&'static str),
}

/// Writes the image. The caller makes the file durable (temporary file, fsync, rename, fsync of the directory).
pub fn write_snapshot(image: &MetadataImage, to: impl Write) -> Result<(), SnapshotError> {
    let mut out = ChunkWriter { to, chunk: Encoder::new(), items: 0 };
    out.to.write_all(MAGIC)?;
    out.to.write_all(&[VERSION])?;
    out.item(tag::OFFSET, |e| e.i64(image.offset.0))?;
    if let Some(formation) = image.cluster.formation() {
        let record = MetadataRecord::Formation(formation.clone());
        out.item(tag::FORMATION, |e| e.bytes(&encode_records(&[record])))?;
    }
    for broker in image.cluster.brokers() {
        out.item(tag::BROKER, |e| {
            broker.record.encode(e);
            e.i64(broker.registered_at.0);
            e.bool(broker.fenced);
            e.bool(broker.shutting_down);
        })?;
    }
    for topic in image.topics.iter() {
        out.item(tag::TOPIC, |e| {
            e.string(&topic.name);
            e.uuid(topic.id.0);
            e.count(topic.partitions.len());
        })?;
        for partition in &topic.partitions {
            out.item(tag::PARTITION, |e| partition.encode(e))?;
        }
    }
    write_small_sections(image, &mut out)?;
    let items = out.items;
    out.item(tag::END, |e| e.u64(items))?;
    out.flush_chunk()?;
    out.to.flush()?;
    Ok(())
}

fn write_small_sections<W: Write>(image: &MetadataImage, out: &mut ChunkWriter<W>) -> Result<(), SnapshotError> {
    for (resource, configs) in image.configs.iter() {
        for (name, value) in configs {
            out.item(tag::CONFIG, |e| {
                e.u8(resource.kind as u8);
                e.string(&resource.name);
                e.string(name);
                e.string(value);
            })?;
        }
    }
    for (name, level) in image.features.iter() {
        out.item(tag::FEATURE, |e| {
            e.string(name);
            e.i16(level);
        })?;
    }
    out.item(tag::PRODUCER_IDS, |e| e.i64(image.next_producer_id))?;
    for (entity, quotas) in image.quotas.iter() {
        for (key, value) in quotas {
            out.item(tag::QUOTA, |e| {
                e.list(entity, |e, part| part.encode(e));
                e.string(key);
                e.f64(*value);
            })?;
        }
    }
    for acl in image.acls.iter() {
        out.item(tag::ACL, |e| acl.encode(e))?;
    }
    for credential in image.scram.iter() {
        out.item(tag::SCRAM, |e| credential.encode(e))?;
    }
    for (number, event) in image.events.iter() {
        out.item(tag::EVENT, |e| {
            e.u64(number);
            event.encode(e);
        })?;
    }
    Ok(())
}

/// Reads an image back. Whatever is wrong with the bytes is an error, never a smaller image.
pub fn read_snapshot(mut from: impl Read) -> Result<MetadataImage, SnapshotError> {
    let mut header = [0u8; 5];
    from.read_exact(&mut header)?;
    if header[..4] != MAGIC[..] {
        return Err(SnapshotError::BadMagic);
    }
    if header[4] != VERSION {
        return Err(SnapshotError::UnknownVersion(header[4]));
    }
    let mut builder = Builder::default();
    let mut payload = Vec::new();
    for number in 0.. {
        read_chunk(&mut from, number, &mut payload)?;
        let mut input = Decoder::new(&payload);
        while input.remaining() > 0 {
            if builder.done {
                return Err(SnapshotError::Inconsistent("items follow the end"));
            }
            builder.item(&mut input)?;
        }
        if builder.done {
            break;
        }
    }
    if from.read(&mut [0u8; 1])? != 0 {
        return Err(SnapshotError::Inconsistent("bytes follow the end"));
    }
    Ok(builder.image)
}

fn read_chunk(from: &mut impl Read, number: u64, payload: &mut Vec<u8>) -> Result<(), SnapshotError> {
    let mut header = [0u8; 8];
    from.read_exact(&mut header)?;
    let [a, b, c, d, e, f, g, h] = header;
    let length = u32::from_be_bytes([a, b, c, d]);
    let crc = u32::from_be_bytes([e, f, g, h]);
    if length == 0 || length > MAX_CHUNK_BYTES {
        return Err(SnapshotError::Corrupt(number));
    }
    payload.clear();
    // Grows with what is there, not with what the header claims.
    from.by_ref().take(u64::from(length)).read_to_end(payload)?;
    if payload.len() != length as usize {
        return Err(SnapshotError::Io(io::ErrorKind::UnexpectedEof.into()));
    }
    if crc32c::crc32c(payload) != crc {
        return Err(SnapshotError::Corrupt(number));
    }
    Ok(())
}

struct ChunkWriter<W> {
    to: W,
    chunk: Encoder,
    items: u64,
}

impl<W: Write> ChunkWriter<W> {
    fn item(&mut self, tag: u64, encode: impl FnOnce(&mut Encoder)) -> Result<(), SnapshotError> {
        self.chunk.u64(tag);
        encode(&mut self.chunk);
        self.items += 1;
        if self.chunk.len() >= CHUNK_BYTES { self.flush_chunk() } else { Ok(()) }
    }

    fn flush_chunk(&mut self) -> Result<(), SnapshotError> {
        if self.chunk.len() == 0 {
            return Ok(());
        }
        let length = u32::try_from(self.chunk.len()).ok().filter(|length| *length <= MAX_CHUNK_BYTES);
        let length = length.ok_or(SnapshotError::Inconsistent("an item is larger than any log entry"))?;
        self.to.write_all(&length.to_be_bytes())?;
        self.to.write_all(&crc32c::crc32c(self.chunk.as_slice()).to_be_bytes())?;
        self.to.write_all(self.chunk.as_slice())?;
        self.chunk.clear();
        Ok(())
    }
}

#[derive(Default)]
struct Builder {
    image: MetadataImage,
    /// The topic whose partitions are being read, and how many are missing.
    topic: Option<(TopicImage, usize)>,
    /// The resource whose configs are being read.
    configs: Option<(ConfigResource, BTreeMap<String, String>)>,
    items: u64,
    done: bool,
}

impl Builder {
    fn item(&mut self, input: &mut Decoder<'_>) -> Result<(), SnapshotError> {
        let tag = input.u64()?;
        if self.topic.is_some() != (tag == tag::PARTITION) {
            return Err(SnapshotError::Inconsistent("a topic and its partitions are torn apart"));
        }
        if tag != tag::CONFIG {
            self.finish_configs();
        }
        match tag {
            tag::OFFSET => self.image.offset = MetadataOffset(input.i64()?),
            tag::FORMATION => match decode_records(input.slice()?)?.pop() {
                Some(MetadataRecord::Formation(formation)) => {
                    self.image.cluster.formation = Some(Arc::new(formation));
                }
                _ => return Err(SnapshotError::Inconsistent("the formation is another record")),
            },
            tag::BROKER => self.broker(input)?,
            tag::TOPIC => self.begin_topic(input)?,
            tag::PARTITION => self.partition(input)?,
            tag::CONFIG => self.config(input)?,
            tag::FEATURE => {
                let name = input.string()?;
                self.image.features.levels.insert_mut(name, input.i16()?);
            }
            tag::PRODUCER_IDS => self.image.next_producer_id = input.i64()?,
            tag::QUOTA => {
                let entity = input.list(QuotaEntity::decode)?;
                let (key, value) = (input.string()?, input.f64()?);
                let mut quotas =
                    self.image.quotas.entities.get(&entity).map(|q| q.as_ref().clone()).unwrap_or_default();
                quotas.insert(key, value);
                self.image.quotas.entities.insert_mut(entity, Arc::new(quotas));
            }
            tag::ACL => {
                let acl = AccessControlEntry::decode(input)?;
                self.image.acls.entries.insert_mut(acl.id, Arc::new(acl));
            }
            tag::SCRAM => {
                let credential = UserScramCredential::decode(input)?;
                let key = (credential.user.clone(), credential.mechanism);
                self.image.scram.credentials.insert_mut(key, Arc::new(credential));
            }
            tag::EVENT => {
                let number = input.u64()?;
                if !self.image.events.restore(number, Event::decode(input)?) {
                    return Err(SnapshotError::Inconsistent("events are missing"));
                }
            }
            tag::END => {
                if input.u64()? != self.items {
                    return Err(SnapshotError::Inconsistent("items are missing"));
                }
                self.done = true;
            }
            unknown => return Err(RecordError::UnknownType(unknown).into()),
        }
        self.items += 1;
        Ok(())
    }

    fn broker(&mut self, input: &mut Decoder<'_>) -> Result<(), SnapshotError> {
        let broker = BrokerRegistration {
            record: RegisterBroker::decode(input)?,
            registered_at: MetadataOffset(input.i64()?),
            fenced: input.bool()?,
            shutting_down: input.bool()?,
        };
        self.image.cluster.brokers.insert_mut(broker.id(), Arc::new(broker));
        Ok(())
    }

    fn begin_topic(&mut self, input: &mut Decoder<'_>) -> Result<(), SnapshotError> {
        let name: TopicName = input.str()?.into();
        let id = TopicId(input.uuid()?);
        let count = input.u64()?;
        let missing = usize::try_from(count).map_err(|_| RecordError::TooLong(count))?;
        // Partitions may lie in later chunks, so the count cannot be checked here: reserve little on its word.
        let topic = TopicImage { name, id, partitions: Vec::with_capacity(missing.min(4096)) };
        self.advance_topic(topic, missing);
        Ok(())
    }

    fn partition(&mut self, input: &mut Decoder<'_>) -> Result<(), SnapshotError> {
        let (mut topic, missing) = self.topic.take().expect("item() lets a partition through only inside a topic");
        topic.partitions.push(Arc::new(PartitionRegistration::decode(input)?));
        self.advance_topic(topic, missing - 1);
        Ok(())
    }

    fn advance_topic(&mut self, mut topic: TopicImage, missing: usize) {
        if missing == 0 {
            topic.partitions.shrink_to_fit();
            self.image.topics.insert(Arc::new(topic));
        } else {
            self.topic = Some((topic, missing));
        }
    }

    fn config(&mut self, input: &mut Decoder<'_>) -> Result<(), SnapshotError> {
        let kind = input.known("config resource type", ConfigResourceType::from_id)?;
        let resource = ConfigResource { kind, name: input.string()? };
        let (name, value) = (input.string()?, input.string()?);
        if self.configs.as_ref().is_none_or(|(current, _)| *current != resource) {
            self.finish_configs();
            self.configs = Some((resource, BTreeMap::new()));
        }
        if let Some((_, configs)) = &mut self.configs {
            configs.insert(name, value);
        }
        Ok(())
    }

    fn finish_configs(&mut self) {
        if let Some((resource, configs)) = self.configs.take() {
            self.image.configs.replace(&resource, configs);
        }
    }
}

#[cfg(test)]
mod tests;
