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

/// Keeps the addresses of other nodes, for connections and for gossip to greet: those of the command line's voters, and over
/// them what the brokers registered last. Who is unregistered is forgotten.
pub struct Addresses {
    me: NodeId,
    voters: BTreeMap<NodeId, String>,
    book: AddressBook,
    seeds: watch::Sender<BTreeMap<NodeId, String>>,
}

impl Addresses {
    /// Knows the other voters of the command line.
    pub fn new(me: NodeId, voters: BTreeMap<NodeId, String>, book: AddressBook) -> Self {
        for (id, address) in &voters {
            book.set(*id, address.as_str(), None);
        }
        Self { me, seeds: watch::Sender::new(voters.clone()), voters, book }
    }

    /// Where gossip may greet whom, as it changes.
    pub fn seeds(&self) -> watch::Receiver<BTreeMap<NodeId, String>> {
        self.seeds.subscribe()
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
        let (mut peers, mut seeds) = (self.voters.clone(), self.voters.clone());
        for broker in image.cluster.brokers().filter(|b| b.id() != self.me) {
            peers.insert(broker.id(), broker.record.peer_address.to_string());
            if let Some(gossip) = &broker.record.gossip_address {
                seeds.insert(broker.id(), gossip.to_string());
            }
        }
        for gone in self.book.nodes().into_iter().filter(|id| !peers.contains_key(id)) {
            self.book.remove(gone);
        }
        for (id, address) in peers {
            self.book.set(id, address, None);
        }
        self.seeds.send_if_modified(|now| {
            let changed = *now != seeds;
            *now = seeds;
            changed
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rookery_raft::ids::{BrokerEpoch, IncarnationId, MetadataOffset};
    use rookery_raft::record::{Address, MetadataRecord, RegisterBroker};

    fn registered(id: i32, epoch: i64, port: u16) -> MetadataRecord {
        let address = Address { host: "h".into(), port };
        MetadataRecord::RegisterBroker(RegisterBroker {
            id: NodeId(id),
            epoch: BrokerEpoch(epoch),
            incarnation: IncarnationId::NONE,
            previous_epoch: BrokerEpoch::UNKNOWN,
            listeners: vec![],
            peer_address: address.clone(),
            gossip_address: Some(address),
            rack: None,
            features: BTreeMap::new(),
            directories: vec![],
            is_controller: false,
        })
    }

    #[test]
    fn seeds_follow_brokers_that_register_move_and_are_forgotten() {
        let voters = BTreeMap::from([(NodeId(2), "first:1".to_owned())]);
        let book = AddressBook::new();
        let addresses = Addresses::new(NodeId(1), voters, book.clone());
        let seeds = addresses.seeds();
        let mut image = MetadataImage::empty();
        let mut see = |record: MetadataRecord| {
            let mut delta = MetadataDelta::new(image.clone());
            delta.replay(MetadataOffset(image.offset.0 + 1), &record).expect("a sound record");
            image = Arc::new(delta.apply());
            addresses.on_metadata_update(&delta, &image);
            let seeds: Vec<String> = seeds.borrow().iter().map(|(id, at)| format!("{id}@{at}")).collect();
            let peers: Vec<String> =
                book.nodes().iter().map(|id| format!("{id}@{}", book.get(*id).expect("an entry").address)).collect();
            assert_eq!(seeds, peers);
            seeds
        };
        assert_eq!(see(registered(1, 1, 1)), ["2@first:1"], "not itself");
        assert_eq!(see(registered(3, 2, 3)), ["2@first:1", "3@h:3"], "a broker that came later");
        assert_eq!(see(registered(2, 3, 22)), ["2@h:22", "3@h:3"], "a voter that moved");
        assert_eq!(see(registered(3, 4, 33)), ["2@h:22", "3@h:33"], "a broker that moved");
        let forget = |id, epoch| MetadataRecord::UnregisterBroker { id: NodeId(id), epoch: BrokerEpoch(epoch) };
        assert_eq!(see(forget(3, 4)), ["2@h:22"]);
        assert_eq!(see(forget(2, 3)), ["2@first:1"], "a voter stays one");
    }
}
