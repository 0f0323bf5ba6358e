//! A slow disk: a node may write only so many times a second to its own (the kernel's throttle of a control group). Seen by:
//! synced writes of the test's own, made as the node makes them, take as long as that says.
//!
//! Control groups of version 1 with `blkio`, or of version 2 where `io` is handed on by the root group already.

use super::{Active, Kind, Need, Target, World};
use anyhow::{Context, Result, bail};
use rand::RngExt;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

/// So many writes are made to see it.
const WRITES: u32 = 6;

/// Where limits are made, and in which words.
pub struct Throttle {
    root: PathBuf,
    file: &'static str,
    limit: fn(&str, u32) -> String,
}

impl Throttle {
    /// What this machine has.
    pub fn find() -> Option<Throttle> {
        let mounts = fs::read_to_string("/proc/self/mounts").ok()?;
        mounts.lines().find_map(|line| {
            let [_, root, kind, options, ..] = line.split(' ').collect::<Vec<_>>()[..] else { return None };
            let root = PathBuf::from(root);
            match kind {
                "cgroup" if options.split(',').any(|o| o == "blkio") => {
                    let file = "blkio.throttle.write_iops_device";
                    root.join(file).exists().then_some(Throttle { root, file, limit: |disk, n| format!("{disk} {n}") })
                }
                "cgroup2" => {
                    let handed_on = fs::read_to_string(root.join("cgroup.subtree_control")).ok()?;
                    let has_io = handed_on.split_whitespace().any(|c| c == "io");
                    has_io.then_some(Throttle { root, file: "io.max", limit: |disk, n| format!("{disk} wiops={n}") })
                }
                _ => None,
            }
        })
    }
}

/// Remove the control groups of processes that are gone.
pub fn sweep() -> Result<()> {
    let Some(throttle) = Throttle::find() else { return Ok(()) };
    for entry in fs::read_dir(throttle.root)? {
        let entry = entry?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        let pid = name.strip_prefix("rkf-").and_then(|rest| rest.split_once('-')).map(|(pid, _)| pid);
        if pid.is_some_and(crate::lab::is_gone) {
            fs::remove_dir(entry.path()).with_context(|| format!("cannot remove {}", entry.path().display()))?;
        }
    }
    Ok(())
}

/// A control group with a limit; its processes are set free when it is dropped.
struct Group {
    root: PathBuf,
    path: PathBuf,
}

impl Group {
    fn create(throttle: &Throttle, node: i32, disk: &str, writes: u32) -> Result<Group> {
        let path = throttle.root.join(format!("rkf-{}-n{node}", std::process::id()));
        fs::create_dir(&path).with_context(|| format!("cannot make {}", path.display()))?;
        let group = Group { root: throttle.root.clone(), path };
        fs::write(group.path.join(throttle.file), (throttle.limit)(disk, writes))
            .with_context(|| format!("{} does not take a limit", throttle.file))?;
        Ok(group)
    }

    fn processes(&self) -> PathBuf {
        self.path.join("cgroup.procs")
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let processes = fs::read_to_string(self.processes()).unwrap_or_default();
        for pid in processes.lines() {
            // It may have ended by itself.
            let _ = fs::write(self.root.join("cgroup.procs"), pid);
        }
        if let Err(error) = fs::remove_dir(&self.path) {
            eprintln!("faults: cannot remove {}: {error}", self.path.display());
        }
    }
}

struct Slow {
    node: i32,
    group: Group,
    mount: PathBuf,
    limit: u32,
    detail: String,
}

/// The leader's, the controller's.
pub fn kinds() -> Vec<Kind> {
    let of = |name, about, target| Kind {
        name,
        group: "disk-slow",
        about,
        need: Need::Throttle,
        inject: Box::new(move |world: &mut World, _: &str| {
            let node = world.target(target)?;
            let limit = world.random.random_range(8..=40);
            let throttle = Throttle::find().context("no throttle")?;
            let disk = world.disks.of(node)?.clone();
            let detail = format!("{limit} writes a second at {}", world.role(node));
            let group = Group::create(&throttle, node, &disk.number()?, limit)?;
            world.nodes.mark(node, name);
            let pid = world.nodes.pid(node)?.as_raw_nonzero();
            fs::write(group.processes(), pid.to_string())?;
            world.held.insert(node);
            Ok(Box::new(Slow { node, group, mount: disk.mount, limit, detail }) as Box<dyn Active>)
        }),
    };
    vec![
        of("disk-slow-leader", "the disk of a leader takes 8 to 40 writes a second", Target::Leader),
        of(
            "disk-slow-controller",
            "the disk of the active controller takes 8 to 40 writes a second",
            Target::Controller,
        ),
    ]
}

/// Synced writes by a process of the group: how many milliseconds they take.
fn try_writes(group: &Group, mount: &Path) -> Result<u128> {
    let probe = mount.join("probe");
    let script = "echo $$ >\"$1\" && exec dd if=/dev/zero of=\"$2\" bs=4096 count=\"$3\" oflag=dsync status=none";
    let began = Instant::now();
    let done = Command::new("sh")
        .args(["-c", script, "sh"])
        .args([group.processes(), probe.clone(), WRITES.to_string().into()])
        .output()?;
    let took = began.elapsed().as_millis();
    if !done.status.success() {
        bail!("dd: {}", String::from_utf8_lossy(&done.stderr).trim());
    }
    fs::remove_file(probe)?;
    Ok(took)
}

impl Active for Slow {
    fn detail(&self) -> String {
        self.detail.clone()
    }

    fn effect(&mut self, _: &mut World) -> Result<Option<String>> {
        let took = try_writes(&self.group, &self.mount)?;
        // The first may find the allowance of a moment ago.
        let least = u128::from(1000 * (WRITES - 2) / self.limit);
        Ok((took >= least).then(|| format!("{WRITES} synced writes took {took} ms")))
    }

    fn heal(self: Box<Self>, world: &mut World) -> Result<()> {
        world.held.remove(&self.node);
        Ok(())
    }
}
