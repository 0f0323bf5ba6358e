use super::acked_durable::value_at;
use super::{PartitionInvariants, Record, Violation};
use rookery_raft::ids::NodeId;

/// A replica that may be elected, or was, holds everything committed and acknowledged on its disk.
pub(crate) fn candidate(
    invariants: &PartitionInvariants,
    node: NodeId,
    why: &str,
    durable: &[Record],
) -> Result<(), Violation> {
    for (offset, value) in invariants.committed.all() {
        let there = value_at(durable, *offset);
        if there != Some(*value) {
            let what = format!("{node} ({why}) has {there:?} on disk at committed offset {offset}, not {value}");
            return Err(Violation::new("candidates", what));
        }
    }
    invariants.acked.all_in(|| format!("{node} ({why})"), durable)
}
