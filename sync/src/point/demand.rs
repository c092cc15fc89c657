//! What a point fetches because it is asked for it: who is asked, what is written down, what goes again.
//!
//! The site says whether a content is for this point, what its pieces are and where it may be. The points that were named are
//! asked first, then the site, then the upstream's own links, of hosts on the operator's list alone. Private content comes
//! from the site and nowhere else, and only where it was sent; it stays private here. Every few minutes the site is asked
//! whether what was pulled is still for this point: what was withdrawn everywhere goes.

use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant, SystemTime};

use catalog::digest::{Digests, Pieces, Sha256Digest, Wanted};
use catalog::problem::{Code, Problem};
use dp::library::Library;
use dp::server::{
    Access, Eventually, LogThrottle, Offer, Origin, OtherName, PullLimits, Pulls, Refusal, Servable,
};
use dp::transfer::{Fetched, Patience, Policy};
use jiff::SignedDuration;
use schema::pulled::PulledRow;
use serde::{Deserialize, Serialize};
use tracing::{debug, error, info, warn};

use super::cloud::Cloud;
use super::evict;
use super::parts::{Which, drop_left_over};
use super::room;
use super::sources::{Sources, ask, ask_at};
use crate::clock;
use crate::keys::Secret;
use crate::packages::content::{still_there, take_away};
use crate::points::wire::{AssignedFile, Assignment, OfferAnswer};
use crate::site::Site;

/// How often what was used is written down, and what is too old goes.
const TIDY: Duration = Duration::from_secs(30);
/// How often the site is asked whether a content that was pulled is still for this point.
const CHECK: Duration = Duration::from_secs(15 * 60);
/// After so many questions without an answer nobody is asked for now.
const FAILURES: u32 = 3;

/// The way to what this point lacks.
struct Demand {
    site: Weak<Site>,
    cloud: Option<Cloud>,
    /// Connections stay open from one question to the next: a client waits for its first byte.
    sources: Mutex<Option<(Way, Arc<Sources>)>>,
    unanswered: LogThrottle,
}

/// What connections depend on: site, other points, key, and the file of certificates with the time of its last change.
type Way = (String, Vec<String>, String, Option<(PathBuf, Option<SystemTime>)>);

/// What pulls for this point; `None` where that is off.
///
/// # Errors
/// Those of the certificates for the cloud.
pub fn open(site: &Arc<Site>) -> Result<Option<Arc<Pulls>>, Problem> {
    let settings = site.settings();
    if !settings.dp.on_demand || settings.dp.is_site() {
        return Ok(None);
    }
    let cloud = Cloud::of(&settings)?;
    let unanswered = LogThrottle::new(10, Duration::from_secs(60));
    let demand = Demand { site: Arc::downgrade(site), cloud, sources: Mutex::default(), unanswered };
    let (wait, usual) = (settings.dp.on_demand_wait, PullLimits::default());
    let limits = PullLimits { wait, remembered: usual.remembered.min(wait), ..usual };
    // Clients wait: who does not answer soon is passed by.
    let patience = Patience {
        attempts_per_source: settings.sync.retry.max.min(3),
        attempts_in_total: 20,
        first_delay: settings.sync.retry.first.min(Duration::from_millis(500)),
        longest_delay: settings.sync.retry.longest.min(Duration::from_secs(15)),
        longest_retry_after: Duration::from_secs(60),
        before_far: wait / 3,
        ..Patience::default()
    };
    let policy = Policy { busy_wait: Duration::from_secs(3_600), ..Policy::of(patience) };
    let pulls = Arc::new(Pulls::new(site.library.clone(), Arc::new(demand), limits, policy));
    Ok(Some(site.point.pulls.get_or_init(|| pulls).clone()))
}

impl Origin for Demand {
    fn find(&self, content: Sha256Digest) -> Eventually<'_, Result<Option<Offer>, Refusal>> {
        Box::pin(async move {
            let site = self.site.upgrade().ok_or(Refusal::NotYet)?;
            let assignment = may_fetch(&site)?;
            let offered = self.offer(&site, &assignment, content).await;
            offered.map_err(|problem| self.unanswered(&site, &content.to_string(), &problem))
        })
    }

    fn named(&self, name: OtherName) -> Eventually<'_, Result<Option<Sha256Digest>, Refusal>> {
        Box::pin(async move {
            let site = self.site.upgrade().ok_or(Refusal::NotYet)?;
            let assignment = may_fetch(&site)?;
            let path = match &name {
                OtherName::Sha1(sha1) => vec!["sha1".to_owned(), sha1.to_string()],
                OtherName::InPackage(package, file) => {
                    vec!["package".to_owned(), package.to_string(), file.to_string()]
                }
            };
            let asking = async {
                let sources = self.sources(&site, &assignment)?;
                ask_at(&sources, &path, false).await
            };
            let said = asking.await.map_err(|problem| self.unanswered(&site, &path.join(" "), &problem))?;
            Ok(said.map(|said| said.sha256))
        })
    }

    fn make_room(&self, _: u64) -> Eventually<'_, Result<(), Refusal>> {
        Box::pin(async move {
            let site = self.site.upgrade().ok_or(Refusal::NotYet)?;
            // Of all that arrives at once each must have its room.
            let coming = site.point.pulls.get().map_or((0, 0), |pulls| pulls.arriving_bytes());
            match room::evict(&site, coming).await {
                Ok(true) => Ok(()),
                Ok(false) => Err(Refusal::NoRoom),
                Err(problem) => {
                    error!("room cannot be made: {problem}");
                    Err(Refusal::Unreadable)
                }
            }
        })
    }

    fn stored<'s>(
        &'s self,
        content: Sha256Digest,
        offer: &'s Offer,
        fetched: &'s Fetched,
    ) -> Eventually<'s, ()> {
        Box::pin(async move {
            let Some(site) = self.site.upgrade() else { return };
            if let Err(problem) = record(&site, content, offer, fetched).await {
                error!(content.sha256 = %content, "{content} has arrived and cannot be recorded: {problem}");
                // What nobody knows of takes room that nobody can make.
                let _ = take_away(&site, content, Library::remove).await;
            }
        })
    }

    fn used(&self, content: Sha256Digest) {
        if let Some(site) = self.site.upgrade() {
            site.point.lock().used.insert(content, clock::now());
        }
    }
}

/// What is assigned, where anything may be fetched now. Nobody is told to wait for hours: who may not be served soon goes elsewhere.
pub(super) fn may_fetch(site: &Site) -> Result<Arc<Assignment>, Refusal> {
    let (_, assignment) = site.point.assignment();
    match site.point.is_shut_out() || assignment.paused.is_some() {
        true => Err(Refusal::Absent),
        false => Ok(assignment),
    }
}

impl Demand {
    /// Nobody can say what or where something is: for a moment, or for long.
    fn unanswered(&self, site: &Site, what: &str, problem: &Problem) -> Refusal {
        // Whoever likes may ask for anything.
        if let Some(others) = self.unanswered.tells(Instant::now()) {
            warn!(
                others,
                "nobody can say where {what} is: {problem}; {others} other questions were not answered since this was last said"
            );
        }
        if site.point.is_cut_off() { Refusal::Absent } else { Refusal::Upstream }
    }

    async fn offer(
        &self,
        site: &Arc<Site>,
        assignment: &Assignment,
        content: Sha256Digest,
    ) -> Result<Option<Offer>, Problem> {
        let sources = self.sources(site, assignment)?;
        let said = match (ask(&sources, content, true).await, assigned(assignment, content)) {
            (Ok(said), _) => said,
            // What was given to this point is known here, but for its pieces; other points may have it.
            (Err(problem), Some(file)) => {
                debug!("the site does not say what {content} is: {problem}");
                Some(OfferAnswer {
                    sha256: content,
                    sha1: file.sha1,
                    size: file.size,
                    name: file.name.clone(),
                    private: file.private,
                    pieces: Vec::new(),
                    cloud: Vec::new(),
                })
            }
            (Err(problem), None) => return Err(problem),
        };
        let Some(said) = said else { return Ok(None) };
        let mut all = sources.of(content)?;
        if said.private {
            all.retain(|source| Arc::ptr_eq(&source.web, &sources.site));
        } else if let Some(cloud) = &self.cloud {
            all.extend(said.cloud.iter().filter_map(|link| cloud.source(link)));
        }
        let access = Access::of(said.private);
        Ok(Some(Offer {
            servable: Servable::of(said.size, Some(said.sha1), said.name, access),
            sources: all,
            pieces: Pieces::new(said.size, said.pieces),
            rate: site.point.rate_limit(assignment.rate),
        }))
    }

    fn sources(&self, site: &Site, assignment: &Assignment) -> Result<Arc<Sources>, Problem> {
        let settings = site.settings();
        let key = Secret::of_file(&settings.point_key_file())?.reveal();
        let changed = |path: &PathBuf| std::fs::metadata(path).and_then(|found| found.modified()).ok();
        let ca_file = settings.dp.ca_file().map(|path| (path.clone(), changed(&path)));
        let way = (settings.dp.site.clone(), assignment.pull_from.clone(), key, ca_file);
        let mut kept = self.sources.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, sources)) = kept.as_ref().filter(|(same, _)| *same == way) {
            return Ok(sources.clone());
        }
        let sources = Arc::new(Sources::new(site, assignment)?);
        *kept = Some((way, sources.clone()));
        Ok(sources)
    }
}

fn assigned(assignment: &Assignment, content: Sha256Digest) -> Option<&AssignedFile> {
    assignment.packages.iter().flat_map(|package| &package.files).find(|file| file.sha256 == content)
}

/// The bytes are in the library: they may be served, and have to go some day, unless they were given to this point.
async fn record(
    site: &Arc<Site>,
    content: Sha256Digest,
    offer: &Offer,
    fetched: &Fetched,
) -> Result<(), Problem> {
    let servable = &offer.servable;
    let sha1 = servable.sha1.ok_or_else(|| Problem::new(Code::Internal, "the site named no SHA-1"))?;
    let (size, name, private) =
        (fetched.stored.size(), servable.name.clone(), servable.access == Access::Private);
    let digests = Digests { sha256: Some(content), sha1: Some(sha1) };
    let (live, wanted) = (site.clone(), Wanted { size, digests });
    site.write(move |w| {
        still_there(&live.library, &wanted)?;
        // On the writer's turn: what is assigned later finds what was recorded here.
        let is_assigned = assigned(&live.point.assignment().1, content).is_some();
        let was_here = w.has_content(content)?;
        w.record_content(content, sha1, size, false, clock::now())?;
        // What was here already, and not so, is somebody else's.
        if !is_assigned && !was_here {
            w.record_pulled(content, &name, private, clock::now())?;
        }
        Ok(())
    })
    .await?;
    site.refresh_shelf().await
}

/// Writes down what was used, asks the site about what was pulled, and lets go what nobody wants any more; for ever.
pub(super) async fn tidy(site: &Arc<Site>) {
    if site.point.pulls.get().is_none() {
        return std::future::pending().await;
    }
    let mut said = None;
    loop {
        let tidied = async {
            write_used(site).await?;
            watch_clock(site).await?;
            // Who cannot be asked keeps nothing here from being tidied.
            let checked = check(site).await;
            drop_left_over(site, Which::Old).await?;
            room::evict(site, (0, 0)).await?;
            checked
        };
        let failed = tidied.await.err();
        if let Some(problem) = failed.as_ref().filter(|problem| said != Some(problem.code)) {
            warn!("what was pulled cannot be looked after: {problem}");
        }
        said = failed.map(|problem| problem.code);
        tokio::time::sleep(TIDY).await;
    }
}

/// Writes down when contents were used last. Lost with a process that is killed: at most half a minute of it.
pub(super) async fn write_used(site: &Arc<Site>) -> Result<(), Problem> {
    let used = std::mem::take(&mut site.point.lock().used);
    if used.is_empty() {
        return Ok(());
    }
    let now = clock::now();
    site.write(move |w| used.iter().try_for_each(|(content, at)| w.pulled_used(*content, (*at).min(now))))
        .await
}

/// Writes down that the clock goes on. Time that nobody saw go by makes nothing old, and nothing was used in the future.
pub(super) async fn watch_clock(site: &Arc<Site>) -> Result<(), Problem> {
    let now = clock::now();
    if evict::clock(site.read(|r| r.seen_time()).await?, now) == evict::Clock::WentOn {
        return Ok(());
    }
    // Looked at again on the writer's turn: a leap is made up for once.
    let leapt = site
        .write(move |w| match evict::clock(w.seen_time()?, now) {
            evict::Clock::WentOn => Ok(None),
            evict::Clock::IsWrittenDown => w.time_is_seen(SignedDuration::ZERO, now).map(|()| None),
            evict::Clock::Leapt(by) => w.time_is_seen(by, now).map(|()| Some(by)),
        })
        .await?;
    if let Some(by) = leapt {
        warn!(
            "the clock went on by {by:#} while this point was off, or it was set: what was pulled is no older for that"
        );
    }
    Ok(())
}

/// Asks the site about contents of which it has said nothing for long. Where it cannot be asked, they stay.
async fn check(site: &Arc<Site>) -> Result<(), Problem> {
    let now = clock::now();
    let is_due = |row: &PulledRow| now.duration_since(row.checked).unsigned_abs() >= CHECK;
    let due: Vec<_> = site.read(|r| r.pulled_contents()).await?.into_iter().filter(is_due).collect();
    let (_, assignment) = site.point.assignment();
    if due.is_empty() || site.point.is_shut_out() {
        return Ok(());
    }
    let sources = Sources::new(site, &assignment)?;
    let (mut failed, mut failures) = (None, 0);
    for row in due {
        let sha256 = row.sha256;
        let said = match ask(&sources, sha256, false).await {
            Ok(said) => said,
            // It is there again some day, or withdrawn. That was said, and is not asked again at once.
            Err(problem) if problem.code == Code::ContentUnavailable => {
                debug!(content.sha256 = %sha256, "{} stays: {problem}", row.file_name);
                site.write(move |w| w.pulled_checked(sha256, row.private, clock::now())).await?;
                continue;
            }
            // Of the others the site may have something to say, unless it is away.
            Err(problem) => {
                failed.get_or_insert(problem);
                failures += 1;
                if failures == FAILURES {
                    break;
                }
                continue;
            }
        };
        match said {
            None => {
                info!(content.sha256 = %sha256, "{} is no longer for this point", row.file_name);
                remove(site, sha256).await?;
            }
            Some(said) => {
                site.write(move |w| w.pulled_checked(sha256, said.private, clock::now())).await?;
                if said.private != row.private {
                    site.refresh_shelf().await?;
                }
            }
        }
    }
    failed.map_or(Ok(()), Err)
}

/// Not served from now on, then gone, unless it was given to this point since it was decided; whether it goes. Whoever is being
/// sent it has it open.
pub(super) async fn remove(site: &Arc<Site>, sha256: Sha256Digest) -> Result<bool, Problem> {
    let goes = site.write(move |w| w.forget_pulled(sha256)).await?;
    if goes {
        site.refresh_shelf().await?;
        take_away(site, sha256, Library::remove).await?;
    }
    Ok(goes)
}

/// What is here because it was asked for, and how that went since the start.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct OnDemand {
    /// Contents.
    pub contents: u64,
    /// Their bytes.
    pub bytes: u64,
    /// The most bytes that they may take, if there is a limit.
    pub room: Option<u64>,
    /// Seconds after which what nobody asks for goes.
    pub keep_seconds: u64,
    /// Contents that arrive now.
    pub arriving: u64,
    /// Those that were stored since the start.
    pub stored: u64,
    /// Those that could not be had or kept.
    pub failed: u64,
    /// Bytes that came.
    pub fetched_bytes: u64,
    /// Requests that were answered while their content arrived.
    pub followers: u64,
    /// Contents that had to go again.
    pub evicted: u64,
    /// Their bytes.
    pub evicted_bytes: u64,
}

/// How pulling goes; `None` where that is off.
///
/// # Errors
/// Those of the database.
pub async fn status(site: &Arc<Site>) -> Result<Option<OnDemand>, Problem> {
    let settings = site.settings();
    if !settings.dp.on_demand || settings.dp.is_site() {
        return Ok(None);
    }
    let rows = site.read(|r| r.pulled_contents()).await?;
    let mut all = OnDemand {
        contents: rows.len() as u64,
        bytes: rows.iter().map(|row| row.size).sum(),
        room: Some(settings.dp.on_demand_room).filter(|room| *room > 0),
        keep_seconds: settings.dp.on_demand_keep.as_secs(),
        ..OnDemand::default()
    };
    if let Some(pulls) = site.point.pulls.get() {
        let count = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
        let counts = &pulls.counts;
        all.arriving = count(&counts.running);
        all.stored = count(&counts.stored);
        all.failed = count(&counts.failed);
        all.fetched_bytes = count(&counts.bytes);
        all.followers = count(&counts.followers);
        all.evicted = count(&counts.evicted);
        all.evicted_bytes = count(&counts.evicted_bytes);
    }
    Ok(Some(all))
}

#[cfg(test)]
mod tests;
