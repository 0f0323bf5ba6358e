//! How much room the data directory has: two watermarks over one figure, with hysteresis.
//!
//! The figure is the **headroom**: what the file system has left for us, less what is **owed**: what is in memory only and still has to
//! be written beside its copy in the write-ahead log ([`LogStore::unflushed_bytes`](super::log_store::LogStore::unflushed_bytes)), since a store
//! that runs out of space while it writes out its memory has failed; and what is missing of the reserve
//! ([`DiskReserve::owed`](super::disk_reserve::DiskReserve::owed)).
//!
//! | level | entered when | left (upwards) when |
//! |---|---|---|
//! | [`DiskSpace::Ample`] | | |
//! | [`DiskSpace::Low`] | headroom < soft watermark | headroom ≥ soft + a quarter of it |
//! | [`DiskSpace::Reserve`] | headroom < hard watermark | headroom ≥ hard + a quarter of it |
//!
//! On a small file system the watermarks are a quarter and an eighth of it at most. A watermark of 0 is never passed. While the reserve is out
//! both are at least its size: it is not for clients' records.
//!
//! This is a policy, not a promise: whoever else writes to the disk can fill it at any moment, and a store that meets the end of it
//! all the same fails and is opened anew ([`StorageError::DiskFull`](super::StorageError::DiskFull)), with the space of the reserve.

use rookery_raft::controller::DiskSpace;
use std::io;
use std::path::Path;

/// A file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct FileSystemSpace {
    /// Bytes that this process may still write.
    pub available: u64,
    /// Bytes there are.
    pub total: u64,
}

impl FileSystemSpace {
    /// Of the file system that holds this path. May block.
    pub fn of(path: &Path) -> io::Result<Self> {
        let found = rustix::fs::statvfs(path)?;
        let bytes = |blocks: u64| blocks.saturating_mul(found.f_frsize);
        Ok(Self { available: bytes(found.f_bavail), total: bytes(found.f_blocks) })
    }
}

/// What is to be kept free, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Watermarks {
    /// Below it clients' records are refused.
    pub soft: u64,
    /// Below it nothing but the cluster's own small writes is taken.
    pub hard: u64,
}

impl Watermarks {
    /// As they count on a file system of this size.
    pub fn within(self, total: u64) -> Self {
        Self { soft: self.soft.min(total / 4), hard: self.hard.min(total / 8) }
    }
}

/// The level now, from one measurement to the next.
#[derive(Debug)]
pub struct SpaceGauge {
    watermarks: Watermarks,
    level: DiskSpace,
}

impl SpaceGauge {
    /// Ample until measured.
    pub fn new(watermarks: Watermarks) -> Self {
        Self { watermarks, level: DiskSpace::Ample }
    }

    /// Takes in a measurement, in which no watermark counts less than `least`: the level from here on.
    pub fn measure(&mut self, space: FileSystemSpace, owed: u64, least: u64) -> DiskSpace {
        let headroom = space.available.saturating_sub(owed);
        let Watermarks { soft, hard } = self.watermarks.within(space.total);
        let (soft, hard) = (soft.max(least), hard.max(least));
        // Whoever is below a watermark leaves it only well above it.
        let is_below = |watermark: u64, was_below: bool| {
            headroom < if was_below { watermark.saturating_add(watermark / 4) } else { watermark }
        };
        self.level = if is_below(hard, self.level == DiskSpace::Reserve) {
            DiskSpace::Reserve
        } else if is_below(soft, self.level >= DiskSpace::Low) {
            DiskSpace::Low
        } else {
            DiskSpace::Ample
        };
        self.level
    }
}

/// The last measurement.
#[derive(Debug, Clone, Copy, Default)]
pub struct SpaceReading {
    /// What it means.
    pub level: DiskSpace,
    /// What was measured.
    pub space: FileSystemSpace,
    /// The reserve was needed and is not back.
    pub reserve_is_out: bool,
    /// There is less than stores need to open.
    pub is_too_full_to_open: bool,
}

impl SpaceReading {
    /// What is wrong, in words.
    pub fn trouble(&self) -> Option<String> {
        let free = self.space.available >> 20;
        let reserve = if self.reserve_is_out { ", its reserve is out" } else { "" };
        match self.level {
            DiskSpace::Ample if !self.reserve_is_out => None,
            DiskSpace::Ample => {
                Some(format!("the disk of the data directory was full, its reserve is out ({free} MiB free)"))
            }
            DiskSpace::Low => Some(format!(
                "the disk of the data directory is nearly full ({free} MiB free{reserve}): records are refused until there is \
                 space; delete topics, shorten retention, or enlarge the disk"
            )),
            DiskSpace::Reserve => Some(format!(
                "the disk of the data directory is full ({free} MiB free{reserve}): nothing is written but metadata, committed \
                 offsets and deletions; delete topics, shorten retention, or enlarge the disk"
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use DiskSpace::{Ample, Low, Reserve};

    const MIB: u64 = 1 << 20;

    fn gauge(soft: u64, hard: u64) -> impl FnMut(u64, u64) -> DiskSpace {
        let mut gauge = SpaceGauge::new(Watermarks { soft: soft * MIB, hard: hard * MIB });
        move |available, unflushed| {
            gauge.measure(FileSystemSpace { available: available * MIB, total: 1000 * MIB }, unflushed * MIB, 0)
        }
    }

    #[test]
    fn levels_are_entered_at_their_watermark_and_left_well_above_it() {
        let mut at = gauge(100, 40);
        let seen = [500, 100, 99, 110, 124, 125, 99, 40, 39, 49, 50, 124, 125, 10, 500].map(|free| at(free, 0));
        let expected =
            [Ample, Ample, Low, Low, Low, Ample, Low, Low, Reserve, Reserve, Low, Low, Ample, Reserve, Ample];
        assert_eq!(seen, expected);
    }

    #[test]
    fn what_memory_owes_the_disk_is_no_room() {
        let mut at = gauge(100, 40);
        assert_eq!((at(150, 0), at(150, 60), at(150, 111), at(150, 400)), (Ample, Low, Reserve, Reserve));
    }

    #[test]
    fn a_small_file_system_can_be_used_and_zero_is_never_passed() {
        let mut at = gauge(5000, 4000);
        assert_eq!((at(250, 0), at(249, 0), at(125, 0), at(124, 0)), (Ample, Low, Low, Reserve));
        let mut off = gauge(0, 0);
        assert_eq!(off(0, 10), Ample);
        let mut off = SpaceGauge::new(Watermarks { soft: 0, hard: 0 });
        let mut reserve_is_out = |available| off.measure(FileSystemSpace { available, total: 1000 }, 10, 10);
        assert_eq!((reserve_is_out(19), reserve_is_out(21), reserve_is_out(22)), (Reserve, Reserve, Ample));
    }

    #[test]
    fn a_directory_has_some_space() {
        let space = FileSystemSpace::of(Path::new("/")).unwrap();
        assert!(space.available <= space.total && space.total > 0, "{space:?}");
        assert!(FileSystemSpace::of(Path::new("/no/such/place")).is_err());
    }
}
