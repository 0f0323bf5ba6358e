//! What a voter gathers against the controller that it follows, so that its successor need not begin anew.
//!
//! A controller that hangs or is cut off is silent to the voters first. They wait a lease and an election time-out for it; and the new controller, which never
//! had a heartbeat of it, would then wait once more, for three pings. So every voter asks for itself as soon as the leader's messages stay away, and the one
//! that comes to lead has the open case already ([`FailureWatcher::take_over`](super::failure_watcher::FailureWatcher::take_over)).
//!
//! | state | becomes |
//! |---|---|
//! | trusted | asked, when two intervals between heartbeats have brought nothing of the leader: a ping every 100 ms |
//! | asked | trusted, by a message of the leader, an answered ping, another leader, another life of its broker; or when this voter itself stood still |
//! | either | the same, while this voter is elected: what it has asked it asks on, but it suspects nobody anew |
//!
//! Nothing is decided here, and nothing becomes easier to prove. What convicts a broker is what convicted it before: 400 ms in which it answers no ping, at the
//! end of three intervals without a word of it. Only that both may have begun before the election; and an election says
//! besides that a majority of the voters has waited for it in vain. A voter that was not running has heard nobody, so its own lag drops the case.

use super::failure_watcher::{Case, Evidence, FailureWatcherConfig, Verdict};
use crate::ids::{BrokerEpoch, NodeId};
use std::time::Duration;

/// The leader, as a voter that follows it knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Followed {
    /// Its node.
    pub id: NodeId,
    /// The life in which its broker is registered.
    pub epoch: BrokerEpoch,
    /// When its last message came.
    pub heard: Duration,
}

/// A leader that answers nothing.
#[derive(Debug)]
pub struct Suspicion {
    pub(super) of: Followed,
    pub(super) case: Case,
    next_ping: Duration,
}

/// Watches the leader for one voter that follows it.
#[derive(Debug)]
pub struct LeaderWatch {
    config: FailureWatcherConfig,
    last_tick: Duration,
    /// What is older than this is no silence: this voter did not run, or led itself, or the leader has answered a ping.
    not_before: Duration,
    suspicion: Option<Suspicion>,
}

impl LeaderWatch {
    /// Suspects nobody.
    pub fn new(config: FailureWatcherConfig, now: Duration) -> Self {
        Self { config, last_tick: now, not_before: now, suspicion: None }
    }

    /// Time has passed; call about every 20 ms while this voter is not the active controller. `leader` is who led last, as far as this voter has heard, and none once
    /// it leads itself.
    pub fn tick(&mut self, leader: Option<Followed>, now: Duration) -> Option<Verdict> {
        let own_lag = now.saturating_sub(self.last_tick);
        self.last_tick = now;
        if own_lag > self.config.heartbeat_interval * 3 {
            self.not_before = now;
            self.suspicion = None;
        }
        match leader {
            Some(followed) => self.follow(Followed { heard: followed.heard.max(self.not_before), ..followed }, now),
            None => self.not_before = now,
        }
        let Suspicion { of, case, next_ping } = self.suspicion.as_mut()?;
        if now < *next_ping {
            return None;
        }
        // An answer to the newest one may still be under way; so there is always one that is newer than what is known.
        *next_ping = now + self.config.heartbeat_interval;
        case.pings_sent += 1;
        Some(Verdict::Ping { id: of.id, epoch: of.epoch })
    }

    fn follow(&mut self, of: Followed, now: Duration) {
        // A case opens after two intervals of silence, so a message that ends it is later than the last one by more than one.
        let spoke = |before: Followed| of.heard.saturating_sub(before.heard) > self.config.heartbeat_interval;
        let another = |before: Followed| (before.id, before.epoch) != (of.id, of.epoch);
        if self.suspicion.as_ref().is_some_and(|suspicion| another(suspicion.of) || spoke(suspicion.of)) {
            self.suspicion = None;
        }
        if self.suspicion.is_none() && now.saturating_sub(of.heard) > self.config.heartbeat_interval * 2 {
            self.suspicion = Some(Suspicion { of, case: Case::open(now), next_ping: now });
        }
    }

    /// How a ping went.
    pub fn on_evidence(&mut self, evidence: Evidence, now: Duration) {
        let Some(suspicion) = &mut self.suspicion else { return };
        match evidence {
            Evidence::PingRefused { id, epoch } if (id, epoch) == (suspicion.of.id, suspicion.of.epoch) => {
                suspicion.case.refused = true;
            }
            // In whatever life: that one is not silent.
            Evidence::PingAnswered { id, .. } if id == suspicion.of.id => {
                self.not_before = now;
                self.suspicion = None;
            }
            _ => {}
        }
    }

    /// What speaks against the leader before it on the day this voter becomes the active controller.
    pub fn take(&mut self) -> Option<Suspicion> {
        self.suspicion.take()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::IncarnationId;
    use uuid::Uuid;

    const LEADER: NodeId = NodeId(2);
    const EPOCH: BrokerEpoch = BrokerEpoch(2);

    fn ms(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    fn followed(heard: u64) -> Option<Followed> {
        Some(Followed { id: LEADER, epoch: EPOCH, heard: ms(heard) })
    }

    /// Ticks during which the leader says nothing; when pings went out.
    fn silence(watch: &mut LeaderWatch, from: u64, to: u64, heard: u64) -> Vec<u64> {
        (from..to).step_by(20).filter(|at| watch.tick(followed(heard), ms(*at)).is_some()).collect()
    }

    #[test]
    fn a_leader_that_stays_away_is_asked_for_as_long_as_that_lasts() {
        let mut watch = LeaderWatch::new(FailureWatcherConfig::default(), ms(0));
        for at in (0..1000).step_by(20) {
            assert_eq!(watch.tick(followed(at), ms(at)), None);
        }
        assert_eq!(silence(&mut watch, 1000, 1500, 980), [1200, 1300, 1400]);
        // Elected, and not active yet.
        let elected: Vec<u64> = (1500..1700).step_by(20).filter(|at| watch.tick(None, ms(*at)).is_some()).collect();
        assert_eq!(elected, [1500, 1600]);
        let taken = watch.take().expect("it was silent all the time");
        assert_eq!((Some(taken.of), taken.case.opened, taken.case.pings_sent), (followed(980), ms(1200), 5));
        assert_eq!(silence(&mut watch, 1700, 1820, 980), [], "while this voter led it had nothing to say");
    }

    #[test]
    fn the_same_message_told_with_a_clock_a_little_off_acquitted_the_leader_at_every_tick() {
        let mut watch = LeaderWatch::new(FailureWatcherConfig::default(), ms(0));
        let off = |at: u64| Duration::from_micros(at * 7 % 13);
        let pinged = (0..600).step_by(20).filter(|at| {
            let leader = Followed { id: LEADER, epoch: EPOCH, heard: off(*at) };
            watch.tick(Some(leader), ms(*at)).is_some()
        });
        assert_eq!(pinged.collect::<Vec<u64>>(), [220, 320, 420, 520]);
        assert_eq!(watch.take().map(|s| s.case.opened), Some(ms(220)));
    }

    #[test]
    fn any_sign_of_life_acquits_it() {
        let incarnation = IncarnationId(Uuid::from_u128(7));
        let mut watch = LeaderWatch::new(FailureWatcherConfig::default(), ms(0));
        silence(&mut watch, 0, 500, 0);
        watch.on_evidence(Evidence::PingAnswered { id: LEADER, incarnation }, ms(500));
        assert!(watch.take().is_none(), "it answered");
        assert_eq!(silence(&mut watch, 500, 900, 0), [720, 820], "which counts as a word of it");
        assert_eq!(watch.tick(followed(900), ms(900)), None);
        assert!(watch.take().is_none(), "it spoke");
        silence(&mut watch, 900, 1400, 900);
        assert_eq!(
            watch.tick(Some(Followed { epoch: BrokerEpoch(9), ..followed(900).expect("some") }), ms(1400)),
            Some(Verdict::Ping { id: LEADER, epoch: BrokerEpoch(9) }),
            "another life of it is another case"
        );
        assert_eq!(watch.take().map(|s| s.case.opened), Some(ms(1400)));
    }

    #[test]
    fn a_voter_that_stood_still_took_its_own_silence_for_the_leaders() {
        let mut watch = LeaderWatch::new(FailureWatcherConfig::default(), ms(0));
        silence(&mut watch, 0, 300, 0);
        assert_eq!(silence(&mut watch, 5000, 5200, 0), []);
        assert!(watch.take().is_none());
    }
}
