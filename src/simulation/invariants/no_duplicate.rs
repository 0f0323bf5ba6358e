use super::{Record, Violation};
use std::collections::BTreeMap;

/// Every value of an idempotent producer once.
pub(crate) fn no_duplicate(log: &[Record]) -> Result<(), Violation> {
    let mut seen = BTreeMap::new();
    for (offset, _, value) in log {
        if let Some(other) = seen.insert(value, offset) {
            return Err(Violation::new("no_duplicate", format!("value {value} lies at {other} and at {offset}")));
        }
    }
    Ok(())
}
