use super::Violation;
use crate::replica::ReplicaError;
use crate::storage::AppendError;

/// An idempotent producer sends in order, and again in order whatever failed: what it is refused for is never a gap in its sequences. It
/// would take that as proof that nothing behind the gap is in the log.
pub(crate) fn no_gap(producer: i64, sequence: i32, refusal: &ReplicaError) -> Result<(), Violation> {
    match refusal {
        ReplicaError::Append(AppendError::OutOfOrderSequence { .. }) => {
            Err(Violation::new("no_gap", format!("producer {producer} sent {sequence} in order: {refusal}")))
        }
        _ => Ok(()),
    }
}
