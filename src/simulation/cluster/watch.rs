//! Who looks on: after every millisecond, with the eyes of somebody who sees all machines at once.

use super::machine::Machine;
use super::{NODES, PARTITIONS, ProducerState, World};
use crate::broker::Metadata;
use crate::replica::partition::{Partition, Role};
use crate::simulation::batches::read;
use crate::simulation::invariants::{Record, Violation, candidate, fenced_isr, logs_match, no_duplicate, unfenced};
use rookery_raft::ids::{NodeId, TopicIdPartition};
use rookery_raft::image::events::{Happening, PartitionChangeKind, PartitionTransition};
use rookery_raft::image::{MetadataImage, PartitionRegistration};
use std::sync::Arc;
use std::time::Duration;

impl World {
    pub(super) fn look(&mut self) -> Result<(), Violation> {
        self.look_at_metadata()?;
        self.look_at_replicas()?;
        let state = (
            self.history.newest().map_or(-1, |image| image.offset.0),
            self.partitions.values().map(|p| p.committed.all().len()).sum(),
        );
        if state != self.checked && self.now.is_multiple_of(10) {
            self.checked = state;
            self.look_at_candidates()?;
        }
        if self.now.is_multiple_of(500) {
            for id in self.partitions.keys() {
                logs_match(&self.logs(*id))?;
            }
        }
        Ok(())
    }

    fn look_at_metadata(&mut self) -> Result<(), Violation> {
        let before = self.history.newest().map(|image| image.offset);
        let mut news = false;
        for machine in &mut self.machines {
            let Some(process) = machine.process.as_ref().filter(|process| process.is_at(self.now)) else { continue };
            let image = process.metadata.image();
            if image.offset.0 >= 0 && !machine.image.as_ref().is_some_and(|seen| Arc::ptr_eq(seen, &image)) {
                if let Some(cluster) = image.cluster.cluster_id() {
                    self.cluster.belongs(machine.id, cluster)?;
                }
                self.history.applied(machine.id, &image)?;
                machine.image = Some(image);
                news = true;
            }
            if let Some(quorum) = process.quorum().filter(|q| q.is_active()) {
                let term = quorum.leadership().borrow().term;
                if self.controllers.insert((term, machine.id)) {
                    self.seen.add("controllers");
                    self.network.trace.note(|| format!("{} controller {} term {term}", self.now, machine.id));
                }
            }
        }
        let Some(image) = self.history.newest().cloned() else { return Ok(()) };
        if news {
            self.look_at_fences(&image);
        }
        if Some(image.offset) != before {
            self.take_in(&image)?;
        }
        Ok(())
    }

    /// A fence of which the others have not heard takes nothing from a leader yet: their fetches confirm it.
    fn look_at_fences(&mut self, image: &MetadataImage) {
        let now = Duration::from_millis(self.now);
        for broker in image.cluster.brokers() {
            let (id, epoch) = (broker.id(), broker.epoch());
            let says_so =
                |image: &Arc<MetadataImage>| image.cluster.broker(id).is_some_and(|b| b.fenced && b.epoch() == epoch);
            let mut others = self.machines.iter().filter(|machine| machine.id != id && machine.process.is_some());
            let known = others.all(|machine| machine.image.as_ref().is_some_and(says_so));
            self.fenced.broker(id, epoch, broker.fenced && known, now);
        }
    }

    fn take_in(&mut self, image: &Arc<MetadataImage>) -> Result<(), Violation> {
        for broker in image.cluster.brokers() {
            if broker.fenced {
                self.seen.add("fences");
            }
            let machine = self.machines.iter_mut().find(|m| m.id == broker.id()).expect("one of ours");
            // Its loss is in the log with its registration.
            let registered =
                machine.process.as_ref().is_some_and(|p| p.identity.current().incarnation == broker.record.incarnation);
            let is_later = machine.lost_under.is_none_or(|before| broker.epoch() > before);
            if registered && is_later {
                (machine.lost, machine.lost_under) = (false, None);
            }
            // It says what it has applied before it is unfenced.
            if let Some(process) = machine.process.as_ref().filter(|_| registered && !broker.fenced) {
                unfenced(broker.id(), process.metadata.image().offset >= broker.registered_at)?;
            }
        }
        for (_, partition) in image.topics.partitions() {
            let is_active = |id| image.cluster.broker(id).is_some_and(|broker| broker.is_active());
            fenced_isr(&partition.isr, is_active)?;
        }
        self.network.trace.note(|| format!("{} metadata {}", self.now, image.offset));
        for (_, event) in image.events.range(self.events..) {
            if let Happening::PartitionsChanged { change: PartitionChangeKind::UncleanLeader, partitions } = &event.what
            {
                self.elected_uncleanly(&partitions.listed)?;
            }
        }
        self.events = image.events.next_number();
        Ok(())
    }

    fn elected_uncleanly(&mut self, partitions: &[PartitionTransition]) -> Result<(), Violation> {
        self.seen.add("unclean_elections");
        if !self.wishes.unclean_was_allowed {
            return Err(Violation::new("unclean", "an unclean election that nobody has allowed".to_owned()));
        }
        for transition in partitions {
            let of_number = |id: &&TopicIdPartition| id.partition == transition.partition;
            let id = self.partitions.keys().find(of_number).copied();
            let id = id.expect("there are partitions of one topic");
            self.partitions.get_mut(&id).expect("it is there").elected_uncleanly(transition.leader_epoch);
        }
        Ok(())
    }

    fn look_at_replicas(&mut self) -> Result<(), Violation> {
        let now = self.now;
        for machine in &mut self.machines {
            if machine.process.as_ref().is_none_or(|process| !process.is_at(now)) {
                continue;
            }
            for (id, invariants) in &mut self.partitions {
                machine.look_at(*id);
                let Some(partition) = machine.replica(*id) else { continue };
                let (Role::Leader, epoch) = partition.role() else { continue };
                machine.on_disk(*id, |disk| invariants.leads(machine.id, epoch, disk))?;
                let high_watermark = partition.high_watermark();
                if invariants.high_watermarks.at(machine.id, epoch, high_watermark)?
                    && machine.open_replica(*id).is_some()
                {
                    let last = invariants.committed.all().last_key_value().map_or(0, |(last, _)| *last);
                    let from = (last - 8).max(0).min(high_watermark);
                    invariants.visible(machine.id, epoch, &read(&partition.log(), from, high_watermark))?;
                }
            }
        }
        Ok(())
    }

    fn look_at_candidates(&self) -> Result<(), Violation> {
        let Some(image) = self.history.newest() else { return Ok(()) };
        for (id, invariants) in &self.partitions {
            let Some(registration) = image.partition(*id) else { continue };
            for member in registration.isr.iter().chain(&registration.elr) {
                let machine = self.machines.iter().find(|m| m.id == *member).expect("one of ours");
                let is_rotten = self.rotten.iter().any(|rot| self.machines[rot.at].id == *member && rot.id == *id);
                if !machine.lost && !is_rotten {
                    machine.on_disk(*id, |disk| candidate(invariants, *member, "in ISR or ELR", disk))?;
                }
            }
        }
        Ok(())
    }

    pub(super) fn replicas_of(&self, machine: &Machine) -> impl Iterator<Item = Arc<Partition>> {
        let of_topic = self
            .topic
            .into_iter()
            .flat_map(|topic_id| (0..PARTITIONS).map(move |partition| TopicIdPartition { topic_id, partition }));
        of_topic.filter_map(|id| machine.replica(id))
    }

    fn logs(&self, id: TopicIdPartition) -> Vec<(NodeId, Vec<Record>)> {
        let all = self.machines.iter().filter_map(|machine| {
            let log = machine.open_replica(id)?.log();
            Some((machine.id, read(&log, 0, log.offsets().log_end)))
        });
        all.collect()
    }

    pub(super) fn all_partitions(&self, holds: impl Fn(&PartitionRegistration) -> bool) -> bool {
        let Some(image) = self.history.newest() else { return false };
        let mut partitions = image.topics.partitions().peekable();
        partitions.peek().is_some() && partitions.all(|(_, partition)| holds(partition))
    }

    pub(super) fn is_whole(&self) -> bool {
        let voters = self.machines.iter().all(|m| m.replacing.is_none() && m.process.is_some() && !m.lost);
        let images: Vec<_> = self.machines.iter().filter_map(|m| Some(m.process.as_ref()?.metadata.image())).collect();
        let same = images.windows(2).all(|pair| pair[0].offset == pair[1].offset);
        let in_sync = self.all_partitions(|p| p.isr.len() == NODES as usize && p.has_leader());
        let idle = self.producers.iter().all(|p| matches!(p.state, ProducerState::Idle { .. }));
        let ends = self.partitions.keys().all(|id| {
            let ends = self.machines.iter().filter_map(|m| Some(m.replica(*id)?.log().offsets().synced_end));
            let ends: Vec<i64> = ends.collect();
            ends.len() == NODES as usize && ends.iter().all(|end| *end == ends[0])
        });
        let sound = self.rotten.is_empty();
        voters && sound && same && in_sync && idle && ends
    }

    pub(super) fn final_checks(&self) -> Result<(), Violation> {
        for (id, invariants) in &self.partitions {
            let logs = self.logs(*id);
            logs_match(&logs)?;
            for (node, log) in &logs {
                candidate(invariants, *node, "at the end", log)?;
                no_duplicate(log)?;
                if *log != logs[0].1 {
                    let what = format!("the logs of {node} and {} differ at the end", logs[0].0);
                    return Err(Violation::new("one_value", what));
                }
            }
        }
        Ok(())
    }
}
