//! What replicas say to each other on the inter-broker port.
//!
//! Beside a request for one batch ([`BatchRequest`]) three messages: a follower's **fetch**, the leader's **answer**, and a follower's **progress** (what it has synced
//! since, while its fetch is parked at the leader; without positions: answer that fetch now). They are Kafka's Fetch in substance (KIP-227, KIP-320, KIP-595,
//! KIP-903) with one number more, the synced offset, and with topic ids only.
//!
//! Every integer is big-endian and of fixed size. A message starts with its format version; a reader refuses one that it
//! does not know (the hello of the connection has already agreed on a range). An answer is a list of segments: the first
//! is the header, the others are the record batches, exactly the `Bytes` that the log handed out; nothing is copied.
//! A reader bounds every count by the bytes that are left, so a hostile peer cannot make it reserve memory.

use super::error::ReplicaError;
use bytes::{Buf, BufMut, Bytes, BytesMut};
use rookery_raft::ids::{BrokerEpoch, ClusterId, LeaderEpoch, NodeId, TopicId, TopicIdPartition};
use uuid::Uuid;

/// The format written by this build, and the only one it reads.
pub const VERSION: u8 = 0;

/// Bytes that are no message of this room.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MessageError {
    /// The bytes end before the message does.
    #[error("the message ends after {0} bytes, in the middle of a field")]
    Truncated(usize),
    /// More follows than the message has.
    #[error("{0} bytes follow the end of the message")]
    Trailing(usize),
    /// Written by a build that speaks another format.
    #[error("format version {0} is not known here")]
    UnknownVersion(u8),
    /// A count, length or offset that cannot be.
    #[error("`{field}` is {value}, which cannot be")]
    Impossible {
        /// Which field.
        field: &'static str,
        /// What it says.
        value: i64,
    },
}

/// Which fetch session, and the how-many-eth fetch in it (KIP-227).
///
/// Epoch 0 with id 0 asks for a new session and lists every partition. Within a session the epoch counts up by one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SessionTurn {
    /// Chosen by the leader's broker; 0 is none.
    pub id: u64,
    /// Counts the fetches; 0 opens a session.
    pub epoch: u32,
}

/// A follower asks for one partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FetchPartition {
    /// Which.
    pub id: TopicIdPartition,
    /// The term it follows.
    pub leader_epoch: LeaderEpoch,
    /// The offset it wants next: its log end, synced or not.
    pub wanted: i64,
    /// Everything below is on its disk; never above `wanted`.
    pub synced: i64,
    /// The epoch of its last batch, `NONE` for an empty log.
    pub last_fetched_epoch: LeaderEpoch,
    /// Where its log starts.
    pub log_start: i64,
    /// At most this much for it; the first batch comes whole.
    pub max_bytes: u32,
}

/// A follower's fetch from one broker, for all partitions that this broker leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReplicaFetchRequest {
    /// Both sides must belong to it.
    pub cluster: ClusterId,
    /// Who asks.
    pub broker: NodeId,
    /// Which incarnation asks.
    pub broker_epoch: BrokerEpoch,
    /// The place in the session.
    pub session: SessionTurn,
    /// How long the leader may keep the request when there is nothing to say.
    pub max_wait_ms: u32,
    /// At most this much in the whole answer; one batch always fits.
    pub max_bytes: u32,
    /// Partitions with news: added, or with another offset or epoch than the leader knows.
    pub changed: Vec<FetchPartition>,
    /// Partitions that are not wanted any more.
    pub forgotten: Vec<TopicIdPartition>,
}

/// Where the follower's log leaves the leader's (KIP-595).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DivergingEpoch {
    /// The largest epoch of the leader's log that is not above the follower's last one.
    pub epoch: LeaderEpoch,
    /// Where that epoch ends in the leader's log.
    pub end_offset: i64,
}

/// The answer for one partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FetchedPartition {
    /// Which.
    pub id: TopicIdPartition,
    /// A Kafka error code; 0 is none. See [`ReplicaError::kafka_code`].
    pub error: i16,
    /// The term that answers.
    pub leader_epoch: LeaderEpoch,
    /// The leader's high watermark.
    pub high_watermark: i64,
    /// Where the leader's log starts.
    pub log_start: i64,
    /// Set: truncate, then ask again; no batches come along.
    pub diverging: Option<DivergingEpoch>,
    /// Whole batches from the wanted offset on, in order.
    pub batches: Vec<Bytes>,
}

impl FetchedPartition {
    /// Bytes of records in it.
    pub fn size(&self) -> usize {
        self.batches.iter().map(Bytes::len).sum()
    }
}

/// The answer of a leader's broker: only partitions with news.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReplicaFetchResponse {
    /// An error for the whole request; the session is lost then.
    pub error: i16,
    /// The session that the next fetch belongs to.
    pub session_id: u64,
    /// Partitions with records, another high watermark or log start, a divergence, or an error.
    pub partitions: Vec<FetchedPartition>,
}

/// What a follower has synced since its last fetch; not answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReplicaProgress {
    /// Who speaks.
    pub broker: NodeId,
    /// Which incarnation speaks.
    pub broker_epoch: BrokerEpoch,
    /// The fetch that is parked meanwhile.
    pub session: SessionTurn,
    /// Partition, the term it follows, and its synced offset.
    pub synced: Vec<(TopicIdPartition, LeaderEpoch, i64)>,
}

/// A replica whose own copy of a committed batch is damaged asks another one for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BatchRequest {
    /// Both sides must belong to it.
    pub cluster: ClusterId,
    /// Who asks.
    pub broker: NodeId,
    /// Which incarnation asks.
    pub broker_epoch: BrokerEpoch,
    /// Of which partition.
    pub id: TopicIdPartition,
    /// The term in which both have the partition.
    pub leader_epoch: LeaderEpoch,
    /// The batch that ends here.
    pub last_offset: i64,
}

/// The answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BatchResponse {
    /// A Kafka error code; 0 is none. CORRUPT_MESSAGE: it is damaged there as well.
    pub error: i16,
    /// The batch.
    pub batch: Bytes,
}

const PARTITION_LEN: usize = 20;
const FETCH_PARTITION_LEN: usize = PARTITION_LEN + 4 + 8 + 8 + 4 + 8 + 4;
const FETCHED_PARTITION_LEN: usize = PARTITION_LEN + 2 + 4 + 8 + 8 + 1 + 4;
const PROGRESS_PARTITION_LEN: usize = PARTITION_LEN + 4 + 8;

impl ReplicaFetchRequest {
    /// Its bytes.
    pub fn encode(&self) -> Bytes {
        let size = 64 + self.changed.len() * FETCH_PARTITION_LEN + self.forgotten.len() * PARTITION_LEN;
        let mut out = BytesMut::with_capacity(size);
        out.put_u8(VERSION);
        out.put_u128(self.cluster.0.as_u128());
        put_sender(&mut out, self.broker, self.broker_epoch, self.session);
        out.put_u32(self.max_wait_ms);
        out.put_u32(self.max_bytes);
        out.put_u32(count(self.changed.len()));
        for partition in &self.changed {
            put_id(&mut out, partition.id);
            out.put_i32(partition.leader_epoch.0);
            out.put_i64(partition.wanted);
            out.put_i64(partition.synced);
            out.put_i32(partition.last_fetched_epoch.0);
            out.put_i64(partition.log_start);
            out.put_u32(partition.max_bytes);
        }
        out.put_u32(count(self.forgotten.len()));
        for id in &self.forgotten {
            put_id(&mut out, *id);
        }
        out.freeze()
    }

    /// Reads one; refuses offsets that are negative or not in order.
    pub fn decode(bytes: Bytes) -> Result<Self, MessageError> {
        let mut reader = Reader::open(bytes)?;
        let cluster = ClusterId(Uuid::from_u128(reader.u128()?));
        let (broker, broker_epoch, session) = reader.sender()?;
        let (max_wait_ms, max_bytes) = (reader.u32()?, reader.u32()?);
        let changed = reader.list("changed partitions", FETCH_PARTITION_LEN, |reader| {
            let id = reader.id()?;
            let leader_epoch = LeaderEpoch(reader.i32()?);
            let wanted = reader.offset("wanted offset")?;
            let synced = reader.offset("synced offset")?;
            let last_fetched_epoch = LeaderEpoch(reader.i32()?);
            let log_start = reader.offset("log start offset")?;
            if synced > wanted {
                return Err(MessageError::Impossible { field: "synced offset", value: synced });
            }
            let max_bytes = reader.u32()?;
            Ok(FetchPartition { id, leader_epoch, wanted, synced, last_fetched_epoch, log_start, max_bytes })
        })?;
        let forgotten = reader.list("forgotten partitions", PARTITION_LEN, Reader::id)?;
        reader.close()?;
        Ok(Self { cluster, broker, broker_epoch, session, max_wait_ms, max_bytes, changed, forgotten })
    }
}

impl ReplicaFetchResponse {
    /// An answer that refuses the whole request.
    pub fn refused(error: &ReplicaError) -> Self {
        Self { error: error.kafka_code(), session_id: 0, partitions: Vec::new() }
    }

    /// Its segments: a header, then every batch as it is.
    pub fn encode(&self) -> Vec<Bytes> {
        let mut head = BytesMut::with_capacity(16 + self.partitions.len() * (FETCHED_PARTITION_LEN + 12));
        head.put_u8(VERSION);
        head.put_i16(self.error);
        head.put_u64(self.session_id);
        head.put_u32(count(self.partitions.len()));
        for partition in &self.partitions {
            put_id(&mut head, partition.id);
            head.put_i16(partition.error);
            head.put_i32(partition.leader_epoch.0);
            head.put_i64(partition.high_watermark);
            head.put_i64(partition.log_start);
            head.put_u8(u8::from(partition.diverging.is_some()));
            if let Some(diverging) = partition.diverging {
                head.put_i32(diverging.epoch.0);
                head.put_i64(diverging.end_offset);
            }
            head.put_u32(count(partition.size()));
        }
        let mut segments = Vec::with_capacity(1 + self.partitions.iter().map(|p| p.batches.len()).sum::<usize>());
        segments.push(head.freeze());
        segments.extend(self.partitions.iter().flat_map(|partition| partition.batches.iter().cloned()));
        segments
    }

    /// Reads one from the joined segments; the records are slices of `bytes`, one per partition.
    pub fn decode(bytes: Bytes) -> Result<Self, MessageError> {
        let mut reader = Reader::open(bytes)?;
        let error = reader.i16()?;
        let session_id = reader.u64()?;
        let mut lengths = Vec::new();
        let mut partitions = reader.list("partitions", FETCHED_PARTITION_LEN, |reader| {
            let id = reader.id()?;
            let error = reader.i16()?;
            let leader_epoch = LeaderEpoch(reader.i32()?);
            let high_watermark = reader.i64()?;
            let log_start = reader.i64()?;
            let diverging = match reader.u8()? {
                0 => None,
                1 => Some(DivergingEpoch { epoch: LeaderEpoch(reader.i32()?), end_offset: reader.i64()? }),
                flag => return Err(MessageError::Impossible { field: "diverging flag", value: i64::from(flag) }),
            };
            lengths.push(reader.u32()? as usize);
            Ok(FetchedPartition { id, error, leader_epoch, high_watermark, log_start, diverging, batches: Vec::new() })
        })?;
        for (partition, length) in partitions.iter_mut().zip(lengths) {
            if length > 0 {
                partition.batches.push(reader.take(length)?);
            }
        }
        reader.close()?;
        Ok(Self { error, session_id, partitions })
    }
}

impl ReplicaProgress {
    /// Its bytes.
    pub fn encode(&self) -> Bytes {
        let mut out = BytesMut::with_capacity(32 + self.synced.len() * PROGRESS_PARTITION_LEN);
        out.put_u8(VERSION);
        put_sender(&mut out, self.broker, self.broker_epoch, self.session);
        out.put_u32(count(self.synced.len()));
        for (id, leader_epoch, synced) in &self.synced {
            put_id(&mut out, *id);
            out.put_i32(leader_epoch.0);
            out.put_i64(*synced);
        }
        out.freeze()
    }

    /// Reads one.
    pub fn decode(bytes: Bytes) -> Result<Self, MessageError> {
        let mut reader = Reader::open(bytes)?;
        let (broker, broker_epoch, session) = reader.sender()?;
        let synced = reader.list("synced partitions", PROGRESS_PARTITION_LEN, |reader| {
            Ok((reader.id()?, LeaderEpoch(reader.i32()?), reader.offset("synced offset")?))
        })?;
        reader.close()?;
        Ok(Self { broker, broker_epoch, session, synced })
    }
}

impl BatchRequest {
    /// Its bytes.
    pub fn encode(&self) -> Bytes {
        let mut out = BytesMut::with_capacity(64);
        out.put_u8(VERSION);
        out.put_u128(self.cluster.0.as_u128());
        out.put_i32(self.broker.0);
        out.put_i64(self.broker_epoch.0);
        put_id(&mut out, self.id);
        out.put_i32(self.leader_epoch.0);
        out.put_i64(self.last_offset);
        out.freeze()
    }

    /// Reads one.
    pub fn decode(bytes: Bytes) -> Result<Self, MessageError> {
        let mut reader = Reader::open(bytes)?;
        let cluster = ClusterId(Uuid::from_u128(reader.u128()?));
        let (broker, broker_epoch) = (NodeId(reader.i32()?), BrokerEpoch(reader.i64()?));
        let (id, leader_epoch) = (reader.id()?, LeaderEpoch(reader.i32()?));
        let last_offset = reader.offset("last offset")?;
        reader.close()?;
        Ok(Self { cluster, broker, broker_epoch, id, leader_epoch, last_offset })
    }
}

impl BatchResponse {
    /// No batch.
    pub fn refused(error: &ReplicaError) -> Self {
        Self { error: error.kafka_code(), batch: Bytes::new() }
    }

    /// Its segments: a header, then the batch as it is.
    pub fn encode(&self) -> Vec<Bytes> {
        let mut head = BytesMut::with_capacity(8);
        head.put_u8(VERSION);
        head.put_i16(self.error);
        head.put_u32(count(self.batch.len()));
        vec![head.freeze(), self.batch.clone()]
    }

    /// Reads one from the joined segments.
    pub fn decode(bytes: Bytes) -> Result<Self, MessageError> {
        let mut reader = Reader::open(bytes)?;
        let error = reader.i16()?;
        let length = reader.u32()? as usize;
        let batch = reader.take(length)?;
        reader.close()?;
        Ok(Self { error, batch })
    }
}

fn count(length: usize) -> u32 {
    u32::try_from(length).expect("a message is bounded far below 4 GiB")
}

fn put_id(out: &mut BytesMut, id: TopicIdPartition) {
    out.put_u128(id.topic_id.0.as_u128());
    out.put_i32(id.partition);
}

fn put_sender(out: &mut BytesMut, broker: NodeId, epoch: BrokerEpoch, session: SessionTurn) {
    out.put_i32(broker.0);
    out.put_i64(epoch.0);
    out.put_u64(session.id);
    out.put_u32(session.epoch);
}

struct Reader {
    bytes: Bytes,
    length: usize,
}

macro_rules! number {
    ($($name:ident $get:ident),*) => {
        $(fn $name(&mut self) -> Result<$name, MessageError> {
            self.need(size_of::<$name>())?;
            Ok(self.bytes.$get())
        })*
    };
}

impl Reader {
    fn open(bytes: Bytes) -> Result<Self, MessageError> {
        let mut reader = Self { length: bytes.len(), bytes };
        match reader.u8()? {
            VERSION => Ok(reader),
            other => Err(MessageError::UnknownVersion(other)),
        }
    }

    fn need(&self, length: usize) -> Result<(), MessageError> {
        if self.bytes.remaining() < length { Err(MessageError::Truncated(self.length)) } else { Ok(()) }
    }

    number!(u8 get_u8, i16 get_i16, i32 get_i32, i64 get_i64, u32 get_u32, u64 get_u64, u128 get_u128);

    fn offset(&mut self, field: &'static str) -> Result<i64, MessageError> {
        let value = self.i64()?;
        if value < 0 { Err(MessageError::Impossible { field, value }) } else { Ok(value) }
    }

    fn id(&mut self) -> Result<TopicIdPartition, MessageError> {
        let topic_id = TopicId(Uuid::from_u128(self.u128()?));
        let partition = self.i32()?;
        if partition < 0 {
            return Err(MessageError::Impossible { field: "partition", value: i64::from(partition) });
        }
        Ok(TopicIdPartition { topic_id, partition })
    }

    fn sender(&mut self) -> Result<(NodeId, BrokerEpoch, SessionTurn), MessageError> {
        let broker = NodeId(self.i32()?);
        let epoch = BrokerEpoch(self.i64()?);
        Ok((broker, epoch, SessionTurn { id: self.u64()?, epoch: self.u32()? }))
    }

    /// `least` is the least number of bytes an element takes: the count cannot claim more than could follow.
    fn list<T>(
        &mut self,
        field: &'static str,
        least: usize,
        mut read: impl FnMut(&mut Self) -> Result<T, MessageError>,
    ) -> Result<Vec<T>, MessageError> {
        let claimed = self.u32()? as usize;
        if claimed > self.bytes.remaining() / least {
            return Err(MessageError::Impossible { field, value: claimed as i64 });
        }
        let mut list = Vec::with_capacity(claimed);
        for _ in 0..claimed {
            list.push(read(self)?);
        }
        Ok(list)
    }

    fn take(&mut self, length: usize) -> Result<Bytes, MessageError> {
        self.need(length)?;
        Ok(self.bytes.split_to(length))
    }

    fn close(self) -> Result<(), MessageError> {
        match self.bytes.remaining() {
            0 => Ok(()),
            more => Err(MessageError::Trailing(more)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn id(topic: u128, partition: i32) -> TopicIdPartition {
        TopicIdPartition { topic_id: TopicId(Uuid::from_u128(topic)), partition }
    }

    fn request() -> ReplicaFetchRequest {
        let partition = FetchPartition {
            id: id(7, 3),
            leader_epoch: LeaderEpoch(2),
            wanted: 90,
            synced: 80,
            last_fetched_epoch: LeaderEpoch(1),
            log_start: 5,
            max_bytes: 1 << 20,
        };
        ReplicaFetchRequest {
            cluster: ClusterId(Uuid::from_u128(1)),
            broker: NodeId(2),
            broker_epoch: BrokerEpoch(44),
            session: SessionTurn { id: 9, epoch: 3 },
            max_wait_ms: 500,
            max_bytes: 10 << 20,
            changed: vec![partition, FetchPartition { id: id(7, 4), ..partition }],
            forgotten: vec![id(8, 0)],
        }
    }

    fn response() -> ReplicaFetchResponse {
        let quiet = FetchedPartition {
            id: id(7, 4),
            error: 0,
            leader_epoch: LeaderEpoch(2),
            high_watermark: 88,
            log_start: 0,
            diverging: Some(DivergingEpoch { epoch: LeaderEpoch(1), end_offset: 60 }),
            batches: vec![],
        };
        let full = FetchedPartition {
            id: id(7, 3),
            diverging: None,
            batches: vec![Bytes::from_static(b"one batch"), Bytes::from_static(b"another")],
            ..quiet.clone()
        };
        ReplicaFetchResponse { error: 0, session_id: 9, partitions: vec![full, quiet] }
    }

    #[test]
    fn a_request_and_a_progress_survive_their_bytes() {
        assert_eq!(ReplicaFetchRequest::decode(request().encode()), Ok(request()));
        let progress = ReplicaProgress {
            broker: NodeId(2),
            broker_epoch: BrokerEpoch(44),
            session: SessionTurn { id: 9, epoch: 3 },
            synced: vec![(id(7, 3), LeaderEpoch(2), 90)],
        };
        assert_eq!(ReplicaProgress::decode(progress.encode()), Ok(progress));
    }

    #[test]
    fn batches_are_not_copied_on_the_way_out_and_arrive_joined() {
        let sent = response();
        let segments = sent.encode();
        assert_eq!(segments[1].as_ptr(), sent.partitions[0].batches[0].as_ptr());
        let got = ReplicaFetchResponse::decode(segments.concat().into()).expect("our own bytes");
        assert_eq!(got.partitions[0].batches, [Bytes::from_static(b"one batchanother")]);
        assert_eq!(got.partitions[1], sent.partitions[1]);
    }

    #[test]
    fn a_count_larger_than_the_message_is_refused_before_anything_is_reserved() {
        let mut bytes = request().encode().to_vec();
        let at = 1 + 16 + 24 + 8;
        bytes[at..at + 4].copy_from_slice(&u32::MAX.to_be_bytes());
        assert!(matches!(ReplicaFetchRequest::decode(bytes.into()), Err(MessageError::Impossible { .. })));
    }

    #[test]
    fn a_synced_offset_beyond_the_log_is_refused() {
        let mut lie = request();
        lie.changed[0].synced = 91;
        assert!(matches!(
            ReplicaFetchRequest::decode(lie.encode()),
            Err(MessageError::Impossible { field: "synced offset", value: 91 })
        ));
    }

    proptest! {
        #[test]
        fn damaged_bytes_never_panic(cut in 0usize..400, flip in 0usize..400, value: u8) {
            for whole in [request().encode(), response().encode().concat().into()] {
                let mut bytes = whole.to_vec();
                let at = flip % bytes.len();
                bytes[at] = value;
                bytes.truncate(bytes.len().saturating_sub(cut % 64));
                let bytes = Bytes::from(bytes);
                let _ = ReplicaFetchRequest::decode(bytes.clone());
                let _ = ReplicaFetchResponse::decode(bytes.clone());
                let _ = ReplicaProgress::decode(bytes);
            }
        }
    }
}
