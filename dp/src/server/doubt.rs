//! What is on the shelf and could not be served: whoever keeps the content is told of it, once until it has looked.

use std::collections::{HashSet, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

use catalog::digest::Sha256Digest;
use tokio::sync::Notify;

/// Contents that were asked for and found missing or damaged. Only what is on a shelf comes here: they are few.
#[derive(Debug, Default)]
pub struct Doubts {
    /// First come, first served.
    waiting: Mutex<(VecDeque<Sha256Digest>, HashSet<Sha256Digest>)>,
    news: Notify,
}

impl Doubts {
    fn lock(&self) -> MutexGuard<'_, (VecDeque<Sha256Digest>, HashSet<Sha256Digest>)> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// This one could not be served, or is not what it should be, as somebody says.
    pub fn about(&self, content: Sha256Digest) {
        let (queue, all) = &mut *self.lock();
        if all.insert(content) {
            queue.push_back(content);
            self.news.notify_one();
        }
    }

    /// The next to be looked at; waits for one. Until [`Self::settled`] it is not told again.
    pub async fn next(&self) -> Sha256Digest {
        loop {
            let told = self.news.notified();
            if let Some(content) = self.lock().0.front() {
                return *content;
            }
            told.await;
        }
    }

    /// It was looked at: from now on it is news again.
    pub fn settled(&self, content: Sha256Digest) {
        let (queue, all) = &mut *self.lock();
        if all.remove(&content) {
            queue.retain(|waiting| *waiting != content);
        }
    }
}

#[cfg(test)]
impl Doubts {
    /// Whether somebody is to look at anything.
    pub(super) fn are_any(&self) -> bool {
        !self.lock().0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn each_is_told_once_until_it_was_looked_at() {
        let doubts = Doubts::default();
        let one = Sha256Digest([1; 32]);
        for _ in 0..3 {
            doubts.about(one);
        }
        assert_eq!(doubts.next().await, one);
        doubts.about(one);
        doubts.settled(one);
        assert!(!doubts.are_any(), "asked for while it was looked at");
        let several: Vec<_> = (2..40).map(|number| Sha256Digest([number; 32])).collect();
        several.iter().for_each(|content| doubts.about(*content));
        for content in several {
            assert_eq!(doubts.next().await, content, "who came first");
            doubts.settled(content);
        }
        doubts.about(one);
        assert_eq!(doubts.next().await, one, "again");
    }
}
