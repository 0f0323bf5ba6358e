//! Looks at the space on the data directory's disk, several times a second, for as long as the node runs.
//!
//! One task measures; everybody else reads the last reading. A reading is old by [`INTERVAL`] at most, while the watermarks are
//! many times what can be written meanwhile.

use crate::storage::disk_space::{FileSystemSpace, SpaceGauge, SpaceReading, Watermarks};
use crate::storage::{LogStore, RocksDbStore};
use rookery_raft::controller::DiskSpace;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

const INTERVAL: Duration = Duration::from_millis(200);

/// Measures.
pub struct SpaceWatch {
    path: PathBuf,
    watermarks: Watermarks,
    /// What it still has to write counts as written, once it is open.
    store: OnceLock<Arc<RocksDbStore>>,
    reading: watch::Sender<SpaceReading>,
}

impl SpaceWatch {
    /// Of the file system that holds `path`.
    pub fn new(path: PathBuf, watermarks: Watermarks) -> Arc<Self> {
        Arc::new(Self { path, watermarks, store: OnceLock::new(), reading: watch::Sender::default() })
    }

    /// The store is open.
    pub fn count(&self, store: Arc<RocksDbStore>) {
        self.store.get_or_init(|| store);
    }

    /// The last reading.
    pub fn reading(&self) -> watch::Receiver<SpaceReading> {
        self.reading.subscribe()
    }

    /// Measure until told to stop.
    pub async fn run(self: Arc<Self>, stop: CancellationToken) {
        let mut gauge = SpaceGauge::new(self.watermarks);
        let mut ticks = interval(INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                _ = ticks.tick() => {}
            }
            let this = self.clone();
            let measuring = tokio::task::spawn_blocking(move || {
                let unflushed = this.store.get().map_or(0, |store| store.unflushed_bytes());
                FileSystemSpace::of(&this.path).map(|space| (space, unflushed))
            });
            // A disk that hangs may hold the measurement up: the last reading stays.
            let measured = tokio::select! {
                () = stop.cancelled() => return,
                measured = measuring => measured,
            };
            match measured {
                Ok(Ok((space, unflushed))) => self.take_in(gauge.measure(space, unflushed), space, unflushed),
                Ok(Err(error)) => tracing::debug!(%error, "the space on the disk cannot be measured"),
                Err(error) => tracing::error!(%error, "the measurement of the disk's space panicked"),
            }
        }
    }

    fn take_in(&self, level: DiskSpace, space: FileSystemSpace, unflushed: u64) {
        metrics::gauge!("rookery_storage_available_bytes").set(space.available as f64);
        metrics::gauge!("rookery_storage_unflushed_bytes").set(unflushed as f64);
        metrics::gauge!("rookery_storage_space_level").set(match level {
            DiskSpace::Ample => 0.0,
            DiskSpace::Low => 1.0,
            DiskSpace::Reserve => 2.0,
        });
        let before = self.reading.send_replace(SpaceReading { level, space }).level;
        if before == level {
            return;
        }
        match self.reading.borrow().trouble() {
            Some(trouble) => tracing::warn!(unflushed, "{trouble}"),
            None => tracing::info!(available = space.available, "there is space on the disk again: records are taken"),
        }
    }
}
