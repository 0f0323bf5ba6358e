//! Who shall lead.
//!
//! Clean candidates hold everything committed: first the ISR, then the ELR (KIP-966). An unclean election takes any
//! replica that is up, may lose committed records, and happens only when `unclean.leader.election.enable` says so or
//! an operator asked.
//!
//! Within ISR and within ELR a replica that suits well comes before a last resort; a last resort comes before nobody.

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

/// How well a replica could lead.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Suitability {
    /// It cannot: its broker is not active, or its directory not usable.
    Unable,
    /// Only where nobody else can: nothing can be appended there for now, but what it holds is read, and retention gives
    /// space back where a leader is.
    ReadOnly,
    /// Only where nobody suits well: its disk is short of space, or hangs.
    LastResort,
    /// It can.
    Good,
}

impl Suitability {
    /// From best to worst.
    const ELECTABLE: [Self; 3] = [Self::Good, Self::LastResort, Self::ReadOnly];
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
    /// The best guesses of an unclean election, the best one first.
    pub last_known_elr: &'a ReplicaList,
    /// Who leads now, or [`NodeId::NONE`].
    pub leader: NodeId,
}

impl Election {
    /// Elects. `suits` says how well a replica could lead.
    pub fn elect(self, candidates: &Candidates<'_>, suits: impl Fn(NodeId) -> Suitability) -> Winner {
        let Candidates { replicas, isr, elr, last_known_elr, leader } = *candidates;
        let in_sync = |least: Suitability| {
            let can_lead = |replica: &NodeId| isr.contains(replica) && suits(*replica) >= least;
            let preferred = replicas.first().copied().filter(|p| self == Election::Preferred && can_lead(p));
            preferred.or(Some(leader).filter(can_lead)).or_else(|| replicas.iter().copied().find(can_lead))
        };
        let first_of = |group: &ReplicaList| {
            let found = |least| replicas.iter().copied().find(|r| group.contains(r) && suits(*r) >= least);
            Suitability::ELECTABLE.into_iter().find_map(found)
        };
        if let Some(winner) = Suitability::ELECTABLE.into_iter().find_map(in_sync) {
            return Winner::Isr(winner);
        }
        if let Some(winner) = first_of(elr) {
            return Winner::Elr(winner);
        }
        if self == Election::Unclean || planted!(ElectOutsideIsr) {
            let guessed = |least| last_known_elr.iter().copied().find(|r| replicas.contains(r) && suits(*r) >= least);
            let guess = Suitability::ELECTABLE.into_iter().find_map(guessed).or_else(|| first_of(replicas));
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
        election.elect(&candidates, |r| if up.contains(&r.0) { Suitability::Good } else { Suitability::Unable })
    }

    #[test]
    fn a_last_resort_leads_only_where_nobody_suits_well() {
        let (replicas, isr, elr) = (list(&[1, 2, 3]), list(&[1, 2]), list(&[3]));
        let candidates =
            Candidates { replicas: &replicas, isr: &isr, elr: &elr, last_known_elr: &list(&[]), leader: NodeId(1) };
        let elect = |election: Election, good: &[i32]| {
            let suits = |r: NodeId| if good.contains(&r.0) { Suitability::Good } else { Suitability::LastResort };
            election.elect(&candidates, suits)
        };
        assert_eq!(elect(Election::Online, &[2, 3]), Winner::Isr(NodeId(2)), "the present leader makes way");
        assert_eq!(elect(Election::Preferred, &[2]), Winner::Isr(NodeId(2)), "the preferred one, too");
        assert_eq!(elect(Election::Online, &[3]), Winner::Isr(NodeId(1)), "never for somebody outside the ISR");
        assert_eq!(elect(Election::Online, &[]), Winner::Isr(NodeId(1)), "and never for nothing");
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
        assert_eq!(elect(Unclean, &[], &[], &[3, 2], -1, &[1, 2, 3]), Winner::Unclean(NodeId(3)));
    }
}
