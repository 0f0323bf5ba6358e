//! `metadata.version`: which records may be written.

use serde::{Deserialize, Serialize};
use std::fmt;

/// The feature name under which the level is finalised (KIP-584).
pub const METADATA_VERSION_FEATURE: &str = "metadata.version";

/// A level of the metadata log's format. Every node can replay all levels up to [`MetadataVersion::LATEST`]; the
/// controller writes nothing above the level the cluster has finalised.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[repr(i16)]
pub enum MetadataVersion {
    /// The first format: every record in version 0.
    V1 = 1,
}

impl MetadataVersion {
    /// The oldest level this build can read.
    pub const MINIMUM: MetadataVersion = MetadataVersion::V1;
    /// The newest level this build can read and write.
    pub const LATEST: MetadataVersion = MetadataVersion::V1;

    /// The level as the feature record carries it.
    pub fn level(self) -> i16 {
        self as i16
    }

    /// The version of a finalised level; `None` if this build is too old or too new for it.
    pub fn from_level(level: i16) -> Option<Self> {
        match level {
            1 => Some(Self::V1),
            _ => None,
        }
    }
}

impl fmt::Display for MetadataVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.level())
    }
}
