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

/// Drops parts with which nobody goes on; how many bytes they were.
pub(super) async fn drop_left_over(site: &Arc<Site>, which: Which) -> Result<u64, Problem> {
    let mut dropped = 0;
    for _ in 0..TRIES {
        let (site, (_, assignment)) = (site.clone(), site.point.assignment());
        let look = move || -> Result<(u64, bool), LibraryError> {
            let (assigned, pulls) = (assigned(&assignment), site.point.pulls.get());
            // Where nothing is fetched because somebody asks for it, nobody will ask again.
            let all = which == Which::All || pulls.is_none();
            let waits = |part: &Part| {
                !all && SystemTime::now().duration_since(part.modified).is_ok_and(|age| age < WAITS)
            };
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
