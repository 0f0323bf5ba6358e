//! Keeps the store of the data directory: says how much room it has, and brings it back when it went offline.
//!
//! # States
//!
//! | store | becomes | when |
//! |---|---|---|
//! | online | offline | a commit failed (`ReplicaManager::store_failure`): the replicas have resigned by then |
//! | offline | online | it was closed, and opened anew; its replicas wait for new leader epochs |
//!
//! A failed commit is final for the open store (architecture, invariant 10). So the controller is told (it leads elsewhere), the
//! store is closed, and opened anew as another generation: after a full disk with the space of the reserve, or, if that is used up,
//! once there is enough again; after any other error in steps of [`RETRY`] to [`RETRY_MAX`], because a disk that fails once will fail again and every open
//! moves leaderships. What an open recovers it writes out and syncs before anything builds on it, so that nothing rests on pages
//! that the failed sync left in memory only. The controller hears that the directory is back, and that it was reopened: it gives every
//! partition that this broker leads by its books a new leader epoch (invariant 5).
//!
//! Beside that the controller is told of logs that the replicas have given up, as often as they say so, until it is in the metadata.
//!
//! One task does all of this, so nothing here is locked; what it hears late (space, failures) is kept by the watches.

use super::hooks::DirectoryReports;
use super::room::{RETRY, Room, Steps, until_there_is_room};
use crate::broker::{ControllerChannel, Registration};
use crate::replica::{Clock, LogNews, ReplicaManager};
use crate::storage::{self, LogConfig, LogDirectory, LogStore, StorageError};
use rookery_raft::controller::{ControllerRequest, UpdateDirectoriesRequest};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

/// Watches the store of one data directory.
pub struct StoreKeeper {
    pub store: Arc<dyn LogStore>,
    pub logs: LogConfig,
    pub clock: Arc<dyn Clock>,
    pub replicas: Arc<ReplicaManager>,
    pub reports: Arc<DirectoryReports>,
    pub channel: ControllerChannel,
    pub registration: watch::Receiver<Option<Registration>>,
    pub space: Arc<dyn Room>,
}

const TELL_MAX: Duration = Duration::from_secs(5);

impl StoreKeeper {
    /// Until told to stop.
    pub async fn run(mut self, stop: CancellationToken) {
        let working = async {
            let mut failure = self.replicas.store_failure();
            let mut space = self.space.reading();
            let mut given_up = self.replicas.given_up();
            let mut steps = Steps::default();
            metrics::gauge!("rookery_storage_offline").set(0.0);
            loop {
                let failed = async { failure.wait_for(Option::is_some).await.ok().and_then(|error| error.clone()) };
                tokio::select! {
                    biased;
                    failed = failed => {
                        let Some(error) = failed else { return };
                        metrics::gauge!("rookery_storage_offline").set(1.0);
                        self.bring_back(error, &mut steps).await;
                        metrics::gauge!("rookery_storage_offline").set(0.0);
                    }
                    news = self.log_news(&mut given_up) => {
                        self.tell(false, news).await;
                    }
                    changed = space.changed() => {
                        if changed.is_err() {
                            return;
                        }
                        let level = space.borrow_and_update().level;
                        self.replicas.set_disk_space(level);
                    }
                }
            }
        };
        tokio::select! {
            biased;
            () = stop.cancelled() => {}
            () = working => {}
        }
    }

    /// What the controller has to be told of logs that were given up.
    async fn log_news(&self, given_up: &mut watch::Receiver<()>) -> LogNews {
        loop {
            // The sender is held by the replicas.
            let _ = given_up.changed().await;
            let news = self.replicas.log_news();
            if !news.is_empty() {
                return news;
            }
        }
    }

    /// The store has failed: until it is open again and the controller knows.
    async fn bring_back(&mut self, mut error: StorageError, steps: &mut Steps) {
        loop {
            // With every attempt: the controller leads elsewhere only once it has heard it, and a registration meanwhile may have
            // found the store online for a moment.
            self.tell(false, LogNews::default()).await;
            let store = self.store.clone();
            // Why it was closed is known.
            let _ = storage::blocking(move || store.close()).await;
            if let StorageError::DiskFull(_) = error {
                // What leads again must know before its first record that there is no room.
                self.replicas.set_disk_space(self.space.clone().met_the_end().await);
                until_there_is_room(&*self.space, steps).await;
            } else {
                sleep(steps.next()).await;
            }
            match self.reopen().await {
                Ok(()) => break,
                Err(why) => {
                    tracing::warn!(error = %why, "the data directory is still offline");
                    error = why;
                }
            }
        }
        tracing::info!("the data directory is online again");
        while !self.tell(true, LogNews::default()).await {
            sleep(RETRY).await;
        }
    }

    async fn reopen(&self) -> Result<(), StorageError> {
        let (store, logs, now) = (self.store.clone(), self.logs.clone(), self.clock.wall_ms());
        let opened = storage::blocking(move || {
            store.reopen()?;
            LogDirectory::open(store, logs, now)
        });
        let directory = opened.await.unwrap_or(Err(StorageError::Closed))?;
        self.replicas.store_reopened(directory)
    }

    async fn tell(&self, reopened: bool, LogNews { lost, renewed }: LogNews) -> bool {
        let Some(Registration { id, epoch }) = *self.registration.borrow() else { return false };
        let directory = self.reports.now();
        let request = ControllerRequest::UpdateDirectories(UpdateDirectoriesRequest {
            id,
            epoch,
            directories: vec![directory],
            reopened: if reopened { vec![directory.id] } else { Vec::new() },
            lost,
            renewed,
        });
        match self.channel.ask(request, TELL_MAX).await {
            Ok(_) => {
                self.reports.committed(directory);
                true
            }
            Err(error) => {
                tracing::warn!(%error, "the controller was not told of the data directory's state");
                false
            }
        }
    }
}
