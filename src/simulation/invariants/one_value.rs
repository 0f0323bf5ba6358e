use super::{Record, Violation};
use rookery_raft::ids::NodeId;
use std::collections::BTreeMap;

/// What lay below some leader's high watermark, by offset.
#[derive(Clone, Default)]
pub(crate) struct OneValue(BTreeMap<i64, u64>);

impl OneValue {
    /// These records lie below the high watermark of a leader.
    pub(crate) fn visible(&mut self, node: NodeId, below: &[Record]) -> Result<(), Violation> {
        for (offset, _, value) in below {
            let first = *self.0.entry(*offset).or_insert(*value);
            if first != *value {
                let what = format!("offset {offset} was {first} and is {value} below the high watermark of {node}");
                return Err(Violation::new("one_value", what));
            }
        }
        Ok(())
    }

    /// Without those that are not held.
    pub(super) fn retained(mut self, holds: impl Fn(i64, u64) -> bool) -> Self {
        self.0.retain(|offset, value| holds(*offset, *value));
        self
    }

    /// By offset.
    pub(crate) fn all(&self) -> &BTreeMap<i64, u64> {
        &self.0
    }
}

/// One (leader epoch, offset) is one record, on whatever replica: what truncation by epochs rests on.
pub(crate) fn logs_match(logs: &[(NodeId, Vec<Record>)]) -> Result<(), Violation> {
    let mut seen: BTreeMap<(i32, i64), (NodeId, u64)> = BTreeMap::new();
    for (node, log) in logs {
        for (offset, epoch, value) in log {
            let (other, same) = *seen.entry((*epoch, *offset)).or_insert((*node, *value));
            if same != *value {
                let what = format!("(epoch {epoch}, offset {offset}) is {same} on {other} and {value} on {node}");
                return Err(Violation::new("one_value", what));
            }
        }
    }
    Ok(())
}
