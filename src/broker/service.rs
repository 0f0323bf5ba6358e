//! The controller's end of a [`super::ControllerChannel`]: MessagePack in, MessagePack out.
//!
//! An answer carries how far the controller had applied the log when it gave it: the request's own entry is among that.
//!
//! A broker speaks for itself only: a request that names its broker must come from that node's own session. (Two nodes with
//! one id, or a broker that is wrong about its own, could otherwise fence each other or change ISRs they do not lead.)

use super::Metadata;
use crate::peer::{PeerIdentity, PeerService, ServiceFuture};
use bytes::Bytes;
use rookery_raft::controller::{ControllerError, ControllerRequest, ControllerResponse};
use rookery_raft::ids::MetadataOffset;
use std::sync::Arc;

/// The kind of a request to the controller, on the lanes `Controller` and `Heartbeat`.
pub const KIND_CONTROLLER: u16 = 1;

/// Answers requests of other nodes with this node's controller.
pub struct ControllerService {
    metadata: Arc<dyn Metadata>,
}

impl ControllerService {
    /// Over this node's metadata.
    pub fn new(metadata: Arc<dyn Metadata>) -> Self {
        Self { metadata }
    }
}

impl PeerService for ControllerService {
    fn call(&self, from: PeerIdentity, _kind: u16, body: Bytes) -> ServiceFuture<'_> {
        Box::pin(async move {
            let answer = match rmp_serde::from_slice::<ControllerRequest>(&body) {
                Ok(request) if request.speaker().is_some_and(|speaker| speaker != from.node_id) => {
                    tracing::warn!(node = from.node_id.0, speaker = ?request.speaker(), "a node speaks for another broker");
                    let why = format!("node {} may not speak for another broker", from.node_id);
                    Err(ControllerError::InvalidRequest(why))
                }
                Ok(request) if is_from_outside(&request) => self.metadata.submit(request).await,
                Ok(_) => Err(ControllerError::InvalidRequest("only a controller itself may ask for this".to_owned())),
                Err(error) => {
                    tracing::warn!(node = from.node_id.0, %error, "a request to the controller cannot be read");
                    Err(ControllerError::InvalidRequest(format!("unreadable request: {error}")))
                }
            };
            Ok(vec![encode_answer(&answer, self.metadata.image().offset)])
        })
    }
}

/// Requests that only the node itself makes are not taken from others.
fn is_from_outside(request: &ControllerRequest) -> bool {
    use ControllerRequest::*;
    !matches!(request, Form(_) | FenceBroker { .. } | ExpireSessions | RebalanceLeaders)
}

pub(super) fn encode_request(request: &ControllerRequest) -> Bytes {
    rmp_serde::to_vec_named(request).expect("a request is plain data").into()
}

pub(super) type Answer = Result<ControllerResponse, ControllerError>;

fn encode_answer(answer: &Answer, applied: MetadataOffset) -> Bytes {
    rmp_serde::to_vec_named(&(applied, answer)).expect("an answer is plain data").into()
}

pub(super) fn decode_answer(body: &[u8]) -> Result<(MetadataOffset, Answer), rmp_serde::decode::Error> {
    rmp_serde::from_slice(body)
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;
    use futures_util::future::{BoxFuture, pending, ready};
    use rookery_raft::controller::{
        AlterPartitionRequest, BrokerHeartbeatRequest, DiskSpace, UpdateDirectoriesRequest,
    };
    use rookery_raft::ids::{BrokerEpoch, ClusterId, DirectoryId, IncarnationId, MetadataOffset, NodeId};
    use rookery_raft::image::MetadataImage;
    use std::time::Duration;
    use tokio::sync::watch;

    /// A controller that does whatever it is asked.
    struct Willing;

    impl Metadata for Willing {
        fn image(&self) -> Arc<MetadataImage> {
            MetadataImage::empty()
        }
        fn images(&self) -> watch::Receiver<Arc<MetadataImage>> {
            watch::Sender::new(self.image()).subscribe()
        }
        fn applied(&self, _: MetadataOffset) -> BoxFuture<'static, ()> {
            ready(()).boxed()
        }
        fn controller(&self) -> Option<NodeId> {
            None
        }
        fn another_controller(&self, _: NodeId) -> BoxFuture<'static, ()> {
            pending().boxed()
        }
        fn controller_was_wrong(&self, _: NodeId) {}
        fn stands_still(&self) {}
        fn cluster_id(&self) -> Option<ClusterId> {
            None
        }
        fn submit(&self, _: ControllerRequest) -> BoxFuture<'static, Result<ControllerResponse, ControllerError>> {
            ready(Ok(ControllerResponse::Done)).boxed()
        }
    }

    async fn ask(from: i32, request: &ControllerRequest) -> Result<ControllerResponse, ControllerError> {
        let from = PeerIdentity {
            cluster_id: None,
            node_id: NodeId(from),
            directory_id: DirectoryId::NONE,
            incarnation: IncarnationId::NONE,
            broker_epoch: BrokerEpoch(1),
        };
        let service = ControllerService::new(Arc::new(Willing));
        let answer = service.call(from, KIND_CONTROLLER, encode_request(request)).await.expect("always an answer");
        decode_answer(&answer[0]).expect("readable").1
    }

    #[tokio::test]
    async fn a_node_could_speak_for_another_broker() {
        let (id, epoch) = (NodeId(2), BrokerEpoch(1));
        let requests = [
            ControllerRequest::BrokerHeartbeat(BrokerHeartbeatRequest {
                id,
                epoch,
                applied_offset: MetadataOffset(0),
                want_fence: true,
                want_shutdown: false,
                oldest_unfinished_commit: Duration::ZERO,
                disk_space: DiskSpace::Ample,
            }),
            ControllerRequest::UpdateDirectories(UpdateDirectoriesRequest {
                id,
                epoch,
                directories: vec![],
                reopened: vec![],
                lost: vec![],
                renewed: vec![],
            }),
            ControllerRequest::AlterPartition(AlterPartitionRequest { broker: id, epoch, partitions: vec![] }),
            ControllerRequest::AllocateProducerIds { broker: id, epoch },
        ];
        for request in &requests {
            assert!(matches!(ask(3, request).await, Err(ControllerError::InvalidRequest(_))), "{request:?}");
            assert_eq!(ask(2, request).await, Ok(ControllerResponse::Done), "{request:?}");
        }
        let anybody = ControllerRequest::DeleteTopics { topics: vec![] };
        assert_eq!(ask(3, &anybody).await, Ok(ControllerResponse::Done));
    }
}
