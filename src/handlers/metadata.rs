//! Metadata (key 3): brokers, and where partitions live. Creates topics that clients ask for, where that is on.

use super::Handlers;
use super::endpoints::{alive_endpoint, endpoint, numbers, offline_replicas};
use crate::broker::topics::{GROUP_METADATA_TOPIC, is_internal, is_legal_topic_name};
use crate::net::ConnectionInfo;
use rookery_protocol::codec::SmolStr;
use rookery_protocol::error::ErrorCode;
use rookery_protocol::messages::metadata::{
    MetadataRequestTopic, MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use rookery_protocol::messages::{MetadataRequest, MetadataResponse};
use rookery_raft::ids::{NodeId, TopicId};
use rookery_raft::image::{MetadataImage, PartitionRegistration, TopicImage};
use std::collections::BTreeSet;
use std::sync::Arc;

pub async fn handle(
    handlers: &Handlers,
    connection: &ConnectionInfo,
    version: i16,
    request: MetadataRequest,
) -> MetadataResponse {
    let image = handlers.broker.settled_image(|image| leaders(image, version, &request)).await;
    let topics = match &request.topics {
        None => all_topics(&image, connection),
        Some(asked) if asked.is_empty() && version == 0 => all_topics(&image, connection),
        Some(asked) => {
            let create = request.allow_auto_topic_creation && handlers.broker.config.topics.auto_create;
            let mut answers = Vec::with_capacity(asked.len());
            let mut missing = Vec::new();
            for topic in asked {
                let answer = asked_topic(&image, connection, topic);
                if answer.error_code == ErrorCode::UnknownTopicOrPartition.code() && create {
                    match &topic.name {
                        // The cluster's own topics are made with their own shape.
                        Some(name) if name == GROUP_METADATA_TOPIC => handlers.broker.create_group_metadata_topic(),
                        Some(name) if is_internal(name) => {}
                        name => missing.extend(name.clone().map(|name| (answers.len(), name))),
                    }
                }
                answers.push(answer);
            }
            if !missing.is_empty() {
                let names = missing.iter().map(|(_, name)| name.clone()).collect();
                let created = handlers.broker.create_asked_topics(names).await;
                for ((at, _), error) in missing.into_iter().zip(created) {
                    answers[at].error_code = error.code();
                }
            }
            answers
        }
    };
    MetadataResponse {
        brokers: image
            .cluster
            .brokers()
            .filter(|b| handlers.broker.is_listed(b))
            .filter_map(|b| endpoint(b, &connection.listener))
            .map(|e| MetadataResponseBroker { node_id: e.node_id, host: e.host, port: e.port, rack: e.rack })
            .collect(),
        cluster_id: image.cluster.cluster_id().map(|id| SmolStr::new(id.to_string())),
        controller_id: controller(handlers, &image),
        topics,
        ..Default::default()
    }
}

/// A node that clients may ask for changes: the active controller if it is a broker too, else any (all forward).
pub fn controller(handlers: &Handlers, image: &MetadataImage) -> i32 {
    let alive = |id: &_| image.cluster.broker(*id).is_some_and(|b| !b.fenced);
    let active = handlers.broker.controller().filter(alive);
    active.or_else(|| image.cluster.brokers().find(|b| !b.fenced).map(|b| b.id())).map_or(-1, |id| id.0)
}

/// Whom the answer will name as leaders.
fn leaders(image: &MetadataImage, version: i16, request: &MetadataRequest) -> BTreeSet<NodeId> {
    match &request.topics {
        Some(asked) if version > 0 || !asked.is_empty() => {
            let found = asked.iter().filter_map(|topic| find(image, topic));
            found.flat_map(|t| t.iter()).map(|(_, p)| p.leader).collect()
        }
        _ => image.topics.partitions().map(|(_, p)| p.leader).collect(),
    }
}

fn find<'a>(image: &'a MetadataImage, asked: &MetadataRequestTopic) -> Option<&'a Arc<TopicImage>> {
    match &asked.name {
        Some(name) => image.topics.by_name(name),
        None => image.topics.by_id(TopicId(asked.topic_id)),
    }
}

fn all_topics(image: &MetadataImage, connection: &ConnectionInfo) -> Vec<MetadataResponseTopic> {
    image.topics.iter_by_name().map(|t| topic(image, connection, t)).collect()
}

fn asked_topic(
    image: &MetadataImage,
    connection: &ConnectionInfo,
    asked: &MetadataRequestTopic,
) -> MetadataResponseTopic {
    let by_id = asked.name.is_none();
    if let Some(found) = find(image, asked) {
        return topic(image, connection, found);
    }
    let error = match &asked.name {
        Some(name) if !is_legal_topic_name(name) => ErrorCode::InvalidTopicException,
        Some(_) => ErrorCode::UnknownTopicOrPartition,
        None => ErrorCode::UnknownTopicId,
    };
    MetadataResponseTopic {
        error_code: error.code(),
        // Versions below 12 cannot say "no name".
        name: Some(asked.name.clone().unwrap_or_default()),
        topic_id: if by_id { asked.topic_id } else { Default::default() },
        ..Default::default()
    }
}

fn topic(image: &MetadataImage, connection: &ConnectionInfo, topic: &TopicImage) -> MetadataResponseTopic {
    MetadataResponseTopic {
        error_code: ErrorCode::None.code(),
        name: Some(SmolStr::new(&topic.name)),
        topic_id: topic.id.0,
        is_internal: is_internal(&topic.name),
        partitions: topic.iter().map(|(number, p)| partition(image, connection, number, p)).collect(),
        ..Default::default()
    }
}

fn partition(
    image: &MetadataImage,
    connection: &ConnectionInfo,
    number: i32,
    partition: &PartitionRegistration,
) -> MetadataResponsePartition {
    let reachable = alive_endpoint(image, partition.leader, &connection.listener).is_some();
    let error = match () {
        () if !partition.has_leader() => ErrorCode::LeaderNotAvailable,
        () if reachable => ErrorCode::None,
        () if image.cluster.is_active(partition.leader) => ErrorCode::ListenerNotFound,
        () => ErrorCode::LeaderNotAvailable,
    };
    MetadataResponsePartition {
        error_code: error.code(),
        partition_index: number,
        leader_id: if reachable { partition.leader.0 } else { -1 },
        leader_epoch: partition.leader_epoch.0,
        replica_nodes: numbers(&partition.replicas),
        isr_nodes: numbers(&partition.isr),
        offline_replicas: offline_replicas(image, partition),
    }
}
