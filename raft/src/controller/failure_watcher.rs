//! From suspicion to a verdict: which broker is dead, decided by the active controller alone.
//!
//! Pure: evidence and time in, [`Verdict`]s out. The owner does the pings and proposes the fences. Gossip, a closed
//! connection or silence only ever *open a case*; the verdict needs proof. The backstop for everything this watcher
//! leaves undecided is the session timeout.
//!
//! # A case
//!
//! ```text
//!            connection closed, gossip suspects it, no heartbeat for three intervals, or it led the quorum until just now
//!  trusted ─────────────────────────────────────────────────────────────▶ suspected: pings at 0, 100, 200 ms
//!     ▲  heartbeat, or a ping answered by the same incarnation                │
//!     ├────────────────────────────────────────────────────────────────────────┤
//!     │                                                                        ▼
//!     │   ping answered by another incarnation, or refused while the        convicted: FenceBroker{id, epoch}
//!     │   connection is closed or silent for three intervals: at once
//!     └── 400 ms without answer, and no heartbeat for three intervals ─▶ convicted, unless a guard holds
//! ```
//!
//! A refused ping says that nobody listens where the broker registered, but a firewall between the two can say the same.
//! So it takes a second, independent sign: the last connection with that process ended without a word, or three heartbeats that
//! did not come. The last open connection with that life counts, of whatever lane, and one that ended before this node became the active controller: that is all
//! a new controller has on its predecessor, which never sent it a heartbeat. What it has gathered against it as a voter it takes over ([`super::leader_watch`]). A broker that has not yet found the new
//! controller is silent too, but it answers pings; one that restarts refuses them, and then the life that is fenced is over.
//!
//! # Guards
//!
//! - **Own lag**: a watcher that was not running for three intervals has heard nobody; all cases are dropped. Silence is therefore
//!   judged in [`FailureWatcher::tick`] only, which knows of its own lag. A new watcher counts silence from its start.
//! - **Standing by**: a controller whose lease has lapsed for a moment refuses heartbeats; that time is left out ([`FailureWatcher::stood_by`]).
//! - **Lonely**: if more than half of the watched brokers are silent at once, it is rather this node that is cut off.
//!   Silence convicts nobody then. (A refused connection and another incarnation are answers of the other host, not
//!   silence; they convict still.)
//! - **One proposal at a time**: a controller without a majority waits for as long as that lasts until its log has taken a fence.
//!   The same life is not convicted again before the proposal was answered, nor soon after the answer: 50 ms, then twice as long each
//!   time, up to a second.
//! - **Once in ten seconds**: a broker fenced for silence that came back in the same epoch was not dead. It is not
//!   fenced for silence again within ten seconds; flapping must not cost a fail-over each time. Unless it was **really away** and
//!   there is a **witness** (below).
//!
//! # Who may be fenced for silence again
//!
//! The guard is for a broker that answers late: one whose machine stalls for a moment more than the 0.7 s that convict, again and again. Each of these
//! verdicts was wrong by the time it was written, and costs more than it saves. It is no help against a broker that hangs, goes on, and hangs again: that verdict was right, and
//! the guard left its partitions without a leader until the session ended, up to three seconds. Two things together tell the one from the other:
//!
//! - It was really away: after the verdict it was silent for another second at least, longer than a late answer takes to arrive. Silence that long is a
//!   fault by what this cluster promises, whatever its cause, and so is the next.
//! - A witness: gossip holds that same life down. Gossip has paths of its own (datagrams, and others who ask in this node's place), and its own guard against a
//!   node that is slow itself; it takes its accusation back when the accused refutes it. So neither a controller that is cut off from one broker nor one that lags
//!   repeats its mistake within ten seconds.
//!
//! Such a broker was silent for 1.7 s and more each time, so it is fenced five times in ten seconds at most. A broker that registered anew, or was
//! forgotten by a new controller, begins without a record, as before: its epoch or its judge is another.

use super::leader_watch::Suspicion;
use crate::ids::{BrokerEpoch, IncarnationId, NodeId};
use crate::image::ClusterImage;
use crate::record::{Conviction, Finding, Observation};
use std::collections::BTreeMap;
use std::time::Duration;

/// Times of the watcher.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FailureWatcherConfig {
    /// How often brokers send heartbeats.
    pub heartbeat_interval: Duration,
    /// When, after a case is opened, pings are sent.
    pub pings_at: [Duration; 3],
    /// How long a case waits for an answer.
    pub answer_within: Duration,
    /// How long after the answer to a fence that life is not convicted again; doubled each time.
    pub propose_again_after: Duration,
    /// How long at most.
    pub propose_again_after_max: Duration,
    /// How long a broker fenced for silence is safe from being fenced for silence again in the same epoch.
    pub refence_after: Duration,
    /// Who was silent for so long after the verdict was really away.
    pub really_away: Duration,
}

impl Default for FailureWatcherConfig {
    fn default() -> Self {
        Self {
            heartbeat_interval: Duration::from_millis(100),
            pings_at: [Duration::ZERO, Duration::from_millis(100), Duration::from_millis(200)],
            answer_within: Duration::from_millis(400),
            propose_again_after: Duration::from_millis(50),
            propose_again_after_max: Duration::from_secs(1),
            refence_after: Duration::from_secs(10),
            really_away: Duration::from_secs(1),
        }
    }
}

/// What speaks for or against a broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Evidence {
    /// The last open connection with that process, of whatever lane, ended without a goodbye.
    ConnectionClosed {
        /// Which broker.
        id: NodeId,
        /// Which start of its process had opened it, or had been dialled.
        incarnation: IncarnationId,
    },
    /// Gossip suspects that life of the node.
    GossipSuspects {
        /// Which broker.
        id: NodeId,
        /// Which start of its process.
        incarnation: IncarnationId,
    },
    /// Gossip holds that life of the node down: it did not refute in time.
    GossipHoldsDown {
        /// Which broker.
        id: NodeId,
        /// Which start of its process.
        incarnation: IncarnationId,
    },
    /// It led the quorum, and the voters elected this node in its place.
    WasDeposed {
        /// Which broker, in whatever life.
        id: NodeId,
    },
    /// The host answered a ping: nobody listens.
    PingRefused {
        /// Which broker.
        id: NodeId,
        /// The life that was pinged.
        epoch: BrokerEpoch,
    },
    /// Somebody answered a ping.
    PingAnswered {
        /// Which broker.
        id: NodeId,
        /// Which start of its process answered.
        incarnation: IncarnationId,
    },
}

/// What the owner shall do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Ping that broker now, on a connection of its own, and tell how it went.
    Ping {
        /// Which broker.
        id: NodeId,
        /// The life the case is about; goes back with a refusal.
        epoch: BrokerEpoch,
    },
    /// It is dead: propose [`super::ControllerRequest::FenceBroker`].
    Fence {
        /// Which broker.
        id: NodeId,
        /// In which life.
        epoch: BrokerEpoch,
        /// On what grounds.
        why: Conviction,
    },
}

/// Pings that nobody has answered yet.
#[derive(Clone, Debug)]
pub(super) struct Case {
    pub(super) opened: Duration,
    pub(super) pings_sent: usize,
    pub(super) refused: bool,
}

impl Case {
    pub(super) fn open(now: Duration) -> Self {
        Self { opened: now, pings_sent: 0, refused: false }
    }
}

/// Whether a verdict may be proposed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Proposal {
    /// From then on.
    From(Duration),
    /// Not before the last one was answered. (A fence that was written ends the case by way of the log.)
    Waits,
}

#[derive(Clone, Debug)]
struct Watched {
    epoch: BrokerEpoch,
    incarnation: IncarnationId,
    /// Whether the log says it is unfenced: only those are judged.
    unfenced: bool,
    last_heartbeat: Duration,
    connection_closed: bool,
    case: Option<Case>,
    /// Whether it was silent when last looked at.
    silent: bool,
    /// Whether gossip holds it down, and nothing has been heard of it since.
    witnessed: bool,
    fenced_for_silence: Option<Absence>,
    proposal: Proposal,
    /// From the next answer to the next proposal.
    pause: Duration,
}

/// What became of a broker that was found silent.
#[derive(Clone, Copy, Debug)]
struct Absence {
    convicted: Duration,
    /// Its first word after that.
    back: Option<Duration>,
}

/// Watches the brokers for one active controller.
#[derive(Debug)]
pub struct FailureWatcher {
    config: FailureWatcherConfig,
    own_id: NodeId,
    brokers: BTreeMap<NodeId, Watched>,
    last_tick: Duration,
    findings: Findings,
}

/// What was seen, for the event log and for metrics: one for each broker and kind, with how often.
#[derive(Debug, Default)]
struct Findings(BTreeMap<(NodeId, Finding), Observation>);

impl Findings {
    fn note(&mut self, broker: NodeId, epoch: BrokerEpoch, finding: Finding) {
        tracing::debug!(broker = broker.0, epoch = epoch.0, finding = finding.name(), "seen");
        let nothing = Observation { broker, epoch, finding, count: 0 };
        let seen = self.0.entry((broker, finding)).or_insert(nothing);
        seen.epoch = epoch;
        seen.count = seen.count.saturating_add(1);
    }
}

impl FailureWatcher {
    /// A watcher for a controller that has just become active; `own_id` is its own node, which it never judges.
    pub fn new(config: FailureWatcherConfig, own_id: NodeId, now: Duration) -> Self {
        Self { config, own_id, brokers: BTreeMap::new(), last_tick: now, findings: Findings::default() }
    }

    /// Takes over what the log says about the brokers; call after every metadata update that changed one.
    pub fn on_cluster(&mut self, cluster: &ClusterImage, now: Duration) {
        self.brokers.retain(|id, watched| cluster.broker(*id).is_some_and(|b| b.epoch() == watched.epoch));
        for broker in cluster.brokers() {
            let watched = self.brokers.entry(broker.id()).or_insert_with(|| Watched {
                epoch: broker.epoch(),
                incarnation: broker.record.incarnation,
                unfenced: false,
                last_heartbeat: now,
                connection_closed: false,
                case: None,
                silent: false,
                witnessed: false,
                fenced_for_silence: None,
                proposal: Proposal::From(now),
                pause: self.config.propose_again_after,
            });
            let unfenced = !broker.fenced;
            if unfenced && !watched.unfenced {
                watched.last_heartbeat = now;
            }
            watched.unfenced = unfenced;
            if !unfenced {
                watched.case = None;
                watched.proposal = Proposal::From(now);
                watched.pause = self.config.propose_again_after;
            }
        }
    }

    /// Takes over what this node has gathered, as a voter, against the controller before it. Call after [`Self::on_cluster`].
    pub fn take_over(&mut self, Suspicion { of, case, .. }: Suspicion) {
        let own_id = self.own_id;
        let watched = self.brokers.get_mut(&of.id).filter(|w| w.unfenced && w.epoch == of.epoch && of.id != own_id);
        if let Some(watched) = watched {
            watched.last_heartbeat = of.heard;
            watched.case = Some(case);
            self.findings.note(of.id, of.epoch, Finding::Deposed);
        }
    }

    /// What was seen since this was last asked, with how often.
    pub fn take_findings(&mut self) -> Vec<Observation> {
        std::mem::take(&mut self.findings.0).into_values().collect()
    }

    /// A broker lives: every case against that life is closed.
    pub fn on_heartbeat(&mut self, id: NodeId, epoch: BrokerEpoch, now: Duration) {
        if let Some(watched) = self.brokers.get_mut(&id).filter(|w| w.epoch == epoch) {
            watched.last_heartbeat = now;
            watched.connection_closed = false;
            watched.spoke(now);
            if watched.case.take().is_some() {
                self.findings.note(id, epoch, Finding::Acquitted);
            }
        }
    }

    /// From `since` to `now` this node refused what brokers said, for want of its lease, and did not look at them either: that time is no
    /// silence of theirs. It was not ticked meanwhile.
    pub fn stood_by(&mut self, since: Duration, now: Duration) {
        let gap = now.saturating_sub(since);
        let later = |at: Duration| (at + gap).min(now);
        self.last_tick = later(self.last_tick);
        for watched in self.brokers.values_mut() {
            watched.last_heartbeat = later(watched.last_heartbeat);
            if let Some(case) = &mut watched.case {
                case.opened = later(case.opened);
            }
        }
    }

    /// A proposed fence was carried out, or refused.
    pub fn on_answer(&mut self, id: NodeId, epoch: BrokerEpoch, now: Duration) {
        if let Some(watched) = self.brokers.get_mut(&id).filter(|w| w.epoch == epoch && w.proposal == Proposal::Waits) {
            watched.proposal = Proposal::From(now + watched.pause);
            watched.pause = (watched.pause * 2).min(self.config.propose_again_after_max);
        }
    }

    /// Something speaks for or against a broker.
    pub fn on_evidence(&mut self, evidence: Evidence, now: Duration) -> Vec<Verdict> {
        let (id, ours) = match evidence {
            Evidence::PingRefused { id, epoch } => (id, self.brokers.get(&id).is_some_and(|w| w.epoch == epoch)),
            Evidence::ConnectionClosed { id, incarnation }
            | Evidence::GossipSuspects { id, incarnation }
            | Evidence::GossipHoldsDown { id, incarnation } => {
                (id, self.brokers.get(&id).is_some_and(|w| w.incarnation == incarnation))
            }
            Evidence::PingAnswered { id, .. } | Evidence::WasDeposed { id } => (id, true),
        };
        if !ours || id == self.own_id {
            return vec![];
        }
        let Some(watched) = self.brokers.get_mut(&id).filter(|w| w.unfenced) else { return vec![] };
        let may_convict = watched.may_be_convicted(now);
        match evidence {
            Evidence::ConnectionClosed { .. } => {
                if !std::mem::replace(&mut watched.connection_closed, true) {
                    self.findings.note(id, watched.epoch, Finding::ConnectionClosed);
                }
                if may_convict && watched.case.as_ref().is_some_and(|case| case.refused) {
                    return vec![convict(id, watched, Conviction::ConnectionClosedAndRefused)];
                }
                open_case(watched, now);
            }
            Evidence::GossipSuspects { .. } | Evidence::GossipHoldsDown { .. } => {
                watched.witnessed |= matches!(evidence, Evidence::GossipHoldsDown { .. });
                open_case(watched, now);
                self.findings.note(id, watched.epoch, Finding::SuspectedByGossip);
            }
            Evidence::WasDeposed { .. } => {
                open_case(watched, now);
                self.findings.note(id, watched.epoch, Finding::Deposed);
            }
            Evidence::PingRefused { .. } => {
                if may_convict && watched.connection_closed {
                    return vec![convict(id, watched, Conviction::ConnectionClosedAndRefused)];
                }
                if let Some(case) = &mut watched.case {
                    case.refused = true;
                }
            }
            Evidence::PingAnswered { incarnation, .. } if incarnation != watched.incarnation => {
                if may_convict {
                    return vec![convict(id, watched, Conviction::OtherIncarnationAnswered)];
                }
            }
            Evidence::PingAnswered { .. } => {
                watched.spoke(now);
                if watched.case.take().is_some() {
                    self.findings.note(id, watched.epoch, Finding::Acquitted);
                }
            }
        }
        self.due_pings(id, now)
    }

    /// Time has passed; call about every 20 ms.
    pub fn tick(&mut self, now: Duration) -> Vec<Verdict> {
        let silence = self.config.heartbeat_interval * 3;
        let own_lag = now.saturating_sub(self.last_tick);
        self.last_tick = now;
        if own_lag > silence {
            tracing::warn!(?own_lag, "the failure watcher itself lagged: all cases are dropped");
            for watched in self.brokers.values_mut() {
                watched.last_heartbeat = now;
                watched.case = None;
            }
            self.findings.note(self.own_id, BrokerEpoch::UNKNOWN, Finding::WatcherLagged);
            return vec![];
        }
        let silent = |w: &Watched| now.saturating_sub(w.last_heartbeat) > silence;
        let judged = |id: &NodeId, w: &Watched| w.unfenced && *id != self.own_id;
        let all = self.brokers.values().filter(|w| w.unfenced).count();
        let quiet = self.brokers.iter().filter(|(id, w)| judged(id, w) && silent(w)).count();
        let lonely = quiet * 2 > all;
        let mut verdicts = Vec::new();
        let ids: Vec<NodeId> = self.brokers.iter().filter(|(id, w)| judged(id, w)).map(|(id, _)| *id).collect();
        for id in ids {
            let Some(watched) = self.brokers.get_mut(&id) else { continue };
            let was_silent = watched.silent;
            watched.silent = silent(watched);
            if watched.silent && !was_silent {
                self.findings.note(id, watched.epoch, Finding::Silent);
            }
            if !watched.may_be_convicted(now) {
                continue;
            }
            if watched.silent {
                open_case(watched, now);
                if watched.case.as_ref().is_some_and(|case| case.refused) {
                    verdicts.push(convict(id, watched, Conviction::SilentAndRefused));
                    continue;
                }
            }
            let waited = watched.case.as_ref().map(|case| now.saturating_sub(case.opened));
            if waited.is_some_and(|waited| waited >= self.config.answer_within) {
                verdicts.extend(self.judge_silence(id, now, silence, lonely));
            } else {
                verdicts.extend(self.due_pings(id, now));
            }
        }
        verdicts
    }

    /// A case nobody answered.
    fn judge_silence(&mut self, id: NodeId, now: Duration, silence: Duration, lonely: bool) -> Option<Verdict> {
        let FailureWatcherConfig { refence_after, really_away, .. } = self.config;
        let watched = self.brokers.get_mut(&id)?;
        watched.case = None;
        if now.saturating_sub(watched.last_heartbeat) <= silence {
            return None;
        }
        if lonely {
            self.findings.note(id, watched.epoch, Finding::HeldBackLonely);
            return None;
        }
        let recently = |absence: Absence| now.saturating_sub(absence.convicted) < refence_after;
        let again = watched.fenced_for_silence.filter(|absence| recently(*absence));
        if again.is_some_and(|absence| !(watched.witnessed && absence.was_real(really_away))) {
            self.findings.note(id, watched.epoch, Finding::HeldBackAgain);
            return None;
        }
        watched.fenced_for_silence = Some(Absence { convicted: now, back: None });
        Some(convict(id, watched, Conviction::SilentAndPingsUnanswered))
    }

    fn due_pings(&mut self, id: NodeId, now: Duration) -> Vec<Verdict> {
        let Some(watched) = self.brokers.get_mut(&id) else { return vec![] };
        let epoch = watched.epoch;
        let Some(case) = &mut watched.case else { return vec![] };
        let elapsed = now.saturating_sub(case.opened);
        let due = self.config.pings_at.iter().filter(|at| **at <= elapsed).count();
        // One ping catches up with several that are late.
        let send = due > case.pings_sent;
        case.pings_sent = due.max(case.pings_sent);
        if send { vec![Verdict::Ping { id, epoch }] } else { vec![] }
    }
}

impl Watched {
    fn may_be_convicted(&self, now: Duration) -> bool {
        matches!(self.proposal, Proposal::From(from) if now >= from)
    }

    fn spoke(&mut self, now: Duration) {
        self.witnessed = false;
        if let Some(absence) = &mut self.fenced_for_silence {
            absence.back.get_or_insert(now);
        }
    }
}

impl Absence {
    fn was_real(&self, really_away: Duration) -> bool {
        self.back.is_some_and(|back| back.saturating_sub(self.convicted) >= really_away)
    }
}

fn open_case(watched: &mut Watched, now: Duration) {
    watched.case.get_or_insert(Case::open(now));
}

fn convict(id: NodeId, watched: &mut Watched, why: Conviction) -> Verdict {
    tracing::info!(broker = id.0, epoch = watched.epoch.0, %why, "broker found dead");
    watched.case = None;
    watched.proposal = Proposal::Waits;
    Verdict::Fence { id, epoch: watched.epoch, why }
}

#[cfg(test)]
mod tests {
    use super::super::leader_watch::{Followed, LeaderWatch};
    use super::*;
    use crate::delta::MetadataDelta;
    use crate::ids::{ClusterId, MetadataOffset};
    use crate::image::MetadataImage;
    use crate::record::{Address, Formation, MetadataRecord, RegisterBroker};
    use uuid::Uuid;

    fn ms(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    fn incarnation(id: i32) -> IncarnationId {
        IncarnationId(Uuid::from_u128(id as u128))
    }

    fn cluster(ids: std::ops::RangeInclusive<i32>, fenced: &[i32]) -> ClusterImage {
        let mut delta = MetadataDelta::new(MetadataImage::empty());
        let mut replay = |record| delta.replay(MetadataOffset(1), &record).expect("sound records");
        replay(MetadataRecord::Formation(Formation { cluster_id: ClusterId::NONE, voters: vec![] }));
        for id in ids {
            replay(MetadataRecord::RegisterBroker(RegisterBroker {
                id: NodeId(id),
                epoch: BrokerEpoch(i64::from(id)),
                incarnation: incarnation(id),
                previous_epoch: BrokerEpoch::UNKNOWN,
                listeners: vec![],
                peer_address: Address { host: "h".into(), port: 1 },
                gossip_address: None,
                rack: None,
                features: Default::default(),
                directories: vec![],
                is_controller: false,
            }));
            if !fenced.contains(&id) {
                replay(MetadataRecord::UnfenceBroker { id: NodeId(id), epoch: BrokerEpoch(i64::from(id)) });
            }
        }
        delta.apply().cluster
    }

    /// Runs ticks with heartbeats of all but the silent brokers; returns the verdicts with their times.
    fn run(watcher: &mut FailureWatcher, from: u64, to: u64, all: i32, silent: &[i32]) -> Vec<(u64, Verdict)> {
        let mut verdicts = Vec::new();
        for at in (from..to).step_by(20) {
            if at % 100 == 0 {
                for id in (1..=all).filter(|id| !silent.contains(id)) {
                    watcher.on_heartbeat(NodeId(id), BrokerEpoch(i64::from(id)), ms(at));
                }
            }
            verdicts.extend(watcher.tick(ms(at)).into_iter().map(|v| (at, v)));
        }
        verdicts
    }

    #[test]
    fn a_lease_that_lapsed_again_and_again_hid_a_dead_broker() {
        let mut w = watcher(3);
        assert_eq!(fences(&run(&mut w, 20, 1000, 3, &[])), []);
        let mut found = Vec::new();
        for turn in 0..40 {
            let lapsed = 1000 + turn * 440;
            w.stood_by(ms(lapsed), ms(lapsed + 320));
            found.extend(fences(&run(&mut w, lapsed + 320, lapsed + 440, 3, &[3])));
        }
        assert_eq!(found, [NodeId(3)], "and of the others' silence meanwhile nothing was made");
    }

    fn fences(verdicts: &[(u64, Verdict)]) -> Vec<NodeId> {
        let fence = |(_, v): &(u64, Verdict)| match v {
            Verdict::Fence { id, .. } => Some(*id),
            Verdict::Ping { .. } => None,
        };
        verdicts.iter().filter_map(fence).collect()
    }

    fn watcher(brokers: i32) -> FailureWatcher {
        let mut watcher = FailureWatcher::new(FailureWatcherConfig::default(), NodeId(1), ms(0));
        watcher.on_cluster(&cluster(1..=brokers, &[]), ms(0));
        watcher
    }

    /// The voters had waited for it in vain until they elected; the new controller waited for three more intervals before it asked.
    #[test]
    fn a_controller_that_hung_was_suspected_only_after_three_more_intervals() {
        let (id, epoch) = (NodeId(2), BrokerEpoch(2));
        let mut w = watcher(3);
        assert_eq!(w.on_evidence(Evidence::WasDeposed { id }, ms(0)), [Verdict::Ping { id, epoch }]);
        let verdicts = run(&mut w, 0, 420, 3, &[2]);
        let why = Conviction::SilentAndPingsUnanswered;
        assert_eq!(verdicts.last(), Some(&(400, Verdict::Fence { id, epoch, why })));
        let mut alive = watcher(3);
        alive.on_evidence(Evidence::WasDeposed { id }, ms(0));
        assert_eq!(fences(&run(&mut alive, 0, 1000, 3, &[])), [], "its heartbeats acquit it");
    }

    /// The voter had asked it in vain for as long as the election took; the new controller began anew, and took another 400 ms.
    #[test]
    fn a_controller_that_hung_was_asked_anew_after_the_election() {
        let (id, epoch) = (NodeId(2), BrokerEpoch(2));
        let asked = |from: u64, to: u64, epoch: BrokerEpoch| {
            let mut voter = LeaderWatch::new(FailureWatcherConfig::default(), ms(0));
            for at in (0..to).step_by(20) {
                voter.tick(Some(Followed { id, epoch, heard: ms(at.min(from)) }), ms(at));
            }
            let mut w = FailureWatcher::new(FailureWatcherConfig::default(), NodeId(1), ms(to));
            w.on_cluster(&cluster(1..=3, &[]), ms(to));
            w.take_over(voter.take().expect("it says nothing"));
            w
        };
        let why = Conviction::SilentAndPingsUnanswered;
        assert_eq!(asked(1000, 1640, epoch).tick(ms(1640)), [Verdict::Fence { id, epoch, why }]);
        let verdicts = run(&mut asked(1000, 1500, epoch), 1500, 1700, 3, &[2]);
        assert_eq!(verdicts, [(1620, Verdict::Fence { id, epoch, why })], "400 ms, wherever they began");
        let mut alive = asked(1000, 1500, epoch);
        alive.on_evidence(Evidence::PingAnswered { id, incarnation: incarnation(2) }, ms(1500));
        assert_eq!(fences(&run(&mut alive, 1500, 1800, 3, &[])), [], "an answer that was under way acquits");
        assert_eq!(asked(1000, 1640, BrokerEpoch(1)).tick(ms(1640)), [], "an earlier life of it");
    }

    #[test]
    fn a_killed_process_is_convicted_by_its_own_kernel() {
        let mut w = watcher(3);
        let (id, epoch) = (NodeId(2), BrokerEpoch(2));
        let ping = w.on_evidence(Evidence::ConnectionClosed { id, incarnation: incarnation(2) }, ms(5));
        assert_eq!(ping, [Verdict::Ping { id, epoch }]);
        assert_eq!(
            w.on_evidence(Evidence::PingRefused { id, epoch }, ms(6)),
            [Verdict::Fence { id, epoch, why: Conviction::ConnectionClosedAndRefused }]
        );
    }

    #[test]
    fn a_restarted_process_convicts_its_earlier_life() {
        let mut w = watcher(3);
        let (id, epoch) = (NodeId(2), BrokerEpoch(2));
        w.on_evidence(Evidence::ConnectionClosed { id, incarnation: incarnation(2) }, ms(5));
        let answer = Evidence::PingAnswered { id, incarnation: incarnation(99) };
        let why = Conviction::OtherIncarnationAnswered;
        assert_eq!(w.on_evidence(answer, ms(6)), [Verdict::Fence { id, epoch, why }]);
    }

    #[test]
    fn a_new_controller_convicts_a_silent_broker_whose_host_refuses_connections() {
        // It never held a connection of that broker, and nobody told it that one closed.
        let mut w = watcher(3);
        let (id, epoch) = (NodeId(2), BrokerEpoch(2));
        assert_eq!(run(&mut w, 0, 340, 3, &[2]), [(320, Verdict::Ping { id, epoch })]);
        assert_eq!(w.on_evidence(Evidence::PingRefused { id, epoch }, ms(321)), []);
        let why = Conviction::SilentAndRefused;
        assert_eq!(run(&mut w, 340, 360, 3, &[2]), [(340, Verdict::Fence { id, epoch, why })]);
    }

    #[test]
    fn a_controller_without_a_majority_proposed_the_same_fence_at_every_tick() {
        let mut w = watcher(3);
        let (id, epoch) = (NodeId(2), BrokerEpoch(2));
        w.on_evidence(Evidence::ConnectionClosed { id, incarnation: incarnation(2) }, ms(5));
        let why = Conviction::ConnectionClosedAndRefused;
        assert_eq!(w.on_evidence(Evidence::PingRefused { id, epoch }, ms(6)), [Verdict::Fence { id, epoch, why }]);
        let refused = |w: &mut FailureWatcher, at: u64| {
            w.on_evidence(Evidence::ConnectionClosed { id, incarnation: incarnation(2) }, ms(at));
            w.on_evidence(Evidence::PingRefused { id, epoch }, ms(at + 1))
        };
        // The log has not taken it yet.
        assert_eq!(fences(&run(&mut w, 20, 5000, 3, &[2])), []);
        assert_eq!(refused(&mut w, 5000), []);
        // It never will: this controller was deposed, or has no lease.
        w.on_answer(id, epoch, ms(5010));
        assert_eq!(refused(&mut w, 5020), []);
        assert_eq!(fences(&run(&mut w, 5040, 5500, 3, &[2])), [id], "it is as dead as before");
        w.on_answer(id, epoch, ms(5510));
        assert_eq!(refused(&mut w, 5520), []);
        assert_eq!(fences(&run(&mut w, 5540, 5600, 3, &[2])), [], "later each time");
        assert_eq!(fences(&run(&mut w, 5600, 6000, 3, &[2])), [id]);
        // It was written, and the broker came back in the same life: a new death is judged at once.
        w.on_cluster(&cluster(1..=3, &[2]), ms(6050));
        w.on_cluster(&cluster(1..=3, &[]), ms(6060));
        assert_eq!(refused(&mut w, 6070), [Verdict::Fence { id, epoch, why }]);
    }

    #[test]
    fn a_refused_ping_alone_convicts_nobody() {
        // Something between the two refuses connections; the heartbeats go on.
        let mut w = watcher(3);
        let (id, epoch) = (NodeId(2), BrokerEpoch(2));
        for at in (0..3000).step_by(100) {
            w.on_evidence(Evidence::GossipSuspects { id, incarnation: incarnation(2) }, ms(at + 1));
            assert_eq!(w.on_evidence(Evidence::PingRefused { id, epoch }, ms(at + 2)), []);
            assert_eq!(fences(&run(&mut w, at + 20, at + 120, 3, &[])), []);
        }
    }

    #[test]
    fn a_watcher_that_stood_still_takes_a_refusal_for_no_proof_of_silence() {
        let mut w = watcher(3);
        let (id, epoch) = (NodeId(2), BrokerEpoch(2));
        run(&mut w, 0, 200, 3, &[]);
        w.on_evidence(Evidence::GossipSuspects { id, incarnation: incarnation(2) }, ms(200));
        let ping = w.on_evidence(Evidence::PingRefused { id, epoch }, ms(60_000));
        assert_eq!(ping, [Verdict::Ping { id, epoch }], "one that is late");
        assert_eq!(w.tick(ms(60_000)), []);
    }

    /// How often each was seen, of whom.
    fn findings(watcher: &mut FailureWatcher) -> Vec<(i32, Finding, u32)> {
        watcher.take_findings().into_iter().map(|o| (o.broker.0, o.finding, o.count)).collect()
    }

    #[test]
    fn every_suspicion_and_its_end_are_told() {
        let mut w = watcher(3);
        let (id, incarnation) = (NodeId(2), incarnation(2));
        w.on_evidence(Evidence::GossipSuspects { id, incarnation }, ms(1));
        w.on_evidence(Evidence::ConnectionClosed { id, incarnation }, ms(2));
        w.on_evidence(Evidence::ConnectionClosed { id, incarnation }, ms(3));
        w.on_evidence(Evidence::PingAnswered { id, incarnation }, ms(4));
        w.on_evidence(Evidence::PingAnswered { id, incarnation }, ms(5));
        let all = [(2, Finding::SuspectedByGossip, 1), (2, Finding::ConnectionClosed, 1), (2, Finding::Acquitted, 1)];
        assert_eq!(findings(&mut w), all);
        w.on_evidence(Evidence::GossipSuspects { id, incarnation }, ms(6));
        w.on_heartbeat(id, BrokerEpoch(2), ms(7));
        assert_eq!(findings(&mut w), [(2, Finding::SuspectedByGossip, 1), (2, Finding::Acquitted, 1)]);
        run(&mut w, 20, 2000, 3, &[]);
        assert_eq!(findings(&mut w), [], "nothing to tell of a quiet cluster");
        run(&mut w, 2000, 3000, 3, &[2, 3]);
        let held = findings(&mut w);
        assert!(held.iter().any(|(id, finding, _)| (*id, *finding) == (2, Finding::HeldBackLonely)), "{held:?}");
        assert!(held.iter().any(|(id, finding, _)| (*id, *finding) == (3, Finding::Silent)), "{held:?}");
        w.tick(ms(60_000));
        assert_eq!(findings(&mut w), [(1, Finding::WatcherLagged, 1)]);
    }

    #[test]
    fn a_closed_connection_of_an_earlier_process_says_nothing() {
        let mut w = watcher(3);
        let closed = Evidence::ConnectionClosed { id: NodeId(2), incarnation: incarnation(99) };
        assert_eq!(w.on_evidence(closed, ms(5)), []);
    }

    #[test]
    fn suspicion_alone_convicts_nobody() {
        let mut w = watcher(3);
        let suspects = Evidence::GossipSuspects { id: NodeId(2), incarnation: incarnation(2) };
        assert_eq!(w.on_evidence(suspects, ms(0)).len(), 1, "it is pinged");
        assert_eq!(fences(&run(&mut w, 20, 2000, 3, &[])), [], "its heartbeats acquit it");
        assert_eq!(
            w.on_evidence(Evidence::GossipSuspects { id: NodeId(2), incarnation: incarnation(7) }, ms(2000)),
            []
        );
    }

    #[test]
    fn silence_and_three_unanswered_pings_convict() {
        let mut w = watcher(3);
        let verdicts = run(&mut w, 0, 900, 3, &[2]);
        assert_eq!(fences(&verdicts), [NodeId(2)]);
        assert_eq!(
            findings(&mut w),
            [(2, Finding::Silent, 1)],
            "told once, though it goes on until the fence is in the log"
        );
        let why = Conviction::SilentAndPingsUnanswered;
        assert!(verdicts.iter().any(|(_, v)| matches!(v, Verdict::Fence { why: said, .. } if *said == why)));
        let pings = verdicts.iter().take_while(|(_, v)| matches!(v, Verdict::Ping { .. })).count();
        assert_eq!(pings, 3);
        let mut answered = watcher(3);
        let mut verdicts = run(&mut answered, 0, 500, 3, &[2]);
        answered.on_evidence(Evidence::PingAnswered { id: NodeId(2), incarnation: incarnation(2) }, ms(500));
        verdicts.extend(run(&mut answered, 500, 800, 3, &[2]));
        assert_eq!(fences(&verdicts), [], "an answer within 400 ms acquits");
    }

    #[test]
    fn who_hears_nobody_judges_nobody() {
        let mut w = watcher(5);
        assert_eq!(fences(&run(&mut w, 0, 3000, 5, &[2, 3, 4])), []);
        let mut w = watcher(5);
        assert_eq!(fences(&run(&mut w, 0, 3000, 5, &[2, 3])), [NodeId(2), NodeId(3)]);
    }

    #[test]
    fn a_stopped_controller_judges_nobody_when_it_goes_on() {
        let mut w = watcher(3);
        run(&mut w, 0, 200, 3, &[]);
        assert_eq!(w.tick(ms(60_000)), []);
        assert_eq!(fences(&run(&mut w, 60_000, 60_300, 3, &[])), []);
    }

    /// Node 2 of three is fenced for silence at about 700 ms, and speaks again at `back`.
    fn fenced_once(back: u64) -> FailureWatcher {
        let mut w = watcher(3);
        assert_eq!(fences(&run(&mut w, 0, 900, 3, &[2])), [NodeId(2)]);
        w.on_cluster(&cluster(1..=3, &[2]), ms(900));
        run(&mut w, 900, back, 3, &[2]);
        run(&mut w, back, back + 200, 3, &[]);
        w.on_cluster(&cluster(1..=3, &[]), ms(back + 200));
        w.take_findings();
        w
    }

    fn down(w: &mut FailureWatcher, at: u64) {
        w.on_evidence(Evidence::GossipHoldsDown { id: NodeId(2), incarnation: incarnation(2) }, ms(at));
    }

    #[test]
    fn a_flapping_broker_is_fenced_for_silence_once_in_ten_seconds() {
        // It answers late each time, and gossip is taken in by it, too.
        let mut w = fenced_once(1000);
        assert_eq!(fences(&run(&mut w, 1200, 1700, 3, &[2])), []);
        down(&mut w, 1700);
        assert_eq!(fences(&run(&mut w, 1700, 8000, 3, &[2])), [], "the session timeout decides");
        assert!(findings(&mut w).iter().any(|(_, finding, _)| *finding == Finding::HeldBackAgain));
        assert_eq!(fences(&run(&mut w, 8000, 12_000, 3, &[2])), [NodeId(2)]);
    }

    #[test]
    fn a_broker_that_hung_twice_waited_for_its_session_the_second_time() {
        let mut w = fenced_once(3000);
        run(&mut w, 3200, 3600, 3, &[2]);
        down(&mut w, 3600);
        let verdicts = run(&mut w, 3600, 8000, 3, &[2]);
        assert_eq!(fences(&verdicts), [NodeId(2)]);
        assert!(verdicts.last().is_some_and(|(at, _)| *at < 4200), "{verdicts:?}");
    }

    #[test]
    fn nobody_is_fenced_for_silence_again_without_a_witness() {
        let mut w = fenced_once(3000);
        assert_eq!(fences(&run(&mut w, 3200, 8000, 3, &[2])), [], "this controller alone hears nothing of it");
        // Gossip had held it down, and then it spoke.
        let mut w = fenced_once(3000);
        down(&mut w, 3200);
        w.on_heartbeat(NodeId(2), BrokerEpoch(2), ms(3210));
        assert_eq!(fences(&run(&mut w, 3220, 8000, 3, &[2])), []);
    }
}
