//! Looks at the space on the data directory's disk, several times a second, for as long as the node runs, and keeps its reserve.
//!
//! One task measures; everybody else reads the last reading. A reading is old by [`INTERVAL`] at most on a machine that has
//! time, while the watermarks are many times what can be written meanwhile. Whoever met the end of the disk all the same says so
//! ([`Room::met_the_end`]): the reserve is given free, and the space measured at once.
//!
//! The reserve is released by whoever needs it and made by this task alone, once there is room for it (see
//! [`disk_reserve`](crate::storage::disk_reserve)). `gauge` is held over a measurement and its publication, so that an older one never
//! replaces a newer.

use super::room::Room;
use crate::storage::disk_reserve::DiskReserve;
use crate::storage::disk_space::{FileSystemSpace, SpaceGauge, SpaceReading, Watermarks};
use crate::storage::{LogStore, RocksDbStore};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use rookery_raft::controller::DiskSpace;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

const INTERVAL: Duration = Duration::from_millis(200);
/// Between two attempts to make the reserve that could not be made.
const MAKE_AGAIN: Duration = Duration::from_secs(10);

/// Measures.
pub struct SpaceWatch {
    path: PathBuf,
    watermarks: Watermarks,
    reserve: DiskReserve,
    gauge: Mutex<SpaceGauge>,
    /// What it still has to write counts as written, once it is open.
    store: OnceLock<Arc<RocksDbStore>>,
    reading: watch::Sender<SpaceReading>,
}

impl SpaceWatch {
    /// Of the file system that holds the data directory, with a reserve of so many bytes; before anything in the directory is opened:
    /// gives the reserve free where an open needs it, and takes it for out where there is none and no room for it. Blocks.
    pub fn open(path: PathBuf, watermarks: Watermarks, reserve_bytes: u64) -> io::Result<Arc<Self>> {
        let space = FileSystemSpace::of(&path)?;
        let reserve = DiskReserve::open(&path, reserve_bytes, space.total)?;
        let replay: u64 = ["log", "quorum/log"].iter().map(|part| write_ahead_bytes(&path.join(part))).sum();
        let headroom = space.available.saturating_sub(replay.saturating_add(reserve.owed()));
        let cannot_be_made = reserve.owed() > 0 && !reserve.is_due(headroom, watermarks.within(space.total).soft);
        if cannot_be_made || !reserve.is_enough_to_open(space.available, replay) {
            reserve.release()?;
        }
        let (gauge, reading) = (Mutex::new(SpaceGauge::new(watermarks)), watch::Sender::default());
        let watch = Arc::new(Self { path, watermarks, reserve, gauge, store: OnceLock::new(), reading });
        watch.measure();
        Ok(watch)
    }

    /// The store is open.
    pub fn count(&self, store: Arc<RocksDbStore>) {
        self.store.get_or_init(|| store);
    }

    /// The reserve.
    pub fn reserve(&self) -> &DiskReserve {
        &self.reserve
    }

    /// Measure until told to stop.
    pub async fn run(self: Arc<Self>, stop: CancellationToken) {
        let mut ticks = interval(INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // Beside the measurements: it may have to be written.
        let mut making: Option<tokio::task::JoinHandle<()>> = None;
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                _ = ticks.tick() => {}
            }
            let this = self.clone();
            // A disk that hangs may hold the measurement up: the last reading stays.
            let measured = tokio::select! {
                () = stop.cancelled() => return,
                measured = tokio::task::spawn_blocking(move || this.measure()) => measured,
            };
            match measured {
                Ok(true) if making.as_ref().is_none_or(tokio::task::JoinHandle::is_finished) => {
                    making = Some(tokio::spawn(self.clone().make_reserve()));
                }
                Ok(_) => {}
                Err(error) => tracing::error!(%error, "the measurement of the disk's space panicked"),
            }
        }
    }

    async fn make_reserve(self: Arc<Self>) {
        let this = self.clone();
        match tokio::task::spawn_blocking(move || this.reserve.make()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                tracing::warn!(%error, bytes = self.reserve.size(), "the reserve of the disk cannot be made; trying again");
                tokio::time::sleep(MAKE_AGAIN).await;
            }
            Err(error) => tracing::error!(%error, "making the reserve panicked"),
        }
    }

    /// Measures and publishes; whether the reserve could be made now. Blocks.
    fn measure(&self) -> bool {
        let mut gauge = self.gauge.lock();
        let unflushed = self.store.get().map_or(0, |store| store.unflushed_bytes());
        let owed = unflushed.saturating_add(self.reserve.owed());
        let space = match FileSystemSpace::of(&self.path) {
            Ok(space) => space,
            Err(error) => {
                tracing::debug!(%error, "the space on the disk cannot be measured");
                return false;
            }
        };
        let least = if self.reserve.is_released() { self.reserve.size() } else { 0 };
        let level = gauge.measure(space, owed, least);
        self.take_in(level, space, unflushed);
        let soft = self.watermarks.within(space.total).soft;
        level == DiskSpace::Ample && self.reserve.is_due(space.available.saturating_sub(owed), soft)
    }

    fn take_in(&self, level: DiskSpace, space: FileSystemSpace, unflushed: u64) {
        metrics::gauge!("rookery_storage_available_bytes").set(space.available as f64);
        metrics::gauge!("rookery_storage_unflushed_bytes").set(unflushed as f64);
        metrics::gauge!("rookery_storage_reserve_bytes").set((self.reserve.size() - self.reserve.owed()) as f64);
        metrics::gauge!("rookery_storage_space_level").set(match level {
            DiskSpace::Ample => 0.0,
            DiskSpace::Low => 1.0,
            DiskSpace::Reserve => 2.0,
        });
        let reading = SpaceReading {
            level,
            space,
            reserve_is_out: self.reserve.is_released(),
            is_too_full_to_open: level == DiskSpace::Reserve
                && (self.reserve.size() == 0 || !self.reserve.is_enough_to_open(space.available, 0)),
        };
        let before = self.reading.send_replace(reading).level;
        if before == level {
            return;
        }
        match self.reading.borrow().trouble() {
            Some(trouble) => tracing::warn!(unflushed, "{trouble}"),
            None => tracing::info!(available = space.available, "there is space on the disk again: records are taken"),
        }
    }
}

impl Room for SpaceWatch {
    fn reading(&self) -> watch::Receiver<SpaceReading> {
        self.reading.subscribe()
    }

    fn met_the_end(self: Arc<Self>) -> BoxFuture<'static, DiskSpace> {
        async move {
            let this = self.clone();
            let released = tokio::task::spawn_blocking(move || {
                let released = this.reserve.release();
                this.measure();
                released
            });
            match released.await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::error!(%error, "the reserve of the disk was not given free"),
                Err(error) => tracing::error!(%error, "giving the reserve free panicked"),
            }
            self.reading.borrow().level
        }
        .boxed()
    }
}

/// What an open of a database will replay; nothing where there is none.
fn write_ahead_bytes(database: &Path) -> u64 {
    let is_log = |path: &Path| path.extension().is_some_and(|extension| extension == "log");
    let files = std::fs::read_dir(database).into_iter().flatten().flatten();
    let sizes = files.filter(|file| is_log(&file.path())).filter_map(|file| file.metadata().ok());
    sizes.map(|metadata| metadata.len()).sum()
}
