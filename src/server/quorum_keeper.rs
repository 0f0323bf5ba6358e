//! Brings this node's part in the metadata quorum back after its disk failed: full, an error, or hanging under the leader.
//!
//! # States
//!
//! | quorum here | becomes | when |
//! |---|---|---|
//! | running | hanging | the disk has not answered for [`HANGS`] ([`MetadataQuorum::disk_stall`]): Raft goes on, as well as it can |
//! | hanging | running | it has answered, and the log has come as far as the others' |
//! | running, hanging | offline | Raft has stopped, and the disk is why ([`MetadataQuorum::disk_failure`]) |
//! | offline | running | the log was closed, and opened anew: after a full disk with the space of the reserve, or once there is enough, otherwise in growing steps |
//! | any | the node ends | Raft has stopped for another reason, or what is on the disk is not what was synced: such a voter must not vote again |
//!
//! While it hangs or is offline this node follows the metadata as one without a vote does ([`MetadataQuorum::observe`]), and asks the other
//! voters for the controller: its broker need not notice. Images come from both sources until the log itself has come as far. (Otherwise
//! a broker whose disk hangs would not learn that others lead by now, and hold its clients' requests for as long as the disk hangs.)
//!
//! One task per node; it alone stops and reopens the quorum while the node runs.

use super::room::{Room, Steps, until_there_is_room};
use crate::broker::MetadataQuorum;
use crate::storage::{QuorumLog, SyncedCommit};
use rookery_raft::controller::{Controller, ControllerConfig};
use rookery_raft::quorum::{QuorumError, QuorumStorageError};
use std::future::pending;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

/// A disk that has not answered for so long hangs: before leaderships move away from it, so that this node learns of that at once. What it
/// costs a disk that is only slow is a few questions to another voter.
const HANGS: Duration = Duration::from_millis(500);
/// Between two looks at the disk, and at how far the log has come.
const LOOK: Duration = Duration::from_millis(50);

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
        let mut steps = Steps::default();
        loop {
            self.until_trouble(HANGS).await;
            let observer = self.quorum.observe();
            if self.quorum.failure().is_none() {
                tracing::info!(stalled = ?self.quorum.disk_stall(), "the metadata log's disk hangs: this node follows the other voters");
                while self.quorum.failure().is_none() && self.quorum.disk_stall() > HANGS {
                    sleep(LOOK).await;
                }
            }
            if let Some(why) = self.quorum.failure() {
                let Some(error) = self.quorum.disk_failure() else { return why };
                metrics::gauge!("rookery_quorum_offline").set(1.0);
                tracing::error!(%error, "the metadata log is offline: this node takes no part in the metadata quorum");
                if let Err(why) = self.bring_back(error, &mut steps).await {
                    return why;
                }
                metrics::gauge!("rookery_quorum_offline").set(0.0);
                tracing::info!("the metadata log is online again");
            }
            let Some(observer) = observer else { continue };
            let is_behind = || self.quorum.status().applied < observer.image().offset;
            while self.quorum.failure().is_none() && is_behind() {
                sleep(LOOK).await;
            }
            observer.stop().await;
        }
    }

    /// Until Raft has stopped, or the disk has not answered for so long.
    async fn until_trouble(&self, hangs: Duration) {
        let mut leadership = self.quorum.leadership();
        let failed = leadership.wait_for(|l| l.failure.is_some());
        let hung = async {
            while self.quorum.disk_stall() <= hangs {
                sleep(LOOK).await;
            }
        };
        tokio::select! {
            _ = failed => {}
            () = hung => {}
        }
    }

    async fn bring_back(&self, mut error: QuorumStorageError, steps: &mut Steps) -> Result<(), String> {
        loop {
            // With a disk that hangs this takes as long as the disk does.
            self.quorum.stop().await;
            if let QuorumStorageError::DiskFull(_) = error {
                self.space.clone().met_the_end().await;
                until_there_is_room(&*self.space, steps).await;
            } else {
                sleep(steps.next()).await;
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
