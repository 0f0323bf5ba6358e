//! Whether this node may be who its settings say it is, asked of the listed voters' peer ports at start.
//!
//! Two mistakes would otherwise make a node that tries on for ever: a data directory of another cluster, and a voter's node id given to
//! a second process. Both are facts only other nodes know. Refusing peers protect the cluster without this check; it gives the
//! operator one line and an end.
//!
//! A node ends only if **most** listed voters belong to another cluster than it does: one voter on a wrong directory must not
//! end the others that meet it.

use crate::config::Voter;
use crate::peer::{PeerPool, ProbeOutcome, Refusal};
use futures_util::future::join_all;
use rookery_raft::ids::{ClusterId, IncarnationId, NodeId};
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

/// An answer takes longer only where a node is not well, and is asked again.
const ANSWER_MAX: Duration = Duration::from_secs(1);
const PAUSE: Duration = Duration::from_secs(1);
/// The process before this one may still be ending, on a host that the name leads to no longer.
const ENDING_MAX: Duration = Duration::from_secs(10);

/// What is checked, and whom to ask.
pub struct IdentityCheck {
    pub me: NodeId,
    pub incarnation: IncarnationId,
    /// What the data directory says; nothing to compare before the node has formed or joined a cluster.
    pub cluster_id: Option<ClusterId>,
    pub data_dir: String,
    pub voters: Vec<Voter>,
    pub pool: PeerPool,
}

impl IdentityCheck {
    /// Ends when every listed voter has answered as it should, or with the reason why this process cannot be this node.
    pub async fn run(self) -> Option<String> {
        let mut friends = BTreeSet::new();
        let mut other: Option<(IncarnationId, Instant)> = None;
        loop {
            let unknown: Vec<&Voter> = self.voters.iter().filter(|v| !friends.contains(&v.node_id)).collect();
            let asked = join_all(unknown.iter().map(|v| self.ask(v))).await;
            let mut foreign = Vec::new();
            for (voter, answer) in unknown.into_iter().zip(asked) {
                match answer {
                    Answer::Silent => {}
                    Answer::Friend => {
                        friends.insert(voter.node_id);
                    }
                    Answer::Foreign(cluster) => foreign.push((voter, cluster)),
                    Answer::MyId(incarnation) => {
                        let row = other.filter(|(seen, _)| *seen == incarnation);
                        let (_, since) = *other.insert(row.unwrap_or((incarnation, Instant::now())));
                        if since.elapsed() < ENDING_MAX {
                            continue;
                        }
                        return Some(format!(
                            "node id {} is used twice: another process answers at {}, where controller.quorum.voters says this node is; \
                             give this one another node.id, or stop that one",
                            self.me, voter.address
                        ));
                    }
                }
            }
            if let (Some(mine), Some((_, theirs))) = (self.cluster_id, foreign.first())
                && foreign.len() * 2 > self.voters.len()
                && friends.len() * 2 <= self.voters.len()
            {
                let at: Vec<String> = foreign.iter().map(|(v, _)| format!("{}@{}", v.node_id, v.address)).collect();
                return Some(format!(
                    "{} belongs to cluster {mine}, but the voters {} belong to cluster {theirs}: \
                     the wrong data directory, or the wrong controller.quorum.voters",
                    self.data_dir,
                    at.join(", ")
                ));
            }
            if friends.len() == self.voters.len() {
                return None;
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    async fn ask(&self, voter: &Voter) -> Answer {
        let outcome = self.pool.probe_at(voter.node_id, &voter.address.to_string(), ANSWER_MAX).await;
        let identity = match outcome {
            ProbeOutcome::Rejected { refusal: Refusal::ShuttingDown, .. } => return Answer::Silent,
            ProbeOutcome::Answered { identity, .. } | ProbeOutcome::Rejected { identity, .. } => identity,
            ProbeOutcome::ConnectionRefused | ProbeOutcome::TimedOut | ProbeOutcome::Failed(_) => {
                return Answer::Silent;
            }
        };
        match (identity.cluster_id, self.cluster_id) {
            (Some(theirs), Some(mine)) if theirs != mine => Answer::Foreign(theirs),
            _ if voter.node_id == self.me
                && identity.node_id == self.me
                && identity.incarnation != self.incarnation =>
            {
                Answer::MyId(identity.incarnation)
            }
            _ => Answer::Friend,
        }
    }
}

enum Answer {
    Silent,
    Friend,
    Foreign(ClusterId),
    /// From this start of another process.
    MyId(IncarnationId),
}
