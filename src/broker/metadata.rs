//! The metadata log as this node has it: as a voter of the quorum, or as an observer of it.
//!
//! Rooms that need metadata exist before the log is opened (the log tells them what to do from its first entry on), so
//! they hold a [`MetadataCell`]: empty metadata until [`MetadataCell::open`] is called, once.

use super::{FailureWatch, Metadata};
use futures_util::FutureExt;
use futures_util::future::{BoxFuture, pending, ready};
use rookery_raft::controller::{ControllerError, ControllerRequest, ControllerResponse};
use rookery_raft::ids::{ClusterId, MetadataOffset, NodeId};
use rookery_raft::image::MetadataImage;
use rookery_raft::quorum::{Leadership, QuorumError};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::sync::watch;

/// What the quorum runs on: tokio, and in this package's simulations its twin from a seed. Not so in the library that the binary and the integration
/// tests have: what they drive is what ships.
#[cfg(not(test))]
type Runtime = rookery_raft::quorum::TokioRuntime;
#[cfg(test)]
type Runtime = rookery_raft::quorum::seeded_runtime::SeededRuntime;

/// A voter's handle.
pub type MetadataQuorum = rookery_raft::quorum::MetadataQuorum<Runtime>;

/// The handle of a node that has no vote.
pub type MetadataObserver = rookery_raft::quorum::MetadataObserver<Runtime>;

/// How this node takes part.
pub enum LocalMetadata {
    /// It votes, and may be the active controller.
    Voter {
        /// Its handle.
        quorum: MetadataQuorum,
        /// Hears the heartbeats that the controller accepts.
        watch: Arc<FailureWatch>,
        /// Who may be the controller, while this node has no vote and Raft does not tell it.
        candidates: ControllerCandidates,
    },
    /// It follows.
    Observer {
        /// Its handle.
        observer: MetadataObserver,
        /// Who may be the controller.
        candidates: ControllerCandidates,
    },
}

/// A voter whose disk has not answered for so long may not hear of a new controller.
const HANGS: Duration = Duration::from_millis(500);

impl LocalMetadata {
    /// For how long the disk of this node's metadata log has not answered; nothing where there is none.
    pub fn disk_stall(&self) -> Duration {
        match self {
            LocalMetadata::Voter { quorum, .. } => quorum.disk_stall(),
            LocalMetadata::Observer { .. } => Duration::ZERO,
        }
    }
}

/// Nodes that may be the active controller: one is believed to be until it is found wrong, then the next.
pub struct ControllerCandidates {
    nodes: Vec<NodeId>,
    believed: AtomicUsize,
}

impl ControllerCandidates {
    /// The first one is believed.
    pub fn new(nodes: Vec<NodeId>) -> Self {
        Self { nodes, believed: AtomicUsize::new(0) }
    }

    fn believed(&self) -> Option<NodeId> {
        self.nodes.get(self.believed.load(Ordering::Relaxed) % self.nodes.len().max(1)).copied()
    }

    fn was_wrong(&self, node: NodeId) {
        let at = self.believed.load(Ordering::Relaxed);
        if self.nodes.get(at % self.nodes.len().max(1)) == Some(&node) {
            let _ = self.believed.compare_exchange(at, at.wrapping_add(1), Ordering::Relaxed, Ordering::Relaxed);
        }
    }
}

/// Metadata that is there later than those who need it.
#[derive(Clone, Default)]
pub struct MetadataCell(Arc<OnceLock<LocalMetadata>>);

impl MetadataCell {
    /// The log is open.
    pub fn open(&self, metadata: LocalMetadata) {
        assert!(self.0.set(metadata).is_ok(), "the metadata log is opened once in a node's life");
    }

    /// How this node takes part, once the log is open.
    pub fn get(&self) -> Option<&LocalMetadata> {
        self.0.get()
    }
}

impl Metadata for MetadataCell {
    fn image(&self) -> Arc<MetadataImage> {
        match self.get() {
            None => MetadataImage::empty(),
            Some(LocalMetadata::Voter { quorum, .. }) => quorum.image(),
            Some(LocalMetadata::Observer { observer, .. }) => observer.image(),
        }
    }

    fn images(&self) -> watch::Receiver<Arc<MetadataImage>> {
        match self.get() {
            None => watch::channel(MetadataImage::empty()).1,
            Some(LocalMetadata::Voter { quorum, .. }) => quorum.images(),
            Some(LocalMetadata::Observer { observer, .. }) => observer.images(),
        }
    }

    fn applied(&self, offset: MetadataOffset) -> BoxFuture<'static, ()> {
        if self.get().is_none() {
            return pending().boxed();
        }
        let mut images = self.images();
        async move {
            let _ = images.wait_for(|image| image.offset >= offset).await;
        }
        .boxed()
    }

    fn controller(&self) -> Option<NodeId> {
        match self.get()? {
            LocalMetadata::Voter { quorum, candidates, .. } => {
                let told = quorum.leadership().borrow().leader.as_ref().map(|l| l.id.node_id);
                let is_cut_off = quorum.disk_stall() > HANGS && !quorum.is_active();
                if quorum.failure().is_some() || is_cut_off {
                    return candidates.believed(); // what it was told before may be long over
                }
                told.or_else(|| quorum.no_vote().and_then(|_| candidates.believed()))
            }
            LocalMetadata::Observer { candidates, .. } => candidates.believed(),
        }
    }

    fn another_controller(&self, than: NodeId) -> BoxFuture<'static, ()> {
        let Some(LocalMetadata::Voter { quorum, .. }) = self.get() else {
            return pending().boxed(); // candidates are tried in turn
        };
        let mut leadership = quorum.leadership();
        async move {
            let is_another = |l: &Leadership| l.leader.as_ref().is_some_and(|leader| leader.id.node_id != than);
            if leadership.wait_for(is_another).await.is_err() {
                pending().await
            }
        }
        .boxed()
    }

    fn controller_was_wrong(&self, node: NodeId) {
        match self.get() {
            Some(LocalMetadata::Voter { candidates, .. } | LocalMetadata::Observer { candidates, .. }) => {
                candidates.was_wrong(node);
            }
            None => {}
        }
    }

    fn stands_still(&self) {
        // A voter takes the log from whoever leads it.
        if let Some(LocalMetadata::Observer { observer, .. }) = self.get() {
            observer.ask_another();
        }
    }

    fn cluster_id(&self) -> Option<ClusterId> {
        match self.get()? {
            LocalMetadata::Voter { quorum, .. } => quorum.status().cluster_id,
            LocalMetadata::Observer { observer, .. } => observer.status().borrow().cluster_id,
        }
    }

    fn submit(&self, request: ControllerRequest) -> BoxFuture<'static, Result<ControllerResponse, ControllerError>> {
        let Some(LocalMetadata::Voter { quorum, watch, .. }) = self.get() else {
            return ready(Err(ControllerError::NotController)).boxed();
        };
        let (quorum, watch) = (quorum.clone(), watch.clone());
        let beat = match &request {
            ControllerRequest::BrokerHeartbeat(beat) => Some((beat.id, beat.epoch)),
            _ => None,
        };
        async move {
            match quorum.submit(request).await {
                Ok(response) => {
                    if let Some((id, epoch)) = beat {
                        watch.heard(id, epoch);
                    }
                    Ok(response)
                }
                Err(QuorumError::Refused(error)) => Err(error),
                Err(QuorumError::NotController(_) | QuorumError::Stopped(_)) => Err(ControllerError::NotController),
                Err(other) => Err(ControllerError::Internal(other.to_string())),
            }
        }
        .boxed()
    }
}
