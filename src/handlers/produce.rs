//! Produce (key 0): append, then wait as `acks` says.
//!
//! All appends of a request happen before [`handle`] returns, in the order of the request, so that batches of one
//! connection keep their order; the answer waits in the returned future.
//!
//! # What waits
//!
//! The log has its own copy of the records when an append returns, so nothing of the frame is left, and its bytes go back to the
//! budget: partitions that cannot be acknowledged just now (the quorum lost, and a follower in the ISR dead) take nothing away from the
//! requests of others. What waits is a place for each partition, of some [`WAITING_BYTES`], and is counted so (or as the frame, if that
//! was smaller). Those that wait for the high watermark are at most as many as the purgatory takes: 100 000, 64 MB of a half that
//! has 128 MiB unless told otherwise, whatever the size of their records. What waits for the leader's own disk is bounded by its queue;
//! what was refused and only waits for the other partitions of its request, by the budget alone: that is why places are counted.

use super::endpoints::{alive_endpoint, leader_of};
use super::{Handlers, RequestContext};
use crate::net::{Handled, RequestBytes};
use crate::replica::{AppendOutcome, AppendRequest, NamedTopic, ReplicaError, RequiredAcks};
use crate::storage::{AppendInfo, AppendOrigin};
use futures_util::FutureExt;
use futures_util::future::join_all;
use rookery_protocol::batch::{ProduceRules, RecordBatch, TimestampType};
use rookery_protocol::codec::SmolStr;
use rookery_protocol::compression::Compression;
use rookery_protocol::error::ErrorCode;
use rookery_protocol::messages::produce::{
    LeaderIdAndEpoch, NodeEndpoint, PartitionProduceData, PartitionProduceResponse, TopicProduceData,
    TopicProduceResponse,
};
use rookery_protocol::messages::{ProduceRequest, ProduceResponse};
use rookery_protocol::topics::is_internal;
use rookery_raft::ids::{LeaderEpoch, NodeId, TopicId, TopicIdPartition};
use rookery_raft::image::topic_configs::TopicConfigs;
use rookery_raft::image::{MetadataImage, TopicImage};
use std::collections::BTreeSet;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Version 13 and above names topics by id.
const TOPIC_IDS_FROM: i16 = 13;
/// Version 7 and above has zstd (KIP-110).
const ZSTD_FROM: i16 = 7;
/// Version 10 and above can be told who leads (KIP-951).
const HINTS_FROM: i16 = 10;

/// An answer is never waited for longer than this, whatever the client says.
const TIMEOUT_MAX: Duration = Duration::from_secs(300);

/// What one partition's append takes until it is answered: its place in the purgatory, its timer, its part of the answer.
pub(super) const WAITING_BYTES: usize = 640;

/// What came of one partition's append.
type Appended = Result<AppendOutcome, Refusal>;

/// Why one partition's records were not taken, or not acknowledged.
struct Refusal {
    code: i16,
    message: Option<String>,
}

impl From<ErrorCode> for Refusal {
    fn from(code: ErrorCode) -> Self {
        Self { code: code.code(), message: None }
    }
}

impl From<ReplicaError> for Refusal {
    fn from(error: ReplicaError) -> Self {
        Self { code: error.kafka_code(), message: Some(error.to_string()) }
    }
}

pub async fn handle(
    handlers: &Handlers,
    context: RequestContext,
    request: ProduceRequest,
    mut held: RequestBytes,
) -> Handled {
    let image = handlers.broker.image();
    let acks = RequiredAcks::try_from(request.acks);
    let timeout = Duration::from_millis(u64::try_from(request.timeout_ms).unwrap_or(0));
    let mut topics = Vec::with_capacity(request.topic_data.len());
    for topic in request.topic_data {
        let found = find(&image, context.version, &topic).cloned();
        let named = named(context.version, &topic);
        let mut partitions = Vec::with_capacity(topic.partition_data.len());
        for data in topic.partition_data {
            let index = data.index;
            let appended = match (&acks, &found) {
                (Err(error), _) => Err(Refusal::from(error.clone())),
                (_, None) => {
                    let by_id = context.version >= TOPIC_IDS_FROM;
                    let code = if by_id { ErrorCode::UnknownTopicId } else { ErrorCode::UnknownTopicOrPartition };
                    without_replica(handlers, &named, &data, ReplicaError::UnknownTopicOrPartition);
                    Err(code.into())
                }
                (Ok(acks), Some(known)) => append(handlers, &image, context.version, (known, &named), *acks, data),
            };
            partitions.push((index, appended));
        }
        topics.push((topic.name, topic.topic_id, found.map(|t| t.id), partitions));
    }
    if request.acks == 0 {
        return without_answer(topics.into_iter().flat_map(|(.., partitions)| partitions));
    }
    held.keep(WAITING_BYTES * topics.iter().map(|(.., partitions)| partitions.len()).sum::<usize>());
    let handlers = handlers.clone();
    Handled::Later(
        async move {
            let _until_answered = held;
            let deadline = tokio::time::Instant::now() + timeout.min(TIMEOUT_MAX);
            let responses = join_all(topics.into_iter().map(|(name, topic_id, id, partitions)| {
                let (handlers, context) = (&handlers, &context);
                async move {
                    let answers = partitions.into_iter().map(|(index, appended)| async move {
                        let outcome = match appended {
                            Err(refusal) => Err(refusal),
                            Ok(outcome) => match tokio::time::timeout_at(deadline, outcome.acknowledged()).await {
                                Ok(acknowledged) => acknowledged.map_err(Refusal::from),
                                Err(_) => Err(ErrorCode::RequestTimedOut.into()),
                            },
                        };
                        partition_response(handlers, context.version, id, index, outcome)
                    });
                    let partition_responses = join_all(answers).await;
                    let by_id = context.version >= TOPIC_IDS_FROM;
                    TopicProduceResponse {
                        name: if by_id { SmolStr::default() } else { name },
                        topic_id: if by_id { topic_id } else { Default::default() },
                        partition_responses,
                    }
                }
            }))
            .await;
            let node_endpoints = endpoints(&handlers, &context, &responses);
            context.reply(ProduceResponse { responses, node_endpoints, ..Default::default() }.into())
        }
        .boxed(),
    )
}

fn find<'a>(
    image: &'a MetadataImage,
    version: i16,
    topic: &TopicProduceData,
) -> Option<&'a std::sync::Arc<TopicImage>> {
    if version >= TOPIC_IDS_FROM {
        image.topics.by_id(TopicId(topic.topic_id))
    } else {
        image.topics.by_name(&topic.name)
    }
}

fn named(version: i16, topic: &TopicProduceData) -> NamedTopic {
    if version >= TOPIC_IDS_FROM {
        NamedTopic::Id(TopicId(topic.topic_id))
    } else {
        NamedTopic::Name(topic.name.clone())
    }
}

/// There is nobody here to ask, for now: the client has seen newer metadata than this broker, or older.
fn without_replica(
    handlers: &Handlers,
    topic: &NamedTopic,
    data: &PartitionProduceData,
    error: ReplicaError,
) -> Refusal {
    if let Some(records) = &data.records {
        let batch = records.clone().into_bytes();
        handlers.replicas.refused_without_replica(topic.clone(), data.index, &batch, error.clone());
    }
    error.into()
}

fn append(
    handlers: &Handlers,
    image: &MetadataImage,
    version: i16,
    (topic, named): (&TopicImage, &NamedTopic),
    acks: RequiredAcks,
    data: PartitionProduceData,
) -> Appended {
    // Only its coordinator writes there: anything else could make groups unreadable, or forge their offsets.
    if is_internal(&topic.name) {
        return Err(ErrorCode::InvalidTopicException.into());
    }
    if topic.partition(data.index).is_none() {
        return Err(without_replica(handlers, named, &data, ReplicaError::UnknownTopicOrPartition));
    }
    let id = TopicIdPartition { topic_id: topic.id, partition: data.index };
    let Some(partition) = handlers.replicas.partition(id) else {
        return Err(without_replica(handlers, named, &data, ReplicaError::NotLeaderOrFollower));
    };
    let configs = &handlers.broker.config.topic_configs;
    let timestamp_type = match configs.text(image, &topic.name, "message.timestamp.type") {
        "LogAppendTime" => TimestampType::LogAppendTime,
        _ => TimestampType::CreateTime,
    };
    let rules = rules(configs, image, topic, timestamp_type);
    let records = data.records.map(|r| r.into_bytes()).unwrap_or_default();
    let batch = RecordBatch::from_produce(records, &rules)
        .map_err(|e| Refusal { code: e.code().code(), message: Some(e.to_string()) })?;
    if batch.header().is_transactional() {
        return Err(Refusal {
            code: ErrorCode::InvalidTxnState.code(),
            message: Some("this version has no transactions yet".to_owned()),
        });
    }
    if version < ZSTD_FROM && matches!(batch.header().compression(), Ok(Compression::Zstd)) {
        return Err(ErrorCode::UnsupportedCompressionType.into());
    }
    let how = AppendRequest { acks, timestamp_type, origin: AppendOrigin::Client, leader_epoch: LeaderEpoch::NONE };
    Ok(partition.append_as_leader(batch.into_bytes(), how)?)
}

/// What the topic's configs ask of a batch.
fn rules(
    configs: &TopicConfigs,
    image: &MetadataImage,
    topic: &TopicImage,
    timestamp_type: TimestampType,
) -> ProduceRules {
    let number = |name| configs.number(image, &topic.name, name);
    let now =
        SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| i64::try_from(d.as_millis()).unwrap_or(i64::MAX));
    let oldest = now.saturating_sub(number("message.timestamp.before.max.ms"));
    let newest = now.saturating_add(number("message.timestamp.after.max.ms"));
    ProduceRules {
        batch_bytes_max: usize::try_from(number("max.message.bytes")).unwrap_or(0),
        // The broker sets the time itself: what the client says does not count.
        timestamps: if timestamp_type == TimestampType::LogAppendTime { i64::MIN..=i64::MAX } else { oldest..=newest },
        keys_required: image.is_compacted(&topic.name),
        ..Default::default()
    }
}

/// With acks=0 the client hears nothing, unless something went wrong: then the connection closes, and it looks again.
fn without_answer(partitions: impl Iterator<Item = (i32, Appended)>) -> Handled {
    let mut failed = BTreeSet::new();
    for (_, appended) in partitions {
        if let Err(refusal) = appended {
            failed.insert(refusal.code);
        }
    }
    match failed.first() {
        None => Handled::NoReply,
        Some(code) => {
            let name = ErrorCode::from_code(*code).map_or("an error", ErrorCode::name);
            Handled::Close(format!("a produce request with acks=0 failed with {name}"))
        }
    }
}

fn partition_response(
    handlers: &Handlers,
    version: i16,
    id: Option<TopicId>,
    index: i32,
    outcome: Result<AppendInfo, Refusal>,
) -> PartitionProduceResponse {
    match outcome {
        Ok(info) => PartitionProduceResponse {
            index,
            base_offset: info.first_offset,
            log_append_time_ms: info.log_append_time_ms,
            log_start_offset: info.log_start_offset,
            error_message: None,
            ..Default::default()
        },
        Err(refusal) => PartitionProduceResponse {
            index,
            error_code: refusal.code,
            base_offset: -1,
            error_message: refusal.message.map(SmolStr::new),
            current_leader: hint(handlers, version, id, index, refusal.code),
            ..Default::default()
        },
    }
}

/// KIP-951: whoever asked the wrong broker learns the right one at once.
fn hint(handlers: &Handlers, version: i16, id: Option<TopicId>, index: i32, code: i16) -> LeaderIdAndEpoch {
    let asks_elsewhere =
        [ErrorCode::NotLeaderOrFollower, ErrorCode::FencedLeaderEpoch].map(ErrorCode::code).contains(&code);
    match id {
        Some(topic_id) if asks_elsewhere && version >= HINTS_FROM => {
            let (leader_id, leader_epoch) =
                leader_of(&handlers.broker.image(), TopicIdPartition { topic_id, partition: index });
            LeaderIdAndEpoch { leader_id, leader_epoch }
        }
        _ => LeaderIdAndEpoch::default(),
    }
}

fn endpoints(handlers: &Handlers, context: &RequestContext, responses: &[TopicProduceResponse]) -> Vec<NodeEndpoint> {
    let hinted: BTreeSet<i32> = responses
        .iter()
        .flat_map(|t| &t.partition_responses)
        .map(|p| p.current_leader.leader_id)
        .filter(|id| *id >= 0)
        .collect();
    if hinted.is_empty() {
        return Vec::new();
    }
    let image = handlers.broker.image();
    let found = hinted.into_iter().filter_map(|id| alive_endpoint(&image, NodeId(id), &context.connection.listener));
    found.map(|e| NodeEndpoint { node_id: e.node_id, host: e.host, port: e.port, rack: e.rack }).collect()
}
