//! What `GET /admin/v1/cluster` answers. Field names are part of the API.

use serde::{Deserialize, Serialize};

/// The cluster as one node sees it.
#[derive(Debug, Clone, Default, Serialize)]
pub struct ClusterView {
    /// 22 characters of base64; absent before the first formation.
    pub cluster_id: Option<String>,
    /// Who answers.
    pub node_id: i32,
    /// Where this node is in its life, in words: `waiting for voters`, `running`, `fenced` …
    pub state: String,
    /// The metadata quorum.
    pub quorum: QuorumSummary,
    /// Every registered broker.
    pub brokers: Vec<BrokerSummary>,
    /// What gossip says of every node it knows; empty where gossip is off.
    pub gossip: Vec<GossipSummary>,
    /// How the partitions are.
    pub partitions: PartitionSummary,
}

/// The metadata quorum as one node sees it.
#[derive(Debug, Clone, Default, Serialize)]
pub struct QuorumSummary {
    /// The active controller, if this node knows one.
    pub controller: Option<ControllerSummary>,
    /// Raft's term.
    pub term: u64,
    /// Every voter, `node@directory`.
    pub voters: Vec<String>,
    /// How each of them answers now; empty on a broker without a vote, which does not know them.
    pub voter_states: Vec<VoterSummary>,
    /// Whether more than half of the voters answer: without them no metadata changes. Absent where they are not known.
    pub has_majority: Option<bool>,
    /// Index of the last metadata record applied here.
    pub applied_index: i64,
}

/// The active controller.
#[derive(Debug, Clone, Serialize)]
pub struct ControllerSummary {
    /// Its node.
    pub node_id: i32,
}

/// One voter.
#[derive(Debug, Clone, Serialize)]
pub struct VoterSummary {
    /// Its node.
    pub node_id: i32,
    /// `votes`; `no vote`: its disk was replaced, and it waits to be taken in; or `unreachable`.
    pub state: &'static str,
}

/// One registered broker.
#[derive(Debug, Clone, Serialize)]
pub struct BrokerSummary {
    /// Its node.
    pub node_id: i32,
    /// The epoch of its registration.
    pub epoch: i64,
    /// It leads nothing and is in no ISR.
    pub fenced: bool,
    /// It is leaving.
    pub shutting_down: bool,
    /// `NAME://HOST:PORT` for each listener.
    pub listeners: Vec<String>,
    /// Where other nodes reach it.
    pub peer_address: String,
    /// For replica placement.
    pub rack: Option<String>,
    /// Partitions it leads.
    pub leads: usize,
    /// Replicas it holds.
    pub replicas: usize,
}

/// One node as gossip sees it.
#[derive(Debug, Clone, Serialize)]
pub struct GossipSummary {
    /// Its node.
    pub node_id: i32,
    /// `alive`, `suspect`, `down` or `leaving`.
    pub state: String,
}

/// How the partitions are.
#[derive(Debug, Clone, Default, Serialize)]
pub struct PartitionSummary {
    /// All partitions of all topics.
    pub total: usize,
    /// Partitions whose ISR is smaller than their replicas.
    pub under_replicated: usize,
    /// Partitions whose ISR is smaller than min.insync.replicas: acks=all is refused.
    pub under_min_isr: usize,
    /// Partitions without leader.
    pub offline: usize,
    /// The first of them that are under-replicated or offline, at most [`PartitionSummary::LISTED_MAX`].
    pub in_trouble: Vec<PartitionTrouble>,
    /// How many topics have such partitions.
    pub topics_in_trouble: usize,
    /// The worst of these topics first, at most [`PartitionSummary::LISTED_MAX`].
    pub worst_topics: Vec<TopicTrouble>,
}

impl PartitionSummary {
    /// A cluster in trouble must still fit an answer.
    pub const LISTED_MAX: usize = 1000;
}

/// A topic with partitions that are not as they should be.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct TopicTrouble {
    /// Its name.
    pub topic: String,
    /// Its partitions.
    pub partitions: usize,
    /// Those without leader.
    pub offline: usize,
    /// Those whose ISR is smaller than min.insync.replicas.
    pub under_min_isr: usize,
    /// Those whose ISR is smaller than their replicas.
    pub under_replicated: usize,
}

/// A partition that is not as it should be.
#[derive(Debug, Clone, Serialize)]
pub struct PartitionTrouble {
    /// Its topic.
    pub topic: String,
    /// Its number.
    pub partition: i32,
    /// Its leader, if it has one.
    pub leader: Option<i32>,
    /// Where it should be.
    pub replicas: Vec<i32>,
    /// Where it is in sync.
    pub isr: Vec<i32>,
}

/// Take a wiped voter back: its old identity leaves the quorum and its new one joins, in one change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReplaceVoter {
    /// Whose disk was wiped.
    pub node_id: i32,
}
