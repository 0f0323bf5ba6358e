//! Brings ISR proposals to the controller (KIP-497): one request in flight, everything that waits goes into the next.
//!
//! The answer is not the change: a committed ISR arrives by the metadata only. A definite refusal is told to the
//! partition, which may then propose something else; an unknown outcome is not, and the same proposal is sent again.

use super::partition::Partition;
use super::replica_service::Replicas;
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
    fn alter_partitions(&self, request: AlterPartitionRequest) -> BoxFuture<'static, Option<Vec<Result<(), ControllerError>>>>;
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
            match channel.alter_partitions(request).await {
                Some(results) if results.len() == proposals.len() => {
                    for ((partition, change), result) in proposals.iter().zip(results) {
                        if let Err(error) = result {
                            tracing::debug!(partition = %partition.id(), %error, "the controller refused an ISR");
                            partition.proposal_refused(change.leader_epoch, change.partition_epoch);
                        }
                    }
                }
                _ => {
                    tokio::time::sleep(RETRY).await;
                    self.waiting.lock().extend(proposals.iter().map(|(partition, _)| partition.id()));
                }
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
