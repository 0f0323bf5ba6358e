//! The nodes of a cluster as processes: whatever program they run, it is started, signalled, waited for and read here.

use crate::history::Clock;
use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};
use std::fs::{self, File, OpenOptions};
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// A node that has not left by then is stuck.
const STOP_MAX: Duration = Duration::from_secs(40);

/// One node.
struct Process {
    id: i32,
    child: Option<Child>,
    /// Everything it has said, over all its lives.
    log: PathBuf,
}

/// All of them.
pub struct Processes(Vec<Process>);

impl Processes {
    /// Nodes 1 to `count`, not started yet; their logs will be `NAME-ID.log` in `dir`.
    pub fn new(dir: &Path, name: &str, count: i32) -> Processes {
        Processes(
            (1..=count).map(|id| Process { id, child: None, log: dir.join(format!("{name}-{id}.log")) }).collect(),
        )
    }

    /// Their ids.
    pub fn ids(&self) -> Vec<i32> {
        self.0.iter().map(|n| n.id).collect()
    }

    fn node(&mut self, id: i32) -> &mut Process {
        self.0.iter_mut().find(|n| n.id == id).expect("ids come from this list")
    }

    /// Start a node by this command.
    pub fn spawn(&mut self, id: i32, mut command: Command) -> Result<()> {
        let node = self.node(id);
        if node.child.is_some() {
            bail!("node {id} runs already");
        }
        let log = OpenOptions::new().create(true).append(true).open(&node.log)?;
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).process_group(0);
        node.child = Some(command.spawn()?);
        Ok(())
    }

    /// Send a signal.
    pub fn signal(&mut self, id: i32, signal: Signal) -> Result<()> {
        let pid = self.pid(id)?;
        kill_process(pid, signal).with_context(|| format!("signalling node {id}"))
    }

    /// The process.
    pub fn pid(&mut self, id: i32) -> Result<Pid> {
        let child = self.node(id).child.as_ref().with_context(|| format!("node {id} does not run"))?;
        Pid::from_raw(child.id().cast_signed()).context("no pid")
    }

    /// Wait for the process to end.
    pub fn wait(&mut self, id: i32) -> Result<ExitStatus> {
        let end = Instant::now() + STOP_MAX;
        loop {
            if let Some(status) = self.ended(id)? {
                return Ok(status);
            }
            if Instant::now() > end {
                bail!("node {id} has not ended after {} s", STOP_MAX.as_secs());
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// How the process ended, if it did.
    pub fn ended(&mut self, id: i32) -> Result<Option<ExitStatus>> {
        let node = self.node(id);
        let Some(child) = &mut node.child else { bail!("node {id} does not run") };
        let status = child.try_wait()?;
        if status.is_some() {
            node.child = None;
        }
        Ok(status)
    }

    /// Whether there is a process.
    pub fn runs(&mut self, id: i32) -> bool {
        self.node(id).child.is_some()
    }

    /// Nodes that ended without having been asked to: each with its exit status and last words.
    pub fn deserters(&mut self) -> Vec<String> {
        let mut gone = Vec::new();
        for id in self.ids() {
            if self.runs(id)
                && let Ok(Some(status)) = self.ended(id)
            {
                gone.push(format!("node {id} ended by itself ({status}): {}", self.last_line(id)));
            }
        }
        gone
    }

    /// The last thing a node has said.
    pub fn last_line(&mut self, id: i32) -> String {
        let mut text = String::new();
        if let Ok(mut file) = File::open(&self.node(id).log) {
            let _ = file.read_to_string(&mut text);
        }
        text.lines().last().unwrap_or_default().to_owned()
    }

    /// How much a node has said so far.
    pub fn log_length(&mut self, id: i32) -> Result<u64> {
        Ok(fs::metadata(&self.node(id).log)?.len())
    }

    /// What a node has said since then.
    pub fn log_since(&mut self, id: i32, length: u64) -> Result<String> {
        let mut text = Vec::new();
        let mut file = File::open(&self.node(id).log)?;
        file.seek(SeekFrom::Start(length))?;
        file.read_to_end(&mut text)?;
        Ok(String::from_utf8_lossy(&text).into_owned())
    }

    /// Write a line between those of a node.
    pub fn mark(&mut self, id: i32, text: &str) {
        use std::io::Write;
        if let Ok(mut log) = OpenOptions::new().append(true).open(&self.node(id).log) {
            let _ = writeln!(log, "--- {text} at monotonic {}", Clock::now());
        }
    }
}
