//! Metadata, API key 3.

use smol_str::SmolStr;
use uuid::Uuid;

api! {
    Metadata: versions 0..=13, flexible 9;

    request MetadataRequest {
        topics: Option<Vec<MetadataRequestTopic>> [always().nullable(1)] = Some(vec![]),
        allow_auto_topic_creation: bool [from(4)] = true,
        include_cluster_authorized_operations: bool [between(8, 10)],
        include_topic_authorized_operations: bool [from(8)],
    }
    struct MetadataRequestTopic {
        topic_id: Uuid [from(10).ignorable()],
        name: Option<SmolStr> [always().nullable(10)] = Some("".into()),
    }

    response MetadataResponse {
        throttle_time_ms: i32 [from(3).ignorable()],
        brokers: Vec<MetadataResponseBroker>,
        cluster_id: Option<SmolStr> [from(2).ignorable()],
        controller_id: i32 [from(1).ignorable()] = -1,
        topics: Vec<MetadataResponseTopic>,
        cluster_authorized_operations: i32 [between(8, 10)] = -2147483648,
        error_code: i16 [from(13).ignorable()],
    }
    struct MetadataResponseBroker {
        node_id: i32,
        host: SmolStr,
        port: i32,
        rack: Option<SmolStr> [from(1).ignorable()],
    }
    struct MetadataResponseTopic {
        error_code: i16,
        name: Option<SmolStr> [always().nullable(12)] = Some("".into()),
        topic_id: Uuid [from(10).ignorable()],
        is_internal: bool [from(1).ignorable()],
        partitions: Vec<MetadataResponsePartition>,
        topic_authorized_operations: i32 [from(8)] = -2147483648,
    }
    struct MetadataResponsePartition {
        error_code: i16,
        partition_index: i32,
        leader_id: i32,
        leader_epoch: i32 [from(7).ignorable()] = -1,
        replica_nodes: Vec<i32>,
        isr_nodes: Vec<i32>,
        offline_replicas: Vec<i32> [from(5).ignorable()],
    }
}
