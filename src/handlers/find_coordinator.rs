//! FindCoordinator (key 10): which broker coordinates a group. One key before version 4, several since.

use super::Handlers;
use super::endpoints::alive_endpoint;
use crate::coordinator::group::partition_of;
use crate::net::ConnectionInfo;
use rookery_protocol::codec::SmolStr;
use rookery_protocol::error::ErrorCode;
use rookery_protocol::messages::find_coordinator::Coordinator;
use rookery_protocol::messages::{FindCoordinatorRequest, FindCoordinatorResponse};
use rookery_protocol::topics::GROUP_METADATA_TOPIC;
use rookery_raft::ids::NodeId;
use rookery_raft::image::MetadataImage;

const GROUP: i8 = 0;
const TRANSACTION: i8 = 1;

pub async fn handle(
    handlers: &Handlers,
    connection: &ConnectionInfo,
    version: i16,
    request: FindCoordinatorRequest,
) -> FindCoordinatorResponse {
    let keys = if version >= 4 { request.coordinator_keys } else { vec![request.key] };
    if request.key_type == GROUP && handlers.broker.image().topics.by_name(GROUP_METADATA_TOPIC).is_none() {
        // The first group of a cluster: the topic is made in the background, the client asks again.
        handlers.broker.create_group_metadata_topic();
    }
    let groups = if request.key_type == GROUP { keys.as_slice() } else { &[] };
    let named = |image: &MetadataImage| groups.iter().filter_map(|key| leader(image, key)).collect();
    let image = handlers.broker.settled_image(named).await;
    let mut coordinators: Vec<_> =
        keys.into_iter().map(|key| find(&image, connection, version, request.key_type, key)).collect();
    if version >= 4 {
        return FindCoordinatorResponse { coordinators, ..Default::default() };
    }
    let one = coordinators.pop().unwrap_or_default();
    FindCoordinatorResponse {
        error_code: one.error_code,
        error_message: one.error_message,
        node_id: one.node_id,
        host: one.host,
        port: one.port,
        ..Default::default()
    }
}

/// Who leads the partition that holds the group.
fn leader(image: &MetadataImage, group: &str) -> Option<NodeId> {
    let topic = image.topics.by_name(GROUP_METADATA_TOPIC)?;
    let partitions = i32::try_from(topic.partitions.len()).expect("partition numbers are i32");
    topic.partition(partition_of(group, partitions)).map(|p| p.leader)
}

/// Whoever asks for what there is not must fail at once instead of asking again until its time is over. librdkafka, which stops
/// at version 2, does so for codes of authorization alone, and prints the message beside them. The Java client, which begins at
/// version 4 where it can, does so for any lasting code, and prints the message with all but those of authorization.
fn no_transactions(version: i16) -> ErrorCode {
    if version >= 4 { ErrorCode::UnsupportedVersion } else { ErrorCode::TransactionalIdAuthorizationFailed }
}

fn find(image: &MetadataImage, connection: &ConnectionInfo, version: i16, kind: i8, key: SmolStr) -> Coordinator {
    let refused = |error: ErrorCode, message: &str| Coordinator {
        key: key.clone(),
        node_id: -1,
        port: -1,
        error_code: error.code(),
        error_message: Some(SmolStr::new(message)),
        ..Default::default()
    };
    match kind {
        GROUP => {}
        TRANSACTION => return refused(no_transactions(version), "this broker has no transactions yet"),
        _ => return refused(ErrorCode::InvalidRequest, "the key type is neither group nor transaction"),
    }
    let unavailable = || refused(ErrorCode::CoordinatorNotAvailable, ErrorCode::CoordinatorNotAvailable.message());
    let coordinator = leader(image, &key);
    match coordinator.and_then(|id| alive_endpoint(image, id, &connection.listener)) {
        None => unavailable(),
        Some(endpoint) => Coordinator {
            node_id: endpoint.node_id,
            host: endpoint.host,
            port: endpoint.port,
            error_message: None,
            key,
            ..Default::default()
        },
    }
}
