//! [`DiskReserve`]: space that nobody but a store that has met the end of the disk may use.
//!
//! A store that met the end needs space to open again (it writes out what it replays), and only an open store gives space back
//! (retention, deletions). The watermarks cannot promise that space: others write to the disk too, and a burst may be over before
//! it is measured. So it is allocated, as a file in the data directory that is deleted when it is needed.
//!
//! | reserve | becomes | when |
//! |---|---|---|
//! | held | out | a store met the end of the disk ([`DiskReserve::release`]), or a start finds less than an open needs, or no reserve and no room for it |
//! | out | held | there is room for it above the soft watermark, and as much again ([`DiskReserve::make`]) |
//!
//! **It counts as used, in or out**: what is out is owed ([`DiskReserve::owed`]), so that its release is not taken for room, and its
//! making changes no level.
//!
//! **What it must hold**: what the partition store replays and writes out at an open (its memtables are bounded by four fifths of the
//! reserve: [`DiskReserve::write_buffer_bytes`]), and what the metadata log writes until space has been given back. On a small file system
//! it is an eighth of it at most. It is a limit as well: whoever else takes its place while it is out, or commits offsets until it
//! is used up, brings back the case in which somebody has to make room by hand.
//!
//! **Crashes** leave a whole file, a part of one, or none. A file of another size, or one that is not really allocated, is removed at
//! the next start and counts as out; so nothing has to be synced in any order.
//!
//! One lock, held over the work on the file: a release never meets a half-made file. A release asks the making to end first.

use parking_lot::Mutex;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

const FILE: &str = "reserve";
/// Written at once where the file system cannot allocate.
const PIECE: usize = 1 << 20;
/// An open may write so much of the reserve beside what it replays.
const OPENING_PART: u64 = 4;

/// The reserve of one data directory.
pub struct DiskReserve {
    path: PathBuf,
    size: u64,
    held: AtomicU64,
    /// It was needed, and has not been made again.
    released: AtomicBool,
    wanted_back: AtomicBool,
    working: Mutex<()>,
}

impl DiskReserve {
    /// The reserve of a directory on a file system of `total` bytes: a file that is there is held, if it is whole. Blocks.
    pub fn open(directory: &Path, bytes: u64, total: u64) -> io::Result<Self> {
        let reserve = Self {
            path: directory.join(FILE),
            size: bytes.min(total / 8),
            held: AtomicU64::new(0),
            released: AtomicBool::new(false),
            wanted_back: AtomicBool::new(false),
            working: Mutex::new(()),
        };
        match fs::metadata(&reserve.path) {
            Ok(found) if found.len() == reserve.size && is_allocated(&found) => {
                reserve.held.store(reserve.size, Ordering::Release);
            }
            Ok(found) => {
                tracing::info!(
                    found = found.len(),
                    wanted = reserve.size,
                    "the reserve on the disk is not whole: made anew"
                );
                reserve.remove()?;
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        Ok(reserve)
    }

    /// How large it is when it is held.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// What is missing of it: space that must not be taken for room.
    pub fn owed(&self) -> u64 {
        self.size.saturating_sub(self.held.load(Ordering::Acquire))
    }

    /// Whether it was needed and is not back.
    pub fn is_released(&self) -> bool {
        self.released.load(Ordering::Acquire)
    }

    /// What the partition store may keep in memory, at most `wanted`: the reserve must be able to take it.
    pub fn write_buffer_bytes(&self, wanted: usize) -> usize {
        match usize::try_from(self.size / 5 * 4).unwrap_or(usize::MAX) {
            0 => wanted,
            fits => wanted.min(fits),
        }
    }

    /// Whether stores can be opened with so much available, where `replay` bytes are replayed.
    pub fn is_enough_to_open(&self, available: u64, replay: u64) -> bool {
        available >= replay.saturating_add(self.size / OPENING_PART)
    }

    /// Gives the space free, for a store that needs it. Nothing happens if that was done before. Blocks.
    pub fn release(&self) -> io::Result<()> {
        self.wanted_back.store(true, Ordering::Release);
        let _working = self.working.lock();
        self.wanted_back.store(false, Ordering::Release);
        if self.size == 0 {
            return Ok(());
        }
        self.released.store(true, Ordering::Release);
        if self.held.load(Ordering::Acquire) > 0 {
            self.remove()?;
            tracing::warn!(bytes = self.size, "the disk is full: its reserve is in use until there is space again");
        }
        Ok(())
    }

    /// Whether it is out and could be made now: with `headroom` left beside what is owed for it, not below `soft`.
    pub fn is_due(&self, headroom: u64, soft: u64) -> bool {
        self.owed() > 0 && headroom >= soft.max(self.size)
    }

    /// Allocates it. Blocks, long where the file system cannot allocate without writing.
    pub fn make(&self) -> io::Result<()> {
        let _working = self.working.lock();
        if self.owed() == 0 {
            return Ok(());
        }
        let made = File::create(&self.path).and_then(|file| self.fill(file));
        if let Err(error) = made {
            self.remove()?;
            return Err(error);
        }
        if self.released.swap(false, Ordering::AcqRel) {
            tracing::info!(bytes = self.size, "the reserve of the disk is back");
        }
        Ok(())
    }

    fn fill(&self, mut file: File) -> io::Result<()> {
        use rustix::fs::{FallocateFlags, fallocate};
        // From here on it is either in its place or room: counted as owed as well, it would look like a disk that fills up.
        self.held.store(self.size, Ordering::Release);
        match fallocate(&file, FallocateFlags::empty(), 0, self.size) {
            Ok(()) => {}
            Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOSYS) => self.write(&mut file)?,
            Err(error) => return Err(error.into()),
        }
        file.sync_all()?;
        match is_allocated(&file.metadata()?) {
            true => Ok(()),
            false => Err(io::Error::other("the file system does not really allocate what it says")),
        }
    }

    /// Bytes that no file system stores in less space.
    fn write(&self, file: &mut File) -> io::Result<()> {
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let mut piece = vec![0; PIECE];
        let mut left = self.size;
        self.held.store(0, Ordering::Release);
        while left > 0 {
            if self.wanted_back.load(Ordering::Acquire) {
                return Err(io::Error::new(io::ErrorKind::Interrupted, "a store needs the space"));
            }
            for word in piece.chunks_exact_mut(8) {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                word.copy_from_slice(&state.to_ne_bytes());
            }
            let length = PIECE.min(usize::try_from(left).unwrap_or(PIECE));
            file.write_all(&piece[..length])?;
            left -= length as u64;
            self.held.store(self.size - left, Ordering::Release);
        }
        Ok(())
    }

    fn remove(&self) -> io::Result<()> {
        self.held.store(0, Ordering::Release);
        match fs::remove_file(&self.path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }
}

fn is_allocated(file: &fs::Metadata) -> bool {
    file.blocks().saturating_mul(512) >= file.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn open(directory: &Path) -> DiskReserve {
        DiskReserve::open(directory, 4 * MIB, 1000 * MIB).unwrap()
    }

    #[test]
    fn it_is_really_allocated_and_found_again() {
        let temp = tempfile::tempdir().unwrap();
        let reserve = open(temp.path());
        assert_eq!((reserve.owed(), reserve.is_released()), (4 * MIB, false));
        reserve.make().unwrap();
        let file = fs::metadata(temp.path().join(FILE)).unwrap();
        assert!(file.len() == 4 * MIB && file.blocks() * 512 >= 4 * MIB, "{file:?}");
        assert_eq!(reserve.owed(), 0);
        assert_eq!(open(temp.path()).owed(), 0);
    }

    #[test]
    fn both_stores_may_release_it_and_it_comes_back_once() {
        let temp = tempfile::tempdir().unwrap();
        let reserve = open(temp.path());
        reserve.make().unwrap();
        for _ in 0..2 {
            reserve.release().unwrap();
            assert!(!temp.path().join(FILE).exists());
            assert_eq!((reserve.owed(), reserve.is_released()), (4 * MIB, true));
        }
        for _ in 0..2 {
            reserve.make().unwrap();
            assert_eq!((reserve.owed(), reserve.is_released()), (0, false));
        }
    }

    #[test]
    fn a_file_of_another_size_and_a_sparse_one_are_no_reserve() {
        for (length, sparse) in [(MIB, false), (8 * MIB, false), (4 * MIB, true)] {
            let temp = tempfile::tempdir().unwrap();
            let file = File::create(temp.path().join(FILE)).unwrap();
            match sparse {
                true => file.set_len(length).unwrap(),
                false => (&file).write_all(&vec![1; length as usize]).unwrap(),
            }
            file.sync_all().unwrap();
            let reserve = open(temp.path());
            assert_eq!((reserve.owed(), reserve.is_released()), (4 * MIB, false), "{length} {sparse}");
            assert!(!temp.path().join(FILE).exists());
        }
    }

    #[test]
    fn where_nothing_can_be_allocated_it_is_written_and_a_store_in_need_ends_that() {
        let temp = tempfile::tempdir().unwrap();
        let reserve = open(temp.path());
        let path = temp.path().join("written");
        reserve.write(&mut File::create(&path).unwrap()).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().len(), 4 * MIB);
        reserve.wanted_back.store(true, Ordering::Release);
        let ended = reserve.write(&mut File::create(&path).unwrap());
        assert_eq!(ended.unwrap_err().kind(), io::ErrorKind::Interrupted);
    }

    #[test]
    fn its_size_fits_the_disk_and_memory_fits_it() {
        let temp = tempfile::tempdir().unwrap();
        let reserve = DiskReserve::open(temp.path(), 320 * MIB, 160 * MIB).unwrap();
        assert_eq!((reserve.size(), reserve.write_buffer_bytes(256 << 20)), (20 * MIB, 16 << 20));
        let off = DiskReserve::open(temp.path(), 0, 160 * MIB).unwrap();
        assert_eq!((off.size(), off.owed(), off.write_buffer_bytes(256 << 20)), (0, 0, 256 << 20));
        off.release().unwrap();
        assert!(!off.is_released() && !off.is_due(u64::MAX, 0));
    }

    #[test]
    fn it_comes_back_only_where_as_much_is_left_beside_it() {
        let temp = tempfile::tempdir().unwrap();
        let reserve = open(temp.path());
        assert!(!reserve.is_due(4 * MIB, 5 * MIB) && reserve.is_due(5 * MIB, 5 * MIB));
        assert!(!reserve.is_due(3 * MIB, 0) && reserve.is_due(4 * MIB, 0), "without watermarks too");
        assert!(reserve.is_enough_to_open(3 * MIB, 2 * MIB) && !reserve.is_enough_to_open(2 * MIB, 2 * MIB));
    }
}
