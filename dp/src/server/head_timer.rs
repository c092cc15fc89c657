//! How long a connection waits for a head. hyper begins such a wait with every request and ends it a moment later; here that
//! moves no timer of the runtime: the one that is set stays, fires too early at most, and is then set to what is waited for.
//!
//! Where most places are taken, nobody holds one for long between two requests: others would be refused for the sake of who may
//! never ask again.

use std::fmt;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use hyper::rt::{Sleep, Timer};

type Armed = Arc<Mutex<Pin<Box<tokio::time::Sleep>>>>;

/// The longest wait for a head in a crowd.
const IN_A_CROWD: Duration = Duration::from_secs(2);

/// Whether most places of a listener are taken.
#[derive(Debug, Default)]
pub(super) struct Crowd(AtomicBool);

impl Crowd {
    /// So many of all places are taken now.
    pub(super) fn counts(&self, taken: usize, places: usize) {
        self.0.store(taken.saturating_mul(4) > places.saturating_mul(3), Ordering::Relaxed);
    }

    /// Whether most are taken.
    pub(super) fn is_there(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// The timer of one connection, which waits for one thing at a time.
#[derive(Clone)]
pub(super) struct HeadTimer {
    armed: Armed,
    crowd: Arc<Crowd>,
}

impl HeadTimer {
    /// Nothing is waited for yet.
    pub(super) fn new(patience: Duration, crowd: &Arc<Crowd>) -> Self {
        Self { armed: Arc::new(Mutex::new(Box::pin(tokio::time::sleep(patience)))), crowd: crowd.clone() }
    }
}

impl fmt::Debug for HeadTimer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HeadTimer")
    }
}

impl Timer for HeadTimer {
    fn sleep(&self, duration: Duration) -> Pin<Box<dyn Sleep>> {
        self.sleep_until(self.now() + duration)
    }

    fn sleep_until(&self, deadline: Instant) -> Pin<Box<dyn Sleep>> {
        let deadline = match self.crowd.is_there() {
            true => deadline.min(self.now() + IN_A_CROWD),
            false => deadline,
        };
        Box::pin(Wait { armed: self.armed.clone(), deadline: deadline.into() })
    }

    fn now(&self) -> Instant {
        tokio::time::Instant::now().into_std()
    }
}

struct Wait {
    armed: Armed,
    deadline: tokio::time::Instant,
}

impl Sleep for Wait {}

impl Future for Wait {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let mut armed = self.armed.lock().unwrap_or_else(PoisonError::into_inner);
        if armed.deadline() > self.deadline {
            armed.as_mut().reset(self.deadline);
        }
        loop {
            ready!(armed.as_mut().poll(context));
            if armed.deadline() >= self.deadline {
                return Poll::Ready(());
            }
            armed.as_mut().reset(self.deadline);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_secs(30);

    #[tokio::test(start_paused = true)]
    async fn every_wait_lasts_as_long_as_the_first() {
        let timer = HeadTimer::new(PATIENCE, &Arc::default());
        for requests in [0, 1, 7, 100] {
            for _ in 0..requests {
                let mut wait = timer.sleep(PATIENCE);
                tokio::time::sleep(Duration::from_millis(900)).await;
                let polled = std::future::poll_fn(|context| Poll::Ready(wait.as_mut().poll(context))).await;
                assert!(polled.is_pending());
                tokio::time::sleep(Duration::from_millis(900)).await;
            }
            let began = tokio::time::Instant::now();
            timer.sleep(PATIENCE).await;
            let took = began.elapsed();
            assert!((PATIENCE..PATIENCE + Duration::from_millis(5)).contains(&took), "{requests}: {took:?}");
        }
        let began = tokio::time::Instant::now();
        timer.sleep(Duration::from_secs(1)).await;
        assert!(began.elapsed() < Duration::from_secs(2), "a shorter one too");
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_holds_a_place_for_long_in_a_crowd() {
        let crowd = Arc::<Crowd>::default();
        let timer = HeadTimer::new(PATIENCE, &crowd);
        for (taken, expected) in [(3, PATIENCE), (4, IN_A_CROWD), (3, PATIENCE)] {
            crowd.counts(taken, 4);
            let began = tokio::time::Instant::now();
            timer.sleep(PATIENCE).await;
            let took = began.elapsed();
            assert!((expected..expected + Duration::from_millis(5)).contains(&took), "{taken}: {took:?}");
        }
    }
}
