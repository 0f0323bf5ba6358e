//! The operator: creates the topic, changes its configs, asks for elections, and takes voters back in that have lost their vote.

use super::machine::Machine;
use super::{MIN_INSYNC, NODES, PARTITIONS, Process, World};
use ControllerRequest::{CreateTopics, ElectLeaders, IncrementalAlterConfigs};
use rand::RngExt;
use rookery_raft::controller::{
    ConfigChange, ConfigOp, ControllerRequest, CreateTopicsRequest, ElectLeadersRequest, ElectionRequest,
    IncrementalAlterConfigsRequest, NewTopic,
};
use rookery_raft::ids::{DirectoryId, QuorumNodeId, TopicIdPartition};
use rookery_raft::image::MetadataImage;
use rookery_raft::image::config_def::{MIN_INSYNC_REPLICAS, UNCLEAN_LEADER_ELECTION_ENABLE};
use rookery_raft::record::ConfigResource;
use std::collections::BTreeMap;
use tokio::task::JoinHandle;
use uuid::Uuid;

const TOPIC: &str = "topic";
/// After the healing, who is without leader for so long is asked about.
const LEADERLESS_MAX: u64 = 5_000;

/// What the operator wants, until the metadata say so.
pub(super) struct Wishes {
    min_insync: usize,
    /// The least that it ever was: so many replicas may have been enough for a commit.
    pub least_insync: usize,
    /// `unclean.leader.election.enable` is true until then.
    unclean_until: u64,
    /// An unclean election is asked for, where there is no leader.
    election: bool,
    /// It was allowed or asked for once.
    pub unclean_was_allowed: bool,
    /// Since when there are partitions without leader, and nothing breaks any more.
    leaderless_since: Option<u64>,
    healing: bool,
    asked: Option<JoinHandle<()>>,
}

impl Default for Wishes {
    fn default() -> Self {
        Self {
            min_insync: MIN_INSYNC,
            least_insync: MIN_INSYNC,
            unclean_until: 0,
            election: false,
            unclean_was_allowed: false,
            leaderless_since: None,
            healing: false,
            asked: None,
        }
    }
}

impl Wishes {
    pub(super) fn heal(&mut self) {
        (self.min_insync, self.unclean_until, self.healing) = (MIN_INSYNC, 0, true);
    }
}

impl World {
    pub(super) fn operate(&mut self) {
        if self.topic.is_none() {
            self.create_topic();
        } else if self.now.is_multiple_of(50) {
            self.follow_wishes();
        }
        for at in 0..self.machines.len() {
            let id = self.machines[at].id;
            let Some(asked) = &mut self.machines[at].replacing else { continue };
            match asked {
                Some(task) if task.is_finished() => {
                    let done = futures_util::FutureExt::now_or_never(task);
                    let taken_in = matches!(done, Some(Ok(Ok(_))));
                    self.machines[at].replacing = (!taken_in).then_some(None);
                }
                Some(_) => {}
                None => {
                    let joined = self.machines[at].process.as_ref().and_then(Process::quorum);
                    let directory_id = DirectoryId(Uuid::from_u128(self.machines[at].directory));
                    let me = QuorumNodeId { node_id: id, directory_id };
                    // The answer may have been lost.
                    if joined.is_some_and(|q| q.leadership().borrow().voters.iter().any(|voter| voter.id == me)) {
                        self.machines[at].replacing = None;
                    } else if self.now.is_multiple_of(200) && joined.is_some_and(|q| q.no_vote().is_some()) {
                        // Through the node itself: it knows who may be the controller.
                        let process = self.machines[at].process.as_mut().expect("it has a quorum");
                        process.reach(self.now);
                        let admin = process.admin.clone();
                        let task = process.spawn(async move { admin.replace_voter(id).await });
                        self.machines[at].replacing = Some(Some(task));
                    }
                }
            }
        }
    }

    pub(super) fn ask_for_min_insync(&mut self) {
        self.seen.add("min_insync_changes");
        // An ELR that is no longer true is cleared; where the ISR has just lost its disk, or will give its rotten log up, nothing would be left.
        let in_danger = self.machines.iter().any(|machine| machine.lost) || !self.rotten.is_empty();
        let least = if in_danger { MIN_INSYNC } else { 1 };
        self.wishes.min_insync = self.rng.random_range(least..=NODES as usize);
        self.wishes.least_insync = self.wishes.least_insync.min(self.wishes.min_insync);
    }

    pub(super) fn ask_for_unclean_elections(&mut self, until: u64) {
        self.seen.add("unclean_asked");
        self.wishes.unclean_was_allowed = true;
        match self.chance(50) {
            true => self.wishes.unclean_until = until,
            false => self.wishes.election = true,
        }
        // Where one replica is enough the others are soon behind.
        if self.chance(50) && !self.machines.iter().any(|machine| machine.lost) {
            (self.wishes.min_insync, self.wishes.least_insync) = (1, 1);
        }
    }

    fn follow_wishes(&mut self) {
        if self.wishes.asked.as_ref().is_some_and(|task| !task.is_finished()) {
            return;
        }
        let Some(image) = self.history.newest().cloned() else { return };
        let leaderless = image.topics.partitions().any(|(_, partition)| !partition.has_leader());
        self.wishes.leaderless_since =
            self.wishes.leaderless_since.filter(|_| leaderless).or(leaderless.then_some(self.now));
        // What was allowed once may have left a partition to nobody who is complete.
        let is_waited_for = self.wishes.healing
            && self.wishes.unclean_was_allowed
            && self.wishes.leaderless_since.is_some_and(|since| self.now > since + LEADERLESS_MAX);
        let request = if let Some(change) = self.config_change(&image) {
            let resources = vec![(ConfigResource::topic(TOPIC), vec![change])];
            IncrementalAlterConfigs(IncrementalAlterConfigsRequest { resources, validate_only: false })
        } else if leaderless && (self.wishes.election || is_waited_for) {
            self.wishes.election = false;
            ElectLeaders(ElectLeadersRequest { election: ElectionRequest::Unclean, partitions: None })
        } else {
            return;
        };
        self.wishes.asked = self.submit(request);
    }

    /// The first config that is not as it should be.
    fn config_change(&self, image: &MetadataImage) -> Option<ConfigChange> {
        let unclean = self.now < self.wishes.unclean_until;
        let is_unclean = image.topic_config(TOPIC, UNCLEAN_LEADER_ELECTION_ENABLE) == Some("true");
        let change = |name: &str, value: String| ConfigChange { name: name.to_owned(), op: ConfigOp::Set(value) };
        if image.min_isr(TOPIC, usize::MAX) != self.wishes.min_insync {
            return Some(change(MIN_INSYNC_REPLICAS, self.wishes.min_insync.to_string()));
        }
        (unclean != is_unclean).then(|| change(UNCLEAN_LEADER_ELECTION_ENABLE, unclean.to_string()))
    }

    /// Asks the active controller, if there is one.
    fn submit(&mut self, request: ControllerRequest) -> Option<JoinHandle<()>> {
        let now = self.now;
        let active = self.machines.iter_mut().filter_map(Machine::running);
        let mut active = active.filter_map(|p| Some((p.quorum().filter(|q| q.is_active())?.clone(), p)));
        let (quorum, process) = active.next()?;
        process.reach(now);
        Some(process.spawn(async move { drop(quorum.submit(request).await) }))
    }

    fn create_topic(&mut self) {
        if let Some(image) = self.history.newest()
            && let Some(topic) = image.topics.by_name(TOPIC)
        {
            self.topic = Some(topic.id);
            for partition in 0..PARTITIONS {
                self.partitions.insert(TopicIdPartition { topic_id: topic.id, partition }, Default::default());
            }
            return;
        }
        if self.creating.as_ref().is_some_and(|task| !task.is_finished()) {
            return;
        }
        let ready = self.history.newest().is_some_and(|i| i.cluster.brokers().filter(|b| b.is_active()).count() == 3);
        if ready {
            let topic = NewTopic {
                name: TOPIC.into(),
                partitions: PARTITIONS,
                replication_factor: 3,
                assignments: BTreeMap::new(),
                configs: BTreeMap::new(),
            };
            self.creating =
                self.submit(CreateTopics(CreateTopicsRequest { topics: vec![topic], validate_only: false }));
        }
    }
}
