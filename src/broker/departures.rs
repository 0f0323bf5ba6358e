//! Brokers that have just gone, as this node noticed it: for clients that ask in that very moment.
//!
//! A client whose connection to a leader breaks asks another broker at once where the leader is now. The metadata log does not know
//! yet: the verdict takes milliseconds, an election of the controller first some hundred. The old leader's name would send the
//! client back to a dead process, and then it waits for a timer of its own (librdkafka looks again once in a second, franz-go five
//! seconds after its last look). So two things are known here:
//!
//! - **doubted**: the last open connection with that life of the broker ended without a goodbye, a moment ago, and none has been
//!   opened since. An answer that would name it as a leader is worth waiting for, at most [`PATIENCE`] from the loss. One that
//!   came back is not doubted again for [`REMEMBERED_FOR`]: a link that flaps must not hold every answer. The first connection
//!   that ends so raises the doubt already, for [`OTHERS_FOLLOW`]: a client that asks within a millisecond must not be faster than
//!   the others of a dead process.
//! - **just fenced**: fenced within [`LISTED_FOR`]. Metadata lists it still, though it names it as the leader of nothing. librdkafka
//!   (2.10 and later) drops a broker that an answer no longer lists before it reads who leads in the same answer; its partitions
//!   then have no broker until its next look, a second later.
//!
//! Only what clients are told, and when, hangs on this; who leads is in the metadata log alone. One lock protects the tables; it
//! is held for arithmetic only.

use crate::peer::{ClosedReason, Lane, PeerEvent};
use parking_lot::Mutex;
use rookery_raft::delta::{MetadataDelta, MetadataPublisher};
use rookery_raft::ids::{BrokerEpoch, IncarnationId, NodeId};
use rookery_raft::image::{BrokerRegistration, MetadataImage};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::broadcast::{self, error::RecvError};
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// Longer than a fail-over of controller and leader on a busy machine; a cluster that cannot decide answers with what it has.
pub(super) const PATIENCE: Duration = Duration::from_secs(2);
/// Long enough for a client's first questions after the loss.
const LISTED_FOR: Duration = Duration::from_secs(10);
/// The kernel closes all connections of a dead process at once; this is for us to notice.
const OTHERS_FOLLOW: Duration = Duration::from_millis(50);
/// After that a loss says nothing about now: the verdict has long been found.
const REMEMBERED_FOR: Duration = Duration::from_secs(10);
/// Node ids come from peers: so many are remembered.
const LOST_MAX: usize = 4096;

/// Who has just gone.
pub struct Departures {
    tables: Mutex<Tables>,
    /// Changes whenever a doubt arises or ends.
    changed: watch::Sender<()>,
}

#[derive(Default)]
struct Tables {
    /// How many connections there are with each life, in either direction.
    open: BTreeMap<(NodeId, IncarnationId), usize>,
    lost: BTreeMap<NodeId, Loss>,
    fenced: BTreeMap<NodeId, (BrokerEpoch, Instant)>,
}

/// A connection with that life ended without a goodbye.
struct Loss {
    incarnation: IncarnationId,
    at: Instant,
    /// It was the last one.
    complete: bool,
    /// A connection with it has been opened since.
    back: bool,
}

impl Departures {
    /// Nobody has gone yet.
    pub fn new() -> Arc<Self> {
        Arc::new(Self { tables: Mutex::default(), changed: watch::Sender::new(()) })
    }

    /// Follow this node's connections with others until told to stop.
    pub async fn follow(self: Arc<Self>, mut connections: broadcast::Receiver<PeerEvent>, stop: CancellationToken) {
        loop {
            let event = tokio::select! {
                biased;
                () = stop.cancelled() => return,
                event = connections.recv() => event,
            };
            match event {
                Ok(event) => self.on_connection(&event, Instant::now()),
                // What was counted is wrong from here on: nobody is doubted for it.
                Err(RecvError::Lagged(_)) => self.tables.lock().forget_connections(),
                Err(RecvError::Closed) => return,
            }
        }
    }

    fn on_connection(&self, event: &PeerEvent, now: Instant) {
        let changed = match *event {
            PeerEvent::Opened { lane: Lane::Probe, .. } | PeerEvent::Closed { lane: Lane::Probe, .. } => false,
            PeerEvent::Opened { peer, .. } => self.tables.lock().opened(peer.node_id, peer.incarnation),
            PeerEvent::Closed { peer, reason, .. } => {
                self.tables.lock().closed(peer.node_id, peer.incarnation, reason == ClosedReason::Lost, now)
            }
        };
        if changed {
            self.changed.send_replace(());
        }
    }

    /// Lives whose last connection with this node ended without a goodbye, a moment ago.
    pub fn lost(&self) -> Vec<(NodeId, IncarnationId)> {
        let tables = self.tables.lock();
        let recent = tables.lost.iter().filter(|(_, l)| l.complete && !l.back && l.at.elapsed() < REMEMBERED_FOR);
        recent.map(|(id, loss)| (*id, loss.incarnation)).collect()
    }

    /// Told whenever a doubt arises or ends.
    pub fn changes(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    /// Until when an answer that names one of these brokers as a leader is worth waiting for; `None`: it is not.
    pub fn doubted_until(&self, image: &MetadataImage, leaders: impl Fn() -> BTreeSet<NodeId>) -> Option<Instant> {
        let now = Instant::now();
        let until: BTreeMap<NodeId, Instant> = {
            let tables = self.tables.lock();
            let doubted = tables.lost.iter().filter(|(id, loss)| {
                let named = |b: &BrokerRegistration| !b.fenced && b.record.incarnation == loss.incarnation;
                !loss.back && image.cluster.broker(**id).is_some_and(|b| named(b))
            });
            doubted
                .map(|(id, loss)| (*id, loss.at + if loss.complete { PATIENCE } else { OTHERS_FOLLOW }))
                .filter(|(_, until)| *until > now)
                .collect()
        };
        if until.is_empty() {
            return None;
        }
        leaders().iter().filter_map(|id| until.get(id)).max().copied()
    }

    /// Whether the broker was fenced a moment ago.
    pub fn is_just_fenced(&self, broker: &BrokerRegistration) -> bool {
        let fenced = self.tables.lock().fenced.get(&broker.id()).copied();
        broker.fenced && fenced.is_some_and(|(epoch, at)| epoch == broker.epoch() && at.elapsed() < LISTED_FOR)
    }
}

impl Tables {
    /// The fences stay: they come from the metadata log, not from the connections.
    fn forget_connections(&mut self) {
        self.open.clear();
        self.lost.clear();
    }

    /// Whether a doubt ends with it.
    fn opened(&mut self, id: NodeId, incarnation: IncarnationId) -> bool {
        *self.open.entry((id, incarnation)).or_default() += 1;
        match self.lost.get_mut(&id) {
            Some(loss) if loss.incarnation == incarnation => !std::mem::replace(&mut loss.back, true),
            _ => false,
        }
    }

    /// Whether a doubt arises.
    fn closed(&mut self, id: NodeId, incarnation: IncarnationId, without_goodbye: bool, now: Instant) -> bool {
        let open = self.open.remove(&(id, incarnation)).map_or(0, |open| open - 1);
        if open > 0 {
            self.open.insert((id, incarnation), open);
        }
        self.lost.retain(|_, loss| now.saturating_duration_since(loss.at) < REMEMBERED_FOR);
        if !without_goodbye {
            return false;
        }
        let full = self.lost.len() >= LOST_MAX;
        match self.lost.get_mut(&id) {
            Some(loss) if loss.incarnation == incarnation => {
                let completes = open == 0 && !loss.complete && !loss.back;
                loss.complete |= completes;
                completes
            }
            None if full => false,
            _ => {
                self.lost.insert(id, Loss { incarnation, at: now, complete: open == 0, back: false });
                true
            }
        }
    }
}

impl MetadataPublisher for Departures {
    fn name(&self) -> &str {
        "departures"
    }

    fn on_metadata_update(&self, delta: &MetadataDelta, _: &Arc<MetadataImage>) {
        if delta.cluster.is_empty() {
            return;
        }
        let mut tables = self.tables.lock();
        tables.fenced.retain(|_, (_, at)| at.elapsed() < LISTED_FOR);
        for (id, before, after) in delta.cluster.changed() {
            match (before, after) {
                // Also by a new registration of a process that has come back at once.
                (Some(before), Some(after)) if !before.fenced && after.fenced => {
                    tables.fenced.insert(id, (after.epoch(), Instant::now()));
                }
                (_, None) => {
                    tables.lost.remove(&id);
                }
                _ => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::peer::{Direction, PeerIdentity};
    use rookery_raft::ids::{ClusterId, DirectoryId, MetadataOffset};
    use rookery_raft::record::{Address, Formation, MetadataRecord, RegisterBroker};
    use uuid::Uuid;

    const NODE: NodeId = NodeId(2);
    const EPOCH: BrokerEpoch = BrokerEpoch(5);

    fn life(n: u128) -> IncarnationId {
        IncarnationId(Uuid::from_u128(n))
    }

    fn closed(incarnation: IncarnationId, lane: Lane, reason: ClosedReason) -> PeerEvent {
        PeerEvent::Closed { peer: peer(incarnation), lane, direction: Direction::Outbound, reason, at: Instant::now() }
    }

    fn peer(incarnation: IncarnationId) -> PeerIdentity {
        PeerIdentity {
            cluster_id: None,
            node_id: NODE,
            directory_id: DirectoryId::NONE,
            incarnation,
            broker_epoch: BrokerEpoch::UNKNOWN,
        }
    }

    /// Registers the broker in its life 1, and what else is given; tells the publisher of all but the first.
    fn replay(departures: &Departures, then: &[MetadataRecord]) -> Arc<MetadataImage> {
        let first = [
            MetadataRecord::Formation(Formation { cluster_id: ClusterId::NONE, voters: vec![] }),
            register(EPOCH, life(1)),
            MetadataRecord::UnfenceBroker { id: NODE, epoch: EPOCH },
        ];
        let mut delta = MetadataDelta::new(MetadataImage::empty());
        first.iter().for_each(|record| delta.replay(MetadataOffset(1), record).expect("sound"));
        let mut image = Arc::new(delta.apply());
        for (index, record) in (2..).zip(then) {
            let mut delta = MetadataDelta::new(image);
            delta.replay(MetadataOffset(index), record).expect("sound");
            image = Arc::new(delta.apply());
            departures.on_metadata_update(&delta, &image);
        }
        image
    }

    fn register(epoch: BrokerEpoch, incarnation: IncarnationId) -> MetadataRecord {
        MetadataRecord::RegisterBroker(RegisterBroker {
            id: NODE,
            epoch,
            incarnation,
            previous_epoch: BrokerEpoch::UNKNOWN,
            listeners: vec![],
            peer_address: Address { host: "h".into(), port: 1 },
            gossip_address: None,
            rack: None,
            features: Default::default(),
            directories: vec![],
            is_controller: false,
        })
    }

    fn is_doubted(departures: &Departures, image: &MetadataImage) -> bool {
        departures.doubted_until(image, || BTreeSet::from([NODE])).is_some()
    }

    #[test]
    fn a_leader_is_doubted_from_its_lost_connection_to_the_next_one() {
        let departures = Departures::new();
        let image = replay(&departures, &[]);
        let now = Instant::now();
        assert!(!is_doubted(&departures, &image));
        departures.on_connection(&closed(life(1), Lane::Probe, ClosedReason::Lost), now);
        departures.on_connection(&closed(life(1), Lane::Control, ClosedReason::Goodbye), now);
        assert!(!is_doubted(&departures, &image), "neither is a sign of anything");
        departures.on_connection(&closed(life(1), Lane::Control, ClosedReason::Lost), now);
        assert!(is_doubted(&departures, &image));
        assert_eq!(departures.lost(), [(NODE, life(1))]);
        assert!(
            departures.doubted_until(&image, || BTreeSet::from([NodeId(1)])).is_none(),
            "an answer that does not name it waits for nothing"
        );
        let opened = PeerEvent::Opened { peer: peer(life(1)), lane: Lane::Control, direction: Direction::Inbound };
        departures.on_connection(&opened, now);
        assert!(!is_doubted(&departures, &image), "it is there");
    }

    #[test]
    fn one_connection_of_several_is_no_departure_and_a_flapping_one_is_doubted_once() {
        let departures = Departures::new();
        let image = replay(&departures, &[]);
        let open = |lane| PeerEvent::Opened { peer: peer(life(1)), lane, direction: Direction::Inbound };
        let now = Instant::now();
        departures.on_connection(&open(Lane::Control), now);
        departures.on_connection(&open(Lane::Replication), now);
        departures.on_connection(&closed(life(1), Lane::Replication, ClosedReason::Lost), now);
        let soon = now + OTHERS_FOLLOW;
        let until = departures.doubted_until(&image, || BTreeSet::from([NODE])).expect("the other one may follow");
        assert!(until == soon && departures.lost().is_empty(), "it is open yet");
        departures.on_connection(&closed(life(1), Lane::Control, ClosedReason::Lost), now);
        assert!(departures.doubted_until(&image, || BTreeSet::from([NODE])).expect("doubted") > soon);
        assert_eq!(departures.lost(), [(NODE, life(1))]);
        // Another life's connection says nothing of this one.
        let other = PeerEvent::Opened { peer: peer(life(2)), lane: Lane::Control, direction: Direction::Inbound };
        departures.on_connection(&other, now);
        assert!(is_doubted(&departures, &image));
        departures.on_connection(&open(Lane::Control), now);
        assert!(!is_doubted(&departures, &image));
        departures.on_connection(&closed(life(1), Lane::Control, ClosedReason::Lost), now);
        assert!(!is_doubted(&departures, &image), "it flaps");
    }

    #[test]
    fn a_doubt_ends_with_the_verdict_with_another_life_and_with_time() {
        let departures = Departures::new();
        departures.on_connection(&closed(life(1), Lane::Control, ClosedReason::Lost), Instant::now());
        let fenced = replay(&departures, &[MetadataRecord::FenceBroker { id: NODE, epoch: EPOCH }]);
        assert!(!is_doubted(&departures, &fenced));
        let again = BrokerEpoch(9);
        let back = [register(again, life(2)), MetadataRecord::UnfenceBroker { id: NODE, epoch: again }];
        assert!(!is_doubted(&departures, &replay(&departures, &back)));
        let late = Departures::new();
        let long_ago = Instant::now().checked_sub(PATIENCE).expect("the machine runs longer than that");
        late.on_connection(&closed(life(1), Lane::Control, ClosedReason::Lost), long_ago);
        assert!(!is_doubted(&late, &replay(&late, &[])));
    }

    #[test]
    fn a_broker_stays_listed_for_a_while_after_its_fence() {
        let departures = Departures::new();
        let fence = MetadataRecord::FenceBroker { id: NODE, epoch: EPOCH };
        let image = replay(&departures, std::slice::from_ref(&fence));
        assert!(departures.is_just_fenced(image.cluster.broker(NODE).expect("registered")));
        departures.tables.lock().forget_connections();
        assert!(
            departures.is_just_fenced(image.cluster.broker(NODE).expect("registered")),
            "missed connections are no news of it"
        );
        let strange = Departures::new();
        assert!(!strange.is_just_fenced(image.cluster.broker(NODE).expect("registered")), "fenced long before");
        // Back at once, and fenced until it has caught up.
        let registered = replay(&departures, &[register(BrokerEpoch(9), life(2))]);
        assert!(departures.is_just_fenced(registered.cluster.broker(NODE).expect("registered")));
    }
}
