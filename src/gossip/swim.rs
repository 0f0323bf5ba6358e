//! The core: datagrams, timers and time go in; datagrams, events and a view come out.
//!
//! It owns no clock and no socket. The caller passes the time with every input, calls [`Swim::handle_timers`] when
//! [`Swim::next_deadline`] has come, and after every input takes what is to be sent, told and published. Inputs that are due together are to be given datagrams first: an answer that
//! has already arrived must not be counted as missing.

use super::codec::SwimCodec;
use super::health::LocalHealth;
use super::identity::GENERATION_MAX;
use super::leaving::{self, LeavingBook};
use super::packet::{self, Dropped, Packet};
use super::report::Reporter;
use super::{GossipEvent, GossipIdentity, GossipProfile, Liveness, MembershipView};
use bytes::{Buf, Bytes};
use foca::{AccumulatingRuntime, Codec, Foca, Header, Member, Message, OwnedNotification, State, Timer};
use rand::SeedableRng;
use rand::rngs::SmallRng;
use rookery_raft::ids::{ClusterId, NodeId};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// Node ids one node keeps track of. Datagrams that name more are dropped.
pub const MEMBERS_MAX: usize = 4096;
// A node whose identity lost takes a later one at most this often: two processes with one node id must not flood the cluster.
const RENEWAL_PAUSE: Duration = Duration::from_secs(1);

/// What a core starts from.
#[derive(Clone, Debug)]
pub struct SwimConfig {
    /// Who this node is.
    pub identity: GossipIdentity,
    /// Whose gossip it listens to.
    pub cluster_id: ClusterId,
    /// Timings.
    pub profile: GossipProfile,
    /// Of all its randomness.
    pub seed: u64,
}

/// One node's SWIM, without a world around it.
pub struct Swim {
    cluster_id: ClusterId,
    profile: GossipProfile,
    foca: Foca<GossipIdentity, SwimCodec, SmallRng, LeavingBook>,
    effects: AccumulatingRuntime<GossipIdentity>,
    timers: Timers,
    outgoing: VecDeque<(SocketAddr, Bytes)>,
    seeds: BTreeMap<NodeId, SocketAddr>,
    leaving: LeavingBook,
    // SWIM's members as of the last input, with what we think of them.
    seen: BTreeMap<NodeId, (GossipIdentity, Liveness)>,
    accused: BTreeMap<NodeId, Accusation>,
    accusations: u64,
    health: LocalHealth,
    reporter: Reporter,
    // Late timers were moved, and none has fired since.
    excused: bool,
    // Suspicions of us below this number are refuted already.
    refuted_below: u16,
    renewed: Option<Instant>,
    cluster_size: usize,
    left: bool,
}

enum SwimTimer {
    Foca(Timer<GossipIdentity>),
    /// Greet seeds that are not among the members.
    Join,
    /// Tell a suspect again, if this round of telling is still on.
    Accuse {
        node_id: NodeId,
        round: u64,
    },
}

// A suspect that is being told so, and what it has to refute.
struct Accusation {
    suspect: GossipIdentity,
    refutations: u16,
    round: u64,
}

impl Swim {
    /// A node that knows nobody. It greets its seeds once they are set.
    pub fn new(config: SwimConfig, now: Instant) -> Self {
        let SwimConfig { identity, cluster_id, profile, seed } = config;
        let leaving = LeavingBook::default();
        let foca = Foca::with_custom_broadcast(
            identity,
            profile.config(1),
            SmallRng::seed_from_u64(seed),
            SwimCodec,
            leaving.clone(),
        );
        let mut timers = Timers::default();
        timers.add(now + profile.probe_period, SwimTimer::Join);
        Self {
            cluster_id,
            profile,
            foca,
            effects: AccumulatingRuntime::new(),
            timers,
            outgoing: VecDeque::new(),
            seeds: BTreeMap::new(),
            leaving,
            seen: BTreeMap::new(),
            accused: BTreeMap::new(),
            accusations: 0,
            health: LocalHealth::default(),
            reporter: Reporter::new(&profile, now),
            excused: false,
            refuted_below: 0,
            renewed: None,
            cluster_size: 1,
            left: false,
        }
    }

    /// Nodes to greet, now and again while they are not among the living: voters, registered brokers. Replaces the earlier list.
    pub fn set_seeds(&mut self, seeds: BTreeMap<NodeId, SocketAddr>, now: Instant) {
        self.seeds = seeds;
        self.greet_seeds();
        self.settle(now);
    }

    /// A datagram has arrived.
    ///
    /// # Errors
    /// It was dropped, and why.
    pub fn handle_datagram(&mut self, bytes: &[u8], now: Instant) -> Result<(), Dropped> {
        if self.left {
            return Ok(());
        }
        let handled = match packet::decode(self.cluster_id, bytes)? {
            Packet::Swim(payload) => self.handle_swim(payload, now),
            Packet::Superseded { node_id, generation } if node_id == self.node_id() => {
                self.supersede(generation, now);
                Ok(())
            }
            Packet::Accused { node_id, generation, refutations, accuser } => {
                self.answer_accuser(node_id, generation, refutations, accuser);
                Ok(())
            }
            Packet::Superseded { .. } => Err(Dropped::Malformed),
        };
        self.settle(now);
        handled
    }

    /// When the next timer is due.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.timers.next()
    }

    /// Fires what is due. Timers that come late by more than a round trip are moved by as much, once: the process was not
    /// running, answers may wait in the socket, and nobody is to blame for it.
    pub fn handle_timers(&mut self, now: Instant) {
        let Some(due) = self.timers.next().filter(|due| *due <= now) else { return };
        let lag = now.saturating_duration_since(due);
        let late = lag > self.profile.probe_rtt;
        if late {
            self.health.late(lag, self.profile.probe_period);
            if !self.excused {
                self.excused = true;
                self.timers.postpone(lag + self.profile.probe_rtt);
                return self.settle(now);
            }
        }
        self.excused = false;
        while let Some(timer) = self.timers.pop_due(now) {
            self.fire(timer, late, now);
        }
        self.settle(now);
    }

    /// Tells the others that this node is about to leave; it goes on answering.
    pub fn announce_leaving(&mut self, now: Instant) {
        let mark = leaving::encode(self.foca.identity());
        let told = self.foca.add_broadcast(&mark).and_then(|_| self.foca.gossip(&mut self.effects));
        expect_sound(told);
        self.settle(now);
    }

    /// Leaves: tells a few others that this node is down, and falls silent for good.
    pub fn leave(&mut self, now: Instant) {
        if !self.left {
            expect_sound(self.foca.leave_cluster(&mut self.effects));
            self.settle(now);
            self.left = true;
            self.timers = Timers::default();
        }
    }

    /// The next datagram to send, and where.
    pub fn pop_datagram(&mut self) -> Option<(SocketAddr, Bytes)> {
        self.outgoing.pop_front()
    }

    /// The next change to tell.
    pub fn pop_event(&mut self) -> Option<GossipEvent> {
        self.reporter.pop_event()
    }

    /// The view, if it has changed since the last time.
    pub fn take_view(&mut self) -> Option<MembershipView> {
        self.reporter.take_view()
    }

    /// The view as it is.
    pub fn view(&self) -> &MembershipView {
        self.reporter.view()
    }

    /// Who this node is now: its generation grows when it has to rejoin.
    pub fn identity(&self) -> &GossipIdentity {
        self.foca.identity()
    }

    fn node_id(&self) -> NodeId {
        self.foca.identity().node_id
    }

    fn handle_swim(&mut self, payload: &[u8], now: Instant) -> Result<(), Dropped> {
        let sender = self.inspect(payload, now)?;
        let handled = self.foca.handle_data(payload, &mut self.effects);
        if self.foca.iter_members().any(|member| *member.id() == sender) {
            self.reporter.hear(sender.node_id, now);
        }
        handled.map_err(|error| {
            tracing::debug!(%error, node = sender.node_id.0, "gossip datagram dropped");
            Dropped::Protocol
        })
    }

    // Looks through a message before the library does, for what the library leaves to us: how many nodes there may be, whose
    // identity is outdated, and whether we are suspected.
    fn inspect(&mut self, mut payload: &[u8], now: Instant) -> Result<GossipIdentity, Dropped> {
        let malformed = |_| Dropped::Malformed;
        let buf = &mut payload;
        let Header { src, message, .. } = SwimCodec.decode_header(&mut *buf).map_err(malformed)?;
        let mut strangers = usize::from(self.judge(&src, now)?);
        if message != Message::Broadcast && buf.remaining() >= 2 {
            for _ in 0..buf.get_u16() {
                let member = SwimCodec.decode_member(&mut *buf).map_err(malformed)?;
                if *member.id() == *self.foca.identity() {
                    if member.state() == State::Suspect {
                        self.note_suspicion(member.incarnation());
                    }
                } else if member.id().node_id == self.node_id() {
                    self.judge(member.id(), now)?;
                } else {
                    strangers += usize::from(!self.seen.contains_key(&member.id().node_id));
                }
            }
        }
        if self.seen.len() + strangers > MEMBERS_MAX { Err(Dropped::Members) } else { Ok(src) }
    }

    // Whether a believable identity belongs to a node we have not met.
    fn judge(&mut self, identity: &GossipIdentity, now: Instant) -> Result<bool, Dropped> {
        let ours = *self.foca.identity();
        if identity.node_id == ours.node_id {
            if identity.incarnation != ours.incarnation && identity.beats(&ours) {
                // An earlier process of ours under a clock that was ahead, or a second process with our node id.
                self.supersede(identity.generation, now);
                return Err(Dropped::Superseded);
            }
            return Ok(false);
        }
        match self.seen.get(&identity.node_id) {
            Some((known, _)) if known.incarnation != identity.incarnation && known.beats(identity) => {
                let packet = Packet::Superseded { node_id: known.node_id, generation: known.generation };
                self.outgoing.push_back((identity.address, packet::encode(self.cluster_id, &packet)));
                Err(Dropped::Superseded)
            }
            known => Ok(known.is_none()),
        }
    }

    fn supersede(&mut self, generation: u64, now: Instant) {
        let ours = *self.foca.identity();
        let too_soon = self.renewed.is_some_and(|renewed| now.saturating_duration_since(renewed) < RENEWAL_PAUSE);
        if generation < ours.generation || generation > GENERATION_MAX || too_soon {
            return;
        }
        tracing::warn!(
            node = ours.node_id.0,
            generation = ours.generation,
            known = generation,
            "the gossip knows a later process of this node: the clock was set back, or the node id is used twice"
        );
        self.renewed = Some(now);
        self.refuted_below = 0;
        let next = GossipIdentity { generation: generation + 1, ..ours };
        expect_sound(self.foca.change_identity(next, &mut self.effects));
        self.greet_seeds();
    }

    fn note_suspicion(&mut self, refutations: u16) {
        if refutations >= self.refuted_below {
            self.refuted_below = refutations.saturating_add(1);
            self.health.suspected();
        }
    }

    fn answer_accuser(&mut self, node_id: NodeId, generation: u64, refutations: u16, accuser: NodeId) {
        let ours = *self.foca.identity();
        if (node_id, generation) != (ours.node_id, ours.generation) {
            return;
        }
        self.note_suspicion(refutations);
        let suspicion = std::iter::once(Member::new(ours, refutations, State::Suspect));
        expect_sound(self.foca.apply_many(suspicion, false, &mut self.effects));
        // Any message carries the refutation; this one can be addressed.
        if let Some((accuser, _)) = self.seen.get(&accuser) {
            expect_sound(self.foca.announce(*accuser, &mut self.effects));
        }
    }

    fn fire(&mut self, timer: SwimTimer, late: bool, now: Instant) {
        match timer {
            SwimTimer::Foca(timer) => {
                if matches!(timer, Timer::ProbeRandomMember(_)) && !late {
                    self.health.on_time();
                }
                if let Err(error) = self.foca.handle_timer(timer, &mut self.effects) {
                    // The library recovers by itself; it says so in case the timers were ours to blame.
                    tracing::debug!(%error, "gossip timer");
                }
                self.absorb(now);
            }
            SwimTimer::Join => {
                self.greet_seeds();
                self.timers.add(now + self.profile.probe_period * 5, SwimTimer::Join);
            }
            SwimTimer::Accuse { node_id, round } => self.accuse(node_id, round, now),
        }
    }

    fn greet_seeds(&mut self) {
        let absent = self.seeds.iter().filter(|(node_id, _)| {
            !matches!(self.seen.get(node_id), Some((_, Liveness::Alive | Liveness::Suspect | Liveness::Leaving)))
        });
        for (node_id, address) in absent {
            if *node_id != self.foca.identity().node_id {
                let seed = GossipIdentity::unknown(*node_id, *address);
                expect_sound(self.foca.announce(seed, &mut self.effects));
            }
        }
    }

    fn accuse(&mut self, node_id: NodeId, round: u64, now: Instant) {
        let Some(accusation) = self.accused.get(&node_id).filter(|accusation| accusation.round == round) else {
            return;
        };
        let packet = Packet::Accused {
            node_id,
            generation: accusation.suspect.generation,
            refutations: accusation.refutations,
            accuser: self.node_id(),
        };
        self.outgoing.push_back((accusation.suspect.address, packet::encode(self.cluster_id, &packet)));
        self.timers.add(now + self.profile.suspicion / 3, SwimTimer::Accuse { node_id, round });
    }

    // After every input: takes the library's effects, and publishes what has changed.
    fn settle(&mut self, now: Instant) {
        self.absorb(now);
        self.look_at_members(now);
        let size = self.foca.num_members() + 1;
        if size != self.cluster_size {
            self.cluster_size = size;
            expect_sound(self.foca.set_config(self.profile.config(size)));
        }
        self.reporter.observe(&self.seen, self.health, now);
    }

    fn absorb(&mut self, now: Instant) {
        while let Some((to, payload)) = self.effects.to_send() {
            self.outgoing.push_back((to.address, packet::encode(self.cluster_id, &Packet::Swim(&payload))));
        }
        while let Some((delay, timer)) = self.effects.to_schedule() {
            let delay = match timer {
                Timer::ProbeRandomMember(_) | Timer::SendIndirectProbe { .. } | Timer::ChangeSuspectToDown { .. } => {
                    self.health.stretch(delay)
                }
                _ => delay,
            };
            self.timers.add(now + delay, SwimTimer::Foca(timer));
        }
        while let Some(notification) = self.effects.to_notify() {
            if let OwnedNotification::Rejoin(identity) = notification {
                tracing::info!(generation = identity.generation, "declared down by others; rejoining the gossip");
                self.refuted_below = 0;
            }
        }
    }

    fn look_at_members(&mut self, now: Instant) {
        let ours = self.node_id();
        let mut suspects = Vec::new();
        let mut count = 0;
        // The library also keeps earlier identities of our own node id, as down.
        for member in self.foca.iter_membership_state().filter(|member| member.id().node_id != ours) {
            count += 1;
            let id = *member.id();
            let liveness = match member.state() {
                State::Down => Liveness::Down,
                _ if self.leaving.contains(&id) => Liveness::Leaving,
                State::Suspect => Liveness::Suspect,
                State::Alive => Liveness::Alive,
            };
            match member.state() {
                State::Suspect => suspects.push((id, member.incarnation())),
                State::Alive | State::Down => drop(self.accused.remove(&id.node_id)),
            }
            self.seen.insert(id.node_id, (id, liveness));
        }
        if count < self.seen.len() {
            self.forget_strangers();
        }
        for (suspect, refutations) in suspects {
            self.suspect(suspect, refutations, now);
        }
    }

    // The library has forgotten somebody.
    fn forget_strangers(&mut self) {
        let kept: BTreeSet<NodeId> = self.foca.iter_membership_state().map(|member| member.id().node_id).collect();
        let gone: Vec<NodeId> = self.seen.keys().filter(|node_id| !kept.contains(node_id)).copied().collect();
        for node_id in gone {
            self.seen.remove(&node_id);
            self.accused.remove(&node_id);
            self.leaving.forget(node_id);
        }
    }

    fn suspect(&mut self, suspect: GossipIdentity, refutations: u16, now: Instant) {
        match self.accused.get_mut(&suspect.node_id) {
            Some(known) => (known.suspect, known.refutations) = (suspect, refutations),
            None => {
                self.accusations += 1;
                let round = self.accusations;
                self.accused.insert(suspect.node_id, Accusation { suspect, refutations, round });
                self.accuse(suspect.node_id, round, now);
            }
        }
    }
}

// The library's other errors are about foreign bytes; ours encode, fit, and follow its rules.
fn expect_sound<T>(result: Result<T, foca::Error>) {
    if let Err(error) = result {
        tracing::error!(%error, "the gossip library refused a sound call");
        debug_assert!(false, "the gossip library refused a sound call: {error}");
    }
}

/// Timers by deadline; of equal ones the library's own order, then the order in which they were set.
#[derive(Default)]
struct Timers {
    queue: BTreeMap<(Instant, u8, u64), SwimTimer>,
    set: u64,
}

impl Timers {
    fn add(&mut self, at: Instant, timer: SwimTimer) {
        let rank = match &timer {
            SwimTimer::Foca(Timer::SendIndirectProbe { .. }) => 0,
            SwimTimer::Foca(Timer::ProbeRandomMember(_)) => 1,
            SwimTimer::Foca(Timer::ChangeSuspectToDown { .. }) => 2,
            _ => 3,
        };
        self.set += 1;
        self.queue.insert((at, rank, self.set), timer);
    }

    fn next(&self) -> Option<Instant> {
        self.queue.first_key_value().map(|((at, ..), _)| *at)
    }

    fn pop_due(&mut self, now: Instant) -> Option<SwimTimer> {
        self.next().filter(|at| *at <= now)?;
        self.queue.pop_first().map(|(_, timer)| timer)
    }

    fn postpone(&mut self, by: Duration) {
        self.queue = std::mem::take(&mut self.queue)
            .into_iter()
            .map(|((at, rank, set), timer)| ((at + by, rank, set), timer))
            .collect();
    }
}
