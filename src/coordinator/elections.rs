//! From the replicas to the group coordinator: which partitions of `__consumer_offsets` this broker leads.
//!
//! The coordinator follows **the replicas, not the metadata**. A replica can lead later than the metadata says so (its log
//! could not be made yet, its store was being reopened, the broker's own registration was still on its way), and ends earlier
//! (its store failed). So nothing is handed on event by event: whenever leadership may have changed anywhere, or the topic
//! has, one task compares what is led with what is coordinated and closes the difference.
//!
//! # Why nothing is missed, in whatever order things come
//!
//! - [`ReplicaManager`] marks a change **after** the replicas show it, this room's publisher after the topic is stored, and
//!   the task forgets the marks **before** it looks. So either a look sees a change, or its mark makes another look.
//! - The task is one: looks do not overtake each other.
//! - What a look says may be over when the coordinator acts on it. Each coordinator has the log of one topic id and one leader
//!   epoch, and its log refuses when that is over; the mark of the change is set by then, so the next look tidies up.
//! - A term that was resigned is never led again (architecture, invariant 5), so a coordinator that ended with its term needs
//!   no other in the same one. A leader without confirmation ends no term: its log refuses appends for a time
//!   ([`ReplicaLog`]).

use super::ReplicaLog;
use super::group::GroupCoordinator;
use crate::replica::ReplicaManager;
use rookery_protocol::topics::GROUP_METADATA_TOPIC;
use rookery_raft::delta::{MetadataDelta, MetadataPublisher};
use rookery_raft::ids::TopicId;
use rookery_raft::image::MetadataImage;
use std::sync::Arc;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// `__consumer_offsets`, as the metadata has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct OffsetsTopic {
    id: TopicId,
    partitions: i32,
}

/// Tells the group coordinator what it coordinates.
pub struct GroupElections {
    replicas: Arc<ReplicaManager>,
    groups: Arc<GroupCoordinator<ReplicaLog>>,
    topic: watch::Sender<Option<OffsetsTopic>>,
}

impl GroupElections {
    /// For the groups of this broker.
    pub fn new(replicas: Arc<ReplicaManager>, groups: Arc<GroupCoordinator<ReplicaLog>>) -> Self {
        Self { replicas, groups, topic: watch::Sender::new(None) }
    }

    /// Keeps the coordinator at what is led, until told to stop.
    pub async fn run(self: Arc<Self>, stop: CancellationToken) {
        let (mut leaderships, mut topics) = (self.replicas.leaderships(), self.topic.subscribe());
        let mut current: Option<(TopicId, Arc<ReplicaLog>)> = None;
        loop {
            leaderships.borrow_and_update();
            let topic = *topics.borrow_and_update();
            self.coordinate(topic, &mut current);
            tokio::select! {
                () = stop.cancelled() => return,
                // Both senders live as long as `self`.
                _ = leaderships.changed() => {}
                _ = topics.changed() => {}
            }
        }
    }

    fn coordinate(&self, topic: Option<OffsetsTopic>, current: &mut Option<(TopicId, Arc<ReplicaLog>)>) {
        self.groups.set_partitions(topic.map(|topic| topic.partitions));
        if topic.map(|topic| topic.id) != current.as_ref().map(|(id, _)| *id) {
            // Of a topic that was deleted and made anew nothing is left, also where the leader epochs are the same.
            self.groups.coordinated().into_iter().for_each(|partition| self.groups.resigned(partition));
            *current = topic.map(|topic| (topic.id, Arc::new(ReplicaLog::new(self.replicas.clone(), topic.id))));
        }
        let Some((id, log)) = current else { return };
        let led = self.replicas.led(*id);
        for partition in self.groups.coordinated().into_iter().filter(|partition| !led.contains_key(partition)) {
            self.groups.resigned(partition);
        }
        for (partition, epoch) in led {
            self.groups.elected(log, partition, epoch);
        }
    }
}

impl MetadataPublisher for GroupElections {
    fn name(&self) -> &str {
        "groups"
    }

    fn on_metadata_update(&self, delta: &MetadataDelta, image: &Arc<MetadataImage>) {
        let topic = image.topics.by_name(GROUP_METADATA_TOPIC).map(|topic| OffsetsTopic {
            id: topic.id,
            partitions: i32::try_from(topic.partitions.len()).expect("partition numbers are i32"),
        });
        self.topic.send_if_modified(|known| std::mem::replace(known, topic) != topic);
        let deleted: Vec<_> = delta.topics.deleted().map(|t| (t.name.clone(), t.id)).collect();
        if !deleted.is_empty() {
            let groups = self.groups.clone();
            tokio::spawn(async move { groups.topics_deleted(deleted).await });
        }
    }
}

#[cfg(test)]
mod tests;
