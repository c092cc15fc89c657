//! Whether the disk has the room of what was let go.

use std::sync::Arc;
use std::time::{Duration, Instant};

use catalog::problem::Problem;
use tracing::warn;

use super::evict;
use crate::blocking::blocking;
use crate::site::Site;

/// Of less nobody can say it: others write to the same disk meanwhile.
const WORTH_A_LOOK: u64 = 256 << 20;
/// Some file systems give the room of a file back in the background.
const LOOKS: u32 = 10;
const PAUSE: Duration = Duration::from_millis(200);

/// Bytes that are free, or taken by what arrives: who lets go sees the sum grow, whatever arrives meanwhile.
pub(super) async fn free_or_arriving(site: &Arc<Site>) -> Result<u64, Problem> {
    let library = site.library.clone();
    blocking(move || Ok(library.free_or_arriving()?)).await
}

/// Whether the room of `size` bytes has come that were let go, of what was `before`. Where it has not, nobody lets go of more for now.
pub(super) async fn has_come(site: &Arc<Site>, size: u64, before: u64) -> Result<bool, Problem> {
    if size < WORTH_A_LOOK {
        return Ok(true);
    }
    let mut after = free_or_arriving(site).await?;
    for _ in 0..LOOKS {
        if evict::has_come(size, before, after) {
            break;
        }
        tokio::time::sleep(PAUSE).await;
        after = free_or_arriving(site).await?;
    }
    let has_come = site.point.brake().has_room(size, before, after, Instant::now());
    if !has_come {
        warn!(
            size_bytes = size,
            "{size} bytes were let go, and the disk has no room for it: nothing more goes for now"
        );
    }
    Ok(has_come)
}
