//! Memory for answers: one document can have 47 MB, and a client may read its answer slowly.
//!
//! An answer takes what it needs at most while it is made, keeps what it is, and gives that back when it is sent. What
//! finds no room waits for a while first: Windows does not come back after `ServerBusy` before its next synchronisation.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

const MIB: u64 = 1 << 20;
/// MiB of all answers together.
const MOST: u32 = 192;

/// The room for answers.
pub(super) struct Room {
    places: Arc<Semaphore>,
    patience: Duration,
}

/// A part of it.
pub(super) struct Place(OwnedSemaphorePermit);

/// Nothing became free in time.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Full;

impl Room {
    pub(super) fn new(patience: Duration) -> Self {
        Self { places: Arc::new(Semaphore::new(MOST as usize)), patience }
    }

    /// Room for `bytes`, or all of it where they are more.
    pub(super) async fn take(&self, bytes: u64) -> Result<Place, Full> {
        let wanted = mib(bytes);
        let place = tokio::time::timeout(self.patience, self.places.clone().acquire_many_owned(wanted)).await;
        // Nobody closes it.
        place.ok().and_then(Result::ok).map(Place).ok_or(Full)
    }
}

fn mib(bytes: u64) -> u32 {
    u32::try_from(bytes.div_ceil(MIB)).unwrap_or(MOST).clamp(1, MOST)
}

struct Held {
    bytes: Vec<u8>,
    _place: Place,
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Place {
    /// The answer that was made; its room is free when the last of it is sent.
    pub(super) fn holds(mut self, bytes: Vec<u8>) -> Bytes {
        let kept = mib(bytes.len() as u64) as usize;
        let over = self.0.num_permits().saturating_sub(kept);
        drop(self.0.split(over));
        Bytes::from_owner(Held { bytes, _place: self })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_answer_gives_back_what_it_does_not_need_and_the_rest_when_it_is_sent() {
        let room = Room::new(Duration::from_millis(1));
        let place = room.take(u64::MAX).await.ok().unwrap();
        assert_eq!(room.take(1).await.err(), Some(Full));
        let answer = place.holds(vec![7; 3 * MIB as usize / 2]);
        let free = |room: &Room| room.places.available_permits();
        assert_eq!((free(&room), answer.len()), (MOST as usize - 2, 3 * MIB as usize / 2));
        let part = answer.slice(..1);
        drop(answer);
        assert_eq!(free(&room), MOST as usize - 2);
        drop(part);
        assert_eq!(free(&room), MOST as usize);
        assert!(room.take(0).await.is_ok());
    }
}
