//! openraft's network over a [`QuorumTransport`].
//!
//! openraft means replication to be answered within its heartbeat interval, which one fsync of a slow disk may exceed. Replication and votes
//! therefore have limits of our own ([`RpcTimeouts`]): an append may take a while. For heartbeats openraft has the last word (see `lease`).

use super::codec::DecodeError;
use super::snapshot_store::SnapshotBlob;
use super::transport::{QuorumTransport, TransportError};
use super::types::{QuorumNode, TypeConfig, VoteValue};
use super::wire::{AppendReply, Envelope, Refused, Reply, Request};
use crate::ids::{ClusterId, QuorumNodeId};
use openraft::errors::{NetworkError, RPCError, ReplicationClosed, StreamingError, Unreachable};
use openraft::network::{RPCOption, RaftNetworkFactory, RaftNetworkV2};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, TransferLeaderRequest, TransferLeaderResponse,
    VoteRequest, VoteResponse,
};
use openraft::{AsyncRuntime, OptionalSend, Snapshot};
use parking_lot::RwLock;
use std::future::Future;
use std::marker::PhantomData;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

/// Bytes of a snapshot in one request.
const PART: usize = 512 << 10;

/// How long a peer may take.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RpcTimeouts {
    /// For heartbeats and votes: an election.
    pub(crate) short: Duration,
    /// For entries, which the follower must sync.
    pub(crate) append: Duration,
    /// For one part of a snapshot; the last one includes installing it.
    pub(crate) snapshot: Duration,
}

/// What every client of this node shares.
pub(crate) struct Peers {
    pub(crate) me: QuorumNodeId,
    pub(crate) transport: Arc<dyn QuorumTransport>,
    pub(crate) cluster_id: RwLock<ClusterId>,
    pub(crate) timeouts: RpcTimeouts,
    pub(crate) sessions: AtomicU64,
    /// Whether this node takes part in elections yet (see `lease`).
    pub(crate) may_vote: AtomicBool,
}

/// Why a call to a peer brought no answer.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub(crate) enum CallError {
    #[error(transparent)]
    Transport(#[from] TransportError),
    #[error("no answer in time")]
    Timeout,
    #[error("its answer is unreadable: {0}")]
    Unreadable(#[from] DecodeError),
    #[error("it answered something else")]
    Unexpected,
    #[error("refused: {0}")]
    Refused(Refused),
}

impl Peers {
    /// Asks `target` and waits at most `timeout`.
    pub(crate) async fn call<Rt: AsyncRuntime>(
        &self,
        target: QuorumNodeId,
        node: &QuorumNode,
        request: &Request,
        timeout: Duration,
    ) -> Result<Reply, CallError> {
        let envelope = Envelope { cluster_id: *self.cluster_id.read(), target, sender: self.me };
        let call = self.transport.call(target.node_id, node, envelope.seal(request));
        let bytes = Rt::timeout(timeout, call).await.map_err(|_| CallError::Timeout)??;
        match Reply::open(bytes)? {
            Reply::Refused(refused) => Err(CallError::Refused(refused)),
            reply => Ok(reply),
        }
    }
}

/// A voter has forgotten whom it has promised not to elect another for so long.
#[derive(Debug, thiserror::Error)]
#[error("this voter has just started: it votes when every leader it may have heard before has lost its lease")]
pub(crate) struct JustStarted;

/// Makes clients.
pub(crate) struct Network<Rt> {
    peers: Arc<Peers>,
    runtime: PhantomData<fn() -> Rt>,
}

impl<Rt> Network<Rt> {
    pub(crate) fn new(peers: Arc<Peers>) -> Self {
        Self { peers, runtime: PhantomData }
    }
}

impl<Rt: AsyncRuntime> RaftNetworkFactory<TypeConfig<Rt>> for Network<Rt> {
    type Network = PeerClient<Rt>;

    async fn new_client(&mut self, target: QuorumNodeId, node: &QuorumNode) -> PeerClient<Rt> {
        let append = self.peers.timeouts.append;
        PeerClient { peers: self.peers.clone(), target, node: node.clone(), append, runtime: PhantomData }
    }

    async fn new_heartbeat_client(&mut self, target: QuorumNodeId, node: &QuorumNode) -> PeerClient<Rt> {
        let append = self.peers.timeouts.short;
        PeerClient { peers: self.peers.clone(), target, node: node.clone(), append, runtime: PhantomData }
    }
}

/// Speaks to one peer.
pub(crate) struct PeerClient<Rt> {
    peers: Arc<Peers>,
    target: QuorumNodeId,
    node: QuorumNode,
    append: Duration,
    runtime: PhantomData<fn() -> Rt>,
}

fn rpc_error<Rt: AsyncRuntime>(error: CallError) -> RPCError<TypeConfig<Rt>> {
    match &error {
        // openraft backs off from an unreachable peer, and tries again at once after a network error.
        CallError::Transport(_) | CallError::Refused(_) => RPCError::Unreachable(Unreachable::new(&error)),
        CallError::Timeout | CallError::Unreadable(_) | CallError::Unexpected => {
            RPCError::Network(NetworkError::new(&error))
        }
    }
}

impl<Rt: AsyncRuntime> PeerClient<Rt> {
    async fn call(&self, request: &Request, timeout: Duration) -> Result<Reply, RPCError<TypeConfig<Rt>>> {
        self.peers.call::<Rt>(self.target, &self.node, request, timeout).await.map_err(rpc_error)
    }

    async fn ask_for_vote(
        &self,
        rpc: VoteRequest<TypeConfig<Rt>>,
        pre: bool,
    ) -> Result<VoteResponse<TypeConfig<Rt>>, RPCError<TypeConfig<Rt>>> {
        if !self.peers.may_vote.load(Ordering::Acquire) && !rpc.leadership_transfer {
            return Err(RPCError::Unreachable(Unreachable::new(&JustStarted)));
        }
        let request = Request::Vote { vote: rpc.vote, last: rpc.last_log_id, transfer: rpc.leadership_transfer, pre };
        match self.call(&request, self.peers.timeouts.short).await? {
            Reply::Vote { vote, granted, last } => Ok(VoteResponse::new(vote, last, granted)),
            _ => Err(rpc_error(CallError::Unexpected)),
        }
    }

    async fn send_snapshot(
        &self,
        vote: VoteValue,
        blob: &dyn SnapshotBlob,
    ) -> Result<SnapshotResponse<TypeConfig<Rt>>, StreamingError<TypeConfig<Rt>>> {
        let session = self.peers.sessions.fetch_add(1, Ordering::Relaxed);
        let total = blob.size();
        let mut offset = 0;
        loop {
            let n = usize::try_from(total - offset).unwrap_or(PART).min(PART);
            let part = blob.read_at(offset, n).map_err(|e| NetworkError::new(&e))?;
            let request = Request::Snapshot { vote, session, offset, total, part };
            let reply = self.call(&request, self.peers.timeouts.snapshot).await?;
            let Reply::Snapshot { vote: theirs } = reply else { return Err(rpc_error(CallError::Unexpected).into()) };
            offset += n as u64;
            if offset == total || theirs > vote {
                return Ok(SnapshotResponse::new(theirs));
            }
        }
    }
}

impl<Rt: AsyncRuntime> RaftNetworkV2<TypeConfig<Rt>> for PeerClient<Rt> {
    type SnapshotData = Arc<dyn SnapshotBlob>;

    async fn append_entries(
        &mut self,
        rpc: AppendEntriesRequest<TypeConfig<Rt>>,
        _option: RPCOption,
    ) -> Result<AppendEntriesResponse<TypeConfig<Rt>>, RPCError<TypeConfig<Rt>>> {
        let AppendEntriesRequest { vote, prev_log_id: previous, entries, leader_commit: commit } = rpc;
        let request = Request::Append { vote, previous, entries, commit };
        match self.call(&request, self.append).await? {
            Reply::Append(AppendReply::Success) => Ok(AppendEntriesResponse::Success),
            Reply::Append(AppendReply::Partial(last)) => Ok(AppendEntriesResponse::PartialSuccess(last)),
            Reply::Append(AppendReply::Conflict) if previous.is_some() => Ok(AppendEntriesResponse::Conflict),
            Reply::Append(AppendReply::HigherVote(vote)) => Ok(AppendEntriesResponse::HigherVote(vote)),
            // A conflict with the beginning of the log is impossible, and openraft would panic on it.
            _ => Err(rpc_error(CallError::Unexpected)),
        }
    }

    async fn vote(
        &mut self,
        rpc: VoteRequest<TypeConfig<Rt>>,
        _option: RPCOption,
    ) -> Result<VoteResponse<TypeConfig<Rt>>, RPCError<TypeConfig<Rt>>> {
        self.ask_for_vote(rpc, false).await
    }

    async fn pre_vote(
        &mut self,
        rpc: VoteRequest<TypeConfig<Rt>>,
        _option: RPCOption,
    ) -> Result<VoteResponse<TypeConfig<Rt>>, RPCError<TypeConfig<Rt>>> {
        self.ask_for_vote(rpc, true).await
    }

    async fn full_snapshot(
        &mut self,
        vote: VoteValue,
        snapshot: Snapshot<super::types::CommittedLeader, QuorumNodeId, QuorumNode, Self::SnapshotData>,
        cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        _option: RPCOption,
    ) -> Result<SnapshotResponse<TypeConfig<Rt>>, StreamingError<TypeConfig<Rt>>> {
        let send = pin!(self.send_snapshot(vote, &*snapshot.snapshot));
        match Rt::select2(pin!(cancel), send).await {
            openraft::async_runtime::Select2::First(closed) => Err(StreamingError::Closed(closed)),
            openraft::async_runtime::Select2::Second(result) => result,
        }
    }

    async fn transfer_leader(
        &mut self,
        req: TransferLeaderRequest<TypeConfig<Rt>>,
        _option: RPCOption,
    ) -> Result<TransferLeaderResponse<TypeConfig<Rt>>, RPCError<TypeConfig<Rt>>> {
        let request =
            Request::Transfer { from: *req.from_leader(), to: *req.to_node_id(), last: req.last_log_id().copied() };
        match self.call(&request, self.peers.timeouts.append).await? {
            Reply::Transfer(Ok(())) => Ok(Ok(())),
            Reply::Transfer(Err(why)) => Err(RPCError::Network(NetworkError::from_string(why))),
            _ => Err(rpc_error(CallError::Unexpected)),
        }
    }
}
