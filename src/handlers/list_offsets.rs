//! ListOffsets (key 2): ends of partitions, and offsets by time.

use super::Handlers;
use crate::replica::{FoundOffset, OffsetSpec};
use futures_util::future::join_all;
use rookery_protocol::error::ErrorCode;
use rookery_protocol::messages::list_offsets::{
    ListOffsetsPartition, ListOffsetsPartitionResponse, ListOffsetsTopicResponse,
};
use rookery_protocol::messages::{ListOffsetsRequest, ListOffsetsResponse};
use rookery_raft::ids::{LeaderEpoch, TopicId, TopicIdPartition};

/// Versions 4 and above carry leader epochs.
const EPOCHS_FROM: i16 = 4;
/// Older versions do not know OFFSET_NOT_AVAILABLE (KIP-207).
const NOT_AVAILABLE_FROM: i16 = 5;

pub async fn handle(handlers: &Handlers, version: i16, request: ListOffsetsRequest) -> ListOffsetsResponse {
    let image = handlers.broker.image();
    let topics = request.topics.into_iter().map(|topic| {
        let id = image.topics.id_of(&topic.name);
        async move {
            let partitions = topic.partitions.iter().map(|p| partition(handlers, version, id, p));
            ListOffsetsTopicResponse { partitions: join_all(partitions).await, name: topic.name }
        }
    });
    ListOffsetsResponse { topics: join_all(topics).await, ..Default::default() }
}

async fn partition(
    handlers: &Handlers,
    version: i16,
    topic_id: Option<TopicId>,
    asked: &ListOffsetsPartition,
) -> ListOffsetsPartitionResponse {
    let refused = |code: i16| ListOffsetsPartitionResponse {
        partition_index: asked.partition_index,
        error_code: code,
        ..Default::default()
    };
    let id = topic_id.map(|topic_id| TopicIdPartition { topic_id, partition: asked.partition_index });
    let Some(id) = id.filter(|id| handlers.broker.image().partition(*id).is_some()) else {
        return refused(ErrorCode::UnknownTopicOrPartition.code());
    };
    let spec = OffsetSpec::from_wire(asked.timestamp).filter(|spec| is_known_to(*spec, version, asked.timestamp));
    let Some(spec) = spec else { return refused(ErrorCode::UnsupportedVersion.code()) };
    match handlers.replicas.find_offset(id, LeaderEpoch(asked.current_leader_epoch), spec).await {
        Ok(FoundOffset { offset, timestamp_ms, leader_epoch }) => ListOffsetsPartitionResponse {
            partition_index: asked.partition_index,
            timestamp: timestamp_ms,
            offset,
            leader_epoch: if version >= EPOCHS_FROM { leader_epoch.0 } else { -1 },
            ..Default::default()
        },
        Err(error) => {
            let code = error.kafka_code();
            let unknown_to_old = version < NOT_AVAILABLE_FROM && code == ErrorCode::OffsetNotAvailable.code();
            refused(if unknown_to_old { ErrorCode::LeaderNotAvailable.code() } else { code })
        }
    }
}

/// Each special timestamp came with a version (KIP-734, KIP-405, KIP-1005, KIP-1023).
fn is_known_to(spec: OffsetSpec, version: i16, timestamp: i64) -> bool {
    match (spec, timestamp) {
        (OffsetSpec::MaxTimestamp, _) => version >= 7,
        (OffsetSpec::Earliest, -4) => version >= 8,
        (OffsetSpec::Tiered, -5) => version >= 9,
        (OffsetSpec::Tiered, _) => version >= 11,
        _ => true,
    }
}
