//! Content that was asked for and could not be served, or whose turn it is to be read again: it is looked at, offered no more
//! where it is bad, and fetched again.
//!
//! ```text
//! server ──Doubts──▶ look ──good──▶ nothing
//!                     └──missing, bad──▶ off the shelf ──▶ site: a task for one of its packages, later another ([`later`])
//!                                                     └──▶ point: its site is told, and orders it anew (points/job.rs, `Mend`)
//! ```

pub mod later;

use std::sync::Arc;
use std::time::Duration;

use catalog::digest::{Digests, Sha256Digest, Wanted};
use catalog::id::PackageId;
use catalog::problem::{Code, Problem};
use dp::library::Verdict;
use jiff::Timestamp;
use tracing::{error, info};

use crate::admin::{Answer, Caller};
use crate::clock;
use crate::packages::content::{forget_missing, read_again, set_aside};
use crate::packages::{self, refill};
use crate::site::Site;
use crate::tasks::Key;

/// How often it is looked whose turn it is to be read again.
const STEP: Duration = Duration::from_secs(60);
/// How often, and how long apart, the site tries to begin where something else is done to the package.
const TRIES: u32 = 60;
const PAUSE: Duration = Duration::from_secs(10);

/// Looks at whatever is doubted, until `stopped`.
pub async fn keep(site: Arc<Site>, stopped: impl Future<Output = ()>) {
    let doubts = site.doubts.clone();
    tokio::pin!(stopped);
    loop {
        let content = tokio::select! {
            () = &mut stopped => return,
            content = doubts.next() => content,
        };
        tokio::select! {
            () = &mut stopped => return,
            () = look_or_say(&site, content) => doubts.settled(content),
        }
    }
}

/// Reads each content once in `[content] verify`, until `stopped`.
pub async fn verify(site: Arc<Site>, stopped: impl Future<Output = ()>) {
    let every = site.settings().content.verify;
    if every.is_zero() {
        return;
    }
    tokio::pin!(stopped);
    let mut before = clock::now();
    loop {
        tokio::select! {
            () = &mut stopped => return,
            () = tokio::time::sleep(STEP) => {}
        }
        let now = clock::now();
        let mut all: Vec<_> = match site.read(|r| r.content_digests()).await {
            Ok(all) => all.into_iter().collect(),
            Err(problem) => {
                error!("contents cannot be read again: {problem}");
                continue;
            }
        };
        all.sort_unstable();
        for turn in turns(all.len(), every, before, now) {
            tokio::select! {
                () = &mut stopped => return,
                () = look_or_say(&site, all[turn]) => {}
            }
        }
        before = now;
    }
}

/// Which of `count` things have their turn after `before` and until `now`: each once in `every`, evenly spread, whenever the
/// program was started. Pure.
fn turns(count: usize, every: Duration, before: Timestamp, now: Timestamp) -> Vec<usize> {
    let (count, every) = (count as u128, every.as_millis().max(1));
    let turn = |at: Timestamp| u128::try_from(at.as_millisecond()).unwrap_or_default() * count / every;
    let (from, to) = (turn(before) + 1, turn(now));
    // After a long sleep each has its turn once.
    (from.max((to + 1).saturating_sub(count))..=to).map(|turn| (turn % count.max(1)) as usize).collect()
}

/// All that a package has is to be looked at: a distribution point was sent other bytes than were wanted.
///
/// # Errors
/// Those of the database.
pub async fn doubt_package(site: &Arc<Site>, package: PackageId) -> Result<(), Problem> {
    let id = package.clone();
    let contents = site.read(move |r| r.package_contents(&id)).await?;
    info!("package {package} is read again: a distribution point was sent wrong bytes");
    contents.into_iter().for_each(|content| site.doubts.about(content));
    Ok(())
}

async fn look_or_say(site: &Arc<Site>, content: Sha256Digest) {
    if let Err(problem) = look(site, content).await {
        error!(content.sha256 = %content, "{content} cannot be looked at: {problem}");
    }
}

async fn look(site: &Arc<Site>, content: Sha256Digest) -> Result<(), Problem> {
    let row = site.read(move |r| r.content(content)).await?;
    let Some(row) = row else { return Ok(()) };
    let (verdict, seen) = read_again(site, content).await?;
    let packages = site.read(move |r| r.packages_with(content)).await?;
    let mut aside = Ok(());
    match verdict {
        Ok(Verdict::Good) => return Ok(()),
        Ok(Verdict::Missing) => {
            let digests = Digests { sha256: Some(content), sha1: Some(row.sha1) };
            forget_missing(site, vec![(Wanted { size: row.size, digests }, content)]).await?;
        }
        Err(error) if !error.is_damage() => return Err(error.into()),
        // A disk that does not let go of it keeps nobody from fetching it again.
        Ok(Verdict::Corrupt { .. }) | Err(_) => aside = set_aside(site, content, seen).await,
    }
    // Somebody has brought a good one while it was read.
    if site.read(move |r| r.has_content(content)).await? {
        return aside;
    }
    error!(content.sha256 = %content, "{content} was lost or damaged, and is served no more");
    if !site.settings().dp.is_site() {
        site.point.look_again();
    } else if let Some(package) = packages.into_iter().next() {
        tokio::spawn(mend(site.clone(), package, vec![content]));
    } else {
        error!(content.sha256 = %content, "no deployment package has {content}: it cannot be fetched again by itself");
    }
    aside
}

/// Fetches what a package lacks of `contents` again; then all packages that have them have them again.
async fn mend(site: Arc<Site>, package: PackageId, contents: Vec<Sha256Digest>) {
    let what = match contents.as_slice() {
        [one] => one.to_string(),
        several => format!("{} contents", several.len()),
    };
    for _ in 0..TRIES {
        let (id, working, lacking) = (package.clone(), site.clone(), contents.clone());
        let caller = Caller { who: "mending".to_owned(), dry_run: false };
        let work = |progress| async move {
            let filled = refill(&working, &id, lacking, &caller, &progress).await?;
            Answer::partly(&filled.body, filled.problem)
        };
        let key = Key::new(&packages::key(&package), &format!("mend {what}"), false);
        match site.tasks.start("mend", format!("fetch {what} again"), key, work).await {
            Err(busy) if busy.code == Code::TaskBusy => tokio::time::sleep(PAUSE).await,
            Err(problem) => return error!("{what} cannot be fetched again: {problem}"),
            Ok(task) => return info!("task {} fetches {what} again for package {package}", task.0),
        }
    }
    error!("{what} is not fetched again: something else is done to package {package} all the time");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_content_has_its_turn_once_whenever_it_is_looked() {
        let at = |seconds: i64| Timestamp::from_second(1_000_000_000 + seconds).expect("a time");
        let day = Duration::from_secs(86_400);
        // Looked at every minute, and after a restart in the middle of the day.
        for count in [1, 7, 1_440, 5_000] {
            let mut seen = vec![0; count];
            for minute in 0..1_440 {
                turns(count, day, at(minute * 60), at(minute * 60 + 60))
                    .into_iter()
                    .for_each(|turn| seen[turn] += 1);
            }
            assert!(seen.iter().all(|times| *times == 1), "{count}: {seen:?}");
        }
        assert_eq!(turns(5, day, at(0), at(86_400 * 9)).len(), 5, "after a long sleep, once");
        assert_eq!(turns(5, day, at(9_000), at(0)), Vec::<usize>::new(), "a clock that was put back");
        assert_eq!(turns(0, day, at(0), at(86_400)), Vec::<usize>::new());
    }
}
