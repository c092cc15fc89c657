//! Chance that can be repeated.

use std::ops::Range;

/// Random numbers of one seed: the same ones on every machine. splitmix64 (Steele, Lea, Flood: "Fast splittable
/// pseudorandom number generators", 2014); good for tests, not for secrets.
#[derive(Debug, Clone)]
pub struct TestRng {
    state: u64,
}

impl TestRng {
    /// Starts at `seed`, and prints it: a test that fails shows what it needs to fail again.
    pub fn new(seed: u64) -> Self {
        println!("random numbers of seed {seed}");
        Self { state: seed }
    }

    /// The next number, any of 64 bits.
    pub fn number(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let word = (self.state ^ (self.state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^ (word >> 31)
    }

    /// A number of this range.
    ///
    /// # Panics
    /// Where the range is empty.
    pub fn within(&mut self, range: Range<u64>) -> u64 {
        assert!(!range.is_empty(), "nothing lies within {range:?}");
        // The high half of a product: no number is likelier than another by more than 2^-64 of the range.
        let scaled = u128::from(self.number()) * u128::from(range.end - range.start);
        range.start + (scaled >> 64) as u64
    }

    /// One of these.
    ///
    /// # Panics
    /// Where there is none.
    pub fn one_of<'t, T>(&mut self, choices: &'t [T]) -> &'t T {
        &choices[self.within(0..choices.len() as u64) as usize]
    }

    /// This many random bytes.
    pub fn bytes(&mut self, count: usize) -> Vec<u8> {
        let words = std::iter::repeat_with(|| self.number().to_le_bytes());
        words.flatten().take(count).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_answers() {
        // The first outputs of splitmix64 for the seed 1234567, as other implementations print them.
        let mut rng = TestRng::new(1_234_567);
        let first = [rng.number(), rng.number(), rng.number()];
        assert_eq!(first, [6_457_827_717_110_365_317, 3_203_168_211_198_807_973, 9_817_491_932_198_370_423]);
    }

    #[test]
    fn ranges_are_filled_and_kept() {
        let mut rng = TestRng::new(1);
        let drawn: std::collections::BTreeSet<_> = (0..200).map(|_| rng.within(5..10)).collect();
        assert_eq!(drawn, (5..10).collect());
        assert_eq!(rng.bytes(11).len(), 11);
        assert_ne!(rng.bytes(16), rng.bytes(16));
        assert!(rng.one_of(&["a", "b"]).len() == 1);
        assert_eq!(rng.within(u64::MAX - 1..u64::MAX), u64::MAX - 1);
    }
}
