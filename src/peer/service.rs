//! What a node does for its peers.

use super::{Lane, PeerError, PeerIdentity};
use bytes::Bytes;
use std::collections::BTreeMap;
use std::future::Future;
use std::ops::RangeInclusive;
use std::pin::Pin;
use std::sync::Arc;

/// First kind that belongs to this room.
pub const KIND_RESERVED_MIN: u16 = 0xff00;
/// Answered by every server on every lane with the body it came with.
pub const KIND_PING: u16 = 0xff00;
/// One way, no response: the sender is about to close, on purpose.
pub(super) const KIND_GOODBYE: u16 = 0xff01;

/// The response of a service: segments, written one after the other without being copied together.
/// On [`Lane::Replication`] only the first is covered by the frame's checksum: put the structured part there.
pub type ServiceFuture<'a> = Pin<Box<dyn Future<Output = Result<Vec<Bytes>, PeerError>> + Send + 'a>>;

/// Serves requests of peers.
pub trait PeerService: Send + Sync + 'static {
    /// Answers one request. Runs as its own task and may wait as long as the service likes (long poll); it holds one of the
    /// connection's in-flight slots while it does. It is never dropped half-way, except when a graceful shutdown runs out of patience.
    fn call(&self, from: PeerIdentity, kind: u16, body: Bytes) -> ServiceFuture<'_>;
}

/// Which service answers which kinds on which lane.
#[derive(Clone, Default)]
pub struct PeerServices {
    // First kind → (last kind, service). Ranges of a lane are disjoint.
    ranges: BTreeMap<(Lane, u16), (u16, Arc<dyn PeerService>)>,
}

impl PeerServices {
    /// No service: only pings are answered.
    pub fn new() -> Self {
        Self::default()
    }

    /// Registers a service for a range of kinds on a lane.
    ///
    /// # Panics
    /// When the range is empty, reserved, or overlaps another: a mistake in the program that no input can cause.
    #[must_use]
    pub fn with(mut self, lane: Lane, kinds: RangeInclusive<u16>, service: Arc<dyn PeerService>) -> Self {
        let (first, last) = kinds.into_inner();
        assert!(first <= last && last < KIND_RESERVED_MIN, "kinds {first}..={last} are no range of a service");
        let overlaps = self.ranges.iter().any(|((other_lane, other_first), (other_last, _))| {
            *other_lane == lane && *other_first <= last && first <= *other_last
        });
        assert!(!overlaps, "kinds {first}..={last} of lane {lane} are registered twice");
        self.ranges.insert((lane, first), (last, service));
        self
    }

    pub(crate) fn find(&self, lane: Lane, kind: u16) -> Option<&Arc<dyn PeerService>> {
        let ((found_lane, _), (last, service)) = self.ranges.range(..=(lane, kind)).next_back()?;
        (*found_lane == lane && kind <= *last).then_some(service)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Nothing;
    impl PeerService for Nothing {
        fn call(&self, _: PeerIdentity, _: u16, _: Bytes) -> ServiceFuture<'_> {
            Box::pin(async { Ok(Vec::new()) })
        }
    }

    #[test]
    fn a_kind_finds_its_service_on_its_lane_only() {
        let services = PeerServices::new()
            .with(Lane::Control, 10..=19, Arc::new(Nothing))
            .with(Lane::Replication, 0..=9, Arc::new(Nothing))
            .with(Lane::Replication, 20..=20, Arc::new(Nothing));
        let served = |lane, kind| services.find(lane, kind).is_some();
        assert!(served(Lane::Control, 10) && served(Lane::Control, 19));
        assert!(!served(Lane::Control, 9) && !served(Lane::Control, 20));
        assert!(served(Lane::Replication, 0) && !served(Lane::Replication, 10) && served(Lane::Replication, 20));
        assert!(!served(Lane::Heartbeat, 10), "the range before it in the map belongs to another lane");
    }

    #[test]
    #[should_panic(expected = "registered twice")]
    fn overlapping_ranges_are_a_mistake() {
        let _ = PeerServices::new().with(Lane::Control, 1..=5, Arc::new(Nothing)).with(
            Lane::Control,
            5..=9,
            Arc::new(Nothing),
        );
    }
}
