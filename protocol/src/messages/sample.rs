//! Random messages for tests.

/// A small generator (SplitMix64): the same seed gives the same messages.
pub struct Dice(pub u64);

impl Dice {
    /// Any number; the edges of every width come often.
    pub fn number(&mut self) -> u64 {
        const EDGES: [u64; 8] = [0, 1, u64::MAX, i64::MAX as u64, i64::MIN as u64, i32::MAX as u64, 1 << 31, 0x7fff];
        match self.below(4) {
            0 => EDGES[self.below(EDGES.len())],
            _ => self.next(),
        }
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }

    /// Short, empty, longer than the inline size, longer than one compact length byte, not only ASCII.
    pub fn text(&mut self) -> String {
        let length = [0, 1, 5, 22, 24, 130][self.below(6)];
        (0..length).map(|_| ['a', 'Z', '7', 'é', '鳥'][self.below(5)]).collect()
    }

    pub fn bytes(&mut self) -> Vec<u8> {
        let length = [0, 1, 20, 127, 1500][self.below(5)];
        (0..length).map(|_| self.next() as u8).collect()
    }
}
