//! `kill -9`, and a start with the same data. Seen by: the process ended by signal 9.

use super::{Active, Kind, Need, Target, World};
use crate::cluster::Cluster;
use anyhow::Result;
use rustix::process::Signal;
use std::os::unix::process::ExitStatusExt;

struct Killed {
    nodes: Vec<i32>,
    detail: String,
    signals: Vec<Option<i32>>,
}

/// One, the leader, the controller, two, all.
pub fn kinds() -> Vec<Kind> {
    let one = |name, about, target| Kind {
        name,
        group: "kill",
        about,
        need: Need::Nothing,
        inject: Box::new(move |world: &mut World, _: &str| {
            let node = world.target(target)?;
            kill(world, vec![node])
        }),
    };
    let several = |name, about, choose: fn(&mut World) -> Result<Vec<i32>>| Kind {
        name,
        group: "kill",
        about,
        need: Need::Nothing,
        inject: Box::new(move |world: &mut World, _: &str| {
            let nodes = choose(world)?;
            kill(world, nodes)
        }),
    };
    vec![
        one("kill-leader", "kill -9 of the node that leads most and is not the controller", Target::Leader),
        one("kill-follower", "kill -9 of the node that leads least and is not the controller", Target::Follower),
        one("kill-controller", "kill -9 of the active controller", Target::Controller),
        several("kill-two", "kill -9 of the active controller and another node at once", |world| {
            let controller = world.target(Target::Controller)?;
            let other = world.free().into_iter().find(|id| *id != controller);
            Ok([Some(controller), other].into_iter().flatten().collect())
        }),
        several("kill-all", "kill -9 of all nodes at once", |world| Ok(world.free())),
    ]
}

fn kill(world: &mut World, nodes: Vec<i32>) -> Result<Box<dyn Active>> {
    let roles: Vec<String> = nodes.iter().map(|id| world.role(*id)).collect();
    for id in &nodes {
        world.nodes.mark(*id, "kill -9");
        world.nodes.signal(*id, Signal::KILL)?;
        world.held.insert(*id);
    }
    let mut signals = Vec::new();
    for id in &nodes {
        signals.push(world.nodes.wait(*id)?.signal());
    }
    Ok(Box::new(Killed { nodes, detail: roles.join(", "), signals }))
}

impl Active for Killed {
    fn detail(&self) -> String {
        self.detail.clone()
    }

    fn effect(&mut self, world: &mut World) -> Result<Option<String>> {
        let killed = self.signals.iter().all(|s| *s == Some(Signal::KILL.as_raw()));
        let gone = self.nodes.iter().all(|id| !world.nodes.runs(*id) && !crate::nodes::live(*id));
        Ok((killed && gone).then(|| format!("{} ended by signal 9, nobody answers there", self.nodes.len())))
    }

    fn heal(self: Box<Self>, world: &mut World) -> Result<()> {
        for id in &self.nodes {
            world.nodes.start(&world.lab, *id)?;
            world.held.remove(id);
        }
        Ok(())
    }
}
