//! The guards between what SWIM thinks and what is published.
//!
//! SWIM's opinion of every member comes in after each input; what differs from the published view goes out, good news at once. An accusation (Suspect,
//! Down) is *held* until this node trusts itself and has a witness: somebody other than the accused, heard since the failed probe had to be repeated through
//! others. A node that is cut off has no witness and so accuses nobody. A held accusation that SWIM withdraws was never made.

use super::health::LocalHealth;
use super::{GossipEvent, GossipIdentity, GossipProfile, Liveness, MemberStatus, MembershipView};
use rookery_raft::ids::NodeId;
use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

/// See the module.
pub(super) struct Reporter {
    view: MembershipView,
    changed: bool,
    events: VecDeque<GossipEvent>,
    held: BTreeMap<NodeId, Held>,
    heard: BTreeMap<NodeId, Instant>,
    last_heard: Instant,
    // A suspicion is noticed this long after its probe was repeated through others.
    witness_window: Duration,
    lonely_after: Duration,
}

struct Held {
    identity: GossipIdentity,
    liveness: Liveness,
    noticed: Instant,
}

impl Reporter {
    pub fn new(profile: &GossipProfile, now: Instant) -> Self {
        Self {
            view: MembershipView::default(),
            changed: true,
            events: VecDeque::new(),
            held: BTreeMap::new(),
            heard: BTreeMap::new(),
            last_heard: now,
            witness_window: profile.probe_period.saturating_sub(profile.probe_rtt),
            lonely_after: profile.probe_period * 2 + profile.probe_rtt,
        }
    }

    /// A member sent a datagram that was understood.
    pub fn hear(&mut self, node_id: NodeId, now: Instant) {
        self.heard.insert(node_id, now);
        self.last_heard = now;
    }

    /// Compares SWIM's opinion of all members, in the order of their ids, with what is published.
    pub fn observe(&mut self, seen: &BTreeMap<NodeId, (GossipIdentity, Liveness)>, health: LocalHealth, now: Instant) {
        let lonely = !seen.is_empty() && now.saturating_duration_since(self.last_heard) > self.lonely_after;
        if (self.view.lonely, self.view.distrust) != (lonely, health.score()) {
            (self.view.lonely, self.view.distrust) = (lonely, health.score());
            self.changed = true;
        }
        for (node_id, (identity, liveness)) in seen {
            self.compare(*node_id, identity, *liveness, health, now);
        }
        if self.view.members.len() > seen.len() || self.heard.len() > seen.len() {
            self.changed = true;
            self.view.members.retain(|node_id, _| seen.contains_key(node_id));
            self.heard.retain(|node_id, _| seen.contains_key(node_id));
            self.held.retain(|node_id, _| seen.contains_key(node_id));
        }
    }

    /// The view, if it is another one than the last time.
    pub fn take_view(&mut self) -> Option<MembershipView> {
        std::mem::take(&mut self.changed).then(|| self.view.clone())
    }

    pub fn view(&self) -> &MembershipView {
        &self.view
    }

    pub fn pop_event(&mut self) -> Option<GossipEvent> {
        self.events.pop_front()
    }

    fn compare(
        &mut self,
        node_id: NodeId,
        identity: &GossipIdentity,
        liveness: Liveness,
        health: LocalHealth,
        now: Instant,
    ) {
        match self.view.members.get(&node_id).copied() {
            Some(known) if known.incarnation == identity.incarnation && known.liveness == liveness => {
                self.held.remove(&node_id);
                return;
            }
            // A later process of the same node is the proof that the earlier one is gone; it needs no witness.
            Some(known) if known.incarnation != identity.incarnation && known.liveness != Liveness::Down => {
                let earlier = GossipIdentity { incarnation: known.incarnation, address: known.address, ..*identity };
                self.publish(&earlier, Liveness::Down, now);
            }
            _ => {}
        }
        if !liveness.is_accusation() || self.may_accuse(identity, liveness, health, now) {
            self.held.remove(&node_id);
            self.publish(identity, liveness, now);
        }
    }

    fn may_accuse(&mut self, identity: &GossipIdentity, liveness: Liveness, health: LocalHealth, now: Instant) -> bool {
        let node_id = identity.node_id;
        let noticed = match self.held.get(&node_id) {
            Some(held) if held.liveness == liveness && held.identity == *identity => held.noticed,
            _ => {
                self.held.insert(node_id, Held { identity: *identity, liveness, noticed: now });
                now
            }
        };
        let has_witness =
            || self.heard.iter().any(|(witness, heard)| *witness != node_id && *heard + self.witness_window >= noticed);
        health.is_well() && has_witness()
    }

    fn publish(&mut self, identity: &GossipIdentity, liveness: Liveness, at: Instant) {
        let GossipIdentity { node_id, incarnation, address, .. } = *identity;
        self.view.members.insert(node_id, MemberStatus { liveness, incarnation, address, since: at });
        self.events.push_back(GossipEvent { node_id, incarnation, liveness, at });
        self.changed = true;
    }
}

#[cfg(test)]
mod tests {
    use super::super::codec::tests::identity;
    use super::*;

    struct Bench {
        reporter: Reporter,
        seen: BTreeMap<NodeId, (GossipIdentity, Liveness)>,
        health: LocalHealth,
        now: Instant,
    }

    impl Bench {
        // This node and nodes 1 and 2, both alive and just heard.
        fn new() -> Self {
            let now = Instant::now();
            let mut bench = Bench {
                reporter: Reporter::new(&GossipProfile::LAN, now),
                seen: BTreeMap::new(),
                health: LocalHealth::default(),
                now,
            };
            for node in [1, 2] {
                bench.seen.insert(NodeId(node), (identity(node, 1), Liveness::Alive));
                bench.reporter.hear(NodeId(node), now);
            }
            assert_eq!(bench.observe(), [(1, Liveness::Alive), (2, Liveness::Alive)]);
            bench
        }
        fn think(&mut self, node: i32, liveness: Liveness) -> Vec<(i32, Liveness)> {
            self.seen.get_mut(&NodeId(node)).expect("known").1 = liveness;
            self.observe()
        }
        fn observe(&mut self) -> Vec<(i32, Liveness)> {
            self.reporter.observe(&self.seen, self.health, self.now);
            std::iter::from_fn(|| self.reporter.pop_event()).map(|event| (event.node_id.0, event.liveness)).collect()
        }
        fn later(&mut self, millis: u64) {
            self.now += Duration::from_millis(millis);
        }
    }

    #[test]
    fn an_accusation_waits_for_a_witness() {
        let mut bench = Bench::new();
        bench.later(1000);
        assert_eq!(bench.think(1, Liveness::Suspect), []);
        bench.reporter.hear(NodeId(1), bench.now);
        assert_eq!(bench.observe(), [], "the accused is no witness");
        bench.reporter.hear(NodeId(2), bench.now);
        assert_eq!(bench.observe(), [(1, Liveness::Suspect)]);
        assert_eq!(bench.think(1, Liveness::Alive), [(1, Liveness::Alive)]);
    }

    #[test]
    fn a_node_that_hears_nobody_is_lonely_and_accuses_nobody() {
        let mut bench = Bench::new();
        bench.later(1000);
        assert_eq!(bench.think(1, Liveness::Down), []);
        assert_eq!(bench.think(2, Liveness::Down), []);
        assert!(bench.reporter.view().lonely);
        assert_eq!(bench.think(1, Liveness::Alive), [], "what was never published needs no correction");
        bench.reporter.hear(NodeId(1), bench.now);
        assert_eq!(bench.observe(), [(2, Liveness::Down)], "node 1 is a witness against node 2");
        assert!(!bench.reporter.view().lonely);
    }

    #[test]
    fn a_node_that_distrusts_itself_accuses_nobody() {
        let mut bench = Bench::new();
        bench.health.suspected();
        assert_eq!(bench.think(1, Liveness::Suspect), []);
        assert_eq!(bench.reporter.view().distrust, 1);
        bench.health.on_time();
        assert_eq!(bench.observe(), [(1, Liveness::Suspect)]);
    }

    #[test]
    fn a_later_process_proves_the_end_of_the_earlier_one() {
        let mut bench = Bench::new();
        bench.later(1000);
        bench.seen.insert(NodeId(1), (identity(1, 2), Liveness::Alive));
        assert_eq!(bench.observe(), [(1, Liveness::Down), (1, Liveness::Alive)]);
    }
}
