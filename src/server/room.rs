//! The room on the disk, as those see it who open stores there, and how long they wait before they try again.

use crate::storage::disk_space::SpaceReading;
use futures_util::future::BoxFuture;
use rookery_raft::controller::DiskSpace;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::{Instant, sleep};

/// The room on the disk.
pub trait Room: Send + Sync {
    /// The last reading.
    fn reading(&self) -> watch::Receiver<SpaceReading>;

    /// A store has met the end of the disk: its reserve is given free. What there is from now on.
    fn met_the_end(self: Arc<Self>) -> BoxFuture<'static, DiskSpace>;
}

/// Between two attempts to open a store again, at first and at most.
pub const RETRY: Duration = Duration::from_secs(2);
const RETRY_MAX: Duration = Duration::from_secs(60);

/// How long to wait before a disk is tried again: longer each time, until it has gone well for as long as the longest wait.
/// (A disk that opens and fails its next write would otherwise move leaderships to and fro every few seconds.)
#[derive(Default)]
pub struct Steps {
    last: Option<(Duration, Instant)>,
}

impl Steps {
    pub fn next(&mut self) -> Duration {
        let now = Instant::now();
        let wait = match self.last {
            Some((wait, at)) if now.duration_since(at) < wait + RETRY_MAX => (wait * 2).min(RETRY_MAX),
            _ => RETRY,
        };
        self.last = Some((wait, now));
        wait
    }
}

/// After the end of the disk was met: a pause, and then until there is as much as stores need to open.
pub async fn until_there_is_room(space: &dyn Room, steps: &mut Steps) {
    sleep(steps.next()).await;
    while space.reading().borrow().is_too_full_to_open {
        sleep(RETRY).await;
    }
}
