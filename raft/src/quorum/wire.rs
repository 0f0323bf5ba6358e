//! What quorum members and observers say to each other: an envelope, requests, replies.
//!
//! ```text
//! request := version:u8  cluster:16  target:20  sender:20  kind:u8  body
//! reply   := version:u8  kind:u8  body
//! ```
//!
//! The envelope comes first, so that a node refuses what is not for it before it reads anything else: `cluster` is the sender's
//! cluster (all zero: it knows none yet) and `target` is the identity it means, directory included. A wiped node has another directory id, so it never answers for
//! its old self. Questions that any holder of the address may answer (formation, observers) leave the target's directory zero.

use super::codec::{DecodeError, Encode, Reader};
use super::formation::{FirstVoters, Refusal, Report};
use super::types::{LogEntry, LogIndexId, VoteValue};
use crate::ids::{ClusterId, QuorumNodeId};
use bytes::{BufMut, Bytes, BytesMut};

/// The version this build speaks; another is refused.
const VERSION: u8 = 1;

/// Who means whom.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Envelope {
    /// The sender's cluster, or `ClusterId::NONE`.
    pub(crate) cluster_id: ClusterId,
    /// For whom; with `DirectoryId::NONE` for whichever directory that node has.
    pub(crate) target: QuorumNodeId,
    /// From whom.
    pub(crate) sender: QuorumNodeId,
}

/// A request.
#[derive(Clone, PartialEq, Debug)]
pub(crate) enum Request {
    /// Raft's AppendEntries; a heartbeat has no entries.
    Append { vote: VoteValue, previous: Option<LogIndexId>, entries: Vec<LogEntry>, commit: Option<LogIndexId> },
    /// RequestVote, or, with `pre`, only whether it would be granted.
    Vote { vote: VoteValue, last: Option<LogIndexId>, transfer: bool, pre: bool },
    /// A part of a snapshot; `session` tells one transfer from the next.
    Snapshot { vote: VoteValue, session: u64, offset: u64, total: u64, part: Bytes },
    /// The leader hands its office to `to`.
    Transfer { from: VoteValue, to: QuorumNodeId, last: Option<LogIndexId> },
    /// What do you keep? (formation)
    Ask,
    /// Be a first voter of this set. (formation)
    Propose(FirstVoters),
    /// An observer asks for the committed entries from `from` on, waiting up to `wait_ms` for one.
    Fetch { from: u64, wait_ms: u64 },
    /// An observer asks for a part of the current snapshot; `last` names the one it began with.
    FetchSnapshot { last: Option<LogIndexId>, offset: u64 },
}

/// The answer.
#[derive(Clone, PartialEq, Debug)]
pub(crate) enum Reply {
    Append(AppendReply),
    Vote {
        vote: VoteValue,
        granted: bool,
        last: Option<LogIndexId>,
    },
    /// The part is stored; with the last one, the snapshot is installed.
    Snapshot {
        vote: VoteValue,
    },
    Transfer(Result<(), String>),
    Report(Report),
    Proposal(Result<(), Refusal>),
    /// Committed entries: log index and records, which are empty for entries of Raft's own.
    Fetched {
        entries: Vec<(u64, Bytes)>,
        end: u64,
    },
    /// What the observer asks for is only in a snapshot by now.
    SnapshotNeeded,
    /// A part of the snapshot that ends at `last` and has `total` bytes.
    SnapshotPart {
        last: Option<LogIndexId>,
        total: u64,
        part: Bytes,
    },
    /// Not answered, and why.
    Refused(Refused),
}

/// How an AppendEntries went.
#[derive(Clone, PartialEq, Debug)]
pub(crate) enum AppendReply {
    Success,
    Partial(Option<LogIndexId>),
    Conflict,
    HigherVote(VoteValue),
}

/// Why a node did not answer a request.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Refused {
    /// The request is of another cluster.
    #[error("it belongs to another cluster: {0}")]
    Cluster(ClusterId),
    /// The request is for somebody who was at this address, or will be.
    #[error("it is {0}")]
    Identity(QuorumNodeId),
    /// Its Raft state is stopped or not there yet.
    #[error("its quorum is not running: {0}")]
    NotRunning(String),
    /// It cannot read the request.
    #[error("it cannot read the request: {0}")]
    Unreadable(String),
}

impl Envelope {
    /// The bytes of a request.
    pub(crate) fn seal(&self, request: &Request) -> Bytes {
        let mut out = BytesMut::new();
        out.put_u8(VERSION);
        self.cluster_id.encode(&mut out);
        self.target.encode(&mut out);
        self.sender.encode(&mut out);
        request.encode(&mut out);
        out.freeze()
    }

    /// The envelope, and what is left to read.
    pub(crate) fn open(bytes: Bytes) -> Result<(Envelope, Reader), DecodeError> {
        let mut reader = Reader::new(bytes);
        check_version(&mut reader)?;
        let cluster_id = ClusterId::decode(&mut reader)?;
        let target = QuorumNodeId::decode(&mut reader)?;
        let sender = QuorumNodeId::decode(&mut reader)?;
        Ok((Envelope { cluster_id, target, sender }, reader))
    }
}

fn check_version(reader: &mut Reader) -> Result<(), DecodeError> {
    match reader.u8("version")? {
        VERSION => Ok(()),
        0 => Err(DecodeError::Invalid { what: "version", value: 0 }),
        found => Err(DecodeError::TooNew { found, supported: VERSION }),
    }
}

impl Reply {
    /// The bytes of a reply.
    pub(crate) fn seal(&self) -> Bytes {
        let mut out = BytesMut::new();
        out.put_u8(VERSION);
        self.encode(&mut out);
        out.freeze()
    }
    /// A reply from its bytes.
    pub(crate) fn open(bytes: Bytes) -> Result<Reply, DecodeError> {
        let mut reader = Reader::new(bytes);
        check_version(&mut reader)?;
        let reply = Reply::decode(&mut reader)?;
        reader.finish()?;
        Ok(reply)
    }
}

impl Encode for Request {
    fn encode(&self, out: &mut BytesMut) {
        match self {
            Request::Append { vote, previous, entries, commit } => {
                out.put_u8(1);
                vote.encode(out);
                previous.encode(out);
                commit.encode(out);
                entries.encode(out);
            }
            Request::Vote { vote, last, transfer, pre } => {
                out.put_u8(2);
                vote.encode(out);
                last.encode(out);
                transfer.encode(out);
                pre.encode(out);
            }
            Request::Snapshot { vote, session, offset, total, part } => {
                out.put_u8(3);
                vote.encode(out);
                out.put_u64(*session);
                out.put_u64(*offset);
                out.put_u64(*total);
                part.encode(out);
            }
            Request::Transfer { from, to, last } => {
                out.put_u8(4);
                from.encode(out);
                to.encode(out);
                last.encode(out);
            }
            Request::Ask => out.put_u8(5),
            Request::Propose(set) => {
                out.put_u8(6);
                set.encode(out);
            }
            Request::Fetch { from, wait_ms } => {
                out.put_u8(7);
                out.put_u64(*from);
                out.put_u64(*wait_ms);
            }
            Request::FetchSnapshot { last, offset } => {
                out.put_u8(8);
                last.encode(out);
                out.put_u64(*offset);
            }
        }
    }

    fn decode(reader: &mut Reader) -> Result<Self, DecodeError> {
        Ok(match reader.u8("request kind")? {
            1 => Request::Append {
                vote: VoteValue::decode(reader)?,
                previous: Option::decode(reader)?,
                commit: Option::decode(reader)?,
                entries: Vec::decode(reader)?,
            },
            2 => Request::Vote {
                vote: VoteValue::decode(reader)?,
                last: Option::decode(reader)?,
                transfer: bool::decode(reader)?,
                pre: bool::decode(reader)?,
            },
            3 => Request::Snapshot {
                vote: VoteValue::decode(reader)?,
                session: reader.u64("session")?,
                offset: reader.u64("offset")?,
                total: reader.u64("total")?,
                part: Bytes::decode(reader)?,
            },
            4 => Request::Transfer {
                from: VoteValue::decode(reader)?,
                to: QuorumNodeId::decode(reader)?,
                last: Option::decode(reader)?,
            },
            5 => Request::Ask,
            6 => Request::Propose(FirstVoters::decode(reader)?),
            7 => Request::Fetch { from: reader.u64("index")?, wait_ms: reader.u64("wait")? },
            8 => Request::FetchSnapshot { last: Option::decode(reader)?, offset: reader.u64("offset")? },
            value => return Err(DecodeError::Invalid { what: "request kind", value: value.into() }),
        })
    }
}

impl<T: Encode, E: Encode> Encode for Result<T, E> {
    fn encode(&self, out: &mut BytesMut) {
        self.is_ok().encode(out);
        match self {
            Ok(value) => value.encode(out),
            Err(error) => error.encode(out),
        }
    }
    fn decode(reader: &mut Reader) -> Result<Self, DecodeError> {
        Ok(if bool::decode(reader)? { Ok(T::decode(reader)?) } else { Err(E::decode(reader)?) })
    }
}

impl Encode for () {
    fn encode(&self, _: &mut BytesMut) {}
    fn decode(_: &mut Reader) -> Result<Self, DecodeError> {
        Ok(())
    }
}

impl Encode for Refusal {
    fn encode(&self, out: &mut BytesMut) {
        match self {
            Refusal::Keeps(what) => {
                out.put_u8(1);
                what.encode(out);
            }
            Refusal::NotNamed(id) => {
                out.put_u8(2);
                id.encode(out);
            }
            Refusal::OtherList(list) => {
                out.put_u8(3);
                list.encode(out);
            }
        }
    }
    fn decode(reader: &mut Reader) -> Result<Self, DecodeError> {
        Ok(match reader.u8("refusal")? {
            1 => Refusal::Keeps(String::decode(reader)?),
            2 => Refusal::NotNamed(QuorumNodeId::decode(reader)?),
            3 => Refusal::OtherList(String::decode(reader)?),
            value => return Err(DecodeError::Invalid { what: "refusal", value: value.into() }),
        })
    }
}

impl Encode for Refused {
    fn encode(&self, out: &mut BytesMut) {
        match self {
            Refused::Cluster(id) => {
                out.put_u8(1);
                id.encode(out);
            }
            Refused::Identity(id) => {
                out.put_u8(2);
                id.encode(out);
            }
            Refused::NotRunning(why) => {
                out.put_u8(3);
                why.encode(out);
            }
            Refused::Unreadable(why) => {
                out.put_u8(4);
                why.encode(out);
            }
        }
    }
    fn decode(reader: &mut Reader) -> Result<Self, DecodeError> {
        Ok(match reader.u8("refused")? {
            1 => Refused::Cluster(ClusterId::decode(reader)?),
            2 => Refused::Identity(QuorumNodeId::decode(reader)?),
            3 => Refused::NotRunning(String::decode(reader)?),
            4 => Refused::Unreadable(String::decode(reader)?),
            value => return Err(DecodeError::Invalid { what: "refused", value: value.into() }),
        })
    }
}

impl Encode for AppendReply {
    fn encode(&self, out: &mut BytesMut) {
        match self {
            AppendReply::Success => out.put_u8(0),
            AppendReply::Partial(last) => {
                out.put_u8(1);
                last.encode(out);
            }
            AppendReply::Conflict => out.put_u8(2),
            AppendReply::HigherVote(vote) => {
                out.put_u8(3);
                vote.encode(out);
            }
        }
    }
    fn decode(reader: &mut Reader) -> Result<Self, DecodeError> {
        Ok(match reader.u8("append reply")? {
            0 => AppendReply::Success,
            1 => AppendReply::Partial(Option::decode(reader)?),
            2 => AppendReply::Conflict,
            3 => AppendReply::HigherVote(VoteValue::decode(reader)?),
            value => return Err(DecodeError::Invalid { what: "append reply", value: value.into() }),
        })
    }
}

impl Encode for Reply {
    fn encode(&self, out: &mut BytesMut) {
        match self {
            Reply::Append(reply) => {
                out.put_u8(1);
                reply.encode(out);
            }
            Reply::Vote { vote, granted, last } => {
                out.put_u8(2);
                vote.encode(out);
                granted.encode(out);
                last.encode(out);
            }
            Reply::Snapshot { vote } => {
                out.put_u8(3);
                vote.encode(out);
            }
            Reply::Transfer(result) => {
                out.put_u8(4);
                result.encode(out);
            }
            Reply::Report(report) => {
                out.put_u8(5);
                report.encode(out);
            }
            Reply::Proposal(result) => {
                out.put_u8(6);
                result.encode(out);
            }
            Reply::Fetched { entries, end } => {
                out.put_u8(7);
                out.put_u64(*end);
                entries.encode(out);
            }
            Reply::SnapshotNeeded => out.put_u8(8),
            Reply::SnapshotPart { last, total, part } => {
                out.put_u8(9);
                last.encode(out);
                out.put_u64(*total);
                part.encode(out);
            }
            Reply::Refused(refused) => {
                out.put_u8(255);
                refused.encode(out);
            }
        }
    }

    fn decode(reader: &mut Reader) -> Result<Self, DecodeError> {
        Ok(match reader.u8("reply kind")? {
            1 => Reply::Append(AppendReply::decode(reader)?),
            2 => Reply::Vote {
                vote: VoteValue::decode(reader)?,
                granted: bool::decode(reader)?,
                last: Option::decode(reader)?,
            },
            3 => Reply::Snapshot { vote: VoteValue::decode(reader)? },
            4 => Reply::Transfer(Result::decode(reader)?),
            5 => Reply::Report(Report::decode(reader)?),
            6 => Reply::Proposal(Result::decode(reader)?),
            7 => {
                let end = reader.u64("end")?;
                Reply::Fetched { entries: Vec::decode(reader)?, end }
            }
            8 => Reply::SnapshotNeeded,
            9 => Reply::SnapshotPart {
                last: Option::decode(reader)?,
                total: reader.u64("total")?,
                part: Bytes::decode(reader)?,
            },
            255 => Reply::Refused(Refused::decode(reader)?),
            value => return Err(DecodeError::Invalid { what: "reply kind", value: value.into() }),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_request_of_another_version_is_not_read() {
        let envelope =
            Envelope { cluster_id: ClusterId::NONE, target: QuorumNodeId::default(), sender: QuorumNodeId::default() };
        let mut bytes = envelope.seal(&Request::Ask).to_vec();
        assert!(Envelope::open(bytes.clone().into()).is_ok());
        bytes[0] = VERSION + 1;
        assert!(matches!(Envelope::open(bytes.into()), Err(DecodeError::TooNew { .. })));
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300), kind in 0u8..12) {
            let mut body = vec![kind];
            body.extend(&bytes);
            let _ = Request::from_bytes(body.clone().into());
            let _ = Reply::from_bytes(body.into());
            if let Ok((_, mut reader)) = Envelope::open(bytes.into()) {
                let _ = Request::decode(&mut reader);
            }
        }
    }
}
