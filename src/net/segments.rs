//! A response as a queue of shared pieces, written with one vectored system call where the kernel takes them all.

use bytes::{Buf, Bytes};
use std::collections::VecDeque;
use std::io::IoSlice;

/// Pieces that are written one after the other without being joined.
#[derive(Debug, Default)]
pub struct Segments {
    pieces: VecDeque<Bytes>,
    remaining: usize,
}

impl Segments {
    /// The frame of a response: its length (4 bytes, big-endian), then its pieces.
    pub fn frame(pieces: Vec<Bytes>) -> Segments {
        let length: usize = pieces.iter().map(Bytes::len).sum();
        let prefix = u32::try_from(length).expect("a response is far below 4 GiB: its parts are bounded");
        let mut segments = Segments::default();
        segments.push(Bytes::copy_from_slice(&prefix.to_be_bytes()));
        for piece in pieces {
            segments.push(piece);
        }
        segments
    }

    fn push(&mut self, piece: Bytes) {
        if !piece.is_empty() {
            self.remaining += piece.len();
            self.pieces.push_back(piece);
        }
    }
}

impl Buf for Segments {
    fn remaining(&self) -> usize {
        self.remaining
    }

    fn chunk(&self) -> &[u8] {
        self.pieces.front().map_or(&[], |piece| piece)
    }

    fn chunks_vectored<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        let mut count = 0;
        for (slot, piece) in slices.iter_mut().zip(&self.pieces) {
            *slot = IoSlice::new(piece);
            count += 1;
        }
        count
    }

    fn advance(&mut self, mut count: usize) {
        assert!(count <= self.remaining, "the kernel never writes more than it was given");
        self.remaining -= count;
        while let Some(front) = self.pieces.front_mut() {
            if front.len() > count {
                front.advance(count);
                return;
            }
            count -= front.len();
            self.pieces.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn partial_writes_lose_nothing() {
        let pieces =
            vec![Bytes::from_static(b"ab"), Bytes::new(), Bytes::from_static(b"cdef"), Bytes::from_static(b"g")];
        for step in 1..=11 {
            let mut segments = Segments::frame(pieces.clone());
            let mut written = Vec::new();
            while segments.has_remaining() {
                let mut slices = [IoSlice::new(&[]); 3];
                let count = segments.chunks_vectored(&mut slices);
                let flat: Vec<u8> = slices[..count].iter().flat_map(|s| s.iter().copied()).collect();
                let taken = flat.len().min(step);
                written.extend_from_slice(&flat[..taken]);
                segments.advance(taken);
            }
            assert_eq!(written, b"\0\0\0\x07abcdefg", "step {step}");
        }
    }
}
