//! What the controller is asked, and what it answers.
//!
//! Requests travel between nodes (any node forwards to the active controller) as MessagePack with field names
//! (`rmp_serde::to_vec_named`): a field added later carries `#[serde(default)]`, and an older node ignores it.

use super::ControllerError;
use crate::ids::{
    BrokerEpoch, ClusterId, DirectoryId, IncarnationId, LeaderEpoch, MetadataOffset, NodeId, PartitionEpoch,
    QuorumNodeId, TopicId, TopicIdPartition, TopicName, TopicPartition,
};
use crate::record::{
    Address, ConfigResource, Conviction, Directory, FeatureRange, LeaderRecoveryState, Listener, PartitionRegistration,
};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::time::Duration;

/// A request to the active controller.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum ControllerRequest {
    /// Writes the cluster's first records, once; a second one is answered and ignored. Only the node itself asks.
    Form(FormRequest),
    /// A broker registers.
    RegisterBroker(RegisterBrokerRequest),
    /// A broker says that it lives.
    BrokerHeartbeat(BrokerHeartbeatRequest),
    /// A broker's directories failed, came back, or were reopened.
    UpdateDirectories(UpdateDirectoriesRequest),
    /// Forgets a broker.
    UnregisterBroker {
        /// Which.
        id: NodeId,
    },
    /// The failure watcher's verdict.
    FenceBroker {
        /// Which.
        id: NodeId,
        /// In which life; a verdict on an earlier one is void.
        epoch: BrokerEpoch,
        /// On what grounds.
        why: Conviction,
    },
    /// Creates topics, each on its own.
    CreateTopics(CreateTopicsRequest),
    /// Deletes topics, each on its own.
    DeleteTopics {
        /// Which.
        topics: Vec<TopicRef>,
    },
    /// Adds partitions.
    CreatePartitions(CreatePartitionsRequest),
    /// Creates a topic of the cluster's own, unless it exists.
    EnsureInternalTopic(EnsureInternalTopicRequest),
    /// A leader changes ISRs.
    AlterPartition(AlterPartitionRequest),
    /// Elects leaders.
    ElectLeaders(ElectLeadersRequest),
    /// Sets, deletes, extends configs.
    IncrementalAlterConfigs(IncrementalAlterConfigsRequest),
    /// Replaces all configs of resources.
    AlterConfigs(AlterConfigsRequest),
    /// Reserves producer ids.
    AllocateProducerIds {
        /// For which broker.
        broker: NodeId,
        /// Its epoch.
        epoch: BrokerEpoch,
    },
    /// Fences every broker whose session ran out. Only the node itself asks, a few times per session timeout.
    ExpireSessions,
    /// Moves leadership of some partitions back to their preferred leaders. Only the node itself asks.
    RebalanceLeaders,
}

impl ControllerRequest {
    /// The broker that speaks for itself here: nobody else may send it. `None` for what any node may ask.
    pub fn speaker(&self) -> Option<NodeId> {
        use ControllerRequest::*;
        match self {
            RegisterBroker(request) => Some(request.id),
            BrokerHeartbeat(request) => Some(request.id),
            UpdateDirectories(request) => Some(request.id),
            AlterPartition(request) => Some(request.broker),
            AllocateProducerIds { broker, .. } => Some(*broker),
            Form(_)
            | UnregisterBroker { .. }
            | FenceBroker { .. }
            | CreateTopics(_)
            | DeleteTopics { .. }
            | CreatePartitions(_)
            | EnsureInternalTopic(_)
            | ElectLeaders(_)
            | IncrementalAlterConfigs(_)
            | AlterConfigs(_)
            | ExpireSessions
            | RebalanceLeaders => None,
        }
    }
}

/// An answer of the active controller.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum ControllerResponse {
    /// Done; there is nothing to say.
    Done,
    /// The broker is registered.
    RegisterBroker {
        /// Under this epoch.
        epoch: BrokerEpoch,
    },
    /// The heartbeat counts.
    BrokerHeartbeat(BrokerHeartbeatResponse),
    /// One result for each topic, in the order asked.
    CreateTopics(Vec<Result<TopicCreated, ControllerError>>),
    /// One result for each topic, in the order asked.
    DeleteTopics(Vec<Result<TopicDeleted, ControllerError>>),
    /// One result for each topic, in the order asked.
    CreatePartitions(Vec<Result<(), ControllerError>>),
    /// The topic exists.
    InternalTopic {
        /// Its id.
        id: TopicId,
    },
    /// One result for each partition, in the order asked: its registration after the change.
    AlterPartition(Vec<Result<PartitionRegistration, ControllerError>>),
    /// One result for each partition where anything was asked or done.
    ElectLeaders(Vec<(TopicPartition, Result<ElectedLeader, ControllerError>)>),
    /// One result for each resource, in the order asked.
    AlterConfigs(Vec<Result<(), ControllerError>>),
    /// A block of producer ids.
    ProducerIds {
        /// The first.
        first: i64,
        /// How many.
        count: i32,
    },
    /// These brokers were fenced.
    Fenced(Vec<NodeId>),
    /// So many partitions got their preferred leader.
    Rebalanced(u32),
}

/// See [`ControllerRequest::Form`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FormRequest {
    /// The cluster's id.
    pub cluster_id: ClusterId,
    /// Its first voters.
    pub voters: Vec<QuorumNodeId>,
}

/// See [`ControllerRequest::RegisterBroker`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RegisterBrokerRequest {
    /// The cluster the broker believes to belong to.
    pub cluster_id: ClusterId,
    /// Kafka's `node.id`.
    pub id: NodeId,
    /// Which start of the process.
    pub incarnation: IncarnationId,
    /// The epoch it had before; `UNKNOWN` if it does not know.
    pub previous_epoch: BrokerEpoch,
    /// Advertised listeners.
    pub listeners: Vec<Listener>,
    /// Where other nodes reach it.
    pub peer_address: Address,
    /// Where gossip reaches it.
    #[serde(default)]
    pub gossip_address: Option<Address>,
    /// Failure domain.
    #[serde(default)]
    pub rack: Option<String>,
    /// Supported features.
    #[serde(default)]
    pub features: BTreeMap<String, FeatureRange>,
    /// Every configured data directory.
    pub directories: Vec<Directory>,
    /// Whether the node is a controller too.
    #[serde(default)]
    pub is_controller: bool,
}

/// See [`ControllerRequest::BrokerHeartbeat`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BrokerHeartbeatRequest {
    /// Which broker.
    pub id: NodeId,
    /// Its epoch.
    pub epoch: BrokerEpoch,
    /// Up to where it has applied the metadata log.
    pub applied_offset: MetadataOffset,
    /// It wants to be (or stay) fenced.
    #[serde(default)]
    pub want_fence: bool,
    /// It wants to leave in order.
    #[serde(default)]
    pub want_shutdown: bool,
    /// For how long its disks have not finished the commit they are at, of records or of metadata; zero when there is none.
    #[serde(default)]
    pub oldest_unfinished_commit: Duration,
    /// How much room its data directory has.
    #[serde(default)]
    pub disk_space: DiskSpace,
}

/// How much room a broker's data directory has. Each level refuses what the one before does, and more.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum DiskSpace {
    /// Enough for everything.
    #[default]
    Ample,
    /// Below the soft watermark: clients' records are refused; what others have acknowledged is still replicated.
    Low,
    /// Below the hard watermark: what is left is for the metadata log, for internal topics, and for deleting.
    Reserve,
}

/// The state of a broker as its heartbeat found it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BrokerHeartbeatResponse {
    /// Whether it has applied its own registration.
    pub is_caught_up: bool,
    /// Whether it is fenced (after the decision this answer belongs to).
    pub is_fenced: bool,
    /// Whether it may end its process now.
    pub should_shut_down: bool,
}

/// See [`ControllerRequest::UpdateDirectories`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UpdateDirectoriesRequest {
    /// Which broker.
    pub id: NodeId,
    /// Its epoch.
    pub epoch: BrokerEpoch,
    /// All its directories, as they are now.
    pub directories: Vec<Directory>,
    /// Directories whose store was closed and opened again, or whose commit failed: their leaders need new epochs.
    #[serde(default)]
    pub reopened: Vec<DirectoryId>,
    /// Replicas in them whose log is damaged and was given up: they are lost, and nothing that they have said counts.
    #[serde(default)]
    pub lost: Vec<TopicIdPartition>,
    /// Replicas that were lost in this way and have begun an empty log: they may be copied to, and lead, again.
    #[serde(default)]
    pub renewed: Vec<TopicIdPartition>,
}

/// See [`ControllerRequest::CreateTopics`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CreateTopicsRequest {
    /// Which.
    pub topics: Vec<NewTopic>,
    /// Check and answer, but create nothing.
    #[serde(default)]
    pub validate_only: bool,
}

/// A topic to create.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewTopic {
    /// Its name.
    pub name: String,
    /// How many partitions; −1 for the default.
    pub partitions: i32,
    /// How many replicas; −1 for the default.
    pub replication_factor: i16,
    /// Which brokers, by partition; empty to let the controller choose.
    #[serde(default)]
    pub assignments: BTreeMap<i32, Vec<NodeId>>,
    /// Its configs.
    #[serde(default)]
    pub configs: BTreeMap<String, Option<String>>,
}

/// A topic was created (or could be).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TopicCreated {
    /// Its id; zero when only validated.
    pub id: TopicId,
    /// How many partitions.
    pub partitions: i32,
    /// How many replicas.
    pub replication_factor: i16,
}

/// A topic by name or by id.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum TopicRef {
    /// By name.
    Name(String),
    /// By id.
    Id(TopicId),
}

/// A topic was deleted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TopicDeleted {
    /// Its name.
    pub name: TopicName,
    /// Its id.
    pub id: TopicId,
}

/// See [`ControllerRequest::CreatePartitions`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CreatePartitionsRequest {
    /// Which.
    pub topics: Vec<NewPartitions>,
    /// Check and answer, but create nothing.
    #[serde(default)]
    pub validate_only: bool,
}

/// Partitions to add.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewPartitions {
    /// To which topic.
    pub topic: String,
    /// How many it shall have then.
    pub count: i32,
    /// Which brokers, one list for each new partition; empty to let the controller choose.
    #[serde(default)]
    pub assignments: Vec<Vec<NodeId>>,
}

/// See [`ControllerRequest::EnsureInternalTopic`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EnsureInternalTopicRequest {
    /// Its name, for instance `__consumer_offsets`.
    pub name: String,
    /// How many partitions.
    pub partitions: i32,
    /// How many replicas it shall have; fewer only when the whole cluster is smaller.
    pub replication_factor: i16,
    /// Its configs.
    #[serde(default)]
    pub configs: BTreeMap<String, Option<String>>,
}

/// See [`ControllerRequest::AlterPartition`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AlterPartitionRequest {
    /// The leader that asks.
    pub broker: NodeId,
    /// Its epoch.
    pub epoch: BrokerEpoch,
    /// What it asks.
    pub partitions: Vec<IsrChange>,
}

/// A new ISR for one partition.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IsrChange {
    /// Which partition.
    pub partition: TopicIdPartition,
    /// The leader's epoch.
    pub leader_epoch: LeaderEpoch,
    /// The partition epoch it knows.
    pub partition_epoch: PartitionEpoch,
    /// The ISR it asks for, with the broker epoch under which each member caught up (KIP-903).
    pub isr: Vec<(NodeId, BrokerEpoch)>,
    /// Whether it has recovered from an unclean election.
    #[serde(default)]
    pub recovery_state: LeaderRecoveryState,
}

/// See [`ControllerRequest::ElectLeaders`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ElectLeadersRequest {
    /// Which kind of election.
    pub election: ElectionRequest,
    /// Which partitions; `None` for all that need it.
    pub partitions: Option<Vec<TopicPartition>>,
}

/// The election an operator asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ElectionRequest {
    /// The first replica shall lead, if it is in sync.
    Preferred,
    /// Any available replica shall lead a partition that has no leader, at the price of committed records.
    Unclean,
}

/// An election's winner.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ElectedLeader {
    /// Who leads now.
    pub leader: NodeId,
    /// Whether it was outside ISR and ELR: committed records may be lost.
    pub unclean: bool,
}

/// See [`ControllerRequest::IncrementalAlterConfigs`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IncrementalAlterConfigsRequest {
    /// What to do, by resource.
    pub resources: Vec<(ConfigResource, Vec<ConfigChange>)>,
    /// Check and answer, but change nothing.
    #[serde(default)]
    pub validate_only: bool,
}

/// One change of one config.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConfigChange {
    /// Kafka's name.
    pub name: String,
    /// What to do.
    pub op: ConfigOp,
}

/// What to do to a config.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ConfigOp {
    /// Sets it.
    Set(String),
    /// Back to the default.
    Delete,
    /// Adds to a list.
    Append(String),
    /// Takes from a list.
    Subtract(String),
}

/// See [`ControllerRequest::AlterConfigs`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AlterConfigsRequest {
    /// The configs each resource shall have, and no others.
    pub resources: Vec<(ConfigResource, BTreeMap<String, String>)>,
    /// Check and answer, but change nothing.
    #[serde(default)]
    pub validate_only: bool,
}
