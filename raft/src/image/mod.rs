//! The metadata image: everything the log says up to one offset.
//!
//! Immutable and shared by `Arc`: a reader keeps the image it began with, however long it takes. A new image comes
//! from an older one and a [`crate::delta::MetadataDelta`]; the maps are persistent, so it costs what changed.
//! Iteration is in key order everywhere, so that two nodes do the same in the same order.
//!
//! In: deltas, or a snapshot ([`read_snapshot`]). Out: look-ups, or a snapshot ([`write_snapshot`]). Never: a
//! decision, soft state, a clock.

mod cluster;
pub mod config_def;
mod configs;
pub mod events;
mod features;
mod security;
mod snapshot;
pub mod topic_configs;
mod topics;

pub use crate::record::{LeaderRecoveryState, PartitionRegistration};
pub use cluster::{BrokerRegistration, ClusterImage};
pub use configs::ConfigsImage;
pub use events::EventsImage;
pub use features::FeaturesImage;
pub use security::{AclsImage, ClientQuotasImage, ScramImage};
pub use snapshot::{SnapshotError, read_snapshot, write_snapshot};
pub use topics::{TopicImage, TopicsImage};

use crate::ids::{MetadataOffset, TopicIdPartition};
use std::sync::Arc;

/// Everything the metadata log says up to [`MetadataImage::offset`].
#[derive(Clone, Debug, PartialEq)]
pub struct MetadataImage {
    /// The log index of the last entry in it; −1 before the first.
    pub offset: MetadataOffset,
    /// The formation and the brokers.
    pub cluster: ClusterImage,
    /// Topics and partitions.
    pub topics: TopicsImage,
    /// Dynamic configs.
    pub configs: ConfigsImage,
    /// Finalised features, `metadata.version` among them.
    pub features: FeaturesImage,
    /// The first producer id nobody was given yet.
    pub next_producer_id: i64,
    /// Client quotas.
    pub quotas: ClientQuotasImage,
    /// Access rules.
    pub acls: AclsImage,
    /// SCRAM credentials.
    pub scram: ScramImage,
    /// What happened lately, and why. For people: no decision reads it.
    pub events: EventsImage,
}

impl Default for MetadataImage {
    fn default() -> Self {
        Self {
            offset: MetadataOffset(-1),
            cluster: ClusterImage::default(),
            topics: TopicsImage::default(),
            configs: ConfigsImage::default(),
            features: FeaturesImage::default(),
            next_producer_id: 0,
            quotas: ClientQuotasImage::default(),
            acls: AclsImage::default(),
            scram: ScramImage::default(),
            events: EventsImage::default(),
        }
    }
}

impl MetadataImage {
    /// The image before the first record.
    pub fn empty() -> Arc<Self> {
        Arc::new(Self::default())
    }

    /// A partition's registration.
    pub fn partition(&self, id: TopicIdPartition) -> Option<&Arc<PartitionRegistration>> {
        self.topics.partition(id)
    }

    /// The value a topic config has by the metadata alone: the topic's own, else the cluster's, else Kafka's default.
    /// `None` for a name that is no topic config. The controller goes by it; a broker asks its
    /// [`topic_configs::TopicConfigs`], which say the same of what all must agree on.
    pub fn topic_config(&self, topic: &str, name: &str) -> Option<&str> {
        let definition = config_def::topic_config(name)?;
        self.configs
            .topic(topic, name)
            .or_else(|| self.configs.cluster(definition.broker_name))
            .or(Some(definition.default))
    }

    /// Whether records of a topic are kept by key, with or without retention beside it.
    pub fn is_compacted(&self, topic: &str) -> bool {
        self.topic_config(topic, "cleanup.policy").is_some_and(|policy| policy.contains("compact"))
    }

    /// Whether records of a topic go by age and size, with or without compaction beside it.
    pub fn is_retention_bound(&self, topic: &str) -> bool {
        self.topic_config(topic, "cleanup.policy").is_some_and(|policy| policy.contains("delete"))
    }

    /// How many replicas must be in sync for a partition of `replicas` replicas before anything commits:
    /// min(`min.insync.replicas`, replicas), so that a one-node cluster works without configuration.
    pub fn min_isr(&self, topic: &str, replicas: usize) -> usize {
        let configured = self.topic_config(topic, config_def::MIN_INSYNC_REPLICAS).and_then(|n| n.trim().parse().ok());
        configured.unwrap_or(config_def::MIN_INSYNC_REPLICAS_DEFAULT).clamp(1, replicas.max(1))
    }
}
