//! Where snapshots of the metadata live: files, or memory in simulations.
//!
//! A snapshot is one blob: `"RKSN"`, a format byte, the sealed [`SnapshotMetadata`], the image's bytes, and at the end their length (`u64`) and CRC-32C.
//!
//! # Life of a snapshot
//!
//! ```text
//! create ──write…──▶ finish (trailer, fsync) ──▶ complete, unnamed ──promote (rename, fsync directory)──▶ current
//!    └────────────── dropped before promote: the temporary file is removed ──────────────┘
//! ```
//!
//! There is one current snapshot. Promoting another removes it afterwards, so a crash leaves one of the two. Left-over temporary files are removed
//! at open. What is current was verified against its checksum when it was promoted and is again at every open.

use super::codec::{DecodeError, Encode, Reader, seal, unseal};
use super::types::{LogIndexId, StoredMembershipConfig};
use crate::ids::ClusterId;
use bytes::{BufMut, Bytes, BytesMut};
use parking_lot::Mutex;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

const MAGIC: &[u8; 4] = b"RKSN";
const FORMAT: u8 = 1;
const TRAILER: u64 = 12;
/// A membership of a handful of voters is far below this.
const MAX_METADATA: u32 = 1 << 20;
const CHUNK: usize = 256 << 10;

/// What a snapshot covers.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct SnapshotMetadata {
    /// The cluster it belongs to.
    pub(crate) cluster_id: ClusterId,
    /// The last entry in it.
    pub(crate) last: Option<LogIndexId>,
    /// The voters at that entry.
    pub(crate) membership: StoredMembershipConfig,
}

impl Encode for SnapshotMetadata {
    fn encode(&self, out: &mut BytesMut) {
        self.cluster_id.encode(out);
        self.last.encode(out);
        self.membership.encode(out);
    }
    fn decode(reader: &mut Reader) -> Result<Self, DecodeError> {
        Ok(Self {
            cluster_id: ClusterId::decode(reader)?,
            last: Option::<LogIndexId>::decode(reader)?,
            membership: StoredMembershipConfig::decode(reader)?,
        })
    }
}

/// A complete snapshot that can be read at any place.
pub trait SnapshotBlob: Send + Sync + 'static {
    /// Its size in bytes, trailer included.
    fn size(&self) -> u64;
    /// The `n` bytes from `offset`; an error if there are fewer.
    fn read_at(&self, offset: u64, n: usize) -> io::Result<Bytes>;
    /// The file that must be renamed to keep it; `None` if it is kept already, or no file.
    fn temporary_path(&self) -> Option<&Path> {
        None
    }
}

/// Where a snapshot is written.
pub trait SnapshotSink: Send + 'static {
    /// Appends bytes.
    fn write(&mut self, bytes: &[u8]) -> io::Result<()>;
    /// Makes what was written durable and readable, still unnamed.
    fn finish(self: Box<Self>) -> io::Result<Arc<dyn SnapshotBlob>>;
}

/// A place for one current snapshot. All calls may block.
pub trait SnapshotStore: Send + Sync + 'static {
    /// The current one.
    fn current(&self) -> io::Result<Option<Arc<dyn SnapshotBlob>>>;
    /// Begins a new one.
    fn create(&self) -> io::Result<Box<dyn SnapshotSink>>;
    /// Makes a finished one current, durably, and forgets the one before. Promoting the current one does nothing.
    fn promote(&self, blob: &Arc<dyn SnapshotBlob>) -> io::Result<()>;
}

fn invalid(what: impl std::fmt::Display) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("snapshot: {what}"))
}

/// Writes the frame of a snapshot around an image's bytes.
pub(crate) struct SnapshotWriter {
    sink: Box<dyn SnapshotSink>,
    crc: u32,
    length: u64,
}

impl SnapshotWriter {
    pub(crate) fn create(store: &dyn SnapshotStore, metadata: &SnapshotMetadata) -> io::Result<Self> {
        let mut sink = store.create()?;
        let metadata = seal(&metadata.to_bytes());
        let mut head = BytesMut::new();
        head.put_slice(MAGIC);
        head.put_u8(FORMAT);
        head.put_u32(metadata.len() as u32);
        head.put_slice(&metadata);
        sink.write(&head)?;
        Ok(Self { sink, crc: 0, length: 0 })
    }

    pub(crate) fn finish(mut self) -> io::Result<Arc<dyn SnapshotBlob>> {
        let mut tail = BytesMut::new();
        tail.put_u64(self.length);
        tail.put_u32(self.crc);
        self.sink.write(&tail)?;
        self.sink.finish()
    }
}

impl Write for SnapshotWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.sink.write(bytes)?;
        self.crc = crc32c::crc32c_append(self.crc, bytes);
        self.length += bytes.len() as u64;
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A snapshot whose frame and checksum were verified.
#[derive(Clone)]
pub(crate) struct VerifiedSnapshot {
    pub(crate) blob: Arc<dyn SnapshotBlob>,
    pub(crate) metadata: SnapshotMetadata,
    body: u64,
    end: u64,
}

impl VerifiedSnapshot {
    /// Reads the whole blob once.
    pub(crate) fn verify(blob: Arc<dyn SnapshotBlob>) -> io::Result<Self> {
        let head = blob.read_at(0, MAGIC.len() + 5)?;
        if &head[..4] != MAGIC {
            return Err(invalid("not one"));
        }
        if head[4] == 0 || head[4] > FORMAT {
            return Err(invalid(format!("format {} is newer than {FORMAT}", head[4])));
        }
        let length = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
        if length > MAX_METADATA {
            return Err(invalid("impossible metadata length"));
        }
        let body = head.len() as u64 + u64::from(length);
        let sealed = blob.read_at(head.len() as u64, length as usize)?;
        let metadata = unseal(&sealed).and_then(SnapshotMetadata::from_bytes).map_err(invalid)?;
        let end = blob.size().checked_sub(TRAILER).filter(|end| *end >= body).ok_or_else(|| invalid("cut short"))?;
        let snapshot = Self { blob, metadata, body, end };
        snapshot.check_trailer()?;
        Ok(snapshot)
    }

    fn check_trailer(&self) -> io::Result<()> {
        let mut trailer = Reader::new(self.blob.read_at(self.end, TRAILER as usize)?);
        let length = trailer.u64("length").map_err(invalid)?;
        let expected = trailer.u32("checksum").map_err(invalid)?;
        let mut crc = 0;
        let mut reader = self.body();
        let mut chunk = vec![0; CHUNK];
        loop {
            match reader.read(&mut chunk)? {
                0 => break,
                n => crc = crc32c::crc32c_append(crc, &chunk[..n]),
            }
        }
        if length != self.end - self.body || crc != expected {
            return Err(invalid("checksum does not fit"));
        }
        Ok(())
    }

    /// The image's bytes.
    pub(crate) fn body(&self) -> SnapshotBody<'_> {
        SnapshotBody { blob: &*self.blob, at: self.body, end: self.end }
    }
}

/// Reads an image's bytes out of a snapshot.
pub(crate) struct SnapshotBody<'a> {
    blob: &'a dyn SnapshotBlob,
    at: u64,
    end: u64,
}

impl Read for SnapshotBody<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let n = usize::try_from(self.end - self.at).unwrap_or(usize::MAX).min(out.len()).min(CHUNK);
        let bytes = self.blob.read_at(self.at, n)?;
        out[..n].copy_from_slice(&bytes);
        self.at += n as u64;
        Ok(n)
    }
}

/// Copies a blob of another store into this one.
fn copy(store: &dyn SnapshotStore, blob: &dyn SnapshotBlob) -> io::Result<Arc<dyn SnapshotBlob>> {
    let mut sink = store.create()?;
    let mut at = 0;
    while at < blob.size() {
        let bytes = blob.read_at(at, usize::try_from(blob.size() - at).unwrap_or(CHUNK).min(CHUNK))?;
        sink.write(&bytes)?;
        at += bytes.len() as u64;
    }
    sink.finish()
}

/// The one file with a lasting name.
const CURRENT: &str = "metadata.snapshot";

/// Snapshots as files of one directory.
pub struct SnapshotFiles {
    directory: PathBuf,
    next: AtomicU64,
    current: Mutex<Option<Arc<dyn SnapshotBlob>>>,
}

impl SnapshotFiles {
    /// Opens (and makes) `directory`; removes what an interrupted write left.
    pub fn open(directory: impl Into<PathBuf>) -> io::Result<Self> {
        let directory = directory.into();
        fs::create_dir_all(&directory)?;
        for entry in fs::read_dir(&directory)? {
            let path = entry?.path();
            if path.extension().is_some_and(|e| e == "tmp") {
                fs::remove_file(&path)?;
            }
        }
        let current: Option<Arc<dyn SnapshotBlob>> = match File::open(directory.join(CURRENT)) {
            Ok(file) => Some(Arc::new(SnapshotFile { size: file.metadata()?.len(), file, temporary: None })),
            Err(e) if e.kind() == io::ErrorKind::NotFound => None,
            Err(e) => return Err(e),
        };
        Ok(Self { directory, next: AtomicU64::new(0), current: Mutex::new(current) })
    }
}

impl SnapshotStore for SnapshotFiles {
    fn current(&self) -> io::Result<Option<Arc<dyn SnapshotBlob>>> {
        Ok(self.current.lock().clone())
    }

    fn create(&self) -> io::Result<Box<dyn SnapshotSink>> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let path = self.directory.join(format!("{number}.tmp"));
        let file = File::options().create_new(true).read(true).write(true).open(&path)?;
        Ok(Box::new(FileSink { blob: SnapshotFile { file, size: 0, temporary: Some(path) } }))
    }

    fn promote(&self, blob: &Arc<dyn SnapshotBlob>) -> io::Result<()> {
        let mut current = self.current.lock();
        if current.as_ref().is_some_and(|current| Arc::ptr_eq(current, blob)) {
            return Ok(());
        }
        let blob = match blob.temporary_path() {
            Some(path) if path.starts_with(&self.directory) => blob.clone(),
            _ => copy(self, &**blob)?,
        };
        let path = blob.temporary_path().ok_or_else(|| invalid("a copy has no file"))?;
        fs::rename(path, self.directory.join(CURRENT))?;
        File::open(&self.directory)?.sync_all()?;
        *current = Some(blob);
        Ok(())
    }
}

/// An open file. It stays readable after another took its name.
struct SnapshotFile {
    file: File,
    size: u64,
    /// Removed with this value, unless it was renamed before.
    temporary: Option<PathBuf>,
}

impl SnapshotBlob for SnapshotFile {
    fn size(&self) -> u64 {
        self.size
    }
    fn read_at(&self, offset: u64, n: usize) -> io::Result<Bytes> {
        if self.size.checked_sub(offset).is_none_or(|left| left < n as u64) {
            return Err(invalid("cut short"));
        }
        let mut out = vec![0; n];
        self.file.read_exact_at(&mut out, offset)?;
        Ok(out.into())
    }
    fn temporary_path(&self) -> Option<&Path> {
        self.temporary.as_deref()
    }
}

impl Drop for SnapshotFile {
    fn drop(&mut self) {
        if let Some(path) = &self.temporary {
            // Already gone when it was renamed; left for the next open when the disk refuses.
            let _ = fs::remove_file(path);
        }
    }
}

struct FileSink {
    blob: SnapshotFile,
}

impl SnapshotSink for FileSink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.blob.size += bytes.len() as u64;
        self.blob.file.write_all(bytes)
    }
    fn finish(self: Box<Self>) -> io::Result<Arc<dyn SnapshotBlob>> {
        self.blob.file.sync_all()?;
        Ok(Arc::new(self.blob))
    }
}

/// Snapshots in memory; cloning shares them, so they survive a simulated crash.
#[derive(Clone, Default)]
pub struct MemorySnapshots {
    current: Arc<Mutex<Option<Arc<dyn SnapshotBlob>>>>,
    refused: Arc<Mutex<Option<io::ErrorKind>>>,
}

impl MemorySnapshots {
    /// Erases it.
    pub fn wipe(&self) {
        *self.current.lock() = None;
    }

    /// Lets every new snapshot fail from now on.
    pub fn refuse(&self, kind: Option<io::ErrorKind>) {
        *self.refused.lock() = kind;
    }
}

impl SnapshotStore for MemorySnapshots {
    fn current(&self) -> io::Result<Option<Arc<dyn SnapshotBlob>>> {
        Ok(self.current.lock().clone())
    }
    fn create(&self) -> io::Result<Box<dyn SnapshotSink>> {
        if let Some(kind) = *self.refused.lock() {
            return Err(kind.into());
        }
        Ok(Box::new(BytesMut::new()))
    }
    fn promote(&self, blob: &Arc<dyn SnapshotBlob>) -> io::Result<()> {
        *self.current.lock() = Some(blob.clone());
        Ok(())
    }
}

impl SnapshotSink for BytesMut {
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.put_slice(bytes);
        Ok(())
    }
    fn finish(self: Box<Self>) -> io::Result<Arc<dyn SnapshotBlob>> {
        Ok(Arc::new(self.freeze()))
    }
}

impl SnapshotBlob for Bytes {
    fn size(&self) -> u64 {
        self.len() as u64
    }
    fn read_at(&self, offset: u64, n: usize) -> io::Result<Bytes> {
        let start = usize::try_from(offset).map_err(invalid)?;
        let end = start.checked_add(n).filter(|end| *end <= self.len()).ok_or_else(|| invalid("cut short"))?;
        Ok(self.slice(start..end))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(store: &dyn SnapshotStore, body: &[u8]) -> Arc<dyn SnapshotBlob> {
        let metadata = SnapshotMetadata {
            cluster_id: ClusterId::random(),
            last: None,
            membership: StoredMembershipConfig::default(),
        };
        let mut writer = SnapshotWriter::create(store, &metadata).expect("create");
        writer.write_all(body).expect("write");
        writer.finish().expect("finish")
    }

    fn body(store: &dyn SnapshotStore) -> Option<Vec<u8>> {
        let blob = store.current().expect("current")?;
        let mut body = Vec::new();
        VerifiedSnapshot::verify(blob).expect("verify").body().read_to_end(&mut body).expect("read");
        Some(body)
    }

    #[test]
    fn a_promoted_file_is_there_after_reopening_and_an_unfinished_one_is_not() {
        let directory = tempfile::tempdir().expect("directory");
        let store = SnapshotFiles::open(directory.path()).expect("open");
        let first = write(&store, b"one");
        assert_eq!(body(&store), None, "not promoted yet");
        store.promote(&first).expect("promote");
        store.promote(&first).expect("twice is once");
        store.promote(&write(&MemorySnapshots::default(), b"from elsewhere")).expect("copied");
        let unfinished = store.create().expect("create");
        std::mem::forget(unfinished);
        drop((store, first));
        let store = SnapshotFiles::open(directory.path()).expect("reopen");
        assert_eq!(body(&store), Some(b"from elsewhere".to_vec()));
        let names: Vec<_> =
            fs::read_dir(directory.path()).expect("list").map(|e| e.expect("entry").file_name()).collect();
        assert_eq!(names, [CURRENT]);
    }

    #[test]
    fn any_flipped_bit_or_lost_byte_is_noticed() {
        let store = MemorySnapshots::default();
        let blob = write(&store, b"the whole image");
        let bytes = blob.read_at(0, blob.size() as usize).expect("read");
        for bit in 0..bytes.len() * 8 {
            let mut broken = bytes.to_vec();
            broken[bit / 8] ^= 1 << (bit % 8);
            assert!(VerifiedSnapshot::verify(Arc::new(Bytes::from(broken))).is_err(), "bit {bit}");
        }
        for n in 0..bytes.len() {
            assert!(VerifiedSnapshot::verify(Arc::new(bytes.slice(..n))).is_err(), "{n} bytes");
        }
    }
}
