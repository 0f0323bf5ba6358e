//! SIGSTOP and SIGCONT: a process that hangs and comes back as if no time had passed (the zombie leader). Seen by: the
//! kernel's state of the process is T, and nobody answers there.

use super::{Active, Kind, Need, Target, World};
use anyhow::Result;
use rustix::process::Signal;

struct Paused {
    nodes: Vec<i32>,
    detail: String,
}

/// The leader, a follower, the controller, all.
pub fn kinds() -> Vec<Kind> {
    let one = |name, about, target| Kind {
        name,
        group: "pause",
        about,
        need: Need::Nothing,
        inject: Box::new(move |world: &mut World, _: &str| {
            let node = world.target(target)?;
            pause(world, vec![node])
        }),
    };
    vec![
        one("pause-leader", "SIGSTOP of the node that leads most and is not the controller", Target::Leader),
        one("pause-follower", "SIGSTOP of the node that leads least and is not the controller", Target::Follower),
        one("pause-controller", "SIGSTOP of the active controller", Target::Controller),
        Kind {
            name: "pause-all",
            group: "pause",
            about: "SIGSTOP of all nodes",
            need: Need::Nothing,
            inject: Box::new(|world, _| {
                let nodes = world.free();
                pause(world, nodes)
            }),
        },
    ]
}

fn pause(world: &mut World, nodes: Vec<i32>) -> Result<Box<dyn Active>> {
    let roles: Vec<String> = nodes.iter().map(|id| world.role(*id)).collect();
    for id in &nodes {
        world.nodes.mark(*id, "SIGSTOP");
        world.nodes.signal(*id, Signal::STOP)?;
        world.held.insert(*id);
    }
    Ok(Box::new(Paused { nodes, detail: roles.join(", ") }))
}

impl Active for Paused {
    fn detail(&self) -> String {
        self.detail.clone()
    }

    fn effect(&mut self, world: &mut World) -> Result<Option<String>> {
        for id in &self.nodes {
            let pid = world.nodes.pid(*id)?.as_raw_nonzero();
            let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
            if crate::nodes::state(&stat) != Some('T') || crate::nodes::live(*id) {
                return Ok(None);
            }
        }
        Ok(Some(format!("{} in state T, nobody answers there", self.nodes.len())))
    }

    fn heal(self: Box<Self>, world: &mut World) -> Result<()> {
        for id in &self.nodes {
            world.nodes.mark(*id, "SIGCONT");
            world.nodes.signal(*id, Signal::CONT)?;
            world.held.remove(id);
        }
        Ok(())
    }
}
