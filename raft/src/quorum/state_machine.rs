//! What committed entries do: they become the [`MetadataImage`], through the [`MetadataLoader`] and its publishers.
//!
//! # State
//!
//! The image lives in memory and always is the result of exactly the entries up to `applied`; only snapshots are on disk. After a start openraft installs the
//! current snapshot here and replays the log from there up to what is known to be committed.
//!
//! Applying runs in one task of openraft's. An entry that cannot be decoded or replayed is an error to openraft, which stops this node's
//! Raft for good ([`MetadataQuorum::failure`](super::MetadataQuorum::failure) says why): going on would mean that two nodes
//! believe different things.
//!
//! A snapshot is made of the image's `Arc`, away from this task; the image cannot change under it. One that comes out older than the current
//! one (another was installed meanwhile) is thrown away. openraft does not wait for a builder when it ends; so the end of a run closes its [`Snapshots`], after
//! which nothing of it is made current any more: the next run may have a newer snapshot, and may have purged its log up to there.

use super::disk_failure::DiskFailure;
use super::snapshot_store::{SnapshotBlob, SnapshotMetadata, SnapshotStore, SnapshotWriter, VerifiedSnapshot};
use super::storage_thread::StorageExecution;
use super::types::{CommittedLeader, LogEntry, LogIndexId, QuorumNode, StoredMembershipConfig, TypeConfig};
use crate::delta::MetadataLoader;
use crate::ids::{ClusterId, MetadataOffset, QuorumNodeId};
use crate::image::{MetadataImage, SnapshotError, read_snapshot, write_snapshot};
use crate::record::{MetadataRecord, decode_records};
use futures_util::{Stream, StreamExt};
use openraft::storage::{ApplyResponder, EntryResponder, RaftStateMachine};
use openraft::{AsyncRuntime, EntryPayload, OptionalSend, RaftSnapshotBuilder, Snapshot, SnapshotMeta};
use parking_lot::Mutex;
use std::io;
use std::marker::PhantomData;
use std::sync::Arc;
use tokio::sync::watch;

/// Entries that become one delta at most.
const BATCH: usize = 1024;

type Meta = SnapshotMeta<CommittedLeader, QuorumNodeId, QuorumNode>;
type SnapshotOf = Snapshot<CommittedLeader, QuorumNodeId, QuorumNode, Arc<dyn SnapshotBlob>>;

/// The current snapshot, shared by the state machine, builders and those who send it.
pub(crate) struct Snapshots {
    store: Arc<dyn SnapshotStore>,
    execution: StorageExecution,
    failure: DiskFailure,
    current: Mutex<Current>,
}

#[derive(Default)]
struct Current {
    snapshot: Option<VerifiedSnapshot>,
    /// The run is over.
    closed: bool,
}

impl Snapshots {
    /// Reads and verifies the current snapshot.
    pub(crate) fn open(
        store: Arc<dyn SnapshotStore>,
        execution: StorageExecution,
        failure: DiskFailure,
    ) -> io::Result<Arc<Self>> {
        let snapshot = store.current()?.map(VerifiedSnapshot::verify).transpose()?;
        let current = Mutex::new(Current { snapshot, closed: false });
        Ok(Arc::new(Self { store, execution, failure, current }))
    }

    /// Ignores what is there: for those who only gather snapshots.
    pub(crate) fn empty(store: Arc<dyn SnapshotStore>, execution: StorageExecution) -> Arc<Self> {
        Arc::new(Self { store, execution, failure: DiskFailure::default(), current: Mutex::default() })
    }

    pub(crate) fn current(&self) -> Option<VerifiedSnapshot> {
        self.current.lock().snapshot.clone()
    }

    /// From here on nothing of this run becomes current; waits for what is just being made so, as long as the disk takes.
    pub(crate) async fn close<Rt: AsyncRuntime>(self: &Arc<Self>) {
        let closed = self.blocking::<Rt, _>(|snapshots| {
            snapshots.current.lock().closed = true;
            Ok(())
        });
        if let Err(error) = closed.await {
            tracing::warn!(%error, "the metadata snapshots were not closed in order");
        }
    }

    pub(crate) fn store(&self) -> &dyn SnapshotStore {
        &*self.store
    }

    /// Makes `new` current unless what is current is newer.
    fn promote(&self, new: VerifiedSnapshot) -> io::Result<()> {
        let mut current = self.current.lock();
        if current.closed {
            return Err(io::Error::other("the run that made this snapshot is over"));
        }
        if current.snapshot.as_ref().is_some_and(|old| old.metadata.last > new.metadata.last) {
            return Ok(());
        }
        self.store.promote(&new.blob)?;
        current.snapshot = Some(new);
        Ok(())
    }

    /// Runs `work`, which may block, where blocking is allowed.
    pub(crate) async fn blocking<Rt: AsyncRuntime, T: Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce(&Snapshots) -> io::Result<T> + Send + 'static,
    ) -> io::Result<T> {
        let done = match self.execution {
            StorageExecution::Inline => work(self),
            StorageExecution::Thread => {
                let this = self.clone();
                Rt::spawn_blocking(move || work(&this)).await?
            }
        };
        done.inspect_err(|error| self.failure.note_file(error))
    }
}

fn openraft_snapshot(snapshot: &VerifiedSnapshot) -> SnapshotOf {
    let SnapshotMetadata { last, membership, .. } = snapshot.metadata.clone();
    Snapshot { meta: Meta { last_log_id: last, last_membership: membership }, snapshot: snapshot.blob.clone() }
}

/// The state machine.
pub(crate) struct StateMachine<Rt> {
    loader: MetadataLoader,
    applied: Option<LogIndexId>,
    membership: watch::Sender<StoredMembershipConfig>,
    snapshots: Arc<Snapshots>,
    image: watch::Sender<Arc<MetadataImage>>,
    runtime: PhantomData<fn() -> Rt>,
}

impl<Rt> StateMachine<Rt> {
    /// Begins empty; openraft installs the current snapshot and replays the log. `image` is told every new image, `membership` every
    /// new membership: what is applied is committed, so that no later leader can lack it.
    pub(crate) fn new(
        loader: MetadataLoader,
        snapshots: Arc<Snapshots>,
        image: watch::Sender<Arc<MetadataImage>>,
        membership: watch::Sender<StoredMembershipConfig>,
    ) -> Self {
        Self { loader, applied: None, membership, snapshots, image, runtime: PhantomData }
    }

    fn apply_batch<C: openraft::RaftTypeConfig<R = ()>>(
        &mut self,
        batch: Vec<(LogEntry, Option<ApplyResponder<C>>)>,
    ) -> io::Result<()> {
        let mut decoded: Vec<(MetadataOffset, Vec<MetadataRecord>)> = Vec::with_capacity(batch.len());
        for (entry, _) in &batch {
            let records = match &entry.payload {
                EntryPayload::Normal(decision) => decode_records(&decision.0).map_err(|e| fatal(entry.log_id, e))?,
                EntryPayload::Blank | EntryPayload::Membership(_) => Vec::new(),
            };
            decoded.push((offset_of(entry.log_id.index), records));
        }
        let entries = decoded.iter().map(|(offset, records)| (*offset, records.as_slice()));
        let image = self.loader.apply(entries).map_err(io::Error::other)?.clone();
        for (entry, _) in &batch {
            self.applied = Some(entry.log_id);
            if let EntryPayload::Membership(membership) = &entry.payload {
                let applied = StoredMembershipConfig::new(Some(entry.log_id), membership.clone());
                self.membership.send_replace(applied);
            }
        }
        self.image.send_replace(image);
        batch.into_iter().filter_map(|(_, responder)| responder).for_each(|responder| responder.send(()));
        Ok(())
    }
}

/// A log index as a metadata offset.
pub(crate) fn offset_of(index: u64) -> MetadataOffset {
    MetadataOffset(i64::try_from(index).expect("a log of 2^63 entries does not exist"))
}

fn fatal(id: LogIndexId, error: impl std::fmt::Display) -> io::Error {
    io::Error::other(format!("metadata log entry {} cannot be applied: {error}", id.index))
}

impl<Rt: AsyncRuntime> RaftStateMachine<TypeConfig<Rt>> for StateMachine<Rt> {
    type SnapshotData = Arc<dyn SnapshotBlob>;
    type SnapshotBuilder = SnapshotBuilder<Rt>;

    async fn applied_state(&mut self) -> io::Result<(Option<LogIndexId>, StoredMembershipConfig)> {
        Ok((self.applied, self.membership.borrow().clone()))
    }

    async fn apply<Strm>(&mut self, entries: Strm) -> io::Result<()>
    where
        Strm: Stream<Item = Result<EntryResponder<TypeConfig<Rt>>, io::Error>> + Unpin + OptionalSend,
    {
        let mut batches = entries.ready_chunks(BATCH);
        while let Some(batch) = batches.next().await {
            let batch = batch.into_iter().collect::<io::Result<Vec<_>>>()?;
            if let Err(error) = self.apply_batch(batch) {
                tracing::error!(%error, "the metadata log cannot be applied; this node's quorum stops");
                return Err(error);
            }
        }
        Ok(())
    }

    async fn get_snapshot_builder(&mut self) -> SnapshotBuilder<Rt> {
        let cluster_id = self.loader.image().cluster.cluster_id().unwrap_or(ClusterId::NONE);
        let membership = self.membership.borrow().clone();
        SnapshotBuilder {
            metadata: SnapshotMetadata { cluster_id, last: self.applied, membership },
            image: self.loader.image().clone(),
            snapshots: self.snapshots.clone(),
            runtime: PhantomData,
        }
    }

    async fn install_snapshot(&mut self, meta: &Meta, blob: Arc<dyn SnapshotBlob>) -> io::Result<()> {
        let (snapshot, image) = self
            .snapshots
            .blocking::<Rt, _>(move |snapshots| {
                let snapshot = VerifiedSnapshot::verify(blob)?;
                let image = read_snapshot(io::BufReader::new(snapshot.body())).map_err(io::Error::other)?;
                snapshots.promote(snapshot.clone())?;
                Ok((snapshot, Arc::new(image)))
            })
            .await?;
        if snapshot.metadata.last != meta.last_log_id {
            return Err(io::Error::other("a snapshot covers something else than it was announced to"));
        }
        tracing::info!(last = ?snapshot.metadata.last.map(|id| id.index), "installed a metadata snapshot");
        self.applied = snapshot.metadata.last;
        self.membership.send_replace(snapshot.metadata.membership);
        self.loader.install_snapshot(image.clone());
        self.image.send_replace(image);
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> io::Result<Option<SnapshotOf>> {
        Ok(self.snapshots.current().as_ref().map(openraft_snapshot))
    }
}

/// A file's own error stays what it is: what a full disk means is decided by its kind.
fn file_error(error: SnapshotError) -> io::Error {
    match error {
        SnapshotError::Io(error) => error,
        other => io::Error::other(other),
    }
}

/// Writes one image; runs in a task of its own.
pub(crate) struct SnapshotBuilder<Rt> {
    metadata: SnapshotMetadata,
    image: Arc<MetadataImage>,
    snapshots: Arc<Snapshots>,
    runtime: PhantomData<fn() -> Rt>,
}

impl<Rt: AsyncRuntime> RaftSnapshotBuilder<TypeConfig<Rt>> for SnapshotBuilder<Rt> {
    type SnapshotData = Arc<dyn SnapshotBlob>;

    async fn build_snapshot(&mut self) -> io::Result<SnapshotOf> {
        let (metadata, image) = (self.metadata.clone(), self.image.clone());
        let built = self.snapshots.blocking::<Rt, _>(move |snapshots| {
            let writer = SnapshotWriter::create(snapshots.store(), &metadata)?;
            let mut writer = io::BufWriter::with_capacity(256 << 10, writer);
            write_snapshot(&image, &mut writer).map_err(file_error)?;
            let writer = writer.into_inner().map_err(|e| e.into_error())?;
            let snapshot = VerifiedSnapshot::verify(writer.finish()?)?;
            snapshots.promote(snapshot.clone())?;
            Ok(snapshot)
        });
        Ok(openraft_snapshot(&built.await?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::quorum::MemorySnapshots;

    fn snapshot(store: &MemorySnapshots, index: u64) -> VerifiedSnapshot {
        let last = Some(LogIndexId { leader_id: CommittedLeader::new(1), index });
        let metadata =
            SnapshotMetadata { cluster_id: ClusterId::NONE, last, membership: StoredMembershipConfig::default() };
        let writer = SnapshotWriter::create(store, &metadata).expect("creates");
        VerifiedSnapshot::verify(writer.finish().expect("finishes")).expect("is sound")
    }

    #[tokio::test]
    async fn a_builder_that_outlived_its_run_replaced_the_snapshot_of_the_next() {
        let store = MemorySnapshots::default();
        let open = || {
            Snapshots::open(Arc::new(store.clone()), StorageExecution::Thread, DiskFailure::default()).expect("opens")
        };
        let first = open();
        let late = snapshot(&store, 5);
        first.close::<crate::quorum::TokioRuntime>().await;
        let second = open();
        second.promote(snapshot(&store, 9)).expect("is made current");
        assert!(first.promote(late).is_err());
        let kept = open().current().expect("there is one").metadata.last.map(|id| id.index);
        assert_eq!(kept, Some(9), "the log behind it is purged");
    }
}
