//! OffsetForLeaderEpoch (key 23, KIP-320): where an epoch ends, for consumers that check whether their log was cut.

use super::Handlers;
use rookery_protocol::error::ErrorCode;
use rookery_protocol::messages::offset_for_leader_epoch::{
    EpochEndOffset, OffsetForLeaderPartition, OffsetForLeaderTopicResult,
};
use rookery_protocol::messages::{OffsetForLeaderEpochRequest, OffsetForLeaderEpochResponse};
use rookery_raft::ids::{LeaderEpoch, TopicId, TopicIdPartition};

pub fn handle(handlers: &Handlers, request: OffsetForLeaderEpochRequest) -> OffsetForLeaderEpochResponse {
    let image = handlers.broker.image();
    let topics = request.topics.into_iter().map(|topic| {
        let id = image.topics.id_of(&topic.topic);
        OffsetForLeaderTopicResult {
            partitions: topic.partitions.iter().map(|p| partition(handlers, id, p)).collect(),
            topic: topic.topic,
        }
    });
    OffsetForLeaderEpochResponse { topics: topics.collect(), ..Default::default() }
}

fn partition(handlers: &Handlers, topic_id: Option<TopicId>, asked: &OffsetForLeaderPartition) -> EpochEndOffset {
    let answer = |error: i16, leader_epoch: i32, end_offset: i64| EpochEndOffset {
        error_code: error,
        partition: asked.partition,
        leader_epoch,
        end_offset,
    };
    let id = topic_id.map(|topic_id| TopicIdPartition { topic_id, partition: asked.partition });
    let Some(id) = id.filter(|id| handlers.broker.image().partition(*id).is_some()) else {
        return answer(ErrorCode::UnknownTopicOrPartition.code(), -1, -1);
    };
    let Some(partition) = handlers.replicas.partition(id) else {
        return answer(ErrorCode::NotLeaderOrFollower.code(), -1, -1);
    };
    match partition.epoch_end(LeaderEpoch(asked.current_leader_epoch), LeaderEpoch(asked.leader_epoch)) {
        Ok(Some(end)) => answer(0, end.epoch.0, end.end_offset),
        Ok(None) => answer(0, -1, -1),
        Err(error) => answer(error.kafka_code(), -1, -1),
    }
}
