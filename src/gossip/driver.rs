//! A UDP socket and one task around the core.
//!
//! The task owns the core. It reads all that has arrived before it looks at its timers, sends what the core wants sent without ever
//! waiting for the socket (a datagram that does not fit is lost, as datagrams are), publishes the view, and tells events.

use super::packet::PACKET_MAX;
use super::swim::{Swim, SwimConfig};
use super::{GossipEvent, GossipIdentity, GossipProfile, Liveness, MembershipView};
use metrics::{counter, gauge};
use rookery_raft::ids::{ClusterId, NodeId};
use std::collections::BTreeMap;
use std::future::pending;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{UdpSocket, lookup_host};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

// Datagrams read before timers are looked at again: a flood must not stop the clock.
const READ_BATCH: usize = 64;
// Names of seeds are resolved again this often: containers move.
const RESOLVE_EVERY: Duration = Duration::from_secs(5);
// After an error of the socket: how long until the next attempt.
const ERROR_PAUSE: Duration = Duration::from_millis(10);

/// Where datagrams come from and go to: a UDP socket, or what a simulation has in its place.
pub trait DatagramSocket: Send + Sync + 'static {
    /// Resolves when something may have arrived.
    fn readable(&self) -> impl Future<Output = io::Result<()>> + Send;
    /// The next datagram that has arrived.
    fn try_recv_from(&self, buffer: &mut [u8]) -> io::Result<(usize, SocketAddr)>;
    /// Sends without waiting.
    fn try_send_to(&self, bytes: &[u8], to: SocketAddr) -> io::Result<usize>;
    /// Where it listens.
    fn local_addr(&self) -> io::Result<SocketAddr>;
}

impl DatagramSocket for UdpSocket {
    fn readable(&self) -> impl Future<Output = io::Result<()>> + Send {
        UdpSocket::readable(self)
    }
    fn try_recv_from(&self, buffer: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        UdpSocket::try_recv_from(self, buffer)
    }
    fn try_send_to(&self, bytes: &[u8], to: SocketAddr) -> io::Result<usize> {
        UdpSocket::try_send_to(self, bytes, to)
    }
    fn local_addr(&self) -> io::Result<SocketAddr> {
        UdpSocket::local_addr(self)
    }
}

/// What the gossip of one node needs.
#[derive(Debug)]
pub struct GossipConfig<S = std::net::UdpSocket> {
    /// Where it listens: bound before there is anything to say, so that a port in use is noticed at start.
    pub socket: S,
    /// Who this node is. A port of 0 in its address stands for the socket's.
    pub identity: GossipIdentity,
    /// The cluster it belongs to: gossip starts after formation.
    pub cluster_id: ClusterId,
    /// Timings.
    pub profile: GossipProfile,
    /// Of all its randomness.
    pub seed: u64,
}

/// A running gossip. Dropping it ends the task without a word; see [`Gossip::leave`].
pub struct Gossip {
    view: watch::Receiver<Arc<MembershipView>>,
    leaving: watch::Sender<bool>,
    stop: CancellationToken,
    ended: CancellationToken,
    task: JoinHandle<()>,
    address: SocketAddr,
}

impl Gossip {
    /// Starts the task. Must be called inside a tokio runtime.
    ///
    /// `seeds` are nodes to greet while they are not among the living, by `host:port`, as the metadata has them now: voters, registered
    /// brokers. A change is taken up at once, so that a node finds the others again after all of them have moved.
    ///
    /// Events are told on `events`. It is bounded by its maker; when it is full, events are dropped and counted, and the view remains
    /// the truth.
    ///
    /// # Errors
    /// The socket cannot be used.
    pub fn start(
        config: GossipConfig,
        seeds: watch::Receiver<BTreeMap<NodeId, String>>,
        events: mpsc::Sender<GossipEvent>,
    ) -> io::Result<Self> {
        let GossipConfig { socket, identity, cluster_id, profile, seed } = config;
        socket.set_nonblocking(true)?;
        let socket = UdpSocket::from_std(socket)?;
        Self::start_on(GossipConfig { socket, identity, cluster_id, profile, seed }, seeds, events)
    }

    /// [`start`](Self::start) on any socket.
    pub(crate) fn start_on<S: DatagramSocket>(
        mut config: GossipConfig<S>,
        seeds: watch::Receiver<BTreeMap<NodeId, String>>,
        events: mpsc::Sender<GossipEvent>,
    ) -> io::Result<Self> {
        let socket = config.socket;
        let address = socket.local_addr()?;
        if config.identity.address.port() == 0 {
            config.identity.address.set_port(address.port());
        }
        let swim = Swim::new(
            SwimConfig {
                identity: config.identity,
                cluster_id: config.cluster_id,
                profile: config.profile,
                seed: config.seed,
            },
            now(),
        );
        let (view_sender, view) = watch::channel(Arc::new(MembershipView::default()));
        let (leaving, leaving_receiver) = watch::channel(false);
        let stop = CancellationToken::new();
        let driver = Driver { swim, socket, view: view_sender, events };
        let ended = CancellationToken::new();
        let resolver = Resolver::start(seeds, stop.clone(), ended.clone());
        let (driving, at_end) = (driver.run(resolver, leaving_receiver, stop.clone()), ended.clone().drop_guard());
        let task = tokio::spawn(async move {
            let _at_end = at_end;
            driving.await;
        });
        Ok(Self { view, leaving, stop, ended, task, address })
    }

    /// Where it listens.
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// What this node thinks of the others, as it changes.
    pub fn view(&self) -> watch::Receiver<Arc<MembershipView>> {
        self.view.clone()
    }

    /// Resolves when a task of it has ended, for whatever reason.
    pub fn ended(&self) -> impl Future<Output = ()> + Send + 'static {
        self.ended.clone().cancelled_owned()
    }

    /// Tells the others that this node is about to leave, so that they can move its leaderships; it goes on answering.
    pub fn announce_leaving(&self) {
        self.leaving.send_replace(true);
    }

    /// Tells some others that this node is gone, and ends.
    pub async fn leave(mut self) {
        self.stop.cancel();
        if let Err(error) = (&mut self.task).await {
            tracing::error!(%error, "the gossip task failed");
        }
    }
}

impl Drop for Gossip {
    fn drop(&mut self) {
        self.task.abort();
        self.stop.cancel();
    }
}

struct Driver<S> {
    swim: Swim,
    socket: S,
    view: watch::Sender<Arc<MembershipView>>,
    events: mpsc::Sender<GossipEvent>,
}

impl<S: DatagramSocket> Driver<S> {
    async fn run(mut self, mut resolver: Resolver, mut leaving: watch::Receiver<bool>, stop: CancellationToken) {
        let mut buffer = vec![0u8; PACKET_MAX + 1];
        loop {
            self.flush();
            let due = self.swim.next_deadline();
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                ready = self.socket.readable() => match ready {
                    Ok(()) => self.read(&mut buffer).await,
                    Err(error) => self.pause(error).await,
                },
                () = sleep_until(due) => {}
                Some(seeds) = resolver.resolved.recv() => self.swim.set_seeds(seeds, now()),
                Ok(()) = leaving.changed() => self.swim.announce_leaving(now()),
            }
            self.swim.handle_timers(now());
        }
        self.swim.leave(now());
        self.flush();
    }

    async fn read(&mut self, buffer: &mut [u8]) {
        for _ in 0..READ_BATCH {
            match self.socket.try_recv_from(buffer) {
                Ok((length, from)) => {
                    counter!("rookery_gossip_received_bytes_total").increment(length as u64);
                    if let Err(dropped) = self.swim.handle_datagram(&buffer[..length], now()) {
                        counter!("rookery_gossip_dropped_datagrams_total", "reason" => dropped.as_str()).increment(1);
                        tracing::debug!(%from, ?dropped, "gossip datagram dropped");
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) => return self.pause(error).await,
            }
        }
    }

    async fn pause(&self, error: io::Error) {
        tracing::debug!(%error, "gossip socket");
        tokio::time::sleep(ERROR_PAUSE).await;
    }

    fn flush(&mut self) {
        while let Some((to, bytes)) = self.swim.pop_datagram() {
            match self.socket.try_send_to(&bytes, to) {
                Ok(length) => counter!("rookery_gossip_sent_bytes_total").increment(length as u64),
                Err(error) => {
                    counter!("rookery_gossip_unsent_datagrams_total").increment(1);
                    tracing::debug!(%to, %error, "gossip datagram not sent");
                }
            }
        }
        if let Some(view) = self.swim.take_view() {
            report(&view);
            self.view.send_replace(Arc::new(view));
        }
        while let Some(event) = self.swim.pop_event() {
            let GossipEvent { node_id, incarnation, liveness, .. } = event;
            tracing::info!(node = node_id.0, %incarnation, liveness = liveness.as_str(), "gossip");
            counter!("rookery_gossip_changes_total", "liveness" => liveness.as_str()).increment(1);
            if self.events.try_send(event).is_err() {
                counter!("rookery_gossip_dropped_events_total").increment(1);
            }
        }
    }
}

fn report(view: &MembershipView) {
    for liveness in Liveness::ALL {
        let count = view.members.values().filter(|member| member.liveness == liveness).count();
        gauge!("rookery_gossip_members", "liveness" => liveness.as_str()).set(count as f64);
    }
    gauge!("rookery_gossip_lonely").set(f64::from(u8::from(view.lonely)));
    gauge!("rookery_gossip_distrust").set(f64::from(view.distrust));
}

/// The core takes the standard library's moments; the clock is the runtime's.
fn now() -> std::time::Instant {
    Instant::now().into_std()
}

async fn sleep_until(deadline: Option<std::time::Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline.into()).await,
        None => pending().await,
    }
}

/// Turns the seeds' names into addresses, apart from the gossip's own task: a name server may take its time.
struct Resolver {
    resolved: mpsc::Receiver<BTreeMap<NodeId, SocketAddr>>,
}

impl Resolver {
    fn start(
        mut seeds: watch::Receiver<BTreeMap<NodeId, String>>,
        stop: CancellationToken,
        ended: CancellationToken,
    ) -> Self {
        let (sender, resolved) = mpsc::channel(1);
        tokio::spawn(stop.run_until_cancelled_owned(async move {
            let _at_end = ended.drop_guard();
            let mut last = BTreeMap::new();
            loop {
                let names = seeds.borrow_and_update().clone();
                let mut addresses = BTreeMap::new();
                for (node_id, name) in names {
                    match lookup_host(&name).await.map(|mut found| found.next()) {
                        Ok(Some(address)) => drop(addresses.insert(node_id, address)),
                        Ok(None) => tracing::debug!(%name, "a gossip seed's name has no address"),
                        Err(error) => tracing::debug!(%name, %error, "a gossip seed's name does not resolve"),
                    }
                }
                if addresses != last {
                    last.clone_from(&addresses);
                    if sender.send(addresses).await.is_err() {
                        return;
                    }
                }
                tokio::select! {
                    biased;
                    // Without a sender the names stay, and are still resolved.
                    Ok(()) = seeds.changed() => {}
                    () = tokio::time::sleep(RESOLVE_EVERY) => {}
                }
            }
        }));
        Self { resolved }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rookery_raft::ids::IncarnationId;

    // Far above anything that should happen: a test that waits this long has failed.
    const LONG: Duration = Duration::from_secs(60);

    type Seeds = watch::Sender<BTreeMap<NodeId, String>>;

    struct Node {
        gossip: Gossip,
        seeds: Seeds,
        events: mpsc::Receiver<GossipEvent>,
        incarnation: IncarnationId,
    }

    fn node(id: i32, cluster_id: ClusterId) -> Node {
        node_with(id, cluster_id, Seeds::default())
    }

    fn node_with(id: i32, cluster_id: ClusterId, seeds: Seeds) -> Node {
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").expect("binds");
        let address = socket.local_addr().expect("bound");
        let incarnation = IncarnationId::random();
        let identity = GossipIdentity { node_id: NodeId(id), generation: 1, incarnation, address };
        let config = GossipConfig { socket, identity, cluster_id, profile: GossipProfile::LAN, seed: id as u64 };
        let (sender, events) = mpsc::channel(1024);
        let gossip = Gossip::start(config, seeds.subscribe(), sender).expect("binds");
        Node { gossip, seeds, events, incarnation }
    }

    fn cluster(size: i32) -> Vec<Node> {
        let cluster_id = ClusterId::random();
        let nodes: Vec<Node> = (1..=size).map(|id| node(id, cluster_id)).collect();
        let seeds: BTreeMap<NodeId, String> =
            (1..).map(NodeId).zip(nodes.iter().map(|node| node.gossip.local_addr().to_string())).collect();
        nodes.iter().for_each(|node| drop(node.seeds.send_replace(seeds.clone())));
        nodes
    }

    async fn sees(node: &Node, about: i32, wanted: Liveness) {
        let mut view = node.gossip.view();
        let seen =
            view.wait_for(|view| view.members.get(&NodeId(about)).is_some_and(|member| member.liveness == wanted));
        tokio::time::timeout(LONG, seen).await.expect("in time").expect("the gossip runs");
    }

    async fn event(node: &mut Node, about: i32, wanted: Liveness) -> GossipEvent {
        let find = async {
            loop {
                let event = node.events.recv().await.expect("the gossip runs");
                if (event.node_id, event.liveness) == (NodeId(about), wanted) {
                    return event;
                }
            }
        };
        tokio::time::timeout(LONG, find).await.expect("in time")
    }

    #[tokio::test]
    async fn two_of_three_see_that_the_third_has_died() {
        let mut nodes = cluster(3);
        for (at, about) in [(0, 2), (0, 3), (1, 1), (1, 3), (2, 1), (2, 2)] {
            sees(&nodes[at], about, Liveness::Alive).await;
        }
        let third = nodes.pop().expect("three nodes");
        let incarnation = third.incarnation;
        drop(third.gossip);
        for node in &mut nodes {
            sees(node, 3, Liveness::Down).await;
            assert_eq!(event(node, 3, Liveness::Down).await.incarnation, incarnation);
        }
    }

    #[tokio::test]
    async fn a_node_that_leaves_says_so() {
        let mut nodes = cluster(3);
        for at in [0, 1] {
            sees(&nodes[at], 3, Liveness::Alive).await;
        }
        let third = nodes.pop().expect("three nodes");
        sees(&third, 1, Liveness::Alive).await;
        third.gossip.announce_leaving();
        for node in &mut nodes {
            event(node, 3, Liveness::Leaving).await;
        }
        third.gossip.leave().await;
        for node in &mut nodes {
            event(node, 3, Liveness::Down).await;
        }
    }

    #[tokio::test]
    async fn a_node_whose_first_seeds_have_all_moved_never_found_the_others() {
        let cluster_id = ClusterId::random();
        // No node is at the address that was known at the start; this one has tried it.
        let gone = UdpSocket::bind("127.0.0.1:0").await.expect("binds");
        let first = gone.local_addr().expect("bound").to_string();
        let mine = node_with(1, cluster_id, Seeds::new(BTreeMap::from([(NodeId(2), first)])));
        let mut buffer = [0; PACKET_MAX];
        let greeted = tokio::time::timeout(LONG, gone.recv_from(&mut buffer));
        greeted.await.expect("in time").expect("a greeting");
        let other = node(2, cluster_id);
        mine.seeds.send_replace(BTreeMap::from([(NodeId(2), other.gossip.local_addr().to_string())]));
        sees(&mine, 2, Liveness::Alive).await;
        sees(&other, 1, Liveness::Alive).await;
    }

    #[tokio::test]
    async fn the_end_of_its_task_shows() {
        let Node { gossip, .. } = node(1, ClusterId::random());
        assert!(!gossip.ended.is_cancelled());
        gossip.task.abort();
        gossip.ended().await;
    }
}
