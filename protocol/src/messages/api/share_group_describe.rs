//! ShareGroupDescribe, API key 77.

use smol_str::SmolStr;
use uuid::Uuid;

api! {
    ShareGroupDescribe: versions 1..=1, flexible 0;

    request ShareGroupDescribeRequest {
        group_ids: Vec<SmolStr>,
        include_authorized_operations: bool,
    }

    response ShareGroupDescribeResponse {
        throttle_time_ms: i32,
        groups: Vec<DescribedGroup>,
    }
    struct DescribedGroup {
        error_code: i16,
        error_message: Option<SmolStr>,
        group_id: SmolStr,
        group_state: SmolStr,
        group_epoch: i32,
        assignment_epoch: i32,
        assignor_name: SmolStr,
        members: Vec<Member>,
        authorized_operations: i32 = -2147483648,
    }
    struct Member {
        member_id: SmolStr,
        rack_id: Option<SmolStr>,
        member_epoch: i32,
        client_id: SmolStr,
        client_host: SmolStr,
        subscribed_topic_names: Vec<SmolStr>,
        assignment: Assignment,
    }
    struct Assignment {
        topic_partitions: Vec<TopicPartitions>,
    }
    struct TopicPartitions {
        topic_id: Uuid,
        topic_name: SmolStr,
        partitions: Vec<i32>,
    }
}
