//! What must never happen, over everything that was ever acknowledged or visible.

use rookery_raft::ids::{LeaderEpoch, NodeId};
use std::collections::BTreeMap;

/// One stored record.
pub type Record = (i64, i32, u64);

#[derive(Default)]
pub struct Oracle {
    /// What lay below some leader's high watermark, by offset.
    pub committed: BTreeMap<i64, u64>,
    /// Acknowledged values and their offsets.
    pub acked: BTreeMap<u64, i64>,
    high_watermarks: BTreeMap<(NodeId, LeaderEpoch), i64>,
}

impl Oracle {
    /// A leader's high watermark is `high_watermark`, and these records lie below it.
    pub fn visible(
        &mut self,
        node: NodeId,
        epoch: LeaderEpoch,
        high_watermark: i64,
        below: &[Record],
    ) -> Result<(), String> {
        let before = self.high_watermarks.insert((node, epoch), high_watermark);
        if before.is_some_and(|before| before > high_watermark) {
            return Err(format!(
                "the high watermark of {node} in epoch {epoch} went back from {before:?} to {high_watermark}"
            ));
        }
        for (offset, _, value) in below {
            if let Some(other) = self.committed.insert(*offset, *value)
                && other != *value
            {
                return Err(format!("offset {offset} was {other} and is {value} below the high watermark of {node}"));
            }
        }
        Ok(())
    }

    /// A producer was told that its value is committed.
    pub fn acknowledged(&mut self, value: u64, offset: i64, copies: usize, min: usize) -> Result<(), String> {
        if copies < min {
            return Err(format!("value {value} at {offset} was acknowledged with {copies} durable copies"));
        }
        match self.acked.insert(value, offset) {
            Some(other) if other != offset => Err(format!("value {value} was acknowledged at {other} and at {offset}")),
            _ => Ok(()),
        }
    }

    /// A replica that may be elected holds this much on its disk.
    pub fn candidate(&self, node: NodeId, why: &str, durable: &[Record]) -> Result<(), String> {
        let have: BTreeMap<i64, u64> = durable.iter().map(|(offset, _, value)| (*offset, *value)).collect();
        for (offset, value) in &self.committed {
            if have.get(offset) != Some(value) {
                let there = have.get(offset);
                return Err(format!("{node} ({why}) has {there:?} on disk at committed offset {offset}, not {value}"));
            }
        }
        for (value, offset) in &self.acked {
            if have.get(offset) != Some(value) {
                return Err(format!("{node} ({why}) does not hold acknowledged value {value} at {offset}"));
            }
        }
        Ok(())
    }

    /// Every value once.
    pub fn no_duplicates(log: &[Record]) -> Result<(), String> {
        let mut seen = BTreeMap::new();
        for (offset, _, value) in log {
            if let Some(other) = seen.insert(value, offset) {
                return Err(format!("value {value} lies at {other} and at {offset}"));
            }
        }
        Ok(())
    }

    /// One (epoch, offset) is one record, on whatever replica: what truncation by epochs rests on.
    pub fn logs_match(logs: &[(NodeId, Vec<Record>)]) -> Result<(), String> {
        let mut seen: BTreeMap<(i32, i64), (NodeId, u64)> = BTreeMap::new();
        for (node, log) in logs {
            for (offset, epoch, value) in log {
                let (other, same) = *seen.entry((*epoch, *offset)).or_insert((*node, *value));
                if same != *value {
                    return Err(format!("(epoch {epoch}, offset {offset}) is {same} on {other} and {value} on {node}"));
                }
            }
        }
        Ok(())
    }
}
