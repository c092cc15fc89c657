//! How much of the log strangers may fill: who has no good token is refused as often as it likes, and told of so often. Pure.

use std::time::{Duration, Instant};

use catalog::problem::Code;
use dp::server::LogThrottle;

/// So many lines within the window.
const MOST: u64 = 60;
const WINDOW: Duration = Duration::from_secs(60);

/// What was told of strangers lately.
#[derive(Debug)]
pub struct StrangerThrottle(LogThrottle);

impl Default for StrangerThrottle {
    fn default() -> Self {
        Self(LogThrottle::new(MOST, WINDOW))
    }
}

impl StrangerThrottle {
    /// Whether this refusal is told, and if it is, how many were not before it.
    pub fn tells(&self, code: Code, now: Instant) -> Option<u64> {
        let of_a_stranger = matches!(
            code,
            Code::ApiTokenRefused | Code::TooManyTries | Code::PlainHttpRefused | Code::ApiOriginRefused
        );
        if !of_a_stranger {
            return Some(0);
        }
        self.0.tells(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strangers_fill_a_minute_with_sixty_lines_and_those_who_may_are_always_told_of() {
        let (quiet, now) = (StrangerThrottle::default(), Instant::now());
        for _ in 0..MOST {
            assert_eq!(quiet.tells(Code::ApiTokenRefused, now), Some(0));
        }
        for _ in 0..5 {
            assert_eq!(quiet.tells(Code::ApiOriginRefused, now), None);
        }
        assert_eq!(quiet.tells(Code::NotPermitted, now), Some(0), "of a token");
        assert_eq!(quiet.tells(Code::ApiTokenRefused, now + WINDOW), Some(5));
        assert_eq!(quiet.tells(Code::ApiTokenRefused, now + WINDOW), Some(0));
    }
}
