//! Every API and version that is advertised, through the bytes: what a handler answers can be written in the version it was
//! asked in, and read again.

use super::*;
use crate::broker::{ControllerChannel, Departures, Metadata, ProducerIds, Registration};
use crate::config::{ServerConfig, Settings};
use crate::coordinator::GroupElections;
use crate::coordinator::group::GroupConfig;
use crate::net::RequestBudget;
use crate::peer::{
    AddressBook, ClosedReason, Direction, Lane, LocalIdentity, PeerConfig, PeerEvent, PeerEvents, PeerIdentity,
    PeerPool,
};
use crate::replica::testing::*;
use crate::storage::MemoryStore;
use futures_util::future::{pending, ready};
use parking_lot::Mutex;
use rookery_protocol::codec::Records;
use rookery_protocol::error::ErrorCode;
use rookery_protocol::messages::{
    self as wire, ApiVersionsRequest, CreateTopicsRequest, DeleteGroupsRequest, DeleteTopicsRequest,
    DescribeClusterRequest, DescribeConfigsRequest, DescribeGroupsRequest, DescribeTopicPartitionsRequest,
    ElectLeadersRequest, FetchRequest, FindCoordinatorRequest, HeartbeatRequest, IncrementalAlterConfigsRequest,
    InitProducerIdRequest, JoinGroupRequest, LeaveGroupRequest, ListGroupsRequest, ListOffsetsRequest, MetadataRequest,
    OffsetCommitRequest, OffsetFetchRequest, OffsetForLeaderEpochRequest, ProduceRequest, Request, SyncGroupRequest,
    request_frame,
};
use rookery_protocol::versions::APIS;
use rookery_raft::controller::{
    ControllerError, ControllerRequest, ControllerResponse, ElectedLeader, ElectionRequest, TopicCreated, TopicDeleted,
    TopicRef,
};
use rookery_raft::delta::MetadataPublisher;
use rookery_raft::ids::{
    BrokerEpoch, ClusterId, DirectoryId, IncarnationId, MetadataOffset, NodeId, TopicId, TopicPartition,
};
use rookery_raft::image::MetadataImage;
use rookery_raft::record::MetadataRecord;
use std::collections::BTreeSet;
use std::time::Duration;
use tokio::sync::{broadcast, watch};
use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, DropGuard};
use uuid::Uuid;

// Far above anything that should happen: a test that waits this long has failed.
const LONG: Duration = Duration::from_secs(60);

/// Metadata that stands, and a controller that does what it is asked without a word in any log.
struct Standing(watch::Sender<Arc<MetadataImage>>);

impl Metadata for Standing {
    fn image(&self) -> Arc<MetadataImage> {
        self.0.borrow().clone()
    }
    fn images(&self) -> watch::Receiver<Arc<MetadataImage>> {
        self.0.subscribe()
    }
    fn applied(&self, _: MetadataOffset) -> BoxFuture<'static, ()> {
        ready(()).boxed()
    }
    fn controller(&self) -> Option<NodeId> {
        Some(ME)
    }
    fn another_controller(&self, _: NodeId) -> BoxFuture<'static, ()> {
        pending().boxed()
    }
    fn controller_was_wrong(&self, _: NodeId) {}
    fn stands_still(&self) {}
    fn cluster_id(&self) -> Option<ClusterId> {
        self.image().cluster.cluster_id()
    }
    fn submit(&self, request: ControllerRequest) -> BoxFuture<'static, Result<ControllerResponse, ControllerError>> {
        let answer = match request {
            ControllerRequest::CreateTopics(request) => {
                ControllerResponse::CreateTopics(request.topics.iter().map(|topic| created(&topic.name)).collect())
            }
            ControllerRequest::DeleteTopics { topics } => {
                ControllerResponse::DeleteTopics(topics.iter().map(deleted).collect())
            }
            ControllerRequest::IncrementalAlterConfigs(request) => {
                ControllerResponse::AlterConfigs(request.resources.iter().map(|_| Ok(())).collect())
            }
            ControllerRequest::ElectLeaders(request) => {
                let all = || vec![TopicPartition { topic: "t".into(), partition: 0 }];
                let partitions = request.partitions.unwrap_or_else(all).into_iter();
                let unclean = request.election == ElectionRequest::Unclean;
                ControllerResponse::ElectLeaders(partitions.map(|p| (p.clone(), elected(&p, unclean))).collect())
            }
            ControllerRequest::AllocateProducerIds { .. } => ControllerResponse::ProducerIds { first: 7, count: 100 },
            other => panic!("a handler asked for {other:?}"),
        };
        ready(Ok(answer)).boxed()
    }
}

fn created(_name: &str) -> Result<TopicCreated, ControllerError> {
    Ok(TopicCreated { id: TOPIC, partitions: 1, replication_factor: 1 })
}

fn deleted(topic: &TopicRef) -> Result<TopicDeleted, ControllerError> {
    match topic {
        TopicRef::Name(name) => Ok(TopicDeleted { name: name.as_str().into(), id: TOPIC }),
        TopicRef::Id(_) => Err(ControllerError::UnknownTopicId),
    }
}

/// Partition 0 has no leader, nobody can lead 1, the first replica of 2 is away, 3 is well; there is nothing else.
fn elected(of: &TopicPartition, unclean: bool) -> Result<ElectedLeader, ControllerError> {
    match (&*of.topic, of.partition) {
        ("t", 0) => Ok(ElectedLeader { leader: ME, unclean }),
        ("t", 1) => Err(ControllerError::EligibleLeadersNotAvailable),
        ("t", 2) => Err(ControllerError::PreferredLeaderNotAvailable),
        ("t", 3) => Err(ControllerError::ElectionNotNeeded),
        ("t", 4) => Err(ControllerError::NotReady("later".to_owned())),
        _ => Err(ControllerError::UnknownTopicOrPartition),
    }
}

/// A broker with the topics `t` and `__consumer_offsets`, one partition each, which it leads.
struct Fixture {
    handlers: Handlers,
    connection: Arc<ConnectionInfo>,
    departures: Arc<Departures>,
    budget: RequestBudget,
    answered: Mutex<BTreeSet<(i16, i16)>>,
    _stop: DropGuard,
}

impl Fixture {
    fn start() -> Self {
        Self::start_with(vec![])
    }

    /// With more in the metadata.
    fn start_with(more: Vec<MetadataRecord>) -> Self {
        let (store, mut log) = (store(), Log::new());
        let replicas = start(&store);
        let groups = GroupConfig { initial_rebalance_delay: Duration::ZERO, ..GroupConfig::default() };
        let groups = Arc::new(GroupCoordinator::new(groups, || 7));
        let elections = Arc::new(GroupElections::new(replicas.clone(), groups.clone()));
        let stop = CancellationToken::new();
        tokio::spawn(elections.clone().run(stop.clone()));
        tokio::spawn(stop.clone().run_until_cancelled_owned(commit_on(store)));
        log.register(&replicas, 1);
        for records in [
            vec![MetadataRecord::UnfenceBroker { id: ME, epoch: BrokerEpoch(1) }],
            alone("t", TOPIC),
            alone("__consumer_offsets", OTHER_TOPIC),
            more,
        ] {
            let delta = log.entry(&records);
            replicas.on_metadata_update(&delta, &log.0);
            elections.on_metadata_update(&delta, &log.0);
        }
        let identity = LocalIdentity::new(PeerIdentity {
            cluster_id: None,
            node_id: ME,
            directory_id: DirectoryId::NONE,
            incarnation: IncarnationId::NONE,
            broker_epoch: BrokerEpoch(1),
        });
        let (book, events) = (AddressBook::new(), PeerEvents::new());
        let pool = PeerPool::new(identity, book, PeerConfig::default(), events, Arc::new(|| 0.5));
        let metadata = Arc::new(Standing(watch::Sender::new(log.0)));
        let channel = ControllerChannel::new(ME, metadata.clone(), pool);
        let (_, registration) = watch::channel(Some(Registration { id: ME, epoch: BrokerEpoch(1) }));
        let producer_ids = ProducerIds::new(channel.clone(), registration);
        let config = Arc::new(ServerConfig::new(Settings::default()).expect("the defaults are sound"));
        let departures = Departures::new();
        let broker = Broker::new(config, metadata, channel, producer_ids, departures.clone());
        let peer = "127.0.0.1:1".parse().expect("an address");
        Self {
            handlers: Handlers::new(broker, replicas, groups),
            connection: Arc::new(ConnectionInfo { id: 1, peer, listener: "PLAINTEXT".into() }),
            departures,
            budget: RequestBudget::new(8 << 20),
            answered: Mutex::default(),
            _stop: stop.drop_guard(),
        }
    }

    /// The answer, out of its bytes; `None` where there is none by design.
    async fn ask<R: Request>(&self, version: i16, request: &R) -> Option<R::Response> {
        let name = R::KEY.name();
        let frame = request_frame(request, version, 5, Some("me"));
        let frame = frame.unwrap_or_else(|error| panic!("{name} {version}: {error}")).into_bytes();
        let frame = frame.slice(4..);
        let held = self.budget.take(frame.len()).await;
        let mut handled = self.handlers.handle(&self.connection, frame, held).await;
        self.answered.lock().insert((R::KEY as i16, version));
        loop {
            match handled {
                Handled::Later(later) => {
                    let answer = tokio::time::timeout(LONG, later).await;
                    handled = answer.unwrap_or_else(|_| panic!("{name} {version} is not answered"));
                }
                Handled::Reply(answer) => {
                    let read = wire::header::read_response::<R>(answer.frame.into_bytes().slice(4..), version);
                    let (header, answer) = read.unwrap_or_else(|error| panic!("{name} {version}: {error}"));
                    assert_eq!(header.correlation_id, 5);
                    return Some(answer);
                }
                Handled::NoReply => return None,
                Handled::Close(why) => panic!("{name} {version}: {why}"),
            }
        }
    }

    /// An empty request, and then this one.
    async fn ask_both<R: Request>(&self, version: i16, request: &R) -> R::Response {
        self.ask(version, &R::default()).await;
        self.ask(version, request).await.expect("an answer")
    }
}

/// KIP-951: the client goes to the leader at once, and need not ask where it is.
#[tokio::test]
async fn who_asks_the_wrong_broker_is_told_the_right_one() {
    let (id, epoch) = (TopicId(Uuid::from_u128(9)), BrokerEpoch(2));
    let mut more = vec![registration(OTHER, epoch.0), MetadataRecord::UnfenceBroker { id: OTHER, epoch }];
    more.extend(topic("elsewhere", id, OTHER));
    let f = Fixture::start_with(more);
    let refused = ErrorCode::NotLeaderOrFollower.code();
    for version in 3..=13 {
        let records = Some(Records::from(batch(&[1000])));
        let partition = wire::produce::PartitionProduceData { index: 0, records };
        let topic = wire::produce::TopicProduceData {
            name: "elsewhere".into(),
            topic_id: id.0,
            partition_data: vec![partition],
        };
        let request = ProduceRequest { acks: -1, timeout_ms: 5000, topic_data: vec![topic], ..Default::default() };
        let answer = f.ask(version, &request).await.expect("an answer");
        let of_partition = &answer.responses[0].partition_responses[0];
        let leader = (of_partition.current_leader.leader_id, of_partition.current_leader.leader_epoch);
        let told = answer.node_endpoints.iter().map(|e| (e.node_id, e.host.to_string())).collect::<Vec<_>>();
        let expected =
            if version >= 10 { ((OTHER.0, 0), vec![(OTHER.0, "host-2".to_owned())]) } else { ((-1, -1), vec![]) };
        assert_eq!((of_partition.error_code, (leader, told)), (refused, expected), "Produce {version}");
    }
    for version in 4..=18 {
        let partition = wire::fetch::FetchPartition { partition_max_bytes: 1 << 20, ..Default::default() };
        let topic = wire::fetch::FetchTopic { topic: "elsewhere".into(), topic_id: id.0, partitions: vec![partition] };
        let request = FetchRequest { max_wait_ms: 100, min_bytes: 1, topics: vec![topic], ..Default::default() };
        let answer = f.ask(version, &request).await.expect("an answer");
        let of_partition = &answer.responses[0].partitions[0];
        let leader = (of_partition.current_leader.leader_id, of_partition.current_leader.leader_epoch);
        let told = answer.node_endpoints.iter().map(|e| (e.node_id, e.host.to_string())).collect::<Vec<_>>();
        let leader_expected = if version >= 12 { (OTHER.0, 0) } else { (-1, -1) };
        let told_expected = if version >= 16 { vec![(OTHER.0, "host-2".to_owned())] } else { vec![] };
        assert_eq!(
            (of_partition.error_code, leader, told),
            (refused, leader_expected, told_expected),
            "Fetch {version}"
        );
    }
}

/// Its records are in the log; the frame they came in would fill the budget, and nobody else's requests would be read.
#[tokio::test]
async fn a_produce_that_waited_for_the_high_watermark_held_its_frame() {
    let id = TopicId(Uuid::from_u128(9));
    let mut more = vec![registration(OTHER, 2), MetadataRecord::UnfenceBroker { id: OTHER, epoch: BrokerEpoch(2) }];
    more.extend(topic("waits", id, ME));
    let f = Fixture::start_with(more);
    let partition = |name: &str, id: TopicId, timestamps: &[i64]| wire::produce::TopicProduceData {
        name: name.into(),
        topic_id: id.0,
        partition_data: vec![wire::produce::PartitionProduceData {
            index: 0,
            records: Some(Records::from(batch(timestamps))),
        }],
    };
    let waits = partition("waits", id, &[1000; 50_000]);
    let elsewhere = partition("not there", TopicId(Uuid::from_u128(10)), &[1000; 500]);
    for (acks, version, topics) in [(-1, 9, vec![&waits]), (-1, 13, vec![&waits, &elsewhere]), (1, 13, vec![&waits])] {
        let topic_data: Vec<_> = topics.into_iter().cloned().collect();
        let places = topic_data.len();
        let request = ProduceRequest { acks, timeout_ms: 300_000, topic_data, ..Default::default() };
        let frame = request_frame(&request, version, 5, Some("me")).expect("a frame").into_bytes().slice(4..);
        drop(request);
        let held = f.budget.take(frame.len()).await;
        assert!(f.budget.in_use() > 300_000);
        let handled = f.handlers.handle(&f.connection, frame.clone(), held).await;
        let Handled::Later(waiting) = handled else { panic!("it is not answered before it is replicated") };
        assert!(frame.is_unique(), "acks={acks}: nothing refers to the frame");
        assert_eq!(f.budget.in_use(), places * produce::WAITING_BYTES, "acks={acks}");
        drop(waiting);
        assert_eq!(f.budget.in_use(), 0);
    }
}

/// What comes behind it on the same connection waits as well: for that long, and not once more.
#[tokio::test(start_paused = true)]
async fn an_answer_that_names_a_leader_in_doubt_is_held_for_two_seconds_at_most() {
    let f = Fixture::start();
    let (connections, heard) = broadcast::channel(4);
    tokio::spawn(f.departures.clone().follow(heard, CancellationToken::new()));
    let mut doubts = f.departures.changes();
    let me = PeerIdentity {
        cluster_id: None,
        node_id: ME,
        directory_id: DirectoryId::NONE,
        incarnation: IncarnationId::NONE,
        broker_epoch: BrokerEpoch(1),
    };
    let began = Instant::now();
    let lost = PeerEvent::Closed {
        peer: me,
        lane: Lane::Control,
        direction: Direction::Inbound,
        reason: ClosedReason::Lost,
        at: began,
    };
    connections.send(lost).expect("it follows");
    doubts.changed().await.expect("it doubts");
    let named = wire::metadata::MetadataRequestTopic { name: Some("t".into()), ..Default::default() };
    let request = MetadataRequest { topics: Some(vec![named]), ..Default::default() };
    let mut took = Vec::new();
    for _ in 0..2 {
        f.ask(12, &request).await.expect("an answer");
        took.push(began.elapsed());
    }
    let bound = Duration::from_secs(2);
    assert!(took[0] >= bound && took.iter().all(|at| *at < bound + Duration::from_millis(100)), "{took:?}");
}

async fn commit_on(store: Arc<MemoryStore>) {
    loop {
        store.commit();
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

const OK: i16 = 0;

async fn data(f: &Fixture, key: ApiKey, version: i16) {
    match key {
        ApiKey::ApiVersions => {
            let request = ApiVersionsRequest {
                client_software_name: "test".into(),
                client_software_version: "1".into(),
                ..Default::default()
            };
            let answer = f.ask_both(version, &request).await;
            assert!(answer.error_code == OK && answer.api_keys.len() == APIS.len());
        }
        ApiKey::Produce => {
            let partition =
                wire::produce::PartitionProduceData { index: 0, records: Some(Records::from(batch(&[1000, 3000]))) };
            let topic = wire::produce::TopicProduceData {
                name: "t".into(),
                topic_id: TOPIC.0,
                partition_data: vec![partition],
            };
            let request = ProduceRequest { acks: -1, timeout_ms: 5000, topic_data: vec![topic], ..Default::default() };
            let answer = f.ask_both(version, &request).await;
            assert_eq!(answer.responses[0].partition_responses[0].error_code, OK, "{version}");
        }
        ApiKey::Fetch => {
            let wanted = |partition| wire::fetch::FetchPartition {
                partition,
                partition_max_bytes: 1 << 20,
                ..Default::default()
            };
            let topic = wire::fetch::FetchTopic {
                topic: "t".into(),
                topic_id: TOPIC.0,
                partitions: vec![wanted(0), wanted(9)],
            };
            let request = FetchRequest { max_wait_ms: 100, min_bytes: 1, topics: vec![topic], ..Default::default() };
            let answer = f.ask_both(version, &request).await;
            assert!(answer.responses[0].partitions[0].records.as_ref().is_some_and(|records| !records.is_empty()));
        }
        ApiKey::ListOffsets => {
            let asked = |(partition_index, timestamp)| wire::list_offsets::ListOffsetsPartition {
                partition_index,
                timestamp,
                ..Default::default()
            };
            let partitions = [(0, -2), (0, -1), (0, -3), (0, 2000), (9, -1)].into_iter().map(asked).collect();
            let topics = vec![wire::list_offsets::ListOffsetsTopic { name: "t".into(), partitions }];
            let answer = f.ask_both(version, &ListOffsetsRequest { topics, ..Default::default() }).await;
            assert_eq!(answer.topics[0].partitions[0].error_code, OK);
        }
        ApiKey::Metadata => {
            let named =
                |name: &str| wire::metadata::MetadataRequestTopic { name: Some(name.into()), ..Default::default() };
            let topics = Some(vec![named("t"), named("not there"), named("__consumer_offsets")]);
            let request = MetadataRequest { topics, ..Default::default() };
            let answer = f.ask_both(version, &request).await;
            assert!(answer.brokers.len() == 1 && answer.topics[0].partitions[0].leader_id == ME.0);
        }
        ApiKey::CreateTopics => {
            let topics = vec![wire::create_topics::CreatableTopic {
                name: "new".into(),
                num_partitions: 1,
                replication_factor: 1,
                ..Default::default()
            }];
            let answer = f.ask_both(version, &CreateTopicsRequest { topics, ..Default::default() }).await;
            assert_eq!(answer.topics[0].error_code, OK);
        }
        ApiKey::DeleteTopics => {
            let named = wire::delete_topics::DeleteTopicState { name: Some("t".into()), ..Default::default() };
            let request = match version {
                6.. => DeleteTopicsRequest { topics: vec![named, Default::default()], ..Default::default() },
                _ => DeleteTopicsRequest { topic_names: vec!["t".into()], ..Default::default() },
            };
            assert_eq!(f.ask_both(version, &request).await.responses[0].error_code, OK);
        }
        ApiKey::InitProducerId => {
            let request = InitProducerIdRequest { transactional_id: None, ..Default::default() };
            let answer = f.ask_both(version, &request).await;
            assert!(answer.error_code == OK && answer.producer_id >= 7);
            let request = InitProducerIdRequest { transactional_id: Some("tx".into()), ..Default::default() };
            let code = ErrorCode::TransactionalIdAuthorizationFailed.code();
            assert_eq!(f.ask_both(version, &request).await.error_code, code, "a client asks again, in vain");
        }
        ApiKey::OffsetForLeaderEpoch => {
            let asked = |partition| wire::offset_for_leader_epoch::OffsetForLeaderPartition {
                partition,
                leader_epoch: 0,
                ..Default::default()
            };
            let topic = wire::offset_for_leader_epoch::OffsetForLeaderTopic {
                topic: "t".into(),
                partitions: vec![asked(0), asked(9)],
            };
            let answer =
                f.ask_both(version, &OffsetForLeaderEpochRequest { topics: vec![topic], ..Default::default() }).await;
            assert_eq!(answer.topics[0].partitions[0].error_code, OK);
        }
        ApiKey::DescribeConfigs => {
            let resource = |resource_type, name: &str| wire::describe_configs::DescribeConfigsResource {
                resource_type,
                resource_name: name.into(),
                configuration_keys: None,
            };
            let resources = vec![resource(2, "t"), resource(4, "1"), resource(2, "not there")];
            let request = DescribeConfigsRequest { resources, include_synonyms: true, ..Default::default() };
            assert_eq!(f.ask_both(version, &request).await.results[0].error_code, OK);
        }
        ApiKey::IncrementalAlterConfigs => {
            let change = |value: Option<&str>| wire::incremental_alter_configs::AlterableConfig {
                name: "retention.ms".into(),
                config_operation: 0,
                value: value.map(Into::into),
            };
            let resource = |resource_type, name: &str, value| wire::incremental_alter_configs::AlterConfigsResource {
                resource_type,
                resource_name: name.into(),
                configs: vec![change(value)],
            };
            let resources = vec![
                resource(2, "t", Some("1")),
                resource(2, "t", Some("2")),
                resource(2, "u", None),
                resource(2, "__consumer_offsets", Some("1")),
                resource(77, "t", Some("1")),
            ];
            let request = IncrementalAlterConfigsRequest { resources, ..Default::default() };
            let answer = f.ask_both(version, &request).await;
            let invalid = ErrorCode::InvalidRequest.code();
            let codes: Vec<_> = answer.responses.iter().map(|r| (r.resource_type, r.error_code)).collect();
            assert_eq!(codes, [(2, invalid), (2, invalid), (2, invalid), (77, invalid), (2, OK)]);
        }
        ApiKey::ElectLeaders => {
            let topic =
                |topic: &str, partitions| wire::elect_leaders::TopicPartitions { topic: topic.into(), partitions };
            // The last one would be told to the controller once for each partition.
            let endless = "x".repeat(30_000);
            let topics = vec![topic("t", vec![0, 1, 2, 3, 4]), topic("u", vec![0]), topic(&endless, vec![7, 8])];
            let mut request = ElectLeadersRequest { topic_partitions: Some(topics), ..Default::default() };
            let codes = |answer: &wire::ElectLeadersResponse| -> Vec<(SmolStr, Vec<i16>)> {
                let of =
                    |results: &[wire::elect_leaders::PartitionResult]| results.iter().map(|r| r.error_code).collect();
                answer.replica_election_results.iter().map(|t| (t.topic.clone(), of(&t.partition_result))).collect()
            };
            use ErrorCode as E;
            let errors = [
                E::None,
                E::EligibleLeadersNotAvailable,
                E::PreferredLeaderNotAvailable,
                E::ElectionNotNeeded,
                E::RequestTimedOut,
            ];
            let of_t = errors.map(ErrorCode::code).to_vec();
            let unknown = E::UnknownTopicOrPartition.code();
            let expected =
                vec![("t".into(), of_t), ("u".into(), vec![unknown]), (endless.as_str().into(), vec![unknown; 2])];
            let answer = f.ask_both(version, &request).await;
            assert_eq!((answer.error_code, codes(&answer)), (OK, expected.clone()));
            let first = &answer.replica_election_results[0].partition_result;
            assert!(first[0].error_message.is_none() && first[1].error_message.is_some());
            let all = ElectLeadersRequest { topic_partitions: None, ..request.clone() };
            assert_eq!(codes(&f.ask(version, &all).await.expect("an answer")), [("t".into(), vec![OK])]);
            if version >= 1 {
                request.election_type = 1;
                assert_eq!(codes(&f.ask(version, &request).await.expect("an answer")), expected);
                request.election_type = 2;
                let answer = f.ask(version, &request).await.expect("an answer");
                assert_eq!((answer.error_code, codes(&answer)), (E::InvalidRequest.code(), vec![]));
            }
        }
        ApiKey::DescribeCluster => {
            assert_eq!(f.ask_both(version, &DescribeClusterRequest::default()).await.brokers.len(), 1);
        }
        ApiKey::DescribeTopicPartitions => {
            let named = |name: &str| wire::describe_topic_partitions::TopicRequest { name: name.into() };
            let request =
                DescribeTopicPartitionsRequest { topics: vec![named("t"), named("not there")], ..Default::default() };
            assert_eq!(f.ask_both(version, &request).await.topics.len(), 2);
        }
        _ => {} // of groups: below
    }
}

/// A group from its first member to its end, in versions up to this one.
async fn group(f: &Fixture, newest: i16) {
    let group_id = SmolStr::new(format!("g{newest}"));
    let of = |key: ApiKey| {
        let row = versions::api(key).expect("it is offered");
        newest.clamp(*row.accepted.start(), *row.accepted.end())
    };

    let version = of(ApiKey::FindCoordinator);
    let request = match version {
        4.. => FindCoordinatorRequest { coordinator_keys: vec![group_id.clone()], ..Default::default() },
        _ => FindCoordinatorRequest { key: group_id.clone(), ..Default::default() },
    };
    let answer = f.ask_both(version, &request).await;
    assert_eq!(answer.coordinators.first().map_or(answer.node_id, |c| c.node_id), ME.0);
    if version >= 1 {
        let of_transactions = FindCoordinatorRequest { key_type: 1, ..request };
        let answer = f.ask_both(version, &of_transactions).await;
        let code = answer.coordinators.first().map_or(answer.error_code, |c| c.error_code);
        let retriable = ErrorCode::from_code(code).is_none_or(ErrorCode::is_retriable);
        assert!(code != OK && !retriable, "a client asks again, in vain: {code}");
    }

    let protocol =
        wire::join_group::JoinGroupRequestProtocol { name: "range".into(), metadata: Bytes::from_static(b"m") };
    let mut request = JoinGroupRequest {
        group_id: group_id.clone(),
        session_timeout_ms: 10_000,
        rebalance_timeout_ms: 10_000,
        protocol_type: "consumer".into(),
        protocols: vec![protocol],
        ..Default::default()
    };
    let joined = loop {
        let answer = f.ask_both(of(ApiKey::JoinGroup), &request).await;
        match ErrorCode::from_code(answer.error_code) {
            Some(ErrorCode::MemberIdRequired) => request.member_id = answer.member_id,
            Some(ErrorCode::CoordinatorLoadInProgress | ErrorCode::NotCoordinator) => tokio::task::yield_now().await,
            _ => break answer,
        }
    };
    assert_eq!((joined.error_code, joined.members.len()), (OK, 1), "{joined:?}");
    let (member_id, generation_id) = (joined.member_id, joined.generation_id);

    let assignment = wire::sync_group::SyncGroupRequestAssignment {
        member_id: member_id.clone(),
        assignment: Bytes::from_static(b"a"),
    };
    let request = SyncGroupRequest {
        group_id: group_id.clone(),
        generation_id,
        member_id: member_id.clone(),
        assignments: vec![assignment],
        ..Default::default()
    };
    assert_eq!(f.ask_both(of(ApiKey::SyncGroup), &request).await.assignment, Bytes::from_static(b"a"));
    let request = HeartbeatRequest {
        group_id: group_id.clone(),
        generation_id,
        member_id: member_id.clone(),
        ..Default::default()
    };
    assert_eq!(f.ask_both(of(ApiKey::Heartbeat), &request).await.error_code, OK);
    let request = DescribeGroupsRequest { groups: vec![group_id.clone(), "none".into()], ..Default::default() };
    assert_eq!(f.ask_both(of(ApiKey::DescribeGroups), &request).await.groups[0].members.len(), 1);
    let listed = f.ask_both(of(ApiKey::ListGroups), &ListGroupsRequest::default()).await;
    assert!(listed.groups.iter().any(|group| group.group_id == group_id));

    let partition = wire::offset_commit::OffsetCommitRequestPartition {
        partition_index: 0,
        committed_offset: 3,
        ..Default::default()
    };
    let topic = wire::offset_commit::OffsetCommitRequestTopic {
        name: "t".into(),
        topic_id: TOPIC.0,
        partitions: vec![partition],
    };
    let request = OffsetCommitRequest {
        group_id: group_id.clone(),
        generation_id_or_member_epoch: generation_id,
        member_id: member_id.clone(),
        topics: vec![topic],
        ..Default::default()
    };
    let answer = f.ask_both(of(ApiKey::OffsetCommit), &request).await;
    assert_eq!(answer.topics[0].partitions[0].error_code, OK);
    fetch_offsets(f, of(ApiKey::OffsetFetch), &group_id).await;

    let version = of(ApiKey::LeaveGroup);
    let leaving = wire::leave_group::MemberIdentity { member_id: member_id.clone(), ..Default::default() };
    let request = match version {
        3.. => LeaveGroupRequest { group_id: group_id.clone(), members: vec![leaving], ..Default::default() },
        _ => LeaveGroupRequest { group_id: group_id.clone(), member_id, ..Default::default() },
    };
    assert_eq!(f.ask_both(version, &request).await.error_code, OK);
    let request = DeleteGroupsRequest { groups_names: vec![group_id, "none".into()] };
    assert_eq!(f.ask_both(of(ApiKey::DeleteGroups), &request).await.results.len(), 2);
}

async fn fetch_offsets(f: &Fixture, version: i16, group_id: &SmolStr) {
    let offset = if version >= 8 {
        let topic = wire::offset_fetch::OffsetFetchRequestTopics {
            name: "t".into(),
            topic_id: TOPIC.0,
            partition_indexes: vec![0, 9],
        };
        let group = wire::offset_fetch::OffsetFetchRequestGroup {
            group_id: group_id.clone(),
            topics: Some(vec![topic]),
            ..Default::default()
        };
        let answer = f.ask_both(version, &OffsetFetchRequest { groups: vec![group], ..Default::default() }).await;
        answer.groups[0].topics[0].partitions[0].committed_offset
    } else {
        let topic = wire::offset_fetch::OffsetFetchRequestTopic { name: "t".into(), partition_indexes: vec![0, 9] };
        let request =
            OffsetFetchRequest { group_id: group_id.clone(), topics: Some(vec![topic]), ..Default::default() };
        f.ask_both(version, &request).await.topics[0].partitions[0].committed_offset
    };
    assert_eq!(offset, 3, "version {version}");
}

#[tokio::test]
async fn every_advertised_version_of_every_api_can_be_answered() {
    let f = Fixture::start();
    for row in APIS {
        for version in row.accepted.clone() {
            data(&f, row.key, version).await;
        }
    }
    for newest in 0..=10 {
        group(&f, newest).await;
    }
    let answered = f.answered.lock();
    for row in APIS {
        for version in row.accepted.clone() {
            assert!(answered.contains(&(row.key as i16, version)), "{} {version} was not asked", row.key.name());
        }
    }
}
