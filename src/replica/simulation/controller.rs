//! The metadata log: the shipped controller decides, and each of its decisions is the next entry.

use super::world::PARTITION;
use crate::replica::isr_task::{Consequence, consequence};
use crate::replica::leader::{BrokerView, IsrProposal, PartitionState};
use crate::replica::replica_manager::{broker_views, partition_state};
use rookery_raft::controller::{
    AlterPartitionRequest, BrokerHeartbeatRequest, Controller as Decider, ControllerConfig, ControllerError,
    ControllerRequest, ControllerResponse, DiskSpace, FormRequest, IsrChange, RegisterBrokerRequest,
    UpdateDirectoriesRequest,
};
use rookery_raft::delta::MetadataDelta;
use rookery_raft::ids::{
    BrokerEpoch, ClusterId, DirectoryId, IncarnationId, LeaderEpoch, MetadataOffset, NodeId, PartitionEpoch,
};
use rookery_raft::image::MetadataImage;
use rookery_raft::record::{
    Address, Conviction, Directory, DirectoryState, FeatureRange, LeaderRecoveryState, Listener,
    METADATA_VERSION_FEATURE, MetadataRecord, MetadataVersion, PartitionRegistration, SecurityProtocol,
};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;
use uuid::Uuid;

pub const MIN_INSYNC: usize = 2;
const CLUSTER: ClusterId = ClusterId(Uuid::from_u128(3));

/// The metadata after one entry, as far as the partition is concerned.
#[derive(Debug, Clone)]
pub struct Entry {
    pub state: PartitionState,
    pub elr: BTreeSet<NodeId>,
    pub brokers: BTreeMap<NodeId, BrokerView>,
    offset: MetadataOffset,
}

pub struct Controller {
    pub log: Vec<Entry>,
    decider: Decider,
    image: Arc<MetadataImage>,
    now: Duration,
}

impl Controller {
    /// These brokers are registered and unfenced, and all replicas are in sync.
    pub fn new(nodes: &[NodeId]) -> Self {
        let mut decider = Decider::new(ControllerConfig::default(), [7; 32]);
        let image = MetadataImage::empty();
        decider.activate(1, &image, Duration::ZERO);
        let mut controller = Self { log: Vec::new(), decider, image, now: Duration::ZERO };
        let form = FormRequest { cluster_id: CLUSTER, voters: Vec::new() };
        controller.ask(ControllerRequest::Form(form)).expect("formed");
        // Their epochs are 1, 2, 3.
        let epochs: Vec<BrokerEpoch> =
            nodes.iter().map(|id| controller.register(*id, directory(*id, 0), DirectoryState::Online)).collect();
        for (id, epoch) in nodes.iter().zip(epochs) {
            controller.heartbeat_at(*id, epoch, controller.image.offset);
        }
        let registration = PartitionRegistration {
            replicas: nodes.iter().copied().collect(),
            directories: nodes.iter().map(|id| directory(*id, 0)).collect(),
            isr: nodes.iter().copied().collect(),
            elr: Default::default(),
            last_known_elr: Default::default(),
            recovery_state: LeaderRecoveryState::Recovered,
            leader: nodes[0],
            leader_epoch: LeaderEpoch(0),
            partition_epoch: PartitionEpoch(0),
            adding: Default::default(),
            removing: Default::default(),
        };
        controller.write(&[
            MetadataRecord::Topic { name: "topic".into(), id: PARTITION.topic_id },
            MetadataRecord::Partition { topic_id: PARTITION.topic_id, partition: 0, registration },
        ]);
        controller
    }

    pub fn at(&mut self, now: Duration) {
        self.now = now;
    }

    pub fn now(&self) -> &Entry {
        self.log.last().expect("there is a first entry")
    }

    fn ask(&mut self, request: ControllerRequest) -> Result<ControllerResponse, ControllerError> {
        let decision = self.decider.decide(&self.image, &request, self.now);
        self.write(&decision.records);
        decision.response
    }

    fn write(&mut self, records: &[MetadataRecord]) {
        if records.is_empty() {
            return;
        }
        let index = MetadataOffset(self.image.offset.0 + 1);
        let mut delta = MetadataDelta::new(self.image.clone());
        for record in records {
            delta.replay(index, record).expect("a decision can be applied");
        }
        self.image = Arc::new(delta.apply());
        if let Some(registration) = self.image.partition(PARTITION) {
            let state = partition_state(&self.image, PARTITION, registration);
            let brokers = broker_views(&self.image, &state);
            let elr = registration.elr.iter().copied().collect();
            self.log.push(Entry { state, elr, brokers, offset: index });
        }
    }

    /// Whether the last copy of something committed could be among what this broker would lose.
    pub fn can_spare(&self, id: NodeId) -> bool {
        let now = self.now();
        now.state.isr.union(&now.elr).any(|other| *other != id)
    }

    pub fn fence(&mut self, id: NodeId) {
        let epoch = self.now().brokers[&id].epoch;
        let why = Conviction::SilentAndPingsUnanswered;
        self.ask(ControllerRequest::FenceBroker { id, epoch, why }).expect("fenced, or not unfenced");
    }

    /// A heartbeat of a broker that has applied this many entries.
    pub fn heartbeat(&mut self, id: NodeId, epoch: BrokerEpoch, applied: usize) {
        let applied = applied.checked_sub(1).map_or(MetadataOffset(-1), |last| self.log[last].offset);
        self.heartbeat_at(id, epoch, applied);
    }

    fn heartbeat_at(&mut self, id: NodeId, epoch: BrokerEpoch, applied_offset: MetadataOffset) {
        // One of an earlier life is refused, which is as it should be.
        let _ = self.ask(ControllerRequest::BrokerHeartbeat(BrokerHeartbeatRequest {
            id,
            epoch,
            applied_offset,
            want_fence: false,
            want_shutdown: false,
            oldest_unfinished_commit: Duration::ZERO,
            disk_space: DiskSpace::Ample,
        }));
    }

    /// A new life of a broker.
    pub fn register(&mut self, id: NodeId, directory: DirectoryId, state: DirectoryState) -> BrokerEpoch {
        let request = RegisterBrokerRequest {
            cluster_id: CLUSTER,
            id,
            incarnation: IncarnationId::NONE,
            previous_epoch: BrokerEpoch::UNKNOWN,
            listeners: vec![Listener {
                name: "PLAINTEXT".into(),
                host: "h".into(),
                port: 1,
                security_protocol: SecurityProtocol::Plaintext,
            }],
            peer_address: Address { host: "h".into(), port: 1 },
            gossip_address: None,
            rack: None,
            features: BTreeMap::from([(METADATA_VERSION_FEATURE.to_owned(), supported())]),
            directories: vec![Directory { id: directory, state }],
            is_controller: false,
        };
        match self.ask(ControllerRequest::RegisterBroker(request)) {
            Ok(ControllerResponse::RegisterBroker { epoch }) => epoch,
            other => panic!("a registration ended with {other:?}"),
        }
    }

    /// A running broker's store went offline, or was opened anew.
    pub fn update_directory(&mut self, id: NodeId, epoch: BrokerEpoch, directory: DirectoryId, online: bool) {
        let state = if online { DirectoryState::Online } else { DirectoryState::Offline };
        let request = UpdateDirectoriesRequest {
            id,
            epoch,
            directories: vec![Directory { id: directory, state }],
            reopened: if online { vec![directory] } else { Vec::new() },
            lost: Vec::new(),
            renewed: Vec::new(),
        };
        // One of an earlier life is refused, which is as it should be.
        let _ = self.ask(ControllerRequest::UpdateDirectories(request));
    }

    /// `Err(true)`: refused, and the proposal is to be taken back. `Err(false)`: newer metadata decides.
    pub fn alter_partition(&mut self, from: NodeId, epoch: BrokerEpoch, proposal: &IsrProposal) -> Result<(), bool> {
        let change = IsrChange {
            partition: PARTITION,
            leader_epoch: proposal.leader_epoch,
            partition_epoch: proposal.partition_epoch,
            isr: proposal.isr.clone(),
            recovery_state: LeaderRecoveryState::Recovered,
        };
        let request = AlterPartitionRequest { broker: from, epoch, partitions: vec![change] };
        let result = match self.ask(ControllerRequest::AlterPartition(request)) {
            Ok(ControllerResponse::AlterPartition(mut results)) => results.remove(0).map(drop),
            Ok(other) => panic!("an ISR change was answered with {other:?}"),
            Err(error) => Err(error),
        };
        result.map_err(|error| consequence(&error) == Consequence::TakeBack)
    }
}

/// The `n`th disk of a broker.
pub fn directory(id: NodeId, n: u32) -> DirectoryId {
    DirectoryId(Uuid::from_u128(1000 * u128::from(n) + 10 + id.0.unsigned_abs() as u128))
}

fn supported() -> FeatureRange {
    FeatureRange { min: MetadataVersion::MINIMUM as i16, max: MetadataVersion::LATEST as i16 }
}
