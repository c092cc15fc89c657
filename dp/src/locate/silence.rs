//! How long a point has said nothing.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use jiff::Timestamp;

/// When a point was heard of last. Whoever hears of it goes on telling after a snapshot was made of it.
#[derive(Debug)]
pub struct Heard {
    /// In milliseconds.
    last: AtomicI64,
    /// Since when anybody listens: who was not there has missed nothing.
    listens: Timestamp,
    /// So long is no silence.
    patience: Duration,
}

impl Heard {
    /// A point that was heard of at `last`, and is listened to since `listens`. Silent is who says nothing for longer than
    /// `patience` meanwhile.
    pub fn new(last: Timestamp, listens: Timestamp, patience: Duration) -> Self {
        Self { last: AtomicI64::new(last.as_millisecond()), listens, patience }
    }

    /// It speaks.
    pub fn hear(&self, now: Timestamp) {
        self.last.store(now.as_millisecond(), Ordering::Relaxed);
    }

    /// How long it has said nothing, where that is too long.
    pub fn silent(&self, now: Timestamp) -> Option<Duration> {
        let since = |from: i64| u64::try_from(now.as_millisecond().saturating_sub(from)).unwrap_or_default();
        let last = self.last.load(Ordering::Relaxed);
        let missed = Duration::from_millis(since(last.max(self.listens.as_millisecond())));
        (missed > self.patience).then(|| Duration::from_millis(since(last)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silence_table() {
        let at = |second: i64| Timestamp::from_second(second).unwrap();
        let seconds = Duration::from_secs;
        for (last, listens, now, expected) in [
            (1_000, 0, 1_060, None),
            (1_000, 0, 1_061, Some(61)),
            (1_000, 0, 4_600, Some(3_600)),
            // The site itself was not there: who had no time yet to say anything is not silent.
            (1_000, 4_590, 4_600, None),
            (1_000, 4_500, 4_600, Some(3_600)),
            // A clock that was put back.
            (1_000, 0, 900, None),
        ] {
            let heard = Heard::new(at(last), at(listens), seconds(60));
            assert_eq!(heard.silent(at(now)), expected.map(seconds), "{last} {listens} {now}");
            heard.hear(at(now));
            assert_eq!(heard.silent(at(now)), None);
        }
    }
}
