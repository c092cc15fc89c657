//! A limit on bytes per second, shared by all that are given it: transfers here, and the bodies of [`crate::server`].

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

/// After a quiet time this much of the rate may come at once.
const BURST: Duration = Duration::from_millis(100);

/// At most so many bytes per second, over all transfers that share it.
#[derive(Debug)]
pub struct RateLimit {
    bytes_per_second: u64,
    burst: Duration,
    /// When everything that was let through so far will have been due.
    paid_until: Mutex<Option<Instant>>,
}

impl RateLimit {
    /// A limit of `bytes_per_second`, at least 1.
    pub fn new(bytes_per_second: u64) -> Self {
        Self::with(bytes_per_second, BURST, None)
    }

    /// The same with another burst, which may only have begun at a time.
    pub(crate) fn with(bytes_per_second: u64, burst: Duration, since: Option<Instant>) -> Self {
        Self { bytes_per_second: bytes_per_second.max(1), burst, paid_until: Mutex::new(since) }
    }

    /// Bytes per second.
    pub(crate) fn bytes_per_second(&self) -> u64 {
        self.bytes_per_second
    }

    /// Waits until `bytes` that came are within the rate. Not reading meanwhile slows the sender down.
    pub(super) async fn spend(&self, bytes: usize) {
        let due = self.due(Instant::now(), bytes as u64);
        sleep_until(due).await;
    }

    fn cost(&self, bytes: u64) -> Duration {
        Duration::from_secs_f64(bytes as f64 / self.bytes_per_second as f64)
    }

    /// Gives `bytes` back that were taken and are not used.
    pub(crate) fn give_back(&self, bytes: u64) {
        let mut paid_until = self.paid_until.lock().unwrap_or_else(PoisonError::into_inner);
        *paid_until = paid_until.map(|paid| paid.checked_sub(self.cost(bytes)).unwrap_or(paid));
    }

    /// Takes the next `bytes` of the rate: when it has room for all of them.
    pub(crate) fn due(&self, now: Instant, bytes: u64) -> Instant {
        let cost = self.cost(bytes);
        let mut paid_until = self.paid_until.lock().unwrap_or_else(PoisonError::into_inner);
        let quiet = now.checked_sub(self.burst).unwrap_or(now);
        let due = paid_until.map_or(quiet, |paid| paid.max(quiet)) + cost;
        *paid_until = Some(due);
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn transfers_share_the_rate() {
        let limit = RateLimit::new(1_000_000);
        let began = Instant::now();
        let one = async {
            for _ in 0..20 {
                limit.spend(100_000).await;
            }
        };
        let two = async {
            for _ in 0..10 {
                limit.spend(100_000).await;
            }
        };
        futures_util::future::join(one, two).await;
        let took = began.elapsed().as_secs_f64();
        assert!((2.85..3.0).contains(&took), "3 MB at 1 MB/s took {took} s");
    }

    #[tokio::test(start_paused = true)]
    async fn a_quiet_time_is_not_saved_up() {
        let limit = RateLimit::new(1_000);
        limit.spend(100).await;
        tokio::time::sleep(Duration::from_secs(60)).await;
        let began = Instant::now();
        limit.spend(1_000).await;
        assert!(began.elapsed() >= Duration::from_millis(890));
    }
}
