//! A response as a queue of shared pieces, written with one vectored system call where the kernel takes them all.

use bytes::{Buf, Bytes};
use rookery_protocol::codec::Segments;
use std::collections::VecDeque;
use std::io::IoSlice;

/// Pieces that are written one after the other without being joined.
#[derive(Debug, Default)]
pub struct Outgoing {
    pieces: VecDeque<Bytes>,
    remaining: usize,
}

impl From<Segments> for Outgoing {
    fn from(frame: Segments) -> Outgoing {
        frame.into_iter().collect()
    }
}

impl FromIterator<Bytes> for Outgoing {
    fn from_iter<I: IntoIterator<Item = Bytes>>(pieces: I) -> Outgoing {
        let pieces: VecDeque<Bytes> = pieces.into_iter().filter(|piece| !piece.is_empty()).collect();
        Outgoing { remaining: pieces.iter().map(Bytes::len).sum(), pieces }
    }
}

impl Buf for Outgoing {
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
        for step in 1..=7 {
            let mut outgoing: Outgoing = pieces.iter().cloned().collect();
            let mut written = Vec::new();
            while outgoing.has_remaining() {
                let mut slices = [IoSlice::new(&[]); 3];
                let count = outgoing.chunks_vectored(&mut slices);
                let flat: Vec<u8> = slices[..count].iter().flat_map(|s| s.iter().copied()).collect();
                let taken = flat.len().min(step);
                written.extend_from_slice(&flat[..taken]);
                outgoing.advance(taken);
            }
            assert_eq!(written, b"abcdefg", "step {step}");
        }
    }
}
