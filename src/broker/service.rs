//! The controller's end of a [`super::ControllerChannel`]: MessagePack in, MessagePack out.
//!
//! An answer carries how far the controller had applied the log when it gave it: the request's own entry is among that.

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
                Ok(request) if is_from_outside(&request) => self.metadata.submit(request).await,
                Ok(_) => Err(ControllerError::InvalidRequest("only a controller itself may ask for this".to_owned())),
                Err(error) => {
                    tracing::warn!(node = %from.node_id, %error, "a request to the controller cannot be read");
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
