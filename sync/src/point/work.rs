//! What a point does for its assignment: drop what is not in it, fetch what is missing, read again what is to be validated.
//!
//! One package at a time, in the order of the assignment. Work goes on while another assignment still wants the same
//! order; else it is left, and what has arrived is kept for the next time.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use catalog::digest::{PIECE_SIZE, Pieces, Sha256Digest};
use catalog::id::PackageId;
use catalog::problem::{Code, Coded as _, Problem};
use dp::library::{Library, LibraryError, Verdict};
use dp::server::{Access, Brought, Offer, Servable, read_hash_file};
use dp::transfer::web::{Small, Web};
use dp::transfer::{At, Doing, Job, Known, Policy, RateLimit, Source, SourceKind};
use schema::assignment::AssignedWork;
use schema::points::{ContentState, Work};
use tracing::{debug, error, info, warn};
use url::Url;

use super::call;
use super::parts::{Which, drop_left_over};
use crate::clock;
use crate::keys::Secret;
use crate::packages::content::{set_aside, still_there, take_away};
use crate::points::wire::{Assigned, AssignedFile, Assignment, Said};
use crate::site::{Site, problem};

/// How often progress is said.
const SAY: Duration = Duration::from_secs(1);
/// After a failure of our own, as a disk that does not answer.
const PAUSE: Duration = Duration::from_secs(5);

/// The most bytes of a file with the hashes of pieces: enough for contents of 80 GiB.
const LARGEST_HASH_FILE: u64 = 4 << 20;

/// Works for ever.
pub(super) async fn run(site: &Arc<Site>) {
    let mut assigned = site.point.assigned.subscribe();
    loop {
        assigned.mark_unchanged();
        let (_, assignment) = site.point.assignment();
        match round(site, &assignment, &mut assigned).await {
            // What has changed meanwhile is looked at again.
            Ok(true) => {}
            Ok(false) => {
                let _ = assigned.changed().await;
            }
            Err(problem) => {
                error!("the assignment cannot be worked on: {problem}");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

type Changes = tokio::sync::watch::Receiver<u64>;

/// One pass over the assignment; whether it has changed meanwhile.
async fn round(
    site: &Arc<Site>,
    assignment: &Arc<Assignment>,
    changes: &mut Changes,
) -> Result<bool, Problem> {
    let over: HashMap<PackageId, AssignedWork> = site
        .read(|r| r.assigned_work())
        .await?
        .into_iter()
        .map(|work| (work.package.clone(), work))
        .collect();
    if !assignment.point.is_empty() {
        drop_the_rest(site, assignment).await?;
    }
    let mut moved = false;
    for package in &assignment.packages {
        let size = package.files.iter().map(|file| file.size).sum();
        if let Some(work) = over.get(&package.package).filter(|work| work.order == package.order) {
            let done = if work.state == ContentState::Success { size } else { here(site, package).await? };
            say(site, package, work.state, done, work.problem.clone());
            continue;
        }
        let validates = matches!(package.work, Work::Validate);
        let done = here(site, package).await?;
        // What came by a prestaged file needs no line, and no open schedule.
        let brought = matches!(package.work, Work::Send) && done == size;
        let no_line = validates || brought;
        if site.point.is_shut_out() || (assignment.paused.is_some() && !no_line) {
            say(site, package, ContentState::Queued, done, None);
            continue;
        }
        let working = work_on(site, assignment, package);
        tokio::pin!(working);
        let ended = loop {
            tokio::select! {
                ended = &mut working => break ended,
                _ = changes.changed() => {
                    // The rest of the assignment may be another one; this package's work goes on if it is still wanted.
                    moved = true;
                    let (_, now) = site.point.assignment();
                    let same = |it: &Assigned| it.package == package.package && it.order == package.order;
                    let held_back = site.point.is_shut_out() || (now.paused.is_some() && !no_line);
                    if !now.packages.iter().any(same) || held_back || now.rate != assignment.rate {
                        return Ok(true);
                    }
                }
            }
        };
        let (state, why) = match ended {
            Ok(()) => (ContentState::Success, None),
            Err(problem) if validates || problem.code == Code::ValidationFailed => {
                (ContentState::Warning, Some(problem))
            }
            Err(problem) => (ContentState::Failed, Some(problem)),
        };
        match &why {
            None => info!("package {} version {} is here, verified", package.package, package.version),
            Some(problem) => {
                warn!("package {} version {} is {state}: {problem}", package.package, package.version)
            }
        }
        let work = AssignedWork {
            package: package.package.clone(),
            order: package.order,
            state,
            problem: why.clone(),
        };
        site.write(move |w| w.record_assigned_work(&work)).await?;
        let done = if state == ContentState::Success { size } else { here(site, package).await? };
        say(site, package, state, done, why);
    }
    Ok(moved || changes.has_changed().unwrap_or(false))
}

fn say(site: &Site, package: &Assigned, state: ContentState, done: u64, problem: Option<Problem>) {
    site.point
        .say(Said { package: package.package.clone(), order: package.order, state, done, problem }, true);
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

/// Takes away what no package of the assignment has.
async fn drop_the_rest(site: &Arc<Site>, assignment: &Assignment) -> Result<(), Problem> {
    let wanted: HashSet<_> =
        assignment.packages.iter().flat_map(|package| &package.files).map(|file| file.sha256).collect();
    for row in site.read(|r| r.pulled_contents()).await? {
        // It stays from now on until it is taken off.
        if wanted.contains(&row.sha256) {
            site.write(move |w| w.pulled_is_assigned(row.sha256)).await?;
            site.refresh_shelf().await?;
        }
    }
    // Read together: what is pulled at this moment is in both or in none.
    let (all, pulled) = site.read(|r| Ok((r.contents()?, r.pulled_contents()?))).await?;
    let pulled: HashSet<_> = pulled.into_iter().map(|row| row.sha256).collect();
    for row in all {
        if !wanted.contains(&row.sha256) && !pulled.contains(&row.sha256) {
            let sha256 = row.sha256;
            site.write(move |w| w.forget_content(sha256)).await?;
            take_away(site, sha256, Library::remove).await?;
            info!(content.sha256 = %sha256, "{sha256} is taken off");
        }
    }
    drop_left_over(site, Which::Old).await?;
    Ok(())
}

/// Does what is asked for one package.
async fn work_on(site: &Arc<Site>, assignment: &Assignment, package: &Assigned) -> Result<(), Problem> {
    let reads_again = !matches!(package.work, Work::Send);
    if reads_again {
        let bad = read_again(site, package).await?;
        match package.work {
            Work::Validate if !bad.is_empty() => return Err(not_well(package, &bad)),
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
async fn read_again<'p>(site: &Arc<Site>, package: &'p Assigned) -> Result<Vec<&'p AssignedFile>, Problem> {
    let (mut bad, mut done, mut failed) = (Vec::new(), 0, None);
    for file in &package.files {
        say(site, package, ContentState::Validating, done, None);
        let (library, sha256) = (site.library.clone(), file.sha256);
        let verdict = tokio::task::spawn_blocking(move || library.verify(sha256))
            .await
            .map_err(|died| Problem::of(Code::Internal, &died))?;
        let (id, name) = (&package.package, &file.name);
        let done_with = match verdict {
            Ok(Verdict::Good) => Ok(()),
            Ok(Verdict::Missing) => {
                error!(content.sha256 = %sha256, "{name} of package {id} is not there");
                bad.push(file);
                forget_missing(site, file).await
            }
            Err(error) if !error.is_damage() => {
                error!(content.sha256 = %sha256, "{name} of package {id} cannot be read: {error}");
                Err(problem(error))
            }
            Ok(Verdict::Corrupt { .. }) | Err(_) => {
                error!(content.sha256 = %sha256, "{name} of package {id} is not what it should be");
                bad.push(file);
                // At once, and not only where it is to be mended: who finds it under its name takes it for what it should be.
                set_aside(site, sha256).await
            }
        };
        failed = failed.or(done_with.err());
        done += file.size;
    }
    failed.map_or(Ok(bad), Err)
}

/// Nobody counts on it any more, unless it has come meanwhile.
async fn forget_missing(site: &Arc<Site>, file: &AssignedFile) -> Result<(), Problem> {
    let (library, sha256, wanted) = (site.library.clone(), file.sha256, file.wanted());
    site.write(move |w| match library.find(&wanted) {
        Some(_) => Ok(()),
        None => w.forget_content(sha256),
    })
    .await?;
    site.refresh_shelf().await
}

async fn fetch_what_is_missing(
    site: &Arc<Site>,
    assignment: &Assignment,
    package: &Assigned,
) -> Result<(), Problem> {
    let mut missing: Vec<AssignedFile> = Vec::new();
    for file in &package.files {
        let sha256 = file.sha256;
        let here = site.read(move |r| r.has_content(sha256)).await?;
        if !here && !missing.iter().any(|known| known.sha256 == sha256) {
            missing.push(file.clone());
        }
    }
    let mut done = here(site, package).await?;
    say(site, package, ContentState::Sending, done, None);
    enough_space(site, package, &missing).await?;
    let sources = Sources::new(site, assignment)?;
    let settings = site.settings();
    let policy = Policy {
        attempts_per_source: settings.sync.retry.max,
        first_delay: settings.sync.retry.first,
        longest_delay: settings.sync.retry.longest,
        rate: assignment.rate.map(RateLimit::new).map(Arc::new),
        // A client may have asked for it before: then it arrives already.
        busy_wait: Duration::from_secs(3_600),
        ..Policy::default()
    };
    for file in missing {
        let job =
            Job { file_name: file.name.clone(), wanted: file.wanted(), sources: sources.of(file.sha256)? };
        let (live, id, order) = (site.clone(), package.package.clone(), package.order);
        let (began, told) = (Instant::now(), AtomicU64::new(0));
        let before = done;
        let pieces = sources.pieces(file.sha256, file.size).await;
        // Clients who ask for it meanwhile get what has come of it, where this point fetches what it is asked for.
        let followed = site.point.pulls.get().and_then(|pulls| {
            let access = if file.private { Access::Private } else { Access::Public };
            let servable = Servable::new(file.size, Some(file.sha1), file.name.clone()).with_access(access);
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
            let said = Said { package: id.clone(), order, state, done: before + at.have, problem: None };
            let second = began.elapsed().as_millis() as u64 / SAY.as_millis() as u64;
            live.point.say(said, told.swap(second, Ordering::Relaxed) != second);
        })
        .await
        .map_err(|error| error.problem())?;
        record(site, &file, &fetched).await?;
        drop(followed);
        done += file.size;
        for served in &fetched.served {
            info!("{} bytes of {} came from {}", served.bytes, file.name, served.name);
        }
    }
    Ok(())
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

/// Refuses before the first byte where the disk cannot hold what is missing.
async fn enough_space(site: &Arc<Site>, package: &Assigned, missing: &[AssignedFile]) -> Result<(), Problem> {
    let lacking: u64 = missing.iter().map(|file| file.size).sum();
    let (library, files) = (site.library.clone(), missing.to_vec());
    // What has arrived of other files helps none of these.
    let look = move || -> Result<_, LibraryError> {
        Ok((files.iter().map(|file| library.arrived(&file.wanted())).sum::<u64>(), library.free()?))
    };
    let (arrived, free) = tokio::task::spawn_blocking(look)
        .await
        .map_err(|died| Problem::of(Code::Internal, &died))?
        .map_err(problem)?;
    let kept = site.settings().download.min_free;
    let (needed, free) = (lacking.saturating_sub(arrived), free.saturating_sub(kept));
    if lacking > 0 && needed > free {
        let message = format!(
            "package {} needs {needed} bytes, and {free} are free beside the {kept} of [download] min_free: short by {}",
            package.package,
            needed - free
        );
        return Err(Problem::new(Code::DpDiskFull, message).keeping("nothing was fetched"));
    }
    Ok(())
}

/// Where files are fetched from: the points that were named, in order, then the site.
pub(super) struct Sources {
    pub(super) base: Url,
    pub(super) site: Arc<Web>,
    points: Vec<(Url, Arc<Web>)>,
}

impl Sources {
    pub(super) fn new(site: &Site, assignment: &Assignment) -> Result<Self, Problem> {
        let settings = site.settings();
        let key = Secret::of_file(&settings.point_key_file())?;
        let mut points = Vec::new();
        for address in &assignment.pull_from {
            let Ok(url) = Url::parse(&format!("{}/", address.trim_end_matches('/'))) else { continue };
            let web = call::web(&url, settings.dp.ca_file(), None)?;
            points.push((url, web));
        }
        let base = call::base(&settings.dp.site)?;
        let site = call::web_with_key(&base, settings.dp.ca_file(), &key, settings.dp.allow_plain_key)?;
        Ok(Self { site, base, points })
    }

    /// What the site says that the pieces are, so that a point that lies costs one of them and not the file. Without an answer
    /// the digest of the whole decides alone.
    async fn pieces(&self, content: Sha256Digest, size: u64) -> Option<Pieces> {
        if size <= PIECE_SIZE as u64 {
            return None; // its one piece is the whole
        }
        let url = call::join(&self.base, &format!("point/content/{content}/pieceshash")).ok()?;
        match self.site.get_small(&url, LARGEST_HASH_FILE, None).await {
            Ok(Small::Body { bytes, .. }) => read_hash_file(&bytes, size),
            Ok(Small::NotModified) => None,
            Err(fault) => {
                debug!("the site tells no pieces of {content}: {fault}");
                None
            }
        }
    }

    pub(super) fn of(&self, content: Sha256Digest) -> Result<Vec<Source>, Problem> {
        let source = |url: Url, web: &Arc<Web>| Source {
            kind: SourceKind::DistributionPoint,
            name: url.origin().ascii_serialization(),
            at: At::Url(url),
            web: web.clone(),
        };
        let mut sources = Vec::new();
        for (base, web) in &self.points {
            sources.push(source(call::join(base, &format!("content/{content}"))?, web));
        }
        sources.push(source(call::join(&self.base, &format!("point/content/{content}"))?, &self.site));
        Ok(sources)
    }
}
