//! Cuts between the ends of cables. Seen by: the rules have dropped packets.

use super::{Active, Kind, Need, Target, World};
use crate::lab::{Loss, Port};
use anyhow::Result;

/// Packets that are dropped at the bridge, under a name.
pub struct Cut {
    name: String,
    detail: String,
}

impl Cut {
    /// Begin to drop.
    pub fn begin(world: &mut World, name: &str, detail: String, losses: &[Loss]) -> Result<Box<dyn Active>> {
        world.lab.cut(name, losses)?;
        Ok(Box::new(Cut { name: name.to_owned(), detail }))
    }
}

impl Active for Cut {
    fn detail(&self) -> String {
        self.detail.clone()
    }

    fn effect(&mut self, world: &mut World) -> Result<Option<String>> {
        let dropped = world.lab.dropped(&self.name)?;
        Ok((dropped > 0).then(|| format!("{dropped} packets dropped")))
    }

    fn heal(self: Box<Self>, world: &mut World) -> Result<()> {
        world.lab.restore(&self.name)
    }
}

fn between(one: &[Port], other: &[Port]) -> Vec<Loss> {
    vec![
        Loss { from: one.to_vec(), to: other.to_vec(), percent: 100 },
        Loss { from: other.to_vec(), to: one.to_vec(), percent: 100 },
    ]
}

/// Everyone but these.
fn rest(world: &World, but: &[Port]) -> Vec<Port> {
    let count = i32::try_from(world.nodes.ids().len()).unwrap_or(i32::MAX);
    Port::all(count).into_iter().filter(|p| !but.contains(p)).collect()
}

/// Isolated from everyone, from its peers, with clients on either side; a bridge; one way in and out.
pub fn kinds() -> Vec<Kind> {
    let of = |name, about, target, losses: fn(&World, i32) -> Vec<Loss>| Kind {
        name,
        group: "partition",
        about,
        need: Need::Nothing,
        inject: Box::new(move |world: &mut World, tag: &str| {
            let node = world.target(target)?;
            let (role, losses) = (world.role(node), losses(world, node));
            world.nodes.mark(node, name);
            Cut::begin(world, tag, role, &losses)
        }),
    };
    let isolated: fn(&World, i32) -> Vec<Loss> = |world, node| {
        let one = [Port::Node(node)];
        between(&one, &rest(world, &one))
    };
    let from_peers: fn(&World, i32) -> Vec<Loss> = |world, node| {
        let one = [Port::Node(node)];
        let peers: Vec<Port> = rest(world, &one).into_iter().filter(|p| matches!(p, Port::Node(_))).collect();
        between(&one, &peers)
    };
    let minority: fn(&World, i32) -> Vec<Loss> = |world, node| {
        let side = [Port::Node(node), Port::Clients(2)];
        let others: Vec<Port> = rest(world, &side).into_iter().filter(|p| *p != Port::Observer).collect();
        between(&side, &others)
    };
    let bridge: fn(&World, i32) -> Vec<Loss> = |world, node| {
        let ends: Vec<Port> =
            rest(world, &[Port::Node(node)]).into_iter().filter(|p| matches!(p, Port::Node(_))).collect();
        ends.split_first().map(|(one, others)| between(&[*one], others)).unwrap_or_default()
    };
    let deaf: fn(&World, i32) -> Vec<Loss> = |world, node| {
        let one = [Port::Node(node)];
        vec![Loss { from: rest(world, &one), to: one.to_vec(), percent: 100 }]
    };
    let mute: fn(&World, i32) -> Vec<Loss> = |world, node| {
        let one = [Port::Node(node)];
        vec![Loss { from: one.to_vec(), to: rest(world, &one), percent: 100 }]
    };
    let deaf_to_peers: fn(&World, i32) -> Vec<Loss> = |world, node| from_peers_one_way(world, node, true);
    let mute_to_peers: fn(&World, i32) -> Vec<Loss> = |world, node| from_peers_one_way(world, node, false);
    vec![
        of("isolate-leader", "the node that leads most is cut off from everyone", Target::Leader, isolated),
        of("isolate-follower", "the node that leads least is cut off from everyone", Target::Follower, isolated),
        of("isolate-controller", "the active controller is cut off from everyone", Target::Controller, isolated),
        of("split-leader", "a leader is cut off from the other nodes; clients reach all", Target::Leader, from_peers),
        of("split-controller", "the same with the active controller", Target::Controller, from_peers),
        of(
            "minority-leader",
            "a leader and half of the clients on one side, the rest on the other",
            Target::Leader,
            minority,
        ),
        of("minority-controller", "the same with the active controller", Target::Controller, minority),
        of("bridge-leader", "two nodes do not reach each other, a leader reaches both", Target::Leader, bridge),
        of(
            "bridge-controller",
            "two nodes do not reach each other, the controller reaches both",
            Target::Controller,
            bridge,
        ),
        of("deaf-leader", "nothing arrives at a leader, what it sends does", Target::Leader, deaf),
        of("deaf-controller", "nothing arrives at the active controller", Target::Controller, deaf),
        of("mute-leader", "nothing that a leader sends arrives anywhere", Target::Leader, mute),
        of("mute-controller", "nothing that the active controller sends arrives anywhere", Target::Controller, mute),
        of(
            "deaf-to-peers",
            "nothing of the other nodes arrives at a leader; clients reach all",
            Target::Leader,
            deaf_to_peers,
        ),
        of(
            "mute-to-peers",
            "nothing of a leader arrives at the other nodes; clients reach all",
            Target::Leader,
            mute_to_peers,
        ),
    ]
}

fn from_peers_one_way(world: &World, node: i32, inwards: bool) -> Vec<Loss> {
    let one = vec![Port::Node(node)];
    let peers: Vec<Port> = rest(world, &one).into_iter().filter(|p| matches!(p, Port::Node(_))).collect();
    let (from, to) = if inwards { (peers, one) } else { (one, peers) };
    vec![Loss { from, to, percent: 100 }]
}
