//! `OffsetCommitValue`.

use smol_str::SmolStr;
use uuid::Uuid;

data! {
    versions 0..=4, flexible 4;

    value OffsetCommitValue {
        offset: i64,
        leader_epoch: i32 [from(3).ignorable()] = -1,
        metadata: SmolStr,
        commit_timestamp: i64,
        expire_timestamp: i64 [between(1, 1).ignorable()] = -1,
    } tagged {
        0 => topic_id: Uuid [from(4).ignorable()],
    }
}
