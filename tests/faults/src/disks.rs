//! A file system of its own for each node: ext4 in a file, on a loop device, mounted in the run's directory.
//!
//! In: which node's disk is to hang, to fill up, to go and come back. Out: where data lies, how much room there is. The
//! machine's own file systems are not touched: an image takes no more of them than was written to it. Images are named
//! `rkf-PID-nID.img`; disks whose process is gone are swept away by the next lab. Programs are started without mount
//! namespaces of their own ([`Lab::command`](crate::lab::Lab::command)): one that kept a copy of a mount would keep a disk
//! alive that has lost its power.

use anyhow::{Context, Result, bail};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

/// Bytes of a disk; the watermarks of a node are an eighth and a quarter of it at most.
const SIZE: u64 = 1 << 30;
/// A mount that is still in use after its processes were killed will stay so.
const PATIENCE: Duration = Duration::from_secs(30);
/// What is between two looks.
const PAUSE: Duration = Duration::from_millis(20);

/// One disk.
#[derive(Debug, Clone)]
pub struct Disk {
    image: PathBuf,
    device: String,
    /// Where it is mounted.
    pub mount: PathBuf,
}

/// The disks of all nodes; gone when dropped, but for their images.
#[derive(Debug, Default)]
pub struct Disks {
    all: Vec<(i32, Disk)>,
    missing: Option<String>,
}

impl Disks {
    /// Not set up: nobody has chosen faults of disks.
    pub fn none() -> Disks {
        Disks { all: Vec::new(), missing: Some("disks were not set up".to_owned()) }
    }

    /// A disk for each of these nodes, or why there are none.
    pub fn set_up(dir: &Path, nodes: &[i32]) -> Disks {
        let mut disks = Disks::default();
        for id in nodes {
            match Disk::create(dir, *id) {
                Ok(disk) => disks.all.push((*id, disk)),
                Err(error) => {
                    disks.missing = Some(format!("not available here: needs ext4 on loop devices: {error:#}"));
                    break;
                }
            }
        }
        if disks.missing.is_some() {
            disks.take_away();
        }
        disks
    }

    /// Why there are none.
    pub fn missing(&self) -> Option<String> {
        self.missing.clone()
    }

    /// The disk of a node.
    pub fn of(&self, id: i32) -> Result<&Disk> {
        let found = self.all.iter().find(|(node, _)| *node == id);
        found.map(|(_, disk)| disk).context("this node has no disk of its own")
    }

    /// Where each node's data lies.
    pub fn data(&self) -> Vec<(i32, PathBuf)> {
        self.all.iter().map(|(id, disk)| (*id, disk.data())).collect()
    }

    /// What is left of disks that were taken away.
    pub fn images(&self) -> Vec<PathBuf> {
        self.all.iter().map(|(_, disk)| disk.image.clone()).collect()
    }

    fn take_away(&mut self) {
        for (_, disk) in &self.all {
            if let Err(error) = disk.take_away() {
                eprintln!("faults: cannot take away {}: {error:#}", disk.mount.display());
            }
        }
    }
}

impl Drop for Disks {
    fn drop(&mut self) {
        self.take_away();
    }
}

impl Disk {
    fn create(dir: &Path, id: i32) -> Result<Disk> {
        let image = dir.join(format!("rkf-{}-n{id}.img", std::process::id()));
        File::create(&image)?.set_len(SIZE)?;
        // Nothing kept back for root, who the nodes are.
        run("mkfs.ext4", &["-q", "-F", "-m", "0", &text(&image)])?;
        let device = run("losetup", &["--find", "--show", &text(&image)])?.trim().to_owned();
        let disk = Disk { image, device, mount: dir.join(format!("disk-{id}")) };
        let mounted = fs::create_dir_all(&disk.mount).map_err(anyhow::Error::from).and_then(|()| disk.mount());
        if let Err(error) = mounted {
            let _ = disk.take_away();
            return Err(error);
        }
        Ok(disk)
    }

    /// The directory for the node's data.
    pub fn data(&self) -> PathBuf {
        self.mount.join("data")
    }

    /// The block device's number, `MAJOR:MINOR`.
    pub fn number(&self) -> Result<String> {
        let file = format!("/sys/block/{}/dev", self.name());
        Ok(fs::read_to_string(&file).with_context(|| file)?.trim().to_owned())
    }

    fn name(&self) -> &str {
        self.device.trim_start_matches("/dev/")
    }

    /// Bytes that may still be written.
    pub fn available(&self) -> Result<u64> {
        let found = rustix::fs::statvfs(&self.mount)?;
        Ok(found.f_bavail * found.f_frsize)
    }

    /// Whoever writes to it waits.
    pub fn freeze(&self) -> Result<()> {
        run("fsfreeze", &["--freeze", &text(&self.mount)]).map(drop)
    }

    /// Writers go on.
    pub fn thaw(&self) -> Result<()> {
        run("fsfreeze", &["--unfreeze", &text(&self.mount)]).map(drop)
    }

    /// Power is back. What the journal holds is played into the file system.
    pub fn mount(&self) -> Result<()> {
        run("mount", &["-o", "errors=remount-ro", &self.device, &text(&self.mount)]).map(drop)
    }

    /// Whoever had it open is gone: the kernel forgets the file system, also what was not written of it.
    pub fn unmount(&self) -> Result<()> {
        let end = Instant::now() + PATIENCE;
        // Processes that were killed a moment ago may still be going.
        while let Err(error) = run("umount", &[&text(&self.mount)]) {
            if Instant::now() > end {
                return Err(error);
            }
            std::thread::sleep(PAUSE);
        }
        // A file system that somebody still had in another mount would come back as it was.
        while Path::new("/sys/fs/ext4").join(self.name()).exists() {
            if Instant::now() > end {
                bail!("{} is unmounted, but the kernel keeps its file system", self.mount.display());
            }
            std::thread::sleep(PAUSE);
        }
        Ok(())
    }

    fn take_away(&self) -> Result<()> {
        take_away(&self.device)?;
        // It is empty now.
        let _ = fs::remove_dir(&self.mount);
        Ok(())
    }
}

/// Thaw, unmount, detach: in whatever state the disk is.
fn take_away(device: &str) -> Result<()> {
    let end = Instant::now() + PATIENCE;
    loop {
        let mounts = mounts_of(device)?;
        for mount in &mounts {
            // It may not be frozen.
            let _ = run("fsfreeze", &["--unfreeze", mount]);
            let _ = run("umount", &[mount]);
        }
        if mounts.is_empty() {
            return run("losetup", &["--detach", device]).map(drop);
        }
        if Instant::now() > end {
            bail!("{device} is still in use at {}", mounts.join(", "));
        }
        std::thread::sleep(PAUSE);
    }
}

fn mounts_of(device: &str) -> Result<Vec<String>> {
    let mounts = fs::read_to_string("/proc/self/mounts")?;
    let of = |line: &str| {
        let mut words = line.split(' ');
        let (source, mount) = (words.next()?, words.next()?);
        // The kernel writes a space as an octal number.
        (source == device).then(|| mount.replace("\\040", " "))
    };
    Ok(mounts.lines().filter_map(of).collect())
}

/// Take away the disks of processes that are gone: after their nodes were ended.
pub fn sweep() -> Result<()> {
    for entry in fs::read_dir("/sys/block").into_iter().flatten() {
        let entry = entry?;
        let Ok(image) = fs::read_to_string(entry.path().join("loop/backing_file")) else { continue };
        // The kernel says so behind the name of one that was deleted.
        let image = image.trim_end().trim_end_matches(" (deleted)");
        let name = image.rsplit('/').next().unwrap_or_default();
        let pid = name.strip_prefix("rkf-").and_then(|rest| rest.split_once('-')).map(|(pid, _)| pid);
        if pid.is_some_and(crate::lab::is_gone) {
            take_away(&format!("/dev/{}", entry.file_name().to_string_lossy()))?;
        }
    }
    Ok(())
}

fn text(path: &Path) -> String {
    path.display().to_string()
}

fn run(program: &str, arguments: &[&str]) -> Result<String> {
    let out = Command::new(program).args(arguments).output().with_context(|| format!("cannot run {program}"))?;
    if !out.status.success() {
        bail!("{program} {}: {}", arguments.join(" "), String::from_utf8_lossy(&out.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&out.stdout).into_owned())
}
