//! Runs one [`Fetcher`]: sends its requests to its source broker and brings the answers into the logs.
//!
//! The fetcher's lock is held for arithmetic only. The task owns the connection to the leader: one fetch in flight, and
//! progress messages beside it. Answers are applied in the task, one partition after the other; what reads the disk
//! (truncation, a moved log start) runs on a blocking thread and the task waits for it, which is rare. A stream that is dropped meanwhile ends
//! without it: that work is done when it is done, beside the next stream (`partition_follower` says why it does no harm).

use super::error::ReplicaError;
use super::fetcher::{FetchEvent, FetchPosition, Fetcher, FetcherConfig};
use super::message::{ReplicaFetchRequest, ReplicaFetchResponse, ReplicaProgress};
use super::partition::{Clock, Partition};
use super::replica_service::Replicas;
use crate::peer::{Lane, PeerPool};
use crate::storage;
use parking_lot::Mutex;
use rookery_raft::ids::{BrokerEpoch, ClusterId, LeaderEpoch, NodeId, TopicIdPartition};
use std::future::pending;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// The kind of a follower's fetch on the lane `Replication`.
pub const KIND_FETCH: u16 = 1;
/// The kind of a follower's progress on the lane `Replication`.
pub const KIND_PROGRESS: u16 = 2;
/// Beyond the time that the leader may park a fetch: then the leader is taken for gone.
const ANSWER_MAX: Duration = Duration::from_secs(2);

/// What all fetch tasks of a broker share.
#[derive(Clone)]
pub struct FetchSurroundings {
    /// Connections to the leaders.
    pub pool: PeerPool,
    /// This broker's replicas.
    pub replicas: Arc<dyn Replicas>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Bounds and pauses.
    pub config: FetcherConfig,
}

/// One source broker's stream; dropping it ends its task.
pub struct FetchTask {
    fetcher: Arc<Mutex<Fetcher>>,
    wake: Arc<Notify>,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl FetchTask {
    /// Begins to fetch from `source` as this broker in its present registration.
    pub fn start(
        source: NodeId,
        (cluster, node, broker_epoch): (ClusterId, NodeId, BrokerEpoch),
        surroundings: FetchSurroundings,
    ) -> FetchTask {
        let fetcher = Fetcher::new(cluster, node, broker_epoch, surroundings.config.clone());
        let (fetcher, wake) = (Arc::new(Mutex::new(fetcher)), Arc::new(Notify::new()));
        let stop = CancellationToken::new();
        let stream = Stream { source, fetcher: fetcher.clone(), wake: wake.clone(), surroundings };
        let stopped = stop.clone();
        let task = tokio::spawn(async move {
            tokio::select! {
                biased;
                () = stopped.cancelled() => {}
                () = stream.run() => {}
            }
        });
        FetchTask { fetcher, wake, stop, task }
    }

    /// Whether the stream is over though nobody ended it: it panicked.
    pub fn is_broken(&self) -> bool {
        self.task.is_finished()
    }

    #[cfg(test)]
    pub(crate) fn follows(&self, id: TopicIdPartition) -> bool {
        self.fetcher.lock().follows(id)
    }

    /// Follow a partition in a term.
    pub fn follow(&self, id: TopicIdPartition, leader_epoch: LeaderEpoch, position: FetchPosition) {
        self.fetcher.lock().start(id, leader_epoch, position);
        self.wake.notify_one();
    }

    /// Follow it no more; whether nothing is left to follow.
    pub fn leave(&self, id: TopicIdPartition) -> bool {
        let mut fetcher = self.fetcher.lock();
        fetcher.stop(id);
        drop(fetcher);
        self.wake.notify_one();
        self.fetcher.lock().is_empty()
    }

    /// Records are on disk.
    pub fn synced(&self, id: TopicIdPartition, leader_epoch: LeaderEpoch, synced: i64) {
        self.fetcher.lock().synced(id, leader_epoch, synced);
        self.wake.notify_one();
    }
}

impl Drop for FetchTask {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

struct Stream {
    source: NodeId,
    fetcher: Arc<Mutex<Fetcher>>,
    wake: Arc<Notify>,
    surroundings: FetchSurroundings,
}

impl Stream {
    async fn run(self) {
        let mut fetch = None;
        let mut progress = None;
        loop {
            if fetch.is_none() {
                let request = self.fetcher.lock().next_request(self.surroundings.clock.now());
                fetch = request.map(|request| Box::pin(self.fetch(request)));
            }
            if progress.is_none() {
                let message = self.fetcher.lock().next_progress(self.surroundings.clock.now());
                progress = message.map(|message| Box::pin(self.progress(message)));
            }
            // With both under way, nothing can be sent when something falls due.
            let idle = fetch.is_none() || progress.is_none();
            let due = self.fetcher.lock().next_due().filter(|_| idle);
            tokio::select! {
                biased;
                response = wait_for(&mut fetch) => {
                    fetch = None;
                    self.answered(response).await;
                }
                lost = wait_for(&mut progress) => {
                    progress = None;
                    if let Some(message) = lost {
                        self.fetcher.lock().progress_lost(&message);
                    }
                }
                () = self.until(due) => {}
                () = self.wake.notified() => {}
            }
        }
    }

    async fn until(&self, due: Option<Duration>) {
        match due {
            Some(due) => tokio::time::sleep(due.saturating_sub(self.surroundings.clock.now())).await,
            None => pending().await,
        }
    }

    async fn fetch(&self, request: ReplicaFetchRequest) -> Option<ReplicaFetchResponse> {
        let patience = Duration::from_millis(u64::from(request.max_wait_ms)) + ANSWER_MAX;
        let body = vec![request.encode()];
        match self.surroundings.pool.call(self.source, Lane::Replication, KIND_FETCH, body, patience).await {
            Ok(body) => match ReplicaFetchResponse::decode(body) {
                Ok(response) => Some(response),
                Err(error) => {
                    tracing::warn!(source = self.source.0, %error, "a replication answer cannot be read");
                    None
                }
            },
            Err(error) => {
                tracing::debug!(source = self.source.0, %error, "replication fetch");
                None
            }
        }
    }

    /// The message, if it has to be said again.
    async fn progress(&self, message: ReplicaProgress) -> Option<ReplicaProgress> {
        let body = vec![message.encode()];
        let sent = self.surroundings.pool.call(self.source, Lane::Replication, KIND_PROGRESS, body, ANSWER_MAX).await;
        match sent {
            Ok(answer) if answer.as_ref() == [0] => None,
            _ => Some(message),
        }
    }

    async fn answered(&self, response: Option<ReplicaFetchResponse>) {
        let now = self.surroundings.clock.now();
        let events = match response {
            Some(response) => self.fetcher.lock().on_response(response, now),
            None => {
                self.fetcher.lock().on_failure(now);
                return;
            }
        };
        for event in events {
            self.apply(event).await;
        }
    }

    async fn apply(&self, event: FetchEvent) {
        let (id, leader_epoch) = match &event {
            FetchEvent::Records { id, leader_epoch, .. }
            | FetchEvent::Diverged { id, leader_epoch, .. }
            | FetchEvent::OutOfRange { id, leader_epoch, .. } => (*id, *leader_epoch),
        };
        let Some(partition) = self.surroundings.replicas.replica(id) else {
            self.fetcher.lock().stop(id);
            return;
        };
        let applied = match event {
            FetchEvent::Records { asked, batches, high_watermark, log_start, .. } => {
                let appended = partition.append_as_follower(leader_epoch, asked, &batches, high_watermark);
                if appended.is_ok() && log_start > partition.log().offsets().log_start {
                    let moved = blocking(&partition, move |p| p.follow_log_start(leader_epoch, log_start)).await;
                    moved.and_then(|()| partition.follower_position(leader_epoch))
                } else {
                    appended
                }
            }
            FetchEvent::Diverged { asked, diverging, .. } => {
                blocking(&partition, move |p| p.truncate(leader_epoch, asked, diverging)).await
            }
            FetchEvent::OutOfRange { asked, log_start, .. } => {
                blocking(&partition, move |p| p.restart(leader_epoch, asked, log_start)).await
            }
        };
        match applied {
            Ok(position) => {
                if self.fetcher.lock().moved(id, leader_epoch, position) {
                    tracing::info!(partition = %id, source = self.source.0, "replication of this partition goes on");
                }
            }
            Err(ReplicaError::NotLeaderOrFollower) => {} // another term: it has been started anew, or stopped
            Err(error) => {
                // Some of it may have been queued: ask on from where the log stands now.
                let position = partition.follower_position(leader_epoch).ok();
                let stuck = self.fetcher.lock().stuck(id, leader_epoch, position, self.surroundings.clock.now());
                if stuck.is_some_and(|stuck| partition.give_up_unreadable(&error, stuck)) {
                    // Nothing is said of a log that was given up.
                    self.fetcher.lock().stop(id);
                } else if stuck == Some(Duration::ZERO) {
                    tracing::warn!(partition = %id, source = self.source.0, %error, "replication of this partition is stuck; trying on");
                }
            }
        }
    }
}

async fn blocking<T: Send + 'static>(
    partition: &Arc<Partition>,
    work: impl FnOnce(&Partition) -> Result<T, ReplicaError> + Send + 'static,
) -> Result<T, ReplicaError> {
    let partition = Arc::clone(partition);
    // A panic ends the stream, and with it the node.
    storage::blocking(move || work(&partition)).await.unwrap_or(Err(ReplicaError::NotLeaderOrFollower))
}

/// The future's result, or nothing for ever if there is none.
async fn wait_for<T>(future: &mut Option<std::pin::Pin<Box<impl Future<Output = T>>>>) -> T {
    match future {
        Some(future) => future.await,
        None => pending().await,
    }
}
