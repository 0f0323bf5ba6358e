//! ElectLeaders (key 43, KIP-183, KIP-460): the preferred leader again, or any at all at the price of committed records.

use super::Handlers;
use super::create_topics::bounded_timeout;
use super::errors::{channel_code, controller_code};
use rookery_protocol::codec::SmolStr;
use rookery_protocol::error::ErrorCode;
use rookery_protocol::messages::elect_leaders::{PartitionResult, ReplicaElectionResult, TopicPartitions};
use rookery_protocol::messages::{ElectLeadersRequest, ElectLeadersResponse};
use rookery_protocol::topics::is_legal_topic_name;
use rookery_raft::controller::{
    ControllerError, ControllerRequest, ControllerResponse, ElectLeadersRequest as Elect, ElectedLeader,
    ElectionRequest,
};
use rookery_raft::ids::{TopicName, TopicPartition};

/// Versions 1 and above name the kind of election, and can be refused as a whole.
const KINDS_FROM: i16 = 1;
/// Partitions one request may name; all of them are one decision.
const PARTITIONS_MAX: usize = 100_000;

pub async fn handle(handlers: &Handlers, version: i16, request: ElectLeadersRequest) -> ElectLeadersResponse {
    // Kafka's `ElectionType`.
    let election = match request.election_type {
        0 => ElectionRequest::Preferred,
        1 if version >= KINDS_FROM => ElectionRequest::Unclean,
        _ => return refused(version, &[], ErrorCode::InvalidRequest, "no such kind of election"),
    };
    let named = request.topic_partitions.iter().flatten().map(|topic| topic.partitions.len()).sum::<usize>();
    if named > PARTITIONS_MAX {
        return refused(version, &[], ErrorCode::InvalidRequest, "more partitions than one request may name");
    }
    // A name that no topic can have is bounded by nothing but the frame: it goes no further.
    let (legal, illegal) = match request.topic_partitions {
        Some(topics) => {
            let (legal, illegal) = topics.into_iter().partition::<Vec<_>, _>(|t| is_legal_topic_name(&t.topic));
            (Some(legal), illegal)
        }
        None => (None, Vec::new()),
    };
    let partitions: Option<Vec<TopicPartition>> = legal.map(|topics| {
        let of_topic = |topic: TopicPartitions| {
            let name: TopicName = topic.topic.as_str().into();
            topic.partitions.into_iter().map(move |partition| TopicPartition { topic: name.clone(), partition })
        };
        topics.into_iter().flat_map(of_topic).collect()
    });
    let asked = partitions.clone().unwrap_or_default();
    let elect = ControllerRequest::ElectLeaders(Elect { election, partitions });
    match handlers.broker.ask_controller(elect, bounded_timeout(request.timeout_ms)).await {
        Ok(ControllerResponse::ElectLeaders(outcomes)) => {
            let mut replica_election_results = by_topic(outcomes.into_iter().map(|(partition, outcome)| {
                let result = result(partition.partition, outcome);
                (partition.topic, result)
            }));
            replica_election_results.extend(illegal.into_iter().map(unknown));
            ElectLeadersResponse { replica_election_results, ..Default::default() }
        }
        Ok(_) => refused(version, &asked, ErrorCode::UnknownServerError, "unexpected answer"),
        Err(error) => refused(version, &asked, channel_code(&error), &error.to_string()),
    }
}

fn result(partition_id: i32, outcome: Result<ElectedLeader, ControllerError>) -> PartitionResult {
    match outcome {
        Ok(_) => PartitionResult { partition_id, error_message: None, ..Default::default() },
        Err(error) => PartitionResult {
            partition_id,
            error_code: controller_code(&error).code(),
            error_message: Some(SmolStr::new(error.to_string())),
        },
    }
}

fn unknown(topic: TopicPartitions) -> ReplicaElectionResult {
    let of = |id: i32| result(id, Err(ControllerError::UnknownTopicOrPartition));
    ReplicaElectionResult { topic: topic.topic, partition_result: topic.partitions.into_iter().map(of).collect() }
}

fn by_topic(results: impl Iterator<Item = (impl AsRef<str>, PartitionResult)>) -> Vec<ReplicaElectionResult> {
    let mut topics: Vec<ReplicaElectionResult> = Vec::new();
    for (topic, result) in results {
        match topics.last_mut().filter(|last| last.topic == topic.as_ref()) {
            Some(last) => last.partition_result.push(result),
            None => {
                topics.push(ReplicaElectionResult { topic: SmolStr::new(topic), partition_result: vec![result] });
            }
        }
    }
    topics
}

/// The whole request failed: said of the whole where the version can, and of each partition that was named.
fn refused(version: i16, asked: &[TopicPartition], error: ErrorCode, message: &str) -> ElectLeadersResponse {
    let of = |partition_id| PartitionResult {
        partition_id,
        error_code: error.code(),
        error_message: Some(SmolStr::new(message)),
    };
    ElectLeadersResponse {
        error_code: if version >= KINDS_FROM { error.code() } else { ErrorCode::None.code() },
        replica_election_results: by_topic(asked.iter().map(|p| (&p.topic, of(p.partition)))),
        ..Default::default()
    }
}
