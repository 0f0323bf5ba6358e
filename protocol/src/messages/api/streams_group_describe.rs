//! StreamsGroupDescribe, API key 89.

use smol_str::SmolStr;

api! {
    StreamsGroupDescribe: versions 0..=1, flexible 0;

    request StreamsGroupDescribeRequest {
        group_ids: Vec<SmolStr>,
        include_authorized_operations: bool,
        include_topology_description: bool [from(1)],
    }

    response StreamsGroupDescribeResponse {
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
        topology: Option<Topology>,
        members: Vec<Member>,
        authorized_operations: i32 = -2147483648,
        topology_description: Option<TopologyDescription> [from(1)],
        topology_description_status: i8 [from(1)],
        assignor_name: Option<SmolStr> [from(1).ignorable()],
    }
    struct Topology {
        epoch: i32,
        subtopologies: Option<Vec<Subtopology>>,
    }
    struct Subtopology {
        subtopology_id: SmolStr,
        source_topics: Vec<SmolStr>,
        repartition_sink_topics: Vec<SmolStr>,
        state_changelog_topics: Vec<TopicInfo>,
        repartition_source_topics: Vec<TopicInfo>,
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
    struct Member {
        member_id: SmolStr,
        member_epoch: i32,
        instance_id: Option<SmolStr>,
        rack_id: Option<SmolStr>,
        client_id: SmolStr,
        client_host: SmolStr,
        topology_epoch: i32,
        process_id: SmolStr,
        user_endpoint: Option<Endpoint>,
        client_tags: Vec<KeyValue>,
        task_offsets: Vec<TaskOffset>,
        task_end_offsets: Vec<TaskOffset>,
        assignment: Assignment,
        target_assignment: Assignment,
        is_classic: bool,
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
    struct Assignment {
        active_tasks: Vec<TaskIds>,
        standby_tasks: Vec<TaskIds>,
        warmup_tasks: Vec<TaskIds>,
    }
    struct TaskIds {
        subtopology_id: SmolStr,
        partitions: Vec<i32>,
    }
    struct TopologyDescription {
        subtopologies: Vec<TopologyDescriptionSubtopology>,
        global_stores: Vec<TopologyDescriptionGlobalStore>,
    }
    struct TopologyDescriptionSubtopology {
        subtopology_id: SmolStr,
        nodes: Vec<TopologyDescriptionNode>,
    }
    struct TopologyDescriptionNode {
        name: SmolStr,
        node_type: i8,
        source_topics: Vec<SmolStr>,
        sink_topic: Option<SmolStr>,
        stores: Vec<SmolStr>,
        successors: Vec<SmolStr>,
    }
    struct TopologyDescriptionGlobalStore {
        source: TopologyDescriptionNode,
        processor: TopologyDescriptionNode,
    }
}
