//! What a point does for its assignment: drop what is not in it, fetch what is missing, read again what is to be validated.
//!
//! What is not here is said of every order, of those that wait too, before anything is fetched: clients are sent elsewhere for it.
//! One package at a time, in the order of the assignment. Work goes on while another assignment still wants the same
//! order; else it is left, and what has arrived is kept for the next time. What the other one takes away or calls off is dealt with at
//! once, and the next package is one of its. A file that nobody gives does not keep the others back.
//! Where the site itself is away, nothing has failed: the order waits until there is contact.

use std::collections::{HashMap, HashSet};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use catalog::digest::Sha256Digest;
use catalog::id::PackageId;
use catalog::problem::{Code, Coded as _, Problem};
use dp::library::Verdict;
use dp::server::{Access, Brought, Offer, Servable};
use dp::transfer::{Doing, FetchError, Job, Known, Policy};
use schema::assignment::AssignedWork;
use schema::points::{ContentState, Work};
use tracing::{error, info, warn};

use super::room::{drop_the_rest, enough_space};
use super::sources::{Sources, site_was_away};
use crate::clock;
use crate::packages::content::{self, forget_missing, set_aside, still_there};
use crate::points::wire::{Assigned, AssignedFile, Assignment, Said};
use crate::site::Site;

/// How often progress is said.
const SAY: Duration = Duration::from_secs(1);
/// After a failure of our own, as a disk that does not answer.
const PAUSE: Duration = Duration::from_secs(5);
/// How long the site is left alone where it was away and nobody says that it is back: at first, and at most.
const FIRST_AWAY: Duration = Duration::from_secs(2);
const LONGEST_AWAY: Duration = Duration::from_secs(60);

/// Works for ever.
pub(super) async fn run(site: &Arc<Site>) {
    let mut assigned = site.point.assigned.subscribe();
    let mut away = FIRST_AWAY;
    loop {
        assigned.mark_unchanged();
        let (_, assignment) = site.point.assignment();
        let ended = round(site, &assignment, &mut assigned).await;
        if !matches!(ended, Ok(Round::SiteAway)) {
            away = FIRST_AWAY;
        }
        match ended {
            Ok(Round::Moved) => {}
            Ok(Round::Done) => {
                let _ = assigned.changed().await;
            }
            Ok(Round::SiteAway) => {
                // Told of contact at once. Who asks for the assignment may not have noticed that the site was away.
                let _ = tokio::time::timeout(away, assigned.changed()).await;
                away = (away * 2).min(LONGEST_AWAY);
            }
            Err(problem) => {
                error!("the assignment cannot be worked on: {problem}");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

type Changes = tokio::sync::watch::Receiver<u64>;

/// What came of one pass over the assignment.
enum Round {
    /// There is nothing to do until something changes.
    Done,
    /// It has changed meanwhile: it is looked at again.
    Moved,
    /// Something is to be fetched, and the site cannot be reached.
    SiteAway,
}

/// Why the work for a package is not done.
enum Stop {
    /// It has failed.
    Failed(Problem),
    /// The site cannot be reached: the order waits.
    SiteAway(Problem),
}

impl From<Problem> for Stop {
    fn from(problem: Problem) -> Self {
        Self::Failed(problem)
    }
}

/// One pass over the assignment.
async fn round(
    site: &Arc<Site>,
    assignment: &Arc<Assignment>,
    changes: &mut Changes,
) -> Result<Round, Problem> {
    let over: HashMap<PackageId, AssignedWork> = site
        .read(|r| r.assigned_work())
        .await?
        .into_iter()
        .map(|work| (work.package.clone(), work))
        .collect();
    if !assignment.point.is_empty() {
        drop_the_rest(site, assignment).await?;
    }
    let mut there = site.read(|r| r.content_digests()).await?;
    // This machine may be in the place of one that had it all: nobody waits for the turn of a package to hear that it is not here.
    for package in assignment.packages.iter().filter(|package| !package.hold) {
        if over.get(&package.package).is_none_or(|work| work.order != package.order) {
            site.point.waits(package, lacking(package, &there));
        }
    }
    let (mut moved, mut outdated, mut site_away) = (false, false, false);
    for package in &assignment.packages {
        // What comes next may have been called off meanwhile, or may not come now.
        if outdated || changes.has_changed().unwrap_or(false) {
            return Ok(Round::Moved);
        }
        if package.hold {
            say_held(site, package, &there).await?;
            continue;
        }
        let size: u64 = package.files.iter().map(|file| file.size).fold(0, u64::saturating_add);
        if let Some(work) = over.get(&package.package).filter(|work| work.order == package.order) {
            say_over(site, package, work, &there);
            continue;
        }
        if site_away && assignment.pull_from.is_empty() {
            say(site, package, ContentState::Queued, here(site, package).await?, lacking(package, &there));
            continue;
        }
        let validates = matches!(package.work, Work::Validate);
        let done = here(site, package).await?;
        // What came by a prestaged file needs no line, and no open schedule.
        let brought = matches!(package.work, Work::Send) && done == size;
        let no_line = validates || brought;
        if site.point.is_shut_out() || (assignment.paused.is_some() && !no_line) {
            say(site, package, ContentState::Queued, done, lacking(package, &there));
            continue;
        }
        let (mut taking, mut once_more) = (None::<Taking>, false);
        let ended = {
            let working = work_on(site, assignment, package, lacking(package, &there));
            tokio::pin!(working);
            loop {
                tokio::select! {
                    ended = &mut working => break Some(ended),
                    // Side by side with the work: each may wait for a lock that the other has, or is to have next.
                    went = taken(&mut taking) => {
                        went?;
                        taking = once_more.then(|| take_back(site));
                        once_more = false;
                    }
                    _ = changes.changed() => {
                        // The rest of the assignment may be another one; this package's work goes on if it is still wanted.
                        outdated = true;
                        let (_, now) = site.point.assignment();
                        let same = |it: &Assigned| it.package == package.package && it.order == package.order && !it.hold;
                        let held_back = site.point.is_shut_out() || (now.paused.is_some() && !no_line);
                        if !now.packages.iter().any(same) || held_back || now.rate != assignment.rate {
                            break None;
                        }
                        once_more = taking.is_some();
                        taking.get_or_insert_with(|| take_back(site));
                    }
                }
            }
        };
        // What has begun to go is gone before anything else is begun.
        if let Some(taking) = taking {
            taking.await?;
        }
        let Some(ended) = ended else { return Ok(Round::Moved) };
        let (state, why) = match ended {
            Ok(()) => (ContentState::Success, None),
            Err(Stop::SiteAway(problem)) => {
                warn!("package {} version {} waits: {problem}", package.package, package.version);
                say(
                    site,
                    package,
                    ContentState::Queued,
                    here(site, package).await?,
                    lacking(package, &there),
                );
                site_away = true;
                continue;
            }
            Err(Stop::Failed(problem)) if validates || problem.code == Code::ValidationFailed => {
                (ContentState::Warning, Some(problem))
            }
            Err(Stop::Failed(problem)) => (ContentState::Failed, Some(problem)),
        };
        match &why {
            None => info!("package {} version {} is here, verified", package.package, package.version),
            Some(problem) => {
                warn!("package {} version {} is {state}: {problem}", package.package, package.version)
            }
        }
        let work =
            AssignedWork { package: package.package.clone(), order: package.order, state, problem: why };
        let recorded = work.clone();
        site.write(move |w| w.record_assigned_work(&recorded)).await?;
        there = site.read(|r| r.content_digests()).await?;
        say_over(site, package, &work, &there);
        // What came or went may be of other packages, too: those that are over are spoken of once more.
        moved = true;
    }
    Ok(match moved || outdated || changes.has_changed().unwrap_or(false) {
        true => Round::Moved,
        false if site_away => Round::SiteAway,
        false => Round::Done,
    })
}

type Taking = Pin<Box<dyn Future<Output = Result<(), Problem>> + Send>>;

/// What the present assignment takes away goes, and what it calls off is said to be: neither waits for the end of a package in work,
/// which may be hours away.
fn take_back(site: &Arc<Site>) -> Taking {
    let site = site.clone();
    Box::pin(async move {
        let (_, now) = site.point.assignment();
        if !now.point.is_empty() {
            drop_the_rest(&site, &now).await?;
        }
        let held: Vec<_> = now.packages.iter().filter(|package| package.hold).collect();
        if held.is_empty() {
            return Ok(());
        }
        let there = site.read(|r| r.content_digests()).await?;
        for package in held {
            say_held(&site, package, &there).await?;
        }
        Ok(())
    })
}

/// When that is done; never, where nothing is taken back.
async fn taken(taking: &mut Option<Taking>) -> Result<(), Problem> {
    match taking {
        Some(taking) => taking.await,
        None => std::future::pending().await,
    }
}

/// Says of a package that was called off what of it is here.
async fn say_held(
    site: &Arc<Site>,
    package: &Assigned,
    there: &HashSet<Sha256Digest>,
) -> Result<(), Problem> {
    say(site, package, ContentState::Cancelled, here(site, package).await?, lacking(package, there));
    Ok(())
}

fn say(site: &Site, package: &Assigned, state: ContentState, done: u64, lacks: Vec<Sha256Digest>) {
    let (package, order) = (package.package.clone(), package.order);
    site.point.say(Said { package, order, state, done, problem: None, lacks }, true);
}

/// What a package has, now or from an earlier version, and is not here.
fn lacking(package: &Assigned, there: &HashSet<Sha256Digest>) -> Vec<Sha256Digest> {
    package.all_files().map(|file| file.sha256).filter(|content| !there.contains(content)).collect()
}

/// Says how work that is over has ended; and where something of what is `there` no longer is, what is gone.
fn say_over(site: &Site, package: &Assigned, work: &AssignedWork, there: &HashSet<Sha256Digest>) {
    let said = told_of(package, work, there);
    site.point.say(said, true);
}

/// What is said of work that is over. Pure.
fn told_of(package: &Assigned, work: &AssignedWork, there: &HashSet<Sha256Digest>) -> Said {
    let (here, gone): (Vec<_>, Vec<_>) = package.files.iter().partition(|file| there.contains(&file.sha256));
    let (state, problem) = match work.state {
        ContentState::Success if !gone.is_empty() => (ContentState::Warning, Some(not_well(package, &gone))),
        state => (state, work.problem.clone()),
    };
    let lacks = lacking(package, there);
    let (package, order) = (package.package.clone(), package.order);
    Said { package, order, state, done: here.iter().map(|file| file.size).sum(), problem, lacks }
}

/// Bytes of a package that are here.
async fn here(site: &Arc<Site>, package: &Assigned) -> Result<u64, Problem> {
    let files = package.files.clone();
    site.read(move |r| {
        let mut bytes = 0;
        for file in &files {
            if r.has_content(file.sha256)? {
                bytes += file.size;
            }
        }
        Ok(bytes)
    })
    .await
}

/// Does what is asked for one package.
async fn work_on(
    site: &Arc<Site>,
    assignment: &Assignment,
    package: &Assigned,
    lacks: Vec<Sha256Digest>,
) -> Result<(), Stop> {
    let reads_again = !matches!(package.work, Work::Send);
    if reads_again {
        let bad = read_again(site, package, &lacks).await?;
        match package.work {
            Work::Validate if !bad.is_empty() => return Err(not_well(package, &bad).into()),
            Work::Validate => return Ok(()),
            _ => {}
        }
    }
    fetch_what_is_missing(site, assignment, package).await
}

fn not_well(package: &Assigned, bad: &[&AssignedFile]) -> Problem {
    let message = format!(
        "{} of {} files of package {} are not what they should be",
        bad.len(),
        package.files.len(),
        package.package
    );
    let problem = Problem::new(Code::ValidationFailed, message)
        .help("`spsync package validate P --to DP --repair` fetches them again");
    bad.iter()
        .take(20)
        .fold(problem, |problem, file| problem.because(format!("{}: {}", file.name, file.sha256)))
}

/// Reads every file again. A bad one is not served any more; one that could not be read for want of something else stays.
async fn read_again<'p>(
    site: &Arc<Site>,
    package: &'p Assigned,
    lacks: &[Sha256Digest],
) -> Result<Vec<&'p AssignedFile>, Problem> {
    let (mut bad, mut done, mut failed) = (Vec::new(), 0, None);
    for file in &package.files {
        say(site, package, ContentState::Validating, done, lacks.to_vec());
        let sha256 = file.sha256;
        let (verdict, seen) = content::read_again(site, sha256).await?;
        let (id, name) = (&package.package, &file.name);
        let done_with = match verdict {
            Ok(Verdict::Good) => Ok(()),
            Ok(Verdict::Missing) => {
                error!(content.sha256 = %sha256, "{name} of package {id} is not there");
                bad.push(file);
                forget_missing(site, vec![(file.wanted(), sha256)]).await
            }
            Err(error) if !error.is_damage() => {
                error!(content.sha256 = %sha256, "{name} of package {id} cannot be read: {error}");
                Err(error.into())
            }
            Ok(Verdict::Corrupt { .. }) | Err(_) => {
                error!(content.sha256 = %sha256, "{name} of package {id} is not what it should be");
                bad.push(file);
                // At once, and not only where it is to be mended: who finds it under its name takes it for what it should be.
                set_aside(site, sha256, seen).await
            }
        };
        failed = failed.or(done_with.err());
        done += file.size;
    }
    failed.map_or(Ok(bad), Err)
}

/// Fetches what is missing, as far as anybody has it; then the first reason why something is missing still.
async fn fetch_what_is_missing(
    site: &Arc<Site>,
    assignment: &Assignment,
    package: &Assigned,
) -> Result<(), Stop> {
    let there = site.read(|r| r.content_digests()).await?;
    let (here, gone): (Vec<_>, Vec<_>) = package.files.iter().partition(|file| there.contains(&file.sha256));
    let mut missing: Vec<AssignedFile> = Vec::new();
    for file in gone {
        if !missing.iter().any(|known| known.sha256 == file.sha256) {
            missing.push(file.clone());
        }
    }
    let mut done: u64 = here.iter().map(|file| file.size).sum();
    say(site, package, ContentState::Sending, done, lacking(package, &there));
    enough_space(site, package, &missing).await?;
    let sources = Sources::new(site, assignment)?;
    let settings = site.settings();
    let policy = Policy {
        patience: settings.sync.retry.patience(),
        rate: site.point.rate_limit(assignment.rate),
        // A client may have asked for it before: then it arrives already.
        busy_wait: Duration::from_secs(3_600),
    };
    let mut lacking: Option<Problem> = None;
    for file in missing {
        let job =
            Job { file_name: file.name.clone(), wanted: file.wanted(), sources: sources.of(file.sha256)? };
        let (live, id, order) = (site.clone(), package.package.clone(), package.order);
        let (began, told) = (Instant::now(), AtomicU64::new(0));
        let before = done;
        let pieces = sources.pieces(file.sha256, file.size).await;
        // Clients who ask for it meanwhile get what has come of it, where this point fetches what it is asked for.
        let followed = site.point.pulls.get().and_then(|pulls| {
            let access = Access::of(file.private);
            let servable = Servable::of(file.size, Some(file.sha1), file.name.clone(), access);
            let offer = Offer { servable, sources: Vec::new(), pieces: pieces.clone(), rate: None };
            pulls.brought(file.sha256, offer)
        });
        let growth = followed.as_ref().map(Brought::growth);
        let known = Known { pieces, growth, ..Known::default() };
        let fetched = dp::transfer::fetch_with(&site.library, job, known, &policy, move |at| {
            let state = match at.doing {
                Doing::Verifying => ContentState::Verifying,
                _ => ContentState::Sending,
            };
            let second = began.elapsed().as_millis() as u64 / SAY.as_millis() as u64;
            let news = told.swap(second, Ordering::Relaxed) != second;
            live.point.goes_on(&id, order, state, before + at.have, news);
        })
        .await;
        let fetched = match fetched {
            Ok(fetched) => fetched,
            Err(away) if site_was_away(&away) => return Err(Stop::SiteAway(away.problem())),
            // Nobody gives this one; they may give the others.
            Err(error @ FetchError::AllFailed { .. }) => {
                warn!(content.sha256 = %file.sha256, "{} of package {} is left out: {}", file.name, package.package, error.problem());
                lacking.get_or_insert(error.problem());
                continue;
            }
            Err(error) => return Err(error.problem().into()),
        };
        record(site, &file, &fetched).await?;
        drop(followed);
        done += file.size;
        for served in &fetched.served {
            info!("{} bytes of {} came from {}", served.bytes, file.name, served.name);
        }
    }
    lacking.map_or(Ok(()), |problem| Err(problem.into()))
}

/// The bytes are in the library: they may be served.
async fn record(
    site: &Arc<Site>,
    file: &AssignedFile,
    fetched: &dp::transfer::Fetched,
) -> Result<(), Problem> {
    let (sha256, sha1, size) = (fetched.stored.digest(), file.sha1, fetched.stored.size());
    let (library, wanted) = (site.library.clone(), file.wanted());
    site.write(move |w| {
        still_there(&library, &wanted)?;
        w.record_content(sha256, sha1, size, false, clock::now())
    })
    .await?;
    site.refresh_shelf().await
}

#[cfg(test)]
mod tests;
