//! What of a delta concerns one broker.

use super::TopicsDelta;
use crate::ids::{NodeId, TopicIdPartition, TopicName};
use crate::record::PartitionRegistration;
use std::collections::BTreeMap;
use std::sync::Arc;

/// One replica of this broker that is new or changed.
#[derive(Clone, Debug, PartialEq)]
pub struct ReplicaChange {
    /// Its topic's name.
    pub topic: TopicName,
    /// The registration before; `None` for a new partition.
    pub old: Option<Arc<PartitionRegistration>>,
    /// The registration now.
    pub new: Arc<PartitionRegistration>,
}

impl ReplicaChange {
    /// Whether the leader, or which life of it, is another than before.
    pub fn is_new_leader_epoch(&self) -> bool {
        self.old.as_ref().is_none_or(|old| old.leader_epoch != self.new.leader_epoch)
    }
}

/// What one broker has to do about a delta.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LocalReplicaChanges {
    /// Replicas it no longer has, as they were: the topic is gone, or the replica went elsewhere.
    pub deleted: BTreeMap<TopicIdPartition, ReplicaRemoved>,
    /// Changed replicas that it leads now.
    pub leaders: BTreeMap<TopicIdPartition, ReplicaChange>,
    /// Changed replicas that it follows now, or that have no leader.
    pub followers: BTreeMap<TopicIdPartition, ReplicaChange>,
}

/// A replica this broker no longer has.
#[derive(Clone, Debug, PartialEq)]
pub struct ReplicaRemoved {
    /// Its topic's name.
    pub topic: TopicName,
    /// The registration before.
    pub old: Arc<PartitionRegistration>,
    /// Whether the whole topic is gone.
    pub topic_deleted: bool,
}

impl LocalReplicaChanges {
    pub(super) fn of(topics: &TopicsDelta, broker: NodeId) -> Self {
        let mut changes = Self::default();
        for topic in topics.deleted() {
            for (partition, old) in topic.iter().filter(|(_, old)| old.replicas.contains(&broker)) {
                let id = TopicIdPartition { topic_id: topic.id, partition };
                let removed = ReplicaRemoved { topic: topic.name.clone(), old: old.clone(), topic_deleted: true };
                changes.deleted.insert(id, removed);
            }
        }
        for topic in topics.changed() {
            for (partition, old, new) in topic.partitions() {
                let id = TopicIdPartition { topic_id: topic.id(), partition };
                let name = topic.name().clone();
                if new.replicas.contains(&broker) {
                    let change = ReplicaChange { topic: name, old: old.cloned(), new: new.clone() };
                    let role = if new.leader == broker { &mut changes.leaders } else { &mut changes.followers };
                    role.insert(id, change);
                } else if let Some(old) = old.filter(|old| old.replicas.contains(&broker)) {
                    let removed = ReplicaRemoved { topic: name, old: old.clone(), topic_deleted: false };
                    changes.deleted.insert(id, removed);
                }
            }
        }
        changes
    }

    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.deleted.is_empty() && self.leaders.is_empty() && self.followers.is_empty()
    }
}
