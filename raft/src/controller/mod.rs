//! The active controller: records out of requests.
//!
//! Pure and synchronous. In: an image, a [`ControllerRequest`], `now` on the monotonic clock, and a seed once. Out:
//! records and a response. Never: a clock, a socket, a lock, a hash map's order. Two controllers with the same image,
//! soft state, seed and requests decide the same, so that a simulation can replay one.
//!
//! # States
//!
//! | state | who is in it | leaves it by |
//! |---|---|---|
//! | standby | every node with the controller role that does not lead the quorum | [`Controller::activate`], called once the node has **applied its own term's first entry**: only then does its image hold everything earlier leaders committed |
//! | active | the quorum's leader | [`Controller::resign`], on losing leadership, for whatever reason, or the lease for good |
//!
//! A standby controller refuses everything with `NotController`. Soft state (sessions, applied offsets, stalls) exists
//! only while active. Activation gives every unfenced broker a fresh session, because nobody knows when the last
//! controller heard of it: a fail-over fences nobody. A leader whose lease has lapsed for a moment is asked nothing
//! meanwhile; it keeps its soft state, and that moment counts for no broker's silence ([`Controller::stood_by`]).
//!
//! # Batches
//!
//! While one Raft entry is on its way, requests queue; the next [`Batch`] answers them all and becomes one entry. Each
//! request sees the applied image plus the records of the batch so far (`Batch::image`). The responses are given out
//! only when the entry is committed and applied, and the entry is proposed under the term the batch was made in
//! (`with_leader(term)`), so that a deposed controller's decision can never follow another's.
//!
//! Every decision is replayed on the working image **before** it may be written ([`Batch::push`]): a record that could
//! not be applied stops every node of the cluster for ever, so one that is impossible is refused here, while it still
//! is only a bug.
//!
//! # Invariants held here
//!
//! - A broker epoch is the applied offset plus one at the time of the decision: above every earlier epoch of that
//!   broker, since each batch starts from a higher offset than the one before, and never above the index of its entry.
//!   (The log index itself is known only after the decision; a broker is unfenced only once it has applied the entry,
//!   whose index the image keeps as `registered_at`.)
//! - A registration takes, in the same entry, every leadership from the broker's earlier life and every ISR or ELR
//!   place from replicas whose directory is gone or lost data ([`cluster_control`]).
//! - Partition changes are made by [`partition_change_builder`] only, which keeps ISR, ELR and epochs sound.

mod cluster_control;
mod config;
mod config_control;
mod election;
mod error;
pub mod failure_watcher;
pub mod leader_watch;
mod observations;
mod partition_change_builder;
mod partition_control;
mod placement;
mod producer_id_control;
mod request;
mod topic_control;

pub use config::ControllerConfig;
pub use election::{Candidates, Election, Suitability, Winner};
pub use error::ControllerError;
pub use partition_change_builder::{BuiltChange, PartitionChangeBuilder};
pub use placement::{Fitness, Placement, PlacementBroker};
pub use producer_id_control::PRODUCER_ID_BLOCK;
pub use request::*;

use crate::delta::MetadataDelta;
use crate::ids::{BrokerEpoch, MetadataOffset, NodeId};
use crate::image::MetadataImage;
use crate::record::{
    Cause, ConfigResource, METADATA_VERSION_FEATURE, MetadataRecord, MetadataVersion, Observation, Provenance,
};
use cluster_control::ClusterControl;
use config_control::ConfigControl;
use partition_control::PartitionControl;
use producer_id_control::ProducerIdControl;
use rand::SeedableRng;
use rand::rngs::StdRng;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use topic_control::TopicControl;

/// What a request came to: for the log, and for the caller once the log has it.
pub type Answer = Result<ControllerResponse, ControllerError>;

/// Who decides a batch, and when, for the event log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Author {
    /// The active controller.
    pub controller: NodeId,
    /// Its term.
    pub term: u64,
    /// Its wall clock, in milliseconds since 1970. Told to people, never compared.
    pub unix_ms: i64,
}

/// Several decisions that become one Raft entry.
pub struct Batch {
    author: Author,
    image: Arc<MetadataImage>,
    records: Vec<MetadataRecord>,
    /// Of the last records.
    cause: Option<Cause>,
}

/// How often it is looked for who could take over from brokers whose disk hangs or fills up.
const RELIEF_INTERVAL: Duration = Duration::from_secs(5);

/// A batch with this many records takes no more requests. One request may still bring more.
const FULL_BATCH_RECORDS: usize = 10_000;

impl Batch {
    /// Begins with the applied image and no records.
    pub fn new(author: Author, applied: Arc<MetadataImage>) -> Self {
        Self { author, image: applied, records: Vec::new(), cause: None }
    }

    /// The applied image plus the batch's records. Its offset stays the applied one until the entry has an index.
    pub fn image(&self) -> &Arc<MetadataImage> {
        &self.image
    }
    /// The records so far.
    pub fn records(&self) -> &[MetadataRecord] {
        &self.records
    }
    /// The records for the entry.
    pub fn into_records(self) -> Vec<MetadataRecord> {
        self.records
    }
    /// Puts observations before the decisions; they change nothing that any of these rests on.
    fn preface(&mut self, observations: Vec<Observation>) {
        let Author { controller, term, unix_ms } = self.author;
        let provenance = Provenance { controller, term, unix_ms, cause: Cause::Observed };
        let observations = observations.into_iter().map(MetadataRecord::Observation);
        self.records.splice(0..0, std::iter::once(MetadataRecord::Provenance(provenance)).chain(observations));
    }

    /// Whether further requests should wait for the next batch.
    pub fn is_full(&self) -> bool {
        self.records.len() >= FULL_BATCH_RECORDS
    }

    /// The epoch of a broker that registers in this batch.
    fn next_broker_epoch(&self) -> BrokerEpoch {
        BrokerEpoch(self.image.offset.0 + 1)
    }

    /// Takes in a decision, all of it or, if it is impossible, nothing. Decisions with one cause, one after the other, are told as one.
    fn push(&mut self, cause: Cause, records: Vec<MetadataRecord>) -> Result<(), ControllerError> {
        if records.is_empty() {
            return Ok(());
        }
        self.image = self.preview(&records)?;
        if self.cause.replace(cause) != Some(cause) {
            let Author { controller, term, unix_ms } = self.author;
            self.records.push(MetadataRecord::Provenance(Provenance { controller, term, unix_ms, cause }));
        }
        self.records.extend(records);
        Ok(())
    }

    /// The image these records would make; the batch stays as it is.
    fn preview(&self, records: &[MetadataRecord]) -> Result<Arc<MetadataImage>, ControllerError> {
        let version = self.image.features.metadata_version();
        if records.iter().any(|record| record.min_metadata_version() > version) {
            return Err(ControllerError::UnsupportedVersion(format!(
                "metadata.version {version} does not have what this needs"
            )));
        }
        let applied = self.image.offset;
        let mut delta = MetadataDelta::new(self.image.clone());
        for record in records {
            delta.replay(MetadataOffset(applied.0 + 1), record).map_err(|why| {
                tracing::error!(%why, ?record, "refused to write a record that cannot be applied");
                ControllerError::Internal(why.to_string())
            })?;
        }
        Ok(Arc::new(MetadataImage { offset: applied, ..delta.apply() }))
    }
}

/// The decisions of one request on their own.
#[derive(Debug)]
pub struct Decision {
    /// For the log.
    pub records: Vec<MetadataRecord>,
    /// For the caller, once the records are committed and applied.
    pub response: Answer,
}

/// The controller of one node; it decides only while active.
pub struct Controller {
    config: ControllerConfig,
    cluster: ClusterControl,
    active_term: Option<u64>,
    random: StdRng,
    last_rebalance: Duration,
    last_relief: Duration,
}

impl Controller {
    /// A standby controller. The seed makes topic ids and placements; take it from the operating system.
    pub fn new(config: ControllerConfig, seed: [u8; 32]) -> Self {
        Self {
            cluster: ClusterControl::new(config.clone()),
            config,
            active_term: None,
            random: StdRng::from_seed(seed),
            last_rebalance: Duration::ZERO,
            last_relief: Duration::ZERO,
        }
    }

    /// The node leads the quorum in `term` and has applied that term's first entry: `image` holds it.
    pub fn activate(&mut self, term: u64, image: &MetadataImage, now: Duration) {
        tracing::info!(term, offset = %image.offset, "this node is the active controller");
        self.active_term = Some(term);
        self.last_rebalance = now;
        self.cluster.restart(image, now);
    }

    /// From `since` to `now` this node could not answer for want of its lease, and it leads in the same term still. What it has learned stays, and
    /// no session has grown older.
    pub fn stood_by(&mut self, since: Duration, now: Duration) {
        self.cluster.stood_by(since, now);
    }

    /// The node no longer leads.
    pub fn resign(&mut self) {
        if let Some(term) = self.active_term.take() {
            tracing::info!(term, "this node is no longer the active controller");
        }
        self.cluster.forget();
    }

    /// The term this controller decides in; `None` on standby.
    pub fn active_term(&self) -> Option<u64> {
        self.active_term
    }

    /// Notes that the connection a broker sends its heartbeats on has closed: its session no longer speaks against
    /// another process that registers under its id.
    pub fn heartbeat_connection_closed(&mut self, id: NodeId, epoch: BrokerEpoch) {
        self.cluster.connection_closed(id, epoch);
    }

    /// Notes soft evidence for the event log; nothing is decided by it.
    pub fn observed(&mut self, observations: &[Observation], now: Duration) {
        if self.active_term.is_some() {
            observations.iter().for_each(|observation| self.cluster.observations.note(*observation, now));
        }
    }

    /// Gives a batch that is complete the observations that are due along: all of them if it decides something, else those that
    /// have waited long enough.
    pub fn tell_observations(&mut self, batch: &mut Batch, now: Duration) {
        if batch.is_full() {
            return;
        }
        let due = self.cluster.observations.take(!batch.records.is_empty(), now);
        if !due.is_empty() {
            batch.preface(due);
        }
    }

    /// Decides one request on its own, for tests and simulations: nobody in particular does, and `now` is the only clock.
    pub fn decide(&mut self, applied: &Arc<MetadataImage>, request: &ControllerRequest, now: Duration) -> Decision {
        let unix_ms = i64::try_from(now.as_millis()).unwrap_or(i64::MAX);
        let author = Author { controller: NodeId::NONE, term: self.active_term.unwrap_or_default(), unix_ms };
        let mut batch = Batch::new(author, applied.clone());
        let response = self.handle(&mut batch, request, now);
        Decision { records: batch.into_records(), response }
    }

    /// Decides one request on top of the batch's earlier ones. A refusal adds no records.
    pub fn handle(&mut self, batch: &mut Batch, request: &ControllerRequest, now: Duration) -> Answer {
        if self.active_term.is_none() {
            return Err(ControllerError::NotController);
        }
        match request {
            ControllerRequest::Form(request) => form(batch, request, &self.config.first_configs),
            ControllerRequest::RegisterBroker(request) => self.cluster.register(batch, request, now),
            ControllerRequest::BrokerHeartbeat(request) => self.cluster.heartbeat(batch, request, now),
            ControllerRequest::UpdateDirectories(request) => self.cluster.update_directories(batch, request),
            ControllerRequest::UnregisterBroker { id } => self.cluster.unregister(batch, *id),
            ControllerRequest::FenceBroker { id, epoch, why } => {
                self.cluster.fence_on_evidence(batch, *id, *epoch, *why)
            }
            ControllerRequest::ExpireSessions => self.cluster.expire_sessions(batch, now),
            ControllerRequest::CreateTopics(request) => Ok(self.topics().create_topics(batch, request)),
            ControllerRequest::DeleteTopics { topics } => Ok(self.topics().delete_topics(batch, topics)),
            ControllerRequest::CreatePartitions(request) => Ok(self.topics().create_partitions(batch, request)),
            ControllerRequest::EnsureInternalTopic(request) => self.topics().ensure_internal_topic(batch, request),
            ControllerRequest::AlterPartition(request) => self.partitions().alter_partition(batch, request),
            ControllerRequest::ElectLeaders(request) => self.partitions().elect_leaders(batch, request),
            ControllerRequest::RebalanceLeaders => self.rebalance(batch, now),
            ControllerRequest::IncrementalAlterConfigs(request) => {
                Ok(ConfigControl { cluster: &self.cluster }.incremental_alter(batch, request))
            }
            ControllerRequest::AlterConfigs(request) => {
                Ok(ConfigControl { cluster: &self.cluster }.replace(batch, request))
            }
            ControllerRequest::AllocateProducerIds { broker, epoch } => {
                ProducerIdControl::allocate(batch, *broker, *epoch)
            }
        }
    }

    fn topics(&mut self) -> TopicControl<'_> {
        TopicControl { config: &self.config, cluster: &self.cluster, random: &mut self.random }
    }

    fn partitions(&self) -> PartitionControl<'_> {
        PartitionControl { cluster: &self.cluster }
    }

    fn rebalance(&mut self, batch: &mut Batch, now: Duration) -> Answer {
        // A disk that cannot take records does not wait for an operator's idea of balance.
        if now.saturating_sub(self.last_relief) >= RELIEF_INTERVAL {
            self.last_relief = now;
            self.cluster.relieve_impaired(batch)?;
        }
        let is_due = now.saturating_sub(self.last_rebalance) >= self.config.leader_rebalance_interval;
        if !self.config.leader_rebalance || !is_due {
            return Ok(ControllerResponse::Rebalanced(0));
        }
        self.last_rebalance = now;
        let limit = self.config.leader_rebalance_partitions_max as usize;
        self.partitions().rebalance_leaders(batch, limit, self.config.leader_imbalance_percent)
    }
}

fn form(batch: &mut Batch, request: &FormRequest, first_configs: &BTreeMap<String, String>) -> Answer {
    if let Some(ours) = batch.image().cluster.cluster_id() {
        return if ours == request.cluster_id {
            Ok(ControllerResponse::Done)
        } else {
            let (ours, theirs) = (ours.to_string(), request.cluster_id.to_string());
            Err(ControllerError::InconsistentClusterId { ours, theirs })
        };
    }
    let formation = crate::record::Formation { cluster_id: request.cluster_id, voters: request.voters.clone() };
    let level = MetadataVersion::LATEST.level();
    let mut records = vec![
        MetadataRecord::Formation(formation),
        MetadataRecord::FeatureLevel { name: METADATA_VERSION_FEATURE.into(), level },
    ];
    records.extend(first_configs.iter().map(|(name, value)| MetadataRecord::Config {
        resource: ConfigResource::cluster(),
        name: name.clone(),
        value: Some(value.clone()),
    }));
    batch.push(Cause::Formation, records)?;
    Ok(ControllerResponse::Done)
}

#[cfg(test)]
mod tests;
