//! When locations are made anew for those who do not wait for it: many changes in one go, and so seldom that most of the time
//! nothing is made.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// The longest pause between two rounds, however long one takes.
pub const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// After a round it is paused for so many times as long as that took.
const PAUSES: u32 = 4;

/// Pure but for its lock.
#[derive(Debug, Default)]
pub struct Relocating(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// Somebody is about to begin a round, or is asked to.
    waits: bool,
    /// When the last round ended, and how long it took.
    last: Option<(Instant, Duration)>,
}

impl Relocating {
    fn state<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Something has changed: after which time a round has to begin; `None` where somebody is about to begin one anyway.
    pub fn is_due(&self, now: Instant) -> Option<Duration> {
        self.state(|state| {
            let another = !std::mem::replace(&mut state.waits, true);
            let pause = |(ended, took): (Instant, Duration)| {
                (took * PAUSES).min(LONGEST_PAUSE).saturating_sub(now.saturating_duration_since(ended))
            };
            another.then(|| state.last.map_or(Duration::ZERO, pause))
        })
    }

    /// Whether something has changed that no round has begun for.
    pub fn waits(&self) -> bool {
        self.state(|state| state.waits)
    }

    /// A round begins to read.
    pub fn begins(&self, now: Instant) -> Instant {
        self.state(|state| state.waits = false);
        now
    }

    /// The round that began then has ended.
    pub fn ends(&self, begun: Instant, now: Instant) {
        self.state(|state| state.last = Some((now, now.saturating_duration_since(begun))));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_that_come_together_are_one_round_and_rounds_leave_time_for_others() {
        let (relocating, start) = (Relocating::default(), Instant::now());
        let at = |millis: u64| start + Duration::from_millis(millis);
        assert!(!relocating.waits());
        assert_eq!(relocating.is_due(at(0)), Some(Duration::ZERO), "one alone is seen to at once");
        assert_eq!(relocating.is_due(at(1)), None, "somebody is about to");
        assert!(relocating.waits());
        let round = relocating.begins(at(1));
        assert!(!relocating.waits());
        // It comes after the round has read.
        assert_eq!(relocating.is_due(at(50)), Some(Duration::ZERO));
        relocating.ends(round, at(101));
        assert!(relocating.waits(), "and is not forgotten with its end");
        relocating.ends(relocating.begins(at(101)), at(201));
        assert_eq!(relocating.is_due(at(301)), Some(Duration::from_millis(300)));
        relocating.ends(relocating.begins(at(1_000)), at(61_000));
        assert_eq!(relocating.is_due(at(61_000)), Some(LONGEST_PAUSE));
        relocating.ends(relocating.begins(at(80_000)), at(80_001));
        assert_eq!(relocating.is_due(at(90_000)), Some(Duration::ZERO));
    }
}
