//! Pauses that no two machines make alike: those that failed together shall not come back together.

use std::hash::{BuildHasher as _, RandomState};
use std::time::{Duration, Instant};

/// Anything between nothing and one. No secret follows from it.
pub fn random() -> f64 {
    let random = RandomState::new().hash_one(Instant::now()) >> 11; // 53 bits: what a double holds exactly
    random as f64 / (1_u64 << 53) as f64
}

/// At least half of a pause, and at most all of it.
pub fn of(pause: Duration) -> Duration {
    pause.mul_f64(0.5 + 0.5 * random())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn pauses_differ_and_are_no_longer_than_was_said() {
        let pause = Duration::from_secs(15);
        let pauses: BTreeSet<_> = (0..200).map(|_| of(pause)).collect();
        assert!(pauses.len() > 190, "{pauses:?}");
        assert!(pauses.iter().all(|one| (pause / 2..=pause).contains(one)), "{pauses:?}");
    }
}
