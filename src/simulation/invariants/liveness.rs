use super::Violation;

/// Everything was healed long ago, and something still does not work.
pub(crate) fn stuck(what: String) -> Violation {
    Violation::new("liveness", what)
}
