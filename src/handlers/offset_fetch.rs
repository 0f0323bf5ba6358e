//! OffsetFetch (key 9): one group before version 8, several since; topics by id from version 10 on.

use super::Handlers;
use super::groups::{code_of, shared, text};
use crate::coordinator::group::{FetchTopic, FetchedTopic, OffsetFetchRequest as FetchOffsets};
use rookery_protocol::codec::SmolStr;
use rookery_protocol::error::ErrorCode;
use rookery_protocol::messages::offset_fetch::{
    OffsetFetchRequestGroup, OffsetFetchRequestTopics, OffsetFetchResponseGroup, OffsetFetchResponsePartition,
    OffsetFetchResponsePartitions, OffsetFetchResponseTopic, OffsetFetchResponseTopics,
};
use rookery_protocol::messages::{OffsetFetchRequest, OffsetFetchResponse};
use rookery_raft::ids::TopicId;
use rookery_raft::image::MetadataImage;

pub async fn handle(handlers: &Handlers, version: i16, request: OffsetFetchRequest) -> OffsetFetchResponse {
    let image = handlers.broker.image();
    if version >= 8 {
        let mut groups = Vec::with_capacity(request.groups.len());
        for group in &request.groups {
            groups.push(fetch(handlers, &image, version, group, request.require_stable).await);
        }
        return OffsetFetchResponse { groups, ..Default::default() };
    }
    let topics = request.topics.map(|topics| {
        let renamed = |t: rookery_protocol::messages::offset_fetch::OffsetFetchRequestTopic| OffsetFetchRequestTopics {
            name: t.name,
            partition_indexes: t.partition_indexes,
            ..Default::default()
        };
        topics.into_iter().map(renamed).collect()
    });
    let group = OffsetFetchRequestGroup { group_id: request.group_id, topics, ..Default::default() };
    single(version, fetch(handlers, &image, version, &group, request.require_stable).await)
}

/// The answer in the form of versions below 8. Version 1 has no place for a group's error but its partitions.
fn single(version: i16, group: OffsetFetchResponseGroup) -> OffsetFetchResponse {
    let inside = if version < 2 { group.error_code } else { 0 };
    let topics = group.topics.into_iter().map(|topic| OffsetFetchResponseTopic {
        name: topic.name,
        partitions: topic
            .partitions
            .into_iter()
            .map(|p| OffsetFetchResponsePartition {
                partition_index: p.partition_index,
                committed_offset: p.committed_offset,
                committed_leader_epoch: p.committed_leader_epoch,
                metadata: p.metadata,
                error_code: if inside != 0 { inside } else { p.error_code },
            })
            .collect(),
    });
    OffsetFetchResponse { topics: topics.collect(), error_code: group.error_code, ..Default::default() }
}

async fn fetch(
    handlers: &Handlers,
    image: &MetadataImage,
    version: i16,
    group: &OffsetFetchRequestGroup,
    require_stable: bool,
) -> OffsetFetchResponseGroup {
    let asked: Option<Vec<FetchTopic>> =
        group.topics.as_ref().map(|topics| topics.iter().filter_map(|t| known_topic(image, version, t)).collect());
    let request =
        FetchOffsets { group_id: shared(&group.group_id), topics: asked, require_stable };
    let mut response = OffsetFetchResponseGroup { group_id: group.group_id.clone(), ..Default::default() };
    match handlers.groups.fetch_offsets(request).await {
        Ok(topics) => response.topics = found(image, version, topics),
        Err(error) => {
            response.error_code = code_of(error);
            // Below version 2 the error has to stand in the partitions, so they have to be there.
            if version < 2 {
                response.topics = group.topics.iter().flatten().map(|t| missing(t, 0)).collect();
            }
            return response;
        }
    }
    if version >= 10 {
        let unknown = group.topics.iter().flatten().filter(|t| image.topics.by_id(TopicId(t.topic_id)).is_none());
        response.topics.extend(unknown.map(|t| missing(t, ErrorCode::UnknownTopicId.code())));
    }
    response
}

/// What to ask the coordinator for; `None` for an id that no topic has.
fn known_topic(image: &MetadataImage, version: i16, topic: &OffsetFetchRequestTopics) -> Option<FetchTopic> {
    let (name, topic_id) = if version >= 10 {
        let known = image.topics.by_id(TopicId(topic.topic_id))?;
        (known.name.clone(), known.id)
    } else {
        (shared(&topic.name), image.topics.id_of(&topic.name).unwrap_or_default())
    };
    Some(FetchTopic { name, topic_id, partitions: topic.partition_indexes.clone() })
}

fn found(image: &MetadataImage, version: i16, topics: Vec<FetchedTopic>) -> Vec<OffsetFetchResponseTopics> {
    let convert = |topic: FetchedTopic| {
        // An offset of a topic that is gone has no id to be told under.
        let id = image.topics.id_of(&topic.name).unwrap_or_default();
        if version >= 10 && id == TopicId::NONE {
            return None;
        }
        let partitions = topic.partitions.iter().map(|p| OffsetFetchResponsePartitions {
            partition_index: p.partition,
            committed_offset: p.offset,
            committed_leader_epoch: p.leader_epoch,
            metadata: Some(text(&p.metadata)),
            error_code: 0,
        });
        Some(OffsetFetchResponseTopics {
            name: SmolStr::new(&topic.name),
            topic_id: id.0,
            partitions: partitions.collect(),
        })
    };
    topics.into_iter().filter_map(convert).collect()
}

fn missing(topic: &OffsetFetchRequestTopics, error_code: i16) -> OffsetFetchResponseTopics {
    let partitions = topic.partition_indexes.iter().map(|index| OffsetFetchResponsePartitions {
        partition_index: *index,
        committed_offset: -1,
        error_code,
        ..Default::default()
    });
    OffsetFetchResponseTopics { name: topic.name.clone(), topic_id: topic.topic_id, partitions: partitions.collect() }
}
