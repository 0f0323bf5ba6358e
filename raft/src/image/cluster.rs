//! The formation and the registered brokers.

use crate::ids::{BrokerEpoch, ClusterId, DirectoryId, MetadataOffset, NodeId};
use crate::record::{DirectoryState, Formation, RegisterBroker};
use rpds::RedBlackTreeMapSync;
use std::sync::Arc;

/// A registered broker: what it said of itself, and what the controller made of it since.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BrokerRegistration {
    /// The registration; `directories` are kept current.
    pub record: RegisterBroker,
    /// The log index of the registration: a broker is unfenced only once it has applied it.
    pub registered_at: MetadataOffset,
    /// Whether it is barred from leading and from ISRs.
    pub fenced: bool,
    /// Whether it is leaving in order.
    pub shutting_down: bool,
}

impl BrokerRegistration {
    /// Its node id.
    pub fn id(&self) -> NodeId {
        self.record.id
    }
    /// Its epoch.
    pub fn epoch(&self) -> BrokerEpoch {
        self.record.epoch
    }
    /// Whether it may lead and be taken into an ISR: neither fenced nor shutting down.
    pub fn is_active(&self) -> bool {
        !self.fenced && !self.shutting_down
    }
    /// The state of one of its directories; `None` if it does not have it.
    pub fn directory_state(&self, id: DirectoryId) -> Option<DirectoryState> {
        self.record.directories.iter().find(|d| d.id == id).map(|d| d.state)
    }
    /// Whether a replica recorded in that directory can be served; one without a directory cannot.
    pub fn can_host(&self, directory: DirectoryId) -> bool {
        self.directory_state(directory).is_some_and(DirectoryState::is_usable)
    }
}

/// The formation and the brokers, by node id.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClusterImage {
    pub(crate) formation: Option<Arc<Formation>>,
    pub(crate) brokers: RedBlackTreeMapSync<NodeId, Arc<BrokerRegistration>>,
}

impl ClusterImage {
    /// How the cluster began; `None` before its first record.
    pub fn formation(&self) -> Option<&Formation> {
        self.formation.as_deref()
    }
    /// The cluster's id; `None` before its first record.
    pub fn cluster_id(&self) -> Option<ClusterId> {
        self.formation.as_ref().map(|f| f.cluster_id)
    }
    /// A broker's registration.
    pub fn broker(&self, id: NodeId) -> Option<&Arc<BrokerRegistration>> {
        self.brokers.get(&id)
    }
    /// All registered brokers in the order of their ids.
    pub fn brokers(&self) -> impl Iterator<Item = &Arc<BrokerRegistration>> {
        self.brokers.values()
    }
    /// How many brokers are registered, fenced ones included.
    pub fn len(&self) -> usize {
        self.brokers.size()
    }
    /// Whether no broker is registered.
    pub fn is_empty(&self) -> bool {
        self.brokers.is_empty()
    }
    /// Whether the broker is registered, not fenced and not shutting down.
    pub fn is_active(&self, id: NodeId) -> bool {
        self.broker(id).is_some_and(|b| b.is_active())
    }
    /// How many brokers the cluster is meant to have: its voters or its registrations, whichever are more. What waits
    /// for "enough brokers" while a new cluster fills up measures against this.
    pub fn expected_brokers(&self) -> usize {
        self.len().max(self.formation().map_or(0, |f| f.voters.len())).max(1)
    }
}
