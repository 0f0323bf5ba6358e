//! One line of images for those who act on them, whichever source brings an image first.
//!
//! A voter has one source, its Raft log. A node without a vote has two: it observes, and once it is taken in, its own log
//! begins at the beginning and catches up. Both tell the same committed log, so images of one offset are equal, and whatever is not
//! newer than the last published image was told already. One lock orders the sources; publishers never block.

use crate::delta::{MetadataDelta, MetadataPublisher};
use crate::image::MetadataImage;
use parking_lot::Mutex;
use std::sync::Arc;
use tokio::sync::watch;

/// Passes on what is newer than everything passed on before, as an unbroken line of deltas.
pub(crate) struct Publication {
    publishers: Mutex<Vec<Arc<dyn MetadataPublisher>>>,
    image: watch::Sender<Arc<MetadataImage>>,
}

impl Publication {
    pub(crate) fn new(publishers: Vec<Arc<dyn MetadataPublisher>>) -> Arc<Self> {
        let image = watch::Sender::new(MetadataImage::empty());
        Arc::new(Self { publishers: Mutex::new(publishers), image })
    }

    /// The last published image.
    pub(crate) fn image(&self) -> watch::Receiver<Arc<MetadataImage>> {
        self.image.subscribe()
    }
}

impl MetadataPublisher for Publication {
    fn name(&self) -> &str {
        "publication"
    }

    fn on_metadata_update(&self, delta: &MetadataDelta, image: &Arc<MetadataImage>) {
        let publishers = self.publishers.lock();
        let last = self.image.borrow().clone();
        if image.offset <= last.offset {
            return;
        }
        let across;
        let delta = if delta.base().offset == last.offset {
            delta
        } else {
            across = MetadataDelta::between(last, image);
            &across
        };
        publishers.iter().for_each(|publisher| publisher.on_metadata_update(delta, image));
        self.image.send_replace(image.clone());
    }
}
