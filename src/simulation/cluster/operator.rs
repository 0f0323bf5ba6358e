//! The operator: creates the topic, and takes voters back in that have lost their vote.

use super::machine::Machine;
use super::{PARTITIONS, Process, World};
use crate::broker::MetadataQuorum;
use rookery_raft::controller::{ControllerRequest, CreateTopicsRequest, NewTopic};
use rookery_raft::ids::{DirectoryId, QuorumNodeId, TopicIdPartition};
use std::collections::BTreeMap;
use uuid::Uuid;

impl World {
    pub(super) fn operate(&mut self) {
        if self.topic.is_none() {
            self.create_topic();
        }
        for at in 0..self.machines.len() {
            let id = self.machines[at].id;
            let Some(asked) = &mut self.machines[at].replacing else { continue };
            match asked {
                Some(task) if task.is_finished() => {
                    let done = futures_util::FutureExt::now_or_never(task);
                    let taken_in = matches!(done, Some(Ok(Ok(_))));
                    self.machines[at].replacing = (!taken_in).then_some(None);
                }
                Some(_) => {}
                None => {
                    let joined = self.machines[at].process.as_ref().and_then(Process::quorum);
                    let own = DirectoryId(Uuid::from_u128(self.machines[at].directory));
                    let is_voter = |q: &MetadataQuorum| {
                        let voters = q.status().leadership.voters;
                        voters.iter().any(|voter| voter.id == QuorumNodeId { node_id: id, directory_id: own })
                    };
                    if joined.is_some_and(is_voter) {
                        // It was taken in, and the word of that was lost.
                        self.machines[at].replacing = None;
                    } else if self.now.is_multiple_of(200) && joined.is_some_and(|q| q.no_vote().is_some()) {
                        // Through the node itself: it knows who may be the controller.
                        let process = self.machines[at].process.as_mut().expect("it has a quorum");
                        process.reach(self.now);
                        let admin = process.admin.clone();
                        let task = process.spawn(async move { admin.replace_voter(id).await });
                        self.machines[at].replacing = Some(Some(task));
                    }
                }
            }
        }
    }

    fn create_topic(&mut self) {
        if let Some(image) = self.history.newest()
            && let Some(topic) = image.topics.by_name("topic")
        {
            self.topic = Some(topic.id);
            for partition in 0..PARTITIONS {
                self.partitions.insert(TopicIdPartition { topic_id: topic.id, partition }, Default::default());
            }
            return;
        }
        if self.creating.as_ref().is_some_and(|task| !task.is_finished()) {
            return;
        }
        let ready = self.history.newest().is_some_and(|i| i.cluster.brokers().filter(|b| b.is_active()).count() == 3);
        let active = self.machines.iter_mut().filter_map(Machine::running);
        let active = active.filter_map(|p| Some((p.quorum().filter(|q| q.is_active())?.clone(), p))).next();
        if let (true, Some((quorum, process))) = (ready, active) {
            process.reach(self.now);
            let topic = NewTopic {
                name: "topic".into(),
                partitions: PARTITIONS,
                replication_factor: 3,
                assignments: BTreeMap::new(),
                configs: BTreeMap::new(),
            };
            let request = CreateTopicsRequest { topics: vec![topic], validate_only: false };
            let request = ControllerRequest::CreateTopics(request);
            self.creating = Some(process.spawn(async move { drop(quorum.submit(request).await) }));
        }
    }
}
