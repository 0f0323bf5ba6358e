//! Which brokers get a new partition.
//!
//! The brokers form a ring in which racks take turns. A partition's first replica is the next broker of the ring, the
//! others follow in ring order from a distance that grows with every turn, so that the load of one broker's failure
//! spreads over many. No rack gets a second replica before every rack has one. A broker whose disk hangs or is short of space gets one
//! only when there are too few others, and a fenced one when there are too few active ones.

use crate::ids::NodeId;
use crate::record::ReplicaList;
use rand::Rng;
use std::collections::{BTreeMap, BTreeSet};

/// A broker as placement sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlacementBroker {
    /// Its id.
    pub id: NodeId,
    /// Its failure domain.
    pub rack: Option<String>,
    /// How well it could take one.
    pub fitness: Fitness,
}

/// How well a broker could take a new partition now; the better the greater.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fitness {
    /// It is fenced, or has no directory in order.
    Inactive,
    /// It is active, but its disk hangs, or takes no records until there is more space.
    Impaired,
    /// Nothing speaks against it.
    Fit,
}

/// Places partitions on brokers.
pub struct Placement {
    /// The best there are, in whose ring the partitions go round.
    ring: Vec<PlacementBroker>,
    /// Those who are taken only when these are too few, the better first.
    others: Vec<Vec<PlacementBroker>>,
    next: usize,
}

impl Placement {
    /// Shuffles the brokers into a ring.
    pub fn new(brokers: Vec<PlacementBroker>, random: &mut impl Rng) -> Self {
        let mut groups: BTreeMap<Fitness, Vec<PlacementBroker>> = BTreeMap::new();
        for broker in brokers {
            groups.entry(broker.fitness).or_default().push(broker);
        }
        let best = match groups.last_key_value() {
            Some((fitness, _)) if *fitness > Fitness::Inactive => groups.pop_last().map(|(_, brokers)| brokers),
            _ => None,
        };
        let best = best.unwrap_or_default();
        let next = random.next_u32() as usize % best.len().max(1);
        let best = ring(best, random);
        let others = groups.into_values().rev().map(|brokers| ring(brokers, random)).collect();
        Self { ring: best, others, next }
    }

    /// How many brokers there are.
    pub fn len(&self) -> usize {
        self.ring.len() + self.others.iter().map(Vec::len).sum::<usize>()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Replicas for the next partition, preferred leader first; `None` without an active broker or with too few.
    pub fn place(&mut self, replication_factor: usize) -> Option<ReplicaList> {
        let brokers = self.ring.len();
        if brokers == 0 || replication_factor == 0 || replication_factor > self.len() {
            return None;
        }
        let first = self.next % brokers;
        let turn = self.next / brokers;
        self.next += 1;
        // Followers begin at another distance each turn; the first replica keeps its place in front.
        let shift = if brokers > 1 { turn % (brokers - 1) } else { 0 };
        let followers = (0..brokers - 1).map(|i| (first + 1 + (shift + i) % (brokers - 1)) % brokers);
        let best = std::iter::once(first).chain(followers).map(|at| &self.ring[at]).collect();
        let others = self.others.iter().map(|group| group.iter().collect());
        Some(spread(std::iter::once(best).chain(others), replication_factor))
    }
}

fn spread<'a>(groups: impl Iterator<Item = Vec<&'a PlacementBroker>>, replication_factor: usize) -> ReplicaList {
    let mut chosen = ReplicaList::new();
    let mut racks: BTreeSet<&Option<String>> = BTreeSet::new();
    for group in groups {
        // First one of each rack, then whoever is left.
        for fresh_rack_only in [true, false] {
            for broker in &group {
                let fresh = !racks.contains(&broker.rack);
                let wanted = fresh || !fresh_rack_only;
                if chosen.len() < replication_factor && wanted && !chosen.contains(&broker.id) {
                    racks.insert(&broker.rack);
                    chosen.push(broker.id);
                }
            }
        }
    }
    chosen
}

/// Racks take turns; inside a rack the order is random.
fn ring(mut brokers: Vec<PlacementBroker>, random: &mut impl Rng) -> Vec<PlacementBroker> {
    brokers.sort_by_key(|b| b.id);
    for i in (1..brokers.len()).rev() {
        brokers.swap(i, random.next_u32() as usize % (i + 1));
    }
    let mut racks: BTreeMap<Option<String>, Vec<PlacementBroker>> = BTreeMap::new();
    for broker in brokers {
        racks.entry(broker.rack.clone()).or_default().push(broker);
    }
    let mut ring = Vec::new();
    while !racks.is_empty() {
        racks.retain(|_, rack| {
            ring.extend(rack.pop());
            !rack.is_empty()
        });
    }
    ring
}

#[cfg(test)]
mod tests {
    use super::Fitness::{Fit, Impaired, Inactive};
    use super::*;
    use rand::SeedableRng;
    use rand::rngs::StdRng;

    fn brokers(racks: &[(i32, &str, Fitness)]) -> Vec<PlacementBroker> {
        let broker = |(id, rack, fitness): &(i32, &str, Fitness)| PlacementBroker {
            id: NodeId(*id),
            rack: (!rack.is_empty()).then(|| (*rack).to_owned()),
            fitness: *fitness,
        };
        racks.iter().map(broker).collect()
    }

    #[test]
    fn every_rack_holds_one_replica_and_load_is_even() {
        let all = brokers(&[(1, "a", Fit), (2, "a", Fit), (3, "b", Fit), (4, "b", Fit), (5, "c", Fit), (6, "c", Fit)]);
        for seed in 0..20 {
            let mut placement = Placement::new(all.clone(), &mut StdRng::seed_from_u64(seed));
            let mut leads: BTreeMap<NodeId, u32> = BTreeMap::new();
            for _ in 0..60 {
                let replicas = placement.place(3).expect("enough brokers");
                let racks: BTreeSet<i32> = replicas.iter().map(|r| (r.0 - 1) / 2).collect();
                assert_eq!(racks.len(), 3, "{replicas:?}");
                *leads.entry(replicas[0]).or_default() += 1;
            }
            assert!(leads.values().all(|n| *n == 10), "{leads:?}");
        }
    }

    #[test]
    fn fenced_brokers_come_last_and_never_first() {
        let all = brokers(&[(1, "", Fit), (2, "", Inactive), (3, "", Fit)]);
        let mut placement = Placement::new(all, &mut StdRng::seed_from_u64(1));
        for _ in 0..10 {
            let replicas = placement.place(3).expect("enough brokers");
            assert_eq!(replicas.last(), Some(&NodeId(2)));
        }
        assert_eq!(placement.place(4), None);
        let mut none = Placement::new(brokers(&[(1, "", Inactive)]), &mut StdRng::seed_from_u64(1));
        assert_eq!(none.place(1), None);
    }

    #[test]
    fn a_broker_short_of_space_comes_before_a_fenced_one_and_behind_all_others() {
        let all = brokers(&[(1, "a", Fit), (2, "a", Fit), (3, "b", Impaired), (4, "c", Inactive)]);
        let mut placement = Placement::new(all, &mut StdRng::seed_from_u64(1));
        for _ in 0..10 {
            assert!(placement.place(2).expect("two are fit").iter().all(|id| id.0 < 3), "also where they share a rack");
            assert_eq!(placement.place(4).expect("four").as_slice()[2..], [NodeId(3), NodeId(4)]);
        }
        let mut placement =
            Placement::new(brokers(&[(1, "", Inactive), (2, "", Impaired)]), &mut StdRng::seed_from_u64(1));
        assert_eq!(placement.place(2).expect("records can be taken later").as_slice(), [NodeId(2), NodeId(1)]);
    }
}
