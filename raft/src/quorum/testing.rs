//! Checks that every implementation of [`QuorumStorage`] has to pass, in this package and in others.
//!
//! [`conformance`] runs openraft's own suite on the log store over the storage; [`contract`] checks the promises of the trait's page that
//! the suite does not see: atomic batches, order, and what is there after a new open.

use super::disk_failure::DiskFailure;
use super::log_store::LogStore;
use super::snapshot_store::MemorySnapshots;
use super::state_machine::{Snapshots, StateMachine};
use super::storage::{Durability, LogWrite, MetaKey, QuorumStorage};
use super::storage_thread::StorageExecution;
use super::types::{StoredMembershipConfig, TokioRuntime, TypeConfig};
use crate::delta::MetadataLoader;
use crate::ids::{DirectoryId, NodeId, QuorumNodeId};
use crate::image::MetadataImage;
use bytes::Bytes;
use openraft::StorageError;
use openraft::testing::log::{StoreBuilder, Suite};
use std::sync::Arc;
use tokio::sync::watch;
use uuid::Uuid;

type C = TypeConfig<TokioRuntime>;

/// openraft's suite names its nodes by numbers.
impl From<u64> for QuorumNodeId {
    fn from(n: u64) -> Self {
        QuorumNodeId { node_id: NodeId(n as i32), directory_id: DirectoryId(Uuid::from_u128(n.into())) }
    }
}

struct Builder<F> {
    open: F,
    execution: StorageExecution,
}

impl<G, F> StoreBuilder<C, LogStore<TokioRuntime>, StateMachine<TokioRuntime>, G> for Builder<F>
where
    G: Send + Sync,
    F: Fn() -> (G, Box<dyn QuorumStorage>) + Send + Sync,
{
    async fn build(&self) -> Result<(G, LogStore<TokioRuntime>, StateMachine<TokioRuntime>), StorageError<C>> {
        let (guard, storage) = (self.open)();
        let (log, _) =
            LogStore::open(storage, self.execution, DiskFailure::default()).await.expect("an empty storage opens");
        let snapshots = Snapshots::open(Arc::new(MemorySnapshots::default()), self.execution, DiskFailure::default())
            .expect("memory opens");
        let image = watch::Sender::new(MetadataImage::empty());
        let membership = watch::Sender::new(StoredMembershipConfig::default());
        let loader = MetadataLoader::new(MetadataImage::empty());
        Ok((guard, log, StateMachine::new(loader, snapshots, image, membership)))
    }
}

/// Runs openraft's conformance suite; `open` returns a fresh, empty storage and a guard that removes it. Panics on the first violation.
pub fn conformance<G, F>(open: F)
where
    G: Send + Sync,
    F: Fn() -> (G, Box<dyn QuorumStorage>) + Send + Sync + Clone,
{
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
    for execution in [StorageExecution::Thread, StorageExecution::Inline] {
        let builder = Builder { open: open.clone(), execution };
        runtime.block_on(Suite::test_all(builder)).expect("openraft's suite passes");
    }
}

fn append(index: u64) -> LogWrite {
    LogWrite::Append { index, entry: Bytes::from(format!("entry {index}")) }
}

fn put(key: MetaKey, value: &'static str) -> LogWrite {
    LogWrite::Put { key, value: Bytes::from_static(value.as_bytes()) }
}

/// Checks the contract of the trait; `open` opens the **same** place every time it is called, which is empty at first.
pub fn contract(open: impl Fn() -> Box<dyn QuorumStorage>) {
    let mut storage = open();
    assert!(storage.load().expect("load").is_empty(), "a new place is empty");
    let batch = [put(MetaKey::Vote, "one"), append(5), append(6), append(7), put(MetaKey::Vote, "two")];
    storage.write(&batch, Durability::Synced).expect("write");
    storage.write(&[LogWrite::Truncate { from: 7 }, append(7), append(8)], Durability::Synced).expect("write");
    storage.write(&[LogWrite::Purge { upto: 5 }, put(MetaKey::Purged, "5")], Durability::Synced).expect("write");
    let check = |storage: &mut Box<dyn QuorumStorage>| {
        let saved = storage.load().expect("load");
        assert_eq!(saved.log, Some((6, 8)));
        assert_eq!(saved.meta.get(&MetaKey::Vote), Some(&Bytes::from_static(b"two")), "the last put wins");
        assert_eq!(saved.meta.len(), 2);
        let entries = storage.read(6, 9, usize::MAX).expect("read");
        assert_eq!(entries, ["entry 6", "entry 7", "entry 8"].map(|text| Bytes::from_static(text.as_bytes())));
        assert_eq!(storage.read(6, 9, 1).expect("read").len(), 1, "at least one entry, whatever the limit");
        assert!(storage.read(6, 10, usize::MAX).is_err(), "a missing entry is an error, not a shorter answer");
        assert!(storage.read(6, 6, 1).expect("read").is_empty());
    };
    check(&mut storage);
    drop(storage);
    let mut storage = open();
    check(&mut storage);
    storage.write(&[put(MetaKey::Committed, "7")], Durability::Buffered).expect("write");
    assert!(storage.load().expect("load").meta.contains_key(&MetaKey::Committed), "reads see buffered writes");
    storage.write(&[LogWrite::Purge { upto: 20 }, append(21)], Durability::Synced).expect("write");
    drop(storage);
    let mut storage = open();
    let saved = storage.load().expect("load");
    assert_eq!(saved.log, Some((21, 21)), "a purge may go beyond the end, and the log goes on after it");
    assert!(saved.meta.contains_key(&MetaKey::Committed), "a synced write takes the buffered ones before it along");
    storage.write(&[LogWrite::Truncate { from: 0 }], Durability::Synced).expect("write");
    assert_eq!(storage.load().expect("load").log, None);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::quorum::MemoryDisk;

    #[test]
    fn the_memory_twin_passes_openrafts_suite() {
        conformance(|| ((), Box::new(MemoryDisk::new().open())));
    }

    #[test]
    fn the_memory_twin_keeps_the_contract() {
        let disk = MemoryDisk::new();
        contract(|| Box::new(disk.open()));
    }

    #[test]
    fn a_power_cut_takes_what_was_not_synced_and_nothing_else() {
        let disk = MemoryDisk::new();
        let mut storage = disk.open();
        storage.write(&[append(1)], Durability::Synced).expect("write");
        storage.write(&[put(MetaKey::Committed, "1")], Durability::Buffered).expect("write");
        disk.crash();
        assert!(storage.write(&[append(2)], Durability::Synced).is_err(), "whoever had it open is cut off");
        let saved = disk.open().load().expect("load");
        assert_eq!((saved.log, saved.meta.len()), (Some((1, 1)), 0));
    }
}
