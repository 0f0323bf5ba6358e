//! OffsetCommit (key 8). Topics come by name, or by id from version 10 on.

use super::Handlers;
use super::groups::{code_of, shared, shared_option};
use crate::coordinator::CoordinatorError;
use crate::coordinator::group::{
    CommittedPartition, CommittedTopic, OffsetCommitRequest as Commit, PartitionErrors,
};
use rookery_protocol::error::ErrorCode;
use rookery_protocol::messages::offset_commit::{
    OffsetCommitRequestTopic, OffsetCommitResponsePartition, OffsetCommitResponseTopic,
};
use rookery_protocol::messages::{OffsetCommitRequest, OffsetCommitResponse};
use rookery_raft::ids::TopicId;
use rookery_raft::image::{MetadataImage, TopicImage};
use std::collections::HashMap;
use std::sync::Arc;

pub async fn handle(handlers: &Handlers, version: i16, request: OffsetCommitRequest) -> OffsetCommitResponse {
    let image = handlers.broker.image();
    let mut topics = Vec::with_capacity(request.topics.len());
    // Partitions that do not exist are refused one by one, as Kafka does; the rest goes to the coordinator.
    for topic in &request.topics {
        if let Some(known) = find(&image, version, topic) {
            let partitions: Vec<_> = topic
                .partitions
                .iter()
                .filter(|p| known.partition(p.partition_index).is_some())
                .map(|p| CommittedPartition {
                    partition: p.partition_index,
                    offset: p.committed_offset,
                    leader_epoch: p.committed_leader_epoch,
                    metadata: p.committed_metadata.as_ref().map(shared).unwrap_or_default(),
                })
                .collect();
            if !partitions.is_empty() {
                topics.push(CommittedTopic { name: known.name.clone(), topic_id: known.id, partitions });
            }
        }
    }
    let result = if topics.is_empty() {
        Ok(Vec::new())
    } else {
        let commit = Commit {
            group_id: shared(&request.group_id),
            generation: request.generation_id_or_member_epoch,
            member_id: shared(&request.member_id),
            group_instance_id: shared_option(request.group_instance_id.as_ref()),
            retention_ms: Some(request.retention_time_ms).filter(|ms| *ms >= 0),
            knows_group_id_not_found: version >= 9,
            topics,
        };
        handlers.groups.commit_offsets(commit).await
    };
    answer(&image, version, &request, result)
}

fn find<'a>(image: &'a MetadataImage, version: i16, topic: &OffsetCommitRequestTopic) -> Option<&'a Arc<TopicImage>> {
    if version >= 10 { image.topics.by_id(TopicId(topic.topic_id)) } else { image.topics.by_name(&topic.name) }
}

fn answer(
    image: &MetadataImage,
    version: i16,
    request: &OffsetCommitRequest,
    result: Result<PartitionErrors, CoordinatorError>,
) -> OffsetCommitResponse {
    let mut outcomes: HashMap<(&str, i32), Option<CoordinatorError>> = HashMap::new();
    for (topic, partitions) in result.iter().flatten() {
        outcomes.extend(partitions.iter().map(|(partition, error)| ((&**topic, *partition), *error)));
    }
    let topics = request.topics.iter().map(|topic| {
        let known = find(image, version, topic);
        let code = |partition: i32| match (known, &result) {
            (None, _) if version >= 10 => ErrorCode::UnknownTopicId.code(),
            (None, _) => ErrorCode::UnknownTopicOrPartition.code(),
            (Some(known), _) if known.partition(partition).is_none() => ErrorCode::UnknownTopicOrPartition.code(),
            (Some(_), Err(error)) => code_of(*error),
            (Some(known), Ok(_)) => match outcomes.get(&(&*known.name, partition)) {
                Some(outcome) => outcome.map_or(0, code_of),
                None => ErrorCode::UnknownServerError.code(),
            },
        };
        OffsetCommitResponseTopic {
            name: topic.name.clone(),
            topic_id: topic.topic_id,
            partitions: topic
                .partitions
                .iter()
                .map(|p| OffsetCommitResponsePartition {
                    partition_index: p.partition_index,
                    error_code: code(p.partition_index),
                })
                .collect(),
        }
    });
    OffsetCommitResponse { topics: topics.collect(), ..Default::default() }
}
