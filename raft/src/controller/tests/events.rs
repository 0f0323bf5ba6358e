//! What decisions leave in the event log: for each, its cause and what happened.

use super::*;
use crate::image::events::{
    ConfigValue, Event, Happening, LISTED_MAX, PartitionChangeKind as Kind, PartitionTransition,
};
use crate::record::{Cause, DiskReport, Finding, Observation};

/// What the last entry made happen, and why.
fn last(cluster: &Cluster) -> Vec<(Cause, Happening)> {
    let offset = cluster.image.offset;
    let of_entry =
        |(_, event): (u64, &Arc<Event>)| (event.offset == offset).then(|| (event.provenance.cause, event.what.clone()));
    cluster.image.events.iter().filter_map(of_entry).collect()
}

/// Kinds and causes of the last entry.
fn kinds(cluster: &Cluster) -> Vec<(Cause, &'static str)> {
    last(cluster).into_iter().map(|(cause, what)| (cause, what.kind())).collect()
}

fn transition(happening: &Happening) -> (Kind, &PartitionTransition) {
    match happening {
        Happening::PartitionsChanged { change, partitions } => (*change, &partitions.listed[0]),
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_life_of_a_broker() {
    let mut cluster = Cluster::formed(3);
    assert_eq!(kinds(&cluster)[0], (Cause::Formation, "cluster_formed"));
    cluster.register(1, &[(directory(1, 0), DirectoryState::Online)]).expect("registered");
    assert_eq!(kinds(&cluster), [(Cause::Registration, "broker_registered")]);
    cluster.heartbeat(1);
    assert_eq!(kinds(&cluster), [(Cause::CaughtUp, "broker_unfenced")]);
    cluster.start(2);
    cluster.create_on("t", &[1, 2]);
    assert_eq!(kinds(&cluster), [(Cause::TopicCreationRequested, "topics_created")]);
    let (id, epoch) = (NodeId(1), cluster.epochs[&NodeId(1)]);
    cluster.fence(1);
    let cause = Cause::Convicted(Conviction::ConnectionClosedAndRefused);
    let happened = last(&cluster);
    assert_eq!(happened[0], (cause, Happening::BrokerFenced { id, epoch }));
    let (kind, moved) = transition(&happened[1].1);
    assert_eq!((kind, &*moved.topic, moved.partition), (Kind::LeaderElected, "t", 0));
    assert_eq!((moved.leader_before, moved.leader, moved.leader_epoch), (NodeId(1), NodeId(2), LeaderEpoch(1)));
    assert_eq!((&moved.isr_before, &moved.isr, &moved.elr), (&list(&[1, 2]), &list(&[2]), &list(&[1])));
    assert_eq!(happened.len(), 2);
    // The last one goes by itself.
    cluster.beat(2, |beat| beat.want_shutdown = true).expect("heartbeat");
    assert_eq!(
        kinds(&cluster),
        [(Cause::ShutdownRequested, "broker_shutting_down"), (Cause::ShutdownRequested, "leader_lost")]
    );
    cluster.beat(2, |beat| beat.want_shutdown = true).expect("heartbeat");
    assert_eq!(kinds(&cluster), [(Cause::ShutdownCompleted, "broker_fenced")]);
    cluster.heartbeat(1);
    assert_eq!(kinds(&cluster), [(Cause::CaughtUp, "broker_unfenced"), (Cause::CaughtUp, "leader_elected")]);
    cluster.beat(1, |beat| beat.want_fence = true).expect("heartbeat");
    assert_eq!(kinds(&cluster)[0], (Cause::FenceRequested, "broker_fenced"));
    cluster.start(2);
    cluster.now += Duration::from_secs(1);
    cluster.ask(ControllerRequest::ExpireSessions).expect("nobody yet");
    for _ in 0..3 {
        cluster.now += Duration::from_secs(1);
        cluster.ask(ControllerRequest::ExpireSessions).expect("expired");
    }
    assert_eq!(kinds(&cluster)[0], (Cause::SessionExpired, "broker_fenced"));
    cluster.ask(ControllerRequest::UnregisterBroker { id: NodeId(2) }).expect("unregistered");
    assert_eq!(kinds(&cluster)[0], (Cause::UnregistrationRequested, "broker_unregistered"));
}

#[test]
fn disks_that_are_wiped_lost_reopened_or_full() {
    let mut cluster = Cluster::with_brokers(3);
    let id = cluster.create_on("t", &[1, 2, 3]);
    cluster.controller.heartbeat_connection_closed(NodeId(2), cluster.epochs[&NodeId(2)]);
    cluster.register(2, &[(directory(2, 1), DirectoryState::LogLost)]).expect("registered");
    let happened = last(&cluster);
    let Happening::BrokerRegistered { directories, .. } = &happened[0].1 else { panic!("{happened:?}") };
    let said: Vec<_> = directories.listed.iter().map(|d| (d.id, d.before, d.after)).collect();
    let (online, lost) = (Some(DirectoryState::Online), Some(DirectoryState::LogLost));
    assert_eq!(said, [(directory(2, 0), online, None), (directory(2, 1), None, lost)]);
    assert_eq!(transition(&happened[1].1).0, Kind::IsrShrunk);
    let report = |cluster: &mut Cluster, broker: i32, state, reopened: bool| {
        let at = directory(broker, 0);
        let request = UpdateDirectoriesRequest {
            id: NodeId(broker),
            epoch: cluster.epochs[&NodeId(broker)],
            directories: vec![Directory { id: at, state }],
            reopened: if reopened { vec![at] } else { vec![] },
            lost: vec![],
            renewed: vec![],
        };
        cluster.ask(ControllerRequest::UpdateDirectories(request)).expect("reported");
    };
    report(&mut cluster, 1, DirectoryState::Online, true);
    let cause = Cause::DirectoriesReported { broker: NodeId(1), reopened: true };
    assert_eq!(kinds(&cluster), [(cause, "leader_renewed")]);
    report(&mut cluster, 1, DirectoryState::Offline, false);
    let cause = Cause::DirectoriesReported { broker: NodeId(1), reopened: false };
    assert_eq!(kinds(&cluster), [(cause, "directories_changed"), (cause, "leader_elected")]);
    report(&mut cluster, 1, DirectoryState::Online, false);
    cluster.alter_isr(id, &[3, 1]).expect("grown");
    assert_eq!(kinds(&cluster), [(Cause::IsrProposed { leader: NodeId(3) }, "isr_grown")]);
    cluster.beat(3, |beat| beat.oldest_unfinished_commit = Duration::from_secs(5)).expect("heartbeat");
    let cause = Cause::DiskReported { broker: NodeId(3), disk: DiskReport::Stalled };
    assert_eq!(kinds(&cluster), [(cause, "leader_elected")]);
    cluster.heartbeat(3);
    cluster.alter_isr(id, &[1, 3]).expect("grown");
    cluster.alter_isr(id, &[1]).expect("shrunk");
    let happened = last(&cluster);
    assert_eq!(happened[0].0, Cause::IsrProposed { leader: NodeId(1) });
    let (kind, shrunk) = transition(&happened[0].1);
    assert_eq!((kind, &shrunk.isr_before, &shrunk.isr), (Kind::IsrShrunk, &list(&[1, 3]), &list(&[1])));
    cluster.set_config(ConfigResource::topic("t"), MIN_INSYNC_REPLICAS, ConfigOp::Set("1".into())).expect("set");
    assert_eq!(
        kinds(&cluster),
        [(Cause::ConfigsRequested, "configs_changed"), (Cause::ConfigsRequested, "eligible_changed")]
    );
}

#[test]
fn elections() {
    let mut cluster = Cluster::with_brokers(2);
    let id = cluster.create_on("t", &[1, 2]);
    cluster.fence(1);
    cluster.heartbeat(1);
    cluster.alter_isr(id, &[1, 2]).expect("grown");
    cluster.now += Duration::from_secs(6);
    cluster.heartbeat(1);
    cluster.heartbeat(2);
    cluster.ask(ControllerRequest::RebalanceLeaders).expect("rebalanced");
    assert_eq!(kinds(&cluster), [(Cause::LeaderBalance, "leader_elected")]);
    cluster.fence(1);
    cluster.heartbeat(1);
    cluster.alter_isr(id, &[1, 2]).expect("grown");
    let elect = |cluster: &mut Cluster, election| {
        let request = ElectLeadersRequest { election, partitions: None };
        cluster.ask(ControllerRequest::ElectLeaders(request)).expect("elected");
        kinds(cluster)
    };
    let cause = Cause::ElectionRequested { unclean: false };
    assert_eq!(elect(&mut cluster, ElectionRequest::Preferred), [(cause, "leader_elected")]);
    // Broker 2 falls out and both eligible disks are lost: who leads then may miss committed records.
    cluster.set_config(ConfigResource::topic("t"), MIN_INSYNC_REPLICAS, ConfigOp::Set("1".into())).expect("set");
    cluster.alter_isr(id, &[1]).expect("shrunk");
    cluster.fence(1);
    assert_eq!(kinds(&cluster)[1].1, "leader_lost");
    let cause = Cause::ElectionRequested { unclean: true };
    assert_eq!(elect(&mut cluster, ElectionRequest::Unclean), [(cause, "unclean_leader_elected")]);
    // Again, while it has not recovered from the first: no less unclean.
    cluster.fence(2);
    cluster.heartbeat(1);
    assert_eq!(elect(&mut cluster, ElectionRequest::Unclean), [(cause, "unclean_leader_elected")]);
    let partition = cluster.partition(id);
    let recovered = IsrChange {
        partition: id,
        leader_epoch: partition.leader_epoch,
        partition_epoch: partition.partition_epoch,
        isr: vec![(NodeId(1), cluster.epochs[&NodeId(1)])],
        recovery_state: LeaderRecoveryState::Recovered,
    };
    cluster.alter(NodeId(1), recovered).expect("recovered");
    assert_eq!(kinds(&cluster)[0].1, "leader_recovered");
}

#[test]
fn topics_and_configs_come_and_go() {
    let mut cluster = Cluster::with_brokers(1);
    let mut topic = named("t", 3, 1);
    topic.configs.insert("retention.ms".into(), Some("5".into()));
    cluster.create(topic).expect("created");
    let happened = last(&cluster);
    let Happening::TopicsCreated(topics) = &happened[0].1 else { panic!("{happened:?}") };
    assert_eq!((&*topics.listed[0].topic, topics.listed[0].partitions, happened.len()), ("t", 3, 1));
    let topics = vec![NewPartitions { topic: "t".into(), count: 5, assignments: vec![] }];
    let request = CreatePartitionsRequest { topics, validate_only: false };
    cluster.ask(ControllerRequest::CreatePartitions(request)).expect("grown");
    let happened = last(&cluster);
    let Happening::PartitionsAdded(topics) = &happened[0].1 else { panic!("{happened:?}") };
    assert_eq!((happened[0].0, topics.listed[0].partitions), (Cause::PartitionsRequested, 2));
    cluster.set_config(ConfigResource::topic("t"), "retention.ms", ConfigOp::Set("7".into())).expect("set");
    let happened = last(&cluster);
    let Happening::ConfigsChanged(configs) = &happened[0].1 else { panic!("{happened:?}") };
    let (before, after) = (ConfigValue::Set("5".into()), ConfigValue::Set("7".into()));
    assert_eq!((&configs.listed[0].before, &configs.listed[0].after), (&before, &after));
    let request = EnsureInternalTopicRequest {
        name: "__x".into(),
        partitions: 1,
        replication_factor: 1,
        configs: BTreeMap::new(),
    };
    cluster.ask(ControllerRequest::EnsureInternalTopic(request)).expect("created");
    assert_eq!(kinds(&cluster), [(Cause::InternalTopicNeeded, "topics_created")]);
    cluster.ask(ControllerRequest::DeleteTopics { topics: vec![TopicRef::Name("t".into())] }).expect("deleted");
    assert_eq!(kinds(&cluster), [(Cause::TopicDeletionRequested, "topics_deleted")]);
    let events = cluster.image.events.len();
    let (broker, epoch) = (NodeId(1), cluster.epochs[&NodeId(1)]);
    cluster.ask(ControllerRequest::AllocateProducerIds { broker, epoch }).expect("allocated");
    assert_eq!(cluster.image.events.len(), events, "no event for people");
}

#[test]
fn a_broker_of_many_partitions_is_fenced_in_a_handful_of_events() {
    let mut cluster = Cluster::with_brokers(3);
    cluster.create(named("t", 900, 2)).expect("created");
    let before = cluster.image.clone();
    cluster.fence(1);
    let happened = last(&cluster);
    assert_eq!(happened.len(), 3, "the fence, elections, ISRs: {happened:?}");
    let mut total = 0;
    for (_, what) in &happened[1..] {
        let Happening::PartitionsChanged { partitions, .. } = what else { panic!("{what:?}") };
        assert_eq!(partitions.listed.len(), LISTED_MAX);
        total += partitions.total();
    }
    let of_broker = before.topics.partitions().filter(|(_, p)| p.replicas.contains(&NodeId(1))).count();
    assert_eq!(total, of_broker);
}

#[test]
fn decisions_of_one_batch_keep_their_causes() {
    let mut cluster = Cluster::with_brokers(2);
    cluster.create_on("t", &[1, 2]);
    let author = Author { controller: NodeId(7), term: 9, unix_ms: 1234 };
    let mut batch = Batch::new(author, cluster.image.clone());
    let (id, epoch) = (NodeId(1), cluster.epochs[&NodeId(1)]);
    let why = Conviction::SilentAndRefused;
    let create = |name| {
        ControllerRequest::CreateTopics(CreateTopicsRequest { topics: vec![named(name, 1, 2)], validate_only: false })
    };
    for request in [create("a"), create("b"), ControllerRequest::FenceBroker { id, epoch, why }, create("c")] {
        cluster.controller.handle(&mut batch, &request, cluster.now).expect("decided");
    }
    assert_eq!(batch.image().events, cluster.image.events, "no decision sees events");
    cluster.commit(batch.into_records());
    let asked = Cause::TopicCreationRequested;
    let convicted = Cause::Convicted(why);
    assert_eq!(
        kinds(&cluster),
        [
            (asked, "topics_created"),
            (convicted, "broker_fenced"),
            (convicted, "leader_elected"),
            (asked, "topics_created")
        ]
    );
    let (_, event) = cluster.image.events.iter().next_back().expect("an event");
    let provenance = event.provenance;
    assert_eq!((provenance.controller, provenance.term, provenance.unix_ms), (NodeId(7), 9, 1234));
}

#[test]
fn what_was_seen_goes_along_before_the_decision_and_decides_nothing() {
    let mut cluster = Cluster::with_brokers(2);
    cluster.create_on("t", &[1, 2]);
    let (id, epoch) = (NodeId(1), cluster.epochs[&NodeId(1)]);
    let seen = |finding| Observation { broker: id, epoch, finding, count: 2 };
    let author = Author { controller: NodeId(2), term: 1, unix_ms: 0 };
    cluster.controller.observed(&[seen(Finding::SuspectedByGossip)], cluster.now);
    let mut batch = Batch::new(author, cluster.image.clone());
    cluster.controller.tell_observations(&mut batch, cluster.now);
    assert!(batch.records().is_empty(), "not alone at once");
    let why = Conviction::SilentAndRefused;
    let fence = ControllerRequest::FenceBroker { id, epoch, why };
    cluster.controller.handle(&mut batch, &fence, cluster.now).expect("fenced");
    let alone = batch.records().to_vec();
    cluster.controller.tell_observations(&mut batch, cluster.now);
    assert!(batch.records().ends_with(&alone), "the decision is what it is without");
    cluster.commit(batch.into_records());
    let convicted = Cause::Convicted(why);
    assert_eq!(
        kinds(&cluster),
        [(Cause::Observed, "suspected_by_gossip"), (convicted, "broker_fenced"), (convicted, "leader_elected")]
    );
    // What a deposed controller has not written is gone with its office.
    cluster.controller.observed(&[seen(Finding::Acquitted)], cluster.now);
    cluster.controller.resign();
    cluster.controller.observed(&[seen(Finding::Acquitted)], cluster.now);
    cluster.controller.activate(2, &cluster.image, cluster.now);
    cluster.now += Duration::from_secs(60);
    let mut batch = Batch::new(author, cluster.image.clone());
    cluster.controller.tell_observations(&mut batch, cluster.now);
    assert!(batch.records().is_empty());
}

#[test]
fn a_disk_that_fills_up_is_told_though_nothing_had_to_move() {
    let mut cluster = Cluster::with_brokers(2);
    cluster.beat(2, |beat| beat.disk_space = DiskSpace::Reserve).expect("heartbeat");
    cluster.heartbeat(2);
    let author = Author { controller: NodeId(1), term: 1, unix_ms: 0 };
    cluster.now += Duration::from_secs(1);
    let mut batch = Batch::new(author, cluster.image.clone());
    cluster.controller.tell_observations(&mut batch, cluster.now);
    cluster.commit(batch.into_records());
    assert_eq!(kinds(&cluster), [(Cause::Observed, "disk_full"), (Cause::Observed, "disk_in_order")]);
}
