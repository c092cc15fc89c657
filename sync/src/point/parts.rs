//! Files of which a part has arrived at a point, and that nobody goes on with.
//!
//! What the assignment has is gone on with some day. What was asked for, and could not be had, waits for whoever asks again: for
//! a while, and only while there is room. Nothing else comes to a point.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use catalog::digest::Sha256Digest;
use catalog::problem::Problem;
use dp::library::{LibraryError, Part};
use dp::server::Pulls;
use tracing::info;

use crate::blocking::blocking;
use crate::points::wire::{Assigned, Assignment};
use crate::site::Site;

/// How long a part waits for whoever asks for its file again.
const WAITS: Duration = Duration::from_secs(24 * 3_600);
/// A transfer that was stopped a moment ago lets go of its file when the disk has answered.
const LETS_GO: Duration = Duration::from_millis(200);
const TRIES: u32 = 10;

/// What is given to this point.
pub(super) fn assigned(assignment: &Assignment) -> HashSet<Sha256Digest> {
    assignment.packages.iter().flat_map(Assigned::all_files).map(|file| file.sha256).collect()
}

/// Whether nobody goes on with a part.
pub(super) fn is_left_over(
    part: &Part,
    assigned: &HashSet<Sha256Digest>,
    pulls: Option<&Arc<Pulls>>,
) -> bool {
    part.sha256.is_none_or(|sha256| {
        !assigned.contains(&sha256) && !pulls.is_some_and(|pulls| pulls.is_in_use(sha256))
    })
}

/// Which of the parts go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Which {
    /// Those that have waited long enough.
    Old,
    /// All with which nobody goes on.
    All,
}

/// Whether a part that was `modified` then still waits. One of the future came before the clock was set back.
fn is_young(modified: SystemTime, now: SystemTime) -> bool {
    now.duration_since(modified).map_or(true, |age| age < WAITS)
}

/// Drops parts with which nobody goes on; how many bytes they were.
pub(super) async fn drop_left_over(site: &Arc<Site>, which: Which) -> Result<u64, Problem> {
    let mut dropped = 0;
    for _ in 0..TRIES {
        let (site, (_, assignment)) = (site.clone(), site.point.assignment());
        let look = move || -> Result<(u64, bool), LibraryError> {
            let (assigned, pulls) = (assigned(&assignment), site.point.pulls.get());
            // Where nothing is fetched because somebody asks for it, nobody will ask again.
            let all = which == Which::All || pulls.is_none();
            let waits = |part: &Part| !all && is_young(part.modified, SystemTime::now());
            let (mut bytes, mut is_held) = (0, false);
            for part in site.library.parts()? {
                if is_left_over(&part, &assigned, pulls) && !waits(&part) {
                    match site.library.drop_part(&part)? {
                        true => bytes += part.bytes,
                        false => is_held = true,
                    }
                }
            }
            Ok((bytes, is_held))
        };
        let (bytes, is_held) = blocking(move || Ok(look()?)).await?;
        dropped += bytes;
        if !is_held {
            break;
        }
        tokio::time::sleep(LETS_GO).await;
    }
    if dropped > 0 {
        info!("{dropped} bytes of files that nobody goes on with are dropped");
    }
    Ok(dropped)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_is_set_back_makes_no_part_old() {
        let now = SystemTime::UNIX_EPOCH + 9 * WAITS;
        let minute = Duration::from_secs(60);
        for (modified, young) in [
            (now, true),
            (now - WAITS + minute, true),
            (now - WAITS, false),
            (now + minute, true),
            (now + 2 * WAITS, true),
        ] {
            assert_eq!(is_young(modified, now), young, "{modified:?}");
        }
    }
}
