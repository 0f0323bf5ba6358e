//! Decisions one by one, and random histories that must keep the invariants.

mod events;
mod histories;

use super::*;
use crate::ids::{
    ClusterId, DirectoryId, IncarnationId, LeaderEpoch, NodeId, QuorumNodeId, TopicIdPartition, TopicPartition,
};
use crate::image::config_def::{MIN_INSYNC_REPLICAS, UNCLEAN_LEADER_ELECTION_ENABLE};
use crate::record::{
    Address, ConfigResource, Conviction, Directory, DirectoryState, FeatureRange, LeaderRecoveryState, Listener,
    PartitionRegistration, ReplicaList, SecurityProtocol,
};
use std::collections::BTreeMap;
use uuid::Uuid;

fn directory(id: i32, n: u8) -> DirectoryId {
    DirectoryId(Uuid::from_u128(1000 + id as u128 * 10 + u128::from(n)))
}

fn list(ids: &[i32]) -> ReplicaList {
    ids.iter().copied().map(NodeId).collect()
}

/// One controller, its log, and the brokers as they remember themselves.
struct Cluster {
    controller: Controller,
    image: Arc<MetadataImage>,
    now: Duration,
    epochs: BTreeMap<NodeId, BrokerEpoch>,
    lives: u128,
    /// Every entry so far, for replay.
    log: Vec<Vec<MetadataRecord>>,
}

impl Cluster {
    fn formed(voters: i32) -> Self {
        Self::formed_with(ControllerConfig::default(), voters)
    }

    fn formed_with(config: ControllerConfig, voters: i32) -> Self {
        let mut cluster = Self {
            controller: Controller::new(config, [7; 32]),
            image: MetadataImage::empty(),
            now: Duration::ZERO,
            epochs: BTreeMap::new(),
            lives: 0,
            log: Vec::new(),
        };
        cluster.controller.activate(1, &cluster.image, cluster.now);
        let voters =
            (1..=voters).map(|id| QuorumNodeId { node_id: NodeId(id), directory_id: directory(id, 9) }).collect();
        cluster.ask(ControllerRequest::Form(FormRequest { cluster_id: cluster_id(), voters })).expect("formed");
        cluster
    }

    /// `brokers` voters, all registered and unfenced.
    fn with_brokers(brokers: i32) -> Self {
        let mut cluster = Self::formed(brokers);
        for id in 1..=brokers {
            cluster.start(id);
        }
        cluster
    }

    fn ask(&mut self, request: ControllerRequest) -> Answer {
        let decision = self.controller.decide(&self.image, &request, self.now);
        self.commit(decision.records);
        decision.response
    }

    fn commit(&mut self, records: Vec<MetadataRecord>) {
        if records.is_empty() {
            return;
        }
        let index = MetadataOffset(self.image.offset.0 + 1);
        let mut delta = MetadataDelta::new(self.image.clone());
        for record in &records {
            delta.replay(index, record).expect("a decision can be applied");
        }
        self.image = Arc::new(delta.apply());
        self.log.push(records);
    }

    fn registration(&mut self, id: i32, directories: &[(DirectoryId, DirectoryState)]) -> RegisterBrokerRequest {
        self.lives += 1;
        RegisterBrokerRequest {
            cluster_id: cluster_id(),
            id: NodeId(id),
            incarnation: IncarnationId(Uuid::from_u128(self.lives)),
            previous_epoch: BrokerEpoch::UNKNOWN,
            listeners: vec![Listener {
                name: "PLAINTEXT".into(),
                host: "localhost".into(),
                port: 9092,
                security_protocol: SecurityProtocol::Plaintext,
            }],
            peer_address: Address { host: "localhost".into(), port: 9192 },
            gossip_address: None,
            rack: None,
            features: BTreeMap::from([(METADATA_VERSION_FEATURE.to_owned(), FeatureRange { min: 1, max: 1 })]),
            directories: directories.iter().map(|(id, state)| Directory { id: *id, state: *state }).collect(),
            is_controller: true,
        }
    }

    fn register(&mut self, id: i32, directories: &[(DirectoryId, DirectoryState)]) -> Answer {
        let request = self.registration(id, directories);
        let answer = self.ask(ControllerRequest::RegisterBroker(request));
        if let Ok(ControllerResponse::RegisterBroker { epoch }) = answer {
            self.epochs.insert(NodeId(id), epoch);
        }
        answer
    }

    fn start(&mut self, id: i32) {
        self.register(id, &[(directory(id, 0), DirectoryState::Online)]).expect("registered");
        self.heartbeat(id);
    }

    fn beat(&mut self, id: i32, edit: impl FnOnce(&mut BrokerHeartbeatRequest)) -> Answer {
        let mut request = BrokerHeartbeatRequest {
            id: NodeId(id),
            epoch: self.epochs[&NodeId(id)],
            applied_offset: self.image.offset,
            want_fence: false,
            want_shutdown: false,
            oldest_unfinished_commit: Duration::ZERO,
            disk_space: DiskSpace::Ample,
        };
        edit(&mut request);
        self.ask(ControllerRequest::BrokerHeartbeat(request))
    }

    fn heartbeat(&mut self, id: i32) {
        self.beat(id, |_| {}).expect("heartbeat");
    }

    fn fence(&mut self, id: i32) {
        let request = ControllerRequest::FenceBroker {
            id: NodeId(id),
            epoch: self.epochs[&NodeId(id)],
            why: Conviction::ConnectionClosedAndRefused,
        };
        self.ask(request).expect("fenced");
    }

    fn create(&mut self, topic: NewTopic) -> Result<TopicCreated, ControllerError> {
        let request = CreateTopicsRequest { topics: vec![topic], validate_only: false };
        match self.ask(ControllerRequest::CreateTopics(request)) {
            Ok(ControllerResponse::CreateTopics(mut results)) => results.remove(0),
            other => panic!("{other:?}"),
        }
    }

    /// A topic of one partition on these brokers.
    fn create_on(&mut self, name: &str, replicas: &[i32]) -> TopicIdPartition {
        let topic = NewTopic {
            name: name.into(),
            partitions: -1,
            replication_factor: -1,
            assignments: BTreeMap::from([(0, replicas.iter().copied().map(NodeId).collect())]),
            configs: BTreeMap::new(),
        };
        TopicIdPartition { topic_id: self.create(topic).expect("created").id, partition: 0 }
    }

    fn partition(&self, id: TopicIdPartition) -> PartitionRegistration {
        self.image.partition(id).expect("it exists").as_ref().clone()
    }

    fn alter_isr(&mut self, id: TopicIdPartition, isr: &[i32]) -> Result<PartitionRegistration, ControllerError> {
        let partition = self.partition(id);
        let change = IsrChange {
            partition: id,
            leader_epoch: partition.leader_epoch,
            partition_epoch: partition.partition_epoch,
            isr: isr.iter().map(|r| (NodeId(*r), self.epochs[&NodeId(*r)])).collect(),
            recovery_state: LeaderRecoveryState::Recovered,
        };
        self.alter(partition.leader, change)
    }

    fn alter(&mut self, leader: NodeId, change: IsrChange) -> Result<PartitionRegistration, ControllerError> {
        let epoch = self.epochs[&leader];
        let request = AlterPartitionRequest { broker: leader, epoch, partitions: vec![change] };
        match self.ask(ControllerRequest::AlterPartition(request))? {
            ControllerResponse::AlterPartition(mut results) => results.remove(0),
            other => panic!("{other:?}"),
        }
    }

    fn set_config(&mut self, resource: ConfigResource, name: &str, op: ConfigOp) -> Result<(), ControllerError> {
        let changes = vec![ConfigChange { name: name.into(), op }];
        let request = IncrementalAlterConfigsRequest { resources: vec![(resource, changes)], validate_only: false };
        match self.ask(ControllerRequest::IncrementalAlterConfigs(request)) {
            Ok(ControllerResponse::AlterConfigs(mut results)) => results.remove(0),
            other => panic!("{other:?}"),
        }
    }
}

fn cluster_id() -> ClusterId {
    ClusterId(Uuid::from_u128(42))
}

fn named(name: &str, partitions: i32, replication_factor: i16) -> NewTopic {
    NewTopic { name: name.into(), partitions, replication_factor, ..NewTopic::default() }
}

#[test]
fn a_standby_controller_decides_nothing() {
    let mut controller = Controller::new(ControllerConfig::default(), [0; 32]);
    let decision = controller.decide(&MetadataImage::empty(), &ControllerRequest::ExpireSessions, Duration::ZERO);
    assert_eq!(decision.response, Err(ControllerError::NotController));
    assert!(decision.records.is_empty());
}

#[test]
fn requests_survive_the_way_between_nodes() {
    let mut cluster = Cluster::formed(1);
    let request = cluster.registration(1, &[(directory(1, 0), DirectoryState::LogLost)]);
    let request = ControllerRequest::RegisterBroker(request);
    let bytes = rmp_serde::to_vec_named(&request).expect("encodes");
    assert_eq!(rmp_serde::from_slice::<ControllerRequest>(&bytes).expect("decodes"), request);
    let answer: Answer =
        Err(ControllerError::StaleBrokerEpoch { id: NodeId(1), current: BrokerEpoch(3), given: BrokerEpoch(2) });
    let bytes = rmp_serde::to_vec_named(&answer).expect("encodes");
    assert_eq!(rmp_serde::from_slice::<Answer>(&bytes).expect("decodes"), answer);
}

// ---- registration ----

#[test]
fn a_registration_takes_leaderships_of_the_earlier_life_even_of_a_sole_replica() {
    let mut cluster = Cluster::with_brokers(1);
    let id = cluster.create_on("t", &[1]);
    assert_eq!(cluster.partition(id).leader, NodeId(1));
    cluster.controller.heartbeat_connection_closed(NodeId(1), cluster.epochs[&NodeId(1)]);
    // Never fenced in between: the process was killed and is back at once.
    cluster.register(1, &[(directory(1, 0), DirectoryState::Online)]).expect("registered");
    let after = cluster.partition(id);
    assert_eq!((after.leader, after.leader_epoch), (NodeId::NONE, LeaderEpoch(1)));
    assert_eq!((&after.isr, &after.elr), (&list(&[]), &list(&[1])));
    cluster.heartbeat(1);
    let led = cluster.partition(id);
    assert_eq!((led.leader, led.leader_epoch, &led.isr), (NodeId(1), LeaderEpoch(2), &list(&[1])));
}

#[test]
fn a_log_that_was_lost_counts_no_longer() {
    let mut cluster = Cluster::with_brokers(3);
    let id = cluster.create_on("t", &[1, 2, 3]);
    for broker in [1, 2, 3] {
        cluster.fence(broker);
    }
    assert_eq!(cluster.partition(id).elr.len() + cluster.partition(id).isr.len(), 2);
    for broker in [2, 3] {
        cluster.register(broker, &[(directory(broker, 0), DirectoryState::LogLost)]).expect("registered");
        cluster.heartbeat(broker);
    }
    let after = cluster.partition(id);
    assert_eq!((after.leader, &after.isr, &after.elr), (NodeId::NONE, &list(&[]), &list(&[])));
    // Broker 1 was out before the last commit; it must not lead by itself either.
    cluster.start(1);
    assert_eq!(cluster.partition(id).leader, NodeId::NONE);
    let request = ElectLeadersRequest { election: ElectionRequest::Unclean, partitions: None };
    match cluster.ask(ControllerRequest::ElectLeaders(request)) {
        Ok(ControllerResponse::ElectLeaders(results)) => {
            let elected = results[0].1.as_ref().expect("somebody leads");
            assert!(elected.unclean);
            assert!([2, 3].contains(&elected.leader.0), "who once held everything goes first");
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_wiped_directory_is_never_taken_for_an_empty_one() {
    let mut cluster = Cluster::with_brokers(3);
    let id = cluster.create_on("t", &[1, 2, 3]);
    cluster.fence(1);
    cluster.fence(2);
    assert_eq!((cluster.partition(id).isr, cluster.partition(id).elr), (list(&[3]), list(&[2])));
    cluster.register(2, &[(directory(2, 5), DirectoryState::Online)]).expect("registered");
    cluster.heartbeat(2);
    let after = cluster.partition(id);
    assert_eq!((&after.isr, &after.elr), (&list(&[3]), &list(&[])));
    assert_eq!(after.last_known_elr, list(&[1, 2]), "who has something, if it ever comes to an unclean election");
    assert_eq!(after.directory_of(NodeId(2)), Some(directory(2, 5)), "it can catch up there");
    cluster.alter_isr(id, &[3, 2]).expect("it caught up");
}

#[test]
fn an_offline_directory_keeps_its_place_and_leads_again_when_it_is_back() {
    let mut cluster = Cluster::with_brokers(1);
    let id = cluster.create_on("t", &[1]);
    let epoch = cluster.epochs[&NodeId(1)];
    let mut update = |state, reopened: Vec<DirectoryId>| {
        let directories = vec![Directory { id: directory(1, 0), state }];
        let request =
            UpdateDirectoriesRequest { id: NodeId(1), epoch, directories, reopened, lost: vec![], renewed: vec![] };
        cluster.ask(ControllerRequest::UpdateDirectories(request)).expect("updated");
        cluster.partition(id)
    };
    let full = update(DirectoryState::Offline, vec![]);
    assert_eq!((full.leader, &full.elr), (NodeId::NONE, &list(&[1])));
    let back = update(DirectoryState::Online, vec![directory(1, 0)]);
    assert_eq!((back.leader, back.leader_epoch), (NodeId(1), LeaderEpoch(2)));
    let reopened = update(DirectoryState::Online, vec![directory(1, 0)]);
    assert_eq!((reopened.leader, reopened.leader_epoch), (NodeId(1), LeaderEpoch(3)), "one open, one epoch");
}

#[test]
fn a_replica_that_gave_its_log_up_is_lost_and_its_partition_gets_a_new_epoch() {
    let mut cluster = Cluster::with_brokers(3);
    let ids = [cluster.create_on("t", &[1, 2, 3]), cluster.create_on("u", &[1, 2])];
    let mut lose = |broker: i32, lost: &[TopicIdPartition]| {
        let directories = vec![Directory { id: directory(broker, 0), state: DirectoryState::Online }];
        let epoch = cluster.epochs[&NodeId(broker)];
        let lost = lost.to_vec();
        let request = UpdateDirectoriesRequest {
            id: NodeId(broker),
            epoch,
            directories,
            reopened: vec![],
            lost,
            renewed: vec![],
        };
        cluster.ask(ControllerRequest::UpdateDirectories(request)).expect("updated");
        (cluster.partition(ids[0]), cluster.partition(ids[1]))
    };
    let (follower, untouched) = lose(2, &[ids[0], ids[0]]);
    assert_eq!((follower.leader, &follower.isr), (NodeId(1), &list(&[1, 3])));
    assert_eq!(follower.leader_epoch, LeaderEpoch(1), "the leader forgets what it has heard");
    assert_eq!((untouched.isr, untouched.leader_epoch), (list(&[1, 2]), LeaderEpoch(0)));
    let (again, _) = lose(2, &[ids[0]]);
    assert_eq!((again.isr, again.leader_epoch), (list(&[1, 3]), LeaderEpoch(2)), "also where it is in no set");
    let (leader, _) = lose(1, &[ids[0]]);
    assert_eq!((leader.leader, &leader.isr, &leader.elr), (NodeId(3), &list(&[3]), &list(&[])));
    let (stranger, _) = lose(2, &[TopicIdPartition { topic_id: ids[0].topic_id, partition: 9 }]);
    assert_eq!(stranger, leader);
}

/// It said so again at once, was out of office, and was elected again: two thousand leader epochs in a minute.
#[test]
fn an_unclean_election_took_a_replica_that_had_given_its_log_up() {
    let mut cluster = Cluster::with_brokers(3);
    let id = cluster.create_on("t", &[1, 2, 3]);
    let tell = |cluster: &mut Cluster, lost: Vec<_>, renewed: Vec<_>| {
        let directories = vec![Directory { id: directory(1, 0), state: DirectoryState::Online }];
        let (id, epoch) = (NodeId(1), cluster.epochs[&NodeId(1)]);
        let request = UpdateDirectoriesRequest { id, epoch, directories, reopened: vec![], lost, renewed };
        cluster.ask(ControllerRequest::UpdateDirectories(request)).expect("updated");
    };
    let elect = |cluster: &mut Cluster| {
        let request = ElectLeadersRequest { election: ElectionRequest::Unclean, partitions: None };
        cluster.ask(ControllerRequest::ElectLeaders(request)).expect("answered");
        cluster.partition(id).leader
    };
    // 2 and 3 fell out, then 1 gives up; nobody else is up.
    cluster.alter_isr(id, &[1]).expect("alone");
    cluster.fence(2);
    cluster.fence(3);
    tell(&mut cluster, vec![id], vec![]);
    let gone = cluster.partition(id);
    assert_eq!((gone.leader, gone.directory_of(NodeId(1))), (NodeId::NONE, Some(DirectoryId::LOST)));
    tell(&mut cluster, vec![], vec![]);
    assert_eq!((elect(&mut cluster), cluster.partition(id).leader_epoch), (NodeId::NONE, gone.leader_epoch));
    cluster.heartbeat(3);
    assert_eq!(elect(&mut cluster), NodeId(3), "it merely missed the end");
    assert!(cluster.alter_isr(id, &[3, 1]).is_err(), "it holds nothing yet");
    tell(&mut cluster, vec![], vec![id]);
    assert_eq!(cluster.partition(id).directory_of(NodeId(1)), Some(directory(1, 0)));
    cluster.alter_isr(id, &[3, 1]).expect("it has caught up");
}

#[test]
fn strangers_and_doubles_are_refused() {
    let mut cluster = Cluster::with_brokers(2);
    let online = |id| [(directory(id, 0), DirectoryState::Online)];
    assert_eq!(cluster.register(1, &online(1)), Err(ControllerError::DuplicateBrokerRegistration(NodeId(1))));
    let mut foreign = cluster.registration(3, &online(3));
    foreign.cluster_id = ClusterId(Uuid::from_u128(1));
    let answer = cluster.ask(ControllerRequest::RegisterBroker(foreign));
    assert!(matches!(answer, Err(ControllerError::InconsistentClusterId { .. })), "{answer:?}");
    let copied = cluster.register(3, &online(2));
    assert!(matches!(copied, Err(ControllerError::InvalidRegistration(_))), "a copied disk: {copied:?}");
    let mut old = cluster.registration(3, &online(3));
    old.features.insert(METADATA_VERSION_FEATURE.into(), FeatureRange { min: 2, max: 3 });
    let answer = cluster.ask(ControllerRequest::RegisterBroker(old));
    assert!(matches!(answer, Err(ControllerError::UnsupportedVersion(_))), "{answer:?}");
    cluster.fence(1);
    cluster.register(1, &online(1)).expect("the earlier life is over");
    let stale = cluster.beat(1, |beat| beat.epoch = BrokerEpoch(beat.epoch.0 - 1));
    assert!(matches!(stale, Err(ControllerError::StaleBrokerEpoch { .. })), "{stale:?}");
}

#[test]
fn a_broker_is_unfenced_only_once_it_has_applied_its_registration() {
    let mut cluster = Cluster::formed(1);
    cluster.register(1, &[(directory(1, 0), DirectoryState::Online)]).expect("registered");
    let behind = cluster.beat(1, |beat| beat.applied_offset = MetadataOffset(beat.applied_offset.0 - 1));
    let fenced = BrokerHeartbeatResponse { is_caught_up: false, is_fenced: true, should_shut_down: false };
    assert_eq!(behind, Ok(ControllerResponse::BrokerHeartbeat(fenced)));
    cluster.heartbeat(1);
    assert!(cluster.image.cluster.is_active(NodeId(1)));
}

// ---- sessions, shutdown, stalls ----

#[test]
fn sessions_expire_but_not_by_a_fail_over_or_the_controllers_own_pause() {
    let mut cluster = Cluster::with_brokers(3);
    let id = cluster.create_on("t", &[1, 2, 3]);
    let second = Duration::from_secs(1);
    let mut fenced = Vec::new();
    for _ in 0..4 {
        cluster.now += second;
        cluster.heartbeat(2);
        cluster.heartbeat(3);
        match cluster.ask(ControllerRequest::ExpireSessions) {
            Ok(ControllerResponse::Fenced(ids)) => fenced.extend(ids),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(fenced, [NodeId(1)]);
    assert_eq!((cluster.partition(id).leader, cluster.partition(id).isr), (NodeId(2), list(&[2, 3])));
    cluster.now += 60 * second;
    assert_eq!(cluster.ask(ControllerRequest::ExpireSessions), Ok(ControllerResponse::Fenced(vec![])), "it lagged");
    cluster.now += second;
    cluster.controller.resign();
    cluster.now += 60 * second;
    cluster.controller.activate(2, &cluster.image, cluster.now);
    cluster.now += second;
    assert_eq!(cluster.ask(ControllerRequest::ExpireSessions), Ok(ControllerResponse::Fenced(vec![])), "it is new");
}

#[test]
fn heartbeats_that_a_controller_refused_while_it_stood_by_were_missed_by_its_sessions() {
    let mut cluster = Cluster::with_brokers(3);
    let (mut fenced, mut turns) = (Vec::new(), 0);
    while fenced.is_empty() && turns < 100 {
        let since = cluster.now;
        cluster.now += Duration::from_millis(400);
        cluster.controller.stood_by(since, cluster.now);
        cluster.now += Duration::from_millis(100);
        // Most heartbeats come while it stands by.
        if turns % 10 == 9 {
            cluster.heartbeat(2);
            cluster.heartbeat(3);
        }
        match cluster.ask(ControllerRequest::ExpireSessions) {
            Ok(ControllerResponse::Fenced(ids)) => fenced.extend(ids),
            other => panic!("{other:?}"),
        }
        turns += 1;
    }
    assert_eq!((fenced, turns), (vec![NodeId(1)], 31), "after three seconds in which it could have been heard");
}

#[test]
fn a_leaving_broker_hands_over_first() {
    let mut cluster = Cluster::with_brokers(3);
    let id = cluster.create_on("t", &[1, 2, 3]);
    let should_shut_down = |answer: Answer| match answer {
        Ok(ControllerResponse::BrokerHeartbeat(response)) => response.should_shut_down,
        other => panic!("{other:?}"),
    };
    assert!(!should_shut_down(cluster.beat(1, |beat| beat.want_shutdown = true)));
    assert_eq!((cluster.partition(id).leader, cluster.partition(id).isr), (NodeId(2), list(&[2, 3])));
    assert!(!should_shut_down(cluster.beat(1, |beat| beat.want_shutdown = true)), "others still send clients to it");
    let refused = cluster.alter_isr(id, &[2, 3, 1]);
    assert!(matches!(refused, Err(ControllerError::IneligibleReplica(NodeId(1), _))), "{refused:?}");
    cluster.heartbeat(2);
    cluster.heartbeat(3);
    assert!(should_shut_down(cluster.beat(1, |beat| beat.want_shutdown = true)));
}

#[test]
fn a_disk_that_hangs_loses_its_leaderships() {
    let mut cluster = Cluster::with_brokers(3);
    let (shared, alone) = (cluster.create_on("shared", &[1, 2, 3]), cluster.create_on("alone", &[1]));
    let stall = |beat: &mut BrokerHeartbeatRequest| beat.oldest_unfinished_commit = Duration::from_millis(1001);
    cluster.beat(1, stall).expect("heartbeat");
    assert_eq!((cluster.partition(shared).leader, cluster.partition(shared).isr), (NodeId(2), list(&[2, 3])));
    assert_eq!(cluster.partition(alone).leader, NodeId(1), "nobody could lead instead");
    assert!(matches!(cluster.alter_isr(shared, &[2, 3, 1]), Err(ControllerError::IneligibleReplica(..))));
    cluster.heartbeat(1);
    cluster.alter_isr(shared, &[2, 3, 1]).expect("it moves again");
}

#[test]
fn a_stall_that_nobody_could_relieve_was_forgotten() {
    let mut cluster = Cluster::with_brokers(3);
    let id = cluster.create_on("t", &[1, 2, 3]);
    let stall = |beat: &mut BrokerHeartbeatRequest| beat.oldest_unfinished_commit = Duration::from_millis(1001);
    cluster.beat(2, stall).expect("heartbeat");
    cluster.beat(1, stall).expect("heartbeat");
    let most = cluster.partition(id);
    assert_eq!((most.leader, most.isr), (NodeId(1), list(&[1, 3])), "most of them stall: it is not the brokers");
    cluster.beat(2, |_| {}).expect("heartbeat");
    cluster.beat(1, stall).expect("heartbeat");
    assert_eq!(cluster.partition(id).isr, list(&[3]), "now it is broker 1");
}

#[test]
fn disks_that_all_waited_for_the_same_machine_moved_leaderships_about() {
    let mut cluster = Cluster::with_brokers(3);
    let id = cluster.create_on("t", &[1, 2, 3]);
    let waits = |ms| move |beat: &mut BrokerHeartbeatRequest| beat.oldest_unfinished_commit = Duration::from_millis(ms);
    for (broker, ms) in [(1, 900), (2, 700), (3, 10), (1, 1100), (2, 1200), (3, 300), (1, 1300)] {
        cluster.beat(broker, waits(ms)).expect("heartbeat");
        assert_eq!((cluster.partition(id).leader, cluster.partition(id).isr), (NodeId(1), list(&[1, 2, 3])));
    }
    cluster.beat(2, waits(0)).expect("heartbeat");
    cluster.beat(1, waits(1400)).expect("heartbeat");
    assert_eq!((cluster.partition(id).leader, cluster.partition(id).isr), (NodeId(2), list(&[2, 3])), "it alone");
}

#[test]
fn a_broker_short_of_space_leads_only_where_nobody_else_can_and_follows_on() {
    let mut cluster = Cluster::with_brokers(3);
    let (shared, alone) = (cluster.create_on("shared", &[1, 2, 3]), cluster.create_on("alone", &[1]));
    let space = |space| move |beat: &mut BrokerHeartbeatRequest| beat.disk_space = space;
    cluster.beat(1, space(DiskSpace::Low)).expect("heartbeat");
    assert_eq!((cluster.partition(shared).leader, cluster.partition(shared).isr), (NodeId(2), list(&[1, 2, 3])));
    assert_eq!(cluster.partition(alone).leader, NodeId(1), "it can be read there");
    cluster.now += Duration::from_secs(10);
    cluster.ask(ControllerRequest::RebalanceLeaders).expect("answered");
    assert_eq!(cluster.partition(shared).leader, NodeId(2), "the preferred leader is short of space");
    cluster.beat(2, space(DiskSpace::Low)).expect("heartbeat");
    assert_eq!(cluster.partition(shared).leader, NodeId(3));
    cluster.beat(3, space(DiskSpace::Low)).expect("heartbeat");
    assert_eq!(cluster.partition(shared).leader, NodeId(3), "no one is better");
    cluster.beat(2, space(DiskSpace::Ample)).expect("heartbeat");
    assert_eq!(cluster.partition(shared).leader, NodeId(2), "now one is");
    // Nobody but the last resort is left.
    cluster.fence(2);
    assert_eq!(cluster.partition(shared).leader, NodeId(1), "records can be read");
}

#[test]
fn new_topics_were_placed_without_a_look_at_the_disks() {
    let mut cluster = Cluster::with_brokers(4);
    let space = |space| move |beat: &mut BrokerHeartbeatRequest| beat.disk_space = space;
    cluster.beat(1, space(DiskSpace::Low)).expect("heartbeat");
    cluster.beat(2, |beat| beat.oldest_unfinished_commit = Duration::from_secs(9)).expect("heartbeat");
    let create = |cluster: &mut Cluster, name: String, replication_factor| {
        let topic = NewTopic {
            name,
            partitions: 1,
            replication_factor,
            assignments: BTreeMap::new(),
            configs: BTreeMap::new(),
        };
        let topic_id = cluster.create(topic).expect("created").id;
        cluster.partition(TopicIdPartition { topic_id, partition: 0 })
    };
    for n in 0..10 {
        let two = create(&mut cluster, format!("two-{n}"), 2);
        assert!(two.replicas.iter().all(|id| id.0 > 2), "{two:?}");
        let four = create(&mut cluster, format!("four-{n}"), 4);
        assert!(four.leader.0 > 2, "{four:?}");
        assert!(four.isr.len() == 3 && !four.isr.contains(&NodeId(2)), "its disk hangs: {four:?}");
    }
    let named = cluster.create_on("named", &[1, 2, 3]);
    assert_eq!((cluster.partition(named).leader, cluster.partition(named).isr), (NodeId(3), list(&[1, 3])));
    let alone = cluster.create_on("alone", &[2]);
    assert_eq!((cluster.partition(alone).leader, cluster.partition(alone).isr), (NodeId(2), list(&[2])));
}

#[test]
fn a_full_disk_leaves_the_isr_only_where_commits_go_on_without_it() {
    let mut cluster = Cluster::with_brokers(3);
    let (three, two) = (cluster.create_on("three", &[1, 2, 3]), cluster.create_on("two", &[1, 2]));
    let full = |beat: &mut BrokerHeartbeatRequest| beat.disk_space = DiskSpace::Reserve;
    cluster.beat(1, full).expect("heartbeat");
    assert_eq!((cluster.partition(three).leader, cluster.partition(three).isr), (NodeId(2), list(&[2, 3])));
    assert_eq!((cluster.partition(two).leader, cluster.partition(two).isr), (NodeId(2), list(&[1, 2])));
    assert!(matches!(cluster.alter_isr(three, &[2, 3, 1]), Err(ControllerError::IneligibleReplica(..))));
    cluster.heartbeat(1);
    cluster.alter_isr(three, &[2, 3, 1]).expect("there is space again");
    cluster.now += Duration::from_secs(10);
    cluster.ask(ControllerRequest::RebalanceLeaders).expect("answered");
    assert_eq!(cluster.partition(three).leader, NodeId(1), "its leaderships come back");
}

/// Retention and deletion of records run on leaders: without one nothing would ever give space back.
#[test]
fn when_all_disks_were_full_a_restart_left_partitions_without_a_leader() {
    let mut cluster = Cluster::with_brokers(3);
    let id = cluster.create_on("t", &[1, 2, 3]);
    let full = |beat: &mut BrokerHeartbeatRequest| beat.disk_space = DiskSpace::Reserve;
    (1..=3).for_each(|broker| drop(cluster.beat(broker, full).expect("heartbeat")));
    assert!(cluster.partition(id).has_leader());
    let leader = cluster.partition(id).leader;
    cluster.fence(leader.0);
    cluster.start(leader.0);
    assert!(cluster.partition(id).has_leader(), "a full disk is read, and can be emptied");
}

#[test]
fn a_full_member_of_the_isr_kept_others_out() {
    let mut cluster = Cluster::with_brokers(3);
    let id = cluster.create_on("t", &[1, 2, 3]);
    cluster.alter_isr(id, &[1, 2]).expect("broker 3 lags");
    cluster.beat(2, |beat| beat.disk_space = DiskSpace::Reserve).expect("heartbeat");
    assert_eq!(cluster.partition(id).isr, list(&[1, 2]), "min.insync.replicas would not be left");
    cluster.alter_isr(id, &[1, 2, 3]).expect("broker 3 has caught up");
}

// ---- ISR ----

#[test]
fn stale_and_ineligible_isr_changes_are_refused() {
    let mut cluster = Cluster::with_brokers(3);
    let id = cluster.create_on("t", &[1, 2, 3]);
    let good = |cluster: &Cluster| {
        let partition = cluster.partition(id);
        IsrChange {
            partition: id,
            leader_epoch: partition.leader_epoch,
            partition_epoch: partition.partition_epoch,
            isr: [1, 2].map(|r| (NodeId(r), cluster.epochs[&NodeId(r)])).to_vec(),
            recovery_state: LeaderRecoveryState::Recovered,
        }
    };
    let mut stale = good(&cluster);
    stale.leader_epoch = LeaderEpoch(-1);
    assert_eq!(cluster.alter(NodeId(1), stale), Err(ControllerError::FencedLeaderEpoch));
    let mut future = good(&cluster);
    future.leader_epoch = LeaderEpoch(9);
    assert_eq!(cluster.alter(NodeId(1), future), Err(ControllerError::UnknownLeaderEpoch));
    let not_leader = good(&cluster);
    assert!(matches!(cluster.alter(NodeId(2), not_leader), Err(ControllerError::InvalidRequest(_))));
    let mut without_leader = good(&cluster);
    without_leader.isr.remove(0);
    assert!(matches!(cluster.alter(NodeId(1), without_leader), Err(ControllerError::InvalidRequest(_))));
    let mut earlier_life = good(&cluster);
    earlier_life.isr[1].1 = BrokerEpoch(earlier_life.isr[1].1.0 - 1);
    assert!(matches!(cluster.alter(NodeId(1), earlier_life), Err(ControllerError::IneligibleReplica(..))));
    let shrink = good(&cluster);
    let shrunk = cluster.alter(NodeId(1), shrink.clone()).expect("shrunk");
    assert_eq!((shrunk.isr, shrunk.leader_epoch), (list(&[1, 2]), LeaderEpoch(0)));
    assert_eq!(cluster.alter(NodeId(1), shrink), Err(ControllerError::InvalidUpdateVersion));
}

#[test]
fn min_isr_that_sinks_clears_the_elr_in_the_same_entry() {
    let mut cluster = Cluster::with_brokers(3);
    let id = cluster.create_on("t", &[1, 2, 3]);
    cluster.fence(2);
    cluster.fence(3);
    assert_eq!((cluster.partition(id).isr, cluster.partition(id).elr), (list(&[1]), list(&[3])));
    let entries = cluster.log.len();
    cluster.set_config(ConfigResource::cluster(), MIN_INSYNC_REPLICAS, ConfigOp::Set("1".into())).expect("set");
    assert_eq!((cluster.partition(id).elr, cluster.log.len()), (list(&[]), entries + 1));
    // The topic's own value wins, and what is true stays.
    cluster.set_config(ConfigResource::topic("t"), MIN_INSYNC_REPLICAS, ConfigOp::Set("2".into())).expect("set");
    cluster.set_config(ConfigResource::cluster(), MIN_INSYNC_REPLICAS, ConfigOp::Delete).expect("deleted");
    assert_eq!(cluster.image.min_isr("t", 3), 2);
    assert_eq!(cluster.image.min_isr("t", 1), 1, "never more than there are replicas");
}

#[test]
fn the_forming_controllers_settings_are_the_clusters_first_configs() {
    let first_configs = BTreeMap::from([(MIN_INSYNC_REPLICAS.to_owned(), "3".to_owned())]);
    let mut cluster = Cluster::formed_with(ControllerConfig { first_configs, ..ControllerConfig::default() }, 3);
    assert_eq!(cluster.image.min_isr("t", 3), 3);
    assert_eq!(cluster.log.len(), 1, "in the entry that forms it: no partition is ever decided on without them");
    // Another controller's settings count no more.
    let voters = cluster.image.cluster.formation().expect("formed").voters.clone();
    let first_configs = BTreeMap::from([(MIN_INSYNC_REPLICAS.to_owned(), "1".to_owned())]);
    cluster.controller = Controller::new(ControllerConfig { first_configs, ..ControllerConfig::default() }, [8; 32]);
    cluster.controller.activate(2, &cluster.image, cluster.now);
    cluster.ask(ControllerRequest::Form(FormRequest { cluster_id: cluster_id(), voters })).expect("formed already");
    assert_eq!(cluster.image.min_isr("t", 3), 3);
}

#[test]
fn unclean_elections_happen_when_they_are_allowed() {
    let mut cluster = Cluster::with_brokers(3);
    let id = cluster.create_on("t", &[1, 2, 3]);
    for broker in [1, 2, 3] {
        cluster.fence(broker);
    }
    cluster.start(1);
    assert_eq!(cluster.partition(id).leader, NodeId::NONE);
    cluster
        .set_config(ConfigResource::topic("t"), UNCLEAN_LEADER_ELECTION_ENABLE, ConfigOp::Set("true".into()))
        .expect("set");
    let unclean = cluster.partition(id);
    assert_eq!((unclean.leader, &unclean.isr, &unclean.elr), (NodeId(1), &list(&[1]), &list(&[])));
    assert_eq!(unclean.recovery_state, LeaderRecoveryState::Recovering);
    assert_eq!(cluster.alter_isr(id, &[1]).expect("recovered").recovery_state, LeaderRecoveryState::Recovered);
}

#[test]
fn preferred_leaders_come_back() {
    let mut cluster = Cluster::with_brokers(3);
    let id = cluster.create_on("t", &[1, 2, 3]);
    let elect = |cluster: &mut Cluster| {
        let partitions = Some(vec![TopicPartition { topic: "t".into(), partition: 0 }]);
        let request = ElectLeadersRequest { election: ElectionRequest::Preferred, partitions };
        match cluster.ask(ControllerRequest::ElectLeaders(request)) {
            Ok(ControllerResponse::ElectLeaders(mut results)) => results.remove(0).1,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(elect(&mut cluster), Err(ControllerError::ElectionNotNeeded));
    cluster.fence(1);
    assert_eq!(elect(&mut cluster), Err(ControllerError::PreferredLeaderNotAvailable));
    cluster.heartbeat(1);
    cluster.alter_isr(id, &[2, 3, 1]).expect("caught up");
    cluster.now += Duration::from_secs(5);
    assert_eq!(cluster.ask(ControllerRequest::RebalanceLeaders), Ok(ControllerResponse::Rebalanced(1)));
    assert_eq!(cluster.partition(id).leader, NodeId(1));
}

/// Broker 1 is preferred for all of `topics` partitions, and leads none of them although it is in sync again.
fn all_led_by_another(config: ControllerConfig, topics: usize) -> (Cluster, Vec<TopicIdPartition>) {
    let mut cluster = Cluster::formed_with(config, 3);
    (1..=3).for_each(|id| cluster.start(id));
    let ids: Vec<_> = (0..topics).map(|n| cluster.create_on(&format!("t{n}"), &[1, 2, 3])).collect();
    cluster.fence(1);
    cluster.heartbeat(1);
    for id in &ids {
        cluster.alter_isr(*id, &[2, 3, 1]).expect("caught up");
    }
    (cluster, ids)
}

fn led_by(cluster: &Cluster, ids: &[TopicIdPartition], broker: i32) -> usize {
    ids.iter().filter(|id| cluster.partition(**id).leader == NodeId(broker)).count()
}

#[test]
fn leadership_goes_back_in_small_batches_and_only_where_it_is_asked_for() {
    let interval = Duration::from_secs(5);
    let rebalance = |cluster: &mut Cluster| {
        cluster.now += interval;
        (1..=3).for_each(|id| cluster.heartbeat(id));
        cluster.ask(ControllerRequest::RebalanceLeaders)
    };
    let small = ControllerConfig { leader_rebalance_partitions_max: 3, ..ControllerConfig::default() };
    let (mut cluster, ids) = all_led_by_another(small.clone(), 7);
    for moved in [3, 3, 1, 0] {
        assert_eq!(rebalance(&mut cluster), Ok(ControllerResponse::Rebalanced(moved)));
        assert_eq!(cluster.ask(ControllerRequest::RebalanceLeaders), Ok(ControllerResponse::Rebalanced(0)), "later");
    }
    assert_eq!(led_by(&cluster, &ids, 1), 7);

    let off = ControllerConfig { leader_rebalance: false, ..small.clone() };
    let (mut cluster, ids) = all_led_by_another(off, 1);
    assert_eq!(rebalance(&mut cluster), Ok(ControllerResponse::Rebalanced(0)));
    assert_eq!(led_by(&cluster, &ids, 1), 0);

    // Of seven it may lack half, which is three.
    let half = ControllerConfig { leader_imbalance_percent: 50, ..small };
    let (mut cluster, ids) = all_led_by_another(half, 7);
    for (moved, leads) in [(3, 3), (3, 6), (0, 6)] {
        assert_eq!(rebalance(&mut cluster), Ok(ControllerResponse::Rebalanced(moved)));
        assert_eq!(led_by(&cluster, &ids, 1), leads);
    }
}

#[test]
fn one_request_for_all_partitions_elects_once_each() {
    let (mut cluster, ids) = all_led_by_another(ControllerConfig::default(), 5);
    let name = |n: usize| TopicPartition { topic: format!("t{n}").as_str().into(), partition: 0 };
    let elect = |cluster: &mut Cluster, partitions| {
        let request = ElectLeadersRequest { election: ElectionRequest::Preferred, partitions };
        match cluster.ask(ControllerRequest::ElectLeaders(request)) {
            Ok(ControllerResponse::ElectLeaders(results)) => results,
            other => panic!("{other:?}"),
        }
    };
    let elected = Ok(ElectedLeader { leader: NodeId(1), unclean: false });
    let twice = elect(&mut cluster, Some(vec![name(0), name(0), name(9)]));
    assert_eq!(twice, [(name(0), elected.clone()), (name(9), Err(ControllerError::UnknownTopicOrPartition))]);
    let entries = cluster.log.len();
    let all = elect(&mut cluster, None);
    assert_eq!(all, (1..5).map(|n| (name(n), elected.clone())).collect::<Vec<_>>(), "but for the one that is well");
    assert_eq!((cluster.log.len(), led_by(&cluster, &ids, 1)), (entries + 1, 5));
    assert_eq!(elect(&mut cluster, None), []);
}

// ---- topics ----

#[test]
fn bad_topics_get_kafkas_errors() {
    let mut cluster = Cluster::with_brokers(3);
    cluster.create(named("a.b", 2, 3)).expect("created");
    let errors: Vec<ControllerError> = [
        named("", 1, 1),
        named("..", 1, 1),
        named("a/b", 1, 1),
        named(&"x".repeat(250), 1, 1),
        named("a_b", 1, 1),
        named("a.b", 1, 1),
        named("c", 0, 1),
        named("c", 1, 0),
        named("c", 1, 4),
        named("c", 10_001, 1),
        NewTopic { configs: BTreeMap::from([("retention.ms".into(), Some("x".into()))]), ..named("c", 1, 1) },
        NewTopic { assignments: BTreeMap::from([(0, vec![NodeId(9)])]), ..named("c", -1, -1) },
        NewTopic { assignments: BTreeMap::from([(1, vec![NodeId(1)])]), ..named("c", -1, -1) },
    ]
    .into_iter()
    .map(|topic| cluster.create(topic).expect_err("refused"))
    .collect();
    use ControllerError::*;
    assert!(matches!(
        &errors[..],
        [
            InvalidTopic(_),
            InvalidTopic(_),
            InvalidTopic(_),
            InvalidTopic(_),
            InvalidTopic(_),
            TopicAlreadyExists(_),
            InvalidPartitions(_),
            InvalidReplicationFactor(_),
            InvalidReplicationFactor(_),
            PolicyViolation(_),
            InvalidConfig(_),
            InvalidReplicaAssignment(_),
            InvalidReplicaAssignment(_),
        ]
    ));
    assert_eq!(cluster.image.topics.len(), 1);
}

#[test]
fn defaults_fit_the_cluster() {
    let mut three = Cluster::with_brokers(3);
    assert_eq!(three.create(named("t", -1, -1)).expect("created").replication_factor, 3);
    let mut one = Cluster::with_brokers(1);
    assert_eq!(one.create(named("t", -1, -1)).expect("created").replication_factor, 1);
    // Two of three voters have not arrived: not a reason for a topic with one replica.
    let mut filling = Cluster::formed(3);
    filling.start(1);
    assert!(matches!(filling.create(named("t", -1, -1)), Err(ControllerError::InvalidReplicationFactor(_))));
}

#[test]
fn internal_topics_wait_for_brokers() {
    let mut cluster = Cluster::formed(3);
    let request = || {
        ControllerRequest::EnsureInternalTopic(EnsureInternalTopicRequest {
            name: "__consumer_offsets".into(),
            partitions: 50,
            replication_factor: 3,
            configs: BTreeMap::from([("cleanup.policy".into(), Some("compact".into()))]),
        })
    };
    for id in [1, 2] {
        cluster.start(id);
        assert!(matches!(cluster.ask(request()), Err(ControllerError::NotReady(_))));
    }
    cluster.start(3);
    let first = cluster.ask(request()).expect("created");
    assert_eq!(cluster.ask(request()), Ok(first), "it is made once");
    let topic = cluster.image.topics.by_name("__consumer_offsets").expect("created").clone();
    assert!(topic.partitions.iter().all(|p| p.replicas.len() == 3));
    let mut one = Cluster::with_brokers(1);
    one.ask(request()).expect("a one-node cluster uses one replica");
}

#[test]
fn topics_grow_and_go() {
    let mut cluster = Cluster::with_brokers(3);
    let id = cluster.create(named("t", 2, 2)).expect("created").id;
    let grow = |cluster: &mut Cluster, count| {
        let topics = vec![NewPartitions { topic: "t".into(), count, assignments: vec![] }];
        match cluster.ask(ControllerRequest::CreatePartitions(CreatePartitionsRequest { topics, validate_only: false }))
        {
            Ok(ControllerResponse::CreatePartitions(mut results)) => results.remove(0),
            other => panic!("{other:?}"),
        }
    };
    assert!(matches!(grow(&mut cluster, 2), Err(ControllerError::InvalidPartitions(_))));
    grow(&mut cluster, 5).expect("grown");
    let topic = cluster.image.topics.by_id(id).expect("there").clone();
    assert_eq!((topic.partitions.len(), topic.partitions[4].replicas.len()), (5, 2));
    let delete = |cluster: &mut Cluster| {
        let topics = vec![TopicRef::Id(id), TopicRef::Name("nope".into())];
        match cluster.ask(ControllerRequest::DeleteTopics { topics }) {
            Ok(ControllerResponse::DeleteTopics(results)) => results,
            other => panic!("{other:?}"),
        }
    };
    let results = delete(&mut cluster);
    assert!(results[0].is_ok());
    assert_eq!(results[1], Err(ControllerError::UnknownTopicOrPartition));
    assert_eq!(delete(&mut cluster)[0], Err(ControllerError::UnknownTopicId));
}

#[test]
fn requests_of_one_batch_see_each_other() {
    let mut cluster = Cluster::with_brokers(3);
    let mut batch = Batch::new(Author { controller: NodeId(1), term: 1, unix_ms: 0 }, cluster.image.clone());
    let create =
        ControllerRequest::CreateTopics(CreateTopicsRequest { topics: vec![named("t", 1, 3)], validate_only: false });
    let mut answers = Vec::new();
    for request in [&create, &create] {
        match cluster.controller.handle(&mut batch, request, cluster.now) {
            Ok(ControllerResponse::CreateTopics(results)) => answers.extend(results),
            other => panic!("{other:?}"),
        }
    }
    assert!(answers[0].is_ok());
    assert_eq!(answers[1], Err(ControllerError::TopicAlreadyExists("t".into())));
    let (broker, epoch) = (NodeId(1), cluster.epochs[&NodeId(1)]);
    let allocate = ControllerRequest::AllocateProducerIds { broker, epoch };
    let blocks: Vec<Answer> =
        [&allocate, &allocate].map(|r| cluster.controller.handle(&mut batch, r, cluster.now)).into();
    let block = |first| Ok(ControllerResponse::ProducerIds { first, count: PRODUCER_ID_BLOCK });
    assert_eq!(blocks, [block(0), block(1000)]);
    let again = cluster.registration(4, &[(directory(4, 0), DirectoryState::Online)]);
    let again = ControllerRequest::RegisterBroker(again);
    assert!(cluster.controller.handle(&mut batch, &again, cluster.now).is_ok());
    let twice = cluster.controller.handle(&mut batch, &again, cluster.now);
    assert!(matches!(twice, Err(ControllerError::NotReady(_))), "one epoch, one life: {twice:?}");
    cluster.commit(batch.into_records());
    assert_eq!(cluster.image.next_producer_id, 2000);
}

#[test]
fn configs_are_checked_and_lists_grow_and_shrink() {
    let mut cluster = Cluster::with_brokers(1);
    cluster.create(named("t", 1, 1)).expect("created");
    let topic = ConfigResource::topic("t");
    let mut set = |name: &str, op| cluster.set_config(topic.clone(), name, op);
    assert!(matches!(set("nope", ConfigOp::Set("1".into())), Err(ControllerError::InvalidConfig(_))));
    assert!(matches!(set("retention.ms", ConfigOp::Append("1".into())), Err(ControllerError::InvalidConfig(_))));
    // No frame between brokers takes a batch of more than 100 MiB.
    let too_large = ConfigOp::Set("104857601".into());
    assert!(matches!(set("max.message.bytes", too_large), Err(ControllerError::InvalidConfig(_))));
    set("cleanup.policy", ConfigOp::Append("compact".into())).expect("appended to the default");
    assert_eq!(cluster.image.topic_config("t", "cleanup.policy"), Some("delete,compact"));
    let mut set = |name: &str, op| cluster.set_config(topic.clone(), name, op);
    set("cleanup.policy", ConfigOp::Subtract("delete".into())).expect("subtracted");
    assert_eq!(cluster.image.topic_config("t", "cleanup.policy"), Some("compact"));
    let unknown = cluster.set_config(ConfigResource::topic("x"), "retention.ms", ConfigOp::Delete);
    assert_eq!(unknown, Err(ControllerError::UnknownTopicOrPartition));
    cluster
        .set_config(ConfigResource::cluster(), "log.retention.ms", ConfigOp::Set("5".into()))
        .expect("the cluster's default");
    assert_eq!(cluster.image.topic_config("t", "retention.ms"), Some("5"));
}
