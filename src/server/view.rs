//! What the admin API shows of a node, at every stage of its start.

use crate::admin::why::{GroupScene, Scene};
use crate::admin::{
    BrokerSummary, ClusterView, ControllerSummary, GossipSummary, NodeActions, NodeView, PartitionSummary,
    PartitionTrouble, Problem, QuorumSummary, ReplaceVoter, TopicTrouble, VoterSummary,
};
use crate::broker::{
    BrokerState, LocalMetadata, Metadata, MetadataCell, QuorumAdmin, QuorumChangeError, Replaced, VoterState,
};
use crate::coordinator::ReplicaLog;
use crate::coordinator::group::GroupCoordinator;
use crate::gossip::MembershipView;
use crate::replica::ReplicaManager;
use crate::storage::disk_space::SpaceReading;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use metrics_exporter_prometheus::PrometheusHandle;
use rookery_protocol::error::ErrorCode;
use rookery_raft::ids::NodeId;
use rookery_raft::image::MetadataImage;
use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::sync::watch;

/// A disk that is at one commit for longer is told of: the controller moves leaderships about then.
const STALL_SHOWN: Duration = Duration::from_secs(1);

/// A node as it comes up: what is not there yet is empty.
pub struct View {
    pub node: NodeId,
    pub is_broker: bool,
    pub metadata: MetadataCell,
    pub admin: QuorumAdmin,
    pub broker: OnceLock<watch::Receiver<BrokerState>>,
    pub replicas: OnceLock<Arc<ReplicaManager>>,
    pub groups: OnceLock<Arc<GroupCoordinator<ReplicaLog>>>,
    pub gossip: OnceLock<watch::Receiver<Arc<MembershipView>>>,
    pub space: watch::Receiver<SpaceReading>,
    /// Why a store is not open yet, while it waits for something.
    pub obstacle: watch::Receiver<Option<String>>,
    pub prometheus: PrometheusHandle,
}

impl View {
    /// Where the node is in its life, in words.
    fn state(&self) -> String {
        let broker = self.broker.get().map(|state| *state.borrow());
        match (broker, self.metadata.get()) {
            (Some(state), _) => state.describe().to_owned(),
            (None, None) => "opening the metadata log".to_owned(),
            (None, Some(LocalMetadata::Voter { quorum, .. })) if self.metadata.cluster_id().is_none() => {
                quorum.formation().borrow().why.clone()
            }
            (None, Some(_)) if self.metadata.cluster_id().is_none() => "looking for the cluster".to_owned(),
            (None, Some(_)) if self.is_broker => "opening the data directory".to_owned(),
            (None, Some(_)) => "running".to_owned(),
        }
    }

    async fn quorum(&self) -> QuorumSummary {
        let voters = self.admin.voters().await;
        let has_majority = has_majority(&voters);
        let name = |state| match state {
            VoterState::Votes => "votes",
            VoterState::NoVote => "no vote",
            VoterState::Unreachable => "unreachable",
        };
        let voter_states =
            voters.into_iter().map(|(id, state)| VoterSummary { node_id: id.0, state: name(state) }).collect();
        // Whom a voter asks it may know from before it lost the majority.
        let in_sight = match self.metadata.get() {
            Some(LocalMetadata::Voter { quorum, .. }) if quorum.no_vote().is_none() => quorum.controller_in_sight(),
            _ => self.metadata.controller(),
        };
        let controller = in_sight.map(|id| ControllerSummary { node_id: id.0 });
        let applied_index = self.metadata.image().offset.0;
        match self.metadata.get() {
            Some(LocalMetadata::Voter { quorum, .. }) => {
                let leadership = quorum.leadership().borrow().clone();
                QuorumSummary {
                    controller,
                    term: leadership.term,
                    voters: leadership.voters.iter().map(|v| v.id.to_string()).collect(),
                    voter_states,
                    has_majority,
                    applied_index,
                }
            }
            _ => QuorumSummary { controller, applied_index, ..Default::default() },
        }
    }
}

impl NodeView for View {
    fn not_ready(&self) -> Vec<String> {
        let mut reasons = Vec::new();
        if let Some(LocalMetadata::Voter { quorum, .. }) = self.metadata.get()
            && let Some(failure) = quorum.failure()
        {
            reasons.push(format!(
                "the metadata log is offline, and this node has no part in the metadata quorum: {failure}"
            ));
        }
        if let Some(LocalMetadata::Voter { quorum, .. }) = self.metadata.get() {
            reasons.extend(quorum.no_vote());
            let stalled = quorum.disk_stall();
            if stalled > STALL_SHOWN && quorum.failure().is_none() {
                reasons.push(format!(
                    "the disk of the metadata log hangs: it has not answered for {stalled:.1?}; this node follows the other voters"
                ));
            }
        }
        if self.metadata.controller().is_none() {
            reasons.push("no active controller is known".to_owned());
        }
        let running = match self.broker.get() {
            Some(state) => *state.borrow() == BrokerState::Running,
            None => !self.is_broker && self.metadata.cluster_id().is_some(),
        };
        if !running {
            reasons.push(self.state());
        }
        reasons.extend(self.obstacle.borrow().clone());
        reasons.extend(self.space.borrow().trouble());
        if let Some(replicas) = self.replicas.get() {
            if let Some(failure) = &*replicas.store_failure().borrow() {
                reasons.push(format!("the data directory is offline: {failure}"));
            }
            let oldest = replicas.directory().store().oldest_unfinished_commit_age().unwrap_or_default();
            if oldest > STALL_SHOWN {
                reasons
                    .push(format!("the disk of the data directory hangs: a commit has not finished for {oldest:.1?}"));
            }
            let counts = replicas.counts();
            if counts.offline > 0 {
                reasons.push(format!("{} of {} replicas here are offline", counts.offline, counts.replicas));
            }
        }
        reasons
    }

    fn warnings(&self) -> Vec<String> {
        let Some(damage) = self.replicas.get().map(|replicas| replicas.damage()) else { return Vec::new() };
        let mut warnings = Vec::new();
        let mending = damage.batches - damage.nowhere_sound;
        if mending > 0 {
            warnings.push(format!("{mending} stored batches are damaged and being mended from other replicas"));
        }
        if let Some(example) = damage.example {
            warnings.push(format!(
                "{} stored batches are damaged and NO REPLICA HAS A SOUND COPY, first of all {example}",
                damage.nowhere_sound
            ));
        }
        let tables = self.replicas.get().map_or(0, |replicas| replicas.directory().store().damaged_tables());
        if tables > 0 {
            warnings.push(format!(
                "{tables} column families of the store have a damaged table: what is deleted there gives no space back; where other \
                 replicas have everything, stop this node, move the directory `log` in its data directory away and start it: all is \
                 copied anew"
            ));
        }
        if damage.given_up > 0 {
            warnings.push(format!("{} logs are damaged and given up: copied anew once others lead", damage.given_up));
        }
        warnings
    }

    fn scrub(&self) -> Option<serde_json::Value> {
        serde_json::to_value(self.replicas.get()?.scrub_status()).ok()
    }

    fn cluster(&self) -> BoxFuture<'_, ClusterView> {
        async move {
            let quorum = self.quorum().await;
            let image = self.metadata.image();
            let gossip = self.gossip.get().map(|view| view.borrow().clone());
            ClusterView {
                cluster_id: self.metadata.cluster_id().map(|id| id.to_string()),
                node_id: self.node.0,
                state: self.state(),
                quorum,
                brokers: brokers(&image),
                gossip: gossip
                    .iter()
                    .flat_map(|view| &view.members)
                    .map(|(id, m)| GossipSummary { node_id: id.0, state: m.liveness.as_str().to_owned() })
                    .collect(),
                partitions: partitions(&image),
            }
        }
        .boxed()
    }

    fn metrics(&self) -> String {
        self.prometheus.render()
    }

    fn image(&self) -> Arc<MetadataImage> {
        self.metadata.image()
    }

    fn scene(&self) -> BoxFuture<'_, Scene> {
        async move {
            let voters = self.admin.voters().await;
            let gossip = self.gossip.get().map(|view| view.borrow().clone());
            Scene {
                node: self.node,
                image: self.metadata.image(),
                controller: self.metadata.controller(),
                has_majority: has_majority(&voters),
                liveness: gossip.iter().flat_map(|view| &view.members).map(|(id, m)| (*id, m.liveness)).collect(),
            }
        }
        .boxed()
    }

    fn group_scene(&self, id: String) -> BoxFuture<'_, GroupScene> {
        async move {
            let described = match self.groups.get() {
                Some(groups) => groups.describe_groups(vec![id.into()]).await.pop(),
                None => None,
            };
            GroupScene { scene: self.scene().await, described }
        }
        .boxed()
    }
}

/// Whether most voters vote; `None` where they are not known.
fn has_majority(voters: &BTreeMap<NodeId, VoterState>) -> Option<bool> {
    let votes = voters.values().filter(|state| **state == VoterState::Votes).count();
    (!voters.is_empty()).then_some(votes * 2 > voters.len())
}

impl NodeActions for View {
    fn scrub_now(&self) -> Result<bool, Problem> {
        let replicas =
            self.replicas.get().ok_or_else(|| Problem::unavailable("no partition logs are open here".to_owned()))?;
        Ok(replicas.scrub_now())
    }

    fn replace_voter(&self, request: ReplaceVoter) -> BoxFuture<'static, Result<bool, Problem>> {
        let admin = self.admin.clone();
        async move {
            let replaced = admin.replace_voter(NodeId(request.node_id)).await;
            replaced.map(|replaced| replaced == Replaced::Done).map_err(|error| problem(&error))
        }
        .boxed()
    }

    fn transfer_controller(&self) -> BoxFuture<'static, Result<i32, Problem>> {
        let admin = self.admin.clone();
        async move { admin.transfer_controller().await.map(|node| node.0).map_err(|error| problem(&error)) }.boxed()
    }
}

fn problem(error: &QuorumChangeError) -> Problem {
    let detail = error.to_string();
    match error {
        QuorumChangeError::NoVoter(_) => Problem::not_found(detail).kafka(ErrorCode::VoterNotFound),
        QuorumChangeError::NoController(_) => Problem::unavailable(detail).kafka(ErrorCode::NotController),
        QuorumChangeError::Failed(_) => Problem::conflict(detail),
    }
}

fn brokers(image: &MetadataImage) -> Vec<BrokerSummary> {
    let mut counts: BTreeMap<NodeId, (usize, usize)> = BTreeMap::new();
    for (_, partition) in image.topics.partitions() {
        counts.entry(partition.leader).or_default().0 += 1;
        for replica in &partition.replicas {
            counts.entry(*replica).or_default().1 += 1;
        }
    }
    let summary = |broker: &rookery_raft::image::BrokerRegistration| {
        let (leads, replicas) = counts.get(&broker.id()).copied().unwrap_or_default();
        let record = &broker.record;
        BrokerSummary {
            node_id: broker.id().0,
            epoch: broker.epoch().0,
            fenced: broker.fenced,
            shutting_down: broker.shutting_down,
            listeners: record.listeners.iter().map(|l| format!("{}://{}:{}", l.name, l.host, l.port)).collect(),
            peer_address: record.peer_address.to_string(),
            rack: record.rack.clone(),
            leads,
            replicas,
        }
    };
    image.cluster.brokers().map(|b| summary(b)).collect()
}

fn partitions(image: &MetadataImage) -> PartitionSummary {
    let mut summary = PartitionSummary::default();
    let mut topics = Vec::new();
    for topic in image.topics.iter_by_name() {
        let mut trouble = TopicTrouble { topic: topic.name.to_string(), ..Default::default() };
        for (number, p) in topic.iter() {
            trouble.partitions += 1;
            let under_replicated = p.isr.len() < p.replicas.len();
            trouble.under_replicated += usize::from(under_replicated);
            trouble.under_min_isr += usize::from(p.isr.len() < image.min_isr(&topic.name, p.replicas.len()));
            trouble.offline += usize::from(!p.has_leader());
            if (under_replicated || !p.has_leader()) && summary.in_trouble.len() < PartitionSummary::LISTED_MAX {
                let numbers = |ids: &[NodeId]| ids.iter().map(|id| id.0).collect();
                summary.in_trouble.push(PartitionTrouble {
                    topic: topic.name.to_string(),
                    partition: number,
                    leader: p.has_leader().then_some(p.leader.0),
                    replicas: numbers(&p.replicas),
                    isr: numbers(&p.isr),
                });
            }
        }
        summary.total += trouble.partitions;
        summary.under_replicated += trouble.under_replicated;
        summary.under_min_isr += trouble.under_min_isr;
        summary.offline += trouble.offline;
        if trouble.under_replicated + trouble.offline > 0 {
            topics.push(trouble);
        }
    }
    summary.topics_in_trouble = topics.len();
    topics.sort_by_key(|t| Reverse((t.offline, t.under_min_isr, t.under_replicated)));
    topics.truncate(PartitionSummary::LISTED_MAX);
    summary.worst_topics = topics;
    summary
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kafkas_name_of_an_error_was_never_told() {
        let name = |error: QuorumChangeError| problem(&error).kafka_error;
        assert_eq!(name(QuorumChangeError::NoVoter(NodeId(9))), Some("VOTER_NOT_FOUND"));
        assert_eq!(name(QuorumChangeError::NoController("none is known".into())), Some("NOT_CONTROLLER"));
        assert_eq!(name(QuorumChangeError::Failed("it does not catch up".into())), None);
    }
}
