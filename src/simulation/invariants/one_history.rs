use super::Violation;
use rookery_raft::ids::{MetadataOffset, NodeId};
use rookery_raft::image::MetadataImage;
use std::collections::BTreeMap;
use std::sync::Arc;

/// The metadata log as whoever applied it first has it.
#[derive(Default)]
pub(crate) struct OneHistory(BTreeMap<MetadataOffset, (NodeId, Arc<MetadataImage>)>);

impl OneHistory {
    /// A node has applied the log up to this image's offset.
    pub(crate) fn applied(&mut self, node: NodeId, image: &Arc<MetadataImage>) -> Result<(), Violation> {
        let (first, known) = self.0.entry(image.offset).or_insert_with(|| (node, image.clone()));
        if Arc::ptr_eq(known, image) || known == image {
            return Ok(());
        }
        let what = format!("{first} and {node} have applied different metadata at offset {}", image.offset);
        Err(Violation::new("one_history", what))
    }

    /// The newest image anybody has applied.
    pub(crate) fn newest(&self) -> Option<&Arc<MetadataImage>> {
        self.0.last_key_value().map(|(_, (_, image))| image)
    }
}
