//! ShareGroupHeartbeat, API key 76.

use smol_str::SmolStr;
use uuid::Uuid;

api! {
    ShareGroupHeartbeat: versions 1..=1, flexible 0;

    request ShareGroupHeartbeatRequest {
        group_id: SmolStr,
        member_id: SmolStr,
        member_epoch: i32,
        rack_id: Option<SmolStr>,
        subscribed_topic_names: Option<Vec<SmolStr>>,
    }

    response ShareGroupHeartbeatResponse {
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
    struct TopicPartitions {
        topic_id: Uuid,
        partitions: Vec<i32>,
    }
}
