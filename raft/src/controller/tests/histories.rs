//! Random histories: whatever brokers, operators and failures do, the invariants hold after every entry.

use super::*;
use crate::image::{read_snapshot, write_snapshot};
use proptest::prelude::*;

const BROKERS: i32 = 4;

#[derive(Clone, Debug)]
enum Step {
    Start {
        broker: i32,
        disk: Disk,
    },
    Beat {
        broker: i32,
    },
    Fence {
        broker: i32,
    },
    Leave {
        broker: i32,
    },
    Stall {
        broker: i32,
        stalled: bool,
        space: DiskSpace,
    },
    Directory {
        broker: i32,
        state: DirectoryState,
        reopened: bool,
    },
    /// A broker gives up the log of some partition, or has begun another since.
    GiveUp {
        broker: i32,
        pick: prop::sample::Index,
        renewed: bool,
    },
    Unregister {
        broker: i32,
    },
    Create {
        topic: u8,
        partitions: i32,
        replication_factor: i16,
    },
    Delete {
        topic: u8,
    },
    Grow {
        topic: u8,
        partitions: i32,
    },
    /// The leader of some partition asks for the ISR this mask picks out of the replicas.
    Isr {
        pick: prop::sample::Index,
        mask: u8,
    },
    MinIsr {
        topic: Option<u8>,
        value: Option<u8>,
    },
    Unclean {
        topic: u8,
        enabled: bool,
    },
    Elect {
        unclean: bool,
    },
    Rebalance,
    Time {
        millis: u16,
    },
    FailOver,
}

#[derive(Clone, Copy, Debug)]
enum Disk {
    Kept,
    Lost,
    Wiped,
    Offline,
}

fn step() -> impl Strategy<Value = Step> {
    let broker = || 1..=BROKERS;
    let topic = || 0u8..3;
    let disk =
        prop_oneof![6 => Just(Disk::Kept), 1 => Just(Disk::Lost), 1 => Just(Disk::Wiped), 1 => Just(Disk::Offline)];
    let space = prop_oneof![Just(DiskSpace::Ample), Just(DiskSpace::Low), Just(DiskSpace::Reserve)];
    let state = prop_oneof![Just(DirectoryState::Online), Just(DirectoryState::Offline), Just(DirectoryState::LogLost)];
    prop_oneof![
        6 => (broker(), disk).prop_map(|(broker, disk)| Step::Start { broker, disk }),
        8 => broker().prop_map(|broker| Step::Beat { broker }),
        4 => broker().prop_map(|broker| Step::Fence { broker }),
        2 => broker().prop_map(|broker| Step::Leave { broker }),
        2 => (broker(), any::<bool>(), space)
            .prop_map(|(broker, stalled, space)| Step::Stall { broker, stalled, space }),
        1 => (broker(), state, any::<bool>())
            .prop_map(|(broker, state, reopened)| Step::Directory { broker, state, reopened }),
        3 => (broker(), any::<prop::sample::Index>(), any::<bool>())
            .prop_map(|(broker, pick, renewed)| Step::GiveUp { broker, pick, renewed }),
        1 => broker().prop_map(|broker| Step::Unregister { broker }),
        3 => (topic(), 1..4i32, 1..4i16).prop_map(|(topic, partitions, replication_factor)| Step::Create {
            topic, partitions, replication_factor
        }),
        1 => topic().prop_map(|topic| Step::Delete { topic }),
        1 => (topic(), 2..6i32).prop_map(|(topic, partitions)| Step::Grow { topic, partitions }),
        10 => (any::<prop::sample::Index>(), any::<u8>()).prop_map(|(pick, mask)| Step::Isr { pick, mask }),
        2 => (prop::option::of(topic()), prop::option::of(1u8..4))
            .prop_map(|(topic, value)| Step::MinIsr { topic, value }),
        1 => (topic(), any::<bool>()).prop_map(|(topic, enabled)| Step::Unclean { topic, enabled }),
        1 => any::<bool>().prop_map(|unclean| Step::Elect { unclean }),
        2 => Just(Step::Rebalance),
        4 => (0u16..1200).prop_map(|millis| Step::Time { millis }),
        1 => Just(Step::FailOver),
    ]
}

/// Which replicas truly hold everything committed, kept beside the controller and by another rule than its own: a set
/// per partition that loses who is out of a committing ISR, and whose disk lost data.
type Holders = BTreeMap<TopicIdPartition, ReplicaList>;

struct History {
    cluster: Cluster,
    disks: BTreeMap<i32, u8>,
    holders: Holders,
    unclean_asked: bool,
}

impl History {
    fn new() -> Self {
        Self { cluster: Cluster::formed(3), disks: BTreeMap::new(), holders: Holders::new(), unclean_asked: false }
    }

    fn run(&mut self, step: &Step) {
        let before = self.cluster.image.clone();
        self.unclean_asked = matches!(step, Step::Elect { unclean: true });
        self.lose_data(step);
        // Requests may be refused; what matters is what they leave behind.
        let _ = self.ask(step);
        let after = self.cluster.image.clone();
        self.check(&before, &after);
    }

    fn directory_of(&self, broker: i32) -> DirectoryId {
        directory(broker, self.disks.get(&broker).copied().unwrap_or(0))
    }

    fn lose_data(&mut self, step: &Step) {
        let broker = match step {
            Step::Start { broker, disk: Disk::Lost | Disk::Wiped } => *broker,
            Step::Directory { broker, state: DirectoryState::LogLost, .. } => {
                // A broker reports a loss once; afterwards the state only repeats it.
                let known = self.cluster.image.cluster.broker(NodeId(*broker));
                let state = known.and_then(|b| b.directory_state(self.directory_of(*broker)));
                if state == Some(DirectoryState::LogLost) {
                    return;
                }
                *broker
            }
            Step::GiveUp { broker, pick, renewed: false } if self.would_be_accepted(step, *broker) => {
                let Some(id) = self.replica_of(*broker, pick) else { return };
                return self.holders.entry(id).or_default().retain(|r| r.0 != *broker);
            }
            _ => return,
        };
        // Only if the request is accepted; a refused one is not a life. Checked by its epoch below.
        let accepted = self.would_be_accepted(step, broker);
        if accepted {
            self.holders.values_mut().for_each(|holders| holders.retain(|r| r.0 != broker));
        }
    }

    /// One of the broker's replicas.
    fn replica_of(&self, broker: i32, pick: &prop::sample::Index) -> Option<TopicIdPartition> {
        let all = self.cluster.image.topics.partitions();
        let its: Vec<_> = all.filter(|(_, p)| p.replicas.contains(&NodeId(broker))).map(|(id, _)| id).collect();
        (!its.is_empty()).then(|| *pick.get(&its))
    }

    fn would_be_accepted(&self, step: &Step, broker: i32) -> bool {
        match step {
            Step::Start { .. } => true, // start() closes the earlier life's connection first
            _ => {
                let known = self.cluster.image.cluster.broker(NodeId(broker));
                known.is_some_and(|b| self.cluster.epochs.get(&NodeId(broker)) == Some(&b.epoch()))
            }
        }
    }

    fn ask(&mut self, step: &Step) -> Option<Answer> {
        let epoch_of = |cluster: &Cluster, broker: i32| cluster.epochs.get(&NodeId(broker)).copied();
        let name = |topic: u8| format!("topic-{topic}");
        let answer = match step {
            Step::Start { broker, disk } => {
                if let Some(epoch) = epoch_of(&self.cluster, *broker) {
                    self.cluster.controller.heartbeat_connection_closed(NodeId(*broker), epoch);
                }
                if matches!(disk, Disk::Wiped) {
                    *self.disks.entry(*broker).or_default() += 1;
                }
                let state = match disk {
                    Disk::Kept | Disk::Wiped => DirectoryState::Online,
                    Disk::Lost => DirectoryState::LogLost,
                    Disk::Offline => DirectoryState::Offline,
                };
                let at = self.directory_of(*broker);
                let answer = self.cluster.register(*broker, &[(at, state)]);
                assert!(answer.is_ok(), "{answer:?}");
                answer
            }
            Step::Beat { broker } => {
                epoch_of(&self.cluster, *broker)?;
                self.cluster.beat(*broker, |_| {})
            }
            Step::Leave { broker } => {
                epoch_of(&self.cluster, *broker)?;
                self.cluster.beat(*broker, |beat| beat.want_shutdown = true)
            }
            Step::Stall { broker, stalled, space } => {
                epoch_of(&self.cluster, *broker)?;
                let age = Duration::from_secs(if *stalled { 3 } else { 0 });
                self.cluster.beat(*broker, |beat| (beat.oldest_unfinished_commit, beat.disk_space) = (age, *space))
            }
            Step::Fence { broker } => {
                let epoch = epoch_of(&self.cluster, *broker)?;
                let why = Conviction::SilentAndPingsUnanswered;
                self.cluster.ask(ControllerRequest::FenceBroker { id: NodeId(*broker), epoch, why })
            }
            Step::Directory { broker, state, reopened } => {
                let (id, at) = (NodeId(*broker), self.directory_of(*broker));
                self.cluster.ask(ControllerRequest::UpdateDirectories(UpdateDirectoriesRequest {
                    id,
                    epoch: epoch_of(&self.cluster, *broker)?,
                    directories: vec![Directory { id: at, state: *state }],
                    reopened: if *reopened { vec![at] } else { vec![] },
                    lost: vec![],
                    renewed: vec![],
                }))
            }
            Step::GiveUp { broker, pick, renewed } => {
                let id = self.replica_of(*broker, pick)?;
                let known = self.cluster.image.cluster.broker(NodeId(*broker))?;
                let (lost, renewed) = if *renewed { (vec![], vec![id]) } else { (vec![id], vec![]) };
                self.cluster.ask(ControllerRequest::UpdateDirectories(UpdateDirectoriesRequest {
                    id: NodeId(*broker),
                    epoch: epoch_of(&self.cluster, *broker)?,
                    directories: known.record.directories.clone(),
                    reopened: vec![],
                    lost,
                    renewed,
                }))
            }
            Step::Unregister { broker } => {
                self.cluster.ask(ControllerRequest::UnregisterBroker { id: NodeId(*broker) })
            }
            Step::Create { topic, partitions, replication_factor } => {
                let topics = vec![named(&name(*topic), *partitions, *replication_factor)];
                let request = CreateTopicsRequest { topics, validate_only: false };
                self.cluster.ask(ControllerRequest::CreateTopics(request))
            }
            Step::Delete { topic } => {
                self.cluster.ask(ControllerRequest::DeleteTopics { topics: vec![TopicRef::Name(name(*topic))] })
            }
            Step::Grow { topic, partitions } => {
                let topics = vec![NewPartitions { topic: name(*topic), count: *partitions, assignments: vec![] }];
                let request = CreatePartitionsRequest { topics, validate_only: false };
                self.cluster.ask(ControllerRequest::CreatePartitions(request))
            }
            Step::Isr { pick, mask } => return self.ask_for_isr(pick, *mask),
            Step::MinIsr { topic, value } => {
                let resource = topic.map_or(ConfigResource::cluster(), |t| ConfigResource::topic(name(t)));
                let op = value.map_or(ConfigOp::Delete, |v| ConfigOp::Set(v.to_string()));
                let _ = self.cluster.set_config(resource, MIN_INSYNC_REPLICAS, op);
                return None;
            }
            Step::Unclean { topic, enabled } => {
                let op = ConfigOp::Set(enabled.to_string());
                let resource = ConfigResource::topic(name(*topic));
                let _ = self.cluster.set_config(resource, UNCLEAN_LEADER_ELECTION_ENABLE, op);
                return None;
            }
            Step::Elect { unclean } => {
                let election = if *unclean { ElectionRequest::Unclean } else { ElectionRequest::Preferred };
                self.cluster.ask(ControllerRequest::ElectLeaders(ElectLeadersRequest { election, partitions: None }))
            }
            Step::Rebalance => self.cluster.ask(ControllerRequest::RebalanceLeaders),
            Step::Time { millis } => {
                self.cluster.now += Duration::from_millis(u64::from(*millis));
                self.cluster.ask(ControllerRequest::ExpireSessions)
            }
            Step::FailOver => {
                self.cluster.controller.resign();
                let term = self.cluster.log.len() as u64 + 2;
                self.cluster.controller.activate(term, &self.cluster.image, self.cluster.now);
                return None;
            }
        };
        Some(answer)
    }

    fn ask_for_isr(&mut self, pick: &prop::sample::Index, mask: u8) -> Option<Answer> {
        let led: Vec<_> = self.cluster.image.topics.partitions().filter(|(_, p)| p.has_leader()).collect();
        if led.is_empty() {
            return None;
        }
        let (id, partition) = led[pick.index(led.len())];
        let chosen = |at: usize, r: NodeId| r == partition.leader || mask & (1 << at) != 0;
        let isr: Vec<i32> =
            partition.replicas.iter().enumerate().filter(|(at, r)| chosen(*at, **r)).map(|(_, r)| r.0).collect();
        if isr.iter().any(|r| !self.cluster.epochs.contains_key(&NodeId(*r))) {
            return None;
        }
        // Who joins has caught up with the leader first, so it holds everything.
        if let Ok(after) = self.cluster.alter_isr(id, &isr) {
            let holders = self.holders.entry(id).or_default();
            for replica in after.isr {
                if !holders.contains(&replica) {
                    holders.push(replica);
                }
            }
        }
        None
    }

    // ---- what must hold ----

    fn check(&mut self, before: &Arc<MetadataImage>, after: &Arc<MetadataImage>) {
        self.holders.retain(|id, _| after.partition(*id).is_some());
        for (id, partition) in after.topics.partitions() {
            assert_eq!(partition.broken_invariant(), None, "{id}: {partition:?}");
            self.check_brokers(after, id, partition);
            let old = before.partition(id);
            if let Some(old) = old {
                check_epochs(id, old, partition);
            }
            self.check_holders(after, id, old.map(Arc::as_ref), partition);
        }
        for broker in after.cluster.brokers() {
            let old = before.cluster.broker(broker.id());
            assert!(old.is_none_or(|old| old.epoch() <= broker.epoch()), "broker epochs only grow");
            assert!(broker.epoch().0 <= broker.registered_at.0, "no epoch above its entry");
        }
    }

    fn check_brokers(&self, image: &MetadataImage, id: TopicIdPartition, partition: &PartitionRegistration) {
        for replica in &partition.isr {
            assert!(
                !image.cluster.broker(*replica).is_none_or(|b| b.fenced),
                "{id}: {replica} is fenced and in the ISR"
            );
        }
        if partition.has_leader() {
            assert!(image.cluster.is_active(partition.leader), "{id}: the leader is not active: {partition:?}");
            let broker = image.cluster.broker(partition.leader).expect("active");
            let directory = partition.directory_of(partition.leader).expect("a replica");
            assert!(broker.can_host(directory), "{id}: the leader's directory cannot be used");
        }
    }

    /// Every ISR and ELR member holds everything committed; and nobody is forgotten who does, while he is needed.
    fn check_holders(
        &mut self,
        image: &MetadataImage,
        id: TopicIdPartition,
        old: Option<&PartitionRegistration>,
        partition: &PartitionRegistration,
    ) {
        let topic = image.topics.by_id(id.topic_id).expect("it has partitions").name.clone();
        let min_isr = image.min_isr(&topic, partition.replicas.len());
        let enabled = image.topic_config(&topic, UNCLEAN_LEADER_ELECTION_ENABLE) == Some("true");
        let holders = self.holders.entry(id).or_insert_with(|| partition.isr.clone());
        let new_leader = old.is_some_and(|old| old.leader_epoch != partition.leader_epoch) && partition.has_leader();
        if new_leader && !holders.contains(&partition.leader) {
            assert!(enabled || self.unclean_asked, "{id}: {} leads without holding everything", partition.leader);
            assert_eq!(partition.recovery_state, LeaderRecoveryState::Recovering, "{id}: and nobody says so");
        }
        if new_leader && (enabled || self.unclean_asked) && partition.isr.len() == 1 && partition.elr.is_empty() {
            // What the new leader has is the truth now, whatever others hold.
            *holders = ReplicaList::from_slice(&[partition.leader]);
        }
        if partition.has_leader() && partition.isr.len() >= min_isr {
            // Commits go on with the ISR alone.
            *holders = partition.isr.clone();
        }
        for member in partition.isr.iter().chain(&partition.elr) {
            assert!(holders.contains(member), "{id}: {member} counts without holding everything: {partition:?}");
        }
        // Who counted before and still holds everything counts on, as far as min ISR needs them.
        let Some(old) = old else { return };
        let counted = partition.isr.len() + partition.elr.len();
        let still = old.isr.iter().chain(&old.elr).filter(|r| holders.contains(r)).count();
        let needed = still.min(min_isr);
        assert!(counted >= needed, "{id}: {counted} count, {holders:?} hold everything, {min_isr} needed");
    }
}

fn check_epochs(id: TopicIdPartition, old: &PartitionRegistration, new: &PartitionRegistration) {
    assert!(new.leader_epoch >= old.leader_epoch && new.partition_epoch >= old.partition_epoch, "{id}: epochs go back");
    if new.leader != old.leader {
        assert!(new.leader_epoch > old.leader_epoch, "{id}: a new leader in an old epoch");
    }
    if new != old {
        assert!(new.partition_epoch > old.partition_epoch, "{id}: a change without a new partition epoch");
    }
}

fn replayed(log: &[Vec<MetadataRecord>]) -> MetadataImage {
    replayed_from(MetadataImage::empty().as_ref().clone(), log)
}

fn replayed_from(image: MetadataImage, log: &[Vec<MetadataRecord>]) -> MetadataImage {
    let mut image = Arc::new(image);
    for (index, records) in (image.offset.0 + 1..).zip(log) {
        let bytes = crate::record::encode_records(records);
        let mut delta = MetadataDelta::new(image.clone());
        for record in crate::record::decode_records(&bytes).expect("own bytes") {
            delta.replay(MetadataOffset(index), &record).expect("committed");
        }
        image = Arc::new(delta.apply());
    }
    image.as_ref().clone()
}

fn replayed_at_once(log: &[Vec<MetadataRecord>]) -> MetadataImage {
    let mut loader = crate::delta::MetadataLoader::new(MetadataImage::empty());
    let entries = (0..).map(MetadataOffset).zip(log.iter().map(Vec::as_slice));
    loader.apply(entries).expect("committed").as_ref().clone()
}

proptest! {
    #[test]
    fn no_history_breaks_an_invariant(steps in prop::collection::vec(step(), 1..80)) {
        let mut history = History::new();
        for id in 1..=BROKERS {
            history.cluster.start(id);
        }
        history.cluster.create(named("topic-0", 2, 3)).expect("created");
        history.cluster.create(named("topic-1", 1, 2)).expect("created");
        let image = history.cluster.image.clone();
        history.check(&image, &image);
        for step in &steps {
            history.run(step);
        }
        let image = history.cluster.image.as_ref().clone();
        prop_assert_eq!(&replayed(&history.cluster.log), &image, "the same records make another image");
        let mut snapshot = Vec::new();
        write_snapshot(&image, &mut snapshot).expect("written");
        prop_assert_eq!(&read_snapshot(&snapshot[..]).expect("read"), &image, "a snapshot is another image");
        let log = &history.cluster.log;
        let half = replayed(&log[..log.len() / 2]);
        let mut snapshot = Vec::new();
        write_snapshot(&half, &mut snapshot).expect("written");
        let half = read_snapshot(&snapshot[..]).expect("read");
        prop_assert_eq!(&replayed_from(half, &log[log.len() / 2..]), &image, "a snapshot and the rest make another image");
        prop_assert_eq!(&replayed_at_once(log), &image, "entries in one delta make another image");
    }
}
