//! This node as a broker of its cluster: registration, heartbeats, what it asks of the controller.
//!
//! In: settings, the metadata image, answers of the controller. Out: requests to the controller (wherever it is), the
//! broker's state. Never: a decision that is the controller's; what a broker may do follows from the image alone.
//!
//! - [`Metadata`]: the metadata log as this node has it, as a voter or as an observer; the server room provides it
//! - [`ControllerChannel`]: brings a request to the active controller, through fail-overs
//! - [`ControllerService`]: the other end of it
//! - [`MetadataCell`], [`QuorumLane`]: the quorum of this node and its way to the others
//! - [`Departures`]: brokers that have just gone, for what clients are told meanwhile
//! - [`FailureWatch`]: evidence about other brokers, and verdicts, while this node is the active controller
//! - [`Lifecycle`]: registers, heartbeats, leaves
//! - [`ProducerIds`]: blocks of producer ids
//! - [`topics`]: internal topics, and topics that clients ask for

mod channel;
mod departures;
mod failure_watch;
mod lifecycle;
mod metadata;
mod producer_ids;
mod quorum_admin;
mod quorum_lane;
mod service;
pub mod topics;

pub use channel::{ChannelError, ControllerChannel};
pub use departures::Departures;
pub use failure_watch::FailureWatch;
pub use lifecycle::{BrokerHooks, BrokerState, Lifecycle, LifecycleConfig, Registration, RegistrationRefused};
pub use metadata::{ControllerCandidates, LocalMetadata, MetadataCell, MetadataObserver, MetadataQuorum};
pub use producer_ids::ProducerIds;
pub use quorum_admin::{
    KIND_REPLACE_VOTER, KIND_TRANSFER_CONTROLLER, QuorumAdmin, QuorumChangeError, Replaced, VoterState,
};
pub use quorum_lane::{KIND_QUORUM, QuorumLane, QuorumService};
pub use service::{ControllerService, KIND_CONTROLLER};

use crate::config::ServerConfig;
use futures_util::future::BoxFuture;
use rookery_protocol::codec::SmolStr;
use rookery_protocol::error::ErrorCode;
use rookery_raft::controller::{ControllerError, ControllerRequest, ControllerResponse};
use rookery_raft::ids::{ClusterId, MetadataOffset, NodeId};
use rookery_raft::image::{BrokerRegistration, MetadataImage};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;

/// The metadata log as this node has it.
pub trait Metadata: Send + Sync + 'static {
    /// Everything applied here.
    fn image(&self) -> Arc<MetadataImage>;
    /// Every new image; intermediate ones may be skipped.
    fn images(&self) -> watch::Receiver<Arc<MetadataImage>>;
    /// Ends when everything up to this offset has been applied here.
    fn applied(&self, offset: MetadataOffset) -> BoxFuture<'static, ()>;
    /// The active controller, as far as this node knows.
    fn controller(&self) -> Option<NodeId>;
    /// Ends when this node knows another one than that to be the active controller.
    fn another_controller(&self, than: NodeId) -> BoxFuture<'static, ()>;
    /// That node said that it is not the controller, or did not answer.
    fn controller_was_wrong(&self, node: NodeId);
    /// The image has stood still for a while and is known to be behind the controller's: who gives this node the log may be cut off.
    fn stands_still(&self);
    /// The cluster's id once this node has joined or formed one.
    fn cluster_id(&self) -> Option<ClusterId>;
    /// Ask this node's own controller; [`ControllerError::NotController`] unless it is active.
    fn submit(&self, request: ControllerRequest) -> BoxFuture<'static, Result<ControllerResponse, ControllerError>>;
}

/// What the rooms above share of this broker.
pub struct Broker {
    /// All settings.
    pub config: Arc<ServerConfig>,
    metadata: Arc<dyn Metadata>,
    channel: ControllerChannel,
    producer_ids: Arc<ProducerIds>,
    asked_topics: topics::AskedTopics,
    departures: Arc<Departures>,
}

impl Broker {
    /// A broker over its metadata and its way to the controller.
    pub fn new(
        config: Arc<ServerConfig>,
        metadata: Arc<dyn Metadata>,
        channel: ControllerChannel,
        producer_ids: Arc<ProducerIds>,
        departures: Arc<Departures>,
    ) -> Arc<Self> {
        let asked_topics = topics::AskedTopics::new(channel.clone());
        Arc::new(Self { config, metadata, channel, producer_ids, asked_topics, departures })
    }

    /// Everything applied here.
    pub fn image(&self) -> Arc<MetadataImage> {
        self.metadata.image()
    }

    /// Everything applied here, once none of the leaders that the caller is going to name has gone without a word just now: a moment
    /// later the log says who leads in its place ([`Departures`] has the why and the bound).
    pub async fn settled_image(&self, leaders: impl Fn(&MetadataImage) -> BTreeSet<NodeId>) -> Arc<MetadataImage> {
        let (mut images, mut doubts) = (self.metadata.images(), self.departures.changes());
        let bound = Instant::now() + departures::PATIENCE;
        let mut is_held = false;
        loop {
            let image = images.borrow_and_update().clone();
            doubts.borrow_and_update();
            let Some(until) = self.departures.doubted_until(&image, || leaders(&image)) else { return image };
            if !std::mem::replace(&mut is_held, true) {
                metrics::counter!("rookery_broker_answers_held_total").increment(1);
            }
            // Further losses meanwhile do not hold this answer any longer.
            let until = until.min(bound);
            tokio::select! {
                changed = images.changed() => if changed.is_err() { return image },
                changed = doubts.changed() => if changed.is_err() { return image },
                () = tokio::time::sleep_until(until) => return images.borrow().clone(),
            }
        }
    }

    /// Whether clients are told a broker's address: also a moment after it was fenced.
    pub fn is_listed(&self, broker: &BrokerRegistration) -> bool {
        !broker.fenced || self.departures.is_just_fenced(broker)
    }

    /// The active controller, as far as this node knows.
    pub fn controller(&self) -> Option<NodeId> {
        self.metadata.controller()
    }

    /// Ask the active controller, wherever it is.
    pub async fn ask_controller(
        &self,
        request: ControllerRequest,
        timeout: Duration,
    ) -> Result<ControllerResponse, ChannelError> {
        self.channel.ask(request, timeout).await
    }

    /// The next producer id, for an idempotent producer.
    pub async fn next_producer_id(&self) -> Result<i64, ChannelError> {
        self.producer_ids.next().await
    }

    /// Create topics that a client asked for by name; for each, what to tell the client now.
    pub async fn create_asked_topics(&self, names: Vec<SmolStr>) -> Vec<ErrorCode> {
        self.asked_topics.create(names, &self.config.topics).await
    }

    /// Begin to create `__consumer_offsets`, unless that is under way; the caller's client asks again.
    pub fn create_group_metadata_topic(&self) {
        self.asked_topics.create_group_metadata_topic(&self.config.groups);
    }
}
