//! Brings this node's part in the metadata quorum back after its disk failed: full, an error, or hanging under the leader.
//!
//! # States
//!
//! | quorum here | becomes | when |
//! |---|---|---|
//! | running | offline | Raft has stopped, and the disk is why ([`MetadataQuorum::disk_failure`]) |
//! | offline | running | the log was closed, and opened anew: after a full disk with the space of the reserve, or once there is enough, otherwise in growing steps |
//! | running, offline | the node ends | Raft has stopped for another reason, or what is on the disk is not what was synced: such a voter must not vote again |
//!
//! While it is offline this node follows the metadata as one without a vote does ([`MetadataQuorum::observe`]), and asks the other voters for
//! the controller: its broker need not notice. Images come from both sources until the log itself has come as far.
//!
//! One task per node; it alone stops and reopens the quorum while the node runs.

use super::store_keeper::{RETRY, Room, Steps};
use crate::storage::{QuorumLog, SyncedCommit};
use rookery_raft::controller::{Controller, ControllerConfig};
use rookery_raft::quorum::{MetadataQuorum, QuorumError, QuorumStorageError};
use std::future::pending;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

/// Between two looks at how far the log has come.
const CATCH_UP: Duration = Duration::from_millis(50);

/// Watches the quorum's disk.
pub struct QuorumKeeper {
    pub quorum: MetadataQuorum,
    /// The data directory.
    pub path: PathBuf,
    pub mark_interval: Duration,
    /// What this process has synced into the log.
    pub synced: SyncedCommit,
    pub controller: ControllerConfig,
    pub space: Arc<dyn Room>,
}

impl QuorumKeeper {
    /// Why the node cannot go on; never while it can, nor after `stop`.
    pub async fn run(self, stop: CancellationToken) -> String {
        metrics::gauge!("rookery_quorum_offline").set(0.0);
        tokio::select! {
            () = stop.cancelled() => pending().await,
            why = self.keep() => why,
        }
    }

    async fn keep(&self) -> String {
        let mut leadership = self.quorum.leadership();
        let mut steps = Steps::default();
        loop {
            let failed =
                async { leadership.wait_for(|l| l.failure.is_some()).await.ok().and_then(|l| l.failure.clone()) };
            let Some(why) = failed.await else { return "its tasks have ended".to_owned() };
            let Some(error) = self.quorum.disk_failure() else { return why };
            metrics::gauge!("rookery_quorum_offline").set(1.0);
            tracing::error!(%error, "the metadata log is offline: this node takes no part in the metadata quorum");
            let observer = self.quorum.observe();
            if let Err(why) = self.bring_back(error, &mut steps).await {
                return why;
            }
            metrics::gauge!("rookery_quorum_offline").set(0.0);
            tracing::info!("the metadata log is online again");
            let Some(observer) = observer else { continue };
            while self.quorum.failure().is_none() && self.quorum.status().applied < observer.image().offset {
                sleep(CATCH_UP).await;
            }
            observer.stop().await;
        }
    }

    async fn bring_back(&self, mut error: QuorumStorageError, steps: &mut Steps) -> Result<(), String> {
        loop {
            // With a disk that hangs this takes as long as the disk does.
            self.quorum.stop().await;
            let was_full = matches!(error, QuorumStorageError::DiskFull(_));
            if was_full {
                self.space.clone().met_the_end().await;
            }
            sleep(steps.next()).await;
            while was_full && self.space.reading().borrow().is_too_full_to_open {
                sleep(RETRY).await;
            }
            match self.reopen().await {
                Ok(()) => return Ok(()),
                Err(
                    fatal @ (QuorumStorageError::Lost(_)
                    | QuorumStorageError::Corrupt(_)
                    | QuorumStorageError::TooNew { .. }),
                ) => return Err(fatal.to_string()),
                Err(again) => {
                    tracing::warn!(error = %again, "the metadata log is still offline");
                    error = again;
                }
            }
        }
    }

    async fn reopen(&self) -> Result<(), QuorumStorageError> {
        let (path, mark_interval, known) = (self.path.clone(), self.mark_interval, self.synced.clone());
        let opened = tokio::task::spawn_blocking(move || QuorumLog::reopen(&path, mark_interval, known)).await;
        let log = opened.map_err(|e| QuorumStorageError::Io(e.to_string()))??;
        let controller = Controller::new(self.controller.clone(), rand::random());
        match self.quorum.reopen(Box::new(log), controller).await {
            Ok(()) => Ok(()),
            Err(QuorumError::Storage(error)) => Err(error),
            Err(other) => Err(QuorumStorageError::Io(other.to_string())),
        }
    }
}
