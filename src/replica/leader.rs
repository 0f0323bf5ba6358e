//! What a leader knows about its followers, and the decisions it takes from it: pure, no log, no lock, no clock.
//!
//! # The rules, and what each one is for
//!
//! * **A follower's word counts under both epochs.** Its synced offset is kept only from a request that carried the
//!   current leader epoch and a broker epoch no older than the newest one seen, and only up to the offset at which the
//!   divergence check passed ([`Fetched::matched`]). A newer broker epoch wipes what the older incarnation said.
//! * **The high watermark** is the lowest synced offset among the leader, every member of the maximal ISR (fenced or not,
//!   until its removal is committed) and every caught-up replica outside it that could join (else a committed record
//!   could overtake a follower between its proposal and its membership, over and over). It stands still while
//!   |minimal ISR| < min(min.insync.replicas, replicas): only then is a replica that left the ISR below that size still
//!   complete, which is what the controller's ELR means (KIP-966).
//! * **A follower joins the ISR** once it fetched in this leader epoch, its synced offset has reached the high watermark
//!   and the start of this leader epoch (before that the high watermark itself may be stale), and the metadata knows its
//!   broker epoch as unfenced and not shutting down (KIP-841, KIP-903).
//! * **A leader that was elected uncleanly** says that it has recovered as soon as it leads: what is in its log is the truth then, and
//!   there is nothing to repair. Until that is committed nobody else joins.
//! * **It is to leave** when for `replica.lag.time.max` it never had synced everything the leader had at its previous
//!   fetch.
//!
//! A new leader epoch, or a new broker epoch of the follower, forgets what it said: it must fetch again.

use super::high_watermark::{HighWatermark, synced_by_all};
use super::isr::IsrState;
use crate::planted::planted;
use rookery_raft::ids::{BrokerEpoch, LeaderEpoch, NodeId, PartitionEpoch};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// How long a leader proposes nothing after a refusal.
const REFUSED_PAUSE: Duration = Duration::from_millis(200);

/// What the metadata says about one partition, reduced to what a replica acts on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartitionState {
    /// Who leads; `NodeId::NONE` without leader.
    pub leader: NodeId,
    /// The leader's term.
    pub leader_epoch: LeaderEpoch,
    /// The version of this registration.
    pub partition_epoch: PartitionEpoch,
    /// All assigned replicas, in preference order.
    pub replicas: Vec<NodeId>,
    /// The committed in-sync replicas.
    pub isr: BTreeSet<NodeId>,
    /// `min.insync.replicas` of the topic, as configured; the effective one is bounded by the replicas.
    pub min_insync_replicas: usize,
    /// Its leader was elected uncleanly, and has not said yet that it has recovered (KIP-704).
    pub recovering: bool,
}

/// What the metadata says about the broker of a follower.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BrokerView {
    /// The epoch of its newest registration.
    pub epoch: BrokerEpoch,
    /// Unfenced and not in controlled shutdown: it may join an ISR.
    pub eligible: bool,
}

/// What a follower said in this leader epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fetched {
    /// Up to here its log is known to be a prefix of the leader's: the offset of the last fetch that passed the check.
    pub matched: i64,
    /// Up to here its log is on its disk.
    pub synced: i64,
    /// When it last fetched in this leader epoch.
    pub at: Duration,
    /// The leader's log end at that fetch.
    pub leader_end: i64,
}

/// One follower as its leader sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FollowerReplica {
    /// The newest registration that was seen, in the metadata or in a request.
    pub broker_epoch: BrokerEpoch,
    /// What the metadata says of its broker.
    pub view: Option<BrokerView>,
    /// `None` until it fetches in this leader epoch.
    pub fetched: Option<Fetched>,
    /// When it last had everything; members of the ISR start with the benefit of the doubt.
    pub last_caught_up: Option<Duration>,
}

impl FollowerReplica {
    fn new(view: Option<BrokerView>, last_caught_up: Option<Duration>) -> Self {
        let broker_epoch = view.map_or(BrokerEpoch::UNKNOWN, |view| view.epoch);
        Self { broker_epoch, view, fetched: None, last_caught_up }
    }

    fn set_view(&mut self, view: Option<BrokerView>) {
        if let Some(view) = view {
            self.see_broker_epoch(view.epoch);
        }
        self.view = view;
    }

    /// Another incarnation starts from nothing; `false` for an older one than was seen.
    fn see_broker_epoch(&mut self, epoch: BrokerEpoch) -> bool {
        if epoch > self.broker_epoch {
            self.broker_epoch = epoch;
            self.fetched = self.fetched.filter(|_| planted!(CountEarlierLifeOfFollower));
        }
        epoch == self.broker_epoch || planted!(CountEarlierLifeOfFollower)
    }

    fn is_caught_up(&self, leader_end: i64, now: Duration, lag_max: Duration) -> bool {
        self.fetched.is_some_and(|fetched| fetched.synced >= leader_end)
            || self.last_caught_up.is_some_and(|at| now.saturating_sub(at) <= lag_max)
    }

    /// May join an ISR as far as the metadata is concerned.
    fn is_eligible(&self) -> bool {
        self.view.is_some_and(|view| view.eligible && view.epoch == self.broker_epoch)
    }
}

/// A change of the ISR that the leader wants; what `AlterPartition` carries (KIP-497, KIP-903).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IsrProposal {
    /// The term it is proposed in.
    pub leader_epoch: LeaderEpoch,
    /// The registration it is based on.
    pub partition_epoch: PartitionEpoch,
    /// The new members with the broker epochs that the leader knows.
    pub isr: Vec<(NodeId, BrokerEpoch)>,
}

/// The leader's side of one partition, for one leader epoch.
#[derive(Debug, Clone)]
pub struct LeaderState {
    node: NodeId,
    broker_epoch: BrokerEpoch,
    leader_epoch: LeaderEpoch,
    partition_epoch: PartitionEpoch,
    epoch_start_offset: i64,
    followers: BTreeMap<NodeId, FollowerReplica>,
    isr: IsrState,
    min_insync_replicas: usize,
    recovering: bool,
    lag_max: Duration,
    /// After a refusal no proposal is made before this.
    propose_not_before: Duration,
}

impl LeaderState {
    /// Starts a term. `log_end` becomes the start of the epoch: everything at or above it will be this leader's.
    pub fn new(
        (node, broker_epoch): (NodeId, BrokerEpoch),
        state: &PartitionState,
        brokers: &BTreeMap<NodeId, BrokerView>,
        log_end: i64,
        now: Duration,
        lag_max: Duration,
    ) -> Self {
        let followers = state
            .replicas
            .iter()
            .filter(|id| **id != node)
            .map(|id| (*id, FollowerReplica::new(brokers.get(id).copied(), state.isr.contains(id).then_some(now))))
            .collect();
        Self {
            node,
            broker_epoch,
            leader_epoch: state.leader_epoch,
            partition_epoch: state.partition_epoch,
            epoch_start_offset: log_end,
            followers,
            isr: IsrState::Committed { isr: state.isr.clone() },
            min_insync_replicas: state.min_insync_replicas,
            recovering: state.recovering,
            lag_max,
            propose_not_before: Duration::ZERO,
        }
    }

    #[cfg(test)]
    pub(super) fn remember(&mut self, earlier: &Self) {
        for (id, follower) in &mut self.followers {
            follower.fetched = earlier.followers.get(id).and_then(|before| before.fetched);
        }
    }

    /// A newer registration of the same leader epoch: it decides whatever was pending.
    pub fn update(&mut self, state: &PartitionState, brokers: &BTreeMap<NodeId, BrokerView>, now: Duration) {
        debug_assert_eq!(state.leader_epoch, self.leader_epoch, "a new leader epoch is a new LeaderState");
        self.partition_epoch = state.partition_epoch;
        self.min_insync_replicas = state.min_insync_replicas;
        self.recovering = state.recovering;
        self.followers.retain(|id, _| state.replicas.contains(id));
        for id in state.replicas.iter().filter(|id| **id != self.node) {
            let view = brokers.get(id).copied();
            let in_isr = state.isr.contains(id);
            let joined = in_isr && !self.isr.committed().contains(id);
            let follower = self.followers.entry(*id).or_insert_with(|| FollowerReplica::new(view, None));
            follower.set_view(view);
            if joined && follower.last_caught_up.is_none() {
                follower.last_caught_up = Some(now);
            }
            // The controller took it out: until it is heard of again, the high watermark does not wait for it.
            if !in_isr && self.isr.committed().contains(id) {
                follower.last_caught_up = None;
            }
        }
        self.isr = IsrState::Committed { isr: state.isr.clone() };
    }

    /// What the metadata says of some brokers changed (fenced, unfenced, shutting down, registered anew).
    pub fn update_brokers(&mut self, brokers: &BTreeMap<NodeId, BrokerView>) {
        for (id, follower) in &mut self.followers {
            if let Some(view) = brokers.get(id) {
                follower.set_view(Some(*view));
            }
        }
    }

    /// The configured `min.insync.replicas` changed.
    pub fn set_min_insync_replicas(&mut self, min_insync_replicas: usize) {
        self.min_insync_replicas = min_insync_replicas;
    }

    /// The term.
    pub fn leader_epoch(&self) -> LeaderEpoch {
        self.leader_epoch
    }

    /// The registration that this state follows.
    pub fn partition_epoch(&self) -> PartitionEpoch {
        self.partition_epoch
    }

    /// Where this term began in the log; below it the high watermark may still be unknown (KIP-207).
    pub fn epoch_start_offset(&self) -> i64 {
        self.epoch_start_offset
    }

    /// The in-sync replicas and what is proposed.
    pub fn isr(&self) -> &IsrState {
        &self.isr
    }

    /// The follower with this id, if it is assigned.
    pub fn follower(&self, id: NodeId) -> Option<&FollowerReplica> {
        self.followers.get(&id)
    }

    /// Assigned replicas, the leader included.
    pub fn replication_factor(&self) -> usize {
        self.followers.len() + 1
    }

    /// min(min.insync.replicas, replicas), at least 1.
    pub fn effective_min_insync(&self) -> usize {
        self.min_insync_replicas.min(self.replication_factor()).max(1)
    }

    /// Whether acks=all must be refused and the high watermark stand still.
    pub fn is_under_min_isr(&self) -> bool {
        self.isr.minimal_len() < self.effective_min_insync()
    }

    /// The same of the ISR that is committed, whatever is proposed.
    pub fn is_committed_under_min_isr(&self) -> bool {
        self.isr.committed().len() < self.effective_min_insync()
    }

    /// Whether a replica is missing from the committed ISR.
    pub fn is_under_replicated(&self) -> bool {
        self.isr.committed().len() < self.replication_factor()
    }

    /// Checks who speaks before anything else is believed. `false`: an older incarnation, or no replica of this partition.
    pub fn accept_broker_epoch(&mut self, from: NodeId, epoch: BrokerEpoch) -> bool {
        self.followers.get_mut(&from).is_some_and(|follower| follower.see_broker_epoch(epoch))
    }

    /// A fetch that passed every epoch check and the divergence check at `wanted`.
    pub fn follower_fetched(&mut self, from: NodeId, wanted: i64, synced: i64, log_end: i64, now: Duration) {
        let Some(follower) = self.followers.get_mut(&from) else { return };
        let synced = if planted!(CountUnsynced) { wanted } else { synced.min(wanted) };
        // Behind by less than one round trip is caught up: everything the leader had at the previous fetch is synced.
        if synced >= log_end {
            follower.last_caught_up = Some(now);
        } else if let Some(previous) = follower.fetched
            && synced >= previous.leader_end
        {
            follower.last_caught_up = follower.last_caught_up.max(Some(previous.at));
        }
        follower.fetched = Some(Fetched { matched: wanted, synced, at: now, leader_end: log_end });
    }

    /// A progress message of an accepted broker epoch: counts up to what the last fetch has proved to match.
    pub fn follower_synced(&mut self, from: NodeId, synced: i64, log_end: i64, now: Duration) {
        let Some(follower) = self.followers.get_mut(&from) else { return };
        let Some(fetched) = &mut follower.fetched else { return };
        fetched.synced = fetched.synced.max(synced.min(fetched.matched));
        if fetched.synced >= log_end {
            follower.last_caught_up = Some(now);
        } else if fetched.synced >= fetched.leader_end {
            follower.last_caught_up = follower.last_caught_up.max(Some(fetched.at));
        }
    }

    /// Moves the high watermark as far as the rules allow; `true` when it moved.
    pub fn advance(&self, high_watermark: &mut HighWatermark, own_synced: i64, log_end: i64, now: Duration) -> bool {
        let under_min = self.is_under_min_isr() && !planted!(HighWatermarkBelowMinIsr);
        if under_min || !self.isr.committed().contains(&self.node) {
            return false;
        }
        let counted = self.followers.iter().filter(|(id, follower)| {
            self.isr.in_maximal(**id)
                || (follower.is_eligible()
                    && follower.fetched.is_some()
                    && follower.is_caught_up(log_end, now, self.lag_max))
        });
        let synced = synced_by_all(own_synced, counted.map(|(_, follower)| follower.fetched.map(|said| said.synced)));
        synced.is_some_and(|synced| high_watermark.advance(synced))
    }

    /// Says that it has recovered, or else proposes one caught-up follower, lowest id first; the state is pending from now on.
    pub fn propose_expand(&mut self, high_watermark: HighWatermark, now: Duration) -> Option<IsrProposal> {
        if self.isr.is_pending() || now < self.propose_not_before {
            return None;
        }
        if self.recovering {
            self.isr = IsrState::PendingRecovery { isr: self.isr.committed().clone() };
            return self.proposal();
        }
        let floor = high_watermark.offset().max(self.epoch_start_offset);
        let (adding, life) = self.followers.iter().find_map(|(id, follower)| {
            let in_sync =
                follower.fetched.is_some_and(|fetched| fetched.synced >= floor || planted!(ExpandBeforeCaughtUp));
            let fits = in_sync && follower.is_eligible() && !self.isr.committed().contains(id);
            fits.then_some((*id, follower.broker_epoch))
        })?;
        self.isr = IsrState::PendingExpand { isr: self.isr.committed().clone(), adding, life };
        self.proposal()
    }

    /// Proposes to leave out every member that lags; the state is pending from now on.
    pub fn propose_shrink(&mut self, log_end: i64, now: Duration) -> Option<IsrProposal> {
        if self.isr.is_pending() || now < self.propose_not_before {
            return None;
        }
        let members = self.isr.committed();
        let removing: BTreeSet<NodeId> = self
            .followers
            .iter()
            .filter(|(id, follower)| members.contains(id) && !follower.is_caught_up(log_end, now, self.lag_max))
            .map(|(id, _)| *id)
            .collect();
        if removing.is_empty() {
            return None;
        }
        self.isr = IsrState::PendingShrink { isr: members.clone(), removing };
        self.proposal()
    }

    /// What is pending, as a request; sent again as long as its outcome is unknown.
    pub fn proposal(&self) -> Option<IsrProposal> {
        let isr = self.isr.proposed()?;
        let epoch_of = |id: &NodeId| match (&self.isr, self.followers.get(id)) {
            // The same at every try, whatever has registered since.
            (IsrState::PendingExpand { adding, life, .. }, _) if adding == id && !planted!(ProposeLaterLife) => *life,
            (_, Some(follower)) => follower.broker_epoch,
            (_, None) => self.broker_epoch,
        };
        let isr = isr.iter().map(|id| (*id, epoch_of(id))).collect();
        Some(IsrProposal { leader_epoch: self.leader_epoch, partition_epoch: self.partition_epoch, isr })
    }

    /// The controller refused this proposal for good, and no copy of it can take effect any more. Another one has to wait
    /// a little: whatever made the controller refuse is not known here yet.
    pub fn proposal_refused(&mut self, leader_epoch: LeaderEpoch, partition_epoch: PartitionEpoch, now: Duration) {
        if self.leader_epoch == leader_epoch && self.partition_epoch == partition_epoch {
            self.isr.roll_back();
            self.propose_not_before = now + REFUSED_PAUSE;
        }
    }

    /// A follower does not fetch here any more.
    pub fn follower_left(&mut self, from: NodeId) {
        if let Some(follower) = self.followers.get_mut(&from) {
            follower.fetched = None;
        }
    }

    /// Whether this leader may still speak for the partition (architecture, "Failure"): confirmed within the lease by a
    /// heartbeat answer, or by fetches in this epoch from every other member of the maximal ISR. One that is alone in its
    /// ISR although others are assigned needs heartbeats; one without other replicas needs nobody.
    ///
    /// `heartbeat` is when the last answered heartbeat was *sent*; `fetches` when each follower broker last sent a fetch,
    /// which need not mention an idle partition. The lease bounds staleness; no safety rests on it.
    pub fn has_standing(
        &self,
        heartbeat: Option<Duration>,
        fetches: &BTreeMap<NodeId, (BrokerEpoch, Duration)>,
        now: Duration,
        lease: Duration,
    ) -> bool {
        let fresh = |at: Duration| now.saturating_sub(at) <= lease;
        if self.followers.is_empty() || heartbeat.is_some_and(fresh) {
            return true;
        }
        let confirms = |id: &NodeId, follower: &FollowerReplica| {
            let broker = fetches.get(id).filter(|(epoch, _)| *epoch == follower.broker_epoch).map(|(_, at)| *at);
            follower.fetched.is_some_and(|said| fresh(said.at.max(broker.unwrap_or(said.at))))
        };
        let mut others = self.followers.iter().filter(|(id, _)| self.isr.in_maximal(**id)).peekable();
        others.peek().is_some() && others.all(|(id, follower)| confirms(id, follower))
    }

    /// The assigned replicas other than the leader.
    pub fn follower_ids(&self) -> impl Iterator<Item = NodeId> {
        self.followers.keys().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LAG: Duration = Duration::from_secs(10);
    const ME: (NodeId, BrokerEpoch) = (NodeId(1), BrokerEpoch(10));

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn state(isr: &[i32], min: usize) -> PartitionState {
        PartitionState {
            leader: NodeId(1),
            leader_epoch: LeaderEpoch(4),
            partition_epoch: PartitionEpoch(7),
            replicas: vec![NodeId(1), NodeId(2), NodeId(3)],
            isr: isr.iter().copied().map(NodeId).collect(),
            min_insync_replicas: min,
            recovering: false,
        }
    }

    fn brokers() -> BTreeMap<NodeId, BrokerView> {
        [2, 3].map(|id| (NodeId(id), BrokerView { epoch: BrokerEpoch(10 + i64::from(id)), eligible: true })).into()
    }

    fn leader(isr: &[i32], min: usize) -> LeaderState {
        LeaderState::new(ME, &state(isr, min), &brokers(), 0, at(0), LAG)
    }

    #[test]
    fn synced_offsets_of_the_maximal_isr_move_the_high_watermark() {
        let mut leader = leader(&[1, 2], 2);
        let mut hw = HighWatermark::default();
        assert!(!leader.advance(&mut hw, 10, 10, at(1)), "2 has said nothing in this epoch");
        leader.follower_fetched(NodeId(2), 10, 4, 10, at(1));
        assert!(leader.advance(&mut hw, 10, 10, at(1)));
        assert_eq!(hw.offset(), 4, "what 2 wants next is not what it has on disk");
        leader.follower_synced(NodeId(2), 99, 10, at(1));
        assert!(leader.advance(&mut hw, 8, 10, at(1)));
        assert_eq!(hw.offset(), 8, "the leader's own disk is behind, and a claim counts up to the checked offset");
    }

    #[test]
    fn below_min_insync_the_high_watermark_stands_still() {
        let mut alone = leader(&[1], 2);
        let mut hw = HighWatermark::default();
        assert!(alone.is_under_min_isr());
        assert!(!alone.advance(&mut hw, 10, 10, at(1)));
        alone.set_min_insync_replicas(1);
        assert!(alone.advance(&mut hw, 10, 10, at(1)));
    }

    #[test]
    fn a_pending_member_is_waited_for_and_not_counted_as_in_sync() {
        let mut leader = leader(&[1], 2);
        let mut hw = HighWatermark::default();
        leader.follower_fetched(NodeId(3), 0, 0, 0, at(1));
        let proposal = leader.propose_expand(hw, at(1)).expect("3 is caught up");
        assert_eq!(proposal.isr, [ME, (NodeId(3), BrokerEpoch(13))]);
        assert!(leader.is_under_min_isr(), "not before it is committed");
        assert!(!leader.advance(&mut hw, 5, 5, at(2)));
        assert_eq!(leader.propose_expand(hw, at(1)), None, "one proposal at a time");
        leader.update(&PartitionState { partition_epoch: PartitionEpoch(8), ..state(&[1, 3], 2) }, &brokers(), at(2));
        assert!(!leader.advance(&mut hw, 5, 5, at(2)), "a member now, but with nothing synced");
        leader.follower_fetched(NodeId(3), 5, 5, 5, at(3));
        assert!(leader.advance(&mut hw, 5, 5, at(3)));
        assert_eq!(hw.offset(), 5);
    }

    /// Their records may be committed yet: the controller may refuse the proposal.
    #[test]
    fn a_shrink_that_was_only_proposed_failed_the_produces_that_waited() {
        let mut leader = leader(&[1, 2], 2);
        leader.propose_shrink(200, at(20)).expect("2 lags");
        assert!(leader.is_under_min_isr(), "nothing more is taken");
        assert!(!leader.is_committed_under_min_isr());
        leader.update(&PartitionState { partition_epoch: PartitionEpoch(8), ..state(&[1], 2) }, &brokers(), at(21));
        assert!(leader.is_committed_under_min_isr());
    }

    /// It said so only when somebody joined: a sole replica that was elected uncleanly never did.
    #[test]
    fn a_leader_elected_uncleanly_never_said_that_it_had_recovered() {
        let unclean = PartitionState { recovering: true, ..state(&[1], 1) };
        let mut leader = LeaderState::new(ME, &unclean, &brokers(), 0, at(0), LAG);
        let mut hw = HighWatermark::default();
        leader.follower_fetched(NodeId(3), 5, 5, 5, at(1));
        let proposal = leader.propose_expand(hw, at(1)).expect("it leads");
        assert_eq!(proposal.isr, [ME], "nobody joins before that is committed");
        assert!(leader.advance(&mut hw, 5, 5, at(1)), "the set is the same meanwhile");
        assert_eq!((leader.isr().minimal_len(), leader.isr().in_maximal(NodeId(1))), (1, true));
        leader.update(&PartitionState { partition_epoch: PartitionEpoch(8), ..state(&[1], 1) }, &brokers(), at(2));
        assert_eq!(leader.propose_expand(hw, at(2)).expect("3 is caught up").isr.len(), 2);
    }

    /// Its disk hangs, or is full: waiting `replica.lag.time.max` for it would undo that it was taken out.
    #[test]
    fn a_member_that_the_controller_took_out_held_the_high_watermark() {
        let mut leader = leader(&[1, 2, 3], 2);
        let mut hw = HighWatermark::default();
        leader.follower_fetched(NodeId(3), 0, 0, 0, at(1));
        leader.follower_fetched(NodeId(2), 5, 5, 5, at(2));
        assert!(!leader.advance(&mut hw, 5, 5, at(2)), "3 is a member");
        let without = PartitionState { partition_epoch: PartitionEpoch(8), ..state(&[1, 2], 2) };
        leader.update(&without, &brokers(), at(2));
        assert!(leader.advance(&mut hw, 5, 5, at(2)));
    }

    #[test]
    fn a_proposal_tried_again_vouched_for_a_later_life_of_its_member() {
        let mut leader = leader(&[1, 2], 2);
        leader.follower_fetched(NodeId(3), 0, 0, 0, at(1));
        let first = leader.propose_expand(HighWatermark::default(), at(1)).expect("3 is caught up");
        // Its disk was lost, and it has registered again, while the first try was on its way.
        let anew = BrokerView { epoch: BrokerEpoch(99), eligible: true };
        leader.update_brokers(&BTreeMap::from([(NodeId(3), anew)]));
        assert_eq!(leader.proposal(), Some(first), "what has caught up is the earlier life");
    }

    #[test]
    fn a_replica_that_could_join_is_waited_for_unless_it_is_fenced() {
        let mut leader = leader(&[1, 2], 2);
        let mut hw = HighWatermark::default();
        leader.follower_fetched(NodeId(2), 5, 5, 5, at(1));
        leader.follower_fetched(NodeId(3), 0, 0, 0, at(1));
        assert!(!leader.advance(&mut hw, 5, 5, at(1)), "3 was caught up a moment ago");
        let fenced = BrokerView { epoch: BrokerEpoch(13), eligible: false };
        leader.update_brokers(&BTreeMap::from([(NodeId(3), fenced)]));
        assert!(leader.advance(&mut hw, 5, 5, at(1)));
    }

    #[test]
    fn a_fenced_member_counts_until_its_removal_is_committed() {
        let mut leader = leader(&[1, 2, 3], 2);
        let mut hw = HighWatermark::default();
        leader.follower_fetched(NodeId(2), 5, 5, 5, at(1));
        leader.update_brokers(&BTreeMap::from([(NodeId(3), BrokerView { epoch: BrokerEpoch(13), eligible: false })]));
        assert!(!leader.advance(&mut hw, 5, 5, at(1)));
        leader.update(&PartitionState { partition_epoch: PartitionEpoch(8), ..state(&[1, 2], 2) }, &brokers(), at(2));
        assert!(leader.advance(&mut hw, 5, 5, at(20)));
    }

    #[test]
    fn an_older_incarnation_is_not_believed_and_a_newer_one_starts_from_nothing() {
        let mut leader = leader(&[1, 2], 2);
        assert!(!leader.accept_broker_epoch(NodeId(2), BrokerEpoch(11)));
        assert!(leader.accept_broker_epoch(NodeId(2), BrokerEpoch(12)));
        leader.follower_fetched(NodeId(2), 5, 5, 5, at(1));
        assert!(leader.accept_broker_epoch(NodeId(2), BrokerEpoch(40)));
        assert_eq!(leader.follower(NodeId(2)).expect("assigned").fetched, None);
        assert!(!leader.accept_broker_epoch(NodeId(9), BrokerEpoch(1)), "not a replica of this partition");
    }

    #[test]
    fn joining_needs_this_epochs_start_and_the_broker_epoch_of_the_metadata() {
        let mut leader = LeaderState::new(ME, &state(&[1, 2], 2), &brokers(), 8, at(0), LAG);
        leader.follower_fetched(NodeId(3), 6, 6, 8, at(1));
        assert_eq!(
            leader.propose_expand(HighWatermark::within(5, 0, 8), at(1)),
            None,
            "the high watermark may be stale"
        );
        assert!(leader.accept_broker_epoch(NodeId(3), BrokerEpoch(50)));
        leader.follower_fetched(NodeId(3), 8, 8, 8, at(1));
        assert_eq!(
            leader.propose_expand(HighWatermark::within(5, 0, 8), at(1)),
            None,
            "the metadata does not know it yet"
        );
        leader.update_brokers(&BTreeMap::from([(NodeId(3), BrokerView { epoch: BrokerEpoch(50), eligible: true })]));
        assert!(leader.propose_expand(HighWatermark::within(5, 0, 8), at(1)).is_some());
    }

    #[test]
    fn lag_is_time_since_everything_was_synced() {
        let mut leader = leader(&[1, 2, 3], 2);
        for second in 0..=20 {
            // 2 is always one round trip behind, 3 fetches and fetches but its disk does not follow.
            let end = 10 * i64::from(second as i32);
            leader.follower_fetched(NodeId(2), end, end - 10, end, at(second));
            leader.follower_fetched(NodeId(3), end, 0, end, at(second));
        }
        let proposal = leader.propose_shrink(200, at(20)).expect("3 lags");
        assert_eq!(proposal.isr, [ME, (NodeId(2), BrokerEpoch(12))]);
        assert!(leader.isr().in_maximal(NodeId(3)));
        leader.proposal_refused(LeaderEpoch(4), PartitionEpoch(6), at(20));
        assert!(leader.isr().is_pending(), "an answer to an older proposal");
        leader.proposal_refused(LeaderEpoch(4), PartitionEpoch(7), at(20));
        assert!(!leader.isr().is_pending());
    }

    #[test]
    fn standing_needs_the_controller_or_the_whole_isr() {
        let (lease, none) = (Duration::from_secs(3), BTreeMap::new());
        let mut leader = leader(&[1, 2, 3], 2);
        assert!(leader.has_standing(Some(at(7)), &none, at(10), lease));
        assert!(!leader.has_standing(Some(at(6)), &none, at(10), lease));
        leader.follower_fetched(NodeId(2), 0, 0, 0, at(9));
        assert!(!leader.has_standing(None, &none, at(10), lease));
        leader.follower_fetched(NodeId(3), 0, 0, 0, at(9));
        assert!(leader.has_standing(None, &none, at(10), lease));
        assert!(!leader.has_standing(None, &none, at(20), lease));
        let idle = [(NodeId(2), (BrokerEpoch(12), at(19))), (NodeId(3), (BrokerEpoch(13), at(19)))].into();
        assert!(leader.has_standing(None, &idle, at(20), lease), "fetches that do not mention an idle partition count");
        leader.follower_left(NodeId(3));
        assert!(!leader.has_standing(None, &idle, at(20), lease), "it follows another leader");

        let mut alone = super::tests::leader(&[1], 1);
        alone.follower_fetched(NodeId(2), 0, 0, 0, at(9));
        assert!(!alone.has_standing(None, &none, at(10), lease), "alone in its ISR: heartbeats only");
        let only = PartitionState { replicas: vec![NodeId(1)], ..state(&[1], 1) };
        assert!(LeaderState::new(ME, &only, &BTreeMap::new(), 0, at(0), LAG).has_standing(None, &none, at(99), lease));
    }
}
