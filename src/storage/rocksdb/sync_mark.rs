//! The second witness: a small file beside RocksDB that names the last commit known to be synced.
//!
//! Two slots, 4 KiB apart, written in turn, each with a counter and a checksum: a torn write of one leaves the other. A
//! thread of its own writes it once a second while commits happen, and at a clean close, so that no commit waits for it. It
//! only ever names commits that are on disk already; so what it says is true whenever it gets there.

use super::data_directory::sync_parent;
use parking_lot::{Condvar, Mutex};
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

const SLOT_DISTANCE: u64 = 4096;
const SLOT_BYTES: usize = 28;
const MAGIC: [u8; 8] = *b"rookmrk1";

/// What an existing file says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mark {
    /// There is no file: nothing was ever stored here, or someone removed it.
    Absent,
    /// Neither slot is whole.
    Damaged,
    /// This commit was synced.
    Commit(u64),
}

/// The file, open for writing.
pub struct SyncMark {
    file: File,
    counter: u64,
    commit: u64,
}

impl SyncMark {
    /// Opens or makes the file, and tells what it said.
    pub fn open(path: &Path) -> io::Result<(Self, Mark)> {
        let existed = path.try_exists()?;
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
        let newest = read_slot(&file, 0)?.max(read_slot(&file, SLOT_DISTANCE)?);
        let found = match newest {
            Some((_, commit)) => Mark::Commit(commit),
            None if existed => Mark::Damaged,
            None => Mark::Absent,
        };
        let (counter, commit) = newest.unwrap_or((0, 0));
        let mut mark = Self { file, counter, commit };
        if newest.is_none() {
            mark.write(0)?;
            sync_parent(path)?;
        }
        Ok((mark, found))
    }

    /// The commit last written.
    pub fn commit(&self) -> u64 {
        self.commit
    }

    /// Names a commit, durably.
    pub fn write(&mut self, commit: u64) -> io::Result<()> {
        let counter = self.counter + 1;
        let mut slot = [0; SLOT_BYTES];
        slot[..8].copy_from_slice(&MAGIC);
        slot[8..16].copy_from_slice(&counter.to_be_bytes());
        slot[16..24].copy_from_slice(&commit.to_be_bytes());
        let checksum = crc32c::crc32c(&slot[..24]);
        slot[24..].copy_from_slice(&checksum.to_be_bytes());
        self.file.write_all_at(&slot, (counter % 2) * SLOT_DISTANCE)?;
        self.file.sync_data()?;
        (self.counter, self.commit) = (counter, commit);
        Ok(())
    }
}

/// A slot that is not there, or not whole, is `None`; a disk that cannot read it is an error, and no evidence of anything.
fn read_slot(file: &File, at: u64) -> io::Result<Option<(u64, u64)>> {
    let mut slot = [0; SLOT_BYTES];
    match file.read_exact_at(&mut slot, at) {
        Ok(()) => Ok(parse_slot(&slot)),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
        Err(error) => Err(error),
    }
}

fn parse_slot(slot: &[u8; SLOT_BYTES]) -> Option<(u64, u64)> {
    let (content, checksum) = slot.split_last_chunk::<4>()?;
    if content[..8] != MAGIC || crc32c::crc32c(content).to_be_bytes() != *checksum {
        return None;
    }
    let counter = u64::from_be_bytes(*content[8..].first_chunk()?);
    Some((counter, u64::from_be_bytes(*content[16..].first_chunk()?)))
}

#[derive(Default)]
struct Noted {
    synced: u64,
    closing: bool,
}

/// The thread that writes the file.
pub struct SyncMarkWriter {
    noted: Arc<(Mutex<Noted>, Condvar)>,
    thread: JoinHandle<()>,
}

impl SyncMarkWriter {
    /// Starts it.
    pub fn start(mark: SyncMark, interval: Duration) -> io::Result<Self> {
        let first = Noted { synced: mark.commit(), closing: false };
        let noted = Arc::new((Mutex::new(first), Condvar::new()));
        let shared = noted.clone();
        let thread =
            std::thread::Builder::new().name("sync-mark".into()).spawn(move || run(mark, &shared, interval))?;
        Ok(Self { noted, thread })
    }

    /// A handle for the commit thread.
    pub fn handle(&self) -> SyncMarkHandle {
        SyncMarkHandle(self.noted.clone())
    }

    /// The last commit known to be synced.
    pub fn synced(&self) -> u64 {
        self.noted.0.lock().synced
    }

    /// Writes what was noted last, and ends.
    pub fn close(self) {
        self.noted.0.lock().closing = true;
        self.noted.1.notify_one();
        // A panic of the thread has been reported; there is nothing else to do about it here.
        let _ = self.thread.join();
    }
}

/// Tells the thread what is synced.
pub struct SyncMarkHandle(Arc<(Mutex<Noted>, Condvar)>);

impl SyncMarkHandle {
    /// This commit is on disk.
    pub fn synced(&self, commit: u64) {
        self.0.0.lock().synced = commit;
    }
}

fn run(mut mark: SyncMark, shared: &(Mutex<Noted>, Condvar), interval: Duration) {
    loop {
        let (synced, closing) = {
            let mut noted = shared.0.lock();
            if !noted.closing {
                shared.1.wait_for(&mut noted, interval);
            }
            (noted.synced, noted.closing)
        };
        if synced > mark.commit()
            && let Err(error) = mark.write(synced)
        {
            // The witness stays behind, which weakens it and harms nothing; the store's own writes tell about the disk.
            tracing::warn!(%error, "could not write the sync mark");
        }
        if closing {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_torn_slot_leaves_the_other_and_two_are_damage() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("sync.mark");
        let (mut mark, found) = SyncMark::open(&path).unwrap();
        assert_eq!(found, Mark::Absent);
        mark.write(7).unwrap();
        mark.write(9).unwrap();
        assert_eq!(SyncMark::open(&path).unwrap().1, Mark::Commit(9));
        let file = OpenOptions::new().write(true).open(&path).unwrap();
        file.write_all_at(b"torn", (mark.counter % 2) * SLOT_DISTANCE).unwrap();
        assert_eq!(SyncMark::open(&path).unwrap().1, Mark::Commit(7));
        file.write_all_at(b"torn", ((mark.counter + 1) % 2) * SLOT_DISTANCE).unwrap();
        assert_eq!(SyncMark::open(&path).unwrap().1, Mark::Damaged);
    }
}
