//! AlterReplicaLogDirs, API key 34.

use smol_str::SmolStr;

api! {
    AlterReplicaLogDirs: versions 1..=2, flexible 2;

    request AlterReplicaLogDirsRequest {
        dirs: Vec<AlterReplicaLogDir>,
    }
    struct AlterReplicaLogDir {
        path: SmolStr,
        topics: Vec<AlterReplicaLogDirTopic>,
    }
    struct AlterReplicaLogDirTopic {
        name: SmolStr,
        partitions: Vec<i32>,
    }

    response AlterReplicaLogDirsResponse {
        throttle_time_ms: i32,
        results: Vec<AlterReplicaLogDirTopicResult>,
    }
    struct AlterReplicaLogDirTopicResult {
        topic_name: SmolStr,
        partitions: Vec<AlterReplicaLogDirPartitionResult>,
    }
    struct AlterReplicaLogDirPartitionResult {
        partition_index: i32,
        error_code: i16,
    }
}
