//! How fast bodies may be sent: in all, and to one client.
//!
//! A [`Rate`] is a line: whoever wants to send takes the next place in it and waits until it is due. Nobody overtakes, a
//! place costs a moment under a lock, and one place is worth many milliseconds of the rate. Where nothing is limited there
//! is no [`Pace`], and nothing of this happens.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep_until};

use crate::transfer::RateLimit;

/// What a place in the line is worth: so much time of the rate, within these bounds.
const PLACE: Duration = Duration::from_millis(16);
const SMALLEST_PLACE: u64 = 4 * 1024;
const LARGEST_PLACE: u64 = 1024 * 1024;
/// A place that was not used in time is not lost, for so long: timers are not exact.
const SLACK: Duration = Duration::from_millis(20);
/// Timers are no more exact than this; waiting for less would be a loop.
const TICK: Duration = Duration::from_millis(1);

/// At most so many bytes per second, over all that share it.
#[derive(Debug)]
pub struct Rate(RateLimit);

impl Rate {
    /// A rate of at least one byte per second, with nothing saved up.
    pub fn new(bytes_per_second: u64, now: Instant) -> Self {
        Self(RateLimit::with(bytes_per_second, SLACK, Some(now)))
    }

    /// What one place is worth, in bytes.
    fn place(&self) -> u64 {
        let worth = u128::from(self.0.bytes_per_second()) * PLACE.as_millis() / 1_000;
        u64::try_from(worth).unwrap_or(LARGEST_PLACE).clamp(SMALLEST_PLACE, LARGEST_PLACE)
    }

    /// Takes a place for `bytes`; answers when it is due, which is when the rate has room for all of them.
    fn reserve(&self, now: Instant, bytes: u64) -> Instant {
        self.0.due(now, bytes)
    }

    /// Gives a place back that nobody waits for any more: those behind it would wait for nothing.
    fn give_back(&self, bytes: u64) {
        self.0.give_back(bytes);
    }
}

/// The pace of one body.
#[derive(Debug)]
pub struct Pace {
    rates: Vec<Arc<Rate>>,
    granted: u64,
    due: Option<Pin<Box<Sleep>>>,
}

impl Pace {
    /// The pace that these rates allow together; `None` where there is none.
    pub fn of(rates: impl IntoIterator<Item = Arc<Rate>>) -> Option<Self> {
        let rates: Vec<_> = rates.into_iter().collect();
        (!rates.is_empty()).then_some(Self { rates, granted: 0, due: None })
    }

    /// How many of the next `bytes` may be sent now: at least one of them, if there are any.
    pub fn poll_ready(&mut self, context: &mut Context<'_>, bytes: u64) -> Poll<u64> {
        if self.due.is_none() {
            let now = Instant::now();
            let places = self.rates.iter().map(|rate| rate.place()).min().unwrap_or(LARGEST_PLACE);
            self.granted = bytes.min(places);
            let due = self.rates.iter().map(|rate| rate.reserve(now, self.granted)).max().unwrap_or(now);
            if due <= now + TICK {
                return Poll::Ready(std::mem::take(&mut self.granted));
            }
            self.due = Some(Box::pin(sleep_until(due)));
        }
        if let Some(due) = &mut self.due {
            ready!(due.as_mut().poll(context));
        }
        self.due = None;
        Poll::Ready(std::mem::take(&mut self.granted))
    }
}

impl Drop for Pace {
    fn drop(&mut self) {
        if self.due.is_some() {
            self.rates.iter().for_each(|rate| rate.give_back(self.granted));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn send(pace: &mut Option<Pace>, mut bytes: u64) {
        while bytes > 0 {
            let granted = match pace {
                None => bytes,
                Some(pace) => std::future::poll_fn(|context| pace.poll_ready(context, bytes)).await,
            };
            assert!((1..=bytes).contains(&granted));
            bytes -= granted;
        }
    }

    fn rate(bytes_per_second: u64) -> Arc<Rate> {
        Arc::new(Rate::new(bytes_per_second, Instant::now()))
    }

    /// The clock of these tests is simulated: it moves only while everybody waits.
    #[tokio::test(start_paused = true)]
    async fn one_body_goes_at_its_rate() {
        for bytes_per_second in [1_000, 100_000, 10_000_000, 1_000_000_000] {
            let mut pace = Pace::of([rate(bytes_per_second)]);
            let began = Instant::now();
            send(&mut pace, bytes_per_second * 3).await;
            let took = began.elapsed().as_secs_f64();
            assert!((2.9..3.1).contains(&took), "{bytes_per_second}: {took}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn bodies_share_the_whole_and_none_starves() {
        let (all, began) = (rate(1_000_000), Instant::now());
        let one = |bytes: u64| {
            let all = all.clone();
            tokio::spawn(async move {
                send(&mut Pace::of([all]), bytes).await;
                began.elapsed().as_secs_f64()
            })
        };
        let (short, long) = (one(500_000), one(2_500_000));
        let (short, long) = (short.await.unwrap(), long.await.unwrap());
        assert!((0.9..1.1).contains(&short), "half of the rate while both run: {short}");
        assert!((2.9..3.1).contains(&long), "all of it afterwards: {long}");
    }

    #[tokio::test(start_paused = true)]
    async fn the_lower_of_two_rates_counts() {
        let (all, own) = (rate(1_000_000), rate(250_000));
        let began = Instant::now();
        send(&mut Pace::of([all, own]), 500_000).await;
        let took = began.elapsed().as_secs_f64();
        assert!((1.9..2.1).contains(&took), "{took}");
    }

    #[tokio::test(start_paused = true)]
    async fn who_breaks_off_while_it_waits_leaves_nobody_waiting() {
        let all = rate(1_000_000);
        for _ in 0..1_000 {
            let mut pace = Pace::of([all.clone()]).unwrap();
            let polled = std::future::poll_fn(|context| Poll::Ready(pace.poll_ready(context, 100_000))).await;
            assert!(polled.is_pending());
        }
        let began = Instant::now();
        send(&mut Pace::of([all]), 1_000_000).await;
        let took = began.elapsed().as_secs_f64();
        assert!((0.9..1.1).contains(&took), "{took}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_quiet_time_is_not_saved_up() {
        let all = rate(1_000_000);
        tokio::time::sleep(Duration::from_secs(60)).await;
        let began = Instant::now();
        send(&mut Pace::of([all]), 1_000_000).await;
        assert!(began.elapsed() > Duration::from_millis(950));
    }

    #[tokio::test(start_paused = true)]
    async fn without_a_rate_there_is_no_pace() {
        assert!(Pace::of([]).is_none());
        let began = Instant::now();
        send(&mut None, u64::MAX).await;
        assert_eq!(began.elapsed(), Duration::ZERO);
    }
}
