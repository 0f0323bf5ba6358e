//! Our broadcast "I am about to leave": the node still answers, and the controller can move its leaderships first.
//!
//! A mark is remembered once per node id; a later generation replaces it. The book is shared by the library (which asks what is new) and the core
//! (which asks who is leaving); both run in one task, so its lock is never contended.

use super::{GossipIdentity, MEMBERS_MAX};
use bytes::{Buf, BufMut};
use foca::{BroadcastHandler, Invalidates};
use parking_lot::Mutex;
use rookery_raft::ids::{IncarnationId, NodeId};
use std::collections::BTreeMap;
use std::sync::Arc;
use uuid::Uuid;

const MARK_LEN: usize = 28;

/// Which nodes are leaving.
#[derive(Clone, Default)]
pub(super) struct LeavingBook(Arc<Mutex<BTreeMap<NodeId, Mark>>>);

#[derive(Clone, Copy, PartialEq, Eq)]
struct Mark {
    generation: u64,
    incarnation: IncarnationId,
}

impl LeavingBook {
    pub fn contains(&self, identity: &GossipIdentity) -> bool {
        self.0.lock().get(&identity.node_id).is_some_and(|mark| mark.incarnation == identity.incarnation)
    }

    pub fn forget(&self, node_id: NodeId) {
        self.0.lock().remove(&node_id);
    }
}

/// node i32 · generation u64 · incarnation 16
pub(super) fn encode(identity: &GossipIdentity) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(MARK_LEN);
    bytes.put_i32(identity.node_id.0);
    bytes.put_u64(identity.generation);
    bytes.put_u128(identity.incarnation.0.as_u128());
    bytes
}

/// A broadcast that is no mark.
#[derive(Debug, thiserror::Error)]
#[error("not a leaving mark")]
pub(super) struct NoMark;

/// One node's mark on its way through the cluster.
pub(super) struct MarkKey {
    node_id: NodeId,
    generation: u64,
}

impl Invalidates for MarkKey {
    fn invalidates(&self, other: &Self) -> bool {
        self.node_id == other.node_id && self.generation >= other.generation
    }
}

impl BroadcastHandler<GossipIdentity> for LeavingBook {
    type Key = MarkKey;
    type Error = NoMark;

    fn receive_item(&mut self, mut data: &[u8], _: Option<&GossipIdentity>) -> Result<Option<MarkKey>, NoMark> {
        if data.len() != MARK_LEN {
            return Err(NoMark);
        }
        let node_id = NodeId(data.get_i32());
        let mark = Mark { generation: data.get_u64(), incarnation: IncarnationId(Uuid::from_u128(data.get_u128())) };
        let mut book = self.0.lock();
        let is_news = match book.get(&node_id) {
            Some(known) => mark.generation > known.generation,
            None => book.len() < MEMBERS_MAX,
        };
        if !is_news {
            return Ok(None);
        }
        book.insert(node_id, mark);
        Ok(Some(MarkKey { node_id, generation: mark.generation }))
    }
}
