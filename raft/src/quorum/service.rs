//! The answering side: what a request of a peer or an observer does here.
//!
//! Everything is checked before openraft sees it, because it trusts its peers: that the request means this node, this directory and this cluster; that
//! entries follow each other; that votes are of the kind the request needs. A request that fails a check is refused and changes nothing.

use super::codec::{DecodeError, Encode};
use super::formation::Standing;
use super::formation_task::{FormationHandle, Raft};
use super::log_store::LogStore;
use super::network::{JustStarted, Peers};
use super::snapshot_store::{SnapshotBlob, SnapshotSink, VerifiedSnapshot};
use super::state_machine::Snapshots;
use super::types::{LogEntry, LogIndexId, VoteValue};
use super::wire::{AppendReply, Envelope, Refused, Reply, Request};
use crate::ids::{ClusterId, DirectoryId, MetadataOffset, NodeId};
use crate::image::MetadataImage;
use crate::planted::planted;
use bytes::Bytes;
use openraft::raft::{AppendEntriesRequest, AppendEntriesResponse, TransferLeaderRequest, VoteRequest};
use openraft::{AsyncRuntime, EntryPayload, Snapshot, SnapshotMeta};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;

/// An observer waits this long at most, whatever it asks for.
const WAIT_MAX: Duration = Duration::from_secs(5);
/// Bytes of records in one answer to an observer; one entry may exceed it.
const FETCH_BYTES: usize = 1 << 20;
/// Bytes of a snapshot in one answer to an observer.
const PART: usize = 512 << 10;
/// A larger snapshot is a broken one: an image of a million partitions has a few hundred MB.
const SNAPSHOT_BYTES_MAX: u64 = 16 << 30;
/// Observers whose position is remembered.
const OBSERVERS_MAX: usize = 4096;

/// A snapshot on its way in.
struct Receiving {
    from: Envelope,
    session: u64,
    at: u64,
    sink: Box<dyn SnapshotSink>,
}

/// Answers requests.
pub(crate) struct Service<Rt: AsyncRuntime> {
    pub(crate) peers: Arc<Peers>,
    pub(crate) raft: Raft<Rt>,
    pub(crate) log: LogStore<Rt>,
    pub(crate) snapshots: Arc<Snapshots>,
    pub(crate) formation: FormationHandle,
    pub(crate) image: watch::Receiver<Arc<MetadataImage>>,
    /// Which leader spoke last, and when.
    heard: Mutex<Option<(NodeId, Instant)>>,
    receiving: Mutex<Option<Receiving>>,
    observers: Mutex<BTreeMap<NodeId, MetadataOffset>>,
}

impl<Rt: AsyncRuntime> Service<Rt> {
    pub(crate) fn new(
        peers: Arc<Peers>,
        raft: Raft<Rt>,
        log: LogStore<Rt>,
        snapshots: Arc<Snapshots>,
        formation: FormationHandle,
        image: watch::Receiver<Arc<MetadataImage>>,
    ) -> Self {
        let (receiving, observers) = (Mutex::new(None), Mutex::new(BTreeMap::new()));
        Self { peers, raft, log, snapshots, formation, image, heard: Mutex::new(None), receiving, observers }
    }

    /// The first offset each observer asked for last.
    pub(crate) fn observers(&self) -> BTreeMap<NodeId, MetadataOffset> {
        self.observers.lock().clone()
    }

    /// Which leader spoke last, and when.
    pub(crate) fn heard(&self) -> Option<(NodeId, Instant)> {
        *self.heard.lock()
    }

    /// Answers one request.
    pub(crate) async fn handle(&self, bytes: Bytes) -> Bytes {
        match self.answer(bytes).await {
            Ok(reply) => reply.seal(),
            Err(refused) => {
                tracing::debug!(%refused, "refused a quorum request");
                Reply::Refused(refused).seal()
            }
        }
    }

    async fn answer(&self, bytes: Bytes) -> Result<Reply, Refused> {
        let (envelope, mut reader) = Envelope::open(bytes).map_err(unreadable)?;
        let me = self.peers.me;
        let any_directory = envelope.target.directory_id == DirectoryId::NONE;
        if envelope.target.node_id != me.node_id
            || !(any_directory || envelope.target == me || planted!(WipedVoterVotes))
        {
            return Err(Refused::Identity(me));
        }
        let request = Request::decode(&mut reader).map_err(unreadable)?;
        reader.finish().map_err(unreadable)?;
        match request {
            Request::Ask => Ok(Reply::Report(self.formation.status.borrow().report.clone())),
            Request::Propose(set) if !any_directory => {
                let answer = self.formation.propose(set).await;
                answer.map(Reply::Proposal).ok_or_else(|| Refused::NotRunning("it stops".into()))
            }
            Request::Fetch { from, wait_ms } => {
                self.check_cluster(&envelope)?;
                self.fetch(envelope.sender.node_id, from, Duration::from_millis(wait_ms)).await
            }
            Request::FetchSnapshot { last, offset } => {
                self.check_cluster(&envelope)?;
                self.fetch_snapshot(last, offset).await
            }
            _ if any_directory => Err(Refused::Identity(me)),
            raft => {
                self.check_cluster(&envelope)?;
                // Only a member's directory is meant by name: a first voter's part in Raft begins. One that joined may
                // be named by a membership that is never committed; it learns from its own log whether it was taken in.
                if let Standing::Prepared(_) = self.formation.standing() {
                    let began = self.formation.began().await;
                    began.ok_or_else(|| Refused::NotRunning("it stops".into()))?;
                }
                self.raft(envelope, raft).await
            }
        }
    }

    fn check_cluster(&self, envelope: &Envelope) -> Result<(), Refused> {
        let mine = *self.peers.cluster_id.read();
        if mine == ClusterId::NONE || mine != envelope.cluster_id {
            return Err(Refused::Cluster(mine));
        }
        Ok(())
    }

    async fn raft(&self, envelope: Envelope, request: Request) -> Result<Reply, Refused> {
        match request {
            Request::Append { vote, previous, entries, commit } => {
                check_vote(&vote, true)?;
                check_entries(previous, &entries)?;
                let rpc = AppendEntriesRequest { vote, prev_log_id: previous, entries, leader_commit: commit };
                let reply = match self.raft.append_entries(rpc).await.map_err(not_running)? {
                    AppendEntriesResponse::Success => AppendReply::Success,
                    AppendEntriesResponse::PartialSuccess(last) => AppendReply::Partial(last),
                    AppendEntriesResponse::Conflict => AppendReply::Conflict,
                    AppendEntriesResponse::HigherVote(vote) => AppendReply::HigherVote(vote),
                };
                if !matches!(reply, AppendReply::HigherVote(_)) {
                    *self.heard.lock() = Some((vote.leader_id.voted_for.node_id, Instant::now()));
                }
                Ok(Reply::Append(reply))
            }
            Request::Vote { vote, last, transfer, pre } => {
                check_vote(&vote, false)?;
                if !transfer && !self.peers.may_vote.load(Ordering::Acquire) {
                    return Err(not_running(JustStarted));
                }
                let mut rpc = VoteRequest::new(vote, last);
                rpc.leadership_transfer = transfer;
                let response = if pre { self.raft.pre_vote(rpc).await } else { self.raft.vote(rpc).await };
                let response = response.map_err(not_running)?;
                Ok(Reply::Vote { vote: response.vote, granted: response.vote_granted, last: response.last_log_id })
            }
            Request::Transfer { from, to, last } => {
                check_vote(&from, true)?;
                let request = TransferLeaderRequest::new(from, to, last);
                let result = self.raft.handle_transfer_leader(request).await.map_err(not_running)?;
                Ok(Reply::Transfer(result.map_err(|e| e.to_string())))
            }
            Request::Snapshot { vote, session, offset, total, part } => {
                check_vote(&vote, true)?;
                self.receive_snapshot(envelope, vote, (session, offset, total), part).await
            }
            Request::Ask | Request::Propose(_) | Request::Fetch { .. } | Request::FetchSnapshot { .. } => {
                Err(Refused::Unreadable("not a request of Raft".into()))
            }
        }
    }

    async fn receive_snapshot(
        &self,
        from: Envelope,
        vote: VoteValue,
        (session, offset, total): (u64, u64, u64),
        part: Bytes,
    ) -> Result<Reply, Refused> {
        let end = offset.checked_add(part.len() as u64).filter(|end| *end <= total && total <= SNAPSHOT_BYTES_MAX);
        let end = end.ok_or_else(|| Refused::Unreadable("a part beyond the snapshot's end".into()))?;
        let earlier = self.receiving.lock().take();
        let earlier = earlier.filter(|r| r.from == from && r.session == session && r.at == offset && offset > 0);
        if earlier.is_none() && offset > 0 {
            return Err(Refused::Unreadable("a snapshot's part out of order".into()));
        }
        let written = self.snapshots.blocking::<Rt, _>(move |snapshots| {
            let mut sink = match earlier {
                Some(receiving) => receiving.sink,
                None => snapshots.store().create()?,
            };
            sink.write(&part)?;
            Ok(sink)
        });
        let sink = written.await.map_err(not_running)?;
        if end < total {
            *self.receiving.lock() = Some(Receiving { from, session, at: end, sink });
            return Ok(Reply::Snapshot { vote });
        }
        let whole = self.snapshots.blocking::<Rt, _>(move |_| VerifiedSnapshot::verify(sink.finish()?));
        let whole = whole.await.map_err(|e| Refused::Unreadable(e.to_string()))?;
        self.install(vote, whole).await
    }

    async fn install(&self, vote: VoteValue, snapshot: VerifiedSnapshot) -> Result<Reply, Refused> {
        let metadata = snapshot.metadata;
        let foreign = metadata.cluster_id != ClusterId::NONE && metadata.cluster_id != *self.peers.cluster_id.read();
        if foreign || metadata.last.is_none() {
            return Err(Refused::Cluster(*self.peers.cluster_id.read()));
        }
        let meta = SnapshotMeta { last_log_id: metadata.last, last_membership: metadata.membership };
        let response = self.raft.install_full_snapshot(vote, Snapshot { meta, snapshot: snapshot.blob }).await;
        Ok(Reply::Snapshot { vote: response.map_err(not_running)?.vote })
    }

    async fn fetch(&self, observer: NodeId, from: u64, wait: Duration) -> Result<Reply, Refused> {
        let next = i64::try_from(from).map_err(|_| Refused::Unreadable("an impossible log index".into()))?;
        {
            let mut observers = self.observers.lock();
            if observers.contains_key(&observer) || observers.len() < OBSERVERS_MAX {
                observers.insert(observer, MetadataOffset(next));
            }
        }
        let mut image = self.image.clone();
        let there = async move { image.wait_for(|image| image.offset.0 >= next).await.map(|_| ()) };
        // Out of time is no error: the answer is empty.
        let _ = Rt::timeout(wait.min(WAIT_MAX), there).await;
        let end = u64::try_from(self.image.borrow().offset.0 + 1).unwrap_or(0);
        if from >= end {
            return Ok(Reply::Fetched { entries: Vec::new(), end });
        }
        let entries = self.log.entries(from, end, FETCH_BYTES).await.map_err(not_running)?;
        if entries.first().map(|entry| entry.log_id.index) != Some(from) {
            return Ok(Reply::SnapshotNeeded);
        }
        let records = |entry: LogEntry| match entry.payload {
            EntryPayload::Normal(decision) => (entry.log_id.index, decision.0),
            EntryPayload::Blank | EntryPayload::Membership(_) => (entry.log_id.index, Bytes::new()),
        };
        Ok(Reply::Fetched { entries: entries.into_iter().map(records).collect(), end })
    }

    async fn fetch_snapshot(&self, last: Option<LogIndexId>, offset: u64) -> Result<Reply, Refused> {
        let Some(current) = self.snapshots.current() else { return Ok(Reply::SnapshotNeeded) };
        let current_last = current.metadata.last;
        if offset > 0 && last != current_last {
            return Ok(Reply::SnapshotNeeded);
        }
        let total = current.blob.size();
        let left = total.checked_sub(offset).ok_or_else(|| Refused::Unreadable("beyond the snapshot's end".into()))?;
        let n = usize::try_from(left).unwrap_or(PART).min(PART);
        let blob: Arc<dyn SnapshotBlob> = current.blob;
        let part = self.snapshots.blocking::<Rt, _>(move |_| blob.read_at(offset, n)).await.map_err(not_running)?;
        Ok(Reply::SnapshotPart { last: current_last, total, part })
    }

    /// The offset of the last entry applied here.
    pub(crate) fn applied(&self) -> MetadataOffset {
        self.image.borrow().offset
    }
}

fn unreadable(error: DecodeError) -> Refused {
    Refused::Unreadable(error.to_string())
}

fn not_running(error: impl std::fmt::Display) -> Refused {
    Refused::NotRunning(error.to_string())
}

/// A leader's vote is committed, a candidate's is not; openraft takes that for granted.
fn check_vote(vote: &VoteValue, committed: bool) -> Result<(), Refused> {
    if vote.committed == committed { Ok(()) } else { Err(Refused::Unreadable("a vote of the wrong kind".into())) }
}

/// Entries have consecutive indexes after `previous`, and terms that do not fall.
fn check_entries(previous: Option<LogIndexId>, entries: &[LogEntry]) -> Result<(), Refused> {
    let mut last = previous;
    for entry in entries {
        let id = entry.log_id;
        let expected = last.map_or(Some(0), |last| last.index.checked_add(1));
        let expected = expected.ok_or_else(|| Refused::Unreadable("an entry behind the last possible index".into()))?;
        if id.index != expected || Some(id.leader_id) < last.map(|last| last.leader_id) {
            return Err(Refused::Unreadable(format!("entry {} where {expected} belongs", id.index)));
        }
        last = Some(id);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::quorum::types::CommittedLeader;

    fn id(term: u64, index: u64) -> LogIndexId {
        LogIndexId { leader_id: CommittedLeader::new(term), index }
    }

    fn blank(term: u64, index: u64) -> LogEntry {
        LogEntry { log_id: id(term, index), payload: EntryPayload::Blank }
    }

    #[test]
    fn an_entry_behind_the_last_index_overflowed() {
        for index in [0, u64::MAX] {
            let refused = check_entries(Some(id(1, u64::MAX)), &[blank(1, index)]).expect_err("refused");
            assert!(refused.to_string().contains("behind the last possible index"), "{refused}");
        }
        assert_eq!(check_entries(Some(id(1, u64::MAX - 1)), &[blank(1, u64::MAX)]), Ok(()));
    }

    #[test]
    fn entries_follow_each_other_in_index_and_term() {
        assert_eq!(check_entries(None, &[blank(1, 0), blank(1, 1), blank(2, 2)]), Ok(()));
        assert_eq!(check_entries(Some(id(1, 6)), &[blank(1, 7)]), Ok(()));
        for (previous, entries) in [
            (None, vec![blank(1, 1)]),
            (Some(id(1, 6)), vec![blank(1, 6)]),
            (Some(id(1, 6)), vec![blank(1, 7), blank(1, 9)]),
            (Some(id(2, 6)), vec![blank(1, 7)]),
        ] {
            assert!(check_entries(previous, &entries).is_err(), "{previous:?} {entries:?}");
        }
    }
}
