//! One follower, and what a stream that has ended left behind.

use super::controller::Controller;
use super::world::Lone;
use crate::replica::ReplicaError;
use crate::replica::message::DivergingEpoch;
use crate::simulation::batches::batch;
use crate::storage::StorageError;
use bytes::Bytes;
use rookery_raft::ids::{LeaderEpoch, NodeId, PartitionEpoch};

fn record(offset: i64, epoch: LeaderEpoch) -> Bytes {
    let mut record = batch(7, offset as i32, offset as u64).to_vec();
    record[..8].copy_from_slice(&offset.to_be_bytes());
    record[12..16].copy_from_slice(&epoch.0.to_be_bytes());
    record.into()
}

/// A broker registered anew while a truncation waited for a thread. The next stream cut and filled the log, and its leader counted that; then the
/// first truncation came. Records that were acknowledged were on one disk less.
#[test]
fn a_truncation_of_an_ended_stream_cut_what_the_next_one_had_synced() {
    let (leader, me) = (NodeId(1), NodeId(2));
    let node = Lone::new(me);
    let entry = Controller::new(&[leader, me]).now().clone();
    let mut state = entry.state;
    let follow = |epoch: i32, offsets: [i64; 2]| {
        for offset in offsets {
            let (epoch, end) = (LeaderEpoch(epoch), node.partition.log().end());
            node.partition.append_as_follower(epoch, end, &[record(offset, epoch)], 1).expect("the next record");
        }
        node.store.commit();
    };
    node.partition.apply(&state, &entry.brokers).expect("it follows");
    follow(0, [0, 1]);
    (state.leader_epoch, state.partition_epoch) = (LeaderEpoch(1), PartitionEpoch(1));
    node.partition.apply(&state, &entry.brokers).expect("it follows");

    let (asked, diverging) = (node.partition.log().end(), DivergingEpoch { epoch: LeaderEpoch(0), end_offset: 1 });
    node.partition.truncate(LeaderEpoch(1), asked, diverging).expect("the next stream's");
    follow(1, [1, 2]);
    let end = node.partition.log().end();
    let refused = Err(ReplicaError::Storage(StorageError::EndMoved { expected: asked, end }));
    assert_eq!(node.partition.truncate(LeaderEpoch(1), asked, diverging), refused);
    assert_eq!(node.partition.restart(LeaderEpoch(1), asked, 9), refused);
    assert_eq!(node.partition.append_as_follower(LeaderEpoch(1), asked, &[], 3), refused, "its high watermark neither");
    assert_eq!((node.partition.log().offsets().synced_end, node.partition.high_watermark()), (3, 1));
    // What the leader has deleted stays deleted.
    node.partition.follow_log_start(LeaderEpoch(1), 9).expect("up to the high watermark");
    assert_eq!((node.partition.log().offsets().log_start, node.partition.log().end()), (1, end));
}
