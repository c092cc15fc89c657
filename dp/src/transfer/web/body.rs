//! The body of an answer, under a watch: one that stalls or only trickles is a fault.

use std::time::Duration;

use bytes::Bytes;
use tokio::time::{Instant, timeout};

use super::answer::fault_of_error;
use crate::transfer::fault::Fault;

/// The bytes of one answer, as they come.
pub struct Body {
    response: reqwest::Response,
    /// Where the file will be when this body has come, if the head says.
    end: Option<u64>,
    at: u64,
    stall: Duration,
    least_rate: u64,
    /// Time spent waiting for the network, and what came in it, since the last look at the rate. Time that the
    /// reader took for itself (disk, a limit on the rate) is not held against the source.
    waited: Duration,
    came: u64,
    /// Since when the next bytes are waited for; a reader may leave and come back.
    asked: Option<Instant>,
}

impl Body {
    pub(super) fn new(response: reqwest::Response, from: u64, stall: Duration, least_rate: u64) -> Self {
        let end = response.content_length().map(|length| from.saturating_add(length));
        Self { response, end, at: from, stall, least_rate, waited: Duration::ZERO, came: 0, asked: None }
    }

    /// The next bytes; `None` at the end. Nothing is lost where the future is dropped.
    ///
    /// # Errors
    /// [`Fault::Stalled`], [`Fault::CutShort`] where the head promised more, or the fault of the connection.
    pub async fn next(&mut self) -> Result<Option<Bytes>, Fault> {
        let began = *self.asked.get_or_insert_with(Instant::now);
        let bytes = match timeout(self.stall.saturating_sub(began.elapsed()), self.response.chunk()).await {
            Err(_) => return Err(Fault::Stalled),
            Ok(Err(error)) => return Err(self.broken(&error)),
            Ok(Ok(None)) => return Ok(None),
            Ok(Ok(Some(bytes))) => bytes,
        };
        self.at += bytes.len() as u64;
        self.came += bytes.len() as u64;
        self.waited += began.elapsed();
        self.asked = None;
        if self.waited >= self.stall {
            if self.came < self.least_rate.saturating_mul(self.waited.as_secs()) {
                return Err(Fault::Stalled);
            }
            (self.waited, self.came) = (Duration::ZERO, 0);
        }
        Ok(Some(bytes))
    }

    fn broken(&self, error: &reqwest::Error) -> Fault {
        match self.end {
            Some(expected) if self.at < expected => Fault::CutShort { expected, actual: self.at },
            _ => fault_of_error(error, self.stall),
        }
    }
}
