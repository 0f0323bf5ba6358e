//! The in-sync replicas as the leader knows them, and its proposals to change them.
//!
//! | state | left by | to |
//! |---|---|---|
//! | `Committed` | a follower caught up, or fell behind | `PendingExpand`, `PendingShrink` |
//! | `Committed` | the leader was elected uncleanly, and leads (KIP-704) | `PendingRecovery` |
//! | `Pending*` | a newer registration arrives in a metadata delta | `Committed` (what the registration says) |
//! | `Pending*` | the controller refused for good (see [`crate::replica::alter_partition`]) | `Committed` (as before) |
//!
//! A proposal may have been committed long before the delta arrives, or never. Until then the leader takes the cautious
//! side of each question: the high watermark waits for the **maximal** set (the union), and min.insync.replicas is
//! compared with the **minimal** one. So the replication quorum is a superset of the election quorum at every moment
//! (KIP-497; Vanlightly's "replication quorum superset property").

use crate::planted::planted;
use rookery_raft::ids::{BrokerEpoch, NodeId};
use std::collections::BTreeSet;

/// What the leader of a partition knows about its in-sync replicas.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum IsrState {
    /// The registration with the highest partition epoch seen says so, and nothing is proposed.
    Committed {
        /// The in-sync replicas, the leader among them.
        isr: BTreeSet<NodeId>,
    },
    /// A caught-up follower is proposed as a member.
    PendingExpand {
        /// The committed set.
        isr: BTreeSet<NodeId>,
        /// Who is proposed.
        adding: NodeId,
        /// In which life it has caught up. A later one may have lost what was there: it is not what is proposed (KIP-903).
        life: BrokerEpoch,
    },
    /// Lagging followers are proposed to leave.
    PendingShrink {
        /// The committed set.
        isr: BTreeSet<NodeId>,
        /// Who is to leave.
        removing: BTreeSet<NodeId>,
    },
    /// The same set, to say that its leader has recovered.
    PendingRecovery {
        /// The committed set.
        isr: BTreeSet<NodeId>,
    },
}

impl IsrState {
    /// The set of the last committed registration.
    pub fn committed(&self) -> &BTreeSet<NodeId> {
        match self {
            Self::Committed { isr }
            | Self::PendingExpand { isr, .. }
            | Self::PendingShrink { isr, .. }
            | Self::PendingRecovery { isr } => isr,
        }
    }

    /// Whether the high watermark must wait for this replica.
    pub fn in_maximal(&self, node: NodeId) -> bool {
        match self {
            Self::PendingExpand { adding, .. } if *adding == node => !planted!(IgnoreProposedMember),
            Self::PendingShrink { removing, .. } if removing.contains(&node) => !planted!(IgnoreLeavingMember),
            _ => self.committed().contains(&node),
        }
    }

    /// The union of what is committed and what is proposed.
    pub fn maximal(&self) -> BTreeSet<NodeId> {
        let mut all = self.committed().clone();
        if let Self::PendingExpand { adding, .. } = self {
            all.insert(*adding);
        }
        all
    }

    /// How many replicas are in sync whatever becomes of the proposal: what min.insync.replicas is compared with.
    pub fn minimal_len(&self) -> usize {
        match self {
            Self::Committed { isr } | Self::PendingExpand { isr, .. } | Self::PendingRecovery { isr } => isr.len(),
            Self::PendingShrink { isr, removing } => isr.difference(removing).count(),
        }
    }

    /// Whether a proposal is under way; a second one must wait.
    pub fn is_pending(&self) -> bool {
        !matches!(self, Self::Committed { .. })
    }

    /// The set that is proposed; `None` while nothing is.
    pub fn proposed(&self) -> Option<BTreeSet<NodeId>> {
        match self {
            Self::Committed { .. } => None,
            Self::PendingExpand { .. } | Self::PendingRecovery { .. } => Some(self.maximal()),
            Self::PendingShrink { isr, removing } => Some(isr.difference(removing).copied().collect()),
        }
    }

    /// Back to the committed set. Only for a proposal that cannot take effect any more.
    pub(super) fn roll_back(&mut self) {
        let isr = self.committed().clone();
        *self = Self::Committed { isr };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(ids: &[i32]) -> BTreeSet<NodeId> {
        ids.iter().copied().map(NodeId).collect()
    }

    #[test]
    fn while_pending_the_larger_set_commits_and_the_smaller_one_counts() {
        let expand = IsrState::PendingExpand { isr: set(&[1, 2]), adding: NodeId(3), life: BrokerEpoch(13) };
        assert_eq!(expand.maximal(), set(&[1, 2, 3]));
        assert_eq!(expand.minimal_len(), 2);
        assert_eq!(expand.proposed(), Some(set(&[1, 2, 3])));

        let mut shrink = IsrState::PendingShrink { isr: set(&[1, 2, 3]), removing: set(&[2, 3]) };
        assert_eq!(shrink.maximal(), set(&[1, 2, 3]));
        assert!(shrink.in_maximal(NodeId(3)));
        assert_eq!(shrink.minimal_len(), 1);
        assert_eq!(shrink.proposed(), Some(set(&[1])));
        shrink.roll_back();
        assert_eq!(shrink, IsrState::Committed { isr: set(&[1, 2, 3]) });
    }
}
