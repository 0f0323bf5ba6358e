use super::Violation;
use rookery_raft::ids::NodeId;

/// Nobody is in an ISR whose broker is fenced or leaving (KIP-841).
pub(crate) fn fenced_isr<'n>(
    isr: impl IntoIterator<Item = &'n NodeId>,
    is_active: impl Fn(NodeId) -> bool,
) -> Result<(), Violation> {
    match isr.into_iter().find(|id| !is_active(**id)) {
        Some(id) => Err(Violation::new("fenced_isr", format!("{id} is fenced, or leaves, and is in an ISR"))),
        None => Ok(()),
    }
}
