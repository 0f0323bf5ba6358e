//! What befalls the machines, their disks and the network between them.

use super::World;
use super::machine::durable;
use crate::storage::memory_store::Fault as StoreFault;
use crate::storage::{LogStore, StoreHealth};
use rand::RngExt;
use rookery_raft::ids::NodeId;
use rookery_raft::quorum::QuorumStorageError;
use std::sync::Arc;
use std::sync::atomic::Ordering;

impl World {
    pub(super) fn fault(&mut self) {
        let kind = self.rng.random_range(0..12u32);
        if self.climate & (1 << kind) == 0 {
            return;
        }
        let at = self.rng.random_range(0..self.machines.len());
        let long = self.rng.random_range(50..3000);
        let until = self.now + long;
        self.network.trace.note(|| format!("{} fault {kind} at {at} for {long}", self.now));
        match kind {
            0 | 1 => self.crash(at, long),
            2 => self.pause(at, until),
            // Longer than a fence and the lease after it.
            3 => self.isolate(at, until + long, (true, true)),
            4 => {
                let way = if self.chance(50) { (true, false) } else { (false, true) };
                self.isolate(at, until, way);
            }
            5 => self.part(at, until),
            6 => self.spoil_links(until),
            7 => self.fail_sync(at),
            8 => {
                self.seen.add("slow_disks");
                self.machines[at].slow_disk = true;
                if self.chance(40) {
                    self.machines[at].disk_hangs_until = until;
                }
                self.mends.push(until);
            }
            9 => self.fail_quorum_disk(at, until),
            10 => {
                let whole = self.chance(50);
                self.lose_disk(at, long, whole);
            }
            _ => {
                self.seen.add("power_cuts");
                for at in 0..self.machines.len() {
                    let long = self.rng.random_range(10..600);
                    self.crash(at, long);
                }
            }
        }
    }

    pub(super) fn crash(&mut self, at: usize, down_for: u64) {
        let Some(process) = self.machines[at].process.take() else { return };
        self.seen.add("crashes");
        process.end();
        let kept = self.rng.random_range(0..=self.machines[at].store.queued());
        let machine = &mut self.machines[at];
        machine.store.crash(kept);
        machine.store.reopen().expect("reopens");
        machine.quorum_disk.crash();
        machine.left = durable(&machine.store);
        (machine.stopped, machine.resumes, machine.starts) = (None, None, self.now + down_for);
        let id = machine.id;
        self.network.process_ended(id);
        self.network.trace.note(|| format!("{} crash {id} kept {kept}", self.now));
    }

    pub(super) fn pause(&mut self, at: usize, until: u64) {
        let machine = &mut self.machines[at];
        if let Some(process) = machine.running() {
            self.seen.add("pauses");
            process.reach(self.now);
            (machine.stopped, machine.resumes) = (Some(self.now), Some(until));
        }
    }

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

    fn spoil_links(&mut self, until: u64) {
        self.seen.add("lossy");
        let ids: Vec<NodeId> = self.machines.iter().map(|m| m.id).collect();
        for from in &ids {
            for to in ids.iter().filter(|to| *to != from) {
                let (loss, delay) = (self.rng.random_range(0..30), self.rng.random_range(0..120));
                let way = self.network.way(*from, *to);
                (way.loss, way.delay) = (loss, delay);
            }
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

    fn fail_sync(&mut self, at: usize) {
        let queued = self.machines[at].store.queued();
        if self.machines[at].store.health() == StoreHealth::Online {
            self.seen.add("failed_syncs");
            let kept = self.rng.random_range(0..=queued);
            self.machines[at].store.inject(StoreFault::FsyncFails { kept });
            self.machines[at].sync_fails = true;
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

    /// A dead machine comes back without what was synced, if nothing committed goes with it: the records under their directory's id, or
    /// the whole disk, with the vote, under a new one.
    pub(super) fn lose_disk(&mut self, at: usize, down_for: u64, whole: bool) {
        let id = self.machines[at].id;
        let spared = self.all_partitions(|p| p.isr.iter().chain(&p.elr).any(|other| *other != id));
        let others_have_theirs = self.machines.iter().all(|m| m.id == id || (!m.lost && m.replacing.is_none()));
        if !spared || !others_have_theirs || self.machines[at].replacing.is_some() || self.machines[at].lost {
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

    pub(super) fn heal(&mut self) {
        self.network.trace.note(|| format!("{} healed", self.now));
        self.network.mend();
        self.mends.clear();
        for machine in &mut self.machines {
            machine.quorum_disk.set_fault(None);
            (machine.slow_disk, machine.disk_hangs_until) = (false, 0);
            machine.starts = machine.starts.min(self.now + 10);
            machine.resumes = machine.resumes.map(|resumes| resumes.min(self.now));
        }
    }
}
