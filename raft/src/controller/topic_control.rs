//! Topics and partitions that come and go (Kafka's `ReplicationControl`, first half).

use super::cluster_control::ClusterControl;
use super::{
    Answer, Batch, ControllerConfig, ControllerError, ControllerResponse, CreatePartitionsRequest, CreateTopicsRequest,
    EnsureInternalTopicRequest, Fitness, NewPartitions, NewTopic, Placement, PlacementBroker, TopicCreated,
    TopicDeleted, TopicRef,
};
use crate::ids::{DirectoryId, LeaderEpoch, NodeId, PartitionEpoch, TopicId};
use crate::image::{MetadataImage, config_def};
use crate::record::{
    Cause, ConfigResource, DirectoryList, LeaderRecoveryState, MetadataRecord, PartitionRegistration, ReplicaList,
};
use rand::Rng;
use rand::rngs::StdRng;
use std::collections::BTreeMap;
use uuid::Uuid;

/// Kafka's limit: a log directory's name has to hold the topic's name, a dash and a number.
const TOPIC_NAME_MAX: usize = 249;

pub(super) struct TopicControl<'c> {
    pub(super) config: &'c ControllerConfig,
    pub(super) cluster: &'c ClusterControl,
    pub(super) random: &'c mut StdRng,
}

impl TopicControl<'_> {
    // ---- creation ----

    pub(super) fn create_topics(&mut self, batch: &mut Batch, request: &CreateTopicsRequest) -> ControllerResponse {
        let mut budget = self.config.partitions_per_request_max;
        let create = |topic: &NewTopic| {
            let named_twice = request.topics.iter().filter(|t| t.name == topic.name).count() > 1;
            if named_twice {
                return Err(ControllerError::InvalidRequest(format!("Topic {} is named twice.", topic.name)));
            }
            self.create_one(batch, Cause::TopicCreationRequested, topic, request.validate_only, &mut budget)
        };
        ControllerResponse::CreateTopics(request.topics.iter().map(create).collect())
    }

    fn create_one(
        &mut self,
        batch: &mut Batch,
        cause: Cause,
        topic: &NewTopic,
        validate_only: bool,
        budget: &mut i32,
    ) -> Result<TopicCreated, ControllerError> {
        let image = batch.image().clone();
        check_name(&topic.name)?;
        if image.topics.by_name(&topic.name).is_some() {
            return Err(ControllerError::TopicAlreadyExists(topic.name.clone()));
        }
        if let Some(other) = colliding_topic(&image, &topic.name) {
            return Err(ControllerError::InvalidTopic(format!(
                "Topic '{}' collides with existing topic: {other}",
                topic.name
            )));
        }
        let mut configs = Vec::new();
        let resource = ConfigResource::topic(&topic.name);
        for (name, value) in &topic.configs {
            // Kafka: a config named without a value means its default.
            let Some(value) = value else { continue };
            config_def::validate(&resource, name, value).map_err(ControllerError::InvalidConfig)?;
            configs.push(MetadataRecord::Config {
                resource: resource.clone(),
                name: name.clone(),
                value: Some(value.clone()),
            });
        }
        let replicas = if topic.assignments.is_empty() {
            self.assign_automatically(&image, topic, *budget)?
        } else {
            manual_assignment(&image, topic, *budget)?
        };
        let mut created = TopicCreated {
            id: TopicId::NONE,
            partitions: replicas.len() as i32,
            replication_factor: replicas.first().map_or(0, |r| r.len() as i16),
        };
        *budget -= created.partitions;
        if validate_only {
            return Ok(created);
        }
        created.id = self.fresh_topic_id(&image);
        let mut records = vec![MetadataRecord::Topic { name: topic.name.as_str().into(), id: created.id }];
        records.extend(configs);
        for (partition, replicas) in (0..).zip(replicas) {
            let registration = self.new_partition(&image, replicas)?;
            records.push(MetadataRecord::Partition { topic_id: created.id, partition, registration });
        }
        batch.push(cause, records)?;
        tracing::info!(topic = %topic.name, id = %created.id, partitions = created.partitions, "topic created");
        Ok(created)
    }

    fn assign_automatically(
        &mut self,
        image: &MetadataImage,
        topic: &NewTopic,
        budget: i32,
    ) -> Result<Vec<ReplicaList>, ControllerError> {
        let partitions = match topic.partitions {
            -1 => self.config.default_partitions,
            n if n > 0 => n,
            _ => {
                let why = "Number of partitions was set to an invalid non-positive value.";
                return Err(ControllerError::InvalidPartitions(why.into()));
            }
        };
        check_budget(partitions, budget)?;
        let replication_factor = match topic.replication_factor {
            // A cluster that is meant to have fewer brokers than the default cannot be asked for more.
            -1 => (self.config.default_replication_factor.max(1) as usize).min(image.cluster.expected_brokers()),
            n if n > 0 => n as usize,
            _ => {
                let why = "Replication factor must be larger than 0.";
                return Err(ControllerError::InvalidReplicationFactor(why.into()));
            }
        };
        self.place(image, partitions, replication_factor)
    }

    fn place(
        &mut self,
        image: &MetadataImage,
        partitions: i32,
        replication_factor: usize,
    ) -> Result<Vec<ReplicaList>, ControllerError> {
        let brokers = image.cluster.brokers().filter(|b| !b.shutting_down).map(|b| PlacementBroker {
            id: b.id(),
            rack: b.record.rack.clone(),
            fitness: self.cluster.fitness(b),
        });
        let mut placement = Placement::new(brokers.collect(), self.random);
        let available = placement.len();
        let placed: Option<Vec<ReplicaList>> = (0..partitions).map(|_| placement.place(replication_factor)).collect();
        placed.ok_or_else(|| {
            let why = if available < replication_factor {
                format!(
                    "Unable to replicate the partition {replication_factor} time(s): The target replication factor of \
                     {replication_factor} cannot be reached because only {available} broker(s) are registered."
                )
            } else {
                format!(
                    "Unable to replicate the partition {replication_factor} time(s): All brokers are currently fenced."
                )
            };
            ControllerError::InvalidReplicationFactor(why)
        })
    }

    /// A new partition's state: in sync are the replicas whose brokers can take part now, but not one whose disk hangs or is full while
    /// there are others, and the first of them leads whose disk is in order, if there is one.
    fn new_partition(
        &mut self,
        image: &MetadataImage,
        replicas: ReplicaList,
    ) -> Result<PartitionRegistration, ControllerError> {
        let directories: DirectoryList = replicas.iter().map(|r| self.directory_on(image, *r)).collect();
        let up = |at: usize| image.cluster.is_active(replicas[at]) && directories[at] != DirectoryId::NONE;
        let all_up: ReplicaList = (0..replicas.len()).filter(|at| up(*at)).map(|at| replicas[at]).collect();
        let taking_part: ReplicaList = all_up.iter().copied().filter(|id| self.cluster.can_append(*id)).collect();
        let isr = if taking_part.is_empty() { all_up } else { taking_part };
        let is_fit = |id: &&NodeId| image.cluster.broker(**id).is_some_and(|b| self.cluster.fitness(b) == Fitness::Fit);
        let Some(leader) = isr.iter().find(is_fit).or_else(|| isr.first()).copied() else {
            return Err(ControllerError::InvalidReplicaAssignment(
                "All brokers of a partition are fenced, shutting down or without a usable directory.".into(),
            ));
        };
        Ok(PartitionRegistration {
            replicas,
            directories,
            isr,
            elr: ReplicaList::new(),
            last_known_elr: ReplicaList::new(),
            recovery_state: LeaderRecoveryState::Recovered,
            leader,
            leader_epoch: LeaderEpoch(0),
            partition_epoch: PartitionEpoch(0),
            adding: ReplicaList::new(),
            removing: ReplicaList::new(),
        })
    }

    fn directory_on(&mut self, image: &MetadataImage, broker: NodeId) -> DirectoryId {
        let Some(broker) = image.cluster.broker(broker) else { return DirectoryId::NONE };
        let usable: Vec<DirectoryId> =
            broker.record.directories.iter().filter(|d| d.state.is_usable()).map(|d| d.id).collect();
        let at = self.random.next_u32() as usize % usable.len().max(1);
        usable.get(at).copied().unwrap_or(DirectoryId::NONE)
    }

    fn fresh_topic_id(&mut self, image: &MetadataImage) -> TopicId {
        loop {
            let bits = (u128::from(self.random.next_u64()) << 64) | u128::from(self.random.next_u64());
            let id = TopicId(uuid::Builder::from_random_bytes(bits.to_be_bytes()).into_uuid());
            // A leading dash would read as a flag on a command line.
            if id.0 != Uuid::nil() && image.topics.by_id(id).is_none() && !id.to_string().starts_with('-') {
                return id;
            }
        }
    }

    // ---- internal topics ----

    pub(super) fn ensure_internal_topic(&mut self, batch: &mut Batch, request: &EnsureInternalTopicRequest) -> Answer {
        let image = batch.image().clone();
        if let Some(topic) = image.topics.by_name(&request.name) {
            return Ok(ControllerResponse::InternalTopic { id: topic.id });
        }
        // As many replicas as asked, or as the whole cluster is meant to have: a topic born while brokers are still
        // arriving would keep its single replica for ever.
        let expected = image.cluster.expected_brokers();
        let replication_factor = (request.replication_factor.max(1) as usize).min(expected);
        let active = image.cluster.brokers().filter(|b| b.is_active()).count();
        let needed_active = image.min_isr(&request.name, replication_factor);
        if image.cluster.len() < replication_factor || active < needed_active {
            return Err(ControllerError::NotReady(format!(
                "{} waits for {replication_factor} brokers, {needed_active} of them active: {} are registered, {active} \
                 active",
                request.name,
                image.cluster.len()
            )));
        }
        let topic = NewTopic {
            name: request.name.clone(),
            partitions: request.partitions,
            replication_factor: replication_factor as i16,
            assignments: BTreeMap::new(),
            configs: request.configs.clone(),
        };
        let mut budget = self.config.partitions_per_request_max;
        let created = self.create_one(batch, Cause::InternalTopicNeeded, &topic, false, &mut budget)?;
        Ok(ControllerResponse::InternalTopic { id: created.id })
    }

    // ---- deletion ----

    pub(super) fn delete_topics(&mut self, batch: &mut Batch, topics: &[TopicRef]) -> ControllerResponse {
        let delete = |topic: &TopicRef| {
            let image = batch.image().clone();
            let found = match topic {
                TopicRef::Name(name) => image.topics.by_name(name).ok_or(ControllerError::UnknownTopicOrPartition)?,
                TopicRef::Id(id) => image.topics.by_id(*id).ok_or(ControllerError::UnknownTopicId)?,
            };
            batch.push(Cause::TopicDeletionRequested, vec![MetadataRecord::RemoveTopic { topic_id: found.id }])?;
            tracing::info!(topic = %found.name, id = %found.id, "topic deleted");
            Ok(TopicDeleted { name: found.name.clone(), id: found.id })
        };
        ControllerResponse::DeleteTopics(topics.iter().map(delete).collect())
    }

    // ---- more partitions ----

    pub(super) fn create_partitions(
        &mut self,
        batch: &mut Batch,
        request: &CreatePartitionsRequest,
    ) -> ControllerResponse {
        let mut budget = self.config.partitions_per_request_max;
        let add = |topic: &NewPartitions| self.add_partitions(batch, topic, request.validate_only, &mut budget);
        ControllerResponse::CreatePartitions(request.topics.iter().map(add).collect())
    }

    fn add_partitions(
        &mut self,
        batch: &mut Batch,
        request: &NewPartitions,
        validate_only: bool,
        budget: &mut i32,
    ) -> Result<(), ControllerError> {
        let image = batch.image().clone();
        let topic = image.topics.by_name(&request.topic).ok_or(ControllerError::UnknownTopicOrPartition)?;
        let present = topic.partitions.len() as i32;
        let invalid = |why: String| Err(ControllerError::InvalidPartitions(why));
        if request.count == present {
            return invalid(format!("Topic already has {present} partition(s)."));
        }
        if request.count < present {
            return invalid(format!(
                "The topic {} currently has {present} partition(s); {} would not be an increase.",
                request.topic, request.count
            ));
        }
        let additional = request.count - present;
        check_budget(additional, *budget)?;
        let replication_factor = topic.partitions.first().map_or(1, |p| p.replicas.len());
        let replicas = if request.assignments.is_empty() {
            self.place(&image, additional, replication_factor)?
        } else if request.assignments.len() != additional as usize {
            return Err(ControllerError::InvalidReplicaAssignment(format!(
                "Attempted to add {additional} additional partition(s), but only {} assignment(s) were specified.",
                request.assignments.len()
            )));
        } else {
            let check = |list: &Vec<NodeId>| checked_replicas(&image, list, Some(replication_factor));
            request.assignments.iter().map(check).collect::<Result<Vec<_>, _>>()?
        };
        let mut records = Vec::new();
        for (partition, replicas) in (present..).zip(replicas) {
            let registration = self.new_partition(&image, replicas)?;
            records.push(MetadataRecord::Partition { topic_id: topic.id, partition, registration });
        }
        *budget -= additional;
        if validate_only { Ok(()) } else { batch.push(Cause::PartitionsRequested, records) }
    }
}

fn check_budget(partitions: i32, budget: i32) -> Result<(), ControllerError> {
    if partitions > budget {
        return Err(ControllerError::PolicyViolation(format!(
            "Excessively large number of partitions per request: {partitions} more, {budget} left."
        )));
    }
    Ok(())
}

fn manual_assignment(
    image: &MetadataImage,
    topic: &NewTopic,
    budget: i32,
) -> Result<Vec<ReplicaList>, ControllerError> {
    let count = topic.assignments.len() as i32;
    if topic.replication_factor != -1 || (topic.partitions != -1 && topic.partitions != count) {
        return Err(ControllerError::InvalidRequest(
            "Both numPartitions or replicationFactor and replicasAssignments were set.".into(),
        ));
    }
    if !topic.assignments.keys().copied().eq(0..count) {
        return Err(ControllerError::InvalidReplicaAssignment(
            "partitions should be a consecutive 0-based integer sequence".into(),
        ));
    }
    check_budget(count, budget)?;
    let replication_factor = topic.assignments.values().next().map(Vec::len);
    topic.assignments.values().map(|list| checked_replicas(image, list, replication_factor)).collect()
}

fn checked_replicas(
    image: &MetadataImage,
    replicas: &[NodeId],
    replication_factor: Option<usize>,
) -> Result<ReplicaList, ControllerError> {
    let invalid = |why: String| Err(ControllerError::InvalidReplicaAssignment(why));
    if replicas.is_empty() {
        return invalid("The manual partition assignment includes an empty replica list.".into());
    }
    if replication_factor.is_some_and(|factor| factor != replicas.len()) {
        return invalid(
            "The manual partition assignment includes partitions with different replication factors.".into(),
        );
    }
    for (i, replica) in replicas.iter().enumerate() {
        if image.cluster.broker(*replica).is_none() {
            return invalid(format!(
                "The manual partition assignment includes broker {replica}, but no such broker is registered."
            ));
        }
        if replicas[..i].contains(replica) {
            return invalid(format!("The manual partition assignment includes the broker {replica} more than once."));
        }
    }
    Ok(ReplicaList::from_slice(replicas))
}

/// Kafka's rule for topic names.
fn check_name(name: &str) -> Result<(), ControllerError> {
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    let why = if name.is_empty() {
        "the empty string is not allowed".to_owned()
    } else if name == "." || name == ".." {
        "'.' or '..' is not allowed".to_owned()
    } else if name.len() > TOPIC_NAME_MAX {
        format!("the length of the name is longer than the max allowed length {TOPIC_NAME_MAX}")
    } else if !name.chars().all(legal) {
        "it contains one or more characters other than ASCII alphanumerics, '.', '_' and '-'".to_owned()
    } else {
        return Ok(());
    };
    Err(ControllerError::InvalidTopic(format!("Topic name is invalid: {why}")))
}

/// A topic whose metric names would be the same, because both write '.' as '_' there.
fn colliding_topic<'i>(image: &'i MetadataImage, name: &str) -> Option<&'i str> {
    if !name.contains(['.', '_']) {
        return None;
    }
    let plain = name.replace('.', "_");
    let collides = |topic: &&str| topic.len() == plain.len() && topic.replace('.', "_") == plain;
    image.topics.iter_by_name().map(|topic| topic.name.as_ref()).find(collides)
}
