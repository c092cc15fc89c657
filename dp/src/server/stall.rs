//! How long a reader may take nothing of what it is sent, before its connection is given up.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep};

/// The patience with one reader. It begins anew with every write that ends.
#[derive(Debug)]
pub struct Stall {
    patience: Duration,
    pub(super) deadline: Pin<Box<Sleep>>,
    waiting: bool,
}

impl Stall {
    /// Waits so long for the reader to take something.
    pub fn new(patience: Duration) -> Self {
        Self { patience, deadline: Box::pin(sleep(patience)), waiting: false }
    }

    /// What a write came to; one that waits for too long has failed with [`io::ErrorKind::TimedOut`].
    pub fn guard<T>(
        &mut self,
        context: &mut Context<'_>,
        polled: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if polled.is_ready() {
            self.waiting = false;
            return polled;
        }
        if !self.waiting {
            self.waiting = true;
            self.deadline.as_mut().reset(Instant::now() + self.patience);
        }
        let over = |()| Err(io::Error::new(io::ErrorKind::TimedOut, "the client has stopped reading"));
        self.deadline.as_mut().poll(context).map(over)
    }
}
