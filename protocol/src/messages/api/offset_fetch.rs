//! OffsetFetch, API key 9.

use smol_str::SmolStr;
use uuid::Uuid;

api! {
    OffsetFetch: versions 1..=10, flexible 6;

    request OffsetFetchRequest {
        group_id: SmolStr [to(7)],
        topics: Option<Vec<OffsetFetchRequestTopic>> [to(7).nullable(2)] = Some(vec![]),
        groups: Vec<OffsetFetchRequestGroup> [from(8)],
        require_stable: bool [from(7)],
    }
    struct OffsetFetchRequestTopic {
        name: SmolStr,
        partition_indexes: Vec<i32>,
    }
    struct OffsetFetchRequestGroup {
        group_id: SmolStr,
        member_id: Option<SmolStr> [from(9).ignorable()],
        member_epoch: i32 [from(9).ignorable()] = -1,
        topics: Option<Vec<OffsetFetchRequestTopics>> = Some(vec![]),
    }
    struct OffsetFetchRequestTopics {
        name: SmolStr [to(9).ignorable()],
        topic_id: Uuid [from(10).ignorable()],
        partition_indexes: Vec<i32>,
    }

    response OffsetFetchResponse {
        throttle_time_ms: i32 [from(3).ignorable()],
        topics: Vec<OffsetFetchResponseTopic> [to(7)],
        error_code: i16 [between(2, 7).ignorable()],
        groups: Vec<OffsetFetchResponseGroup> [from(8)],
    }
    struct OffsetFetchResponseTopic {
        name: SmolStr,
        partitions: Vec<OffsetFetchResponsePartition>,
    }
    struct OffsetFetchResponsePartition {
        partition_index: i32,
        committed_offset: i64,
        committed_leader_epoch: i32 [from(5).ignorable()] = -1,
        metadata: Option<SmolStr> = Some("".into()),
        error_code: i16,
    }
    struct OffsetFetchResponseGroup {
        group_id: SmolStr,
        topics: Vec<OffsetFetchResponseTopics>,
        error_code: i16,
    }
    struct OffsetFetchResponseTopics {
        name: SmolStr [to(9).ignorable()],
        topic_id: Uuid [from(10).ignorable()],
        partitions: Vec<OffsetFetchResponsePartitions>,
    }
    struct OffsetFetchResponsePartitions {
        partition_index: i32,
        committed_offset: i64,
        committed_leader_epoch: i32 = -1,
        metadata: Option<SmolStr> = Some("".into()),
        error_code: i16,
    }
}
