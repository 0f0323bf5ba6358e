//! One file per API, written by `scripts/messages` from Kafka's schemas: change the script, not these files.

pub mod add_offsets_to_txn;
pub mod add_partitions_to_txn;
pub mod add_raft_voter;
pub mod alter_client_quotas;
pub mod alter_configs;
pub mod alter_partition_reassignments;
pub mod alter_replica_log_dirs;
pub mod alter_share_group_offsets;
pub mod alter_user_scram_credentials;
pub mod api_versions;
pub mod consumer_group_describe;
pub mod consumer_group_heartbeat;
pub mod create_acls;
pub mod create_delegation_token;
pub mod create_partitions;
pub mod create_topics;
pub mod delete_acls;
pub mod delete_groups;
pub mod delete_records;
pub mod delete_share_group_offsets;
pub mod delete_share_group_state;
pub mod delete_topics;
pub mod describe_acls;
pub mod describe_client_quotas;
pub mod describe_cluster;
pub mod describe_configs;
pub mod describe_delegation_token;
pub mod describe_groups;
pub mod describe_log_dirs;
pub mod describe_producers;
pub mod describe_quorum;
pub mod describe_share_group_offsets;
pub mod describe_topic_partitions;
pub mod describe_transactions;
pub mod describe_user_scram_credentials;
pub mod elect_leaders;
pub mod end_txn;
pub mod expire_delegation_token;
pub mod fetch;
pub mod find_coordinator;
pub mod get_telemetry_subscriptions;
pub mod heartbeat;
pub mod incremental_alter_configs;
pub mod init_producer_id;
pub mod initialize_share_group_state;
pub mod join_group;
pub mod leave_group;
pub mod list_config_resources;
pub mod list_groups;
pub mod list_offsets;
pub mod list_partition_reassignments;
pub mod list_transactions;
pub mod metadata;
pub mod offset_commit;
pub mod offset_delete;
pub mod offset_fetch;
pub mod offset_for_leader_epoch;
pub mod produce;
pub mod push_telemetry;
pub mod read_share_group_state;
pub mod read_share_group_state_summary;
pub mod remove_raft_voter;
pub mod renew_delegation_token;
pub mod sasl_authenticate;
pub mod sasl_handshake;
pub mod share_acknowledge;
pub mod share_fetch;
pub mod share_group_describe;
pub mod share_group_heartbeat;
pub mod streams_group_describe;
pub mod streams_group_heartbeat;
pub mod streams_group_topology_description_update;
pub mod sync_group;
pub mod txn_offset_commit;
pub mod unregister_broker;
pub mod unregister_controller;
pub mod update_features;
pub mod write_share_group_state;
pub mod write_txn_markers;

apis! {
    0 Produce = produce: ProduceRequest, ProduceResponse;
    1 Fetch = fetch: FetchRequest, FetchResponse;
    2 ListOffsets = list_offsets: ListOffsetsRequest, ListOffsetsResponse;
    3 Metadata = metadata: MetadataRequest, MetadataResponse;
    8 OffsetCommit = offset_commit: OffsetCommitRequest, OffsetCommitResponse;
    9 OffsetFetch = offset_fetch: OffsetFetchRequest, OffsetFetchResponse;
    10 FindCoordinator = find_coordinator: FindCoordinatorRequest, FindCoordinatorResponse;
    11 JoinGroup = join_group: JoinGroupRequest, JoinGroupResponse;
    12 Heartbeat = heartbeat: HeartbeatRequest, HeartbeatResponse;
    13 LeaveGroup = leave_group: LeaveGroupRequest, LeaveGroupResponse;
    14 SyncGroup = sync_group: SyncGroupRequest, SyncGroupResponse;
    15 DescribeGroups = describe_groups: DescribeGroupsRequest, DescribeGroupsResponse;
    16 ListGroups = list_groups: ListGroupsRequest, ListGroupsResponse;
    17 SaslHandshake = sasl_handshake: SaslHandshakeRequest, SaslHandshakeResponse;
    18 ApiVersions = api_versions: ApiVersionsRequest, ApiVersionsResponse;
    19 CreateTopics = create_topics: CreateTopicsRequest, CreateTopicsResponse;
    20 DeleteTopics = delete_topics: DeleteTopicsRequest, DeleteTopicsResponse;
    21 DeleteRecords = delete_records: DeleteRecordsRequest, DeleteRecordsResponse;
    22 InitProducerId = init_producer_id: InitProducerIdRequest, InitProducerIdResponse;
    23 OffsetForLeaderEpoch = offset_for_leader_epoch: OffsetForLeaderEpochRequest, OffsetForLeaderEpochResponse;
    24 AddPartitionsToTxn = add_partitions_to_txn: AddPartitionsToTxnRequest, AddPartitionsToTxnResponse;
    25 AddOffsetsToTxn = add_offsets_to_txn: AddOffsetsToTxnRequest, AddOffsetsToTxnResponse;
    26 EndTxn = end_txn: EndTxnRequest, EndTxnResponse;
    27 WriteTxnMarkers = write_txn_markers: WriteTxnMarkersRequest, WriteTxnMarkersResponse;
    28 TxnOffsetCommit = txn_offset_commit: TxnOffsetCommitRequest, TxnOffsetCommitResponse;
    29 DescribeAcls = describe_acls: DescribeAclsRequest, DescribeAclsResponse;
    30 CreateAcls = create_acls: CreateAclsRequest, CreateAclsResponse;
    31 DeleteAcls = delete_acls: DeleteAclsRequest, DeleteAclsResponse;
    32 DescribeConfigs = describe_configs: DescribeConfigsRequest, DescribeConfigsResponse;
    33 AlterConfigs = alter_configs: AlterConfigsRequest, AlterConfigsResponse;
    34 AlterReplicaLogDirs = alter_replica_log_dirs: AlterReplicaLogDirsRequest, AlterReplicaLogDirsResponse;
    35 DescribeLogDirs = describe_log_dirs: DescribeLogDirsRequest, DescribeLogDirsResponse;
    36 SaslAuthenticate = sasl_authenticate: SaslAuthenticateRequest, SaslAuthenticateResponse;
    37 CreatePartitions = create_partitions: CreatePartitionsRequest, CreatePartitionsResponse;
    38 CreateDelegationToken = create_delegation_token: CreateDelegationTokenRequest, CreateDelegationTokenResponse;
    39 RenewDelegationToken = renew_delegation_token: RenewDelegationTokenRequest, RenewDelegationTokenResponse;
    40 ExpireDelegationToken = expire_delegation_token: ExpireDelegationTokenRequest, ExpireDelegationTokenResponse;
    41 DescribeDelegationToken = describe_delegation_token:
        DescribeDelegationTokenRequest, DescribeDelegationTokenResponse;
    42 DeleteGroups = delete_groups: DeleteGroupsRequest, DeleteGroupsResponse;
    43 ElectLeaders = elect_leaders: ElectLeadersRequest, ElectLeadersResponse;
    44 IncrementalAlterConfigs = incremental_alter_configs:
        IncrementalAlterConfigsRequest, IncrementalAlterConfigsResponse;
    45 AlterPartitionReassignments = alter_partition_reassignments:
        AlterPartitionReassignmentsRequest, AlterPartitionReassignmentsResponse;
    46 ListPartitionReassignments = list_partition_reassignments:
        ListPartitionReassignmentsRequest, ListPartitionReassignmentsResponse;
    47 OffsetDelete = offset_delete: OffsetDeleteRequest, OffsetDeleteResponse;
    48 DescribeClientQuotas = describe_client_quotas: DescribeClientQuotasRequest, DescribeClientQuotasResponse;
    49 AlterClientQuotas = alter_client_quotas: AlterClientQuotasRequest, AlterClientQuotasResponse;
    50 DescribeUserScramCredentials = describe_user_scram_credentials:
        DescribeUserScramCredentialsRequest, DescribeUserScramCredentialsResponse;
    51 AlterUserScramCredentials = alter_user_scram_credentials:
        AlterUserScramCredentialsRequest, AlterUserScramCredentialsResponse;
    55 DescribeQuorum = describe_quorum: DescribeQuorumRequest, DescribeQuorumResponse;
    57 UpdateFeatures = update_features: UpdateFeaturesRequest, UpdateFeaturesResponse;
    60 DescribeCluster = describe_cluster: DescribeClusterRequest, DescribeClusterResponse;
    61 DescribeProducers = describe_producers: DescribeProducersRequest, DescribeProducersResponse;
    64 UnregisterBroker = unregister_broker: UnregisterBrokerRequest, UnregisterBrokerResponse;
    65 DescribeTransactions = describe_transactions: DescribeTransactionsRequest, DescribeTransactionsResponse;
    66 ListTransactions = list_transactions: ListTransactionsRequest, ListTransactionsResponse;
    68 ConsumerGroupHeartbeat = consumer_group_heartbeat: ConsumerGroupHeartbeatRequest, ConsumerGroupHeartbeatResponse;
    69 ConsumerGroupDescribe = consumer_group_describe: ConsumerGroupDescribeRequest, ConsumerGroupDescribeResponse;
    71 GetTelemetrySubscriptions = get_telemetry_subscriptions:
        GetTelemetrySubscriptionsRequest, GetTelemetrySubscriptionsResponse;
    72 PushTelemetry = push_telemetry: PushTelemetryRequest, PushTelemetryResponse;
    74 ListConfigResources = list_config_resources: ListConfigResourcesRequest, ListConfigResourcesResponse;
    75 DescribeTopicPartitions = describe_topic_partitions:
        DescribeTopicPartitionsRequest, DescribeTopicPartitionsResponse;
    76 ShareGroupHeartbeat = share_group_heartbeat: ShareGroupHeartbeatRequest, ShareGroupHeartbeatResponse;
    77 ShareGroupDescribe = share_group_describe: ShareGroupDescribeRequest, ShareGroupDescribeResponse;
    78 ShareFetch = share_fetch: ShareFetchRequest, ShareFetchResponse;
    79 ShareAcknowledge = share_acknowledge: ShareAcknowledgeRequest, ShareAcknowledgeResponse;
    80 AddRaftVoter = add_raft_voter: AddRaftVoterRequest, AddRaftVoterResponse;
    81 RemoveRaftVoter = remove_raft_voter: RemoveRaftVoterRequest, RemoveRaftVoterResponse;
    83 InitializeShareGroupState = initialize_share_group_state:
        InitializeShareGroupStateRequest, InitializeShareGroupStateResponse;
    84 ReadShareGroupState = read_share_group_state: ReadShareGroupStateRequest, ReadShareGroupStateResponse;
    85 WriteShareGroupState = write_share_group_state: WriteShareGroupStateRequest, WriteShareGroupStateResponse;
    86 DeleteShareGroupState = delete_share_group_state: DeleteShareGroupStateRequest, DeleteShareGroupStateResponse;
    87 ReadShareGroupStateSummary = read_share_group_state_summary:
        ReadShareGroupStateSummaryRequest, ReadShareGroupStateSummaryResponse;
    88 StreamsGroupHeartbeat = streams_group_heartbeat: StreamsGroupHeartbeatRequest, StreamsGroupHeartbeatResponse;
    89 StreamsGroupDescribe = streams_group_describe: StreamsGroupDescribeRequest, StreamsGroupDescribeResponse;
    90 DescribeShareGroupOffsets = describe_share_group_offsets:
        DescribeShareGroupOffsetsRequest, DescribeShareGroupOffsetsResponse;
    91 AlterShareGroupOffsets = alter_share_group_offsets:
        AlterShareGroupOffsetsRequest, AlterShareGroupOffsetsResponse;
    92 DeleteShareGroupOffsets = delete_share_group_offsets:
        DeleteShareGroupOffsetsRequest, DeleteShareGroupOffsetsResponse;
    93 StreamsGroupTopologyDescriptionUpdate = streams_group_topology_description_update:
        StreamsGroupTopologyDescriptionUpdateRequest, StreamsGroupTopologyDescriptionUpdateResponse;
    94 UnregisterController = unregister_controller: UnregisterControllerRequest, UnregisterControllerResponse;
}
