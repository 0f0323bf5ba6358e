//! Who acts on metadata, and when they begin to.

use crate::peer::AddressBook;
use parking_lot::Mutex;
use rookery_raft::delta::{MetadataDelta, MetadataPublisher};
use rookery_raft::ids::NodeId;
use rookery_raft::image::MetadataImage;
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::sync::watch;

/// Publishers that come later than the metadata log: replicas need a store, and a store needs to know its cluster.
///
/// One lock orders publications and [`LatePublishers::begin`], so that a publisher that begins is told everything there is
/// and then every delta, without a gap and in order. It is held over publications, which never block.
#[derive(Default)]
pub struct LatePublishers {
    state: Mutex<Late>,
}

struct Late {
    image: Arc<MetadataImage>,
    publishers: Vec<Arc<dyn MetadataPublisher>>,
}

impl Default for Late {
    fn default() -> Self {
        Self { image: MetadataImage::empty(), publishers: Vec::new() }
    }
}

impl LatePublishers {
    /// These act from now on, in this order.
    pub fn begin(&self, publishers: Vec<Arc<dyn MetadataPublisher>>) {
        let mut state = self.state.lock();
        let delta = MetadataDelta::between(MetadataImage::empty(), &state.image);
        for publisher in &publishers {
            publisher.on_metadata_update(&delta, &state.image);
        }
        state.publishers = publishers;
    }
}

impl MetadataPublisher for LatePublishers {
    fn name(&self) -> &str {
        "broker"
    }

    fn on_metadata_update(&self, delta: &MetadataDelta, image: &Arc<MetadataImage>) {
        let mut state = self.state.lock();
        state.image = image.clone();
        for publisher in &state.publishers {
            publisher.on_metadata_update(delta, image);
        }
    }
}

/// Keeps the addresses of other nodes: for connections, and for gossip to greet.
pub struct Addresses {
    me: NodeId,
    book: AddressBook,
    seeds: watch::Sender<BTreeMap<NodeId, String>>,
}

impl Addresses {
    /// `seeds` begins with the voters of the command line.
    pub fn new(me: NodeId, book: AddressBook, seeds: watch::Sender<BTreeMap<NodeId, String>>) -> Self {
        Self { me, book, seeds }
    }
}

impl MetadataPublisher for Addresses {
    fn name(&self) -> &str {
        "addresses"
    }

    fn on_metadata_update(&self, delta: &MetadataDelta, image: &Arc<MetadataImage>) {
        if delta.cluster.is_empty() {
            return;
        }
        let mut seeds = self.seeds.borrow().clone();
        for broker in image.cluster.brokers().filter(|b| b.id() != self.me) {
            self.book.set(broker.id(), broker.record.peer_address.to_string(), None);
            if let Some(gossip) = &broker.record.gossip_address {
                seeds.insert(broker.id(), gossip.to_string());
            }
        }
        self.seeds.send_if_modified(|now| {
            let changed = *now != seeds;
            *now = seeds;
            changed
        });
    }
}
