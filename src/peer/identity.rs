//! Who a node is, to its peers.

use arc_swap::ArcSwap;
use rookery_raft::ids::{BrokerEpoch, ClusterId, DirectoryId, IncarnationId, NodeId};
use std::sync::Arc;

/// What each end of a connection says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerIdentity {
    /// The cluster it belongs to; `None` while it is unformed.
    pub cluster_id: Option<ClusterId>,
    /// Its `node.id`.
    pub node_id: NodeId,
    /// The metadata directory it runs on: a wiped disk is another one.
    pub directory_id: DirectoryId,
    /// This start of its process.
    pub incarnation: IncarnationId,
    /// Its registration when the connection was made; [`BrokerEpoch::UNKNOWN`] before the first.
    pub broker_epoch: BrokerEpoch,
}

/// This node's own identity, shared by the server and the pool.
///
/// Cluster id and broker epoch become known while the node runs. A change makes every connection of the pool stale: the next call
/// on each (node, lane) opens a new one under the new identity.
#[derive(Clone)]
pub struct LocalIdentity(Arc<ArcSwap<PeerIdentity>>);

impl LocalIdentity {
    /// A node that knows this much of itself at start.
    pub fn new(identity: PeerIdentity) -> Self {
        Self(Arc::new(ArcSwap::from_pointee(identity)))
    }

    /// The identity now.
    pub fn current(&self) -> Arc<PeerIdentity> {
        self.0.load_full()
    }

    /// The node has joined or formed a cluster.
    pub fn set_cluster_id(&self, cluster_id: ClusterId) {
        self.change(|identity| identity.cluster_id = Some(cluster_id));
    }

    /// The node has been registered under a new epoch.
    pub fn set_broker_epoch(&self, broker_epoch: BrokerEpoch) {
        self.change(|identity| identity.broker_epoch = broker_epoch);
    }

    /// The metadata directory was replaced by an empty one, under a new id.
    pub fn set_directory_id(&self, directory_id: DirectoryId) {
        self.change(|identity| identity.directory_id = directory_id);
    }

    // An identity that stays the same keeps its `Arc`: connections compare the pointer.
    fn change(&self, edit: impl Fn(&mut PeerIdentity)) {
        self.0.rcu(|current| {
            let mut next = **current;
            edit(&mut next);
            if next == **current { current.clone() } else { Arc::new(next) }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_real_change_makes_connections_stale() {
        let local = LocalIdentity::new(PeerIdentity {
            cluster_id: None,
            node_id: NodeId(1),
            directory_id: DirectoryId::random(),
            incarnation: IncarnationId::random(),
            broker_epoch: BrokerEpoch::UNKNOWN,
        });
        let before = local.current();
        local.set_broker_epoch(BrokerEpoch::UNKNOWN);
        assert!(Arc::ptr_eq(&before, &local.current()));
        local.set_broker_epoch(BrokerEpoch(7));
        assert!(!Arc::ptr_eq(&before, &local.current()));
        assert_eq!(local.current().broker_epoch, BrokerEpoch(7));
    }
}
