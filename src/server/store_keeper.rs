//! Brings a data directory back that went offline: a disk that was full has space again, a path is there again.
//!
//! A failed commit is final for the open store; so it is closed, opened anew, and its replicas wait for new leader epochs,
//! which the controller gives when it is told (architecture: invariant 5). Until then the controller knows the directory as
//! offline and leads elsewhere.

use super::hooks::DirectoryReports;
use crate::broker::{ControllerChannel, Registration};
use crate::replica::{Clock, ReplicaManager};
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
}

const RETRY: Duration = Duration::from_secs(2);
const TELL_MAX: Duration = Duration::from_secs(5);

impl StoreKeeper {
    /// Until told to stop.
    pub async fn run(self, stop: CancellationToken) {
        let mut failure = self.replicas.store_failure();
        loop {
            let failed = tokio::select! {
                biased;
                () = stop.cancelled() => return,
                failed = failure.wait_for(Option::is_some) => failed.is_ok(),
            };
            if !failed {
                return;
            }
            let mut told = false;
            loop {
                // Said until it is heard: the controller leads elsewhere only once it knows.
                if !told {
                    told = self.tell(false).await;
                }
                tokio::select! {
                    biased;
                    () = stop.cancelled() => return,
                    () = sleep(RETRY) => {}
                }
                match self.reopen().await {
                    Ok(()) => break,
                    Err(error) => tracing::warn!(%error, "the data directory is still offline"),
                }
            }
            tracing::info!("the data directory is online again");
            while !self.tell(true).await {
                tokio::select! {
                    biased;
                    () = stop.cancelled() => return,
                    () = sleep(RETRY) => {}
                }
            }
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

    async fn tell(&self, reopened: bool) -> bool {
        let Some(Registration { id, epoch }) = *self.registration.borrow() else { return false };
        let directory = self.reports.now();
        let request = ControllerRequest::UpdateDirectories(UpdateDirectoriesRequest {
            id,
            epoch,
            directories: vec![directory],
            reopened: if reopened { vec![directory.id] } else { Vec::new() },
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
