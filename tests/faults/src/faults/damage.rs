//! Damage to what lies on one node's disk: after a power loss of the node its files are edited, then it is started. Seen by: the
//! edit, and the node's own message where it has to say something.
//!
//! | damage | what the node does |
//! |---|---|
//! | garbage behind the end of its write-ahead logs, as a torn write leaves it | starts, nothing is missing |
//! | the newest write-ahead log of the partition logs is cut, or a bit in it is flipped | says that synced data is missing, fetches what it lost from others |
//! | bits flipped in a table or blob file | serves them to nobody; an operator replaces the node |
//! | the newest write-ahead log of the metadata log is cut | refuses to start; an operator replaces the voter |

use super::{Active, Kind, Need, Target, World, membership, power};
use crate::cluster::Cluster;
use crate::history::{Journal, Op};
use crate::reader;
use crate::run::{PARTITIONS, TOPIC};
use anyhow::{Context, Result, bail};
use rand::RngExt;
use rand::rngs::StdRng;
use rustix::process::Signal;
use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// In which a node has to say what is wrong with its files.
const SAYS_WITHIN: Duration = Duration::from_secs(60);
/// In which a damaged node should lead something again, so that it can be read from there.
const LEADS_WITHIN: Duration = Duration::from_secs(20);

/// Bytes of a table's block.
const BLOCK: u64 = 4096;

/// What a node does with its damage.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Then {
    /// Nothing is missing.
    Goes,
    /// It says this, and heals by itself.
    Says(&'static str),
    /// It says this and ends: an operator replaces it.
    Refuses(&'static str),
    /// It may find it at any time: an operator replaces it, after it was read from.
    Hides,
}

struct Damaged {
    node: i32,
    off: power::Off,
    edit: String,
    then: Then,
    said: Option<String>,
}

type Edit = fn(&Path, &mut StdRng) -> Result<String>;

/// Torn, cut, flipped.
pub fn kinds() -> Vec<Kind> {
    let of = |name, about, then, edit: Edit| Kind {
        name,
        group: "damage",
        about,
        need: Need::Disks,
        inject: Box::new(move |world: &mut World, tag: &str| {
            let node = world.target(Target::Leader)?;
            if then == Then::Hides {
                with_a_table(world, node)?;
            }
            let off = power::off(world, vec![node])?;
            let edit = match edit(&world.disks.of(node)?.data(), &mut world.random) {
                Ok(edit) => edit,
                Err(error) => {
                    Box::new(off).heal(world)?;
                    return Err(error);
                }
            };
            world.nodes.mark(node, &edit);
            let before = world.nodes.log_length(node)?;
            world.nodes.start(&world.lab, node)?;
            let mut damaged = Damaged { node, off, edit, then, said: None };
            match then {
                Then::Goes => {}
                Then::Says(what) | Then::Refuses(what) => damaged.said = listen(world, node, before, what)?,
                Then::Hides => damaged.said = read_from(world, node, tag)?,
            }
            Ok(Box::new(damaged) as Box<dyn Active>)
        }),
    };
    vec![
        of(
            "torn-write",
            "power loss, and half a write behind the end of the write-ahead logs",
            Then::Goes,
            |data, random| {
                let (one, other) = (newest_wal(&data.join("log"))?, newest_wal(&data.join("quorum/log"))?);
                Ok(format!("{}; {}", tear(&one, random)?, tear(&other, random)?))
            },
        ),
        of(
            "cut-log",
            "power loss, and the newest write-ahead log of the partition logs has lost its second half",
            Then::Says("synced data is missing"),
            |data, _| cut(&newest_wal(&data.join("log"))?),
        ),
        of(
            "flip-log",
            "power loss, and a bit flipped in the newest write-ahead log of the partition logs",
            Then::Says("synced data is missing"),
            |data, random| flip(&newest_wal(&data.join("log"))?, random),
        ),
        of(
            "flip-table",
            "power loss, and a bit flipped in each block of a table or blob file of the partition logs; \
             mended by an operator: directory moved away, `rookery quorum replace`",
            Then::Hides,
            |data, random| flip_blocks(&largest_table(&data.join("log"))?, random),
        ),
        of(
            "cut-metadata",
            "power loss, and the newest write-ahead log of the metadata log has lost its second half; \
             mended by an operator: directory moved away, `rookery quorum replace`",
            Then::Refuses("move the directory away"),
            |data, _| cut(&newest_wal(&data.join("quorum/log"))?),
        ),
    ]
}

fn files(database: &Path, extensions: &[&str]) -> Result<Vec<(PathBuf, u64)>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(database).with_context(|| database.display().to_string())? {
        let path = entry?.path();
        let length = fs::metadata(&path)?.len();
        if length > 0 && path.extension().is_some_and(|e| extensions.iter().any(|x| e == *x)) {
            found.push((path, length));
        }
    }
    // Their names are numbers of one width.
    found.sort();
    Ok(found)
}

fn newest_wal(database: &Path) -> Result<PathBuf> {
    let found = files(database, &["log"])?.pop();
    Ok(found.with_context(|| format!("{} has nothing in its write-ahead log", database.display()))?.0)
}

fn largest_table(database: &Path) -> Result<PathBuf> {
    let found = files(database, &["sst", "blob"])?.into_iter().max_by_key(|(_, length)| *length);
    Ok(found.with_context(|| format!("{} has no table yet", database.display()))?.0)
}

/// What a node recovers when it starts it writes into a table.
fn with_a_table(world: &mut World, node: i32) -> Result<()> {
    if largest_table(&world.disks.of(node)?.data().join("log")).is_err() {
        world.nodes.mark(node, "SIGTERM");
        world.nodes.signal(node, Signal::TERM)?;
        world.nodes.wait(node)?;
        world.nodes.start(&world.lab, node)?;
        // In a mixture there may be no majority.
        world.nodes.wait_ready(node, LEADS_WITHIN, &world.stop)?;
    }
    Ok(())
}

/// Where a file lies below the node's data.
fn named(file: &Path) -> String {
    let parts: Vec<_> = file.iter().rev().take(2).map(|p| p.to_string_lossy()).collect();
    parts.into_iter().rev().collect::<Vec<_>>().join("/")
}

fn tear(file: &Path, random: &mut StdRng) -> Result<String> {
    let garbage: Vec<u8> = (0..random.random_range(1..5000)).map(|_| random.random()).collect();
    let length = fs::metadata(file)?.len();
    OpenOptions::new().write(true).open(file)?.write_all_at(&garbage, length)?;
    Ok(format!("{} bytes behind the {length} of {}", garbage.len(), named(file)))
}

fn cut(file: &Path) -> Result<String> {
    let length = fs::metadata(file)?.len();
    OpenOptions::new().write(true).open(file)?.set_len(length / 2)?;
    Ok(format!("{} cut from {length} bytes to {}", named(file), length / 2))
}

/// Not in the first bytes nor in the last ones: something follows.
fn flip(file: &Path, random: &mut StdRng) -> Result<String> {
    let length = fs::metadata(file)?.len();
    let (at, bit) = (random.random_range(length / 4..=length / 2), random.random_range(0..8));
    flip_bit(&OpenOptions::new().read(true).write(true).open(file)?, at, bit)?;
    Ok(format!("bit {bit} of byte {at} of {length} in {} flipped", named(file)))
}

/// One bit of each block, but in the file's head and index.
fn flip_blocks(file: &Path, random: &mut StdRng) -> Result<String> {
    let length = fs::metadata(file)?.len();
    let open = OpenOptions::new().read(true).write(true).open(file)?;
    let (mut at, mut flipped) = (length / 8 + random.random_range(0..BLOCK), 0);
    while at < length / 4 * 3 {
        flip_bit(&open, at, random.random_range(0..8))?;
        (at, flipped) = (at + BLOCK, flipped + 1);
    }
    Ok(format!("{flipped} bits of the {length} bytes of {} flipped", named(file)))
}

fn flip_bit(file: &File, at: u64, bit: u8) -> Result<()> {
    let mut byte = [0];
    file.read_exact_at(&mut byte, at)?;
    file.write_all_at(&[byte[0] ^ (1 << bit)], at)?;
    Ok(())
}

/// What the node says of it, once it does.
fn listen(world: &mut World, node: i32, before: u64, what: &str) -> Result<Option<String>> {
    let end = Instant::now() + SAYS_WITHIN;
    loop {
        let said = world.nodes.log_since(node, before)?;
        if let Some(line) = said.lines().find(|line| line.contains(what)) {
            return Ok(Some(line.to_owned()));
        }
        if Instant::now() > end {
            return Ok(None);
        }
        world.stop.sleep(Duration::from_millis(50))?;
    }
}

/// Read every partition that the node leads from it: what it serves is kept with the history, and checkers look at it. What it
/// refuses to serve is what it has noticed.
fn read_from(world: &mut World, node: i32, tag: &str) -> Result<Option<String>> {
    let end = Instant::now() + LEADS_WITHIN;
    let journal = Journal::create(&world.scratch, &format!("reader-{tag}"))?;
    let mut read: Vec<i32> = Vec::new();
    let mut refused = None;
    while Instant::now() < end && i32::try_from(read.len())? < PARTITIONS / 3 && refused.is_none() {
        world.stop.sleep(Duration::from_millis(200))?;
        let Ok((_, described)) = reader::describe(&[node], TOPIC) else { continue };
        for p in described.partitions.iter().filter(|p| p.leader_id == node).map(|p| p.partition_index) {
            if read.contains(&p) {
                continue;
            }
            match reader::whole(&[node], TOPIC, p) {
                Ok(whole) if whole.leader == node => {
                    read.push(p);
                    journal.write(Op::Poll { p, rows: whole.rows })?;
                }
                Ok(_) => {}
                // Leaders change; only what it says of its files counts.
                Err(error) if format!("{error:#}").contains("STORAGE") => refused = Some(format!("{error:#}")),
                Err(_) => {}
            }
        }
    }
    Ok(Some(match refused {
        Some(refused) => format!("noticed: {refused}"),
        None => format!("{} partitions read from it", read.len()),
    }))
}

impl Active for Damaged {
    fn detail(&self) -> String {
        format!("{}: {}", self.off.detail(), self.edit)
    }

    fn needs_the_others(&self) -> bool {
        matches!(self.then, Then::Refuses(_) | Then::Hides)
    }

    fn effect(&mut self, _: &mut World) -> Result<Option<String>> {
        let Some(seen) = self.off.seen() else { return Ok(None) };
        Ok(match (self.then, &self.said) {
            (Then::Goes, _) => Some(format!("{seen}; {}", self.edit)),
            (_, Some(said)) => Some(format!("{seen}; {}; {said}", self.edit)),
            (_, None) => None,
        })
    }

    fn heal(self: Box<Self>, world: &mut World) -> Result<()> {
        match self.then {
            Then::Goes | Then::Says(_) => {
                world.held.remove(&self.node);
                Ok(())
            }
            Then::Hides => {
                membership::stop(world, self.node)?;
                membership::replace(world, self.node)
            }
            Then::Refuses(_) => {
                let status = world.nodes.wait(self.node)?;
                if status.success() {
                    bail!("node {} left with code 0 although its metadata log is damaged", self.node);
                }
                membership::replace(world, self.node)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;

    #[test]
    fn an_edit_changes_what_it_says_and_nothing_else() {
        let temp = tempfile::tempdir().unwrap();
        let random = &mut StdRng::seed_from_u64(1);
        fs::write(temp.path().join("000007.log"), [0; 100]).unwrap();
        fs::write(temp.path().join("000009.log"), []).unwrap();
        fs::write(temp.path().join("000008.sst"), [0; 300]).unwrap();
        let wal = newest_wal(temp.path()).unwrap();
        assert!(wal.ends_with("000007.log"), "an empty one holds nothing to damage");
        let bits = |file: &Path| fs::read(file).unwrap().iter().map(|b| b.count_ones()).sum::<u32>();
        flip(&wal, random).unwrap();
        assert_eq!((bits(&wal), fs::read(&wal).unwrap().len()), (1, 100));
        tear(&wal, random).unwrap();
        let torn = fs::read(&wal).unwrap();
        assert!(torn.len() > 100 && torn[..100].iter().map(|b| b.count_ones()).sum::<u32>() == 1);
        fs::write(&wal, [0; 100]).unwrap();
        assert!(cut(&wal).unwrap().contains("from 100 bytes to 50"));
        assert_eq!(fs::read(&wal).unwrap(), [0; 50]);
        let table = largest_table(temp.path()).unwrap();
        assert!(table.ends_with("000008.sst"));
        fs::write(&table, vec![0; 100_000]).unwrap();
        flip_blocks(&table, random).unwrap();
        assert!((14..=16).contains(&bits(&table)) && fs::read(&table).unwrap().len() == 100_000);
    }
}
