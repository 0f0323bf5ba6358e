use super::Violation;
use rookery_raft::ids::{LeaderEpoch, NodeId};
use std::collections::BTreeMap;

/// The last high watermark of each leader in each epoch.
#[derive(Default)]
pub(crate) struct HighWatermarks(BTreeMap<(NodeId, LeaderEpoch), i64>);

impl HighWatermarks {
    /// A leader's high watermark now; whether it is another than before. (That nothing below one ever changes is `one_value`.)
    pub(crate) fn at(&mut self, node: NodeId, epoch: LeaderEpoch, high_watermark: i64) -> Result<bool, Violation> {
        match self.0.insert((node, epoch), high_watermark) {
            Some(before) if before > high_watermark => {
                let what = format!("{node} in epoch {epoch} went back from {before} to {high_watermark}");
                Err(Violation::new("high_watermark", what))
            }
            before => Ok(before != Some(high_watermark)),
        }
    }
}
