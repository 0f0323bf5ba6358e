//! The failure watcher's hands: it pings, it proposes fences, it hears heartbeats.
//!
//! What it all means is decided by the pure [`FailureWatcher`]; here are the clock, the connections and the queue around
//! it. It watches the brokers only while this node is the active controller: a new watch begins with each activation, because what
//! an earlier one had heard is stale. One that has lost its lease for a moment watches on afterwards, and leaves that moment out. What it begins with is known beforehand: the connections that have ended by then
//! ([`Departures`]), whom gossip suspects, and who led the quorum before, whom the voters have waited for in vain if it did
//! not hand its office over. A node that is not active watches the leader that it follows ([`LeaderWatch`]).
//!
//! One lock protects both; it is held for arithmetic only, never over a ping or a proposal.
//!
//! What it saw is counted (`rookery_broker_failure_findings_total`) and handed to the controller for the event log, with each tick and
//! before each verdict: at most one submission for each of these, however much there was to see. The active controller also counts what happens in the cluster
//! (`rookery_cluster_events_total`); the sum over all nodes is the cluster's.

use super::{Departures, MetadataQuorum};
use crate::gossip::{GossipEvent, Liveness};
use crate::peer::{ClosedReason, Direction, Lane, PeerError, PeerEvent, PeerPool, ProbeOutcome};
use parking_lot::Mutex;
use rookery_raft::controller::ControllerRequest;
use rookery_raft::controller::failure_watcher::{Evidence, FailureWatcher, FailureWatcherConfig, Verdict};
use rookery_raft::controller::leader_watch::{Followed, LeaderWatch};
use rookery_raft::ids::{BrokerEpoch, IncarnationId, NodeId};
use rookery_raft::image::EventsImage;
use rookery_raft::quorum::Leadership;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{broadcast, mpsc};
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

/// Finer than any deadline of a case.
const TICK: Duration = Duration::from_millis(20);

/// A process that is being torn down still takes connections for a moment, and drops them: ask again after this.
const ASK_AGAIN: Duration = Duration::from_millis(5);
const ASK_AGAIN_MAX: u32 = 10;

/// Watches brokers while this node is the active controller, and the controller while it is not.
pub struct FailureWatch {
    me: NodeId,
    config: FailureWatcherConfig,
    pool: PeerPool,
    departures: Arc<Departures>,
    began: Instant,
    watching: Mutex<Watching>,
}

struct Watching {
    leader: LeaderWatch,
    /// While this node is in office.
    brokers: Option<FailureWatcher>,
    /// In which term.
    term: u64,
    /// Since when it is in office without its lease: it refuses heartbeats, and judges nobody.
    stands_by: Option<Duration>,
}

impl FailureWatch {
    /// Watches nobody yet.
    pub fn new(me: NodeId, heartbeat_interval: Duration, pool: PeerPool, departures: Arc<Departures>) -> Arc<Self> {
        let config = FailureWatcherConfig { heartbeat_interval, ..Default::default() };
        let leader = LeaderWatch::new(config.clone(), Duration::ZERO);
        let watching = Mutex::new(Watching { leader, brokers: None, term: 0, stands_by: None });
        Arc::new(Self { me, config, pool, departures, began: Instant::now(), watching })
    }

    /// A broker's heartbeat was accepted.
    pub fn heard(&self, id: NodeId, epoch: BrokerEpoch) {
        if let Some(watcher) = &mut self.watching.lock().brokers {
            watcher.on_heartbeat(id, epoch, self.began.elapsed());
        }
    }

    /// Watch until told to stop.
    pub async fn run(
        self: Arc<Self>,
        quorum: MetadataQuorum,
        mut connections: broadcast::Receiver<PeerEvent>,
        mut gossip: mpsc::Receiver<GossipEvent>,
        stop: CancellationToken,
    ) {
        let mut tick = interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut images = quorum.images();
        let mut leadership = quorum.leadership();
        let mut departures = self.departures.changes();
        let mut gossip_open = true;
        let mut before = Before::default();
        let mut counted = images.borrow().events.next_number();
        loop {
            let verdicts = tokio::select! {
                // The clock before what others can make come often.
                biased;
                () = stop.cancelled() => return,
                _ = tick.tick() => {
                    let verdicts = self.tick(&quorum);
                    self.tell_findings(&quorum);
                    verdicts
                }
                changed = leadership.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    let leadership = leadership.borrow_and_update().clone();
                    let verdicts = self.follow_leadership(&leadership, &before, &quorum);
                    let leader = leadership.leader.map(|leader| leader.id.node_id);
                    before.leader = leader.filter(|leader| *leader != self.me).or(before.leader);
                    verdicts
                }
                changed = images.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    let image = images.borrow_and_update().clone();
                    self.count_events(&image.events, &mut counted);
                    self.with(|watcher, now| { watcher.on_cluster(&image.cluster, now); Vec::new() })
                }
                event = connections.recv() => match event {
                    Ok(event) => {
                        tell_of_heartbeats(&quorum, &event);
                        Vec::new()
                    }
                    Err(RecvError::Lagged(missed)) => {
                        tracing::debug!(missed, "connection events were missed; heartbeats will tell");
                        Vec::new()
                    }
                    Err(RecvError::Closed) => return,
                },
                changed = departures.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    departures.borrow_and_update();
                    self.on_departures(&quorum)
                }
                event = gossip.recv(), if gossip_open => match event {
                    Some(event) => {
                        before.take_in(&event);
                        self.on_gossip(event)
                    }
                    None => { gossip_open = false; Vec::new() }
                },
            };
            for verdict in verdicts {
                self.carry_out(verdict, &quorum);
            }
        }
    }

    fn with(&self, act: impl FnOnce(&mut FailureWatcher, Duration) -> Vec<Verdict>) -> Vec<Verdict> {
        let now = self.began.elapsed();
        self.watching.lock().brokers.as_mut().map_or_else(Vec::new, |watcher| act(watcher, now))
    }

    fn tick(&self, quorum: &MetadataQuorum) -> Vec<Verdict> {
        let (heard, image) = (quorum.leader_heard(), quorum.image());
        let now = self.began.elapsed();
        let mut watching = self.watching.lock();
        let stands_by = watching.stands_by.is_some();
        if let Some(watcher) = &mut watching.brokers {
            return if stands_by { Vec::new() } else { watcher.tick(now) };
        }
        let followed = heard.and_then(|(id, at)| {
            let broker = image.cluster.broker(id)?;
            // No second look at the clock: the same message came at the same time at every tick.
            Some(Followed { id, epoch: broker.epoch(), heard: at.saturating_duration_since(self.began) })
        });
        let ping = watching.leader.tick(followed, now);
        drop(watching);
        if let Some(Verdict::Ping { id, .. }) = ping {
            quorum.leader_is_silent(id);
        }
        ping.into_iter().collect()
    }

    /// How a ping went.
    fn on_ping(&self, evidence: Evidence) -> Vec<Verdict> {
        let now = self.began.elapsed();
        let mut watching = self.watching.lock();
        match &mut watching.brokers {
            Some(watcher) => watcher.on_evidence(evidence, now),
            None => {
                watching.leader.on_evidence(evidence, now);
                Vec::new()
            }
        }
    }

    fn tell_findings(&self, quorum: &MetadataQuorum) {
        let findings = self.watching.lock().brokers.as_mut().map(FailureWatcher::take_findings).unwrap_or_default();
        for seen in &findings {
            let count = u64::from(seen.count);
            metrics::counter!("rookery_broker_failure_findings_total", "finding" => seen.finding.name())
                .increment(count);
        }
        if !findings.is_empty() {
            quorum.observed(findings);
        }
    }

    /// Every node has the same events; the one that decides counts them.
    fn count_events(&self, events: &EventsImage, counted: &mut u64) {
        let before = std::mem::replace(counted, events.next_number());
        if self.watching.lock().brokers.is_none() {
            return;
        }
        for (_, event) in events.range(before..) {
            metrics::counter!("rookery_cluster_events_total", "kind" => event.what.kind()).increment(1);
        }
    }

    fn follow_leadership(&self, leadership: &Leadership, before: &Before, quorum: &MetadataQuorum) -> Vec<Verdict> {
        let mut watching = self.watching.lock();
        let now = self.began.elapsed();
        if !leadership.in_office || leadership.term != watching.term {
            (watching.brokers, watching.stands_by, watching.term) = (None, None, leadership.term);
        }
        if !leadership.active {
            if watching.brokers.is_some() {
                watching.stands_by.get_or_insert(now);
            }
            return Vec::new();
        }
        let stood_by = watching.stands_by.take();
        if let Some(watcher) = &mut watching.brokers {
            if let Some(since) = stood_by {
                watcher.stood_by(since, now);
            }
            return Vec::new();
        }
        let suspicion = watching.leader.take();
        let fresh = watching.brokers.insert(FailureWatcher::new(self.config.clone(), self.me, now));
        fresh.on_cluster(&quorum.image().cluster, now);
        if let Some(suspicion) = suspicion {
            fresh.take_over(suspicion);
        }
        let mut known: Vec<_> = before.evidence().flat_map(|evidence| fresh.on_evidence(evidence, now)).collect();
        known.extend(fresh.tick(now));
        drop(watching);
        known.into_iter().chain(self.on_departures(quorum)).collect()
    }

    /// Not one connection is left with some lives, and none ended with a goodbye: the kernel of a dead process closes them all.
    fn on_departures(&self, quorum: &MetadataQuorum) -> Vec<Verdict> {
        let (lost, image) = (self.departures.lost(), quorum.image());
        if let Some((leader, _)) = quorum.leader_heard()
            && let Some(broker) = image.cluster.broker(leader)
            && lost.contains(&(leader, broker.record.incarnation))
        {
            quorum.leader_is_dead(leader);
        }
        let closed = |(id, incarnation)| Evidence::ConnectionClosed { id, incarnation };
        self.with(|watcher, now| {
            lost.into_iter().map(closed).flat_map(|closed| watcher.on_evidence(closed, now)).collect()
        })
    }

    fn on_gossip(&self, event: GossipEvent) -> Vec<Verdict> {
        if !event.liveness.is_accusation() {
            return Vec::new();
        }
        let evidence = accusation(event.node_id, event.incarnation, event.liveness);
        self.with(|watcher, now| watcher.on_evidence(evidence, now))
    }

    fn carry_out(self: &Arc<Self>, verdict: Verdict, quorum: &MetadataQuorum) {
        let (this, quorum) = (Arc::clone(self), quorum.clone());
        match verdict {
            Verdict::Ping { id, epoch } => {
                metrics::counter!("rookery_broker_failure_pings_total").increment(1);
                tokio::spawn(async move {
                    let mut outcome = this.pool.probe(id, this.config.answer_within).await;
                    for _ in 0..ASK_AGAIN_MAX {
                        if !matches!(outcome, ProbeOutcome::Failed(PeerError::Handshake { .. })) {
                            break;
                        }
                        tokio::time::sleep(ASK_AGAIN).await;
                        outcome = this.pool.probe(id, this.config.answer_within).await;
                    }
                    let evidence = match outcome {
                        ProbeOutcome::ConnectionRefused => Some(Evidence::PingRefused { id, epoch }),
                        ProbeOutcome::Answered { identity, .. } | ProbeOutcome::Rejected { identity, .. }
                            if identity.node_id == id =>
                        {
                            Some(Evidence::PingAnswered { id, incarnation: identity.incarnation })
                        }
                        // Silence, and failures of our own, are what the watcher's deadline is for.
                        _ => None,
                    };
                    let Some(evidence) = evidence else { return };
                    for verdict in this.on_ping(evidence) {
                        this.carry_out(verdict, &quorum);
                    }
                });
            }
            Verdict::Fence { id, epoch, why } => {
                // In the event log what spoke against it comes before the verdict.
                self.tell_findings(&quorum);
                metrics::counter!("rookery_broker_failure_verdicts_total", "why" => why.name()).increment(1);
                tracing::warn!(node = id.0, epoch = epoch.0, %why, "broker is dead: fencing it");
                tokio::spawn(async move {
                    if let Err(error) = quorum.submit(ControllerRequest::FenceBroker { id, epoch, why }).await {
                        tracing::warn!(node = id.0, epoch = epoch.0, %error, "the fence was not written");
                    }
                    this.with(|watcher, now| {
                        watcher.on_answer(id, epoch, now);
                        Vec::new()
                    });
                });
            }
        }
    }
}

fn accusation(id: NodeId, incarnation: IncarnationId, liveness: Liveness) -> Evidence {
    match liveness {
        Liveness::Down => Evidence::GossipHoldsDown { id, incarnation },
        _ => Evidence::GossipSuspects { id, incarnation },
    }
}

/// What is known on the day this node becomes the active controller.
#[derive(Default)]
struct Before {
    /// Which other node led the quorum last.
    leader: Option<NodeId>,
    /// Whom gossip accuses, and of what.
    suspects: BTreeMap<NodeId, (IncarnationId, Liveness)>,
}

impl Before {
    fn take_in(&mut self, event: &GossipEvent) {
        if event.liveness.is_accusation() {
            self.suspects.insert(event.node_id, (event.incarnation, event.liveness));
        } else {
            self.suspects.remove(&event.node_id);
        }
    }

    fn evidence(&self) -> impl Iterator<Item = Evidence> + '_ {
        let suspects = self.suspects.iter().map(|(id, (life, liveness))| accusation(*id, *life, *liveness));
        self.leader.map(|id| Evidence::WasDeposed { id }).into_iter().chain(suspects)
    }
}

/// The session of a broker whose heartbeat connection has ended without a goodbye is not waited for.
fn tell_of_heartbeats(quorum: &MetadataQuorum, event: &PeerEvent) {
    if let PeerEvent::Closed {
        peer,
        lane: Lane::Heartbeat,
        direction: Direction::Inbound,
        reason: ClosedReason::Lost,
        ..
    } = event
    {
        quorum.heartbeat_connection_closed(peer.node_id, peer.broker_epoch);
    }
}
