//! Producer ids, handed out in blocks: no id is ever given twice, and one that a broker does not use is lost.

use super::cluster_control::ClusterControl;
use super::{Answer, Batch, ControllerError, ControllerResponse};
use crate::ids::{BrokerEpoch, NodeId};
use crate::record::{Cause, MetadataRecord};

/// How many ids a broker gets at a time.
pub const PRODUCER_ID_BLOCK: i32 = 1000;

pub(super) struct ProducerIdControl;

impl ProducerIdControl {
    pub(super) fn allocate(batch: &mut Batch, broker: NodeId, epoch: BrokerEpoch) -> Answer {
        ClusterControl::checked(batch.image(), broker, epoch)?;
        let first = batch.image().next_producer_id;
        let next = first
            .checked_add(i64::from(PRODUCER_ID_BLOCK))
            .ok_or_else(|| ControllerError::Internal("all producer ids are used up".into()))?;
        batch.push(Cause::ProducerIdsRequested, vec![MetadataRecord::ProducerIds { next }])?;
        Ok(ControllerResponse::ProducerIds { first, count: PRODUCER_ID_BLOCK })
    }
}
