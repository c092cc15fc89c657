//! What the site's process knows of its points from moment to moment: who was heard of when, and that something changed.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use catalog::problem::{Code, Problem};
use jiff::Timestamp;
use schema::points::PointRow;
use tokio::sync::watch;
use uuid::Uuid;

use super::delivered::{Delivered, Groups};
use super::wire::ServedBytes;

/// How often "was heard of" is written down where nothing else changes.
const WRITE: Duration = Duration::from_secs(30);

/// The points of a running site.
#[derive(Debug)]
pub struct Hub {
    changes: watch::Sender<Change>,
    seen: Mutex<HashMap<i64, Seen>>,
    delivered: Mutex<HashMap<i64, Delivered>>,
}

/// What whoever waits is told.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Change {
    number: u64,
    /// The site stops: nobody is to wait any longer.
    pub stopping: bool,
}

#[derive(Debug)]
struct Seen {
    at: Timestamp,
    written: Timestamp,
    boot: Uuid,
    earlier: Vec<Uuid>,
}

impl Default for Hub {
    fn default() -> Self {
        Self {
            changes: watch::Sender::new(Change::default()),
            seen: Mutex::default(),
            delivered: Mutex::default(),
        }
    }
}

impl Hub {
    /// Assignments may have changed: points that wait for theirs look again.
    pub fn changed(&self) {
        self.changes.send_modify(|change| change.number += 1);
    }

    /// Nobody is kept waiting any longer.
    pub fn stop(&self) {
        self.changes.send_modify(|change| change.stopping = true);
    }

    /// Hears of changes from now on.
    pub fn changes(&self) -> watch::Receiver<Change> {
        self.changes.subscribe()
    }

    /// A point speaks.
    ///
    /// # Errors
    /// `POINT_IDENTITY_TAKEN` where a later start of the same installation was heard of: its data was copied.
    pub fn heard(&self, point: i64, boot: Uuid, now: Timestamp) -> Result<(), Problem> {
        let mut all = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let seen = all.entry(point).or_insert(Seen {
            at: now,
            written: Timestamp::UNIX_EPOCH,
            boot,
            earlier: Vec::new(),
        });
        if seen.earlier.contains(&boot) {
            let message = "a process that started later has this point's identity";
            return Err(Problem::new(Code::PointIdentityTaken, message));
        }
        if seen.boot != boot {
            let before = std::mem::replace(&mut seen.boot, boot);
            // More copies than this are not told apart.
            if seen.earlier.len() >= 64 {
                seen.earlier.remove(0);
            }
            seen.earlier.push(before);
        }
        seen.at = now;
        Ok(())
    }

    /// Whether it is time to write down that a point was heard of; then it counts as written.
    pub fn is_to_be_written(&self, point: i64, now: Timestamp) -> bool {
        let mut all = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        all.get_mut(&point).is_some_and(|seen| {
            let due = now.duration_since(seen.written).unsigned_abs() >= WRITE;
            if due {
                seen.written = now;
            }
            due
        })
    }

    /// A point says what its process `boot` has served.
    pub fn served(&self, point: i64, boot: Uuid, said: &[ServedBytes]) {
        let mut all = self.delivered.lock().unwrap_or_else(PoisonError::into_inner);
        all.entry(point).or_default().say(boot, said);
    }

    /// What each point has served, as far as it was heard of.
    pub fn delivered(&self, point: i64) -> Groups {
        let all = self.delivered.lock().unwrap_or_else(PoisonError::into_inner);
        all.get(&point).map(Delivered::all).unwrap_or_default()
    }

    /// Forgets what was heard of a point.
    pub fn forget(&self, point: i64) {
        self.delivered.lock().unwrap_or_else(PoisonError::into_inner).remove(&point);
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).remove(&point);
    }

    /// Puts in when each was really heard of last.
    pub fn freshen(&self, rows: &mut [PointRow]) {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        for row in rows {
            row.last_seen = row.last_seen.max(seen.get(&row.id).map(|seen| seen.at));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_process_that_started_last_is_the_point() {
        let hub = Hub::default();
        let at = |seconds: i64| Timestamp::from_second(1_000_000 + seconds).unwrap();
        let (first, second) = (Uuid::from_u128(1), Uuid::from_u128(2));
        assert!(hub.heard(2, first, at(0)).is_ok() && hub.is_to_be_written(2, at(0)));
        assert!(!hub.is_to_be_written(2, at(5)), "not each time");
        assert!(hub.is_to_be_written(2, at(30)) && !hub.is_to_be_written(9, at(30)));
        assert!(hub.heard(2, second, at(31)).is_ok(), "a restart");
        assert_eq!(hub.heard(2, first, at(32)).unwrap_err().code, Code::PointIdentityTaken);
        assert!(hub.heard(2, second, at(33)).is_ok());
        assert!(hub.heard(3, first, at(33)).is_ok(), "another point");
    }
}
