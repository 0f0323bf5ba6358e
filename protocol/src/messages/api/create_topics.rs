//! CreateTopics, API key 19.

use smol_str::SmolStr;
use uuid::Uuid;

api! {
    CreateTopics: versions 2..=7, flexible 5;

    request CreateTopicsRequest {
        topics: Vec<CreatableTopic>,
        timeout_ms: i32 = 60000,
        validate_only: bool,
    }
    struct CreatableTopic {
        name: SmolStr,
        num_partitions: i32,
        replication_factor: i16,
        assignments: Vec<CreatableReplicaAssignment>,
        configs: Vec<CreatableTopicConfig>,
    }
    struct CreatableReplicaAssignment {
        partition_index: i32,
        broker_ids: Vec<i32>,
    }
    struct CreatableTopicConfig {
        name: SmolStr,
        value: Option<SmolStr> = Some("".into()),
    }

    response CreateTopicsResponse {
        throttle_time_ms: i32,
        topics: Vec<CreatableTopicResult>,
    }
    struct CreatableTopicResult {
        name: SmolStr,
        topic_id: Uuid [from(7).ignorable()],
        error_code: i16,
        error_message: Option<SmolStr> = Some("".into()),
        num_partitions: i32 [from(5).ignorable()] = -1,
        replication_factor: i16 [from(5).ignorable()] = -1,
        configs: Option<Vec<CreatableTopicConfigs>> [from(5).ignorable()] = Some(vec![]),
    } tagged {
        0 => topic_config_error_code: i16 [from(5).ignorable()],
    }
    struct CreatableTopicConfigs {
        name: SmolStr,
        value: Option<SmolStr> = Some("".into()),
        read_only: bool,
        config_source: i8 = -1,
        is_sensitive: bool,
    }
}
