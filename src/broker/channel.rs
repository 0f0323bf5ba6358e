//! Brings a request to the active controller.
//!
//! The controller moves; so a request is tried until its time is over: here if this node is active, else at the node
//! that this one believes to be. A request whose outcome became unknown (the connection closed after it was sent) is
//! tried again only if doing it twice is the same as doing it once; otherwise the caller is told that it timed out.
//!
//! What a client changed, the next request to the same node sees: such a request is answered after the change was applied here,
//! or when its time is over.

use super::Metadata;
use super::service::{KIND_CONTROLLER, decode_answer, encode_request};
use crate::peer::{Lane, PeerError, PeerPool};
use crate::replica::IsrChannel;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use rookery_raft::controller::{AlterPartitionRequest, ControllerError, ControllerRequest, ControllerResponse};
use rookery_raft::ids::{MetadataOffset, NodeId};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout_at};

/// Why the controller has not done what was asked.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum ChannelError {
    /// It said no.
    #[error(transparent)]
    Refused(#[from] ControllerError),
    /// No controller answered in time, or the outcome is not known.
    #[error("no answer of the active controller: {0}")]
    TimedOut(String),
}

/// A cheap handle, shared by every room that asks the controller.
#[derive(Clone)]
pub struct ControllerChannel {
    me: NodeId,
    metadata: Arc<dyn Metadata>,
    pool: PeerPool,
}

/// An election takes a few hundred milliseconds: short enough to be there when it is over.
const RETRY_MIN: Duration = Duration::from_millis(20);
const RETRY_MAX: Duration = Duration::from_millis(200);
/// One try of a request that may be repeated: a controller that hangs must not hold it for its whole time.
const TRY_MAX: Duration = Duration::from_secs(2);

impl ControllerChannel {
    /// Over this node's metadata and its connections.
    pub fn new(me: NodeId, metadata: Arc<dyn Metadata>, pool: PeerPool) -> Self {
        Self { me, metadata, pool }
    }

    /// Ask on the lane of ordinary requests.
    pub async fn ask(&self, request: ControllerRequest, timeout: Duration) -> Result<ControllerResponse, ChannelError> {
        self.ask_on(Lane::Controller, request, timeout).await.map(|(_, answer)| answer)
    }

    /// Ask on a lane of its own (heartbeats: the end of their connection is evidence), and hear how far whoever answered had applied
    /// the log by then.
    pub async fn ask_on(
        &self,
        lane: Lane,
        request: ControllerRequest,
        timeout: Duration,
    ) -> Result<(MetadataOffset, ControllerResponse), ChannelError> {
        let deadline = Instant::now() + timeout;
        let repeatable = is_repeatable(&request);
        let mut pause = RETRY_MIN;
        let mut last = "no controller is known".to_owned();
        loop {
            let tried = match self.metadata.controller() {
                None => Tried::Again(last),
                Some(node) => {
                    let until = if repeatable { deadline.min(Instant::now() + TRY_MAX) } else { deadline };
                    let tried = tokio::select! {
                        biased;
                        tried = self.try_once(lane, node, &request, (until, deadline)) => tried,
                        // A controller that hangs answers nobody, and its successor is known.
                        () = self.metadata.another_controller(node), if repeatable => {
                            Tried::Again(format!("node {node} is no longer the controller"))
                        }
                    };
                    if !matches!(tried, Tried::Answered(..)) {
                        self.metadata.controller_was_wrong(node);
                    }
                    tried
                }
            };
            last = match tried {
                Tried::Answered(applied, answer) => return Ok((applied, answer?)),
                Tried::Unknown(why) if !repeatable => return Err(ChannelError::TimedOut(why)),
                Tried::Again(why) | Tried::Unknown(why) => why,
            };
            if Instant::now() + pause >= deadline {
                return Err(ChannelError::TimedOut(last));
            }
            sleep(pause).await;
            pause = (pause * 2).min(RETRY_MAX);
        }
    }

    async fn try_once(
        &self,
        lane: Lane,
        node: NodeId,
        request: &ControllerRequest,
        (until, deadline): (Instant, Instant),
    ) -> Tried {
        if node == self.me {
            return match timeout_at(until, self.metadata.submit(request.clone())).await {
                Ok(Err(ControllerError::NotController)) => Tried::Again("this node was the controller".to_owned()),
                Ok(answer) => Tried::Answered(self.metadata.image().offset, answer),
                Err(_) => Tried::Unknown("the controller of this node did not answer".to_owned()),
            };
        }
        let left = until.saturating_duration_since(Instant::now());
        match self.pool.call(node, lane, KIND_CONTROLLER, vec![encode_request(request)], left).await {
            Ok(body) => match decode_answer(&body) {
                Ok((_, Err(ControllerError::NotController))) => {
                    Tried::Again(format!("node {node} is not the controller"))
                }
                Ok((applied, answer)) => {
                    if is_change_of_clients(request) {
                        // A node that lags for longer than the client waits answers all the same: it is done.
                        let _ = timeout_at(deadline, self.metadata.applied(applied)).await;
                    }
                    Tried::Answered(applied, answer)
                }
                Err(error) => Tried::Unknown(format!("node {node} answered what this version cannot read: {error}")),
            },
            Err(error @ (PeerError::Closed(_) | PeerError::TimedOut { .. })) => Tried::Unknown(error.to_string()),
            Err(error) => Tried::Again(error.to_string()),
        }
    }
}

/// An ISR that is not changed within this time is proposed again.
const ALTER_PARTITION_MAX: Duration = Duration::from_secs(2);

impl IsrChannel for ControllerChannel {
    fn alter_partitions(
        &self,
        request: AlterPartitionRequest,
    ) -> BoxFuture<'static, Option<Vec<Result<(), ControllerError>>>> {
        let (channel, count) = (self.clone(), request.partitions.len());
        async move {
            match channel.ask(ControllerRequest::AlterPartition(request), ALTER_PARTITION_MAX).await {
                Ok(ControllerResponse::AlterPartition(results)) => {
                    Some(results.into_iter().map(|result| result.map(drop)).collect())
                }
                // The whole request was refused, for instance for its broker epoch: that holds for each part.
                Err(ChannelError::Refused(error)) => Some(vec![Err(error); count]),
                _ => None,
            }
        }
        .boxed()
    }
}

enum Tried {
    /// By somebody who had applied the log up to there.
    Answered(MetadataOffset, Result<ControllerResponse, ControllerError>),
    /// Not done; try again.
    Again(String),
    /// Perhaps done.
    Unknown(String),
}

/// Whether a client asked for it, and will look for it.
fn is_change_of_clients(request: &ControllerRequest) -> bool {
    use ControllerRequest::*;
    match request {
        CreateTopics(_) | DeleteTopics { .. } | CreatePartitions(_) | ElectLeaders(_) | UnregisterBroker { .. } => true,
        IncrementalAlterConfigs(_) | AlterConfigs(_) | EnsureInternalTopic(_) => true,
        Form(_) | RegisterBroker(_) | BrokerHeartbeat(_) | UpdateDirectories(_) | FenceBroker { .. } => false,
        AlterPartition(_) | AllocateProducerIds { .. } | ExpireSessions | RebalanceLeaders => false,
    }
}

/// Whether doing it twice is the same as doing it once.
fn is_repeatable(request: &ControllerRequest) -> bool {
    use ControllerRequest::*;
    match request {
        Form(_) | RegisterBroker(_) | BrokerHeartbeat(_) | UpdateDirectories(_) | FenceBroker { .. } => true,
        // Epochs refuse the second one; a block of ids more or less is nothing; the topic exists or does not.
        AlterPartition(_) | AllocateProducerIds { .. } | EnsureInternalTopic(_) | ExpireSessions | RebalanceLeaders => {
            true
        }
        UnregisterBroker { .. } | CreateTopics(_) | DeleteTopics { .. } | CreatePartitions(_) | ElectLeaders(_) => {
            false
        }
        IncrementalAlterConfigs(_) | AlterConfigs(_) => false,
    }
}
