//! From committed entries to those who act on them.

use super::{MetadataDelta, ReplayError};
use crate::ids::MetadataOffset;
use crate::image::MetadataImage;
use crate::record::MetadataRecord;
use std::sync::Arc;

/// Someone who acts on metadata: the metadata cache, the replica manager, a coordinator.
///
/// Called in one task, in the order of the log, never concurrently with itself. It must not block: slow work belongs
/// to a task of its own.
pub trait MetadataPublisher: Send + Sync {
    /// For logs and metrics.
    fn name(&self) -> &str;
    /// What changed, and the image after it.
    fn on_metadata_update(&self, delta: &MetadataDelta, image: &Arc<MetadataImage>);
}

/// Makes one delta per committed batch and tells every publisher, in the order they were added.
///
/// States: the image is always the result of exactly the entries up to its offset; a publisher has been told every
/// delta since it was added, and the first it was told leads from the empty image to the one of that moment.
pub struct MetadataLoader {
    image: Arc<MetadataImage>,
    publishers: Vec<Arc<dyn MetadataPublisher>>,
}

impl MetadataLoader {
    /// Begins at an image (empty, or from a snapshot).
    pub fn new(image: Arc<MetadataImage>) -> Self {
        Self { image, publishers: Vec::new() }
    }

    /// The image after the last batch.
    pub fn image(&self) -> &Arc<MetadataImage> {
        &self.image
    }

    /// Adds a publisher at the end of the order and tells it everything there is.
    pub fn add_publisher(&mut self, publisher: Arc<dyn MetadataPublisher>) {
        let delta = MetadataDelta::between(MetadataImage::empty(), &self.image);
        publisher.on_metadata_update(&delta, &self.image);
        self.publishers.push(publisher);
    }

    /// Takes in the entries of one committed batch, in order. An entry without records (blank, membership) only
    /// advances the offset. An error is fatal: nothing was published, and the node must stop.
    pub fn apply<'a>(
        &mut self,
        entries: impl IntoIterator<Item = (MetadataOffset, &'a [MetadataRecord])>,
    ) -> Result<&Arc<MetadataImage>, ReplayError> {
        let mut delta = MetadataDelta::new(self.image.clone());
        for (index, records) in entries {
            delta.advance(index)?;
            for record in records {
                delta.replay(index, record)?;
            }
        }
        self.publish(&delta, Arc::new(delta.apply()));
        Ok(&self.image)
    }

    /// Goes on from a snapshot that holds entries this node never saw.
    pub fn install_snapshot(&mut self, image: Arc<MetadataImage>) {
        let delta = MetadataDelta::between(self.image.clone(), &image);
        self.publish(&delta, image);
    }

    fn publish(&mut self, delta: &MetadataDelta, image: Arc<MetadataImage>) {
        self.image = image;
        for publisher in &self.publishers {
            publisher.on_metadata_update(delta, &self.image);
        }
    }
}
