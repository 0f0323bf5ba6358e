//! What came of a run: a table with a row per fault, a verdict, an exit code. Everything from the history.

use crate::checkers::{self, Anomaly};
use crate::facts::{Facts, Injected};
use crate::faults::{LATER, catalogue};
use crate::history::{History, Phase, Time};
use crate::picture;
use crate::run::seconds;
use anyhow::Result;
use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;
use std::process::ExitCode;

/// Of each kind of anomaly, so many are shown.
const SHOWN: usize = 5;

/// How a run ended.
#[derive(Debug, PartialEq, Eq)]
pub enum Verdict {
    /// No anomaly, and every fault was seen.
    Passed,
    /// An anomaly.
    Failed,
    /// No anomaly, but the run shows nothing: why.
    Invalid(Vec<String>),
}

/// Print a line at once. Whoever reads may have gone away: the test goes on.
pub fn say(line: &str) {
    let _ = writeln!(std::io::stdout(), "{line}");
}

/// Look at a run that is kept in a directory.
pub fn again(run: &Path) -> Result<ExitCode> {
    let history = History::load(run)?;
    let facts = Facts::of(&history);
    let anomalies = checkers::all(&facts);
    let verdict = judge(&facts, &anomalies);
    table(&facts, &anomalies);
    troubles(&facts);
    details(&anomalies);
    let at = run.join("run.svg");
    std::fs::write(&at, picture::draw(&history.header, &facts))?;
    say(&format!("picture: {}", at.display()));
    let seed = history.header.seed;
    let (line, code) = match &verdict {
        Verdict::Passed => (
            format!(
                "PASSED: no anomaly in {} operations, {} faults (seed {seed})",
                facts.sent.len(),
                facts.faults.len()
            ),
            0,
        ),
        Verdict::Failed => {
            (format!("FAILED: {} anomalies (seed {seed}); history and logs: {}", anomalies.len(), run.display()), 1)
        }
        Verdict::Invalid(why) => (format!("INVALID: {} (seed {seed}, {})", why.join("; "), run.display()), 3),
    };
    say(&line);
    Ok(ExitCode::from(code))
}

/// What can be broken, and what not yet.
pub fn list() {
    for kind in catalogue() {
        say(&format!("{:<20} {:<10} {}", kind.name, kind.group, kind.about));
    }
    say(&format!("{:<20} {:<10} two of different groups at once", "mix", ""));
    for (name, why) in LATER {
        say(&format!("{name:<20} {:<10} {why}", "not yet"));
    }
    for (name, why) in checkers::LATER {
        say(&format!("{name:<31} not looked for yet: needs {why}"));
    }
}

/// Whether the run shows what it should.
pub fn judge(facts: &Facts<'_>, anomalies: &[Anomaly]) -> Verdict {
    if !anomalies.is_empty() {
        return Verdict::Failed;
    }
    let mut why = Vec::new();
    if facts.phase(Phase::End).is_none() {
        why.push("the run did not come to its end".to_owned());
    }
    if facts.reads.is_empty() {
        why.push("nothing was read back".to_owned());
    }
    if facts.faults.is_empty() {
        why.push("nothing was broken".to_owned());
    }
    for (n, fault) in facts.faults.iter().enumerate() {
        let name = format!("{} ({})", fault.name, fault.id);
        if fault.effect.is_none() {
            why.push(format!("{name} had no effect that was seen"));
        }
        let before = n.checked_sub(1).and_then(|m| facts.faults[m].normal).unwrap_or(0);
        if !acked_between(facts, before, fault.inject) {
            why.push(format!("nothing was acknowledged before {name}"));
        }
        let after = fault.normal.or(fault.heal).unwrap_or(Time::MAX);
        let next = facts.faults.get(n + 1).map_or(Time::MAX, |f| f.inject);
        if !acked_between(facts, after, next) {
            why.push(format!("nothing was acknowledged after {name}"));
        }
    }
    if why.is_empty() { Verdict::Passed } else { Verdict::Invalid(why) }
}

fn acked_between(facts: &Facts<'_>, from: Time, to: Time) -> bool {
    let first = facts.acks.partition_point(|a| a.t < from);
    facts.acks.get(first).is_some_and(|a| a.t < to)
}

/// From a fault's beginning to the next one's: what happens then is put down to it.
fn window<'f>(facts: &'f Facts<'_>, n: usize) -> (&'f Injected, Time, Time) {
    let fault = &facts.faults[n];
    (fault, fault.inject, facts.faults.get(n + 1).map_or(Time::MAX, |f| f.inject))
}

/// The longest time between two acks of one partition that meets this stretch. Only what clients sent counts.
pub fn longest_gap(facts: &Facts<'_>, from: Time, to: Time) -> Option<Time> {
    let mut last: BTreeMap<i32, Time> = BTreeMap::new();
    let mut longest = None;
    for ack in facts.acks.iter().filter(|a| facts.sent.get(&a.v).is_some_and(|(_, _, by)| by.ends_with("producer"))) {
        if let Some(before) = last.insert(ack.p, ack.t)
            && ack.t >= from
            && before <= to
        {
            longest = longest.max(Some(ack.t - before));
        }
    }
    longest
}

/// When, after healing, every partition had acknowledged something sent since: the clients are well again.
fn clients_well(facts: &Facts<'_>, healed: Time) -> Option<Time> {
    let mut first: BTreeMap<i32, Time> = BTreeMap::new();
    for ack in facts.acks.iter().filter(|a| a.sent >= healed) {
        first.entry(ack.p).or_insert(ack.t);
    }
    first.into_values().max()
}

#[derive(Default)]
struct Row {
    times: usize,
    operations: usize,
    unknown: usize,
    anomalies: usize,
    gap: Option<Time>,
    normal: Option<Time>,
    never_normal: bool,
    unseen: usize,
    effect: String,
}

fn table(facts: &Facts<'_>, anomalies: &[Anomaly]) {
    let mut rows: BTreeMap<&str, Row> = BTreeMap::new();
    for n in 0..facts.faults.len() {
        let (fault, from, to) = window(facts, n);
        let row = rows.entry(&fault.name).or_default();
        row.times += 1;
        row.operations += facts.sent.values().filter(|(t, ..)| (from..to).contains(t)).count();
        let sent_then = |v: &i64| facts.sent.get(v).is_some_and(|(t, ..)| (from..to).contains(t));
        row.unknown += facts.unknown.keys().filter(|v| sent_then(v)).count();
        row.anomalies += anomalies.iter().filter(|a| (from..to).contains(&a.t)).count();
        let end = fault.normal.unwrap_or(to);
        row.gap = row.gap.max(longest_gap(facts, from, end));
        match (fault.heal, fault.normal) {
            (Some(heal), Some(normal)) => {
                let clients = clients_well(facts, heal).unwrap_or(normal);
                row.normal = row.normal.max(Some(normal.max(clients) - heal));
            }
            _ => row.never_normal = true,
        }
        match &fault.effect {
            Some(effect) => row.effect.clone_from(effect),
            None => row.unseen += 1,
        }
    }
    let title = ["fault", "times", "operations", "unknown", "anomalies", "no ack for", "heal → normal"];
    say(&format!(
        "\n{:<36} {:>5} {:>10} {:>7} {:>9} {:>11} {:>13}  {}",
        title[0], title[1], title[2], title[3], title[4], title[5], title[6], "seen by (last)"
    ));
    for (name, row) in rows {
        let time = |t: Option<Time>| t.map_or("-".to_owned(), |t| format!("{:.2} s", seconds(t)));
        let normal = if row.never_normal { "never".to_owned() } else { time(row.normal) };
        let effect = if row.unseen > 0 { format!("NOT SEEN {} times", row.unseen) } else { row.effect };
        say(&format!(
            "{name:<36} {:>5} {:>10} {:>7} {:>9} {:>11} {normal:>13}  {effect}",
            row.times,
            row.operations,
            row.unknown,
            row.anomalies,
            time(row.gap)
        ));
    }
    for (name, why) in &facts.not_here {
        say(&format!("{name:<36}     not injected: {why}"));
    }
}

/// Errors that clients told their users of, counted by their first word.
fn troubles(facts: &Facts<'_>) {
    let mut counts: BTreeMap<(&str, &str), usize> = BTreeMap::new();
    for (_, by, error) in &facts.troubles {
        let kind = error.split(": ").next().unwrap_or(error);
        *counts.entry((by, kind)).or_default() += 1;
    }
    if !counts.is_empty() {
        say("\nerrors that clients went on after:");
    }
    for ((by, kind), count) in counts {
        say(&format!("  {by}: {count} × {kind}"));
    }
}

fn details(anomalies: &[Anomaly]) {
    say("");
    for (name, _) in checkers::ALL {
        let of: Vec<&Anomaly> = anomalies.iter().filter(|a| a.name == *name).collect();
        for anomaly in of.iter().take(SHOWN) {
            say(&format!("{name} at {}: {}", anomaly.t, anomaly.what));
        }
        if of.len() > SHOWN {
            say(&format!("{name}: {} more", of.len() - SHOWN));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::{FaultPhase, Line, Op};

    /// A run with one fault: acks at these times, the fault from 100 to 200, well again at 300.
    fn run(acks: &[Time], effect: bool) -> History {
        let mut lines = Vec::new();
        for (v, t) in (0..).zip(acks) {
            lines.push(Line { t: t - 1, op: Op::Send { p: 0, v } });
            lines.push(Line { t: *t, op: Op::Ack { v, p: 0, o: v } });
        }
        let rows = (0..).zip(acks).map(|(v, _)| (v, v)).collect();
        let fault = |t, phase| Line {
            t,
            op: Op::Fault { id: 1, name: "kill-leader".to_owned(), phase, detail: "node 1".to_owned() },
        };
        let mut own =
            vec![fault(100, FaultPhase::Inject), fault(200, FaultPhase::Heal), fault(300, FaultPhase::Normal)];
        if effect {
            own.insert(1, fault(150, FaultPhase::Effect));
        }
        own.push(Line { t: 900, op: Op::Read { pass: 0, p: 0, leader: 1, epoch: 1, rows, batches: vec![] } });
        own.push(Line { t: 1000, op: Op::Phase { name: Phase::End } });
        History { by: vec![("producer".to_owned(), lines), ("faults".to_owned(), own)], ..Default::default() }
    }

    fn verdict(history: &History) -> Verdict {
        let facts = Facts::of(history);
        judge(&facts, &checkers::all(&facts))
    }

    fn invalid(history: &History, why: &str) -> bool {
        matches!(verdict(history), Verdict::Invalid(found) if found.iter().any(|f| f.contains(why)))
    }

    #[test]
    fn a_run_with_acks_before_and_after_a_fault_that_was_seen_passes() {
        assert_eq!(verdict(&run(&[50, 150, 350], true)), Verdict::Passed);
    }

    #[test]
    fn a_fault_without_effect_is_invalid_not_passed() {
        assert!(invalid(&run(&[50, 150, 350], false), "no effect"));
    }

    #[test]
    fn a_run_without_acks_before_or_after_is_invalid() {
        assert!(invalid(&run(&[150, 350], true), "before"));
        assert!(invalid(&run(&[50, 250], true), "after"));
    }

    #[test]
    fn a_run_that_broke_off_is_invalid() {
        let mut history = run(&[50, 350], true);
        history.by[1].1.pop();
        assert!(invalid(&history, "its end"));
    }

    #[test]
    fn an_anomaly_fails_a_run_that_would_be_invalid_too() {
        let mut history = run(&[50, 350], false);
        history.by[0].1.push(Line { t: 360, op: Op::Send { p: 0, v: 9 } });
        history.by[0].1.push(Line { t: 361, op: Op::Ack { v: 9, p: 0, o: 9 } });
        assert_eq!(verdict(&history), Verdict::Failed);
    }

    #[test]
    fn the_longest_gap_is_that_of_one_partition_around_the_fault() {
        let history = run(&[50, 60, 190, 350, 990], true);
        let facts = Facts::of(&history);
        assert_eq!(longest_gap(&facts, 100, 300), Some(160));
    }

    #[test]
    fn the_picture_shows_each_fault() {
        let history = run(&[50, 150, 350], true);
        let svg = picture::draw(&history.header, &Facts::of(&history));
        assert!(svg.ends_with("</svg>\n") && svg.contains("kill-leader: node 1"));
    }
}
