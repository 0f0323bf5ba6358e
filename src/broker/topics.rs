//! Topics that exist because a client asked for them, and the cluster's own.

use super::{ChannelError, ControllerChannel};
use crate::config::server::{GroupSettings, TopicDefaults};
use parking_lot::Mutex;
use rookery_protocol::codec::SmolStr;
use rookery_protocol::error::ErrorCode;
use rookery_protocol::topics::GROUP_METADATA_TOPIC;
use rookery_raft::controller::{
    ControllerError, ControllerRequest, ControllerResponse, CreateTopicsRequest, EnsureInternalTopicRequest, NewTopic,
};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

const TIMEOUT: Duration = Duration::from_secs(5);
/// A cluster that has too few brokers yet is not asked again for every client that waits.
const RETRY_AFTER: Duration = Duration::from_millis(500);

/// Creates what clients ask for.
pub struct AskedTopics {
    channel: ControllerChannel,
    // When `__consumer_offsets` was last asked for; held for a glance only.
    group_topic_asked: Arc<Mutex<Option<Instant>>>,
}

impl AskedTopics {
    /// Through this node's way to the controller.
    pub fn new(channel: ControllerChannel) -> Self {
        Self { channel, group_topic_asked: Arc::default() }
    }

    /// Create topics with the defaults. A created one answers LEADER_NOT_AVAILABLE, as Kafka does: the client asks again.
    pub async fn create(&self, names: Vec<SmolStr>, defaults: &TopicDefaults) -> Vec<ErrorCode> {
        let topics = names
            .iter()
            .map(|name| NewTopic {
                name: name.to_string(),
                partitions: defaults.num_partitions,
                replication_factor: -1,
                ..Default::default()
            })
            .collect();
        let request = ControllerRequest::CreateTopics(CreateTopicsRequest { topics, validate_only: false });
        match self.channel.ask(request, TIMEOUT).await {
            Ok(ControllerResponse::CreateTopics(results)) if results.len() == names.len() => results
                .iter()
                .map(|result| match result {
                    Ok(_) | Err(ControllerError::TopicAlreadyExists(_)) => ErrorCode::LeaderNotAvailable,
                    Err(ControllerError::InvalidTopic(_)) => ErrorCode::InvalidTopicException,
                    Err(ControllerError::InvalidReplicationFactor(_)) => ErrorCode::InvalidReplicationFactor,
                    Err(_) => ErrorCode::UnknownTopicOrPartition,
                })
                .collect(),
            outcome => {
                tracing::debug!(?outcome, "topics that clients asked for were not created");
                vec![ErrorCode::UnknownTopicOrPartition; names.len()]
            }
        }
    }

    /// Begin to create `__consumer_offsets` in the background.
    pub fn create_group_metadata_topic(&self, groups: &GroupSettings) {
        {
            let mut asked = self.group_topic_asked.lock();
            if asked.is_some_and(|at| at.elapsed() < RETRY_AFTER) {
                return;
            }
            *asked = Some(Instant::now());
        }
        let configs = [("cleanup.policy", "compact"), ("compression.type", "producer"), ("segment.bytes", "104857600")];
        let request = ControllerRequest::EnsureInternalTopic(EnsureInternalTopicRequest {
            name: GROUP_METADATA_TOPIC.to_owned(),
            partitions: groups.offsets_partitions,
            replication_factor: groups.offsets_replication_factor,
            configs: BTreeMap::from(configs.map(|(name, value)| (name.to_owned(), Some(value.to_owned())))),
        });
        let channel = self.channel.clone();
        tokio::spawn(async move {
            match channel.ask(request, TIMEOUT).await {
                Ok(_) => tracing::info!(topic = GROUP_METADATA_TOPIC, "internal topic is there"),
                Err(ChannelError::Refused(ControllerError::NotReady(why))) => {
                    tracing::info!(topic = GROUP_METADATA_TOPIC, why, "internal topic has to wait");
                }
                Err(error) => tracing::warn!(topic = GROUP_METADATA_TOPIC, %error, "internal topic was not created"),
            }
        });
    }
}
