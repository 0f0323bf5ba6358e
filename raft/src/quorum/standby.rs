//! A listed voter without a vote: its directory is new to a cluster that is formed already.
//!
//! It follows the log as an observer, so that its broker can serve and its replicas can be fetched anew, until an operator takes it in
//! ([`MetadataQuorum::replace_voter`](super::MetadataQuorum::replace_voter)). From then on its own log is the source. It asks for no vote before, because
//! openraft elects only whom the newest membership in its own log names as a voter.
//!
//! # When the observer may end
//!
//! When this node is sure to be replicated to, and has got as far that way. Raft messages alone do not make it sure: the leader that
//! begins to take it in may die before the entry that names it is committed, and the next one may not have that entry and never
//! call here. So the standing remains `Joined`, over restarts too, until this node has **applied** such an entry
//! ([`formation`](super::formation)); only then it is `Formed`, and when its own image is as new as the observed one, nothing is lost by
//! ending. Both tell the same committed log ([`publication`](super::publication)), so it does not matter how long they run side by side.

use super::formation::Standing;
use super::formation_task::FormationStatus;
use super::observer::{MetadataObserver, ObserverConfig};
use super::publication::Publication;
use super::snapshot_store::SnapshotStore;
use super::transport::QuorumTransport;
use crate::image::MetadataImage;
use openraft::AsyncRuntime;
use openraft::async_runtime::{Select2, Select3};
use std::future::pending;
use std::sync::Arc;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

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
    /// Follows for as long as this node is outside the quorum, or until `stop`; the observer has ended when this returns.
    /// An error says why it has failed for good.
    pub(crate) async fn run<Rt: AsyncRuntime>(mut self, stop: CancellationToken) -> Result<(), String> {
        let known = async {
            let known = |s: &FormationStatus| matches!(s.report.standing, Standing::Joined(_) | Standing::Formed(_));
            self.formation.wait_for(known).await.ok().map(|s| s.report.standing.clone())
        };
        let cluster_id = match Rt::select2(stop.cancelled(), known).await {
            Select2::Second(Some(Standing::Joined(cluster_id))) => cluster_id,
            // Where the formation has ended, it says why itself.
            Select2::First(()) | Select2::Second(_) => return Ok(()),
        };
        let config = ObserverConfig { cluster_id: Some(cluster_id), ..self.observer };
        let from = self.publication.image().borrow().clone();
        let observer =
            MetadataObserver::<Rt>::start(config, self.transport, self.snapshots, from, vec![self.publication])
                .map_err(|e| e.to_string())?;
        let mut status = observer.status();
        let failed = async {
            let failed = status.wait_for(|s| s.failure.is_some()).await;
            failed.ok().and_then(|s| s.failure.clone()).unwrap_or_else(|| "the observer's task has ended".to_owned())
        };
        let caught_up = async {
            let formed = self.formation.wait_for(|s| matches!(s.report.standing, Standing::Formed(_))).await.is_ok();
            let applied = self.applied.wait_for(|image| image.offset >= observer.image().offset).await.is_ok();
            if !(formed && applied) {
                // The formation or Raft has ended, which says why itself; there is nothing left to catch up.
                pending::<()>().await;
            }
        };
        let outcome = match Rt::select3(stop.cancelled(), failed, caught_up).await {
            Select3::First(()) => Ok(()),
            Select3::Second(why) => Err(why),
            Select3::Third(()) => {
                tracing::info!("this node's own metadata log has caught up: it observes no longer");
                Ok(())
            }
        };
        observer.stop().await;
        outcome
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::{ClusterId, DirectoryId, NodeId, QuorumNodeId};
    use crate::quorum::formation::Report;
    use crate::quorum::{MemorySnapshots, QuorumNode, StorageExecution, TokioRuntime, TransportError};
    use bytes::Bytes;
    use futures_util::FutureExt;
    use futures_util::future::BoxFuture;
    use std::collections::BTreeMap;

    /// Whoever asks waits for ever, or dies of it.
    struct Silent {
        deadly: bool,
        waiting: watch::Sender<usize>,
    }

    struct Call<'a>(&'a watch::Sender<usize>);

    impl Drop for Call<'_> {
        fn drop(&mut self) {
            self.0.send_modify(|waiting| *waiting -= 1);
        }
    }

    impl QuorumTransport for Silent {
        fn call<'a>(&'a self, _: NodeId, _: &'a QuorumNode, _: Bytes) -> BoxFuture<'a, Result<Bytes, TransportError>> {
            async move {
                assert!(!self.deadly, "planted");
                self.waiting.send_modify(|waiting| *waiting += 1);
                let _call = Call(&self.waiting);
                pending().await
            }
            .boxed()
        }
    }

    /// A standby that knows its cluster, and what must outlive it.
    fn joined(silent: Arc<Silent>) -> (Standby, (watch::Sender<FormationStatus>, watch::Sender<Arc<MetadataImage>>)) {
        let me = QuorumNodeId { node_id: NodeId(1), directory_id: DirectoryId::random() };
        let standing = Standing::Joined(ClusterId::random());
        let status = FormationStatus { report: Report { id: me, standing }, why: String::new() };
        let (formation_tx, formation) = watch::channel(status);
        let (applied_tx, applied) = watch::channel(MetadataImage::empty());
        let voters = BTreeMap::from([(NodeId(2), QuorumNode::default())]);
        let mut observer = ObserverConfig::new(me, voters, None);
        observer.execution = StorageExecution::Inline;
        let snapshots = Arc::new(MemorySnapshots::default());
        let publication = Publication::new(Vec::new());
        let standby = Standby { formation, observer, transport: silent, snapshots, publication, applied };
        (standby, (formation_tx, applied_tx))
    }

    #[tokio::test(start_paused = true)]
    async fn an_observer_that_panicked_was_taken_for_caught_up() {
        let (standby, _sources) = joined(Arc::new(Silent { deadly: true, waiting: watch::Sender::new(0) }));
        let outcome = standby.run::<TokioRuntime>(CancellationToken::new()).await;
        assert_eq!(outcome, Err("the observer's task has ended".to_owned()));
    }

    #[tokio::test(start_paused = true)]
    async fn a_standby_that_was_stopped_left_its_observer_running() {
        let silent = Arc::new(Silent { deadly: false, waiting: watch::Sender::new(0) });
        let (standby, _sources) = joined(silent.clone());
        let stop = CancellationToken::new();
        let mut waiting = silent.waiting.subscribe();
        let asked = async {
            waiting.wait_for(|waiting| *waiting == 1).await.expect("the sender is here");
            stop.cancel();
        };
        // On one thread: whatever ends only after this must wait for the next await.
        let (outcome, ()) = tokio::join!(standby.run::<TokioRuntime>(stop.clone()), asked);
        assert_eq!((outcome, *silent.waiting.borrow()), (Ok(()), 0), "the observer still asks");
    }

    #[tokio::test(start_paused = true)]
    async fn a_standby_without_a_cluster_can_be_stopped() {
        let (standby, (formation, _applied)) =
            joined(Arc::new(Silent { deadly: true, waiting: watch::Sender::new(0) }));
        formation.send_modify(|status| status.report.standing = Standing::Empty);
        let stop = CancellationToken::new();
        stop.cancel();
        assert_eq!(standby.run::<TokioRuntime>(stop).await, Ok(()));
    }
}
