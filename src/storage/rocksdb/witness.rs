//! Opening a database under both witnesses: used by the log store and by the metadata log.

use super::super::error::StorageError;
use super::commit::store_error;
use super::data_directory::DirectoryError;
use super::keys::COMMIT;
use super::sync_mark::{Mark, SyncMark};
use super::wal_scan::{CommitNumbers, synced_according_to_wal};
use super::write_batch::Database;
use std::io;
use std::path::Path;

/// An open database, and what its witnesses said.
pub struct Witnessed {
    pub db: Database,
    pub mark: SyncMark,
    /// The last commit that was recovered.
    pub recovered: u64,
    /// Whether synced data is missing, or may be: the witness itself is gone.
    pub lost: bool,
}

impl Witnessed {
    /// The number after which commits go on: above everything ever named, so that no later commit can hide a loss.
    pub fn last_commit(&self) -> u64 {
        self.recovered.max(self.mark.commit())
    }
}

/// Asks the witnesses, then opens. The WAL is read before RocksDB replays and removes it; what it says goes into the mark,
/// which outlives it. `synced_here` is the last commit that this process itself has synced: the third witness of a reopen,
/// and the only one that a failing disk cannot take back.
pub fn open(
    mark: &Path,
    database: &Path,
    synced_here: u64,
    open: impl FnOnce() -> Result<Database, StorageError>,
) -> Result<Witnessed, StorageError> {
    let existed = database.join("CURRENT").try_exists().map_err(io_error)?;
    let (mut mark, found) = SyncMark::open(mark).map_err(io_error)?;
    let synced = synced_according_to_wal(database).map_err(io_error)?.max(synced_here);
    if synced > mark.commit() {
        mark.write(synced).map_err(io_error)?;
    }
    let db = open()?;
    let recovered = match db.get(COMMIT).map_err(store_error)? {
        Some(value) => CommitNumbers::decode(&value).ok_or_else(|| damaged("the commit number"))?.commit,
        None => 0,
    };
    let witness_gone = found == Mark::Damaged || (found == Mark::Absent && existed && recovered > 0);
    let lost = recovered < mark.commit() || witness_gone;
    if lost {
        let must_hold = mark.commit();
        tracing::error!(path = %database.display(), recovered, must_hold, witness_gone, "synced data is missing");
    }
    Ok(Witnessed { db, mark, recovered, lost })
}

/// An error of the file system, in the words of this room.
pub fn io_error(error: io::Error) -> StorageError {
    if error.kind() == io::ErrorKind::StorageFull {
        return StorageError::DiskFull(error.to_string().into());
    }
    StorageError::Offline(error.to_string().into())
}

/// An error of the data directory, in the words of this room.
pub fn directory_error(error: DirectoryError) -> StorageError {
    match error {
        DirectoryError::Io { path, source } => match io_error(source) {
            StorageError::DiskFull(why) => StorageError::DiskFull(format!("{}: {why}", path.display()).into()),
            other => other,
        },
        other => StorageError::Offline(other.to_string().into()),
    }
}

/// Bytes on disk that mean nothing.
pub fn damaged(what: &str) -> StorageError {
    StorageError::Corrupt(format!("{what} cannot be read").into())
}
