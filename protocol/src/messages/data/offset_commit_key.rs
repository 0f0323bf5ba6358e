//! `OffsetCommitKey`.

use smol_str::SmolStr;

data! {
    versions 0..=0, flexible never;

    value OffsetCommitKey {
        group: SmolStr,
        topic: SmolStr,
        partition: i32,
    }
}
