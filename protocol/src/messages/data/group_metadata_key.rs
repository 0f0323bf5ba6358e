//! `GroupMetadataKey`.

use smol_str::SmolStr;

data! {
    versions 0..=0, flexible never;

    value GroupMetadataKey {
        group: SmolStr,
    }
}
