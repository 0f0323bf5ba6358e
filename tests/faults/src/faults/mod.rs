//! What can be broken. One file per family; each fault knows how to break something, how to mend it, and how to see that
//! it was really broken.
//!
//! In: the [`World`] of a run. Out: changes to processes and cables. Never here: when ([`schedule`](crate::schedule)), and
//! what clients make of it ([`checkers`](crate::checkers)).

mod clock;
mod delay;
mod kill;
mod later;
mod loss;
mod partition;
mod pause;
mod rolling;

pub use clock::{Clocks, GROUP as CLOCK_GROUP};
pub use later::LATER;

use crate::lab::{Lab, Stop};
use crate::nodes::Nodes;
use anyhow::{Context, Result};
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use std::collections::BTreeSet;
use std::path::PathBuf;

/// What faults act on.
pub struct World {
    /// Namespaces and cables.
    pub lab: Lab,
    /// Processes.
    pub nodes: Nodes,
    /// Where all chance comes from.
    pub random: StdRng,
    /// Whether to go on.
    pub stop: Stop,
    /// Wall clocks that can be set wrong.
    pub clocks: Clocks,
    /// Where the programs are that faults need.
    pub programs: PathBuf,
    /// Where they may keep something.
    pub scratch: PathBuf,
    /// Nodes that some fault holds at the moment.
    pub held: BTreeSet<i32>,
}

/// Which node a fault is for, as things are when it comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// Leads the most partitions of those that are not the active controller.
    Leader,
    /// Leads the fewest partitions of those that are not the active controller.
    Follower,
    /// Is the active controller.
    Controller,
}

impl World {
    /// The node that is meant; another one if a fault holds that one already.
    pub fn target(&mut self, target: Target) -> Result<i32> {
        let view = self.nodes.view()?;
        let controller = view.quorum.controller.as_ref().map(|c| c.node_id);
        let leads = |id: i32| view.brokers.iter().find(|b| b.node_id == id && !b.fenced).map_or(0, |b| b.leads);
        let free: Vec<i32> = self.nodes.ids().into_iter().filter(|id| !self.held.contains(id)).collect();
        let others = || free.iter().copied().filter(|id| Some(*id) != controller);
        let meant = match target {
            Target::Controller => controller.filter(|id| free.contains(id)),
            Target::Leader => others().max_by_key(|id| leads(*id)),
            Target::Follower => others().min_by_key(|id| leads(*id)),
        };
        meant.or_else(|| free.choose(&mut self.random).copied()).context("every node is broken already")
    }

    /// What a node is at the moment, in words.
    pub fn role(&self, id: i32) -> String {
        let Ok(view) = self.nodes.view() else { return format!("node {id}") };
        let controller = view.quorum.controller.is_some_and(|c| c.node_id == id);
        let leads = view.brokers.iter().find(|b| b.node_id == id).map_or(0, |b| b.leads);
        format!("node {id} (leads {leads}{})", if controller { ", active controller" } else { "" })
    }
}

/// What breaks something.
type Inject = Box<dyn Fn(&mut World, &str) -> Result<Box<dyn Active>>>;

/// A fault that can be injected.
pub struct Kind {
    /// Its name: `FAULTS=` takes it, or the group's.
    pub name: &'static str,
    /// Its family.
    pub group: &'static str,
    /// What it does.
    pub about: &'static str,
    /// Why this machine does not have it; nothing if it does.
    pub missing: fn(&World) -> Option<String>,
    /// Break it; the text names this injection among those that are active.
    pub inject: Inject,
}

/// A fault that is active.
pub trait Active {
    /// What is broken.
    fn detail(&self) -> String;
    /// How it is seen to be broken, asked just before it is mended; nothing if it is not seen.
    fn effect(&mut self, world: &mut World) -> Result<Option<String>>;
    /// Mend it.
    fn heal(self: Box<Self>, world: &mut World) -> Result<()>;
}

/// Everything that can be broken.
pub fn catalogue() -> Vec<Kind> {
    [kill::kinds(), pause::kinds(), rolling::kinds(), partition::kinds(), loss::kinds(), delay::kinds(), clock::kinds()]
        .into_iter()
        .flatten()
        .collect()
}

/// Nothing is missing.
fn always(_: &World) -> Option<String> {
    None
}
