//! What other nodes ask of this one: who answers which kind of request, on which lane.

use crate::broker::{ControllerService, KIND_CONTROLLER, KIND_QUORUM, KIND_REPLACE_VOTER, KIND_TRANSFER_CONTROLLER};
use crate::broker::{MetadataCell, QuorumAdmin, QuorumService};
use crate::peer::{Lane, PeerServices};
use crate::replica::{KIND_BATCH, KIND_FETCH, ReplicaLane};
use std::sync::Arc;

/// The one table of them.
pub fn peer_services(metadata: &MetadataCell, admin: &QuorumAdmin, replicas: &ReplicaLane) -> PeerServices {
    let controller = Arc::new(ControllerService::new(Arc::new(metadata.clone())));
    PeerServices::new()
        .with(Lane::Control, KIND_QUORUM..=KIND_QUORUM, Arc::new(QuorumService::new(metadata.clone())))
        .with(Lane::Controller, KIND_CONTROLLER..=KIND_CONTROLLER, controller.clone())
        .with(Lane::Controller, KIND_REPLACE_VOTER..=KIND_TRANSFER_CONTROLLER, Arc::new(admin.clone()))
        .with(Lane::Heartbeat, KIND_CONTROLLER..=KIND_CONTROLLER, controller)
        .with(Lane::Replication, KIND_FETCH..=KIND_BATCH, Arc::new(replicas.clone()))
}
