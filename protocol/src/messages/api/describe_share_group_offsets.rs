//! DescribeShareGroupOffsets, API key 90.

use smol_str::SmolStr;
use uuid::Uuid;

api! {
    DescribeShareGroupOffsets: versions 0..=1, flexible 0;

    request DescribeShareGroupOffsetsRequest {
        groups: Vec<DescribeShareGroupOffsetsRequestGroup>,
    }
    struct DescribeShareGroupOffsetsRequestGroup {
        group_id: SmolStr,
        topics: Option<Vec<DescribeShareGroupOffsetsRequestTopic>> = Some(vec![]),
    }
    struct DescribeShareGroupOffsetsRequestTopic {
        topic_name: SmolStr,
        partitions: Vec<i32>,
    }

    response DescribeShareGroupOffsetsResponse {
        throttle_time_ms: i32,
        groups: Vec<DescribeShareGroupOffsetsResponseGroup>,
    }
    struct DescribeShareGroupOffsetsResponseGroup {
        group_id: SmolStr,
        topics: Vec<DescribeShareGroupOffsetsResponseTopic>,
        error_code: i16,
        error_message: Option<SmolStr>,
    }
    struct DescribeShareGroupOffsetsResponseTopic {
        topic_name: SmolStr,
        topic_id: Uuid,
        partitions: Vec<DescribeShareGroupOffsetsResponsePartition>,
    }
    struct DescribeShareGroupOffsetsResponsePartition {
        partition_index: i32,
        start_offset: i64,
        leader_epoch: i32,
        lag: i64 [from(1).ignorable()] = -1,
        error_code: i16,
        error_message: Option<SmolStr>,
    }
}
