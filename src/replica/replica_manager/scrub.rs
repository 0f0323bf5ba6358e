//! The scrub: reads everything that is stored, now and then, so that damage is found while other replicas can still mend it.
//!
//! | scrub | becomes | when |
//! |---|---|---|
//! | idle | under way | `log.scrub.interval.ms` after the last pass ended, or after the first start, by the wall clock; or it was asked for |
//! | under way | idle | every log has been read to the end that it had when its turn came |
//!
//! It reads at most `log.scrub.io.max.bytes.per.second`, and nothing while the disk is busy (a commit takes long) or short of space. It only reads and
//! notes: see [`damage`](crate::storage::PartitionLog::scrub), and [`super::repair`] for what follows. Where it is, is written down once in a
//! while, so that a node that is restarted often comes to an end as well; that file is a hint, and without it the pass begins anew.
//!
//! `GET /admin/v1/scrub` shows where it is, what holds it up, and what the last whole pass found; so do the metrics `rookery_storage_scrub_*`.

use super::ReplicaManager;
use crate::storage::{self, Scrubbed};
use parking_lot::Mutex;
use rookery_raft::controller::DiskSpace;
use rookery_raft::ids::{TopicId, TopicIdPartition};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::sleep;

/// How the scrub reads.
#[derive(Debug, Clone, Default)]
pub struct ScrubConfig {
    /// `log.scrub.io.max.bytes.per.second`; 0 is as fast as the disk.
    pub bytes_per_second: u64,
    /// `log.scrub.interval.ms`; zero: only when asked for.
    pub interval: Duration,
    /// Where it writes down how far it is.
    pub progress: Option<PathBuf>,
}

/// Read at once.
const STEP_BYTES: usize = 1 << 20;
/// A commit that is older holds the scrub up.
const BUSY: Duration = Duration::from_millis(100);
/// Between two looks at a disk that is busy or short of space.
const PAUSE: Duration = Duration::from_millis(500);
/// Between two looks at the time.
const IDLE: Duration = Duration::from_secs(60);
/// Progress is written down once in so many bytes.
const WRITTEN_DOWN_BYTES: u64 = 256 << 20;

/// What a pass has read.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ScrubFound {
    /// Batches read.
    pub batches: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Damaged ones among them.
    pub damaged: u64,
    /// Logs that could not be read to their end.
    pub logs_unread: u64,
}

/// How far the scrub is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScrubStatus {
    /// Whether a pass is under way.
    pub running: bool,
    /// What this pass has found so far, or the last one.
    #[serde(flatten)]
    pub found: ScrubFound,
    /// When the last whole pass ended (or the first start was, before there is one), in milliseconds since 1970.
    pub finished_ms: i64,
    /// What the last whole pass found.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last: Option<ScrubFound>,
    /// Why nothing is read now, while a pass is under way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held_up: Option<String>,
    /// Where the pass under way is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub at: Option<ScrubPosition>,
}

/// A place in the logs of a data directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScrubPosition {
    topic_id: TopicId,
    partition: i32,
    offset: i64,
}

/// The scrub of one data directory.
pub(super) struct Scrub {
    config: ScrubConfig,
    status: Mutex<ScrubStatus>,
    asked: Notify,
}

impl Scrub {
    pub(super) fn new(config: ScrubConfig) -> Self {
        let status = config.progress.as_deref().and_then(read_progress).unwrap_or_default();
        Self { config, status: Mutex::new(status), asked: Notify::new() }
    }

    fn is_due(&self, now_ms: i64) -> bool {
        let interval = i64::try_from(self.config.interval.as_millis()).unwrap_or(i64::MAX);
        let status = self.status.lock();
        status.running || (interval > 0 && now_ms.saturating_sub(status.finished_ms) >= interval)
    }

    async fn write_down(&self) {
        let (Some(path), status) = (self.config.progress.clone(), self.status.lock().clone()) else { return };
        let written = storage::blocking(move || {
            let temp = path.with_extension("tmp");
            std::fs::write(&temp, serde_json::to_vec(&status)?)?;
            std::fs::rename(&temp, &path)
        });
        if let Some(Err(error)) = written.await {
            tracing::debug!(%error, "the progress of the scrub was not written down");
        }
    }
}

fn read_progress(path: &Path) -> Option<ScrubStatus> {
    serde_json::from_slice(&std::fs::read(path).ok()?).ok()
}

impl ReplicaManager {
    /// How far the scrub is.
    pub fn scrub_status(&self) -> ScrubStatus {
        self.scrub.status.lock().clone()
    }

    /// Begin a pass now, unless one is under way; whether it was not.
    pub fn scrub_now(&self) -> bool {
        let begins = {
            let mut status = self.scrub.status.lock();
            let begins = !status.running;
            if begins {
                *status = begun(&status);
            }
            begins
        };
        self.scrub.asked.notify_one();
        begins
    }

    /// Scrubs whenever it is time, for ever.
    pub(super) async fn keep_scrubbing(self: Arc<Self>) {
        let is_new = *self.scrub.status.lock() == ScrubStatus::default();
        if is_new && !self.scrub.config.interval.is_zero() {
            // The first pass comes an interval after the first start.
            self.scrub.status.lock().finished_ms = self.clock.wall_ms();
            self.scrub.write_down().await;
        }
        self.show_scrub();
        loop {
            if self.scrub.is_due(self.clock.wall_ms()) {
                {
                    let mut status = self.scrub.status.lock();
                    if !status.running {
                        *status = begun(&status);
                    }
                }
                self.scrub_pass().await;
            }
            let never = self.scrub.config.interval.is_zero();
            tokio::select! {
                () = self.scrub.asked.notified() => {}
                () = sleep(IDLE), if !never => {}
            }
        }
    }

    /// From where it is to the end.
    pub(super) async fn scrub_pass(self: &Arc<Self>) {
        self.show_scrub();
        let from = self.scrub.status.lock().at;
        let from = from.map(|at| (TopicIdPartition { topic_id: at.topic_id, partition: at.partition }, at.offset));
        let mut unwritten = 0;
        // Of the directory, not of the table: a start resumes a pass before it has caught up with the metadata.
        let logs: Vec<TopicIdPartition> =
            self.directory.load().logs().iter().map(|log| log.topic_id_partition()).collect();
        for id in logs.into_iter().filter(|id| from.is_none_or(|(at, _)| *id >= at)) {
            let mut next = Some(from.filter(|(at, _)| *at == id).map_or(0, |(_, offset)| offset));
            while let Some(offset) = next {
                self.wait_for_leisure().await;
                let Some(log) = self.directory.load().get(&id) else { break };
                let step = match storage::blocking(move || log.scrub(offset, STEP_BYTES)).await {
                    Some(Ok(step)) => step,
                    Some(Err(error)) => {
                        tracing::warn!(partition = %id, offset, %error, "the scrub leaves this log out");
                        self.scrub.status.lock().found.logs_unread += 1;
                        break;
                    }
                    None => return,
                };
                next = step.next;
                self.count(id, &step);
                unwritten += step.bytes;
                if unwritten >= WRITTEN_DOWN_BYTES {
                    unwritten = 0;
                    self.scrub.write_down().await;
                }
                if let Some(millis) =
                    step.bytes.checked_mul(1000).and_then(|b| b.checked_div(self.scrub.config.bytes_per_second))
                {
                    sleep(Duration::from_millis(millis)).await;
                }
            }
        }
        {
            let mut status = self.scrub.status.lock();
            (status.running, status.at, status.finished_ms) = (false, None, self.clock.wall_ms());
            status.last = Some(status.found.clone());
            let ScrubFound { batches, bytes, damaged, logs_unread } = status.found;
            tracing::info!(batches, bytes, damaged, logs_unread, "a scrub of the data directory has ended");
        }
        self.show_scrub();
        metrics::counter!("rookery_storage_scrub_passes_total").increment(1);
        self.scrub.write_down().await;
    }

    fn count(&self, id: TopicIdPartition, step: &Scrubbed) {
        metrics::counter!("rookery_storage_scrub_batches_total").increment(step.batches);
        metrics::counter!("rookery_storage_scrub_bytes_total").increment(step.bytes);
        metrics::counter!("rookery_storage_scrub_damaged_total").increment(step.damaged);
        let mut status = self.scrub.status.lock();
        status.found.batches += step.batches;
        status.found.bytes += step.bytes;
        status.found.damaged += step.damaged;
        if let Some(offset) = step.next {
            status.at = Some(ScrubPosition { topic_id: id.topic_id, partition: id.partition, offset });
        }
    }

    async fn wait_for_leisure(&self) {
        let hindrance = || {
            let oldest = self.directory.load().store().oldest_unfinished_commit_age();
            match () {
                () if self.context.disk_space() != DiskSpace::Ample => Some("the disk is short of space"),
                () if oldest.is_some_and(|age| age > BUSY) => Some("the disk is busy"),
                () => None,
            }
        };
        while let Some(why) = hindrance() {
            self.scrub.status.lock().held_up = Some(why.to_owned());
            sleep(PAUSE).await;
        }
        self.scrub.status.lock().held_up = None;
    }

    /// For metrics: when the last pass ended, and what it found.
    fn show_scrub(&self) {
        let status = self.scrub.status.lock();
        metrics::gauge!("rookery_storage_scrub_running").set(f64::from(u8::from(status.running)));
        if let Some(last) = &status.last {
            metrics::gauge!("rookery_storage_scrub_last_end_seconds").set(status.finished_ms as f64 / 1000.0);
            metrics::gauge!("rookery_storage_scrub_last_batches").set(last.batches as f64);
            metrics::gauge!("rookery_storage_scrub_last_damaged").set(last.damaged as f64);
            metrics::gauge!("rookery_storage_scrub_last_logs_unread").set(last.logs_unread as f64);
        }
    }
}

fn begun(before: &ScrubStatus) -> ScrubStatus {
    ScrubStatus { running: true, finished_ms: before.finished_ms, last: before.last.clone(), ..ScrubStatus::default() }
}
