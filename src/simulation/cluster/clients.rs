//! Idempotent producers with acks=all, one batch at a time: what ends without an answer is unknown, and is sent again.

use super::machine::Machine;
use super::{NODES, PRODUCERS, ProducerState, World, life_of};
use crate::replica::partition_leader::AckWait;
use crate::replica::{AppendRequest, ReplicaError, RequiredAcks};
use crate::simulation::batches::batch;
use crate::simulation::invariants::{Record, Violation, no_gap};
use crate::simulation::process::SESSION;
use crate::storage::{AppendError, AppendOrigin, TimestampType};
use rand::RngExt;
use rookery_raft::ids::{LeaderEpoch, NodeId, TopicIdPartition};
use std::time::Duration;

impl World {
    pub(super) fn produce(&mut self, at: usize) -> Result<(), Violation> {
        let Some(topic_id) = self.topic else { return Ok(()) };
        let producer = &mut self.producers[at];
        let id = TopicIdPartition { topic_id, partition: producer.partition };
        match &mut producer.state {
            ProducerState::Idle { not_before } if *not_before > self.now => Ok(()),
            ProducerState::Idle { .. } => self.send(at, id),
            ProducerState::Waiting { at: node, life, epoch, offset, wait, until } => {
                let (node, life, epoch, offset, until) = (*node, *life, *epoch, *offset, *until);
                let same = self
                    .machines
                    .iter()
                    .any(|m| m.id == node && m.process.as_ref().is_some_and(|p| life_of(p) == life));
                let result = if same { wait.try_result() } else { None };
                match result {
                    Some(Ok(())) => self.acknowledged(at, id, epoch, offset),
                    None if same && self.now < until => Ok(()),
                    // An error after the append, a broken connection, a time-out: it may be there, or come to be.
                    _ => {
                        self.seen.add("unknown");
                        let pause = self.rng.random_range(0..50);
                        self.producers[at].state = ProducerState::Idle { not_before: self.now + pause };
                        Ok(())
                    }
                }
            }
        }
    }

    /// To whom its newest metadata names, or to anybody, who may be wrong.
    fn send(&mut self, at: usize, id: TopicIdPartition) -> Result<(), Violation> {
        let leader = self.history.newest().and_then(|image| image.partition(id).map(|p| p.leader));
        let anybody = NodeId(self.rng.random_range(1..=NODES));
        let to = if self.chance(60) { leader.unwrap_or(anybody) } else { anybody };
        let (pause, patience) = (self.rng.random_range(1..40), self.rng.random_range(300..3000));
        let producer = &mut self.producers[at];
        producer.state = ProducerState::Idle { not_before: self.now + pause };
        // There may be no leader.
        let Some(machine) = self.machines.iter_mut().find(|m| m.id == to) else { return Ok(()) };
        let running = machine.running_since;
        let Some(process) = machine.running() else { return Ok(()) };
        process.reach(self.now);
        let Some(partition) = process.replicas.get().and_then(|replicas| replicas.partition(id)) else { return Ok(()) };
        let records = batch(producer.id, producer.sequence, producer.value);
        let how = AppendRequest {
            acks: RequiredAcks::All,
            timestamp_type: TimestampType::CreateTime,
            origin: AppendOrigin::Client,
            leader_epoch: LeaderEpoch::NONE,
        };
        let (_, leader_epoch) = partition.role();
        let outcome = match process.within(|| partition.append_as_leader(records, how)) {
            Ok(outcome) => outcome,
            Err(refusal) => {
                // What it was told is in the log may be gone: it begins anew, as clients do.
                if matches!(refusal, ReplicaError::Append(AppendError::OutOfOrderSequence { .. }))
                    && self.partitions[&id].had_unclean_elections()
                {
                    producer.id += PRODUCERS as i64;
                    (producer.sequence, producer.value) = (0, self.next_value);
                    self.next_value += 1;
                    return Ok(());
                }
                return no_gap(producer.id, producer.sequence, &refusal);
            }
        };
        let AckWait::Committed(wait) = outcome.wait else { unreachable!("acks=all waits for the high watermark") };
        let (life, offset) = (life_of(process), outcome.info.last_offset);
        producer.state =
            ProducerState::Waiting { at: to, life, epoch: leader_epoch, offset, wait, until: self.now + patience };
        let epoch = process.identity.current().broker_epoch;
        // A fence, the lease, and a second for an election of the controller.
        let lease = SESSION + Duration::from_secs(1);
        let times = (Duration::from_millis(running), Duration::from_millis(self.now));
        self.fenced.took_a_record(to, epoch, times, lease)
    }

    fn acknowledged(
        &mut self,
        at: usize,
        id: TopicIdPartition,
        epoch: LeaderEpoch,
        offset: i64,
    ) -> Result<(), Violation> {
        self.seen.add("acks");
        let value = self.producers[at].value;
        let holds = |records: &[Record]| records.iter().rev().any(|(o, _, v)| (*o, *v) == (offset, value));
        self.machines.iter_mut().for_each(|machine| machine.look_at(id));
        let held = |m: &Machine| m.on_disk(id, holds) || m.gone.get(&id).is_some_and(|r| holds(r));
        let copies = self.machines.iter().filter(|m| held(m)).count();
        self.network.trace.note(|| format!("{} ack {value} at {offset} of {}", self.now, id.partition));
        let pause = self.rng.random_range(0..60);
        let producer = &mut self.producers[at];
        producer.state = ProducerState::Idle { not_before: self.now + pause };
        producer.sequence += 1;
        producer.acks += 1;
        producer.value = self.next_value;
        self.next_value += 1;
        let invariants = self.partitions.get_mut(&id).expect("it was created");
        invariants.acknowledged(epoch, (value, offset), copies, self.wishes.least_insync)
    }
}
