//! What goes from a point, and whether what is to come has room.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use catalog::problem::{Code, Problem};
use dp::library::{Library, LibraryError, Part};
use schema::pulled::PulledRow;
use tracing::info;

use super::evict::{self, Held, Wish};
use super::parts::{self, Which, assigned, drop_left_over};
use super::unnamed::{self, Room};
use super::{demand, freed};
use crate::blocking::blocking;
use crate::clock;
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

/// Refuses before the first byte where the disk cannot hold what is missing. What is kept though nobody names it goes before that, and
/// what was pulled.
pub(super) async fn enough_space(
    site: &Arc<Site>,
    package: &Assigned,
    missing: &[AssignedFile],
) -> Result<(), Problem> {
    let lacking = missing.iter().map(|file| file.size).fold(0, u64::saturating_add);
    let (library, files) = (site.library.clone(), missing.to_vec());
    // What has arrived of other files helps none of these.
    let look = move || -> Result<_, LibraryError> {
        let arrived = files.iter().map(|file| library.arrived(&file.wanted())).fold(0, u64::saturating_add);
        Ok((arrived, library.free_for(lacking.saturating_sub(arrived))?))
    };
    let (arrived, free) = blocking(move || Ok(look()?)).await?;
    let kept = site.settings().download.min_free;
    let needed = lacking.saturating_sub(arrived);
    // As the library reckons: where others have taken what stays free, that is lacking too.
    let short = |free: u64| if needed > 0 { needed.saturating_add(kept).saturating_sub(free) } else { 0 };
    if short(free) > 0 && !has_made_room(site, missing, short(free)).await? {
        let library = site.library.clone();
        let free = blocking(move || Ok(library.free()?)).await?;
        if short(free) == 0 {
            return Ok(());
        }
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

/// Lets go what may, where that is enough: so many bytes are short. The room of it may be free a moment later only, so that nobody
/// measures it again.
async fn has_made_room(site: &Arc<Site>, missing: &[AssignedFile], short: u64) -> Result<bool, Problem> {
    let Some(pulls) = site.point.pulls.get() else {
        return Ok(unnamed::let_go(site, Room::For(short)).await? >= short);
    };
    // What arrives already, because a client has asked for it, is reckoned there.
    let library = site.library.clone();
    let files: Vec<_> = missing.iter().filter(|file| !pulls.has_room(file.sha256)).cloned().collect();
    let comes = move || files.iter().map(|file| file.size - library.arrived(&file.wanted())).sum();
    let given = blocking(move || Ok(comes())).await?;
    make_room_for_given(site, given).await
}

/// Lets go what has to; whether `coming` bytes have room then, and those that were `given`.
pub(super) async fn evict(site: &Arc<Site>, coming_and_given: (u64, u64)) -> Result<bool, Problem> {
    let room = Some(site.settings().dp.on_demand_room).filter(|room| *room > 0);
    let_go(site, coming_and_given, room).await
}

/// Lets go for so many bytes of what was given to this point, beside all that arrives; whether they have room then. What clients
/// asked for keeps nothing out that the site gives, and the limit of it is none for that.
pub(super) async fn make_room_for_given(site: &Arc<Site>, given: u64) -> Result<bool, Problem> {
    let (coming, brought) = site.point.pulls.get().map_or((0, 0), |pulls| pulls.arriving_bytes());
    let_go(site, (coming, brought.saturating_add(given)), None).await
}

/// Bytes that would go if what is given to this point wanted their room.
pub(super) async fn spare(site: &Arc<Site>) -> Result<u64, Problem> {
    if site.point.brake().is_on(Instant::now()) {
        return Ok(0);
    }
    let unnamed = unnamed::status(site).await?.map_or(0, |unnamed| unnamed.bytes);
    let Some(pulls) = site.point.pulls.get() else { return Ok(unnamed) };
    let assigned = site.point.assigned_contents();
    let goes = |row: &PulledRow| !assigned.contains(&row.sha256) && !pulls.is_in_use(row.sha256);
    let pulled = site.read(|r| r.pulled_contents()).await?;
    Ok(unnamed + pulled.iter().filter(|row| goes(row)).map(|row| row.size).sum::<u64>())
}

/// The same with so much room for all that clients asked for, if there is a limit.
async fn let_go(site: &Arc<Site>, (coming, given): (u64, u64), room: Option<u64>) -> Result<bool, Problem> {
    let Some(pulls) = site.point.pulls.get() else { return Ok(false) };
    let settings = site.settings();
    let comes = coming > 0 || given > 0;
    demand::watch_clock(site).await?;
    let (_, assignment) = site.point.assignment();
    let assigned = assigned(&assignment);
    let library = site.library.clone();
    // What is staged is looked at first: what comes meanwhile is then counted twice, not left out.
    let look =
        move || library.parts().and_then(|all| Ok((all, library.free_for(coming.saturating_add(given))?)));
    let (parts, free) = blocking(move || Ok(look()?)).await?;
    let bytes =
        |of: &dyn Fn(&Part) -> bool| parts.iter().filter(|part| of(part)).map(|part| part.bytes).sum();
    let staged = bytes(&|part| part.sha256.is_some_and(|sha256| pulls.has_room(sha256)));
    let left = bytes(&|part| parts::is_left_over(part, &assigned, Some(pulls)));
    let (used, now) = (site.point.lock().used.clone(), clock::now());
    let rows = site.read(|r| r.pulled_contents()).await?.into_iter();
    let held_back = site.point.brake().is_on(Instant::now());
    // What was given to this point since it came stays, though nobody has written that down yet.
    let held: Vec<_> = rows
        .filter(|row| !assigned.contains(&row.sha256))
        .map(|row| Held {
            sha256: row.sha256,
            size: row.size,
            used: used.get(&row.sha256).map_or(row.used, |at| row.used.max(*at)).min(now),
            in_use: held_back || pulls.is_in_use(row.sha256),
        })
        .collect();
    let spare = match held_back {
        true => 0,
        false => unnamed::status(site).await?.map_or(0, |unnamed| unnamed.bytes),
    };
    let wish = Wish {
        keep: settings.dp.on_demand_keep,
        room,
        coming,
        given,
        staged,
        left,
        spare,
        free: free.saturating_sub(settings.download.min_free),
        lacking: settings.download.min_free.saturating_sub(free),
    };
    let decided = evict::decide(held.clone(), &wish, now);
    if decided.left_goes {
        drop_left_over(site, Which::All).await?;
    }
    if decided.unnamed > 0 && unnamed::let_go(site, Room::For(decided.unnamed)).await? < decided.unnamed {
        return Ok(false);
    }
    for sha256 in decided.goes {
        let size = held.iter().find(|one| one.sha256 == sha256).map_or(0, |one| one.size);
        let before = if comes { freed::free_or_arriving(site).await? } else { 0 };
        if !demand::remove(site, sha256).await? {
            continue;
        }
        info!(content.sha256 = %sha256, size_bytes = size, "{sha256} makes room");
        pulls.counts.evicted.fetch_add(1, Ordering::Relaxed);
        pulls.counts.evicted_bytes.fetch_add(size, Ordering::Relaxed);
        if comes && !freed::has_come(site, size, before).await? {
            return Ok(false);
        }
    }
    Ok(decided.has_room)
}
