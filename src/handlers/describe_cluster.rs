//! DescribeCluster (key 60): brokers and the controller, for administrators.

use super::Handlers;
use super::endpoints::endpoint;
use super::metadata::controller;
use crate::net::ConnectionInfo;
use rookery_protocol::codec::SmolStr;
use rookery_protocol::error::ErrorCode;
use rookery_protocol::messages::describe_cluster::DescribeClusterBroker;
use rookery_protocol::messages::{DescribeClusterRequest, DescribeClusterResponse};

/// `endpoint_type` of brokers; controllers have no Kafka listener here.
const BROKERS: i8 = 1;

pub fn handle(
    handlers: &Handlers,
    connection: &ConnectionInfo,
    request: &DescribeClusterRequest,
) -> DescribeClusterResponse {
    let image = handlers.broker.image();
    let mut response = DescribeClusterResponse {
        endpoint_type: request.endpoint_type,
        cluster_id: image.cluster.cluster_id().map(|id| SmolStr::new(id.to_string())).unwrap_or_default(),
        controller_id: controller(handlers, &image),
        ..Default::default()
    };
    if request.endpoint_type != BROKERS {
        response.error_code = ErrorCode::MismatchedEndpointType.code();
        response.error_message = Some("this listener is a broker's: ask for brokers".into());
        return response;
    }
    response.brokers = image
        .cluster
        .brokers()
        .filter(|b| request.include_fenced_brokers || !b.fenced)
        .filter_map(|b| endpoint(b, &connection.listener))
        .map(|e| DescribeClusterBroker {
            broker_id: e.node_id,
            host: e.host,
            port: e.port,
            rack: e.rack,
            is_fenced: e.fenced,
        })
        .collect();
    response
}
