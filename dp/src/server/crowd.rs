//! Whether most places of a listener are taken, and how long anybody is waited for then.
//!
//! Others would be refused for the sake of who may never say anything. So nobody keeps a place for long there who is silent where it
//! is to speak: with a handshake, with a head, with a body that it has announced.

use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep};

/// The longest that silence is waited for in a crowd. Waits are looked at as often, as most of them began before it.
pub(super) const IN_A_CROWD: Duration = Duration::from_secs(2);

/// Whether most places of a listener are taken.
#[derive(Debug, Default)]
pub(super) struct Crowd(AtomicBool);

impl Crowd {
    /// So many of all places are taken now.
    pub(super) fn counts(&self, taken: usize, places: usize) {
        self.0.store(taken.saturating_mul(4) > places.saturating_mul(3), Ordering::Relaxed);
    }

    /// Nobody comes any more, and who is there is to go: as in a crowd, nobody is waited for who is silent.
    pub(super) fn goes_home(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Whether most are taken.
    pub(super) fn is_there(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// What comes of `work` within `patience`, and within two seconds in a crowd; `None` where it takes longer.
    pub(super) async fn waits<T>(&self, patience: Duration, work: impl Future<Output = T>) -> Option<T> {
        let mut wait = Wait::begins(self, patience);
        tokio::select! {
            biased;
            done = work => Some(done),
            () = wait.ends(|_| true) => None,
        }
    }
}

/// One wait for somebody who is to speak.
#[derive(Debug)]
pub(super) struct Wait<'c> {
    crowd: &'c Crowd,
    patience: Duration,
    began: Instant,
    look: Pin<Box<Sleep>>,
}

impl<'c> Wait<'c> {
    /// Of `patience` at most.
    pub(super) fn begins(crowd: &'c Crowd, patience: Duration) -> Self {
        let look = Box::pin(sleep(patience.min(IN_A_CROWD)));
        Self { crowd, patience, began: Instant::now(), look }
    }

    /// Ends when the patience does, and in a crowd where `lags` says of the time that was waited that too little has come in it. May be
    /// dropped and asked again: it is the same wait.
    pub(super) async fn ends(&mut self, lags: impl Fn(Duration) -> bool) {
        loop {
            self.look.as_mut().await;
            let waited = self.began.elapsed();
            if waited >= self.patience || (self.crowd.is_there() && lags(waited)) {
                return;
            }
            self.look.as_mut().reset(self.began + self.patience.min(waited + IN_A_CROWD));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(30);

    /// For how long silence is waited for, where a crowd comes after so many seconds and goes after so many.
    async fn waited(comes: u64, goes: u64) -> Duration {
        let crowd = Crowd::default();
        let began = Instant::now();
        let changes = async {
            sleep(Duration::from_secs(comes)).await;
            crowd.counts(4, 4);
            sleep(Duration::from_secs(goes - comes)).await;
            crowd.counts(3, 4);
            pending::<()>().await;
        };
        tokio::select! {
            () = changes => {}
            over = crowd.waits(PATIENCE, pending::<()>()) => assert_eq!(over, None),
        }
        began.elapsed()
    }

    #[tokio::test(start_paused = true)]
    async fn silence_is_waited_for_as_long_as_there_is_room() {
        let near = |took: Duration, expected: Duration| {
            assert!(
                (expected..expected + Duration::from_millis(10)).contains(&took),
                "{took:?}, {expected:?}"
            );
        };
        near(waited(100, 200).await, PATIENCE);
        near(waited(0, 200).await, IN_A_CROWD);
        // One that has come and gone between two looks has kept nobody away.
        near(waited(5, 5).await, PATIENCE);
        // A wait that began before it.
        let late = waited(11, 200).await;
        assert!((11..=13).contains(&late.as_secs()), "{late:?}");
        near(waited(29, 200).await, PATIENCE);
    }

    #[tokio::test(start_paused = true)]
    async fn work_that_is_done_is_not_late() {
        let crowd = Crowd::default();
        crowd.counts(4, 4);
        assert_eq!(crowd.waits(Duration::ZERO, std::future::ready(7)).await, Some(7));
        let slow = async { sleep(Duration::from_millis(1_900)).await };
        assert_eq!(crowd.waits(PATIENCE, slow).await, Some(()));
    }

    #[tokio::test(start_paused = true)]
    async fn a_wait_goes_on_where_it_was_left() {
        let crowd = Crowd::default();
        crowd.counts(4, 4);
        let mut wait = Wait::begins(&crowd, PATIENCE);
        let began = Instant::now();
        // Something comes now and then, and is enough for ten seconds.
        let mut came = 0;
        let over = loop {
            tokio::select! {
                () = wait.ends(|waited| came < waited.as_secs().min(10) || waited.as_secs() > 10) => break began.elapsed(),
                () = sleep(Duration::from_millis(900)) => came += 1,
            }
        };
        assert!((11..=13).contains(&over.as_secs()), "{over:?}");
    }
}
