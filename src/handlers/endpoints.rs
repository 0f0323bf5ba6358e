//! Which address of a broker a client is told: that of the listener it came through.

use rookery_protocol::codec::SmolStr;
use rookery_raft::ids::{NodeId, TopicIdPartition};
use rookery_raft::image::{BrokerRegistration, MetadataImage, PartitionRegistration};

/// A broker as a client on some listener can reach it.
pub struct Endpoint {
    pub node_id: i32,
    pub host: SmolStr,
    pub port: i32,
    pub rack: Option<SmolStr>,
    pub fenced: bool,
}

/// The broker's address on the named listener; `None` if it has no such listener.
pub fn endpoint(broker: &BrokerRegistration, listener: &str) -> Option<Endpoint> {
    let found = broker.record.listeners.iter().find(|l| l.name == listener)?;
    Some(Endpoint {
        node_id: broker.id().0,
        host: SmolStr::new(&found.host),
        port: i32::from(found.port),
        rack: broker.record.rack.as_deref().map(SmolStr::new),
        fenced: broker.fenced,
    })
}

/// Where a client finds a broker, if it is not fenced and has the listener.
pub fn alive_endpoint(image: &MetadataImage, id: NodeId, listener: &str) -> Option<Endpoint> {
    image.cluster.broker(id).filter(|b| !b.fenced).and_then(|b| endpoint(b, listener))
}

/// A partition's leader with its epoch, for the hints of KIP-951; -1 and -1 where there is none.
pub fn leader_of(image: &MetadataImage, id: TopicIdPartition) -> (i32, i32) {
    image.partition(id).map_or((-1, -1), |p| (p.leader.0, p.leader_epoch.0))
}

/// Replicas that no client can reach: on brokers that are fenced or gone.
pub fn offline_replicas(image: &MetadataImage, partition: &PartitionRegistration) -> Vec<i32> {
    let offline = |id: &&NodeId| {
        let directory = partition.directory_of(**id).unwrap_or_default();
        image.cluster.broker(**id).is_none_or(|b| b.fenced || !b.can_host(directory))
    };
    partition.replicas.iter().filter(offline).map(|id| id.0).collect()
}

/// Plain numbers, as the wire wants them.
pub fn numbers(ids: &[NodeId]) -> Vec<i32> {
    ids.iter().map(|id| id.0).collect()
}
