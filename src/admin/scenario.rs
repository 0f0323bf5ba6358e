//! A cluster for tests: a controller that decides alone, and what it leaves in the image. Its clock stands at the time of each request.

use super::why::Scene;
use crate::gossip::Liveness;
use rookery_raft::controller::{
    AlterPartitionRequest, BrokerHeartbeatRequest, Controller, ControllerConfig, ControllerRequest, ControllerResponse,
    CreateTopicsRequest, DiskSpace, ElectLeadersRequest, ElectionRequest, FormRequest, IsrChange, NewTopic,
    RegisterBrokerRequest,
};
use rookery_raft::delta::MetadataDelta;
use rookery_raft::ids::{
    BrokerEpoch, ClusterId, DirectoryId, IncarnationId, MetadataOffset, NodeId, QuorumNodeId, TopicIdPartition,
};
use rookery_raft::image::MetadataImage;
use rookery_raft::record::{
    Address, Conviction, Directory, DirectoryState, FeatureRange, LeaderRecoveryState, Listener,
    METADATA_VERSION_FEATURE, MetadataRecord, SecurityProtocol,
};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use uuid::Uuid;

pub(super) struct Scenario {
    controller: Controller,
    pub(super) image: Arc<MetadataImage>,
    pub(super) now: Duration,
    epochs: BTreeMap<NodeId, BrokerEpoch>,
}

const CLUSTER: ClusterId = ClusterId(Uuid::from_u128(42));

fn directory(id: i32, state: DirectoryState) -> Directory {
    Directory { id: DirectoryId(Uuid::from_u128(1000 + id as u128)), state }
}

impl Scenario {
    /// These brokers, from 1, in service. It is 12:00:00 on the first day of 1970 then.
    pub(super) fn with_brokers(brokers: i32) -> Self {
        let now = Duration::from_secs(12 * 3600);
        let mut scenario = Self {
            controller: Controller::new(ControllerConfig::default(), [7; 32]),
            image: MetadataImage::empty(),
            now,
            epochs: BTreeMap::new(),
        };
        scenario.controller.activate(1, &scenario.image, now);
        let voter = |id| QuorumNodeId { node_id: NodeId(id), directory_id: DirectoryId::NONE };
        let voters = (1..=brokers).map(voter).collect();
        scenario.ask(ControllerRequest::Form(FormRequest { cluster_id: CLUSTER, voters }));
        (1..=brokers).for_each(|id| scenario.start(id));
        scenario
    }

    pub(super) fn ask(&mut self, request: ControllerRequest) -> ControllerResponse {
        let decision = self.controller.decide(&self.image, &request, self.now);
        self.replay(&decision.records);
        decision.response.unwrap()
    }

    pub(super) fn replay(&mut self, records: &[MetadataRecord]) {
        if records.is_empty() {
            return;
        }
        let index = MetadataOffset(self.image.offset.0 + 1);
        let mut delta = MetadataDelta::new(self.image.clone());
        records.iter().for_each(|record| delta.replay(index, record).unwrap());
        self.image = Arc::new(delta.apply());
    }

    pub(super) fn register(&mut self, id: i32, state: DirectoryState) {
        if let Some(epoch) = self.epochs.get(&NodeId(id)) {
            self.controller.heartbeat_connection_closed(NodeId(id), *epoch);
        }
        let request = RegisterBrokerRequest {
            cluster_id: CLUSTER,
            id: NodeId(id),
            incarnation: IncarnationId(Uuid::from_u128(self.image.offset.0 as u128 + 2)),
            previous_epoch: BrokerEpoch::UNKNOWN,
            listeners: vec![Listener {
                name: "PLAINTEXT".into(),
                host: "localhost".into(),
                port: 9092,
                security_protocol: SecurityProtocol::Plaintext,
            }],
            peer_address: Address { host: format!("node{id}"), port: 9192 },
            gossip_address: None,
            rack: None,
            features: BTreeMap::from([(METADATA_VERSION_FEATURE.to_owned(), FeatureRange { min: 1, max: 1 })]),
            directories: vec![directory(id, state)],
            is_controller: true,
        };
        let ControllerResponse::RegisterBroker { epoch } = self.ask(ControllerRequest::RegisterBroker(request)) else {
            panic!("registered")
        };
        self.epochs.insert(NodeId(id), epoch);
    }

    pub(super) fn start(&mut self, id: i32) {
        self.register(id, DirectoryState::Online);
        self.beat(id, false);
    }

    pub(super) fn beat(&mut self, id: i32, want_shutdown: bool) {
        self.ask(ControllerRequest::BrokerHeartbeat(BrokerHeartbeatRequest {
            id: NodeId(id),
            epoch: self.epochs[&NodeId(id)],
            applied_offset: self.image.offset,
            want_fence: false,
            want_shutdown,
            oldest_unfinished_commit: Duration::ZERO,
            disk_space: DiskSpace::Ample,
        }));
    }

    pub(super) fn kill(&mut self, id: i32) {
        let (id, epoch) = (NodeId(id), self.epochs[&NodeId(id)]);
        let why = Conviction::ConnectionClosedAndRefused;
        self.ask(ControllerRequest::FenceBroker { id, epoch, why });
    }

    /// A topic of one partition on these brokers.
    pub(super) fn create(&mut self, name: &str, replicas: &[i32]) {
        let assignment = replicas.iter().copied().map(NodeId).collect();
        let topic = NewTopic {
            name: name.into(),
            partitions: -1,
            replication_factor: -1,
            assignments: BTreeMap::from([(0, assignment)]),
            configs: BTreeMap::new(),
        };
        self.ask(ControllerRequest::CreateTopics(CreateTopicsRequest { topics: vec![topic], validate_only: false }));
    }

    /// The leader asks for this ISR.
    pub(super) fn alter_isr(&mut self, topic: &str, isr: &[i32]) {
        let topic = self.image.topics.by_name(topic).unwrap();
        let p = topic.partitions[0].clone();
        let change = IsrChange {
            partition: TopicIdPartition { topic_id: topic.id, partition: 0 },
            leader_epoch: p.leader_epoch,
            partition_epoch: p.partition_epoch,
            isr: isr.iter().map(|id| (NodeId(*id), self.epochs[&NodeId(*id)])).collect(),
            recovery_state: LeaderRecoveryState::Recovered,
        };
        let (broker, epoch) = (p.leader, self.epochs[&p.leader]);
        self.ask(ControllerRequest::AlterPartition(AlterPartitionRequest { broker, epoch, partitions: vec![change] }));
    }

    pub(super) fn elect_uncleanly(&mut self) {
        let election = ElectionRequest::Unclean;
        self.ask(ControllerRequest::ElectLeaders(ElectLeadersRequest { election, partitions: None }));
    }

    /// As node 1 sees it.
    pub(super) fn scene(&self, liveness: &[(i32, Liveness)]) -> Scene {
        Scene {
            node: NodeId(1),
            image: self.image.clone(),
            controller: Some(NodeId(1)),
            has_majority: Some(true),
            liveness: liveness.iter().map(|(id, liveness)| (NodeId(*id), *liveness)).collect(),
        }
    }
}
