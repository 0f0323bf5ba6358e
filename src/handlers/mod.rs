//! Kafka's requests: one file per API.
//!
//! In: frames of a connection. Out: responses. A handler turns a wire message into calls of the rooms below and their
//! answer into a wire message; it holds no state and decides nothing that another handler could see.
//!
//! [`Handlers::handle`](crate::net::RequestHandler::handle) reads the header, refuses what this broker does not speak (a
//! closed connection, as in Kafka; ApiVersions answers with the list instead), and runs the handler. Only Produce works
//! before it returns, because appends of one connection must keep their order; everything else runs when its turn to be
//! answered has come, so that requests of one connection are as sequential as in Kafka.

mod api_versions;
mod create_topics;
mod delete_groups;
mod delete_topics;
mod describe_cluster;
mod describe_configs;
mod describe_groups;
mod describe_topic_partitions;
mod elect_leaders;
mod endpoints;
mod errors;
mod fetch;
mod find_coordinator;
mod groups;
mod heartbeat;
mod incremental_alter_configs;
mod init_producer_id;
mod join_group;
mod leave_group;
mod list_groups;
mod list_offsets;
mod metadata;
mod offset_commit;
mod offset_fetch;
mod offset_for_leader_epoch;
mod produce;
mod sync_group;

use crate::broker::Broker;
use crate::coordinator::ReplicaLog;
use crate::coordinator::group::GroupCoordinator;
use crate::net::{ConnectionInfo, Handled, Reply, RequestBytes, RequestHandler};
use crate::replica::ReplicaManager;
use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use rookery_protocol::codec::{Decoder, SmolStr};
use rookery_protocol::messages::{ApiKey, RequestHeader, RequestKind, ResponseKind, response_frame};
use rookery_protocol::versions;
use std::sync::Arc;

/// Everything handlers work with.
#[derive(Clone)]
pub struct Handlers {
    pub(crate) broker: Arc<Broker>,
    pub(crate) replicas: Arc<ReplicaManager>,
    pub(crate) groups: Arc<GroupCoordinator<ReplicaLog>>,
    pub(crate) fetch_sessions: Arc<fetch::FetchSessions>,
}

/// One request's surroundings.
pub(crate) struct RequestContext {
    pub connection: Arc<ConnectionInfo>,
    pub version: i16,
    pub correlation_id: i32,
    pub client_id: Option<SmolStr>,
}

impl RequestContext {
    /// As the client calls itself; empty if it does not.
    fn client_id(&self) -> Arc<str> {
        self.client_id.as_deref().unwrap_or_default().into()
    }

    fn reply(&self, response: ResponseKind) -> Handled {
        self.reply_holding(response, None)
    }

    /// A response, and what is to be given back once it has been sent.
    fn reply_holding(&self, response: ResponseKind, held: Option<Box<dyn Send>>) -> Handled {
        match response_frame(&response, self.version, self.correlation_id) {
            Ok(frame) => Handled::Reply(Reply { frame, held }),
            // A handler filled in what this version cannot say: its test should have told.
            Err(error) => Handled::Close(format!("the answer to {} cannot be written: {error}", response.key().name())),
        }
    }
}

impl Handlers {
    /// Handlers over the rooms below.
    pub fn new(broker: Arc<Broker>, replicas: Arc<ReplicaManager>, groups: Arc<GroupCoordinator<ReplicaLog>>) -> Self {
        let fetch_sessions = Arc::new(fetch::FetchSessions::new(broker.config.limits.fetch_sessions));
        Self { broker, replicas, groups, fetch_sessions }
    }

    fn read(&self, connection: &Arc<ConnectionInfo>, frame: Bytes) -> Result<(RequestContext, RequestKind), Handled> {
        let close = |why: String| Handled::Close(why);
        let peeked = RequestHeader::peek(&frame).map_err(|e| close(format!("no request: {e}")))?;
        let key = ApiKey::try_from(peeked.api_key).map_err(|e| close(e.to_string()))?;
        let mut context = RequestContext {
            connection: connection.clone(),
            version: peeked.api_version,
            correlation_id: peeked.correlation_id,
            client_id: None,
        };
        if !versions::accepts(key, peeked.api_version) {
            if key == ApiKey::ApiVersions {
                context.version = 0;
                return Err(context.reply(api_versions::unsupported().into()));
            }
            return Err(close(format!("{} version {} is not spoken here", key.name(), peeked.api_version)));
        }
        let mut input = Decoder::new(frame);
        let read = RequestHeader::decode(&mut input)
            .and_then(|(key, header)| Ok((header, RequestKind::decode(key, peeked.api_version, &mut input)?)));
        match read {
            Ok((header, request)) => {
                context.client_id = header.client_id;
                Ok((context, request))
            }
            Err(error) => Err(close(format!("{} version {}: {error}", key.name(), peeked.api_version))),
        }
    }

    /// Everything but Produce and Fetch.
    async fn answer(&self, context: &RequestContext, request: RequestKind) -> Option<ResponseKind> {
        let (connection, version) = (&context.connection, context.version);
        Some(match request {
            RequestKind::ApiVersions(r) => api_versions::handle(self, version, &r).into(),
            RequestKind::CreateTopics(r) => create_topics::handle(self, r).await.into(),
            RequestKind::DeleteGroups(r) => delete_groups::handle(self, r).await.into(),
            RequestKind::DeleteTopics(r) => delete_topics::handle(self, version, r).await.into(),
            RequestKind::DescribeCluster(r) => describe_cluster::handle(self, connection, &r).into(),
            RequestKind::DescribeConfigs(r) => describe_configs::handle(self, &r).into(),
            RequestKind::DescribeGroups(r) => describe_groups::handle(self, version, r).await.into(),
            RequestKind::DescribeTopicPartitions(r) => describe_topic_partitions::handle(self, &r).into(),
            RequestKind::ElectLeaders(r) => elect_leaders::handle(self, version, r).await.into(),
            RequestKind::FindCoordinator(r) => find_coordinator::handle(self, connection, version, r).await.into(),
            RequestKind::Heartbeat(r) => heartbeat::handle(self, r).await.into(),
            RequestKind::IncrementalAlterConfigs(r) => incremental_alter_configs::handle(self, r).await.into(),
            RequestKind::InitProducerId(r) => init_producer_id::handle(self, r).await.into(),
            RequestKind::JoinGroup(r) => join_group::handle(self, context, r).await.into(),
            RequestKind::LeaveGroup(r) => leave_group::handle(self, version, r).await.into(),
            RequestKind::ListGroups(r) => list_groups::handle(self, r).await.into(),
            RequestKind::ListOffsets(r) => list_offsets::handle(self, version, r).await.into(),
            RequestKind::Metadata(r) => metadata::handle(self, connection, version, r).await.into(),
            RequestKind::OffsetCommit(r) => offset_commit::handle(self, version, r).await.into(),
            RequestKind::OffsetFetch(r) => offset_fetch::handle(self, version, r).await.into(),
            RequestKind::OffsetForLeaderEpoch(r) => offset_for_leader_epoch::handle(self, r).into(),
            RequestKind::SyncGroup(r) => sync_group::handle(self, r).await.into(),
            _ => return None,
        })
    }
}

impl RequestHandler for Handlers {
    fn handle<'a>(
        &'a self,
        connection: &'a Arc<ConnectionInfo>,
        frame: Bytes,
        held: RequestBytes,
    ) -> BoxFuture<'a, Handled> {
        async move {
            let (context, request) = match self.read(connection, frame) {
                Ok(read) => read,
                Err(handled) => return handled,
            };
            if let RequestKind::Produce(request) = request {
                return produce::handle(self, context, request, held).await;
            }
            let this = self.clone();
            Handled::Later(
                async move {
                    let _until_answered = held;
                    let key = request.key();
                    let request = match request {
                        RequestKind::Fetch(fetch) => {
                            let (response, memory) = fetch::handle(&this, &context, fetch).await;
                            return context.reply_holding(response.into(), memory.map(|held| Box::new(held) as _));
                        }
                        other => other,
                    };
                    match this.answer(&context, request).await {
                        Some(response) => context.reply(response),
                        None => Handled::Close(format!("{} has no handler", key.name())),
                    }
                }
                .boxed(),
            )
        }
        .boxed()
    }
}

#[cfg(test)]
mod tests;
