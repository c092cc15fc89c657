//! What was found, as `GET /locations/{sha256}` says it.

use std::time::Duration;

use jiff::Timestamp;

use super::order::MOST;
use super::{Candidate, Found, Place, State};
use crate::server::{LaterLocation, Location, LocationsAnswer, OutLocation};

/// How long an answer may be believed, in seconds: a point that was withdrawn is asked in vain for this long at most.
pub(super) const EXPIRES: u32 = 900;

/// The answer at the time `now`.
pub fn answer(found: &Found<'_>, now: Timestamp) -> LocationsAnswer {
    let content = found.content;
    let groups = found.places.names(&found.standing.groups);
    let mut answer = LocationsAnswer {
        content,
        size: found.held.size,
        sha1: found.held.sha1,
        file_name: found.held.file_name.clone(),
        private: false,
        groups: groups.into_iter().map(str::to_owned).collect(),
        locations: Vec::new(),
        later: Vec::new(),
        out: Vec::new(),
        not_told: found.untold,
        expires_in_seconds: EXPIRES,
    };
    for candidate in &found.candidates {
        let (kind, name) = (candidate.kind(), candidate.name().to_owned());
        let (why, reason) = (candidate.reason.word().to_owned(), candidate.reason());
        match candidate.state {
            State::In if answer.locations.len() < MOST => {
                answer.locations.push(Location { kind, name, url: url_of(found, candidate), why, reason });
            }
            State::Later(after) if answer.later.len() < MOST => {
                let (after_seconds, from) = (after.as_secs(), later(now, after));
                let url = url_of(found, candidate);
                answer.later.push(LaterLocation { kind, name, url, after_seconds, from, why, reason });
            }
            State::Out if answer.out.len() < MOST => answer.out.push(OutLocation { kind, name, why, reason }),
            State::In | State::Later(_) | State::Out => answer.not_told += 1,
        }
    }
    answer
}

/// Where a client is told to ask: whom it asked just now, as it did, for what is private, and where no address of it is known that
/// others can reach.
fn url_of(found: &Found<'_>, candidate: &Candidate<'_>) -> String {
    match candidate.place {
        Place::Point(point, _) if point.as_asked || (found.held.private && point.asked) => {
            format!("content/{}", found.content)
        }
        _ => found.url(candidate),
    }
}

/// The time that is `after` from `now`; beyond the end of the calendar is never.
pub(super) fn later(now: Timestamp, after: Duration) -> Timestamp {
    i64::try_from(after.as_secs())
        .ok()
        .and_then(|seconds| now.checked_add(jiff::SignedDuration::from_secs(seconds)).ok())
        .unwrap_or(Timestamp::MAX)
}
