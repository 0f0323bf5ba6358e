//! Somebody else fills a node's disk, and makes room again. Seen by: the node says that its disk is nearly full, or full.
//! Nobody restarts it.

use super::{Active, Kind, Need, Target, World};
use anyhow::{Result, bail};
use std::fs;
use std::path::PathBuf;
use std::process::Command;

const MIB: u64 = 1 << 20;
/// Between the hard watermark, 64 MiB by default, and the soft one, 256.
const LOW: u64 = 150 * MIB;

struct Full {
    nodes: Vec<i32>,
    files: Vec<PathBuf>,
    detail: String,
}

/// Nearly full, full; one, all.
pub fn kinds() -> Vec<Kind> {
    let of = |name, about, left: u64, choose: fn(&mut World) -> Result<Vec<i32>>| Kind {
        name,
        group: "disk-full",
        about,
        need: Need::Disks,
        inject: Box::new(move |world: &mut World, _: &str| {
            let nodes = choose(world)?;
            fill(world, name, nodes, left)
        }),
    };
    vec![
        of("disk-low-leader", "the disk of a leader fills up below the soft watermark", LOW, |world| {
            Ok(vec![world.target(Target::Leader)?])
        }),
        of("disk-full-leader", "the disk of a leader fills up to its end", 0, |world| {
            Ok(vec![world.target(Target::Leader)?])
        }),
        of("disk-full-controller", "the disk of the active controller fills up to its end", 0, |world| {
            Ok(vec![world.target(Target::Controller)?])
        }),
        of("disk-full-all", "the disks of all nodes fill up to their end", 0, |world| Ok(world.free())),
    ]
}

fn fill(world: &mut World, name: &str, nodes: Vec<i32>, left: u64) -> Result<Box<dyn Active>> {
    let roles: Vec<String> = nodes.iter().map(|id| world.role(*id)).collect();
    let mut files = Vec::new();
    for id in &nodes {
        world.nodes.mark(*id, name);
        let disk = world.disks.of(*id)?;
        let file = disk.mount.join("ballast");
        // The file system needs some blocks for the file itself: what does not fit is given in smaller pieces.
        let (mut length, mut piece) = (0, disk.available()?.saturating_sub(left));
        while piece >= 4096 {
            let (from, more) = (length.to_string(), piece.to_string());
            let done = Command::new("fallocate").args(["-o", &from, "-l", &more]).arg(&file).output()?;
            match done.status.success() {
                true => length += piece,
                false => piece /= 2,
            }
            piece = piece.min(disk.available()?.saturating_sub(left));
        }
        files.push(file);
    }
    Ok(Box::new(Full { nodes, files, detail: roles.join(", ") }))
}

impl Active for Full {
    fn detail(&self) -> String {
        self.detail.clone()
    }

    fn effect(&mut self, _: &mut World) -> Result<Option<String>> {
        let says_so = |id: &i32| {
            let complaint = crate::nodes::complaint(*id).unwrap_or_default();
            ["nearly full", "is full", "no space left"].into_iter().find(|what| complaint.contains(what))
        };
        let said: Option<Vec<&str>> = self.nodes.iter().map(says_so).collect();
        Ok(said.map(|said| format!("not ready, said: {}", said.join(", "))))
    }

    fn heal(self: Box<Self>, _: &mut World) -> Result<()> {
        for file in &self.files {
            if let Err(error) = fs::remove_file(file) {
                bail!("{}: {error}", file.display());
            }
        }
        Ok(())
    }
}
