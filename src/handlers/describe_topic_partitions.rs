//! DescribeTopicPartitions (key 75, KIP-966): partitions with their ELR, in pages.

use super::Handlers;
use super::endpoints::{numbers, offline_replicas};
use rookery_protocol::codec::SmolStr;
use rookery_protocol::error::ErrorCode;
use rookery_protocol::messages::describe_topic_partitions::{
    Cursor, DescribeTopicPartitionsResponsePartition, DescribeTopicPartitionsResponseTopic,
};
use rookery_protocol::messages::{DescribeTopicPartitionsRequest, DescribeTopicPartitionsResponse};
use rookery_protocol::topics::{is_internal, is_legal_topic_name};
use rookery_raft::image::{MetadataImage, PartitionRegistration};
use std::collections::BTreeSet;

/// Partitions in one answer, whatever the client asks for (Kafka's max.request.partition.size.limit).
const PARTITIONS_MAX: usize = 2000;

pub fn handle(handlers: &Handlers, request: &DescribeTopicPartitionsRequest) -> DescribeTopicPartitionsResponse {
    let image = handlers.broker.image();
    let mut room = usize::try_from(request.response_partition_limit).unwrap_or(0).clamp(1, PARTITIONS_MAX);
    let (from_topic, from_partition) = match &request.cursor {
        Some(cursor) => (cursor.topic_name.as_str(), cursor.partition_index.max(0)),
        None => ("", 0),
    };
    // In the order of names, so that a cursor means the same on every broker.
    let names: BTreeSet<&str> = if request.topics.is_empty() {
        image.topics.iter_by_name().map(|t| &*t.name).collect()
    } else {
        request.topics.iter().map(|t| t.name.as_str()).collect()
    };
    let mut response = DescribeTopicPartitionsResponse { next_cursor: None, ..Default::default() };
    for name in names.range(from_topic..) {
        let Some(topic) = image.topics.by_name(name) else {
            response.topics.push(unknown(name));
            continue;
        };
        let first = if *name == from_topic { from_partition } else { 0 };
        if room == 0 {
            response.next_cursor = Some(Cursor { topic_name: SmolStr::new(name), partition_index: first });
            return response;
        }
        let partitions: Vec<_> = topic
            .iter()
            .skip_while(|(number, _)| *number < first)
            .take(room)
            .map(|(number, p)| partition(&image, number, p))
            .collect();
        room -= partitions.len();
        let next = first + i32::try_from(partitions.len()).expect("bounded by PARTITIONS_MAX");
        let more = usize::try_from(next).is_ok_and(|next| next < topic.partitions.len());
        response.topics.push(DescribeTopicPartitionsResponseTopic {
            error_code: ErrorCode::None.code(),
            name: Some(SmolStr::new(name)),
            topic_id: topic.id.0,
            is_internal: is_internal(name),
            partitions,
            ..Default::default()
        });
        if more {
            response.next_cursor = Some(Cursor { topic_name: SmolStr::new(name), partition_index: next });
            return response;
        }
    }
    response
}

fn unknown(name: &str) -> DescribeTopicPartitionsResponseTopic {
    let error =
        if is_legal_topic_name(name) { ErrorCode::UnknownTopicOrPartition } else { ErrorCode::InvalidTopicException };
    DescribeTopicPartitionsResponseTopic {
        error_code: error.code(),
        name: Some(SmolStr::new(name)),
        ..Default::default()
    }
}

fn partition(
    image: &MetadataImage,
    number: i32,
    partition: &PartitionRegistration,
) -> DescribeTopicPartitionsResponsePartition {
    let error = if partition.has_leader() { ErrorCode::None } else { ErrorCode::LeaderNotAvailable };
    DescribeTopicPartitionsResponsePartition {
        error_code: error.code(),
        partition_index: number,
        leader_id: partition.leader.0,
        leader_epoch: partition.leader_epoch.0,
        replica_nodes: numbers(&partition.replicas),
        isr_nodes: numbers(&partition.isr),
        eligible_leader_replicas: Some(numbers(&partition.elr)),
        last_known_elr: Some(numbers(&partition.last_known_elr)),
        offline_replicas: offline_replicas(image, partition),
    }
}
