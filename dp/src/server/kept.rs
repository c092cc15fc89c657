//! What was read about contents and is asked for often: kept in memory, shared by all who are sent it, read once.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use catalog::digest::Sha256Digest;

/// Readings of the contents that were asked for last.
#[derive(Debug)]
pub(super) struct Kept<T> {
    most_bytes: usize,
    readings: Mutex<VecDeque<Reading<T>>>,
    /// One reads at a time, and who waited for it finds what it has read: however many ask, memory is taken once. The thread
    /// that reads has it, whether or not the one who asked still waits.
    turn: Arc<tokio::sync::Mutex<()>>,
}

#[derive(Debug)]
struct Reading<T> {
    digest: Sha256Digest,
    value: T,
    bytes: usize,
}

impl<T: Clone + Send + 'static> Kept<T> {
    /// Keeps what takes no more than `most_bytes` together, and the last one however large it is.
    pub(super) fn new(most_bytes: usize) -> Self {
        Self { most_bytes, readings: Mutex::default(), turn: Arc::default() }
    }

    /// What is kept of a content, or what `read` finds on the blocking pool, with the bytes of memory it takes.
    pub(super) async fn of(
        self: &Arc<Self>,
        digest: Sha256Digest,
        read: impl FnOnce() -> Option<(T, usize)> + Send + 'static,
    ) -> Option<T> {
        if let Some(found) = self.kept(digest) {
            return Some(found);
        }
        let turn = self.turn.clone().lock_owned().await;
        if let Some(found) = self.kept(digest) {
            return Some(found);
        }
        let kept = self.clone();
        let reading = tokio::task::spawn_blocking(move || {
            let _turn = turn;
            let (value, bytes) = read()?;
            kept.keep(Reading { digest, value: value.clone(), bytes });
            Some(value)
        });
        reading.await.ok()?
    }

    fn kept(&self, digest: Sha256Digest) -> Option<T> {
        let mut readings = self.readings.lock().unwrap_or_else(PoisonError::into_inner);
        let at = readings.iter().position(|reading| reading.digest == digest)?;
        readings.make_contiguous()[..=at].rotate_right(1);
        readings.front().map(|reading| reading.value.clone())
    }

    fn keep(&self, reading: Reading<T>) {
        let mut readings = self.readings.lock().unwrap_or_else(PoisonError::into_inner);
        readings.push_front(reading);
        let mut bytes = 0_usize;
        let fitting = readings.iter().take_while(|reading| {
            bytes = bytes.saturating_add(reading.bytes);
            bytes <= self.most_bytes
        });
        let fitting = fitting.count().max(1);
        readings.truncate(fitting);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Poll;

    use super::*;

    #[tokio::test]
    async fn many_who_ask_at_once_read_once() {
        let (kept, reads) = (Arc::new(Kept::new(100)), Arc::new(AtomicUsize::new(0)));
        let digest = Sha256Digest::of(b"one");
        let asking = (0..50).map(|_| {
            let (kept, reads) = (kept.clone(), reads.clone());
            tokio::spawn(async move {
                let read = move || Some((reads.fetch_add(1, Ordering::Relaxed), 10));
                kept.of(digest, read).await
            })
        });
        for asked in asking.collect::<Vec<_>>() {
            assert_eq!(asked.await.unwrap(), Some(0));
        }
        assert_eq!(reads.load(Ordering::Relaxed), 1);
    }

    #[tokio::test]
    async fn who_breaks_off_makes_nobody_read_again() {
        let kept = Arc::new(Kept::new(100));
        let digest = Sha256Digest::of(b"one");
        let (go_on, wait) = std::sync::mpsc::channel::<()>();
        let read = move || {
            wait.recv().ok()?;
            Some((1, 10))
        };
        let mut broken_off = Box::pin(kept.of(digest, read));
        let polled = std::future::poll_fn(|context| Poll::Ready(broken_off.as_mut().poll(context))).await;
        assert!(polled.is_pending());
        drop(broken_off);
        let other = tokio::spawn({
            let kept = kept.clone();
            async move { kept.of(digest, || Some((2, 10))).await }
        });
        go_on.send(()).unwrap();
        assert_eq!(other.await.unwrap(), Some(1), "what the first one had read");
    }

    #[tokio::test]
    async fn what_was_asked_for_longest_ago_makes_room_and_what_is_not_there_is_asked_again() {
        let kept = Arc::new(Kept::new(100));
        let digests = ["a", "b", "c"].map(|name| Sha256Digest::of(name.as_bytes()));
        for (digest, bytes) in digests.iter().zip([60, 40, 40]) {
            assert_eq!(kept.of(*digest, move || Some((bytes, bytes))).await, Some(bytes));
        }
        assert_eq!(kept.of(digests[0], || None).await, None, "it made room");
        assert_eq!(kept.of(digests[1], || None).await, Some(40), "it had not to");
        assert_eq!(kept.of(digests[0], || Some((1_000, 1_000))).await, Some(1_000));
        assert_eq!(
            kept.of(digests[0], || None).await,
            Some(1_000),
            "the last one is kept however large it is"
        );
        assert_eq!(kept.of(digests[1], || None).await, None);
    }
}
