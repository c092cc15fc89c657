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
    /// A wait that hyper goes on with.
    left: Mutex<Option<Span>>,
    crowd: Arc<Crowd>,
    signals: Arc<Signals>,
}

/// One wait.
struct Span {
    began: tokio::time::Instant,
    deadline: tokio::time::Instant,
    /// No byte of a head has been seen.
    is_idle: bool,
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
            left: Mutex::new(None),
            crowd: crowd.clone(),
            signals: signals.clone(),
        }))
    }

    /// A wait for the next head, which begins now.
    pub(super) fn wait(&self) -> Wait {
        Wait { timer: self.0.clone(), span: self.0.begins(tokio::time::Instant::now()) }
    }

    /// Whoever waits next, which is hyper, goes on with this wait.
    pub(super) fn goes_on(&self, wait: Wait) {
        *self.0.left.lock().unwrap_or_else(PoisonError::into_inner) = Some(wait.span);
    }
}

impl Inner {
    /// A wait from then on.
    fn begins(&self, began: tokio::time::Instant) -> Span {
        let is_idle = !self.is_new.load(Ordering::Relaxed);
        self.is_new.store(false, Ordering::Relaxed);
        Span { began, deadline: began + if is_idle { self.idle } else { self.patience }, is_idle }
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
        let left = self.0.left.lock().unwrap_or_else(PoisonError::into_inner).take();
        // To read the clock once more would cost each request something.
        let began = || deadline.checked_sub(self.0.patience).unwrap_or(deadline);
        let span = left.unwrap_or_else(|| self.0.begins(began().into()));
        Box::pin(Wait { timer: self.0.clone(), span })
    }

    fn now(&self) -> Instant {
        tokio::time::Instant::now().into_std()
    }
}

/// A wait for the next head.
pub(super) struct Wait {
    timer: Arc<Inner>,
    span: Span,
}

impl Sleep for Wait {}

impl Future for Wait {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let Self { timer, span: Span { began, deadline, is_idle } } = self.get_mut();
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

    #[tokio::test(start_paused = true)]
    async fn hyper_goes_on_with_the_wait_that_was_begun_before_it() {
        for answered in [false, true] {
            let timer = timer(&Arc::default());
            if answered {
                drop(timer.wait());
            }
            let began = tokio::time::Instant::now();
            let mut wait = timer.wait();
            tokio::time::sleep(Duration::from_secs(20)).await;
            let polled = std::future::poll_fn(|context| Poll::Ready(Pin::new(&mut wait).poll(context))).await;
            assert!(polled.is_pending());
            timer.goes_on(wait);
            timer.sleep(PATIENCE).await;
            assert_near(began.elapsed(), if answered { IDLE } else { PATIENCE }, answered);
            let began = tokio::time::Instant::now();
            timer.sleep(PATIENCE).await;
            assert_near(began.elapsed(), IDLE, "the next is another one");
        }
    }
}
