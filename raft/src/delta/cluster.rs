//! Brokers that changed.

use super::Impossible;
use crate::ids::{BrokerEpoch, MetadataOffset, NodeId};
use crate::image::{BrokerRegistration, ClusterImage};
use crate::record::{Formation, RegisterBroker};
use std::collections::BTreeSet;
use std::sync::Arc;

/// Brokers that were registered, changed or unregistered.
#[derive(Clone, Debug)]
pub struct ClusterDelta {
    base: ClusterImage,
    image: ClusterImage,
    changed: BTreeSet<NodeId>,
}

impl ClusterDelta {
    pub(super) fn new(base: ClusterImage) -> Self {
        Self { image: base.clone(), base, changed: BTreeSet::new() }
    }

    pub(super) fn become_image(&mut self, new: &ClusterImage) {
        let ids = self.base.brokers().chain(new.brokers()).map(|b| b.id());
        self.changed = ids.filter(|id| self.base.broker(*id) != new.broker(*id)).collect();
        self.image = new.clone();
    }

    /// The brokers as they are after this delta.
    pub fn image(&self) -> &ClusterImage {
        &self.image
    }
    /// Every broker that changed, with its registration before and after.
    pub fn changed(
        &self,
    ) -> impl Iterator<Item = (NodeId, Option<&Arc<BrokerRegistration>>, Option<&Arc<BrokerRegistration>>)> {
        self.changed.iter().map(|id| (*id, self.base.broker(*id), self.image.broker(*id)))
    }
    /// Whether no broker changed.
    pub fn is_empty(&self) -> bool {
        self.changed.is_empty()
    }

    pub(super) fn form(&mut self, formation: &Formation) -> Result<(), Impossible> {
        if self.image.formation.is_some() {
            return Err(Impossible::SecondFormation);
        }
        self.image.formation = Some(Arc::new(formation.clone()));
        Ok(())
    }

    pub(super) fn register(&mut self, index: MetadataOffset, record: &RegisterBroker) -> Result<(), Impossible> {
        if let Some(old) = self.image.broker(record.id)
            && record.epoch <= old.epoch()
        {
            return Err(Impossible::EpochNotAbove { id: record.id, current: old.epoch(), given: record.epoch });
        }
        let registration =
            BrokerRegistration { record: record.clone(), registered_at: index, fenced: true, shutting_down: false };
        self.image.brokers.insert_mut(record.id, Arc::new(registration));
        self.changed.insert(record.id);
        Ok(())
    }

    pub(super) fn change(
        &mut self,
        id: NodeId,
        epoch: BrokerEpoch,
        change: impl FnOnce(&mut BrokerRegistration),
    ) -> Result<(), Impossible> {
        let mut broker = self.checked(id, epoch)?.as_ref().clone();
        change(&mut broker);
        self.image.brokers.insert_mut(id, Arc::new(broker));
        self.changed.insert(id);
        Ok(())
    }

    pub(super) fn unregister(&mut self, id: NodeId, epoch: BrokerEpoch) -> Result<(), Impossible> {
        self.checked(id, epoch)?;
        self.image.brokers.remove_mut(&id);
        self.changed.insert(id);
        Ok(())
    }

    fn checked(&self, id: NodeId, epoch: BrokerEpoch) -> Result<&Arc<BrokerRegistration>, Impossible> {
        let broker = self.image.broker(id).ok_or(Impossible::UnknownBroker(id))?;
        if broker.epoch() != epoch {
            return Err(Impossible::WrongBrokerEpoch { id, current: broker.epoch(), given: epoch });
        }
        Ok(broker)
    }
}
