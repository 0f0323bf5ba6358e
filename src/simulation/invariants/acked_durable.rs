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

    /// Without those that are not held.
    pub(super) fn retained(mut self, holds: impl Fn(i64, u64) -> bool) -> Self {
        self.0.retain(|value, offset| holds(*offset, *value));
        self
    }

    /// A log that is to hold all of it.
    pub(crate) fn all_in(&self, holder: impl Fn() -> String, log: &[Record]) -> Result<(), Violation> {
        match self.0.iter().find(|(value, offset)| value_at(log, **offset) != Some(**value)) {
            Some((value, offset)) => {
                broken(format!("{} does not hold acknowledged value {value} at {offset}", holder()))
            }
            None => Ok(()),
        }
    }
}

/// What a log has at an offset.
pub(super) fn value_at(log: &[Record], offset: i64) -> Option<u64> {
    let at = log.binary_search_by_key(&offset, |(offset, ..)| *offset).ok()?;
    Some(log[at].2)
}

fn broken(what: String) -> Result<(), Violation> {
    Err(Violation::new("acked_durable", what))
}
