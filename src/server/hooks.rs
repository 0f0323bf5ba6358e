//! What the broker's life means for its store and its replicas.

use super::NodeClock;
use crate::broker::{BrokerHooks, LocalMetadata, MetadataCell};
use crate::replica::ReplicaManager;
use crate::storage::disk_space::SpaceReading;
use crate::storage::{self, LogStore, StoreGeneration};
use parking_lot::Mutex;
use rookery_raft::controller::DiskSpace;
use rookery_raft::ids::BrokerEpoch;
use rookery_raft::record::{Directory, DirectoryState};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;

/// What the controller is told of the data directory, and what of it has been committed.
///
/// A loss of synced data may be forgotten only when a report of **that** loss is in the log: the report remembers under
/// which open of the store it was made, and only then is the loss acknowledged.
pub struct DirectoryReports {
    store: Arc<dyn LogStore>,
    replicas: Arc<ReplicaManager>,
    // Held for a glance only, never over a call.
    reported_under: Mutex<Option<StoreGeneration>>,
}

impl DirectoryReports {
    /// Of this store.
    pub fn new(store: Arc<dyn LogStore>, replicas: Arc<ReplicaManager>) -> Self {
        Self { store, replicas, reported_under: Mutex::new(None) }
    }

    /// The directory as it is now.
    pub fn now(&self) -> Directory {
        let generation = self.store.generation();
        let state = match () {
            () if self.replicas.store_failure().borrow().is_some() => DirectoryState::Offline,
            () if self.store.log_lost() => DirectoryState::LogLost,
            () => DirectoryState::Online,
        };
        *self.reported_under.lock() = Some(generation);
        Directory { id: self.store.identity().directory_id, state }
    }

    /// What [`now`](Self::now) said last has been committed.
    pub fn committed(&self, reported: Directory) {
        let same_open = *self.reported_under.lock() == Some(self.store.generation());
        if reported.state != DirectoryState::LogLost || !same_open {
            return;
        }
        let store = self.store.clone();
        tokio::spawn(storage::blocking(move || {
            if let Err(error) = store.acknowledge_log_lost() {
                tracing::error!(%error, "the loss of synced data is reported again with the next start");
            }
        }));
    }
}

/// Ties a broker's life to its store and its replicas.
pub struct Hooks {
    pub clock: NodeClock,
    pub store: Arc<dyn LogStore>,
    pub replicas: Arc<ReplicaManager>,
    pub reports: Arc<DirectoryReports>,
    pub space: watch::Receiver<SpaceReading>,
    /// The metadata log lies on the same disk, if this node has one.
    pub metadata: MetadataCell,
}

impl BrokerHooks for Hooks {
    fn oldest_unfinished_commit(&self) -> Duration {
        let metadata_log = self.metadata.get().map(LocalMetadata::disk_stall).unwrap_or_default();
        let oldest = self.store.oldest_unfinished_commit_age().unwrap_or_default().max(metadata_log);
        metrics::gauge!("rookery_storage_oldest_unfinished_commit_seconds").set(oldest.as_secs_f64());
        oldest
    }

    fn disk_space(&self) -> DiskSpace {
        self.space.borrow().level
    }

    fn directories(&self) -> Vec<Directory> {
        vec![self.reports.now()]
    }

    fn registered(&self, epoch: BrokerEpoch, reported: &[Directory]) {
        self.replicas.registered(epoch);
        for directory in reported {
            self.reports.committed(*directory);
        }
    }

    fn confirmed(&self, sent: Instant) {
        self.replicas.heartbeat_answered(self.clock.at(sent));
    }
}
