//! A history put in order for the checkers: what was sent, what came of it, what was read.

use crate::history::{Batch, FaultPhase, History, Offset, Op, Outcome, Phase, Time, Value};
use std::collections::{BTreeMap, HashMap, HashSet};

/// An acknowledged value.
#[derive(Debug, Clone, Copy)]
pub struct Ack {
    /// When the client said so.
    pub t: Time,
    /// When it was given to the client.
    pub sent: Time,
    /// What.
    pub v: Value,
    /// Where.
    pub p: i32,
    /// At which offset; -1 if the client was not told.
    pub o: Offset,
}

/// A whole partition as it was read after healing.
#[derive(Debug, Clone)]
pub struct Read<'a> {
    /// When it had been read.
    pub t: Time,
    /// How often everything had been read before.
    pub pass: u32,
    /// Which.
    pub p: i32,
    /// Who led it.
    pub leader: i32,
    /// Every record.
    pub rows: Vec<(Offset, Value)>,
    /// What they came in.
    pub batches: &'a [Batch],
}

impl Read<'_> {
    /// The producer id and epoch that wrote an offset.
    pub fn producer_of(&self, offset: Offset) -> Option<(i64, i16)> {
        let next = self.batches.partition_point(|b| b.0 <= offset);
        self.batches.get(next.checked_sub(1)?).map(|b| (b.3, b.4))
    }
}

/// Records that a client was given, in its order.
#[derive(Debug, Clone)]
pub struct Poll<'a> {
    /// When.
    pub t: Time,
    /// Who.
    pub by: &'a str,
    /// Of which partition.
    pub p: i32,
    /// Offset and value.
    pub rows: &'a [(Offset, Value)],
}

/// Something that a group has committed, or is said to have.
#[derive(Debug, Clone)]
pub struct Register<'a> {
    /// When the operation began.
    pub since: Time,
    /// When it ended; for ever away if its outcome is unknown.
    pub until: Time,
    /// Whose.
    pub group: &'a str,
    /// Of which partition.
    pub p: i32,
    /// What.
    pub o: Offset,
}

/// A fault that was injected.
#[derive(Debug, Clone, Default)]
pub struct Injected {
    /// Its number in the run.
    pub id: u32,
    /// Which.
    pub name: String,
    /// On whom, and the like.
    pub detail: String,
    /// When it began.
    pub inject: Time,
    /// How it was seen to work.
    pub effect: Option<String>,
    /// When it was taken away.
    pub heal: Option<Time>,
    /// When the cluster said that all was well.
    pub normal: Option<Time>,
}

/// Something that had to become true.
#[derive(Debug, Clone)]
pub struct Awaited<'a> {
    /// When the wait ended.
    pub t: Time,
    /// What.
    pub what: &'a str,
    /// Whether it came true.
    pub reached: bool,
    /// What was seen last.
    pub detail: &'a str,
}

/// All of it.
#[derive(Debug, Default)]
pub struct Facts<'a> {
    /// Every value that was ever given to a client: when, where to, by whom.
    pub sent: HashMap<Value, (Time, i32, &'a str)>,
    /// Acknowledged ones, by time.
    pub acks: Vec<Ack>,
    /// Values that were certainly never sent.
    pub failed: HashSet<Value>,
    /// Values whose outcome a client could not tell.
    pub unknown: HashMap<Value, Time>,
    /// What readers without group were given.
    pub polls: Vec<Poll<'a>>,
    /// What members of groups were given, and which group.
    pub delivered: Vec<(&'a str, Poll<'a>)>,
    /// Commits: acknowledged and unknown.
    pub commits: Vec<Register<'a>>,
    /// What groups were said to have committed.
    pub committed: Vec<Register<'a>>,
    /// Topics that were asked for.
    pub created: Vec<(Time, &'a str, Outcome)>,
    /// Topics that were there in the end.
    pub topics: Option<(Time, HashSet<&'a str>)>,
    /// Partitions as read after healing.
    pub reads: Vec<Read<'a>>,
    /// What had to become true.
    pub awaited: Vec<Awaited<'a>>,
    /// Errors that clients told of.
    pub troubles: Vec<(Time, &'a str, &'a str)>,
    /// Faults in their order.
    pub faults: Vec<Injected>,
    /// Faults that this machine does not have.
    pub not_here: Vec<(&'a str, &'a str)>,
    /// When each part of the run began.
    pub phases: Vec<(Time, Phase)>,
}

/// Later than everything.
pub const NEVER: Time = Time::MAX;

impl<'a> Facts<'a> {
    /// Put a history in order.
    pub fn of(history: &'a History) -> Facts<'a> {
        let mut facts = Facts::default();
        let mut faults: BTreeMap<u32, Injected> = BTreeMap::new();
        let mut acks = Vec::new();
        for (by, line) in history.lines() {
            let t = line.t;
            match &line.op {
                Op::Send { p, v } => {
                    facts.sent.insert(*v, (t, *p, by));
                }
                Op::Ack { v, p, o } => acks.push((t, *v, *p, *o)),
                Op::Fail { v, .. } => {
                    facts.failed.insert(*v);
                }
                Op::Unknown { v, .. } => {
                    facts.unknown.insert(*v, t);
                }
                Op::Poll { p, rows } => facts.polls.push(Poll { t, by, p: *p, rows }),
                Op::Deliver { group, p, rows } => facts.delivered.push((group, Poll { t, by, p: *p, rows })),
                Op::Commit { group, since, offsets, outcome } => {
                    let until = if *outcome == Outcome::Ok { t } else { NEVER };
                    let register = |&(p, o)| Register { since: *since, until, group, p, o };
                    facts.commits.extend(offsets.iter().map(register));
                }
                Op::Committed { group, since, p, o } => {
                    facts.committed.push(Register { since: *since, until: t, group, p: *p, o: *o });
                }
                Op::CreateTopic { name, outcome, .. } => facts.created.push((t, name, *outcome)),
                Op::Topics { names } => facts.topics = Some((t, names.iter().map(String::as_str).collect())),
                Op::Read { pass, p, leader, rows, batches, .. } => {
                    facts.reads.push(Read { t, pass: *pass, p: *p, leader: *leader, rows: rows.clone(), batches });
                }
                Op::Trouble { error } | Op::Notice { error } => facts.troubles.push((t, by, error)),
                Op::Phase { name } => facts.phases.push((t, *name)),
                Op::Awaited { what, reached, detail, .. } => {
                    facts.awaited.push(Awaited { t, what, reached: *reached, detail });
                }
                Op::Fault { name, phase: FaultPhase::NotHere, detail, .. } => facts.not_here.push((name, detail)),
                Op::Fault { id, name, phase, detail } => {
                    let fault = faults.entry(*id).or_default();
                    match phase {
                        FaultPhase::Inject => {
                            (fault.id, fault.name, fault.detail, fault.inject) = (*id, name.clone(), detail.clone(), t);
                        }
                        FaultPhase::Effect => fault.effect = Some(detail.clone()),
                        FaultPhase::Heal => fault.heal = Some(t),
                        FaultPhase::Normal => fault.normal = Some(t),
                        FaultPhase::NotHere => {}
                    }
                }
            }
        }
        facts.faults = faults.into_values().collect();
        // An acknowledgement of something that was never sent keeps its own time; a checker will tell of it.
        let sent = |v: Value, t: Time| facts.sent.get(&v).map_or(t, |s| s.0);
        facts.acks = acks.into_iter().map(|(t, v, p, o)| Ack { t, sent: sent(v, t), v, p, o }).collect();
        facts.acks.sort_by_key(|a| a.t);
        facts
    }

    /// Everything that anybody says about which value an offset holds: when, who, partition, offset, value.
    pub fn placed(&self) -> impl Iterator<Item = (Time, String, i32, Offset, Value)> + '_ {
        let acks = self.acks.iter().filter(|a| a.o >= 0).map(|a| (a.t, "an ack".to_owned(), a.p, a.o, a.v));
        let row = |t: Time, who: String, p: i32| move |&(o, v): &(Offset, Value)| (t, who.clone(), p, o, v);
        let polls = self.polls.iter().chain(self.delivered.iter().map(|(_, poll)| poll));
        let polls = polls.flat_map(move |poll| poll.rows.iter().map(row(poll.t, poll.by.to_owned(), poll.p)));
        let reads = self.reads.iter();
        let reads = reads
            .flat_map(move |r| r.rows.iter().map(row(r.t, format!("read {} of leader {}", r.pass, r.leader), r.p)));
        acks.chain(polls).chain(reads)
    }

    /// Offsets that are known to hold a record, by partition.
    pub fn held(&self) -> HashMap<i32, HashSet<Offset>> {
        let mut held: HashMap<i32, HashSet<Offset>> = HashMap::new();
        for (_, _, p, o, _) in self.placed() {
            held.entry(p).or_default().insert(o);
        }
        held
    }

    /// When a part of the run began.
    pub fn phase(&self, wanted: Phase) -> Option<Time> {
        self.phases.iter().find(|(_, p)| *p == wanted).map(|(t, _)| *t)
    }
}
