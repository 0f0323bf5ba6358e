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
//! An open that finds synced data missing is to everybody else a start of another broker: the replicas get its logs only when the loss is in the
//! metadata log, with a new broker epoch, and the image here holds that. Until then this broker neither follows nor can be
//! elected with what it has not; and what leaders heard of its logs before, or have on its way to the controller, is of an epoch that is over.
//!
//! Beside that the controller is told of logs that the replicas have given up, as often as they say so, until it is in the metadata; and
//! of the directory whenever the metadata says something else of it than what is so: a report may get lost, or be overtaken by a later one.
//!
//! One task does all of this, so nothing here is locked; what it hears late (space, failures) is kept by the watches.

use super::hooks::DirectoryReports;
use super::room::{RETRY, Room, Steps, until_there_is_room};
use crate::broker::{ControllerChannel, Registration};
use crate::planted::planted;
use crate::replica::{Clock, LogNews, ReplicaManager};
use crate::storage::{self, LogConfig, LogDirectory, LogStore, StorageError};
use rookery_raft::controller::{ControllerRequest, UpdateDirectoriesRequest};
use rookery_raft::image::MetadataImage;
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
    pub images: watch::Receiver<Arc<MetadataImage>>,
    pub space: Arc<dyn Room>,
}

const TELL_MAX: Duration = Duration::from_secs(5);
/// Until the metadata should say what was told.
const TELL_AGAIN: Duration = Duration::from_millis(500);

impl StoreKeeper {
    /// Until told to stop.
    pub async fn run(self, stop: CancellationToken) {
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
            () = self.keep_the_books() => {}
        }
    }

    /// Tells the controller how the directory is until the metadata says so.
    async fn keep_the_books(&self) {
        let (mut images, mut failure) = (self.images.clone(), self.replicas.store_failure());
        let mut registration = self.registration.clone();
        loop {
            let told = {
                let (image, registration) = (images.borrow_and_update(), registration.borrow_and_update());
                failure.mark_unchanged();
                let broker = registration.and_then(|me| image.cluster.broker(me.id).filter(|b| b.epoch() == me.epoch));
                broker.map(|broker| broker.record.directories.clone())
            };
            let is_wrong = told.is_some_and(|told| told != [self.reports.now()]);
            if is_wrong {
                self.tell(false, LogNews::default()).await;
                sleep(TELL_AGAIN).await;
                continue;
            }
            tokio::select! {
                changed = images.changed() => if changed.is_err() { return },
                changed = failure.changed() => if changed.is_err() { return },
                changed = registration.changed() => if changed.is_err() { return },
            }
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
    async fn bring_back(&self, mut error: StorageError, steps: &mut Steps) {
        loop {
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
        if self.reports.owes_a_loss() && !planted!(LossyReopenKeepsEpoch) {
            tracing::error!(
                "the data directory has lost synced data: this broker registers anew, and catches up before it counts"
            );
            self.reports.ask_for_another_epoch();
            while self.reports.owes_a_loss() || !self.replicas.knows_its_life() {
                sleep(TELL_AGAIN).await;
            }
        }
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
            Ok(_) => true,
            Err(error) => {
                tracing::warn!(%error, "the controller was not told of the data directory's state");
                false
            }
        }
    }
}
