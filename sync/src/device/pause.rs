//! How long a device waits between two looks at its policy: ten thousand of them must not come in the same second.
//!
//! Devices that were started together, by one deployment or after one power cut, stay together for ever if each waits exactly as long
//! as the others; and a moment that many wait for, an available time or a deadline, is the same second on all of them.

use std::time::Duration;

use crate::jitter;

/// The first pause after a site was not reached; each further one is twice as long.
const FIRST: Duration = Duration::from_secs(30);
/// How much later than a moment that many wait for a device comes at most.
const LATE: Duration = Duration::from_secs(120);
/// The shortest pause.
const SHORTEST: Duration = Duration::from_secs(1);

/// How often in a row the site was not reached, or could not answer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Away {
    /// How often in a row.
    pub times: u32,
    /// How long it asked to be left alone (`Retry-After`).
    pub retry_after: Option<Duration>,
}

impl Away {
    /// Once more.
    pub fn again(self, retry_after: Option<Duration>) -> Self {
        Self { times: self.times.saturating_add(1), retry_after }
    }
}

/// The pause before the next look. `refresh`: how often the site wants to be asked. `next`: until something is due. `random`: between
/// nothing and one.
fn pause(refresh: Duration, next: Option<Duration>, away: Away, random: f64) -> Duration {
    let look = match away.times {
        0 => refresh.mul_f64(0.9 + 0.2 * random),
        times => {
            let bound = FIRST.saturating_mul(1 << (times - 1).min(30)).min(refresh);
            bound.mul_f64(0.5 + 0.5 * random).max(away.retry_after.unwrap_or_default().min(refresh))
        }
    };
    // Never before the moment; and the nearer it is, the closer: somebody may be watching.
    let due = next.map(|next| next + (next / 10).min(LATE).mul_f64(random));
    due.map_or(look, |due| due.min(look)).max(SHORTEST)
}

/// The pause before the next look of this device ([`self`]).
pub fn before_next(refresh: Duration, next: Option<Duration>, away: Away) -> Duration {
    pause(refresh, next, away, jitter::random())
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3_600);

    #[test]
    fn pauses_lie_where_the_table_says() {
        let seconds = Duration::from_secs;
        let away = |times, retry_after: Option<u64>| Away { times, retry_after: retry_after.map(seconds) };
        for (what, next, found, least, most) in [
            ("a site that answers", None, away(0, None), 3_240, 3_960),
            ("something far away", Some(seconds(1_800)), away(0, None), 1_800, 1_920),
            ("something soon", Some(seconds(20)), away(0, None), 20, 22),
            ("something after the next look", Some(3 * HOUR), away(0, None), 3_240, 3_960),
            ("something now", Some(seconds(0)), away(0, None), 1, 1),
            ("a site that is away", None, away(1, None), 15, 30),
            ("and again", None, away(2, None), 30, 60),
            ("and for long", None, away(9, None), 1_800, 3_600),
            ("and for ever", None, away(u32::MAX, None), 1_800, 3_600),
            ("a site that is busy", None, away(1, Some(300)), 300, 300),
            ("a site that never wants to be asked", None, away(1, Some(u64::MAX)), 3_600, 3_600),
            ("a site that is away, and something soon", Some(seconds(5)), away(4, None), 5, 6),
        ] {
            for random in [0.0, 0.3, 0.999_999] {
                let pause = pause(HOUR, next, found, random);
                assert!((seconds(least)..=seconds(most)).contains(&pause), "{what}: {pause:?}");
            }
        }
    }

    #[test]
    fn two_devices_do_not_stay_together() {
        let pauses: std::collections::BTreeSet<_> =
            (0..100).map(|_| before_next(HOUR, None, Away::default())).collect();
        assert!(pauses.len() > 90, "{pauses:?}");
    }

    #[test]
    fn who_is_reached_again_was_never_away() {
        let away = Away::default().again(None).again(Some(FIRST));
        assert_eq!(away, Away { times: 2, retry_after: Some(FIRST) });
        assert_eq!(Away { times: u32::MAX, retry_after: None }.again(None).times, u32::MAX);
    }
}
