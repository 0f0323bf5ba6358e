//! Many cores on virtual time, with a network that delays, loses and parts. Same seed, same run.

use super::codec::tests::identity;
use super::*;
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use rookery_raft::ids::{ClusterId, IncarnationId, NodeId};
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::{Duration, Instant};
use uuid::Uuid;

const CLUSTER: ClusterId = ClusterId(Uuid::from_u128(7));

struct World {
    start: Instant,
    now: Instant,
    rng: SmallRng,
    nodes: BTreeMap<i32, Node>,
    // By time of arrival, then of sending.
    flying: BTreeMap<(Instant, u64), (SocketAddr, bytes::Bytes)>,
    sent: u64,
    loss: f64,
    // Datagrams between these and the rest are lost.
    island: BTreeSet<i32>,
    events: Vec<(i32, GossipEvent)>,
}

struct Node {
    swim: Swim,
    // A paused process: datagrams wait in its socket, its timers do not fire.
    paused: bool,
    inbox: Vec<bytes::Bytes>,
    bytes_sent: u64,
    datagrams_sent: u64,
}

impl World {
    fn new(seed: u64, size: i32) -> Self {
        let start = Instant::now();
        let rng = SmallRng::seed_from_u64(seed);
        let mut world = World {
            start,
            now: start,
            rng,
            nodes: BTreeMap::new(),
            flying: BTreeMap::new(),
            sent: 0,
            loss: 0.0,
            island: BTreeSet::new(),
            events: Vec::new(),
        };
        (1..=size).for_each(|node| world.boot(identity(node, 1)));
        world
    }

    fn settled(seed: u64, size: i32) -> Self {
        let mut world = World::new(seed, size);
        let took = world.run_until(Duration::from_secs(30), World::everybody_is_alive);
        assert!(took.is_some(), "the cluster does not come together");
        // Suspicions of the start are over.
        world.run(Duration::from_secs(3));
        world.events.clear();
        world
    }

    fn boot(&mut self, identity: GossipIdentity) {
        let config = SwimConfig { identity, cluster_id: CLUSTER, profile: GossipProfile::LAN, seed: self.rng.random() };
        let mut swim = Swim::new(config, self.now);
        let seeds = (1..=3).map(|node| (NodeId(node), super::codec::tests::identity(node, 0).address)).collect();
        swim.set_seeds(seeds, self.now);
        let node = identity.node_id.0;
        self.nodes.insert(node, Node { swim, paused: false, inbox: Vec::new(), bytes_sent: 0, datagrams_sent: 0 });
        self.collect(node);
    }

    fn kill(&mut self, node: i32) {
        self.nodes.remove(&node).expect("a running node");
    }

    fn pause(&mut self, node: i32) {
        self.nodes.get_mut(&node).expect("a running node").paused = true;
    }

    // The socket is read before the timers, as the driver does.
    fn resume(&mut self, node: i32) {
        let running = self.nodes.get_mut(&node).expect("a running node");
        running.paused = false;
        for datagram in std::mem::take(&mut running.inbox) {
            let _ = running.swim.handle_datagram(&datagram, self.now);
        }
        running.swim.handle_timers(self.now);
        self.collect(node);
    }

    fn on(&mut self, node: i32, act: impl FnOnce(&mut Swim, Instant)) {
        act(&mut self.nodes.get_mut(&node).expect("a running node").swim, self.now);
        self.collect(node);
    }

    // Takes what a core wants to send and tell.
    fn collect(&mut self, node: i32) {
        let running = self.nodes.get_mut(&node).expect("a running node");
        while let Some((to, datagram)) = running.swim.pop_datagram() {
            assert!(datagram.len() <= PACKET_MAX);
            running.bytes_sent += datagram.len() as u64;
            running.datagrams_sent += 1;
            let target = i32::from(u16::from_be_bytes(match to {
                SocketAddr::V4(to) => [to.ip().octets()[2], to.ip().octets()[3]],
                SocketAddr::V6(_) => unreachable!("the simulation speaks IPv4"),
            }));
            let parted = self.island.contains(&node) != self.island.contains(&target);
            let lost = self.rng.random_bool(self.loss);
            let delay = Duration::from_micros(self.rng.random_range(100..2000));
            if !parted && !lost {
                self.sent += 1;
                self.flying.insert((self.now + delay, self.sent), (to, datagram));
            }
        }
        while let Some(event) = running.swim.pop_event() {
            self.events.push((node, event));
        }
    }

    // The next thing that happens, if it happens before `end`.
    fn step(&mut self, end: Instant) -> bool {
        let timer = self.nodes.iter().filter(|(_, node)| !node.paused);
        let timer = timer.filter_map(|(id, node)| Some((node.swim.next_deadline()?, *id))).min();
        let arrival = self.flying.first_key_value().map(|((at, _), _)| *at);
        let next = [timer.map(|(at, _)| at), arrival].into_iter().flatten().min();
        let Some(next) = next.filter(|next| *next <= end) else {
            self.now = end;
            return false;
        };
        self.now = self.now.max(next);
        if arrival == Some(next) {
            let (_, (to, datagram)) = self.flying.pop_first().expect("it was the first");
            let target = self.nodes.iter_mut().find(|(_, node)| node.swim.identity().address == to);
            if let Some((id, node)) = target {
                if node.paused {
                    node.inbox.push(datagram);
                } else {
                    let _ = node.swim.handle_datagram(&datagram, self.now);
                    let id = *id;
                    self.collect(id);
                }
            }
        } else if let Some((_, id)) = timer {
            self.on(id, |swim, now| swim.handle_timers(now));
        }
        true
    }

    fn run(&mut self, time: Duration) {
        let end = self.now + time;
        while self.step(end) {}
    }

    // How long until it holds, looked at every few milliseconds; `None` if that is longer than `limit`.
    fn run_until(&mut self, limit: Duration, holds: impl Fn(&World) -> bool) -> Option<Duration> {
        let begin = self.now;
        while !holds(self) {
            if self.now - begin > limit {
                return None;
            }
            self.run(Duration::from_millis(5));
        }
        Some(self.now - begin)
    }

    fn everybody_is_alive(&self) -> bool {
        self.all_see(|liveness| liveness == Some(Liveness::Alive))
    }

    // Every running node, about every other running node.
    fn all_see(&self, check: impl Fn(Option<Liveness>) -> bool) -> bool {
        self.nodes.iter().all(|(me, node)| {
            self.nodes
                .keys()
                .filter(|other| *other != me)
                .all(|other| check(node.swim.view().members.get(&NodeId(*other)).map(|member| member.liveness)))
        })
    }

    fn others_see(&self, about: i32, wanted: Liveness) -> bool {
        self.nodes.iter().filter(|(me, _)| **me != about).all(|(_, node)| {
            node.swim.view().members.get(&NodeId(about)).is_some_and(|member| member.liveness == wanted)
        })
    }

    fn accusations(&self, wanted: Liveness) -> usize {
        self.events.iter().filter(|(_, event)| event.liveness == wanted).count()
    }
}

const LIMIT: Duration = Duration::from_secs(20);

#[test]
fn the_same_seed_gives_the_same_run() {
    let run = |seed| {
        let mut world = World::settled(seed, 8);
        world.loss = 0.2;
        world.run(Duration::from_secs(10));
        world.kill(2);
        world.run(Duration::from_secs(10));
        let events: Vec<_> =
            world.events.iter().map(|(on, e)| (*on, e.node_id, e.liveness, e.at - world.start)).collect();
        (world.sent, events)
    };
    assert_eq!(run(3), run(3));
    assert_ne!(run(3), run(4));
}

// Each of the two others probes in rounds, shuffled anew: three periods at worst from the end of one probe of the dead node to the
// start of the next, then the probe itself, the suspicion, and one period for the news and a witness.
#[test]
fn a_dead_node_among_three_is_down_everywhere_within_its_bound() {
    let GossipProfile { probe_period, suspicion, .. } = GossipProfile::LAN;
    let bound = probe_period * 5 + suspicion;
    let mut times: Vec<Duration> = (0..50)
        .map(|seed| {
            let mut world = World::settled(seed, 3);
            world.run(Duration::from_millis(seed * 7));
            world.kill(3);
            world.run_until(LIMIT, |world| world.others_see(3, Liveness::Down)).expect("detected")
        })
        .collect();
    times.sort();
    eprintln!(
        "3 nodes, death to Down everywhere: median {:?}, worst of 50 {:?}, bound {bound:?}",
        times[25], times[49]
    );
    assert!(times[49] <= bound, "{:?}", times[49]);
}

#[test]
fn a_healthy_cluster_accuses_nobody() {
    for seed in 0..3 {
        let mut world = World::settled(seed, 12);
        world.run(Duration::from_secs(120));
        assert_eq!(world.events, []);
    }
}

#[test]
fn with_a_tenth_of_the_datagrams_lost_no_false_accusation_survives() {
    let (mut suspected, mut convicted) = (0, 0);
    for seed in 0..5 {
        let mut world = World::settled(seed, 10);
        world.loss = 0.1;
        world.run(Duration::from_secs(60));
        suspected += world.accusations(Liveness::Suspect);
        convicted += world.accusations(Liveness::Down);
        // Still at that loss, every accusation is taken back.
        let healed = world.run_until(LIMIT, World::everybody_is_alive);
        assert!(healed.is_some(), "seed {seed}");
        // And the cluster has not forgotten how to detect.
        world.kill(4);
        let took = world.run_until(LIMIT, |world| world.others_see(4, Liveness::Down));
        assert!(took.is_some_and(|took| took < Duration::from_secs(5)), "seed {seed}: {took:?}");
    }
    eprintln!(
        "10 nodes, 10 % loss, 5 × 60 s: {suspected} suspicions published, {convicted} false convictions published"
    );
    // Five minutes of ten nodes with ten observers each.
    assert!(convicted <= suspected / 10, "{convicted} of {suspected}");
}

#[test]
fn a_cut_off_node_is_down_and_it_accuses_nobody_and_comes_back() {
    let mut world = World::settled(5, 5);
    world.island.insert(5);
    let took = world.run_until(LIMIT, |world| world.others_see(5, Liveness::Down));
    assert!(took.is_some());
    world.run(Duration::from_secs(3));
    assert!(world.nodes[&5].swim.view().lonely);
    let accused_by_it: Vec<_> =
        world.events.iter().filter(|(on, event)| *on == 5 && event.liveness == Liveness::Down).collect();
    assert!(accused_by_it.is_empty(), "{accused_by_it:?}");

    world.island.clear();
    let is_healed = |world: &World| world.everybody_is_alive() && !world.nodes[&5].swim.view().lonely;
    assert!(world.run_until(LIMIT, is_healed).is_some(), "the cluster heals");
}

#[test]
fn two_halves_find_each_other_again() {
    let mut world = World::settled(6, 6);
    world.island = BTreeSet::from([1, 2, 3]);
    let parted = world.run_until(LIMIT, |world| {
        let sees_down =
            |me: i32, other: i32| world.nodes[&me].swim.view().members[&NodeId(other)].liveness == Liveness::Down;
        (1..=3).all(|a| (4..=6).all(|b| sees_down(a, b) && sees_down(b, a)))
    });
    assert!(parted.is_some());
    world.island.clear();
    assert!(world.run_until(LIMIT, World::everybody_is_alive).is_some());
}

// Paused right after it has sent something, often a ping; the answer waits in its socket, or was lost because the socket was full.
#[test]
fn a_paused_process_accuses_nobody_when_it_wakes() {
    for (seed, millis) in (0..30).zip([300, 1000, 5000].into_iter().cycle()) {
        let mut world = World::settled(seed, 5);
        let sent = world.nodes[&5].datagrams_sent;
        while world.nodes[&5].datagrams_sent == sent {
            world.step(world.now + LIMIT);
        }
        world.pause(5);
        world.run(Duration::from_millis(millis));
        if seed % 2 == 0 {
            world.nodes.get_mut(&5).expect("running").inbox.clear();
        }
        world.resume(5);
        world.run(Duration::from_secs(10));
        let accused_by_it: Vec<_> =
            world.events.iter().filter(|(on, event)| *on == 5 && event.liveness != Liveness::Alive).collect();
        assert!(accused_by_it.is_empty(), "seed {seed}, {millis} ms: {accused_by_it:?}");
        assert!(world.everybody_is_alive(), "seed {seed}, {millis} ms");
        assert_eq!(world.nodes[&5].swim.view().distrust, 0, "seed {seed}, {millis} ms");
    }
}

#[test]
fn a_suspect_that_is_alive_refutes() {
    let mut world = World::settled(9, 5);
    // Shorter than probe and suspicion together: suspected, never down.
    world.pause(3);
    let suspected = world.run_until(LIMIT, |world| world.accusations(Liveness::Suspect) > 0);
    assert!(suspected.is_some());
    world.resume(3);
    assert!(world.run_until(LIMIT, World::everybody_is_alive).is_some());
    assert_eq!(world.accusations(Liveness::Down), 0);
}

#[test]
fn a_restarted_node_is_the_old_one_down_and_the_new_one_alive() {
    // The clock went on; it was set back; the node came back before anybody had missed it.
    for (generation, wait) in [(2, 5000), (0, 5000), (2, 0), (0, 0)] {
        let mut world = World::settled(10, 4);
        let before = *world.nodes[&2].swim.identity();
        world.kill(2);
        world.run(Duration::from_millis(wait));
        let after = GossipIdentity { incarnation: IncarnationId(Uuid::from_u128(99)), generation, ..before };
        world.boot(after);
        let is_back = |world: &World| {
            world.everybody_is_alive()
                && [1, 3, 4]
                    .iter()
                    .all(|node| world.nodes[node].swim.view().members[&NodeId(2)].incarnation == after.incarnation)
        };
        let took = world.run_until(LIMIT, is_back);
        assert!(took.is_some(), "generation {generation}, after {wait} ms");
        for node in [1, 3, 4] {
            let told: Vec<_> = world
                .events
                .iter()
                .filter(|(on, event)| *on == node && event.node_id == NodeId(2))
                .filter(|(_, event)| event.liveness != Liveness::Suspect)
                .map(|(_, event)| (event.incarnation, event.liveness))
                .collect();
            let expected = [(before.incarnation, Liveness::Down), (after.incarnation, Liveness::Alive)];
            assert_eq!(told, expected, "on node {node}, generation {generation}, after {wait} ms");
        }
        assert_eq!(world.nodes[&2].swim.identity().incarnation, after.incarnation);
    }
}

#[test]
fn leaving_is_told_before_the_end_and_the_end_at_once() {
    let mut world = World::settled(11, 6);
    world.on(2, |swim, now| swim.announce_leaving(now));
    let told = world.run_until(LIMIT, |world| world.others_see(2, Liveness::Leaving));
    assert!(told.is_some_and(|told| told < Duration::from_secs(1)), "{told:?}");
    world.run(Duration::from_secs(5));
    assert!(world.others_see(2, Liveness::Leaving), "it still answers");
    world.on(2, |swim, now| swim.leave(now));
    let left = world.run_until(LIMIT, |world| world.others_see(2, Liveness::Down));
    assert!(left.is_some_and(|left| left < Duration::from_secs(1)), "{left:?}");
    world.run(Duration::from_secs(5));
    assert!(world.others_see(2, Liveness::Down), "it stays away");
    assert_eq!(world.accusations(Liveness::Suspect), 0);
}

#[test]
fn mutated_datagrams_never_panic() {
    let mut world = World::settled(12, 4);
    let mut rng = SmallRng::seed_from_u64(1);
    world.loss = 0.3; // suspicions and refutations are on their way, too
    for _ in 0..20_000 {
        world.step(world.now + LIMIT);
        let Some((_, (to, datagram))) = world.flying.last_key_value() else { continue };
        let Ok(packet::Packet::Swim(payload)) = packet::decode(CLUSTER, datagram) else { continue };
        let mut payload = payload.to_vec();
        for _ in 0..rng.random_range(1..4) {
            let at = rng.random_range(0..payload.len());
            payload[at] = rng.random();
        }
        payload.truncate(rng.random_range(payload.len() / 2..payload.len() * 2));
        let mutated = (*to, packet::encode(CLUSTER, &packet::Packet::Swim(&payload)));
        world.sent += 1;
        world.flying.insert((world.now, world.sent), mutated);
    }
    assert!(world.nodes.values().all(|node| node.swim.view().members.len() <= MEMBERS_MAX));
}

#[test]
fn a_flood_of_made_up_nodes_stays_within_bounds() {
    let mut world = World::settled(12, 3);
    for node in 0..MEMBERS_MAX as i32 + 100 {
        let header = foca::Header {
            src: identity(10 + node, 1),
            src_incarnation: 0,
            dst: *world.nodes[&1].swim.identity(),
            message: foca::Message::Gossip,
        };
        let mut payload = Vec::new();
        foca::Codec::encode_header(&mut super::codec::SwimCodec, &header, &mut payload).expect("room");
        let datagram = packet::encode(CLUSTER, &packet::Packet::Swim(&payload));
        let swim = &mut world.nodes.get_mut(&1).expect("running").swim;
        let handled = swim.handle_datagram(&datagram, world.now);
        // Nothing tells made-up nodes from real ones, up to the bound.
        let expected = if swim.view().members.len() < MEMBERS_MAX { Ok(()) } else { handled };
        assert_eq!(handled, expected);
        while swim.pop_datagram().is_some() || swim.pop_event().is_some() {}
    }
    assert_eq!(world.nodes[&1].swim.view().members.len(), MEMBERS_MAX);
}

#[test]
fn a_foreign_cluster_is_not_heard() {
    let mut world = World::settled(13, 3);
    let foreigner = SwimConfig {
        identity: identity(9, 1),
        cluster_id: ClusterId(Uuid::from_u128(8)),
        profile: GossipProfile::LAN,
        seed: 1,
    };
    let mut foreigner = Swim::new(foreigner, world.now);
    foreigner.set_seeds(BTreeMap::from([(NodeId(1), identity(1, 1).address)]), world.now);
    let (_, greeting) = foreigner.pop_datagram().expect("it greets its seed");
    world.on(1, |swim, now| assert_eq!(swim.handle_datagram(&greeting, now), Err(Dropped::ForeignCluster)));
    assert_eq!(world.nodes[&1].swim.view().members.len(), 2);
}

#[test]
fn the_load_of_a_node_stays_flat_with_a_hundred_nodes() {
    let load = |size: i32| {
        let mut world = World::settled(14, size);
        let sum = |world: &World| {
            let bytes: u64 = world.nodes.values().map(|node| node.bytes_sent).sum();
            let datagrams: u64 = world.nodes.values().map(|node| node.datagrams_sent).sum();
            (bytes, datagrams)
        };
        let before = sum(&world);
        world.run(Duration::from_secs(10));
        let after = sum(&world);
        let per_node_second = |total: u64| total / 10 / size as u64;
        let (bytes, datagrams) = (per_node_second(after.0 - before.0), per_node_second(after.1 - before.1));
        world.kill(7.min(size));
        let took = world.run_until(LIMIT, |world| world.others_see(7.min(size), Liveness::Down)).expect("detected");
        eprintln!(
            "{size} nodes: each sends {bytes} bytes in {datagrams} datagrams per second; a death is Down everywhere after {took:?}"
        );
        bytes
    };
    let (few, many) = (load(3), load(100));
    assert!(many <= few * 2, "{few} bytes per second of three nodes, {many} of a hundred");
}
