//! What `GET /admin/v1/why/…` answers: what is wrong with a partition, a broker or a group now, and how it came to that.
//!
//! Pure: a [`Scene`] in, a [`Why`] out. What is wrong is read from the metadata, which alone decides; the event log of the same metadata says
//! since when and for what reason; gossip and the voters add what is not decided yet. Any node can answer from its own image.
//!
//! Events may be forgotten by then, or list only the first of many partitions. The answer then has fewer times, but it is no less true.

mod broker;
mod chain;
mod group;
mod partition;

pub use broker::broker;
pub use group::{GroupScene, group};
pub use partition::partition;

use super::events::EventView;
use crate::gossip::Liveness;
use rookery_raft::ids::NodeId;
use rookery_raft::image::MetadataImage;
use serde::Serialize;
use std::collections::BTreeMap;
use std::sync::Arc;

/// What a node knows when it is asked.
#[derive(Debug, Clone)]
pub struct Scene {
    /// Who answers.
    pub node: NodeId,
    /// The metadata it has applied.
    pub image: Arc<MetadataImage>,
    /// The active controller, if it knows one.
    pub controller: Option<NodeId>,
    /// Whether most voters answer; `None` where that is not known.
    pub has_majority: Option<bool>,
    /// What gossip says of the others; empty where it is off.
    pub liveness: BTreeMap<NodeId, Liveness>,
}

/// The answer.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Why {
    /// What was asked about.
    pub subject: String,
    /// Whether all is as it should be.
    pub healthy: bool,
    /// How it is, in one sentence.
    pub summary: String,
    /// How it came to that: what happened, oldest first, then what is the case now.
    pub because: Vec<Reason>,
    /// What the cluster waits for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub waiting_for: Option<String>,
    /// What a person can do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub what_to_do: Option<String>,
    /// The last thing that happened to it, if the event log still has it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_event: Option<EventView>,
    /// Which node answers.
    pub node_id: i32,
    /// Up to where it has applied the metadata log.
    pub applied_index: i64,
}

/// One link of the chain.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Reason {
    /// When it happened; absent for what is the case now.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time: Option<String>,
    /// The number of the event.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub event: Option<u64>,
    /// In words.
    pub text: String,
}

impl Scene {
    /// What stands in the way of any decision at all.
    fn undecidable(&self) -> Option<&'static str> {
        match (self.controller, self.has_majority) {
            (_, Some(false)) => {
                Some("the metadata quorum has no majority: nobody can be fenced or elected until more voters are back")
            }
            (None, _) => Some("no active controller is known here: nothing is decided until there is one"),
            _ => None,
        }
    }

    /// What gossip says against a node, in words.
    fn accused(&self, id: NodeId) -> Option<String> {
        let liveness = *self.liveness.get(&id)?;
        let accused = matches!(liveness, Liveness::Suspect | Liveness::Down);
        accused.then(|| format!("gossip on node {} holds broker {id} {}", self.node, liveness.as_str()))
    }
}

#[cfg(test)]
mod tests;
