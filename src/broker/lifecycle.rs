//! A broker's life: it registers, says that it lives, and leaves.
//!
//! ```text
//!            cluster id known        registered             caught up, unfenced
//!  Starting ────────────────► Registering ─────► Fenced ◄───────────────────────► Running
//!                                  ▲                │  epoch refused                 │
//!                                  └────────────────┴────────────────────────────────┤ stop asked      (Unheard: Fenced or Running
//!                                                                                    ▼                  without an answer)
//!                                                               Leaving ──────► Left (or its time is over)
//! ```
//!
//! What the broker may *do* follows from the image, never from this state: a heartbeat's answer only paces the next
//! heartbeat and tells operators, and it confirms that this broker may speak as a leader, but only once the image here holds all that
//! the controller's held when it answered ([`Confirmations`]): a broker that does not hear of the log any more does not know whether it leads,
//! however well its heartbeats are answered. An epoch that the controller no longer knows means that this broker was registered anew
//! or forgotten: it registers again, and the new registration gives every partition it leads a new leader epoch. So it does when its store was
//! opened anew and synced data is missing: what leaders have heard of its logs holds no more, and is refused for its old epoch.
//!
//! A registration that is refused for what this process *is* (its cluster, its version, its directories, a node id that another live
//! process holds) ends the process: trying on would not change it. The process before this one may seem alive for a session time-out,
//! so a node id counts as used twice only after [`DUPLICATE_MIN`] and two session time-outs.

use super::{ChannelError, ControllerChannel, Metadata};
use crate::peer::{Lane, LocalIdentity};
use futures_util::future::BoxFuture;
use rookery_raft::controller::{
    BrokerHeartbeatRequest, BrokerHeartbeatResponse, ControllerError, ControllerRequest, ControllerResponse, DiskSpace,
    RegisterBrokerRequest,
};
use rookery_raft::ids::{BrokerEpoch, ClusterId, MetadataOffset, NodeId};
use rookery_raft::record::Directory;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout};
use tokio_util::sync::CancellationToken;

/// Where a broker is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BrokerState {
    /// Its cluster is not known yet.
    Starting,
    /// It asks the controller for an epoch.
    Registering,
    /// Registered; catching up, or barred.
    Fenced,
    /// It can lead and serve.
    Running,
    /// It was registered, and for a session time-out no controller has answered its heartbeats.
    Unheard,
    /// Leadership is being handed over.
    Leaving,
    /// It may end.
    Left,
}

impl BrokerState {
    /// For people.
    pub fn describe(self) -> &'static str {
        match self {
            BrokerState::Starting => "waiting for the cluster to form",
            BrokerState::Registering => "registering with the controller",
            BrokerState::Fenced => "fenced: catching up with the metadata log",
            BrokerState::Running => "running",
            BrokerState::Unheard => {
                "no controller answers heartbeats: it is fenced by now, or the metadata quorum has no majority"
            }
            BrokerState::Leaving => "handing leadership over",
            BrokerState::Left => "left the cluster",
        }
    }
}

/// Under which epoch this broker is registered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Registration {
    /// Its node.
    pub id: NodeId,
    /// Its epoch.
    pub epoch: BrokerEpoch,
}

/// Times of a life.
#[derive(Debug, Clone)]
pub struct LifecycleConfig {
    /// `broker.heartbeat.interval.ms`.
    pub heartbeat: Duration,
    /// `broker.session.timeout.ms`.
    pub session: Duration,
    /// `controlled.shutdown.timeout.ms`.
    pub leave_max: Duration,
}

/// Why this process cannot be a broker of the cluster.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RegistrationRefused {
    /// Another process holds the node id.
    #[error(
        "node id {0} is used twice: another process is registered under it and alive; give this one another node.id, or stop that one"
    )]
    NodeIdUsedTwice(NodeId),
    /// What it registered is not acceptable.
    #[error("the controller refuses to register this broker: {0}")]
    Refused(ControllerError),
}

/// What the lifecycle tells the rest of the node, and asks of it. Called in its task: must be short.
pub trait BrokerHooks: Send + Sync + 'static {
    /// For how long this broker's disks have not finished the commit they are at.
    fn oldest_unfinished_commit(&self) -> Duration;
    /// How much room they have.
    fn disk_space(&self) -> DiskSpace;
    /// The state of this broker's directories now, for a registration.
    fn directories(&self) -> Vec<Directory>;
    /// The controller took the registration: this is the epoch, and what was reported is in the log.
    fn registered(&self, epoch: BrokerEpoch, reported: &[Directory]);
    /// Ends when what this broker has said under its epoch is void: it needs another one.
    fn is_void(&self) -> BoxFuture<'_, ()>;
    /// The controller confirmed the heartbeat that was **sent** at this moment, and what it knew then is known here.
    fn confirmed(&self, sent: Instant);
}

/// Answers to heartbeats, until the image here holds what the controller's held when it gave them.
///
/// Offsets and moments rise from each to the next: an answer makes those before it needless that want as much of the image. So there
/// are no more than heartbeats that met another offset within a session; one of before that confirms nothing any more.
#[derive(Debug)]
struct Confirmations {
    session: Duration,
    waiting: VecDeque<(MetadataOffset, Instant)>,
}

impl Confirmations {
    fn new(session: Duration) -> Self {
        Self { session, waiting: VecDeque::new() }
    }

    /// A heartbeat sent at `sent` was answered by a controller that had applied the log up to `there`.
    fn answered(&mut self, sent: Instant, there: MetadataOffset) {
        while self.waiting.pop_front_if(|(_, earlier)| sent.duration_since(*earlier) > self.session).is_some() {}
        while self.waiting.pop_back_if(|(earlier, _)| *earlier >= there).is_some() {}
        self.waiting.push_back((there, sent));
    }

    /// The log is applied here up to `here`: when the newest heartbeat was sent that is confirmed by that.
    fn covered(&mut self, here: MetadataOffset) -> Option<Instant> {
        let covered = self.waiting.partition_point(|(there, _)| *there <= here);
        self.waiting.drain(..covered).next_back().map(|(_, sent)| sent)
    }

    /// The controller holds the broker for fenced: what it said before is over.
    fn withdraw(&mut self) {
        self.waiting.clear();
    }
}

/// An image that stands still behind the controller's for this long is not only late.
const STANDSTILL: Duration = Duration::from_secs(1);

/// Since when the image here has stood still, and where, while the controller's was further on.
#[derive(Debug, Default)]
struct Standstill(Option<(MetadataOffset, Instant)>);

impl Standstill {
    /// The controller answered at `now` that it had applied the log up to `there`: whether the image has stood still at `here`, behind
    /// that, for [`STANDSTILL`] since it began to or since this said so.
    fn lasts(&mut self, now: Instant, here: MetadataOffset, there: MetadataOffset) -> bool {
        let since = self.0.and_then(|(at, since)| (at == here).then_some(since));
        let lasts = there > here && since.is_some_and(|since| now.duration_since(since) >= STANDSTILL);
        self.0 = (there > here).then(|| (here, since.filter(|_| !lasts).unwrap_or(now)));
        lasts
    }
}

/// A broker, from its registration to its end.
pub struct Lifecycle {
    config: LifecycleConfig,
    metadata: Arc<dyn Metadata>,
    channel: ControllerChannel,
    identity: LocalIdentity,
    /// Everything of a registration but what only the moment knows: cluster id, previous epoch and directories.
    template: RegisterBrokerRequest,
    hooks: Arc<dyn BrokerHooks>,
    state: watch::Sender<BrokerState>,
    registration: watch::Sender<Option<Registration>>,
}

const RETRY: Duration = Duration::from_millis(100);
const WARN_EVERY: Duration = Duration::from_secs(5);
const DUPLICATE_MIN: Duration = Duration::from_secs(8);

impl Lifecycle {
    /// A broker that has not begun.
    pub fn new(
        config: LifecycleConfig,
        metadata: Arc<dyn Metadata>,
        channel: ControllerChannel,
        identity: LocalIdentity,
        template: RegisterBrokerRequest,
        registration: watch::Sender<Option<Registration>>,
        hooks: Arc<dyn BrokerHooks>,
    ) -> Self {
        Self {
            config,
            metadata,
            channel,
            identity,
            template,
            hooks,
            state: watch::Sender::new(BrokerState::Starting),
            registration,
        }
    }

    /// Where the broker is in its life.
    pub fn state(&self) -> watch::Receiver<BrokerState> {
        self.state.subscribe()
    }

    /// Live until a stop is asked for, then leave in order; fails when this process cannot be a broker.
    pub async fn run(self, stop: CancellationToken) -> Result<(), RegistrationRefused> {
        let Some(cluster_id) = self.wait_for_cluster(&stop).await else {
            self.enter(BrokerState::Left);
            return Ok(());
        };
        loop {
            self.enter(BrokerState::Registering);
            let Some(registration) = self.register(cluster_id, &stop).await? else { break };
            self.enter(BrokerState::Fenced);
            if self.heartbeat_until_refused(registration, &stop).await {
                break;
            }
        }
        self.enter(BrokerState::Left);
        Ok(())
    }

    fn enter(&self, state: BrokerState) {
        let changed = self.state.send_if_modified(|now| std::mem::replace(now, state) != state);
        if changed {
            tracing::info!(node = self.template.id.0, state = state.describe(), "broker state");
        }
    }

    async fn wait_for_cluster(&self, stop: &CancellationToken) -> Option<ClusterId> {
        loop {
            // The image's formation record, not only the quorum's: registering needs a controller that has one.
            if let Some(id) = self.metadata.image().cluster.cluster_id().or_else(|| self.metadata.cluster_id()) {
                self.identity.set_cluster_id(id);
                return Some(id);
            }
            tokio::select! {
                biased;
                () = sleep(RETRY / 5) => {}
                () = stop.cancelled() => return None,
            }
        }
    }

    async fn register(
        &self,
        cluster_id: ClusterId,
        stop: &CancellationToken,
    ) -> Result<Option<Registration>, RegistrationRefused> {
        let mut warned: Option<Instant> = None;
        // Who has said so, and since when without anything else in between: a new controller believes for a while that the
        // process before this one still lives.
        let mut duplicate: Option<(Option<NodeId>, Instant)> = None;
        loop {
            let previous = *self.registration.borrow();
            let directories = self.hooks.directories();
            let request = RegisterBrokerRequest {
                cluster_id,
                directories: directories.clone(),
                previous_epoch: previous.map_or(BrokerEpoch::UNKNOWN, |r| r.epoch),
                ..self.template.clone()
            };
            let asked = self.channel.ask(ControllerRequest::RegisterBroker(request), self.config.session);
            let answer = tokio::select! {
                biased;
                answer = asked => answer,
                () = stop.cancelled() => return Ok(None),
            };
            match answer {
                Ok(ControllerResponse::RegisterBroker { epoch }) => {
                    let registration = Registration { id: self.template.id, epoch };
                    self.identity.set_broker_epoch(epoch);
                    // The replicas know before anyone acts on it, and before the first heartbeat.
                    self.hooks.registered(epoch, &directories);
                    self.registration.send_replace(Some(registration));
                    tracing::info!(node = registration.id.0, epoch = epoch.0, "registered");
                    return Ok(Some(registration));
                }
                Ok(other) => {
                    duplicate = None;
                    tracing::warn!(?other, "the controller answered a registration with something else");
                }
                Err(ChannelError::Refused(
                    error @ (ControllerError::InconsistentClusterId { .. }
                    | ControllerError::InvalidRegistration(_)
                    | ControllerError::UnsupportedVersion(_)),
                )) => return Err(RegistrationRefused::Refused(error)),
                Err(error) => {
                    if let ChannelError::Refused(ControllerError::DuplicateBrokerRegistration(id)) = error {
                        let controller = self.metadata.controller();
                        let row = duplicate.filter(|(said_by, _)| *said_by == controller);
                        let (_, since) = *duplicate.insert(row.unwrap_or((controller, Instant::now())));
                        if since.elapsed() > DUPLICATE_MIN.max(self.config.session * 2) {
                            return Err(RegistrationRefused::NodeIdUsedTwice(id));
                        }
                    } else {
                        duplicate = None;
                    }
                    if warned.is_none_or(|at| at.elapsed() > WARN_EVERY) {
                        tracing::warn!(node = self.template.id.0, %error, "cannot register; trying on");
                        warned = Some(Instant::now());
                    }
                }
            }
            tokio::select! {
                biased;
                () = sleep(RETRY) => {}
                () = stop.cancelled() => return Ok(None),
            }
        }
    }

    /// Returns true when the broker has left, false when its epoch is no longer known.
    async fn heartbeat_until_refused(&self, registration: Registration, stop: &CancellationToken) -> bool {
        let mut beat = interval(self.config.heartbeat);
        beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut leave_by: Option<Instant> = None;
        let mut answered = Instant::now();
        let mut confirmations = Confirmations::new(self.config.session);
        let mut standstill = Standstill::default();
        loop {
            tokio::select! {
                biased;
                () = self.hooks.is_void(), if leave_by.is_none() => {
                    tracing::warn!(epoch = registration.epoch.0, "what was said under this broker's epoch is void; registering again");
                    return false;
                }
                _ = beat.tick() => {}
                () = stop.cancelled(), if leave_by.is_none() => {
                    leave_by = Some(Instant::now() + self.config.leave_max);
                    self.enter(BrokerState::Leaving);
                }
            }
            if leave_by.is_some_and(|at| Instant::now() >= at) {
                tracing::warn!("leaving without having handed all leadership over: its time is over");
                return true;
            }
            let sent = Instant::now();
            match self.beat(registration, leave_by.is_some()).await {
                Ok((there, answer)) => {
                    answered = Instant::now();
                    if answer.is_fenced {
                        confirmations.withdraw();
                    } else {
                        confirmations.answered(sent, there);
                    }
                    let here = self.metadata.image().offset;
                    if let Some(sent) = confirmations.covered(here) {
                        self.hooks.confirmed(sent);
                    }
                    if standstill.lasts(answered, here, there) {
                        tracing::warn!(
                            here = here.0,
                            there = there.0,
                            "the metadata log stands still here; the controller is further on"
                        );
                        self.metadata.stands_still();
                    }
                    match (leave_by, answer) {
                        (Some(_), BrokerHeartbeatResponse { should_shut_down: true, .. }) => return true,
                        (Some(_), _) => {}
                        (None, BrokerHeartbeatResponse { is_fenced: true, .. }) => self.enter(BrokerState::Fenced),
                        (None, _) => self.enter(BrokerState::Running),
                    }
                }
                Err(ChannelError::Refused(
                    error @ (ControllerError::StaleBrokerEpoch { .. } | ControllerError::BrokerIdNotRegistered(_)),
                )) => {
                    if leave_by.is_some() {
                        return true;
                    }
                    tracing::warn!(%error, "this broker's epoch is over; registering again");
                    return false;
                }
                Err(error) => {
                    tracing::debug!(%error, "heartbeat");
                    if leave_by.is_none() && answered.elapsed() > self.config.session {
                        self.enter(BrokerState::Unheard);
                    }
                }
            }
        }
    }

    /// The answer, and how far the controller had applied the log when it gave it.
    async fn beat(
        &self,
        at: Registration,
        leaving: bool,
    ) -> Result<(MetadataOffset, BrokerHeartbeatResponse), ChannelError> {
        let request = ControllerRequest::BrokerHeartbeat(BrokerHeartbeatRequest {
            id: at.id,
            epoch: at.epoch,
            applied_offset: self.metadata.image().offset,
            want_fence: false,
            want_shutdown: leaving,
            oldest_unfinished_commit: self.hooks.oldest_unfinished_commit(),
            disk_space: self.hooks.disk_space(),
        });
        // A heartbeat that is late is worth less than the next one.
        let patience = self.config.session / 3;
        let asked = self.channel.ask_on(Lane::Heartbeat, request, patience);
        match timeout(patience, asked).await {
            Ok(Ok((there, ControllerResponse::BrokerHeartbeat(answer)))) => Ok((there, answer)),
            Ok(Ok((_, other))) => {
                Err(ChannelError::TimedOut(format!("the controller answered {other:?} to a heartbeat")))
            }
            Ok(Err(error)) => Err(error),
            Err(_) => Err(ChannelError::TimedOut("no answer to a heartbeat".to_owned())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// It had lost its leaderships in entries that never came to it, and went on for as long as its heartbeats were answered.
    #[test]
    fn a_leader_that_heard_no_metadata_any_more_was_confirmed_by_its_heartbeats() {
        let (mut confirmations, began) = (Confirmations::new(Duration::from_secs(3)), Instant::now());
        let at = |n: u64| began + Duration::from_millis(100 * n);
        confirmations.answered(at(1), MetadataOffset(7));
        assert_eq!(confirmations.covered(MetadataOffset(7)), Some(at(1)));
        assert_eq!(confirmations.covered(MetadataOffset(7)), None, "once");
        confirmations.answered(at(2), MetadataOffset(8));
        confirmations.answered(at(3), MetadataOffset(8));
        confirmations.answered(at(4), MetadataOffset(9));
        assert_eq!(confirmations.covered(MetadataOffset(7)), None, "the fence may be entry 8");
        assert_eq!(confirmations.covered(MetadataOffset(8)), Some(at(3)));
        assert_eq!(confirmations.covered(MetadataOffset(12)), Some(at(4)));
        confirmations.answered(at(5), MetadataOffset(13));
        confirmations.withdraw();
        assert_eq!(confirmations.covered(MetadataOffset(13)), None);
    }

    #[test]
    fn an_image_stands_still_only_where_the_controllers_goes_on() {
        let (mut standstill, began) = (Standstill::default(), Instant::now());
        let mut lasts = |tenths: u64, here, there| {
            standstill.lasts(began + Duration::from_millis(100 * tenths), MetadataOffset(here), MetadataOffset(there))
        };
        assert!(!(0..50).any(|n| lasts(n, 7, 7)), "nothing new");
        assert!(!(50..60).any(|n| lasts(n, 7, 8)), "late");
        assert!(!(60..70).any(|n| lasts(n, 8, 9)), "late again, at the next entry");
        assert!(lasts(70, 8, 9));
        assert!(!(71..80).any(|n| lasts(n, 8, 9)), "another voter has a second too");
        assert!(lasts(80, 8, 9));
        assert!(!lasts(81, 9, 9));
        assert!(!lasts(95, 9, 10), "it begins when the controller is seen to be ahead");
    }

    /// Of a heartbeat every 20 ms the last 64 were kept: what lay more than 1.3 s behind was never confirmed.
    #[test]
    fn a_leader_that_applies_the_log_late_was_not_confirmed_where_heartbeats_are_frequent() {
        let (mut confirmations, began) = (Confirmations::new(Duration::from_secs(3)), Instant::now());
        let at = |n: i64| began + Duration::from_millis(20 * n as u64);
        for n in 0..1000 {
            confirmations.answered(at(n), MetadataOffset(n));
            let late = n - 125; // 2.5 s
            assert_eq!(confirmations.covered(MetadataOffset(late)), (late >= 0).then(|| at(late)), "{n}");
        }
        (1000..2000).for_each(|n| confirmations.answered(at(n), MetadataOffset(n)));
        assert_eq!(confirmations.waiting.len(), 151, "those of a session");
        (2000..3000).for_each(|n| confirmations.answered(at(n), MetadataOffset(2000)));
        assert_eq!(confirmations.waiting.len(), 1, "where the log stands still, the newest");
        confirmations.answered(at(3000), MetadataOffset(1990)); // a new controller, which has not applied as much yet
        assert_eq!(confirmations.covered(MetadataOffset(1990)), Some(at(3000)));
        assert_eq!(confirmations.covered(MetadataOffset(2000)), None);
    }
}
