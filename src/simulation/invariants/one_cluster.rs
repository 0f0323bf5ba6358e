use super::Violation;
use rookery_raft::ids::{ClusterId, NodeId};

/// The first cluster that any node belonged to.
#[derive(Default)]
pub(crate) struct OneCluster(Option<(NodeId, ClusterId)>);

impl OneCluster {
    /// This node belongs to this cluster.
    pub(crate) fn belongs(&mut self, node: NodeId, cluster: ClusterId) -> Result<(), Violation> {
        let (first, known) = *self.0.get_or_insert((node, cluster));
        if known == cluster {
            return Ok(());
        }
        Err(Violation::new("one_cluster", format!("{first} belongs to cluster {known} and {node} to {cluster}")))
    }
}
