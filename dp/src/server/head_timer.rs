//! How long a connection waits for a head. hyper begins such a wait with every request and ends it a moment later; here that
//! moves no timer of the runtime: the one that is set stays, fires too early at most, and is then set to what is waited for.
//!
//! ```text
//! accepted ──▶ first head: the time of a head
//! answered ──▶ silence: the idle time ──▶ a head has begun: the time of a head from then on
//! ```
//! Between two requests a client may think: Delivery Optimization wants to find its connection again after half a minute. In a
//! crowd it has two seconds all the same ([`super::crowd`]). Whether there is one is asked when the timer fires, which it does as
//! often as that while something is waited for, so that who began to wait before the crowd came makes room too.

use std::fmt;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use hyper::rt::{Sleep, Timer};

use super::connection::Signals;
use super::crowd::{Crowd, IN_A_CROWD};

/// The timer of one connection, which waits for one thing at a time.
#[derive(Clone)]
pub(super) struct HeadTimer(Arc<Inner>);

struct Inner {
    /// The one timer of the runtime.
    armed: Mutex<Pin<Box<tokio::time::Sleep>>>,
    /// For a head. hyper counts it from the beginning of each wait.
    patience: Duration,
    /// For the next head to begin, after an answer.
    idle: Duration,
    /// Nothing was waited for yet.
    is_new: AtomicBool,
    crowd: Arc<Crowd>,
    signals: Arc<Signals>,
}

impl HeadTimer {
    /// Nothing is waited for yet. Who is told to wait for `patience` waits for `idle` between two requests, if that is longer.
    pub(super) fn new(
        patience: Duration,
        idle: Duration,
        crowd: &Arc<Crowd>,
        signals: &Arc<Signals>,
    ) -> Self {
        Self(Arc::new(Inner {
            armed: Mutex::new(Box::pin(tokio::time::sleep(patience.min(IN_A_CROWD)))),
            patience,
            idle: idle.max(patience),
            is_new: AtomicBool::new(true),
            crowd: crowd.clone(),
            signals: signals.clone(),
        }))
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
        let Inner { patience, idle, is_new, .. } = &*self.0;
        let deadline = tokio::time::Instant::from(deadline);
        // To read the clock once more would cost each request something.
        let began = deadline.checked_sub(*patience).unwrap_or(deadline);
        let is_idle = !is_new.load(Ordering::Relaxed);
        is_new.store(false, Ordering::Relaxed);
        let deadline = if is_idle { began + *idle } else { deadline };
        Box::pin(Wait { timer: self.0.clone(), began, deadline, is_idle })
    }

    fn now(&self) -> Instant {
        tokio::time::Instant::now().into_std()
    }
}

struct Wait {
    timer: Arc<Inner>,
    began: tokio::time::Instant,
    deadline: tokio::time::Instant,
    /// No byte of a head has been seen.
    is_idle: bool,
}

impl Sleep for Wait {}

impl Future for Wait {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let Self { timer, began, deadline, is_idle } = self.get_mut();
        // A head that comes whole is not waited for: this one has begun, and the rest of it is to come in its time.
        if *is_idle && timer.signals.head_has_begun() {
            *is_idle = false;
            *deadline = (*deadline).min(tokio::time::Instant::now() + timer.patience);
        }
        let mut armed = timer.armed.lock().unwrap_or_else(PoisonError::into_inner);
        if armed.deadline() > *deadline {
            armed.as_mut().reset(*deadline);
        }
        loop {
            ready!(armed.as_mut().poll(context));
            let now = tokio::time::Instant::now();
            let until = match timer.crowd.is_there() {
                true => (*deadline).min(*began + IN_A_CROWD),
                false => *deadline,
            };
            if now >= until {
                return Poll::Ready(());
            }
            armed.as_mut().reset(until.min(now + IN_A_CROWD));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_secs(30);
    const IDLE: Duration = Duration::from_secs(75);

    #[track_caller]
    fn assert_near(took: Duration, expected: Duration, what: impl fmt::Debug) {
        assert!((expected..expected + Duration::from_millis(5)).contains(&took), "{what:?}: {took:?}");
    }

    fn timer(crowd: &Arc<Crowd>) -> HeadTimer {
        HeadTimer::new(PATIENCE, IDLE, crowd, &Arc::default())
    }

    #[tokio::test(start_paused = true)]
    async fn the_first_head_has_its_time_and_every_wait_after_an_answer_lasts_as_long() {
        let timer = timer(&Arc::default());
        let began = tokio::time::Instant::now();
        timer.sleep(PATIENCE).await;
        assert_near(began.elapsed(), PATIENCE, "the first");
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
            assert_near(began.elapsed(), IDLE, requests);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_time_shorter_than_the_looks_is_kept() {
        for (patience, idle) in [(300, 500), (300, 100), (1_900, 1_950)] {
            let (patience, idle) = (Duration::from_millis(patience), Duration::from_millis(idle));
            let timer = HeadTimer::new(patience, idle, &Arc::default(), &Arc::default());
            for expected in [patience, idle.max(patience)] {
                let began = tokio::time::Instant::now();
                timer.sleep(patience).await;
                assert_near(began.elapsed(), expected, (patience, idle));
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_head_that_has_begun_has_the_time_of_a_head() {
        let signals = Arc::<Signals>::default();
        let timer = HeadTimer::new(PATIENCE, IDLE, &Arc::default(), &signals);
        timer.sleep(PATIENCE).await;
        // It is noticed when bytes come, which wakes the connection.
        for (after, expected) in [(0, 30), (20, 50), (60, 75)] {
            signals.head_begun.store(false, Ordering::Relaxed);
            let began = tokio::time::Instant::now();
            let mut wait = timer.sleep(PATIENCE);
            tokio::select! {
                biased;
                () = &mut wait => panic!("it was not waited for"),
                () = tokio::time::sleep(Duration::from_secs(after)) => {}
            }
            signals.head_begun.store(true, Ordering::Relaxed);
            wait.await;
            assert_near(began.elapsed(), Duration::from_secs(expected), after);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_holds_a_place_for_long_in_a_crowd() {
        let crowd = Arc::<Crowd>::default();
        let timer = timer(&crowd);
        for (taken, expected) in [(3, PATIENCE), (4, IN_A_CROWD), (3, IDLE), (4, IN_A_CROWD)] {
            crowd.counts(taken, 4);
            let began = tokio::time::Instant::now();
            timer.sleep(PATIENCE).await;
            assert_near(began.elapsed(), expected, taken);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn who_waited_before_the_crowd_came_makes_room_too() {
        let crowd = Arc::<Crowd>::default();
        let timer = timer(&crowd);
        for first in [true, false] {
            crowd.counts(0, 4);
            let began = tokio::time::Instant::now();
            let mut wait = timer.sleep(PATIENCE);
            tokio::select! {
                biased;
                () = &mut wait => panic!("it was not waited for"),
                () = tokio::time::sleep(Duration::from_secs(15)) => {}
            }
            crowd.counts(4, 4);
            wait.await;
            let took = began.elapsed();
            assert!((15..=17).contains(&took.as_secs()), "{first}: {took:?}");
        }
    }
}
