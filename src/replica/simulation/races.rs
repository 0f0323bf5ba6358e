//! Two threads at one partition: what a simulation without threads cannot show.
//!
//! Each round brings the high watermark as far as the two together allow, in whatever order they come. Nothing else happens in a
//! round, so one that missed the other leaves it behind for good.

use super::controller::{Controller, MIN_INSYNC};
use super::world::{Lone, PARTITION};
use crate::replica::message::{FetchPartition, ReplicaFetchRequest, ReplicaProgress, SessionTurn};
use crate::simulation::batches::batch;
use rookery_raft::ids::{BrokerEpoch, ClusterId, LeaderEpoch, NodeId};
use std::sync::Barrier;
use std::thread;

const ROUNDS: u32 = 2_000;
const FOLLOWER: (NodeId, BrokerEpoch) = (NodeId(2), BrokerEpoch(2));

struct Leader {
    node: Lone,
    session: SessionTurn,
}

impl Leader {
    fn new() -> Self {
        let ids = [NodeId(1), NodeId(2)];
        let node = Lone::new(ids[0]);
        let entry = Controller::new(&ids).now().clone();
        node.partition.apply(&entry.state, &entry.brokers).expect("it leads");
        node.partition.update_metadata(&entry.brokers, MIN_INSYNC);
        let mut leader = Self { node, session: SessionTurn::default() };
        let slot = leader.node.service.begin(&leader.fetch(0, 0)).expect("a session");
        leader.session = SessionTurn { id: slot.session_id(), epoch: 0 };
        leader
    }

    /// Appends one record; returns the log end.
    fn append(&self, round: u32) -> i64 {
        self.node.append(batch(7, i32::try_from(round).expect("few rounds"), u64::from(round))) + 1
    }

    /// The next fetch of the session.
    fn next_fetch(&mut self, wanted: i64, synced: i64) -> ReplicaFetchRequest {
        self.session.epoch += 1;
        self.fetch(wanted, synced)
    }

    fn fetch(&self, wanted: i64, synced: i64) -> ReplicaFetchRequest {
        let last_fetched_epoch = if wanted == 0 { LeaderEpoch::NONE } else { LeaderEpoch(0) };
        let asked = FetchPartition {
            id: PARTITION,
            leader_epoch: LeaderEpoch(0),
            wanted,
            synced,
            last_fetched_epoch,
            log_start: 0,
            max_bytes: 1000,
        };
        ReplicaFetchRequest {
            cluster: ClusterId::NONE,
            broker: FOLLOWER.0,
            broker_epoch: FOLLOWER.1,
            session: self.session,
            max_wait_ms: 0,
            max_bytes: 1000,
            changed: vec![asked],
            forgotten: vec![],
        }
    }

    fn progress(&self, synced: i64) -> ReplicaProgress {
        let synced = vec![(PARTITION, LeaderEpoch(0), synced)];
        ReplicaProgress { broker: FOLLOWER.0, broker_epoch: FOLLOWER.1, session: self.session, synced }
    }
}

/// Runs both at the same moment; from round to round the other begins a little later, so that they meet at every step of theirs.
fn meet(round: u32, one: impl FnOnce() + Send, other: impl FnOnce() + Send) {
    let start = Barrier::new(2);
    thread::scope(|scope| {
        scope.spawn(|| {
            start.wait();
            one();
        });
        start.wait();
        (0..round % 100 * 20).for_each(|_| std::hint::spin_loop());
        other();
    });
}

#[test]
fn the_leaders_commit_and_a_followers_progress_never_miss_each_other() {
    let mut leader = Leader::new();
    for round in 0..ROUNDS {
        let end = leader.append(round);
        let fetch = leader.next_fetch(end, end - 1);
        leader.node.service.begin(&fetch).expect("in turn");
        let progress = leader.progress(end);
        let commit = || assert!(leader.node.store.commit() > 0);
        meet(round, commit, || leader.node.service.progress(&progress).expect("its fetch is here"));
        assert_eq!(leader.node.partition.high_watermark(), end, "round {round}");
    }
}

#[test]
fn a_progress_that_meets_its_fetch_is_counted_or_said_again() {
    let mut leader = Leader::new();
    for round in 0..ROUNDS {
        let end = leader.append(round);
        leader.node.store.commit();
        let fetch = leader.next_fetch(end, end - 1);
        let progress = leader.progress(end);
        let said = || while leader.node.service.progress(&progress).is_err() {};
        meet(round, || drop(leader.node.service.begin(&fetch).expect("in turn")), said);
        assert_eq!(leader.node.partition.high_watermark(), end, "round {round}");
    }
}
