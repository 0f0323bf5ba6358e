//! The memory twin of the metadata log's disk, with power cuts and faults.
//!
//! A [`MemoryDisk`] outlives the [`MemoryStorage`]s opened on it. Every write first lands in a cache of unsynced batches; a synced
//! write moves the whole cache to the platter. [`crash`](MemoryDisk::crash) drops the cache and cuts off whoever has the disk open.

use super::storage::{Durability, LogWrite, MetaKey, QuorumStorage, QuorumStorageError, SavedState};
use bytes::Bytes;
use parking_lot::Mutex;
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Decides about one write before it happens: an error is returned to the caller and nothing is written.
pub type WriteFault = Box<dyn FnMut(&[LogWrite], Durability) -> Result<(), QuorumStorageError> + Send>;

#[derive(Clone, Default, Debug)]
struct Contents {
    meta: BTreeMap<MetaKey, Bytes>,
    log: BTreeMap<u64, Bytes>,
}

impl Contents {
    fn apply(&mut self, write: &LogWrite) {
        match write {
            LogWrite::Put { key, value } => {
                self.meta.insert(*key, value.clone());
            }
            LogWrite::Append { index, entry } => {
                self.log.insert(*index, entry.clone());
            }
            LogWrite::Truncate { from } => {
                self.log.split_off(from);
            }
            LogWrite::Purge { upto } => {
                self.log = self.log.split_off(&(upto.saturating_add(1)));
            }
        }
    }
}

#[derive(Default)]
struct Disk {
    synced: Contents,
    unsynced: Vec<Vec<LogWrite>>,
    generation: u64,
    synced_writes: u64,
    fault: Option<WriteFault>,
    lies_about_sync: bool,
}

impl Disk {
    /// With what is not synced; a copy only where there is something of the kind.
    fn current(&self) -> Cow<'_, Contents> {
        if self.unsynced.is_empty() {
            return Cow::Borrowed(&self.synced);
        }
        let mut contents = self.synced.clone();
        self.unsynced.iter().flatten().for_each(|write| contents.apply(write));
        Cow::Owned(contents)
    }

    fn sync(&mut self) {
        let unsynced = std::mem::take(&mut self.unsynced);
        unsynced.iter().flatten().for_each(|write| self.synced.apply(write));
    }
}

/// A disk in memory; cloning shares it.
#[derive(Clone, Default)]
pub struct MemoryDisk {
    disk: Arc<Mutex<Disk>>,
}

impl MemoryDisk {
    /// An empty disk.
    pub fn new() -> Self {
        Self::default()
    }

    /// Opens the disk; whoever had it open before is cut off.
    pub fn open(&self) -> MemoryStorage {
        let mut disk = self.disk.lock();
        disk.generation += 1;
        MemoryStorage { disk: self.disk.clone(), generation: disk.generation }
    }

    /// Cuts the power: what was not synced is gone, and the open storage fails from now on.
    pub fn crash(&self) {
        let mut disk = self.disk.lock();
        disk.unsynced.clear();
        disk.generation += 1;
    }

    /// Erases everything, as a replaced disk would.
    pub fn wipe(&self) {
        let mut disk = self.disk.lock();
        *disk = Disk { generation: disk.generation + 1, ..Disk::default() };
    }

    /// Asks `fault` before every write from now on.
    pub fn set_fault(&self, fault: Option<WriteFault>) {
        self.disk.lock().fault = fault;
    }

    /// A planted mistake: synced writes stay in the cache. A test that does not notice is worth nothing.
    pub fn lie_about_sync(&self) {
        self.disk.lock().lies_about_sync = true;
    }

    /// How many writes were synced.
    pub fn synced_writes(&self) -> u64 {
        self.disk.lock().synced_writes
    }
}

/// One open of a [`MemoryDisk`].
pub struct MemoryStorage {
    disk: Arc<Mutex<Disk>>,
    generation: u64,
}

impl MemoryStorage {
    fn check_open(&self, disk: &Disk) -> Result<(), QuorumStorageError> {
        if disk.generation == self.generation {
            Ok(())
        } else {
            Err(QuorumStorageError::Closed("the disk was opened anew or lost power".into()))
        }
    }
}

impl QuorumStorage for MemoryStorage {
    fn load(&mut self) -> Result<SavedState, QuorumStorageError> {
        let disk = self.disk.lock();
        self.check_open(&disk)?;
        let contents = disk.current();
        let log = contents.log.first_key_value().zip(contents.log.last_key_value()).map(|((a, _), (b, _))| (*a, *b));
        if let Some((first, last)) = log
            && last - first + 1 != contents.log.len() as u64
        {
            return Err(QuorumStorageError::Corrupt(format!("a hole between {first} and {last}")));
        }
        Ok(SavedState { meta: contents.meta.clone(), log })
    }

    fn write(&mut self, batch: &[LogWrite], durability: Durability) -> Result<(), QuorumStorageError> {
        let mut disk = self.disk.lock();
        self.check_open(&disk)?;
        if let Some(fault) = &mut disk.fault {
            fault(batch, durability)?;
        }
        disk.unsynced.push(batch.to_vec());
        if durability == Durability::Synced {
            disk.synced_writes += 1;
            if !disk.lies_about_sync {
                disk.sync();
            }
        }
        Ok(())
    }

    fn read(&mut self, from: u64, to: u64, max_bytes: usize) -> Result<Vec<Bytes>, QuorumStorageError> {
        let disk = self.disk.lock();
        self.check_open(&disk)?;
        let contents = disk.current();
        let mut entries = Vec::new();
        let mut bytes = 0;
        for index in from..to {
            let entry = contents.log.get(&index);
            let entry = entry.ok_or_else(|| QuorumStorageError::Corrupt(format!("entry {index} is missing")))?;
            bytes += entry.len();
            if bytes > max_bytes && !entries.is_empty() {
                break;
            }
            entries.push(entry.clone());
        }
        Ok(entries)
    }
}
