//! DescribeLogDirs, API key 35.

use smol_str::SmolStr;

api! {
    DescribeLogDirs: versions 1..=5, flexible 2;

    request DescribeLogDirsRequest {
        topics: Option<Vec<DescribableLogDirTopic>> = Some(vec![]),
    }
    struct DescribableLogDirTopic {
        topic: SmolStr,
        partitions: Vec<i32>,
    }

    response DescribeLogDirsResponse {
        throttle_time_ms: i32,
        error_code: i16 [from(3).ignorable()],
        results: Vec<DescribeLogDirsResult>,
    }
    struct DescribeLogDirsResult {
        error_code: i16,
        log_dir: SmolStr,
        topics: Vec<DescribeLogDirsTopic>,
        total_bytes: i64 [from(4).ignorable()] = -1,
        usable_bytes: i64 [from(4).ignorable()] = -1,
        is_cordoned: bool [from(5).ignorable()],
    }
    struct DescribeLogDirsTopic {
        name: SmolStr,
        partitions: Vec<DescribeLogDirsPartition>,
    }
    struct DescribeLogDirsPartition {
        partition_index: i32,
        partition_size: i64,
        offset_lag: i64,
        is_future_key: bool,
    }
}
