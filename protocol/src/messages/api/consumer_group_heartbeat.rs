//! ConsumerGroupHeartbeat, API key 68.

use smol_str::SmolStr;
use uuid::Uuid;

api! {
    ConsumerGroupHeartbeat: versions 0..=1, flexible 0;

    request ConsumerGroupHeartbeatRequest {
        group_id: SmolStr,
        member_id: SmolStr,
        member_epoch: i32,
        instance_id: Option<SmolStr>,
        rack_id: Option<SmolStr>,
        rebalance_timeout_ms: i32 = -1,
        subscribed_topic_names: Option<Vec<SmolStr>>,
        subscribed_topic_regex: Option<SmolStr> [from(1)],
        server_assignor: Option<SmolStr>,
        topic_partitions: Option<Vec<TopicPartitions>>,
    }
    struct TopicPartitions {
        topic_id: Uuid,
        partitions: Vec<i32>,
    }

    response ConsumerGroupHeartbeatResponse {
        throttle_time_ms: i32,
        error_code: i16,
        error_message: Option<SmolStr>,
        member_id: Option<SmolStr>,
        member_epoch: i32,
        heartbeat_interval_ms: i32,
        assignment: Option<Assignment>,
    }
    struct Assignment {
        topic_partitions: Vec<TopicPartitions>,
    }
}
