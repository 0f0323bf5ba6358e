//! StreamsGroupTopologyDescriptionUpdate, API key 93.

use smol_str::SmolStr;

api! {
    StreamsGroupTopologyDescriptionUpdate: versions 0..=0, flexible 0;

    request StreamsGroupTopologyDescriptionUpdateRequest {
        group_id: SmolStr,
        member_id: SmolStr,
        topology_epoch: i32,
        topology_description: TopologyDescription,
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

    response StreamsGroupTopologyDescriptionUpdateResponse {
        throttle_time_ms: i32,
        error_code: i16,
        error_message: Option<SmolStr>,
    }
}
