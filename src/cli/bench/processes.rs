//! What processes of this machine have used, from `/proc`: this one, and the brokers if their ids are given.

use super::recorder::round;
use anyhow::{Context, Result};
use serde::Serialize;

/// Of `/proc/PID/stat`, on every Linux.
const TICKS_PER_SECOND: f64 = 100.0;

/// What a process has used since it began.
#[derive(Clone, Copy, Debug, Default)]
pub struct Usage {
    /// Of user and system, in seconds.
    pub cpu_s: f64,
    /// That reached the block layer; none where that may not be read.
    pub written_bytes: Option<u64>,
    /// Memory that is not backed by files, resident now.
    pub anonymous_bytes: u64,
}

/// Of this process.
pub fn own() -> Result<Usage> {
    usage("self")
}

fn usage(process: &str) -> Result<Usage> {
    let read = |file: &str| {
        let path = format!("/proc/{process}/{file}");
        std::fs::read_to_string(&path).with_context(|| path)
    };
    let stat = read("stat")?;
    let status = read("status")?;
    Ok(Usage {
        cpu_s: cpu_ticks(&stat).context("an unknown format of /proc/PID/stat")? as f64 / TICKS_PER_SECOND,
        written_bytes: read("io").ok().and_then(|io| field(&io, "write_bytes:")),
        anonymous_bytes: field(&status, "RssAnon:").unwrap_or(0) * 1024,
    })
}

/// Fields 14 and 15. The name of the process, field 2, may hold anything but ends with the last parenthesis.
fn cpu_ticks(stat: &str) -> Option<u64> {
    let mut behind_name = stat.rsplit_once(')')?.1.split_ascii_whitespace().skip(11);
    Some(behind_name.next()?.parse::<u64>().ok()? + behind_name.next()?.parse::<u64>().ok()?)
}

fn field(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_ascii_whitespace().next()?.parse().ok()
}

/// The brokers, from the end of the warm-up on.
pub struct Brokers {
    pids: Vec<u32>,
    before: Vec<Usage>,
    anonymous_bytes_max: u64,
}

/// What they used.
#[derive(Clone, Debug, Serialize)]
pub struct BrokersUsage {
    /// Processes.
    pub count: usize,
    /// All of them together, in seconds.
    pub cpu_s: f64,
    /// For 10^9 bytes of the user.
    pub cpu_s_per_gb: f64,
    /// All of them together, as far as `/proc` tells.
    pub written_bytes: Option<u64>,
    /// For each byte of the user; with N replicas at least N.
    pub written_per_user_byte: Option<f64>,
    /// Of the one with the most, seen once a second.
    pub anonymous_mb_max: f64,
}

impl Brokers {
    /// Takes down where they are; none without ids.
    pub fn begin(pids: &[u32]) -> Result<Option<Self>> {
        if pids.is_empty() {
            return Ok(None);
        }
        let before = all(pids)?;
        Ok(Some(Self { pids: pids.to_vec(), before, anonymous_bytes_max: 0 }))
    }

    /// Once a second.
    pub fn look(&mut self) {
        // One that has died is missed at the end.
        let most = self.pids.iter().filter_map(|pid| usage(&pid.to_string()).ok()).map(|u| u.anonymous_bytes).max();
        self.anonymous_bytes_max = self.anonymous_bytes_max.max(most.unwrap_or(0));
    }

    /// What they used since.
    pub fn end(&mut self, user_bytes: u64) -> Result<BrokersUsage> {
        self.look();
        let after = all(&self.pids)?;
        let cpu_s: f64 = after.iter().map(|u| u.cpu_s).sum::<f64>() - self.before.iter().map(|u| u.cpu_s).sum::<f64>();
        let written = |usages: &[Usage]| usages.iter().map(|u| u.written_bytes).sum::<Option<u64>>();
        let written = written(&after).zip(written(&self.before)).map(|(after, before)| after.saturating_sub(before));
        let per_user_byte = |bytes: u64| if user_bytes == 0 { 0.0 } else { bytes as f64 / user_bytes as f64 };
        Ok(BrokersUsage {
            count: self.pids.len(),
            cpu_s: round(cpu_s),
            cpu_s_per_gb: per_gb(cpu_s, user_bytes),
            written_bytes: written,
            written_per_user_byte: written.map(|bytes| round(per_user_byte(bytes))),
            anonymous_mb_max: round(self.anonymous_bytes_max as f64 / 1e6),
        })
    }
}

fn all(pids: &[u32]) -> Result<Vec<Usage>> {
    pids.iter().map(|pid| usage(&pid.to_string()).with_context(|| format!("--broker-pids: process {pid}"))).collect()
}

/// For 10^9 bytes.
pub fn per_gb(amount: f64, bytes: u64) -> f64 {
    if bytes == 0 { 0.0 } else { round(amount * 1e9 / bytes as f64) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_spaces_and_parentheses_does_not_shift_the_fields() {
        let stat = "17 (a ) b) S 1 2 3 4 5 6 7 8 9 10 150 50 0 0 20 0";
        assert_eq!(cpu_ticks(stat), Some(200));
        assert_eq!(cpu_ticks("17 (a"), None);
    }

    #[test]
    fn this_process_uses_memory() {
        assert!(own().unwrap().anonymous_bytes > 0);
        let mut brokers = Brokers::begin(&[std::process::id()]).unwrap().unwrap();
        let used = brokers.end(0).unwrap();
        assert!(used.anonymous_mb_max > 0.0 && used.cpu_s >= 0.0 && used.cpu_s_per_gb == 0.0, "{used:?}");
        assert!(Brokers::begin(&[u32::MAX]).is_err() && Brokers::begin(&[]).unwrap().is_none());
    }
}
