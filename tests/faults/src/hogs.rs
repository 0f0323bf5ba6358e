//! Conditions that are harsh, but no fault: other processes take all cores, packets come late, other writers keep the disk
//! busy. Each is seen to be there, or the measurement shows nothing.

use crate::faults::{Delay, Order, Pump};
use crate::history::Clock;
use crate::lab::{Lab, Port};
use anyhow::{Context, Result, bail};
use clap::ValueEnum;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// Packets that a node sends come so late, in milliseconds, at most.
const JITTER_MAX: u64 = 100;
/// Writers that stream, and writers of small synced blocks.
const STREAMS: usize = 2;
const SYNCERS: usize = 2;
/// Of the time, cores may be idle at most where they are said to be saturated.
const IDLE_MAX: f64 = 0.03;
/// Between two synced writes of our own.
const PROBE_EVERY: Duration = Duration::from_millis(100);

/// What is harsh.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Condition {
    /// One process per core that never sleeps, at the nodes' priority
    Cpu,
    /// What a node sends comes 0 to 100 ms late, each packet for itself, in order within a connection
    Jitter,
    /// Two writers that stream, 8 MiB a sync, two that write small blocks and sync each
    Disk,
}

/// Conditions that are there until this is dropped or ended.
pub struct Harsh {
    processes: Vec<Child>,
    pumps: Vec<Pump>,
    files: PathBuf,
    conditions: Vec<Condition>,
    idle_before: (u64, u64),
}

impl Harsh {
    /// Begin. `dir` lies on the nodes' disk.
    pub fn begin(lab: &Lab, conditions: &[Condition], nodes: &[i32], programs: &Path, dir: &Path) -> Result<Harsh> {
        let mut harsh = Harsh {
            processes: Vec::new(),
            pumps: Vec::new(),
            files: dir.join("hogs"),
            conditions: conditions.to_vec(),
            idle_before: (0, 0),
        };
        fs::create_dir_all(&harsh.files)?;
        // In a namespace of the lab, so that they end with it in whatever way.
        let mut start = |script: String| -> Result<()> {
            let mut command = lab.command(Port::Clients(2), "sh");
            let command = command.args(["-c", &script]).stdin(Stdio::null()).stdout(Stdio::null());
            harsh.processes.push(command.spawn().context("cannot start sh")?);
            Ok(())
        };
        if conditions.contains(&Condition::Cpu) {
            for _ in 0..std::thread::available_parallelism()?.get() {
                start("while :; do :; done".to_owned())?;
            }
        }
        if conditions.contains(&Condition::Disk) {
            for n in 0..STREAMS {
                let file = harsh.files.join(format!("stream-{n}"));
                // In pieces that are synced each: the disk is never idle, but a sync of somebody else waits for a piece, not for
                // seconds, which would be a disk that hangs.
                let write = format!("dd if=/dev/zero of='{}' bs=8M count=32 oflag=dsync status=none", file.display());
                start(format!("while {write}; do :; done"))?;
            }
            for n in 0..SYNCERS {
                let file = harsh.files.join(format!("sync-{n}"));
                let write =
                    format!("dd if=/dev/zero of='{}' bs=4k count=10000 oflag=dsync status=none", file.display());
                start(format!("while {write}; do :; done"))?;
            }
        }
        if conditions.contains(&Condition::Jitter) {
            for node in nodes {
                let delay = Delay { least: 0, most: JITTER_MAX, order: Order::OfFlows, one_way: true };
                harsh.pumps.push(Pump::begin(lab, programs, dir, *node, delay)?);
            }
        }
        harsh.idle_before = idle()?;
        Ok(harsh)
    }

    /// How each was seen to be there; an error for one that was not.
    pub fn seen(&mut self) -> Result<String> {
        for process in &mut self.processes {
            if let Some(status) = process.try_wait()? {
                bail!("a process that was to keep the machine busy ended: {status}");
            }
        }
        let (before, now) = (self.idle_before, idle()?);
        let share = (now.0 - before.0) as f64 / (now.1 - before.1).max(1) as f64;
        let mut seen = vec![format!("cores idle {:.1} % of the time", share * 100.0)];
        if self.conditions.contains(&Condition::Cpu) && share > IDLE_MAX {
            bail!("the cores were not saturated: {}", seen.join(""));
        }
        for pump in &mut self.pumps {
            seen.push(pump.effect()?.context("a pump carried nothing")?);
        }
        Ok(seen.join("; "))
    }

    /// All is as it was.
    pub fn end(mut self, lab: &Lab) -> Result<()> {
        self.pumps.drain(..).try_for_each(|pump| pump.end(lab))
    }
}

impl Drop for Harsh {
    fn drop(&mut self) {
        for process in &mut self.processes {
            let children = format!("/proc/{0}/task/{0}/children", process.id());
            // A shell that is killed leaves its dd behind; that one ends by itself, but only after a while.
            let children = fs::read_to_string(children).unwrap_or_default();
            let _ = process.kill();
            let _ = process.wait();
            for pid in children.split_whitespace().filter_map(|pid| pid.parse().ok()) {
                if let Some(pid) = rustix::process::Pid::from_raw(pid) {
                    let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
                }
            }
        }
        let _ = fs::remove_dir_all(&self.files);
    }
}

/// Ticks of all cores together: idle, and all.
fn idle() -> Result<(u64, u64)> {
    let stat = fs::read_to_string("/proc/stat")?;
    let ticks: Vec<u64> =
        stat.lines().next().unwrap_or_default().split_whitespace().skip(1).filter_map(|t| t.parse().ok()).collect();
    let [_, _, _, idle, waiting, ..] = ticks[..] else { bail!("/proc/stat says nothing of the cores") };
    // Guests' time counts as the host's already.
    Ok((idle + waiting, ticks.iter().take(8).sum()))
}

/// Synced writes of the test's own, a few a second: how long each takes.
pub struct DiskProbe {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Result<Vec<u64>>>,
}

impl DiskProbe {
    /// Begin, on the file system of this directory.
    pub fn start(dir: &Path) -> DiskProbe {
        let (stop, path) = (Arc::new(AtomicBool::new(false)), dir.join("disk-probe"));
        let asked = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            let (mut file, mut times) = (File::create(&path)?, Vec::new());
            while !asked.load(Ordering::Relaxed) {
                let began = Clock::now();
                file.write_all(&[0; 4096])?;
                file.sync_data()?;
                times.push(Clock::now() - began);
                std::thread::sleep(PROBE_EVERY);
            }
            fs::remove_file(&path)?;
            Ok(times)
        });
        DiskProbe { stop, thread }
    }

    /// Nanoseconds of each.
    pub fn stop(self) -> Result<Vec<u64>> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().map_err(|_| anyhow::anyhow!("the disk probe panicked"))?
    }
}
