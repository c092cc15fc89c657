//! What goes from a point, and whether what is to come has room.

use std::collections::HashSet;
use std::sync::Arc;

use catalog::problem::{Code, Problem};
use dp::library::{Library, LibraryError};
use tracing::info;

use super::parts::{Which, assigned, drop_left_over};
use super::unnamed::{self, Room};
use crate::blocking::blocking;
use crate::packages::content::take_away;
use crate::points::wire::{Assigned, AssignedFile, Assignment};
use crate::site::Site;

/// Takes away what no package of the assignment has, and what its site has said is to go.
pub(super) async fn drop_the_rest(site: &Arc<Site>, assignment: &Assignment) -> Result<(), Problem> {
    unnamed::let_go(site, Room::None).await?;
    let wanted = assigned(assignment);
    for row in site.read(|r| r.pulled_contents()).await? {
        // It stays from now on until it is taken off.
        if wanted.contains(&row.sha256) {
            site.write(move |w| w.pulled_is_assigned(row.sha256)).await?;
            site.refresh_shelf().await?;
        }
    }
    // Read together: what is pulled at this moment, or kept though nobody names it, is in both or in none.
    let (all, pulled, unnamed) =
        site.read(|r| Ok((r.contents()?, r.pulled_contents()?, r.unnamed_contents()?))).await?;
    let mut stays: HashSet<_> = pulled.into_iter().map(|row| row.sha256).collect();
    stays.extend(unnamed.into_iter().map(|row| row.sha256));
    for row in all {
        if !wanted.contains(&row.sha256) && !stays.contains(&row.sha256) {
            let sha256 = row.sha256;
            site.write(move |w| w.forget_content(sha256)).await?;
            take_away(site, sha256, Library::remove).await?;
            info!(content.sha256 = %sha256, "{sha256} is taken off");
        }
    }
    drop_left_over(site, Which::Old).await?;
    Ok(())
}

/// Refuses before the first byte where the disk cannot hold what is missing. What is kept though nobody names it goes before that.
pub(super) async fn enough_space(
    site: &Arc<Site>,
    package: &Assigned,
    missing: &[AssignedFile],
) -> Result<(), Problem> {
    let lacking: u64 = missing.iter().map(|file| file.size).sum();
    let (library, files) = (site.library.clone(), missing.to_vec());
    // What has arrived of other files helps none of these.
    let look = move || -> Result<_, LibraryError> {
        let arrived = files.iter().map(|file| library.arrived(&file.wanted())).sum::<u64>();
        Ok((arrived, library.free_for(lacking.saturating_sub(arrived))?))
    };
    let (arrived, free) = blocking(move || Ok(look()?)).await?;
    let kept = site.settings().download.min_free;
    let (needed, mut free) = (lacking.saturating_sub(arrived), free);
    // As the library reckons: where others have taken what stays free, that is lacking too.
    let short = |free: u64| if needed > 0 { needed.saturating_add(kept).saturating_sub(free) } else { 0 };
    if short(free) > 0 {
        free += unnamed::let_go(site, Room::For(short(free))).await?;
    }
    if short(free) > 0 {
        let message = format!(
            "package {} needs {needed} bytes, and {} are free beside the {kept} of [download] min_free: short by {}",
            package.package,
            free.saturating_sub(kept),
            short(free)
        );
        return Err(Problem::new(Code::DpDiskFull, message).keeping("nothing was fetched"));
    }
    Ok(())
}
