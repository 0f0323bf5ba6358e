//! Stray logs: on this disk, of no replica of this broker. Pure.
//!
//! A topic that is deleted, or a replica that is moved away, while this node is down leaves its log behind: the delta that
//! said so belongs to no life of this process. So logs are also compared with the image as a whole, when a store has been
//! opened and when it refused a deletion.
//!
//! # When absence means deleted
//!
//! A log goes only by an image that holds **the registration that this process knows as its own**
//! ([`ReplicaManager`](super::ReplicaManager) acts on no other). In such an image absence is never "not yet loaded":
//!
//! 1. A log of partition `p` is made by one line only, upon an image that has `p` and names this broker a replica: an image
//!    of committed entries up to some index `i`, seen by this life or an earlier one of this directory.
//! 2. An earlier life ended before this one asked for its registration (the directory is locked), hence `i` was committed
//!    before the registration was proposed, and the registration's entry lies above `i`. (In this life images only grow.)
//! 3. An image is a prefix of the log, without gaps, also when it was read from a snapshot. One that holds the registration
//!    holds everything up to `i`: `p` was in it.
//! 4. Topic ids are random and never used twice. If `p` is not there now, an entry above `i` removed it, and no later one
//!    can bring it back.
//!
//! A replica that was moved away may be moved back by an entry that is not applied here yet. That is safe as well: ISR and ELR
//! hold replicas only, so nobody counts on what this disk holds of it, and a replica that is added begins outside both.
//!
//! The directory belongs to one cluster (it is bound to its id before the store opens), so the image is not another
//! cluster's. A registration that this broker lost (a new epoch is on its way) stops deletion until the image has the new one.
//!
//! Kafka does the same when its `BrokerMetadataPublisher` loads the first image, which it does only after catching up to the
//! registration; it renames such logs to `-stray` first.

use rookery_raft::ids::{NodeId, TopicIdPartition};
use rookery_raft::image::MetadataImage;

/// Why a log is nobody's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stray {
    /// The topic is gone.
    TopicDeleted,
    /// The partition has other replicas.
    NoReplica,
}

impl Stray {
    /// For people.
    pub fn as_str(self) -> &'static str {
        match self {
            Stray::TopicDeleted => "its topic is deleted",
            Stray::NoReplica => "this broker is no replica of it",
        }
    }
}

/// Whether the log of `id` on the disk of `node` is a stray one by this image, and why.
pub(super) fn stray(image: &MetadataImage, node: NodeId, id: TopicIdPartition) -> Option<Stray> {
    match image.partition(id) {
        None => Some(Stray::TopicDeleted),
        Some(partition) if !partition.replicas.contains(&node) => Some(Stray::NoReplica),
        Some(_) => None,
    }
}
