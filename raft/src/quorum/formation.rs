//! How a cluster comes into being exactly once: a state machine without clock, disk or network.
//!
//! # The danger
//!
//! A node with an empty disk cannot know whether it is new or was wiped. If empty nodes formed a cluster among themselves, two wiped nodes of three would
//! become a second cluster beside the remains of the first. So nobody forms unless **all** listed voters are there and have nothing.
//!
//! # States of a node
//!
//! | state | on disk | leaves by |
//! |---|---|---|
//! | `Empty` | its directory id only | `Prepared`: it agreed to a proposal; `Joined`: a listed voter knows a cluster |
//! | `Prepared {cluster, voters}` | that set, synced before anyone hears of it | its own Raft log begins: `Formed` |
//! | `Joined {cluster}` | the cluster id, perhaps a log that came to nothing | an observer, until it has applied a membership that names its directory (`replace_voter`): `Formed` |
//! | `Formed {cluster}` | a vote, a log or a snapshot | never |
//!
//! A member, voter or learner, is `Formed` only when no change of leaders can undo it: a first voter is named by the first entry of every
//! log of the cluster, any other by a membership that is committed, which every later leader has. So whoever leads replicates to a
//! `Formed` node, and it needs no other source.
//!
//! # Who does what
//!
//! The listed voter with the lowest id is the coordinator. It asks all others for a [`Report`].
//! 1. Any report of `Formed` or `Joined`: it becomes `Joined` itself and never forms.
//! 2. All `Empty`, and so is it: it makes the set out of the directory ids, keeps it (`Prepared`), and only then
//! 3. proposes it to all. A voter keeps the set before it accepts, and accepts only the set that it keeps, that names it by its directory id, and whose node ids are
//!    those of its own list.
//! 4. All have accepted: the coordinator calls `initialize`, which writes the first entry of the log.
//!
//! Restarted in `Prepared`, it goes on at 3 with the same set. Everybody else waits, and becomes `Joined` in case 1.
//!
//! # Why there is only one
//!
//! `initialize` writes the first log entry under a set that every listed voter keeps. For a second cluster to form, every listed voter must
//! accept another set, and one that still keeps the first refuses. Only when **all** of them were wiped does nobody remember; then there is nothing left to
//! protect. A set whose voter was wiped in the middle can never be completed: that node says so, and a person erases the
//! directories (nothing was stored yet). It is safe for `initialize` to be repeated after a crash, since openraft refuses it on a log that exists.

use super::codec::{DecodeError, Encode, Reader};
use super::types::QuorumNode;
use crate::ids::{ClusterId, NodeId, QuorumNodeId};
use bytes::{BufMut, BytesMut};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// A cluster id and its first voters.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FirstVoters {
    /// The cluster that is to be formed.
    pub cluster_id: ClusterId,
    /// Its first voters.
    pub voters: BTreeMap<QuorumNodeId, QuorumNode>,
}

impl Encode for FirstVoters {
    fn encode(&self, out: &mut BytesMut) {
        self.cluster_id.encode(out);
        self.voters.iter().map(|(id, node)| (*id, node.clone())).collect::<Vec<_>>().encode(out);
    }
    fn decode(reader: &mut Reader) -> Result<Self, DecodeError> {
        let cluster_id = ClusterId::decode(reader)?;
        let voters = Vec::<(QuorumNodeId, QuorumNode)>::decode(reader)?.into_iter().collect();
        Ok(Self { cluster_id, voters })
    }
}

/// What a node keeps about its cluster.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub enum Standing {
    /// Nothing: new or wiped.
    #[default]
    Empty,
    /// It agreed to these first voters.
    Prepared(FirstVoters),
    /// It knows the cluster from others, did not take part in forming it and is not taken in yet.
    Joined(ClusterId),
    /// It is a member for good and its Raft state has begun.
    Formed(ClusterId),
}

impl Standing {
    /// The cluster it belongs to, or is to belong to.
    pub fn cluster_id(&self) -> Option<ClusterId> {
        match self {
            Standing::Empty => None,
            Standing::Prepared(set) => Some(set.cluster_id),
            Standing::Joined(id) | Standing::Formed(id) => Some(*id),
        }
    }
}

impl Encode for Standing {
    fn encode(&self, out: &mut BytesMut) {
        match self {
            Standing::Empty => out.put_u8(0),
            Standing::Prepared(set) => {
                out.put_u8(1);
                set.encode(out);
            }
            Standing::Joined(id) => {
                out.put_u8(2);
                id.encode(out);
            }
            Standing::Formed(id) => {
                out.put_u8(3);
                id.encode(out);
            }
        }
    }
    fn decode(reader: &mut Reader) -> Result<Self, DecodeError> {
        Ok(match reader.u8("standing")? {
            0 => Standing::Empty,
            1 => Standing::Prepared(FirstVoters::decode(reader)?),
            2 => Standing::Joined(ClusterId::decode(reader)?),
            3 => Standing::Formed(ClusterId::decode(reader)?),
            value => return Err(DecodeError::Invalid { what: "standing", value: value.into() }),
        })
    }
}

/// What a node says about itself when asked.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Report {
    /// Who it is.
    pub id: QuorumNodeId,
    /// What it keeps.
    pub standing: Standing,
}

impl Encode for Report {
    fn encode(&self, out: &mut BytesMut) {
        self.id.encode(out);
        self.standing.encode(out);
    }
    fn decode(reader: &mut Reader) -> Result<Self, DecodeError> {
        Ok(Self { id: QuorumNodeId::decode(reader)?, standing: Standing::decode(reader)? })
    }
}

/// Why a proposal was not accepted.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Refusal {
    /// It belongs to a cluster, or agreed to another set.
    #[error("it already keeps {0}")]
    Keeps(String),
    /// The set does not name it, or by another directory.
    #[error("the proposed voters do not name it as {0}")]
    NotNamed(QuorumNodeId),
    /// Its own list of voters is another.
    #[error("its own list of voters is {0}")]
    OtherList(String),
}

/// What the node should do next. Asking and proposing may be repeated at any time.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Step {
    /// Ask these for a report.
    Ask(Vec<NodeId>),
    /// Keep this on disk, synced, then say [`Formation::kept`].
    Keep(Standing),
    /// Propose the set to these.
    Propose(FirstVoters, Vec<QuorumNodeId>),
    /// Begin the Raft log with these voters.
    Initialize(FirstVoters),
    /// Nothing: the cluster is known.
    Done(ClusterId),
}

/// One node's part in forming the cluster.
pub struct Formation {
    me: QuorumNodeId,
    listed: BTreeMap<NodeId, QuorumNode>,
    standing: Standing,
    /// The id of the cluster, should this node come to form it.
    new_cluster_id: ClusterId,
    /// Reports since the last step that used them.
    reports: BTreeMap<NodeId, Report>,
    accepted: BTreeSet<QuorumNodeId>,
    trouble: Option<String>,
}

impl Formation {
    /// A node with the list of voters it was given and what it found on its disk.
    pub fn new(
        me: QuorumNodeId,
        listed: BTreeMap<NodeId, QuorumNode>,
        standing: Standing,
        new_cluster_id: ClusterId,
    ) -> Self {
        let accepted = BTreeSet::new();
        Self { me, listed, standing, new_cluster_id, reports: BTreeMap::new(), accepted, trouble: None }
    }

    /// What this node keeps.
    pub fn standing(&self) -> &Standing {
        &self.standing
    }

    /// What this node answers when asked.
    pub fn report(&self) -> Report {
        Report { id: self.me, standing: self.standing.clone() }
    }

    fn is_coordinator(&self) -> bool {
        self.listed.first_key_value().is_some_and(|(lowest, _)| *lowest == self.me.node_id)
    }

    fn others(&self) -> impl Iterator<Item = NodeId> + '_ {
        self.listed.keys().copied().filter(|id| *id != self.me.node_id)
    }

    /// What to do now.
    pub fn next(&self) -> Step {
        match &self.standing {
            Standing::Joined(id) | Standing::Formed(id) => Step::Done(*id),
            Standing::Empty | Standing::Prepared(_) if self.known_cluster().is_some() => self.step_with_known_cluster(),
            Standing::Prepared(set) if self.is_coordinator() => {
                let missing: Vec<_> =
                    set.voters.keys().copied().filter(|id| *id != self.me && !self.accepted.contains(id)).collect();
                if missing.is_empty() { Step::Initialize(set.clone()) } else { Step::Propose(set.clone(), missing) }
            }
            Standing::Empty if self.is_coordinator() => match self.whole_set() {
                Some(set) => Step::Keep(Standing::Prepared(set)),
                None => Step::Ask(self.others().collect()),
            },
            Standing::Empty | Standing::Prepared(_) => Step::Ask(self.others().collect()),
        }
    }

    /// A cluster some listed voter belongs to.
    fn known_cluster(&self) -> Option<ClusterId> {
        self.reports.values().find_map(|report| match &report.standing {
            Standing::Joined(id) | Standing::Formed(id) => Some(*id),
            Standing::Empty | Standing::Prepared(_) => None,
        })
    }

    fn step_with_known_cluster(&self) -> Step {
        let known = self.known_cluster();
        match (&self.standing, known) {
            (Standing::Empty, Some(id)) => Step::Keep(Standing::Joined(id)),
            // A voter that agreed to this cluster's first set is one of its voters: its log begins by itself.
            (Standing::Prepared(set), Some(id)) if set.cluster_id == id => Step::Done(id),
            // Another cluster formed meanwhile: asking on, and saying why, is all that is left.
            _ => Step::Ask(self.others().collect()),
        }
    }

    /// The set of all listed voters, if every one of them has reported to be empty.
    fn whole_set(&self) -> Option<FirstVoters> {
        let mut voters = BTreeMap::new();
        for (node_id, node) in &self.listed {
            let id = if *node_id == self.me.node_id {
                self.me
            } else {
                let report = self.reports.get(node_id)?;
                if report.standing != Standing::Empty || report.id.node_id != *node_id {
                    return None;
                }
                report.id
            };
            voters.insert(id, node.clone());
        }
        voters.contains_key(&self.me).then_some(FirstVoters { cluster_id: self.new_cluster_id, voters })
    }

    /// A listed voter answered, or, with `None`, could not be reached.
    pub fn on_report(&mut self, from: NodeId, report: Option<Report>) {
        match report {
            Some(report) => {
                self.reports.insert(from, report);
            }
            // What it said before says nothing about now: it may be gone for ever, and "all reachable" is asked for.
            None => {
                self.reports.remove(&from);
            }
        }
    }

    /// A voter answered the proposal of `set`.
    pub fn on_answer(&mut self, set: &FirstVoters, from: QuorumNodeId, answer: Result<(), Refusal>) {
        if self.standing != Standing::Prepared(set.clone()) {
            return;
        }
        match answer {
            Ok(()) => {
                self.accepted.insert(from);
                self.trouble = None;
            }
            Err(refusal) => self.trouble = Some(format!("node {from} refused to be a first voter: {refusal}")),
        }
    }

    /// Another node proposes `set`: what to keep before accepting (`None`: it is kept already).
    pub fn on_proposal(&self, set: &FirstVoters) -> Result<Option<Standing>, Refusal> {
        match &self.standing {
            Standing::Prepared(kept) if kept == set => return Ok(None),
            Standing::Formed(id) if *id == set.cluster_id => return Ok(None),
            Standing::Empty => {}
            other => return Err(Refusal::Keeps(other.to_string())),
        }
        if !set.voters.contains_key(&self.me) {
            return Err(Refusal::NotNamed(self.me));
        }
        let proposed: Vec<NodeId> = set.voters.keys().map(|id| id.node_id).collect();
        if !proposed.iter().eq(self.listed.keys()) {
            return Err(Refusal::OtherList(format!("{:?}", self.listed.keys().collect::<Vec<_>>())));
        }
        Ok(Some(Standing::Prepared(set.clone())))
    }

    /// `standing` is on disk.
    pub fn kept(&mut self, standing: Standing) {
        self.standing = standing;
        self.accepted.clear();
    }

    /// Why the cluster is not there yet, for people.
    pub fn why(&self) -> String {
        if let Some(trouble) = &self.trouble {
            return trouble.clone();
        }
        let silent: Vec<String> =
            self.others().filter(|id| !self.reports.contains_key(id)).map(|id| id.to_string()).collect();
        let other = self.reports.values().find(|r| match (&r.standing, &self.standing) {
            (Standing::Prepared(theirs), Standing::Prepared(mine)) => theirs != mine,
            (Standing::Prepared(theirs), _) => !theirs.voters.contains_key(&self.me),
            _ => false,
        });
        match (&self.standing, other) {
            (Standing::Joined(id), _) => format!(
                "cluster {id} was formed without this directory, {}: a new or wiped one. Node {} follows as an observer and has no vote; \
                 `rookery quorum replace {}` makes it a voter",
                self.me, self.me.node_id, self.me.node_id
            ),
            (Standing::Formed(id), _) => format!("cluster {id} is formed"),
            (_, Some(report)) => format!(
                "node {} keeps {}: a directory was replaced in the middle of the first formation; nothing is stored yet, \
                 erase the metadata directories of all listed voters to begin anew",
                report.id, report.standing
            ),
            (_, None) if !silent.is_empty() => {
                format!("the first formation needs all listed voters; no answer from node {}", silent.join(", "))
            }
            (Standing::Empty, None) => "waiting for the voter with the lowest id to form the cluster".into(),
            (Standing::Prepared(set), None) => format!("agreed to form cluster {}", set.cluster_id),
        }
    }
}

impl fmt::Display for Standing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Standing::Empty => f.write_str("nothing"),
            Standing::Prepared(set) => {
                let voters: Vec<String> = set.voters.keys().map(ToString::to_string).collect();
                write!(f, "first voters {} of cluster {}", voters.join(", "), set.cluster_id)
            }
            Standing::Joined(id) => write!(f, "cluster {id}, as an observer"),
            Standing::Formed(id) => write!(f, "cluster {id}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::DirectoryId;
    use proptest::prelude::*;
    use uuid::Uuid;

    /// A node with a disk, for as long as its process runs.
    struct Node {
        disk: Standing,
        directory: u128,
        formation: Option<Formation>,
    }

    /// Three nodes; messages are delivered at once, in any order the test picks.
    struct World {
        nodes: Vec<Node>,
        next_id: u128,
        initialized: Vec<FirstVoters>,
    }

    impl World {
        fn new(n: usize) -> Self {
            let nodes = (0..n).map(|_| Node { disk: Standing::Empty, directory: 0, formation: None }).collect();
            let mut world = Self { nodes, next_id: 1, initialized: Vec::new() };
            (0..n).for_each(|i| world.wipe(i));
            world
        }
        fn fresh(&mut self) -> u128 {
            self.next_id += 1;
            self.next_id
        }
        fn id(&self, i: usize) -> QuorumNodeId {
            let directory_id = DirectoryId(Uuid::from_u128(self.nodes[i].directory));
            QuorumNodeId { node_id: NodeId(i as i32), directory_id }
        }
        fn wipe(&mut self, i: usize) {
            self.nodes[i].directory = self.fresh();
            self.nodes[i].disk = Standing::Empty;
            self.nodes[i].formation = None;
        }
        fn start(&mut self, i: usize) {
            let listed = (0..self.nodes.len()).map(|i| (NodeId(i as i32), QuorumNode::default())).collect();
            let cluster = ClusterId(Uuid::from_u128(self.fresh()));
            let disk = self.nodes[i].disk.clone();
            self.nodes[i].formation = Some(Formation::new(self.id(i), listed, disk, cluster));
        }
        fn keep(&mut self, i: usize, standing: Standing) {
            self.nodes[i].disk = standing.clone();
            self.nodes[i].formation.as_mut().expect("runs").kept(standing);
        }
        /// The Raft log of `i` has its first entry of that cluster.
        fn replicate(&mut self, from: usize, to: usize) {
            let (Standing::Formed(cluster), true) = (&self.nodes[from].disk, self.nodes[to].formation.is_some()) else {
                return;
            };
            let cluster = *cluster;
            // Raft messages go to a directory; only one that agreed, or is formed, has this address in the membership.
            if matches!(&self.nodes[to].disk, Standing::Prepared(set)
                if set.cluster_id == cluster && set.voters.contains_key(&self.id(to)))
            {
                self.keep(to, Standing::Formed(cluster));
            }
        }
        /// Runs one step of node `i`; `reach` says to whom its messages get through.
        fn step(&mut self, i: usize, reach: &dyn Fn(usize) -> bool, crash_after_propose: bool) {
            let Some(formation) = &self.nodes[i].formation else { return };
            match formation.next() {
                Step::Ask(nodes) => {
                    for node in nodes {
                        let j = node.0 as usize;
                        let report = self.nodes[j].formation.as_ref().filter(|_| reach(j)).map(Formation::report);
                        self.nodes[i].formation.as_mut().expect("runs").on_report(node, report);
                    }
                }
                Step::Keep(standing) => self.keep(i, standing),
                Step::Propose(set, to) => {
                    for id in to {
                        let j = id.node_id.0 as usize;
                        if !reach(j) || self.id(j) != id {
                            continue;
                        }
                        let Some(formation) = &self.nodes[j].formation else { continue };
                        let answer = formation.on_proposal(&set);
                        if let Ok(Some(standing)) = &answer {
                            self.keep(j, standing.clone());
                        }
                        if crash_after_propose {
                            self.nodes[i].formation = None;
                            return;
                        }
                        let answer = answer.map(|_| ());
                        self.nodes[i].formation.as_mut().expect("runs").on_answer(&set, id, answer);
                    }
                }
                Step::Initialize(set) => {
                    self.initialized.push(set.clone());
                    self.keep(i, Standing::Formed(set.cluster_id));
                }
                Step::Done(_) => {}
            }
        }
        fn settle(&mut self) {
            for _ in 0..20 {
                for i in 0..self.nodes.len() {
                    self.step(i, &|_| true, false);
                    (0..self.nodes.len()).for_each(|j| self.replicate(i, j));
                }
            }
        }
        fn clusters(&self) -> BTreeSet<ClusterId> {
            self.nodes.iter().filter_map(|n| n.disk.cluster_id()).collect()
        }
    }

    #[test]
    fn three_empty_nodes_form_one_cluster() {
        let mut world = World::new(3);
        (0..3).for_each(|i| world.start(i));
        world.settle();
        assert_eq!(world.initialized.len(), 1);
        assert!(world.nodes.iter().all(|n| matches!(n.disk, Standing::Formed(_))));
    }

    #[test]
    fn one_node_forms_by_itself() {
        let mut world = World::new(1);
        world.start(0);
        world.settle();
        assert_eq!(world.initialized.len(), 1);
    }

    #[test]
    fn nobody_forms_while_one_listed_voter_is_away() {
        let mut world = World::new(3);
        world.start(0);
        world.start(2);
        world.settle();
        assert!(world.clusters().is_empty());
        let why = world.nodes[0].formation.as_ref().expect("runs").why();
        assert!(why.contains("no answer from node 1"), "{why}");
        world.start(1);
        world.settle();
        assert_eq!(world.clusters().len(), 1);
    }

    #[test]
    fn two_wiped_nodes_of_three_do_not_become_a_second_cluster() {
        for survivor in 0..3 {
            let mut world = World::new(3);
            (0..3).for_each(|i| world.start(i));
            world.settle();
            let cluster = world.clusters();
            (0..3).filter(|i| *i != survivor).for_each(|i| world.wipe(i));
            (0..3).filter(|i| *i != survivor).for_each(|i| world.start(i));
            world.nodes[survivor].formation = None;
            world.settle();
            assert_eq!(world.clusters(), cluster, "the survivor is away: they wait");
            world.start(survivor);
            world.settle();
            assert_eq!(world.clusters(), cluster);
            assert_eq!(world.initialized.len(), 1);
            let joined = world.nodes.iter().filter(|n| matches!(n.disk, Standing::Joined(_))).count();
            assert_eq!(joined, 2, "they know the cluster and wait to be taken in");
        }
    }

    #[test]
    fn a_prepared_coordinator_goes_on_after_its_restart_with_the_same_set() {
        let mut world = World::new(3);
        (0..3).for_each(|i| world.start(i));
        (0..2).for_each(|_| world.step(0, &|_| true, false));
        let prepared = world.nodes[0].disk.clone();
        assert!(matches!(prepared, Standing::Prepared(_)));
        world.step(0, &|_| true, true);
        world.start(0);
        world.settle();
        assert_eq!(world.clusters().into_iter().next(), prepared.cluster_id());
        assert_eq!(world.initialized.len(), 1);
    }

    #[test]
    fn a_second_set_is_refused_and_the_node_says_why() {
        let mut world = World::new(3);
        (0..3).for_each(|i| world.start(i));
        (0..3).for_each(|_| world.step(0, &|j| j != 2, true));
        world.wipe(0);
        world.start(0);
        world.settle();
        assert!(world.initialized.is_empty() || world.initialized.len() == 1);
        let set = FirstVoters { cluster_id: ClusterId(Uuid::from_u128(9)), voters: BTreeMap::new() };
        let mut kept = Formation::new(world.id(1), BTreeMap::new(), Standing::Empty, set.cluster_id);
        kept.kept(Standing::Prepared(set.clone()));
        let second = FirstVoters { cluster_id: ClusterId(Uuid::from_u128(8)), ..set.clone() };
        assert!(matches!(kept.on_proposal(&second), Err(Refusal::Keeps(_))));
        assert_eq!(kept.on_proposal(&set), Ok(None));
    }

    #[derive(Clone, Debug)]
    enum Act {
        Start(usize),
        Stop(usize),
        Wipe(usize),
        Step(usize, [bool; 3], bool),
        Replicate(usize, usize),
    }

    fn act() -> impl Strategy<Value = Act> {
        prop_oneof![
            3 => (0..3usize).prop_map(Act::Start),
            1 => (0..3usize).prop_map(Act::Stop),
            1 => (0..3usize).prop_map(Act::Wipe),
            12 => (0..3usize, any::<[bool; 3]>(), proptest::bool::weighted(0.1)).prop_map(|(i, r, c)| Act::Step(i, r, c)),
            8 => (0..3usize).prop_map(|i| Act::Step(i, [true; 3], false)),
            3 => (0..3usize, 0..3usize).prop_map(|(i, j)| Act::Replicate(i, j)),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]
        /// Whatever order of starts, stops, wipes and lost messages: while one disk remembers a cluster that could have
        /// committed something, no other cluster begins.
        #[test]
        fn a_cluster_that_is_remembered_stays_the_only_one(acts in proptest::collection::vec(act(), 0..120)) {
            let mut world = World::new(3);
            for act in acts {
                let remembered: BTreeSet<ClusterId> = world.nodes.iter().filter_map(|n| match &n.disk {
                    Standing::Prepared(set) if world.initialized.contains(set) => Some(set.cluster_id),
                    Standing::Formed(id) => Some(*id),
                    _ => None,
                }).collect();
                let before = world.initialized.len();
                match act {
                    Act::Start(i) => if world.nodes[i].formation.is_none() { world.start(i) },
                    Act::Stop(i) => world.nodes[i].formation = None,
                    Act::Wipe(i) => world.wipe(i),
                    Act::Step(i, reach, crash) => world.step(i, &|j| reach[j], crash),
                    Act::Replicate(i, j) => world.replicate(i, j),
                }
                if let Some(begun) = world.initialized.get(before) {
                    let again = world.initialized[..before].contains(begun);
                    prop_assert!(again || remembered.is_empty(), "{} began while {remembered:?} is remembered", begun.cluster_id);
                }
                prop_assert!(remembered.len() <= 1);
            }
        }
    }
}
