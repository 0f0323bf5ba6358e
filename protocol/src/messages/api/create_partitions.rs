//! CreatePartitions, API key 37.

use smol_str::SmolStr;

api! {
    CreatePartitions: versions 0..=3, flexible 2;

    request CreatePartitionsRequest {
        topics: Vec<CreatePartitionsTopic>,
        timeout_ms: i32,
        validate_only: bool,
    }
    struct CreatePartitionsTopic {
        name: SmolStr,
        count: i32,
        assignments: Option<Vec<CreatePartitionsAssignment>> = Some(vec![]),
    }
    struct CreatePartitionsAssignment {
        broker_ids: Vec<i32>,
    }

    response CreatePartitionsResponse {
        throttle_time_ms: i32,
        results: Vec<CreatePartitionsTopicResult>,
    }
    struct CreatePartitionsTopicResult {
        name: SmolStr,
        error_code: i16,
        error_message: Option<SmolStr>,
    }
}
