//! Records for property tests.

use super::*;
use crate::ids::{DirectoryId, IncarnationId, LeaderEpoch, PartitionEpoch};
use proptest::prelude::*;

fn uuid() -> impl Strategy<Value = Uuid> {
    any::<u128>().prop_map(Uuid::from_u128)
}
fn node() -> impl Strategy<Value = NodeId> {
    any::<i32>().prop_map(NodeId)
}
fn nodes() -> impl Strategy<Value = ReplicaList> {
    prop::collection::vec(node(), 0..6).prop_map(ReplicaList::from_vec)
}
fn directory_ids() -> impl Strategy<Value = DirectoryList> {
    prop::collection::vec(uuid().prop_map(DirectoryId), 0..5).prop_map(DirectoryList::from_vec)
}
fn text() -> impl Strategy<Value = String> {
    ".{0,20}"
}
fn address() -> impl Strategy<Value = Address> {
    (text(), any::<u16>()).prop_map(|(host, port)| Address { host, port })
}
fn recovery() -> impl Strategy<Value = LeaderRecoveryState> {
    prop_oneof![Just(LeaderRecoveryState::Recovered), Just(LeaderRecoveryState::Recovering)]
}
fn directories() -> impl Strategy<Value = Vec<Directory>> {
    let state = prop_oneof![Just(DirectoryState::Online), Just(DirectoryState::Offline), Just(DirectoryState::LogLost)];
    prop::collection::vec((uuid(), state).prop_map(|(id, state)| Directory { id: DirectoryId(id), state }), 0..4)
}

pub(crate) fn any_register_broker() -> impl Strategy<Value = RegisterBroker> {
    let listener = (text(), text(), any::<u16>(), 0u8..4).prop_map(|(name, host, port, id)| Listener {
        name,
        host,
        port,
        security_protocol: SecurityProtocol::from_id(id).expect("below four"),
    });
    let features = prop::collection::btree_map(
        text(),
        (any::<i16>(), any::<i16>()).prop_map(|(min, max)| FeatureRange { min, max }),
        0..3,
    );
    (
        (node(), any::<i64>(), uuid(), any::<i64>(), any::<bool>()),
        prop::collection::vec(listener, 0..3),
        (address(), prop::option::of(address()), prop::option::of(text())),
        features,
        directories(),
    )
        .prop_map(
            |((id, epoch, incarnation, previous, is_controller), listeners, addresses, features, directories)| {
                RegisterBroker {
                    id,
                    epoch: BrokerEpoch(epoch),
                    incarnation: IncarnationId(incarnation),
                    previous_epoch: BrokerEpoch(previous),
                    listeners,
                    peer_address: addresses.0,
                    gossip_address: addresses.1,
                    rack: addresses.2,
                    features,
                    directories,
                    is_controller,
                }
            },
        )
}

fn registration() -> impl Strategy<Value = PartitionRegistration> {
    (
        (nodes(), directory_ids(), nodes(), nodes(), nodes()),
        (recovery(), node(), any::<i32>(), any::<i32>(), nodes(), nodes()),
    )
        .prop_map(|((replicas, directories, isr, elr, last_known_elr), rest)| PartitionRegistration {
            replicas,
            directories,
            isr,
            elr,
            last_known_elr,
            recovery_state: rest.0,
            leader: rest.1,
            leader_epoch: LeaderEpoch(rest.2),
            partition_epoch: PartitionEpoch(rest.3),
            adding: rest.4,
            removing: rest.5,
        })
}

fn change() -> impl Strategy<Value = PartitionChange> {
    let of_nodes = || prop::option::of(nodes());
    (
        (uuid(), any::<i32>(), any::<i32>(), prop::option::of(node()), prop::option::of(any::<i32>())),
        (of_nodes(), of_nodes(), of_nodes(), prop::option::of(recovery())),
        (of_nodes(), prop::option::of(directory_ids()), of_nodes(), of_nodes()),
    )
        .prop_map(|((topic, partition, epoch, leader, leader_epoch), a, b)| PartitionChange {
            topic_id: TopicId(topic),
            partition,
            partition_epoch: PartitionEpoch(epoch),
            leader,
            leader_epoch: leader_epoch.map(LeaderEpoch),
            isr: a.0,
            elr: a.1,
            last_known_elr: a.2,
            recovery_state: a.3,
            replicas: b.0,
            directories: b.1,
            adding: b.2,
            removing: b.3,
        })
}

fn acl() -> impl Strategy<Value = AccessControlEntry> {
    (uuid(), 2u8..8, text(), 3u8..5, text(), text(), (2u8..16, 2u8..4)).prop_map(
        |(id, resource_type, resource_name, pattern_type, principal, host, (operation, permission))| {
            AccessControlEntry {
                id,
                resource_type: ResourceType::from_id(resource_type).expect("in range"),
                resource_name,
                pattern_type: PatternType::from_id(pattern_type).expect("in range"),
                principal,
                host,
                operation: AclOperation::from_id(operation).expect("in range"),
                permission: AclPermission::from_id(permission).expect("in range"),
            }
        },
    )
}

fn scram() -> impl Strategy<Value = UserScramCredential> {
    let bytes = || prop::collection::vec(any::<u8>(), 0..40);
    (text(), 1u8..3, bytes(), bytes(), bytes(), any::<i32>()).prop_map(
        |(user, mechanism, salt, stored_key, server_key, iterations)| UserScramCredential {
            user,
            mechanism: ScramMechanism::from_id(mechanism).expect("in range"),
            salt,
            stored_key,
            server_key,
            iterations,
        },
    )
}

fn config() -> impl Strategy<Value = MetadataRecord> {
    let kind = prop_oneof![
        Just(ConfigResourceType::Topic),
        Just(ConfigResourceType::Broker),
        Just(ConfigResourceType::ClientMetrics),
        Just(ConfigResourceType::Group)
    ];
    (kind, text(), text(), prop::option::of(text())).prop_map(|(kind, resource, name, value)| MetadataRecord::Config {
        resource: ConfigResource { kind, name: resource },
        name,
        value,
    })
}

fn quota() -> impl Strategy<Value = MetadataRecord> {
    let part = (text(), prop::option::of(text())).prop_map(|(kind, name)| QuotaEntity { kind, name });
    (prop::collection::vec(part, 0..3), text(), prop::option::of(-1e12..1e12f64))
        .prop_map(|(entity, key, value)| MetadataRecord::ClientQuota { entity, key, value })
}

fn formation() -> impl Strategy<Value = MetadataRecord> {
    let voter = (node(), uuid()).prop_map(|(node_id, id)| QuorumNodeId { node_id, directory_id: DirectoryId(id) });
    (uuid(), prop::collection::vec(voter, 0..5))
        .prop_map(|(id, voters)| MetadataRecord::Formation(Formation { cluster_id: ClusterId(id), voters }))
}

fn cause() -> impl Strategy<Value = Cause> {
    prop_oneof![
        Just(Cause::Formation),
        Just(Cause::Registration),
        Just(Cause::CaughtUp),
        Just(Cause::FenceRequested),
        Just(Cause::ShutdownRequested),
        Just(Cause::ShutdownCompleted),
        prop::sample::select(Conviction::ALL.to_vec()).prop_map(Cause::Convicted),
        Just(Cause::SessionExpired),
        Just(Cause::UnregistrationRequested),
        (node(), any::<bool>()).prop_map(|(broker, reopened)| Cause::DirectoriesReported { broker, reopened }),
        (node(), prop::sample::select(DiskReport::ALL.to_vec()))
            .prop_map(|(broker, disk)| Cause::DiskReported { broker, disk }),
        Just(Cause::DisksImpaired),
        node().prop_map(|leader| Cause::IsrProposed { leader }),
        Just(Cause::LeaderBalance),
        any::<bool>().prop_map(|unclean| Cause::ElectionRequested { unclean }),
        Just(Cause::TopicCreationRequested),
        Just(Cause::TopicDeletionRequested),
        Just(Cause::PartitionsRequested),
        Just(Cause::InternalTopicNeeded),
        Just(Cause::ConfigsRequested),
        Just(Cause::ProducerIdsRequested),
        Just(Cause::Observed),
    ]
}

pub(crate) fn any_provenance() -> impl Strategy<Value = Provenance> {
    (node(), any::<u64>(), any::<i64>(), cause()).prop_map(|(controller, term, unix_ms, cause)| Provenance {
        controller,
        term,
        unix_ms,
        cause,
    })
}

fn any_observation() -> impl Strategy<Value = Observation> {
    let finding = prop::sample::select(Finding::ALL.to_vec());
    (node(), any::<i64>(), finding, any::<u32>()).prop_map(|(broker, epoch, finding, count)| Observation {
        broker,
        epoch: BrokerEpoch(epoch),
        finding,
        count,
    })
}

/// Any record at all, meaningful or not.
pub(crate) fn any_record() -> impl Strategy<Value = MetadataRecord> {
    let broker = || (node(), any::<i64>().prop_map(BrokerEpoch));
    let topic = || uuid().prop_map(TopicId);
    prop_oneof![
        formation(),
        any_register_broker().prop_map(MetadataRecord::RegisterBroker),
        broker().prop_map(|(id, epoch)| MetadataRecord::FenceBroker { id, epoch }),
        broker().prop_map(|(id, epoch)| MetadataRecord::UnfenceBroker { id, epoch }),
        broker().prop_map(|(id, epoch)| MetadataRecord::BrokerShuttingDown { id, epoch }),
        (broker(), directories()).prop_map(|((id, epoch), directories)| MetadataRecord::BrokerDirectories {
            id,
            epoch,
            directories
        }),
        broker().prop_map(|(id, epoch)| MetadataRecord::UnregisterBroker { id, epoch }),
        (text(), topic()).prop_map(|(name, id)| MetadataRecord::Topic { name: name.into(), id }),
        (topic(), any::<i32>(), registration()).prop_map(|(topic_id, partition, registration)| {
            MetadataRecord::Partition { topic_id, partition, registration }
        }),
        change().prop_map(MetadataRecord::PartitionChange),
        topic().prop_map(|topic_id| MetadataRecord::RemoveTopic { topic_id }),
        config(),
        any::<i64>().prop_map(|next| MetadataRecord::ProducerIds { next }),
        quota(),
        acl().prop_map(MetadataRecord::AccessControlEntry),
        uuid().prop_map(|id| MetadataRecord::RemoveAccessControlEntry { id }),
        scram().prop_map(MetadataRecord::UserScramCredential),
        (text(), 1u8..3).prop_map(|(user, mechanism)| MetadataRecord::RemoveUserScramCredential {
            user,
            mechanism: ScramMechanism::from_id(mechanism).expect("in range"),
        }),
        (text(), any::<i16>()).prop_map(|(name, level)| MetadataRecord::FeatureLevel { name, level }),
        any_provenance().prop_map(MetadataRecord::Provenance),
        any_observation().prop_map(MetadataRecord::Observation),
    ]
}
