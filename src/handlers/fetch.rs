//! Fetch (key 1): records for consumers, with incremental sessions (KIP-227).

use super::endpoints::{alive_endpoint, leader_of};
use super::{Handlers, RequestContext};
use crate::replica::{AnswerBytes, ConsumerFetch, ConsumerFetchRequest, ConsumerRead, FetchNews, ReplicaError};
use parking_lot::Mutex;
use rookery_protocol::codec::{Records, SmolStr};
use rookery_protocol::error::ErrorCode;
use rookery_protocol::messages::fetch::{
    EpochEndOffset, FetchPartition, FetchTopic, FetchableTopicResponse, LeaderIdAndEpoch, NodeEndpoint, PartitionData,
};
use rookery_protocol::messages::{FetchRequest, FetchResponse};
use rookery_raft::ids::{NodeId, TopicId, TopicIdPartition};
use rookery_raft::image::MetadataImage;
use std::collections::BTreeSet;
use std::time::{Duration, Instant};
use uuid::Uuid;

/// A partition as the client names it: by id from version 13 on, by name before.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Named {
    topic: SmolStr,
    topic_id: Uuid,
    partition: i32,
}

/// Consumers' fetch sessions of this broker.
pub struct FetchSessions {
    // Held for arithmetic only, never over a read.
    cache: Mutex<crate::replica::FetchSessionCache<Named>>,
    began: Instant,
}

/// A session used within this time is safe from eviction by another.
const SESSION_IDLE_MIN: Duration = Duration::from_secs(120);

impl FetchSessions {
    /// So many at most.
    pub fn new(slots: usize) -> Self {
        Self {
            cache: Mutex::new(crate::replica::FetchSessionCache::new(slots, SESSION_IDLE_MIN)),
            began: Instant::now(),
        }
    }
}

/// Version 13 and above names topics by id.
const TOPIC_IDS_FROM: i16 = 13;
/// Version 12 and above can be told where logs part, and who leads.
const HINTS_FROM: i16 = 12;
/// Version 16 and above is told where leaders are (KIP-951).
const ENDPOINTS_FROM: i16 = 16;
/// Version 10 and above has zstd (KIP-110).
const ZSTD_FROM: i16 = 10;
/// A fetch is never parked longer than this, whatever it asks for.
const WAIT_MAX: Duration = Duration::from_secs(300);

/// The answer, and the memory that its records take.
pub async fn handle(
    handlers: &Handlers,
    context: &RequestContext,
    request: FetchRequest,
) -> (FetchResponse, Option<AnswerBytes>) {
    let refused = |error_code| (FetchResponse { error_code, ..Default::default() }, None);
    if request.replica_id >= 0 || request.replica_state.replica_id >= 0 {
        // Brokers of this cluster have connections of their own; a foreign one must not count as a follower.
        return refused(ErrorCode::InvalidRequest.code());
    }
    let (session, epoch) = if context.version >= 7 { (request.session_id, request.session_epoch) } else { (0, -1) };
    let mut asked = Vec::new();
    for topic in &request.topics {
        asked.extend(topic.partitions.iter().map(|p| (named(topic, p.partition), consumer_fetch(p))));
    }
    let forgotten: Vec<Named> = request
        .forgotten_topics_data
        .iter()
        .flat_map(|t| {
            let one = |p: &i32| Named { topic: t.topic.clone(), topic_id: t.topic_id, partition: *p };
            t.partitions.iter().map(one).collect::<Vec<_>>()
        })
        .collect();
    let sessions = &handlers.fetch_sessions;
    let begun =
        sessions.cache.lock().begin((session, epoch), asked, &forgotten, sessions.began.elapsed(), rand::random);
    let session = match begun {
        Ok(session) => session,
        Err(error) => return refused(error.kafka_code()),
    };

    let (reads, memory) = read(handlers, context, &request, &session.partitions).await;
    let image = handlers.broker.image();
    let mut topics: Vec<FetchableTopicResponse> = Vec::new();
    let mut leaders = BTreeSet::new();
    for ((name, _), (id, read)) in session.partitions.iter().zip(reads) {
        let data = partition_data(&image, context.version, name, id, read);
        let news = FetchNews {
            high_watermark: data.high_watermark,
            log_start: data.log_start_offset,
            has_records: data.records.as_ref().is_some_and(|r| !r.is_empty()),
            must_say: data.error_code != 0 || data.diverging_epoch.epoch >= 0,
        };
        if !sessions.cache.lock().must_mention(&session, name, news) {
            continue;
        }
        leaders.extend(Some(data.current_leader.leader_id).filter(|l| *l >= 0));
        match topics.last_mut() {
            Some(topic) if topic.topic == name.topic && topic.topic_id == name.topic_id => topic.partitions.push(data),
            _ => topics.push(FetchableTopicResponse {
                topic: name.topic.clone(),
                topic_id: name.topic_id,
                partitions: vec![data],
            }),
        }
    }
    let answer = FetchResponse {
        session_id: session.session_id,
        responses: topics,
        node_endpoints: endpoints(&image, context, leaders),
        ..Default::default()
    };
    (answer, Some(memory))
}

fn named(topic: &FetchTopic, partition: i32) -> Named {
    Named { topic: topic.topic.clone(), topic_id: topic.topic_id, partition }
}

fn consumer_fetch(p: &FetchPartition) -> ConsumerFetch {
    ConsumerFetch {
        offset: p.fetch_offset,
        current_leader_epoch: p.current_leader_epoch,
        last_fetched_epoch: p.last_fetched_epoch,
        max_bytes: usize::try_from(p.partition_max_bytes).unwrap_or(0),
    }
}

/// One partition's, with its id where the topic is known.
type Read = (Option<TopicIdPartition>, Result<ConsumerRead, i16>);

/// One result for each partition asked for, and the memory that they take together.
async fn read(
    handlers: &Handlers,
    context: &RequestContext,
    request: &FetchRequest,
    asked: &[(Named, ConsumerFetch)],
) -> (Vec<Read>, AnswerBytes) {
    let image = handlers.broker.image();
    let by_id = context.version >= TOPIC_IDS_FROM;
    let ids: Vec<Result<TopicIdPartition, ErrorCode>> = asked
        .iter()
        .map(|(name, _)| {
            let topic =
                if by_id { image.topics.by_id(TopicId(name.topic_id)) } else { image.topics.by_name(&name.topic) };
            let topic =
                topic.ok_or(if by_id { ErrorCode::UnknownTopicId } else { ErrorCode::UnknownTopicOrPartition })?;
            topic.partition(name.partition).ok_or(ErrorCode::UnknownTopicOrPartition)?;
            Ok(TopicIdPartition { topic_id: topic.id, partition: name.partition })
        })
        .collect();
    let known: Vec<(TopicIdPartition, ConsumerFetch)> =
        ids.iter().zip(asked).filter_map(|(id, (_, fetch))| id.as_ref().ok().map(|id| (*id, *fetch))).collect();
    let anything_unknown = known.len() < asked.len();
    let wait = Duration::from_millis(u64::try_from(request.max_wait_ms).unwrap_or(0)).min(WAIT_MAX);
    let fetch = ConsumerFetchRequest {
        // An error is news: it is not kept waiting.
        max_wait: if anything_unknown { Duration::ZERO } else { wait },
        min_bytes: usize::try_from(request.min_bytes).unwrap_or(0),
        max_bytes: usize::try_from(request.max_bytes).unwrap_or(0).min(handlers.broker.config.limits.fetch_bytes),
        partitions: known,
    };
    let answer = handlers.replicas.consumer_fetch(fetch).await;
    let mut reads = answer.reads.into_iter();
    let reads = ids
        .into_iter()
        .map(|id| match id {
            Err(error) => (None, Err(error.code())),
            Ok(id) => {
                let read = reads.next().unwrap_or(Err(ReplicaError::NotLeaderOrFollower));
                (Some(id), read.map_err(|e| e.kafka_code()))
            }
        })
        .collect();
    (reads, answer.memory)
}

fn partition_data(
    image: &MetadataImage,
    version: i16,
    name: &Named,
    id: Option<TopicIdPartition>,
    read: Result<ConsumerRead, i16>,
) -> PartitionData {
    let refused = |code: i16| {
        let moved = [ErrorCode::NotLeaderOrFollower, ErrorCode::FencedLeaderEpoch].map(ErrorCode::code).contains(&code);
        let (leader_id, leader_epoch) = match id {
            Some(id) if moved && version >= HINTS_FROM => leader_of(image, id),
            _ => (-1, -1),
        };
        PartitionData {
            partition_index: name.partition,
            error_code: code,
            high_watermark: -1,
            records: Some(Records::new()),
            current_leader: LeaderIdAndEpoch { leader_id, leader_epoch },
            aborted_transactions: None,
            ..Default::default()
        }
    };
    match read {
        Err(code) => refused(code),
        Ok(read) if version < ZSTD_FROM && read.batches.iter().any(|b| is_zstd(b)) => {
            refused(ErrorCode::UnsupportedCompressionType.code())
        }
        Ok(read) => PartitionData {
            partition_index: name.partition,
            high_watermark: read.high_watermark,
            last_stable_offset: read.high_watermark,
            log_start_offset: read.log_start,
            aborted_transactions: None,
            diverging_epoch: match read.diverging.filter(|_| version >= HINTS_FROM) {
                Some(d) => EpochEndOffset { epoch: d.epoch.0, end_offset: d.end_offset },
                None => EpochEndOffset::default(),
            },
            records: Some(read.batches.into_iter().collect()),
            ..Default::default()
        },
    }
}

/// Bits 0–2 of the attributes, whose low byte is the 23rd of a batch.
fn is_zstd(batch: &[u8]) -> bool {
    batch.get(22).is_some_and(|attributes| attributes & 7 == 4)
}

fn endpoints(image: &MetadataImage, context: &RequestContext, leaders: BTreeSet<i32>) -> Vec<NodeEndpoint> {
    if context.version < ENDPOINTS_FROM {
        return Vec::new();
    }
    let found = leaders.into_iter().filter_map(|id| alive_endpoint(image, NodeId(id), &context.connection.listener));
    found.map(|e| NodeEndpoint { node_id: e.node_id, host: e.host, port: e.port, rack: e.rack }).collect()
}
