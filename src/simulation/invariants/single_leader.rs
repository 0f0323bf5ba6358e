use super::Violation;
use rookery_raft::ids::{LeaderEpoch, NodeId};
use std::collections::BTreeMap;

/// One leader in a leader epoch.
#[derive(Default)]
pub(crate) struct SingleLeader(BTreeMap<LeaderEpoch, NodeId>);

impl SingleLeader {
    /// How many epochs had a leader.
    pub(crate) fn terms(&self) -> usize {
        self.0.len()
    }

    /// This node leads in this epoch.
    pub(crate) fn leads(&mut self, node: NodeId, epoch: LeaderEpoch) -> Result<(), Violation> {
        let first = *self.0.entry(epoch).or_insert(node);
        if first == node {
            return Ok(());
        }
        Err(Violation::new("single_leader", format!("{first} and {node} lead in epoch {epoch}")))
    }
}
