//! Power loss: a node's process ends, and with it everything that its disk was given but not made to keep. Each node has a
//! file system of its own, which is shut down without writing out its journal at the moment when the process is killed
//! (`clients/power.py`), unmounted and mounted again. Seen by: the processes ended by signal 9, and what was written to each
//! disk a moment before and not synced is gone.
//!
//! The loop device's own file keeps what the file system has sent it: a disk with a cache that lies about syncs is not tried.

use super::{Active, Kind, Need, Target, World};
use crate::cluster::Cluster;
use anyhow::{Context, Result, bail};
use rustix::process::Signal;
use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::process::Command;

/// Nodes that have lost power: their disks are mounted again, their processes are gone.
pub struct Off {
    /// Which.
    pub nodes: Vec<i32>,
    detail: String,
    signals: Vec<Option<i32>>,
    forgot: bool,
}

/// One, the controller, two, all.
pub fn kinds() -> Vec<Kind> {
    let of = |name, about, choose: fn(&mut World) -> Result<Vec<i32>>| Kind {
        name,
        group: "power",
        about,
        need: Need::Disks,
        inject: Box::new(move |world: &mut World, _: &str| {
            let nodes = choose(world)?;
            Ok(Box::new(off(world, nodes)?) as Box<dyn Active>)
        }),
    };
    vec![
        of("power-leader", "power loss of a leader: what was not synced is gone", |world| {
            Ok(vec![world.target(Target::Leader)?])
        }),
        of("power-controller", "power loss of the active controller", |world| {
            Ok(vec![world.target(Target::Controller)?])
        }),
        of("power-two", "power loss of the active controller and another node at once", |world| {
            let controller = world.target(Target::Controller)?;
            let other = world.free().into_iter().find(|id| *id != controller);
            Ok([Some(controller), other].into_iter().flatten().collect())
        }),
        of("power-all", "power loss of all nodes at once", |world| Ok(world.free())),
    ]
}

/// Take away the power, and give it back to the disks: the nodes are held until they are started.
pub fn off(world: &mut World, nodes: Vec<i32>) -> Result<Off> {
    let roles: Vec<String> = nodes.iter().map(|id| world.role(*id)).collect();
    let mut command = Command::new("python3");
    command.arg(world.programs.join("power.py"));
    for id in &nodes {
        world.nodes.mark(*id, "power loss");
        let pid = world.nodes.pid(*id)?.as_raw_nonzero();
        command.arg(format!("{pid}:{}", world.disks.of(*id)?.mount.display()));
        world.held.insert(*id);
    }
    let done = command.output().context("needs python3")?;
    if !done.status.success() || String::from_utf8_lossy(&done.stdout).lines().count() != nodes.len() {
        bail!("power.py: {}", String::from_utf8_lossy(&done.stderr).trim());
    }
    let (mut signals, mut forgot) = (Vec::new(), true);
    for id in &nodes {
        signals.push(world.nodes.wait(*id)?.signal());
        let disk = world.disks.of(*id)?;
        disk.unmount()?;
        disk.mount()?;
        let unsynced = disk.mount.join("unsynced");
        forgot &= !fs::read(&unsynced).is_ok_and(|found| found.contains(&b'x'));
        if unsynced.exists() {
            fs::remove_file(unsynced)?;
        }
    }
    Ok(Off { nodes, detail: roles.join(", "), signals, forgot })
}

impl Off {
    /// How it was seen.
    pub fn seen(&self) -> Option<String> {
        let killed = self.signals.iter().all(|s| *s == Some(Signal::KILL.as_raw()));
        (killed && self.forgot).then(|| format!("{} off, what was not synced is gone", self.nodes.len()))
    }
}

impl Active for Off {
    fn detail(&self) -> String {
        self.detail.clone()
    }

    fn effect(&mut self, world: &mut World) -> Result<Option<String>> {
        let gone = self.nodes.iter().all(|id| !world.nodes.runs(*id) && !crate::nodes::live(*id));
        Ok(self.seen().filter(|_| gone))
    }

    fn heal(self: Box<Self>, world: &mut World) -> Result<()> {
        for id in &self.nodes {
            world.nodes.start(&world.lab, *id)?;
            world.held.remove(id);
        }
        Ok(())
    }
}
