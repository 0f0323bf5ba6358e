//! Who a data directory is: `directory.json`, and the lock that keeps two processes apart.
//!
//! It also names the parts that the directory has had. A directory whose part is gone has lost what it promised under its id (votes, or
//! records), which an empty part alone could not tell from a new one.

use rookery_raft::ids::{ClusterId, DirectoryId, NodeId};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::fs::{self, File, TryLockError};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// The newest layout this version reads and the one it writes.
pub const FORMAT_VERSION: u32 = 1;
const PROPERTIES: &str = "directory.json";
const LOCK: &str = "directory.lock";

/// Why a directory cannot be used. Each is one line for the operator.
#[derive(Debug, thiserror::Error)]
pub enum DirectoryError {
    /// Another process has it.
    #[error("{0} is in use by another process")]
    InUse(PathBuf),
    /// It holds something, and nothing says it is ours.
    #[error("{0} is not empty and has no directory.json: not a data directory of Rookery")]
    Foreign(PathBuf),
    /// `directory.json` cannot be read.
    #[error("{path} is damaged: {reason}")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// A newer version wrote it.
    #[error("{path} has format version {found}; this version reads up to {FORMAT_VERSION}")]
    TooNew {
        /// The directory.
        path: PathBuf,
        /// What it says.
        found: u32,
    },
    /// It belongs to another node.
    #[error("{path} belongs to node {found}, this is node {expected}")]
    OtherNode {
        /// The directory.
        path: PathBuf,
        /// Whose it is.
        found: NodeId,
        /// Who asked.
        expected: NodeId,
    },
    /// It belongs to another cluster.
    #[error("{path} belongs to cluster {found}, not to {expected}")]
    OtherCluster {
        /// The directory.
        path: PathBuf,
        /// Whose it is.
        found: ClusterId,
        /// Who asked.
        expected: ClusterId,
    },
    /// The file system refused.
    #[error("{path}: {source}")]
    Io {
        /// What was touched.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// What lies in a data directory.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Part {
    /// The quorum's log and vote.
    MetadataLog,
    /// The records of partitions.
    PartitionLogs,
}

#[derive(Clone, Serialize, Deserialize)]
struct Properties {
    format_version: u32,
    node_id: NodeId,
    directory_id: DirectoryId,
    /// Absent until the node has formed or joined a cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    cluster_id: Option<ClusterId>,
    /// What has been made in it.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    parts: BTreeSet<Part>,
}

/// A locked data directory. Dropping it releases the lock.
pub struct DataDirectory {
    path: PathBuf,
    properties: Properties,
    _lock: File,
}

impl DataDirectory {
    /// Opens the directory of a node, or makes it: an empty or missing one gets a fresh directory id.
    pub fn open(path: &Path, node_id: NodeId) -> Result<Self, DirectoryError> {
        let io_error = |source| DirectoryError::Io { path: path.to_owned(), source };
        if !path.exists() {
            fs::create_dir_all(path).map_err(io_error)?;
            sync_parent(&path.canonicalize().map_err(io_error)?).map_err(io_error)?;
        }
        let file = path.join(PROPERTIES);
        let text = match fs::read(&file) {
            Ok(text) => Some(text),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(source) => return Err(DirectoryError::Io { path: file, source }),
        };
        if text.is_none() && holds_something(path).map_err(io_error)? {
            return Err(DirectoryError::Foreign(path.to_owned()));
        }
        let lock = File::options().write(true).create(true).truncate(false).open(path.join(LOCK)).map_err(io_error)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(DirectoryError::InUse(path.to_owned())),
            Err(TryLockError::Error(source)) => return Err(io_error(source)),
        }
        let Some(text) = text else {
            let directory_id = DirectoryId::random();
            let (cluster_id, parts) = (None, BTreeSet::new());
            let properties = Properties { format_version: FORMAT_VERSION, node_id, directory_id, cluster_id, parts };
            write_durably(&file, &to_json(&properties)).map_err(io_error)?;
            tracing::info!(path = %path.display(), %directory_id, "made a new data directory");
            return Ok(Self { path: path.to_owned(), properties, _lock: lock });
        };
        let damaged = |reason: String| DirectoryError::Damaged { path: file.clone(), reason };
        // The version first: the rest of a newer format need not be readable.
        let json: serde_json::Value = serde_json::from_slice(&text).map_err(|e| damaged(e.to_string()))?;
        let found = json.get("format_version").and_then(serde_json::Value::as_u64).unwrap_or(0);
        if found > u64::from(FORMAT_VERSION) {
            return Err(DirectoryError::TooNew {
                path: path.to_owned(),
                found: u32::try_from(found).unwrap_or(u32::MAX),
            });
        }
        let properties: Properties = serde_json::from_value(json).map_err(|e| damaged(e.to_string()))?;
        if properties.node_id != node_id {
            let (found, expected) = (properties.node_id, node_id);
            return Err(DirectoryError::OtherNode { path: path.to_owned(), found, expected });
        }
        Ok(Self { path: path.to_owned(), properties, _lock: lock })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its own id.
    pub fn directory_id(&self) -> DirectoryId {
        self.properties.directory_id
    }

    /// The cluster it belongs to, once it does.
    pub fn cluster_id(&self) -> Option<ClusterId> {
        self.properties.cluster_id
    }

    /// Binds it to a cluster, durably. A directory never changes its cluster.
    pub fn bind_cluster(&mut self, cluster_id: ClusterId) -> Result<(), DirectoryError> {
        match self.properties.cluster_id {
            Some(found) if found == cluster_id => Ok(()),
            Some(found) => Err(DirectoryError::OtherCluster { path: self.path.clone(), found, expected: cluster_id }),
            None => self.change(|properties| properties.cluster_id = Some(cluster_id)),
        }
    }

    /// Whether a part was made here once, whatever there is of it now.
    pub(super) fn has_had(&self, part: Part) -> bool {
        self.properties.parts.contains(&part)
    }

    /// A part exists from now on; said before anything is promised by it.
    pub(super) fn keep_part(&mut self, part: Part) -> Result<(), DirectoryError> {
        if self.has_had(part) {
            return Ok(());
        }
        self.change(|properties| {
            properties.parts.insert(part);
        })
    }

    fn change(&mut self, edit: impl FnOnce(&mut Properties)) -> Result<(), DirectoryError> {
        let mut properties = self.properties.clone();
        edit(&mut properties);
        let path = self.path.join(PROPERTIES);
        write_durably(&path, &to_json(&properties)).map_err(|source| DirectoryError::Io { path, source })?;
        self.properties = properties;
        Ok(())
    }
}

fn to_json(properties: &Properties) -> Vec<u8> {
    serde_json::to_vec_pretty(properties).expect("numbers and ids have a JSON form")
}

/// Whether there is anything but what a file system or an earlier attempt leaves.
fn holds_something(path: &Path) -> io::Result<bool> {
    for entry in fs::read_dir(path)? {
        let name = entry?.file_name();
        if name != LOCK && name != "lost+found" && name != "directory.json.tmp" {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Replaces a file so that a crash leaves the old one or the new one: temp, fsync, rename, fsync the directory.
pub fn write_durably(path: &Path, content: &[u8]) -> io::Result<()> {
    let mut name = path.as_os_str().to_owned();
    name.push(".tmp");
    let temp = PathBuf::from(name);
    let mut file = File::create(&temp)?;
    file.write_all(content)?;
    file.sync_all()?;
    fs::rename(&temp, path)?;
    sync_parent(path)
}

/// Makes the creation, renaming or removal of a file durable.
pub fn sync_parent(path: &Path) -> io::Result<()> {
    File::open(path.parent().expect("a file lies in a directory"))?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NODE: NodeId = NodeId(1);

    fn refusal(path: &Path, node_id: NodeId) -> String {
        DataDirectory::open(path, node_id).err().expect("refused").to_string()
    }

    #[test]
    fn a_directory_keeps_its_id_and_its_cluster() {
        let temp = tempfile::tempdir().unwrap();
        let mut made = DataDirectory::open(temp.path(), NODE).unwrap();
        let (id, cluster) = (made.directory_id(), ClusterId::random());
        assert!(refusal(temp.path(), NODE).contains("in use"));
        made.bind_cluster(cluster).unwrap();
        drop(made);
        let mut found = DataDirectory::open(temp.path(), NODE).unwrap();
        assert_eq!((found.directory_id(), found.cluster_id()), (id, Some(cluster)));
        assert!(matches!(found.bind_cluster(ClusterId::random()), Err(DirectoryError::OtherCluster { .. })));
    }

    #[test]
    fn what_is_not_ours_is_refused_in_one_line() {
        let temp = tempfile::tempdir().unwrap();
        fs::write(temp.path().join("holiday.jpg"), b"x").unwrap();
        assert!(refusal(temp.path(), NODE).contains("not empty"));
        let temp = tempfile::tempdir().unwrap();
        drop(DataDirectory::open(temp.path(), NODE).unwrap());
        assert!(refusal(temp.path(), NodeId(2)).contains("belongs to node 1"));
        let file = temp.path().join(PROPERTIES);
        fs::write(&file, b"{\"format_version\": 99}").unwrap();
        assert!(refusal(temp.path(), NODE).contains("format version 99"));
        fs::write(&file, b"{\"format").unwrap();
        let line = refusal(temp.path(), NODE);
        assert!(line.contains("damaged") && !line.contains('\n'), "{line}");
    }
}
