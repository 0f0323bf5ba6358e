//! A listed voter without a vote: its directory is new to a cluster that is formed already.
//!
//! It follows the log as an observer, so that its broker can serve and its replicas can be fetched anew, until an operator takes it in
//! ([`MetadataQuorum::replace_voter`](super::MetadataQuorum::replace_voter)). From then on its own log is the source; the observer ends when that log has caught up.
//! It never asks for a vote, because openraft's log here is empty and names no voters.

use super::formation::Standing;
use super::formation_task::FormationStatus;
use super::observer::{MetadataObserver, ObserverConfig};
use super::publication::Publication;
use super::snapshot_store::SnapshotStore;
use super::transport::QuorumTransport;
use crate::image::MetadataImage;
use openraft::AsyncRuntime;
use openraft::async_runtime::Select2;
use std::pin::pin;
use std::sync::Arc;
use tokio::sync::watch;

pub(crate) struct Standby {
    pub(crate) formation: watch::Receiver<FormationStatus>,
    /// What to observe with; the cluster is filled in when it is known.
    pub(crate) observer: ObserverConfig,
    pub(crate) transport: Arc<dyn QuorumTransport>,
    pub(crate) snapshots: Arc<dyn SnapshotStore>,
    pub(crate) publication: Arc<Publication>,
    /// What this node's own log has come to.
    pub(crate) applied: watch::Receiver<Arc<MetadataImage>>,
}

impl Standby {
    /// Follows for as long as this node is outside the quorum. Why that has failed for good, if it has.
    pub(crate) async fn run<Rt: AsyncRuntime>(mut self) -> Option<String> {
        let known = self.formation.wait_for(|s| matches!(s.report.standing, Standing::Joined(_) | Standing::Formed(_)));
        let Ok(Standing::Joined(cluster_id)) = known.await.map(|s| s.report.standing.clone()) else { return None };
        let config = ObserverConfig { cluster_id: Some(cluster_id), ..self.observer };
        let observer =
            match MetadataObserver::<Rt>::start(config, self.transport, self.snapshots, vec![self.publication]) {
                Ok(observer) => observer,
                Err(error) => return Some(error.to_string()),
            };
        let caught_up = async {
            let _ = self.formation.wait_for(|s| matches!(s.report.standing, Standing::Formed(_))).await;
            let _ = self.applied.wait_for(|image| image.offset >= observer.image().offset).await;
        };
        let mut status = observer.status();
        let failed = async { status.wait_for(|s| s.failure.is_some()).await.ok().and_then(|s| s.failure.clone()) };
        let why = match Rt::select2(pin!(caught_up), pin!(failed)).await {
            Select2::First(()) => None,
            Select2::Second(why) => why,
        };
        if why.is_none() {
            tracing::info!("this node's own metadata log has caught up: it observes no longer");
        }
        observer.stop().await;
        why
    }
}
