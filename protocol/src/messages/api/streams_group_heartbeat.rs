//! StreamsGroupHeartbeat, API key 88.

use smol_str::SmolStr;

api! {
    StreamsGroupHeartbeat: versions 0..=1, flexible 0;

    request StreamsGroupHeartbeatRequest {
        group_id: SmolStr,
        member_id: SmolStr,
        member_epoch: i32,
        endpoint_information_epoch: i32,
        instance_id: Option<SmolStr>,
        rack_id: Option<SmolStr>,
        rebalance_timeout_ms: i32 = -1,
        topology: Option<Topology>,
        active_tasks: Option<Vec<TaskIds>>,
        standby_tasks: Option<Vec<TaskIds>>,
        warmup_tasks: Option<Vec<TaskIds>>,
        process_id: Option<SmolStr>,
        user_endpoint: Option<Endpoint>,
        client_tags: Option<Vec<KeyValue>>,
        task_offsets: Option<Vec<TaskOffset>>,
        task_end_offsets: Option<Vec<TaskOffset>>,
        shutdown_application: bool,
    }
    struct Topology {
        epoch: i32,
        subtopologies: Vec<Subtopology>,
    }
    struct Subtopology {
        subtopology_id: SmolStr,
        source_topics: Vec<SmolStr>,
        source_topic_regex: Vec<SmolStr>,
        state_changelog_topics: Vec<TopicInfo>,
        repartition_sink_topics: Vec<SmolStr>,
        repartition_source_topics: Vec<TopicInfo>,
        copartition_groups: Vec<CopartitionGroup>,
    }
    struct TopicInfo {
        name: SmolStr,
        partitions: i32,
        replication_factor: i16,
        topic_configs: Vec<KeyValue>,
    }
    struct KeyValue {
        key: SmolStr,
        value: SmolStr,
    }
    struct CopartitionGroup {
        source_topics: Vec<i16>,
        source_topic_regex: Vec<i16>,
        repartition_source_topics: Vec<i16>,
    }
    struct TaskIds {
        subtopology_id: SmolStr,
        partitions: Vec<i32>,
    }
    struct Endpoint {
        host: SmolStr,
        port: u16,
    }
    struct TaskOffset {
        subtopology_id: SmolStr,
        partition: i32,
        offset: i64,
    }

    response StreamsGroupHeartbeatResponse {
        throttle_time_ms: i32,
        error_code: i16,
        error_message: Option<SmolStr>,
        member_id: SmolStr,
        member_epoch: i32,
        heartbeat_interval_ms: i32,
        acceptable_recovery_lag_legacy: i32 [to(0)],
        task_offset_interval_ms: i32,
        acceptable_recovery_lag: i64 [from(1).ignorable()] = -1,
        status: Option<Vec<Status>> = Some(vec![]),
        active_tasks: Option<Vec<TaskIds>>,
        standby_tasks: Option<Vec<TaskIds>>,
        warmup_tasks: Option<Vec<TaskIds>>,
        topology_description_required: bool [from(1)],
        endpoint_information_epoch: i32,
        partitions_by_user_endpoint: Option<Vec<EndpointToPartitions>>,
    }
    struct Status {
        status_code: i8,
        status_detail: SmolStr,
    }
    struct EndpointToPartitions {
        user_endpoint: Endpoint,
        active_partitions: Vec<TopicPartition>,
        standby_partitions: Vec<TopicPartition>,
    }
    struct TopicPartition {
        topic: SmolStr,
        partitions: Vec<i32>,
    }
}
