//! How long a reader may take nothing, or next to nothing, of what it is sent, before its connection is given up.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep};

use super::crowd::Crowd;

/// Bytes per second that a reader takes at least, of the time that it is waited for. Who takes less keeps a turn, and content from
/// going, for nothing. In a crowd a body that was announced is to come at it too.
pub(super) const LEAST_RATE: u64 = 1 << 10;
/// The same where most places of a listener are taken, and others would be refused for the sake of the slowest: over so many times the
/// patience, so that a line that is slow for a while is none. Who is let go so has what it has, and comes again for the rest, as others
/// do for theirs: where we are what is slow, all take turns.
const LEAST_IN_A_CROWD: u64 = 16 << 10;
const LONG_IN_A_CROWD: u32 = 10;

/// The patience with one reader. It begins anew with every write that ends; how much was taken is looked at when writes have waited
/// for as long as it lasts, together; in a crowd also over a longer time. That we send slowly ourselves is no waiting for a reader.
#[derive(Debug)]
pub struct Stall {
    patience: Duration,
    pub(super) deadline: Pin<Box<Sleep>>,
    /// Since when.
    waiting: Option<Instant>,
    /// Since it was looked last.
    short: Taken,
    /// The same for what is asked of a reader in a crowd.
    long: Taken,
    crowd: Arc<Crowd>,
}

/// How long writes have waited, and how much was taken meanwhile.
#[derive(Debug, Default)]
struct Taken {
    waited: Duration,
    bytes: u64,
}

impl Taken {
    /// Whether it was less than so many bytes per second, where it has waited for so long; it begins anew then.
    fn is_less(&mut self, least: u64, over: Duration) -> bool {
        if self.waited < over {
            return false;
        }
        let Self { waited, bytes } = std::mem::take(self);
        bytes < least.saturating_mul(waited.as_secs())
    }
}

impl Stall {
    /// Waits so long for the reader to take something.
    pub fn new(patience: Duration) -> Self {
        Self::among(patience, &Arc::default())
    }

    /// The same of a reader who has one of the places of this listener.
    pub(super) fn among(patience: Duration, crowd: &Arc<Crowd>) -> Self {
        let (waiting, short, long) = Default::default();
        let deadline = Box::pin(sleep(patience));
        Self { patience, deadline, waiting, short, long, crowd: crowd.clone() }
    }

    /// What a write came to; one that waits for too long has failed with [`io::ErrorKind::TimedOut`].
    pub fn guard<T>(
        &mut self,
        context: &mut Context<'_>,
        polled: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if polled.is_ready() {
            if let Some(since) = self.waiting.take() {
                let waited = since.elapsed();
                self.short.waited += waited;
                self.long.waited += waited;
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
        self.short.bytes += taken as u64;
        self.long.bytes += taken as u64;
        let too_little = |what: &str| Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, what)));
        if self.short.is_less(LEAST_RATE, self.patience) {
            return too_little("the client has read next to nothing for long");
        }
        // It is looked anew each time, so that who was slow while there was room has time from then on.
        let is_slow = self.long.is_less(LEAST_IN_A_CROWD, self.patience * LONG_IN_A_CROWD);
        if is_slow && self.crowd.is_there() {
            return too_little("the client reads slowly, and others wait for its place");
        }
        polled
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

    /// Reads so many bytes each second, in a crowd that is there at these seconds; for how long it was let.
    async fn reads_in_a_crowd(bytes: usize, there: std::ops::Range<u64>) -> Option<u64> {
        let crowd = Arc::<Crowd>::default();
        let mut stall = Stall::among(Duration::from_secs(60), &crowd);
        for second in 0..4_000 {
            crowd.counts(if there.contains(&second) { 4 } else { 3 }, 4);
            let mut at = Box::pin(sleep(Duration::from_secs(1)));
            let written = std::future::poll_fn(|context| {
                let polled = at.as_mut().poll(context).map(|()| Ok(bytes));
                stall.guard_bytes(context, polled)
            });
            if written.await.is_err() {
                return Some(second);
            }
        }
        None
    }

    #[tokio::test(start_paused = true)]
    async fn who_reads_slowly_leaves_room_for_a_crowd() {
        assert_eq!(reads_in_a_crowd(2 << 10, 0..0).await, None, "nobody waits for its place");
        for (bytes, there, expected) in [
            (2 << 10, 0..4_000, Some(590..=610)),
            (15 << 10, 0..4_000, Some(590..=610)),
            (17 << 10, 0..4_000, None),
            // A crowd that comes and goes.
            (2 << 10, 100..500, None),
            (2 << 10, 700..4_000, Some(1_180..=1_220)),
        ] {
            let let_go = reads_in_a_crowd(bytes, there.clone()).await;
            let is_so = match (&expected, let_go) {
                (Some(expected), Some(second)) => expected.contains(&second),
                (expected, let_go) => expected.is_none() && let_go.is_none(),
            };
            assert!(is_so, "{bytes} a second, a crowd at {there:?}: {let_go:?}");
        }
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
