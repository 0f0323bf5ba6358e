//! What is kept of a run: JSON lines, one file per process that took part, and a header.
//!
//! `run.json` is the header. `history/NAME.jsonl` holds what NAME did, in its own order; `t` is the machine's monotonic
//! clock in nanoseconds when the line was made. An operation with a beginning and an end on one line carries the beginning
//! as `since`. Values are numbers, each sent at most once in a run: writer × 10⁹ + count.

use anyhow::{Context, Result};
use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};
use std::fs::{self, File};
use std::io::{BufRead, BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

/// Nanoseconds of the monotonic clock.
pub type Time = u64;
/// What a record holds.
pub type Value = i64;
/// A place in a partition.
pub type Offset = i64;

/// The clock of all processes of a run.
pub struct Clock;

impl Clock {
    /// Now.
    pub fn now() -> Time {
        let now = clock_gettime(ClockId::Monotonic);
        now.tv_sec.cast_unsigned() * 1_000_000_000 + now.tv_nsec.cast_unsigned()
    }
}

/// How a value is shown.
pub fn shown(value: Value) -> String {
    format!("w{}/{}", value / WRITER_STEP, value % WRITER_STEP)
}

/// Values of one writer.
pub const WRITER_STEP: Value = 1_000_000_000;

/// What a run was.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Header {
    /// Where the schedule comes from.
    pub seed: u64,
    /// Seconds of faults.
    pub seconds: u64,
    /// Faults that were chosen from.
    pub faults: Vec<String>,
    /// Clients.
    pub clients: Vec<String>,
    /// What the binary says of itself.
    pub version: String,
    /// The kernel.
    pub kernel: String,
    /// The topic that is written to.
    pub topic: String,
    /// Its partitions, from 0.
    pub partitions: i32,
}

/// A line.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Line {
    /// When.
    pub t: Time,
    /// What.
    #[serde(flatten)]
    pub op: Op,
}

/// What happened.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "kebab-case")]
pub enum Op {
    /// A producer gives a value to its client.
    Send { p: i32, v: Value },
    /// The client says that it is written, and where (-1: it does not know).
    Ack { v: Value, p: i32, o: Offset },
    /// It was certainly never sent.
    Fail { v: Value, error: String },
    /// It may have been written, or not.
    Unknown { v: Value, error: String },
    /// A reader that follows its partitions by itself has got records: offset and value.
    Poll { p: i32, rows: Vec<(Offset, Value)> },
    /// A member of a group has got records.
    Deliver { group: String, p: i32, rows: Vec<(Offset, Value)> },
    /// A commit of a group has ended: what is next to be read.
    Commit { group: String, since: Time, offsets: Vec<(i32, Offset)>, outcome: Outcome },
    /// Somebody has asked what a group has committed; a negative offset is none.
    Committed { group: String, since: Time, p: i32, o: Offset },
    /// A topic was asked for.
    CreateTopic { name: String, since: Time, outcome: Outcome },
    /// All topics, after healing.
    Topics { names: Vec<String> },
    /// A whole partition, after healing, from its start to its end; `pass` counts how often everything was read.
    Read {
        pass: u32,
        p: i32,
        leader: i32,
        epoch: i32,
        rows: Vec<(Offset, Value)>,
        /// For whoever looks for a cause: the batches they came in.
        #[serde(default)]
        batches: Vec<Batch>,
    },
    /// A client told of an error that it goes on after.
    Trouble { error: String },
    /// A client's library told of something that it mends by itself.
    Notice { error: String },
    /// A part of the test begins.
    Phase { name: Phase },
    /// A fault, in its phases.
    Fault { id: u32, name: String, phase: FaultPhase, detail: String },
    /// Something that must become true after healing did, or did not in time.
    Awaited { what: String, since: Time, reached: bool, detail: String },
}

/// A batch: base offset, records, leader epoch, producer id, producer epoch, base sequence.
pub type Batch = (Offset, i32, i32, i64, i16, i32);

/// How an operation ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// Acknowledged.
    Ok,
    /// Perhaps.
    Unknown,
}

/// Parts of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// Clients run, nothing is broken yet.
    Warm,
    /// Faults come.
    Faults,
    /// All is healed; producers stop.
    Settle,
    /// Everything is read.
    Read,
    /// The end: a history without it is not complete.
    End,
}

/// Phases of a fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FaultPhase {
    /// It begins.
    Inject,
    /// It was seen to work.
    Effect,
    /// It is taken away.
    Heal,
    /// The cluster says that all is well again.
    Normal,
    /// It cannot be done here.
    NotHere,
}

/// The file that this process writes.
pub struct Journal(Mutex<BufWriter<File>>);

impl Journal {
    /// A new file in the run's history.
    pub fn create(run: &Path, name: &str) -> Result<Journal> {
        let path = path(run, name);
        fs::create_dir_all(path.parent().context("a run has a directory")?)?;
        let file = File::create(&path).with_context(|| format!("cannot write {}", path.display()))?;
        Ok(Journal(Mutex::new(BufWriter::new(file))))
    }

    /// Add a line, now.
    pub fn write(&self, op: Op) -> Result<Time> {
        let t = Clock::now();
        self.write_at(t, op)?;
        Ok(t)
    }

    /// Add a line of a time that was taken before.
    pub fn write_at(&self, t: Time, op: Op) -> Result<()> {
        let mut out = self.0.lock().map_err(|_| anyhow::anyhow!("a writer of the history panicked"))?;
        serde_json::to_writer(&mut *out, &Line { t, op })?;
        out.write_all(b"\n")?;
        out.flush()?;
        Ok(())
    }
}

/// Where a process writes.
pub fn path(run: &Path, name: &str) -> PathBuf {
    run.join("history").join(format!("{name}.jsonl"))
}

/// All that happened.
#[derive(Debug, Clone, Default)]
pub struct History {
    /// What the run was.
    pub header: Header,
    /// Who did what, each in its own order.
    pub by: Vec<(String, Vec<Line>)>,
}

impl History {
    /// Read a run.
    pub fn load(run: &Path) -> Result<History> {
        let at = run.join("run.json");
        let header = fs::read(&at).with_context(|| format!("no run in {}", run.display()))?;
        let header = serde_json::from_slice(&header).with_context(|| format!("reading {}", at.display()))?;
        let mut files: Vec<PathBuf> =
            fs::read_dir(run.join("history"))?.map(|e| Ok(e?.path())).collect::<Result<_>>()?;
        files.retain(|f| f.extension().is_some_and(|e| e == "jsonl"));
        files.sort();
        let mut by = Vec::new();
        for file in files {
            let name = file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            let lines = load_lines(&file)?;
            by.push((name, lines));
        }
        Ok(History { header, by })
    }

    /// Write the header.
    pub fn write_header(run: &Path, header: &Header) -> Result<()> {
        fs::create_dir_all(run)?;
        fs::write(run.join("run.json"), serde_json::to_vec_pretty(header)?)?;
        Ok(())
    }

    /// Every line with who made it; those of one process in its own order.
    pub fn lines(&self) -> impl Iterator<Item = (&str, &Line)> {
        self.by.iter().flat_map(|(name, lines)| lines.iter().map(move |line| (name.as_str(), line)))
    }
}

/// What one process wrote.
pub fn load_lines(file: &Path) -> Result<Vec<Line>> {
    let (mut lines, mut text) = (Vec::new(), Vec::new());
    let mut input = BufReader::new(File::open(file).with_context(|| format!("cannot read {}", file.display()))?);
    while input.read_until(b'\n', &mut text)? > 0 {
        // A process that was killed may leave half a line at its end.
        if text.ends_with(b"\n") {
            let line = serde_json::from_slice(&text);
            lines.push(line.with_context(|| format!("{}, line {}", file.display(), lines.len() + 1))?);
        }
        text.clear();
    }
    Ok(lines)
}
