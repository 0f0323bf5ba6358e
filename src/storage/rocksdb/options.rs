//! RocksDB's options. The figures were measured; a change needs a measurement.

use ::rocksdb::{DBCompressionType, DBRecoveryMode, LogLevel, Options, WriteBufferManager};
use rustix::fs::{Mode, OFlags};
use std::path::Path;

const MIB: usize = 1 << 20;

/// Options of the database at `path`, in a directory that exists.
pub fn database(path: &Path, write_buffers: &WriteBufferManager) -> Options {
    let mut options = Options::default();
    options.create_if_missing(true);
    options.create_missing_column_families(true);
    // A power cut may persist later pages and not earlier ones: stricter modes could refuse to open on every replica at
    // once. What this mode drops silently, the witnesses notice.
    options.set_wal_recovery_mode(DBRecoveryMode::PointInTime);
    // All column families at one point of one history; small ones never hold a WAL back.
    options.set_atomic_flush(true);
    options.set_write_buffer_manager(write_buffers);
    // Reopening costs about five CPU seconds per GB of WAL.
    options.set_max_total_wal_size(512 * MIB as u64);
    // Recycling gains nothing with sync, and RocksDB has lost data on recovery with it.
    options.set_recycle_log_file_num(0);
    // Background write-back must not pile up in front of a commit's fsync.
    options.set_bytes_per_sync(MIB as u64);
    // The copy of blob files into the page cache was a fifth of a broker's CPU, and pushed out what is read again. Readers close
    // behind the end have a cache of ours.
    options.set_use_direct_io_for_flush_and_compaction(path.parent().is_some_and(takes_direct_io));
    // A batch is read with those that follow it: the kernel may read ahead.
    options.set_advise_random_on_open(false);
    options.set_max_background_jobs(2);
    options.set_log_level(LogLevel::Warn);
    options.set_keep_log_file_num(4);
    // The store is closed and reopened by us, under a new generation.
    super::no_resume::switch_off_automatic_resume(&mut options);
    options
}

/// Options of every column family: keys in a tiny index, values from 512 bytes on in blob files.
pub fn column_family() -> Options {
    let mut options = Options::default();
    options.set_write_buffer_size(32 * MIB);
    options.set_max_write_buffer_number(4);
    options.set_enable_blob_files(true);
    options.set_min_blob_size(512);
    options.set_blob_file_size(256 * MIB as u64);
    // A blob file goes when its last value has died; moving live ones doubles what is written.
    options.set_enable_blob_gc(false);
    // Producers compress.
    options.set_blob_compression_type(DBCompressionType::None);
    options.set_compression_type(DBCompressionType::None);
    // The index is tiny: an append never waits for its compaction.
    options.set_level_zero_slowdown_writes_trigger(1 << 20);
    options.set_level_zero_stop_writes_trigger(1 << 20);
    options.set_soft_pending_compaction_bytes_limit(0);
    options.set_hard_pending_compaction_bytes_limit(0);
    options
}

/// Whether files in a directory can be written past the page cache: some file systems in memory, in user space or on the
/// network cannot.
fn takes_direct_io(dir: &Path) -> bool {
    let probe = dir.join("direct.probe");
    let flags = OFlags::CREATE | OFlags::WRONLY | OFlags::CLOEXEC | OFlags::DIRECT;
    let opened = rustix::fs::open(&probe, flags, Mode::RUSR | Mode::WUSR);
    // Where it was not made there is nothing to remove.
    let _ = std::fs::remove_file(&probe);
    opened.is_ok()
}
