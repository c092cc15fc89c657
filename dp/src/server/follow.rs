//! Reading content that still arrives: as far as it is verified, and no further.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use crate::library::Growth;

/// One reader of a file that grows.
pub(super) struct Follower {
    growth: Arc<Growth>,
    size: u64,
    /// How long it waits for any progress.
    patience: Duration,
    /// How far the file may be read, as was heard last. It never becomes less: what was verified stays right.
    readable: u64,
    waiting: Option<Waiting>,
}

type Waiting = Pin<Box<dyn Future<Output = Option<u64>> + Send>>;

impl fmt::Debug for Follower {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Follower").field("size", &self.size).field("readable", &self.readable).finish()
    }
}

impl Follower {
    pub(super) fn new(growth: Arc<Growth>, size: u64, patience: Duration) -> Self {
        Self { growth, size, patience, readable: 0, waiting: None }
    }

    /// Bytes that may be read, as far as was heard.
    pub(super) fn readable(&self) -> u64 {
        self.readable
    }

    /// Waits until the byte at `offset` may be read; how far the file may be read then.
    ///
    /// # Errors
    /// It will not come, or too long nothing came. An error ends the connection: the client sees that the answer was cut.
    pub(super) fn poll_beyond(&mut self, context: &mut Context<'_>, offset: u64) -> Poll<io::Result<u64>> {
        if self.readable > offset {
            return Poll::Ready(Ok(self.readable));
        }
        let (growth, size, patience) = (&self.growth, self.size, self.patience);
        let waiting = self.waiting.get_or_insert_with(|| {
            let growth = growth.clone();
            Box::pin(async move { growth.beyond(offset, size, patience).await })
        });
        let readable = ready!(waiting.as_mut().poll(context));
        self.waiting = None;
        Poll::Ready(match readable {
            Some(readable) => {
                self.readable = self.readable.max(readable);
                Ok(self.readable)
            }
            None => Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the content does not arrive")),
        })
    }
}
