//! Partitions that exist: ISR changes, elections, rebalancing (Kafka's `ReplicationControl`, second half; the first is
//! [`super::topic_control`]).

use super::cluster_control::{ClusterControl, automatic_election};
use super::partition_change_builder::{BuiltChange, PartitionChangeBuilder};
use super::{
    AlterPartitionRequest, Answer, Batch, ControllerError, ControllerResponse, ElectLeadersRequest, ElectedLeader,
    Election, ElectionRequest, IsrChange, Suitability,
};
use crate::ids::{BrokerEpoch, NodeId, TopicIdPartition, TopicPartition};
use crate::image::MetadataImage;
use crate::image::config_def::UNCLEAN_LEADER_ELECTION_ENABLE;
use crate::planted::planted;
use crate::record::{
    Cause, ConfigResource, ConfigResourceType, LeaderRecoveryState, MetadataRecord, PartitionChange,
    PartitionRegistration, ReplicaList,
};
use std::collections::{BTreeMap, BTreeSet};

/// One request elects for so many partitions at most: what it makes is one entry of the log.
const ELECTIONS_MAX: usize = 10_000;

/// The configs of a topic that its partitions' changes depend on.
pub(super) struct TopicRules {
    min_insync_replicas: usize,
    unclean: bool,
}

impl TopicRules {
    pub(super) fn of(image: &MetadataImage, topic: &str) -> Self {
        Self {
            min_insync_replicas: image.min_isr(topic, usize::MAX),
            unclean: image.topic_config(topic, UNCLEAN_LEADER_ELECTION_ENABLE) == Some("true"),
        }
    }

    fn min_isr(&self, partition: &PartitionRegistration) -> usize {
        self.min_insync_replicas.min(partition.replicas.len())
    }
}

pub(super) struct PartitionControl<'c> {
    pub(super) cluster: &'c ClusterControl,
}

impl PartitionControl<'_> {
    pub(super) fn builder<'p>(
        &self,
        id: TopicIdPartition,
        partition: &'p PartitionRegistration,
        rules: &TopicRules,
    ) -> PartitionChangeBuilder<'p> {
        PartitionChangeBuilder::new(id.topic_id, id.partition, partition, rules.min_isr(partition))
            .election(automatic_election(rules.unclean))
    }

    /// Builds a change on an image that already holds what caused it (a fenced broker is fenced there).
    pub(super) fn build(
        &self,
        image: &MetadataImage,
        id: TopicIdPartition,
        partition: &PartitionRegistration,
        builder: PartitionChangeBuilder<'_>,
    ) -> Option<MetadataRecord> {
        let built = self.decide(image, partition, builder)?;
        if built.unclean {
            let leader = built.change.leader.unwrap_or(partition.leader);
            tracing::warn!(partition = %id, leader = leader.0, "UNCLEAN leader election: committed records may be lost");
        }
        Some(MetadataRecord::PartitionChange(built.change))
    }

    fn decide(
        &self,
        image: &MetadataImage,
        partition: &PartitionRegistration,
        builder: PartitionChangeBuilder<'_>,
    ) -> Option<BuiltChange> {
        builder.build(|replica, directory| {
            self.cluster.suitability_in(image, directory, replica, partition.leader == replica)
        })
    }

    // ---- ISR ----

    pub(super) fn alter_partition(&self, batch: &mut Batch, request: &AlterPartitionRequest) -> Answer {
        ClusterControl::checked(batch.image(), request.broker, request.epoch)?;
        let alter = |change: &IsrChange| self.alter_one(batch, request.broker, change);
        Ok(ControllerResponse::AlterPartition(request.partitions.iter().map(alter).collect()))
    }

    fn alter_one(
        &self,
        batch: &mut Batch,
        leader: NodeId,
        change: &IsrChange,
    ) -> Result<PartitionRegistration, ControllerError> {
        let image = batch.image().clone();
        let id = change.partition;
        let topic = image.topics.by_id(id.topic_id).ok_or(ControllerError::UnknownTopicId)?;
        let partition = topic.partition(id.partition).ok_or(ControllerError::UnknownTopicOrPartition)?;
        self.check_isr_change(&image, partition, leader, change)?;
        let isr: ReplicaList = change.isr.iter().map(|(replica, _)| *replica).collect();
        let builder = self
            .builder(id, partition, &TopicRules::of(&image, &topic.name))
            .isr(isr)
            .recovery_state(change.recovery_state);
        if let Some(record) = self.build(&image, id, partition, builder) {
            batch.push(Cause::IsrProposed { leader }, vec![record])?;
        }
        let after = batch.image().partition(id).ok_or(ControllerError::UnknownTopicOrPartition)?;
        Ok(after.as_ref().clone())
    }

    /// Stale first, then impossible, then not now.
    fn check_isr_change(
        &self,
        image: &MetadataImage,
        partition: &PartitionRegistration,
        leader: NodeId,
        change: &IsrChange,
    ) -> Result<(), ControllerError> {
        let invalid = |why: &str| Err(ControllerError::InvalidRequest(why.to_owned()));
        if change.leader_epoch < partition.leader_epoch && !planted!(SkipEpochsOfIsrChange) {
            return Err(ControllerError::FencedLeaderEpoch);
        }
        if change.leader_epoch > partition.leader_epoch {
            return Err(ControllerError::UnknownLeaderEpoch);
        }
        if partition.leader != leader {
            return invalid("only the leader changes the ISR");
        }
        let is_stale = change.partition_epoch != partition.partition_epoch && !planted!(SkipEpochsOfIsrChange);
        if is_stale && !planted!(SkipPartitionEpochOfIsrChange) {
            return Err(ControllerError::InvalidUpdateVersion);
        }
        if !change.isr.iter().any(|(replica, _)| *replica == leader) {
            return invalid("a leader cannot leave its own ISR");
        }
        for (i, (replica, epoch)) in change.isr.iter().enumerate() {
            if !partition.replicas.contains(replica) || change.isr[..i].iter().any(|(r, _)| r == replica) {
                return invalid("the ISR holds a broker that is no replica, or one twice");
            }
            self.check_member(image, partition, *replica, *epoch)?;
        }
        if change.recovery_state == LeaderRecoveryState::Recovering {
            if partition.recovery_state == LeaderRecoveryState::Recovered {
                return invalid("a recovered leader does not become unrecovered");
            }
            if change.isr.len() > 1 {
                return invalid("the ISR does not grow before the leader has recovered");
            }
        }
        Ok(())
    }

    /// KIP-903: a member counts only in the life in which it caught up.
    fn check_member(
        &self,
        image: &MetadataImage,
        partition: &PartitionRegistration,
        replica: NodeId,
        epoch: BrokerEpoch,
    ) -> Result<(), ControllerError> {
        let refuse = |why: &str| Err(ControllerError::IneligibleReplica(replica, why.to_owned()));
        let Some(broker) = image.cluster.broker(replica) else { return refuse("it is not registered") };
        if epoch != BrokerEpoch::UNKNOWN && epoch != broker.epoch() && !planted!(SkipBrokerEpochOfMember) {
            return refuse("it has another broker epoch");
        }
        if epoch == BrokerEpoch::UNKNOWN && !partition.isr.contains(&replica) {
            return refuse("it joins without a broker epoch");
        }
        // Who is in the ISR was left there by the controller itself, whatever its disk does: that is no reason to refuse
        // others. Fenced brokers and those that leave are out of every ISR already.
        if !partition.isr.contains(&replica)
            && self.cluster.suitability(image, partition, replica) < Suitability::LastResort
            && !planted!(FencedBrokerJoinsIsr)
        {
            return refuse("it is fenced, shutting down, or its directory is offline, hangs, or is full");
        }
        Ok(())
    }

    // ---- elections ----

    pub(super) fn elect_leaders(&self, batch: &mut Batch, request: &ElectLeadersRequest) -> Answer {
        let election = match request.election {
            ElectionRequest::Preferred => Election::Preferred,
            ElectionRequest::Unclean => Election::Unclean,
        };
        let image = batch.image().clone();
        let partitions = request.partitions.clone().unwrap_or_else(|| needing(&image, election));
        let (mut seen, mut changes, mut results) = (BTreeSet::new(), Vec::new(), Vec::with_capacity(partitions.len()));
        for partition in partitions {
            if !seen.insert(partition.clone()) {
                continue;
            }
            let elected = self.elect_one(&image, &partition, election).and_then(|(elected, change)| {
                if changes.len() >= ELECTIONS_MAX {
                    return Err(ControllerError::NotReady(format!(
                        "one request elects {ELECTIONS_MAX} leaders at most"
                    )));
                }
                changes.push(MetadataRecord::PartitionChange(change));
                Ok(elected)
            });
            results.push((partition, elected));
        }
        batch.push(Cause::ElectionRequested { unclean: election == Election::Unclean }, changes)?;
        Ok(ControllerResponse::ElectLeaders(results))
    }

    fn elect_one(
        &self,
        image: &MetadataImage,
        name: &TopicPartition,
        election: Election,
    ) -> Result<(ElectedLeader, PartitionChange), ControllerError> {
        let topic = image.topics.by_name(&name.topic).ok_or(ControllerError::UnknownTopicOrPartition)?;
        let partition = topic.partition(name.partition).ok_or(ControllerError::UnknownTopicOrPartition)?;
        let needed = match election {
            Election::Preferred => !partition.has_preferred_leader(),
            _ => !partition.has_leader(),
        };
        if !needed {
            return Err(ControllerError::ElectionNotNeeded);
        }
        let id = TopicIdPartition { topic_id: topic.id, partition: name.partition };
        let builder = self.builder(id, partition, &TopicRules::of(image, &topic.name)).election(election);
        let built = self.decide(image, partition, builder);
        let elected = built.as_ref().and_then(|built| built.change.leader).filter(|leader| *leader != NodeId::NONE);
        match (elected, built) {
            (Some(leader), Some(built)) if election != Election::Preferred || partition.replicas[0] == leader => {
                if built.unclean {
                    tracing::warn!(partition = %name, leader = leader.0, "UNCLEAN leader election, asked for");
                }
                Ok((ElectedLeader { leader, unclean: built.unclean }, built.change))
            }
            _ if election == Election::Preferred => Err(ControllerError::PreferredLeaderNotAvailable),
            _ => Err(ControllerError::EligibleLeadersNotAvailable),
        }
    }

    /// Moves at most `limit` leaderships back to brokers that lack more than `percent` of those meant for them.
    pub(super) fn rebalance_leaders(&self, batch: &mut Batch, limit: usize, percent: u8) -> Answer {
        let image = batch.image().clone();
        let imbalanced = imbalanced(&image, percent);
        let mut records = Vec::new();
        'topics: for topic in image.topics.iter().filter(|_| !imbalanced.is_empty()) {
            for (number, partition) in topic.iter().filter(|(_, p)| p.has_leader() && !p.has_preferred_leader()) {
                let preferred = partition.replicas[0];
                if !imbalanced.contains(&preferred) {
                    continue;
                }
                let suits = self.cluster.suitability(&image, partition, preferred) == Suitability::Good;
                if !partition.isr.contains(&preferred) || !suits {
                    continue;
                }
                let id = TopicIdPartition { topic_id: topic.id, partition: number };
                let builder = self.builder(id, partition, &TopicRules::of(&image, &topic.name));
                records.extend(self.build(&image, id, partition, builder.election(Election::Preferred)));
                if records.len() >= limit {
                    break 'topics;
                }
            }
        }
        let count = u32::try_from(records.len()).unwrap_or(u32::MAX);
        batch.push(Cause::LeaderBalance, records)?;
        Ok(ControllerResponse::Rebalanced(count))
    }

    // ---- configs ----

    /// What follows from changed configs: ELRs that are no longer true are cleared, and partitions without leader get
    /// one if an unclean election is allowed now.
    pub(super) fn follow_configs(
        &self,
        before: &MetadataImage,
        after: &MetadataImage,
        resource: &ConfigResource,
    ) -> Vec<MetadataRecord> {
        let one = match resource.kind {
            ConfigResourceType::Topic => after.topics.by_name(&resource.name),
            _ => None,
        };
        let all = (*resource == ConfigResource::cluster()).then(|| after.topics.iter());
        let mut records = Vec::new();
        for topic in one.into_iter().chain(all.into_iter().flatten()) {
            let (old, new) = (TopicRules::of(before, &topic.name), TopicRules::of(after, &topic.name));
            let same = old.min_insync_replicas == new.min_insync_replicas && old.unclean == new.unclean;
            if same {
                continue;
            }
            for (number, partition) in topic.iter() {
                let id = TopicIdPartition { topic_id: topic.id, partition: number };
                records.extend(self.build(after, id, partition, self.builder(id, partition, &new)));
            }
        }
        records
    }
}

/// Brokers that lead less of what they are preferred for than they should, by more than this many percent.
fn imbalanced(image: &MetadataImage, percent: u8) -> BTreeSet<NodeId> {
    let mut of_broker: BTreeMap<NodeId, (usize, usize)> = BTreeMap::new();
    for (_, partition) in image.topics.partitions() {
        if let Some(preferred) = partition.replicas.first() {
            let (meant, missing) = of_broker.entry(*preferred).or_default();
            *meant += 1;
            *missing += usize::from(!partition.has_preferred_leader());
        }
    }
    let lacks = |(meant, missing): &(usize, usize)| missing * 100 > meant * usize::from(percent);
    of_broker.into_iter().filter(|(_, counts)| lacks(counts)).map(|(id, _)| id).collect()
}

/// Every partition an election of that kind is for.
fn needing(image: &MetadataImage, election: Election) -> Vec<TopicPartition> {
    let needs = |partition: &PartitionRegistration| match election {
        Election::Preferred => !partition.has_preferred_leader(),
        _ => !partition.has_leader(),
    };
    let of_topic = |topic: &'_ std::sync::Arc<crate::image::TopicImage>| {
        let partitions = topic.iter().filter(|(_, p)| needs(p)).map(|(number, _)| number);
        let name = topic.name.clone();
        partitions.map(|partition| TopicPartition { topic: name.clone(), partition }).collect::<Vec<_>>()
    };
    image.topics.iter_by_name().flat_map(of_topic).collect()
}
