//! One replica that is elected.

use super::controller::Controller;
use super::world::Lone;
use crate::replica::ReplicaError;
use crate::replica::partition::Applied;
use crate::simulation::batches::batch;
use crate::storage::AppendError;
use rookery_raft::ids::{LeaderEpoch, NodeId, PartitionEpoch};
use std::time::Duration;

/// It had heard of the commit of a record that it had not on its disk, and was elected all the same, from outside the ISR: consumers
/// saw the record until a crash took it away.
#[test]
fn a_leader_elected_uncleanly_showed_what_it_had_not_on_disk() {
    let (leader, me) = (NodeId(1), NodeId(2));
    let node = Lone::new(me);
    let entry = Controller::new(&[leader, me]).now().clone();
    let (mut state, brokers) = (entry.state, entry.brokers);
    node.partition.apply(&state, &brokers).expect("it follows");
    let mut record = batch(7, 0, 1).to_vec();
    record[12..16].copy_from_slice(&0_i32.to_be_bytes()); // its leader's epoch
    node.partition
        .append_as_follower(LeaderEpoch(0), node.partition.log().end(), &[record.into()], 1)
        .expect("the next record");
    assert_eq!((node.partition.high_watermark(), node.partition.log().offsets().synced_end), (1, 0));
    (state.leader, state.leader_epoch, state.partition_epoch) = (me, LeaderEpoch(1), PartitionEpoch(1));
    state.isr = [me].into();
    assert_eq!(node.partition.apply(&state, &brokers), Ok(Applied::BecameLeader));
    assert_eq!(node.partition.high_watermark(), 0);
}

/// A client that was acknowledged by its successor, and whose metadata were older than that, sent the next batch here.
#[test]
fn a_deposed_leader_called_a_gap_what_its_successor_had_taken() {
    let (me, other) = (NodeId(1), NodeId(2));
    let node = Lone::new(me);
    let entry = Controller::new(&[me, other]).now().clone();
    node.partition.apply(&entry.state, &entry.brokers).expect("it leads");
    node.append(batch(7, 0, 1));
    let came = node.pass(10);
    let third = || node.try_append(batch(7, 2, 3)).map(drop);
    assert_eq!(third(), Err(ReplicaError::NotLeaderOrFollower));
    node.pass(10);
    node.confirm(came - Duration::from_millis(1));
    assert_eq!(third(), Err(ReplicaError::NotLeaderOrFollower), "it was deposed a moment later, perhaps");
    node.confirm(came);
    assert!(matches!(third(), Err(ReplicaError::Append(AppendError::OutOfOrderSequence { expected: 1, .. }))));
}
