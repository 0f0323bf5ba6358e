//! What the broker's life means for its store and its replicas.

use super::NodeClock;
use crate::broker::BrokerHooks;
use crate::replica::ReplicaManager;
use crate::storage::LogStore;
use rookery_raft::ids::BrokerEpoch;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// Ties a broker's life to its store and its replicas.
pub struct Hooks {
    pub clock: NodeClock,
    pub store: Arc<dyn LogStore>,
    pub replicas: Arc<ReplicaManager>,
}

impl BrokerHooks for Hooks {
    fn oldest_unfinished_commit(&self) -> Duration {
        self.store.oldest_unfinished_commit_age().unwrap_or_default()
    }

    fn registered(&self, epoch: BrokerEpoch) {
        self.replicas.registered(epoch);
        if self.store.log_lost() {
            let store = self.store.clone();
            tokio::task::spawn_blocking(move || {
                if let Err(error) = store.acknowledge_log_lost() {
                    tracing::error!(%error, "the loss of synced data is reported again with the next start");
                }
            });
        }
    }

    fn confirmed(&self, sent: Instant) {
        self.replicas.heartbeat_answered(self.clock.at(sent.into_std()));
    }
}
