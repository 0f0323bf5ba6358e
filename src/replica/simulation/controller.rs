//! A model of the metadata log: the rules of KIP-966, KIP-903 and the architecture's invariant 5, in one place.

use crate::replica::leader::{BrokerView, IsrProposal, PartitionState};
use rookery_raft::ids::{BrokerEpoch, LeaderEpoch, NodeId, PartitionEpoch};
use std::collections::{BTreeMap, BTreeSet};

pub const MIN_INSYNC: usize = 2;

/// The metadata after one entry.
#[derive(Debug, Clone)]
pub struct Entry {
    pub state: PartitionState,
    pub elr: BTreeSet<NodeId>,
    pub brokers: BTreeMap<NodeId, BrokerView>,
}

pub struct Controller {
    pub log: Vec<Entry>,
    next_broker_epoch: i64,
}

impl Controller {
    pub fn new(nodes: &[NodeId]) -> Self {
        let brokers = nodes.iter().map(|id| (*id, BrokerView { epoch: BrokerEpoch(i64::from(id.0)), eligible: true }));
        let state = PartitionState {
            leader: nodes[0],
            leader_epoch: LeaderEpoch(0),
            partition_epoch: PartitionEpoch(0),
            replicas: nodes.to_vec(),
            isr: nodes.iter().copied().collect(),
            min_insync_replicas: MIN_INSYNC,
        };
        let first = Entry { state, elr: BTreeSet::new(), brokers: brokers.collect() };
        Self { log: vec![first], next_broker_epoch: 100 }
    }

    pub fn now(&self) -> &Entry {
        self.log.last().expect("there is a first entry")
    }

    fn is_active(&self, id: NodeId) -> bool {
        self.now().brokers[&id].eligible
    }

    fn write(&mut self, mut entry: Entry) {
        if entry.state != self.now().state {
            entry.state.partition_epoch = self.now().state.partition_epoch.next();
        }
        self.log.push(entry);
    }

    /// Removes a broker from the ISR, moves leadership away, keeps the ELR by its rule.
    fn leave(entry: &mut Entry, id: NodeId, bump: bool) {
        let state = &mut entry.state;
        let was_in_isr = state.isr.remove(&id);
        if was_in_isr && state.isr.len() < MIN_INSYNC {
            entry.elr.insert(id);
        }
        if state.leader == id {
            state.leader = NodeId::NONE;
            state.leader_epoch = state.leader_epoch.next();
            Self::elect(entry);
        } else if bump {
            state.leader_epoch = state.leader_epoch.next();
        }
    }

    /// From the ISR, else from the ELR; only active brokers.
    fn elect(entry: &mut Entry) {
        let active = |id: &&NodeId| entry.brokers[*id].eligible;
        if let Some(leader) = entry.state.isr.iter().find(active).copied() {
            entry.state.leader = leader;
        } else if let Some(leader) = entry.elr.iter().find(active).copied() {
            // Nobody in the ISR is active: the elected one is the ISR, and the others stay candidates.
            entry.elr.remove(&leader);
            let rest = std::mem::take(&mut entry.state.isr);
            entry.elr.extend(rest);
            entry.state.isr.insert(leader);
            entry.state.leader = leader;
        }
    }

    pub fn fence(&mut self, id: NodeId) {
        if !self.is_active(id) {
            return;
        }
        let mut entry = self.now().clone();
        entry.brokers.get_mut(&id).expect("registered").eligible = false;
        Self::leave(&mut entry, id, false);
        self.write(entry);
    }

    pub fn unfence(&mut self, id: NodeId, epoch: BrokerEpoch) {
        if self.is_active(id) || self.now().brokers[&id].epoch != epoch {
            return;
        }
        let mut entry = self.now().clone();
        entry.brokers.get_mut(&id).expect("registered").eligible = true;
        if entry.state.leader == NodeId::NONE {
            Self::elect(&mut entry);
            if entry.state.leader != NodeId::NONE {
                entry.state.leader_epoch = entry.state.leader_epoch.next();
            }
        }
        self.write(entry);
    }

    /// A new life of a broker, or a reopened store: fenced, out of the ISR, and every epoch that it led is over.
    pub fn register(&mut self, id: NodeId) -> BrokerEpoch {
        self.next_broker_epoch += 1;
        let epoch = BrokerEpoch(self.next_broker_epoch);
        let mut entry = self.now().clone();
        entry.brokers.insert(id, BrokerView { epoch, eligible: false });
        Self::leave(&mut entry, id, false);
        self.write(entry);
        epoch
    }

    /// `Ok`: written. `Err(true)`: refused for good. `Err(false)`: based on an older registration.
    pub fn alter_partition(&mut self, from: NodeId, epoch: BrokerEpoch, proposal: &IsrProposal) -> Result<(), bool> {
        let now = self.now();
        let stale = now.state.leader != from
            || now.brokers[&from].epoch != epoch
            || now.state.leader_epoch != proposal.leader_epoch
            || now.state.partition_epoch != proposal.partition_epoch;
        if stale {
            return Err(false);
        }
        let fits = |(id, epoch): &(NodeId, BrokerEpoch)| {
            now.state.isr.contains(id) || (now.brokers[id].eligible && now.brokers[id].epoch == *epoch)
        };
        if !proposal.isr.iter().all(fits) {
            return Err(true);
        }
        let mut entry = now.clone();
        let isr: BTreeSet<NodeId> = proposal.isr.iter().map(|(id, _)| *id).collect();
        if isr.len() >= MIN_INSYNC {
            entry.elr.clear();
        } else {
            let left: Vec<NodeId> = entry.state.isr.difference(&isr).copied().collect();
            entry.elr.extend(left);
            entry.elr.retain(|id| !isr.contains(id));
        }
        entry.state.isr = isr;
        self.write(entry);
        Ok(())
    }
}
