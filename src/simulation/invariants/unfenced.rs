use super::Violation;
use rookery_raft::ids::NodeId;

/// A broker is unfenced only once it has applied its own registration (KIP-631): until then it acts on nothing.
pub(crate) fn unfenced(id: NodeId, knows_its_registration: bool) -> Result<(), Violation> {
    match knows_its_registration {
        true => Ok(()),
        false => Err(Violation::new("unfenced", format!("{id} is unfenced and has not applied its registration"))),
    }
}
