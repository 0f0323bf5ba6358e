//! Follower brokers' requests, as they come over the connections between nodes.

use super::error::ReplicaError;
use super::fetch_task::{KIND_FETCH, KIND_PROGRESS};
use super::message::{BatchRequest, BatchResponse, ReplicaFetchRequest, ReplicaFetchResponse, ReplicaProgress};
use super::replica_manager::ReplicaManager;
use super::replica_manager::repair::KIND_BATCH;
use crate::peer::{PeerError, PeerIdentity, PeerService, ServiceFuture};
use bytes::Bytes;
use std::sync::{Arc, OnceLock};

/// Answers fetches and progress on the lane `Replication`, once the replicas are there.
#[derive(Clone, Default)]
pub struct ReplicaLane {
    manager: Arc<OnceLock<Arc<ReplicaManager>>>,
}

impl ReplicaLane {
    /// The replicas are there.
    pub fn open(&self, manager: Arc<ReplicaManager>) {
        assert!(self.manager.set(manager).is_ok(), "replicas are opened once in a node's life");
    }
}

impl PeerService for ReplicaLane {
    fn call(&self, from: PeerIdentity, kind: u16, body: Bytes) -> ServiceFuture<'_> {
        Box::pin(async move {
            let service = self.manager.get().and_then(|manager| manager.service());
            match kind {
                KIND_FETCH => {
                    let response = match (ReplicaFetchRequest::decode(body), service) {
                        // A broker speaks for itself only.
                        (Ok(request), Some(service)) if request.broker == from.node_id => service.fetch(request).await,
                        (Ok(_), _) => ReplicaFetchResponse::refused(&ReplicaError::InconsistentClusterId),
                        (Err(error), _) => {
                            tracing::warn!(node = from.node_id.0, %error, "a replication fetch cannot be read");
                            ReplicaFetchResponse::refused(&ReplicaError::InconsistentClusterId)
                        }
                    };
                    Ok(response.encode())
                }
                KIND_PROGRESS => {
                    let taken = match (ReplicaProgress::decode(body), service) {
                        (Ok(progress), Some(service)) if progress.broker == from.node_id => {
                            service.progress(&progress).is_ok()
                        }
                        _ => false,
                    };
                    Ok(vec![Bytes::from_static(if taken { &[0] } else { &[1] })])
                }
                KIND_BATCH => {
                    let response = match (BatchRequest::decode(body), self.manager.get()) {
                        (Ok(request), Some(manager)) if request.broker == from.node_id => {
                            manager.batch_for(request).await
                        }
                        _ => BatchResponse::refused(&ReplicaError::InconsistentClusterId),
                    };
                    Ok(response.encode())
                }
                _ => Err(PeerError::UnknownKind(kind)),
            }
        })
    }
}
