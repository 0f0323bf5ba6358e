//! A real file system of a few megabytes in a file, which only root can make.

use crate::harness::PATIENCE;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

/// An ext4 file system, mounted. Dropping it unmounts it: declare it before the cluster that uses it.
pub struct SmallDisk {
    dir: tempfile::TempDir,
}

impl SmallDisk {
    /// Nothing where this process may not mount anything; says so.
    pub fn new(mebibytes: u32) -> Option<SmallDisk> {
        let is_root = Command::new("id").arg("-u").output().is_ok_and(|id| id.stdout == b"0\n");
        if !is_root {
            eprintln!("skipped: needs root (a file system of its own is mounted)");
            return None;
        }
        let disk = SmallDisk { dir: tempfile::tempdir().unwrap() };
        let image = disk.dir.path().join("image");
        std::fs::File::create(&image).unwrap().set_len(u64::from(mebibytes) << 20).unwrap();
        std::fs::create_dir(disk.mount()).unwrap();
        // No blocks kept back for root, who the test is.
        run(Command::new("mkfs.ext4").args(["-q", "-F", "-m", "0"]).arg(&image));
        let mounted = Command::new("mount")
            .args(["-o", "loop,errors=remount-ro"])
            .arg(&image)
            .arg(disk.mount())
            .output()
            .unwrap();
        if !mounted.status.success() {
            let why = String::from_utf8_lossy(&mounted.stderr).into_owned();
            eprintln!("skipped: needs root with loop devices: {why}");
            return None;
        }
        std::fs::create_dir(disk.data()).unwrap();
        Some(disk)
    }

    fn mount(&self) -> PathBuf {
        self.dir.path().join("mount")
    }

    /// A directory on it.
    pub fn data(&self) -> PathBuf {
        self.mount().join("data")
    }

    /// A node whose data directory is at `path` has this disk.
    pub fn place(&self, path: &Path) {
        std::os::unix::fs::symlink(self.data(), path).unwrap();
    }

    /// Somebody else's file on it.
    pub fn ballast(&self, mebibytes: u32) {
        let length = format!("{mebibytes}MiB");
        run(Command::new("fallocate").args(["-l", &length]).arg(self.mount().join("ballast")));
    }

    /// Somebody else's file takes all that is left, to the last byte.
    pub fn fill(&self) {
        use std::io::Write as _;
        let mut file = std::fs::File::create(self.filling()).unwrap();
        for piece in [1 << 20, 4096] {
            let bytes = vec![7; piece];
            // Until it is refused.
            while file.write_all(&bytes).and_then(|()| file.sync_data()).is_ok() {}
        }
    }

    /// And goes.
    pub fn drop_filling(&self) {
        std::fs::remove_file(self.filling()).unwrap();
    }

    fn filling(&self) -> PathBuf {
        self.mount().join("filling")
    }

    /// That file goes.
    pub fn drop_ballast(&self) {
        std::fs::remove_file(self.mount().join("ballast")).unwrap();
    }

    /// Everything written to it, and every sync, is an error from now on.
    pub fn break_down(&self) {
        let found = Command::new("findmnt").args(["-n", "-o", "SOURCE"]).arg(self.mount()).output().unwrap();
        let device = String::from_utf8(found.stdout).unwrap();
        let name = device.trim().rsplit('/').next().unwrap();
        std::fs::write(format!("/sys/fs/ext4/{name}/trigger_fs_error"), "the test breaks it").unwrap();
    }

    /// Another machine would do the same: unmounted, checked and mounted again, it works.
    pub fn repair(&self) {
        run(Command::new("umount").arg(self.mount()));
        let image = self.dir.path().join("image");
        // The kernel lets go of the loop device a little later.
        let is_attached = || !Command::new("losetup").arg("-j").arg(&image).output().unwrap().stdout.is_empty();
        let began = Instant::now();
        while is_attached() {
            assert!(began.elapsed() < PATIENCE, "{} is still attached", image.display());
            std::thread::sleep(Duration::from_millis(20));
        }
        // The second one finds nothing left of the first.
        let _ = Command::new("e2fsck").args(["-f", "-y"]).arg(&image).output().unwrap();
        run(Command::new("e2fsck").args(["-f", "-y"]).arg(&image));
        run(Command::new("mount").args(["-o", "loop,errors=remount-ro"]).arg(&image).arg(self.mount()));
    }

    /// Whoever writes to it waits until the guard is dropped: declare the guard after the cluster.
    pub fn freeze(&self) -> Frozen {
        run(Command::new("fsfreeze").arg("-f").arg(self.mount()));
        Frozen { mount: self.mount() }
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").args(["-l"]).arg(self.mount()).output();
    }
}

/// A disk that hangs.
pub struct Frozen {
    mount: PathBuf,
}

impl Drop for Frozen {
    fn drop(&mut self) {
        let _ = Command::new("fsfreeze").arg("-u").arg(&self.mount).output();
    }
}

fn run(command: &mut Command) {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}
