//! A voter loses its disk with all that was on it, starts with an empty one, and is made a voter again (`rookery quorum
//! replace`), as an operator would. Seen by: the node that was wiped says that it is not ready.

use super::{Active, Kind, Need, Target, World};
use crate::cluster::Cluster;
use anyhow::{Context, Result, bail};
use rustix::process::Signal;
use std::fs;
use std::time::{Duration, Instant};

/// An operator gives up at some time.
const PATIENCE: Duration = Duration::from_secs(120);

struct Wiped {
    node: i32,
    detail: String,
}

/// A leader's, the controller's.
pub fn kinds() -> Vec<Kind> {
    let of = |name, about, target| Kind {
        name,
        // No two faults of one group come at once: two voters that lose everything are more than a minority.
        group: "damage",
        about,
        need: Need::Nothing,
        inject: Box::new(move |world: &mut World, _: &str| {
            let node = world.target(target)?;
            let detail = world.role(node);
            stop(world, node)?;
            world.held.insert(node);
            start_empty(world, node)?;
            Ok(Box::new(Wiped { node, detail }) as Box<dyn Active>)
        }),
    };
    vec![
        of(
            "wiped-leader",
            "a leader loses its disk and starts with an empty one; mended by an operator: `rookery quorum replace`",
            Target::Leader,
        ),
        of(
            "wiped-controller",
            "the active controller loses its disk; mended by an operator: `rookery quorum replace`",
            Target::Controller,
        ),
    ]
}

/// End a node, if it runs.
pub fn stop(world: &mut World, node: i32) -> Result<()> {
    if world.nodes.runs(node) {
        world.nodes.mark(node, "kill -9");
        world.nodes.signal(node, Signal::KILL)?;
        world.nodes.wait(node)?;
    }
    Ok(())
}

fn start_empty(world: &mut World, node: i32) -> Result<()> {
    let data = world.nodes.data_of(node);
    // An operator would move it away; here nobody will look at it.
    fs::remove_dir_all(&data).with_context(|| format!("cannot remove {}", data.display()))?;
    world.nodes.mark(node, "its directory was moved away");
    world.nodes.start(&world.lab, node)
}

/// The directory of a node that does not run is of no use any more: it starts with an empty one and is made a voter again.
pub fn replace(world: &mut World, node: i32) -> Result<()> {
    start_empty(world, node)?;
    make_voter(world, node)
}

/// A node with a new directory is made a voter, once it asks for that.
fn make_voter(world: &mut World, node: i32) -> Result<()> {
    let end = Instant::now() + PATIENCE;
    let others: Vec<i32> = world.nodes.ids().into_iter().filter(|id| *id != node).collect();
    let mut why = String::new();
    while Instant::now() < end {
        world.stop.sleep(Duration::from_millis(200))?;
        match crate::nodes::complaint(node) {
            Some(complaint) if complaint.contains("quorum replace") => {}
            complaint => {
                why = format!("it says {}", complaint.unwrap_or_else(|| "nothing".to_owned()));
                continue;
            }
        }
        for ask in &others {
            match world.nodes.replace_voter(node, *ask) {
                Ok(()) => {
                    world.nodes.mark(node, "made a voter again");
                    world.held.remove(&node);
                    return Ok(());
                }
                Err(error) => why = format!("{error:#}"),
            }
        }
    }
    bail!("node {node} was not made a voter again in {} s: {why}", PATIENCE.as_secs());
}

impl Active for Wiped {
    fn detail(&self) -> String {
        self.detail.clone()
    }

    fn needs_the_others(&self) -> bool {
        true
    }

    fn effect(&mut self, _: &mut World) -> Result<Option<String>> {
        Ok(crate::nodes::complaint(self.node).map(|_| "the node with the empty directory is not ready".to_owned()))
    }

    fn heal(self: Box<Self>, world: &mut World) -> Result<()> {
        make_voter(world, self.node)
    }
}
