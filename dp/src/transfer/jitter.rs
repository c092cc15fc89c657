//! Pauses that grow, and that are never the same for two machines.

use std::time::Duration;

use super::machine::Patience;

/// A reproducible source of pauses (SplitMix64: any seed is a good one, and nothing here needs a secret).
pub(super) struct Jitter(u64);

impl Jitter {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The pause before attempt number `failed` + 1: anything between nothing and a bound that doubles
    /// each time ("full jitter"), so that clients that failed together do not come back together.
    pub(super) fn pause(&mut self, patience: &Patience, failed: u32) -> Duration {
        let doublings = failed.saturating_sub(1).min(30);
        let bound = patience.first_delay.saturating_mul(1 << doublings).min(patience.longest_delay);
        let part = self.next() >> 11; // 53 bits: what a double holds exactly
        bound.mul_f64(part as f64 / (1u64 << 53) as f64)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_longest_and_use_their_whole_range() {
        let patience = Patience { longest_delay: Duration::from_secs(30), ..Patience::default() };
        let mut jitter = Jitter::new(7);
        for (failed, bound) in [(1, 1), (2, 2), (3, 4), (5, 16), (6, 30), (40, 30)] {
            let bound = Duration::from_secs(bound);
            let pauses: Vec<_> = (0..200).map(|_| jitter.pause(&patience, failed)).collect();
            assert!(pauses.iter().all(|pause| *pause <= bound), "attempt {failed}");
            assert!(pauses.iter().any(|pause| *pause > bound.mul_f64(0.9)), "attempt {failed}");
            assert!(pauses.iter().any(|pause| *pause < bound.mul_f64(0.1)), "attempt {failed}");
        }
    }

    #[test]
    fn a_seed_gives_the_same_pauses_again() {
        let pauses = |seed| {
            let mut jitter = Jitter::new(seed);
            (1..10).map(|failed| jitter.pause(&Patience::default(), failed)).collect::<Vec<_>>()
        };
        assert_eq!(pauses(1), pauses(1));
        assert_ne!(pauses(1), pauses(2));
    }
}
