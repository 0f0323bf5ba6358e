//! What the broker's life means for its store and its replicas.

use super::NodeClock;
use crate::broker::{BrokerHooks, LocalMetadata, MetadataCell};
use crate::replica::ReplicaManager;
use crate::storage::disk_space::SpaceReading;
use crate::storage::{self, LogStore, StoreGeneration, StoreHealth};
use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use rookery_raft::controller::DiskSpace;
use rookery_raft::ids::BrokerEpoch;
use rookery_raft::record::{Directory, DirectoryState};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

/// What the controller is told of the data directory, and what of it has been committed.
///
/// A loss of synced data is reported with a registration, and counts as told only once **that** registration is in the log: the report remembers
/// under which open of the store it was made. Under a broker epoch that began before the loss, leaders could still count what they
/// have heard of the log, and a proposal that is on its way could bring it into an ISR.
pub struct DirectoryReports {
    store: Arc<dyn LogStore>,
    replicas: Arc<ReplicaManager>,
    // Held for a glance only, never over a call.
    losses: Mutex<Losses>,
    void: Notify,
}

#[derive(Default)]
struct Losses {
    /// Under which open the last registration was made.
    registered_under: Option<StoreGeneration>,
    /// Of which open the metadata log knows the loss.
    committed: Option<StoreGeneration>,
}

impl DirectoryReports {
    /// Of this store.
    pub fn new(store: Arc<dyn LogStore>, replicas: Arc<ReplicaManager>) -> Self {
        Self { store, replicas, losses: Mutex::default(), void: Notify::new() }
    }

    /// The directory as it is now, for a broker that is registered: offline from the failure of its store until its replicas have the next open.
    pub fn now(&self) -> Directory {
        let state = match () {
            () if self.replicas.store_failure().borrow().is_some() => DirectoryState::Offline,
            () if self.store.log_lost() => DirectoryState::LogLost,
            () => DirectoryState::Online,
        };
        Directory { id: self.store.identity().directory_id, state }
    }

    /// The same for a registration. The replicas get a log that has lost data only when its loss is committed.
    fn for_registration(&self) -> Directory {
        let generation = self.store.generation();
        let is_lost = self.store.log_lost() && self.store.health() == StoreHealth::Online;
        self.losses.lock().registered_under = Some(generation);
        if is_lost { Directory { state: DirectoryState::LogLost, ..self.now() } } else { self.now() }
    }

    /// What the last registration said has been committed.
    fn registered(&self, reported: Directory) {
        let generation = self.store.generation();
        let mut losses = self.losses.lock();
        if reported.state != DirectoryState::LogLost || losses.registered_under != Some(generation) {
            return;
        }
        losses.committed = Some(generation);
        drop(losses);
        let store = self.store.clone();
        tokio::spawn(storage::blocking(move || {
            if let Err(error) = store.acknowledge_log_lost() {
                tracing::error!(%error, "the loss of synced data is reported again with the next start");
            }
        }));
    }

    /// The store was opened anew: whether it has lost data that the metadata log does not know of.
    pub fn owes_a_loss(&self) -> bool {
        self.store.log_lost() && self.losses.lock().committed != Some(self.store.generation())
    }

    /// What was said under the present broker epoch is void.
    pub fn ask_for_another_epoch(&self) {
        self.void.notify_one();
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
        vec![self.reports.for_registration()]
    }

    fn registered(&self, epoch: BrokerEpoch, reported: &[Directory]) {
        self.replicas.registered(epoch);
        for directory in reported {
            self.reports.registered(*directory);
        }
    }

    fn is_void(&self) -> BoxFuture<'_, ()> {
        Box::pin(self.reports.void.notified())
    }

    fn confirmed(&self, sent: Instant) {
        self.replicas.heartbeat_answered(self.clock.at(sent));
    }
}
