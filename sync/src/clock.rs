//! The one place where the wall clock is read. Everything that decides takes the time as an argument.

use jiff::Timestamp;

/// The time now, UTC.
pub fn now() -> Timestamp {
    Timestamp::now()
}
