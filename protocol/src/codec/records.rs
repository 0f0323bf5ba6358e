//! [`Records`]: the `records` type of the wire, as pieces.

use std::fmt;

use bytes::{BufMut, Bytes, BytesMut};

/// Record batches, one behind the other, in as many pieces as they come in: a fetch answers with batches that lie apart
/// in memory, and joining them would copy. A decoded field is always one piece, a slice of the frame. Equality is that
/// of the bytes.
#[derive(Clone, Default)]
pub struct Records(Pieces);

#[derive(Clone)]
enum Pieces {
    One(Bytes),
    Many(Vec<Bytes>),
}

impl Default for Pieces {
    fn default() -> Self {
        Self::One(Bytes::new())
    }
}

impl Records {
    /// None at all.
    pub fn new() -> Self {
        Self::default()
    }

    /// Add a piece at the end.
    pub fn push(&mut self, piece: Bytes) {
        if piece.is_empty() {
            return;
        }
        match &mut self.0 {
            Pieces::One(first) if first.is_empty() => *first = piece,
            Pieces::One(first) => self.0 = Pieces::Many(vec![std::mem::take(first), piece]),
            Pieces::Many(pieces) => pieces.push(piece),
        }
    }

    /// The pieces in order.
    pub fn pieces(&self) -> &[Bytes] {
        match &self.0 {
            Pieces::One(piece) => std::slice::from_ref(piece),
            Pieces::Many(pieces) => pieces,
        }
    }

    /// Bytes of all pieces.
    pub fn len(&self) -> usize {
        self.pieces().iter().map(Bytes::len).sum()
    }

    /// Whether there is not a single byte.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// One piece; copies if there are several.
    pub fn into_bytes(self) -> Bytes {
        match self.0 {
            Pieces::One(piece) => piece,
            Pieces::Many(pieces) => {
                let mut whole = BytesMut::with_capacity(pieces.iter().map(Bytes::len).sum());
                pieces.iter().for_each(|piece| whole.put_slice(piece));
                whole.freeze()
            }
        }
    }
}

impl From<Bytes> for Records {
    fn from(piece: Bytes) -> Self {
        Self(Pieces::One(piece))
    }
}

impl FromIterator<Bytes> for Records {
    fn from_iter<I: IntoIterator<Item = Bytes>>(pieces: I) -> Self {
        let mut records = Self::new();
        pieces.into_iter().for_each(|piece| records.push(piece));
        records
    }
}

impl PartialEq for Records {
    fn eq(&self, other: &Self) -> bool {
        self.pieces().iter().flatten().eq(other.pieces().iter().flatten())
    }
}

impl Eq for Records {}

impl fmt::Debug for Records {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Records({} bytes in {} pieces)", self.len(), self.pieces().len())
    }
}
