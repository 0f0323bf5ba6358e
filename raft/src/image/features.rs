//! Finalised features.

use crate::record::{METADATA_VERSION_FEATURE, MetadataVersion};
use rpds::RedBlackTreeMapSync;

/// The feature levels in force (KIP-584).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FeaturesImage {
    pub(crate) levels: RedBlackTreeMapSync<String, i16>,
}

impl FeaturesImage {
    /// The finalised level of a feature; 0 if it is not in force.
    pub fn level(&self, name: &str) -> i16 {
        self.levels.get(name).copied().unwrap_or(0)
    }
    /// All finalised features by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, i16)> {
        self.levels.iter().map(|(name, level)| (name.as_str(), *level))
    }
    /// The level records are written at. Before the first formation it is the minimum.
    pub fn metadata_version(&self) -> MetadataVersion {
        // The delta refuses a level this build does not know.
        MetadataVersion::from_level(self.level(METADATA_VERSION_FEATURE)).unwrap_or(MetadataVersion::MINIMUM)
    }
}
