//! From the metadata to the coordinators: which partitions of the coordinator's topic this broker leads.

use super::ReplicaLog;
use super::group::{CONSUMER_OFFSETS, GroupCoordinator};
use rookery_raft::delta::{MetadataDelta, MetadataPublisher};
use rookery_raft::ids::NodeId;
use rookery_raft::image::MetadataImage;
use std::sync::Arc;

/// Tells the group coordinator what it coordinates. Publishes after the replicas: what is elected here is led there.
pub struct GroupElections {
    node: NodeId,
    log: Arc<ReplicaLog>,
    groups: Arc<GroupCoordinator<ReplicaLog>>,
}

impl GroupElections {
    /// For the groups of this broker.
    pub fn new(node: NodeId, log: Arc<ReplicaLog>, groups: Arc<GroupCoordinator<ReplicaLog>>) -> Self {
        Self { node, log, groups }
    }
}

impl MetadataPublisher for GroupElections {
    fn name(&self) -> &str {
        "groups"
    }

    fn on_metadata_update(&self, delta: &MetadataDelta, image: &Arc<MetadataImage>) {
        self.log.set_topic(image.topics.id_of(CONSUMER_OFFSETS));
        let changes = delta.local_changes(self.node);
        for (id, removed) in &changes.deleted {
            if &*removed.topic == CONSUMER_OFFSETS {
                self.groups.resigned(id.partition, None);
            }
        }
        for (id, change) in &changes.leaders {
            if &*change.topic == CONSUMER_OFFSETS && change.is_new_leader_epoch() {
                self.groups.elected(id.partition, change.new.leader_epoch);
            }
        }
        for (id, change) in &changes.followers {
            if &*change.topic == CONSUMER_OFFSETS && change.is_new_leader_epoch() {
                self.groups.resigned(id.partition, Some(change.new.leader_epoch));
            }
        }
        let deleted: Vec<_> = delta.topics.deleted().map(|t| (t.name.clone(), t.id)).collect();
        if !deleted.is_empty() {
            let groups = self.groups.clone();
            tokio::spawn(async move { groups.topics_deleted(deleted).await });
        }
    }
}
