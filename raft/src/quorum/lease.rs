//! The leader's lease: what keeps it, what its end means, and when a leader falls silent.
//!
//! Who has heard a leader votes for nobody else for the length of the lease, openraft's longest election time-out, and stands for election only after
//! an election time-out on top of that. So a leader whom a majority has answered knows that nobody else is elected before the moment at
//! which the answered message was **sent** plus that length. While that lasts its node is the active controller; afterwards what it knows may be over.
//!
//! # States of a leader
//!
//! | state | heartbeats | its controller | becomes |
//! |---|---|---|---|
//! | holding | at every interval | active | waiting, when the newest message that a majority has answered is older than the lease |
//! | waiting | at every interval, for one more lease | stands by: in office still | holding, by any answer of a majority; else silent |
//! | silent | none, for as long as others need to elect | has resigned | follower of whom they elect; else probing |
//! | probing | at every interval, for one lease | has resigned | holding, by any answer of a majority; else silent |
//!
//! [`Leadership::active`](super::Leadership::active) is true while it holds: only then is anything answered, and nothing but an answer of a majority
//! makes it true again. [`Leadership::in_office`](super::Leadership::in_office) is true while it holds or waits: for so long the controller keeps
//! what it has learned of the brokers. Nothing rests on that but when a broker is taken for dead, and the time of waiting counts for no broker's silence.
//! The loss of the office is said once when it begins and once when it ends.
//!
//! # Why the office outlives the lease
//!
//! One message to a follower is under way at a time. So the newest answered one is twice an answer's time old, plus an interval, when the next answer comes: the lease lapses in
//! every turn where the fastest follower takes longer than 155 ms, and answers may take up to 249 ms. A controller that resigned each time would begin every session anew
//! each time, and never find a broker dead. Twice the slowest answer and an interval are 538 ms, less than the 700 of holding and waiting.
//!
//! # Who is elected
//!
//! Raft draws each voter's election time-out, but looks at the time once in about 50 ms: time-outs of 250 to 350 ms end at two or three moments, and two voters whose looks
//! coincide split their votes again and again (one seed in twelve did, one of them five times, which took 2 s). So the first of the voters that are left
//! stands 60 ms before those time-outs begin to end ([`leader_is_silent`](super::MetadataQuorum::leader_is_silent)); they are what remains if it is not elected.
//!
//! # Why it comes back, or somebody else is elected
//!
//! Heartbeats go out for as long as the leader holds, waits or probes, so within one silence and one probe of the moment at which a majority can answer
//! in time, either it has answered or its members, who heard nothing for a lease and an election time-out, had the rest of the silence for an election.
//! The silence is what makes room for that where a leader can send but not hear: its heartbeats would keep the others from electing for ever.
//! (A batch in flight is sent on, once in five election time-outs, longer than a silence needs: `a_leader_that_can_send_but_not_hear…`.)
//! It begins one lease late because a stalled machine loses its lease, too, and an election would be no help to it.
//!
//! # Why heartbeats of our own
//!
//! openraft has one number for the time between two heartbeats and for the time within which one must be answered. At 40 ms a majority that took longer, on
//! a busy machine or a slow link, never counted: there was no lease, and since the heartbeats arrived, no election either. (An entry has a
//! limit of its own, so a proposal brought the lease back for a moment; but without a lease nobody may propose.) So openraft is told
//! the time to answer, just below the shortest election time-out, and the heartbeats are asked for here.
//!
//! # Never two at once
//!
//! A voter keeps in memory whom it has heard, and when. One that starts anew therefore gives no vote and asks for none before a lease is over, unless it has never voted
//! or the leader itself hands over. Otherwise it could elect another leader while the one it had answered counts on it.
//!
//! All of this takes one length of the lease for granted: where voters differ in `quorum.election.timeout.max.ms`, for the time of a rolling restart or by mistake, the
//! one with the shorter lease may vote for another while a leader with the longer one still answers from memory, by up to the difference; what is written needs a majority in the
//! leader's own term and is safe all the same.

use super::config::QuorumConfig;
use super::formation_task::Raft;
use super::types::TypeConfig;
use openraft::async_runtime::{Instant as _, WatchReceiver as _};
use openraft::{AsyncRuntime, RaftMetrics, ServerState};
use std::time::Duration;

/// The times of a lease.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Lease {
    /// How long an answered message counts.
    pub(crate) length: Duration,
    interval: Duration,
    silence: Duration,
}

/// How long a leader holds its lease, if it gets no further answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Held<I> {
    /// It does not lead, or nobody has answered it yet.
    Not,
    /// For as long after this message, the newest one that a majority has answered; perhaps over already.
    Since(I),
    /// It is the only voter.
    Always,
}

impl Lease {
    pub(crate) fn new(config: &QuorumConfig) -> Self {
        let (length, short) = (config.election_max, config.timeouts().short);
        // Their lease, their election time-out, a pre-vote and a vote.
        Self { length, interval: config.heartbeat, silence: length + config.election_max + short * 2 }
    }

    /// What these metrics say about the lease.
    pub(crate) fn held<Rt: AsyncRuntime>(&self, metrics: &RaftMetrics<TypeConfig<Rt>>) -> Held<Rt::Instant> {
        if metrics.state != ServerState::Leader {
            return Held::Not;
        }
        let mut voters = metrics.membership_config.voter_ids();
        if voters.next() == Some(metrics.id) && voters.next().is_none() {
            return Held::Always;
        }
        metrics.last_quorum_acked.map_or(Held::Not, |sent| Held::Since(sent.into_inner()))
    }

    /// Sends the leader's heartbeats while this node leads; ends with Raft.
    pub(crate) async fn keep<Rt: AsyncRuntime>(self, raft: Raft<Rt>) -> Result<(), String> {
        let metrics = raft.metrics();
        let mut leads: Option<(u64, Rt::Instant)> = None;
        loop {
            Rt::sleep(self.interval).await;
            let now = Rt::Instant::now();
            let answered = {
                let metrics = metrics.borrow_watched();
                if metrics.state != ServerState::Leader {
                    leads = None;
                    continue;
                }
                let (_, since) = leads.filter(|(term, _)| *term == metrics.current_term).unwrap_or((0, now));
                leads = Some((metrics.current_term, since));
                metrics.last_quorum_acked.map_or(since, |sent| sent.into_inner())
            };
            // A Raft that has ended says why itself.
            if self.speaks(now - answered) && raft.trigger().heartbeat().await.is_err() {
                return Ok(());
            }
        }
    }

    /// How old the newest answered message of a leader gets before it falls silent and its controller resigns.
    pub(crate) fn patience(&self) -> Duration {
        self.length * 2
    }

    /// Whether a leader whose newest answered message is that old sends heartbeats.
    fn speaks(&self, age: Duration) -> bool {
        let Some(over) = age.checked_sub(self.patience()) else { return true };
        let turn = self.silence + self.length;
        over.as_nanos() % turn.as_nanos() >= self.silence.as_nanos()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_leader_that_nobody_answers_falls_silent_and_probes_by_turns() {
        let ms = Duration::from_millis;
        let lease = Lease { length: ms(350), interval: ms(40), silence: ms(1200) };
        let spoken: Vec<u64> = (0..6000).step_by(10).filter(|age| lease.speaks(ms(*age))).collect();
        let turns: Vec<(u64, u64)> = spoken.chunk_by(|a, b| a + 10 == *b).map(|t| (t[0], t[t.len() - 1])).collect();
        assert_eq!(turns, [(0, 690), (1900, 2240), (3450, 3790), (5000, 5340)]);
    }
}
