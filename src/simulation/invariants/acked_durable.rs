use super::{Record, Violation};
use std::collections::BTreeMap;

/// What was acknowledged, by value.
#[derive(Default)]
pub(crate) struct AckedDurable(BTreeMap<u64, i64>);

impl AckedDurable {
    /// A producer was told that its value is committed at `offset`; `copies` disks hold it.
    pub(crate) fn acknowledged(&mut self, value: u64, offset: i64, copies: usize, min: usize) -> Result<(), Violation> {
        if copies < min {
            return broken(format!("value {value} at {offset} was acknowledged with {copies} durable copies"));
        }
        match self.0.insert(value, offset) {
            Some(other) if other != offset => {
                broken(format!("value {value} was acknowledged at {other} and at {offset}"))
            }
            _ => Ok(()),
        }
    }

    /// A log that is to hold all of it.
    pub(crate) fn all_in(&self, holder: &str, log: &BTreeMap<i64, u64>) -> Result<(), Violation> {
        match self.0.iter().find(|(value, offset)| log.get(offset) != Some(value)) {
            Some((value, offset)) => broken(format!("{holder} does not hold acknowledged value {value} at {offset}")),
            None => Ok(()),
        }
    }

    /// How many.
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }
}

/// By offset.
pub(super) fn values(log: &[Record]) -> BTreeMap<i64, u64> {
    log.iter().map(|(offset, _, value)| (*offset, *value)).collect()
}

fn broken(what: String) -> Result<(), Violation> {
    Err(Violation::new("acked_durable", what))
}
