//! Who shall lead.
//!
//! Clean candidates hold everything committed: first the ISR, then the ELR (KIP-966). An unclean election takes any
//! replica that is up, may lose committed records, and happens only when `unclean.leader.election.enable` says so or
//! an operator asked.

use crate::ids::NodeId;
use crate::planted::planted;
use crate::record::ReplicaList;

/// The kind of election.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Election {
    /// The present leader stays if it can.
    Online,
    /// The first replica leads if it can, even if another leads well.
    Preferred,
    /// As `Online`, and if nobody clean can lead, anybody who is up.
    Unclean,
}

/// Who won, and from where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Winner {
    /// A member of the ISR.
    Isr(NodeId),
    /// A member of the ELR: it alone is the new ISR.
    Elr(NodeId),
    /// Neither: it alone is the new ISR, and what others held may be lost.
    Unclean(NodeId),
    /// Nobody can lead.
    Nobody,
}

/// The candidates of one partition.
pub struct Candidates<'a> {
    /// The assignment, preferred leader first.
    pub replicas: &'a ReplicaList,
    /// The ISR after everybody who must leave it has left.
    pub isr: &'a ReplicaList,
    /// The ELR likewise.
    pub elr: &'a ReplicaList,
    /// The best guess of an unclean election.
    pub last_known_elr: &'a ReplicaList,
    /// Who leads now, or [`NodeId::NONE`].
    pub leader: NodeId,
}

impl Election {
    /// Elects. `is_available` says whether a replica is active and its directory usable.
    pub fn elect(self, candidates: &Candidates<'_>, is_available: impl Fn(NodeId) -> bool) -> Winner {
        let Candidates { replicas, isr, elr, last_known_elr, leader } = *candidates;
        let can_lead = |replica: NodeId| isr.contains(&replica) && is_available(replica);
        let preferred = replicas.first().copied().filter(|p| self == Election::Preferred && can_lead(*p));
        let present = Some(leader).filter(|leader| can_lead(*leader));
        let first_of = |group: &ReplicaList| replicas.iter().copied().find(|r| group.contains(r) && is_available(*r));
        if let Some(winner) = preferred.or(present).or_else(|| first_of(isr)) {
            return Winner::Isr(winner);
        }
        if let Some(winner) = first_of(elr) {
            return Winner::Elr(winner);
        }
        if self == Election::Unclean || planted!(ElectOutsideIsr) {
            let guess = first_of(last_known_elr).or_else(|| replicas.iter().copied().find(|r| is_available(*r)));
            if let Some(winner) = guess {
                return Winner::Unclean(winner);
            }
        }
        Winner::Nobody
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(ids: &[i32]) -> ReplicaList {
        ids.iter().copied().map(NodeId).collect()
    }

    fn elect(election: Election, isr: &[i32], elr: &[i32], last: &[i32], leader: i32, up: &[i32]) -> Winner {
        let (replicas, isr, elr, last) = (list(&[1, 2, 3]), list(isr), list(elr), list(last));
        let candidates =
            Candidates { replicas: &replicas, isr: &isr, elr: &elr, last_known_elr: &last, leader: NodeId(leader) };
        election.elect(&candidates, |r| up.contains(&r.0))
    }

    #[test]
    fn clean_before_unclean_and_present_before_preferred() {
        use Election::*;
        assert_eq!(elect(Online, &[1, 2, 3], &[], &[], 2, &[1, 2, 3]), Winner::Isr(NodeId(2)));
        assert_eq!(elect(Preferred, &[1, 2, 3], &[], &[], 2, &[1, 2, 3]), Winner::Isr(NodeId(1)));
        assert_eq!(elect(Preferred, &[2, 3], &[], &[], 2, &[1, 2, 3]), Winner::Isr(NodeId(2)));
        assert_eq!(elect(Online, &[2, 3], &[], &[], 2, &[1, 3]), Winner::Isr(NodeId(3)));
        assert_eq!(elect(Unclean, &[], &[3], &[2], -1, &[1, 2, 3]), Winner::Elr(NodeId(3)));
        assert_eq!(elect(Online, &[], &[3], &[], -1, &[1, 2]), Winner::Nobody);
        assert_eq!(elect(Unclean, &[], &[3], &[2], -1, &[1, 2]), Winner::Unclean(NodeId(2)));
        assert_eq!(elect(Unclean, &[], &[3], &[], -1, &[1, 2]), Winner::Unclean(NodeId(1)));
    }
}
