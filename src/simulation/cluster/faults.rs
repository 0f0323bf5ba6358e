//! What befalls the machines, their disks and the network between them.

use super::machine::{Rot, durable};
use super::{MIN_INSYNC, World};
use crate::storage::memory_store::Fault as StoreFault;
use crate::storage::{LogStore, StoreHealth};
use bytes::Bytes;
use rand::RngExt;
use rand::seq::IndexedRandom;
use rookery_raft::controller::DiskSpace;
use rookery_raft::ids::{NodeId, TopicIdPartition};
use rookery_raft::quorum::QuorumStorageError;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// The kinds of trouble.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// A process dies; what was not synced is lost or kept, by chance.
    Crash,
    /// A process is stopped for a while.
    Pause,
    /// A node is cut off from all others.
    Isolate,
    /// A node cannot hear, or not be heard.
    OneWay,
    /// Two nodes cannot reach each other; the third reaches both.
    Part,
    /// Loss and delay everywhere.
    SpoilLinks,
    /// No vote and no metadata travels; all else does.
    NoQuorum,
    /// A commit fails, and with it the store; the next open may find nothing.
    FailSync,
    /// A disk is slow, or hangs.
    SlowDisk,
    /// A disk is short of space, full, or full to its end.
    FullDisk,
    /// The disk of the metadata log fails.
    QuorumDisk,
    /// A machine comes back without its records, or without its whole disk.
    LoseDisk,
    /// Bytes of a stored batch rot.
    Rot,
    /// All machines lose power.
    PowerCut,
    /// A process leaves in order and comes back.
    Leave,
    /// All do so, one after the other.
    Rolling,
    /// An operator changes `min.insync.replicas`.
    MinInsync,
    /// An operator allows unclean elections, or asks for one.
    Unclean,
}

impl Fault {
    const ALL: [Self; 18] = [
        Self::Crash,
        Self::Pause,
        Self::Isolate,
        Self::OneWay,
        Self::Part,
        Self::SpoilLinks,
        Self::NoQuorum,
        Self::FailSync,
        Self::SlowDisk,
        Self::FullDisk,
        Self::QuorumDisk,
        Self::LoseDisk,
        Self::Rot,
        Self::PowerCut,
        Self::Leave,
        Self::Rolling,
        Self::MinInsync,
        Self::Unclean,
    ];
}

impl World {
    /// A third of the seeds knows all kinds, the others some, and a sixth unclean elections; or those that `ROOKERY_SIM_FAULTS` names.
    pub(super) fn choose_climate(&mut self, seed: u64) {
        let all = seed.is_multiple_of(3);
        let named = std::env::var("ROOKERY_SIM_FAULTS").ok();
        let is_known = |fault: &Fault| match &named {
            Some(names) => names.split(',').any(|name| name == format!("{fault:?}")),
            // It ends what has to hold so far.
            None if *fault == Fault::Unclean => self.rng.random_range(0..6) == 0,
            None => all || self.rng.random_range(0..3) == 0,
        };
        self.climate = Fault::ALL.into_iter().filter(is_known).collect();
    }

    pub(super) fn fault(&mut self) {
        let Some(fault) = self.climate.choose(&mut self.rng).copied() else { return };
        let at = self.rng.random_range(0..self.machines.len());
        let long = self.rng.random_range(50..3000);
        let until = self.now + long;
        self.network.trace.note(|| format!("{} {fault:?} at {at} for {long}", self.now));
        match fault {
            Fault::Crash => self.crash(at, long),
            Fault::Pause => self.pause(at, until),
            // Longer than a fence and the lease after it.
            Fault::Isolate => self.isolate(at, until + long, (true, true)),
            Fault::OneWay => {
                let way = if self.chance(50) { (true, false) } else { (false, true) };
                self.isolate(at, until, way);
            }
            Fault::Part => self.part(at, until),
            Fault::SpoilLinks => self.spoil_links(until),
            Fault::NoQuorum => self.stop_votes(until + long),
            Fault::FailSync if self.chance(25) => self.machines[at].forgets = true,
            Fault::FailSync => {
                let kept = self.rng.random_range(0..=self.machines[at].store.queued());
                if self.fail_commit(at, StoreFault::FsyncFails { kept }) {
                    self.seen.add("failed_syncs");
                }
            }
            Fault::SlowDisk => {
                self.seen.add("slow_disks");
                self.machines[at].slow_disk = true;
                if self.chance(40) {
                    self.machines[at].disk_hangs_until = until;
                }
                self.mends.push(until);
            }
            Fault::FullDisk => self.fill_disk(at, until),
            Fault::QuorumDisk => self.fail_quorum_disk(at, until),
            Fault::LoseDisk => {
                let whole = self.chance(50);
                self.lose_disk(at, long, whole);
            }
            Fault::Rot => self.rot(at),
            Fault::PowerCut => {
                self.seen.add("power_cuts");
                for at in 0..self.machines.len() {
                    let long = self.rng.random_range(10..600);
                    self.crash(at, long);
                }
            }
            Fault::Leave => self.leave(at),
            Fault::Rolling => {
                self.seen.add("rolling");
                for at in 0..self.machines.len() {
                    self.rolling.push((self.now + 1500 * at as u64, at));
                }
            }
            Fault::MinInsync => self.ask_for_min_insync(),
            Fault::Unclean => self.ask_for_unclean_elections(until + long),
        }
    }

    // ---- processes ----

    pub(super) fn crash(&mut self, at: usize, down_for: u64) {
        let Some(process) = self.machines[at].process.take() else { return };
        self.seen.add("crashes");
        process.end();
        let kept = self.rng.random_range(0..=self.machines[at].store.queued());
        let machine = &mut self.machines[at];
        machine.store.crash(kept);
        machine.store.reopen().expect("reopens");
        machine.quorum_disk.crash();
        self.network.trace.note(|| format!("{} crash {} kept {kept}", self.now, machine.id));
        self.ended(at, down_for);
    }

    fn ended(&mut self, at: usize, down_for: u64) {
        let machine = &mut self.machines[at];
        machine.left = durable(&machine.store);
        (machine.stopped, machine.resumes, machine.starts) = (None, None, self.now + down_for);
        self.network.process_ended(machine.id);
    }

    pub(super) fn pause(&mut self, at: usize, until: u64) {
        let machine = &mut self.machines[at];
        if let Some(process) = machine.running() {
            self.seen.add("pauses");
            process.reach(self.now);
            (machine.stopped, machine.resumes) = (Some(self.now), Some(until));
        }
    }

    /// Hands over what it leads, then ends; [`Self::depart`] follows.
    pub(super) fn leave(&mut self, at: usize) {
        if let Some(process) = self.machines[at].running() {
            process.reach(self.now);
            process.leave();
        }
    }

    /// A process that has left ends: its store is closed in order.
    pub(super) fn depart(&mut self, at: usize) {
        let down_for = self.rng.random_range(10..600);
        let machine = &mut self.machines[at];
        let Some(process) = machine.process.take() else { return };
        self.seen.add("departures");
        process.close();
        machine.quorum_disk.crash();
        machine.store.reopen().expect("reopens");
        self.ended(at, down_for);
    }

    // ---- the network ----

    /// One node cannot send, or hear, or both.
    pub(super) fn isolate(&mut self, at: usize, until: u64, (out, inward): (bool, bool)) {
        self.seen.add("cuts");
        let id = self.machines[at].id;
        let others: Vec<NodeId> = self.machines.iter().map(|m| m.id).filter(|other| *other != id).collect();
        for other in others {
            self.network.way(id, other).cut |= out;
            self.network.way(other, id).cut |= inward;
        }
        self.mends.push(until);
    }

    /// Two nodes cannot reach each other; the third reaches both.
    fn part(&mut self, at: usize, until: u64) {
        self.seen.add("cuts");
        let (one, other) = (self.machines[at].id, self.machines[(at + 1) % self.machines.len()].id);
        self.network.way(one, other).cut = true;
        self.network.way(other, one).cut = true;
        self.mends.push(until);
    }

    pub(super) fn stop_votes(&mut self, until: u64) {
        self.seen.add("no_quorum");
        for (from, to) in self.pairs() {
            self.network.way(from, to).votes_cut = true;
        }
        self.mends.push(until);
    }

    pub(super) fn pairs(&self) -> Vec<(NodeId, NodeId)> {
        let ids = self.machines.iter().map(|machine| machine.id);
        ids.clone().flat_map(|from| ids.clone().filter(move |to| *to != from).map(move |to| (from, to))).collect()
    }

    fn spoil_links(&mut self, until: u64) {
        self.seen.add("lossy");
        for (from, to) in self.pairs() {
            let (loss, delay) = (self.rng.random_range(0..30), self.rng.random_range(0..120));
            let way = self.network.way(from, to);
            (way.loss, way.delay) = (loss, delay);
        }
        self.mends.push(until);
    }

    pub(super) fn mend_links(&mut self) {
        let before = self.mends.len();
        self.mends.retain(|until| *until > self.now);
        if self.mends.len() < before && self.mends.is_empty() {
            self.network.mend();
            self.machines.iter_mut().for_each(|machine| machine.slow_disk = false);
        }
    }

    // ---- disks ----

    /// The next commit fails, if there is a store to fail.
    fn fail_commit(&mut self, at: usize, fault: StoreFault) -> bool {
        let machine = &mut self.machines[at];
        let is_online = machine.store.health() == StoreHealth::Online;
        if is_online {
            machine.store.inject(fault);
            machine.sync_fails = true;
        }
        is_online
    }

    fn fill_disk(&mut self, at: usize, until: u64) {
        let level = if self.chance(50) { DiskSpace::Low } else { DiskSpace::Reserve };
        let (to_its_end, no_reserve) = (self.chance(40), self.chance(30));
        if to_its_end && self.fail_commit(at, StoreFault::DiskFull) {
            self.seen.add("full_to_the_end");
        }
        self.seen.add("full_disks");
        self.machines[at].full_until = until;
        self.machines[at].room.fill(level, to_its_end && no_reserve);
    }

    /// Bytes of a committed batch rot that the two other machines have as well: no two copies of anything go bad at once.
    fn rot(&mut self, at: usize) {
        let elsewhere = self.rotten.iter().any(|rot| rot.at != at);
        let lost = self.machines.iter().any(|machine| machine.lost || machine.replacing.is_some());
        let few = self.wishes.least_insync < MIN_INSYNC;
        if elsewhere || lost || few || self.machines[at].process.is_none() || self.partitions.is_empty() {
            return;
        }
        let ids: Vec<TopicIdPartition> = self.partitions.keys().copied().collect();
        let id = *ids.choose(&mut self.rng).expect("there are some");
        let committed = self.partitions[&id].committed.all();
        let Some(last) = committed.last_key_value().map(|(last, _)| *last) else { return };
        let offset = self.rng.random_range(0..=last);
        let copies: Vec<_> = self.machines.iter().map(|machine| machine.store.stored_batch(id, offset)).collect();
        let Some(sound) = copies[at].clone().filter(|sound| copies.iter().all(|copy| copy.as_ref() == Some(sound)))
        else {
            return;
        };
        self.seen.add("rotten");
        let byte = self.rng.random_range(8..sound.len());
        self.machines[at].store.rot(id, offset, byte);
        self.rotten.push(Rot { at, id, offset });
    }

    /// Forgets what is mended, or gone with the log it was in, and has the others scrubbed.
    pub(super) fn look_at_rot(&mut self) {
        if self.rotten.is_empty() || !self.now.is_multiple_of(20) {
            return;
        }
        let machines = &self.machines;
        let stored = |at: usize, rot: &Rot| machines[at].store.stored_batch(rot.id, rot.offset);
        // Another machine has the same: after an unclean election that may be another record than it was.
        let is_sound = |rot: &Rot, here: &Bytes| {
            (0..machines.len()).any(|at| at != rot.at && stored(at, rot).as_ref() == Some(here))
        };
        let (rotten, over): (Vec<Rot>, Vec<Rot>) = std::mem::take(&mut self.rotten)
            .into_iter()
            .partition(|rot| stored(rot.at, rot).is_some_and(|here| !is_sound(rot, &here)));
        self.rotten = rotten;
        for rot in over {
            self.seen.add("mended");
            self.machines[rot.at].look_again_at(rot.id);
        }
        if self.now.is_multiple_of(300) {
            for at in self.rotten.iter().map(|rot| rot.at).collect::<Vec<_>>() {
                if let Some(process) = self.machines[at].running() {
                    process.reach(self.now);
                    process.scrub();
                }
            }
        }
    }

    pub(super) fn make_room(&mut self) {
        for machine in self.machines.iter().filter(|machine| self.now >= machine.full_until) {
            machine.room.empty();
        }
    }

    fn fail_quorum_disk(&mut self, at: usize, until: u64) {
        self.seen.add("quorum_disks");
        let clock = self.clock.clone();
        let full = move || QuorumStorageError::DiskFull("no space left".into());
        let fault = move |_: &[_], _| if clock.load(Ordering::Relaxed) < until { Err(full()) } else { Ok(()) };
        self.machines[at].quorum_disk.set_fault(Some(Box::new(fault)));
        self.machines[at].starts = until;
    }

    /// Whether nothing committed goes with what a machine's disk holds.
    fn is_spared(&self, at: usize) -> bool {
        let id = self.machines[at].id;
        let spared = self.all_partitions(|p| p.isr.iter().chain(&p.elr).any(|other| *other != id));
        let others_have_theirs = self.machines.iter().all(|m| m.id == id || (!m.lost && m.replacing.is_none()));
        // What only this one has in sync, or sound, must not go.
        let needed = self.wishes.least_insync < MIN_INSYNC || self.rotten.iter().any(|rot| rot.at != at);
        !needed && spared && others_have_theirs && self.machines[at].replacing.is_none() && !self.machines[at].lost
    }

    /// The disk of a process that runs fails in the middle of a commit, and comes back empty, if nothing committed goes with it; whether it did.
    pub(super) fn forget(&mut self, at: usize) -> bool {
        let forgets = std::mem::take(&mut self.machines[at].forgets);
        if !forgets || !self.is_spared(at) || self.machines[at].store.health() != StoreHealth::Online {
            return false;
        }
        let machine = &mut self.machines[at];
        let (store, on_disk) = (machine.store.clone(), durable(&machine.store));
        let Some(process) = machine.running() else { return false };
        let epoch = process.identity.current().broker_epoch;
        process.reach(self.now - 1);
        process.within(|| store.fail_and_forget());
        (machine.gone, machine.lost, machine.lost_under) = (on_disk, true, Some(epoch));
        machine.left.clear();
        self.seen.add("forgotten");
        true
    }

    /// A dead machine comes back without what was synced, if nothing committed goes with it: the records under their directory's id, or
    /// the whole disk, with the vote, under a new one.
    pub(super) fn lose_disk(&mut self, at: usize, down_for: u64, whole: bool) {
        if !self.is_spared(at) {
            return;
        }
        self.crash(at, down_for);
        if whole {
            self.seen.add("wipes");
            self.machines[at].directory += 1000;
        } else {
            self.seen.add("lost_logs");
        }
        let store = self.empty_store(self.machines[at].directory);
        let machine = &mut self.machines[at];
        (machine.store, machine.lost) = (store, true);
        machine.gone = std::mem::take(&mut machine.left);
        if whole {
            machine.quorum_disk.wipe();
            machine.snapshots.wipe();
            machine.cluster = Arc::default();
            machine.replacing = Some(None);
        } else {
            machine.store.lose_log();
        }
    }

    pub(super) fn leave_in_turn(&mut self) {
        let due: Vec<usize> = self.rolling.iter().filter(|(when, _)| *when <= self.now).map(|(_, at)| *at).collect();
        self.rolling.retain(|(when, _)| *when > self.now);
        due.into_iter().for_each(|at| self.leave(at));
    }

    pub(super) fn heal(&mut self) {
        self.network.trace.note(|| format!("{} healed", self.now));
        self.network.mend();
        self.mends.clear();
        self.rolling.clear();
        self.wishes.heal();
        for machine in &mut self.machines {
            machine.quorum_disk.set_fault(None);
            (machine.slow_disk, machine.disk_hangs_until, machine.full_until) = (false, 0, 0);
            machine.forgets = false;
            machine.starts = machine.starts.min(self.now + 10);
            machine.resumes = machine.resumes.map(|resumes| resumes.min(self.now));
        }
    }
}
