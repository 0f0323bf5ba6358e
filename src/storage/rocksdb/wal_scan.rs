//! The first witness: reads RocksDB's WAL files before RocksDB does.
//!
//! RocksDB stops at the first damaged record. This reader goes on in the next block, and wherever it finds the beginning of
//! a valid commit it takes from it which earlier commit was synced by then. The largest such number is what recovery must
//! reach.
//!
//! Format (RocksDB `db/log_format.h`): blocks of 32 KiB; physical records `crc u32 LE masked | length u16 LE | type u8 |
//! payload`, the CRC-32C over type and payload; a logical record is FULL or FIRST, MIDDLE…, LAST; a rest of a block under
//! seven bytes is zeros. A logical record is a write batch: sequence u64, count u32, then operations; the first one of ours
//! puts the commit numbers under [`COMMIT`](super::keys::COMMIT) in the default column family.

use super::keys::COMMIT;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

const BLOCK: usize = 32 * 1024;
const HEADER: usize = 7;
const FULL: u8 = 1;
const FIRST: u8 = 2;
const MIDDLE: u8 = 3;
const LAST: u8 = 4;
/// Operation "put into the default column family" of a write batch.
const PUT: u8 = 1;
const BATCH_HEADER: usize = 12;
/// The beginning of a commit up to its numbers: header, operation, key length, key, value length, value.
const COMMIT_PREFIX: usize = BATCH_HEADER + 1 + 1 + 1 + 1 + COMMIT_VALUE;
/// Bytes of the value under `COMMIT`.
pub const COMMIT_VALUE: usize = 16;

/// What every commit carries.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CommitNumbers {
    /// Its own number; the first is 1.
    pub commit: u64,
    /// The last commit known to be synced when it was made.
    pub synced: u64,
}

impl CommitNumbers {
    /// The value under `COMMIT`.
    pub fn encode(self) -> [u8; COMMIT_VALUE] {
        let mut value = [0; COMMIT_VALUE];
        value[..8].copy_from_slice(&self.commit.to_be_bytes());
        value[8..].copy_from_slice(&self.synced.to_be_bytes());
        value
    }

    /// From the value under `COMMIT`.
    pub fn decode(value: &[u8]) -> Option<Self> {
        let value: &[u8; COMMIT_VALUE] = value.try_into().ok()?;
        let (commit, synced) = value.split_at(8);
        Some(Self {
            commit: u64::from_be_bytes(commit.try_into().ok()?),
            synced: u64::from_be_bytes(synced.try_into().ok()?),
        })
    }
}

/// The largest commit number that the WAL files of a database name as synced; 0 if they name none.
pub fn synced_according_to_wal(database: &Path) -> io::Result<u64> {
    let mut synced = 0;
    let entries = match std::fs::read_dir(database) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
        other => other?,
    };
    for entry in entries {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "log") {
            synced = synced.max(scan_file(&path)?);
        }
    }
    Ok(synced)
}

fn scan_file(path: &Path) -> io::Result<u64> {
    let mut file = File::open(path)?;
    let mut scan = Scan::default();
    let mut block = vec![0; BLOCK];
    loop {
        let mut filled = 0;
        while filled < BLOCK {
            match file.read(&mut block[filled..])? {
                0 => break,
                read => filled += read,
            }
        }
        scan.block(&block[..filled]);
        if filled < BLOCK {
            return Ok(scan.synced);
        }
    }
}

/// Reads blocks in order; keeps only the beginning of the logical record it is in.
#[derive(Default)]
struct Scan {
    synced: u64,
    beginning: Option<Vec<u8>>,
}

impl Scan {
    fn block(&mut self, mut block: &[u8]) {
        while let Some((kind, payload, rest)) = physical_record(block) {
            self.record(kind, payload);
            block = rest;
        }
        if block.len() >= HEADER {
            // Damage, or the end of what was written: what began before does not go on behind it.
            self.beginning = None;
        }
    }

    fn record(&mut self, kind: u8, payload: &[u8]) {
        match kind {
            FULL | FIRST => self.beginning = Some(Vec::with_capacity(COMMIT_PREFIX)),
            MIDDLE | LAST => {}
            // Notes of RocksDB to itself.
            _ => return,
        }
        let Some(beginning) = &mut self.beginning else { return };
        let missing = COMMIT_PREFIX - beginning.len();
        beginning.extend_from_slice(&payload[..missing.min(payload.len())]);
        if beginning.len() == COMMIT_PREFIX {
            let numbers = commit_numbers(beginning);
            self.synced = self.synced.max(numbers.map_or(0, |n| n.synced));
            self.beginning = None;
        }
    }
}

/// The first record of a piece of a block, if it is whole and its checksum is right.
fn physical_record(block: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (header, rest) = block.split_first_chunk::<HEADER>()?;
    let length = usize::from(u16::from_le_bytes([header[4], header[5]]));
    let kind = header[6];
    if kind == 0 || length > rest.len() {
        return None;
    }
    let (payload, rest) = rest.split_at(length);
    let checksum = crc32c::crc32c_append(crc32c::crc32c(&[kind]), payload);
    let masked = checksum.rotate_right(15).wrapping_add(0xa282_ead8);
    (masked.to_le_bytes() == header[..4]).then_some((kind, payload, rest))
}

fn commit_numbers(beginning: &[u8]) -> Option<CommitNumbers> {
    let operation = beginning.get(BATCH_HEADER..)?;
    let value = operation.strip_prefix(&[PUT, COMMIT.len() as u8])?.strip_prefix(COMMIT)?;
    CommitNumbers::decode(value.strip_prefix(&[COMMIT_VALUE as u8])?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn physical(kind: u8, payload: &[u8]) -> Vec<u8> {
        let checksum = crc32c::crc32c_append(crc32c::crc32c(&[kind]), payload).rotate_right(15);
        let mut out = checksum.wrapping_add(0xa282_ead8).to_le_bytes().to_vec();
        out.extend((payload.len() as u16).to_le_bytes());
        out.push(kind);
        out.extend(payload);
        out
    }
    fn commit(commit: u64, synced: u64) -> Vec<u8> {
        let mut batch = vec![0; BATCH_HEADER];
        batch.extend([PUT, 1, b'c', COMMIT_VALUE as u8]);
        batch.extend(CommitNumbers { commit, synced }.encode());
        batch.extend([7; 100]);
        batch
    }
    fn scanned(blocks: &[Vec<u8>]) -> u64 {
        let mut scan = Scan::default();
        blocks.iter().for_each(|b| scan.block(b));
        scan.synced
    }

    #[test]
    fn commits_behind_damage_are_heard() {
        let mut first = physical(FULL, &commit(1, 0));
        first.extend(physical(FULL, &commit(2, 1)));
        let second = physical(FULL, &commit(9, 8));
        assert_eq!(scanned(&[first.clone(), second.clone()]), 8);
        first[20] ^= 1;
        assert_eq!(scanned(&[first.clone()]), 0, "what follows damage in its block is not trusted");
        assert_eq!(scanned(&[first, second]), 8);
        assert_eq!(scanned(&[vec![0; BLOCK]]), 0);
    }

    #[test]
    fn a_commit_whose_beginning_spans_two_blocks_is_heard_unless_damage_lies_between() {
        let whole = commit(5, 4);
        let blocks = [physical(FIRST, &whole[..20]), physical(LAST, &whole[20..])];
        assert_eq!(scanned(&blocks), 4);
        assert_eq!(scanned(&[blocks[0].clone(), vec![9; BLOCK], blocks[1].clone()]), 0);
    }
}
