//! What was found, as `GET /locations/{sha256}` says it.

use catalog::digest::Sha256Digest;
use jiff::Timestamp;

use super::{Found, State};
use crate::server::{LaterLocation, Location, LocationsAnswer, OutLocation};

/// How long an answer may be believed, in seconds: a point that was withdrawn is asked in vain for this long at most.
const EXPIRES: u32 = 900;
/// The most candidates of each sort in one answer; a client asks no more.
const MOST: usize = 64;

/// The answer about `content` at the time `now`.
pub fn answer(content: Sha256Digest, found: Found<'_>, now: Timestamp) -> LocationsAnswer {
    let mut answer = LocationsAnswer {
        content,
        size: found.held.size,
        sha1: found.held.sha1,
        file_name: found.held.file_name.clone(),
        private: false,
        groups: Vec::new(),
        locations: Vec::new(),
        later: Vec::new(),
        out: Vec::new(),
        not_told: found.untold,
        expires_in_seconds: EXPIRES,
    };
    for candidate in found.candidates {
        let url = if candidate.as_asked { format!("content/{content}") } else { candidate.url };
        let (kind, name) = (candidate.kind, candidate.name);
        let (why, reason) = (candidate.reason.word().to_owned(), candidate.reason.to_string());
        match candidate.state {
            State::In if answer.locations.len() < MOST => {
                answer.locations.push(Location { kind, name, url, why, reason });
            }
            State::Later(after) if answer.later.len() < MOST => {
                let after_seconds = after.as_secs();
                // Beyond the end of the calendar is never.
                let from = i64::try_from(after_seconds)
                    .ok()
                    .and_then(|seconds| now.checked_add(jiff::SignedDuration::from_secs(seconds)).ok())
                    .unwrap_or(Timestamp::MAX);
                answer.later.push(LaterLocation { kind, name, url, after_seconds, from, why, reason });
            }
            State::Out if answer.out.len() < MOST => answer.out.push(OutLocation { kind, name, why, reason }),
            State::In | State::Later(_) | State::Out => answer.not_told += 1,
        }
    }
    answer
}
