//! From "these replicas left, those joined" to one `PartitionChange`.
//!
//! Every change of a partition goes through here, so that the rules hold whoever asks:
//!
//! - **ELR (KIP-966).** While |ISR| < min ISR nothing commits (the high watermark stands still), so whoever was in ISR
//!   or ELR before still holds everything committed and is kept in the ELR. Once |ISR| ≥ min ISR commits go on without
//!   them, and the ELR is empty. Hence |ISR| + |ELR| ≥ min ISR for ever, unless replicas lose data or an election is
//!   unclean. The rule needs only the min ISR in force *after* the change, so a config change that lowers it clears
//!   exactly the ELRs that are no longer true, and one that does not touch their truth keeps them.
//! - **Lost replicas** (wiped directory, `log_lost`, given up) leave both. `last_known_elr` is what an unclean election prefers, best first: who
//!   lost its log's tail (the second kind) has the most; then, once a disk was wiped, whoever else is assigned; wiped ones come last, in the
//!   order in which they were wiped. An empty disk must not win against a replica that merely missed the end. One that has given its log
//!   up is in no directory ([`DirectoryId::LOST`]) until it says that it has begun another: until then no election takes it. (It could
//!   not lead, would say so again, and be elected again.)
//! - **Leader epoch.** A new leader, none at all, or the same one in a new life: one up. An ISR change alone does not
//!   count (followers notice it by the partition epoch).

use super::election::{Candidates, Election, Suitability, Winner};
use crate::ids::{DirectoryId, NodeId, TopicId};
use crate::planted::planted;
use crate::record::{DirectoryList, LeaderRecoveryState, PartitionChange, PartitionRegistration, ReplicaList};

/// Builds one change of one partition.
pub struct PartitionChangeBuilder<'a> {
    topic_id: TopicId,
    partition: i32,
    old: &'a PartitionRegistration,
    min_isr: usize,
    election: Election,
    isr: ReplicaList,
    wiped: ReplicaList,
    log_lost: ReplicaList,
    directories: DirectoryList,
    recovery_state: LeaderRecoveryState,
    new_life: bool,
}

/// A change, and how its leader was found.
pub struct BuiltChange {
    /// For the log.
    pub change: PartitionChange,
    /// Whether an unclean election made the leader.
    pub unclean: bool,
}

impl<'a> PartitionChangeBuilder<'a> {
    /// Begins with nothing changed. `min_isr` is the effective one after this decision.
    pub fn new(topic_id: TopicId, partition: i32, old: &'a PartitionRegistration, min_isr: usize) -> Self {
        Self {
            topic_id,
            partition,
            old,
            min_isr,
            election: Election::Online,
            isr: old.isr.clone(),
            wiped: ReplicaList::new(),
            log_lost: ReplicaList::new(),
            directories: old.directories.clone(),
            recovery_state: old.recovery_state,
            new_life: false,
        }
    }

    /// How the leader is found.
    #[must_use]
    pub fn election(mut self, election: Election) -> Self {
        self.election = election;
        self
    }
    /// The whole ISR, as its leader asks for it.
    #[must_use]
    pub fn isr(mut self, isr: ReplicaList) -> Self {
        self.isr = isr;
        self
    }
    /// A replica leaves the ISR; it still holds everything committed.
    #[must_use]
    pub fn leave_isr(mut self, replica: NodeId) -> Self {
        self.isr.retain(|r| *r != replica);
        self
    }
    /// Whether commits could go on without this replica.
    pub fn can_spare(&self, replica: NodeId) -> bool {
        self.isr.iter().filter(|r| **r != replica).count() >= self.min_isr
    }
    /// A replica's directory is gone.
    #[must_use]
    pub fn wiped(mut self, replica: NodeId) -> Self {
        self.wiped.push(replica);
        self.leave_isr(replica)
    }
    /// A replica lost synced data.
    #[must_use]
    pub fn log_lost(mut self, replica: NodeId) -> Self {
        self.log_lost.push(replica);
        self.leave_isr(replica)
    }
    /// A replica's broker has given its log up. Its leader may have heard that it has caught up, and be about to propose it, or count it: in a
    /// new epoch it knows nothing of that.
    #[must_use]
    pub fn given_up(self, replica: NodeId) -> Self {
        if planted!(GivenUpCanLead) {
            return self.log_lost(replica).new_leader_life();
        }
        self.wiped(replica).directory(replica, DirectoryId::LOST).new_leader_life()
    }
    /// A replica lives in another directory from now on.
    #[must_use]
    pub fn directory(mut self, replica: NodeId, directory: DirectoryId) -> Self {
        if let Some(at) = self.old.replicas.iter().position(|r| *r == replica)
            && let Some(slot) = self.directories.get_mut(at)
        {
            *slot = directory;
        }
        self
    }
    /// The leader has recovered, or not yet.
    #[must_use]
    pub fn recovery_state(mut self, state: LeaderRecoveryState) -> Self {
        self.recovery_state = state;
        self
    }
    /// The leader's store was reopened: even the same leader needs a new epoch.
    #[must_use]
    pub fn new_leader_life(mut self) -> Self {
        self.new_life = true;
        self
    }

    /// The change, or `None` if nothing changes. `suits` is asked about a replica in the directory in which it will be.
    pub fn build(mut self, suits: impl Fn(NodeId, DirectoryId) -> Suitability) -> Option<BuiltChange> {
        let old = self.old;
        let lost = |r: &NodeId| self.wiped.contains(r) || self.log_lost.contains(r);
        let mut holders = ReplicaList::new(); // everybody who held everything committed, and still does
        for replica in old.isr.iter().chain(&old.elr) {
            if !lost(replica) && !holders.contains(replica) {
                holders.push(*replica);
            }
        }
        let elr = self.elr_for(&self.isr, &holders);
        let candidates = Candidates {
            replicas: &old.replicas,
            isr: &self.isr,
            elr: &elr,
            last_known_elr: &old.last_known_elr,
            leader: old.leader,
        };
        let directory = |r: NodeId| old.replicas.iter().position(|at| *at == r).and_then(|at| self.directories.get(at));
        let winner = self.election.elect(&candidates, |r| suits(r, directory(r).copied().unwrap_or_default()));
        let leader = match winner {
            Winner::Isr(leader) => leader,
            Winner::Elr(leader) => {
                if planted!(ElrWinnerJoinsOldIsr) {
                    self.isr.push(leader);
                } else {
                    self.isr = ReplicaList::from_slice(&[leader]);
                }
                leader
            }
            Winner::Unclean(leader) => {
                // The new leader's log is the truth from here on: what others hold proves nothing any more.
                holders.clear();
                self.isr = ReplicaList::from_slice(&[leader]);
                self.recovery_state = LeaderRecoveryState::Recovering;
                leader
            }
            Winner::Nobody => NodeId::NONE,
        };
        let unclean = matches!(winner, Winner::Unclean(_));
        // Even the same broker, elected from outside the ISR, goes on from another log than the one it led with.
        self.new_life |= matches!(winner, Winner::Elr(_) | Winner::Unclean(_));
        let elr = self.elr_for(&self.isr, &holders);
        let last_known_elr = if unclean { ReplicaList::new() } else { self.last_known_elr(&elr) };
        self.finish(leader, elr, last_known_elr).map(|change| BuiltChange { change, unclean })
    }

    fn elr_for(&self, isr: &ReplicaList, holders: &ReplicaList) -> ReplicaList {
        if isr.len() >= self.min_isr && !planted!(ElrAboveMinIsr) {
            return ReplicaList::new();
        }
        holders.iter().copied().filter(|r| !isr.contains(r)).collect()
    }

    fn last_known_elr(&self, elr: &ReplicaList) -> ReplicaList {
        let mut list = ReplicaList::new();
        if self.isr.len() >= self.min_isr {
            return list;
        }
        let counted = |r: &&NodeId| self.old.isr.contains(r) || self.old.elr.contains(r);
        let lost = self.log_lost.iter().filter(counted);
        let others = self.old.replicas.iter().filter(|_| !self.wiped.is_empty());
        let best_first = self.old.last_known_elr.iter().chain(lost).chain(others);
        for replica in best_first.filter(|r| !self.wiped.contains(r)).chain(&self.wiped) {
            let elsewhere = self.isr.contains(replica) || elr.contains(replica);
            if !elsewhere && !list.contains(replica) {
                list.push(*replica);
            }
        }
        list
    }

    fn finish(self, leader: NodeId, elr: ReplicaList, last_known_elr: ReplicaList) -> Option<PartitionChange> {
        let old = self.old;
        let new_life = self.new_life && old.has_leader();
        let mut change = PartitionChange::new(self.topic_id, self.partition, old.partition_epoch.next());
        if (leader != old.leader || new_life) && !planted!(LeaderWithoutNewEpoch) {
            change.leader_epoch = Some(old.leader_epoch.next());
        }
        change.leader = (leader != old.leader).then_some(leader);
        change.isr = (self.isr != old.isr).then_some(self.isr);
        change.elr = (elr != old.elr).then_some(elr);
        change.last_known_elr = (last_known_elr != old.last_known_elr).then_some(last_known_elr);
        change.recovery_state = (self.recovery_state != old.recovery_state).then_some(self.recovery_state);
        change.directories = (self.directories != old.directories).then_some(self.directories);
        let untouched = PartitionChange::new(self.topic_id, self.partition, change.partition_epoch);
        (change != untouched).then_some(change)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::{LeaderEpoch, PartitionEpoch};

    fn list(ids: &[i32]) -> ReplicaList {
        ids.iter().copied().map(NodeId).collect()
    }

    fn old(isr: &[i32], elr: &[i32], leader: i32) -> PartitionRegistration {
        PartitionRegistration {
            replicas: list(&[1, 2, 3]),
            directories: [DirectoryId::NONE; 3].into_iter().collect(),
            isr: list(isr),
            elr: list(elr),
            last_known_elr: list(&[]),
            recovery_state: LeaderRecoveryState::Recovered,
            leader: NodeId(leader),
            leader_epoch: LeaderEpoch(5),
            partition_epoch: PartitionEpoch(9),
            adding: list(&[]),
            removing: list(&[]),
        }
    }

    fn suits(is_up: bool) -> Suitability {
        if is_up { Suitability::Good } else { Suitability::Unable }
    }

    fn builder(old: &PartitionRegistration) -> PartitionChangeBuilder<'_> {
        PartitionChangeBuilder::new(TopicId::NONE, 0, old, 2)
    }

    fn after(old: &PartitionRegistration, builder: PartitionChangeBuilder<'_>, up: &[i32]) -> PartitionRegistration {
        builder.build(|r, _| suits(up.contains(&r.0))).expect("something changes").change.applied_to(old)
    }

    #[test]
    fn who_leaves_below_min_isr_stays_eligible() {
        let three = old(&[1, 2, 3], &[], 1);
        let two = after(&three, builder(&three).leave_isr(NodeId(1)), &[2, 3]);
        assert_eq!(
            (two.leader, two.leader_epoch, &two.isr, &two.elr),
            (NodeId(2), LeaderEpoch(6), &list(&[2, 3]), &list(&[]))
        );
        let one = after(&two, builder(&two).leave_isr(NodeId(2)), &[3]);
        assert_eq!((one.leader, &one.isr, &one.elr), (NodeId(3), &list(&[3]), &list(&[2])));
        let none = after(&one, builder(&one).leave_isr(NodeId(3)), &[]);
        assert_eq!((none.leader, &none.isr, &none.elr), (NodeId::NONE, &list(&[]), &list(&[3, 2])));
        // Broker 1 was out before the last commit: it must not lead although it is the first to be back.
        assert!(builder(&none).build(|r, _| suits(r.0 == 1)).is_none());
        let back = after(&none, builder(&none), &[2]);
        assert_eq!((back.leader, &back.isr, &back.elr), (NodeId(2), &list(&[2]), &list(&[3])));
    }

    #[test]
    fn lost_data_is_no_longer_eligible_but_remembered() {
        let one = old(&[3], &[2], 3);
        let gone = after(&one, builder(&one).log_lost(NodeId(3)).wiped(NodeId(2)), &[]);
        assert_eq!((&gone.isr, &gone.elr, &gone.last_known_elr), (&list(&[]), &list(&[]), &list(&[3, 1, 2])));
        assert!(builder(&gone).build(|_, _| suits(true)).is_none(), "nobody leads without being asked");
        let built = builder(&gone).election(Election::Unclean).build(|_, _| suits(true)).expect("a leader");
        let new = built.change.applied_to(&gone);
        assert!(built.unclean);
        assert_eq!((new.leader, new.recovery_state), (NodeId(3), LeaderRecoveryState::Recovering));
        assert!(new.last_known_elr.is_empty());
    }

    #[test]
    fn an_unclean_election_took_a_wiped_disk_although_a_stale_replica_was_there() {
        // Broker 3 fell out long ago; the disks of 1 and 2 are gone.
        let none = old(&[], &[1, 2], -1);
        let first = after(&none, builder(&none).wiped(NodeId(1)), &[]);
        assert_eq!((&first.elr, &first.last_known_elr), (&list(&[2]), &list(&[3, 1])));
        let second = after(&first, builder(&first).wiped(NodeId(2)), &[]);
        assert_eq!((&second.elr, &second.last_known_elr), (&list(&[]), &list(&[3, 1, 2])));
        let led = after(&second, builder(&second).election(Election::Unclean), &[1, 2, 3]);
        assert_eq!((led.leader, &led.last_known_elr), (NodeId(3), &list(&[])));
        let without = after(&second, builder(&second).election(Election::Unclean), &[1, 2]);
        assert_eq!(without.leader, NodeId(1), "better an empty one than none, if somebody asks for it");
    }

    #[test]
    fn a_stale_replica_was_forgotten_when_a_disk_was_wiped_after_another_log_was_lost() {
        // Broker 2 is stale, 3 has lost its log's tail, then the disk of 1 is wiped; 3 is down when the election is asked for.
        let two = old(&[1, 3], &[], 1);
        let lost = after(&two, builder(&two).log_lost(NodeId(3)), &[1]);
        assert_eq!((&lost.isr, &lost.last_known_elr), (&list(&[1]), &list(&[3])));
        let wiped = after(&lost, builder(&lost).wiped(NodeId(1)), &[]);
        assert_eq!(wiped.last_known_elr, list(&[3, 2, 1]));
        let led = after(&wiped, builder(&wiped).election(Election::Unclean), &[1, 2]);
        assert_eq!(led.leader, NodeId(2));
    }

    #[test]
    fn a_reopened_store_leads_under_a_new_epoch() {
        let three = old(&[1, 2, 3], &[], 1);
        let new = after(&three, builder(&three).new_leader_life(), &[1, 2, 3]);
        assert_eq!((new.leader, new.leader_epoch), (NodeId(1), LeaderEpoch(6)));
    }

    #[test]
    fn a_leader_that_lost_its_log_and_is_elected_again_uncleanly_has_a_new_epoch() {
        let sole = old(&[1], &[], 1);
        let built = builder(&sole).election(Election::Unclean).log_lost(NodeId(1)).build(|r, _| suits(r.0 == 1));
        let built = built.expect("a change");
        let new = built.change.applied_to(&sole);
        assert!(built.unclean);
        assert_eq!((new.leader, new.leader_epoch, &new.isr), (NodeId(1), LeaderEpoch(6), &list(&[1])));
        assert_eq!(new.recovery_state, LeaderRecoveryState::Recovering);
    }

    #[test]
    fn lower_min_isr_clears_an_elr_that_is_no_longer_true() {
        let one = old(&[3], &[2], 3);
        let cleared = after(&one, PartitionChangeBuilder::new(TopicId::NONE, 0, &one, 1), &[3]);
        assert!(cleared.elr.is_empty());
        assert!(PartitionChangeBuilder::new(TopicId::NONE, 0, &one, 3).build(|_, _| suits(true)).is_none());
    }
}
