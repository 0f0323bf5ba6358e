//! The single writer of the metadata log: the task of the active controller.
//!
//! # States
//!
//! | state | what it does |
//! |---|---|
//! | `Standby` | answers every request with `NotController` |
//! | `Active(term)` | entered when this node leads, has applied the first entry of its own term, and holds the leader's lease; the [`Controller`] is activated |
//! | `StandsBy(term)` | the lease has lapsed (`lease`): answers every request with `NotController`, takes in evidence, and is `Active` again as soon as a majority answers |
//!
//! It leaves the office when the term or the leader changes, the lease has been away for too long (`lease`), or a batch with records fails. The controller resigns then and
//! forgets its soft state; what waits in the queue is answered with `NotController`. A batch that was proposed before the lease ran out is waited for: a
//! majority that comes back may yet commit it. Who comes meanwhile is refused. What is due while it stands by is done when it is active again, and
//! sessions are older then by what it was active only: nobody could be heard of meanwhile.
//!
//! # Why decisions are sound
//!
//! One batch is in flight. It is decided on the image that holds everything this task ever proposed, plus the batch's earlier records, and it becomes **one** Raft
//! entry under the term in which it was decided (`with_leader`). So either all of it is in the log right where it was decided,
//! or nothing is. (Several entries would not do: when a quorum comes back into reach between two proposals, openraft may
//! refuse the first and take the second.) A request is answered after the entry was applied here. A batch without
//! records is answered only while the leader's lease holds, so that a deposed controller does not tell a broker it is well.

use super::error::QuorumError;
use super::formation_task::Raft;
use super::network::Peers;
use super::quorum::Leadership;
use super::types::Decision;
use crate::controller::{
    Author, Batch, Controller, ControllerError, ControllerRequest, ControllerResponse, FormRequest,
};
use crate::ids::{BrokerEpoch, NodeId};
use crate::image::MetadataImage;
use crate::planted::planted;
use crate::record::{Finding, MAX_ENTRY_BYTES, MetadataRecord, Observation, encode_records};
use openraft::async_runtime::{Instant, Select3, Select4};
use openraft::impls::OneshotResponder;
use openraft::{AsyncRuntime, ReadPolicy};
use std::future::pending;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

/// Requests that may wait for the batch in flight.
pub(crate) const QUEUE: usize = 4096;
/// Requests of one batch.
const BATCH_REQUESTS: usize = 1024;
/// Before trying again after a batch failed in an office that was kept.
const PAUSE: Duration = Duration::from_millis(50);

type Outcome = Result<ControllerResponse, QuorumError>;

/// What waits for the task.
pub(crate) enum Submission {
    /// A request and where its answer goes.
    Request(Box<ControllerRequest>, oneshot::Sender<Outcome>),
    /// The connection a broker sends its heartbeats on has closed.
    HeartbeatConnectionClosed(NodeId, BrokerEpoch),
    /// Soft evidence for the event log.
    Observed(Vec<Observation>),
}

pub(crate) struct ControllerTask<Rt: AsyncRuntime> {
    pub(crate) raft: Raft<Rt>,
    pub(crate) peers: Arc<Peers>,
    pub(crate) image: watch::Receiver<Arc<MetadataImage>>,
    pub(crate) leadership: watch::Receiver<Leadership>,
    pub(crate) queue: mpsc::Receiver<Submission>,
    pub(crate) controller: Controller,
    pub(crate) tick: Duration,
    pub(crate) wall_clock: fn() -> i64,
    pub(crate) stop: CancellationToken,
    pub(crate) began: Rt::Instant,
    pub(crate) office: Office,
}

/// What has become of the office of the term that is served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Office {
    Active,
    StandsBy {
        since: Duration,
    },
    /// For good: it can only be taken anew.
    Lost,
}

/// The office of this term is lost.
struct Lost;

impl<Rt: AsyncRuntime> ControllerTask<Rt> {
    pub(crate) async fn run(mut self) {
        while !self.stop.is_cancelled() {
            let leadership = self.leadership.borrow_and_update().clone();
            if leadership.active {
                self.serve(leadership.term).await;
                self.controller.resign();
                self.refuse_waiting();
                if self.holds(leadership.term) {
                    // A batch could not be written although the office was kept: not at once again.
                    let _ = Rt::timeout(PAUSE, self.stop.cancelled()).await;
                }
                continue;
            }
            let (stop, changed, submission) = (self.stop.cancelled(), self.leadership.changed(), self.queue.recv());
            match Rt::select3(Box::pin(stop), Box::pin(changed), Box::pin(submission)).await {
                Select3::Second(Ok(())) => {}
                Select3::Third(Some(submission)) => self.refuse(submission),
                Select3::First(()) | Select3::Second(Err(_)) | Select3::Third(None) => break,
            }
        }
        self.queue.close();
        self.refuse_waiting();
    }

    fn not_controller(&self) -> QuorumError {
        let leadership = self.leadership.borrow();
        // This node is no hint to itself.
        QuorumError::NotController(leadership.leader.clone().filter(|leader| leader.id != self.peers.me))
    }

    /// Takes in what is only evidence, and gives a request back.
    fn sift(&mut self, submission: Submission) -> Option<(Box<ControllerRequest>, oneshot::Sender<Outcome>)> {
        match submission {
            Submission::Request(request, answer) => return Some((request, answer)),
            Submission::HeartbeatConnectionClosed(id, epoch) => self.controller.heartbeat_connection_closed(id, epoch),
            Submission::Observed(observations) => self.controller.observed(&observations, self.now()),
        }
        None
    }

    fn refuse(&mut self, submission: Submission) {
        if let Some((_, answer)) = self.sift(submission) {
            let _ = answer.send(Err(self.not_controller()));
        }
    }

    fn refuse_waiting(&mut self) {
        while let Ok(submission) = self.queue.try_recv() {
            self.refuse(submission);
        }
    }

    fn holds(&self, term: u64) -> bool {
        let leadership = self.leadership.borrow();
        leadership.active && leadership.term == term
    }

    /// Sees what has become of the office of `term`.
    fn follow(&mut self, term: u64) -> Office {
        let [active, in_office] = {
            let leadership = self.leadership.borrow();
            [leadership.active, leadership.in_office].map(|it| it && leadership.term == term)
        };
        let now = self.now();
        self.office = match self.office {
            Office::Active | Office::StandsBy { .. } if !in_office => Office::Lost,
            Office::StandsBy { since } if active => {
                self.controller.stood_by(since, now);
                Office::Active
            }
            Office::Active if !active => Office::StandsBy { since: now },
            office => office,
        };
        self.office
    }

    fn now(&self) -> Duration {
        Rt::Instant::now() - self.began
    }

    /// Serves until the office is lost.
    async fn serve(&mut self, term: u64) {
        let image = self.image.borrow().clone();
        self.controller.activate(term, &image, self.now());
        let (broker, epoch) = (self.peers.me.node_id, BrokerEpoch::UNKNOWN);
        let activated = Observation { broker, epoch, finding: Finding::ControllerActivated, count: 1 };
        self.controller.observed(&[activated], self.now());
        self.office = Office::Active;
        let mut tick = Rt::Instant::now() + self.tick;
        loop {
            let active = match self.follow(term) {
                Office::Active => true,
                Office::StandsBy { .. } => false,
                Office::Lost => return,
            };
            let is_formed = self.image.borrow().cluster.formation().is_some();
            if active && !is_formed && self.own_request(self.form_request()).await.is_err() {
                return;
            }
            let due = async {
                match active {
                    true => Rt::sleep_until(tick).await,
                    false => pending().await,
                }
            };
            let stop = Box::pin(self.stop.cancelled());
            let changed = Box::pin(self.leadership.changed());
            let submission = Box::pin(self.queue.recv());
            let served = match Rt::select4(stop, changed, Box::pin(due), submission).await {
                Select4::Second(Ok(())) => Ok(()),
                Select4::Third(()) => {
                    tick = Rt::Instant::now() + self.tick;
                    self.tick().await
                }
                Select4::Fourth(Some(first)) => self.batch(Some(first)).await,
                Select4::First(()) | Select4::Second(Err(_)) | Select4::Fourth(None) => Err(Lost),
            };
            if served.is_err() {
                return;
            }
        }
    }

    fn form_request(&self) -> ControllerRequest {
        let leadership = self.leadership.borrow();
        let voters = leadership.voters.iter().map(|voter| voter.id).collect();
        ControllerRequest::Form(FormRequest { cluster_id: *self.peers.cluster_id.read(), voters })
    }

    async fn tick(&mut self) -> Result<(), Lost> {
        self.own_request(ControllerRequest::ExpireSessions).await?;
        self.own_request(ControllerRequest::RebalanceLeaders).await
    }

    /// A request of the task itself; what waits in the queue goes along.
    async fn own_request(&mut self, request: ControllerRequest) -> Result<(), Lost> {
        let (answer, result) = oneshot::channel();
        self.batch(Some(Submission::Request(Box::new(request), answer))).await?;
        match result.await {
            // Without the lease it is asked again with the next tick.
            Ok(Ok(_) | Err(QuorumError::NotController(_))) => Ok(()),
            Ok(Err(error)) => {
                tracing::warn!(%error, "a request of the controller itself failed");
                Ok(())
            }
            Err(_) => Err(Lost),
        }
    }

    /// Decides `next` and what waits, writes it, answers; while it stands by, it refuses.
    async fn batch(&mut self, mut next: Option<Submission>) -> Result<(), Lost> {
        let term = self.controller.active_term().ok_or(Lost)?;
        if self.follow(term) != Office::Active {
            next.into_iter().for_each(|submission| self.refuse(submission));
            return Ok(());
        }
        let now = self.now();
        let author = Author { controller: self.peers.me.node_id, term, unix_ms: (self.wall_clock)() };
        let mut batch = Batch::new(author, self.image.borrow().clone());
        let mut answers = Vec::new();
        while let Some(submission) = next.take() {
            if let Some((request, answer)) = self.sift(submission) {
                // A refusal, too, may rest on earlier records of this batch: it waits like the rest.
                let outcome = self.controller.handle(&mut batch, &request, now);
                answers.push((answer, outcome.map_err(QuorumError::Refused)));
            }
            if answers.len() < BATCH_REQUESTS && !batch.is_full() {
                next = self.queue.try_recv().ok();
            }
        }
        self.controller.tell_observations(&mut batch, now);
        let records = batch.into_records();
        match self.write(term, &records).await {
            Ok(()) => {
                answers.into_iter().for_each(|(answer, outcome)| drop(answer.send(outcome)));
                Ok(())
            }
            // Only the lease was missing, and nothing rests on what was not to be written.
            Err(error) if records.is_empty() => {
                answers.into_iter().for_each(|(answer, _)| drop(answer.send(Err(error.clone()))));
                Ok(())
            }
            Err(error) => {
                // Also when the batch was merely too large: the controller's soft state may rest on it.
                if matches!(error, QuorumError::NotController(_)) {
                    tracing::info!(requests = answers.len(), "a metadata batch was not written: the office is lost");
                } else {
                    tracing::warn!(%error, requests = answers.len(), "a metadata batch was not written");
                }
                answers.into_iter().for_each(|(answer, _)| drop(answer.send(Err(error.clone()))));
                Err(Lost)
            }
        }
    }

    async fn write(&mut self, term: u64, records: &[MetadataRecord]) -> Result<(), QuorumError> {
        if records.is_empty() {
            if planted!(AnswerWithoutLease) {
                return Ok(());
            }
            let lease = self.raft.get_read_linearizer(ReadPolicy::LeaseRead).await;
            return lease.map(|_| ()).map_err(|_| self.not_controller());
        }
        let bytes = encode_records(records);
        if bytes.len() > MAX_ENTRY_BYTES {
            let what = format!("a decision of {} bytes, {MAX_ENTRY_BYTES} are allowed", bytes.len());
            return Err(QuorumError::Refused(ControllerError::Internal(what)));
        }
        let (responder, applied) = OneshotResponder::new_pair();
        let write = self.raft.write(Decision(bytes)).with_leader(term).responder(responder);
        write.await.map_err(|e| QuorumError::Stopped(e.to_string()))?;
        let mut applied = pin!(applied);
        let outcome = loop {
            let active = self.follow(term) == Office::Active;
            if !active {
                self.refuse_waiting();
            }
            let queue = &mut self.queue;
            let refused = async {
                match active {
                    true => pending().await,
                    false => queue.recv().await,
                }
            };
            match Rt::select3(&mut applied, Box::pin(self.leadership.changed()), Box::pin(refused)).await {
                Select3::First(outcome) => break outcome,
                Select3::Second(Ok(())) => {}
                Select3::Third(Some(submission)) => self.refuse(submission),
                Select3::Second(Err(_)) | Select3::Third(None) => break applied.await,
            }
        };
        match outcome {
            Ok(Ok(_)) => Ok(()),
            // Refused, or thrown away by the next leader, or, rarely, kept by it: unknown, and so to be tried again.
            Ok(Err(_)) | Err(_) => Err(self.not_controller()),
        }
    }
}
