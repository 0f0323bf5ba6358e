//! Brings ISR proposals to the controller (KIP-497): one request in flight, everything that waits goes into the next.
//!
//! The answer is not the change: a committed ISR arrives by the metadata only. What an answer means:
//!
//! | answer | the proposal |
//! |---|---|
//! | accepted | stays pending until the metadata says so |
//! | another epoch is current (partition, leader or broker epoch) | stays pending: newer metadata is on its way, and it may be **this very change**, of which an earlier try was heard |
//! | try again, or no answer | is sent again |
//! | a member is not eligible, or the request makes no sense | is taken back: the partition may propose something else |
//!
//! Taking back shrinks the set that the high watermark waits for, so it must be certain that no copy of the proposal can
//! still be committed. One request is in flight; a controller takes the tries of one broker in the order they were sent;
//! and once a newer controller has answered, nothing that an older one took in can be committed any more.

use super::partition::Partition;
use super::replica_service::Replicas;
use crate::planted::planted;
use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use rookery_raft::controller::{AlterPartitionRequest, ControllerError, IsrChange};
use rookery_raft::ids::{BrokerEpoch, NodeId, TopicIdPartition};
use rookery_raft::record::LeaderRecoveryState;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;

/// The way to the controller.
pub trait IsrChannel: Send + Sync + 'static {
    /// Ask; one result for each partition in the order asked, or `None` if the outcome is unknown.
    fn alter_partitions(
        &self,
        request: AlterPartitionRequest,
    ) -> BoxFuture<'static, Option<Vec<Result<(), ControllerError>>>>;
}

/// Proposals that wait to be sent.
#[derive(Default)]
pub struct IsrQueue {
    waiting: Mutex<BTreeSet<TopicIdPartition>>,
    wake: Notify,
}

/// Partitions in one request.
const BATCH_MAX: usize = 1000;
const RETRY: Duration = Duration::from_millis(100);

impl IsrQueue {
    /// The partition has something to propose.
    pub fn add(&self, id: TopicIdPartition) {
        self.waiting.lock().insert(id);
        self.wake.notify_one();
    }

    /// Send until the task is dropped. `broker_epoch` tells the present registration.
    pub async fn run(
        self: Arc<Self>,
        node: NodeId,
        broker_epoch: impl Fn() -> BrokerEpoch,
        replicas: Arc<dyn Replicas>,
        channel: Arc<dyn IsrChannel>,
    ) {
        loop {
            let batch = self.take();
            if batch.is_empty() {
                self.wake.notified().await;
                continue;
            }
            let proposals: Vec<(Arc<Partition>, IsrChange)> = batch
                .into_iter()
                .filter_map(|id| {
                    let partition = replicas.replica(id)?;
                    let proposal = partition.pending_proposal()?;
                    let change = IsrChange {
                        partition: id,
                        leader_epoch: proposal.leader_epoch,
                        partition_epoch: proposal.partition_epoch,
                        isr: proposal.isr,
                        recovery_state: LeaderRecoveryState::Recovered,
                    };
                    Some((partition, change))
                })
                .collect();
            if proposals.is_empty() {
                continue;
            }
            let partitions = proposals.iter().map(|(_, change)| change.clone()).collect();
            let request = AlterPartitionRequest { broker: node, epoch: broker_epoch(), partitions };
            let mut again = Vec::new();
            match channel.alter_partitions(request).await {
                Some(results) if results.len() == proposals.len() => {
                    for ((partition, change), result) in proposals.iter().zip(results) {
                        let Err(error) = result else { continue };
                        tracing::debug!(partition = %partition.id(), %error, "the controller refused an ISR");
                        match consequence(&error) {
                            Consequence::Wait => {}
                            Consequence::Retry => again.push(partition.id()),
                            Consequence::TakeBack => {
                                partition.proposal_refused(change.leader_epoch, change.partition_epoch);
                            }
                        }
                    }
                }
                _ => again.extend(proposals.iter().map(|(partition, _)| partition.id())),
            }
            if !again.is_empty() {
                tokio::time::sleep(RETRY).await;
                self.waiting.lock().extend(again);
            }
        }
    }

    fn take(&self) -> Vec<TopicIdPartition> {
        let mut waiting = self.waiting.lock();
        let batch: Vec<_> = waiting.iter().take(BATCH_MAX).copied().collect();
        for id in &batch {
            waiting.remove(id);
        }
        batch
    }
}

/// What a refusal means for the proposal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Consequence {
    /// Newer metadata decides.
    Wait,
    /// The same again, a little later.
    Retry,
    /// It cannot take effect any more.
    TakeBack,
}

pub(super) fn consequence(error: &ControllerError) -> Consequence {
    use ControllerError::*;
    match error {
        InvalidUpdateVersion | FencedLeaderEpoch if planted!(TakeBackStaleProposal) => Consequence::TakeBack,
        InvalidUpdateVersion
        | FencedLeaderEpoch
        | StaleBrokerEpoch { .. }
        | UnknownTopicOrPartition
        | UnknownTopicId => Consequence::Wait,
        IneligibleReplica(..) | InvalidRequest(_) => Consequence::TakeBack,
        // Above all NotController, NotReady, and UnknownLeaderEpoch: a controller that has not caught up.
        _ => Consequence::Retry,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stale_epoch_takes_nothing_back() {
        // The refused try may be the second of one that was committed: its member must be waited for until the metadata
        // says what the ISR is.
        let stale = ControllerError::StaleBrokerEpoch { id: NodeId(1), current: BrokerEpoch(2), given: BrokerEpoch(1) };
        for error in [ControllerError::InvalidUpdateVersion, ControllerError::FencedLeaderEpoch, stale] {
            assert_eq!(consequence(&error), Consequence::Wait, "{error}");
        }
        let ineligible = ControllerError::IneligibleReplica(NodeId(3), "fenced".into());
        assert_eq!(consequence(&ineligible), Consequence::TakeBack);
        for error in [ControllerError::NotController, ControllerError::NotReady("loading".into())] {
            assert_eq!(consequence(&error), Consequence::Retry, "{error}");
        }
    }
}
