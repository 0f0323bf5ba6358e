use super::Violation;
use rookery_raft::ids::{BrokerEpoch, NodeId};
use std::collections::BTreeMap;
use std::time::Duration;

/// Since when which life of a broker is fenced or over.
#[derive(Default)]
pub(crate) struct FencedLeader(BTreeMap<NodeId, (BrokerEpoch, Option<Duration>)>);

impl FencedLeader {
    /// What is known about a broker by now.
    pub(crate) fn broker(&mut self, id: NodeId, epoch: BrokerEpoch, fenced: bool, now: Duration) {
        let entry = self.0.entry(id).or_insert((epoch, None));
        if entry.0 != epoch {
            *entry = (epoch, None);
        }
        entry.1 = if fenced { entry.1.or(Some(now)) } else { None };
    }

    /// A broker has just taken a produce with acks=all as the life `epoch`. Its process runs since `running`: one that was stopped finds what
    /// waited for it, which confirms it for another lease.
    pub(crate) fn took_a_record(
        &self,
        id: NodeId,
        epoch: BrokerEpoch,
        (running, now): (Duration, Duration),
        lease: Duration,
    ) -> Result<(), Violation> {
        match self.0.get(&id) {
            Some((current, Some(since))) if *current == epoch && now.saturating_sub(running.max(*since)) > lease => {
                let what = format!("{id} took a record {:?} after it was fenced", now.saturating_sub(*since));
                Err(Violation::new("fenced_leader", what))
            }
            _ => Ok(()),
        }
    }
}
