//! What was measured: kept as JSON lines in `figures.jsonl` of the run's directory, shown as a table in the format of
//! `docs/reliability.md`. The table is made of the lines alone, so that it can be made again, also of several runs.

use crate::report::say;
use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// A value that is not above this, or the goal is missed.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Goal {
    /// Half of all values.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub p50: Option<f64>,
    /// 99 of a hundred.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub p99: Option<f64>,
    /// The 99th of a hundred, as a multiple of that of another case.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub p99_against: Option<(f64, String)>,
    /// All of them together: of counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sum: Option<f64>,
}

impl Goal {
    /// Of a distribution.
    pub fn of(p50: impl Into<Option<f64>>, p99: impl Into<Option<f64>>) -> Option<Goal> {
        Some(Goal { p50: p50.into(), p99: p99.into(), ..Goal::default() })
    }

    /// There must be none.
    pub fn none() -> Option<Goal> {
        Some(Goal { sum: Some(0.0), ..Goal::default() })
    }

    /// No worse than so many times another case's.
    pub fn against(times: f64, case: &str) -> Option<Goal> {
        Some(Goal { p99_against: Some((times, case.to_owned())), ..Goal::default() })
    }
}

/// How values are put together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Unit {
    /// Seconds: a distribution.
    Seconds,
    /// Milliseconds: a distribution.
    Milliseconds,
    /// How many: a sum.
    Count,
}

/// A line: one figure of one repetition.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Figure {
    /// What was done, such as `kill leader`.
    pub case: String,
    /// To which broker.
    pub broker: String,
    /// What was measured, such as `producer`.
    pub figure: String,
    /// In what.
    pub unit: Unit,
    /// Which repetition, from 1.
    pub n: usize,
    /// What it should be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub goal: Option<Goal>,
    /// What came out.
    pub values: Vec<f64>,
}

/// The file of a run.
pub struct Figures {
    file: File,
    path: PathBuf,
}

impl Figures {
    /// Begin or go on.
    pub fn open(run: &Path) -> Result<Figures> {
        let path = file_of(run);
        let file = OpenOptions::new().create(true).append(true).open(&path);
        Ok(Figures { file: file.with_context(|| format!("cannot write {}", path.display()))?, path })
    }

    /// Keep a line.
    pub fn add(&mut self, figure: &Figure) -> Result<()> {
        let mut line = serde_json::to_vec(figure)?;
        line.push(b'\n');
        self.file.write_all(&line)?;
        Ok(())
    }

    /// Show what there is so far; whether every goal is met.
    pub fn show(&self) -> Result<bool> {
        Ok(show(&load(&self.path)?))
    }
}

fn file_of(run: &Path) -> PathBuf {
    run.join("figures.jsonl")
}

fn load(path: &Path) -> Result<Vec<Figure>> {
    let file = File::open(path).with_context(|| format!("no figures: cannot read {}", path.display()))?;
    let parse = |(n, line): (usize, std::io::Result<String>)| {
        serde_json::from_str(&line?).with_context(|| format!("{}, line {}", path.display(), n + 1))
    };
    BufReader::new(file).lines().enumerate().map(parse).collect()
}

/// The table of runs that are kept; repetitions of the same case count together.
pub fn again(runs: &[PathBuf]) -> Result<ExitCode> {
    let mut all = Vec::new();
    for run in runs {
        all.extend(load(&file_of(run))?);
    }
    Ok(if show(&all) { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// All values of a case and figure, in order.
fn values(all: &[Figure], case: &str, broker: &str, figure: &str) -> Vec<f64> {
    let of = all.iter().filter(|f| f.case == case && f.broker == broker && f.figure == figure);
    let mut values: Vec<f64> = of.flat_map(|f| f.values.iter().copied()).collect();
    values.sort_by(f64::total_cmp);
    values
}

/// Nearest rank: of twenty, p99 is the longest.
pub fn percentile(sorted: &[f64], q: usize) -> Option<f64> {
    sorted.get((sorted.len() * q).div_ceil(100).max(1) - 1).copied()
}

/// Names in the order in which they first came.
fn in_order<'f>(names: impl Iterator<Item = &'f str>) -> Vec<&'f str> {
    let mut found: Vec<&str> = Vec::new();
    for name in names {
        if !found.contains(&name) {
            found.push(name);
        }
    }
    found
}

fn number(value: f64, unit: Unit) -> String {
    match unit {
        Unit::Count => format!("{value}"),
        Unit::Seconds => format!("{value:.3}"),
        Unit::Milliseconds => format!("{value:.1}"),
    }
}

/// `min, p50, p99, max`, or a sum.
fn cell(sorted: &[f64], unit: Unit) -> String {
    let (Some(least), Some(most)) = (sorted.first(), sorted.last()) else { return "–".to_owned() };
    if unit == Unit::Count {
        return number(sorted.iter().sum(), unit);
    }
    let quantiles = [percentile(sorted, 50), percentile(sorted, 99)];
    let row = [Some(*least), quantiles[0], quantiles[1], Some(*most)];
    row.into_iter().flatten().map(|v| number(v, unit)).collect::<Vec<_>>().join(", ")
}

/// What a goal says, and whether it is met.
fn judge(goal: &Goal, all: &[Figure], of: &Figure) -> (Vec<String>, bool) {
    let found = values(all, &of.case, &of.broker, &of.figure);
    let (mut said, mut met) = (Vec::new(), true);
    let mut hold = |what: String, is: Option<f64>, bound: f64| {
        let holds = is.is_some_and(|is| is <= bound);
        met &= holds;
        let is = is.map_or("nothing".to_owned(), |is| number(is, of.unit));
        said.push(format!("{what} {is} {} {}", if holds { "≤" } else { ">" }, number(bound, of.unit)));
    };
    if let Some(bound) = goal.p50 {
        hold("p50".to_owned(), percentile(&found, 50), bound);
    }
    if let Some(bound) = goal.p99 {
        hold("p99".to_owned(), percentile(&found, 99), bound);
    }
    if let Some((times, case)) = &goal.p99_against {
        let other = percentile(&values(all, case, &of.broker, &of.figure), 99);
        let what = format!("p99 against {times} × {case}:");
        hold(what, percentile(&found, 99), other.map_or(f64::NAN, |other| times * other));
    }
    if let Some(bound) = goal.sum {
        hold("in all".to_owned(), Some(found.iter().sum()), bound);
    }
    (said, met)
}

/// A table with a row per case and broker, then a line per goal; whether all are met.
fn show(all: &[Figure]) -> bool {
    let lines = table(all);
    say("");
    lines.iter().for_each(|line| say(line));
    say("");
    let mut seen = Vec::new();
    let mut all_met = true;
    for figure in all {
        let key = (&figure.case, &figure.broker, &figure.figure);
        let Some(goal) = figure.goal.as_ref().filter(|_| !seen.contains(&key)) else { continue };
        seen.push(key);
        let (said, met) = judge(goal, all, figure);
        all_met &= met;
        let verdict = if met { "met   " } else { "MISSED" };
        say(&format!("{verdict} {}, {}, {}: {}", figure.broker, figure.case, figure.figure, said.join(", ")));
    }
    all_met
}

fn table(all: &[Figure]) -> Vec<String> {
    let columns = in_order(all.iter().map(|f| f.figure.as_str()));
    let unit_of = |figure: &str| all.iter().find(|f| f.figure == figure).map_or(Unit::Count, |f| f.unit);
    let titles = columns.iter().map(|figure| match unit_of(figure) {
        Unit::Count => (*figure).to_owned(),
        Unit::Seconds => format!("{figure}, s: min, p50, p99, max"),
        Unit::Milliseconds => format!("{figure}, ms: min, p50, p99, max"),
    });
    let mut lines = vec![format!("| case | broker | times | {} |", titles.collect::<Vec<_>>().join(" | "))];
    lines.push(format!("|{}", "---|".repeat(columns.len() + 3)));
    for case in in_order(all.iter().map(|f| f.case.as_str())) {
        for broker in in_order(all.iter().filter(|f| f.case == case).map(|f| f.broker.as_str())) {
            let of = |column: &str| {
                all.iter().filter(|f| f.case == case && f.broker == broker && f.figure == column).count()
            };
            let times = columns.iter().map(|column| of(column)).max().unwrap_or_default();
            let cells = columns.iter().map(|column| cell(&values(all, case, broker, column), unit_of(column)));
            lines.push(format!("| {case} | {broker} | {times} | {} |", cells.collect::<Vec<_>>().join(" | ")));
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figure(case: &str, broker: &str, figure: &str, unit: Unit, values: &[f64], goal: Option<Goal>) -> Figure {
        let text = str::to_owned;
        Figure { case: text(case), broker: text(broker), figure: text(figure), unit, n: 1, goal, values: values.into() }
    }

    #[test]
    fn repetitions_are_a_distribution_and_counts_a_sum() {
        let mut all = Vec::new();
        for n in 1..=20 {
            all.push(figure("kill", "rookery", "gap", Unit::Seconds, &[f64::from(n) / 10.0], None));
            all.push(figure("kill", "rookery", "lost", Unit::Count, &[f64::from(n % 2)], None));
        }
        all.push(figure("kill", "kafka", "gap", Unit::Seconds, &[9.0], None));
        let lines = table(&all);
        assert_eq!(lines[0], "| case | broker | times | gap, s: min, p50, p99, max | lost |");
        assert_eq!(lines[2], "| kill | rookery | 20 | 0.100, 1.000, 2.000, 2.000 | 10 |");
        assert_eq!(lines[3], "| kill | kafka | 1 | 9.000, 9.000, 9.000, 9.000 | – |");
    }

    #[test]
    fn a_goal_is_missed_by_one_value_of_twenty_and_by_no_values_at_all() {
        let case = |values: &[f64]| figure("kill", "rookery", "gap", Unit::Seconds, values, Goal::of(0.3, 1.0));
        let met = |values: &[f64]| {
            let figure = case(values);
            judge(figure.goal.as_ref().unwrap(), std::slice::from_ref(&figure), &figure).1
        };
        let mut values = vec![0.2; 19];
        assert!(met(&values));
        values.push(1.1);
        assert!(!met(&values));
        assert!(!met(&[]));
        assert!(!met(&[0.4; 20]));
    }

    #[test]
    fn a_goal_against_another_case_takes_that_cases_values() {
        let goal = Goal::against(1.2, "steady");
        let judged = |steady: &[f64], now: f64| {
            let all = [
                figure("steady", "rookery", "ack", Unit::Milliseconds, steady, None),
                figure("transfer", "rookery", "ack", Unit::Milliseconds, &[now], goal.clone()),
            ];
            judge(goal.as_ref().unwrap(), &all, &all[1]).1
        };
        assert!(judged(&[10.0], 12.0));
        assert!(!judged(&[10.0], 12.1));
        assert!(!judged(&[], 1.0), "nothing to compare with");
    }

    #[test]
    fn figures_come_back_from_their_file() {
        let dir = tempfile::tempdir().unwrap();
        let mut file = Figures::open(dir.path()).unwrap();
        file.add(&figure("kill", "rookery", "gap", Unit::Seconds, &[0.5], Goal::of(0.3, None))).unwrap();
        file.add(&figure("kill", "rookery", "lost", Unit::Count, &[0.0], Goal::none())).unwrap();
        let kept = load(&file_of(dir.path())).unwrap();
        assert_eq!(kept.len(), 2);
        assert_eq!(kept[0].goal, Goal::of(0.3, None));
        assert!(!file.show().unwrap(), "0.5 s is more than 0.3 s");
    }
}
