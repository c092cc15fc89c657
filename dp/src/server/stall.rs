//! How long a reader may take nothing, or next to nothing, of what it is sent, before its connection is given up.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep};

/// Bytes per second that a reader takes at least, of the time that it is waited for. Who takes less keeps a turn, and content from
/// going, for nothing.
const LEAST_RATE: u64 = 1 << 10;

/// The patience with one reader. It begins anew with every write that ends; how much was taken is looked at when writes have waited
/// for as long as it lasts, together. That we send slowly ourselves is no waiting for a reader.
#[derive(Debug)]
pub struct Stall {
    patience: Duration,
    pub(super) deadline: Pin<Box<Sleep>>,
    /// Since when.
    waiting: Option<Instant>,
    /// How long writes have waited, and how much was taken meanwhile.
    waited: Duration,
    taken: u64,
}

impl Stall {
    /// Waits so long for the reader to take something.
    pub fn new(patience: Duration) -> Self {
        let (waiting, waited, taken) = Default::default();
        Self { patience, deadline: Box::pin(sleep(patience)), waiting, waited, taken }
    }

    /// What a write came to; one that waits for too long has failed with [`io::ErrorKind::TimedOut`].
    pub fn guard<T>(
        &mut self,
        context: &mut Context<'_>,
        polled: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if polled.is_ready() {
            if let Some(since) = self.waiting.take() {
                self.waited += since.elapsed();
            }
            return polled;
        }
        if self.waiting.is_none() {
            self.waiting = Some(Instant::now());
            self.deadline.as_mut().reset(Instant::now() + self.patience);
        }
        let over = |()| Err(io::Error::new(io::ErrorKind::TimedOut, "the client has stopped reading"));
        self.deadline.as_mut().poll(context).map(over)
    }

    /// The same of a write that says how many bytes were taken.
    pub fn guard_bytes(
        &mut self,
        context: &mut Context<'_>,
        polled: Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        let polled = self.guard(context, polled);
        let Poll::Ready(Ok(taken)) = polled else { return polled };
        self.taken += taken as u64;
        if self.waited < self.patience {
            return polled;
        }
        let least = LEAST_RATE.saturating_mul(self.waited.as_secs());
        let is_enough = self.taken >= least;
        (self.waited, self.taken) = (Duration::ZERO, 0);
        match is_enough {
            true => polled,
            false => Poll::Ready(Err(io::Error::new(
                io::ErrorKind::TimedOut,
                "the client has read next to nothing for long",
            ))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Writes so many bytes after so long a wait, again and again; how many were taken when it was given up, if it was.
    async fn reads(bytes: usize, every: Duration, times: usize) -> Option<usize> {
        let mut stall = Stall::new(Duration::from_secs(60));
        for time in 0..times {
            let mut at = Box::pin(sleep(every));
            let written = std::future::poll_fn(|context| {
                let polled = at.as_mut().poll(context).map(|()| Ok(bytes));
                stall.guard_bytes(context, polled)
            });
            if let Err(error) = written.await {
                assert_eq!(error.kind(), io::ErrorKind::TimedOut);
                return Some(time * bytes);
            }
        }
        None
    }

    #[tokio::test(start_paused = true)]
    async fn who_reads_next_to_nothing_is_given_up() {
        let seconds = Duration::from_secs;
        assert_eq!(reads(1 << 20, seconds(61), 10).await, Some(0), "it has stopped");
        assert_eq!(reads(4 << 10, seconds(59), 1_000).await, Some(4 << 10), "a little each minute");
        let drop_by_drop = reads(1, Duration::from_millis(100), 10_000).await;
        assert!(drop_by_drop.is_some_and(|taken| taken <= 600), "{drop_by_drop:?}");
        assert_eq!(reads(2 << 10, seconds(1), 10_000).await, None, "a slow line");
        assert_eq!(reads(256 << 10, seconds(50), 1_000).await, None, "that takes much at once");
    }

    /// Between our writes nobody waits for the reader.
    #[tokio::test(start_paused = true)]
    async fn who_is_sent_little_is_not_to_blame() {
        let mut stall = Stall::new(Duration::from_secs(60));
        for _ in 0..1_000 {
            sleep(Duration::from_secs(59)).await;
            let written = std::future::poll_fn(|context| stall.guard_bytes(context, Poll::Ready(Ok(1))));
            assert!(written.await.is_ok());
        }
    }
}
