//! Why a partition has no leader, or fewer in-sync replicas than it should.

use super::broker::troubles;
use super::chain::{Chain, Found};
use super::{Scene, Why};
use crate::admin::Problem;
use crate::admin::events::{because, set, transition};
use rookery_raft::ids::{DirectoryId, NodeId};
use rookery_raft::image::events::{Event, PartitionChangeKind};
use rookery_raft::record::{LeaderRecoveryState, PartitionRegistration};

/// Why a partition is as it is.
pub fn partition(scene: &Scene, topic: &str, number: i32) -> Result<Why, Problem> {
    let image = &scene.image;
    let found = image.topics.by_name(topic);
    let found = found.ok_or_else(|| Problem::not_found(format!("there is no topic `{topic}`")))?;
    let count = found.partitions.len();
    let p = found.partition(number).ok_or_else(|| {
        Problem::not_found(format!("topic {topic} has {count} partitions, 0 to {}: none is {number}", count - 1))
    })?;
    let asked = Asked { scene, topic, number, p, min_isr: image.min_isr(topic, p.replicas.len()) };
    Ok(if p.has_leader() { asked.with_leader() } else { asked.without_leader() })
}

struct Asked<'s> {
    scene: &'s Scene,
    topic: &'s str,
    number: i32,
    p: &'s PartitionRegistration,
    min_isr: usize,
}

impl Asked<'_> {
    fn subject(&self) -> String {
        format!("partition {}-{}", self.topic, self.number)
    }

    /// The newest event that lists this partition in one of these ways.
    fn newest(&self, test: impl Fn(PartitionChangeKind, &Event) -> bool) -> Option<Found<'_>> {
        let (topic, number) = (self.topic, self.number);
        self.scene.newest(|event| event.what.partition(topic, number).is_some_and(|(kind, _)| test(kind, event)))
    }

    /// An event as far as it is about this partition.
    fn link(&self, chain: &mut Chain, found: Found<'_>) {
        if let Some((kind, of)) = found.1.what.partition(self.topic, self.number) {
            let head = match kind {
                PartitionChangeKind::UncleanLeader => "UNCLEAN election, committed records may be LOST: ",
                _ => "",
            };
            chain.event_as(found, format!("{head}{}, because {}", transition(kind, of), because(found.1)));
        }
    }

    /// The last thing that happened to it: a change, or what its topic went through.
    fn last(&self) -> Option<Found<'_>> {
        let (topic, number) = (self.topic, self.number);
        self.scene.newest(|event| match &event.what {
            rookery_raft::image::events::Happening::PartitionsChanged { .. } => {
                event.what.partition(topic, number).is_some()
            }
            what => what.concerns_topic(topic),
        })
    }

    /// What is wrong with one replica, in a clause; `None` if nothing is known to be.
    fn trouble(&self, chain: &mut Chain, replica: NodeId) -> Option<String> {
        let Some(broker) = self.scene.image.cluster.broker(replica) else {
            return Some(format!("broker {replica} is not registered"));
        };
        let troubles = troubles(self.scene, broker, chain);
        if !troubles.is_empty() {
            return Some(troubles.join("; "));
        }
        let directory = self.p.directory_of(replica).unwrap_or(DirectoryId::NONE);
        if directory == DirectoryId::LOST {
            return Some(format!(
                "broker {replica} has given up its log, which is damaged: it begins another once others lead"
            ));
        }
        (!broker.can_host(directory))
            .then(|| format!("broker {replica} no longer has the data directory {directory} the replica was in"))
    }

    fn without_leader(&self) -> Why {
        let (scene, p) = (self.scene, self.p);
        let mut chain = Chain::default();
        let lost = self.newest(|kind, _| kind == PartitionChangeKind::LeaderLost);
        let mut was = p.isr.iter().chain(&p.elr).copied().collect::<Vec<_>>();
        if let Some(found) = lost {
            self.link(&mut chain, found);
            if let Some((_, of)) = found.1.what.partition(self.topic, self.number) {
                was = of.isr_before.to_vec();
            }
        }
        let holders: Vec<NodeId> = p.isr.iter().chain(&p.elr).copied().collect();
        let troubles: Vec<String> = holders.iter().filter_map(|id| self.trouble(&mut chain, *id)).collect();
        chain.undecided(scene, holders.iter().copied());
        let mut said = vec![format!("leader none: ISR was {}", set(&was))];
        let others = p.replicas.iter().any(|id| !holders.contains(id));
        let unclean = format!("`rookery topic elect {} {} --unclean`", self.topic, self.number);
        let is_lost = |id: &&NodeId| self.p.directory_of(**id) == Some(DirectoryId::LOST);
        let (given_up, rest): (Vec<NodeId>, Vec<NodeId>) = p.replicas.iter().partition(is_lost);
        for replica in &given_up {
            said.extend(self.trouble(&mut chain, *replica));
        }
        let (waiting_for, what_to_do) = if holders.is_empty() {
            chain.now("no replica is left that holds everything committed: they lost data, or their disks are gone");
            said.push("no replica is left that holds everything committed".to_owned());
            let lost = format!("{unclean} goes on with what is left: committed records are lost");
            let lost = match given_up.is_empty() {
                true => lost,
                false => format!(
                    "{lost}; it needs one of {} up, or a broker of {} started with an empty data directory",
                    set(&rest),
                    set(&given_up)
                ),
            };
            ("an unclean election".to_owned(), lost)
        } else {
            chain.now(format!("everything committed is held by {} alone", set(&holders)));
            let names = holders.iter().map(|id| format!("broker {id}")).collect::<Vec<_>>().join(" or ");
            let or_unclean = if others { ", or an unclean election" } else { "" };
            let alternative = if others {
                format!("; if that data is gone for good, {unclean} goes on without: what nobody else had is lost")
            } else {
                "; nobody else has a copy".to_owned()
            };
            (format!("{names}{or_unclean}"), format!("bring {names} back{alternative}"))
        };
        if troubles.is_empty() && !holders.is_empty() {
            said.push(scene.undecidable().unwrap_or("an election is due").to_owned());
        }
        said.extend(troubles);
        said.push(format!("waiting for {waiting_for}"));
        let answer = chain.answer(scene, self.subject(), said.join("; "), self.last());
        Why { waiting_for: Some(waiting_for), what_to_do: Some(what_to_do), ..answer }
    }

    fn with_leader(&self) -> Why {
        let (scene, p) = (self.scene, self.p);
        let mut chain = Chain::default();
        let mut said = Vec::new();
        let unrecovered = p.recovery_state == LeaderRecoveryState::Recovering;
        if unrecovered {
            said.push("its leader was elected UNCLEANLY: committed records may be lost".to_owned());
            if let Some(found) = self.newest(|kind, _| kind == PartitionChangeKind::UncleanLeader) {
                self.link(&mut chain, found);
            }
        }
        let mut waiting = Vec::new();
        for replica in p.replicas.iter().copied().filter(|r| !p.isr.contains(r)) {
            let left = |_, event: &Event| {
                let of = event.what.partition(self.topic, self.number);
                of.is_some_and(|(_, of)| of.isr_before.contains(&replica) && !of.isr.contains(&replica))
            };
            if let Some(found) = self.newest(left) {
                self.link(&mut chain, found);
            }
            match self.trouble(&mut chain, replica) {
                Some(trouble) => {
                    said.push(trouble);
                    waiting.push(format!("broker {replica} to come back and catch up"));
                }
                None => {
                    said.push(format!("broker {replica} is out of sync and copies what it misses"));
                    waiting.push(format!("broker {replica} to catch up"));
                }
            }
        }
        if p.isr.len() < self.min_isr {
            chain.now(format!(
                "in sync are {} of {} replicas, min.insync.replicas asks for {}: writes with acks=all are refused",
                p.isr.len(),
                p.replicas.len(),
                self.min_isr
            ));
            said.push("below min.insync.replicas: writes with acks=all are refused".to_owned());
        }
        // A leader that is fenced or gone would not be one any more; one that is only doubted still is.
        if let Some(accused) = scene.accused(p.leader) {
            said.push(format!("{accused}, and it still leads"));
            waiting.push("the active controller to verify it".to_owned());
        }
        let healthy = said.is_empty() && scene.undecidable().is_none();
        if !healthy {
            chain.undecided(scene, p.isr.iter().copied());
        }
        if said.is_empty() {
            said.extend(scene.undecidable().map(str::to_owned));
        }
        let state =
            format!("leader {} (epoch {}), in sync {} of {}", p.leader, p.leader_epoch, set(&p.isr), set(&p.replicas));
        let preferred = p.replicas.first().copied().unwrap_or(NodeId::NONE);
        let summary = match () {
            () if !healthy => format!("{state}; {}", said.join("; ")),
            () if p.leader != preferred => {
                let by_hand = format!("`rookery topic elect {} {}`", self.topic, self.number);
                format!(
                    "well: {state}; leadership goes back to broker {preferred} with the next balancing, or by {by_hand}"
                )
            }
            () => format!("well: {state}"),
        };
        let fenced = |id: &&NodeId| scene.image.cluster.broker(**id).is_none_or(|b| b.fenced);
        let missing: Vec<String> = p.replicas.iter().filter(fenced).map(|id| format!("broker {id}")).collect();
        let what_to_do = (!missing.is_empty()).then(|| format!("bring {} back", missing.join(" and ")));
        let waiting_for = (!waiting.is_empty()).then(|| waiting.join(", "));
        let answer = chain.answer(scene, self.subject(), summary, self.last());
        Why { healthy, waiting_for, what_to_do, ..answer }
    }
}
