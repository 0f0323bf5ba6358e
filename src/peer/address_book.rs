//! Where nodes listen for their peers.

use arc_swap::ArcSwap;
use rookery_raft::ids::{DirectoryId, NodeId};
use std::collections::BTreeMap;
use std::sync::Arc;

/// One node's entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerAddress {
    /// `host:port`; a name is resolved at every connect, so that a container that moved is found again.
    pub address: Arc<str>,
    /// The directory that must answer there, when it is known: a wiped disk is then refused, not talked to.
    pub directory_id: Option<DirectoryId>,
}

/// Node id → peer address, shared and updatable. A changed entry makes the node's connections stale.
#[derive(Clone, Default)]
pub struct AddressBook(Arc<ArcSwap<BTreeMap<NodeId, Arc<PeerAddress>>>>);

impl AddressBook {
    /// An empty book.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds or changes one entry.
    pub fn set(&self, node: NodeId, address: impl Into<Arc<str>>, directory_id: Option<DirectoryId>) {
        let entry = Arc::new(PeerAddress { address: address.into(), directory_id });
        self.0.rcu(|book| {
            // An equal entry keeps its `Arc`: connections compare the pointer.
            if book.get(&node).is_some_and(|known| **known == *entry) {
                return book.clone();
            }
            let mut next = BTreeMap::clone(book);
            next.insert(node, entry.clone());
            Arc::new(next)
        });
    }

    /// Forgets a node: calls to it fail with [`super::PeerError::NoAddress`].
    pub fn remove(&self, node: NodeId) {
        self.0.rcu(|book| {
            let mut next = BTreeMap::clone(book);
            next.remove(&node);
            next
        });
    }

    /// One entry.
    pub fn get(&self, node: NodeId) -> Option<Arc<PeerAddress>> {
        self.0.load().get(&node).cloned()
    }

    /// Every node with an entry, in order.
    pub fn nodes(&self) -> Vec<NodeId> {
        self.0.load().keys().copied().collect()
    }
}
