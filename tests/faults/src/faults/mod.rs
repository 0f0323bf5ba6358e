//! What can be broken. One file per family; each fault knows how to break something, how to mend it, and how to see that
//! it was really broken.
//!
//! In: the [`World`] of a run. Out: changes to processes, cables, disks and files. Never here: when ([`schedule`](crate::schedule)), and
//! what clients make of it ([`checkers`](crate::checkers)).

mod clock;
mod damage;
mod delay;
mod disk_full;
mod disk_hang;
mod disk_slow;
mod kill;
mod later;
mod loss;
mod membership;
mod partition;
mod pause;
mod power;
mod rolling;
mod shim;
mod sync_error;

pub use delay::{Delay, Order, Pump};
pub use disk_slow::sweep as sweep_throttles;
pub use later::LATER;
pub use shim::Shim;

use crate::disks::Disks;
use crate::lab::{Lab, Stop};
use crate::nodes::Nodes;
use crate::schedule::MIX;
use anyhow::{Context, Result};
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::Command;

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
    /// File systems of the nodes' own; after the processes that use them, which end with the lab.
    pub disks: Disks,
    /// Wall clocks that can be set wrong.
    pub clocks: Shim,
    /// Syncs that can be made to fail.
    pub syncs: Shim,
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

/// What has to be set up before the nodes start, for a fault to be possible.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// Nothing.
    Nothing,
    /// A packet pump.
    Pump,
    /// [`World::clocks`].
    Clocks,
    /// [`World::syncs`].
    Syncs,
    /// [`World::disks`].
    Disks,
    /// Those, and a kernel that limits what a process may write.
    Throttle,
}

impl World {
    /// Set up what these faults need, as far as this machine has it. Before the nodes start.
    pub fn prepare(&mut self, needs: &[Need]) {
        if needs.contains(&Need::Clocks) {
            self.clocks = Shim::set_up(self, "clock");
        }
        if needs.contains(&Need::Disks) || needs.contains(&Need::Throttle) {
            self.disks = Disks::set_up(&self.scratch, &self.nodes.ids());
            self.nodes.place(self.disks.data());
        }
        if needs.contains(&Need::Syncs) {
            self.syncs = Shim::set_up(self, "sync");
        }
    }

    /// Why this machine does not have what a fault needs; nothing if it does.
    pub fn missing(&self, need: Need) -> Option<String> {
        match need {
            Need::Nothing => None,
            Need::Pump => {
                let python = Command::new("python3").arg("--version").output();
                python.is_err().then(|| "not available here: needs python3 for the packet pump".to_owned())
            }
            Need::Clocks => self.clocks.missing(),
            Need::Syncs => self.syncs.missing(),
            Need::Disks => self.disks.missing(),
            Need::Throttle => self.disks.missing().or_else(|| {
                let why = "not available here: needs control groups with blkio (version 1) or io (version 2)";
                disk_slow::Throttle::find().is_none().then(|| why.to_owned())
            }),
        }
    }

    /// Nodes that no fault holds.
    pub fn free(&self) -> Vec<i32> {
        self.nodes.ids().into_iter().filter(|id| !self.held.contains(id)).collect()
    }

    /// The node that is meant; another one if a fault holds that one already.
    pub fn target(&mut self, target: Target) -> Result<i32> {
        let view = self.nodes.view()?;
        let controller = view.quorum.controller.as_ref().map(|c| c.node_id);
        let leads = |id: i32| view.brokers.iter().find(|b| b.node_id == id && !b.fenced).map_or(0, |b| b.leads);
        let free = self.free();
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
    /// What has to be there for it.
    pub need: Need,
    /// Break it; the text names this injection among those that are active.
    pub inject: Inject,
}

impl Kind {
    /// Whether these words choose it: its name, its group, a mixture with it, any mixture, all.
    pub fn is_chosen(&self, wanted: &[String]) -> bool {
        let names_it = |w: &String| w == self.group || w.split('+').any(|name| name == self.name);
        wanted.iter().any(|w| w == "all" || w == MIX || names_it(w))
    }
}

/// A fault that is active.
pub trait Active {
    /// What is broken.
    fn detail(&self) -> String;
    /// How it is seen to be broken, asked just before it is mended; nothing if it is not seen.
    fn effect(&mut self, world: &mut World) -> Result<Option<String>>;
    /// Whether the other nodes must be well before it can be mended.
    fn needs_the_others(&self) -> bool {
        false
    }
    /// Mend it.
    fn heal(self: Box<Self>, world: &mut World) -> Result<()>;
}

/// Everything that can be broken.
pub fn catalogue() -> Vec<Kind> {
    [
        kill::kinds(),
        pause::kinds(),
        rolling::kinds(),
        partition::kinds(),
        loss::kinds(),
        delay::kinds(),
        clock::kinds(),
        power::kinds(),
        disk_full::kinds(),
        disk_slow::kinds(),
        disk_hang::kinds(),
        sync_error::kinds(),
        damage::kinds(),
        membership::kinds(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_is_chosen_by_its_name_its_group_a_mixture_with_it_and_all() {
        let all = catalogue();
        let hang = all.iter().find(|k| k.name == "disk-hang-leader").unwrap();
        let chosen = |words: &[&str]| hang.is_chosen(&words.iter().map(|w| (*w).to_owned()).collect::<Vec<_>>());
        for words in ["disk-hang-leader", "disk-hang", "kill-leader+disk-hang-leader", "mix", "all"] {
            assert!(chosen(&["clock", words]), "{words}");
        }
        assert!(!chosen(&["disk-full", "disk-hang-controller", "kill-leader+disk-slow-leader"]));
    }

    #[test]
    fn what_loses_a_disk_for_ever_is_of_one_group_so_that_no_mixture_loses_two() {
        let all = catalogue();
        let group = |name: &str| all.iter().find(|k| k.name == name).unwrap().group;
        let losing = ["cut-log", "flip-log", "flip-table", "cut-metadata", "wiped-leader", "wiped-controller"];
        assert!(losing.iter().all(|name| group(name) == group(losing[0])));
    }
}
