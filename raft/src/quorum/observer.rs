//! [`MetadataObserver`]: how a broker that is no voter follows the metadata log.
//!
//! It pulls: "the committed entries from here on, and wait a moment if there is none". Any voter answers from what it has applied itself, so observers cost the leader nothing
//! in particular; what is purged already comes as a snapshot, in parts. The observer applies through the same [`MetadataLoader`] as a voter
//! does and keeps nothing on disk: it begins anew with a snapshot.
//!
//! A voter that fails to answer, or is not of this cluster, is passed over for the next one; so is one that answers but stands still,
//! cut off from the other voters, once somebody who hears more says so ([`MetadataObserver::ask_another`]). An entry that cannot be applied
//! stops the observer for good.

use super::error::QuorumError;
use super::formation::Standing;
use super::formation_task::ask_one;
use super::network::{CallError, Peers, RpcTimeouts};
use super::snapshot_store::{SnapshotStore, VerifiedSnapshot};
use super::state_machine::{Snapshots, offset_of};
use super::storage_thread::StorageExecution;
use super::transport::QuorumTransport;
use super::types::{LogIndexId, QuorumNode, TokioRuntime};
use super::wire::{Reply, Request};
use crate::delta::{MetadataLoader, MetadataPublisher};
use crate::ids::{ClusterId, DirectoryId, MetadataOffset, NodeId, QuorumNodeId};
use crate::image::{MetadataImage, read_snapshot};
use crate::record::{MetadataRecord, decode_records};
use bytes::Bytes;
use openraft::AsyncRuntime;
use openraft::async_runtime::Select2;
use parking_lot::{Mutex, RwLock};
use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// An observer's settings.
#[derive(Clone, Debug)]
pub struct ObserverConfig {
    /// Who it is; the directory matters to nobody.
    pub me: QuorumNodeId,
    /// Whom it may ask.
    pub voters: BTreeMap<NodeId, QuorumNode>,
    /// The cluster it belongs to, if it knows; else it learns it from the first voter that does.
    pub cluster_id: Option<ClusterId>,
    /// How long a voter may keep a request waiting for the next entry.
    pub wait: Duration,
    /// How long an answer may take beyond that.
    pub timeout: Duration,
    /// The pause after all voters failed.
    pub retry: Duration,
    /// Where blocking calls run.
    pub execution: StorageExecution,
}

impl ObserverConfig {
    /// The defaults.
    pub fn new(me: QuorumNodeId, voters: BTreeMap<NodeId, QuorumNode>, cluster_id: Option<ClusterId>) -> Self {
        Self {
            me,
            voters,
            cluster_id,
            wait: Duration::from_millis(500),
            timeout: Duration::from_secs(1),
            retry: Duration::from_millis(200),
            execution: StorageExecution::Thread,
        }
    }
}

/// What an observer knows of itself.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct ObserverStatus {
    /// The cluster, once it is known.
    pub cluster_id: Option<ClusterId>,
    /// One above the last entry the asked voter had applied.
    pub end: MetadataOffset,
    /// Why it has stopped for good, if it has.
    pub failure: Option<String>,
}

/// Follows the metadata log from outside the quorum.
pub struct MetadataObserver<Rt: AsyncRuntime = TokioRuntime> {
    image: watch::Receiver<Arc<MetadataImage>>,
    status: watch::Receiver<ObserverStatus>,
    another: Arc<AtomicBool>,
    stop: CancellationToken,
    task: Mutex<Option<Rt::JoinHandle<()>>>,
}

struct Task {
    peers: Arc<Peers>,
    voters: Vec<(NodeId, QuorumNode)>,
    wait: Duration,
    retry: Duration,
    loader: MetadataLoader,
    snapshots: Arc<Snapshots>,
    image: watch::Sender<Arc<MetadataImage>>,
    status: watch::Sender<ObserverStatus>,
    another: Arc<AtomicBool>,
}

/// Why one attempt ended.
#[derive(Debug, thiserror::Error)]
enum Attempt {
    #[error(transparent)]
    Call(#[from] CallError),
    #[error("no cluster is known there")]
    NoCluster,
    #[error("snapshot: {0}")]
    Snapshot(#[from] io::Error),
    #[error("{0}")]
    Fatal(String),
}

impl<Rt: AsyncRuntime> MetadataObserver<Rt> {
    /// Begins to follow, behind an image that is known already (or the empty one). `snapshots` is where a snapshot is gathered; what is in there
    /// is not used.
    pub fn start(
        config: ObserverConfig,
        transport: Arc<dyn QuorumTransport>,
        snapshots: Arc<dyn SnapshotStore>,
        from: Arc<MetadataImage>,
        publishers: Vec<Arc<dyn MetadataPublisher>>,
    ) -> Result<Self, QuorumError> {
        let timeout = config.wait + config.timeout;
        let peers = Arc::new(Peers {
            me: config.me,
            transport,
            cluster_id: RwLock::new(config.cluster_id.unwrap_or(ClusterId::NONE)),
            timeouts: RpcTimeouts { short: config.timeout, append: timeout, snapshot: timeout },
            sessions: AtomicU64::new(0),
            may_vote: AtomicBool::new(false),
        });
        let mut loader = MetadataLoader::new(from.clone());
        publishers.into_iter().for_each(|publisher| loader.add_publisher(publisher));
        let (image_tx, image) = watch::channel(from);
        let status = ObserverStatus { cluster_id: config.cluster_id, ..ObserverStatus::default() };
        let (status_tx, status) = watch::channel(status);
        let another = Arc::new(AtomicBool::new(false));
        let task = Task {
            peers,
            voters: config.voters.into_iter().collect(),
            wait: config.wait,
            retry: config.retry,
            loader,
            snapshots: Snapshots::empty(snapshots, config.execution),
            image: image_tx,
            status: status_tx,
            another: another.clone(),
        };
        if task.voters.is_empty() {
            return Err(QuorumError::Config("an observer needs voters to ask".into()));
        }
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        let task = Rt::spawn(async move {
            let work = Box::pin(task.run::<Rt>());
            match Rt::select2(Box::pin(stopped.cancelled()), work).await {
                Select2::First(()) | Select2::Second(()) => {}
            }
        });
        Ok(Self { image, status, another, stop, task: Mutex::new(Some(task)) })
    }

    /// Stops following.
    pub async fn stop(&self) {
        self.stop.cancel();
        let task = self.task.lock().take();
        if let Some(task) = task {
            let _ = task.await;
        }
    }

    /// The log is known to go on where the voter that is asked has nothing more to tell: the next request goes to another one.
    pub fn ask_another(&self) {
        self.another.store(true, Ordering::Relaxed);
    }

    /// The metadata as of the last entry applied here.
    pub fn image(&self) -> Arc<MetadataImage> {
        self.image.borrow().clone()
    }

    /// Every new image; intermediate ones may be skipped.
    pub fn images(&self) -> watch::Receiver<Arc<MetadataImage>> {
        self.image.clone()
    }

    /// How far it is, and whether it has failed.
    pub fn status(&self) -> watch::Receiver<ObserverStatus> {
        self.status.clone()
    }
}

impl<Rt: AsyncRuntime> Drop for MetadataObserver<Rt> {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Task {
    async fn run<Rt: AsyncRuntime>(mut self) {
        let mut asked = 0usize;
        let mut failed = 0usize;
        loop {
            let (node_id, node) = self.voters[asked % self.voters.len()].clone();
            let followed = self.follow::<Rt>(node_id, &node).await;
            let stands_still = self.another.swap(false, Ordering::Relaxed);
            match followed {
                Ok(()) => {
                    failed = 0;
                    asked += usize::from(stands_still);
                }
                Err(Attempt::Fatal(why)) => {
                    tracing::error!(%why, "the metadata log cannot be applied; this observer stops");
                    self.status.send_modify(|status| status.failure = Some(why));
                    return;
                }
                Err(error) => {
                    tracing::debug!(node_id = node_id.0, %error, "a voter did not serve this observer");
                    (asked, failed) = (asked + 1, failed + 1);
                    if failed >= self.voters.len() {
                        failed = 0;
                        Rt::sleep(self.retry).await;
                    }
                }
            }
        }
    }

    fn next(&self) -> u64 {
        u64::try_from(self.loader.image().offset.0 + 1).unwrap_or(0)
    }

    /// One request and what follows from it.
    async fn follow<Rt: AsyncRuntime>(&mut self, node_id: NodeId, node: &QuorumNode) -> Result<(), Attempt> {
        if *self.peers.cluster_id.read() == ClusterId::NONE {
            self.learn_cluster::<Rt>(node_id, node).await?;
        }
        let from = self.next();
        let wait_ms = u64::try_from(self.wait.as_millis()).unwrap_or(u64::MAX);
        let target = QuorumNodeId { node_id, directory_id: DirectoryId::NONE };
        let request = Request::Fetch { from, wait_ms };
        match self.peers.call::<Rt>(target, node, &request, self.peers.timeouts.append).await? {
            Reply::Fetched { entries, end } => self.apply(from, entries, end),
            Reply::SnapshotNeeded => self.fetch_snapshot::<Rt>(target, node).await,
            _ => Err(CallError::Unexpected.into()),
        }
    }

    async fn learn_cluster<Rt: AsyncRuntime>(&self, node_id: NodeId, node: &QuorumNode) -> Result<(), Attempt> {
        let report = ask_one::<Rt>(&self.peers, node_id, node).await.ok_or(Attempt::NoCluster)?;
        match report.standing {
            Standing::Formed(cluster_id) => {
                *self.peers.cluster_id.write() = cluster_id;
                self.status.send_modify(|status| status.cluster_id = Some(cluster_id));
                Ok(())
            }
            Standing::Empty | Standing::Prepared(_) | Standing::Joined(_) => Err(Attempt::NoCluster),
        }
    }

    fn apply(&mut self, from: u64, entries: Vec<(u64, Bytes)>, end: u64) -> Result<(), Attempt> {
        let end = i64::try_from(end).map_err(|_| CallError::Unexpected)?;
        self.status.send_if_modified(|status| std::mem::replace(&mut status.end, MetadataOffset(end)).0 != end);
        if entries.is_empty() {
            return Ok(());
        }
        let mut decoded: Vec<(MetadataOffset, Vec<MetadataRecord>)> = Vec::with_capacity(entries.len());
        for ((index, bytes), expected) in entries.into_iter().zip(from..) {
            if index != expected || end <= 0 || index >= end as u64 {
                return Err(CallError::Unexpected.into());
            }
            let records = if bytes.is_empty() { Ok(Vec::new()) } else { decode_records(&bytes) };
            let records = records.map_err(|e| Attempt::Fatal(format!("entry {index}: {e}")))?;
            decoded.push((offset_of(index), records));
        }
        let entries = decoded.iter().map(|(offset, records)| (*offset, records.as_slice()));
        let image = self.loader.apply(entries).map_err(|e| Attempt::Fatal(e.to_string()))?.clone();
        self.image.send_replace(image);
        Ok(())
    }

    async fn fetch_snapshot<Rt: AsyncRuntime>(
        &mut self,
        target: QuorumNodeId,
        node: &QuorumNode,
    ) -> Result<(), Attempt> {
        let mut sink = Some(self.snapshots.store().create()?);
        let (mut last, mut offset): (Option<LogIndexId>, u64) = (None, 0);
        loop {
            let request = Request::FetchSnapshot { last, offset };
            let reply = self.peers.call::<Rt>(target, node, &request, self.peers.timeouts.snapshot).await?;
            let Reply::SnapshotPart { last: theirs, total, part } = reply else {
                return Err(CallError::Unexpected.into());
            };
            if part.is_empty() || (offset > 0 && theirs != last) {
                return Err(CallError::Unexpected.into());
            }
            last = theirs;
            offset += part.len() as u64;
            let mut writing = sink.take().expect("the sink is put back after every part but the last");
            writing = self.snapshots.blocking::<Rt, _>(move |_| writing.write(&part).map(|()| writing)).await?;
            if offset < total {
                sink = Some(writing);
                continue;
            }
            let read = self.snapshots.blocking::<Rt, _>(move |_| {
                let snapshot = VerifiedSnapshot::verify(writing.finish()?)?;
                read_snapshot(io::BufReader::new(snapshot.body())).map_err(io::Error::other)
            });
            let image = Arc::new(read.await?);
            if image.offset > self.loader.image().offset {
                self.loader.install_snapshot(image.clone());
                self.image.send_replace(image);
            }
            return Ok(());
        }
    }
}
