//! How much of the log strangers may fill: what happens as often as they like is told of so often. Pure.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Tells of one kind of event at most so often in a window of time.
#[derive(Debug)]
pub struct LogThrottle {
    most: u64,
    window: Duration,
    /// When the window began, and the events in it.
    lately: Mutex<Option<(Instant, u64)>>,
}

impl LogThrottle {
    /// At most `most` times within `window`.
    pub const fn new(most: u64, window: Duration) -> Self {
        Self { most, window, lately: Mutex::new(None) }
    }

    /// Whether this one is told of, and if it is, how many of the window before were not.
    pub fn tells(&self, now: Instant) -> Option<u64> {
        let mut lately = self.lately.lock().unwrap_or_else(PoisonError::into_inner);
        let (since, count) = lately.get_or_insert((now, 0));
        let mut left_out = 0;
        if now.saturating_duration_since(*since) >= self.window {
            left_out = count.saturating_sub(self.most);
            (*since, *count) = (now, 0);
        }
        *count += 1;
        (*count <= self.most).then_some(left_out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_many_are_told_of_in_a_window_and_the_next_says_how_many_were_not() {
        let window = Duration::from_secs(60);
        for most in [1, 60] {
            let (throttle, now) = (LogThrottle::new(most, window), Instant::now());
            for _ in 0..most {
                assert_eq!(throttle.tells(now), Some(0));
            }
            for seconds in 0..5 {
                assert_eq!(throttle.tells(now + Duration::from_secs(seconds)), None);
            }
            assert_eq!(throttle.tells(now + window), Some(5));
            assert_eq!(throttle.tells(now + 2 * window), Some(0), "a quiet window leaves nothing out");
        }
    }
}
