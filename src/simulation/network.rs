//! The network between simulated nodes: connections that keep order, delay, break and hang as TCP's do, and datagrams that get lost.
//!
//! A connection belongs to one lane between two processes, as in the peer room; what travels on it is whole requests and responses. A
//! direction that is cut holds what is sent until it is mended or the connection's patience is over; the end of a process ends its
//! connections at once, if the news can travel. Each end is told of its connections by the peer room's own events.

use crate::gossip::DatagramSocket;
use crate::peer::{
    Carrier, ClosedReason, Direction, Lane, PeerError, PeerEvent, PeerEvents, PeerIdentity, ProbeOutcome,
};
use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use rookery_raft::ids::NodeId;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;

/// Milliseconds after which an end that gets no answer gives a connection up.
const UNACKNOWLEDGED_MAX: u64 = 5000;
const CONNECT_MAX: u64 = 1000;

type Answer = Result<Bytes, PeerError>;

/// What a process has given to the network.
pub(super) enum Sent {
    Call { to: NodeId, lane: Lane, kind: u16, body: Bytes, answer: oneshot::Sender<Answer> },
    Response { connection: u64, call: u64, result: Answer },
    Probe { to: NodeId, answer: oneshot::Sender<ProbeOutcome> },
    Datagram { to: SocketAddr, bytes: Bytes },
}

/// Where a process puts what it sends.
pub(super) type Outbox = Arc<Mutex<Vec<Sent>>>;

/// In the place of a pool's sockets.
pub(super) struct SimulatedCarrier(pub Outbox);

impl Carrier for SimulatedCarrier {
    fn call(&self, node: NodeId, lane: Lane, kind: u16, body: Bytes) -> BoxFuture<'static, Answer> {
        let (answer, answered) = oneshot::channel();
        self.0.lock().push(Sent::Call { to: node, lane, kind, body, answer });
        async move { answered.await.unwrap_or(Err(PeerError::Closed(node))) }.boxed()
    }

    fn probe(&self, node: NodeId) -> BoxFuture<'static, ProbeOutcome> {
        let (answer, answered) = oneshot::channel();
        let asked = Instant::now();
        self.0.lock().push(Sent::Probe { to: node, answer });
        async move {
            match answered.await {
                Ok(ProbeOutcome::Answered { identity, .. }) => {
                    ProbeOutcome::Answered { identity, elapsed: asked.elapsed() }
                }
                Ok(outcome) => outcome,
                Err(_) => ProbeOutcome::TimedOut,
            }
        }
        .boxed()
    }
}

/// In the place of the gossip's socket.
pub(super) struct SimulatedSocket {
    pub address: SocketAddr,
    pub outbox: Outbox,
    pub arrived: Arc<Arrived>,
}

/// Datagrams that wait to be read.
#[derive(Default)]
pub(super) struct Arrived {
    datagrams: Mutex<VecDeque<(SocketAddr, Bytes)>>,
    news: Notify,
}

impl Arrived {
    pub fn push(&self, from: SocketAddr, bytes: Bytes) {
        self.datagrams.lock().push_back((from, bytes));
        self.news.notify_one();
    }
}

impl DatagramSocket for SimulatedSocket {
    async fn readable(&self) -> io::Result<()> {
        while self.arrived.datagrams.lock().is_empty() {
            self.arrived.news.notified().await;
        }
        Ok(())
    }

    fn try_recv_from(&self, buffer: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        let (from, bytes) = self.arrived.datagrams.lock().pop_front().ok_or(io::ErrorKind::WouldBlock)?;
        buffer[..bytes.len()].copy_from_slice(&bytes);
        Ok((bytes.len(), from))
    }

    fn try_send_to(&self, bytes: &[u8], to: SocketAddr) -> io::Result<usize> {
        self.outbox.lock().push(Sent::Datagram { to, bytes: Bytes::copy_from_slice(bytes) });
        Ok(bytes.len())
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.address)
    }
}

/// Where a node listens, for connections and for gossip.
pub(super) fn address(id: NodeId) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, u8::try_from(id.0).expect("few nodes")], 9))
}

/// A running process, as the network sees it.
pub(super) struct End<'a> {
    pub identity: PeerIdentity,
    pub events: &'a PeerEvents,
    pub arrived: &'a Arc<Arrived>,
    /// Its kernel answers; it does not.
    pub paused: bool,
}

/// A request that has arrived.
pub(super) struct Arrival {
    pub to: NodeId,
    pub from: PeerIdentity,
    pub connection: u64,
    pub call: u64,
    pub lane: Lane,
    pub kind: u16,
    pub body: Bytes,
}

enum Flying {
    Request { call: u64, kind: u16, body: Bytes },
    Response { call: u64, result: Answer },
}

struct Connection {
    from: PeerIdentity,
    to: PeerIdentity,
    lane: Lane,
    /// By direction: with the dialling end's requests, and back.
    ways: [VecDeque<(u64, Flying)>; 2],
    waiting: BTreeMap<u64, oneshot::Sender<Answer>>,
    /// Since when one end's process is gone, and whether that was the dialling one.
    half_dead: Option<(u64, bool)>,
    /// Another one has taken its place: it ends with its last call.
    retired: bool,
}

/// How a direction between two nodes is.
#[derive(Clone, Copy, Default)]
pub(super) struct Way {
    pub cut: bool,
    /// Cut for what the quorum says to itself.
    pub votes_cut: bool,
    /// Of a hundred: datagrams are lost, segments come late.
    pub loss: u32,
    /// Milliseconds on top.
    pub delay: u64,
}

pub(super) struct Network {
    rng: StdRng,
    now: u64,
    ways: BTreeMap<(NodeId, NodeId), Way>,
    connections: BTreeMap<u64, Connection>,
    current: BTreeMap<(NodeId, NodeId, Lane), u64>,
    numbers: u64,
    datagrams: BTreeMap<(u64, u64), (NodeId, NodeId, Bytes)>,
    /// Answers of no connection: failed connects.
    failures: BTreeMap<(u64, u64), (NodeId, oneshot::Sender<Answer>, PeerError)>,
    probes: BTreeMap<(u64, u64), (NodeId, NodeId, oneshot::Sender<ProbeOutcome>)>,
    /// Everything that travelled and happened, if it is wanted.
    pub trace: Trace,
}

/// What happened, to compare two runs.
#[derive(Default)]
pub(super) struct Trace {
    pub lines: Option<Vec<String>>,
}

impl Trace {
    pub fn note(&mut self, line: impl FnOnce() -> String) {
        if let Some(lines) = &mut self.lines {
            lines.push(line());
        }
    }
}

type Ends<'a> = BTreeMap<NodeId, End<'a>>;

impl Network {
    pub fn new(seed: u64) -> Self {
        Self {
            rng: StdRng::seed_from_u64(seed),
            now: 0,
            ways: BTreeMap::new(),
            connections: BTreeMap::new(),
            current: BTreeMap::new(),
            numbers: 0,
            datagrams: BTreeMap::new(),
            failures: BTreeMap::new(),
            probes: BTreeMap::new(),
            trace: Trace::default(),
        }
    }

    pub fn way(&mut self, from: NodeId, to: NodeId) -> &mut Way {
        self.ways.entry((from, to)).or_default()
    }

    pub fn mend(&mut self) {
        self.ways.clear();
    }

    fn is_cut(&self, from: NodeId, to: NodeId) -> bool {
        self.ways.get(&(from, to)).is_some_and(|way| way.cut)
    }

    fn is_cut_for(&self, lane: Lane, from: NodeId, to: NodeId) -> bool {
        self.ways.get(&(from, to)).is_some_and(|way| way.cut || (way.votes_cut && lane == Lane::Control))
    }

    /// When something that is sent now arrives, and whether it is lost on the way.
    fn arrival(&mut self, from: NodeId, to: NodeId) -> (u64, bool) {
        let way = self.ways.get(&(from, to)).copied().unwrap_or_default();
        let lost = way.loss > 0 && self.rng.random_range(0..100) < way.loss;
        let jitter = if way.delay > 0 { self.rng.random_range(0..=way.delay) } else { 0 };
        (self.now + self.rng.random_range(1..3) + jitter, lost || way.cut)
    }

    fn number(&mut self) -> u64 {
        self.numbers += 1;
        self.numbers
    }

    /// Takes in what a process has sent.
    pub fn send(&mut self, from: NodeId, sent: Sent, ends: &Ends<'_>) {
        match sent {
            Sent::Call { to, lane, kind, body, answer } => self.call(from, to, lane, (kind, body), answer, ends),
            Sent::Response { connection, call, result } => {
                let Some((to, me)) = self.connections.get(&connection).map(|c| (c.from.node_id, c.to.node_id)) else {
                    return;
                };
                let at = self.delivery(me, to);
                self.connections.get_mut(&connection).expect("it is there").ways[1]
                    .push_back((at, Flying::Response { call, result }));
            }
            Sent::Probe { to, answer } => {
                let key = (self.arrival(from, to).0, self.number());
                self.probes.insert(key, (from, to, answer));
            }
            Sent::Datagram { to, bytes } => {
                let to = NodeId(i32::from(match to {
                    SocketAddr::V4(to) => to.ip().octets()[3],
                    SocketAddr::V6(_) => unreachable!("the simulation speaks IPv4"),
                }));
                let (at, lost) = self.arrival(from, to);
                if !lost {
                    let key = (at, self.number());
                    self.datagrams.insert(key, (from, to, bytes));
                }
            }
        }
    }

    /// A lost segment is sent again after a while.
    fn delivery(&mut self, from: NodeId, to: NodeId) -> u64 {
        let (at, lost) = self.arrival(from, to);
        if lost { at + 200 } else { at }
    }

    fn call(
        &mut self,
        from: NodeId,
        to: NodeId,
        lane: Lane,
        (kind, body): (u16, Bytes),
        answer: oneshot::Sender<Answer>,
        ends: &Ends<'_>,
    ) {
        let me = ends[&from].identity;
        let mut number = self.current.get(&(from, to, lane)).copied();
        if let Some(old) = number
            && self.connections[&old].from != me
        {
            self.connections.get_mut(&old).expect("it is current").retired = true;
            number = None;
        }
        let number = match number {
            Some(number) => number,
            None => {
                let Some(target) = ends.get(&to).filter(|_| self.is_open(lane, from, to)) else {
                    return self.cannot_connect((from, to, lane), answer, ends);
                };
                let number = self.number();
                let (peer, ways) = (target.identity, [VecDeque::new(), VecDeque::new()]);
                let connection = Connection {
                    from: me,
                    to: peer,
                    lane,
                    ways,
                    waiting: BTreeMap::new(),
                    half_dead: None,
                    retired: false,
                };
                self.connections.insert(number, connection);
                self.current.insert((from, to, lane), number);
                ends[&from].events.send(PeerEvent::Opened { peer, lane, direction: Direction::Outbound });
                target.events.send(PeerEvent::Opened { peer: me, lane, direction: Direction::Inbound });
                number
            }
        };
        let (call, at) = (self.number(), self.delivery(from, to));
        let connection = self.connections.get_mut(&number).expect("it is current");
        connection.waiting.insert(call, answer);
        connection.ways[0].push_back((at, Flying::Request { call, kind, body }));
    }

    fn is_open(&self, lane: Lane, from: NodeId, to: NodeId) -> bool {
        !self.is_cut_for(lane, from, to) && !self.is_cut_for(lane, to, from)
    }

    fn cannot_connect(
        &mut self,
        (from, to, lane): (NodeId, NodeId, Lane),
        answer: oneshot::Sender<Answer>,
        ends: &Ends<'_>,
    ) {
        let refused = self.is_open(lane, from, to) && !ends.contains_key(&to);
        let (after, kind) = match refused {
            true => (2, io::ErrorKind::ConnectionRefused),
            false => (CONNECT_MAX, io::ErrorKind::TimedOut),
        };
        let error = PeerError::Connect { node: to, address: address(to).to_string().into(), kind };
        let key = (self.now + after, self.number());
        self.failures.insert(key, (from, answer, error));
    }

    /// A process has ended: its connections end where the news can travel.
    pub fn process_ended(&mut self, id: NodeId) {
        for connection in self.connections.values_mut() {
            if connection.from.node_id == id {
                connection.half_dead.get_or_insert((self.now, true));
                connection.waiting.clear();
            } else if connection.to.node_id == id {
                connection.half_dead.get_or_insert((self.now, false));
            }
        }
        self.current.retain(|(from, _, _), _| *from != id);
    }

    /// Whom something will reach at `now`: they are to have lived until then.
    pub fn reached(&self, now: u64) -> BTreeSet<NodeId> {
        let mut reached = BTreeSet::new();
        reached.extend(self.datagrams.range(..=(now, u64::MAX)).map(|(_, (_, to, _))| *to));
        reached.extend(self.probes.range(..=(now, u64::MAX)).map(|(_, (from, ..))| *from));
        reached.extend(self.failures.range(..=(now, u64::MAX)).map(|(_, (from, ..))| *from));
        for connection in self.connections.values().filter(|connection| self.is_due(connection, now)) {
            reached.extend([connection.from.node_id, connection.to.node_id]);
        }
        reached
    }

    /// One millisecond later: what arrives now.
    pub fn tick(&mut self, now: u64, ends: &Ends<'_>) -> Vec<Arrival> {
        self.now = now;
        while let Some(entry) = self.failures.first_entry().filter(|entry| entry.key().0 <= now) {
            let (_, answer, error) = entry.remove();
            let _ = answer.send(Err(error));
        }
        while let Some(entry) = self.datagrams.first_entry().filter(|entry| entry.key().0 <= now) {
            let (from, to, bytes) = entry.remove();
            if let Some(end) = ends.get(&to) {
                self.trace.note(|| format!("{now} datagram {from} {to} {}", bytes.len()));
                end.arrived.push(address(from), bytes);
            }
        }
        self.answer_probes(ends);
        let due = self.connections.iter().filter(|(_, connection)| self.is_due(connection, now));
        let numbers: Vec<u64> = due.map(|(number, _)| *number).collect();
        let mut arrivals = Vec::new();
        for number in numbers {
            self.move_on(number, ends, &mut arrivals);
        }
        arrivals
    }

    fn answer_probes(&mut self, ends: &Ends<'_>) {
        let mut later = Vec::new();
        while let Some(entry) = self.probes.first_entry().filter(|entry| entry.key().0 <= self.now) {
            let ((_, number), (from, to, answer)) = entry.remove_entry();
            if answer.is_closed() {
                continue;
            }
            let cut = self.is_cut(from, to) || self.is_cut(to, from);
            match ends.get(&to) {
                None if !cut => drop(answer.send(ProbeOutcome::ConnectionRefused)),
                Some(end) if !cut && !end.paused => {
                    let elapsed = Duration::ZERO;
                    let _ = answer.send(ProbeOutcome::Answered { identity: end.identity, elapsed });
                }
                _ => later.push(((self.now + 20, number), (from, to, answer))),
            }
        }
        self.probes.extend(later);
    }

    /// Whether something happens to a connection now.
    fn is_due(&self, connection: &Connection, now: u64) -> bool {
        let (from, to) = (connection.from.node_id, connection.to.node_id);
        let arrives = |way: usize, a, b| {
            let first = connection.ways[way].front();
            let cut = self.is_cut_for(connection.lane, a, b);
            first.is_some_and(|(at, _)| (*at <= now && !cut) || now > at + UNACKNOWLEDGED_MAX)
        };
        connection.half_dead.is_some() || connection.retired || arrives(0, from, to) || arrives(1, to, from)
    }

    fn move_on(&mut self, number: u64, ends: &Ends<'_>, arrivals: &mut Vec<Arrival>) {
        let now = self.now;
        let connection = &self.connections[&number];
        let (from, to) = (connection.from.node_id, connection.to.node_id);
        if let Some((since, dialler)) = connection.half_dead {
            let (dead, alive) = if dialler { (from, to) } else { (to, from) };
            if (now > since && !self.is_cut(dead, alive)) || now - since > UNACKNOWLEDGED_MAX {
                self.close(number, ClosedReason::Lost, ends);
            }
            return;
        }
        let stuck = |way: &VecDeque<(u64, Flying)>| way.front().is_some_and(|(at, _)| now > at + UNACKNOWLEDGED_MAX);
        if connection.ways.iter().any(stuck) {
            return self.close(number, ClosedReason::Lost, ends);
        }
        let connection = self.connections.get_mut(&number).expect("it is there");
        connection.waiting.retain(|_, answer| !answer.is_closed());
        if connection.retired && connection.waiting.is_empty() {
            return self.close(number, ClosedReason::Goodbye, ends);
        }
        for (way, (a, b)) in [(0, (from, to)), (1, (to, from))] {
            if self.is_cut_for(self.connections[&number].lane, a, b) {
                continue;
            }
            let connection = self.connections.get_mut(&number).expect("it is there");
            while connection.ways[way].front().is_some_and(|(at, _)| *at <= now) {
                match connection.ways[way].pop_front().expect("it was there").1 {
                    Flying::Request { call, kind, body } => {
                        let lane = connection.lane;
                        self.trace.note(|| format!("{now} {lane} {from} {to} {kind} {}", body.len()));
                        let peer = connection.from;
                        arrivals.push(Arrival { to, from: peer, connection: number, call, lane, kind, body });
                    }
                    Flying::Response { call, result } => {
                        let (lane, length) = (connection.lane, result.as_ref().map_or(0, Bytes::len));
                        self.trace.note(|| format!("{now} {lane} {to} {from} answer {length}"));
                        if let Some(answer) = connection.waiting.remove(&call) {
                            let _ = answer.send(result);
                        }
                    }
                }
            }
        }
    }

    fn close(&mut self, number: u64, reason: ClosedReason, ends: &Ends<'_>) {
        let Some(connection) = self.connections.remove(&number) else { return };
        let Connection { from, to, lane, waiting, .. } = connection;
        self.trace.note(|| format!("{} {lane} {} {} closed {reason:?}", self.now, from.node_id, to.node_id));
        self.current.retain(|_, current| *current != number);
        drop(waiting);
        let at = Instant::now();
        for (me, peer, direction) in [(from, to, Direction::Outbound), (to, from, Direction::Inbound)] {
            // A process that came after it never had this connection.
            if let Some(end) = ends.get(&me.node_id).filter(|end| end.identity.incarnation == me.incarnation) {
                end.events.send(PeerEvent::Closed { peer, lane, direction, reason, at });
            }
        }
    }
}
